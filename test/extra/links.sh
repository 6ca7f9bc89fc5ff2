#!/usr/bin/env bash
#
# links.sh: the documents' links lead somewhere, every page can be reached from
# the README, and the README is short.
#
# Of each Markdown file: a relative link names a file that is
# there, and an anchor a heading of it, by the rules by which GitHub makes
# anchors.  Links to other sites are not followed.
#
# Prints TAP.

set -euo pipefail
cd "$(dirname "$0")/../.."

MAX_LINES=350
MAX_BYTES=28000

find . -name '*.md' -not -path '*/.git/*' -not -path '*/node_modules/*' -print0 |
	sort -z | xargs -0 perl -CSD -Mutf8 -e '
	use strict;
	use warnings;
	use File::Basename qw(dirname);
	use File::Spec;

	my ($max_lines, $max_bytes, @files) = @ARGV;
	my (%anchors, %links, %shown, $points, $failed);

	sub ok
	{
		my ($name, @faults) = @_;

		print @faults ? "not ok" : "ok", " ", ++$points, " - $name\n";
		print "# $_\n" for @faults;
		$failed += @faults > 0;
	}

	# a/b/../c is a/c
	sub tidy
	{
		my @parts;

		for my $part (split m{/}, shift)
		{
			next if $part eq "" || $part eq ".";
			if ($part eq ".." && @parts && $parts[-1] ne "..") { pop @parts }
			else { push @parts, $part }
		}
		return join "/", @parts;
	}

	# The text that a line of Markdown shows
	sub shown
	{
		my $text = shift;

		$text =~ s/!?\[([^\]]*)\]\([^)]*\)/$1/g;
		$text =~ s/<[^>]+>//g;
		$text =~ s/`([^`]*)`/$1/g;
		$text =~ s/(?<!\w)([*_]{1,2})(\S(?:.*?\S)?)\1(?!\w)/$2/g;
		return $text;
	}

	# GitHub: lower case; what is no letter, digit, blank, "-" or "_" goes; a blank
	# is "-"; the second of a name is name-1
	sub anchor
	{
		my ($text, $seen) = @_;
		my $anchor = lc shown($text);

		$anchor =~ s/[^\p{L}\p{M}\p{N}\p{Pc} -]//g;
		$anchor =~ s/ /-/g;
		my $count = $seen->{$anchor}++;
		return $count ? "$anchor-$count" : $anchor;
	}

	sub read_file
	{
		my $file = shift;
		my ($fence, $line_number, %seen) = ("", 0);

		open my $in, "<", $file or die "$file: $!\n";
		while (my $line = <$in>)
		{
			$line_number++;
			chomp $line;
			if ($line =~ /^\s*(```+|~~~+)/)
			{
				$fence = $fence eq "" ? $1 : index($1, $fence) == 0 ? "" : $fence;
				next;
			}
			next if $fence ne "";
			$anchors{$file}{anchor($1, \%seen)} = 1 if $line =~ /^#{1,6}\s+(.*?)\s*#*$/;
			$anchors{$file}{$1} = 1 while $line =~ /<a\s+(?:id|name)="([^"]+)"/g;
			$line =~ s/`[^`]*`/ /g;
			push @{ $links{$file} }, [$line_number, $1]
				while $line =~ /\]\(\s*<?([^\s)>]+)>?(?:\s+"[^"]*")?\s*\)/g;
			push @{ $links{$file} }, [$line_number, $1] if $line =~ /^\s*\[[^\]]+\]:\s*<?(\S+?)>?\s*$/;
		}
	}

	@files = map { tidy($_) } @files;
	read_file($_) for @files;
	for my $file (@files)
	{
		my @faults;

		for my $link (@{ $links{$file} })
		{
			my ($line, $target) = @$link;

			next if $target =~ m{^[a-z][a-z0-9+.-]*:}i;
			my ($path, $anchor) = split /#/, $target, 2;
			my $there = $path eq "" ? $file : tidy(dirname($file) . "/$path");

			if (!-e $there) { push @faults, "line $line: there is no $there" }
			elsif (defined $anchor && $there =~ /\.md$/ && !$anchors{$there}{$anchor})
			{
				push @faults, "line $line: $there has no heading #$anchor";
			}
			$shown{$there} = 1 if $file eq "README.md" || $file eq "doc/runbook/README.md";
		}
		ok("the links of $file lead somewhere", @faults);
	}
	ok("the README links every page of doc/, and the index of the runbook each of its own",
		map { "it does not link $_" } grep { m{^doc/.*\.md$} && !$shown{$_} } @files);

	open my $in, "<:raw", "README.md" or die "README.md: $!\n";
	my @lines = <$in>;
	my $bytes = 0;
	$bytes += length for @lines;
	ok("the README names the command that runs the tests",
		(grep { /`make test`/ } @lines) ? () : ("make test"));
	ok("the README has $max_lines lines and $max_bytes bytes at the most",
		@lines > $max_lines || $bytes > $max_bytes ? "it has " . @lines . " lines and $bytes bytes" : ());
	print "1..$points\n";
	exit($failed ? 1 : 0);
' "$MAX_LINES" "$MAX_BYTES"
