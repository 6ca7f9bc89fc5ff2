#!/usr/bin/env bash
#
# reference.sh: doc/reference.md is what doc/make_reference.pl prints, on every
# version of the server; and the documents name no SQLSTATE that it doesn't have.
#
# Prints TAP.  Uses the server that test/run has started.

set -euo pipefail
# shellcheck source=test/front/lib.sh
. "$(dirname "$0")/../front/lib.sh"

PAGE=$ROOT/doc/reference.md
export PGDATABASE=reference

tidy()
{
	dropdb --if-exists "$PGDATABASE" || true
	rm -rf "$WORK"
}

sql() { psql -XAtq -v ON_ERROR_STOP=1 -c "$1"; }

# The page as the script prints it now
print_page() { perl "$ROOT/doc/make_reference.pl"; }

# Does a change of the catalog, $1, change the page, to have line $2 (a regex)?
shows()							# statement regex name
{
	sql "$1"
	print_page >"$WORK/changed"
	ok "$(! cmp -s "$WORK/printed" "$WORK/changed" && grep -Eq -- "$2" "$WORK/changed"; echo $?)" "$3"
}

# Does the script fail after $1, and say $2 (a regex)?
refuses()						# statement regex name
{
	local status=0

	sql "$1"
	print_page >"$WORK/changed" 2>"$WORK/refused" || status=$?
	ok "$([ "$status" -ne 0 ] && grep -Eq -- "$2" "$WORK/refused"; echo $?)" "$3"
	[ ! -s "$WORK/refused" ] || sed 's/^/# /' "$WORK/refused"
}

# ---- errors ----

# What webhook() returns for each SQLSTATE, as "SY001 400"
statuses()
{
	sql "SELECT stripe_sync.add_endpoint('test', 'whsec_test', livemode => false);
		SELECT stripe_sync.add_endpoint('bare', 'whsec_test', livemode => false, account => 'bare');
		DELETE FROM stripe_sync.endpoint_secret WHERE endpoint = 'bare'" >/dev/null
	sql "WITH w (payload, signature, endpoint) AS (VALUES
			('{}', 'x', 'test'),
			('{}', stripe_sync.sign('{}'::text, 'whsec_other'), 'test'),
			('{}', stripe_sync.sign('{}'::text, 'whsec_test', now() - interval '1 hour'), 'test'),
			('{}', stripe_sync.sign('{}'::text, 'whsec_test'), 'test'),
			('{}', 'x', 'nobody'),
			('{\"id\": \"evt_1\", \"type\": \"ping\", \"livemode\": true}',
				stripe_sync.sign('{\"id\": \"evt_1\", \"type\": \"ping\", \"livemode\": true}'::text, 'whsec_test'), 'test'),
			('{}', stripe_sync.sign('{}'::text, 'whsec_test'), 'bare'))
		SELECT (h.body ->> 'code') || ' ' || h.http_status
		  FROM w, stripe_sync.webhook(w.payload, jsonb_build_object('Stripe-Signature', w.signature), w.endpoint) AS h
		 ORDER BY 1"
}

check_statuses()
{
	# shellcheck disable=SC2016
	is "$(statuses)" "$(sed -nE 's/^\| `(SY[0-9]{3})` \| .* \| ([0-9]{3})[0-9, ]* \|$/\1 \2/p' "$PAGE")" \
		"the HTTP statuses are those that webhook() returns"
}

check_codes()
{
	local code

	is "$(grep -ohE '\bSY[0-9]{3}\b' "$ROOT"/README.md "$ROOT"/doc/*.md | sort -u | while read -r code; do
		grep -q "^| \`$code\` |" "$PAGE" || say "$code"
	done)" "" "the documents name no SQLSTATE that there isn't"
}

main()
{
	WORK=$(mktemp -d)
	trap tidy EXIT
	createdb -T template0 -E UTF8 "$PGDATABASE"
	sql "CREATE EXTENSION stripe_sync"
	print_page >"$WORK/printed"
	ok "$(diff -u "$PAGE" "$WORK/printed" >"$WORK/diff"; echo $?)" \
		"doc/reference.md is up to date: if not, run make reference"
	head -n 60 "$WORK/diff" | sed 's/^/# /'
	print_page >"$WORK/again"
	ok "$(cmp -s "$WORK/printed" "$WORK/again"; echo $?)" "it is the same each time"
	is "$(grep -n '^#\{2,3\} ' "$PAGE" | cut -d ' ' -f 2- | sort | uniq -d)" "" "no two sections have one title"
	shows "COMMENT ON FUNCTION stripe_sync.cancel_job(bigint) IS 'Something else'" '^Something else\.$' \
		"a changed comment is shown"
	refuses "COMMENT ON COLUMN stripe_sync.event.payload IS NULL" 'column event\.payload has no COMMENT ON' \
		"a column without a comment is an error"
	refuses "COMMENT ON FUNCTION stripe_sync.cancel_job(bigint) IS NULL" 'function cancel_job has no COMMENT ON' \
		"so is a function"
	refuses "COMMENT ON FUNCTION stripe_sync.cancel_job(bigint) IS 'Raises 99ZZZ.'" 'a comment names 99ZZZ' \
		"and a SQLSTATE that nobody explains"
	check_statuses
	check_codes
	done_testing
}

main
