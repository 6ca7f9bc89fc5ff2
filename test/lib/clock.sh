#!/usr/bin/env bash
#
# clock.sh: build, install, run the regression tests for each combination of a
# date, a time and a zone, count them.
#
# The second half of test/clock (which see).  Leaves a line "passed failed skipped"
# in $WORK/results, then one for each combination as jobs_wait prints it.
#
# What is varied is the server's clock, by a library that is preloaded (see ahead.c),
# and its zone: the environment's, its own settings' and, as psql would ask for
# another one, the sessions'.  pg_regress and psql have the true time.  Tests that
# show times set their session's zone to UTC.

set -euo pipefail
# shellcheck source=test/lib/common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source=test/lib/server.sh
. "$(dirname "$0")/server.sh"
# shellcheck source=test/lib/jobs.sh
. "$(dirname "$0")/jobs.sh"

ZONES=(UTC Asia/Kathmandu America/St_Johns)
DATES=(2028-02-29 2027-03-14 2027-11-07)
TIMES=(00:05 02:00 12:00 23:55)

passed=0
failed=1						# whatever ends this script before its end is a failure
skipped=0

finish() { results_write "$WORK/results" "$passed" "$failed" "$skipped" "$WORK/job_results"; }

interrupt()
{
	jobs_interrupt
	exit 130
}

# ---- a combination ----

# When it is $3 on day $2 in zone $1, in seconds.  A time that a clock going
# forward leaves out is the moment when it does.
instant()
{
	local hour minute

	TZ=$1 date -d "$2 $3" +%s 2>/dev/null && return
	IFS=: read -r hour minute <<<"$3"
	say $(($(TZ=$1 date -d "$2 00:00" +%s) + (10#$hour * 60 + 10#$minute) * 60))
}

# Start the server in zone $1, its clock $2 seconds ahead.
start_ahead()
{
	cp -a "$WORK/cluster" "$JOB/cluster"
	printf '%s\n' "unix_socket_directories = '$JOB'" "timezone = '$1'" \
		"log_timezone = '$1'" >>"$JOB/cluster/postgresql.conf"
	env TZ="$1" LD_PRELOAD="$WORK/ahead.so" STRIPE_SYNC_AHEAD="$2" \
		"$BINDIR/pg_ctl" -D "$JOB/cluster" -l "$JOB/server.log" -w -s start ||
		{ tail -n 20 "$JOB/server.log"; return 1; }
	export PGHOST=$JOB PGUSER=postgres
}

# Do sessions have the zone $1, and a clock that is $2 seconds ahead?
check_clock()
{
	local zone ahead
	# as pg_regress does
	local -x PGTZ=America/Los_Angeles

	zone=$($LAUNCHER "$BINDIR/psql" -XAtd postgres -c "SHOW timezone")
	ahead=$(($($LAUNCHER "$BINDIR/psql" -XAtd postgres -c \
		"SELECT floor(extract(epoch FROM now()))") - EPOCHSECONDS))
	say "in a session it is" "$($LAUNCHER "$BINDIR/psql" -XAtd postgres -c "SELECT now()") in $zone"
	if [ "$zone" != "$1" ] || [ $((ahead - $2)) -gt 1 ] || [ $((ahead - $2)) -lt -60 ]; then
		say "wanted: zone $1, $2 s ahead; got: zone $zone, $ahead s ahead"
		return 1
	fi
}

# Run tests $4... in zone $1, on day $2, at $3.
combination_command()
{
	local zone=$1 ahead status=0

	ahead=$(($(instant "$1" "$2" "$3") - EPOCHSECONDS))
	shift 3
	start_ahead "$zone" "$ahead"
	# pg_regress sets another PGTZ for psql
	LAUNCHER="env PGTZ=$zone"
	check_clock "$zone" "$ahead"
	"$PG_REGRESS" --inputdir=. --outputdir="$JOB" --bindir="$BINDIR" --host="$PGHOST" \
		--user="$PGUSER" --dbname=clock --launcher="$LAUNCHER" "$@" || status=$?
	cat "$JOB/regression.diffs" 2>/dev/null || true
	if grep -E 'was terminated by signal|PANIC:|TRAP:' "$JOB/server.log"; then
		status=1
	fi
	"$BINDIR/pg_ctl" -D "$JOB/cluster" -m fast -w -s stop
	return "$status"
}

# What isn't reported as passed has failed, of COUNT tests.  The report is TAP from
# 16 on.
judge_combination()
{
	local p f

	p=$(grep -Ec '^test .* \.\.\. ok |^ok [0-9]+ ' "$1" || true)
	f=$((COUNT - p))
	if [ "$2" -ne 0 ] && [ "$f" -eq 0 ]; then
		f=1
	fi
	say "$p $f 0"
}

# ---- all of them ----

run_combinations()
{
	local zone date time

	jobs_begin "$WORK/j"
	for date in "${DATES[@]}"; do
		for time in "${TIMES[@]}"; do
			for zone in "${ZONES[@]}"; do
				job_start "clock:${zone}_${date}_$time" judge_combination \
					bash -euo pipefail -c 'combination_command "$@"' bash \
					"$zone" "$date" "$time" "$@"
			done
		done
	done
	jobs_wait >"$WORK/job_results"
	read -r passed failed skipped < <(results_sum "$WORK/job_results")
}

main()
{
	local tests

	cd "$WORK/tree"
	trap finish EXIT
	trap interrupt INT TERM
	PG_REGRESS=$(dirname "$("$PG_CONFIG" --pgxs)")/../test/regress/pg_regress
	read -ra tests <<<"${*:-$(make -s PG_CONFIG="$PG_CONFIG" print-REGRESS)}"
	COUNT=${#tests[@]}
	export PG_REGRESS COUNT
	export -f say instant start_ahead check_clock combination_command
	build_extension
	install_privately
	gcc -O2 -Wall -Werror -shared -fPIC -o "$WORK/ahead.so" test/lib/ahead.c
	# copied for each combination
	cluster_make "$WORK/cluster" "fsync = off" "autovacuum = off" "max_prepared_transactions = 10"
	say "$((${#ZONES[@]} * ${#DATES[@]} * ${#TIMES[@]})) combinations of $COUNT tests"
	run_combinations "${tests[@]}"
}

main "$@"
