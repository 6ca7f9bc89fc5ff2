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
