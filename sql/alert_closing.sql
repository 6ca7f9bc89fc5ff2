-- Several types, how an incident ended, who is mentioned, and what buttons are about.
\set tables '{customer,invoice,subscription,charge,dispute,product,price}'
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.psql
\set ECHO none
\i :prelude
\set ECHO all
SELECT stripe_sync.add_slack_channel('ops', '#ops', 'xoxb-1');
CREATE FUNCTION t.new() RETURNS void LANGUAGE sql AS $$
	TRUNCATE stripe_sync.message, stripe_sync.incident_record, stripe_sync.alerted, stripe_sync.event;
	SELECT count(stripe_sync.drop_alert(name)) FROM stripe_sync.alert
$$;
CREATE FUNCTION t.invoice(event text, type text, created int, more jsonb DEFAULT '{}', id text DEFAULT 'in_1') RETURNS text LANGUAGE sql AS $$
	SELECT t.send(event, type, created, (jsonb_build_object('id', id, 'object', 'invoice', 'number', upper(id), 'amount_due', 2900, 'currency', 'eur') || more)::json)
$$;
CREATE VIEW t.ended AS SELECT alert, group_key, count, state, closed_by, closing_text, (SELECT closed_well FROM stripe_sync.incident_record r WHERE r.id = i.id) AS well FROM stripe_sync.incident i ORDER BY id;

---- what the call takes ----
SELECT s, t.hint('SELECT stripe_sync.add_alert(''a'', ' || s || ')') FROM unnest(ARRAY[
	$$'', 'ops', 't'$$, $$'x,', 'ops', 't'$$, $$',x', 'ops', 't'$$, $$'x, ,y', 'ops', 't'$$,
	$$'x', 'ops', 't', closed_by => 'y,'$$, $$'x,y', 'ops', 't', closed_by => 'z, y'$$, $$'x , invoice.paid', 'ops', 't', closed_by => 'z,invoice.*'$$, $$'x', 'ops', 't', closed_by => 'y,*'$$,
	$$'x', 'ops', 't', closing_condition => '$.a'$$, $$'x', 'ops', 't', closing_template => 'c'$$,
	$$'x', 'ops', 't', closed_by => 'y', closing_template => ''$$, $$'x', 'ops', 't', closed_by => 'y', closing_template => '{{a | nosuch}}'$$, $$'x', 'ops', 't', closed_by => 'y', closing_condition => '$.a['$$,
	$$'x', 'ops', 't', mention => ''$$, $$'x', 'ops', 't', mention => 'ann'$$, $$'x', 'ops', 't', mention => '<@U123>'$$, $$'x', 'ops', 't', mention => 'u123'$$, $$'x', 'ops', 't', mention => 'C0123'$$, $$'x', 'ops', 't', mention => 'U'$$, $$'x', 'ops', 't', mention => 'U1 U2'$$,
	$$'x', 'ops', 't', mention => '@channel'$$, $$'x', 'ops', 't', mention => '<!here>'$$, $$'x', 'ops', 't', mention => '<!channel|x>'$$, $$'x', 'ops', 't', mention => '@Everyone'$$]) s;
-- a NOTICE for each type that Stripe does not send
SET client_min_messages = notice;
SELECT stripe_sync.add_alert('a', 'invoice.paid, invoice.payd,app.x', 'ops', 't', closed_by => 'invoice.voided,invoice.voidd');
SELECT stripe_sync.add_alert('a', 'invoice.paid, invoice.payd,app.x', 'ops', 'u', closed_by => 'invoice.voided,invoice.voidd');
SET client_min_messages = warning;

---- several types ----
SELECT t.new(), stripe_sync.add_alert('many', ' invoice.payment_failed ,invoice.payment_action*', 'ops', '{{event.type}}', closed_by => 'invoice.paid, invoice.void*');
SELECT t.invoice('evt_1', 'invoice.payment_failed', 1), t.invoice('evt_2', 'invoice.payment_action_required', 2), t.invoice('evt_3', 'invoice.updated', 3), t.invoice('evt_4', 'invoice.payment_action_required', 4, '{}', 'in_2');
SELECT * FROM t.ended;
SELECT t.invoice('evt_5', 'invoice.voided', 5), t.invoice('evt_6', 'invoice.paid', 6, '{}', 'in_2'), t.invoice('evt_7', 'invoice.paid', 7, '{}', 'in_3');
SELECT * FROM t.ended;
-- one that came late is told by the inbox, also of the second type
SELECT t.new(), t.invoice('evt_1', 'invoice.voided', 5), stripe_sync.add_alert('many', 'invoice.payment_failed', 'ops', 'x', closed_by => 'invoice.paid, invoice.voided'), t.invoice('evt_2', 'invoice.payment_failed', 4), t.invoice('evt_3', 'invoice.payment_failed', 6);
SELECT event_id, state FROM stripe_sync.incident;

