# shellcheck shell=bash
#
# jobs.sh: run tests side by side, each for a limited time, and count them.
#
# A job is one test file.  Its command runs in a process group of its own, with
# $JOB as its directory for temporary files.  When it ends, processes that it
# left behind are killed, its result and its seconds are printed, and its
# slot is free for the next one.
#
# The slots are bytes in a pipe.  Drivers that run at the same time inherit the
# pipe, also into a chroot, and so share one number of slots.
#
# STRIPE_SYNC_JOBS	how many jobs run at once (default: three a processor)
# STRIPE_SYNC_LIMIT	the seconds after which a job is ended (default 1800)

LIMIT=${STRIPE_SYNC_LIMIT:-1800}
GRACE=20						# seconds between SIGTERM and SIGKILL

jobs_dir=						# has a directory for each job
jobs_names=()
jobs_pids=()

# ---- slots ----

slots_open()
{
	local fifo count=${STRIPE_SYNC_JOBS:-$((3 * $(nproc)))}

	if [ -p "/proc/self/fd/${STRIPE_SYNC_SLOTS:-none}" ]; then
		return
	fi
	fifo=$(mktemp -u "${TMPDIR:-/tmp}/stripe_sync.XXXXXX")
	mkfifo -m 600 "$fifo"
	exec {STRIPE_SYNC_SLOTS}<>"$fifo"
	rm "$fifo"
	export STRIPE_SYNC_SLOTS
	printf "%${count}s" >&"$STRIPE_SYNC_SLOTS"
}

# A slot that nobody has given back for as long as a job may take is lost, with a
# job that was killed: this one goes on without, and gives back a new one.
slot_take() { IFS= read -r -N 1 -t $((LIMIT + GRACE + 60)) -u "$STRIPE_SYNC_SLOTS" || true; }
slot_give() { printf ' ' >&"$STRIPE_SYNC_SLOTS"; }
slot_close() { exec {STRIPE_SYNC_SLOTS}>&-; }

# ---- what a job leaves behind ----

# Processes of the job whose directory is $1: they work in it (a server in its
# data directory), or have inherited its JOB.
job_processes()
(
	unset JOB
	{
		find /proc -mindepth 2 -maxdepth 2 -path '/proc/[0-9]*/cwd' -lname "$1/*" || true
		grep -lszxF "JOB=$1" /proc/[0-9]*/environ || true
	} 2>/dev/null | cut -d / -f 3 | sort -u
)

# Until there are none: one may have started another meanwhile.
job_sweep()
{
	local n pids

	for ((n = 0; n < 100; n++)); do
		pids=$(job_processes "$1")
		[ -n "$pids" ] || return 0
		# shellcheck disable=SC2086
		kill -KILL $pids 2>/dev/null || true
		sleep 0.05
	done
}

# ---- counting ----

