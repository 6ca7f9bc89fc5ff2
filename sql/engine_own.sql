-- What is the extension's own: schemas made beforehand, names taken over afterwards, owners.
\set tables '{customer}'
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.psql
\set ECHO none
\i :prelude
\set ECHO all
SET client_min_messages = warning;
CREATE ROLE regress_own_squat;
CREATE ROLE regress_own_other;
CREATE ROLE regress_own_super SUPERUSER;
SELECT current_database() AS db, current_user AS me \gset
CREATE ROLE regress_own_twin IN ROLE :"me";
GRANT CREATE ON DATABASE :"db" TO regress_own_squat;
-- what CREATE EXTENSION says, of which nothing stays
CREATE FUNCTION t.install(OUT said text, OUT detail text, OUT hint text) LANGUAGE plpgsql AS $$
BEGIN
	said := 'nothing';
	BEGIN
		CREATE EXTENSION stripe_sync;
		RAISE SQLSTATE 'OK001';
	EXCEPTION WHEN SQLSTATE 'OK001' THEN NULL;
	WHEN OTHERS THEN
		said := SQLSTATE || ': ' || SQLERRM;
		GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	END;
END $$;

-- Every table has a key, so that all can be published; that of secrets holds none, and nothing else is sent.
SELECT oid::regclass FROM pg_class c WHERE relnamespace = 'stripe_sync'::regnamespace AND relkind = 'r'
   AND NOT EXISTS (SELECT FROM pg_index WHERE indrelid = c.oid AND indisprimary);
SELECT c.relname, c.relreplident, (SELECT array_agg(attname ORDER BY attname) FROM pg_index, pg_attribute WHERE indrelid = c.oid AND indisprimary AND attrelid = c.oid AND attnum = ANY (indkey)) AS key
  FROM pg_class c WHERE oid IN ('stripe_sync.endpoint_secret'::regclass, 'stripe_sync.destination_secret'::regclass, 'stripe_sync.api_key'::regclass, 'stripe_sync.slack_app_secret'::regclass, 'stripe_sync.interaction_secret'::regclass) ORDER BY 1;
-- and who lets them be sent is told
ALTER TABLE stripe_sync.api_key REPLICA IDENTITY FULL;
SELECT t.hint($$ SELECT stripe_sync.set_api_key('rk_test_1') $$);
ALTER TABLE stripe_sync.api_key REPLICA IDENTITY DEFAULT;

-- Names that are taken over: the schema is renamed, and another one is in its place.
SELECT t.send('evt_1', 'customer.created', 1, '{"id": "cus_1", "object": "customer"}');
SELECT t.event('evt_2', 'customer.updated', 2, '{"id": "cus_1", "object": "customer"}') AS payload \gset
ALTER SCHEMA stripe_sync RENAME TO regress_own_sx;
SELECT t.hint($$ SELECT regress_own_sx.pause() $$);
CREATE SCHEMA stripe_sync AUTHORIZATION regress_own_squat;
SELECT t.raises_all($$ SELECT regress_own_sx.pause() $$);
CREATE TABLE stripe_sync.event AS TABLE regress_own_sx.event;
CREATE TABLE stripe_sync.handler AS TABLE regress_own_sx.handler;
ALTER TABLE stripe_sync.event OWNER TO regress_own_squat;
ALTER TABLE stripe_sync.handler OWNER TO regress_own_squat;
SELECT t.raises(format('SELECT regress_own_sx.receive(%L, regress_own_sx.sign(%1$L::text, t.secret()))', :'payload'));
SELECT http_status, body ->> 'code' AS code FROM regress_own_sx.webhook(:'payload'::text, jsonb_build_object('Stripe-Signature', regress_own_sx.sign(:'payload'::text, t.secret())));
-- what is granted is never what another's view says
CREATE VIEW stripe_sync.grade AS SELECT g.grade, 'TABLE regress_own_sx.endpoint_secret'::text AS what FROM unnest('{ingest,read,admin}'::text[]) AS g (grade);
ALTER VIEW stripe_sync.grade OWNER TO regress_own_squat;
SELECT f, t.sqlstate(format('SELECT regress_own_sx.%I(''regress_own_squat'')', f)) FROM unnest('{grant_ingest,grant_mirror,grant_read,grant_admin,revoke_all}'::text[]) f;
SELECT has_table_privilege('regress_own_squat', 'regress_own_sx.endpoint_secret', 'SELECT') AS squatter_reads_secrets;
SELECT p.oid::regprocedure AS runs_as_its_owner FROM pg_proc p WHERE pronamespace = 'regress_own_sx'::regnamespace AND prosecdef;
DROP SCHEMA stripe_sync CASCADE;
ALTER SCHEMA regress_own_sx RENAME TO stripe_sync;
SELECT status FROM t.deliver(:'payload');

