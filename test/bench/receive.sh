#!/usr/bin/env bash
#
# receive.sh: what receive() costs.
#
# Run by test/bench/run as the server's user.  A 5 KB invoice.created with two
# lines, each a new object, signed; one transaction each.

set -euo pipefail
# shellcheck source=test/lib/common.sh
. "$(dirname "$0")/../lib/common.sh"
# shellcheck source=test/lib/server.sh
. "$(dirname "$0")/../lib/server.sh"
# shellcheck source=test/bench/lib.sh
. "$(dirname "$0")/lib.sh"

declare -A next=([insert]=1 [receive]=1)

build_load()
{
	gcc -O2 -o "$WORK/load" test/bench/load.c src/inbox/signature.c src/inbox/hmac.c -Isrc \
		-I"$("$PG_CONFIG" --includedir)" -L"$("$PG_CONFIG" --libdir)" \
		-lpq -lcrypto -lpthread
}

# Transactions a second of mode $1 with $2 clients, over $3 events.  New
# events get new numbers; the others go over the first ones again.
rate()
{
	local mode=$1 clients=$2 count=$3 first=1 line

	if [ -n "${next[$mode]:-}" ]; then
		first=${next[$mode]}
		next[$mode]=$((first + count))
	fi
	line=$("$WORK/load" "$mode" "$clients" "$count" "$first" \
		test/bench/event.json "host=$PGHOST user=postgres dbname=bench")
	RATE=$(awk '{ printf "%.0f", $1 / $2 }' <<<"$line")
}

# Modes $1 and $2 in turn: sets A, B and RATIO (first over second), medians.
pair()
{
	local clients=$3 count=$4 round a="" b="" ratios=""

	for ((round = 0; round < ROUNDS; round++)); do
		rate "$2" "$clients" "$count"
		b+=$RATE$'\n'
		rate "$1" "$clients" "$count"
		a+=$RATE$'\n'
	done
	ratios=$(paste <(printf '%s' "$a") <(printf '%s' "$b") | awk '{ printf "%.2f\n", $1 / $2 }')
	A=$(printf '%s' "$a" | median)
	B=$(printf '%s' "$b" | median)
	RATIO=$(median <<<"$ratios")
}

# WAL bytes of one event, by mode.
wal()
{
	local before

	before=$(sql "SELECT pg_current_wal_insert_lsn()")
	rate "$1" 4 2000
	sql "SELECT round(pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '$before') / 2000)"
}

table_bytes()
{
	sql "SELECT round(sum(pg_total_relation_size(c.oid)) /
			(SELECT count(*) FROM $1)) FROM pg_class c
		 WHERE c.relkind = 'r' AND c.oid::regclass::text = ANY ('{$2}')"
}

main()
{
	cd "$WORK/tree"
	build_extension
	install_privately
	cluster_start "$WORK/cluster" "$WORK/socket" \
		"shared_buffers = 512MB" "checkpoint_timeout = 1h" \
		"min_wal_size = 3GB" "max_wal_size = 16GB"
	trap cluster_stop EXIT
	build_load
	createdb bench
	sql "CREATE EXTENSION stripe_sync"
	sql "SELECT stripe_sync.add_endpoint('default', 'whsec_bench')" >/dev/null
	sql "CREATE TABLE bare (id text PRIMARY KEY, payload jsonb)"
	age_wal
	rate insert 1 500
	rate receive 1 500
	printf '%s\n' "an event of $(wc -c <test/bench/event.json) bytes, $(nproc) processors, $("$PG_CONFIG" --version)"
	printf '%8s %10s %10s %6s %12s %10s %6s %10s %6s\n' clients insert/s receive/s ratio \
		redeliver/s select/s ratio probe/s ratio
	for clients in 1 4 16 32; do
		count=$((clients == 1 ? 4000 : 10000))
		pair receive insert "$clients" "$count"
		printf '%8s %10s %10s %6s' "$clients" "$B" "$A" "$RATIO"
		pair redeliver select "$clients" "$count"
		printf ' %12s %10s %6s' "$A" "$B" "$RATIO"
		pair redeliver probe "$clients" "$count"
		printf ' %10s %6s\n' "$B" "$RATIO"
	done
	printf 'WAL bytes an event: insert %s, receive %s\n' "$(wal insert)" "$(wal receive)"
	printf 'table and index bytes an event: bare %s, inbox %s, mirror %s\n' \
		"$(table_bytes bare bare)" \
		"$(table_bytes stripe_sync.event stripe_sync.event)" \
		"$(table_bytes stripe_sync.event stripe.invoices,stripe.line_items)"
	cat <<'NOTE'
select reads the payload by key, probe its key alone. The server's default
toast compression (pglz) serves the bare table, as it comes.
NOTE
}

main
