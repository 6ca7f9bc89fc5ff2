-- Failure inside: what fails is undone, noted, and alone is run again.
\set tables '{customer,subscription,subscription_item,charge}'
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.psql
\set ECHO none
\i :prelude
\set ECHO all
CREATE FUNCTION t.customer(id text, email text DEFAULT NULL) RETURNS json LANGUAGE sql
	AS $$ SELECT json_build_object('id', id, 'object', 'customer', 'email', email) $$;
CREATE SCHEMA app;
CREATE TABLE app.log (n serial, handler text, event_id text);
CREATE TABLE app.broken (what text);
CREATE FUNCTION app.one(event jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO app.log (handler, event_id) VALUES ('one', event->>'id');
	IF EXISTS (SELECT FROM app.broken WHERE what = 'one') THEN RAISE 'one is broken'; END IF;
END $$;
CREATE FUNCTION app.two(event jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO app.log (handler, event_id) VALUES ('two', event->>'id');
	IF EXISTS (SELECT FROM app.broken WHERE what = 'two') THEN RAISE 'two is broken'; END IF;
END $$;
SELECT stripe_sync.add_handler('one', 'customer.*', 'app.one'), stripe_sync.add_handler('two', 'customer.*', 'app.two');
CREATE FUNCTION app.guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF EXISTS (SELECT FROM app.broken WHERE what = 'mirror') THEN RAISE 'the mirror is broken'; END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER guard BEFORE INSERT OR UPDATE ON stripe.customers FOR EACH ROW EXECUTE FUNCTION app.guard();
CREATE VIEW t.outcome AS SELECT id, status, todo, tries, attempts, next_attempt_at IS NOT NULL AS due, left(error, 40) AS error FROM stripe_sync.event;
CREATE FUNCTION t.first_line(text) RETURNS text LANGUAGE sql AS $$ SELECT split_part($1, E'\n', 1) $$;

-- the mirror fails: handlers wait for it
INSERT INTO app.broken VALUES ('mirror');
SELECT status, t.first_line(detail) FROM t.deliver(t.event('evt_1', 'customer.created', 1, t.customer('cus_1')));
SELECT status, todo, tries, attempts, due, t.first_line(error) AS error FROM t.outcome WHERE id = 'evt_1';
SELECT count(*) AS handled FROM app.log;
SELECT t.send('evt_1', 'customer.created', 1, t.customer('cus_1')) AS delivered_again;
SELECT status FROM stripe_sync.replay('evt_1');
SELECT status, todo, attempts FROM t.outcome WHERE id = 'evt_1';
-- mended, one handler still fails: the other has its turn
UPDATE app.broken SET what = 'one';
SELECT status, t.first_line(detail) FROM stripe_sync.replay('evt_1');
SELECT status, todo, tries, attempts, due FROM t.outcome WHERE id = 'evt_1';
SELECT handler FROM app.log ORDER BY n;
SELECT id FROM stripe.customers;
-- only what failed is run again
DELETE FROM app.broken;
SELECT status, detail FROM stripe_sync.replay('evt_1');
SELECT status, todo, attempts, due, error FROM t.outcome WHERE id = 'evt_1';
SELECT handler FROM app.log ORDER BY n;

-- both fail: both are noted
INSERT INTO app.broken VALUES ('one'), ('two');
SELECT t.send('evt_2', 'customer.updated', 2, t.customer('cus_1'));
SELECT string_agg(line, ' / ' ORDER BY n) AS error FROM stripe_sync.event, string_to_table(error, E'\n') WITH ORDINALITY l (line, n) WHERE id = 'evt_2' AND line !~ '^(CONTEXT|SQL)';
-- when it is due: later with every try
SELECT next_attempt_at - received_at BETWEEN interval '5 seconds' AND interval '15 seconds' AS soon FROM stripe_sync.event WHERE id = 'evt_2';
-- not before then
CALL stripe_sync.work();
SELECT attempts FROM t.outcome WHERE id = 'evt_2';
-- by then, the worker tries it: each attempt is counted
UPDATE stripe_sync.event SET next_attempt_at = now();
UPDATE app.broken SET what = 'none' WHERE what = 'two';
CALL stripe_sync.work();
SELECT status, todo, tries, attempts, due FROM t.outcome WHERE id = 'evt_2';
SELECT next_attempt_at - clock_timestamp() BETWEEN interval '5 seconds' AND interval '30 seconds' AS later FROM stripe_sync.event WHERE id = 'evt_2';

-- max_attempts tries of a step, then it is dead and so is the event
SET stripe_sync.max_attempts = 3;
UPDATE stripe_sync.event SET next_attempt_at = now() WHERE id = 'evt_2';
CALL stripe_sync.work();
SELECT status, todo, tries, attempts, due FROM t.outcome WHERE id = 'evt_2';
CALL stripe_sync.work();
SELECT attempts FROM t.outcome WHERE id = 'evt_2';
-- later events of its object go on
DELETE FROM app.broken;
SELECT t.send('evt_3', 'customer.updated', 3, t.customer('cus_1', 'three@example.com'));
SELECT email, _event_id FROM stripe.customers;
-- replay runs what is dead, too
SELECT status FROM stripe_sync.replay('evt_2');
SELECT status, todo, due, error FROM t.outcome WHERE id = 'evt_2';
-- once: no effect of any handler is there twice
SELECT handler, event_id, count(*) FROM app.log GROUP BY 1, 2 ORDER BY 2, 1;

-- a mirror that is dead holds up its handlers no longer
INSERT INTO app.broken VALUES ('mirror');
SET stripe_sync.max_attempts = 2;
SELECT t.send('evt_4', 'customer.updated', 4, t.customer('cus_1', 'four@example.com'));
SELECT count(*) AS handled FROM app.log WHERE event_id = 'evt_4';
UPDATE stripe_sync.event SET next_attempt_at = now() WHERE id = 'evt_4';
CALL stripe_sync.work();
SELECT status, todo, tries, due FROM t.outcome WHERE id = 'evt_4';
SELECT handler FROM app.log WHERE event_id = 'evt_4' ORDER BY n;
DELETE FROM app.broken;
SELECT t.send('evt_5', 'customer.updated', 5, t.customer('cus_1', 'five@example.com'));
SELECT status FROM stripe_sync.replay('evt_4') AS late;
SELECT email FROM stripe.customers;
SELECT count(*) AS handled FROM app.log WHERE event_id = 'evt_4';
RESET stripe_sync.max_attempts;

-- replay of a time, by types and by statuses; oldest first
INSERT INTO app.broken VALUES ('one'), ('two');
SELECT t.send('evt_12', 'customer.updated', 12, t.customer('cus_2')), t.send('evt_11', 'customer.created', 11, t.customer('cus_2')), t.send('evt_13', 'teapot.boiled', 13, '{}');
DELETE FROM app.broken;
SELECT event_id, status FROM stripe_sync.replay(now() - interval '1 hour', types => '{customer.created}');
SELECT event_id, status FROM stripe_sync.replay(now() - interval '1 hour', now() - interval '30 minutes');
SELECT event_id, status FROM stripe_sync.replay(now() + interval '1 hour', now() + interval '2 hours');
SELECT event_id, status FROM stripe_sync.replay(now() - interval '1 hour', clock_timestamp());
SELECT event_id, status FROM stripe_sync.replay(now() - interval '1 hour', clock_timestamp());
SELECT event_id, status FROM stripe_sync.replay(now() - interval '1 hour', clock_timestamp(), '{*.updated,teapot.*}', NULL);
SELECT event_id, status FROM stripe_sync.replay(now() - interval '1 hour', clock_timestamp(), NULL, '{ignored}');
SELECT t.raises($$ SELECT stripe_sync.replay('evt_none') $$);

-- a missing table: ignored until it is made, then replayed
SELECT status, detail FROM t.deliver(t.event('evt_20', 'coupon.created', 20, '{"id":"SPRING","object":"coupon","percent_off":5}'));
SELECT action FROM stripe_sync.create_tables('{coupon}');
SELECT status, detail FROM stripe_sync.replay('evt_20');
SELECT id, percent_off FROM stripe.coupons;
SELECT status, applied_at IS NOT NULL AS applied FROM stripe_sync.event WHERE id = 'evt_20';
-- a table that is dropped meanwhile, a column that is dropped or has another type
DROP TABLE stripe.coupons;
SELECT status FROM t.deliver(t.event('evt_21', 'coupon.updated', 21, '{"id":"SPRING","object":"coupon","percent_off":6}'));
ALTER TABLE stripe.charges DROP COLUMN amount;
SELECT t.send('evt_22', 'charge.succeeded', 22, '{"id":"ch_1","object":"charge","amount":7,"paid":true}');
SELECT id, paid, _data->'amount' AS amount FROM stripe.charges;
ALTER TABLE stripe.charges ADD COLUMN amount text;
SELECT status, left(detail, 7) AS detail FROM t.deliver(t.event('evt_23', 'charge.updated', 23, '{"id":"ch_1","object":"charge","amount":8}'));
ALTER TABLE stripe.charges DROP COLUMN amount;
SELECT status FROM stripe_sync.replay('evt_23');
SELECT id, _data->'amount' AS amount FROM stripe.charges;

-- errors that say nothing of the event end the transaction, in the mirror too
CREATE OR REPLACE FUNCTION app.guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE 'as asked' USING ERRCODE = NEW.email;
END $$;
SELECT code, t.raises(format('SELECT t.send(%L, %L, 30, %L)', 'evt_r' || code, 'customer.created', t.customer('cus_r' || code, code)))
  FROM (VALUES ('40001'), ('40P01'), ('57P01'), ('55P03'), ('25P03'), ('53100'), ('XX000'), ('23503'), ('P0001'), ('53200')) v (code);
SELECT id, status FROM stripe_sync.event WHERE id LIKE 'evt\_r%' ORDER BY id;


-- but a deferred handler has a transaction of its own: of what it raises there,
-- it alone fails and dies; other handlers and other events have their turn
TRUNCATE app.log;
CREATE FUNCTION app.good(event jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO app.log (handler, event_id) VALUES ('good', event->>'id') $$;
CREATE FUNCTION app.hostile(event jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO app.log (handler, event_id) VALUES ('hostile', event->>'id');
	IF event->'data'->'object'->>'raise' IS NOT NULL THEN
		RAISE 'as asked' USING ERRCODE = event->'data'->'object'->>'raise';
	END IF;
END $$;
SELECT stripe_sync.add_handler('1_hostile', 'x', 'app.hostile', deferred => true), stripe_sync.add_handler('2_good', 'x', 'app.good', deferred => true);
SET stripe_sync.max_attempts = 2;
SELECT id, t.send(id, 'x', 40, json_build_object('raise', code)) FROM (VALUES ('evt_w1', '55P03'), ('evt_w2', 'XX000'), ('evt_w3', '40001'), ('evt_w4', '53100'), ('evt_w5', NULL)) v (id, code);
CALL stripe_sync.work();
SELECT id, status, todo, tries, due, error FROM t.outcome WHERE id LIKE 'evt\_w%' ORDER BY id;
SELECT handler, event_id, count(*) FROM app.log GROUP BY 1, 2 ORDER BY 2, 1;
UPDATE stripe_sync.event SET next_attempt_at = now() WHERE id LIKE 'evt\_w%' AND next_attempt_at IS NOT NULL;
CALL stripe_sync.work();
SELECT id, status, todo, tries, due, error FROM t.outcome WHERE id LIKE 'evt\_w%' ORDER BY id;
SELECT handler, event_id, count(*) FROM app.log GROUP BY 1, 2 ORDER BY 2, 1;
RESET stripe_sync.max_attempts;

DROP SCHEMA app CASCADE;
