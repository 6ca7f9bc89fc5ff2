-- Handlers: the user's functions on events.
\set tables '{customer,invoice}'
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.psql
\set ECHO none
\i :prelude
\set ECHO all
SET search_path = public;
CREATE SCHEMA app;
CREATE TABLE app.log (n serial, handler text, event_id text, what text);
CREATE FUNCTION t.customer(id text, email text DEFAULT NULL) RETURNS json LANGUAGE sql
	AS $$ SELECT json_build_object('id', id, 'object', 'customer', 'email', email) $$;
CREATE FUNCTION app.note_a(event jsonb) RETURNS void LANGUAGE sql
	AS $$ INSERT INTO app.log (handler, event_id, what) VALUES ('a', event->>'id', event->>'type') $$;
-- it sees what the mirror has made of the event, in its transaction
CREATE FUNCTION app.note_b(event jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO app.log (handler, event_id, what)
	SELECT 'b', event->>'id', 'mirror says ' || COALESCE(email, 'nothing') FROM stripe.customers WHERE id = event->'data'->'object'->>'id';
END $$;

-- in the order of their names, whoever came first; patterns; once for every
-- stored event, stale and ignored ones too, never for a duplicate
SELECT stripe_sync.add_handler('2_mirrored', 'customer.*', 'app.note_b');
SELECT stripe_sync.add_handler('1_all', '*', 'app.note_a');
SELECT name, event_type, function, role = current_user AS mine, search_path, deferred FROM stripe_sync.handler ORDER BY name;
SELECT t.send('evt_1', 'customer.updated', 10, t.customer('cus_1', 'one@example.com')),
       t.send('evt_2', 'customer.updated', 9, t.customer('cus_1', 'zero@example.com')),
       t.send('evt_1', 'customer.updated', 10, t.customer('cus_1', 'one@example.com')),
       t.send('evt_3', 'teapot.boiled', 11, '{"object":"teapot"}');
SELECT handler, event_id, what FROM app.log ORDER BY n;

-- which patterns fit
SELECT type, pattern, stripe_sync.event_type_fits(type, pattern) FROM (VALUES ('invoice.paid', 'invoice.paid'), ('invoice.paid', 'invoice.*'), ('invoice.paid', '*'),
	('invoice.paid', '*.paid'), ('invoice.paid', 'inv*.p*d'), ('invoice.paid', 'invoice'), ('invoice.paid', 'invoice.pai'), ('invoice.paid', 'invoice.paid2'),
	('invoice.paid', 'INVOICE.*'), ('invoice_payment.paid', 'invoice.*'), ('customer.subscription.updated', 'customer.*'), ('a.b', 'a?b'), ('a.b', 'a%')) v (type, pattern);

-- a known name is replaced, as set-up scripts that are run again need
TRUNCATE app.log;
SELECT stripe_sync.add_handler('1_all', 'invoice.*', 'app.note_a');
SELECT t.send('evt_4', 'customer.updated', 12, t.customer('cus_1', 'two@example.com')), t.send('evt_5', 'invoice.paid', 12, '{"id":"in_1","object":"invoice"}');
SELECT handler, event_id, what FROM app.log ORDER BY n;

-- dropped, it runs no more
SELECT stripe_sync.drop_handler('1_all');
SELECT t.raises($$ SELECT stripe_sync.drop_handler('1_all') $$);
SELECT t.send('evt_6', 'invoice.paid', 13, '{"id":"in_2","object":"invoice"}');
SELECT count(*) FROM app.log WHERE event_id = 'evt_6';

-- what can't be a handler
CREATE FUNCTION app.takes_text(event text) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION app.returns_int(event jsonb) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE PROCEDURE app.a_procedure(event jsonb) LANGUAGE sql AS '';
CREATE FUNCTION app.returns_set(event jsonb) RETURNS SETOF jsonb LANGUAGE sql AS 'SELECT event';
SELECT f, t.raises(format('SELECT stripe_sync.add_handler(%L, %L, %L)', 'x', '*', f)) FROM (VALUES ('app.takes_text'), ('app.returns_int'), ('app.a_procedure'), ('app.returns_set')) v (f);
SELECT t.sqlstate($$ SELECT stripe_sync.add_handler('x', '*', 'app.no_such_function') $$) AS no_function;
SELECT name, t.raises(format('SELECT stripe_sync.add_handler(%L, %L, %L)', name, '*', 'app.note_a')) FROM (VALUES (''), ('mirror'), ('alerts'), (repeat('n', 64))) v (name);
SELECT t.raises($$ SELECT stripe_sync.add_handler('x', '', 'app.note_a') $$);

-- one that fails: undone, noted, retried alone; the mirror and the others stand
TRUNCATE app.log;
CREATE TABLE app.switch (broken boolean);
INSERT INTO app.switch VALUES (true);
CREATE FUNCTION app.fragile(event jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO app.log (handler, event_id, what) VALUES ('fragile', event->>'id', 'half done');
	IF (SELECT broken FROM app.switch) THEN
		RAISE 'out of credits' USING ERRCODE = 'P7777', DETAIL = 'There are none.', HINT = 'Buy some.';
	END IF;
	UPDATE app.log SET what = 'done' WHERE handler = 'fragile' AND event_id = event->>'id';
END $$;
SELECT stripe_sync.add_handler('3_after', 'customer.*', 'app.note_a'), stripe_sync.add_handler('1_fragile', 'customer.*', 'app.fragile');
SELECT status, split_part(detail, E'\n', 1) AS detail FROM t.deliver(t.event('evt_7', 'customer.updated', 14, t.customer('cus_1', 'seven@example.com')));
SELECT handler, event_id, what FROM app.log ORDER BY n;
SELECT email FROM stripe.customers WHERE id = 'cus_1';
SELECT status, todo, attempts, next_attempt_at > received_at AS due, applied_at IS NOT NULL AS mirrored FROM stripe_sync.event WHERE id = 'evt_7';
SELECT line FROM stripe_sync.event, string_to_table(error, E'\n') WITH ORDINALITY l (line, n) WHERE id = 'evt_7' AND n <= 4 ORDER BY n;
SELECT status, split_part(detail, E'\n', 1) AS detail FROM stripe_sync.replay('evt_7');
SELECT count(*) AS still FROM app.log;
UPDATE app.switch SET broken = false;
SELECT * FROM stripe_sync.replay('evt_7');
SELECT handler, event_id, what FROM app.log ORDER BY n;
SELECT status, todo, attempts, next_attempt_at, error FROM stripe_sync.event WHERE id = 'evt_7' \gx
-- settled: a replay is the mirror's alone, and the handlers' too when asked
TRUNCATE app.log;
SELECT status FROM stripe_sync.replay('evt_7');
SELECT count(*) AS ran FROM app.log;
SELECT status FROM stripe_sync.replay('evt_7', handlers => true);
SELECT handler, event_id, what FROM app.log ORDER BY n;
SELECT stripe_sync.drop_handler(name) FROM stripe_sync.handler;

-- in time: a handler that sleeps past stripe_sync.handler_timeout has failed;
-- nothing else has
TRUNCATE app.log;
SET stripe_sync.handler_timeout = '250ms';
CREATE FUNCTION app.sleeps(event jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO app.log (handler, event_id) VALUES ('sleeps', event->>'id');
	PERFORM pg_sleep(60);
END $$;
SELECT stripe_sync.add_handler('1_sleeps', '*', 'app.sleeps'), stripe_sync.add_handler('2_after', '*', 'app.note_a');
SELECT status, split_part(detail, E'\n', 1) AS detail FROM t.deliver(t.event('evt_8', 'customer.updated', 15, t.customer('cus_1', 'eight@example.com')));
SELECT handler, event_id FROM app.log ORDER BY n;
SELECT email FROM stripe.customers WHERE id = 'cus_1';
SELECT status, todo FROM stripe_sync.event WHERE id = 'evt_8';
-- nor does it get away with catching the cancellation
CREATE OR REPLACE FUNCTION app.sleeps(event jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_sleep(60);
EXCEPTION WHEN query_canceled THEN
	INSERT INTO app.log (handler, event_id) VALUES ('caught it', event->>'id');
END $$;
SELECT status, split_part(detail, E'\n', 1) AS detail FROM t.deliver(t.event('evt_9', 'customer.updated', 16, t.customer('cus_1', 'nine@example.com')));
SELECT handler, event_id FROM app.log WHERE event_id = 'evt_9' ORDER BY n;
-- nor, caught, with going on: it is cancelled again and again
CREATE TABLE app.began (at timestamptz);
CREATE OR REPLACE FUNCTION app.sleeps(event jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	BEGIN
		PERFORM pg_sleep(60);
	EXCEPTION WHEN query_canceled THEN
		NULL;
	END;
	PERFORM pg_sleep(20);
END $$;
INSERT INTO app.began VALUES (clock_timestamp());
SELECT status, split_part(detail, E'\n', 1) AS detail FROM t.deliver(t.event('evt_9b', 'customer.updated', 16, t.customer('cus_1', 'nine@example.com')));
SELECT clock_timestamp() - at < interval '15 seconds' AS ended FROM app.began;
SELECT handler FROM app.log WHERE event_id = 'evt_9b';
-- each has its own time
CREATE OR REPLACE FUNCTION app.sleeps(event jsonb) RETURNS void LANGUAGE sql AS $$ SELECT pg_sleep(60) $$;
SELECT stripe_sync.add_handler('3_sleeps', '*', 'app.sleeps');
SELECT t.send('evt_10', 'customer.updated', 17, t.customer('cus_1', 'ten@example.com'));
SELECT todo FROM stripe_sync.event WHERE id = 'evt_10';
SELECT handler FROM app.log WHERE event_id = 'evt_10';
-- the caller's own time-out is the caller's: it ends the transaction
RESET stripe_sync.handler_timeout;
SET statement_timeout = '100ms';
\set VERBOSITY terse
SELECT t.send('evt_11', 'customer.updated', 18, t.customer('cus_1', 'eleven@example.com'));
RESET statement_timeout;
\set VERBOSITY default
SELECT count(*) FROM stripe_sync.event WHERE id = 'evt_11';
SELECT stripe_sync.drop_handler(name) FROM stripe_sync.handler;

-- out of memory is the failure of that handler alone
TRUNCATE app.log;
CREATE FUNCTION app.greedy(event jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM repeat(repeat('x', 1000000), 2000); END $$;
CREATE FUNCTION app.raises_53200(event jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE 'no memory' USING ERRCODE = '53200'; END $$;
SELECT stripe_sync.add_handler('1_greedy', '*', 'app.greedy'), stripe_sync.add_handler('2_53200', '*', 'app.raises_53200'), stripe_sync.add_handler('3_after', '*', 'app.note_a');
SELECT t.send('evt_12', 'customer.updated', 19, t.customer('cus_1', 'twelve@example.com'));
SELECT status, todo, error ~ '^1_greedy: (54000|53200)' AS greedy, error ~ '2_53200: 53200' AS raised FROM stripe_sync.event WHERE id = 'evt_12';
SELECT handler, event_id FROM app.log;
SELECT email FROM stripe.customers WHERE id = 'cus_1';
-- the server calls it an internal error when a handler wants more than a
-- gigabyte at once: it is the handler's memory all the same
CREATE OR REPLACE FUNCTION app.greedy(event jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM repeat('x', 268435456) ~ 'y'; END $$;
SELECT stripe_sync.drop_handler('2_53200');
SELECT t.raises($$ SELECT t.send('evt_12b', 'customer.updated', 19, t.customer('cus_1', 'twelve@example.com')) $$);
SELECT status, todo FROM stripe_sync.event WHERE id = 'evt_12b';
SELECT stripe_sync.drop_handler(name) FROM stripe_sync.handler;

-- errors that say nothing of the event are never caught: nothing is stored
CREATE FUNCTION app.raises(event jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE 'as asked' USING ERRCODE = event->'data'->'object'->>'raise'; END $$;
SELECT stripe_sync.add_handler('raises', '*', 'app.raises');
SELECT code, t.raises(format('SELECT t.send(%L, %L, 20, %L)', 'evt_r' || code, 'x', json_build_object('raise', code)))
  FROM (VALUES ('40001'), ('40P01'), ('57P01'), ('57P03'), ('55P03'), ('25P03'), ('53100'), ('XX000'), ('XX001')) v (code);
SELECT count(*) AS stored FROM stripe_sync.event WHERE id LIKE 'evt\_r%';
SELECT code, t.send('evt_r' || code, 'x', 20, json_build_object('raise', code))
  FROM (VALUES ('23505'), ('P0001'), ('42501'), ('22012'), ('53200'), ('55000'), ('0A000'), ('SY002')) v (code);
SELECT stripe_sync.drop_handler('raises');

-- deferred: after the commit, in a transaction of its own, by CALL work()
TRUNCATE app.log;
SELECT stripe_sync.add_handler('late', 'customer.*', 'app.note_b', deferred => true);
SELECT status FROM t.deliver(t.event('evt_13', 'customer.updated', 21, t.customer('cus_1', 'thirteen@example.com')));
SELECT count(*) AS ran FROM app.log;
SELECT status, todo, error, next_attempt_at <= clock_timestamp() AS due FROM stripe_sync.event WHERE id = 'evt_13';
CALL stripe_sync.work();
SELECT handler, event_id, what FROM app.log;
SELECT status, todo, error, next_attempt_at FROM stripe_sync.event WHERE id = 'evt_13';
CALL stripe_sync.work();
SELECT count(*) AS ran FROM app.log;
-- one that fails is retried, counted, and others go on
SELECT stripe_sync.add_handler('broken', 'customer.*', 'app.fragile', deferred => true);
UPDATE app.switch SET broken = true;
SELECT t.send('evt_14', 'customer.updated', 22, t.customer('cus_1', 'fourteen@example.com'));
CALL stripe_sync.work();
SELECT handler, event_id FROM app.log WHERE event_id = 'evt_14';
SELECT status, todo, tries, left(error, 28) AS error, next_attempt_at > clock_timestamp() AS due_later FROM stripe_sync.event WHERE id = 'evt_14';
UPDATE app.switch SET broken = false;
UPDATE stripe_sync.event SET next_attempt_at = now() WHERE id = 'evt_14';
CALL stripe_sync.work();
SELECT handler, event_id FROM app.log WHERE event_id = 'evt_14' ORDER BY n;
SELECT status, todo, error, next_attempt_at FROM stripe_sync.event WHERE id = 'evt_14';
-- work commits after each: not for a transaction block
BEGIN;
CALL stripe_sync.work();
ROLLBACK;
\set VERBOSITY sqlstate
CALL stripe_sync.work(NULL);
\set VERBOSITY default
-- dropped while it waits: nothing is left to do
SELECT t.send('evt_15', 'customer.updated', 23, t.customer('cus_1', 'fifteen@example.com'));
SELECT stripe_sync.drop_handler('late'), stripe_sync.drop_handler('broken');
CALL stripe_sync.work();
SELECT status, todo, error FROM stripe_sync.event WHERE id = 'evt_15';

-- test_handler: runs it on a stored event, and all of it is undone
TRUNCATE app.log;
UPDATE app.switch SET broken = false;
SELECT stripe_sync.add_handler('tested', 'none', 'app.fragile');
SELECT regexp_replace(stripe_sync.test_handler('tested', 'evt_1'), '[0-9.]+ ms', 'N ms');
SELECT count(*) FROM app.log;
UPDATE app.switch SET broken = true;
SELECT regexp_replace(split_part(stripe_sync.test_handler('tested', 'evt_1'), E'\n', 1), '[0-9.]+ ms', 'N ms');
SELECT status, todo, attempts FROM stripe_sync.event WHERE id = 'evt_1';
SELECT t.raises($$ SELECT stripe_sync.test_handler('nobody', 'evt_1') $$), t.raises($$ SELECT stripe_sync.test_handler('tested', 'evt_none') $$);

-- a function that is gone is a failure, until it is there again
SELECT stripe_sync.add_handler('tested', 'customer.*', 'app.fragile');
ALTER FUNCTION app.fragile RENAME TO was_fragile;
SELECT status, split_part(detail, E'\n', 1) FROM t.deliver(t.event('evt_16', 'customer.updated', 24, t.customer('cus_1', 'sixteen@example.com')));
ALTER FUNCTION app.was_fragile RENAME TO fragile;
UPDATE app.switch SET broken = false;
SELECT status FROM stripe_sync.replay('evt_16');
SELECT stripe_sync.drop_handler('tested');

DROP SCHEMA app CASCADE;
