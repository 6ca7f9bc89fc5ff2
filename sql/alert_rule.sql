-- Rules: what they take, what they look at, and what they say.
\set tables '{customer,invoice,subscription,charge}'
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.psql
\set ECHO none
\i :prelude
\set ECHO all
SELECT stripe_sync.add_slack_channel('ops', '#ops', 'xoxb-1'), stripe_sync.add_slack_webhook('shop', 'https://hooks.slack.com/services/T0/B0/x'), stripe_sync.add_slack_channel('vip', '#vip', 'xoxb-1');
-- What people read, place by place.
CREATE VIEW t.told AS SELECT destination, alert, payload->>'text' AS text FROM stripe_sync.message ORDER BY id;
CREATE FUNCTION t.new() RETURNS void LANGUAGE sql AS $$
	TRUNCATE stripe_sync.message, stripe_sync.incident_record, stripe_sync.alerted, stripe_sync.event
$$;

---- what the calls take ----
SELECT s, t.hint('SELECT stripe_sync.add_alert(' || s || ')') FROM unnest(ARRAY[
	$$NULL, 'x', 'ops', 't'$$, $$'a', NULL, 'ops', 't'$$, $$'a', 'x', NULL, 't'$$, $$'a', 'x', 'ops', NULL$$,
	$$'', 'x', 'ops', 't'$$, $$'a', '', 'ops', 't'$$, $$'a', 'x', '', 't'$$, $$'a', 'x', 'ops', ''$$,
	$$'@a', 'x', 'ops', 't'$$, $$repeat('n', 64), 'x', 'ops', 't'$$,
	$$'a', 'x', 'nowhere', 't'$$, $$'a', 'x', '@nobody', 't'$$,
	$$'a', 'x', 'ops', '{{id'$$, $$'a', 'x', 'ops', '{{id | nosuch}}'$$,
	$$'a', 'x', 'ops', 't', condition => '$.a['$$, $$'a', 'x', 'ops', 't', group_by => 'a b c'$$,
	$$'a', 'x', 'ops', 't', coalesce_for => NULL$$, $$'a', 'x', 'ops', 't', coalesce_for => '-1 second'$$, $$'a', 'x', 'ops', 't', coalesce_for => '367 days'$$,
	$$'a', 'x', 'ops', 't', closed_by => ''$$, $$'a', 'x', 'ops', 't', closed_by => 'x'$$, $$'a', 'invoice.paid', 'ops', 't', closed_by => 'invoice.*'$$, $$'a', 'x', 'ops', 't', closed_by => '*'$$,
	$$'a', 'x', 'ops', 't', severity => NULL$$, $$'a', 'x', 'ops', 't', severity => 'fatal'$$,
	$$'a', 'x', 'ops', 't', blocks => '{}'$$, $$'a', 'x', 'ops', 't', blocks => '["x"]'$$, $$'a', 'x', 'ops', 't', blocks => '[{"type":"section","text":{"type":"mrkdwn","text":"{{"}}]'$$]) s;
SELECT count(*) FROM stripe_sync.alert;
-- what they may
SELECT stripe_sync.add_alert(repeat('n', 63), 'x', '@customer', 't', coalesce_for => '0', severity => 'info'), stripe_sync.add_alert('wide', 'invoice.*', 'ops', 't', closed_by => 'invoice.paid', coalesce_for => '365 days', severity => 'critical');
SELECT stripe_sync.drop_alert(repeat('n', 63)), stripe_sync.drop_alert('wide');
-- a known name is replaced, all of it
SELECT stripe_sync.add_alert('a', 'x', 'ops', 'one', '$.a', '$.b', '1 minute', 'y', 'info', '[{"type":"divider"}]');
SELECT name, event_type, destination, template, condition, group_by, coalesce_for, closed_by, severity, blocks FROM stripe_sync.alert;
SELECT stripe_sync.add_alert('a', 'z', 'vip', 'two');
SELECT name, event_type, destination, template, condition, group_by, coalesce_for, closed_by, severity, blocks FROM stripe_sync.alert;
SELECT stripe_sync.drop_alert('a');
SELECT t.hint('SELECT stripe_sync.drop_alert(''a'')');
SELECT s, t.hint('SELECT * FROM stripe_sync.add_default_alerts(' || s || ')') FROM unnest(ARRAY['NULL', '''''', '''nowhere''']) s;

---- which events ----
CREATE FUNCTION t.matches(event_type text, condition jsonpath, type text, object json) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	PERFORM t.new(), stripe_sync.add_alert('match', event_type, 'ops', 'x', condition);
	PERFORM t.send('evt_1', type, 1, object);
	RETURN EXISTS (SELECT FROM stripe_sync.message);
