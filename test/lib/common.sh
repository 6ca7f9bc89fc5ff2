# shellcheck shell=bash
#
# common.sh: what every driver needs: words, users, a workspace.
#
# Every driver has two halves.  The first runs as whoever called it, sees to
# the packages and copies the checkout into a workspace.  The second runs in
# that copy as the server's user, builds, installs into a private place and
# starts a server.  So root can call it though the server refuses to run as
# root, the checkout may be readable to root alone, and neither the checkout
# nor the machine's own PostgreSQL is written to.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

say() { printf '%s\n' "$*"; }
note() { printf '%s\n' "$*" >&2; }

die()
{
	note "${0##*/}: $*"
	exit 1
}

# What a package manager says is of interest only when it fails.
quietly()
{
	local log

	log=$(mktemp)
	if ! "$@" >"$log" 2>&1 </dev/null; then
		cat "$log" >&2
		rm -f "$log"
		return 1
	fi
	rm -f "$log"
}

is_root() { [ "$(id -u)" -eq 0 ]; }

# A caller's PGHOST, MAKEFLAGS or DESTDIR would lead us to places not ours.
clean_environment()
{
	local pg_config=${PG_CONFIG:-} variable

	for variable in "${!PG@}"; do
		unset "$variable"
	done
	unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES DESTDIR CDPATH
	export LC_ALL=C.UTF-8
	umask 022
	if [ -n "$pg_config" ]; then
		export PG_CONFIG=$pg_config
	fi
}

server_user()
{
	local user

	if ! is_root; then
		id -un
		return
	fi
	for user in postgres nobody; do
		if id -u "$user" >/dev/null 2>&1; then
			say "$user"
			return
		fi
	done
	die "there is neither a user postgres nor nobody to run the server as"
}

# Become a command of the server's user: no shell stays in between that would
# keep signals from it.
exec_as_server()
{
	local user

	user=$(server_user)
	if is_root; then
		exec setpriv --reuid="$user" --regid="$(id -g "$user")" --init-groups "$@"
	else
		exec "$@"
	fi
}

as_server() { (exec_as_server "$@"); }

own_by_server()
{
	if is_root; then
		chown -R "$(server_user):" "$@"
	fi
}

# Copy a checkout without its history, keeping times, so that what is built
# already isn't built again.
copy_tree()
{
	mkdir -p "$2"
	find "$1" -mindepth 1 -maxdepth 1 ! -name .git -exec cp -a -t "$2" {} +
}

# Real example objects may lie beside the checkout; tests that want them say
# "skipped" where they don't.
copy_fixtures()
{
	local fixtures=${STRIPE_SYNC_FIXTURES:-$ROOT/../shared/stripe/fixtures.json}

	if [ -d "$ROOT/../shared" ]; then
		STRIPE_SYNC_SHARED=$(cd "$ROOT/../shared" && pwd)
		export STRIPE_SYNC_SHARED
	fi
	if [ -r "$fixtures" ]; then
		cp "$fixtures" "$1"
		export STRIPE_SYNC_FIXTURES=$1
	else
		unset STRIPE_SYNC_FIXTURES
	fi
}

# Lay out a workspace in the directory $1: tree (a copy of the checkout), home.
workspace_fill()
{
	WORK=$1
	mkdir -p "$WORK/home"
	copy_tree "$ROOT" "$WORK/tree"
	copy_fixtures "$WORK/fixtures.json"
	own_by_server "$WORK"
	export WORK HOME=$WORK/home
	as_server test -w "$WORK/tree" ||
		die "user $(server_user) cannot reach $WORK: set TMPDIR to a place it can"
}

# "12 passed, 0 failed" or, where some were, "12 passed, 0 failed, 3 skipped"
tally()
{
	local line="$1 passed, $2 failed"

	if [ "$3" -gt 0 ]; then
		line="$line, $3 skipped"
	fi
	say "$line"
}