-- Owners: the extension's, or a superuser.
ALTER TABLE stripe_sync.handler OWNER TO regress_own_super;
SELECT t.raises($$ SELECT stripe_sync.pause() $$);
ALTER TABLE stripe_sync.handler OWNER TO regress_own_squat;
SELECT replace(t.raises_all($$ SELECT stripe_sync.pause() $$), :'me', 'ME');
SELECT t.sqlstate($$ SELECT t.send('evt_3', 'customer.updated', 3, '{"id": "cus_1", "object": "customer"}') $$);
-- a superuser no more
ALTER TABLE stripe_sync.handler OWNER TO regress_own_super;
ALTER ROLE regress_own_super NOSUPERUSER;
SELECT t.sqlstate($$ SELECT stripe_sync.pause() $$);
ALTER ROLE regress_own_super SUPERUSER;
-- all of it, the extension included, is another's
CREATE ROLE regress_own_first SUPERUSER;
DROP EXTENSION stripe_sync;
DROP SCHEMA stripe_sync, stripe CASCADE;
SET ROLE regress_own_first;
CREATE EXTENSION stripe_sync;
RESET ROLE;
GRANT CREATE ON DATABASE :"db" TO regress_own_other;
REASSIGN OWNED BY regress_own_first TO regress_own_other;
SELECT extowner::regrole FROM pg_extension WHERE extname = 'stripe_sync';
SELECT stripe_sync.add_endpoint('default', t.secret());
SELECT t.send('evt_1', 'customer.created', 1, '{"id": "cus_1", "object": "customer"}');

-- Schema stripe_sync made beforehand: empty, and of somebody who has the installer's rights.
DROP EXTENSION stripe_sync;
DROP SCHEMA stripe_sync, stripe CASCADE;
DROP ROLE regress_own_first;
SET ROLE regress_own_squat;
CREATE SCHEMA stripe_sync;
RESET ROLE;
SELECT * FROM t.install();
ALTER SCHEMA stripe_sync OWNER TO CURRENT_USER;
SELECT * FROM t.install();
ALTER SCHEMA stripe_sync OWNER TO regress_own_super;
SELECT * FROM t.install();
ALTER SCHEMA stripe_sync OWNER TO regress_own_twin;
SELECT * FROM t.install();
ALTER SCHEMA stripe_sync OWNER TO CURRENT_USER;
-- whatever it holds
CREATE FUNCTION t.holding(made text, OUT said text, OUT detail text) LANGUAGE plpgsql AS $$
BEGIN
	BEGIN
		EXECUTE made;
		SELECT i.said, replace(i.detail, current_user, 'ME') INTO holding.said, holding.detail FROM t.install() i;
		RAISE SQLSTATE 'OK001';
	EXCEPTION WHEN SQLSTATE 'OK001' THEN NULL;
	END;
END $$;
SELECT h.* FROM (VALUES
	(1, 'CREATE TABLE stripe_sync.event (id text)'), (2, 'CREATE VIEW stripe_sync.grade AS SELECT 1'), (3, 'CREATE SEQUENCE stripe_sync.s'),
	(4, 'CREATE DOMAIN stripe_sync.text AS pg_catalog.text'), (5, 'CREATE TYPE stripe_sync.e AS ENUM ()'), (6, 'CREATE FUNCTION stripe_sync.f() RETURNS int LANGUAGE sql RETURN 1'),
	(7, 'CREATE OPERATOR stripe_sync.= (FUNCTION = pg_catalog.texteq, LEFTARG = pg_catalog.text, RIGHTARG = pg_catalog.text)'),
	(8, 'CREATE COLLATION stripe_sync.c FROM "C"'), (9, 'CREATE TEXT SEARCH CONFIGURATION stripe_sync.t (COPY = pg_catalog.simple)'),
	(10, 'ALTER DEFAULT PRIVILEGES IN SCHEMA stripe_sync GRANT ALL ON TABLES TO regress_own_other')) v (n, made), t.holding(made) h ORDER BY n;
