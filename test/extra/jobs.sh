#!/usr/bin/env bash
#
# jobs.sh: the runner of tests (test/lib/jobs.sh) itself: what fails, hangs, leaves
# something running or says nothing is found, named and counted, and nothing
# waits for ever.
#
# Prints TAP.

# the programs' words are not this shell's to expand
# shellcheck disable=SC2016

set -euo pipefail
# shellcheck source=test/front/lib.sh
. "$(dirname "$0")/../front/lib.sh"
# shellcheck source=test/lib/jobs.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/jobs.sh"

# A program in $PLACE that prints and does what the rest says.
program()						# name line...
{
	local file=$PLACE/$1
	shift

	printf '%s\n' '#!/bin/bash' "$@" >"$file"
	chmod 755 "$file"
}

# Run the programs side by side, with so long for each: lines of what is printed
# are in $PLACE/printed, the results in $PLACE/results.
run_jobs()						# jobs limit name...
{
	local name
	unset STRIPE_SYNC_SLOTS
	export STRIPE_SYNC_JOBS=$1 PLACE
	LIMIT=$2
	GRACE=1
	shift 2

	rm -rf "$PLACE/jobs"
	jobs_names=()
	jobs_pids=()
	jobs_begin "$PLACE/jobs"
	for name in "$@"; do
		job_start "x:$name" judge_program "$PLACE/$name" >>"$PLACE/printed"
	done
	jobs_wait >"$PLACE/results"
	slots_left=$(slots_count)
	slot_close
}

# How many slots are free
slots_count()
{
	local n=0

	while IFS= read -r -t 0 -u "$STRIPE_SYNC_SLOTS"; do
		slot_take
		n=$((n + 1))
	done
	say "$n"
}

result() { awk -v name="x:$1" '$5 == name { print $1, $2, $3 }' "$PLACE/results"; }
printed() { grep -E "^$1 .* x:$2 " "$PLACE/printed" | sed -E 's/ +[0-9.]+ s +/ /'; }
# Whoever is to hear of its end may not have heard yet.
is_running() { { tr -d '\0' <"/proc/$(cat "$PLACE/$1")/cmdline"; } 2>/dev/null | grep -q .; }

# Until the command succeeds, a minute at most
await()
{
	local n

	for ((n = 0; n < 3000; n++)); do
		"$@" && return
		sleep 0.02
	done
	return 1
}

is_gone() { await not is_running "$1"; }
not() { ! "$@"; }

check_results()
{
	program passes 'echo "ok 1 - a"; echo "ok 2 - b # SKIP no b"; echo "1..2"'
	program fails 'echo "ok 1 - a"; echo "not ok 2 - b"; echo "1..2"; exit 1'
	program dies 'echo "ok 1 - a"; kill -SEGV $$'
	program says_nothing 'exit 0'
	program exits 'exit 3'
	program skips 'echo "1..0 # SKIP no such thing here"'
	program skips_too 'exit 77'
	program stops 'echo "ok 1 - a"; echo "1..2"'
	program plans_nothing 'echo "ok 1 - a"'
	program removes 'echo "ok 1 - a"; echo "1..1"; rm -rf "$JOB"'
	run_jobs 3 60 passes exits fails dies says_nothing skips skips_too \
		stops plans_nothing removes
	is "$(result passes)" "1 0 1" "a test passes"
	is "$(result fails)" "1 1 0" "a test fails"
	is "$(result dies)" "1 1 0" "a test that dies has failed, whatever it said before"
	is "$(result says_nothing)" "1 0 0" "a program without test points passes by its exit status"
	is "$(result exits)" "0 1 0" "and fails by it"
	ok "$([ -s "$PLACE/jobs/x.exits/result" ]; echo $?)" "one that fails and says nothing is noted as any other"
	is "$(result stops) $(result plans_nothing)" "1 1 0 1 1 0" "so has one that stops before its plan, or has none"
	is "$(result removes)" "0 1 0" "and one that removes its directory"
	is "$slots_left" 3 "every job has given its slot back"
	is "$(result skips) $(result skips_too)" "0 0 1 0 0 1" "tests are skipped"
	is "$(printed ok passes)" "ok x:passes (1 passed, 1 skipped)" "a result is printed with its name"
	is "$(printed FAILED fails)" "FAILED x:fails (1 passed, 1 failed, exit status 1)" "a failure too"
	is "$(grep -c '^    not ok 2 - b$' "$PLACE/printed")" 1 "and what it said"
	is "$(grep -cE '^[a-zA-Z]+ +[0-9]+\.[0-9] s  x:' "$PLACE/printed")" 10 "each with its seconds"
}

