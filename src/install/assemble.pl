#!/usr/bin/env perl
#
# assemble.pl FRAGMENT...: the install script, from its fragments.
#
# What a grade of roles may use, and which tables a dump carries, stands beside
# each object, above its COMMENT ON:
#
#	-- grade: read			grant_read() grants it (or ingest, admin)
#	-- dump					a table whose rows are dumped
#	-- dump with sequence	... and those of its column id's sequence
#
# The lists are put together here, in place of @grades@ and @dumps@.  A function
# needs a grade, or a comment that begins with "Internal", or a GRANT to PUBLIC.

use strict;
use warnings;

my (@grades, @dumps, @bare);
my $script = '';

for my $file (@ARGV)
{
	open my $in, '<', $file or die "$file: $!\n";
	local $/;
	$script .= <$in>;
}

my $object = qr/COMMENT ON (FUNCTION|PROCEDURE|TABLE|VIEW) (stripe_sync\.\w+(?:\([^)]*\))?) IS\s+'([^']*)/;

while ($script =~ /((?:^-- (?:grade: \w+|dump(?: with sequence)?)\n)*)^$object/mg)
{
	my ($marks, $kind, $name, $comment) = ($1, $2, $3, $4);

	push @grades, [$1, ($kind eq 'VIEW' ? 'TABLE' : $kind) . " $name"] if $marks =~ /^-- grade: (\w+)$/m;
	push @dumps, $name if $marks =~ /^-- dump/m;
	push @dumps, "${name}_id_seq" if $marks =~ /with sequence/;
	push @bare, $name
		if $kind =~ /FUNCTION|PROCEDURE/ && $marks !~ /grade/ && $comment !~ /^Internal/ && !is_public($name);
}

# Is it named in a GRANT ... TO PUBLIC?
sub is_public
{
	my ($name) = @_;

	return $script =~ /^GRANT EXECUTE ON FUNCTION[^;]*\Q$name\E[^;]*TO PUBLIC;/m;
}

my $marks = () = $script =~ /^-- (?:grade:|dump)/mg;
my $read = @grades + grep { !/_id_seq$/ } @dumps;

die "functions without a grade: @bare\n" if @bare;
die "$marks marks of grade or dump, $read of them above a COMMENT ON\n" if $marks != $read;

my $grades = join ",\n", map { "\t('$_->[0]', '$_->[1]')" } @grades;
my $dumps = join "\n", map { "SELECT pg_catalog.pg_extension_config_dump('$_', '');" } @dumps;

$script =~ s/^\@grades\@$/$grades/m or die "no \@grades\@\n";
$script =~ s/^\@dumps\@$/$dumps/m or die "no \@dumps\@\n";
print $script;
