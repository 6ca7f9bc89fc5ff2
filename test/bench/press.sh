#!/usr/bin/env bash
#
# press.sh: how long receive_slack() takes for a press of a button, with 1,000,000
# interactions stored.
#
# Run by test/bench/run as the server's user.  Each press acknowledges an incident
# of its own, whose message is updated; one transaction each, one client.

set -euo pipefail
# shellcheck source=test/lib/common.sh
. "$(dirname "$0")/../lib/common.sh"
# shellcheck source=test/lib/server.sh
. "$(dirname "$0")/../lib/server.sh"
# shellcheck source=test/bench/lib.sh
. "$(dirname "$0")/lib.sh"

INTERACTIONS=${INTERACTIONS:-1000000}
PRESSES=${PRESSES:-2000}
export SIGNING_SECRET=0123456789abcdef0123456789abcdef

# The past; and incidents that are open, each with its message
fill()
{
	sql "SET client_min_messages = warning;
		 SELECT stripe_sync.add_slack_app('default', '$SIGNING_SECRET', 'xoxb-bench');
		 SELECT stripe_sync.add_slack_channel('ops', '#ops', 'xoxb-bench');
		 SELECT stripe_sync.set_slack_user('U1', 'administer')" >/dev/null
	sql "INSERT INTO stripe_sync.interaction (app, key, kind, name, value, team, slack_user, channel, message_ts, status, sent_at, received_at, finished_at, http_status, incident, body)
		 SELECT 'default', 'body:' || encode(sha256(n::text::bytea), 'hex'), 'press', 'stripe_sync.acknowledge', n::text, 'T1', 'U' || n % 100, 'C1', n || '.0001', 'done',
		  a.at, a.at, a.at, 200, n, jsonb_build_object('type', 'block_actions', 'user', jsonb_build_object('id', 'U' || n % 100), 'text', repeat(md5(n::text), 20))
		  FROM generate_series(1, $INTERACTIONS) n, LATERAL (SELECT now() - n * interval '3 seconds' AS at) a"
	sql "INSERT INTO stripe_sync.incident_record (kind, alert, group_key, account, destination, severity, state, text, event_id, opened_at, window_until)
		 SELECT 'single', 'payments', n::text, '', 'ops', 'critical', 'open', 'Payment ' || n || ' failed', 'evt_' || n, now(), now() FROM generate_series(1, $PRESSES) n"
	sql "INSERT INTO stripe_sync.message (destination, method, payload, key, thread, state, due_at, settled_at, slack_ts, incident)
		 SELECT 'ops', 'post', '{\"text\": \"x\"}', 'bench/' || id, 'incident/' || id, 'sent', now(), now(), id || '.0001', id FROM stripe_sync.incident_record;
		 UPDATE stripe_sync.incident_record i SET message_id = m.id FROM stripe_sync.message m WHERE m.incident = i.id"
	sql "VACUUM ANALYZE"
}

# Signed now: they are good for five minutes.
sign()
{
	sql "CREATE TABLE press (n bigint PRIMARY KEY, body text, headers jsonb); CREATE SEQUENCE press_n"
	sql "SELECT id FROM stripe_sync.incident_record ORDER BY id" | python3 -c '
import hashlib, hmac, json, os, sys, time, urllib.parse
for n, incident in enumerate(map(str.strip, sys.stdin), 1):
    payload = {"type": "block_actions", "team": {"id": "T1"}, "user": {"id": "U1", "username": "ada", "team_id": "T1"}, "trigger_id": f"{n}.1.2",
        "channel": {"id": "C1"}, "container": {"message_ts": f"{incident}.0001"}, "response_url": "https://hooks.slack.com/actions/T1/1/x",
        "message": {"text": "Payment failed", "blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": "x" * 2000}}]},
        "actions": [{"action_id": "stripe_sync.acknowledge", "value": incident}]}
    body = urllib.parse.urlencode({"payload": json.dumps(payload)})
    at = str(int(time.time()))
    signature = hmac.new(os.environ["SIGNING_SECRET"].encode(), f"v0:{at}:{body}".encode(), hashlib.sha256).hexdigest()
    print(n, body, json.dumps({"X-Slack-Request-Timestamp": at, "X-Slack-Signature": "v0=" + signature}), sep="\t")
' >"$WORK/presses"
	psql -X -q -d bench -c "\\copy press FROM '$WORK/presses'"
	sql "ANALYZE press"
}

main()
{
	cd "$WORK/tree"
	build_extension
	install_privately
	cluster_start "$WORK/cluster" "$WORK/socket" \
		"shared_buffers = 512MB" "checkpoint_timeout = 1h" "max_wal_size = 16GB"
	trap cluster_stop EXIT
	createdb bench
	sql "CREATE EXTENSION stripe_sync"
	fill
	age_wal
	sign
	say "SELECT http_status FROM press, stripe_sync.receive_slack(body, headers) WHERE n = (SELECT nextval('press_n'));" >"$WORK/press.sql"
	(cd "$WORK" && pgbench -n -t "$PRESSES" -M prepared -f press.sql -l bench >"$WORK/pgbench.out" 2>&1) || die "$(cat "$WORK/pgbench.out")"
	[ "$(sql "SELECT count(*) FROM stripe_sync.incident_record WHERE acknowledged_by = 'slack:U1'")" = "$PRESSES" ] || die "not every press was done"
	printf '%s\n' "$(sql "SELECT count(*) FROM stripe_sync.interaction") interactions, $(nproc) processors, $("$PG_CONFIG" --version)"
	awk '{ print $3 / 1000 }' "$WORK"/pgbench_log.* | sort -n |
		awk '{ a[NR] = $1 } END { printf "a press, of %d: p50 %.2f ms, p99 %.2f ms, most %.2f ms (p99 is to be under 10 ms: %s)\n", NR, a[int(NR / 2)], a[int(NR * 0.99)], a[NR], a[int(NR * 0.99)] < 10 ? "OK" : "MISSED" }'
}

main
