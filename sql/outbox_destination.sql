-- Destinations: named places in Slack, and their secrets.
\set tables '{customer}'
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.psql
\set ECHO none
\i :prelude
\set ECHO all
-- Times are shown in the session's zone.
SET timezone = 'UTC';
CREATE VIEW t.shown AS SELECT name, kind, channel, enabled, disabled_reason, disabled_at IS NOT NULL AS off_since, fallback, escalation FROM stripe_sync.destination;

-- what the calls take
SELECT stripe_sync.add_slack_webhook('billing', 'https://hooks.slack.com/services/T0/B0/HUSH_1'), stripe_sync.add_slack_channel('ops', 'C0123456789', 'xoxb-HUSH_2');
SELECT stripe_sync.add_slack_channel('Büro & <Co>', '#büro', 'xoxb-HUSH_2');
SELECT * FROM t.shown ORDER BY name COLLATE "C";
SELECT destination, next_at, blocked_until FROM stripe_sync.destination_pace ORDER BY destination COLLATE "C";
SELECT t.raises(s), s FROM (VALUES
	('SELECT stripe_sync.add_slack_webhook(NULL, ''https://hooks.slack.com/x'')'), ('SELECT stripe_sync.add_slack_webhook(''x'', NULL)'),
	('SELECT stripe_sync.add_slack_channel(NULL, ''c'', ''t'')'), ('SELECT stripe_sync.add_slack_channel(''x'', NULL, ''t'')'), ('SELECT stripe_sync.add_slack_channel(''x'', ''c'', NULL)'),
	('SELECT stripe_sync.add_slack_webhook('''', ''https://hooks.slack.com/x'')'), ('SELECT stripe_sync.add_slack_webhook(repeat(''n'', 64), ''https://hooks.slack.com/x'')'),
	('SELECT stripe_sync.add_slack_webhook(''@customer'', ''https://hooks.slack.com/x'')'), ('SELECT stripe_sync.add_slack_webhook(E''a\nb'', ''https://hooks.slack.com/x'')'),
	('SELECT stripe_sync.add_slack_webhook(''x'', '''')'), ('SELECT stripe_sync.add_slack_webhook(''x'', ''https://example.com/services/x'')'),
	('SELECT stripe_sync.add_slack_webhook(''x'', ''http://hooks.slack.com/services/x'')'), ('SELECT stripe_sync.add_slack_webhook(''x'', ''hooks.slack.com/services/x'')'),
	('SELECT stripe_sync.add_slack_webhook(''x'', ''https://hooks.slack.com/a b'')'), ('SELECT stripe_sync.add_slack_webhook(''x'', E''https://hooks.slack.com/a\nb'')'),
	('SELECT stripe_sync.add_slack_webhook(''x'', ''https://hooks.slack.com/'' || repeat(''x'', 1024))'), ('SELECT stripe_sync.add_slack_webhook(''x'', ''file:relative'')'),
	('SELECT stripe_sync.add_slack_channel(''x'', '''', ''xoxb-1'')'), ('SELECT stripe_sync.add_slack_channel(''x'', repeat(''c'', 256), ''xoxb-1'')'), ('SELECT stripe_sync.add_slack_channel(''x'', E''c\t'', ''xoxb-1'')'),
	('SELECT stripe_sync.add_slack_channel(''x'', ''c'', '''')'), ('SELECT stripe_sync.add_slack_channel(''x'', ''c'', ''xoxb 1'')'), ('SELECT stripe_sync.add_slack_channel(''x'', ''c'', E''xoxb\r\nHost: x'')'),
	('SELECT stripe_sync.add_slack_channel(''x'', ''c'', ''xöxb'')'), ('SELECT stripe_sync.add_slack_channel(''x'', ''c'', repeat(''t'', 1025))'), ('SELECT stripe_sync.add_slack_channel(''x'', ''c'', ''file:'')')) v (s);
SELECT t.hint($$ SELECT stripe_sync.add_slack_webhook('x', 'https://example.com/services/x') $$);
-- arguments in another order would put a secret where all may read it
SELECT t.raises(s), s FROM (VALUES ('SELECT stripe_sync.add_slack_webhook(''https://hooks.slack.com/s/1'', ''ops'')'), ('SELECT stripe_sync.add_slack_channel(''xoxb-1'', ''#c'', ''x'')'),
	('SELECT stripe_sync.add_slack_channel(''ops'', ''xoxb-1'', ''#c'')')) v (s);