END $$;
SELECT p AS pattern, type, t.matches(p, NULL, type, '{"id":"in_1","object":"invoice"}') FROM unnest('{invoice.paid,invoice.*,*,*.paid,invoice.*.x,invoice,Invoice.paid,invoice.pai?,customer.*}'::text[]) p, unnest('{invoice.paid,invoice.payment_failed}'::text[]) type;
SELECT c AS condition, t.matches('invoice.paid', c, 'invoice.paid', '{"id":"in_1","object":"invoice","amount_due":5000,"currency":"usd","tags":["a","vip"],"nothing":null,"no":false,"lines":{"data":[{"amount":1},{"amount":9000}]}}') FROM unnest(ARRAY[
	'$.data.object.amount_due > 1000', '$.data.object.amount_due > 10000', '$.data.object.amount_due == "5000"', '$.data.object ? (@.amount_due > 1000 && @.currency == "usd")', '$.data.object ? (@.amount_due > 1000 && @.currency == "eur")',
	'$.data.object.tags[*] ? (@ == "vip")', '$.data.object.lines.data[*].amount > 8000', 'exists($.data.object.lines)', '$.data.object.missing', 'strict $.data.object.missing', '$.data.object.missing > 1',
	'$.data.object.nothing', '$.data.object.no', '$.data.object.currency', '$.data.object.currency > 1', '$.livemode == false', '$.type starts with "invoice"', '$.data.object.amount_due / 0 > 1', '$.data.object.tags[7]', '$'
	]::jsonpath[]) c;
-- what belongs together
CREATE FUNCTION t.groups(path jsonpath) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM t.new(), stripe_sync.add_alert('match', 'invoice.*', 'ops', 'x', group_by => path);
	PERFORM t.send('evt_' || n, 'invoice.updated', n, json_build_object('id', 'in_' || n, 'object', 'invoice', 'customer', 'cus_' || n % 2, 'amount_due', 1 + n % 3, 'lines', '{"data":[{"price":"p"}]}'::json)) FROM generate_series(1, 6) n;
	RETURN (SELECT string_agg(group_key || ': ' || count, ', ' ORDER BY group_key) FROM stripe_sync.incident);
END $$;
SET stripe_sync.coalesce_burst = 100;
SELECT p, t.groups(p) FROM unnest('{NULL,$.data.object.customer,$.data.object.amount_due,$.data.object.lines,$.type,$.data.object.nothing}'::jsonpath[]) p;
RESET stripe_sync.coalesce_burst;
-- a value that no index takes: told apart, and closed, all the same
SELECT t.new(), stripe_sync.add_alert('match', 'invoice.payment_failed', 'ops', 'x', group_by => '$.data.object.description', closed_by => 'invoice.paid');
CREATE FUNCTION t.long(n int) RETURNS text LANGUAGE sql AS $$ SELECT string_agg(md5(i::text), 'é') || n FROM generate_series(1, 1000) i $$;
SELECT t.send('evt_' || n, type, n, json_build_object('id', 'in_' || n, 'object', 'invoice', 'description', t.long(n % 2))) FROM (VALUES (1, 'invoice.payment_failed'), (2, 'invoice.payment_failed'), (3, 'invoice.payment_failed'), (4, 'invoice.paid')) v (n, type);
SELECT octet_length(group_key) <= 500 AS fits, t.long(1) LIKE split_part(group_key, '...', 1) || '%' AS begins, count, state FROM stripe_sync.incident ORDER BY id;
-- what closes doesn't open, though it fits
SELECT t.new(), stripe_sync.add_alert('match', 'invoice.*', 'ops', 'x', closed_by => 'invoice.paid'), t.send('evt_1', 'invoice.paid', 1, '{"id":"in_1","object":"invoice"}');
SELECT count(*) FROM stripe_sync.incident;
-- times with a zone, dates being in the session's; and what can't be evaluated at all does not hold, nor is it a failure
SELECT c AS condition, t.matches('invoice.paid', c, 'invoice.paid', '{"id":"in_1","object":"invoice","day":"2025-01-01"}') FROM unnest(ARRAY[
	'$.data.object.day.datetime() < "2025-01-02 00:00:00+00".datetime()', '$.data.object.day.datetime() < "2024-12-31 00:00:00+00".datetime()', '$.data.object.id.datetime() < "2024-12-31 00:00:00+00".datetime()', '$.data.object.id == $nobody']::jsonpath[]) c;
SELECT status, error FROM stripe_sync.event;
SELECT stripe_sync.drop_alert('match');

