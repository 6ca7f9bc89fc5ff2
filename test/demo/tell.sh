#!/usr/bin/env bash
#
# tell.sh: build, install, start the demo's stubs of Slack and Stripe and its
# server, run the story.
#
# The second half of test/demo/run.

set -euo pipefail
# shellcheck source=test/lib/common.sh
. "$(dirname "$0")/../lib/common.sh"
# shellcheck source=test/lib/server.sh
. "$(dirname "$0")/../lib/server.sh"
# shellcheck source=test/stub/place.sh
. "$(dirname "$0")/../stub/place.sh"

# Notices (the progress of a job) are printed in their place, like the rest.
play()
{
	stdbuf -oL psql -X -q -d demo -v ON_ERROR_STOP=1 -v columns="$STRIPE_SYNC_COLUMNS" \
		-v slack="python3 $PWD/test/demo/slack.py $SLACK_CONTROL" \
		-v stripe="python3 $PWD/test/demo/stripe.py $STRIPE_CONTROL" -f "$1" </dev/null 2>&1 |
		sed -uE 's/^psql:[^ ]+ NOTICE:  /    /' || { tail -n 20 "$WORK/server.log" >&2; return 1; }
}

main()
{
	local settings

	cd "$WORK/tree"
	build_extension
	install_privately
	stub_launch slack
	SLACK_CONTROL=$CONTROL
	stub_launch stripe
	STRIPE_CONTROL=$CONTROL
	readarray -t settings < <(stub_settings)
	cluster_start "$WORK/cluster" "$WORK/socket" "shared_preload_libraries = 'stripe_sync'" \
		"timezone = 'UTC'" "stripe_sync.stripe_rate = 60" "${settings[@]}"
	createdb demo
	play test/demo/prelude.sql
	play test/demo/story.sql
}

main