-- the longest of each
SELECT stripe_sync.add_slack_channel(repeat('n', 63), repeat('c', 255), repeat('t', 1024)), stripe_sync.drop_destination(repeat('n', 63));

-- a known name, run again: nothing changes
UPDATE stripe_sync.destination_pace SET blocked_until = '2100-01-01', blocked_reason = 'ratelimited' WHERE destination IN ('billing', 'ops');
SELECT stripe_sync.disable_destination('billing', 'Holidays'), stripe_sync.disable_destination('ops', NULL);
SELECT stripe_sync.add_slack_webhook('billing', 'https://hooks.slack.com/services/T0/B0/HUSH_1'), stripe_sync.add_slack_channel('ops', 'C0123456789', 'xoxb-HUSH_2');
SELECT name, enabled, disabled_reason, off_since, blocked_until, blocked_reason FROM t.shown JOIN stripe_sync.destination_pace ON destination = name WHERE name IN ('billing', 'ops') ORDER BY name;
-- another secret, channel or kind: replaced and on
SELECT stripe_sync.add_slack_webhook('billing', 'https://hooks.slack.com/services/T0/B0/HUSH_3'), stripe_sync.add_slack_channel('ops', '#ops', 'xoxb-HUSH_2');
SELECT name, kind, channel, enabled, disabled_reason, off_since, blocked_until, blocked_reason FROM t.shown JOIN stripe_sync.destination_pace ON destination = name WHERE name IN ('billing', 'ops') ORDER BY name;
SELECT stripe_sync.disable_destination('billing', ''), stripe_sync.disable_destination('ops', NULL);
SELECT name, enabled, disabled_reason FROM t.shown WHERE name IN ('billing', 'ops') ORDER BY name;
SELECT stripe_sync.add_slack_channel('billing', '#billing', 'xoxb-HUSH_2'), stripe_sync.add_slack_channel('ops', '#ops', 'xoxb-HUSH_4');
SELECT * FROM t.shown WHERE name IN ('billing', 'ops') ORDER BY name;
SELECT stripe_sync.add_slack_webhook('billing', 'https://hooks.slack.com/services/T0/B0/HUSH_1');
SELECT * FROM t.shown WHERE name = 'billing';
SELECT destination, secret FROM stripe_sync.destination_secret ORDER BY destination COLLATE "C";
-- after a restore, which brings no secrets, it takes one and is on
SELECT stripe_sync.disable_destination('ops', 'restored');
DELETE FROM stripe_sync.destination_secret WHERE destination = 'ops';
SELECT stripe_sync.add_slack_channel('ops', '#ops', 'xoxb-HUSH_4');
SELECT * FROM t.shown WHERE name = 'ops';

-- on and off; another reason doesn't change since when
SELECT stripe_sync.disable_destination('ops', 'first');
SELECT disabled_at FROM stripe_sync.destination WHERE name = 'ops' \gset
SELECT stripe_sync.disable_destination('ops', 'second');
SELECT disabled_reason, disabled_at = :'disabled_at' AS since_then FROM stripe_sync.destination WHERE name = 'ops';
UPDATE stripe_sync.destination_pace SET blocked_until = '2100-01-01', blocked_reason = 'ratelimited' WHERE destination = 'ops';
SELECT stripe_sync.enable_destination('ops');
SELECT enabled, disabled_reason, off_since, blocked_until, blocked_reason FROM t.shown JOIN stripe_sync.destination_pace ON destination = name WHERE name = 'ops';
SELECT stripe_sync.enable_destination('ops');

