#!/usr/bin/env bash
#
# record.sh: what it costs receive() to count, and to record which handlers ran;
# and what the indexes cost that trace() reads the inbox by.
#
# Run by test/bench/run as the server's user.  Two servers with the library
# preloaded take turns, PAIRS times (20), each second time in the other order;
# after half of the pairs they change places.  First one has a library that
# neither counts nor records; then one has an inbox without event_request_idx and
# without the idempotency key in event_received_idx.
#
# Prints the median of the pairs' ratios (with over without) and its 95 %
# interval, that is for 20 pairs from the 6th to the 15th of them in order: of
# the time, and of what the server process has used of the processor, which other
# programs on the machine disturb less.  fsync is off: the disk's time would hide
# the difference.

set -euo pipefail
# shellcheck source=test/lib/common.sh
. "$(dirname "$0")/../lib/common.sh"
# shellcheck source=test/lib/server.sh
. "$(dirname "$0")/../lib/server.sh"
# shellcheck source=test/bench/lib.sh
. "$(dirname "$0")/lib.sh"

PAIRS=${PAIRS:-20}
COUNT=${COUNT:-1000}
FIRST=1
SERVERS="a b"

build_load()
{
	gcc -O2 -o "$WORK/load" test/bench/load.c src/inbox/signature.c src/inbox/hmac.c -Isrc \
		-I"$("$PG_CONFIG" --includedir)" -L"$("$PG_CONFIG" --libdir)" \
		-lpq -lcrypto -lpthread
}

# The same library without counting and recording.
build_other()
{
	cp stripe_sync.so "$WORK/with.so"
	sed -i -e '/^\trecord_run(runs,/,/;$/c\	(void) started, (void) after;' \
		-e '/^\trecord_runs(run->event/d' \
		-e '/^\tcounter_add(/d' src/receive/steps.c
	sed -i '/^\treceive_count_/d' src/receive/receive.c
	sed -i '/^\t*counters_init();/d' src/worker/stripe_sync.c
	make -s PG_CONFIG="$PG_CONFIG" all
	cp stripe_sync.so "$WORK/without.so"
	! cmp -s "$WORK/with.so" "$WORK/without.so" || die "both builds are the same"
}

# ---- two servers ----

# Statements that follow go to this one.
use() { export PGHOST=$WORK/socket.$1 CLUSTER=$WORK/cluster.$1; }

# Start a server with the library $2.  A server that runs keeps the file that it
# has loaded.
start()
{
	use "$1"
	cp "$WORK/$2.so" "$LIBRARY.new"
	mv "$LIBRARY.new" "$LIBRARY"
	pg_ctl -D "$CLUSTER" -l "$WORK/server.log" -w -s start
}

stop_all()
{
	local server

	for server in $SERVERS; do
		use "$server"
		cluster_stop
	done
}

# A server with library $2, nothing else.
make_server()
{
	mkdir -m 700 "$WORK/socket.$1"
	use "$1"
	cluster_make "$CLUSTER" "unix_socket_directories = '$PGHOST'" \
		"shared_preload_libraries = 'stripe_sync'" "shared_buffers = 512MB" \
		"checkpoint_timeout = 1h" "min_wal_size = 3GB" "max_wal_size = 16GB" \
		"autovacuum = off" "fsync = off" "stripe_sync.outbound = off"
	start "$1" "$2"
	createdb bench
	sql "CREATE EXTENSION stripe_sync"
	sql "SELECT stripe_sync.add_endpoint('default', 'whsec_bench')" >/dev/null
	age_wal
}

# ---- pairs ----

# Sets MEASURED to the seconds and the processor's seconds of COUNT new events on
# a server.  Both servers receive the same events.
measure()
{
	use "$1"
	MEASURED=$("$WORK/load" receive 1 "$COUNT" "$FIRST" "$WORK/event.json" \
		"host=$PGHOST user=postgres dbname=bench" | awk '{ print $2, $3 }')
}

# Ratios of a pair: $1 with, $2 without; $3 is which of them is first.
pair()
{
	local with without

	if [ "$3" -eq 0 ]; then
		measure "$1"; with=$MEASURED
		measure "$2"; without=$MEASURED
	else
		measure "$2"; without=$MEASURED
		measure "$1"; with=$MEASURED
	fi
	FIRST=$((FIRST + COUNT))
	awk -v with="$with" -v without="$without" 'BEGIN {
		split(with, a); split(without, b); printf "%.5f %.5f\n", a[1] / b[1], a[2] / b[2] }' >>"$WORK/ratios"
}

