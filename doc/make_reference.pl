#!/usr/bin/perl
#
# make_reference.pl: print doc/reference.md.
#
# usage: make_reference.pl		(with PGHOST, PGUSER and so on for psql)
#
# Reads the catalog of a database that has the extension, whose user must be a
# superuser, and the SQLSTATEs' comments in the headers of src.  Sections are the
# headings of the install script.  It dies if something that users may call, set,
# or read has no description.  "make reference" calls it.

use strict;
use utf8;
use warnings FATAL => 'all';

use File::Find;
use FindBin;
use JSON::PP;

use constant WIDTH => 88;

binmode STDOUT, ':encoding(UTF-8)';

# What PostgreSQL's own codes mean where the functions' comments name them.
my %standard = (
	'22004' => [ 'null_value_not_allowed', 'an argument is NULL that must not be' ],
	'22023' => [ 'invalid_parameter_value', 'an argument is not valid' ],
	'2BP01' => [ 'dependent_objects_still_exist', 'other objects use the object to be removed' ],
	'42710' => [ 'duplicate_object', 'the object exists with other properties' ],
	'55000' => [ 'object_not_in_prerequisite_state',
		'the operation is not possible in the current state; webhook() returns 500 if the library does not match the installed version of the extension' ],
	'57014' => [ 'query_canceled', 'a timeout has expired, or the statement was cancelled' ]);

my $codes = join '|', sort keys %standard;

# Columns of every table in schema stripe, besides the fields of its objects.
my %mirror_column = (
	_data       => 'The whole object, as JSON',
	_account    => 'Account of the object; empty for your own account. Part of the primary key.',
	_deleted_at => 'Time of deletion at Stripe; NULL if the object exists',
	_event_id   => 'Event that the state comes from; NULL if it was retrieved from the API, empty if it was embedded in an object that was',
	_as_of      => 'Time of the state at Stripe',
	_synced_at  => 'Time when the row was written');

# ---- the catalog ----

