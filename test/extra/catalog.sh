#!/usr/bin/env bash
#
# catalog.sh
#
# Tests src/types/generate.pl and src/types/catalog.c without a server: what is
# generated from the catalog, from a made-up newer one, and that a broken one is
# refused with a message.  Prints TAP.

set -u

top=$(cd "$(dirname "$0")/../.." && pwd)
generate=$top/src/types/generate.pl
json=$top/src/types/object_types.json
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
warnings=(-std=gnu17 -Wall -Wextra -Wshadow -Wstrict-prototypes -Werror -I"$top/src")
count=0
failed=0

ok()							# status name
{
	count=$((count + 1))
	if [ "$1" -eq 0 ]; then
		echo "ok $count - $2"
	else
		failed=$((failed + 1))
		echo "not ok $count - $2"
	fi
}

# The catalog with a change made to it: edit CODE > FILE, $c being the whole and
# $t{NAME} an object type
edit()							# perl code
{
	perl -MJSON::PP -e '
		my ($file, $code) = @ARGV;
		open my $in, "<", $file or die;
		my $json = JSON::PP->new->utf8->canonical;
		our $c = $json->decode(do { local $/; <$in> });
		our %t = map { $_->{object} => $_ } @{ $c->{object_types} };
		eval "no strict; $code; 1" or die $@;
		print $json->encode($c);' "$json" "$1"
}

refused()						# name pattern perl-code
{
	edit "$3" >"$work/broken.json" || { ok 1 "$1 (edit)"; return; }
	if perl "$generate" "$work/broken.json" >"$work/broken.c" 2>"$work/broken.err"; then
		ok 1 "refused: $1"
	elif [ -s "$work/broken.c" ] || ! grep -qE -- "$2" "$work/broken.err" ||
		grep -qE 'line [0-9]+\.$|uninitialized' "$work/broken.err"; then
		sed 's/^/# /' "$work/broken.err"
		ok 1 "refused: $1"
	else
		ok 0 "refused: $1"
	fi
}

compiles()						# name data.c
{
	local compiler
	for compiler in gcc clang; do
		command -v $compiler >/dev/null || continue
		$compiler "${warnings[@]}" "$work/look.c" "$top/src/types/catalog.c" "$2" \
			-o "$work/look" 2>"$work/compile.log"
		ok $? "$1 compiles with $compiler"
		sed 's/^/# /' "$work/compile.log"
	done
}

cat >"$work/look.c" <<'LOOK'
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "types/types.h"

static int faults = 0;

static void
fault(const char *what, const char *where)
{
	printf("# %s: %s\n", what, where);
	faults++;
}

static void
look_at_names(const CatalogType *type)
{
	size_t		length = strlen(type->object);
	char		longer[256];

	snprintf(longer, sizeof(longer), "%sx", type->object);
	if (catalog_find(longer, length) != type)
		fault("not found", type->object);
	if (catalog_find(longer, length + 1) != NULL || catalog_find("", 0) != NULL ||
		catalog_find(type->object, length + 1) != NULL)
		fault("found by a longer name", type->object);
	if (catalog_find(longer, length - 1) == type)
		fault("found by a shorter name", type->object);
	if (type->table != NULL && catalog_find_table(type->table) != type)
		fault("table not found", type->table);
	if ((type->table == NULL) != (type->key == NULL))
		fault("table and key", type->object);
	for (int i = 0; i < type->nfields; i++)
		if (catalog_field(type, type->fields[i].name) != &type->fields[i])
			fault("field not found", type->fields[i].name);
	if (catalog_field(type, "no_such_field") != NULL)
		fault("found no_such_field", type->object);
}

static void
look_at_pages(const CatalogType *type)
{
	for (int i = 0; i < type->nfields; i++)
	{
		int			children = 0;

		for (int j = 0; j < type->npages; j++)
			children += strcmp(type->pages[j].field, type->fields[i].name) == 0;
		if ((children > 0) != (type->fields[i].kind == KIND_LIST))
			fault("a list without pages, or the other way round", type->object);
	}
	for (int j = 0; j < type->npages; j++)
	{
		const CatalogPage *page = &type->pages[j];
		const CatalogType *child = catalog_find(page->child, strlen(page->child));

		if (child == NULL || child->table == NULL)
			fault("no child", page->child);
		else if (child->rank <= type->rank)
			fault("child ranks before its parent", page->child);
		else if (page->back != NULL && catalog_field(child, page->back) == NULL)
			fault("no back field", page->child);
		printf("%s.%s %s %s\n", type->object, page->field, page->child,
			   page->back ? page->back : "-");
	}
}

