#!/usr/bin/env bash
#
# suite.sh: build, install, start a server, run the tests, count them.
#
# The second half of test/run (which see for the arguments).  Leaves
# "passed failed skipped" in $WORK/results.
#
# What a test finds in its environment:
#	PATH					the private installation's executables come first
#	PG_CONFIG				the pg_config it was built with
#	PGHOST, PGUSER			the server's socket and its superuser (not for TAP,
#							where every test starts servers of its own)
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

# No single test may hold up the rest for ever.
LIMIT=900

passed=0
failed=0
skipped=0
running=
chosen=("$@")

pass() { passed=$((passed + 1)); }

fail()
{
	failed=$((failed + 1))
	say "  FAILED: $*"
}

# Run a command for so long at most.  Bash hears of a signal only when the
# command in the foreground has ended, so it isn't there; and "set -m" gives it
# the usual signals.
limited()
{
	timeout "$LIMIT" "$@" </dev/null &
	running=$!
	wait "$running"
}

interrupt()
{
	if [ -n "$running" ]; then
		kill "$running" 2>/dev/null || true
		wait "$running" || true
	fi
	exit 130
}

finish()
{
	cluster_stop || true
	say "$passed $failed $skipped" >"$WORK/results"
}

show_log() { tail -n "${2:-200}" "$1" | sed 's/^/    /'; }

make_variable() { make -s PG_CONFIG="$PG_CONFIG" "print-$1"; }

# Was suite $1, or test $2 in it, asked for?
is_chosen()
{
	local choice

	[ ${#chosen[@]} -gt 0 ] || return 0
	for choice in "${chosen[@]}"; do
		case $choice in
			"$1") return 0 ;;
			"$1":*) [ $# -eq 1 ] || [ "$choice" = "$1:$2" ] && return 0 ;;
		esac
	done
	return 1
}

# Of the names $2..., those that were asked for in suite $1.
choose()
{
	local suite=$1 name
	shift

	for name in "$@"; do
		if is_chosen "$suite" "$name"; then
			say "$name"
		fi
	done
}

# A test that the Makefile doesn't list never runs, and nobody would notice:
# $1 is the Makefile's variable, $2 its value, the rest the files that exist.
check_listed()
{
	local variable=$1 listed=" $2 " file name
	shift 2

	for file in "$@"; do
		[ -e "$file" ] || continue
		name=${file##*/}
		case $listed in
			*" $file "* | *" ${name%.*} "*) ;;
			*) fail "$file is not listed in the Makefile's $variable" ;;
		esac
	done
}

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

# Names of the tests that passed, from pg_regress's own report (TAP from 16 on)
passed_names()
{
	sed -nE -e 's/^(test|    ) *([A-Za-z0-9_-]+) +\.\.\. ok .*/\2/p' \
		-e 's/^ok [0-9]+ +[-+] ([A-Za-z0-9_-]+).*/\1/p' "$1"
}

# Suite $1 by program $2 with input directory $3: the tests $4...
# Whatever pg_regress doesn't report as passed has failed, so a crash counts.
run_regress()
{
	local suite=$1 program=$2 input=$3 output name ok
	shift 3
	output=$WORK/output/$suite

	if [ $# -eq 0 ]; then
		fail "$suite: there is no test"
		return
	fi
	mkdir -p "$output"
	limited "$program" --inputdir="$input" --outputdir="$output" \
		--bindir="$BINDIR" --host="$PGHOST" --user="$PGUSER" \
		--dbname="stripe_sync_$suite" --max-connections=1 "$@" \
		>"$output/report" 2>&1 || true
	ok=" $(passed_names "$output/report" | tr '\n' ' ') "
	for name in "$@"; do
		case $ok in
			*" $name "*) pass ;;
			*) fail "$suite: $name" ;;
		esac
	done
	if [ -s "$output/regression.diffs" ]; then
		show_log "$output/regression.diffs" 600
	elif [ "$(wc -w <<<"$ok")" -lt $# ]; then
		show_log "$output/report" 20
	fi
}