---- a condition on the closing event ----
-- of one type, one opens and the other closes
SELECT t.new(), stripe_sync.add_alert('overdue', 'customer.subscription.updated', 'ops', 'Overdue', condition => '$.data.object.status == "past_due"', closed_by => 'customer.subscription.updated', closing_condition => '$.data.object.status == "active"', closing_template => 'Active again');
CREATE FUNCTION t.status(event text, created int, status text) RETURNS text LANGUAGE sql AS $$ SELECT t.send(event, 'customer.subscription.updated', created, json_build_object('id', 'sub_1', 'object', 'subscription', 'status', status)) $$;
SELECT t.status('evt_1', 1, 'trialing'), t.status('evt_2', 2, 'past_due'), t.status('evt_3', 3, 'unpaid'), t.status('evt_4', 4, 'past_due');
SELECT * FROM t.ended;
SELECT t.status('evt_5', 5, 'active'), t.status('evt_6', 6, 'active'), t.status('evt_7', 7, 'past_due');
SELECT * FROM t.ended;
-- late: what was closed after it opens nothing, what was not does
SELECT t.status('evt_9', 9, 'active'), t.status('evt_8', 8, 'past_due'), t.status('evt_10', 10, 'past_due');
SELECT * FROM t.ended;
-- a closing event that does not meet it says nothing of those that come late
SELECT t.new(), stripe_sync.add_alert('big', 'invoice.payment_failed', 'ops', 'x', closed_by => 'invoice.paid', closing_condition => '$.data.object.amount_paid > 100'),
	t.invoice('evt_2', 'invoice.paid', 2, '{"amount_paid":50}'), t.invoice('evt_1', 'invoice.payment_failed', 1);
SELECT * FROM t.ended;
-- one that cannot be evaluated is not met
SELECT t.new(), stripe_sync.add_alert('odd', 'invoice.payment_failed', 'ops', 'x', closed_by => 'invoice.paid', closing_condition => '$.data.object.id.datetime() > 1'),
	t.invoice('evt_1', 'invoice.payment_failed', 1), t.invoice('evt_2', 'invoice.paid', 2);
SELECT * FROM t.ended;
SELECT id, status, error FROM stripe_sync.event ORDER BY id;

---- how it ended ----
SET stripe_sync.coalesce_burst = 100;
SELECT t.new(), stripe_sync.add_alert('end', 'invoice.payment_failed', 'ops', 'Failed {{number}}', closed_by => 'invoice.voided,invoice.paid', closing_template => '{{metadata.how | map:good=It is <well>;bad=:x: Lost;sad=💔 Sad;blank="  ";time=12:30 is: no sign;*=Over}}');
SELECT t.invoice('evt_' || how, 'invoice.payment_failed', 1, '{}', 'in_' || how), t.invoice('evt_p_' || how, 'invoice.paid', 2, jsonb_build_object('metadata', jsonb_build_object('how', how)), 'in_' || how) FROM unnest('{good,bad,sad,blank,time,other}'::text[]) how;
SELECT * FROM t.ended;