# Each waits for the other, so they end only when both run.
check_together()
{
	program left 'touch "$PLACE/l"; while [ ! -e "$PLACE/r" ]; do sleep 0.02; done'
	program right 'touch "$PLACE/r"; while [ ! -e "$PLACE/l" ]; do sleep 0.02; done'
	run_jobs 2 600 left right
	is "$(result left) $(result right)" "1 0 0 1 0 0" "two run at the same time"
}

is_free() { IFS= read -r -t 0 -u "$STRIPE_SYNC_SLOTS"; }

check_slots()
{
	unset STRIPE_SYNC_SLOTS
	STRIPE_SYNC_JOBS=2 slots_open
	slot_take
	ok "$(is_free; echo $?)" "of two slots one is free while the other is taken"
	slot_take
	ok "$(not is_free; echo $?)" "and none when both are"
	slot_give
	ok "$(is_free; echo $?)" "one that is given back is free"
	slot_close
}

check_hangs()
{
	local began=$SECONDS

	program hangs 'trap "" TERM; echo $$ >"$PLACE/pid"; echo "ok 1 - a"; while :; do sleep 600; done'
	program after 'exit 0'
	run_jobs 1 5 hangs after
	is "$(result hangs)" "1 1 0" "a test that hangs has failed"
	is "$(printed FAILED hangs)" "FAILED x:hangs (1 passed, 1 failed, exit status 137: ended after its limit of 5 s)" \
		"which is said"
	is "$(result after) $slots_left" "1 0 0 1" "the next one runs in its slot"
	ok "$(is_gone pid; echo $?)" "and it is gone, though it ignores SIGTERM"
	ok "$([ $((SECONDS - began)) -lt 300 ]; echo $?)" "soon"
}

check_left_behind()
{
	program leaves 'setsid sleep 600 >/dev/null 2>&1 & echo $! >"$PLACE/pid"'
	program works_there 'mkdir "$JOB/data"; cd "$JOB/data"; env -u JOB setsid sleep 600 >/dev/null 2>&1 & echo $! >"$PLACE/pid2"'
	run_jobs 2 60 leaves works_there
	is "$(result leaves) $(result works_there)" "1 0 0 1 0 0" "tests that leave something running"
	ok "$(is_gone pid; echo $?)" "a process that is left behind is ended"
	ok "$(is_gone pid2; echo $?)" "one that only works in the test's directory too"
}

# A driver that is told to end takes its jobs with it.
check_interrupted()
{
	local driver

	rm -f "$PLACE/pid"
	printf '%s\n' '. "$ROOT/test/lib/common.sh"; . "$ROOT/test/lib/jobs.sh"; set -euo pipefail' \
		'trap "jobs_interrupt; exit 130" INT TERM; jobs_begin "$PLACE/jobs2"' \
		'job_start x:hangs judge_program "$PLACE/hangs"; jobs_wait' >"$PLACE/driver"
	ROOT=$ROOT bash "$PLACE/driver" >/dev/null 2>&1 &
	driver=$!
	await test -s "$PLACE/pid"
	kill "$driver"
	wait "$driver" || true
	ok "$(is_gone pid; echo $?)" "a driver that is told to end takes its jobs with it"
}

check_slowest()
{
	printf '%s\n' '3 0 0' '1 0 0 0.5 a' '1 0 0 12.0 b' '1 0 0 2.0 c' >"$PLACE/times"
	is "$(slowest_ten "$PLACE/times" | awk '{ print $NF }' | tr '\n' ' ')" "slowest: b c a " "the slowest come first"
	awk 'BEGIN { for (i = 0; i < 100000; i++) print 1, 0, 0, i, "test" i }' >"$PLACE/times"
	is "$(slowest_ten "$PLACE/times" >"$PLACE/slowest"; echo $? $(wc -l <"$PLACE/slowest"))" "0 11" \
		"ten of them, however many there are"
}

main()
{
	PLACE=$(mktemp -d)
	trap 'rm -rf "$PLACE"' EXIT
	export ROOT
	check_results
	check_slots
	check_together
	check_hangs
	check_left_behind
	check_interrupted
	check_slowest
	done_testing
}

main
