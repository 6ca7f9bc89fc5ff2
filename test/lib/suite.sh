#!/usr/bin/env bash
#
# suite.sh: build, install, start a server, run the tests, count them.
#
# The second half of test/run (which see for the arguments).  Leaves a line
# "passed failed skipped" in $WORK/results, then one for each job as jobs_wait
# prints it.
#
# Each test file is a job (see jobs.sh).  What it finds in its environment:
#	PATH					the private installation's executables come first
#	PG_CONFIG				the pg_config it was built with
#	PGHOST, PGUSER			the shared server's socket and its superuser (not for
#							TAP, where these are STRIPE_SYNC_HOST and postgres)
#	JOB						a directory of its own
#	STRIPE_SYNC_FIXTURES	Stripe's example objects, where they are to be had
#	STRIPE_SYNC_SHARED		the folder shared/ beside the checkout, ditto; the
#							user who runs the tests may not be able to read it
#
# Programs in test/extra write TAP, or exit with 0 (passed), 77 (skipped) or
# else (failed).

set -euo pipefail
# shellcheck source=test/lib/common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source=test/lib/server.sh
. "$(dirname "$0")/server.sh"
# shellcheck source=test/lib/jobs.sh
. "$(dirname "$0")/jobs.sh"

# The shared server: enough for all that use it at once.
SHARED_CONF=(
	"fsync = off"
	"autovacuum = off"
	"max_connections = 200"
	"max_prepared_transactions = 10"
	"shared_buffers = 256MB"
)

passed=0
failed=0
skipped=0
chosen=("$@")

pass() { passed=$((passed + 1)); }

fail()
{
	failed=$((failed + 1))
	say "  FAILED: $*"
}

finish()
{
	cluster_stop || true
	results_write "$WORK/results" "$passed" "$failed" "$skipped" "$WORK/job_results"
}

interrupt()
{
	jobs_interrupt
	exit 130
}

make_variable() { make -s PG_CONFIG="$PG_CONFIG" "print-$1"; }

# ---- which tests ----

# Was the test $1 (SUITE:NAME) asked for, by itself or with its suite?
is_chosen()
{
	local choice

	[ ${#chosen[@]} -gt 0 ] || return 0
	for choice in "${chosen[@]}"; do
		case $choice in
			"$1" | "${1%%:*}") return 0 ;;
		esac
	done
	return 1
}

# The Makefile's lists
read_lists()
{
	REGRESS=$(make_variable REGRESS)
	ISOLATION=$(make_variable ISOLATION)
	PROVE_TESTS=$(make_variable PROVE_TESTS)
	SLOW=$(make_variable SLOW)
}

# Every test as SUITE:NAME, the slow ones first so that none is left over at the
# end, when it would run alone.
all_tests()
{
	local name

	{
		for name in $REGRESS; do say "regress:$name"; done
		for name in $ISOLATION; do say "isolation:$name"; done
		for name in $PROVE_TESTS; do say "tap:$name"; done
		for name in test/extra/*.sh; do say "extra:$name"; done
	} | while read -r name; do
		case " $SLOW " in
			*" $name "*) say "0 $name" ;;
			*) say "1 $name" ;;
		esac
	done | sort -s -k1,1 | cut -d ' ' -f 2
}

chosen_tests()
{
	local name

	for name in $(all_tests); do
		if is_chosen "$name"; then
			say "$name"
		fi
	done
}

# A test that the Makefile doesn't list never runs, and nobody would notice:
# $1 is the Makefile's list, the rest the files that exist.
check_listed()
{
	local listed=" $1 " file name
	shift

	for file in "$@"; do
		[ -e "$file" ] || continue
		name=${file##*/}
		case $listed in
			*" $file "* | *" ${name%.*} "*) ;;
			*) fail "$file is in none of the Makefile's lists" ;;
		esac
	done
}

# A name that no test has, as an argument or in SLOW, is a mistake.
check_names()
{
	local name all

	all=" $(all_tests | tr '\n' ' ') regress isolation tap extra "
	for name in ${chosen[@]+"${chosen[@]}"} $SLOW; do
		case $all in
			*" $name "*) ;;
			*) fail "there is no test $name" ;;
		esac
	done
}

# ---- what needs no job ----

# Our names must not collide with those of other modules in the server, so
# nothing is exported but what the server itself looks up.
check_exports()
{
	local surplus

	surplus=$(nm -D --defined-only stripe_sync.so | awk '{ print $NF }' |
		grep -Ev '^(Pg_magic_func|_PG_init|pg_finfo_stripe_sync_.*|stripe_sync_.*)$' ||
		true)
	if [ -z "$surplus" ]; then
		pass
	else
		fail "exported without need:" "$surplus"
	fi
}

