#!/usr/bin/env bash
#
# stripe.sh: what reading Stripe back costs.
#
# Run by test/bench/run as the server's user: a throw-away server with fsync
# on, the worker preloaded, the stub of Stripe over TLS on the same machine.
#
# EVENTS and OBJECTS in the environment say how many there are to read, SIZE how
# many bytes an object has (of events the one inside), PARTS which of the two
# parts (reconcile, backfill) are measured.

set -euo pipefail
# shellcheck source=test/lib/common.sh
. "$(dirname "$0")/../lib/common.sh"
# shellcheck source=test/lib/server.sh
. "$(dirname "$0")/../lib/server.sh"
# shellcheck source=test/stub/place.sh
. "$(dirname "$0")/../stub/place.sh"
# shellcheck source=test/bench/lib.sh
. "$(dirname "$0")/lib.sh"

EVENTS=${EVENTS:-20000}
OBJECTS=${OBJECTS:-100000}
SIZE=${SIZE:-5000}
KEY=rk_test_bench_0123456789
# What is backfilled, and how much of it in a hundred
MIX=(customer 30 invoice 20 payment_intent 25 charge 25)

finish()
{
	cluster_stop || true
	kill "$STUB_PID" 2>/dev/null || true
}

# Is $1 $2 (-le, -ge, in awk's words) the goal $3?
judge() { awk "BEGIN { print ($1 $2 $3) ? \"OK\" : \"MISSED\" }"; }

calc() { awk "BEGIN { printf \"%.${2:-2}f\", $1 }"; }

set_up()
{
	createdb bench
	sql "CREATE EXTENSION stripe_sync"
	sql "SELECT stripe_sync.add_endpoint('default', 'whsec_bench')" >/dev/null
	sql "SELECT stripe_sync.set_api_key('$KEY')" >/dev/null
	WORKER=$(worker_pid)
}

# The RssAnon of process $1, in kB, five times a second.
watch_memory()
{
	local name value rest

	while sleep 0.2; do
		while read -r name value rest; do
			[ "$name" != RssAnon: ] || printf '%s\n' "$value"
		done <"/proc/$1/status" || return 0
	done >"$WORK/memory"
}

# Run a job to its end: sets JOB, and CPU and STUB_CPU to the seconds of
# processor that worker and stub have used.
job()
{
	local before stub watcher

	worker_sleeps
	before=$(cpu_of "$WORKER")
	stub=$(cpu_of "$STUB_PID")
	watch_memory "$WORKER" &
	watcher=$!
	JOB=$(sql "SELECT stripe_sync.$1")
	sql "CALL stripe_sync.wait_job($JOB, '10 minutes')" 2>"$WORK/progress" ||
		die "the job failed: $(tail -n 5 "$WORK/progress")"
	kill "$watcher"
	wait "$watcher" 2>/dev/null || true
	worker_sleeps				# it has reported its statistics
	CPU=$(calc "($(cpu_of "$WORKER") - $before) / 1e9" 6)
	STUB_CPU=$(calc "($(cpu_of "$STUB_PID") - $stub) / 1e9" 6)
}

of_job() { sql "SELECT $1 FROM stripe_sync.job WHERE id = $JOB"; }

# ---- reconcile, with nothing missing ----

# Probes of the inbox's key, and of its other indexes
probes()
{
	sql "SELECT sum(idx_scan) FROM pg_stat_user_indexes
		WHERE relid = 'stripe_sync.event'::regclass AND (indexrelname = 'event_pkey') = $1"
}

# Milliseconds of processor that curl needs for a page of events, read $1 times
# over one connection and thrown away: what no reader can do without.
bare_page()
{
	local n user system TIMEFORMAT='%U %S'

	for ((n = 0; n < $1; n++)); do
		say "url = \"$STRIPE/v1/events?limit=100\""
		say "output = /dev/null"
	done >"$WORK/pages"
	read -r user system < <({ time curl -q -s -f --cacert "$STUB_CA" \
		-H @<(say "Authorization: Bearer $KEY") -K "$WORK/pages"; } 2>&1)
	calc "($user + $system) * 1000 / $1" 3
}

