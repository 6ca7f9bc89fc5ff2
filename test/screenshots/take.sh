#!/usr/bin/env bash
#
# take.sh: the second half of test/screenshots/run.

set -euo pipefail
# shellcheck source=test/lib/common.sh
. "$(dirname "$0")/../lib/common.sh"
# shellcheck source=test/lib/server.sh
. "$(dirname "$0")/../lib/server.sh"
# shellcheck source=test/stub/place.sh
. "$(dirname "$0")/../stub/place.sh"

main()
{
	local settings

	cd "$WORK/tree"
	build_extension
	install_privately
	stub_launch slack
	say "$STUB_PID" >"$WORK/stub.pid"
	readarray -t settings < <(stub_settings)
	cluster_start "$WORK/cluster" "$WORK/socket" "shared_preload_libraries = 'stripe_sync'" \
		"timezone = 'UTC'" "stripe_sync.slack_rate = 50" "archive_mode = on" "archive_command = 'true'" \
		"stripe_sync.doctor_interval = 0" "${settings[@]}"
	createdb shop
	psql -X -q -d shop -f test/screenshots/story.sql
	mkdir "$WORK/pictures"
	psql -X -q -A -t -d shop -c "SELECT stripe_sync.dashboard()" >"$WORK/dashboard.html"
	psql -X -q -A -t -d shop -c "SELECT stripe_sync.dashboard_text()" >"$WORK/dashboard.txt"
	python3 test/screenshots/take.py "$WORK/dashboard.html" "$WORK/dashboard.txt" "$WORK/pictures"
}

main
