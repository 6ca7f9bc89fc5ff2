# shellcheck shell=bash
#
# slack.sh: the stub of Slack (test/stub) for programs in bash.

# Start it in the directory $1: sets SLACK_DIR and SLACK_URL.
slack_start()
{
	local n

	SLACK_DIR=$1
	"$ROOT/test/stub/tls.sh" "$SLACK_DIR/tls"
	python3 "$ROOT/test/stub/slack.py" --dir "$SLACK_DIR" --cert "$SLACK_DIR/tls/server.pem" \
		--key "$SLACK_DIR/tls/server.key" >"$SLACK_DIR/log" 2>&1 </dev/null &
	SLACK_PID=$!
	for ((n = 0; n < 600; n++)); do
		[ ! -f "$SLACK_DIR/port" ] || break
		kill -0 "$SLACK_PID" 2>/dev/null || break
		sleep 0.02
	done
	[ -f "$SLACK_DIR/port" ] || die "the stub of Slack did not start: $(cat "$SLACK_DIR/log")"
	SLACK_URL=https://127.0.0.1:$(cat "$SLACK_DIR/port")
}

slack_stop()
{
	if [ -n "${SLACK_PID:-}" ]; then
		kill "$SLACK_PID" 2>/dev/null || true
		wait "$SLACK_PID" 2>/dev/null || true
	fi
}

# Lines for postgresql.conf
slack_conf()
{
	printf '%s\n' "stripe_sync.slack_hosts = '${SLACK_URL#https://}'" \
		"stripe_sync.slack_api_base = '$SLACK_URL/api'" \
		"stripe_sync.ca_file = '$SLACK_DIR/tls/ca.pem'"
}

# Tell it something (see test/stub/control.py), or ask: call [body]
slack_control()
{
	python3 - "http://127.0.0.1:$(cat "$SLACK_DIR/control_port")/_control/$1" "${2:-}" <<'PY'
import sys, urllib.request
url, body = sys.argv[1:]
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
print(opener.open(urllib.request.Request(url, body.encode() or None)).read().decode())
PY
}