reconcile()
{
	local round pages objects key others cpu bare each cpus='' keys='' bares=''

	stub_control fill "{\"type\": \"invoice\", \"count\": $EVENTS, \"size\": $SIZE, \"events\": true,
		\"since\": $(($(date +%s) - 20 * 86400)), \"until\": $(($(date +%s) - 3600))}" >/dev/null
	job "reconcile('30 days')"
	say "reconcile: $(of_job "missing || ' events of ' || (SELECT round(avg(octet_length(payload::text))) FROM stripe_sync.event) || ' bytes brought in at ' || round(objects / extract(epoch FROM finished_at - started_at))") a second"
	await "SELECT NOT EXISTS (SELECT FROM stripe_sync.event WHERE todo <> '{}')"
	sql "VACUUM (ANALYZE) stripe_sync.event"
	sql "CHECKPOINT"
	for ((round = 1; round <= ROUNDS; round++)); do
		key=$(probes true)
		others=$(probes false)
		job "reconcile('30 days')"
		[ "$(of_job missing)" = 0 ] || die "events were missing"
		pages=$(of_job pages)
		objects=$(of_job objects)
		each=$(calc "($(probes true) - $key) / $objects" 3)
		cpu=$(calc "$CPU * 1000 / $pages" 3)
		bare=$(bare_page "$pages")
		say "  round $round: $objects events in $pages pages, $cpu ms of processor a page, curl alone $bare;" \
			"$each probes of the key an event, $(($(probes false) - others)) of other indexes"
		cpus+=$cpu$'\n'
		bares+=$bare$'\n'
		keys+=$each$'\n'
	done
	cpu=$(printf '%s' "$cpus" | median)
	bare=$(printf '%s' "$bares" | median)
	each=$(printf '%s' "$keys" | median)
	say "reconcile, nothing missing: $cpu ms a page (goal: under 1) $(judge "$cpu" '<' 1), curl alone $bare," \
		"$each probes an event (goal: 1) $(judge "$each" '<' 1.01)"
}

# ---- backfill ----

fill()
{
	local i

	stub_control reset '{}' >/dev/null
	for ((i = 0; i < ${#MIX[@]}; i += 2)); do
		stub_control fill "{\"type\": \"${MIX[i]}\", \"count\": $((OBJECTS * MIX[i + 1] / 100)), \"size\": $SIZE}" >/dev/null
	done
}

# The most of the samples in so many hundredths of the run, in MB
memory()						# from to
{
	awk -v from="$1" -v to="$2" '{ a[NR] = $1 }
		END { for (i = 1; i <= NR; i++) if (i > NR * from / 100 && i <= NR * to / 100 && a[i] > most) most = a[i];
			printf "%.1f", most / 1024 }' "$WORK/memory"
}

backfill()
{
	local round types rate memory early late rates='' memories='' growths='' tables

	fill
	types=$(printf '%s\n' "${MIX[@]}" | sed -n 'p;n' | paste -sd ,)
	tables=$(sql "SELECT string_agg(format('stripe.%I', table_name), ', ') FROM stripe_sync.object_type
		WHERE object_type = ANY ('{$types,line_item}')")
	for ((round = 1; round <= ROUNDS; round++)); do
		sql "TRUNCATE $tables, stripe_sync.event, stripe_sync.reading"
		sql "CHECKPOINT"
		job "backfill('{$types}')"
		[ "$(of_job "objects = $OBJECTS AND error IS NULL")" = t ] || die "it is not whole: $(of_job "concat_ws(' ', objects, error)")"
		[ "$(sql "SELECT count(*) FROM stripe.customers")" = $((OBJECTS * MIX[1] / 100)) ] || die "the mirror is not whole"
		rate=$(of_job "round(objects / extract(epoch FROM finished_at - started_at))")
		early=$(memory 25 50)
		late=$(memory 75 100)
		memory=$(memory 0 100)
		say "  round $round: $rate objects a second; processor: worker $(calc "$CPU * 1e6 / $OBJECTS" 0) and stub" \
			"$(calc "$STUB_CPU * 1e6 / $OBJECTS" 0) microseconds an object; the worker's own memory: $memory MB at most" \
			"($early in the second quarter, $late in the last)"
		rates+=$rate$'\n'
		memories+=$memory$'\n'
		growths+=$(calc "$late - $early" 1)$'\n'
	done
	rate=$(printf '%s' "$rates" | median)
	memory=$(printf '%s' "$memories" | sort -n | tail -n 1)
	late=$(printf '%s' "$growths" | median)
	say "backfill of $OBJECTS objects of $SIZE bytes: $rate a second (goal: 5000) $(judge "$rate" '>=' 5000)," \
		"$memory MB (goal: under 64) $(judge "$memory" '<' 64), grown by $late MB (goal: under 4) $(judge "$late" '<' 4)"
}

main()
{
	local part settings

	cd "$WORK/tree"
	build_extension
	install_privately
	stub_launch stripe
	trap finish EXIT
	readarray -t settings < <(stub_settings)
	cluster_start "$WORK/cluster" "$WORK/socket" "shared_preload_libraries = 'stripe_sync'" \
		"shared_buffers = 512MB" "checkpoint_timeout = 1h" "min_wal_size = 3GB" "max_wal_size = 16GB" \
		"stripe_sync.reconcile_interval = 0" "stripe_sync.stripe_rate = 100" "${settings[@]}"
	set_up
	say "$(nproc) processors, $("$PG_CONFIG" --version), fsync on, Stripe is a stub over TLS on the same machine"
	age_wal
	for part in ${PARTS:-reconcile backfill}; do
		"$part"
	done
}

main