---- who is mentioned; test or live; what buttons are about ----
SELECT stripe_sync.add_endpoint('live', t.secret(), true, account => 'live');
SELECT t.new(), stripe_sync.add_alert('who', 'invoice.*', 'ops', 'x', mention => 'S012ABC', coalesce_for => '1 hour'), stripe_sync.add_alert('events', 'system.event_failed', 'ops', 'x', mention => 'W1X', coalesce_for => '1 hour');
SELECT t.invoice('evt_1', 'invoice.paid', 1), t.deliver(t.event('evt_2', 'invoice.paid', 2, '{"id":"in_2","object":"invoice"}', NULL, 'acct_a', true), 'live'), t.send('evt_3', 'invoice.upcoming', 3, '{"object":"invoice"}');
CREATE VIEW t.about AS SELECT alert, event_id, mention, livemode, refs FROM stripe_sync.incident_record ORDER BY id;
SELECT * FROM t.about;
-- a roll-up of both modes is not marked any more
SET stripe_sync.coalesce_burst = 1;
SELECT t.new(), stripe_sync.add_alert('both', 'invoice.*', 'ops', 'x', mention => 'U1X'), t.invoice('evt_1', 'invoice.paid', 1, '{}', 'in_x'), t.invoice('evt_2', 'invoice.paid', 1, '{}', 'in_y'), t.invoice('evt_3', 'invoice.paid', 1, '{}', 'in_z');
SELECT kind, account, livemode, mention, refs IS NULL AS plain FROM stripe_sync.incident_record ORDER BY id;
SELECT t.deliver(t.event('evt_4', 'invoice.paid', 2, '{"id":"in_w","object":"invoice"}', NULL, NULL, true), 'live');
SELECT kind, account, livemode, mention, refs IS NULL AS plain FROM stripe_sync.incident_record ORDER BY id;
RESET stripe_sync.coalesce_burst;
-- the system's own
SELECT t.new(), stripe_sync.add_alert('own', 'system.*', 'ops', '{{run}}');
CREATE FUNCTION t.refuse(event jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$;
SELECT stripe_sync.add_handler('stock', 'charge.*', 't.refuse');
SELECT t.send('evt_''1', 'charge.succeeded', 1, '{"id":"ch_1","object":"charge"}');
SELECT event_id, livemode, text, refs FROM stripe_sync.incident_record ORDER BY id;
SELECT stripe_sync.drop_handler('stock');

---- the default alerts, each from its event ----
CREATE FUNCTION t.defaults() RETURNS bigint LANGUAGE sql AS $$ SELECT count(*) FROM stripe_sync.add_default_alerts('ops') $$;
SELECT t.new(), t.defaults();
SET stripe_sync.coalesce_burst = 100;
SELECT t.send('evt_c', 'customer.created', 1, '{"id":"cus_1","object":"customer","name":"Ann & Co","email":"ann@example.com"}'), t.send('evt_pr', 'product.created', 1, '{"id":"prod_1","object":"product","name":"Pro"}'),
	t.send('evt_h', 'charge.failed', 1, '{"id":"ch_9","object":"charge","amount":5000,"currency":"usd","customer":"cus_1","outcome":{"seller_message":"The bank returned the decline code `insufficient_funds`."},"failure_message":"Your card has insufficient funds."}');
SELECT t.send('evt_1', 'invoice.payment_failed', 2, '{"id":"in_21","object":"invoice","number":"A-1","customer":"cus_1","charge":"ch_9","amount_due":5000,"currency":"usd","attempt_count":2,"next_payment_attempt":1767225601}'),
	t.send('evt_2', 'invoice.payment_failed', 2, '{"id":"in_22","object":"invoice","number":"A-2","customer":"cus_1","amount_due":5000,"currency":"usd","attempt_count":4,"next_payment_attempt":null}'),
	t.send('evt_3', 'invoice.payment_action_required', 2, '{"id":"in_23","object":"invoice","number":"A-3","customer":"cus_1","amount_due":5000,"currency":"usd"}'),
	t.send('evt_4', 'charge.dispute.created', 2, '{"id":"du_1","object":"dispute","charge":"ch_9","amount":5000,"currency":"usd","reason":"product_not_received","evidence_details":{"due_by":1767225601}}'),
	t.send('evt_5', 'charge.dispute.created', 2, '{"id":"du_2","object":"dispute","charge":"ch_9","amount":5000,"currency":"usd","reason":"general","evidence_details":{"due_by":null}}'),
	t.send('evt_6', 'charge.dispute.created', 2, '{"id":"du_3","object":"dispute","charge":"ch_9","amount":5000,"currency":"usd","reason":"general"}'),
	t.send('evt_7', 'radar.early_fraud_warning.created', 2, '{"id":"issfr_1","object":"radar.early_fraud_warning","charge":"ch_9","fraud_type":"made_with_stolen_card"}'),
	t.send('evt_8', 'payout.failed', 2, '{"id":"po_1","object":"payout","amount":120000,"currency":"usd","arrival_date":1767225600,"failure_message":"The bank account has been closed."}'),
	t.send('evt_9', 'customer.subscription.deleted', 2, '{"id":"sub_9","object":"subscription","customer":"cus_1","status":"canceled","cancellation_details":{"feedback":"too_expensive"},"items":{"object":"list","has_more":false,"data":[{"quantity":3,"price":{"id":"price_1","object":"price","nickname":null,"product":"prod_1","unit_amount":12000,"currency":"usd","recurring":{"interval":"year","interval_count":1}}}]}}');
SELECT alert, text FROM stripe_sync.incident ORDER BY id;
SELECT t.send('evt_11', 'invoice.marked_uncollectible', 3, '{"id":"in_21","object":"invoice"}'), t.send('evt_12', 'invoice.paid', 3, '{"id":"in_22","object":"invoice"}'), t.send('evt_13', 'invoice.voided', 3, '{"id":"in_23","object":"invoice"}'),
	t.send('evt_14', 'charge.dispute.closed', 3, '{"id":"du_1","object":"dispute","status":"won"}'), t.send('evt_15', 'charge.dispute.closed', 3, '{"id":"du_2","object":"dispute","status":"lost"}'), t.send('evt_16', 'charge.dispute.closed', 3, '{"id":"du_3","object":"dispute","status":"warning_closed"}');
SELECT alert, group_key, state, closing_text, well FROM t.ended;
SELECT regexp_replace(payload->>'text', 'after less than a minute', 'after TIME', 'i') AS text FROM stripe_sync.message WHERE method = 'post' AND event_id = ANY ('{evt_11,evt_12,evt_15}') ORDER BY id;
-- with e-mail addresses
SET stripe_sync.slack_personal = on;
SELECT t.new(), t.defaults(), t.send('evt_20', 'invoice.payment_failed', 9, '{"id":"in_9","object":"invoice","number":"A-9","customer":"cus_1","amount_due":5000,"currency":"usd","attempt_count":1}');
SELECT text FROM stripe_sync.incident;
RESET stripe_sync.slack_personal;
SELECT t.new();
