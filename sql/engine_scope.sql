-- Code of others runs in a scope: whose names it finds, what it can't leave
-- behind, and that nothing of it outlives an error.
\set tables '{product,customer}'
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.psql
\set ECHO none
\i :prelude
\set ECHO all
SELECT current_database() AS db, session_user AS me \gset
CREATE ROLE regress_scope_web;
CREATE ROLE regress_scope_handler;
CREATE ROLE regress_scope_owner;
GRANT CREATE, TEMP ON DATABASE :"db" TO regress_scope_owner, regress_scope_handler, regress_scope_web;
SELECT stripe_sync.grant_ingest('regress_scope_web'), stripe_sync.grant_read('regress_scope_web'),
       stripe_sync.grant_admin('regress_scope_handler'), stripe_sync.grant_admin('regress_scope_owner');
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA t TO PUBLIC;
CREATE FUNCTION t.product(id text) RETURNS json LANGUAGE sql AS $$ SELECT json_build_object('id', id, 'object', 'product') $$;
CREATE FUNCTION t.customer(id text) RETURNS json LANGUAGE sql AS $$ SELECT json_build_object('id', id, 'object', 'customer') $$;
-- what became of an event, its first line
CREATE FUNCTION t.said(id text, type text, object json, OUT status text, OUT detail text) LANGUAGE sql VOLATILE
	AS $$ SELECT status, split_part(detail, E'\n', 1) FROM t.deliver(t.event(id, type, 1, object)) $$;
