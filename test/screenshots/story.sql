-- story.sql: six hours of a shop, for the pictures of the dashboard.
--
-- The hours before are rows that are written into the tables.  The last events are
-- received, handled, alerted and sent to the stub of Slack, and then moved to the
-- time at which they are meant to have happened.

\set QUIET on
\set ON_ERROR_STOP on
SET client_min_messages = warning;
\o /dev/null

CREATE EXTENSION stripe_sync;
CREATE SCHEMA shop;

SELECT stripe_sync.add_endpoint('default', 'whsec_shop');
SELECT stripe_sync.add_slack_channel('billing', '#billing', 'xoxb-shop');
SELECT stripe_sync.add_slack_channel('support', '#support', 'xoxb-shop');
SELECT stripe_sync.add_slack_channel('on-call', '#on-call', 'xoxb-shop');
SELECT stripe_sync.add_default_alerts('billing');
SELECT stripe_sync.set_fallback('billing', 'support'), stripe_sync.set_fallback('support', 'billing'),
	   stripe_sync.set_fallback('on-call', 'billing');
SELECT stripe_sync.note_backup(now() - interval '5 hours', 'pg_basebackup');
SELECT stripe_sync.note_backup(now() - interval '9 days', 'restore tested');
DO $$
DECLARE
	setting text;
BEGIN
	FOREACH setting IN ARRAY '{statement_timeout,lock_timeout,idle_in_transaction_session_timeout}'::text[] LOOP
		EXECUTE format('ALTER DATABASE %I SET %s = %L', current_database(), setting, '5min');
	END LOOP;
END $$;

-- the mirror's tables belong to a role without other rights
CREATE ROLE shop_mirror;
GRANT USAGE ON SCHEMA stripe TO shop_mirror;
DO $$
DECLARE
	name text;
BEGIN
	FOR name IN SELECT m.name FROM stripe_sync.mirror_tables() AS m LOOP
		EXECUTE format('ALTER TABLE stripe.%I OWNER TO shop_mirror', name);
	END LOOP;
END $$;

-- ---- the hours before ----

-- 0 to 1, the same in each run
CREATE FUNCTION shop.chance(n int, salt text) RETURNS float8 LANGUAGE sql IMMUTABLE AS
$$ SELECT (hashtext(salt || n)::bigint + 2147483648) / 4294967296.0 $$;

-- one row for each event: more in the morning, a slow Stripe three hours ago
CREATE TABLE shop.past AS
SELECT n, minute, now() - make_interval(mins => 363) + make_interval(secs => minute * 60 + 60 * shop.chance(n, 'second')) AS received_at,
	   greatest(0.4, -ln(1 - shop.chance(n, 'delay') * 0.995) * CASE WHEN minute BETWEEN 170 AND 205 THEN 14 ELSE 0.9 END) AS delay,
	   (ARRAY['invoice.paid','invoice.created','invoice.updated','charge.succeeded','payment_intent.succeeded',
			  'customer.subscription.updated','customer.updated','checkout.session.completed','charge.refunded'])
			[1 + floor(9 * shop.chance(n, 'type'))::int] AS type
  FROM generate_series(0, 346) AS minute,
	   LATERAL generate_series(1, (2 + 5 * (1 + sin(minute / 75.0)) + 4 * shop.chance(minute, 'rate')
			+ CASE WHEN minute BETWEEN 120 AND 131 THEN 11 ELSE 0 END)::int) AS k,
	   LATERAL (SELECT minute * 100 + k) AS number (n);

INSERT INTO stripe_sync.event (id, account, type, endpoint, livemode, api_version, object_type, object_id, request_id,
	created, received_at, source, status, mirrored, todo, attempts, applied_at, payload)
SELECT 'evt_past' || n, '', type, 'default', false, '2026-10-28.endive', split_part(type, '.', 1), 'obj_' || n, 'req_' || n,
	   date_trunc('second', received_at - make_interval(secs => delay)), received_at, 'webhook', 'applied', 'applied', '{}', 1,
	   received_at, json_build_object('id', 'evt_past' || n, 'object', 'event', 'type', type, 'data', json_build_object('object', '{}'::json))
  FROM shop.past;

