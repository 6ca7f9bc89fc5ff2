-- What each grade of roles may do, and what it may not.
\set tables '{customer}'
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.psql
\set ECHO none
\i :prelude
\set ECHO all
CREATE ROLE regress_rights_none;
CREATE ROLE regress_rights_ingest;
CREATE ROLE regress_rights_read;
CREATE ROLE regress_rights_admin;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA t TO PUBLIC;
SELECT stripe_sync.grant_ingest('regress_rights_ingest'), stripe_sync.grant_read('regress_rights_read'), stripe_sync.grant_admin('regress_rights_admin');

-- what PUBLIC may do: verify and sign
SELECT p.oid::regprocedure::text AS public_may FROM pg_proc p
 WHERE p.pronamespace = 'stripe_sync'::regnamespace AND has_function_privilege('regress_rights_none', p.oid, 'EXECUTE') ORDER BY p.oid::regprocedure::text COLLATE "C";
SELECT c.relname AS public_may FROM pg_class c
 WHERE c.relnamespace = 'stripe_sync'::regnamespace AND c.relkind IN ('r', 'v', 'm', 'p')
   AND has_table_privilege('regress_rights_none', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER');
SELECT has_schema_privilege('regress_rights_none', 'stripe', 'USAGE') AS mirror, has_schema_privilege('regress_rights_none', 'stripe_sync', 'CREATE') AS "create";

-- what each grade may call, besides
SELECT r AS role, p.oid::regprocedure::text AS may FROM (VALUES (1, 'regress_rights_ingest'), (2, 'regress_rights_read'), (3, 'regress_rights_admin')) v (n, r), pg_proc p
 WHERE p.pronamespace = 'stripe_sync'::regnamespace AND has_function_privilege(r, p.oid, 'EXECUTE')
   AND NOT has_function_privilege('regress_rights_none', p.oid, 'EXECUTE') ORDER BY n, p.oid::regprocedure::text COLLATE "C";
-- what each may read; none may write
SELECT r AS role, c.relname AS may_read FROM (VALUES (1, 'regress_rights_ingest'), (2, 'regress_rights_read'), (3, 'regress_rights_admin')) v (n, r), pg_class c
 WHERE c.relnamespace = 'stripe_sync'::regnamespace AND c.relkind IN ('r', 'v') AND has_table_privilege(r, c.oid, 'SELECT') ORDER BY n, c.relname;
SELECT r AS role, n.nspname, c.relname AS may_write FROM unnest('{regress_rights_ingest,regress_rights_read,regress_rights_admin}'::text[]) r, pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname IN ('stripe_sync', 'stripe') AND c.relkind IN ('r', 'v') AND has_table_privilege(r, c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER');

-- ingest: hands in deliveries, sees nothing
SET ROLE regress_rights_ingest;
SELECT t.send('evt_1', 'customer.created', 1, '{"id":"cus_1","object":"customer"}');
SELECT http_status FROM stripe_sync.webhook('{"id":"evt_2","type":"x"}'::text, jsonb_build_object('Stripe-Signature', stripe_sync.sign('{"id":"evt_2","type":"x"}'::text, t.secret())));
SELECT statement, t.sqlstate(statement) FROM (VALUES
	('SELECT * FROM stripe_sync.event'), ('SELECT * FROM stripe_sync.endpoint'), ('SELECT * FROM stripe_sync.endpoint_secret'), ('SELECT * FROM stripe_sync.handler'),
	('SELECT * FROM stripe.customers'), ('SELECT stripe_sync.explain_event(''evt_1'')'), ('SELECT stripe_sync.replay(''evt_1'')'), ('SELECT stripe_sync.replay(now())'),
	('SELECT stripe_sync.simulate(''x'', ''{}'')'), ('SELECT stripe_sync.add_endpoint(''e'', ''s'')'), ('SELECT stripe_sync.rotate_endpoint_secret(''default'', ''s'')'),
	('SELECT stripe_sync.drop_endpoint(''default'')'), ('SELECT stripe_sync.create_tables()'), ('SELECT stripe_sync.add_handler(''h'', ''*'', ''now'')'), ('SELECT stripe_sync.drop_handler(''h'')'),
	('SELECT stripe_sync.test_handler(''h'', ''evt_1'')'), ('CALL stripe_sync.work()'), ('SELECT stripe_sync.grant_admin(''regress_rights_ingest'')'), ('SELECT stripe_sync.revoke_all(''regress_rights_read'')'),
	('SELECT stripe_sync.grant_grade(''admin'', ''regress_rights_ingest'')'), ('SELECT stripe_sync.grant_mirror_tables()'), ('SELECT stripe_sync.grant_mirror(''regress_rights_ingest'')'), ('SELECT stripe_sync.revoke_grades(''regress_rights_read'')'), ('SELECT stripe_sync.mark_mirror_reader(''regress_rights_ingest'')'),
	('INSERT INTO stripe_sync.event (id) VALUES (''x'')'), ('DELETE FROM stripe_sync.event'), ('INSERT INTO stripe_sync.handler VALUES (''x'')'),
	('SET stripe_sync.handler_timeout = 0'), ('SET stripe_sync.max_attempts = 1'), ('SET stripe_sync.max_payload = ''64MB''')) v (statement);
RESET ROLE;

-- read: sees, does nothing
SET ROLE regress_rights_read;
SELECT (SELECT count(*) FROM stripe_sync.event) AS events, (SELECT count(*) FROM stripe_sync.endpoint) AS endpoints, (SELECT count(*) FROM stripe_sync.handler) AS handlers,
       (SELECT count(*) > 100 FROM stripe_sync.object_type) AS object_types, (SELECT count(*) FROM stripe.customers) AS customers, stripe_sync.explain_event('evt_1') ~ 'evt_1' AS explained;
SELECT statement, t.sqlstate(statement) FROM (VALUES
	('SELECT * FROM stripe_sync.endpoint_secret'), ('SELECT stripe_sync.receive(''{}''::text, ''t=1,v1=00'')'), ('SELECT stripe_sync.webhook(''{}''::text, ''{}'')'), ('SELECT stripe_sync.replay(''evt_1'')'),
	('SELECT stripe_sync.simulate(''x'', ''{}'')'), ('SELECT stripe_sync.add_endpoint(''e'', ''s'')'), ('SELECT stripe_sync.create_tables()'), ('SELECT stripe_sync.add_handler(''h'', ''*'', ''now'')'),
	('SELECT stripe_sync.test_handler(''h'', ''evt_1'')'), ('CALL stripe_sync.work()'), ('SELECT stripe_sync.grant_read(''regress_rights_none'')'),
	('UPDATE stripe.customers SET name = name'), ('DELETE FROM stripe.customers'), ('UPDATE stripe_sync.event SET status = status'), ('DELETE FROM stripe_sync.event')) v (statement);
RESET ROLE;
-- tables that are made later are readable too
SELECT action FROM stripe_sync.create_tables('{customer,coupon}');
SET ROLE regress_rights_read;
SELECT count(*) FROM stripe.coupons;
RESET ROLE;

-- mirror: its tables, those that are there and those that are made later, and nothing else
CREATE ROLE regress_rights_mirror;
SELECT stripe_sync.grant_mirror('regress_rights_mirror');
SELECT action FROM stripe_sync.create_tables('{coupon,price}');
SELECT relname AS reads FROM pg_class WHERE relnamespace = 'stripe'::regnamespace AND relkind IN ('r', 'p') AND has_table_privilege('regress_rights_mirror', oid, 'SELECT') ORDER BY 1;
SELECT n.nspname, c.relname AS more FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname IN ('stripe_sync', 'stripe') AND c.relkind IN ('r', 'v', 'S') AND (has_table_privilege('regress_rights_mirror', c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
   OR n.nspname = 'stripe_sync' AND has_table_privilege('regress_rights_mirror', c.oid, 'SELECT'));
SELECT p.oid::regprocedure::text AS may FROM pg_proc p WHERE p.pronamespace = 'stripe_sync'::regnamespace
   AND has_function_privilege('regress_rights_mirror', p.oid, 'EXECUTE') AND NOT has_function_privilege('regress_rights_none', p.oid, 'EXECUTE');
SET ROLE regress_rights_mirror;
SELECT id FROM stripe.customers;
SELECT statement, t.sqlstate(statement) FROM (VALUES ('SELECT * FROM stripe_sync.event'), ('SELECT * FROM stripe_sync.message'), ('SELECT search_path FROM stripe_sync.mirror_table'), ('DELETE FROM stripe.customers')) v (statement);
RESET ROLE;
-- what a user makes there is the user's; a name that another role gets is another role
CREATE TABLE stripe.mine (i int);
ALTER ROLE regress_rights_mirror RENAME TO regress_rights_reports;
DROP TABLE stripe.prices;
SELECT action FROM stripe_sync.create_tables('{price,coupon}');
SELECT has_table_privilege('regress_rights_reports', 'stripe.prices', 'SELECT') AS prices, has_table_privilege('regress_rights_reports', 'stripe.mine', 'SELECT') AS mine;
-- what a role reads through another it has for itself as well, when it is granted
CREATE ROLE regress_rights_member IN ROLE regress_rights_reports;
SELECT stripe_sync.grant_mirror('regress_rights_member') \g /dev/null
REVOKE regress_rights_reports FROM regress_rights_member;
SELECT has_schema_privilege('regress_rights_member', 'stripe', 'USAGE') AS schema, has_table_privilege('regress_rights_member', 'stripe.prices', 'SELECT') AS prices;
SELECT stripe_sync.revoke_all('regress_rights_member') \g /dev/null
SELECT has_table_privilege('regress_rights_member', 'stripe.prices', 'SELECT') AS prices;
DROP ROLE regress_rights_member;
SELECT stripe_sync.revoke_all('regress_rights_reports');
DROP TABLE stripe.prices, stripe.mine;
SELECT action FROM stripe_sync.create_tables('{price}');
DROP ROLE regress_rights_reports;
SELECT t.hint($$ SELECT stripe_sync.grant_mirror(NULL) $$), t.sqlstate($$ SELECT stripe_sync.grant_read(0::regrole) $$), t.sqlstate($$ SELECT stripe_sync.revoke_all(NULL) $$);

-- admin: sets up and reads, but no secret, and names no file of the server's
CREATE SCHEMA app;
GRANT USAGE ON SCHEMA app TO PUBLIC;
CREATE FUNCTION app.nothing(event jsonb) RETURNS void LANGUAGE sql AS '';
SET ROLE regress_rights_admin;
SELECT stripe_sync.add_endpoint('admin', 'whsec_admin'), stripe_sync.rotate_endpoint_secret('admin', 'whsec_admin2'), stripe_sync.drop_endpoint('admin');
SELECT stripe_sync.add_handler('h', 'customer.*', 'app.nothing'), stripe_sync.test_handler('h', 'evt_1') ~ 'raised nothing' AS tested, stripe_sync.drop_handler('h');
SELECT status FROM stripe_sync.simulate('customer.created', '{"id":"cus_s","object":"customer"}');
SELECT status FROM stripe_sync.replay('evt_1');
CALL stripe_sync.work();
SELECT t.raises($$ SELECT stripe_sync.add_endpoint('file', 'file:/etc/passwd') $$) AS add_file, t.raises($$ SELECT stripe_sync.rotate_endpoint_secret('default', 'file:/etc/passwd') $$) AS rotate_file;
SELECT statement, t.sqlstate(statement) FROM (VALUES
	('SELECT * FROM stripe_sync.endpoint_secret'), ('SELECT secret FROM stripe_sync.endpoint_secret'), ('SELECT count(*) FROM stripe_sync.event'), ('DELETE FROM stripe_sync.event'),
	('INSERT INTO stripe_sync.handler VALUES (''x'', ''*'', ''app.nothing'', ''postgres'', '''', false)'), ('UPDATE stripe_sync.handler SET role = ''postgres'''),
	('UPDATE stripe_sync.mirror_table SET search_path = ''evil'''), ('SELECT count(*) FROM stripe.customers'), ('DELETE FROM stripe.customers'), ('SELECT stripe_sync.grant_grade(''admin'', ''regress_rights_none'')')) v (statement);
RESET ROLE;
-- with pg_read_server_files it may name one
GRANT pg_read_server_files TO regress_rights_admin;
SET ROLE regress_rights_admin;
SELECT stripe_sync.add_endpoint('file', 'file:/nonexistent/secret');
RESET ROLE;
SELECT name FROM stripe_sync.endpoint ORDER BY name;
-- an administrator may hand on what it has
SET ROLE regress_rights_admin;
SELECT stripe_sync.grant_read('regress_rights_none');
RESET ROLE;
SET ROLE regress_rights_none;
SELECT count(*) > 0 AS reads FROM stripe_sync.event;
RESET ROLE;

-- the right to make the mirror is no grade's: what is missing is said
CREATE ROLE regress_rights_maker;
SELECT current_database() AS db \gset
SELECT stripe_sync.grant_admin('regress_rights_maker');
SET ROLE regress_rights_maker;
SELECT replace(t.raises_all($$ SELECT stripe_sync.create_tables('{product}') $$), current_user, 'MAKER') LIKE '%GRANT USAGE, CREATE ON SCHEMA stripe TO MAKER%' AS schema_said;
RESET ROLE;
ALTER SCHEMA stripe RENAME TO regress_rights_aside;
SET ROLE regress_rights_maker;
SELECT replace(replace(t.raises_all($$ SELECT stripe_sync.add_endpoint('made', 'whsec_made') $$), current_user, 'MAKER'), current_database(), 'DB');
RESET ROLE;
GRANT CREATE ON DATABASE :"db" TO regress_rights_maker;
SET ROLE regress_rights_maker;
SELECT action FROM stripe_sync.create_tables('{product}');
RESET ROLE;
SELECT stripe_sync.grant_mirror('regress_rights_none');
SELECT has_table_privilege('regress_rights_none', 'stripe.products', 'SELECT') AS reads, (SELECT grantor::regrole FROM pg_class, aclexplode(relacl) WHERE oid = 'stripe.products'::regclass AND grantee = 'regress_rights_none'::regrole) AS grantor;
SELECT stripe_sync.revoke_all('regress_rights_maker'), stripe_sync.revoke_all('regress_rights_none');
DROP SCHEMA stripe CASCADE;
ALTER SCHEMA regress_rights_aside RENAME TO stripe;
DROP OWNED BY regress_rights_maker;
DROP ROLE regress_rights_maker;

-- revoke_all takes all of it back
SELECT stripe_sync.revoke_all(r::regrole) FROM unnest('{regress_rights_none,regress_rights_ingest,regress_rights_read,regress_rights_admin}'::text[]) r;
SELECT r, (SELECT count(*) FROM pg_proc p WHERE p.pronamespace = 'stripe_sync'::regnamespace AND has_function_privilege(r, p.oid, 'EXECUTE')) AS functions,
       (SELECT count(*) FROM pg_class c WHERE c.relnamespace IN ('stripe_sync'::regnamespace, 'stripe'::regnamespace) AND c.relkind IN ('r', 'v') AND has_table_privilege(r, c.oid, 'SELECT')) AS tables
  FROM unnest('{regress_rights_none,regress_rights_ingest,regress_rights_read,regress_rights_admin}'::text[]) r;
-- readers of PUBLIC's functions are left
SET ROLE regress_rights_ingest;
SELECT stripe_sync.verify_signature('x'::text, stripe_sync.sign('x'::text, 's'), 's');
SELECT t.sqlstate($$ SELECT t.send('evt_9', 'x', 1, '{}') $$);
RESET ROLE;

-- but not what a role has because a table is its own, nor what others gave it
GRANT USAGE ON SCHEMA stripe TO regress_rights_read, regress_rights_none;
ALTER TABLE stripe.coupons OWNER TO regress_rights_read;
GRANT SELECT, REFERENCES ON stripe.customers TO regress_rights_none;
SELECT stripe_sync.grant_admin('regress_rights_admin'), stripe_sync.grant_read('regress_rights_none');
SET ROLE regress_rights_admin;
SELECT stripe_sync.revoke_all('regress_rights_read'), stripe_sync.revoke_all('regress_rights_none');
RESET ROLE;
SELECT stripe_sync.revoke_all('regress_rights_admin');
SELECT has_schema_privilege('regress_rights_read', 'stripe', 'USAGE') AS schema, p AS privilege, has_table_privilege('regress_rights_read', 'stripe.coupons', p) AS owner_has FROM unnest('{SELECT,INSERT,UPDATE,DELETE}'::text[]) p;
SELECT has_table_privilege('regress_rights_none', 'stripe.customers', 'SELECT') AS "select", has_table_privilege('regress_rights_none', 'stripe.customers', 'REFERENCES') AS "references";
CREATE FUNCTION t.pass() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
GRANT EXECUTE ON FUNCTION t.pass() TO PUBLIC;
CREATE TRIGGER pass BEFORE INSERT ON stripe.coupons FOR EACH ROW EXECUTE FUNCTION t.pass();
SELECT t.send('evt_own', 'coupon.created', 1, '{"id":"OWN","object":"coupon"}');

-- a later CREATE OR REPLACE or a search_path of the caller's changes nothing:
-- functions that run with the owner's rights pin their path
SELECT p.oid::regprocedure::text AS unpinned FROM pg_proc p
 WHERE p.pronamespace = 'stripe_sync'::regnamespace AND p.prosecdef AND NOT 'search_path=pg_catalog, pg_temp' = ANY (COALESCE(p.proconfig, '{}'));
SELECT stripe_sync.grant_ingest('regress_rights_ingest');
CREATE SCHEMA evil AUTHORIZATION regress_rights_ingest;
SET ROLE regress_rights_ingest;
CREATE FUNCTION evil.eq(text, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'taken over as %', current_user; END $$;
CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.eq);
CREATE FUNCTION evil.now() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN RAISE 'taken over as %', current_user; END $$;
CREATE TEMPORARY TABLE event (id text);
SET search_path = evil, pg_temp, pg_catalog;
SELECT t.send('evt_10', 'customer.created', 1, '{"id":"cus_10","object":"customer"}');
SELECT t.send('evt_11', 'customer.updated', 1, '{"id":"cus_10","object":"customer","name":"x"}', '{"name":null}');
RESET search_path;
RESET ROLE;
SELECT id, name FROM stripe.customers WHERE id = 'cus_10';

DROP SCHEMA evil, app CASCADE;
DROP SCHEMA stripe CASCADE;
DROP EXTENSION stripe_sync CASCADE;
DROP OWNED BY regress_rights_none, regress_rights_ingest, regress_rights_read, regress_rights_admin;
DROP ROLE regress_rights_none, regress_rights_ingest, regress_rights_read, regress_rights_admin;
