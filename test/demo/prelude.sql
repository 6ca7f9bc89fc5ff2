-- prelude.sql: functions that stand in for Stripe in the demo.
--
-- Stripe keeps objects and, on each change, signs an event and delivers it.
-- Here demo.customer() and the like return the objects, demo.event() makes an
-- event of one, and demo.deliver() signs it and passes it to receive().
-- demo.slack_…() control the stub of Slack, demo.stripe_…() that of Stripe's API,
-- with the commands in psql's variables "slack" and "stripe" (slack.py,
-- stripe.py).

CREATE SCHEMA demo;

CREATE TABLE demo.world (secret text, start timestamptz, slack text, stripe text);
INSERT INTO demo.world
	VALUES ('whsec_demo_of_stripe_sync', date_trunc('day', now()) - interval '40 days', :'slack', :'stripe');

CREATE TABLE demo.answer
(
	n int GENERATED ALWAYS AS IDENTITY,
	what text NOT NULL,
	event_id text,
	status text,
	detail text,
	told boolean NOT NULL DEFAULT false
);

CREATE FUNCTION demo.secret() RETURNS text
LANGUAGE sql STABLE AS 'SELECT secret FROM demo.world';

-- A moment in the story, so long after its start
CREATE FUNCTION demo.at(after interval) RETURNS bigint
LANGUAGE sql STABLE AS
$$ SELECT extract(epoch FROM start + after)::bigint FROM demo.world $$;

CREATE FUNCTION demo.customer(email text, name text DEFAULT 'Ada Lovelace')
RETURNS jsonb LANGUAGE sql STABLE AS
$$
SELECT jsonb_build_object(
	'id', 'cus_Ada', 'object', 'customer', 'created', demo.at('9 h'),
	'name', name, 'email', email, 'currency', 'eur', 'balance', 0,
	'delinquent', false, 'livemode', false,
	'metadata', jsonb_build_object('user_id', '4711'))
$$;

CREATE FUNCTION demo.price() RETURNS jsonb LANGUAGE sql STABLE AS
$$
SELECT jsonb_build_object(
	'id', 'price_pro_monthly', 'object', 'price', 'active', true,
	'created', demo.at('0'), 'currency', 'eur', 'livemode', false,
	'nickname', 'Pro, monthly', 'product', 'prod_pro', 'type', 'recurring',
	'unit_amount', 2900, 'metadata', '{}'::jsonb,
	'recurring', jsonb_build_object('interval', 'month', 'interval_count', 1))
$$;

-- "month" is 0 for the first period
CREATE FUNCTION demo.subscription(status text, month int, latest_invoice text)
RETURNS jsonb LANGUAGE sql STABLE AS
$$
SELECT jsonb_build_object(
	'id', 'sub_Ada', 'object', 'subscription', 'created', demo.at('9 h'),
	'start_date', demo.at('9 h'), 'customer', 'cus_Ada', 'status', status,
	'currency', 'eur', 'livemode', false, 'cancel_at_period_end', false,
	'collection_method', 'charge_automatically',
	'latest_invoice', latest_invoice, 'metadata', '{}'::jsonb,
	'items', jsonb_build_object(
		'object', 'list', 'has_more', false, 'total_count', 1,
		'url', '/v1/subscription_items?subscription=sub_Ada',
		'data', jsonb_build_array(jsonb_build_object(
			'id', 'si_Ada', 'object', 'subscription_item',
			'created', demo.at('9 h'), 'subscription', 'sub_Ada',
			'quantity', 1, 'metadata', '{}'::jsonb, 'price', demo.price(),
			'current_period_start', demo.at(month * interval '30 days' + '9 h'),
			'current_period_end', demo.at((month + 1) * interval '30 days' + '9 h')))))
$$;

CREATE FUNCTION demo.invoice(id text, status text, after interval,
							 paid bigint DEFAULT 0, attempts int DEFAULT 0)
RETURNS jsonb LANGUAGE sql STABLE AS
$$
SELECT jsonb_build_object(
	'id', id, 'object', 'invoice', 'created', demo.at(after),
	'number', replace(id, 'in_', 'ADA-'),
	'customer', 'cus_Ada', 'customer_name', 'Ada Lovelace',
	'currency', 'eur', 'status', status, 'livemode', false,
	'amount_due', 2900, 'amount_paid', paid, 'amount_remaining', 2900 - paid,
	'total', 2900, 'attempt_count', attempts, 'attempted', attempts > 0,
	'billing_reason', 'subscription_cycle', 'metadata', '{}'::jsonb,
	'parent', jsonb_build_object(
		'type', 'subscription_details',
		'subscription_details', jsonb_build_object('subscription', 'sub_Ada')),
	'lines', jsonb_build_object(
		'object', 'list', 'has_more', false, 'total_count', 1,
		'url', '/v1/invoices/' || id || '/lines',
		'data', jsonb_build_array(jsonb_build_object(
			'id', replace(id, 'in_', 'il_'), 'object', 'line_item',
			'invoice', id, 'amount', 2900, 'currency', 'eur', 'quantity', 1,
			'description', '1 × Pro (at €29.00 / month)', 'livemode', false,
			'metadata', '{}'::jsonb))))
