# shellcheck shell=bash
#
# lanes.sh: drivers that run at the same time, and one line over all of them.
#
# A lane is a driver that counts into the file $STRIPE_SYNC_RESULTS (see
# test/run).  The lines of lanes mingle, so each begins with its lane's name.

lanes_dir=
lanes_names=()

lanes_begin()
{
	lanes_dir=$(mktemp -d)
	trap 'rm -rf "$lanes_dir"' EXIT
	trap lanes_interrupt INT TERM
	set -m
	slots_open
}

# Run the rest as the lane $1.  Its own closing line is marked, so that ours is
# the only one.
lane()
{
	local name=$1
	shift

	{
		export STRIPE_SYNC_RESULTS=$lanes_dir/$name
		"$@" </dev/null 2>&1 || touch "$lanes_dir/$name.failed"
	} | sed -uE -e 's/^([0-9]+ passed, )/total: \1/' -e "s/^/$name: /" &
	lanes_names+=("$name")
}

# The results of its jobs, their names after its own
lane_jobs()
{
	[ ! -e "$1" ] ||
		awk -v lane="${1##*/}" 'NF >= 5 { print $1, $2, $3, $4, lane ":" $5 }' "$1"
}

# A lane that failed, or that left no results, and counted no failure is one.
lane_results()
{
	local p=0 f=0 s=0

	if [ -s "$1" ]; then
		read -r p f s <"$1"
	else
		f=1
	fi
	if [ -e "$1.failed" ] && [ "$f" -eq 0 ]; then
		f=1
	fi
	say "$p $f $s"
}

# Wait for all lanes, print the slowest jobs and the closing line, and write the
# results to the file $1 when there is one.
lanes_end()
{
	local name passed failed skipped totals=$lanes_dir/.totals jobs=$lanes_dir/.jobs

	wait
	for name in "${lanes_names[@]}"; do
		lane_results "$lanes_dir/$name" >>"$totals"
		lane_jobs "$lanes_dir/$name" >>"$jobs"
	done
	read -r passed failed skipped < <(results_sum "$totals")
	slowest_ten "$jobs"
	if [ -n "${1:-}" ]; then
		results_write "$1" "$passed" "$failed" "$skipped" "$jobs"
	fi
	tally "$passed" "$failed" "$skipped"
	[ "$failed" -eq 0 ] && [ "$((passed + skipped))" -gt 0 ]
}

lanes_interrupt()
{
	local pid

	for pid in $(jobs -p); do
		kill -- "-$pid" 2>/dev/null || true
	done
	wait || true
	exit 130
}
