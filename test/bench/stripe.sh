#!/usr/bin/env bash
#
# stripe.sh: what reading Stripe back costs.
#
# Run by test/bench/run as the server's user: a throw-away server with fsync
# on, the worker preloaded, the stub of Stripe over TLS on the same machine.
#
# EVENTS and OBJECTS in the environment say how many there are to read.

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
SIZE=5000						# bytes of an object

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
	sql "SELECT stripe_sync.set_api_key('rk_test_bench_0123456789')" >/dev/null
	WORKER=$(worker_pid)
}

# Run a job to its end: sets JOB, and CPU to the worker's seconds of processor.
job()
{
	local before

	worker_sleeps
	before=$(cpu_of "$WORKER")
	JOB=$(sql "SELECT stripe_sync.$1")
	sql "CALL stripe_sync.wait_job($JOB, '10 minutes')" 2>"$WORK/progress" ||
		die "the job failed: $(tail -n 5 "$WORK/progress")"
	worker_sleeps				# it has reported its statistics
	CPU=$(calc "($(cpu_of "$WORKER") - $before) / 1e9" 6)
}

of_job() { sql "SELECT $1 FROM stripe_sync.job WHERE id = $JOB"; }

# ---- reconcile, with nothing missing ----

# Probes of the inbox's key, and of its other indexes
probes()
{
	sql "SELECT sum(idx_scan) FROM pg_stat_user_indexes
		WHERE relid = 'stripe_sync.event'::regclass AND (indexrelname = 'event_pkey') = $1"
}

reconcile()
{
	local round pages objects key others cpu each cpus='' keys=''

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
		say "  round $round: $objects events in $pages pages, $cpu ms of processor a page;" \
			"$each probes of the key an event, $(($(probes false) - others)) of other indexes"
		cpus+=$cpu$'\n'
		keys+=$each$'\n'
	done
	cpu=$(printf '%s' "$cpus" | median)
	each=$(printf '%s' "$keys" | median)
	say "reconcile, nothing missing: $cpu ms a page (goal: under 1) $(judge "$cpu" '<' 1)," \
		"$each probes an event (goal: 1) $(judge "$each" '<' 1.01)"
}

main()
{
	cd "$WORK/tree"
	build_extension
	install_privately
	stub_launch stripe
	trap finish EXIT
	cluster_start "$WORK/cluster" "$WORK/socket" "shared_preload_libraries = 'stripe_sync'" \
		"shared_buffers = 512MB" "checkpoint_timeout = 1h" "min_wal_size = 3GB" "max_wal_size = 16GB" \
		"stripe_sync.reconcile_interval = 0" "stripe_sync.stripe_rate = 100" \
		"stripe_sync.stripe_api_base = '$STRIPE'" "stripe_sync.ca_file = '$STUB_CA'"
	set_up
	say "$(nproc) processors, $("$PG_CONFIG" --version), fsync on, Stripe is a stub over TLS on the same machine"
	reconcile
}

main
