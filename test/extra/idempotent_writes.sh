#!/usr/bin/env bash
#
# idempotent_writes.sh: what doc/idempotent-writes.md shows charges once: its SQL
# and its programs, Stripe's own client, and a stub of Stripe that keeps what was
# answered to an idempotency key.
#
# Prints TAP.  Skipped without python3, openssl or node, or where there is no
# registry to get the packages "pg" and "stripe" from.

set -euo pipefail
# shellcheck source=test/front/lib.sh
. "$(dirname "$0")/../front/lib.sh"
# shellcheck source=test/stub/place.sh
. "$(dirname "${BASH_SOURCE[0]}")/../stub/place.sh"

PAGE=$ROOT/doc/idempotent-writes.md
LIMIT=1200						# tenths of a second that a condition may take

block() { perl "$HERE/extract.pl" "$PAGE" "$1"; }

# ---- the programs ----

packages_install()
{
	timeout 180 npm install --prefix "$WORK/node" --cache "$WORK/npm" --no-audit --no-fund \
		--ignore-scripts --fetch-retries=1 --fetch-timeout=30000 \
		>"$WORK/npm.log" 2>&1 </dev/null
}

# The page's programs, with a client that speaks to the stub.  once.mjs sends
# what is due, once.  Those in keyless/ are the same without an idempotency key.
programs_make()
{
	local client="new Stripe('sk_test_writes', { host: '127.0.0.1', port: ${STRIPE##*:}, protocol: 'https' })"

	block late_fees.mjs >"$WORK/node/late_fees.mjs"
	block sender.mjs | sed "s|new Stripe(process.env.STRIPE_SECRET_KEY)|$client|" >"$WORK/node/sender.mjs"
	cat >"$WORK/node/once.mjs" <<-END
		import pg from 'pg';
		import Stripe from 'stripe';
		import { sendLateFees } from './late_fees.mjs';
		const db = new pg.Pool();
		console.log(await sendLateFees(db, $client));
		await db.end();
	END
	mkdir "$WORK/node/keyless"
	cp "$WORK/node/once.mjs" "$WORK/node/keyless/"
	sed 's/, { idempotencyKey: event_id }//' "$WORK/node/late_fees.mjs" >"$WORK/node/keyless/late_fees.mjs"
	is "$(grep -c idempotencyKey "$WORK/node/late_fees.mjs")$(grep -c idempotencyKey "$WORK/node/keyless/late_fees.mjs")" \
		10 "the page's program gives an idempotency key, the other doesn't"
}

# Start a program; its process is PROGRAM_PID.
program_start()					# file
{
	NODE_EXTRA_CA_CERTS=$STUB_CA node "$WORK/node/$1" >>"$WORK/program.log" 2>&1 </dev/null &
	PROGRAM_PID=$!
	front_pids+=("$PROGRAM_PID")
}

program_kill()
{
	kill -KILL "$PROGRAM_PID"
	wait "$PROGRAM_PID" 2>/dev/null || true
	unset 'front_pids[-1]'
}

# How many requests one pass has sent
send_once() { NODE_EXTRA_CA_CERTS=$STUB_CA node "$WORK/node/${1:-once.mjs}" 2>&1; }

# ---- the database and the stub ----

# Wait until a command's output is $1.
await()							# expected command...
{
	local n expected=$1
	shift

	for ((n = 0; n < LIMIT; n++)); do
		[ "$("$@")" != "$expected" ] || return 0
		sleep 0.1
	done
	say "# still not $expected: $*"
	return 1
}

# The payment of an invoice fails.
payment_fails()					# invoice
{
	sql "SELECT status FROM stripe_sync.simulate('invoice.payment_failed',
		'{\"id\": \"$1\", \"object\": \"invoice\", \"customer\": \"cus_1\", \"currency\": \"eur\"}')"
}

event_of() { sql "SELECT event_id FROM late_fee WHERE invoice = '$1'"; }

# Where the fee of an invoice stands
fee()							# invoice
{
	sql "SELECT concat_ws(' ', CASE WHEN invoice_item IS NULL THEN 'open' ELSE 'charged' END,
		CASE WHEN due_at IS NULL THEN 'settled' ELSE 'waiting' END, 'tries', tries, error)
		FROM late_fee WHERE invoice = '$1'"
}

due_now() { sql "UPDATE late_fee SET due_at = now() WHERE invoice = '$1'; NOTIFY late_fee" >/dev/null; }

# What the stub has charged for the event of an invoice
charged()						# invoice
{
	stub_control "state?type=invoiceitem" | python3 -c '
import json, sys
items = [each for each in json.load(sys.stdin).get("invoiceitem", {}).values()
         if each["metadata"].get("event") == sys.argv[1]]
print(len(items), sum(each["amount"] for each in items))' "$(event_of "$1")"
}

# The idempotency keys of the requests for an invoice, one a line
keys_sent()						# invoice
{
	python3 - "$WORK/stripe/requests.jsonl" "$(event_of "$1")" <<-'PY'
		import json, sys
		for line in open(sys.argv[1]):
		    entry = json.loads(line)
		    if entry.get("method") == "POST" and sys.argv[2] in entry.get("body", ""):
		        print(entry["headers"].get("idempotency-key"))
	PY
}

requests_sent() { grep -c '"method":"POST"' "$WORK/stripe/requests.jsonl" || true; }

# The next request is done at Stripe, and never answered.
answer_lost()
{
	stub_control faults '[{"match": {"method": "POST"}, "times": 1, "fault": {"never": true, "deliver": true}}]' >/dev/null
}

