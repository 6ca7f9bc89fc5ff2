# shellcheck shell=bash
#
# server.sh: a private installation and a throw-away cluster.
#
# For the second half of a driver: runs as the server's user, in the copied
# tree, with PG_CONFIG and WORK set.
#
# PostgreSQL finds its libraries and extensions relative to its own
# executable.  So an installation of one's own is a copy of the executables
# beside links to everything else, and "make install" needs no rights.

# STRIPE_SYNC_SANITIZE, when it isn't empty, builds with AddressSanitizer and
# UndefinedBehaviorSanitizer.  The server isn't built with them, so libasan is
# preloaded into it, and into it alone.  What they find ends the server process
# with a report in its log, and so fails the test that was at it.

SANITIZE="-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer"

# Build the tree in the current directory.
build_extension()
{
	say "building for $("$PG_CONFIG" --version)${STRIPE_SYNC_SANITIZE:+, with sanitizers}"
	make -s -j"$(nproc)" PG_CONFIG="$PG_CONFIG" \
		${STRIPE_SYNC_SANITIZE:+COPT="$SANITIZE"} all
}

# The private server, with libasan in it.  Its parts find each other by the
# name they are called by.
preload_sanitizer()
{
	mv "$BINDIR/postgres" "$BINDIR/postgres.bare"
	cat >"$BINDIR/postgres" <<-END
		#!/bin/bash
		export LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)"
		export ASAN_OPTIONS=detect_leaks=0:abort_on_error=1:disable_coredump=1
		export UBSAN_OPTIONS=print_stacktrace=1:abort_on_error=1
		exec -a "$BINDIR/postgres" "$BINDIR/postgres.bare" "\$@"
	END
	chmod 755 "$BINDIR/postgres"
}

# Sets BINDIR to the private installation's executables, puts it into PATH.
install_privately()
{
	local private=$WORK/install bindir pkglibdir sharedir

	bindir=$("$PG_CONFIG" --bindir)
	pkglibdir=$("$PG_CONFIG" --pkglibdir)
	sharedir=$("$PG_CONFIG" --sharedir)
	mkdir -p "$private$bindir" "$private$pkglibdir" "$private$sharedir"
	cp -L "$bindir"/* "$private$bindir/"
	cp -as "$pkglibdir/." "$private$pkglibdir/"
	cp -as "$sharedir/." "$private$sharedir/"
	# links to another copy of the extension, should the machine have one
	find "$private" -name 'stripe_sync*' -type l -delete
	make -s PG_CONFIG="$PG_CONFIG" DESTDIR="$private" \
		${STRIPE_SYNC_SANITIZE:+COPT="$SANITIZE"} install
	BINDIR=$private$bindir
	if [ -n "${STRIPE_SYNC_SANITIZE:-}" ]; then
		preload_sanitizer
	fi
	export BINDIR PATH="$BINDIR:$PATH"
}

# Make a cluster in the directory $1; more arguments are lines for postgresql.conf.
cluster_make()
{
	local cluster=$1
	shift

	"$BINDIR/initdb" -D "$cluster" -U postgres -A trust -E UTF8 --no-locale -N \
		>"$WORK/initdb.log" 2>&1 || { cat "$WORK/initdb.log"; return 1; }
	printf '%s\n' "listen_addresses = ''" "$@" >>"$cluster/postgresql.conf"
}

# Make and start one, reached through the socket in directory $2.
cluster_start()
{
	CLUSTER=$1
	local socket=$2
	shift 2

	mkdir -m 700 "$socket"
	cluster_make "$CLUSTER" "unix_socket_directories = '$socket'" "$@"
	"$BINDIR/pg_ctl" -D "$CLUSTER" -l "$WORK/server.log" -w -s start ||
		{ tail -n 20 "$WORK/server.log"; return 1; }
	export PGHOST=$socket PGUSER=postgres
}

cluster_stop()
{
	if [ -n "${CLUSTER:-}" ] && [ -f "$CLUSTER/postmaster.pid" ]; then
		"$BINDIR/pg_ctl" -D "$CLUSTER" -m fast -w -s stop ||
			"$BINDIR/pg_ctl" -D "$CLUSTER" -m immediate -w -s stop
	fi
}
