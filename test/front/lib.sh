# shellcheck shell=bash
#
# lib.sh: a throw-away cluster and a few words of TAP for the tests of the
# HTTP fronts.
#
# "make test" runs them as the server's user with a private installation first
# in PATH.  By hand they want the extension to be installed, and may be run as
# root.

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=test/lib/common.sh
. "$HERE/../lib/common.sh"

FRONTS=$ROOT/doc/fronts.md
DATABASE=front
export SECRET=whsec_test
points=0
failures=0
front_pids=()
WORK=

ok()							# status name
{
	points=$((points + 1))
	if [ "$1" -eq 0 ]; then
		say "ok $points - $2"
	else
		say "not ok $points - $2"
		failures=$((failures + 1))
	fi
}

is()							# got expected name
{
	if [ "$1" = "$2" ]; then
		ok 0 "$3"
	else
		ok 1 "$3"
		say "$1" | sed 's/^/#      got: /'
		say "$2" | sed 's/^/# expected: /'
	fi
}

skip()							# why name
{
	points=$((points + 1))
	say "ok $points - $2 # SKIP $1"
}

skip_all()
{
	say "1..0 # SKIP $*"
	exit 0
}

done_testing()
{
	say "1..$points"
	[ "$failures" -eq 0 ]
}

tidy_up()
{
	local pid

	for pid in ${front_pids[@]+"${front_pids[@]}"}; do
		kill "$pid" 2>/dev/null || true
		wait "$pid" 2>/dev/null || true
	done
	if [ -f "$WORK/cluster/postmaster.pid" ]; then
		as_server "$bindir/pg_ctl" -D "$WORK/cluster" -m immediate -w -s stop || true
	fi
	rm -rf "$WORK"
}

# A place to work in; gone when the test ends.
place_make()
{
	clean_environment
	WORK=$(mktemp -d "${TMPDIR:-/tmp}/front.XXXXXX")
	trap tidy_up EXIT
	trap 'exit 130' INT TERM
	chmod 755 "$WORK"
	own_by_server "$WORK"
	cd "$WORK" || die "cannot enter $WORK"
}

# A block of doc/fronts.md, or of the file $2: see extract.pl
extract() { perl "$HERE/extract.pl" "${2:-$FRONTS}" "$1"; }

# Arguments are lines for postgresql.conf.
cluster_make()
{
	if command -v initdb >/dev/null; then
		bindir=$(dirname "$(command -v initdb)")
	else
		bindir=$("${PG_CONFIG:-pg_config}" --bindir)
	fi
	export PATH=$bindir:$PATH
	as_server mkdir -m 700 "$WORK/socket"
	quietly as_server initdb -D "$WORK/cluster" -U postgres -A trust -E UTF8 --no-locale -N
	printf '%s\n' "listen_addresses = ''" "unix_socket_directories = '$WORK/socket'" \
		"fsync = off" "$@" | as_server tee -a "$WORK/cluster/postgresql.conf" >/dev/null
	as_server pg_ctl -D "$WORK/cluster" -l "$WORK/server.log" -w -s start
	export PGHOST=$WORK/socket PGUSER=postgres PGDATABASE=$DATABASE
	createdb "$DATABASE"
	if [ -z "$(sql "SELECT name FROM pg_available_extensions WHERE name = 'stripe_sync'")" ]; then
		[ -z "${BINDIR:-}" ] || die "the extension is not installed"
		skip_all "stripe_sync is not installed: make install"
	fi
}

sql()							# statement, more options of psql
{
	local statement=$1
	shift

	psql -X -q -A -t -v ON_ERROR_STOP=1 -d "$DATABASE" "$@" -c "$statement"
}

free_port()
{
	perl -MIO::Socket::INET -e '
		print IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1")->sockport'
}

# Wait until something listens on a port, or the front $2 has died.
await_port()
{
	local n

	for ((n = 0; n < 300; n++)); do
		if (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; then
			return
		fi
		kill -0 "$2" 2>/dev/null || return 1
		perl -e 'select undef, undef, undef, 0.1'
	done
	return 1
}

# ---- Slack's requests ----

SLACK_SECRET=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa

post_slack()					# options of post_slack.pl, url, file
{
	perl "$HERE/post_slack.pl" "$@"
}

# The status of the answer, and its code or what kind of an answer it is
slack_says()					# options of post_slack.pl, url, file
{
	post_slack "$@" | sed -E '1!d; s/^([0-9]+) .*"(response_type|challenge|code)": *"([^"]*)".*/\1 \3/; s/^([0-9]+) (\{\}|null)?$/\1/'
}

# What Slack would see of a front, and what Postgres holds afterwards.  The database
# must have the app "default" with SLACK_SECRET.
check_slack_front()				# name url
{
	local name=$1 url=$2 user press

	user=U$(printf '%s' "$name" | tr -dc A-Za-z | tr a-z A-Z)
	printf 'token=t&team_id=T1&user_id=%s&user_name=zo%%C3%%AB&channel_id=C1&command=%%2Fstripe&text=help+%%E2%%82%%AC5%%20%%26+more&trigger_id=1.2.%s' "$user" "$name" >"$WORK/command"
	press='{"type":"block_actions","team":{"id":"T1"},"user":{"id":"'$user'","team_id":"T1"},"trigger_id":"3.4.'$name'","actions":[{"action_id":"nobody_has_this","block_id":"b","action_ts":"1.1","value":"Zoë €5 😀"}]}'
	printf 'payload=%s' "$(printf '%s' "$press" | perl -pe 's/([^A-Za-z0-9])/sprintf "%%%02X", ord $1/ge')" >"$WORK/press"
	printf '{ "type": "url_verification", "token": "t", "challenge": "c %s" }' "$name" >"$WORK/challenge"
	: >"$WORK/empty"
	is "$(slack_says "$url" "$WORK/command")" "200 ephemeral" "$name: a command"
	is "$(sql "SELECT value || ' ' || user_name FROM stripe_sync.interaction WHERE slack_user = '$user' AND kind = 'command'")" "help €5 & more zoë" "$name: as it was written"
	is "$(slack_says "$url" "$WORK/press")" "200" "$name: a button"
	is "$(slack_says "$url" "$WORK/press")" "200" "$name: again"
	is "$(sql "SELECT value FROM stripe_sync.interaction WHERE slack_user = '$user' AND kind = 'press'")" "Zoë €5 😀" "$name: stored once"
	is "$(slack_says -j "$url" "$WORK/challenge")" "200 c $name" "$name: Slack's question"
	is "$(slack_says -s "${SLACK_SECRET//a/b}" "$url" "$WORK/command" | cut -c 1-3)" 401 "$name: forged"
	is "$(slack_says -t 400 "$url" "$WORK/command" | cut -c 1-3)" 401 "$name: stale"
	is "$(slack_says -n "$url" "$WORK/command" | cut -c 1-3)" 401 "$name: not signed"
	is "$(slack_says "$url" "$WORK/empty" | cut -c 1-3)" 400 "$name: empty"
	sql "ALTER ROLE front NOLOGIN"
	sql "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE usename = 'front'" >/dev/null
	is "$(slack_says "$url" "$WORK/press" | cut -c 1-3)" 500 "$name: the database is away"
	sql "ALTER ROLE front LOGIN"
	is "$(slack_says "$url" "$WORK/press")" "200" "$name: it is back"
}