-- fallback and escalation
SELECT stripe_sync.set_fallback('billing', 'ops'), stripe_sync.set_fallback('ops', 'billing'), stripe_sync.set_escalation('billing', 'ops'), stripe_sync.set_escalation('ops', 'billing');
SELECT name, fallback, escalation FROM t.shown ORDER BY name COLLATE "C";
-- kept when it is set up again
SELECT stripe_sync.add_slack_webhook('billing', 'https://hooks.slack.com/services/T0/B0/HUSH_5');
SELECT stripe_sync.set_fallback('ops', NULL), stripe_sync.set_escalation('ops', NULL);
SELECT name, fallback, escalation FROM t.shown ORDER BY name COLLATE "C";
-- what isn't there, what is missing
SELECT t.raises(s), s FROM (VALUES
	('SELECT stripe_sync.enable_destination(''nowhere'')'), ('SELECT stripe_sync.disable_destination(''nowhere'', ''r'')'), ('SELECT stripe_sync.drop_destination(''nowhere'')'),
	('SELECT stripe_sync.set_fallback(''nowhere'', ''ops'')'), ('SELECT stripe_sync.set_fallback(''ops'', ''nowhere'')'), ('SELECT stripe_sync.set_fallback(''ops'', ''ops'')'),
	('SELECT stripe_sync.set_escalation(''ops'', ''ops'')'), ('SELECT count(*) FROM stripe_sync.add_default_alerts(''@customer'')'),
	('SELECT stripe_sync.set_escalation(''nowhere'', ''ops'')'), ('SELECT stripe_sync.set_escalation(''ops'', ''nowhere'')'), ('SELECT stripe_sync.route_customer(''cus_1'', ''nowhere'')'),
	('SELECT stripe_sync.route_customer(''cus_1'', ''@customer'')'), ('SELECT stripe_sync.route_customer('''', ''ops'')'),
	('SELECT stripe_sync.enable_destination(NULL)'), ('SELECT stripe_sync.disable_destination(NULL, ''r'')'), ('SELECT stripe_sync.drop_destination(NULL)'), ('SELECT stripe_sync.set_fallback(NULL, ''ops'')'),
	('SELECT stripe_sync.set_escalation(NULL, ''ops'')'), ('SELECT stripe_sync.route_customer(NULL, ''ops'')'), ('SELECT stripe_sync.route_customer(''cus_1'', NULL)'), ('SELECT stripe_sync.unroute_customer(NULL)')) v (s);
SELECT t.hint($$ SELECT stripe_sync.enable_destination('nowhere') $$);

-- routes
SELECT stripe_sync.route_customer('cus_1', 'ops'), stripe_sync.route_customer('cus_2', 'ops'), stripe_sync.route_customer('cus_2', 'billing'), stripe_sync.route_customer('cus_3', 'billing');
SELECT * FROM stripe_sync.customer_route ORDER BY customer;
SELECT stripe_sync.unroute_customer('cus_3'), stripe_sync.unroute_customer('cus_3');
SELECT * FROM stripe_sync.customer_route ORDER BY customer;

-- drop: not while alerts name it
INSERT INTO stripe_sync.alert (name, event_type, destination, template, coalesce_for, severity) VALUES ('paid', 'invoice.paid', 'ops', 'x', '0', 'info'), ('it''s late', '*', 'ops', 'x', '0', 'info');
SELECT t.raises_all($$ SELECT stripe_sync.drop_destination('ops') $$);
DELETE FROM stripe_sync.alert;
-- its messages that wait are cancelled, and that is said; others aren't touched
INSERT INTO stripe_sync.message (destination, method, payload, state, due_at, key, settled_at) SELECT d, 'post', '{}', s, now(), d || ' ' || s, CASE WHEN s IN ('sent', 'dead') THEN now() END FROM unnest('{ops,billing}'::text[]) d, unnest('{waiting,sending,sent,dead}'::text[]) s;
INSERT INTO stripe_sync.message (destination, method, payload, due_at, thread, blocked_by, key) VALUES ('ops', 'post', '{}', now(), 't', 1, 'ops blocked');
SET client_min_messages = notice;
SELECT stripe_sync.drop_destination('ops');
SET client_min_messages = warning;
SELECT key, state, last_code, blocked_by, settled_at IS NOT NULL AS settled FROM stripe_sync.message ORDER BY key;
SELECT * FROM t.shown ORDER BY name COLLATE "C";
SELECT * FROM stripe_sync.customer_route ORDER BY customer;
SELECT destination FROM stripe_sync.destination_secret UNION ALL SELECT destination FROM stripe_sync.destination_pace ORDER BY 1;
SELECT t.raises($$ SELECT stripe_sync.drop_destination('ops') $$) AS again;
-- set-up is undone with its transaction
BEGIN;
SELECT stripe_sync.add_slack_channel('ops', '#ops', 'xoxb-HUSH_6');
ROLLBACK;
SELECT count(*) FROM t.shown WHERE name = 'ops';

-- a secret's file: by its absolute path, and only by who may read the server's files
SELECT stripe_sync.add_slack_webhook('file', 'file:/etc/stripe_sync/HUSH_hook'), stripe_sync.add_slack_channel('bot', '#bot', 'file:/etc/stripe_sync/HUSH_token');
CREATE ROLE regress_destination_setup;
SELECT stripe_sync.grant_admin('regress_destination_setup');
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA t TO PUBLIC;
SET ROLE regress_destination_setup;
SELECT t.raises($$ SELECT stripe_sync.add_slack_webhook('theirs', 'file:/etc/stripe_sync/hook') $$), t.raises($$ SELECT stripe_sync.add_slack_channel('theirs', '#c', 'file:/etc/stripe_sync/token') $$);
SELECT stripe_sync.add_slack_channel('theirs', '#c', 'xoxb-HUSH_7'), stripe_sync.set_fallback('theirs', 'billing'), stripe_sync.route_customer('cus_9', 'theirs');
SELECT stripe_sync.disable_destination('theirs', 'off'), stripe_sync.enable_destination('theirs'), stripe_sync.unroute_customer('cus_9'), stripe_sync.drop_destination('theirs');
SELECT t.sqlstate('SELECT * FROM stripe_sync.destination_secret') AS secrets, t.sqlstate('SELECT * FROM stripe_sync.destination') AS destinations, t.sqlstate('UPDATE stripe_sync.destination SET enabled = true') AS writes;
RESET ROLE;
GRANT pg_read_server_files TO regress_destination_setup;
SET ROLE regress_destination_setup;
SELECT stripe_sync.add_slack_webhook('theirs', 'file:/etc/stripe_sync/HUSH_hook');
RESET ROLE;

-- Nothing that is said holds a secret.
CREATE FUNCTION t.said(statement text) RETURNS text LANGUAGE sql AS $$ SELECT replace(t.raises_all(statement), statement, '') $$;
SELECT t.said(s) ~ 'HUSH_' AS told, left(t.said(s), 5) AS code FROM (VALUES
	('SELECT stripe_sync.add_slack_webhook(''x'', ''https://example.com/HUSH_8'')'), ('SELECT stripe_sync.add_slack_webhook(NULL, ''https://hooks.slack.com/HUSH_8'')'),
	('SELECT stripe_sync.add_slack_webhook('''', ''https://hooks.slack.com/HUSH_8'')'), ('SELECT stripe_sync.add_slack_webhook(''https://hooks.slack.com/HUSH_8'', ''x'')'),
	('SELECT stripe_sync.add_slack_channel(''x'', ''c'', ''xoxb HUSH_8'')'), ('SELECT stripe_sync.add_slack_channel(''xoxb-HUSH_8'', ''c'', ''x'')'), ('SELECT stripe_sync.add_slack_channel(''x'', ''xoxb-HUSH_8'', ''c'')')) v (s);
