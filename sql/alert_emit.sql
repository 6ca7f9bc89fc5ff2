-- emit(): events of the application; notify() to all customers.
\set tables '{customer}'
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.psql
\set ECHO none
\i :prelude
\set ECHO all
SELECT stripe_sync.add_slack_channel('ops', '#ops', 'xoxb-1');

SET stripe_sync.coalesce_burst = 100;

---- what the call takes ----
SELECT s, t.hint('SELECT stripe_sync.emit(' || s || ')') FROM unnest(ARRAY[
	$$NULL, '{}'$$, $$'app.x', NULL$$, $$'', '{}'$$, $$'app.', '{}'$$, $$'app', '{}'$$, $$'invoice.paid', '{}'$$, $$'system.event_dead', '{}'$$, $$'app.X', '{}'$$, $$'app.x y', '{}'$$, $$'app..x', '{}'$$, $$'app.x.', '{}'$$, $$'app.*', '{}'$$, $$'app.' || repeat('x', 97), '{}'$$,
	$$'app.x', '[]'$$, $$'app.x', '"x"'$$, $$'app.x', jsonb_build_object('x', repeat('x', 1100000))$$, $$'app.x', jsonb_build_object('id', repeat('x', 600))$$, $$'app.x', (repeat('{"a":', 300) || '1' || repeat('}', 300))::jsonb$$,
	$$'app.x', '{}', ''$$, $$'app.x', '{}', repeat('k', 256)$$]) s;
SELECT count(*) FROM stripe_sync.emitted;

---- without a rule: kept all the same ----
SELECT stripe_sync.emit('app.' || repeat('x', 96), '{}') > 0 AS kept;
SELECT length(event_type), key, object, by = current_user AS by FROM stripe_sync.emitted;

---- opened, counted, closed ----
CREATE VIEW t.incidents AS SELECT alert, group_key, account, count, state, regexp_replace(event_id, '\d+$', 'N') AS event_id, regexp_replace(closed_by, '\d+$', 'N') AS closed_by, text, closing_text FROM stripe_sync.incident ORDER BY id;
SELECT stripe_sync.add_alert('down', 'app.checkout_down', 'ops', 'Checkout of {{region}} is down: {{id}}', closed_by => 'app.checkout_up,app.checkout_gone', closing_template => '{{event.type}}', severity => 'critical', mention => 'U1AB');
SELECT count(stripe_sync.emit('app.checkout_down', o)) FROM unnest(ARRAY['{"id":"eu","region":"Europe"}', '{"id":"eu"}', '{"id":17}', '{"id":"17"}', '{"region":"<none>"}', '{}', '{"id":{"a":1}}', '{"customer":"cus_1"}']::jsonb[]) o;
SELECT * FROM t.incidents;
SELECT DISTINCT livemode, footer, refs - 'trace' AS refs, refs->>'trace' = event_id AS traced, mention FROM stripe_sync.incident_record;
SELECT count(stripe_sync.emit('app.checkout_up', o)) FROM unnest(ARRAY['{"id":"eu"}', '{"id":17.0}', '{"id":17}', '{"customer":"cus_1"}']::jsonb[]) o;
SELECT stripe_sync.emit('app.checkout_gone', '{}') > 0 AS gone, stripe_sync.emit('app.checkout_down', '{"id":"eu","region":"again"}') > 0 AS again;
SELECT * FROM t.incidents;
SELECT payload->>'text' AS text FROM stripe_sync.message ORDER BY id LIMIT 1;

---- the same key twice is one ----
SELECT stripe_sync.emit('app.checkout_down', '{"id":"us"}', 'k1') = stripe_sync.emit('app.other', '{"id":"other"}', 'k1') AS same, stripe_sync.emit('app.checkout_down', '{"id":"us"}', 'k2') <> stripe_sync.emit('app.checkout_down', '{"id":"us"}', 'k1') AS other;
SELECT event_type, object, key FROM stripe_sync.emitted WHERE key IS NOT NULL ORDER BY id;
SELECT count FROM stripe_sync.incident WHERE group_key = 'us';

