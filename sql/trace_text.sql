-- trace_text() and trace_html(): headings, verdicts, changes in words, the layout, and
-- text from outside.
\set tables '{customer,subscription,invoice,charge,payment_intent,product,price}'
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.psql
\set ECHO none
\i :prelude
\pset format unaligned
\pset tuples_only on
\set ECHO all
SET timezone = 'UTC';
-- As if everything had been received 0.4 s after it happened, and done at once.
CREATE PROCEDURE t.settle() LANGUAGE sql AS $$
	UPDATE stripe_sync.event SET received_at = created + interval '0.4 s', applied_at = created + interval '0.4 s',
		next_attempt_at = CASE WHEN next_attempt_at IS NOT NULL THEN created + interval '65 s' END;
	UPDATE stripe_sync.event_error r SET first_at = e.created + interval '0.5 s', last_at = e.created + interval '0.5 s'
	  FROM stripe_sync.event e WHERE e.id = r.event_id;
	UPDATE stripe_sync.handler_run r SET at = e.created + interval '0.5 s', runs =
		(SELECT jsonb_agg(run || jsonb_build_object('at', e.created + interval '0.5 s', 'ms', 1.2)) FROM jsonb_array_elements(r.runs) run)
	  FROM stripe_sync.event e WHERE e.id = r.event_id;
	UPDATE stripe_sync.alerted a SET at = e.created + interval '0.5 s' FROM stripe_sync.event e WHERE e.id = a.event_id;
	UPDATE stripe_sync.incident_record i SET opened_at = e.created + interval '0.5 s' FROM stripe_sync.event e WHERE e.id = i.event_id;
	UPDATE stripe_sync.message m SET created_at = e.created + interval '0.5 s', settled_at = CASE WHEN settled_at IS NOT NULL THEN e.created + interval '9 s' END FROM stripe_sync.event e WHERE e.id = m.event_id;
	UPDATE stripe_sync.journal SET at = '2025-01-01 00:01:35Z', last_at = '2025-01-01 00:01:35Z';
$$;
-- The first lines, up to the empty one: the verdict if there is one, and the heading.
CREATE FUNCTION t.head(ref text) RETURNS text LANGUAGE sql AS $$ SELECT split_part(stripe_sync.trace_text(ref), E'\n\n2', 1) $$;

