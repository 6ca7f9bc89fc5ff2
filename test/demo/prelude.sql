-- prelude.sql: Stripe's part in the demo, played by a few functions.
--
-- Stripe keeps objects and, on each change, signs an event and delivers it.
-- Here the objects are made by demo.customer() and the like, demo.event()
-- wraps one into an event, and demo.deliver() signs it and hands it over.
-- demo.slack_…() are for the stub of Slack; psql's variable "slack" is the command
-- that speaks to it (slack.py).

CREATE SCHEMA demo;

CREATE TABLE demo.world (secret text, start timestamptz, slack text);
INSERT INTO demo.world
	VALUES ('whsec_demo_of_stripe_sync', date_trunc('day', now()) - interval '40 days', :'slack');

CREATE TABLE demo.answer
(
	n int GENERATED ALWAYS AS IDENTITY,
	what text NOT NULL,
	event_id text,
	status text,
	detail text
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

-- What your application does with each request of Stripe's, one transaction a
-- time; "what" is a word for the table of answers.
CREATE FUNCTION demo.deliver(what text, payload text) RETURNS void
LANGUAGE plpgsql AS
$$
BEGIN
	INSERT INTO demo.answer (what, event_id, status, detail)
		SELECT deliver.what, r.event_id, r.status, r.detail
		FROM stripe_sync.receive(payload, stripe_sync.sign(payload, demo.secret())) r;
END
$$;

-- A text in lines that fit.
CREATE FUNCTION demo.wrap(said text, width int) RETURNS text LANGUAGE sql IMMUTABLE AS
$$
SELECT regexp_replace(said, format('(.{1,%s})( +|\n|$)', width), '    \1' || chr(10), 'gn')
$$;

-- ---- the stub of Slack ----

CREATE TABLE demo.line (n int GENERATED ALWAYS AS IDENTITY, line text);

CREATE FUNCTION demo.slack(arguments text) RETURNS SETOF text
LANGUAGE plpgsql AS
$$
BEGIN
	TRUNCATE demo.line;
	EXECUTE format('COPY demo.line (line) FROM PROGRAM %L WITH (FORMAT csv, DELIMITER %L, QUOTE %L, NULL %L)',
		(SELECT slack FROM demo.world) || ' ' || arguments, E'\x01', E'\x02', E'\x03');
	RETURN QUERY SELECT line FROM demo.line ORDER BY n;
END
$$;

-- Until Slack has been told everything.
CREATE FUNCTION demo.slack_is_told() RETURNS void
LANGUAGE plpgsql AS
$$
BEGIN
	WHILE EXISTS (SELECT FROM stripe_sync.message WHERE state IN ('waiting', 'sending')) LOOP
		IF clock_timestamp() > now() + interval '30 seconds' THEN
			RAISE 'Slack was not told within 30 seconds: see stripe_sync.delivery';
		END IF;
		PERFORM pg_sleep(0.02);
	END LOOP;
END
$$;

CREATE FUNCTION demo.slack_shows() RETURNS SETOF text
LANGUAGE sql AS
$$
SELECT demo.slack_is_told();
SELECT '    ' || line FROM demo.slack('show') AS s (line)
$$;