# $1 pairs, server $2 with, $3 without.
run_pairs()
{
	local n

	measure "$2"
	measure "$3"
	FIRST=$((FIRST + COUNT))
	for ((n = 0; n < $1; n++)); do
		pair "$2" "$3" $((n % 2))
	done
}

# What $1 the ratios of column $2 say.
print_ratios()
{
	awk -v column="$2" '{ print $column }' "$WORK/ratios" | sort -n | awk -v what="$1" '{ r[NR] = $1 } END {
		half = 0.98 * sqrt(NR); low = int(NR / 2 - half + 0.5); high = NR + 1 - low
		if (low < 1) { low = 1; high = NR }
		median = NR % 2 ? r[(NR + 1) / 2] : (r[NR / 2] + r[NR / 2 + 1]) / 2
		printf "  %-34s %d pairs: median %+.1f %%, 95 %% interval %+.1f %% to %+.1f %%\n",
			what, NR, (median - 1) * 100, (r[low] - 1) * 100, (r[high] - 1) * 100 }'
}

# $2 A B is run before pairs with A and without B, and again with the two swapped.
compare()
{
	: >"$WORK/ratios"
	"$2" a b
	run_pairs $(((PAIRS + 1) / 2)) a b
	"$2" b a
	run_pairs $((PAIRS / 2)) b a
	say "$1"
	print_ratios "time" 1
	print_ratios "processor" 2
}

# ---- what is compared ----

change_libraries()
{
	stop_all
	start "$1" with
	start "$2" without
}

# A range that is still filled has no summary, other than after CREATE INDEX.
last_range()
{
	sql "SELECT brin_desummarize_range('stripe_sync.event_received_idx',
		pg_relation_size('stripe_sync.event') / current_setting('block_size')::bigint)" >/dev/null
}

change_indexes()
{
	use "$1"
	sql "SET client_min_messages = error; DROP INDEX IF EXISTS stripe_sync.event_request_idx, stripe_sync.event_received_idx"
	sql "CREATE INDEX event_request_idx ON stripe_sync.event (request_id) WHERE request_id IS NOT NULL;
		CREATE INDEX event_received_idx ON stripe_sync.event USING brin (received_at, idempotency_key pg_catalog.text_bloom_ops (n_distinct_per_range = 1000))"
	last_range
	use "$2"
	sql "SET client_min_messages = error; DROP INDEX IF EXISTS stripe_sync.event_request_idx, stripe_sync.event_received_idx"
	sql "CREATE INDEX event_received_idx ON stripe_sync.event USING brin (received_at)"
	last_range
}

same_libraries()
{
	stop_all
	start "$1" with
	start "$2" with
}

add_handlers()
{
	local server

	for server in $SERVERS; do
		use "$server"
		sql "CREATE TABLE seen (id text)"
		sql "CREATE FUNCTION seen(event jsonb) RETURNS void LANGUAGE plpgsql AS \$\$ BEGIN INSERT INTO public.seen VALUES (event->>'id'); END \$\$"
		sql "SELECT stripe_sync.add_handler('seen', 'invoice.*', 'seen')" >/dev/null
	done
}

check_counted()
{
	use b
	[ "$(sql "SELECT count(*) > 0 FROM stripe_sync.handler_run")" = t ] ||
		die "no handler's run was recorded"
	[ "$(sql "SELECT stripe_sync.metrics() ~ 'stripe_sync_events_total\{[^}]*\} [1-9]'")" = t ] ||
		die "nothing was counted"
}

main()
{
	cd "$WORK/tree"
	build_extension
	install_privately
	LIBRARY=$WORK/install$("$PG_CONFIG" --pkglibdir)/stripe_sync.so
	build_load
	build_other
	trap stop_all EXIT
	make_server a with
	make_server b without
	# most events have both
	sed -e '/"request": {/,/}/{s/"id": null/"id": "req_@R@"/;s/"idempotency_key": null/"idempotency_key": "key-@R@"/}' \
		test/bench/event.json >"$WORK/event.json"
	say "$(nproc) processors, load $(cut -d ' ' -f 1 /proc/loadavg), $("$PG_CONFIG" --version), $COUNT events a run"
	compare "counters, no handler:" change_libraries
	add_handlers
	compare "counters and a handler's record:" change_libraries
	check_counted
	same_libraries a b
	compare "indexes for trace():" change_indexes
}

main
