-- Whose rights, under which search_path: handlers and mirror tables.
\set tables '{product}'
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.psql
\set ECHO none
\i :prelude
\set ECHO all
SELECT current_database() AS db \gset
CREATE ROLE regress_role_owner;
CREATE ROLE regress_role_handler;
CREATE ROLE regress_role_web;
GRANT CREATE ON DATABASE :"db" TO regress_role_owner;
SELECT stripe_sync.grant_admin('regress_role_owner'), stripe_sync.grant_admin('regress_role_handler'), stripe_sync.grant_ingest('regress_role_web');
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA t TO PUBLIC;
CREATE FUNCTION t.customer(id text, name text DEFAULT NULL) RETURNS json LANGUAGE sql
	AS $$ SELECT json_build_object('id', id, 'object', 'customer', 'name', name) $$;
CREATE SCHEMA app;
GRANT USAGE ON SCHEMA app TO PUBLIC;
CREATE TABLE app.log (n serial, what text, who text, session text, path text);
GRANT INSERT, SELECT ON app.log TO PUBLIC;
GRANT USAGE ON SEQUENCE app.log_n_seq TO PUBLIC;
CREATE TABLE app.secret (x int);

-- a handler runs as the role that registered it, with its search_path of then,
-- whoever receives
CREATE FUNCTION app.whoami(event jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO app.log (what, who, session, path) VALUES ('handler ' || (event->>'id'), current_user, session_user, current_setting('search_path'));
END $$;
SET ROLE regress_role_handler;
SET search_path = app, public;
SELECT stripe_sync.add_handler('whoami', '*', 'whoami');
RESET search_path;
RESET ROLE;
SELECT name, function, role, search_path FROM stripe_sync.handler;
SET ROLE regress_role_web;
SET search_path = pg_catalog;
SELECT t.send('evt_1', 'product.created', 1, '{"id":"prod_1","object":"product"}');
SELECT current_user, current_setting('search_path') AS path;
RESET search_path;
RESET ROLE;
SELECT what, who, session = session_user AS session_kept, path FROM app.log;
-- so do deferred ones, and those that are tested
TRUNCATE app.log;
SELECT stripe_sync.drop_handler('whoami');
SET ROLE regress_role_handler;
SET search_path = app;
SELECT stripe_sync.add_handler('whoami', '*', 'whoami', deferred => true);
RESET search_path;
RESET ROLE;
SELECT t.send('evt_2', 'x', 2, '{}');
CALL stripe_sync.work();
SELECT what, who, path FROM app.log;
-- never with more rights than that role has
CREATE FUNCTION app.pry(event jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO app.secret VALUES (1) $$;
SET ROLE regress_role_handler;
SELECT stripe_sync.add_handler('pry', '*', 'app.pry');
RESET ROLE;
SELECT status, left(detail, 11) AS detail FROM t.deliver(t.event('evt_3', 'x', 3, '{}'));
SELECT split_part(stripe_sync.test_handler('pry', 'evt_3'), ':', 1) AS tested;
-- not by SET ROLE or RESET ROLE, nor by what it defers
CREATE FUNCTION app.climb(event jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE event->'data'->'object'->>'do'; END $$;
SET ROLE regress_role_handler;
SELECT stripe_sync.add_handler('pry', '*', 'app.climb');
RESET ROLE;
SELECT c, status, left(detail, 10) AS detail FROM (VALUES (1, 'RESET ROLE'), (2, 'SET ROLE regress_role_owner'), (3, 'SET SESSION AUTHORIZATION DEFAULT'), (4, 'RESET SESSION AUTHORIZATION'),
	(5, 'COMMIT'), (6, 'SELECT * FROM stripe_sync.endpoint_secret')) v (n, c), LATERAL t.deliver(t.event('evt_4' || n, 'x', 3, json_build_object('do', c))) d;
-- what it sets is unset after it
SELECT t.send('evt_4x', 'x', 3, '{"do":"SET search_path = nonsense"}'), current_setting('search_path') AS path;
SELECT stripe_sync.drop_handler(name) FROM stripe_sync.handler;

-- deferred constraint triggers fire as the handler's role, within its step
TRUNCATE app.log;
CREATE TABLE app.orders (id text);
GRANT INSERT ON app.orders TO regress_role_handler;
CREATE FUNCTION app.late_whoami() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO app.log (what, who) VALUES ('deferred trigger', current_user);
	IF NEW.id = 'bad' THEN RAISE 'bad order'; END IF;
	RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON app.orders DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION app.late_whoami();
CREATE FUNCTION app.order(event jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO app.orders VALUES (event->'data'->'object'->>'order') $$;
SET ROLE regress_role_handler;
SELECT stripe_sync.add_handler('order', '*', 'app.order');
RESET ROLE;
SELECT status FROM t.deliver(t.event('evt_5', 'x', 5, '{"order":"good"}'));
SELECT status, split_part(detail, E'\n', 1) AS detail FROM t.deliver(t.event('evt_6', 'x', 6, '{"order":"bad"}'));
SELECT what, who FROM app.log;
SELECT id FROM app.orders;
-- and constraints are as deferred afterwards as they were declared
BEGIN;
SELECT t.send('evt_7', 'x', 7, '{"order":"good"}');
TRUNCATE app.log;
INSERT INTO app.orders VALUES ('mine');
SELECT count(*) AS fired_yet FROM app.log;
COMMIT;
SELECT what, who = current_user AS mine FROM app.log;
SELECT stripe_sync.drop_handler('order');

-- a role that is gone is a failure of the handler
SET ROLE regress_role_handler;
SELECT stripe_sync.add_handler('whoami', '*', 'app.whoami');
RESET ROLE;
ALTER ROLE regress_role_handler RENAME TO regress_role_renamed;
SELECT status, split_part(detail, E'\n', 1) AS detail FROM t.deliver(t.event('evt_8', 'x', 8, '{}'));
ALTER ROLE regress_role_renamed RENAME TO regress_role_handler;
SELECT status FROM stripe_sync.replay('evt_8');
-- so is one that may no longer call the function, and none may register what it can't call
REVOKE EXECUTE ON FUNCTION app.whoami(jsonb) FROM PUBLIC;
SELECT status, left(detail, 13) AS detail FROM t.deliver(t.event('evt_9', 'x', 9, '{}'));
SET ROLE regress_role_handler;
SELECT t.sqlstate($$ SELECT stripe_sync.add_handler('other', '*', 'app.whoami') $$);
RESET ROLE;
SELECT stripe_sync.drop_handler('whoami');

-- nothing that a handler leaves behind runs later as whoever received: a cursor
-- WITH HOLD would be run at the commit
TRUNCATE app.log;
CREATE FUNCTION app.note_who(what text) RETURNS int LANGUAGE plpgsql AS $$ BEGIN INSERT INTO app.log (what, who) VALUES (what, current_user); RETURN 1; END $$;
CREATE FUNCTION app.holds(event jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'DECLARE held CURSOR WITH HOLD FOR SELECT app.note_who(''held'')'; END $$;
SET ROLE regress_role_handler;
SELECT stripe_sync.add_handler('holds', '*', 'app.holds');
RESET ROLE;
SELECT status IS NOT NULL AS received FROM t.deliver(t.event('evt_h1', 'x', 9, '{}'));
SELECT what, who FROM app.log WHERE who <> 'regress_role_handler';
CLOSE ALL;
SELECT stripe_sync.drop_handler('holds');

-- nor anything else that outlives it, or takes away what is the caller's
CREATE FUNCTION app.does(event jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE event->'data'->'object'->>'do'; END $$;
SET ROLE regress_role_handler;
SELECT stripe_sync.add_handler('does', 'does', 'app.does');
RESET ROLE;
PREPARE mine AS SELECT 'it is still here' AS mine;
BEGIN;
DECLARE my_cursor CURSOR FOR SELECT 'it is still here' AS mine;
SELECT d, status, split_part(detail, E'\n', 1) AS detail FROM (VALUES (1, 'CREATE TEMP TABLE left_behind (x int)'), (2, 'CREATE TABLE pg_temp.left_behind (x int)'), (3, 'CREATE TEMP TABLE left_behind AS SELECT 1'),
	(4, 'CREATE TEMP VIEW left_behind AS SELECT 1'), (5, 'CREATE TEMP SEQUENCE left_behind'), (6, 'DECLARE c CURSOR FOR SELECT 1'), (7, 'DEALLOCATE ALL'), (8, 'DEALLOCATE mine'), (9, 'DISCARD PLANS'), (10, 'CLOSE ALL'),
	(11, 'LISTEN news'), (12, 'UNLISTEN *'), (13, 'PREPARE p AS SELECT 1')) v (n, d), LATERAL t.deliver(t.event('evt_o' || n, 'does', 9, json_build_object('do', d))) r ORDER BY n;
FETCH my_cursor;
COMMIT;
EXECUTE mine;
DEALLOCATE mine;
SELECT count(*) AS noted FROM stripe_sync.event WHERE id LIKE 'evt\_o%' AND status = 'failed' AND error LIKE 'does: 0A000: %' AND error LIKE '%HINT: %';
SELECT (SELECT count(*) FROM pg_cursors WHERE name <> '') AS cursors, (SELECT count(*) FROM pg_listening_channels()) AS channels, to_regclass('pg_temp.left_behind') AS temporary;
SELECT stripe_sync.drop_handler('does');

-- two constraints of one name, of which only one can be deferred
CREATE TABLE app.parent (i int PRIMARY KEY);
CREATE TABLE app.child_one (i int, CONSTRAINT shared FOREIGN KEY (i) REFERENCES app.parent DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE app.child_two (i int, CONSTRAINT shared FOREIGN KEY (i) REFERENCES app.parent);
SELECT t.raises($$ SELECT t.send('evt_n1', 'product.created', 9, '{"id":"prod_n","object":"product"}') $$);
CREATE FUNCTION app.does_nothing(event jsonb) RETURNS void LANGUAGE sql AS '';
SET ROLE regress_role_handler;
SELECT stripe_sync.add_handler('nothing', '*', 'app.does_nothing');
RESET ROLE;
SELECT t.raises($$ SELECT t.send('evt_n2', 'product.updated', 10, '{"id":"prod_n","object":"product"}') $$);
SELECT id, status, error FROM stripe_sync.event WHERE id LIKE 'evt\_n%' ORDER BY id;
SELECT stripe_sync.drop_handler('nothing');
DROP TABLE app.child_one, app.child_two, app.parent;

-- nor does what the caller has deferred run as a handler's role, or as a
-- mirror table's owner: it is the caller's
CREATE TABLE app.mine (id text);
GRANT INSERT ON app.mine TO regress_role_web;
CREATE FUNCTION app.mine_whoami() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM app.note_who('caller''s ' || NEW.id); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON app.mine DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION app.mine_whoami();
CREATE FUNCTION app.nothing(event jsonb) RETURNS void LANGUAGE sql AS '';
SET ROLE regress_role_handler;
SELECT stripe_sync.add_handler('nothing', '*', 'app.nothing');
RESET ROLE;
TRUNCATE app.log;
SET ROLE regress_role_web;
BEGIN;
INSERT INTO app.mine VALUES ('one');
SELECT t.send('evt_h2', 'x', 9, '{}');
COMMIT;
RESET ROLE;
SELECT what, who FROM app.log;
SELECT stripe_sync.drop_handler('nothing');
TRUNCATE app.log;
CREATE FUNCTION app.pass() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
CREATE TRIGGER passes BEFORE INSERT ON stripe.products FOR EACH ROW EXECUTE FUNCTION app.pass();
SET ROLE regress_role_web;
BEGIN;
INSERT INTO app.mine VALUES ('two');
SELECT t.send('evt_h3', 'product.created', 9, '{"id":"prod_h","object":"product"}');
COMMIT;
RESET ROLE;
SELECT what, who FROM app.log;

-- mirror tables belong to the caller of create_tables, and are written with
-- that role's rights and its search_path of then
DROP SCHEMA stripe CASCADE;
TRUNCATE app.log;
SET ROLE regress_role_owner;
SET search_path = app, public;
SELECT action FROM stripe_sync.create_tables('{customer}');
RESET search_path;
CREATE FUNCTION stripe.whoami() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO log (what, who, path) VALUES (TG_NAME || ' ' || NEW.id, current_user, current_setting('search_path'));
	RETURN NEW;
END $$;
CREATE TRIGGER tells BEFORE INSERT OR UPDATE ON stripe.customers FOR EACH ROW EXECUTE FUNCTION stripe.whoami();
CREATE CONSTRAINT TRIGGER tells_late AFTER INSERT ON stripe.customers DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION stripe.whoami();
RESET ROLE;
SELECT tableowner FROM pg_tables WHERE schemaname = 'stripe';
SELECT nspowner::regrole FROM pg_namespace WHERE nspname = 'stripe';
SET ROLE regress_role_web;
SELECT t.send('evt_10', 'customer.created', 10, t.customer('cus_10'));
RESET ROLE;
SELECT what, who, path FROM app.log ORDER BY n;
-- a trigger that needs more rights than the owner has fails the event's mirror
SET ROLE regress_role_owner;
CREATE FUNCTION stripe.pry() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO app.secret VALUES (2); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER pries AFTER UPDATE ON stripe.customers DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION stripe.pry();
RESET ROLE;
SELECT status, left(detail, 13) AS detail FROM t.deliver(t.event('evt_11', 'customer.updated', 11, t.customer('cus_10', 'New')));
SELECT count(*) AS pried FROM app.secret;
SELECT name FROM stripe.customers;

-- made again, it is the search_path of then that counts
TRUNCATE app.log;
DROP SCHEMA stripe CASCADE;
SET ROLE regress_role_owner;
SET search_path = app;
SELECT action FROM stripe_sync.create_tables('{customer}');
RESET search_path;
CREATE FUNCTION stripe.whoami() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO app.log (path) VALUES (current_setting('search_path'));
	RETURN NEW;
END $$;
CREATE TRIGGER tells BEFORE INSERT ON stripe.customers FOR EACH ROW EXECUTE FUNCTION stripe.whoami();
RESET ROLE;
SELECT t.send('evt_13', 'customer.created', 13, t.customer('cus_13'));
SELECT path FROM app.log;

-- filling columns that are new fires the owner's triggers: as the owner, under
-- the path of the table, though it is a superuser who asks
TRUNCATE app.log;
SET ROLE regress_role_owner;
CREATE FUNCTION stripe.filled() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO app.log (what, who, path) VALUES (TG_NAME, current_user, current_setting('search_path'));
	RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER filled_late AFTER UPDATE ON stripe.customers DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION stripe.filled();
CREATE TRIGGER filled AFTER UPDATE ON stripe.customers FOR EACH ROW EXECUTE FUNCTION stripe.filled();
RESET ROLE;
ALTER TABLE stripe.customers DROP COLUMN name;
SET search_path = public;
SELECT action FROM stripe_sync.create_tables('{customer}');
RESET search_path;
SELECT what, who, path FROM app.log ORDER BY n;

-- a superuser's tables are the database owner's
DROP SCHEMA stripe CASCADE;
ALTER DATABASE :"db" OWNER TO regress_role_owner;
SELECT action FROM stripe_sync.create_tables('{customer}');
SELECT tableowner FROM pg_tables WHERE schemaname = 'stripe';
SELECT session_user AS me \gset
ALTER DATABASE :"db" OWNER TO :"me";

-- whose path is noted by those alone who own them: not by who merely may set up,
-- when the extension is made anew
CREATE FUNCTION stripe.path_is() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO app.log (what, path) VALUES (NEW.id, current_setting('search_path')); RETURN NEW; END $$;
CREATE TRIGGER path_is BEFORE INSERT ON stripe.customers FOR EACH ROW EXECUTE FUNCTION stripe.path_is();
TRUNCATE app.log;
CREATE SCHEMA regress_role_evil AUTHORIZATION regress_role_handler;
DROP EXTENSION stripe_sync;
CREATE EXTENSION stripe_sync;
SELECT stripe_sync.grant_admin('regress_role_owner');
SELECT stripe_sync.add_endpoint('default', t.secret()), stripe_sync.grant_admin('regress_role_handler'), stripe_sync.grant_ingest('regress_role_web');
SET ROLE regress_role_handler;
SET search_path = regress_role_evil;
SELECT t.raises($$ SELECT stripe_sync.create_tables('{customer}') $$);
RESET search_path;
RESET ROLE;
SET ROLE regress_role_web;
SELECT t.send('evt_14', 'customer.created', 14, t.customer('cus_14'));
RESET ROLE;
SELECT what, path ~ 'evil' AS evil FROM app.log;
DROP SCHEMA regress_role_evil;
DROP TRIGGER path_is ON stripe.customers;
DELETE FROM stripe.customers;

-- row security of the table is its owner's to pass: rows are mirrored all the same
ALTER TABLE stripe.customers ENABLE ROW LEVEL SECURITY;
SET ROLE regress_role_web;
SELECT t.send('evt_12', 'customer.created', 12, t.customer('cus_12'));
RESET ROLE;
SELECT id FROM stripe.customers;

DROP SCHEMA app CASCADE;
DROP SCHEMA stripe CASCADE;
DROP EXTENSION stripe_sync CASCADE;
DROP OWNED BY regress_role_owner, regress_role_handler, regress_role_web;
DROP ROLE regress_role_owner, regress_role_handler, regress_role_web;