-- a deployment broke a handler for ten minutes
INSERT INTO stripe_sync.event_error (event_id, account, event_type, step, attempts, first_at, last_at, sqlstate, message, state, recovered_at)
SELECT 'evt_past' || n, '', type, 'access', 2, received_at, received_at + interval '40 seconds', '42703',
	   'column "plan_id" does not exist', 'settled', received_at + interval '12 minutes'
  FROM shop.past WHERE minute BETWEEN 234 AND 246 AND shop.chance(n, 'broken') < 0.3;

-- messages: Slack limited the rate for a quarter of an hour
INSERT INTO stripe_sync.message (destination, method, payload, state, attempts, due_at, created_at, settled_at, last_code)
SELECT CASE WHEN shop.chance(n, 'to') < 0.6 THEN 'billing' WHEN shop.chance(n, 'to') < 0.9 THEN 'support' ELSE 'on-call' END, 'post',
	   jsonb_build_object('text', 'A message of the shop'), 'sent', CASE WHEN minute BETWEEN 268 AND 284 THEN 2 ELSE 1 END, received_at,
	   received_at, CASE WHEN minute BETWEEN 268 AND 284 THEN now() - make_interval(mins => 363 - 286) + make_interval(secs => (n % 400))
						 ELSE received_at + interval '0.4 seconds' END, 'ok'
  FROM shop.past WHERE shop.chance(n, 'told') < 0.09;
INSERT INTO stripe_sync.delivery (message_id, attempt, started_at, finished_at, http_status, code, verdict, duration)
SELECT id, a, CASE WHEN a < attempts THEN created_at ELSE settled_at END, CASE WHEN a < attempts THEN created_at ELSE settled_at END,
	   CASE WHEN a < attempts THEN 429 ELSE 200 END, CASE WHEN a < attempts THEN 'ratelimited' ELSE 'ok' END,
	   CASE WHEN a < attempts THEN 'retry' ELSE 'sent' END, interval '0.21 seconds'
  FROM stripe_sync.message, generate_series(1, attempts) AS a ORDER BY 3;

-- ---- the last quarter of an hour ----

CREATE FUNCTION shop.customer(id text, name text, email text) RETURNS jsonb LANGUAGE sql AS
$$ SELECT jsonb_build_object('id', id, 'object', 'customer', 'name', name, 'email', email, 'currency', 'eur', 'balance', 0,
	'delinquent', false, 'livemode', false, 'created', extract(epoch FROM now() - interval '90 days')::bigint, 'metadata', '{}'::jsonb) $$;

CREATE FUNCTION shop.invoice(id text, customer text, name text, status text, due bigint, paid bigint, attempts int) RETURNS jsonb LANGUAGE sql AS
$$ SELECT jsonb_build_object('id', id, 'object', 'invoice', 'number', upper(replace(id, 'in_', 'SHOP-')), 'customer', customer,
	'customer_name', name, 'currency', 'eur', 'status', status, 'livemode', false, 'amount_due', due, 'amount_paid', paid,
	'amount_remaining', due - paid, 'total', due, 'attempt_count', attempts, 'attempted', attempts > 0,
	'created', extract(epoch FROM now() - interval '1 hour')::bigint, 'metadata', '{}'::jsonb) $$;

CREATE FUNCTION shop.subscription(id text, customer text, status text) RETURNS jsonb LANGUAGE sql AS
$$ SELECT jsonb_build_object('id', id, 'object', 'subscription', 'customer', customer, 'status', status, 'currency', 'eur',
	'livemode', false, 'created', extract(epoch FROM now() - interval '40 days')::bigint, 'metadata', '{}'::jsonb) $$;

-- When each is meant to have been received, before the clock
CREATE TABLE shop.clock AS SELECT now() AS base;
CREATE TABLE shop.moment (event_id text, ago interval);

CREATE FUNCTION shop.send(event_id text, type text, ago interval, object jsonb, previous jsonb DEFAULT NULL) RETURNS void LANGUAGE plpgsql AS
$$
DECLARE
	payload text := jsonb_build_object('id', event_id, 'object', 'event', 'type', type, 'livemode', false, 'api_version', '2026-10-28.endive',
		'created', extract(epoch FROM date_trunc('second', (SELECT base FROM shop.clock) - ago - interval '0.6 seconds'))::bigint, 'pending_webhooks', 1,
		'request', jsonb_build_object('id', 'req_' || event_id, 'idempotency_key', NULL),
		'data', jsonb_build_object('object', object) || coalesce(jsonb_build_object('previous_attributes', previous), '{}'))::text;
