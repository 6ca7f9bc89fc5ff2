-- Endpoints: named sources of events, and their secrets.
\set tables '{customer}'
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.psql
\set ECHO none
\i :prelude
\set ECHO all
-- Is a payload that is signed with this secret, so long ago, received here?
CREATE SEQUENCE t.n;
CREATE FUNCTION t.try(endpoint text, secret text, age interval DEFAULT '0') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	payload text := format('{"id":"evt_%s","type":"x"}', nextval('t.n'));
BEGIN
	RETURN (stripe_sync.receive(payload, stripe_sync.sign(payload, secret, clock_timestamp() - age), endpoint)).status;
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ': ' || SQLERRM;
END $$;

-- what add_endpoint takes
SELECT stripe_sync.add_endpoint('a', 'whsec_a'), stripe_sync.add_endpoint('b', 'whsec_b', true, '1 hour', 'b'), stripe_sync.add_endpoint('c', 'whsec_c', tolerance => NULL);
SELECT name, livemode, tolerance, created_at <= clock_timestamp() AS created FROM stripe_sync.endpoint ORDER BY name;
SELECT t.raises(s), s FROM (VALUES
	('SELECT stripe_sync.add_endpoint(NULL, ''s'')'), ('SELECT stripe_sync.add_endpoint('''', ''s'')'), ('SELECT stripe_sync.add_endpoint(repeat(''n'', 64), ''s'')'),
	('SELECT stripe_sync.add_endpoint(''x'', NULL)'), ('SELECT stripe_sync.add_endpoint(''x'', '''')'), ('SELECT stripe_sync.add_endpoint(''x'', repeat(''s'', 1025))'),
	('SELECT stripe_sync.add_endpoint(''x'', ''s'', tolerance => ''-1 second'')'), ('SELECT stripe_sync.add_endpoint(''x'', ''file:'')'), ('SELECT stripe_sync.add_endpoint(''x'', ''file:relative/path'')')) v (s);

-- each endpoint has its own secret
SELECT e, s, t.try(e, s) FROM (VALUES ('a', 'whsec_a'), ('a', 'whsec_b'), ('b', 'whsec_b'), ('b', 'whsec_a'), ('A', 'whsec_a'), ('nowhere', 'whsec_a')) v (e, s);
-- and its own tolerance
SELECT t.try('a', 'whsec_a', '299 seconds') AS a_299, t.try('a', 'whsec_a', '6 minutes') AS a_6, t.try('b', 'whsec_b', '59 minutes') AS b_59, t.try('b', 'whsec_b', '61 minutes') AS b_61;
SELECT t.try('c', 'whsec_c', '10 years') AS no_tolerance, t.try('c', 'whsec_x', '10 years') AS forged, t.try('a', 'whsec_a', '-10 years') AS from_the_future;

-- a known name: a mode that is given and the tolerance are replaced, another secret is refused
SELECT stripe_sync.add_endpoint('a', 'whsec_a', false, '1 day');
SELECT name, livemode, tolerance FROM stripe_sync.endpoint WHERE name = 'a';
SELECT t.hint($$ SELECT stripe_sync.add_endpoint('a', 'whsec_other', true) $$);
SELECT livemode, tolerance FROM stripe_sync.endpoint WHERE name = 'a';
SELECT t.try('a', 'whsec_other') AS refused, t.try('a', 'whsec_a', '23 hours') AS good;
-- after a restore, which brings no secrets, it takes one
DELETE FROM stripe_sync.endpoint_secret WHERE endpoint = 'a';
SELECT t.try('a', 'whsec_a');
SELECT stripe_sync.add_endpoint('a', 'whsec_new');
SELECT t.try('a', 'whsec_a') AS old, t.try('a', 'whsec_new') AS new;