# ---- the tests ----

check_page()
{
	block 'sql.*' >"$WORK/page.sql"
	psql -X -q -v ON_ERROR_STOP=1 -f "$WORK/page.sql" >"$WORK/page.log" 2>&1 ||
		{ cat "$WORK/page.log" >&2; die "the page's SQL fails"; }
	is "$(sql "SELECT count(*) FROM late_fee")" 0 "what the page tries is rolled back"
	payment_fails in_late >/dev/null
	payment_fails in_late >/dev/null
	is "$(fee in_late)" "open waiting tries 0" "two failed attempts to collect an invoice ask for one fee"
}

check_sender()
{
	program_start sender.mjs
	await "charged settled tries 1" fee in_late || true
	is "$(fee in_late), $(charged in_late)" "charged settled tries 1, 1 500" "the fee is charged"
	payment_fails in_2 >/dev/null
	await "charged settled tries 1" fee in_2 || true
	is "$(fee in_2), $(charged in_2)" "charged settled tries 1, 1 500" "another, while the sender runs"
}

# The sender that runs is killed after Stripe has charged and before it knows.
check_crash()
{
	answer_lost
	payment_fails in_crash >/dev/null
	await "1 500" charged in_crash || true
	program_kill
	is "$(fee in_crash), $(charged in_crash)" "open waiting tries 1, 1 500" \
		"killed between the request and the mark: charged, and the row doesn't say so"
	due_now in_crash
	program_start sender.mjs
	await "charged settled tries 2" fee in_crash || true
	program_kill
	is "$(fee in_crash), $(charged in_crash)" "charged settled tries 2, 1 500" "sent again, and charged once"
	is "$(keys_sent in_crash)" "$(event_of in_crash)
$(event_of in_crash)" "both requests have the event's id as their key"
}

# The same without a key charges twice: what the test above finds isn't the stub's doing.
check_crash_without_key()
{
	answer_lost
	payment_fails in_keyless >/dev/null
	program_start keyless/once.mjs
	await "1 500" charged in_keyless || true
	program_kill
	due_now in_keyless
	is "$(send_once keyless/once.mjs), $(charged in_keyless)" "1, 2 1000" "without the key the same crash charges twice"
}

check_twice()
{
	local event

	event=$(event_of in_2)
	is "$(sql "SELECT r.status FROM stripe_sync.event e, stripe_sync.receive(e.payload::text,
		stripe_sync.sign(e.payload::text, '$SECRET')) r WHERE e.id = '$event'")" duplicate "delivered twice: a duplicate"
	is "$(sql "SELECT status FROM stripe_sync.replay('$event', handlers => true)")" applied "replayed with its handlers"
	is "$(payment_fails in_2)" applied "another event of the same invoice"
	is "$(send_once), $(fee in_2), $(charged in_2)" "0, charged settled tries 1, 1 500" "and nothing more is charged"
	is "$(sql "BEGIN; SELECT status FROM stripe_sync.simulate('invoice.payment_failed', '{\"id\": \"in_undone\"}');
		ROLLBACK; SELECT count(*) FROM late_fee WHERE invoice = 'in_undone'" | tail -n 1)" 0 "no fee of a transaction that rolled back"
}

check_refused()
{
	stub_control faults '[{"match": {"method": "POST"}, "times": 1, "fault": {"status": 400}}]' >/dev/null
	payment_fails in_refused >/dev/null
	is "$(send_once), $(fee in_refused)" "1, open settled tries 1 The request was unacceptable." "a request that is refused is settled, with the error"
	is "$(charged in_refused)" "0 0" "and nothing is charged"
}

# Stripe forgets a key after a day.
check_old()
{
	local before

	answer_lost
	payment_fails in_old >/dev/null
	program_start once.mjs
	await "1 500" charged in_old || true
	program_kill
	sql "UPDATE late_fee SET first_try_at = now() - interval '24 hours', due_at = now() WHERE invoice = 'in_old'" >/dev/null
	before=$(requests_sent)
	is "$(send_once), $(requests_sent)" "0, $before" "a request of a day ago isn't sent again"
	stub_control pending | python3 -c '
import json, sys
for event in json.load(sys.stdin):
    print(json.dumps(event))' >"$WORK/events"
	while IFS= read -r payload; do
		psql -X -q -A -t -v ON_ERROR_STOP=1 -v payload="$payload" -v secret="$SECRET" <<-'END' >/dev/null
			SELECT status FROM stripe_sync.receive(:'payload'::text, stripe_sync.sign(:'payload'::text, :'secret'));
		END
	done <"$WORK/events"
	block from_the_mirror.sql >"$WORK/from_the_mirror.sql"
	psql -X -q -v ON_ERROR_STOP=1 -f "$WORK/from_the_mirror.sql"
	is "$(fee in_old)" "charged settled tries 1" "the mirror tells that it was charged"
}

main()
{
	stub_is_possible || skip_all "no python3 or no openssl"
	node_is_usable || skip_all "no node $OLDEST_NODE or newer, or no npm"
	place_make
	mkdir "$WORK/node"
	cp "$HERE/package.json" "$WORK/node/"
	packages_install || skip_all "npm cannot install pg and stripe"
	stub_start stripe
	cluster_make
	sql "CREATE EXTENSION stripe_sync" >/dev/null
	sql "SELECT stripe_sync.add_endpoint('default', '$SECRET', livemode => false)" >/dev/null
	programs_make
	check_page
	check_sender
	check_crash
	check_crash_without_key
	check_twice
	check_refused
	check_old
	done_testing
}

main