BEGIN
	PERFORM stripe_sync.receive(payload, stripe_sync.sign(payload, 'whsec_shop'));
	INSERT INTO shop.moment VALUES (event_id, ago);
END $$;

CREATE FUNCTION shop.grant_access(event jsonb) RETURNS void LANGUAGE plpgsql AS
$$ BEGIN
	IF event #>> '{data,object,customer}' = 'cus_Grace' THEN
		RAISE invalid_text_representation USING MESSAGE = 'invalid input syntax for type integer: "pro-plus"';
	END IF;
END $$;
SELECT stripe_sync.add_handler('access', 'customer.subscription.*', 'shop.grant_access');

SELECT shop.send('evt_1R01', 'customer.updated', '14 min', shop.customer('cus_Ada', 'Ada Lovelace', 'ada@example.com'));
SELECT shop.send('evt_1R02', 'customer.updated', '13 min 20 s', shop.customer('cus_Grace', 'Grace Hopper', 'grace@example.com'));
SELECT shop.send('evt_1R03', 'invoice.created', '12 min 50 s', shop.invoice('in_0204', 'cus_Jo', 'Söder & Söner AB', 'draft', 129000, 0, 0));
SELECT shop.send('evt_1R04', 'invoice.finalized', '12 min 48 s', shop.invoice('in_0204', 'cus_Jo', 'Söder & Söner AB', 'open', 129000, 0, 0));
SELECT shop.send('evt_1R05', 'invoice.paid', '12 min 12 s', shop.invoice('in_0204', 'cus_Jo', 'Söder & Söner AB', 'paid', 129000, 129000, 1));
SELECT shop.send('evt_1R06', 'invoice.created', '11 min', shop.invoice('in_0205', 'cus_Ada', 'Ada Lovelace', 'open', 2900, 0, 0));
SELECT shop.send('evt_1R07', 'invoice.payment_failed', '10 min 58 s', shop.invoice('in_0205', 'cus_Ada', 'Ada Lovelace', 'open', 2900, 0, 1));
SELECT shop.send('evt_1R08', 'customer.subscription.updated', '10 min 57 s', shop.subscription('sub_Ada', 'cus_Ada', 'past_due'), '{"status": "active"}');
SELECT shop.send('evt_1R09', 'charge.dispute.created', '9 min 30 s', '{"id": "dp_1R09", "object": "dispute", "amount": 9900, "currency": "eur", "charge": "ch_77",
	"reason": "product_not_received", "status": "needs_response", "livemode": false, "created": 1790000000, "metadata": {}, "evidence_details": {"due_by": 1799971200}}');
SELECT shop.send('evt_1R10', 'invoice.paid', '8 min 40 s', shop.invoice('in_0206', 'cus_Mary', 'Mary Jackson', 'paid', 7900, 7900, 1));
SELECT shop.send('evt_1R11', 'customer.updated', '7 min 5 s', shop.customer('cus_Yui', '結城 浩', 'yui@example.jp'));
SELECT shop.send('evt_1R12', 'invoice.paid', '6 min 31 s', shop.invoice('in_0207', 'cus_Yui', '結城 浩', 'paid', 2900, 2900, 1));
SELECT shop.send('evt_1R13', 'customer.subscription.created', '5 min 2 s', shop.subscription('sub_Mary', 'cus_Mary', 'active'));
SELECT shop.send('evt_1R14', 'customer.subscription.updated', '4 min 44 s', shop.subscription('sub_Grace', 'cus_Grace', 'active'), '{"status": "trialing"}');
SELECT shop.send('evt_1R15', 'invoice.created', '3 min 10 s', shop.invoice('in_0208', 'cus_Grace', 'Grace Hopper', 'draft', 4900, 0, 0));
SELECT shop.send('evt_1R17', 'invoice.paid', '2 min 2 s', shop.invoice('in_0208', 'cus_Grace', 'Grace Hopper', 'paid', 4900, 4900, 1));
SELECT shop.send('evt_1R16', 'invoice.finalized', '2 min 1 s', shop.invoice('in_0208', 'cus_Grace', 'Grace Hopper', 'open', 4900, 0, 0));
SELECT shop.send('evt_1R18', 'customer.subscription.deleted', '1 min 25 s', shop.subscription('sub_Jo', 'cus_Jo', 'canceled'));
SELECT shop.send('evt_1R19', 'invoice.payment_failed', '48 s', shop.invoice('in_0205', 'cus_Ada', 'Ada Lovelace', 'open', 2900, 0, 2));
SELECT shop.send('evt_1R20', 'customer.updated', '9 s', shop.customer('cus_Mary', 'Mary Jackson', 'mary@nasa.example'), '{"email": "mary@example.com"}');