-- A payment fails, a handler fails on it, an alert is queued for a destination that is disabled.
CREATE FUNCTION t.access(event jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE invalid_text_representation USING MESSAGE = 'invalid input syntax for type integer: "x"'; END $$;
CREATE FUNCTION t.dunning(event jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN END $$;
SELECT stripe_sync.add_handler('access', 'invoice.payment_failed', 't.access'), stripe_sync.add_handler('dunning', 'invoice.payment_failed', 't.dunning');
SELECT stripe_sync.add_slack_channel('billing', '#billing', 'xoxb-1-secret');
SELECT stripe_sync.disable_destination('billing', 'the channel moves');
SELECT stripe_sync.add_alert('payment_failed', 'invoice.payment_failed', 'billing', '{{customer}}', closed_by => 'invoice.paid');
SELECT t.send('evt_1', 'customer.created', 0, '{"id":"cus_Ada","object":"customer","name":"Ada Lovelace","email":"ada@example.com"}');
SELECT t.send('evt_2', 'invoice.created', 10, '{"id":"in_1","object":"invoice","customer":"cus_Ada","status":"draft","currency":"eur","total":2900,"amount_due":2900,"attempt_count":0,"client_secret":"in_1_secret_x"}');
SELECT t.send('evt_3', 'invoice.payment_failed', 100, '{"id":"in_1","object":"invoice","customer":"cus_Ada","status":"open","currency":"eur","total":2900,"amount_due":2900,"attempt_count":1,"client_secret":"in_1_secret_y"}');
CALL t.settle();
SELECT stripe_sync.trace_text('in_1');
-- paid: the heading says so, and what is still wrong stays
SELECT stripe_sync.drop_handler('access');
SELECT t.send('evt_4', 'invoice.paid', 200, '{"id":"in_1","object":"invoice","customer":"cus_Ada","status":"paid","currency":"eur","total":2900,"amount_due":0,"amount_paid":2900,"attempt_count":2,"status_transitions":{"paid_at":1735689800}}');
SELECT status FROM stripe_sync.replay('evt_3');
SELECT stripe_sync.enable_destination('billing');
SELECT stripe_sync.cancel_message(id) FROM stripe_sync.message WHERE state = 'waiting' ORDER BY id;
CALL t.settle();
SELECT t.head('in_1');
-- in another time zone
SET timezone = 'Asia/Kolkata';
SELECT stripe_sync.trace_text('evt_1');
SET timezone = 'UTC';

-- Headings.
SELECT t.send('evt_h' || n, type, 300 + n, object::json) FROM (VALUES
	(1, 'product.created', '{"id":"prod_1","object":"product","name":"Gold","active":false}'),
	(2, 'price.created', '{"id":"price_1","object":"price","nickname":"Gold, quarterly","product":"prod_1","currency":"eur","unit_amount":4900,"recurring":{"interval":"month","interval_count":3},"active":true}'),
	(3, 'price.created', '{"id":"price_2","object":"price","product":"prod_1","currency":"jpy","unit_amount":2900,"recurring":{"interval":"month","interval_count":1},"active":true}'),
	(4, 'customer.subscription.created', '{"id":"sub_1","object":"subscription","customer":"cus_Ada","status":"trialing","cancel_at":1767225600,"items":{"object":"list","data":[{"id":"si_1","object":"subscription_item","quantity":3,"subscription":"sub_1","price":{"id":"price_2","object":"price","currency":"jpy","unit_amount":2900,"recurring":{"interval":"month","interval_count":1}}}]}}'),
	(5, 'charge.refunded', '{"id":"ch_1","object":"charge","customer":"cus_Ada","status":"succeeded","currency":"kwd","amount":12500,"amount_refunded":2500,"disputed":true}'),
	(6, 'payment_intent.payment_failed', '{"id":"pi_1","object":"payment_intent","customer":"cus_Ada","status":"requires_payment_method","currency":"usd","amount":100,"last_payment_error":{"code":"card_declined","message":"no"}}'),
	(7, 'charge.dispute.created', '{"id":"du_1","object":"dispute","charge":"ch_1","status":"needs_response","reason":"fraudulent","currency":"kwd","amount":12500}'),
	(8, 'coupon.created', '{"id":"SUMMER","object":"coupon","name":"Summer","currency":"eur","amount_off":500}'),
	(9, 'teapot.boiled', '{"id":"tea_1","object":"teapot","status":"hot"}')) v (n, type, object);
SELECT t.send('evt_h10', 'account.application.deauthorized', 310, '{"object":"application"}', account => 'acct_1');
CALL t.settle();
SELECT t.head(ref) FROM unnest(ARRAY['prod_1','price_1','price_2','sub_1','ch_1','pi_1','du_1','SUMMER','tea_1','evt_h10','cus_Ada']) ref;
SELECT t.send('evt_h11', 'customer.deleted', 320, '{"id":"cus_Gone","object":"customer","name":"Gone"}');
CALL t.settle();
SELECT t.head('cus_Gone');
-- An object without events of its own; a customer that only other objects name; nothing.
SELECT t.send('evt_h12', 'charge.succeeded', 330, '{"id":"ch_2","object":"charge","customer":"cus_Old","status":"succeeded","currency":"eur","amount":100,"invoice":null}');
CALL t.settle();
SELECT stripe_sync.trace_text('cus_Old');
SELECT t.head('cus_Never');
SELECT t.send('evt_h13', 'customer.subscription.created', 340, '{"id":"sub_2","object":"subscription","customer":"cus_Old","status":"active","items":{"object":"list","data":[{"id":"si_2","object":"subscription_item","quantity":1,"subscription":"sub_2","price":{"id":"price_3","object":"price","currency":"jpy","unit_amount":2900}}]}}');
CALL t.settle();
SELECT stripe_sync.trace_text('price_3');
-- Lines of two messages of one story say which is meant.
SELECT stripe_sync.add_alert('two_' || n, 'charge.captured', 'billing', 'n', group_by => '$.id') FROM generate_series(1, 2) n;
SELECT t.send('evt_h14', 'charge.captured', 350, '{"id":"ch_3","object":"charge","status":"succeeded","currency":"eur","amount":100}');
INSERT INTO stripe_sync.delivery (message_id, attempt, started_at, finished_at, http_status, code, verdict)
SELECT id, 1, '2025-01-01 00:06Z', '2025-01-01 00:06Z', 503, 'http_5xx', 'retry' FROM stripe_sync.message WHERE event_id = 'evt_h14';
SELECT count(DISTINCT what), count(*) FILTER (WHERE what LIKE '#billing: ' || ref || ' not accepted (503 %') FROM stripe_sync.trace('ch_3') WHERE system = 'slack';
SELECT stripe_sync.drop_alert('two_' || n) FROM generate_series(1, 2) n;
SELECT stripe_sync.cancel_message(id) FROM stripe_sync.message WHERE event_id = 'evt_h14' AND state = 'waiting' \g /dev/null

-- Changes: what the events say was changed, of nested fields, arrays, money, times, metadata.
CREATE FUNCTION t.change(n int, type text, object jsonb, previous jsonb) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM t.send('evt_c' || n, type, 1000 + n, object::json, previous::json);
	RETURN (SELECT substring(what FROM 'applied: (.*); no alert matches') FROM stripe_sync.trace('evt_c' || n)
			WHERE ref = 'evt_c' || n AND system = 'postgres');
END $$;
SELECT t.change(1, 'customer.updated', '{"id":"cus_c","object":"customer","currency":"jpy","balance":-500,"name":"Ada\u001b[31m\nLovelace","metadata":{"a.b":"2","secret":"no"},"address":{"city":"London","line1":"1 Long Street, and more of it than anybody would read in one line"},"delinquent":true}',
	'{"balance":0,"name":null,"metadata":{"a.b":"1","secret":"none"},"address":{"city":"Paris","line1":null},"delinquent":false}');
SELECT t.change(2, 'customer.subscription.updated', '{"id":"sub_c","object":"subscription","customer":"cus_c","status":"active","currency":"eur","cancel_at":1767225600,"items":{"object":"list","data":[{"id":"si_c","object":"subscription_item","quantity":2,"price":{"id":"price_b","object":"price","currency":"eur","unit_amount":4900,"unit_amount_decimal":"4900","nickname":"B","recurring":{"interval":"year"}},"plan":{"id":"price_b","object":"plan","amount":4900}}]}}',
	'{"cancel_at":null,"items":{"data":[{"id":"si_c","object":"subscription_item","quantity":1,"price":{"id":"price_a","object":"price","currency":"eur","unit_amount":2900,"unit_amount_decimal":"2900","nickname":"A","recurring":{"interval":"month"}},"plan":{"id":"price_a","object":"plan","amount":2900}}]}}');
SELECT t.change(3, 'invoice.updated', '{"id":"in_c","object":"invoice","currency":"kwd","status":"open","total":1234567,"amount_due":10,"hosted_invoice_url":"https://invoice.stripe.com/secret","lines":{"object":"list","data":[{"id":"il_1"},{"id":"il_2"}]},"discounts":["di_1","di_2"],"due_date":1767225600,"description":"x","number":"N-1","footer":"f","client_secret":"s"}',
	'{"status":"draft","total":0,"amount_due":0,"hosted_invoice_url":null,"lines":{"data":[]},"discounts":[],"due_date":null,"description":null,"number":null,"footer":null,"client_secret":null}');
SELECT t.change(4, 'payment_intent.succeeded', '{"id":"pi_c","object":"payment_intent","currency":"usd","status":"succeeded","amount":1,"amount_received":1,"latest_charge":{"id":"ch_c","object":"charge","payment_method_details":{"card":{"cvc":"123"}}},"client_secret":"pi_c_secret_1","payment_method_types":["card","link"]}',
	'{"status":"processing","amount_received":0,"latest_charge":null,"client_secret":"pi_c_secret_0","payment_method_types":["card"],"last_payment_error":{"code":"card_declined"}}');
-- nothing before it is known, or nothing is said
SELECT t.change(5, 'charge.succeeded', '{"id":"ch_c","object":"charge","status":"succeeded","currency":"usd","amount":100,"amount_captured":100,"paid":true,"receipt_url":"https://x"}', NULL), t.change(6, 'charge.updated', '{"id":"ch_c","object":"charge","status":"succeeded","currency":"usd","amount":100,"amount_captured":100,"paid":true,"receipt_url":"https://x"}', '{}');

-- Names from outside: HTML, escape sequences, line breaks, a change of direction, long ones, wide and combining characters.
SELECT t.send('evt_x1', 'customer.created', 2000, json_build_object('id', 'cus_x', 'object', 'customer', 'email', 'x@example.com', 'name',
	'<script>alert("1")</script>' || E'\x1b[31m\r\n' || U&'\202E\2066\200B\2028' || '& ' || repeat('日本', 30)));
SELECT t.send('evt_x2', 'customer.created', 2001, json_build_object('id', 'cus_y', 'object', 'customer', 'email', 'x@example.com', 'name', 'a' || repeat(U&'\0301', 2000)));
SELECT t.send('evt_x3', '<b>' || repeat('long', 50), 2002, json_build_object('id', repeat('x', 200), 'object', '<i>teapot'));
CALL t.settle();
SELECT stripe_sync.trace_text('cus_x');
-- the e-mail address is of two customers: two stories
SELECT count(*) FROM regexp_matches(stripe_sync.trace_text('x@example.com'), '^customer cus_[xy]   "', 'gn');
SELECT text !~ U&'[\0001-\0009\000B-\001F\007F-\009F\200B\2028\202A-\202E\2060-\206F]' AS plain, length(y) < 1000 AS bounded
  FROM (SELECT stripe_sync.trace_text('x@example.com') || stripe_sync.trace_text(repeat('x', 200)) || stripe_sync.trace_html('x@example.com') || stripe_sync.trace_html(repeat('x', 200))) s (text), LATERAL (SELECT stripe_sync.trace_text('cus_y')) l (y);
SELECT max(length(line)) <= 80 AS fits FROM string_to_table(stripe_sync.trace_text(repeat('x', 200)), E'\n') line;
SELECT html ~ '<script|<b>|<i>' AS markup, html LIKE '%&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;%' AS escaped
  FROM (SELECT stripe_sync.trace_html('cus_x') || stripe_sync.trace_html(repeat('x', 200))) s (html);
SELECT regexp_replace(stripe_sync.trace_html('in_1'), '<style>.*</style>', '<style>...</style>');
-- the colours of the dark scheme are not printed
SELECT count(*) > 0 AS dark, bool_and(rule[1] ~ '^ *screen +and') AS on_screens FROM regexp_matches(stripe_sync.trace_html('in_1'), '@media([^{]*prefers-color-scheme: *dark[^{]*)', 'g') rule;

-- Verdicts.
SET stripe_sync.max_attempts = 1;
SELECT stripe_sync.add_handler('access', 'charge.*', 't.access');
SELECT t.send('evt_v1', 'charge.succeeded', 3000, '{"id":"ch_v","object":"charge","status":"succeeded"}');
CALL t.settle();
SELECT t.head('ch_v');
RESET stripe_sync.max_attempts;
SELECT t.send('evt_v2', 'charge.updated', 3001, '{"id":"ch_v","object":"charge","status":"succeeded"}');
CALL t.settle();
SELECT t.head('ch_v');
-- the statement can be run as it is printed
SELECT t.raises(substring(replace(t.head('ch_v'), E'\n  ', ' ') FROM 'SELECT [^;]*\)'));
SELECT stripe_sync.drop_handler('access');
SELECT t.head('ch_v');
-- messages: given up; refused for its token; disabled
SELECT t.send('evt_v3', 'invoice.payment_failed', 3002, '{"id":"in_v","object":"invoice","status":"open"}');
CALL t.settle();
UPDATE stripe_sync.message SET state = 'dead', attempts = 3, last_code = 'channel_not_found', settled_at = '2025-01-01 01:00Z' WHERE event_id = 'evt_v3';
SELECT regexp_replace(t.head('in_v'), '\d+(?=\)| \(| to)', 'N', 'g');
UPDATE stripe_sync.message SET state = 'waiting', settled_at = NULL WHERE event_id = 'evt_v3';
UPDATE stripe_sync.destination SET enabled = false, refused = true, disabled_reason = 'token_revoked';
SELECT regexp_replace(t.head('in_v'), '\d+(?=\)| \(| to| waits)', 'N', 'g');

-- a message of its own, and a job
SELECT stripe_sync.notify('billing', 'Hello', key => 'hello-1') > 0;
SELECT regexp_replace(t.head('hello-1'), 'message \d+', 'message N', 'g');
SELECT stripe_sync.set_api_key('rk_test_12345678901234567890');
SELECT stripe_sync.pause('stripe');
SELECT t.head('job ' || stripe_sync.reconcile());

-- a job that failed; an object that could not be fetched; an event that is held for its mode
UPDATE stripe_sync.job_record SET state = 'failed', error = 'HTTP 401: Invalid API key', started_at = '2025-01-01 02:00Z', finished_at = '2025-01-01 02:01Z' WHERE kind = 'reconcile';
SELECT regexp_replace(t.head('job ' || max(id)), 'job \d+', 'job N', 'g') FROM stripe_sync.job_record;
INSERT INTO stripe_sync.reread (object_type, object_id, account, reason, state, error, tries, due_at, after)
	VALUES ('charge', 'ch_v', '', 'its events of one second have no order', 'dead', 'resource_missing', 3, '2025-01-01 03:00Z', '2025-01-01 03:00Z');
SELECT t.head('ch_v');
SELECT what FROM stripe_sync.trace('ch_v') WHERE what LIKE '%fetched from Stripe again%';
DELETE FROM stripe_sync.reread;
UPDATE stripe_sync.event SET status = 'ignored', object_type = NULL, object_id = NULL WHERE id = 'evt_v2';
SELECT t.head('evt_v2');

-- Who may: a role with grant_read, no other.
CREATE ROLE regress_trace_reader;
SET ROLE regress_trace_reader;
SELECT t.sqlstate($$ SELECT stripe_sync.trace_text('in_1') $$);
RESET ROLE;
SELECT stripe_sync.grant_read('regress_trace_reader');
SET ROLE regress_trace_reader;
SELECT t.head('in_1');
SELECT length(stripe_sync.trace_html('in_1')) > 100;
RESET ROLE;
-- What is not known, or not given.
SELECT t.raises($$ SELECT stripe_sync.trace_text('in_none') $$), t.raises($$ SELECT stripe_sync.trace_html('in_none') $$);
SELECT t.raises($$ SELECT stripe_sync.trace_text(NULL) $$), t.raises($$ SELECT stripe_sync.trace_html(NULL) $$);
\set ECHO none
DROP EXTENSION stripe_sync CASCADE;
DROP SCHEMA stripe, t CASCADE;
DROP OWNED BY regress_trace_reader;
DROP ROLE regress_trace_reader;