-- who could make things in it can no more; nor has anybody what default privileges say
GRANT ALL ON SCHEMA stripe_sync TO regress_own_squat WITH GRANT OPTION;
SET ROLE regress_own_squat;
GRANT CREATE ON SCHEMA stripe_sync TO regress_own_other, PUBLIC;
RESET ROLE;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO regress_own_other;
ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO regress_own_other WITH GRANT OPTION;
ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO regress_own_other;
CREATE EXTENSION stripe_sync;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM regress_own_other;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON SEQUENCES FROM regress_own_other;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON FUNCTIONS FROM regress_own_other;
SELECT a.grantee::regrole, a.privilege_type FROM pg_namespace n, aclexplode(nspacl) a WHERE nspname = 'stripe_sync' AND a.grantee <> nspowner;
SELECT c.oid::regclass, a.grantee::regrole, a.privilege_type FROM pg_class c, aclexplode(relacl) a WHERE relnamespace = 'stripe_sync'::regnamespace AND a.grantee NOT IN (relowner, 'pg_database_owner'::regrole);
-- but for what a dump holds: its database's owner reads that, and nothing else
SELECT count(*) > 20 AS dumped, bool_and(has_table_privilege('pg_database_owner', c, 'SELECT')) AS readable, bool_or(c::regclass::text ~ 'secret|api_key') AS secrets FROM pg_extension, unnest(extconfig) c WHERE extname = 'stripe_sync';
SELECT count(*) = 0 AS nothing_else FROM pg_class c, aclexplode(relacl) a WHERE relnamespace = 'stripe_sync'::regnamespace AND a.grantee = 'pg_database_owner'::regrole
   AND (a.privilege_type <> 'SELECT' OR c.oid <> ALL (SELECT unnest(extconfig) FROM pg_extension WHERE extname = 'stripe_sync'));
SELECT p.oid::regprocedure, a.grantee::regrole FROM pg_proc p, aclexplode(proacl) a WHERE pronamespace = 'stripe_sync'::regnamespace AND a.grantee <> proowner ORDER BY p.oid::regprocedure::text COLLATE "C";

-- Schema stripe made beforehand: of somebody who may have the mirror.
SET ROLE regress_own_squat;
CREATE SCHEMA stripe;
RESET ROLE;
SELECT replace(t.raises_all($$ SELECT stripe_sync.add_endpoint('default', t.secret()) $$), :'me', 'ME');
SELECT t.sqlstate($$ SELECT stripe_sync.create_tables('{customer}') $$);
SELECT t.sqlstate($$ SELECT stripe_sync.set_api_key('rk_test_1'), stripe_sync.create_webhook_endpoint('https://shop.example.com/stripe') $$);
SELECT count(*) AS tables FROM pg_class WHERE relnamespace = 'stripe'::regnamespace;
-- an administrator's own
SELECT stripe_sync.grant_admin('regress_own_squat');
SET ROLE regress_own_squat;
SELECT action FROM stripe_sync.create_tables('{customer}');
RESET ROLE;
SELECT action FROM stripe_sync.create_tables('{price}');
-- of who is none any more, as long as all the tables that are known are his
SELECT stripe_sync.revoke_all('regress_own_squat');
SELECT t.sqlstate($$ SELECT stripe_sync.create_tables('{coupon}') $$);
ALTER TABLE stripe.prices OWNER TO regress_own_squat;
SELECT action FROM stripe_sync.create_tables('{coupon}');
-- a superuser's, whoever the builder is
DROP SCHEMA stripe CASCADE;
CREATE SCHEMA stripe AUTHORIZATION regress_own_super;
SELECT action FROM stripe_sync.create_tables('{customer}');

-- Types are the server's own, whatever the search_path finds.
CREATE SCHEMA regress_own_path;
CREATE DOMAIN regress_own_path.jsonb AS pg_catalog.jsonb CHECK (false);
CREATE DOMAIN pg_temp.text AS pg_catalog.text CHECK (false);
SET search_path = regress_own_path, pg_catalog;
DROP TABLE stripe.customers;
SELECT action FROM stripe_sync.create_tables('{customer}');
SELECT DISTINCT t.typnamespace::regnamespace FROM pg_attribute a, pg_type t WHERE attrelid = 'stripe.customers'::regclass AND attnum > 0 AND t.oid = atttypid;
ALTER TABLE stripe.customers DROP COLUMN metadata, DROP COLUMN name;
SELECT action FROM stripe_sync.create_tables('{customer}');
SELECT DISTINCT t.typnamespace::regnamespace FROM pg_attribute a, pg_type t WHERE attrelid = 'stripe.customers'::regclass AND attnum > 0 AND NOT attisdropped AND t.oid = atttypid;
RESET search_path;
DROP DOMAIN pg_temp.text;

DROP SCHEMA stripe, regress_own_path CASCADE;
DROP EXTENSION stripe_sync;
DROP SCHEMA stripe_sync;
DROP OWNED BY regress_own_squat, regress_own_other;
DROP ROLE regress_own_squat, regress_own_other, regress_own_super, regress_own_twin;