$$;

CREATE FUNCTION demo.event(id text, type text, after interval, object jsonb,
						   previous jsonb DEFAULT NULL)
RETURNS text LANGUAGE sql STABLE AS
$$
SELECT jsonb_build_object(
	'id', id, 'object', 'event', 'type', type, 'created', demo.at(after),
	'livemode', false, 'pending_webhooks', 1,
	'request', jsonb_build_object('id', 'req_' || id, 'idempotency_key', NULL),
	'data', jsonb_build_object('object', object) ||
		CASE WHEN previous IS NULL THEN '{}'
			 ELSE jsonb_build_object('previous_attributes', previous) END)::text
$$;

-- What your application does with each request from Stripe, in a transaction of
-- its own; "what" is the caption in the table of answers.
CREATE FUNCTION demo.deliver(what text, payload text) RETURNS void
LANGUAGE plpgsql AS
$$
BEGIN
	INSERT INTO demo.answer (what, event_id, status, detail)
		SELECT deliver.what, r.event_id, r.status, r.detail
		FROM stripe_sync.receive(payload, stripe_sync.sign(payload, demo.secret())) r;
END
$$;

-- A text in lines of at most "width" characters, indented.
CREATE FUNCTION demo.wrap(said text, width int) RETURNS text LANGUAGE sql IMMUTABLE AS
$$
SELECT regexp_replace(said, format('(.{1,%s})( +|\n|$)', width), '    \1' || chr(10), 'gn')
$$;

-- An id, shortened to eight characters for a narrow terminal.
CREATE FUNCTION demo.short(id text, wide boolean) RETURNS text LANGUAGE sql IMMUTABLE AS
$$ SELECT CASE WHEN wide OR length(id) <= 8 THEN id ELSE left(id, 7) || '…' END $$;

-- A detail, or its first part if there is no room for all of it.
CREATE FUNCTION demo.brief(detail text, room int) RETURNS text LANGUAGE sql IMMUTABLE AS
$$ SELECT CASE WHEN length(detail) <= room THEN detail ELSE split_part(detail, ':', 1) END $$;

-- ---- the stubs ----

CREATE TABLE demo.line (n int GENERATED ALWAYS AS IDENTITY, line text);

CREATE FUNCTION demo.run(command text) RETURNS SETOF text
LANGUAGE plpgsql AS
$$
BEGIN
	TRUNCATE demo.line;
	EXECUTE format('COPY demo.line (line) FROM PROGRAM %L WITH (FORMAT csv, DELIMITER %L, QUOTE %L, NULL %L)',
		command, E'\x01', E'\x02', E'\x03');
	RETURN QUERY SELECT line FROM demo.line ORDER BY n;
END
$$;

-- ---- the stub of Slack ----

CREATE FUNCTION demo.slack(arguments text) RETURNS SETOF text
LANGUAGE sql AS
$$ SELECT demo.run(slack || ' ' || arguments) FROM demo.world $$;

-- Waits until no message is left to send.
CREATE FUNCTION demo.slack_is_told() RETURNS void
LANGUAGE plpgsql AS
$$
BEGIN
	WHILE EXISTS (SELECT FROM stripe_sync.message WHERE state IN ('waiting', 'sending')) LOOP
		IF clock_timestamp() > now() + interval '3 minutes' THEN
			RAISE 'messages were not sent within three minutes: see stripe_sync.delivery';
		END IF;
		PERFORM pg_sleep(0.02);
	END LOOP;
END
$$;

-- What a person does in Slack, passed on as your web server does.
CREATE FUNCTION demo.slack_does(arguments text) RETURNS text
LANGUAGE plpgsql AS
$$
DECLARE
	sent text[] := ARRAY(SELECT demo.slack(arguments));
	answer record;
BEGIN
	SELECT * INTO answer FROM stripe_sync.receive_slack(sent[1], sent[2]::jsonb);
	RETURN answer.http_status || coalesce(' ' || (answer.body ->> 'text'), '');
END
$$;

CREATE FUNCTION demo.slack_shows() RETURNS SETOF text
LANGUAGE sql AS
$$
SELECT demo.slack_is_told();
SELECT '    ' || line FROM demo.slack('show') AS s (line)
$$;

-- ---- the stub of Stripe's API ----

