#!/usr/bin/env bash
#
# reference.sh: build, install, start a server, print doc/reference.md.
#
# The second half of test/reference.

set -euo pipefail
# shellcheck source=test/lib/common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source=test/lib/server.sh
. "$(dirname "$0")/server.sh"

main()
{
	cd "$WORK/tree"
	trap cluster_stop EXIT
	{
		build_extension
		install_privately
		cluster_start "$WORK/cluster" "$WORK/socket" "fsync = off"
		createdb reference
		psql -XAtq -d reference -c 'CREATE EXTENSION stripe_sync'
	} >&2
	PGDATABASE=reference perl doc/make_reference.pl
}

main