-- rotate: both are good until the old one lapses
SELECT stripe_sync.rotate_endpoint_secret('b', 'whsec_b2');
SELECT t.try('b', 'whsec_b') AS old, t.try('b', 'whsec_b2') AS new;
SELECT secret, lapses_at BETWEEN now() + interval '23 hours 59 minutes' AND clock_timestamp() + interval '24 hours' AS in_a_day FROM stripe_sync.endpoint_secret WHERE endpoint = 'b' ORDER BY 1;
SELECT stripe_sync.rotate_endpoint_secret('b', 'whsec_b3', '1 hour');
SELECT t.try('b', 'whsec_b') AS oldest, t.try('b', 'whsec_b2') AS old, t.try('b', 'whsec_b3') AS new;
-- (the first has kept its day)
SELECT secret, lapses_at > now() + interval '2 hours' AS in_a_day FROM stripe_sync.endpoint_secret WHERE endpoint = 'b' ORDER BY 1;
UPDATE stripe_sync.endpoint_secret SET lapses_at = now() - interval '1 second' WHERE secret = 'whsec_b';
SELECT t.try('b', 'whsec_b') AS lapsed, t.try('b', 'whsec_b2') AS old, t.try('b', 'whsec_b3') AS new;
SELECT stripe_sync.rotate_endpoint_secret('b', 'whsec_b4', '0');
SELECT t.try('b', 'whsec_b3') AS at_once, t.try('b', 'whsec_b2') AS old, t.try('b', 'whsec_b4') AS new;
-- run again, a rotation changes nothing; a former secret is another one to add_endpoint
SELECT stripe_sync.rotate_endpoint_secret('b', 'whsec_b4', '0');
SELECT t.try('b', 'whsec_b4') AS new;
SELECT t.raises($$ SELECT stripe_sync.add_endpoint('b', 'whsec_b2') $$);
-- back to one that hasn't lapsed yet: it stays good
SELECT stripe_sync.rotate_endpoint_secret('b', 'whsec_b2', '1 hour');
UPDATE stripe_sync.endpoint_secret SET lapses_at = now() - interval '1 second' WHERE endpoint = 'b' AND lapses_at IS NOT NULL;
SELECT t.try('b', 'whsec_b2') AS new, t.try('b', 'whsec_b4') AS old;
SELECT t.raises(s), s FROM (VALUES ('SELECT stripe_sync.rotate_endpoint_secret(''nowhere'', ''s'')'), ('SELECT stripe_sync.rotate_endpoint_secret(''b'', NULL)'),
	('SELECT stripe_sync.rotate_endpoint_secret(''b'', '''')'), ('SELECT stripe_sync.rotate_endpoint_secret(NULL, ''s'')')) v (s);
SELECT t.sqlstate($$ SELECT stripe_sync.rotate_endpoint_secret('b', 's', '-1 hour') $$) AS negative;
-- a day is 24 hours, in a zone whose clocks change too
SELECT stripe_sync.add_endpoint('days', 'whsec_days0');
SET timezone = 'America/St_Johns';
SELECT stripe_sync.rotate_endpoint_secret('days', 'whsec_days' || n, n * interval '60 days') FROM generate_series(1, 6) n \g /dev/null
SELECT secret, round(extract(epoch FROM lapses_at - now()) / 3600, 1) AS hours FROM stripe_sync.endpoint_secret WHERE endpoint = 'days' AND lapses_at IS NOT NULL ORDER BY 1;
RESET timezone;
SELECT t.sqlstate($$ SELECT stripe_sync.rotate_endpoint_secret('days', 's', '170000000 years') $$) AS too_long;
SELECT stripe_sync.drop_endpoint('days');

-- more secrets at once than anybody has: the newest is always good
SELECT stripe_sync.rotate_endpoint_secret('b', 'whsec_many' || i, '1 day') FROM generate_series(1, 20) i \g /dev/null
SELECT t.try('b', 'whsec_many20') AS newest, t.try('b', 'whsec_many19') AS one_before;

-- a secret in a file is read when it is used
SELECT current_setting('data_directory') || '/stripe_sync_test_secret' AS secret_file \gset
CREATE FUNCTION t.write(path text, content text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE format('COPY (SELECT %L) TO %L', content, path); END $$;
SELECT t.write(:'secret_file', 'whsec_file1');
SELECT stripe_sync.add_endpoint('f', 'file:' || :'secret_file');
SELECT t.try('f', 'whsec_file1') AS good, t.try('f', 'whsec_file2') AS not_yet, t.try('f', 'file:' || :'secret_file') AS its_name;
SELECT t.write(:'secret_file', 'whsec_file2');
SELECT t.try('f', 'whsec_file1') AS no_more, t.try('f', 'whsec_file2') AS good;
SELECT t.write(:'secret_file', '');
SELECT t.try('f', 'whsec_file2') AS empty;
SELECT t.write(:'secret_file', repeat('x', 2000));
SELECT t.try('f', repeat('x', 1024)) AS too_long;
-- the secret itself isn't in the database
SELECT t.write(:'secret_file', 'whsec_file4');
SELECT t.try('f', 'whsec_file4');
SELECT count(*) AS in_table FROM stripe_sync.endpoint_secret WHERE secret LIKE '%whsec_file%';
-- rotated from the file to a plain one, both are good
SELECT stripe_sync.rotate_endpoint_secret('f', 'whsec_plain');
SELECT t.try('f', 'whsec_file4') AS file, t.try('f', 'whsec_plain') AS plain;
-- no file, no file of that kind
COPY (SELECT) TO PROGRAM 'cat >/dev/null; rm -f stripe_sync_test_secret';
SELECT t.try('f', 'whsec_plain') AS one_is_enough;
SELECT stripe_sync.add_endpoint('none', 'file:/nonexistent/secret'), stripe_sync.add_endpoint('directory', 'file:/'), stripe_sync.add_endpoint('device', 'file:/dev/zero');
SELECT t.try('none', 's') AS nonexistent;
SELECT t.try('directory', 's') AS directory;
SELECT t.try('device', 's') AS device;

-- nor is a pipe read, lest the server wait for a writer; all of them say what to mend
COPY (SELECT) TO PROGRAM 'cat >/dev/null; rm -f stripe_sync_test_pipe && mkfifo stripe_sync_test_pipe';
SET client_min_messages = error; -- which names the file
SELECT stripe_sync.add_endpoint('pipe', 'file:' || current_setting('data_directory') || '/stripe_sync_test_pipe');
SET client_min_messages = warning;
SELECT name, replace(line, current_setting('data_directory'), 'DATA') AS says FROM (VALUES (1, 'pipe'), (2, 'none')) v (n, name),
	string_to_table(t.raises_all(format('SELECT stripe_sync.receive(''{}''::text, ''t=1,v1=00'', %L)', name)), E'\n') WITH ORDINALITY l (line, i) WHERE line ~ '^(SY|DETAIL|HINT)' ORDER BY n, i;
COPY (SELECT) TO PROGRAM 'cat >/dev/null; rm -f stripe_sync_test_pipe';

-- drop: its events stay
SELECT count(*) > 0 AS had_events FROM stripe_sync.event WHERE endpoint = 'c';
SELECT stripe_sync.drop_endpoint('c');
SELECT count(*) > 0 AS has_events FROM stripe_sync.event WHERE endpoint = 'c';
SELECT t.try('c', 'whsec_c') AS gone, t.raises($$ SELECT stripe_sync.drop_endpoint('c') $$) AS again;
SELECT count(*) AS secrets FROM stripe_sync.endpoint_secret WHERE endpoint = 'c';
-- made again, it has the new secret alone
SELECT stripe_sync.add_endpoint('c', 'whsec_c2');
SELECT t.try('c', 'whsec_c') AS old, t.try('c', 'whsec_c2') AS new;
-- set-up holds within the transaction that makes it, and is undone with it
BEGIN;
SELECT stripe_sync.add_endpoint('d', 'whsec_d');
SELECT t.try('d', 'whsec_d');
ROLLBACK;
SELECT t.try('d', 'whsec_d');

-- where schema stripe holds another tool's tables it refuses, as create_tables() does, and says what to run
DROP SCHEMA stripe CASCADE;
CREATE SCHEMA stripe;
CREATE TABLE stripe.customers (id text PRIMARY KEY, email text, raw_data jsonb);
CREATE VIEW stripe.invoices AS SELECT 1 AS one;
SELECT t.hint($$ SELECT * FROM stripe_sync.create_tables() $$);
SELECT t.hint($$ SELECT stripe_sync.add_endpoint('taken', 'whsec_taken') $$);
SELECT count(*) AS endpoints FROM stripe_sync.endpoint WHERE name = 'taken';
-- one of them in the midst of ours as well
DROP TABLE stripe.customers;
SELECT count(*) AS made FROM stripe_sync.create_tables('{product}');
CREATE TABLE stripe.prices (id text PRIMARY KEY);
SELECT t.raises($$ SELECT stripe_sync.add_endpoint('taken', 'whsec_taken') $$);
-- what it says to run is enough
ALTER SCHEMA stripe RENAME TO stripe_other;
SELECT stripe_sync.add_endpoint('taken', 'whsec_taken');
SELECT count(*) > 100 AS made FROM stripe_sync.mirror_table WHERE to_regclass(format('stripe.%I', table_name)) IS NOT NULL;
SELECT status FROM t.deliver(t.event('evt_taken', 'customer.created', 1, '{"id":"cus_taken","object":"customer"}'), 'default');
SELECT id FROM stripe.customers;
DROP SCHEMA stripe_other CASCADE;
