-- A library that doesn't fit its catalog: levels are compared, deliveries are received at the level before too.
\set tables '{customer}'
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.psql
\set ECHO none
\i :prelude
\set ECHO all
CREATE FUNCTION t.customer(id text) RETURNS json LANGUAGE sql
	AS $$ SELECT json_build_object('id', id, 'object', 'customer') $$;
-- the level that an upgrade script would leave: behind the library's, or ahead of it
SELECT level AS library FROM stripe_sync.catalog_level \gset
CREATE FUNCTION t.set_level(level int) RETURNS void LANGUAGE sql
	AS $$ UPDATE stripe_sync.catalog_level SET level = set_level.level $$;
CREATE FUNCTION t.post(payload text, OUT http_status int, OUT body jsonb) LANGUAGE sql AS $$
	SELECT w.http_status, w.body
	  FROM stripe_sync.webhook(payload, jsonb_build_object('Stripe-Signature', stripe_sync.sign(payload, t.secret()))) w
$$;

-- nobody but the extension's owner can change it
SELECT relowner = extowner AS owned, (SELECT count(*) FROM aclexplode(relacl) WHERE grantee <> relowner) AS others
  FROM pg_class, pg_extension WHERE pg_class.oid = 'stripe_sync.catalog_level'::regclass AND extname = 'stripe_sync';

-- equal
SELECT t.send('evt_1', 'customer.created', 1, t.customer('cus_1'));
SELECT * FROM t.post(t.event('evt_2', 'customer.updated', 2, t.customer('cus_1')));
SELECT t.raises($$ SELECT stripe_sync.pause() $$);

-- one behind: this session notices at once
SELECT t.set_level(:library - 1);
SELECT t.send('evt_3', 'customer.created', 3, t.customer('cus_3'));
SELECT * FROM t.post(t.event('evt_4', 'customer.created', 4, t.customer('cus_4')));
SELECT id, status FROM stripe_sync.event ORDER BY id;
SELECT id FROM stripe.customers ORDER BY id;
SELECT t.hint($$ SELECT stripe_sync.pause() $$);
SELECT t.raises($$ SELECT stripe_sync.simulate('customer.created', '{}') $$);
CALL stripe_sync.work('1 second');
-- what only computes goes on
SELECT stripe_sync.event_type_fits('invoice.paid', 'invoice.*'), stripe_sync.verify_signature('x'::text, stripe_sync.sign('x'::text, t.secret()), t.secret());
SELECT count(*) > 100 AS types FROM stripe_sync.object_type;
SELECT count(*) >= 0 AS workers FROM stripe_sync.worker;

-- two behind
SELECT t.set_level(:library - 2);
SELECT t.hint($$ SELECT t.send('evt_5', 'customer.created', 5, t.customer('cus_5')) $$);
SET client_min_messages = log;
SELECT * FROM t.post(t.event('evt_5', 'customer.created', 5, t.customer('cus_5')));
SET client_min_messages = warning;
SELECT t.raises($$ SELECT stripe_sync.pause() $$);

-- one ahead
SELECT t.set_level(:library + 1);
SELECT t.hint($$ SELECT t.send('evt_5', 'customer.created', 5, t.customer('cus_5')) $$);
SET client_min_messages = log;
SELECT * FROM t.post(t.event('evt_5', 'customer.created', 5, t.customer('cus_5')));
SET client_min_messages = warning;
SELECT t.hint($$ SELECT stripe_sync.pause() $$);
SELECT count(*) AS stored FROM stripe_sync.event WHERE id = 'evt_5';

