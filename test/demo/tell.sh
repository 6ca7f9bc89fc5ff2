#!/usr/bin/env bash
#
# tell.sh: build, install, start the demo's Slack and its server, tell the story.
#
# The second half of test/demo/run.

set -euo pipefail
# shellcheck source=test/lib/common.sh
. "$(dirname "$0")/../lib/common.sh"
# shellcheck source=test/lib/server.sh
. "$(dirname "$0")/../lib/server.sh"
# shellcheck source=test/stub/place.sh
. "$(dirname "$0")/../stub/place.sh"

play()
{
	psql -X -q -d demo -v ON_ERROR_STOP=1 -v slack="python3 $PWD/test/demo/slack.py $CONTROL" \
		-f "$1" </dev/null || { tail -n 20 "$WORK/server.log" >&2; return 1; }
}

main()
{
	local settings

	cd "$WORK/tree"
	build_extension
	install_privately
	stub_launch slack
	readarray -t settings < <(stub_settings)
	cluster_start "$WORK/cluster" "$WORK/socket" "shared_preload_libraries = 'stripe_sync'" \
		"timezone = 'UTC'" "${settings[@]}"
	createdb demo
	play test/demo/prelude.sql
	play test/demo/story.sql
}

main