---- what is said ----
SELECT t.new(), stripe_sync.add_alert('rich', 'invoice.payment_failed', 'ops', '*{{customer.name or customer}}* owes {{amount_due | money}}, {{id | link:number}}', severity => 'critical',
	blocks => '[{"type":"header","text":{"type":"plain_text","text":"{{customer.name}}"}},{"type":"section","text":{"type":"mrkdwn","text":"{{customer.name}} owes {{amount_due | money}}"},"accessory":{"type":"button","text":{"type":"plain_text","text":"Open {{number}}"},"url":"{{hosted_invoice_url}}","action_id":"open"}}]');
SELECT t.send('evt_c', 'customer.created', 1, '{"id":"cus_1","object":"customer","name":"<!channel> & <https://x|y>","email":"a@example.com"}'),
	t.send('evt_1', 'invoice.payment_failed', 2, '{"id":"in_1","object":"invoice","number":"A<1>","customer":"cus_1","amount_due":1250,"currency":"kwd","hosted_invoice_url":"https://pay.example/x?a=1&b=<2>"}');
SELECT jsonb_pretty(payload) FROM stripe_sync.message;
SELECT stripe_sync.drop_alert('rich');

---- the rules that every paid product wants ----
SELECT t.new();
SELECT * FROM stripe_sync.add_default_alerts('ops');
SELECT name, event_type, condition, group_by, coalesce_for, closed_by, severity FROM stripe_sync.alert ORDER BY name COLLATE "C";
SELECT count(*) FROM stripe_sync.add_default_alerts('vip');
SELECT destination, count(*) FROM stripe_sync.alert GROUP BY 1;
-- a failed payment names the customer: by name, else e-mail, else id; the amount, and the invoice number
SET stripe_sync.coalesce_burst = 100;
SELECT t.send('evt_c2', 'customer.created', 1, '{"id":"cus_mail","object":"customer","name":null,"email":"mail@example.com"}'), t.send('evt_c3', 'customer.created', 1, '{"id":"cus_bare","object":"customer","name":null,"email":null}');
CREATE FUNCTION t.failed(n int, customer json, more jsonb DEFAULT '{}') RETURNS text LANGUAGE sql AS $$
	SELECT t.send('evt_f' || n, 'invoice.payment_failed', n, (jsonb_build_object('id', 'in_' || n, 'object', 'invoice', 'number', 'A-' || n, 'status', 'open', 'amount_due', 100 * n, 'currency', 'usd', 'customer', customer) || more)::json)
$$;
SELECT t.failed(1, '"cus_1"'), t.failed(2, '"cus_mail"'), t.failed(3, '"cus_bare"'), t.failed(4, '"cus_unknown"'), t.failed(5, '"cus_unknown"', '{"customer_name":"From the invoice","customer_email":"i@example.com"}'), t.failed(6, '"cus_unknown"', '{"customer_name":null,"customer_email":"i@example.com"}'),
	t.failed(7, '{"id":"cus_9","object":"customer","name":"Expanded"}'), t.failed(8, 'null', '{"number":null,"currency":"jpy"}'), t.failed(9, '"cus_1"', '{"currency":"kwd"}');
SELECT * FROM t.told;
SELECT payload->'blocks' FROM stripe_sync.message WHERE event_id = 'evt_f1';
-- the others
SELECT t.new();
SELECT t.send('evt_1', 'invoice.payment_action_required', 1, '{"id":"in_1","object":"invoice","number":"A-1","customer":"cus_mail","amount_due":1999,"currency":"eur"}'),
	t.send('evt_2', 'charge.dispute.created', 2, '{"id":"dp_1","object":"dispute","charge":"ch_1","amount":5000,"currency":"usd","reason":"fraudulent","evidence_details":{"due_by":1767225600}}'),
	t.send('evt_3', 'radar.early_fraud_warning.created', 3, '{"id":"issfr_1","object":"radar.early_fraud_warning","charge":"ch_1","fraud_type":"made_with_stolen_card","actionable":true}'),
	t.send('evt_4', 'payout.failed', 4, '{"id":"po_1","object":"payout","amount":120000,"currency":"usd","failure_code":"account_closed","failure_message":"The bank account has been closed."}'),
	t.send('evt_5', 'customer.subscription.deleted', 5, '{"id":"sub_1","object":"subscription","customer":"cus_1","status":"canceled","cancellation_details":{"comment":null,"feedback":null,"reason":"cancellation_requested"}}');