# Top-level test points of a TAP log: passed, failed, skipped
count_tap()
{
	awk '
		/^ok [0-9]+/		{ if (/# *(SKIP|skip)/) s++; else p++ }
		/^not ok [0-9]+/	{ if (/# *(TODO|todo)/) s++; else f++ }
		/\.\. skipped: |^1\.\.0 +# *(SKIP|skip)/ { s++ }
		END { print p + 0, f + 0, s + 0 }' "$1"
}

# A judge is called with the command's log and exit status, and prints passed,
# failed, skipped.  A program that died, kept no plan or ran nothing has failed.
judge_tap()
{
	local p f s

	read -r p f s < <(count_tap "$1")
	if [ "$f" -eq 0 ] && { [ "$2" -ne 0 ] || [ $((p + s)) -eq 0 ]; }; then
		f=1
	fi
	say "$p $f $s"
}

# Are there as many test points as the plan says?
keeps_plan()
{
	[ "$(grep -Ec '^(not )?ok [0-9]+' "$1")" = "$(sed -nE 's/^1\.\.([0-9]+).*/\1/p' "$1")" ]
}

# By its test points or, without any, by its exit status (77: skipped)
judge_program()
{
	if grep -Eq '^(not )?ok [0-9]+|^1\.\.0' "$1"; then
		if keeps_plan "$1"; then
			judge_tap "$@"
		else
			judge_tap "$1" 1
		fi
	elif [ "$2" -eq 0 ]; then
		say "1 0 0"
	elif [ "$2" -eq 77 ]; then
		say "0 0 1"
	else
		say "0 1 0"
	fi
}

# ---- running ----

jobs_begin()
{
	jobs_dir=$1
	mkdir -p "$jobs_dir"
	# each job is a process group
	set -m
	slots_open
}

# Run the command for LIMIT seconds at most.  A shell hears of a signal only when
# its command in the foreground has ended, so it runs in the background.
job_command()
{
	local child

	set -m
	timeout --kill-after="$GRACE" "$LIMIT" "$@" </dev/null &
	child=$!
	trap 'kill "$child" 2>/dev/null || true; wait "$child" || true; job_sweep "$JOB"; exit 130' INT TERM
	wait "$child"
}

# One line for the job, and what it says of a failure.  Only one job prints at a
# time.
job_report()
{
	local name=$1 seconds=$2 status=$3 p=$4 f=$5 s=$6 word=ok why=''

	if [ "$f" -gt 0 ]; then
		word=FAILED
		why=", $f failed, exit status $status"
		# timeout's own status, or that of SIGKILL, which may have come from elsewhere
		if [ "$status" -eq 124 ] || { [ "$status" -eq 137 ] && [ "${seconds%.*}" -ge "$LIMIT" ]; }; then
			why="$why: ended after its limit of $LIMIT s"
		fi
	elif [ "$p" -eq 0 ]; then
		word=skipped
	fi
	(
		flock 9
		printf '%-7s %6.1f s  %s (%s passed%s%s)\n' "$word" "$seconds" "$name" \
			"$p" "$why" "$([ "$s" -eq 0 ] || say ", $s skipped")"
		if [ "$word" = FAILED ]; then
			{ grep -Ev '^ok ' "$JOB/log" 2>&1 || true; } | tail -n 400 | sed 's/^/    /'
		elif [ "$word" = skipped ]; then
			tail -n 3 "$JOB/log" | sed 's/^/    /'
		fi
	) 9>"$jobs_dir/print.lock"
}

# Seconds from $1 to $2, both of $EPOCHREALTIME
elapsed() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.1f", b - a }'; }

# tap:test/tap/mirror/order.pl has the directory tap.order.pl: paths of sockets are
# limited to 107 bytes.
job_directory()
{
	local name=${1#*:}

	say "$jobs_dir/${1%%:*}.${name##*/}"
}

# A job's whole life, in a process of its own.
job()
{
	local name=$1 judge=$2 began=$EPOCHREALTIME status=0 interrupted='' p f s seconds
	shift 2

	trap slot_give EXIT
	JOB=$(job_directory "$name")
	export JOB
	mkdir -p "$JOB"
	trap 'interrupted=1' INT TERM
	(
		slot_close
		export TMPDIR=$JOB
		job_command "$@"
	) >"$JOB/log" 2>&1 || status=$?
	[ -z "$interrupted" ] || exit 130
	seconds=$(elapsed "$began" "$EPOCHREALTIME")
	read -r p f s < <("$judge" "$JOB/log" "$status") || { p=0 f=1 s=0; }
	job_sweep "$JOB"
	job_report "$name" "$seconds" "$status" "$p" "$f" "$s"
	say "$p $f $s $seconds $name" >"$JOB/result.new"
	mv "$JOB/result.new" "$JOB/result"
	if [ "$f" -eq 0 ]; then
		find "$JOB" -mindepth 1 -maxdepth 1 ! -name log ! -name result -exec rm -rf {} + || true
	fi
}

# Run the rest as job $1, whose outcome function $2 judges, once a slot is free.
job_start()
{
	slot_take
	job "$@" &
	jobs_names+=("$1")
	jobs_pids+=("$!")
}

# Wait for all; prints every job's "passed failed skipped seconds name".  One that
# ended without a result has failed.
jobs_wait()
{
	local i result

	for i in "${!jobs_pids[@]}"; do
		wait "${jobs_pids[i]}" || true
		result=$(job_directory "${jobs_names[i]}")/result
		if [ -s "$result" ]; then
			cat "$result"
		else
			note "FAILED  ${jobs_names[i]} (ended without a result)"
			say "0 1 0 0 ${jobs_names[i]}"
		fi
	done
}

jobs_interrupt()
{
	local pid

	for pid in ${jobs_pids[@]+"${jobs_pids[@]}"}; do
		kill -- "-$pid" 2>/dev/null || true
	done
	wait || true
}

# Sum of the results in a file
results_sum() { awk '{ p += $1; f += $2; s += $3 } END { print p + 0, f + 0, s + 0 }' "$1"; }

# The results of all to the file $1: passed $2, failed $3, skipped $4; then those of
# its jobs, which are in the file $5
results_write()
{
	{
		say "$2 $3 $4"
		cat "$5" 2>/dev/null || true
	} >"$1"
}

# The ten slowest of the results in files.  (sed reads to the end: what is written
# to a pipe that head has closed ends a program by SIGPIPE, and us with it.)
slowest_ten()
{
	say "the slowest:"
	awk 'NF >= 5 { printf "%14.1f s  %s\n", $4, $5 }' "$@" | sort -rn | sed -n 1,10p
}
