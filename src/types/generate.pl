#!/usr/bin/env perl
#
# generate.pl object_types.json > catalog_data.c
#
# Writes Stripe's object types as constant C data, as src/types/types.h declares
# it.  The input describes the types; what can be derived from it is derived here
# and not in the server:
#
#	pages	which object types an embedded list holds, and which field of a
#			child names its parent (see page_children)
#	lists	the lists that hold all objects of a type: its own, or one for each
#			object of another type (see find_lists)
#	rank	the order in which rows of several types are locked: a page's
#			parent before its children (see rank_types)
#
# The same input gives the same output.  Input that the extension could not use is
# an error, with a remedy, before anything is written.

use strict;
use warnings;

use JSON::PP;

use constant IDENTIFIER_MAX => 63;	# PostgreSQL's NAMEDATALEN - 1

my %kind_symbol = map { $_ => 'KIND_' . uc } qw(string integer number decimal
	boolean timestamp reference embedded object array list metadata);

die "usage: generate.pl object_types.json > catalog_data.c\n" unless @ARGV == 1;
my $file = $ARGV[0];

my $catalog = read_catalog($file);
check_types(@{ $catalog->{object_types} });
my @types = sort { $a->{object} cmp $b->{object} } @{ $catalog->{object_types} };
find_pages($_) for @types;
mend_singleton($_) for @types;
find_lists($_) for @types;
rank_types(@types);
print catalog_source($catalog->{api_version}, @types);
close STDOUT or die "cannot write the catalog: $!\n";
exit 0;

# ---- reading and checking ----

sub refuse
{
	my ($what, $hint) = @_;
	die "$file: $what\n\t$hint\n";
}