CREATE FUNCTION t.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'refused'; END $$;
CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON stripe_sync.destination_secret FOR EACH ROW EXECUTE FUNCTION t.refuse();
SELECT t.said($$ SELECT stripe_sync.add_slack_channel('third', '#c', 'xoxb-HUSH_9') $$) ~ 'HUSH_' AS told;
DO $$
DECLARE
	name text;
	told boolean;
BEGIN
	FOR name IN SELECT oid::regclass FROM pg_class WHERE relnamespace = 'stripe_sync'::regnamespace AND relkind IN ('r', 'v') AND relname <> 'destination_secret' ORDER BY 1 LOOP
		EXECUTE format('SELECT EXISTS (SELECT FROM %s t WHERE t::text ~ ''HUSH_'')', name) INTO told;
		IF told THEN RAISE '% holds a secret', name; END IF;
	END LOOP;
END $$;
SELECT 'stripe_sync.destination_secret'::regclass = ANY (extconfig) AS dumped FROM pg_extension WHERE extname = 'stripe_sync';
SELECT stripe_sync.revoke_all('regress_destination_setup');
DROP ROLE regress_destination_setup;

-- Who tests a destination is told when nobody would send the test.
SET client_min_messages = notice;
SELECT stripe_sync.test_destination('file') > 0 AS queued;