SELECT * FROM t.told;
-- what closes them
SELECT t.send('evt_6', 'invoice.paid', 6, '{"id":"in_1","object":"invoice","status":"paid"}'), t.send('evt_7', 'charge.dispute.closed', 7, '{"id":"dp_1","object":"dispute","status":"won"}');
SELECT alert, state, closed_by FROM stripe_sync.incident ORDER BY id;
-- nothing that merely informs
SELECT t.new();
SELECT t.send('evt_1', 'invoice.paid', 1, '{"id":"in_1","object":"invoice"}'), t.send('evt_2', 'customer.created', 1, '{"id":"cus_2","object":"customer"}'), t.send('evt_3', 'payout.paid', 1, '{"id":"po_1","object":"payout"}'), t.send('evt_4', 'charge.succeeded', 1, '{"id":"ch_1","object":"charge"}'),
	t.send('evt_5', 'customer.subscription.updated', 1, '{"id":"sub_1","object":"subscription"}'), t.send('evt_6', 'charge.refunded', 1, '{"id":"ch_1","object":"charge"}'), t.send('evt_7', 'charge.dispute.closed', 1, '{"id":"dp_1","object":"dispute"}');
SELECT * FROM t.told;
SELECT count(stripe_sync.drop_alert(name)) FROM (SELECT name FROM stripe_sync.alert) a;

---- for customers ----
SELECT t.new(), stripe_sync.add_alert('yours', 'invoice.*', '@customer', 'Your payment of {{amount_due | money}} failed', closed_by => 'invoice.paid'), stripe_sync.add_alert('ours', 'customer.*', '@customer', '{{id}}'),
	stripe_sync.route_customer('cus_1', 'shop'), stripe_sync.route_customer('cus_2', 'vip');
SELECT t.failed(1, '"cus_1"'), t.failed(2, '"cus_2"'), t.failed(3, '"cus_3"'), t.failed(4, 'null'), t.failed(5, '{"id":"cus_2","object":"customer"}'), t.failed(6, '{"id":"cus_3","object":"customer"}'), t.send('evt_7', 'customer.updated', 7, '{"id":"cus_1","object":"customer"}'), t.send('evt_8', 'customer.updated', 7, '{"id":"cus_3","object":"customer"}');
SELECT * FROM t.told;
-- with nothing of ours in it
SELECT jsonb_path_query(payload, '$.blocks[*].**.text ? (@.type() == "string")') FROM stripe_sync.message WHERE event_id = 'evt_f1';
SELECT status, todo, error, count(*) FROM stripe_sync.event GROUP BY 1, 2, 3;
-- rerouted; no longer routed: what is open is still closed where it was told
SELECT stripe_sync.route_customer('cus_3', 'shop'), stripe_sync.unroute_customer('cus_1');
SELECT t.failed(10, '"cus_3"'), t.failed(11, '"cus_1"'), t.send('evt_12', 'invoice.paid', 20, '{"id":"in_1","object":"invoice","customer":"cus_1"}');
SELECT * FROM t.told OFFSET 4;
SELECT count(stripe_sync.drop_alert(name)) FROM (SELECT name FROM stripe_sync.alert) a;

---- whose it is ----
CREATE ROLE regress_alert;
CREATE FUNCTION t.tries() RETURNS TABLE (what text, state text) LANGUAGE sql AS $$
	SELECT s, t.sqlstate(s) FROM unnest(ARRAY[$a$SELECT stripe_sync.add_alert('a', 'x', 'ops', 't')$a$, $a$SELECT stripe_sync.drop_alert('a')$a$, $a$SELECT * FROM stripe_sync.add_default_alerts('ops')$a$, $a$SELECT stripe_sync.route_customer('cus_5', 'ops')$a$, $a$SELECT * FROM stripe_sync.alert$a$, $a$SELECT * FROM stripe_sync.incident$a$, $a$INSERT INTO stripe_sync.alert SELECT * FROM stripe_sync.alert$a$]) s
$$;
SET ROLE regress_alert;
SELECT * FROM t.tries();
RESET ROLE;
SELECT stripe_sync.grant_ingest('regress_alert');
SET ROLE regress_alert;
SELECT state, count(*) FROM t.tries() GROUP BY 1;
RESET ROLE;
SELECT stripe_sync.grant_read('regress_alert');
SET ROLE regress_alert;
SELECT * FROM t.tries();
-- who may only hand in deliveries sets alerts off all the same
SELECT stripe_sync.notify('ops', 'x') > 0 AS may;
RESET ROLE;
SELECT stripe_sync.revoke_all('regress_alert'), stripe_sync.grant_admin('regress_alert');
SET ROLE regress_alert;
SELECT * FROM t.tries();
RESET ROLE;
SELECT stripe_sync.revoke_all('regress_alert');
DROP ROLE regress_alert;