---- it is part of the transaction; a rule that fails is a warning ----
BEGIN;
SELECT stripe_sync.emit('app.checkout_down', '{"id":"asia"}', 'k3') > 0 AS emitted;
ROLLBACK;
SELECT count(*) FROM stripe_sync.incident WHERE group_key = 'asia';
ALTER TABLE stripe_sync.message ADD CONSTRAINT broken CHECK (alert <> 'down') NOT VALID;
SELECT stripe_sync.emit('app.checkout_down', '{"id":"asia"}', 'k3') > 0 AS emitted;
ALTER TABLE stripe_sync.message DROP CONSTRAINT broken;
SELECT count(*) FROM stripe_sync.emitted WHERE key = 'k3';

---- whose it is ----
CREATE ROLE regress_emit;
SET ROLE regress_emit;
SELECT t.sqlstate($$SELECT stripe_sync.emit('app.x', '{}')$$);
RESET ROLE;
SELECT stripe_sync.grant_ingest('regress_emit');
SET ROLE regress_emit;
SELECT stripe_sync.emit('app.by_role', '{}') > 0 AS may;
SELECT t.sqlstate('SELECT * FROM stripe_sync.emitted');
RESET ROLE;
SELECT by FROM stripe_sync.emitted WHERE event_type = 'app.by_role';
SELECT stripe_sync.revoke_all('regress_emit');
DROP ROLE regress_emit;
-- pruned like others
UPDATE stripe_sync.emitted SET at = now() - interval '400 days' WHERE key = 'k2';
SELECT stripe_sync.prune('300 days');
SELECT count(*) FILTER (WHERE key = 'k2') AS k2, count(*) > 0 AS others FROM stripe_sync.emitted;

---- to all customers ----
CREATE VIEW t.told AS SELECT destination, key, thread, payload->>'text' AS text FROM stripe_sync.message WHERE alert IS NULL AND incident IS NULL ORDER BY id;
SET client_min_messages = notice;
SELECT stripe_sync.notify('@customers', 'Nobody') IS NULL AS nobody;
SET client_min_messages = warning;
SELECT * FROM t.told;
SELECT stripe_sync.add_slack_channel(d, c, s) FROM (VALUES ('a', 'C0AAAAAAA', 'xoxb-1'), ('b', 'C0AAAAAAA', 'xoxb-2'), ('c', '#general', 'xoxb-1'), ('d', '#general', 'xoxb-2'), ('e/1', '#general', 'xoxb-1'), ('unused', '#unused', 'xoxb-1')) v (d, c, s);
SELECT stripe_sync.add_slack_webhook(d, u) FROM (VALUES ('w1', 'https://hooks.slack.com/services/T0/B0/1'), ('w2', 'https://hooks.slack.com/services/T0/B0/2'), ('w%', 'https://hooks.slack.com/services/T0/B0/1')) v (d, u);
SELECT stripe_sync.route_customer('cus_' || d || n, d) FROM unnest('{b,c,d,e/1,w1,w2,w%}'::text[]) d, generate_series(1, 2) n \g /dev/null
SELECT stripe_sync.notify('@customers', 'Work on <Sunday>') AS first \gset
SELECT min(id) = :first AS first FROM stripe_sync.message WHERE payload->>'text' LIKE 'Work%';
SELECT * FROM t.told;
-- the key: once for each place, also when another destination of it comes first
DELETE FROM stripe_sync.message;
SELECT stripe_sync.notify('@customers', 'One', key => 'k') = stripe_sync.notify('@customers', 'Two', key => 'k') AS same;
SELECT stripe_sync.route_customer('cus_a', 'a');
SELECT stripe_sync.notify('@customers', 'Three', key => 'k') IS NOT NULL AS id;
SELECT stripe_sync.add_slack_channel('new', 'C0NEW', 'xoxb-1'), stripe_sync.route_customer('cus_new', 'new');
SELECT stripe_sync.notify('@customers', 'Four', key => 'k') IS NOT NULL AS id, stripe_sync.notify('@customers', 'Below', thread => 'k') IS NOT NULL AS below;
SELECT * FROM t.told;
SELECT s, t.hint('SELECT stripe_sync.notify(' || s || ')') FROM unnest(ARRAY[$$'@customer', 'x'$$, $$'@customers', NULL$$, $$'@customers', ''$$, $$'ops', 'x', key => '@customers/a/k'$$, $$'ops', 'x', thread => '@customers/a/k'$$]) s;