# Would the sanitizers that were asked for see anything?
check_sanitized()
{
	if [ "$(nm -D stripe_sync.so | grep -c __asan_report)" -gt 0 ]; then
		pass
	else
		fail "built without AddressSanitizer"
	fi
}

# A backend that crashed may have gone unnoticed by the test that felled it.
check_no_crash()
{
	local crashes

	crashes=$(grep -E 'was terminated by signal|PANIC:|TRAP:' "$WORK/server.log" || true)
	if [ -z "$crashes" ]; then
		pass
	else
		fail "the shared server crashed:"
		say "$crashes" | sed 's/^/    /'
	fi
}

# ---- jobs ----

# What pg_regress doesn't report as passed has failed, so a crash counts.  Its
# report is TAP from 16 on.
judge_regress()
{
	if [ "$2" -eq 0 ] && grep -Eq '^test .* \.\.\. ok |^ok 1 ' "$1"; then
		say "1 0 0"
	else
		say "0 1 0"
	fi
}

# Test $4 by program $1 with input directory $2; $3 is the suite
regress_command()
{
	local status=0

	"$1" --inputdir="$2" --outputdir="$JOB" --bindir="$BINDIR" --host="$PGHOST" \
		--user="$PGUSER" --dbname="$3_$4" --max-connections=1 "$4" || status=$?
	cat "$JOB/regression.diffs" 2>/dev/null || true
	return "$status"
}

# PostgreSQL::Test's nodes have sockets, users and folders of their own.  It writes
# what a test dies of into its log alone.
tap_command()
{
	local status=0

	env -u PGHOST -u PGUSER STRIPE_SYNC_HOST="$PGHOST" TESTDIR="$JOB" \
		TESTDATADIR="$JOB/tmp_check" TESTLOGDIR="$JOB/tmp_check/log" PG_TEST_PORT_DIR="$WORK" \
		PGPORT=65432 PG_REGRESS="$PGXS_DIR/src/test/regress/pg_regress" \
		prove -v -I "$PGXS_DIR/src/test/perl" -I test/tap "$1" || status=$?
	[ "$status" -eq 0 ] || tail -n 40 "$JOB"/tmp_check/log/regress_log_* || true
	return "$status"
}

# Start test $1, judged by $2, with a function of the above as its command: jobs
# are programs, so a shell calls it.
start_function()
{
	job_start "$1" "$2" bash -euo pipefail -c '"$@"' bash "${@:3}"
}

start_test()
{
	local name=${1#*:} regress=$PGXS_DIR/src/test

	case $1 in
		regress:*)
			start_function "$1" judge_regress regress_command \
				"$regress/regress/pg_regress" . regress "$name" ;;
		isolation:*)
			start_function "$1" judge_regress regress_command \
				"$regress/isolation/pg_isolation_regress" test/isolation isolation "$name" ;;
		tap:*) start_function "$1" judge_tap tap_command "$name" ;;
		extra:*) job_start "$1" judge_program "$name" ;;
	esac
}

add_results()
{
	local p f s

	read -r p f s < <(results_sum "$WORK/job_results")
	passed=$((passed + p))
	failed=$((failed + f))
	skipped=$((skipped + s))
}

run_tests()
{
	local tests test

	readarray -t tests < <(chosen_tests)
	say "${#tests[@]} test files"
	jobs_begin "$WORK/j"
	for test in ${tests[@]+"${tests[@]}"}; do
		start_test "$test"
	done
	jobs_wait >"$WORK/job_results"
	add_results
}

main()
{
	cd "$WORK/tree"
	trap finish EXIT
	trap interrupt INT TERM
	# whatever ends this script before its end is a failure
	failed=1
	PGXS_DIR=$(dirname "$("$PG_CONFIG" --pgxs)")/../..
	PGXS_DIR=$(cd "$PGXS_DIR" && pwd)
	export PGXS_DIR
	export -f regress_command tap_command
	read_lists
	build_extension
	install_privately
	cluster_start "$WORK/cluster" "$WORK/socket" "${SHARED_CONF[@]}"
	check_listed "$REGRESS" sql/*.sql
	check_listed "$ISOLATION" test/isolation/specs/*.spec
	check_listed "$PROVE_TESTS" test/tap/*/*.pl
	check_names
	check_exports
	if [ -n "${STRIPE_SYNC_SANITIZE:-}" ]; then
		check_sanitized
	fi
	run_tests
	check_no_crash
	failed=$((failed - 1))
}

main