suite_regress()
{
	local all names

	all=$(make_variable REGRESS)
	check_listed REGRESS "$all" sql/*.sql
	# shellcheck disable=SC2086
	readarray -t names < <(choose regress $all)
	say "regress: ${#names[@]} tests"
	run_regress regress "$PGXS_DIR/src/test/regress/pg_regress" . \
		${names[@]+"${names[@]}"}
}

suite_isolation()
{
	local all names

	all=$(make_variable ISOLATION)
	check_listed ISOLATION "$all" test/isolation/specs/*.spec
	# shellcheck disable=SC2086
	readarray -t names < <(choose isolation $all)
	say "isolation: ${#names[@]} specs"
	run_regress isolation \
		"$PGXS_DIR/src/test/isolation/pg_isolation_regress" test/isolation \
		${names[@]+"${names[@]}"}
}

# Top-level test points of a TAP log: passed, failed, skipped
count_tap()
{
	awk '
		/^ok [0-9]+/		{ if (/# *(SKIP|skip)/) s++; else p++ }
		/^not ok [0-9]+/	{ if (/# *(TODO|todo)/) s++; else f++ }
		/\.\. skipped: |^1\.\.0 +# *(SKIP|skip)/ { s++ }
		END { print p + 0, f + 0, s + 0 }' "$1"
}

# Count what the program $1 wrote into the log $2; it ended with status $3.
add_tap()
{
	local p f s

	read -r p f s < <(count_tap "$2")
	# a program that died, or kept no plan, or ran nothing
	if [ "$f" -eq 0 ] && { [ "$3" -ne 0 ] || [ $((p + s)) -eq 0 ]; }; then
		f=1
	fi
	passed=$((passed + p))
	failed=$((failed + f))
	skipped=$((skipped + s))
	if [ "$f" -gt 0 ]; then
		say "  FAILED: $1 ($p passed, $f failed, exit status $3)"
		grep -Ev '^ok ' "$2" >"$2.short" || true
		show_log "$2.short"
	fi
}

run_tap()
{
	local file=$1 log=$WORK/output/tap/${1##*/}.log status=0

	# PostgreSQL::Test's nodes have sockets, users and folders of their own
	limited env -u PGHOST -u PGUSER TESTDIR="$PWD" \
		TESTDATADIR="$PWD/tmp_check" TESTLOGDIR="$PWD/tmp_check/log" \
		PGPORT=65432 PG_REGRESS="$PGXS_DIR/src/test/regress/pg_regress" \
		prove -v -I "$PGXS_DIR/src/test/perl" -I test/tap "$file" \
		>"$log" 2>&1 || status=$?
	add_tap "$file" "$log" "$status"
}

suite_tap()
{
	local all files file

	all=$(make_variable PROVE_TESTS)
	check_listed PROVE_TESTS "$all" test/tap/*.pl
	# shellcheck disable=SC2086
	readarray -t files < <(choose tap $all)
	say "TAP: ${#files[@]} files"
	mkdir -p "$WORK/output/tap" tmp_check
	[ ${#files[@]} -gt 0 ] || fail "TAP: there is no test"
	for file in ${files[@]+"${files[@]}"}; do
		run_tap "$file"
	done
}

# Count an extra program by its test points or, without any, by its exit.
add_extra()
{
	local file=$1 log=$2 status=$3

	if grep -Eq '^(not )?ok [0-9]+' "$log"; then
		add_tap "$file" "$log" "$status"
	elif [ "$status" -eq 0 ]; then
		pass
	elif [ "$status" -eq 77 ]; then
		skipped=$((skipped + 1))
		show_log "$log" 3
	else
		fail "$file (exit status $status)"
		show_log "$log"
	fi
}

suite_extra()
{
	local file log status

	mkdir -p "$WORK/output/extra"
	for file in test/extra/*.sh; do
		if [ ! -x "$file" ] || ! is_chosen extra "$file"; then
			continue
		fi
		say "extra: $file"
		log=$WORK/output/extra/${file##*/}.log
		status=0
		limited "$file" >"$log" 2>&1 || status=$?
		add_extra "$file" "$log" "$status"
	done
}

# A backend that crashed may have gone unnoticed by the test that felled it.
check_no_crash()
{
	local crashes

	crashes=$(grep -E 'was terminated by signal|PANIC:|TRAP:' "$WORK/server.log" || true)
	if [ -z "$crashes" ]; then
		pass
	else
		fail "the server crashed:"
		say "$crashes" | sed 's/^/    /'
	fi
}

run_suites()
{
	local suite

	for suite in regress isolation tap extra; do
		if is_chosen "$suite"; then
			"suite_$suite"
		fi
	done
}

main()
{
	cd "$WORK/tree"
	trap finish EXIT
	trap interrupt INT TERM
	set -m
	# whatever ends this script before its end is a failure
	failed=1
	PGXS_DIR=$(dirname "$("$PG_CONFIG" --pgxs)")/../..
	PGXS_DIR=$(cd "$PGXS_DIR" && pwd)
	build_extension
	install_privately
	cluster_start "$WORK/cluster" "$WORK/socket" "fsync = off" \
		"max_prepared_transactions = 10"
	check_exports
	if [ -n "${STRIPE_SYNC_SANITIZE:-}" ]; then
		check_sanitized
	fi
	run_suites
	check_no_crash
	failed=$((failed - 1))
}

main