-- Every C function of the extension checks, and before it looks at an argument: here none has any.
-- But for those whose declaration no later version may change: a function that is to have another gets another name in C.
CREATE FUNCTION t.call_bare(symbol text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('CREATE OR REPLACE FUNCTION t.bare() RETURNS void LANGUAGE c AS ''$libdir/stripe_sync'', %L', symbol);
	RETURN t.raises('SELECT t.bare()');
END $$;
CREATE TEMP TABLE unchecked AS SELECT unnest AS symbol FROM unnest('{stripe_sync_webhook,stripe_sync_receive_slack,stripe_sync_config_changed,stripe_sync_workers,stripe_sync_worker_missing,
	stripe_sync_verify_signature,stripe_sync_verify_slack_signature,stripe_sync_sign,stripe_sync_event_type_fits,stripe_sync_object_types,stripe_sync_api_version}'::text[]);
CREATE TEMP VIEW c_function AS SELECT p.* FROM pg_proc p
	JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
	JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
	WHERE e.extname = 'stripe_sync' AND p.prolang = (SELECT oid FROM pg_language WHERE lanname = 'c');
\set QUIET on
CREATE TEMP TABLE outcome AS SELECT prosrc, t.call_bare(prosrc) AS said FROM c_function
	WHERE prosrc NOT IN (SELECT symbol FROM unchecked) GROUP BY prosrc;
\set QUIET off
SELECT count(*) > 40 AS many, count(DISTINCT said), min(said) AS said FROM outcome;
SELECT oid::regprocedure AS unchecked, pg_get_function_result(oid) AS result FROM c_function
 WHERE prosrc IN (SELECT symbol FROM unchecked) ORDER BY oid::regprocedure::text COLLATE "C";
CREATE FUNCTION t.bare_webhook(OUT http_status int, OUT body jsonb) LANGUAGE c AS '$libdir/stripe_sync', 'stripe_sync_webhook';
SELECT * FROM t.bare_webhook();
-- a row that this library doesn't know
CREATE FUNCTION t.wide_webhook(OUT http_status int, OUT body jsonb, OUT more text) LANGUAGE c AS '$libdir/stripe_sync', 'stripe_sync_webhook';
SELECT t.raises('SELECT * FROM t.wide_webhook()');
CREATE FUNCTION t.wide_workers(OUT int, OUT oid, OUT text, OUT timestamptz, OUT text) RETURNS SETOF record LANGUAGE c AS '$libdir/stripe_sync', 'stripe_sync_workers';
SELECT t.raises('SELECT * FROM t.wide_workers()');

SELECT t.set_level(:library - 1);
CREATE FUNCTION t.wide_receive(payload text, signature text, endpoint text, OUT text, OUT text, OUT text, OUT more text) LANGUAGE c AS '$libdir/stripe_sync', 'stripe_sync_receive';
SELECT t.raises($$ SELECT t.wide_receive(p, stripe_sync.sign(p, t.secret()), 'default') FROM t.event('evt_5', 'customer.created', 5, t.customer('cus_5')) p $$);

-- a change is noticed when it is rolled back, too
SELECT t.set_level(:library);
BEGIN;
SELECT t.set_level(:library - 1);
SELECT t.raises($$ SELECT stripe_sync.resume() $$);
ROLLBACK;
SELECT t.raises($$ SELECT stripe_sync.resume() $$);
BEGIN;
SAVEPOINT s;
SELECT t.set_level(:library + 1);
SELECT http_status FROM t.post(t.event('evt_6', 'customer.created', 6, t.customer('cus_6')));
ROLLBACK TO s;
SELECT http_status FROM t.post(t.event('evt_6', 'customer.created', 6, t.customer('cus_6')));
COMMIT;
-- and whatever triggers are switched off
SET session_replication_role = replica;
SELECT t.set_level(:library - 1);
RESET session_replication_role;
SELECT t.raises($$ SELECT stripe_sync.resume() $$);

-- and where all tables are published
SET client_min_messages = error;
BEGIN;
CREATE PUBLICATION everything FOR ALL TABLES;
SELECT t.raises(format('SELECT t.set_level(%s)', :library));
ROLLBACK;
SET client_min_messages = warning;

-- a new session
\set QUIET on
\c -
\set QUIET off
SET client_min_messages = warning;
SELECT t.raises($$ SELECT stripe_sync.resume() $$);
SELECT t.send('evt_7', 'customer.created', 7, t.customer('cus_7'));

-- Before there were levels: 0.  The upgrade script makes what it lacks.
BEGIN;
SELECT t.set_level(:library);
SELECT t.raises($$ SELECT stripe_sync.resume() $$);
ALTER EXTENSION stripe_sync DROP TABLE stripe_sync.catalog_level;
DROP TABLE stripe_sync.catalog_level;
SELECT t.raises($$ SELECT stripe_sync.resume() $$);
SELECT t.send('evt_8', 'customer.created', 8, t.customer('cus_8'));
CREATE TABLE stripe_sync.catalog_level (level integer PRIMARY KEY);
ALTER EXTENSION stripe_sync ADD TABLE stripe_sync.catalog_level;
INSERT INTO stripe_sync.catalog_level VALUES (:library);
SELECT t.raises($$ SELECT stripe_sync.resume() $$);
ROLLBACK;

-- A column that the library doesn't know of gets its default.
SELECT t.set_level(:library);
BEGIN;
ALTER TABLE stripe_sync.event ADD more text DEFAULT 'given';
SELECT t.send('evt_9', 'customer.created', 9, t.customer('cus_9'));
SELECT id, more FROM stripe_sync.event WHERE id = 'evt_9';
ROLLBACK;

-- DROP EXTENSION and CREATE EXTENSION work at any level
SELECT t.set_level(:library + 1);
DROP EXTENSION stripe_sync CASCADE;
CREATE EXTENSION stripe_sync;
SELECT t.raises($$ SELECT stripe_sync.resume() $$);
SELECT t.set_level(:library - 2);
DROP EXTENSION stripe_sync;
SELECT t.raises($$ SELECT stripe_sync.resume() $$);
CREATE EXTENSION stripe_sync;
SELECT t.raises($$ SELECT stripe_sync.resume() $$);