int
main(void)
{
	char	   *ranks = calloc((size_t) catalog_ntypes, 1);

	for (int i = 0; i < catalog_ntypes; i++)
	{
		const CatalogType *type = &catalog_types[i];

		if (i > 0 && strcmp(type[-1].object, type->object) >= 0)
			fault("not sorted", type->object);
		if (type->rank < 0 || type->rank >= catalog_ntypes || ranks[type->rank]++)
			fault("rank not unique, or out of its range", type->object);
		look_at_names(type);
		look_at_pages(type);
	}
	for (FieldKind kind = KIND_STRING; kind <= KIND_METADATA; kind++)
		printf("kind %s %s\n", catalog_kind_name(kind), catalog_kind_sqltype(kind));
	if (catalog_find_table("no_such_table") != NULL)
		fault("found", "no_such_table");
	printf("version %s\n", catalog_api_version);
	free(ranks);
	return faults != 0;
}
LOOK

cat >"$work/expected" <<'EXPECTED'
account.external_accounts bank_account account
account.external_accounts card account
application_fee.refunds fee_refund fee
charge.refunds refund charge
checkout.session.line_items item -
credit_note.lines credit_note_line_item -
customer.sources account -
customer.sources bank_account customer
customer.sources card customer
customer.sources source customer
customer.subscriptions subscription customer
customer.tax_ids tax_id customer
entitlements.active_entitlement_summary.entitlements entitlements.active_entitlement -
file.links file_link file
invoice.lines line_item invoice
invoice.payments invoice_payment invoice
payment_link.line_items item -
quote.line_items item -
radar.value_list.list_items radar.value_list_item value_list
subscription.items subscription_item subscription
transfer.reversals transfer_reversal transfer
treasury.transaction.entries treasury.transaction_entry transaction
kind string pg_catalog.text
kind integer bigint
kind number numeric
kind decimal numeric
kind boolean boolean
kind timestamp timestamp with time zone
kind reference pg_catalog.text
kind embedded pg_catalog.jsonb
kind object pg_catalog.jsonb
kind array pg_catalog.jsonb
kind list pg_catalog.jsonb
kind metadata pg_catalog.jsonb
version 2026-10-28.endive
EXPECTED

# --- the catalog as it is ---
perl "$generate" "$json" >"$work/data.c" 2>"$work/err" && [ ! -s "$work/err" ]
ok $? "generates, without a warning"
compiles "the catalog" "$work/data.c"
"$work/look" >"$work/got"
ok $? "order, ranks, look-ups and pages hold together"
diff "$work/expected" "$work/got" >"$work/diff"
ok $? "all lists are found, with the right children, kinds and version"
sed 's/^/# /' "$work/diff"
[ "$(cut -d' ' -f1 "$work/got" | grep -cE '\.' )" -eq 22 ] &&
	[ "$(cut -d' ' -f1 "$work/got" | grep -E '\.' | sort -u | wc -l)" -eq 18 ]
ok $? "18 lists, 22 kinds of children"

# --- always the same ---
same=0
for hash_seed in 0 1 2 3; do
	PERL_HASH_SEED=$hash_seed perl "$generate" "$json" | cmp -s - "$work/data.c" || same=1
done
ok $same "deterministic, whatever order hashes have"
edit '$c->{object_types} = [ reverse @{ $c->{object_types} } ]' >"$work/reversed.json"
perl "$generate" "$work/reversed.json" | cmp -s - "$work/data.c"
ok $? "deterministic, whatever order the types come in"

# --- a newer one ---
edit '
	push @{ $c->{object_types} }, {
		object => "billing.novelty", api => "v1", table => "billing_novelties", key => "id",
		list_path => "/v1/billing/novelties", retrieve_path => "/v1/billing/novelties/{id}",
		nested_list_paths => [], list_required_params => [], list_filters => [],
		id_prefix => "nov_", deletable => JSON::PP::true,
		event_types => [ "billing.novelty.created", "billing.novelty.what??/" ],
		fields => [
			{ name => "id", kind => "string" },
			{ name => "odd \"name\" \\ with \x{e9}\x{20ac}", kind => "decimal", nullable => JSON::PP::true },
			{ name => "invoice", kind => "reference", ref => ["invoice"] },
			{ name => "parts", kind => "list" } ] };
	push @{ $t{invoiceitem}{nested_list_paths} }, "/v1/billing/novelties/{id}/parts";
	push @{ $c->{object_types} }, {
		object => "bare", api => "v2", map { $_ => [] }
			qw(fields event_types nested_list_paths list_required_params) };
	$_->{kind} = "object" for grep { $_->{name} eq "amount_due" } @{ $t{invoice}{fields} };
	$c->{api_version} = "2027-01-01.newer"' >"$work/newer.json"
