-- system.event_failed tells the truth: what fails alike is told together, whether trying again can help, and when all of it has gone through.
\set tables '{customer,invoice,coupon}'
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.psql
\set ECHO none
\i :prelude
\set ECHO all
SELECT stripe_sync.pause('slack');
SELECT stripe_sync.add_slack_channel('ops', '#ops', 'xoxb-1');
SELECT count(*) > 10 AS made FROM stripe_sync.add_default_alerts('ops');
CREATE TABLE t.trouble (handler text, type text, sqlstate text, message text);
CREATE FUNCTION t.fail(handler text, event jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	trouble t.trouble;
BEGIN
	SELECT * INTO trouble FROM t.trouble t WHERE t.handler = fail.handler AND event->>'type' LIKE t.type;
	IF FOUND THEN
		RAISE EXCEPTION USING ERRCODE = trouble.sqlstate, MESSAGE = trouble.message;
	END IF;
END $$;
CREATE FUNCTION t.one(event jsonb) RETURNS void LANGUAGE sql AS $$ SELECT t.fail('one', event) $$;
CREATE FUNCTION t.two(event jsonb) RETURNS void LANGUAGE sql AS $$ SELECT t.fail('two', event) $$;
SELECT stripe_sync.add_handler('one', '*', 't.one'), stripe_sync.add_handler('two', '*', 't.two');
CREATE VIEW t.incidents AS
SELECT kind, alert, group_key, account, state, count, resolved, regexp_replace(event_id, '^sys_[0-9a-f]{32}$', 'sys_ID') AS event_id, closed_by IS NOT NULL AS by_event FROM stripe_sync.incident WHERE alert IN ('events_failing', 'events_dead') ORDER BY id;
-- times differ in each run
CREATE VIEW t.texts AS SELECT regexp_replace(text, '\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC', 'TIME', 'g') AS text FROM stripe_sync.incident WHERE alert IN ('events_failing', 'events_dead') ORDER BY id;
CREATE FUNCTION t.new() RETURNS void LANGUAGE sql AS $$
	TRUNCATE stripe_sync.message, stripe_sync.incident_record, stripe_sync.alerted, stripe_sync.event, stripe_sync.event_error, t.trouble
$$;
CREATE FUNCTION t.try_again() RETURNS void LANGUAGE sql AS $$ UPDATE stripe_sync.event SET next_attempt_at = now() WHERE next_attempt_at IS NOT NULL $$;
CREATE FUNCTION t.invoice(event text, type text, account text DEFAULT NULL) RETURNS text LANGUAGE sql AS $$
	SELECT t.send(event, type, 1, json_build_object('id', 'in_' || event, 'object', 'invoice'), account => account)
$$;

-- by step, SQLSTATE and event type: an invoice's trouble isn't a coupon's
INSERT INTO t.trouble VALUES ('one', 'invoice.%', 'P0001', 'not today'), ('one', 'coupon.%', '23514', 'too cheap');
SELECT t.send('evt_c', 'coupon.created', 1, '{"id":"OLD","object":"coupon"}');
SELECT t.invoice('evt_1', 'invoice.created'), t.invoice('evt_2', 'invoice.created'), t.invoice('evt_3', 'invoice.paid');
SELECT kind, alert, group_key, state, count, event_id FROM t.incidents;
-- what the messages say
SELECT * FROM t.texts;
-- the fields
SELECT stripe_sync.add_alert('fields', 'system.event_failed', 'ops', '{{event_type}} {{object_type}} {{object_id}} {{step}} {{sqlstate}} {{retry_helps}} {{attempts_left}} {{next_attempt_at}}', group_by => '$.data.object.id', coalesce_for => '0');
UPDATE t.trouble SET message = 'never', sqlstate = '22012' WHERE type = 'coupon.%';
SELECT t.send('evt_c2', 'coupon.created', 2, '{"id":"OLD2","object":"coupon"}');
SELECT regexp_replace(text, '\d{10}', 'EPOCH') AS text, substring(text FROM '\d{10}')::numeric = floor(extract(epoch FROM e.next_attempt_at)) AS is_the_next FROM stripe_sync.incident i, stripe_sync.event e WHERE i.alert = 'fields' AND e.id = 'evt_c2';
SELECT stripe_sync.drop_alert('fields');
-- each class: does trying again help?
SELECT t.new();
DO $$ DECLARE
	state text;
BEGIN
	FOREACH state IN ARRAY '{22023,23505,42501,SY005,P0001,08006,55000,53200}'::text[] LOOP
		DELETE FROM t.trouble;
		INSERT INTO t.trouble VALUES ('one', 'invoice.' || state, state, 'x');
		PERFORM t.invoice('evt_' || state, 'invoice.' || state);
	END LOOP;
END $$;
SELECT DISTINCT a.group_key, j.helps FROM stripe_sync.alerted a CROSS JOIN LATERAL (SELECT m.payload->>'text' NOT LIKE '%cannot succeed%' AS helps FROM stripe_sync.message m WHERE m.event_id = a.event_id AND m.method = 'post') j WHERE a.alert = 'events_failing' ORDER BY 1;

-- two steps of one event are two things to see to
SELECT t.new();
INSERT INTO t.trouble VALUES ('one', '%', 'P0001', 'first'), ('two', '%', 'P0002', 'second');
SELECT t.invoice('evt_1', 'invoice.paid');
SELECT group_key, count, event_id FROM t.incidents;
-- and so is another error of the same step
UPDATE t.trouble SET sqlstate = '23514' WHERE handler = 'one';
SELECT t.try_again();
CALL stripe_sync.work();
SELECT group_key, count, event_id FROM t.incidents;

-- at most coalesce_burst open a step, then one roll-up; another step has its own
SELECT t.new();
SET stripe_sync.coalesce_burst = 2;
INSERT INTO t.trouble VALUES ('one', '%', 'P0001', 'broken');
SELECT t.invoice('evt_' || n, 'invoice.type_' || n) FROM generate_series(1, 5) n \g /dev/null
INSERT INTO t.trouble VALUES ('two', '%', 'P0001', 'broken too');
SELECT t.invoice('evt_6', 'invoice.type_6');
SELECT kind, group_key, state, count FROM t.incidents;
-- however long they are open
UPDATE stripe_sync.incident_record SET opened_at = opened_at - interval '2 hours', window_until = window_until - interval '2 hours' WHERE kind = 'single';
SELECT t.invoice('evt_7', 'invoice.type_7');
SELECT kind, group_key, state, count FROM t.incidents;
-- some of it goes through, then all: singles and roll-ups end
DELETE FROM t.trouble WHERE handler = 'two';
UPDATE t.trouble SET type = 'invoice.type_5';
SELECT t.try_again();
CALL stripe_sync.work();
SELECT kind, group_key, state, resolved, by_event FROM t.incidents;
DELETE FROM t.trouble;
SELECT t.try_again();
CALL stripe_sync.work();
SELECT kind, group_key, state, by_event FROM t.incidents;
SELECT count(*) FILTER (WHERE state <> 'settled') AS unsettled FROM stripe_sync.event_error;
RESET stripe_sync.coalesce_burst;

-- resolved when all of it has gone through, and not before
SELECT t.new();
INSERT INTO t.trouble VALUES ('one', '%', 'P0001', 'broken');
SELECT t.invoice('evt_1', 'invoice.paid'), t.invoice('evt_2', 'invoice.paid'), t.invoice('evt_3', 'invoice.paid', 'acct_1');
CREATE OR REPLACE FUNCTION t.one(event jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN IF event->>'id' <> 'evt_1' THEN PERFORM t.fail('one', event); END IF; END $$;
SELECT t.try_again();
CALL stripe_sync.work();
SELECT id, status FROM stripe_sync.event ORDER BY id;
SELECT group_key, account, state, count FROM t.incidents;
DELETE FROM t.trouble;
SELECT status FROM stripe_sync.replay('evt_2');
CALL stripe_sync.work();
SELECT group_key, account, state, count, by_event FROM t.incidents;
SELECT status FROM stripe_sync.replay('evt_3');
CALL stripe_sync.work();
SELECT group_key, account, state, count, by_event FROM t.incidents;
SELECT payload->>'text' AS text FROM stripe_sync.message WHERE payload->>'text' LIKE '%Resolved by%' ORDER BY id;
-- it comes again: another incident, in the same second too
INSERT INTO t.trouble VALUES ('one', '%', 'P0001', 'broken');
SELECT t.invoice('evt_4', 'invoice.paid');
SELECT group_key, account, state, count FROM t.incidents;
-- dead, mended and replayed
CREATE OR REPLACE FUNCTION t.one(event jsonb) RETURNS void LANGUAGE sql AS $$ SELECT t.fail('one', event) $$;
SELECT t.new();
SET stripe_sync.max_attempts = 2;
INSERT INTO t.trouble VALUES ('one', '%', '23502', 'broken');
SELECT t.invoice('evt_1', 'invoice.paid');
SELECT t.invoice('evt_2', 'invoice.paid');
SELECT t.try_again();
CALL stripe_sync.work();
SELECT alert, group_key, state, count FROM t.incidents;
SELECT * FROM t.texts;
DELETE FROM t.trouble;
SELECT event_id, status FROM stripe_sync.replay(now() - interval '7 days');
CALL stripe_sync.work();
SELECT alert, group_key, state, by_event FROM t.incidents;
RESET stripe_sync.max_attempts;
-- a handler that is dropped fails no more
SELECT t.new();
INSERT INTO t.trouble VALUES ('two', '%', 'P0001', 'broken');
SELECT t.invoice('evt_1', 'invoice.paid');
SELECT stripe_sync.drop_handler('two');
CALL stripe_sync.work();
SELECT group_key, state, by_event FROM t.incidents;
-- one whose function is another role's waits for a person
CREATE ROLE regress_trouble;
SELECT t.new();
SELECT stripe_sync.add_handler('two', '*', 't.two');
GRANT CREATE ON SCHEMA t TO regress_trouble;
UPDATE stripe_sync.handler SET role = 'regress_trouble', function_owner = 'regress_trouble' WHERE name = 'two';
ALTER FUNCTION t.two(jsonb) OWNER TO regress_trouble;
CREATE ROLE regress_trouble_other;
GRANT CREATE ON SCHEMA t TO regress_trouble_other;
ALTER FUNCTION t.two(jsonb) OWNER TO regress_trouble_other;
SELECT t.invoice('evt_1', 'invoice.paid');
SELECT group_key, state, count FROM t.incidents;
SELECT * FROM t.texts;
SELECT stripe_sync.drop_handler('two');
DROP OWNED BY regress_trouble, regress_trouble_other CASCADE;
DROP ROLE regress_trouble, regress_trouble_other;
-- a rule of one's own may group otherwise: then a burst is the rule's
SELECT t.new();
SET stripe_sync.coalesce_burst = 2;
SELECT stripe_sync.add_alert('events_failing', 'system.event_failed', 'ops', '{{step}}: {{error}}', group_by => '$.data.object.id');
INSERT INTO t.trouble VALUES ('one', '%', 'P0001', 'broken');
SELECT t.invoice('evt_' || n, 'invoice.paid') FROM generate_series(1, 4) n \g /dev/null
SELECT kind, group_key, count FROM t.incidents;
RESET stripe_sync.coalesce_burst;