-- A call of test/stub/stripe_control.py, with its answer.
CREATE FUNCTION demo.stripe(call text, body jsonb) RETURNS jsonb
LANGUAGE sql AS
$$
SELECT string_agg(line, '')::jsonb
	FROM demo.world, demo.run(format(E'%s %s \'%s\'', stripe, call, replace(body::text, '''', E'\'\\\'\''))) AS r (line)
$$;

-- A shop with a year of history, and Ada's objects in their latest state.
CREATE FUNCTION demo.fill_stripe() RETURNS void
LANGUAGE sql AS
$$
SELECT demo.stripe('fill', jsonb_build_object('type', type, 'count', count, 'seed', 7, 'children', 2,
		'since', demo.at('-325 days'), 'until', demo.at('39 days')))
	FROM (VALUES ('product', 12), ('price', 40), ('customer', 1200), ('subscription', 900), ('invoice', 2400),
				 ('charge', 2100)) AS w (type, count);
SELECT demo.stripe('objects', jsonb_build_array(
	demo.price(), jsonb_build_object('id', 'prod_pro', 'object', 'product', 'name', 'Pro', 'active', true,
		'created', demo.at('0'), 'livemode', false, 'metadata', '{}'::jsonb),
	demo.customer('ada@analytical.example'), demo.subscription('active', 1, 'in_0002'),
	demo.invoice('in_0001', 'paid', '9 h 2 s', 2900, 1), demo.invoice('in_0002', 'paid', '30 days 9 h', 2900, 5),
	-- the worker checks Stripe's webhook endpoints a minute after a key is set
	jsonb_build_object('id', 'we_shop', 'object', 'webhook_endpoint', 'url', 'https://shop.example/stripe/webhook', 'status', 'enabled',
		'api_version', NULL, 'enabled_events', '["*"]'::jsonb, 'livemode', false, 'created', demo.at('0'))))
$$;

-- A change at Stripe twenty minutes ago, which creates an event.  "arrives" tells
-- whether its webhook arrives.
CREATE TABLE demo.change
(
	n int GENERATED ALWAYS AS IDENTITY,
	ref text,
	field text,
	event jsonb,
	arrived boolean
);

CREATE FUNCTION demo.change(ref text, field text, value jsonb, arrives boolean) RETURNS void
LANGUAGE plpgsql AS
$$
DECLARE
	at bigint := extract(epoch FROM now() - interval '20 minutes')::bigint + (SELECT count(*) FROM demo.change);
	event jsonb := demo.stripe('change', jsonb_build_object('id', ref, 'set', jsonb_build_object(field, value), 'at', at));
BEGIN
	INSERT INTO demo.change (ref, field, event, arrived) VALUES (ref, field, event, arrives);
	IF arrives THEN
		PERFORM demo.deliver(ref, event::text);
	END IF;
END
$$;

-- What Stripe holds beside what the database holds.  The tables do not exist yet.
SET check_function_bodies = off;
CREATE FUNCTION demo.compare() RETURNS TABLE (object text, field text, stripe text, here text, webhook text)
LANGUAGE sql AS
$$
SELECT c.ref, c.field, c.event #>> ARRAY['data', 'object', c.field], m.data ->> c.field,
	   CASE WHEN c.arrived THEN 'arrived' ELSE 'dropped' END
	FROM demo.change c
	JOIN (SELECT id, _data FROM stripe.customers UNION ALL SELECT id, _data FROM stripe.subscriptions
		  UNION ALL SELECT id, _data FROM stripe.invoices) AS m (id, data) ON m.id = c.ref
	ORDER BY c.n
$$;

-- Waits until every event is applied.
CREATE FUNCTION demo.all_is_applied() RETURNS void
LANGUAGE plpgsql AS
$$
BEGIN
	WHILE EXISTS (SELECT FROM stripe_sync.event WHERE todo <> '{}') LOOP
		IF clock_timestamp() > now() + interval '3 minutes' THEN
			RAISE 'not everything was applied within three minutes: see stripe_sync.event';
		END IF;
		PERFORM pg_sleep(0.02);
	END LOOP;
END
$$;

-- The demo in numbers, all counted in tables: the extension's, and the demo's own
-- record of what "Stripe" has sent.
CREATE FUNCTION demo.summary() RETURNS TABLE (events text, count bigint)
LANGUAGE sql AS
$$
SELECT 'sent by Stripe', count(*) FROM demo.sent
UNION ALL
SELECT 'received by webhook', count(*) FROM stripe_sync.event WHERE source = 'webhook'
UNION ALL
SELECT 'delivered again, ignored as duplicates', count(*) FROM demo.answer WHERE status = 'duplicate'
UNION ALL
SELECT 'forged, rejected', coalesce(sum(r.events), 0)::bigint FROM stripe_sync.refusal AS r WHERE code = 'SY002'
UNION ALL
SELECT 'missing, found in Stripe''s list', coalesce(sum(missing), 0)::bigint FROM stripe_sync.job WHERE kind = 'reconcile'
UNION ALL
SELECT 'missing, repaired', coalesce(sum(repaired), 0)::bigint FROM stripe_sync.job WHERE kind = 'reconcile'
UNION ALL
SELECT 'lost', count(*) FROM demo.sent AS s
 WHERE NOT EXISTS (SELECT FROM stripe_sync.event AS e WHERE e.id = s.id)
$$;

-- Every event that "Stripe" has sent, whether its webhook arrived or not.
CREATE VIEW demo.sent AS
SELECT event_id AS id FROM demo.answer
UNION
SELECT event ->> 'id' FROM demo.change;
