# shellcheck shell=bash
#
# lib.sh: what the parts of the benchmark share.
#
# Sourced by the second half of a part, after test/lib/server.sh.

sql() { psql -X -q -At -v ON_ERROR_STOP=1 -d bench -c "$1"; }

median() { sort -n | awk '{ a[NR] = $1 } END { print a[int((NR + 1) / 2)] }'; }

# Until a statement answers $2, or "t"; what never comes true is no benchmark.
await()
{
	local n

	for ((n = 0; n < 6000; n++)); do
		[ "$(sql "$1")" != "${2:-t}" ] || return 0
		sleep 0.02
	done
	die "it never came true: $1"
}

worker_pid() { sql "SELECT pid FROM stripe_sync.worker WHERE database = current_database()"; }

worker_sleeps()
{
	await "SELECT count(*) = 1 FROM stripe_sync.worker WHERE database = current_database() AND state IN ('sleeping', 'paused: slack')"
}

# Nanoseconds of the processor that a process has used.
cpu_of() { awk '{ print $1 }' "/proc/$1/schedstat"; }

# A server that has run for a while writes over its old WAL files; a new one
# makes each, zeros and all, while the clock runs.  So age it first.
age_wal()
{
	sql "CREATE TABLE junk AS SELECT repeat(md5(g::text), 60) FROM generate_series(1, 1000000) g"
	sql "DROP TABLE junk"
	sql "CHECKPOINT"
	sql "SELECT pg_switch_wal()" >/dev/null
	sql "CHECKPOINT"
}
