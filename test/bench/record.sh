#!/usr/bin/env bash
#
# record.sh: what it costs receive() to record which handlers ran.
#
# Run by test/bench/run as the server's user.  Two builds of the library, which
# differ in whether steps.c records, take turns in one cluster: PAIRS pairs (20),
# each second one in the other order.  Prints the median of the pairs' ratios
# (time with over time without) and its 95 % interval, that is for 20 pairs
# from the 6th to the 15th of them in order: with a handler that inserts a row,
# and without any, where nothing is recorded.

set -euo pipefail
# shellcheck source=test/lib/common.sh
. "$(dirname "$0")/../lib/common.sh"
# shellcheck source=test/lib/server.sh
. "$(dirname "$0")/../lib/server.sh"
# shellcheck source=test/bench/lib.sh
. "$(dirname "$0")/lib.sh"

PAIRS=${PAIRS:-20}
COUNT=${COUNT:-2000}
FIRST=1

build_load()
{
	gcc -O2 -o "$WORK/load" test/bench/load.c src/inbox/signature.c src/inbox/hmac.c -Isrc \
		-I"$("$PG_CONFIG" --includedir)" -L"$("$PG_CONFIG" --libdir)" \
		-lpq -lcrypto -lpthread
}

# The same library without recording.
build_other()
{
	cp stripe_sync.so "$WORK/with.so"
	sed -i -e '/^\trecord_run(runs,/,/;$/c\	(void) started, (void) after;' \
		-e '/^\trecord_runs(run->event/d' src/receive/steps.c
	make -s PG_CONFIG="$PG_CONFIG" all
	cp stripe_sync.so "$WORK/without.so"
	! cmp -s "$WORK/with.so" "$WORK/without.so" || die "both builds are the same"
}

# The next sessions have this one.
use()
{
	cp "$WORK/$1.so" "$LIBRARY.new"
	mv "$LIBRARY.new" "$LIBRARY"
}

# Seconds for COUNT new events, with this library.
seconds()
{
	use "$1"
	"$WORK/load" receive 1 "$COUNT" "$FIRST" test/bench/event.json \
		"host=$PGHOST user=postgres dbname=bench" | awk '{ print $2 }'
}

run_pairs()
{
	local n with without ratios=""

	for ((n = 0; n < PAIRS; n++)); do
		if ((n % 2)); then
			with=$(seconds with); FIRST=$((FIRST + COUNT))
			without=$(seconds without); FIRST=$((FIRST + COUNT))
		else
			without=$(seconds without); FIRST=$((FIRST + COUNT))
			with=$(seconds with); FIRST=$((FIRST + COUNT))
		fi
		ratios+=$(awk -v a="$with" -v b="$without" 'BEGIN { printf "%.4f", a / b }')$'\n'
	done
	printf '%s' "$ratios" | sort -n | awk -v what="$1" '{ r[NR] = $1 } END {
		half = 0.98 * sqrt(NR); low = int(NR / 2 - half + 0.5); high = NR + 1 - low
		if (low < 1) { low = 1; high = NR }
		median = NR % 2 ? r[(NR + 1) / 2] : (r[NR / 2] + r[NR / 2 + 1]) / 2
		printf "%-28s %d pairs: median %+.1f %%, 95 %% interval %+.1f %% to %+.1f %%\n",
			what, NR, (median - 1) * 100, (r[low] - 1) * 100, (r[high] - 1) * 100 }'
}

main()
{
	cd "$WORK/tree"
	build_extension
	install_privately
	LIBRARY=$WORK/install$("$PG_CONFIG" --pkglibdir)/stripe_sync.so
	build_load
	build_other
	cluster_start "$WORK/cluster" "$WORK/socket" \
		"shared_buffers = 512MB" "checkpoint_timeout = 1h" \
		"min_wal_size = 3GB" "max_wal_size = 16GB" "autovacuum = off"
	trap cluster_stop EXIT
	createdb bench
	sql "CREATE EXTENSION stripe_sync"
	sql "SELECT stripe_sync.add_endpoint('default', 'whsec_bench')" >/dev/null
	age_wal
	seconds with >/dev/null
	FIRST=$((FIRST + COUNT))
	printf '%s\n' "$(nproc) processors, load $(cut -d ' ' -f 1 /proc/loadavg), $("$PG_CONFIG" --version), $COUNT events a run"
	run_pairs "without a handler:"
	sql "CREATE TABLE seen (id text)"
	sql "CREATE FUNCTION seen(event jsonb) RETURNS void LANGUAGE plpgsql AS \$\$ BEGIN INSERT INTO public.seen VALUES (event->>'id'); END \$\$"
	sql "SELECT stripe_sync.add_handler('seen', 'invoice.*', 'seen')" >/dev/null
	run_pairs "with one that inserts a row:"
	[ "$(sql "SELECT count(*) > 0 FROM stripe_sync.handler_run")" = t ] ||
		die "nothing was recorded"
}

main
