# shellcheck shell=bash
#
# driver.sh: the first half of the drivers that build, run tests and count them
# (test/run, test/clock): see common.sh for the halves.  Needs jobs.sh.

workspace_remove()
{
	if [ -z "${STRIPE_SYNC_KEEP:-}" ]; then
		rm -rf "$WORK"
	fi
}

# Run the second half, the program $1 of test/lib.  Bash hears of a signal only
# when the command in the foreground has ended, so it isn't there; and it ends
# before we tidy up.
second_half()
{
	local program=$1 child
	shift

	set -m
	exec_as_server bash "$WORK/tree/test/lib/$program" "$@" </dev/null &
	child=$!
	trap 'kill "$child" || true; wait "$child" || true; exit 130' INT TERM
	wait "$child"
}

# The whole of a driver whose second half is $1, with its arguments: prints what
# was slowest and the closing line.
drive()
{
	local passed failed skipped

	clean_environment
	PG_CONFIG=$("$ROOT/test/setup")
	export PG_CONFIG
	WORK=$(mktemp -d "${TMPDIR:-/tmp}/stripe_sync.XXXXXX")
	trap workspace_remove EXIT
	chmod 755 "$WORK"
	workspace_fill "$WORK"
	slots_open
	second_half "$@" || true
	if [ ! -f "$WORK/results" ]; then
		say "0 1 0" >"$WORK/results"
	fi
	read -r passed failed skipped <"$WORK/results"
	if [ -n "${STRIPE_SYNC_RESULTS:-}" ]; then
		cp "$WORK/results" "$STRIPE_SYNC_RESULTS"
	fi
	slowest_ten "$WORK/results"
	if [ -n "${STRIPE_SYNC_KEEP:-}" ]; then
		say "kept $WORK"
	fi
	tally "$passed" "$failed" "$skipped"
	[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
}