CREATE SCHEMA app;
GRANT USAGE ON SCHEMA app TO PUBLIC;
CREATE TABLE app.seen (n serial, what text, who text);
GRANT INSERT, SELECT, UPDATE ON app.seen TO PUBLIC;
GRANT USAGE ON SEQUENCE app.seen_n_seq TO PUBLIC;
CREATE FUNCTION app.see(what text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN INSERT INTO app.seen (what, who) VALUES (what, current_user); RETURN true; END $$;
CREATE FUNCTION app.saw() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM app.see(TG_NAME); RETURN NULL; END $$;
CREATE TABLE app.orders (id text);
GRANT INSERT ON app.orders TO regress_scope_handler;

---- names ----

-- a temporary table of the caller's doesn't hide the handler's
CREATE FUNCTION app.on_order(e jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN INSERT INTO orders VALUES (e->>'id'); END $$;
SET ROLE regress_scope_handler;
SET search_path = app;
SELECT stripe_sync.add_handler('order', 'order', 'app.on_order');
RESET search_path;
SET ROLE regress_scope_web;
BEGIN;
CREATE TEMP TABLE orders (id text);
GRANT ALL ON orders TO PUBLIC;
CREATE TRIGGER evil BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION app.saw();
SELECT * FROM t.said('evt_1', 'order', '{}');
COMMIT;
RESET ROLE;
SELECT id FROM app.orders;
SELECT what, who FROM app.seen;
-- nor the mirror's owner's
CREATE FUNCTION app.to_orders() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO app.orders SELECT NEW.id WHERE to_regclass('orders') = 'app.orders'::regclass; RETURN NULL; END $$;
DROP TABLE stripe.products;
SET search_path = app;
SELECT action FROM stripe_sync.create_tables('{product}');
RESET search_path;
SELECT search_path FROM stripe_sync.mirror_table WHERE table_name = 'products';
CREATE TRIGGER to_orders AFTER INSERT ON stripe.products FOR EACH ROW EXECUTE FUNCTION app.to_orders();
SET ROLE regress_scope_web;
SELECT * FROM t.said('evt_2', 'product.created', t.product('prod_1'));
RESET ROLE;
SELECT id FROM app.orders;
DROP TRIGGER to_orders ON stripe.products;
DROP TABLE pg_temp.orders;
-- "$user" is who it was, a schema made later isn't met, one that is gone neither
SET search_path = "$user", app, gone, pg_temp, pg_catalog;
SELECT stripe_sync.add_handler('order', 'order', 'app.on_order');
RESET search_path;
SELECT search_path FROM stripe_sync.handler;
CREATE SCHEMA regress_scope_handler AUTHORIZATION regress_scope_handler;
SET ROLE regress_scope_handler;
SET search_path = "$user", app;
SELECT stripe_sync.add_handler('order', 'order', 'app.on_order');
RESET search_path;
RESET ROLE;
SELECT search_path FROM stripe_sync.handler;
SELECT format('CREATE SCHEMA %I; CREATE TABLE %1$I.orders (id text); CREATE TRIGGER evil BEFORE INSERT ON %1$I.orders FOR EACH ROW EXECUTE FUNCTION app.saw()', :'me') AS squat \gset
SELECT format('DROP SCHEMA %I CASCADE', :'me') AS unsquat \gset
SET search_path = "$user", app;
SELECT stripe_sync.add_handler('order', 'order', 'app.on_order');
RESET search_path;
:squat;
SELECT * FROM t.said('evt_3', 'order', '{}');
-- not even where it stands in the table
UPDATE stripe_sync.handler SET search_path = 'pg_temp, "$user", PG_TEMP_3, app';
SELECT * FROM t.said('evt_4', 'order', '{}');
SELECT what FROM app.seen;
SELECT count(*) AS orders FROM app.orders WHERE id IN ('evt_3', 'evt_4');
SET client_min_messages = error;
:unsquat;
SET client_min_messages = warning;
SELECT stripe_sync.drop_handler('order');

-- no temporary object can be made inside, whatever it is called
CREATE FUNCTION app.does(e jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE e->'data'->'object'->>'do'; END $$;
SET ROLE regress_scope_handler;
SELECT stripe_sync.add_handler('does', 'does', 'app.does');
RESET ROLE;
CREATE FUNCTION pg_temp.mine() RETURNS int LANGUAGE sql AS 'SELECT 1';
SELECT nspname AS temp FROM pg_namespace WHERE oid = pg_my_temp_schema() \gset
SELECT n, s.status, s.detail FROM (VALUES (1, format('CREATE TABLE %I.orders (id text)', :'temp')), (2, $$SELECT set_config('search_path', 'pg_temp', true); CREATE TABLE orders (id text)$$),
	(3, 'CREATE DOMAIN pg_temp.amount AS numeric'), (4, 'CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS $x$ SELECT 1 $x$'), (5, 'CREATE TYPE pg_temp.e AS ENUM ()'), (6, 'CREATE TYPE pg_temp.c AS (i int)'),
	(7, format('CREATE VIEW %I.v AS SELECT 1', :'temp')), (8, 'CREATE OPERATOR pg_temp.+ (FUNCTION = int4pl, LEFTARG = int4, RIGHTARG = int4)'), (9, format('CREATE SEQUENCE %I.s', :'temp')), (10, 'SELECT 1 AS a INTO TEMP orders'),
	(11, 'CREATE AGGREGATE pg_temp.a (int4) (SFUNC = int4pl, STYPE = int4)'), (12, 'CREATE COLLATION pg_temp.col FROM "C"'), (13, 'CREATE TABLE pg_temp.p PARTITION OF app.parts DEFAULT')) v (n, d),
	LATERAL t.said('evt_t' || n, 'does', json_build_object('do', d)) s ORDER BY n;
SELECT count(*) AS left_behind FROM pg_class WHERE relnamespace = pg_my_temp_schema();
SELECT typname FROM pg_type WHERE typnamespace = pg_my_temp_schema();
SELECT proname FROM pg_proc WHERE pronamespace = pg_my_temp_schema();
-- ordinary ones can
GRANT CREATE ON SCHEMA app TO regress_scope_handler;
SELECT * FROM t.said('evt_t20', 'does', json_build_object('do', 'CREATE TABLE app.made (i int PRIMARY KEY); CREATE VIEW app.made_view AS SELECT * FROM app.made; DROP TABLE app.made CASCADE'));
-- and the caller's own staging tables are as they were
BEGIN;
CREATE TEMP TABLE staging ON COMMIT DROP AS SELECT 'evt_t21' AS id;
SELECT t.send(id, 'does', 1, '{"do":"SELECT 1"}') FROM staging;
SELECT id FROM staging;
COMMIT;

---- settings ----

CREATE FUNCTION app.settings(e jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
	INSERT INTO app.seen (what) SELECT concat_ws(' ', current_setting('row_security'), current_setting('standard_conforming_strings'), current_setting('transform_null_equals'), current_setting('check_function_bodies'), current_setting('DateStyle'));
	PERFORM set_config('datestyle', 'SQL', false);
END $$;
SET ROLE regress_scope_handler;
SELECT stripe_sync.add_handler('settings', 'settings', 'app.settings');
RESET ROLE;
TRUNCATE app.seen;
BEGIN;
SET LOCAL row_security = off;
SET LOCAL transform_null_equals = on;
SET LOCAL check_function_bodies = off;
SET LOCAL datestyle = 'German';
SELECT * FROM t.said('evt_s1', 'settings', '{}');
SELECT current_setting('row_security') AS row_security, current_setting('transform_null_equals') AS nulls, current_setting('check_function_bodies') AS bodies, current_setting('datestyle') AS dates;
COMMIT;
SELECT what FROM app.seen;
-- FORCE ROW LEVEL SECURITY and a caller who switched it off
ALTER TABLE stripe.products ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE stripe.products OWNER TO regress_scope_owner;
GRANT USAGE ON SCHEMA stripe TO regress_scope_owner;
CREATE POLICY everything ON stripe.products USING (true);
SET ROLE regress_scope_web;
SET row_security = off;
SELECT * FROM t.said('evt_s2', 'product.created', t.product('prod_2'));
RESET row_security;
RESET ROLE;

---- what is deferred ----

-- by a CHECK of the owner's, on another table
CREATE TABLE app.queue (i int);
GRANT INSERT ON app.queue TO PUBLIC;
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON app.queue DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION app.saw();
CREATE FUNCTION app.enqueue() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN INSERT INTO app.queue VALUES (1); RETURN true; END $$;
SET ROLE regress_scope_owner;
ALTER TABLE stripe.products ADD CONSTRAINT queues CHECK (app.enqueue());
RESET ROLE;
TRUNCATE app.seen;
SET ROLE regress_scope_web;
SELECT * FROM t.said('evt_d1', 'product.created', t.product('prod_3'));
RESET ROLE;
SELECT what, who FROM app.seen;
-- by a policy, when the mirror is read: there it can't
SET ROLE regress_scope_owner;
ALTER TABLE stripe.products DROP CONSTRAINT queues;
ALTER POLICY everything ON stripe.products USING (app.enqueue());
RESET ROLE;
TRUNCATE app.seen;
SELECT t.raises($$ SELECT * FROM stripe_sync.verify_mirror('{product}') $$);
SELECT what, who FROM app.seen;
SET ROLE regress_scope_owner;
ALTER POLICY everything ON stripe.products USING (true);
RESET ROLE;
-- a deferred foreign key in a handler: child first
CREATE TABLE app.parent (i int PRIMARY KEY);
CREATE TABLE app.child (i int CONSTRAINT of_parent REFERENCES app.parent DEFERRABLE INITIALLY DEFERRED);
GRANT INSERT, SELECT ON app.parent, app.child TO PUBLIC;
SELECT * FROM t.said('evt_d2', 'does', json_build_object('do', 'INSERT INTO app.child VALUES (1); INSERT INTO app.parent VALUES (1)'));
SELECT * FROM t.said('evt_d3', 'does', json_build_object('do', 'INSERT INTO app.child VALUES (2)'));
SELECT i FROM app.child;
-- the caller's, with a handler: fired once before it, and what it raises is the
-- caller's, not the event's
BEGIN;
INSERT INTO app.child VALUES (3);
SELECT t.raises($$ SELECT * FROM t.said('evt_d4', 'does', '{"do":"SELECT 1"}') $$);
COMMIT;
SELECT count(*) AS stored FROM stripe_sync.event WHERE id = 'evt_d4';
BEGIN;
INSERT INTO app.child VALUES (3);
INSERT INTO app.parent VALUES (3);
SELECT * FROM t.said('evt_d4', 'does', '{"do":"SELECT 1"}');
COMMIT;
-- where only plain tables are written nothing of the caller's is fired
BEGIN;
INSERT INTO app.child VALUES (4);
SELECT * FROM t.said('evt_d5', 'customer.created', t.customer('cus_1'));
INSERT INTO app.parent VALUES (4);
COMMIT;
BEGIN ISOLATION LEVEL REPEATABLE READ;
INSERT INTO app.child VALUES (5);
SELECT * FROM t.said('evt_d6', 'customer.updated', t.customer('cus_1'));
INSERT INTO app.parent VALUES (5);
COMMIT;
-- and what it said with SET CONSTRAINTS holds
BEGIN;
SET CONSTRAINTS app.of_parent IMMEDIATE;
SELECT * FROM t.said('evt_d7', 'customer.updated', t.customer('cus_1'));
SELECT t.raises('INSERT INTO app.child VALUES (6)');
COMMIT;
SELECT i FROM app.child ORDER BY i;
-- create_tables() fires it as the caller's, too
BEGIN;
INSERT INTO app.child VALUES (7);
SELECT t.raises($$ SELECT * FROM stripe_sync.create_tables('{product}') $$);
COMMIT;
DELETE FROM app.child;

---- errors ----

-- what a scope has set is gone when its subtransaction is, however that ends:
-- an error of the owner's in verify_mirror(), caught outside
CREATE FUNCTION app.breaks() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'broken'; END $$;
SET ROLE regress_scope_owner;
ALTER POLICY everything ON stripe.products USING (app.breaks());
RESET ROLE;
CREATE CONSTRAINT TRIGGER mine_late AFTER INSERT ON app.orders DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION app.saw();
GRANT INSERT ON app.orders TO regress_scope_web;
-- who is shown all rows
ALTER ROLE regress_scope_web BYPASSRLS;
TRUNCATE app.seen;
SET ROLE regress_scope_web;
BEGIN;
INSERT INTO app.orders VALUES ('mine');
SELECT t.raises($$ SELECT * FROM stripe_sync.verify_mirror('{product}') $$);
-- nobody's scope any more: this is no handler
CREATE TEMP TABLE after_it (i int) ON COMMIT DROP;
DECLARE c CURSOR FOR SELECT 1;
SELECT * FROM t.said('evt_e1', 'does', '{"do":"SELECT 1"}');
COMMIT;
RESET ROLE;
SELECT what, who FROM app.seen;
-- and the path of a call that failed is forgotten
CREATE FUNCTION app.saw_path() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM app.see(current_setting('search_path')); RETURN NULL; END $$;
DROP TRIGGER mine_late ON app.orders;
CREATE CONSTRAINT TRIGGER mine_late AFTER INSERT ON app.orders DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION app.saw_path();
TRUNCATE app.seen;
BEGIN;
SET LOCAL search_path = first_path, app;
SELECT t.sqlstate($$ SELECT stripe_sync.receive('{}', 't=1,v1=00') $$);
SET LOCAL search_path = second_path, app;
INSERT INTO app.orders VALUES ('path');
SELECT * FROM t.said('evt_e2', 'does', '{"do":"SELECT 1"}');
COMMIT;
SELECT what FROM app.seen;
DROP TRIGGER mine_late ON app.orders;
SET ROLE regress_scope_owner;
ALTER POLICY everything ON stripe.products USING (true);
RESET ROLE;
-- ROLLBACK TO, and an error in a function with an exception block in a handler
CREATE FUNCTION app.catches(e jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
	BEGIN PERFORM stripe_sync.verify_mirror(ARRAY['no such type']); EXCEPTION WHEN OTHERS THEN NULL; END;
	BEGIN PERFORM stripe_sync.receive('{}', 't=1,v1=00'); EXCEPTION WHEN OTHERS THEN NULL; END;
	EXECUTE 'CREATE TEMP TABLE still_inside (i int)';
END $$;
SET ROLE regress_scope_handler;
SELECT stripe_sync.add_handler('catches', 'catches', 'app.catches');
RESET ROLE;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA stripe_sync TO regress_scope_handler;
BEGIN;
SAVEPOINT s;
SELECT * FROM t.said('evt_e3', 'catches', '{}');
ROLLBACK TO s;
CREATE TEMP TABLE outside (i int) ON COMMIT DROP;
SELECT * FROM t.said('evt_e3', 'catches', '{}');
COMMIT;

---- cursors ----

CREATE TABLE app.secrets (s text);
INSERT INTO app.secrets VALUES ('one'), ('two'), ('three');
CREATE FUNCTION app.pries(e jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	c refcursor := 'mine';
	row record;
BEGIN
	CASE e->'data'->'object'->>'do'
		WHEN 'fetch' THEN FETCH c INTO row; PERFORM app.see(row::text);
		WHEN 'move' THEN MOVE c;
		WHEN 'close' THEN CLOSE c;
		WHEN 'swap' THEN OPEN c FOR SELECT 'swapped';
		WHEN 'leave' THEN c := 'left'; OPEN c FOR SELECT app.see('left behind');
		WHEN 'loop' THEN FOR row IN SELECT 1 LOOP PERFORM app.see((SELECT string_agg(name, ',') FROM pg_cursors WHERE name !~ 'unnamed')); END LOOP;
		WHEN 'own' THEN c := NULL; OPEN c FOR SELECT generate_series(1, 3); FETCH c INTO row; MOVE c; FETCH c INTO row; PERFORM app.see(row::text); CLOSE c;
	END CASE;
END $$;
SET ROLE regress_scope_handler;
SELECT stripe_sync.add_handler('pries', 'pries', 'app.pries');
RESET ROLE;
TRUNCATE app.seen;
BEGIN;
DECLARE mine CURSOR FOR SELECT s FROM app.secrets;
SELECT d, s.* FROM unnest('{fetch,move,close,swap,leave,loop,own}'::text[]) d, LATERAL t.said('evt_c_' || d, 'pries', json_build_object('do', d)) s;
FETCH mine;
SELECT name FROM pg_cursors WHERE name ~ 'mine|left';
SAVEPOINT s;
SELECT status FROM t.said('evt_c_again', 'pries', '{"do":"fetch"}');
ROLLBACK TO s;
FETCH mine;
MOVE mine;
CLOSE mine;
COMMIT;
SELECT what, who FROM app.seen ORDER BY n;
-- one of the caller's WITH HOLD, and a loop of the caller's over its own
BEGIN;
DECLARE mine CURSOR WITH HOLD FOR SELECT s FROM app.secrets;
COMMIT;
SELECT * FROM t.said('evt_c_held', 'pries', '{"do":"fetch"}');
FETCH mine;
CLOSE mine;
DO $$ DECLARE r record; n int := 0; BEGIN
	FOR r IN SELECT s FROM app.secrets LOOP
		n := n + (SELECT count(*) FROM t.said('evt_c_' || r.s, 'pries', '{"do":"own"}') WHERE status = 'ignored');
	END LOOP;
	RAISE WARNING '% of the loop', n;
END $$;
-- when all of it fails, or just what the cursor was made in
BEGIN;
DECLARE mine CURSOR FOR SELECT s FROM app.secrets;
SELECT * FROM stripe_sync.receive('{}', 't=1,v1=00');
ROLLBACK;
BEGIN;
DECLARE mine CURSOR FOR SELECT s FROM app.secrets;
SELECT t.raises($$ SELECT * FROM stripe_sync.verify_mirror('{nonsense}') $$);
FETCH mine;
SAVEPOINT s;
SET LOCAL ROLE regress_scope_owner;
ALTER POLICY everything ON stripe.products USING (app.breaks());
SET LOCAL ROLE none;
DECLARE inner_one CURSOR FOR SELECT s FROM app.secrets;
SELECT * FROM stripe_sync.verify_mirror('{product}');
ROLLBACK TO s;
FETCH mine;
SELECT name FROM pg_cursors WHERE name ~ 'mine|inner';
SET LOCAL ROLE regress_scope_owner;
ALTER POLICY everything ON stripe.products USING (app.breaks());
SET LOCAL ROLE none;
SELECT * FROM stripe_sync.verify_mirror('{product}');
ROLLBACK;
SELECT count(*) AS cursors FROM pg_cursors WHERE name ~ 'mine|inner';

---- large objects ----

SELECT lo_from_bytea(0, 'the handler''s') AS handlers, lo_from_bytea(0, 'the caller''s') AS callers \gset
SELECT format('GRANT SELECT, UPDATE ON LARGE OBJECT %s TO regress_scope_handler', :'handlers') AS grant_it \gset
:grant_it;
CREATE FUNCTION app.opens(e jsonb) RETURNS void LANGUAGE plpgsql AS $$ DECLARE fd int; BEGIN
	fd := lo_open((e->'data'->'object'->>'lo')::oid, x'20000'::int);
	PERFORM app.see(convert_from(loread(fd, 100), 'UTF8'));
END $$;
CREATE FUNCTION app.guesses(e jsonb) RETURNS void LANGUAGE plpgsql AS $$ DECLARE fd int := 0; BEGIN
	PERFORM app.see(convert_from(loread(fd, 100), 'UTF8'));
END $$;
SET ROLE regress_scope_handler;
SELECT stripe_sync.add_handler('opens', 'opens', 'app.opens'), stripe_sync.add_handler('guesses', 'guesses', 'app.guesses');
RESET ROLE;
TRUNCATE app.seen;
-- what the handler opened is closed, twice over
BEGIN;
SELECT * FROM t.said('evt_l1', 'opens', json_build_object('lo', :'handlers'));
SELECT * FROM t.said('evt_l2', 'opens', json_build_object('lo', :'handlers'));
SAVEPOINT s;
SELECT loread(0, 100);
ROLLBACK TO s;
COMMIT;
-- the caller's is out of reach, and stays open
BEGIN;
SELECT lo_open(:'callers', x'20000'::int) AS fd;
SELECT * FROM t.said('evt_l3', 'guesses', '{}');
SELECT convert_from(loread(0, 100), 'UTF8');
SELECT * FROM t.said('evt_l4', 'does', '{"do":"SELECT 1"}');
COMMIT;
-- also by an expression that was in use before
BEGIN;
SELECT * FROM t.said('evt_l5', 'guesses', '{}');
SELECT lo_open(:'callers', x'20000'::int) AS fd;
SELECT * FROM t.said('evt_l6', 'guesses', '{}');
COMMIT;
SELECT what FROM app.seen;
SELECT lo_unlink(:'handlers'), lo_unlink(:'callers');

---- functions ----

CREATE SCHEMA team;
GRANT USAGE ON SCHEMA team TO PUBLIC;
ALTER SCHEMA team OWNER TO regress_scope_owner;
CREATE FUNCTION team.h(e jsonb) RETURNS void LANGUAGE sql AS $$ SELECT app.see('the good one') $$;
SELECT stripe_sync.add_handler('team', 'team', 'team.h');
SELECT function_owner = :'me' AS noted FROM stripe_sync.handler WHERE name = 'team';
SET ROLE regress_scope_owner;
DROP FUNCTION team.h(jsonb);
CREATE FUNCTION team.h(e jsonb) RETURNS void LANGUAGE sql AS $$ SELECT app.see('another') $$;
RESET ROLE;
TRUNCATE app.seen;
SELECT status, detail FROM t.said('evt_f1', 'team', '{}');
SELECT what, who FROM app.seen;
-- it spends no tries, falls due again all the same, and never at once
SELECT status, todo, tries, next_attempt_at > now() + interval '5 s' AS later, split_part(error, E'\n', 3) AS hint FROM stripe_sync.event WHERE id = 'evt_f1';
SELECT status FROM stripe_sync.replay('evt_f1');
UPDATE stripe_sync.event SET next_attempt_at = now(), received_at = now() - interval '1 hour' WHERE id = 'evt_f1';
CALL stripe_sync.work();
SELECT status, todo, tries, next_attempt_at > now() + interval '50 min' AS later FROM stripe_sync.event WHERE id = 'evt_f1';
SELECT regexp_replace(stripe_sync.test_handler('team', 'evt_f1'), ', after .*', '') AS tested;
-- registered again it is looked at again
SELECT stripe_sync.add_handler('team', 'team', 'team.h');
SELECT next_attempt_at <= clock_timestamp() AS due FROM stripe_sync.event WHERE id = 'evt_f1';
CALL stripe_sync.work();
SELECT status, todo, tries, error FROM stripe_sync.event WHERE id = 'evt_f1';
SELECT what, who = :'me' AS as_me FROM app.seen;
-- an owner who could do it anyway is fine: a superuser, a member of the role
TRUNCATE app.seen;
GRANT USAGE, CREATE ON SCHEMA team TO regress_scope_handler;
SET ROLE regress_scope_handler;
CREATE FUNCTION team.own(e jsonb) RETURNS void LANGUAGE sql AS $$ SELECT app.see('own') $$;
SELECT stripe_sync.add_handler('own', 'own', 'team.own');
RESET ROLE;
ALTER FUNCTION team.own(jsonb) OWNER TO :"me";
SELECT * FROM t.said('evt_f2', 'own', '{}');
GRANT regress_scope_handler TO regress_scope_web;
GRANT CREATE ON SCHEMA team TO regress_scope_web;
ALTER FUNCTION team.own(jsonb) OWNER TO regress_scope_handler;
REASSIGN OWNED BY regress_scope_handler TO regress_scope_web;
SELECT * FROM t.said('evt_f3', 'own', '{}');
ALTER FUNCTION team.own(jsonb) OWNER TO regress_scope_owner;
SELECT * FROM t.said('evt_f4', 'own', '{}');
SELECT what, who FROM app.seen;
SELECT stripe_sync.drop_handler('team'), stripe_sync.drop_handler('own');

---- revoke_all ----

-- the handlers of a role that was revoked its rights stop, and are named; what
-- comes for them waits
SELECT stripe_sync.drop_handler(name) FROM stripe_sync.handler WHERE name NOT IN ('does', 'pries');
CREATE TABLE app.ran (what text);
GRANT INSERT ON app.ran TO PUBLIC;
SET client_min_messages = notice;
SELECT stripe_sync.revoke_all('regress_scope_handler');
SELECT stripe_sync.revoke_all('regress_scope_web');
SET client_min_messages = warning;
SELECT name, stopped_at IS NOT NULL AS stopped FROM stripe_sync.handler ORDER BY name;
SELECT * FROM t.said('evt_r1', 'does', '{"do":"INSERT INTO app.ran VALUES (1)"}');
CALL stripe_sync.work();
SELECT count(*) AS ran FROM app.ran;
SELECT status, todo, tries, next_attempt_at > now() + interval '5 s' AS later, error FROM stripe_sync.event WHERE id = 'evt_r1';
SELECT * FROM stripe_sync.replay('evt_r1', handlers => true);
SELECT regexp_replace(stripe_sync.test_handler('does', 'evt_r1'), ', after .*', '') AS tested;
SELECT count(*) AS ran FROM app.ran;
-- until somebody registers them again, or drops them
SET ROLE regress_scope_owner;
SELECT stripe_sync.add_handler('does', 'does', 'app.does');
RESET ROLE;
CALL stripe_sync.work();
SELECT what FROM app.ran;
SELECT status, todo FROM stripe_sync.event WHERE id = 'evt_r1';
SELECT * FROM t.said('evt_r2', 'pries', '{"do":"own"}');
SELECT stripe_sync.drop_handler('pries');
UPDATE stripe_sync.event SET next_attempt_at = now() WHERE id = 'evt_r2';
CALL stripe_sync.work();
SELECT status, todo, next_attempt_at FROM stripe_sync.event WHERE id = 'evt_r2';

SET client_min_messages = warning;
DROP SCHEMA app, team, regress_scope_handler CASCADE;
DROP SCHEMA stripe CASCADE;
DROP EXTENSION stripe_sync CASCADE;
DROP OWNED BY regress_scope_owner, regress_scope_handler, regress_scope_web;
DROP ROLE regress_scope_owner, regress_scope_handler, regress_scope_web;