# The rows of a query, as hashes, after $before, of which nothing remains
sub query
{
	my ($query, $before) = @_;
	my $sql = "SET search_path = pg_catalog; SET intervalstyle = postgres; SET client_encoding = 'UTF8';
		LOAD 'stripe_sync'; BEGIN; @{[ $before // '' ]}
		SELECT coalesce(json_agg(q), '[]') FROM ($query) AS q; ROLLBACK;";

	open my $psql, '-|', 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-c', $sql or die "cannot run psql: $!\n";
	my $answer = do { local $/; <$psql> };
	close $psql or die "psql has failed\n";
	return @{ JSON::PP->new->utf8->decode($answer) };
}

# Position and section of each object that the install script creates, by class
# and name
sub read_sections
{
	my ($script) = query(q{
		SELECT pg_read_file(c.setting || '/extension/stripe_sync--' || e.extversion || '.sql') AS text
		  FROM pg_config AS c, pg_extension AS e WHERE c.name = 'SHAREDIR' AND e.extname = 'stripe_sync'});
	my ($section, %section, %position);

	while ($script->{text} =~ m{^/\* ---- (.+?) ---- \*/$|^CREATE (FUNCTION|PROCEDURE|TABLE|VIEW) stripe_sync\.(\w+)}mg)
	{
		$section = $1 if defined $1;
		next unless defined $2;
		my ($kind, $name) = ($2, $3);
		my $key = ($kind =~ /^[FP]/ ? 'routine' : 'relation') . " $name";
		$section{$key} //= $section // die "$key is in no section of the install script\n";
		$position{$key} //= $-[0];
	}
	return (\%section, \%position);
}

my ($section_of, $position_of) = read_sections();

# Rows with a class and name in the order of the install script
sub in_order
{
	return sort {
		my ($x, $y) = map { $position_of->{"$_->{class} $_->{name}"} // die "$_->{name} is not in the install script\n" } $a, $b;
		$x <=> $y || $a->{oid} <=> $b->{oid}
	} @_;
}

# The same in sections: [title, rows...]
sub in_sections
{
	my @sections;

	for my $row (in_order(@_))
	{
		my $title = $section_of->{"$row->{class} $row->{name}"};
		push @sections, [$title] if !@sections || $sections[-1][0] ne $title;
		push @{ $sections[-1] }, $row;
	}
	return @sections;
}

# ---- Markdown ----

# A description: names, calls, and codes as code, the rest escaped
sub prose
{
	my ($text) = @_;
	my $code = qr{
		\b (?: stripe_sync\. )? [a-z_]+ (?<list> \( (?: [^()]++ | (?&list) )* \) )	# a call
		| \b stripe_sync\.[a-z_]+									# an object of ours
		| (?<![\w/]) (?: [a-z]+\. )? [a-z]* (?: _[a-z0-9]+ )+ \b		# a name of several words
		| \b [a-z]+ (?: _[a-z]+ )* _\.\.\.							# an id
		| \{\{ .*? \}\}
		| \b file:/[\w/]+ | \b https://[\w./]+\w (?:\.\.\.)?
		| \b (?: SY\d{3} | $codes ) \b }x;

	$text =~ s{(?<code>$code)|(?<mark>[*<\[\]`_])}{ defined $+{code} ? "`$+{code}`" : "\\$+{mark}" }ge;
	return $text;
}

sub cell
{
	my $text = prose($_[0]);

	$text =~ s/\|/\\|/g;
	return $text;
}

sub table
{
	my ($heads, @rows) = @_;

	print '| ', join(' | ', @$heads), " |\n", '|', ' --- |' x @$heads, "\n";
	print '| ', join(' | ', @$_), " |\n" for @rows;
	print "\n";
}

# GitHub's anchor of a heading
sub anchor
{
	my $anchor = lc $_[0];

	$anchor =~ s/[^\w\- ]//g;
	$anchor =~ tr/ /-/;
	return $anchor;
}

sub check_described
{
	my ($what, $comment) = @_;

	die "$what has no COMMENT ON\n" unless defined $comment && length $comment;
}

# ---- functions ----

sub functions
{
	return query(q{
		SELECT p.oid::int8 AS oid, 'routine' AS class, p.proname AS name, p.prokind AS kind, p.proretset AS is_set, p.proisstrict AS strict,
			   obj_description(p.oid, 'pg_proc') AS comment, pg_get_function_result(p.oid) AS result,
			   ARRAY(SELECT json_build_object('name', p.proargnames[n], 'type', format_type(t, NULL),
						'mode', coalesce(p.proargmodes[n], 'i'),
						'default', CASE WHEN coalesce(p.proargmodes[n], 'i') <> 't' THEN pg_get_function_arg_default(p.oid,
							(SELECT count(*)::int FROM generate_series(1, n) AS i
							  WHERE coalesce(p.proargmodes[i], 'i') IN ('i', 'b'))) END)
					   FROM unnest(coalesce(p.proallargtypes, p.proargtypes::oid[])) WITH ORDINALITY AS a (t, m),
							LATERAL (SELECT m::int) AS o (n) ORDER BY n) AS arguments,
			   CASE WHEN EXISTS (SELECT FROM aclexplode(p.proacl) AS a WHERE a.grantee = 0) THEN 'public'
					ELSE (SELECT g.grade FROM stripe_sync.grade AS g
						   WHERE g.what LIKE '% stripe\_sync.%(%' AND p.oid = to_regprocedure(substr(g.what, strpos(g.what, ' ') + 1))) END AS grade
		  FROM pg_proc AS p WHERE p.pronamespace = 'stripe_sync'::regnamespace});
}

# '00:05:00' as people write it
sub interval_text
{
	my ($hours, $minutes, $seconds) = map { $_ + 0 } @_;
	my @given = grep { $_->[0] } [ $hours, 'hour' ], [ $minutes, 'minute' ], [ $seconds, 'second' ];

	return @given == 1 ? "$given[0][0] $given[0][1]" . ($given[0][0] == 1 ? '' : 's') : sprintf '%02d:%02d:%02d', @_;
}

sub type_text
{
	my ($type) = @_;

	$type =~ s/timestamp with time zone/timestamptz/;
	return $type;
}

sub default_text
{
	my ($default) = @_;

	$default =~ s/::(?:text|interval|boolean|jsonpath|jsonb|timestamp with time zone)(?:\[\])?//g;
	$default =~ s/'(\d\d):(\d\d):(\d\d)'/"'" . interval_text($1, $2, $3) . "'"/e;
	return $default;
}

# "name type DEFAULT x" of every argument that is passed
sub input_texts
{
	my ($function) = @_;

	return map { "$_->{name} " . type_text($_->{type}) . (defined $_->{default} ? ' DEFAULT ' . default_text($_->{default}) : '') }
		grep { $_->{mode} =~ /[ib]/ } @{ $function->{arguments} };
}

sub result_text
{
	my ($function) = @_;
	my @columns = map { "$_->{name} " . type_text($_->{type}) } grep { $_->{mode} =~ /[obt]/ } @{ $function->{arguments} };

	return '' if $function->{kind} eq 'p';
	return type_text($function->{result}) =~ s/^SETOF/setof/r unless @columns;
	return ($function->{is_set} ? 'setof ' : '') . '(' . join(', ', @columns) . ')';
}

# Words in lines of at most WIDTH characters
sub fold
{
	my ($first, $indent, @words) = @_;
	my @lines = ($first);

	for my $word (@words)
	{
		if (length($lines[-1]) + length($word) > WIDTH && $lines[-1] =~ /\S\s$/)
		{
			$lines[-1] =~ s/\s+$//;
			push @lines, $indent;
		}
		$lines[-1] .= "$word ";
	}
	return join("\n", @lines) =~ s/ $//r;
}

sub signature
{
	my ($function) = @_;
	my @arguments = input_texts($function);
	my $result = result_text($function);
	my @words = map { "$_," } @arguments;

	$words[-1] =~ s/,$// if @words;
	return ($function->{kind} eq 'p' ? 'CALL ' : '') . fold("$function->{name}(", '    ', @words) . ')' .
		($result ? "\n" . fold('    → ', '      ', split /(?<=,) /, $result) : '') . "\n";
}

my %granted = (
	public => 'Every role may call it.',
	ingest => 'Granted by `grant_ingest()`.',
	read   => 'Granted by `grant_read()` and `grant_admin()`.',
	admin  => 'Granted by `grant_admin()`.');

# Functions of one name: their signatures, and what they do
sub print_functions
{
	my ($name, @functions) = @_;

	print "#### $name\n\n```text\n", (map { signature($_) } @functions), "```\n\n";
	for my $function (@functions)
	{
		check_described("function $name", $function->{comment});
		next if @functions > 1 && $function->{comment} =~ /^Same as \Q$name\E\(bytea, \.\.\.\)$/;
		print prose($function->{comment}), ($function->{comment} =~ /\.$/ ? '' : '.'),
			$function->{strict} && @{ $function->{arguments} } && !$function->{is_set} ? ' Returns NULL if an argument is NULL.' : '', "\n\n";
	}
	print join(' ', do { my %seen; grep { !$seen{$_}++ } map { $granted{ $_->{grade} } } @functions }), "\n\n";
}

sub print_function_sections
{
	for my $section (@_)
	{
		my ($title, @functions) = @$section;

		print "### $title\n\n";
		while (@functions)
		{
			my $name = $functions[0]{name};

			print_functions($name, grep { $_->{name} eq $name } @functions);
			@functions = grep { $_->{name} ne $name } @functions;
		}
	}
}

# ---- settings ----

sub settings
{
	return query(q{
		SELECT s.name, s.vartype, s.context, s.unit, s.short_desc, s.extra_desc,
			   (SELECT current_setting(s.name) FROM (SELECT set_config(s.name, s.boot_val, true)) AS x (v) WHERE v IS NOT NULL) AS default,
			   (SELECT current_setting(s.name) FROM (SELECT set_config(s.name, s.min_val, true)) AS x (v) WHERE v IS NOT NULL) AS least,
			   (SELECT current_setting(s.name) FROM (SELECT set_config(s.name, s.max_val, true)) AS x (v) WHERE v IS NOT NULL) AS most
		  FROM pg_settings AS s WHERE s.name LIKE 'stripe\_sync.%' ORDER BY s.name COLLATE "C"});
}

sub setting_row
{
	my ($setting) = @_;
	my $range = '';

	$range = "$setting->{least} to $setting->{most}" if $setting->{vartype} =~ /integer|real/;
	$range =~ s/^(\S+) to 2147483647\w*$/from $1/;
	$range = 'on, off' if $setting->{vartype} eq 'bool';
	die "$setting->{name} has no description\n" unless $setting->{short_desc} && $setting->{extra_desc};
	return [ "`$setting->{name}`", $setting->{vartype}, $setting->{default} eq '' ? 'empty' : "`$setting->{default}`",
		$setting->{unit} // '', $range, $setting->{context}, cell("$setting->{short_desc} $setting->{extra_desc}") ];
}

# ---- errors ----

# The comments of src's SQLSTATEs: [code, status, condition]
sub errors
{
	my @errors;
	my $look = sub {
		return unless /\.h$/;
		open my $in, '<:encoding(UTF-8)', $_ or die "cannot read $File::Find::name: $!\n";
		my $header = do { local $/; <$in> };
		while ($header =~ m{^#define\s+(\w+)\s+MAKE_SQLSTATE\('S',\s*'Y',\s*'(\d)',\s*'(\d)',\s*'(\d)'\)}mg)
		{
			my ($name, $code, $before) = ($1, "SY$2$3$4", substr $header, 0, $-[0]);
			$before =~ m{/\*((?:(?!\*/).)*)\*/\s*\z}s or die "$name has no comment\n";
			my $comment = $1 =~ s/\s*\n \*\s*/ /gr =~ s/\s+/ /gr =~ s/^ | $//gr;
			$comment =~ /^([\d, ]+): (.+)$/ or die "the comment of $name is not \"HTTP status: condition\"\n";
			push @errors, [ "`$code`", cell($2), $1 ];
		}
	};

	find({ wanted => $look, no_chdir => 1 }, "$FindBin::Bin/../src");
	die "no SQLSTATEs in src\n" unless @errors;
	return sort { $a->[0] cmp $b->[0] } @errors;
}

# PostgreSQL's codes that comments name
sub standard_errors
{
	my %named;

	$named{$_} = 1 for map { $_->{comment} =~ /\b([0-9][0-9A-Z]{4})\b/g } @_;
	return map {
		my $known = $standard{$_} // die "a comment names $_, which make_reference.pl doesn't know\n";
		[ "`$_`", "`$known->[0]`", cell($known->[1]) ]
	} sort keys %named;
}

# ---- tables ----

sub tables
{
	return query(q{
		SELECT c.oid::int8 AS oid, 'relation' AS class, c.relname AS name, c.relkind AS kind, obj_description(c.oid, 'pg_class') AS comment,
			   EXISTS (SELECT FROM stripe_sync.grade AS g WHERE g.grade = 'read' AND g.what = 'TABLE stripe_sync.' || c.relname) AS readable,
			   ARRAY(SELECT json_build_object('name', a.attname, 'type', format_type(a.atttypid, a.atttypmod),
						'comment', col_description(c.oid, a.attnum))
					   FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
					  ORDER BY a.attnum) AS columns
		  FROM pg_class AS c WHERE c.relnamespace = 'stripe_sync'::regnamespace AND c.relkind IN ('r', 'p', 'v')});
}

sub print_readable
{
	my ($table) = @_;

	check_described("table $table->{name}", $table->{comment});
	print "### stripe_sync.$table->{name}\n\n", $table->{kind} eq 'v' ? 'View. ' : '', prose($table->{comment}),
		$table->{comment} =~ /\.$/ ? '' : '.', "\n\n";
	table([ 'Column', 'Type', 'Description' ], map {
		check_described("column $table->{name}.$_->{name}", $_->{comment});
		[ "`$_->{name}`", type_text($_->{type}), cell($_->{comment}) ]
	} @{ $table->{columns} });
}

sub mirror_columns
{
	my @columns = query(q{
		SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type FROM pg_attribute AS a
		 WHERE a.attrelid = 'stripe.customers'::regclass AND a.attnum > 0 AND a.attname LIKE '\_%' ORDER BY a.attnum},
		q{DO 'BEGIN PERFORM stripe_sync.create_tables(''{customer}''); END';});

	die "the mirror's columns are not those that make_reference.pl describes\n"
		unless join(' ', sort map { $_->{name} } @columns) eq join(' ', sort keys %mirror_column);
	return map { [ "`$_->{name}`", type_text($_->{type}), cell($mirror_column{ $_->{name} }) ] } @columns;
}

# ---- the page ----

my @functions = grep { defined $_->{grade} } functions();
my @tables = tables();
my @function_sections = in_sections(@functions);

print <<'END';
# Reference

<!-- Made by "make reference" from the catalog and the sources. Do not edit. -->

END
for my $part ([ 'Functions', map { $_->[0] } @function_sections ], ['Settings'], ['Errors'], ['Tables and views'])
{
	my ($title, @sections) = @$part;

	print "- [$title](#", anchor($title), ")\n", map { "  - [$_](#" . anchor($_) . ")\n" } @sections;
}

print <<'END';

## Functions

The functions are in schema `stripe_sync`. The owner of the extension may call all of them. For each, the function
that grants it to other roles is given; `revoke_all()` revokes it.

END
print_function_sections(@function_sections);

print <<'END';
## Settings

A setting whose context is superuser is set in `postgresql.conf`, with `ALTER SYSTEM`, or by a superuser with `SET`.
A value without a unit is in the unit given here. `pg_settings` has the same, with the values in effect:

```sql
SELECT name, setting, unit, source, short_desc FROM pg_settings WHERE name LIKE 'stripe\_sync.%';
```

END
table([ 'Setting', 'Type', 'Default', 'Unit', 'Range', 'Context', 'Description' ], map { setting_row($_) } settings());

print <<'END';
## Errors

These SQLSTATEs are specific to stripe_sync. `webhook()` does not raise the errors of a delivery, but returns an HTTP
status and puts the SQLSTATE into the body.

END
table([ 'SQLSTATE', 'Condition', 'HTTP status' ], errors());
print "Other errors have PostgreSQL's SQLSTATEs, among them these:\n\n";
table([ 'SQLSTATE', 'Name', 'Condition' ], standard_errors(@functions));

print <<'END';
## Tables and views

`grant_read()` and `grant_admin()` grant SELECT on the tables and views that are described with their columns.

END
print_readable($_) for in_order(grep { $_->{readable} } @tables);

print <<'END';
### Tables in schema stripe

`create_tables()` creates a table for each object type. The view `stripe_sync.object_type` gives its name, and the
fields that are its columns:

```sql
SELECT table_name, key, jsonb_pretty(fields) FROM stripe_sync.object_type WHERE object_type = 'invoice';
```

Every table has these columns too:

END
table([ 'Column', 'Type', 'Description' ], mirror_columns());

print <<'END';
### Internal tables and views

`grant_read()` and `grant_admin()` do not grant access to these. They can change in any release.

END
table([ 'Name', 'Description' ], map { check_described("table $_->{name}", $_->{comment}); [ "`$_->{name}`", cell($_->{comment}) ] }
	in_order(grep { !$_->{readable} } @tables));
