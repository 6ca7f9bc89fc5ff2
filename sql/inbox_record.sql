-- What has happened stays known when it is over: errors of events, runs of handlers, the journal.
\set tables '{customer}'
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.psql
\set ECHO none
\i :prelude
\set ECHO all
SELECT stripe_sync.pause('slack');
CREATE TABLE t.trouble (message text, detail text, hint text);
CREATE TABLE t.done (event text);
CREATE FUNCTION t.may_fail(event jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	trouble t.trouble;
BEGIN
	INSERT INTO t.done VALUES (event->>'id');
	SELECT * INTO trouble FROM t.trouble;
	IF FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '23514', MESSAGE = trouble.message, DETAIL = coalesce(trouble.detail, ''), HINT = coalesce(trouble.hint, '');
	END IF;
END $$;
CREATE FUNCTION t.fine(event jsonb) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION t.customer(id text) RETURNS json LANGUAGE sql AS $$ SELECT json_build_object('id', id, 'object', 'customer') $$;
CREATE FUNCTION t.try_again() RETURNS void LANGUAGE sql AS $$ UPDATE stripe_sync.event SET next_attempt_at = now() WHERE next_attempt_at IS NOT NULL $$;

---- event_error ----
SELECT stripe_sync.add_handler('may_fail', 'customer.*', 't.may_fail');
INSERT INTO t.trouble VALUES ('no good', 'It is too old.', 'Renew it.');
SELECT t.send('evt_1', 'customer.created', 1, t.customer('cus_1'));
SELECT event_id, account, event_type, step, attempts, first_at = last_at AS once, sqlstate, message, detail, hint, context, state, recovered_at FROM stripe_sync.event_error;
-- an equal one counts, another is a row of its own
SELECT t.try_again();
CALL stripe_sync.work();
UPDATE t.trouble SET message = 'worse';
SELECT t.try_again();
CALL stripe_sync.work();
SELECT event_id, step, attempts, last_at > first_at AS later, sqlstate, message, state FROM stripe_sync.event_error ORDER BY id;
-- it stays when the event has recovered, which the event's own row forgets
DELETE FROM t.trouble;
SELECT status FROM stripe_sync.replay('evt_1');
SELECT status, error FROM stripe_sync.event;
CALL stripe_sync.work();
SELECT attempts, message, state, recovered_at >= last_at AS recovered FROM stripe_sync.event_error ORDER BY id;
-- it fails again
INSERT INTO t.trouble VALUES ('worse');
SELECT status FROM stripe_sync.replay('evt_1', handlers => true);
SELECT attempts, message, state, recovered_at IS NOT NULL AS recovered FROM stripe_sync.event_error ORDER BY id;
-- 1 kB of a message and of what belongs to it, whole characters; 2 kB of the context
UPDATE t.trouble SET message = repeat('ä', 1000), detail = repeat('b', 3000), hint = repeat('c', 3000);
CREATE FUNCTION t.deep(n int, event jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN IF n > 0 THEN PERFORM t.deep(n - 1, event); ELSE PERFORM t.may_fail(event); END IF; END $$;
CREATE FUNCTION t.deeper(event jsonb) RETURNS void LANGUAGE sql AS $$ SELECT t.deep(100, event) $$;
SELECT stripe_sync.add_handler('may_fail', 'customer.*', 't.deeper');
SELECT t.send('evt_2', 'customer.created', 2, t.customer('cus_2'));
SELECT octet_length(message) BETWEEN 1020 AND 1024 AS message, message ~ '^ä+\.\.\.$' AS whole, octet_length(detail), octet_length(hint), octet_length(context) BETWEEN 2040 AND 2048 AS context FROM stripe_sync.event_error WHERE event_id = 'evt_2';
-- the mirror's and the alerts' as well
SELECT stripe_sync.drop_handler('may_fail');
ALTER TABLE stripe.customers ADD CONSTRAINT named CHECK (name IS NOT NULL) NOT VALID;
SELECT t.send('evt_3', 'customer.created', 3, t.customer('cus_3'));
SELECT step, sqlstate, message, event_type FROM stripe_sync.event_error WHERE event_id = 'evt_3';
ALTER TABLE stripe.customers DROP CONSTRAINT named;
-- what the caller gets back leaves nothing
BEGIN;
SELECT t.send('evt_4', 'customer.created', 4, t.customer('cus_4'));
ROLLBACK;
SELECT count(*) FROM stripe_sync.event_error WHERE event_id = 'evt_4';
TRUNCATE stripe_sync.event, stripe_sync.event_error, stripe_sync.handler_run, t.trouble, t.done;

---- handler_run ----
CREATE VIEW t.runs AS SELECT event_id, account, (SELECT string_agg(concat_ws(' ', r->>'handler', r->>'ok', r->>'sqlstate'), ', ' ORDER BY n) FROM jsonb_array_elements(runs) WITH ORDINALITY x (r, n)) AS runs,
	(SELECT bool_and((r->>'ms')::numeric >= 0 AND (r->>'at')::timestamptz BETWEEN now() - interval '1 hour' AND at) FROM jsonb_array_elements(runs) r) AS plausible FROM stripe_sync.handler_run ORDER BY event_id, account;
SELECT t.send('evt_1', 'customer.created', 1, t.customer('cus_1'));
SELECT count(*) AS without_handlers FROM stripe_sync.handler_run;
SELECT stripe_sync.add_handler('a fine "one"', 'customer.*', 't.fine'), stripe_sync.add_handler('may_fail', 'customer.*', 't.may_fail'), stripe_sync.add_handler('later', 'customer.*', 't.fine', deferred => true);
INSERT INTO t.trouble VALUES ('no good');
SELECT t.send('evt_2', 'customer.created', 2, t.customer('cus_2')), t.send('evt_2', 'customer.created', 2, t.customer('cus_2'), account => 'acct_1');
SELECT * FROM t.runs;
-- the deferred one, and what is tried again
CALL stripe_sync.work();
DELETE FROM t.trouble;
SELECT t.try_again();
CALL stripe_sync.work();
SELECT * FROM t.runs;
-- 50 at the most
DO $$ BEGIN FOR i IN 1 .. 20 LOOP PERFORM stripe_sync.replay('evt_2', handlers => true); END LOOP; END $$;
SELECT event_id, account, jsonb_array_length(runs), runs->0->>'handler' AS first, runs->-1->>'handler' AS last FROM stripe_sync.handler_run ORDER BY account;
-- a row that is there already is gone on with
DELETE FROM stripe_sync.event WHERE account = 'acct_1';
SELECT t.send('evt_2', 'customer.created', 2, t.customer('cus_2'), account => 'acct_1');
SELECT * FROM t.runs WHERE account = 'acct_1';
SELECT stripe_sync.drop_handler(h) FROM unnest(ARRAY['a fine "one"', 'may_fail', 'later']) h;

---- both go with their event, and not before ----
INSERT INTO t.trouble VALUES ('no good');
SELECT stripe_sync.add_handler('may_fail', 'customer.*', 't.may_fail');
TRUNCATE stripe_sync.event, stripe_sync.event_error, stripe_sync.handler_run;
SELECT t.send('evt_old', 'customer.created', 1, t.customer('cus_1')), t.send('evt_failing', 'customer.created', 2, t.customer('cus_2')), t.send('evt_young', 'customer.created', 3, t.customer('cus_3'));
DELETE FROM t.trouble;
SELECT status FROM stripe_sync.replay('evt_old');
SELECT status FROM stripe_sync.replay('evt_young');
UPDATE stripe_sync.event SET received_at = now() - interval '100 days' WHERE id <> 'evt_young';
SELECT stripe_sync.prune();
SELECT string_agg(event_id, ' ' ORDER BY event_id) AS errors, (SELECT string_agg(event_id, ' ' ORDER BY event_id) FROM stripe_sync.handler_run) AS runs FROM stripe_sync.event_error;

---- journal ----
TRUNCATE stripe_sync.journal;
-- an endpoint that is set up otherwise, and again as it is; an account that is moved
SELECT stripe_sync.add_endpoint('journaled', 'whsec_HUSH_journaled', account => 'one'), stripe_sync.add_endpoint('journaled', 'whsec_HUSH_journaled', livemode => false, tolerance => NULL),
	stripe_sync.add_endpoint('journaled', 'whsec_HUSH_journaled', tolerance => NULL), stripe_sync.move_account('one', 'two') \g /dev/null
SELECT what, ref, detail FROM stripe_sync.journal ORDER BY id;
SELECT stripe_sync.drop_endpoint('journaled') \g /dev/null
TRUNCATE stripe_sync.journal;
CREATE ROLE regress_record_admin;
SELECT stripe_sync.grant_admin('regress_record_admin');
CREATE VIEW t.journal AS SELECT what, CASE WHEN what LIKE 'job.%' THEN 'ID' ELSE ref END AS ref, CASE WHEN by = session_user THEN 'ME' ELSE by END AS by, detail, count FROM stripe_sync.journal ORDER BY id;
SET ROLE regress_record_admin;
SELECT stripe_sync.add_endpoint('second', 'whsec_second'), stripe_sync.rotate_endpoint_secret('second', 'whsec_third'), stripe_sync.drop_endpoint('second');
SELECT stripe_sync.add_slack_channel('ops', '#ops', 'xoxb-1'), stripe_sync.disable_destination('ops', 'too loud'), stripe_sync.enable_destination('ops');
RESET ROLE;
SELECT stripe_sync.add_slack_channel('ops', '#ops', 'xoxb-1') AS unchanged, stripe_sync.disable_destination('ops', NULL), stripe_sync.drop_destination('ops');
SELECT stripe_sync.set_api_key('rk_test_HUSH'), stripe_sync.set_api_key('rk_test_HUSH', 'acct_1'), stripe_sync.set_api_key(NULL, 'acct_1');
SELECT stripe_sync.pause(), stripe_sync.pause() AS is_so_already, stripe_sync.resume('stripe'), stripe_sync.activate();
SELECT stripe_sync.refetch('customer', 'cus_1') AS job \gset
SELECT stripe_sync.cancel_job(:job);
SELECT * FROM t.journal;
SELECT bool_and(ref = :'job') AS its_id FROM stripe_sync.journal WHERE what LIKE 'job.%';
SELECT count(*) AS secrets FROM stripe_sync.journal j WHERE j::text ~ 'HUSH|whsec|xoxb';
-- equal ones within an hour are one row
TRUNCATE stripe_sync.journal;
SELECT stripe_sync.resume('slack'), stripe_sync.pause('slack'), stripe_sync.resume('slack'), stripe_sync.pause('slack');
SELECT what, ref, count, last_at > at AS later FROM stripe_sync.journal ORDER BY id;
UPDATE stripe_sync.journal SET at = at - interval '61 minutes';
SELECT stripe_sync.resume('slack'), stripe_sync.pause('slack');
SELECT what, ref, count FROM stripe_sync.journal ORDER BY id;
-- nothing of what is rolled back
BEGIN;
SELECT stripe_sync.resume('slack');
ROLLBACK;
SELECT count(*) FROM stripe_sync.journal WHERE what = 'resume';
-- pruned with the events
UPDATE stripe_sync.journal SET at = now() - interval '100 days' WHERE what = 'pause';
SELECT stripe_sync.prune();
SELECT DISTINCT what FROM stripe_sync.journal;

---- the caller's statements, which may hold a secret, are no part of an error's context ----
CREATE FUNCTION t.refuse(event jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE 'refused'; END $$;
SELECT stripe_sync.add_handler('refuse', 'product.created', 't.refuse');
DO $$ BEGIN
	EXECUTE $q$SELECT stripe_sync.receive(p, stripe_sync.sign(p, 'whsec_test_1')) FROM (VALUES
		('{"id": "evt_hushed", "object": "event", "type": "product.created", "created": 1700000000, "data": {"object": {"id": "prod_1", "object": "product"}}}'::text)) v (p)$q$;
END $$;
SELECT step, message, context FROM stripe_sync.event_error WHERE event_id = 'evt_hushed';
SELECT count(*) AS secrets FROM stripe_sync.event WHERE error ~ 'whsec';
SELECT stripe_sync.drop_handler('refuse');

---- who may see them ----
CREATE ROLE regress_record_read;
SELECT stripe_sync.grant_read('regress_record_read');
SET ROLE regress_record_read;
SELECT (SELECT count(*) > 0 FROM stripe_sync.event_error) AS errors, (SELECT count(*) > 0 FROM stripe_sync.handler_run) AS runs, (SELECT count(*) > 0 FROM stripe_sync.journal) AS journal;
RESET ROLE;
CREATE ROLE regress_record_none;
SET ROLE regress_record_none;
SELECT x, has_table_privilege('stripe_sync.' || x, 'SELECT') AS may FROM unnest('{event_error,handler_run,journal}'::text[]) x;
RESET ROLE;
DROP OWNED BY regress_record_read, regress_record_admin;
DROP ROLE regress_record_read, regress_record_admin, regress_record_none;
