#!/usr/bin/env bash
#
# slack.sh: what a message to Slack costs: from commit to receipt, drained,
# queued, claimed with much waiting, and the worker when there is nothing to do.
#
# Run by test/bench/run as the server's user: a throw-away server with fsync
# on, the worker preloaded, the stub of Slack over TLS on the same machine.

set -euo pipefail
# shellcheck source=test/lib/common.sh
. "$(dirname "$0")/../lib/common.sh"
# shellcheck source=test/lib/server.sh
. "$(dirname "$0")/../lib/server.sh"
# shellcheck source=test/lib/slack.sh
. "$(dirname "$0")/../lib/slack.sh"
# shellcheck source=test/bench/lib.sh
. "$(dirname "$0")/lib.sh"

DESTINATIONS=100

finish()
{
	cluster_stop || true
	slack_stop
}

set_up()
{
	createdb bench
	sql "CREATE EXTENSION stripe_sync; CREATE EXTENSION pg_stat_statements"
	sql "SELECT count(stripe_sync.add_slack_webhook('place' || n, '$SLACK_URL/services/T0STUB/B' || lpad(n::text, 6, '0') || '/sEcReT'))
		FROM generate_series(1, $DESTINATIONS) n" >/dev/null
	# one for messages of which only the queueing is measured
	sql "SELECT stripe_sync.add_slack_webhook('later', '$SLACK_URL/services/T0STUB/B999999/sEcReT')" >/dev/null
	worker_sleeps
}

# ---- from commit to receipt ----

# One message every $2 ms.  The client takes the time before it sends the
# statement, so the transaction itself is counted too.
latency()
{
	local count=$1 pause=$2

	gcc -O2 -o "$WORK/latency" test/bench/latency.c \
		-I"$("$PG_CONFIG" --includedir)" -L"$("$PG_CONFIG" --libdir)" -lpq
	slack_control reset '{}' >/dev/null
	"$WORK/latency" "$count" "$pause" "host=$PGHOST user=postgres dbname=bench" >"$WORK/sent"
	await "SELECT count(*) = 0 FROM stripe_sync.message WHERE state IN ('waiting', 'sending')"
	python3 test/bench/percentiles.py "$WORK/sent" "$SLACK_DIR/requests.jsonl"
}

# The same while the worker looks at all items of the doctor every second, and
# while it doesn't, in turn.
latency_with_doctor()
{
	local round seconds

	for ((round = 0; round < ROUNDS; round++)); do
		for seconds in 1 0; do
			sql "ALTER SYSTEM SET stripe_sync.doctor_interval = $seconds"
			sql "SELECT pg_reload_conf()" >/dev/null
			await "SHOW stripe_sync.doctor_interval" "$([ "$seconds" = 0 ] && echo 0 || echo 1s)"
			printf 'doctor_interval %s s: ' "$seconds"
			latency 300 50
		done
	done
	[ "$(sql "SELECT count(*) > 40 FROM stripe_sync.finding")" = t ] || die "the doctor has not looked"
	sql "ALTER SYSTEM RESET stripe_sync.doctor_interval"
	sql "SELECT pg_reload_conf()" >/dev/null
}

# ---- draining ----

# $1 messages for all destinations, queued while nothing is sent; how long it
# then takes until the last is settled.
drain()
{
	local count=$1 began

	sql "SELECT stripe_sync.pause('slack')" >/dev/null
	sql "SELECT count(stripe_sync.notify('place' || 1 + n % $DESTINATIONS, 'Message ' || n || ' of a benchmark of stripe_sync'))
		FROM generate_series(1, $count) n" >/dev/null
	sql "CHECKPOINT"
	worker_sleeps
	began=$(sql "SELECT clock_timestamp() FROM stripe_sync.resume('slack')")
	await "SELECT NOT EXISTS (SELECT FROM stripe_sync.message WHERE state IN ('waiting', 'sending') AND destination <> 'later')"
	sql "SELECT round($count / extract(epoch FROM max(settled_at) - '$began')) FROM stripe_sync.message"
}

# ---- queueing ----

# Transactions a second of a statement, from one client for some seconds.
rate_of()
{
	printf '%s;\n' "$1" >"$WORK/script.sql"
	pgbench -n -M prepared -c 1 -T 4 -f "$WORK/script.sql" bench 2>/dev/null |
		sed -nE 's/^tps = ([0-9.]+) .*/\1/p'
}

