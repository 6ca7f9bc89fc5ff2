#!/usr/bin/env bash
#
# payloads.sh: what the extension really posts, judged by Slack's own client and
# types.
#
# Every default alert, an incident's whole life, roll-up, digest, escalation,
# blocks, hostile and overlong text, notify() and tests are sent to the stub, as
# a bot and by webhook; then what came there is posted by @slack/web-api and
# compiled as @slack/types.  Prints TAP.  Skipped without python3 and openssl;
# the second half where there is no node, or no registry to get packages from.

set -euo pipefail
# shellcheck source=test/front/lib.sh
. "$(dirname "$0")/../front/lib.sh"
# shellcheck source=test/stub/place.sh
. "$(dirname "${BASH_SOURCE[0]}")/../stub/place.sh"

# Events, rules and messages, all of them in one destination.
tell_everything()				# destination
{
	psql -X -q -v ON_ERROR_STOP=1 -v place="$1" -d "$DATABASE" >/dev/null <<'SQL'
SET client_min_messages = warning;
TRUNCATE stripe_sync.incident_record, stripe_sync.alerted, stripe_sync.event, stripe_sync.silence, stripe_sync.pulse;
SELECT stripe_sync.add_default_alerts(:'place');
SELECT stripe_sync.route_customer('cus_1', :'place');
SELECT stripe_sync.add_alert('yours', 'invoice.payment_failed', '@customer', 'Your payment of {{amount_due | money}} failed');
SELECT stripe_sync.add_alert('rich', 'invoice.finalized', :'place', '{{customer.name}} owes {{amount_due | money}}', closed_by => 'invoice.paid', severity => 'info', blocks => '[
	{"type": "header", "text": {"type": "plain_text", "text": "{{customer.name}}"}},
	{"type": "section", "text": {"type": "mrkdwn", "text": "{{customer.name or customer | link:customer.name}} owes *{{amount_due | money}}* since {{created | date}}"},
	 "fields": [{"type": "mrkdwn", "text": "{{metadata.note}}"}, {"type": "plain_text", "text": "{{status}}"}]},
	{"type": "divider"},
	{"type": "image", "image_url": "{{hosted_invoice_url}}", "alt_text": "{{number}}"},
	{"type": "actions", "elements": [{"type": "button", "text": {"type": "plain_text", "text": "Open {{number}}"}, "url": "{{hosted_invoice_url}}", "action_id": "open", "value": "{{id}}"}]},
	{"type": "context", "elements": [{"type": "mrkdwn", "text": "{{customer.name}}"}]}]');
-- the same for every account of the flood below
CREATE OR REPLACE FUNCTION say(type text, object json, at int DEFAULT 0) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM stripe_sync.simulate(type, (object::jsonb || jsonb_build_object('created', 1767225600 + at)));
END $$;
CREATE OR REPLACE FUNCTION refuse(event jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'out of <stock> & %', repeat('more ', 2000); END $$;
SELECT stripe_sync.add_handler('stock', 'product.*', 'refuse');

SELECT say('customer.created', json_build_object('id', 'cus_1', 'object', 'customer', 'name', '<!channel> & <https://x|y> ' || repeat('long ', 1000), 'email', 'a@example.com'));
SELECT say('invoice.finalized', json_build_object('id', 'in_0', 'object', 'invoice', 'number', 'A<0>', 'status', 'open', 'customer', 'cus_1', 'amount_due', 1250, 'currency', 'kwd',
	'hosted_invoice_url', 'https://pay.example/x?a=1&b=<2>', 'metadata', json_build_object('note', repeat('& ', 30000))));
SELECT say('invoice.payment_failed', json_build_object('id', 'in_1', 'object', 'invoice', 'number', 'A-1', 'customer', 'cus_1', 'amount_due', 1200, 'currency', 'usd'));
SELECT say('invoice.payment_action_required', json_build_object('id', 'in_1', 'object', 'invoice', 'number', 'A-1', 'customer', 'cus_2', 'customer_email', 'b@example.com', 'amount_due', 500, 'currency', 'jpy'));
SELECT say('charge.dispute.created', '{"id":"dp_1","object":"dispute","charge":"ch_1","amount":5000,"currency":"usd","reason":"fraudulent","evidence_details":{"due_by":1767225600}}');
SELECT say('radar.early_fraud_warning.created', '{"id":"issfr_1","object":"radar.early_fraud_warning","charge":"ch_1","fraud_type":"made_with_stolen_card"}');
SELECT say('payout.failed', '{"id":"po_1","object":"payout","amount":120000,"currency":"usd","failure_message":"The bank account has been closed."}');
SELECT say('customer.subscription.deleted', '{"id":"sub_1","object":"subscription","customer":"cus_1","status":"canceled"}');
SELECT say('product.created', '{"id":"prod_1","object":"product"}');
SET stripe_sync.max_attempts = 1;
SELECT say('product.created', '{"id":"prod_2","object":"product"}');
RESET stripe_sync.max_attempts;
INSERT INTO stripe_sync.event (id, account, type, endpoint, received_at, source, status, todo, attempts, payload)
	SELECT 'evt_old' || i, '', 'x', 'default', now() - interval '3 hours' - i * interval '1 hour', 'webhook', 'ignored', '{}', 1, '{}' FROM generate_series(1, 240) i;
DELETE FROM stripe_sync.event WHERE received_at > now() - interval '1 hour';
SELECT stripe_sync.silence_check();
SELECT stripe_sync.drop_handler('stock');
SELECT stripe_sync.notify(:'place', '<!here> Order 17 & more', thread => 'order-17');
SELECT stripe_sync.notify(:'place', repeat('long ', 10000), blocks => (SELECT jsonb_agg(jsonb_build_object('type', 'section', 'text', jsonb_build_object('type', 'mrkdwn', 'text', repeat('x', 4000)))) FROM generate_series(1, 60)), thread => 'order-17');
SELECT stripe_sync.test_destination(:'place');
CALL stripe_sync.work();

-- again within the window, after it, and resolved; repeated; the rest of a burst
SELECT say('invoice.payment_failed', '{"id":"in_1","object":"invoice","number":"A-1","customer":"cus_1","amount_due":1200,"currency":"usd"}', 1);
SELECT stripe_sync.retry_message(id) FROM stripe_sync.message WHERE state = 'waiting';
CALL stripe_sync.work();
UPDATE stripe_sync.incident_record SET window_until = clock_timestamp(), escalate_at = now() WHERE state = 'open' AND alert <> 'yours';
SELECT say('invoice.payment_failed', '{"id":"in_1","object":"invoice","number":"A-1","customer":"cus_1","amount_due":1200,"currency":"usd"}', 2);
CALL stripe_sync.work();
SELECT say('invoice.payment_failed', json_build_object('id', 'in_' || n, 'object', 'invoice', 'number', 'B-' || n, 'customer', 'cus_1', 'amount_due', n, 'currency', 'eur'), n) FROM generate_series(10, 25) n;
SELECT say('invoice.paid', json_build_object('id', 'in_' || n, 'object', 'invoice'), 1000) FROM generate_series(0, 25) n;
SET stripe_sync.max_alerts_per_hour = 1;
SELECT say('payout.failed', json_build_object('id', 'po_1' || n, 'object', 'payout', 'amount', 1, 'currency', 'usd')) FROM generate_series(1, 3) n;
CALL stripe_sync.work();
SELECT stripe_sync.retry_message(id) FROM stripe_sync.message WHERE state = 'waiting';
CALL stripe_sync.work();
RESET stripe_sync.max_alerts_per_hour;
SQL
}

# Is there a message of each kind among them?  Fallback texts, at their beginning.
check_kinds()					# place
{
	local kind texts

	texts=$(sql "SELECT payload->>'text' FROM stripe_sync.message WHERE destination = '$1' AND state = 'sent'")
	for kind in '*Payment failed:*' '*A customer must act:*' '*Dispute opened:*' '*Early fraud warning:*' '*Payout failed:*' '*Subscription cancelled:*' \
		'*Events are failing*' '*Events are dead*' '*No events from Stripe*' ':white_check_mark: Resolved by' 'Not resolved after' 'more* of ' 'alerts in an hour:*' \
		'Your payment of' 'owes' '&lt;!here&gt; Order 17' 'This is a test'; do
		ok "$(grep -qF "$kind" <<<"$texts"; echo $?)" "$1: $kind"
	done
}

main()
{
	local why

	place_make
	stub_is_possible || skip_all "no python3 or no openssl"
	stub_start slack
	cluster_make
	sql "SET client_min_messages = warning; CREATE EXTENSION stripe_sync" >/dev/null
	printf '%s\n' "stripe_sync.ca_file = '$STUB_CA'" "stripe_sync.slack_api_base = '$SLACK/api'" \
		"stripe_sync.slack_hosts = '${SLACK#https://}'" "stripe_sync.slack_rate = 0" |
		as_server tee -a "$WORK/cluster/postgresql.conf" >/dev/null
	sql "SELECT pg_reload_conf()" >/dev/null
	sql "SET client_min_messages = warning; SELECT stripe_sync.add_endpoint('default', '$SECRET'), stripe_sync.add_slack_channel('bot', '#bot', 'xoxb-payloads'),
		stripe_sync.add_slack_webhook('hook', '$SLACK/services/T0STUB/B000001/sEcReT000001')" >/dev/null
	for place in bot hook; do
		tell_everything "$place"
		check_kinds "$place"
	done
	is "$(sql "SELECT destination, state, last_code, left(payload->>'text', 60) FROM stripe_sync.message WHERE state <> 'sent' AND state <> 'cancelled'")" "" \
		"all are sent"
	is "$(sql "SELECT code, verdict, response FROM stripe_sync.delivery WHERE verdict <> 'sent'")" "" "and Slack refused none"
	cp "$WORK/slack/requests.jsonl" "$WORK/posted"
	why=$(node_missing)
	if [ -n "$why" ]; then
		skip "$why" "Slack's own client and types"
	else
		check_with_client
	fi
	done_testing
}

# Each is a point of check_payloads.mjs: accepted by the client, fit for the types.
check_with_client()
{
	local status=0

	node_run check_payloads.mjs "$WORK/posted" >"$WORK/points" 2>"$WORK/stderr" || status=$?
	ok "$status" "Slack's own client and types take all of $(grep -c '^ok' "$WORK/points" || true) points"
	[ "$status" -eq 0 ] || { grep -A3 '^not ok' "$WORK/points"; cat "$WORK/stderr"; } | sed 's/^/# /'
}

main