sub read_catalog
{
	my ($name) = @_;
	open my $in, '<:raw', $name or die "cannot read $name: $!\n";
	my $text = do { local $/; <$in> };
	my $read = eval { JSON::PP->new->utf8->decode($text) };

	refuse('is no JSON: ' . ($@ =~ s/ at \S+ line \d+\.?\n//r), 'Correct the file, or fetch it again.')
		unless defined $read;
	refuse('has no "api_version" or no "object_types"', 'It must be an object with both.')
		unless ref $read eq 'HASH'
		&& is_name($read->{api_version})
		&& ref $read->{object_types} eq 'ARRAY'
		&& @{ $read->{object_types} };
	return $read;
}

sub is_name
{
	my ($value) = @_;
	return defined $value && !ref $value && length $value;
}

sub check_types
{
	my (%objects, %tables);

	for my $type (@_)
	{
		check_type($type);
		my ($object, $table) = @$type{qw(object table)};

		refuse("object type \"$object\" is there twice", 'Remove one of the two.')
			if $objects{$object}++;
		next unless defined $table;
		refuse("table \"$table\" belongs to \"$tables{$table}\" and to \"$object\"",
			'Give one of the two another "table".')
			if exists $tables{$table};
		$tables{$table} = $object;
	}
}

sub check_type
{
	my ($type) = @_;

	refuse('has an object type without a name', 'Each needs "object", a string.')
		unless ref $type eq 'HASH' && is_name($type->{object});

	my $object = $type->{object};

	for my $list (qw(fields event_types nested_list_paths list_required_params))
	{
		refuse("\"$list\" of \"$object\" is no array", 'Write [] where there is none.')
			unless ref $type->{$list} eq 'ARRAY';
		next if $list eq 'fields';
		refuse("\"$list\" of \"$object\" holds something other than strings", 'Write strings only.')
			if grep { !is_name($_) } @{ $type->{$list} };
	}
	for my $string (qw(table key list_path retrieve_path id_prefix))
	{
		refuse("\"$string\" of \"$object\" is no string", 'Write a string, or null.')
			if ref $type->{$string};
	}
	refuse("api of \"$object\" is neither \"v1\" nor \"v2\"",
		'Teach src/stripe/protocol.c the new one, then allow it here.')
		unless ($type->{api} // '') =~ /\Av[12]\z/;
	check_fields($type);
	check_key($type);
}

sub check_key
{
	my ($type) = @_;
	my ($object, $table, $key) = @$type{qw(object table key)};

	refuse("\"$object\" has a table without a key, or a key without a table",
		'Give both ("key" is "" where there is one an account), or null for both.')
		if defined $table != defined $key;
	return unless defined $table;
	check_identifier($table, "table of \"$object\"");
	refuse("key \"$key\" of \"$object\" is none of its fields", 'Name a field, or "".')
		unless $key eq '' || field_of($type, $key);
}

sub check_fields
{
	my ($type) = @_;
	my %seen;

	for my $field (@{ $type->{fields} })
	{
		refuse("\"$type->{object}\" has a field without a name", 'Each needs "name", a string.')
			unless ref $field eq 'HASH' && is_name($field->{name});

		my $where = "field \"$field->{name}\" of \"$type->{object}\"";

		refuse("$where is there twice", 'Remove one of the two.') if $seen{ $field->{name} }++;
		refuse("$where has the unknown kind \"" . ($field->{kind} // 'null') . '"',
			'Use one of ' . join(', ', sort keys %kind_symbol) . ', or add the kind to src/types/types.h.')
			unless defined $field->{kind} && exists $kind_symbol{ $field->{kind} };
		refuse("$where begins with an underscore", 'Those are columns of ours: leave the field out.')
			if $field->{name} =~ /\A_/;
		check_identifier($field->{name}, $where);
	}
}

sub check_identifier
{
	my ($name, $what) = @_;
	my $bytes = $name;
	utf8::encode($bytes);

	refuse("$what is longer than " . IDENTIFIER_MAX . " bytes: \"$name\"",
		'PostgreSQL would cut the name off: give a shorter one, or leave it out.')
		if length $bytes > IDENTIFIER_MAX;
	refuse("$what is empty or holds a control character", 'Give it a name that can be one in SQL.')
		if $name eq '' || $name =~ /[\x00-\x1f\x7f]/;
}

sub field_of
{
	my ($type, $name) = @_;
	my ($field) = grep { $_->{name} eq $name } @{ $type->{fields} };
	return $field;
}

# ---- pages ----

# Every list field must be known: the children of an unknown page would silently be
# missing from the mirror.
sub find_pages
{
	my ($type) = @_;

	$type->{pages} = [];
	for my $field (grep { $_->{kind} eq 'list' } @{ $type->{fields} })
	{
		my @pages = page_children($type, $field->{name});

		refuse("nobody knows what the list \"$field->{name}\" of \"$type->{object}\" holds",
			"Add its path to \"nested_list_paths\" of the object type that it lists, or make it an \"object\".")
			unless @pages;
		push @{ $type->{pages} }, @pages;
	}
}

# The types listed by a field: (a) those that Stripe lists under the parent's
# own path, {retrieve_path}/{field}; where there are none, (b) those of the
# same API whose own list is named like the field (invoice.payments,
# /v1/invoice_payments) and that can say which parent they belong to.
sub page_children
{
	my ($parent, $field) = @_;
	my @kept = grep { defined $_->{table} } @types;
	my @children = grep { is_nested($parent, $field, $_) } @kept;

	@children = grep { is_named_like($parent, $field, $_) } @kept unless @children;
	return map { { field => $field, child => $_->{object}, back => back_field($parent, $_) } } @children;
}

sub is_nested
{
	my ($parent, $field, $child) = @_;

	return 0 unless defined $parent->{retrieve_path};
	return scalar grep { $_ eq "$parent->{retrieve_path}/$field" } @{ $child->{nested_list_paths} };
}

# The API must be the same: v2.money_management.transaction_entry also has a field
# "transaction", but is not an entry of a treasury.transaction.
sub is_named_like
{
	my ($parent, $field, $child) = @_;
	my ($last) = ($child->{list_path} // '') =~ m{([^/]+)\z};

	return 0 unless defined $last && $last =~ /(?:\A|_)\Q$field\E\z/;
	return 0 unless $child->{api} eq $parent->{api};
	return 1 if defined back_field($parent, $child);
	return is_name($parent->{key})
		&& scalar grep { $_ eq $parent->{key} } @{ $child->{list_required_params} };
}

# The child's field that holds its parent's id: named as the parent is
# (value_list), or one that refers to it (fee_refund.fee).
sub back_field
{
	my ($parent, $child) = @_;
	my ($last) = $parent->{object} =~ /([^.]+)\z/;
	my $named = defined $last ? field_of($child, $last) : undef;

	return $last if $named && $named->{kind} =~ /\A(?:string|reference)\z/;
	for my $field (grep { $_->{kind} eq 'reference' } @{ $child->{fields} })
	{
		my $ref = $field->{ref} // [];
		return $field->{name}
			if grep { $_ eq $parent->{object} } ref $ref ? @$ref : $ref;
	}
	return undef;
}

# ---- lists ----

# Where Stripe has the one object of an account: its declarations name no
# method "retrieve" with an id for these.
sub mend_singleton
{
	my ($type) = @_;
	my %path = (
		balance => '/v1/balance',
		balance_settings => '/v1/balance_settings',
		'tax.settings' => '/v1/tax/settings',
		cash_balance => '/v1/customers/{id}/cash_balance',
	);

	$type->{retrieve_path} //= $path{ $type->{object} };
}

# All objects of a type are in its own list; or, if that needs a parameter or there
# is none, in one list for each object of another type.  Objects that are always
# embedded in a parent need no list.
sub find_lists
{
	my ($type) = @_;
	my ($path, @required) = ($type->{list_path}, @{ $type->{list_required_params} });

	$type->{lists} = [];
	return unless defined $type->{table} && $type->{api} eq 'v1';
	push @{ $type->{lists} }, { path => whole_list($type), created => has_created($type) }
		if defined $path && !grep { !defined $_ } whole_list($type);
	push @{ $type->{lists} }, parameter_list($type, @required) if defined $path && @required == 1;
	push @{ $type->{lists} }, map { nested_list($_) } @{ $type->{nested_list_paths} }
		if !defined $path || $type->{object} eq 'tax_id';
	@{ $type->{lists} } = grep { !defined $_->{parent} || !always_carries($_->{parent}, $type) } @{ $type->{lists} };
}

# Ended subscriptions are listed only on request; secrets of apps belong to the
# account or to users, and can't be listed for users; /v1/tax_ids lists those of
# the account, and those of a customer are in the customer's list.
sub whole_list
{
	my ($type) = @_;
	my %query = (subscription => '?status=all', 'apps.secret' => '?scope[type]=account');
	my $query = $query{ $type->{object} };

	return undef if @{ $type->{list_required_params} } && !defined $query;
	return $type->{list_path} . ($query // '');
}

sub has_created
{
	my ($type) = @_;
	return scalar grep { $_ eq 'created' } @{ $type->{list_filters} };
}

# /v1/subscription_items?subscription={id}; "account" of a transaction is not a
# Stripe account, so a parent within the type's own product is preferred.
sub parameter_list
{
	my ($type, $name) = @_;
	my ($product) = $type->{object} =~ /\A(.*\.)/;
	my @names = ((defined $product ? "$product$name" : ()), $name);

	for my $wanted (@names)
	{
		my ($parent) = grep { $_->{object} eq $wanted && defined $_->{table} } @types;
		return { path => "$type->{list_path}?$name={id}", parent => $parent } if $parent;
	}
	return;
}

# /v1/customers/{id}/sources.  Summaries need a customer and a time range as well.
sub nested_list
{
	my ($path) = @_;
	my ($front, $back) = $path =~ m{\A(.*/\{id\})/(\w+)\z} or return;
	my ($parent) = grep { ($_->{retrieve_path} // '') eq $front && defined $_->{table} } @types;

	return if !$parent || $back eq 'event_summaries';
	return { path => $path, parent => $parent };
}

sub always_carries
{
	my ($parent, $child) = @_;

	return scalar grep { $_->{child} eq $child->{object} && !field_of($parent, $_->{field})->{nullable} }
		@{ $parent->{pages} };
}

# ---- rank ----

# A topological order, parents before children; ties are broken by name.
sub rank_types
{
	my %waiting = map { $_->{object} => $_ } @_;
	my %parents = map { $_->{object} => {} } @_;

	for my $type (@_)
	{
		$parents{ $_->{child} }{ $type->{object} } = 1 for @{ $type->{pages} };
	}
	for (my $rank = 0; %waiting; $rank++)
	{
		my ($next) = grep { !%{ $parents{$_} } } sort keys %waiting;

		refuse('these list each other in a circle, or lie behind one: ' . join(', ', sort keys %waiting),
			'Rows are locked parents first: make one of the lists an "object".')
			unless defined $next;
		$waiting{$next}{rank} = $rank;
		delete $waiting{$next};
		delete $_->{$next} for values %parents;
	}
}

# ---- writing ----

sub c_string
{
	my ($text) = @_;

	return 'NULL' unless defined $text;
	utf8::encode($text);
	$text =~ s/([\\"?])/\\$1/g;		# "?" for the sake of trigraphs
	$text =~ s/([^ -~])/sprintf '\\%03o', ord $1/ge;
	return "\"$text\"";
}

sub c_bool { return $_[0] ? 'true' : 'false'; }

# An array, if there is anything to put into it; its name or NULL, its length
sub c_array
{
	my ($out, $declaration, $name, @rows) = @_;

	return 'NULL, 0' unless @rows;
	$$out .= "static const $declaration$name\[] = {\n" . join(",\n", map { "\t$_" } @rows) . "\n};\n\n";
	return "$name, " . scalar @rows;
}

sub fields_source
{
	return map {
		sprintf '{%s, %s, %s}', c_string($_->{name}), $kind_symbol{ $_->{kind} }, c_bool($_->{nullable})
	} @_;
}

sub pages_source
{
	return map { '{' . join(', ', map { c_string($_) } @$_{qw(field child back)}) . '}' } @_;
}

sub lists_source
{
	return map {
		'{' . join(', ', c_string($_->{path}), c_string($_->{parent} && $_->{parent}{object}), c_bool($_->{created})) . '}'
	} @_;
}

# The row of one type; its arrays, numbered as the types are, go to $out
sub type_source
{
	my ($out, $number, $type) = @_;
	my $fields = c_array($out, 'CatalogField ', "fields_$number", fields_source(@{ $type->{fields} }));
	my $pages = c_array($out, 'CatalogPage ', "pages_$number", pages_source(@{ $type->{pages} }));
	my $lists = c_array($out, 'CatalogList ', "lists_$number", lists_source(@{ $type->{lists} }));
	my $events = c_array($out, 'char *const ', "event_types_$number", map { c_string($_) } @{ $type->{event_types} });
	my $strings = join ', ', map { c_string($_) } @$type{qw(object table key api)};
	my $paths = join ', ', map { c_string($_) } @$type{qw(list_path retrieve_path id_prefix)};

	return join ",\n\t\t", "\t{$strings", $paths, c_bool($type->{deletable}) . ", $type->{rank}",
		$fields, $pages, $lists, "$events}";
}

sub catalog_source
{
	my ($version, @sorted) = @_;
	my $out = "/*\n * catalog_data.c\n *\t\tStripe's object types.\n *\n"
		. " * Made by src/types/generate.pl: change its input, not this.\n */\n"
		. "#include \"types/types.h\"\n\n";
	my @rows = map { type_source(\$out, $_, $sorted[$_]) } 0 .. $#sorted;

	return $out
		. "const CatalogType catalog_types[] = {\n" . join(",\n", @rows) . "\n};\n\n"
		. 'const int catalog_ntypes = ' . @rows . ";\n\n"
		. 'const char *const catalog_api_version = ' . c_string($version) . ";\n";
}
