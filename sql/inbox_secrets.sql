-- Nothing that the extension emits holds a secret.
\set tables '{customer}'
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.psql
\set ECHO none
\i :prelude
\set ECHO all
-- Every string that must not be seen holds this.
SELECT stripe_sync.add_endpoint('hush', 'whsec_HUSH_1'), stripe_sync.rotate_endpoint_secret('hush', 'whsec_HUSH_2');
-- errors, with all that belongs to them (but the caller's own statement, which
-- PL/pgSQL puts into the context)
CREATE FUNCTION t.said(statement text) RETURNS text LANGUAGE sql AS $$ SELECT replace(t.raises_all(statement), statement, '') $$;
SELECT statement, t.said(statement) ~* 'hush_' AS told, left(t.said(statement), 5) AS code FROM (VALUES
	('SELECT stripe_sync.add_endpoint(''hush'', ''whsec_HUSH_3'')'), ('SELECT stripe_sync.add_endpoint(''hush'', ''whsec_HUSH_1'')'),
	('SELECT stripe_sync.add_endpoint('''', ''whsec_HUSH_3'')'), ('SELECT stripe_sync.add_endpoint(''other'', ''whsec_HUSH_3'' || repeat(''x'', 2000))'),
	('SELECT stripe_sync.add_endpoint(''other'', ''whsec_HUSH_3'', tolerance => ''-1 s'')'), ('SELECT stripe_sync.rotate_endpoint_secret(''nowhere'', ''whsec_HUSH_3'')'),
	('SELECT stripe_sync.receive(''{}''::text, stripe_sync.sign(''{}''::text, ''whsec_HUSH_2''), ''hush'')'), ('SELECT stripe_sync.receive(''{}''::text, ''t=1,v1=00'', ''hush'')'),
	('SELECT stripe_sync.verify_signature(''{}''::text, ''t=1,v1=00'', ''whsec_HUSH_2'')'), ('SELECT stripe_sync.verify_signature(''{}''::text, ''nonsense'', ''whsec_HUSH_2'')'),
	('SELECT stripe_sync.sign(''{}''::text, ''whsec_HUSH_2'', ''infinity'')'), ('SELECT stripe_sync.sign(''{}''::text, ''whsec_HUSH_2'' || repeat(''x'', 2000))')) v (statement);
-- where the row of a secret can't be written, the error doesn't show the row
CREATE FUNCTION t.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'refused'; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON stripe_sync.endpoint_secret FOR EACH ROW EXECUTE FUNCTION t.refuse();
SELECT t.said($$ SELECT stripe_sync.add_endpoint('third', 'whsec_HUSH_4') $$) ~ 'HUSH_' AS told;
DROP TRIGGER refuse ON stripe_sync.endpoint_secret;
-- the file of a secret that can't be used is named, what is in it isn't
COPY (SELECT 'whsec_HUSH_file' || repeat('x', 2000)) TO PROGRAM 'cat > stripe_sync_hush';
SET client_min_messages = error; -- which names the file
SELECT stripe_sync.add_endpoint('file', 'file:' || current_setting('data_directory') || '/stripe_sync_hush');
SET client_min_messages = warning;
SELECT t.said($$ SELECT stripe_sync.receive('{}'::text, 't=1,v1=00', 'file') $$) ~ 'HUSH_' AS told, t.raises($$ SELECT stripe_sync.receive('{}'::text, 't=1,v1=00', 'file') $$);
COPY (SELECT) TO PROGRAM 'cat >/dev/null; rm -f stripe_sync_hush';
-- events, failed ones with their context too; what a simulation stores
CREATE FUNCTION t.broken(event jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE 'no luck with %', event->>'id'; END $$;
SELECT stripe_sync.add_handler('broken', '*', 't.broken');
SELECT status FROM stripe_sync.receive('{"id":"evt_1","type":"x"}'::text, stripe_sync.sign('{"id":"evt_1","type":"x"}'::text, 'whsec_HUSH_2'), 'hush');
SELECT status FROM stripe_sync.simulate('customer.created', '{"id":"cus_1","object":"customer"}', 'hush');
SELECT count(*) AS told FROM stripe_sync.event e WHERE e::text ~ 'HUSH_';
SELECT stripe_sync.explain_event('evt_1') ~ 'HUSH_' AS told, stripe_sync.test_handler('broken', 'evt_1') ~ 'HUSH_' AS told;
SELECT w.body::text ~ 'HUSH_' AS told FROM stripe_sync.webhook('{}'::text, '{"stripe-signature":"t=1,v1=00"}', 'hush') w;
-- every table and view of the extension but the one that nobody may read
DO $$
DECLARE
	name text;
	told boolean;
BEGIN
	FOR name IN SELECT oid::regclass FROM pg_class WHERE relnamespace = 'stripe_sync'::regnamespace AND relkind IN ('r', 'v') AND relname <> 'endpoint_secret' ORDER BY 1 LOOP
		EXECUTE format('SELECT EXISTS (SELECT FROM %s t WHERE t::text ~ ''HUSH_'')', name) INTO told;
		IF told THEN RAISE '% holds a secret', name; END IF;
	END LOOP;
END $$;
SELECT relacl IS NULL OR NOT EXISTS (SELECT FROM aclexplode(relacl) WHERE grantee <> relowner) AS nobody_may FROM pg_class WHERE oid = 'stripe_sync.endpoint_secret'::regclass;
-- neither is it dumped
SELECT 'stripe_sync.endpoint_secret'::regclass = ANY (extconfig) AS dumped, 'stripe_sync.endpoint'::regclass = ANY (extconfig) AS endpoint_is FROM pg_extension WHERE extname = 'stripe_sync';
-- nor in what the statistics keep of the extension's own statements
SELECT count(*) AS told FROM pg_stat_activity WHERE query ~ 'HUSH_' AND pid <> pg_backend_pid();
SELECT count(*) AS told FROM pg_prepared_statements WHERE statement ~ 'HUSH_';
