#!/usr/bin/env bash
#
# tell.sh: build, install, start the demo's server, tell the story.
#
# The second half of test/demo/run.

set -euo pipefail
# shellcheck source=test/lib/common.sh
. "$(dirname "$0")/../lib/common.sh"
# shellcheck source=test/lib/server.sh
. "$(dirname "$0")/../lib/server.sh"

play()
{
	psql -X -q -d demo -v ON_ERROR_STOP=1 -f "$1" </dev/null ||
		{ tail -n 20 "$WORK/server.log" >&2; return 1; }
}

main()
{
	cd "$WORK/tree"
	build_extension
	install_privately
	cluster_start "$WORK/cluster" "$WORK/socket"
	createdb demo
	play test/demo/prelude.sql
	play test/demo/story.sql
}

main