-- somebody guesses a secret
SELECT (stripe_sync.webhook(payload, jsonb_build_object('Stripe-Signature', stripe_sync.sign(payload, 'whsec_a_guess')))).http_status
  FROM (SELECT E'{\n "id": "evt_guess' || n || '", "object": "event", "type": "invoice.paid"\n}' FROM generate_series(1, 3) AS n) AS guess (payload);

-- Wait until Slack has everything.
DO $$
BEGIN
	FOR i IN 1 .. 600 LOOP
		EXIT WHEN NOT EXISTS (SELECT FROM stripe_sync.message WHERE state IN ('waiting', 'sending'));
		PERFORM pg_sleep(0.05);
		COMMIT;
	END LOOP;
END $$;

-- ---- to the time at which it is meant to have happened ----

CREATE TABLE shop.shift AS
SELECT m.event_id, base - m.ago - e.received_at AS by
  FROM shop.clock, shop.moment m JOIN stripe_sync.event e ON e.id = m.event_id;
UPDATE stripe_sync.delivery d SET started_at = started_at + s.by, finished_at = finished_at + s.by
  FROM stripe_sync.message m JOIN shop.shift s USING (event_id) WHERE m.id = d.message_id;
UPDATE stripe_sync.message m SET created_at = created_at + s.by, settled_at = settled_at + s.by
  FROM shop.shift s WHERE s.event_id = m.event_id;
UPDATE stripe_sync.incident_record i SET opened_at = opened_at + s.by FROM shop.shift s WHERE s.event_id = i.event_id;
UPDATE stripe_sync.incident_record SET opened_at = now() - interval '4 min 40 s' WHERE alert = 'events_failing';
UPDATE stripe_sync.message SET created_at = now() - interval '4 min 40 s', settled_at = now() - interval '4 min 39 s' WHERE alert = 'events_failing';
UPDATE stripe_sync.alerted a SET at = at + s.by FROM shop.shift s WHERE s.event_id = a.event_id;
UPDATE stripe_sync.handler_run r SET at = at + s.by FROM shop.shift s WHERE s.event_id = r.event_id;
UPDATE stripe_sync.event_error x SET first_at = first_at + s.by, last_at = last_at + s.by FROM shop.shift s WHERE s.event_id = x.event_id;
UPDATE stripe_sync.event e SET received_at = received_at + s.by, applied_at = applied_at + s.by FROM shop.shift s WHERE s.event_id = e.id;

-- a destination that has been switched off
SELECT stripe_sync.disable_destination('on-call', 'Slack answered is_archived');
UPDATE stripe_sync.destination SET refused = true WHERE name = 'on-call';
SELECT stripe_sync.notify('on-call', 'The nightly report is ready.');
UPDATE stripe_sync.message SET created_at = now() - interval '12 minutes', due_at = now() - interval '12 minutes' WHERE state = 'waiting';
VACUUM ANALYZE stripe_sync.event;
VACUUM ANALYZE stripe_sync.message;

-- what was read from Stripe
INSERT INTO stripe_sync.job_record (kind, state, created_at, started_at, finished_at)
	VALUES ('backfill', 'done', now() - interval '3 days', now() - interval '3 days', now() - interval '3 days' + interval '14 minutes'),
		   ('reconcile', 'done', now() - interval '21 minutes', now() - interval '21 minutes', now() - interval '21 minutes' + interval '2 seconds'),
		   ('reconcile', 'done', now() - interval '6 minutes', now() - interval '6 minutes', now() - interval '6 minutes' + interval '2 seconds');