perl "$generate" "$work/newer.json" >"$work/newer.c" 2>"$work/err" && [ ! -s "$work/err" ]
ok $? "a newer catalog generates"
compiles "a newer catalog" "$work/newer.c"
"$work/look" >"$work/got"
ok $? "a newer catalog holds together"
grep -qx 'billing.novelty.parts invoiceitem -' "$work/got" &&
	grep -qx 'version 2027-01-01.newer' "$work/got" &&
	grep -q '"amount_due", KIND_OBJECT' "$work/newer.c"
ok $? "the new type, the changed kind and the version are there"

# --- broken ones ---
refused "an unknown kind" '"amount" of "charge" has the unknown kind "money"' \
	'$_->{kind} = "money" for grep { $_->{name} eq "amount" } @{ $t{charge}{fields} }'
refused "no kind" 'has the unknown kind "null"' 'delete $t{charge}{fields}[0]{kind}'
refused "a table twice" 'table "charges" belongs to "charge" and to "refund"' \
	'$t{refund}{table} = "charges"'
refused "a type twice" 'object type "plan" is there twice' '$t{price}{object} = "plan"'
refused "a field twice" 'field "id" of "plan" is there twice' \
	'push @{ $t{plan}{fields} }, { name => "id", kind => "string" }'
refused "a field name of 64 bytes" 'longer than 63 bytes' \
	'push @{ $t{plan}{fields} }, { name => "a" x 64, kind => "string" }'
refused "a field name of 64 bytes in 32 characters" 'longer than 63 bytes' \
	'push @{ $t{plan}{fields} }, { name => "\x{e9}" x 32, kind => "string" }'
refused "a table name of 64 bytes" 'table of "plan" is longer' '$t{plan}{table} = "a" x 64'
refused "a field that begins with an underscore" 'begins with an underscore' \
	'push @{ $t{plan}{fields} }, { name => "_data", kind => "object" }'
refused "a key that is no field" 'key "name" of "charge" is none' '$t{charge}{key} = "name"'
refused "a table without a key" 'table without a key' '$t{charge}{key} = undef'
refused "a list that nobody knows" 'list "novelties" of "plan".*' \
	'push @{ $t{plan}{fields} }, { name => "novelties", kind => "list" }'
refused "a list that lost its children" 'list "items" of "subscription"' \
	'$t{subscription_item}{list_path} = "/v1/renamed"'
refused "a type that lists itself" 'in a circle.*plan' '
	push @{ $t{plan}{fields} }, { name => "plans", kind => "list" };
	push @{ $t{plan}{nested_list_paths} }, "/v1/plans/{id}/plans"'
refused "two types that list each other" 'in a circle.*charge' '
	push @{ $t{refund}{fields} }, { name => "charges", kind => "list" };
	push @{ $t{charge}{nested_list_paths} }, "/v1/refunds/{id}/charges"'
refused "an unknown API" 'api of "plan"' '$t{plan}{api} = "v3"'
refused "a type without a name" 'type without a name' 'delete $t{plan}{object}'
refused "fields that are no array" '"fields" of "plan"' '$t{plan}{fields} = {}'
refused "an event type that is no string" '"event_types" of "plan"' '$t{plan}{event_types} = [ [] ]'
refused "no version" 'no "api_version"' 'delete $c->{api_version}'
refused "no types" 'no "object_types"' '$c->{object_types} = []'

head -c 1000 "$json" >"$work/cut.json"
! perl "$generate" "$work/cut.json" >"$work/broken.c" 2>"$work/err" &&
	grep -q 'is no JSON' "$work/err" && [ ! -s "$work/broken.c" ]
ok $? "refused: a file that was cut off"
! perl "$generate" "$work/missing.json" >"$work/broken.c" 2>"$work/err" &&
	grep -q 'cannot read' "$work/err"
ok $? "refused: no file"
! perl "$generate" "$json" 2>"$work/err" >/dev/full && grep -q 'cannot write' "$work/err"
ok $? "a full disk is an error"

echo "1..$count"
[ $failed -eq 0 ]