# Beside a plain insert of the same row, with the same indexes.  While Slack is
# paused the worker is woken by each commit, looks, and sleeps again; what is due
# tomorrow doesn't wake it.
queueing()
{
	local what=$1 due=$2 round plain queued ratios=

	for ((round = 0; round < ROUNDS; round++)); do
		plain=$(rate_of "INSERT INTO plain (destination, method, payload, due_at)
			VALUES ('later', 'post', '{\"text\": \"A message of a benchmark of stripe_sync\"}', now() + interval '$due')")
		queued=$(rate_of "SELECT stripe_sync.notify('later', 'A message of a benchmark of stripe_sync', send_after => now() + interval '$due')")
		ratios+=$(awk "BEGIN { printf \"%.3f\", $plain / $queued }")$'\n'
		printf '  round %d: plain %.0f/s, notify %.0f/s\n' "$((round + 1))" "$plain" "$queued"
	done
	printf 'queueing, %s: %s times a plain insert of the same row (median of %d rounds)\n' "$what" \
		"$(printf '%s' "$ratios" | median)" "$ROUNDS"
	sql "TRUNCATE stripe_sync.message, stripe_sync.delivery, plain"
}

# ---- claiming ----

# Blocks and milliseconds of a claim, by the server's own count, while $1
# messages wait and some of them are sent.
claim_cost()
{
	local waiting=$1

	sql "SELECT stripe_sync.pause('slack')" >/dev/null
	sql "INSERT INTO stripe_sync.message (destination, method, payload, due_at)
		SELECT 'place' || 1 + n % $DESTINATIONS, 'post', jsonb_build_object('text', 'Message ' || n), now()
		FROM generate_series(1, $waiting) n"
	sql "VACUUM (ANALYZE) stripe_sync.message"
	sql "CHECKPOINT"
	worker_sleeps
	sql "SELECT pg_stat_statements_reset()" >/dev/null
	sql "SELECT stripe_sync.resume('slack')" >/dev/null
	await "SELECT count(*) >= 800 FROM (SELECT FROM stripe_sync.message WHERE state = 'sent' LIMIT 800) m"
	sql "SELECT stripe_sync.pause('slack')" >/dev/null
	worker_sleeps
	sql "SELECT format('  %s waiting: %s blocks and %s ms a claim', $waiting,
			round(sum((shared_blks_hit + shared_blks_read) / calls::numeric)), round(sum(total_exec_time / calls)::numeric, 2))
		FROM pg_stat_statements WHERE query LIKE 'WITH RECURSIVE head%' OR query LIKE 'WITH picked%'"
	sql "TRUNCATE stripe_sync.message, stripe_sync.delivery"
	sql "SELECT stripe_sync.resume('slack')" >/dev/null
}

# ---- idling ----

# Nanoseconds of the processor that worker and launcher use in so many seconds.
idle()
{
	local seconds=$1 worker launcher before after

	worker_sleeps
	worker=$(worker_pid)
	launcher=$(sql "SELECT pid FROM stripe_sync.worker WHERE database IS NULL")
	before=$(($(cpu_of "$worker") + $(cpu_of "$launcher")))
	sleep "$seconds"
	after=$(($(cpu_of "$worker") + $(cpu_of "$launcher")))
	awk "BEGIN { printf \"idle: %.4f %% of a core over %d s, worker and launcher\n\", ($after - $before) / 1e7 / $seconds, $seconds }"
}

main()
{
	local round rates=

	cd "$WORK/tree"
	build_extension
	install_privately
	slack_start "$WORK/slack"
	trap finish EXIT
	# shellcheck disable=SC2046
	cluster_start "$WORK/cluster" "$WORK/socket" \
		"shared_preload_libraries = 'stripe_sync, pg_stat_statements'" \
		"pg_stat_statements.track = none" "shared_buffers = 512MB" \
		"checkpoint_timeout = 1h" "min_wal_size = 3GB" "max_wal_size = 16GB" \
		"stripe_sync.slack_rate = 0" "$(slack_conf)"
	set_up
	say "$(nproc) processors, $("$PG_CONFIG" --version), fsync on, Slack is a stub over TLS on the same machine"
	idle "${IDLE:-60}"
	latency 100 400
	latency_with_doctor
	slack_control journal '{"enabled": false}' >/dev/null
	drain 2000 >/dev/null
	for ((round = 0; round < ROUNDS; round++)); do
		rates+=$(drain 10000)$'\n'
	done
	say "draining 10,000 messages to $DESTINATIONS destinations: $(printf '%s' "$rates" | median)/s (median of:$(printf ' %s' $rates))"
	sql "TRUNCATE stripe_sync.message, stripe_sync.delivery"
	sql "CREATE TABLE plain (LIKE stripe_sync.message INCLUDING ALL)"
	queueing "due tomorrow" "1 day"
	sql "SELECT stripe_sync.pause('slack')" >/dev/null
	queueing "due now, Slack paused" "0"
	sql "SELECT stripe_sync.resume('slack')" >/dev/null
	# it costs what is called from within a function more than what isn't
	sql "ALTER SYSTEM SET pg_stat_statements.track = 'all'"
	sql "SELECT pg_reload_conf()" >/dev/null
	await "SHOW pg_stat_statements.track" all
	say "claiming:"
	claim_cost 1000
	claim_cost 1000000
}

main
