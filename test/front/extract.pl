#!/usr/bin/env perl
#
# extract.pl: a code block of a Markdown file.
#
# usage: extract.pl FILE NAME		the block under "<!-- file: NAME -->"
#		 extract.pl FILE LANGUAGE.*	all blocks of a language, one after another
#
# Tests run what the documents show, not a copy of it.

use strict;
use warnings;

my ($file, $wanted) = @ARGV;
my ($language) = $wanted =~ /^(\w+)\.\*$/;
my ($named, $inside, $found) = ('', 0, 0);

open my $in, '<', $file or die "$file: $!\n";
while (my $line = <$in>)
{
	if ($inside)
	{
		$inside = 0, next if $line =~ /^```$/;
		print $line if $inside == 2;
		next;
	}
	if ($line =~ /^```(\w*)$/)
	{
		my $fits = defined $language ? $1 eq $language : $named eq $wanted;

		$inside = $fits ? 2 : 1;
		$found += $fits;
		$named = '';
		next;
	}
	$named = $1 if $line =~ /^<!-- file: (\S+) -->$/;
}
die "$file has no block $wanted\n" unless $found;
