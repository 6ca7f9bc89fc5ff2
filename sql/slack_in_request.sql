-- Requests from Slack: each form read, stored without what lets its holder answer, and answered once; what is refused leaves nothing.
\set tables '{}'
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.psql
\set slack :abs_srcdir /sql/slack.psql
\set ECHO none
\i :prelude
\i :slack
\set ECHO all
-- ---- apps ----
CREATE FUNCTION t.app(name text, signing_secret text, token text DEFAULT NULL) RETURNS text LANGUAGE sql
	AS $$ SELECT t.hint(format('SELECT stripe_sync.add_slack_app(%L, %L, %L)', name, signing_secret, token)) $$;
SELECT body ->> 'code' AS no_app FROM t.slack('{}');
SELECT t.app('default', t.slack_secret());
SELECT t.app(name, secret, token) FROM (VALUES
	(NULL, t.slack_secret(), NULL), ('x', NULL, NULL), ('', t.slack_secret(), NULL), (repeat('n', 64), t.slack_secret(), NULL), (E'a\nb', t.slack_secret(), NULL),
	(t.slack_secret(), 'default', NULL), ('xoxb-1', t.slack_secret(), NULL), ('x', '', NULL), ('x', repeat('s', 1025), NULL), ('x', 'whsec_1', NULL), ('x', 'xoxb-1', NULL),
	('x', 'xapp-1', NULL), ('x', 'sk_test_1', NULL), ('x', 'https://hooks.slack.com/services/T1/B1/x', NULL), ('x', t.slack_secret() || E'\n', NULL),
	('x', t.slack_secret(), ''), ('x', t.slack_secret(), 'a b'), ('x', t.slack_secret(), 'https://hooks.slack.com/x'), ('x', 'file:relative', NULL)) v (name, secret, token);
SELECT name FROM stripe_sync.slack_app;
SET client_min_messages = notice;
SELECT stripe_sync.add_slack_app('other', 'not as Slack''s');
SELECT stripe_sync.add_slack_app('other', 'not-as-Slack''s', 'odd');
SELECT stripe_sync.add_slack_app('other', 'not-as-Slack''s', 'odd');
SET client_min_messages = warning;
SELECT app, signing_secret, token FROM stripe_sync.slack_app_secret ORDER BY app;
SELECT what, ref, count FROM stripe_sync.journal WHERE what LIKE 'app.%' ORDER BY id;
SELECT t.hint($$ SELECT stripe_sync.drop_slack_app('nobody') $$);
SELECT t.raises($$ SELECT stripe_sync.drop_slack_app(NULL) $$);

-- which channels are an app's: those of its token; those of none, if it is the only one and has none
CREATE FUNCTION t.apps() RETURNS text LANGUAGE sql AS $$ SELECT string_agg(name || ' ' || coalesce(app, '-'), ', ' ORDER BY name) FROM stripe_sync.destination $$;
SELECT stripe_sync.add_slack_channel('a', '#a', 'xoxb-1'), stripe_sync.add_slack_channel('b', '#b', 'xoxb-2'), stripe_sync.add_slack_webhook('hook', 'https://hooks.slack.com/services/T1/B1/x');
SELECT t.apps() AS two_apps;
SELECT stripe_sync.drop_slack_app('other');
SELECT t.apps() AS the_only_one;
SELECT stripe_sync.add_slack_app('default', t.slack_secret(), 'xoxb-1');
SELECT t.apps() AS by_token;
SELECT stripe_sync.add_slack_app('second', repeat('0', 32), 'xoxb-2');
SELECT t.apps() AS by_token;
SELECT stripe_sync.add_slack_channel('b', '#b', 'xoxb-1'), stripe_sync.add_slack_webhook('a', 'https://hooks.slack.com/services/T1/B1/x');
SELECT t.apps() AS other_tokens;
SELECT stripe_sync.drop_slack_app('second'), stripe_sync.add_slack_channel('a', '#a', 'xoxb-1');
INSERT INTO stripe_sync.slack_group (slack_group, app) VALUES ('S1', 'default');
INSERT INTO stripe_sync.slack_group_member (slack_group, app, slack_user) VALUES ('S1', 'default', 'U1');
SELECT stripe_sync.drop_slack_app('default');
SELECT t.apps() AS no_apps, (SELECT count(*) FROM stripe_sync.slack_group) + (SELECT count(*) FROM stripe_sync.slack_group_member) AS members, (SELECT count(*) FROM stripe_sync.slack_app_secret) AS secrets;
SELECT stripe_sync.add_slack_app('default', t.slack_secret());

-- ---- every form ----
CREATE VIEW t.seen AS SELECT kind, name, value, team, slack_user, user_name, channel, message_ts, left(key, 6) AS key, status, i.body,
       s.response_url, s.trigger_id FROM stripe_sync.interaction i LEFT JOIN stripe_sync.interaction_secret s ON s.interaction = i.id ORDER BY i.id DESC LIMIT 1;
\pset null -
\x on
-- a button
SELECT http_status, body FROM t.slack('payload=' || t.url_encoded('{"type": "block_actions", "token": "sEcReT", "team": {"id": "T1"}, "user": {"id": "U1", "username": "ada", "team_id": "T2"}, "channel": {"id": "C1", "name": "ops"},
	"container": {"type": "message", "message_ts": "1760000000.000100", "channel_id": "C1"}, "trigger_id": "1.sEcReT", "response_url": "https://hooks.slack.com/actions/sEcReT",
	"message": {"text": "é 💶 + % &", "token": "kept"}, "actions": [{"action_id": "app.own", "block_id": "b", "type": "button", "value": "a + b & c %"}]}'));
TABLE t.seen;
-- a choice, and one in a view
SELECT http_status FROM t.slack(t.form('{"payload": "{\"type\": \"block_actions\", \"user\": {\"id\": \"U1\", \"name\": \"ada\"}, \"team\": {\"id\": \"T1\"}, \"actions\": [{\"action_id\": \"app.choice\", \"selected_option\": {\"value\": \"two\"}}]}"}'));
TABLE t.seen;
SELECT http_status FROM t.slack(t.form('{"payload": "{\"type\": \"block_actions\", \"user\": {\"id\": \"U1\"}, \"view\": {\"callback_id\": \"cb\"}, \"container\": {\"type\": \"view\"}, \"actions\": [{\"action_id\": \"app.who\", \"selected_user\": \"U2\"}]}"}'));
SELECT kind, name, value, channel FROM t.seen;
-- a view, submitted and closed; shortcuts; a menu that asks for its options
SELECT http_status FROM t.slack(t.form('{"payload": "{\"type\": \"view_submission\", \"user\": {\"id\": \"U1\"}, \"trigger_id\": \"sEcReT\", \"response_urls\": [{\"block_id\": \"b\", \"response_url\": \"https://hooks.slack.com/sEcReT\"}], \"view\": {\"callback_id\": \"cb\", \"state\": {\"values\": {\"token\": {\"trigger_id\": {\"value\": \"kept\"}}}}}}"}'));
TABLE t.seen;
SELECT http_status FROM t.slack(t.form('{"payload": "{\"type\": \"view_closed\", \"user\": {\"id\": \"U1\"}, \"view\": {\"callback_id\": \"cb\"}, \"is_cleared\": false}"}'));
SELECT kind, name, value, response_url, trigger_id FROM t.seen;
SELECT http_status FROM t.slack(t.form('{"payload": "{\"type\": \"message_action\", \"callback_id\": \"cb\", \"user\": {\"id\": \"U1\"}, \"channel\": {\"id\": \"C1\"}, \"message_ts\": \"1.1\", \"message\": {\"ts\": \"1.1\"}}"}'));
SELECT kind, name, channel, message_ts FROM t.seen;
SELECT http_status FROM t.slack(t.form('{"payload": "{\"type\": \"shortcut\", \"callback_id\": \"cb\", \"user\": {\"id\": \"U1\"}, \"interactivity\": {\"interactor\": {\"secret\": \"sEcReT\"}}, \"bot_access_token\": \"sEcReT\"}"}'));
SELECT kind, name, body FROM t.seen;
SELECT http_status FROM t.slack(t.form('{"payload": "{\"type\": \"block_suggestion\", \"action_id\": \"app.menu\", \"value\": \"gr\", \"user\": {\"id\": \"U1\"}}"}'));
SELECT kind, name, value, status FROM t.seen;
-- a command
SELECT http_status FROM t.slack(t.form('{"token": "sEcReT", "team_id": "T1", "team_domain": "shop", "channel_id": "C1", "channel_name": "ops", "user_id": "U1", "user_name": "ada", "command": "/orders", "text": "é + 100% & <@U2>", "api_app_id": "A1", "is_enterprise_install": "false", "response_url": "https://hooks.slack.com/commands/sEcReT", "trigger_id": "1.sEcReT"}'));
TABLE t.seen;
SELECT http_status FROM t.slack('command=%2Forders&text=&user_id=U1&channel_id=');
SELECT name, value, channel FROM t.seen;
-- the Events API
SELECT http_status, body FROM t.slack('{"token": "sEcReT", "team_id": "T1", "type": "event_callback", "event_id": "Ev1", "event_time": 1760000000, "event": {"type": "app_mention", "user": "U1", "text": "\u0000 \ud800 é", "ts": "1.2", "channel": "C1", "bot_access_token": "sEcReT"}}');
TABLE t.seen;
SELECT http_status FROM t.slack('{"team_id": "T1", "type": "event_callback", "event_id": "Ev2", "event": {"type": "reaction_added", "user": "U1", "user_team": "T2", "item": {"type": "message", "channel": "C2", "ts": "1.3"}}}');
SELECT name, team, channel, message_ts FROM t.seen;
SELECT http_status FROM t.slack('{"type": "event_callback", "event_id": "Ev3", "event": {"type": "team_join", "user": {"id": "U3", "name": "eve"}}}');
SELECT name, slack_user FROM t.seen;
SELECT http_status FROM t.slack('{"type": "app_rate_limited", "minute_rate_limited": 1}');
SELECT kind, name, key FROM t.seen;
\x off
SELECT http_status FROM t.slack('{"type": "x", "event": [1, "token"], "workflow_step": "y", "token": []}');
SELECT body FROM t.seen;
-- url_verification is answered, and not stored; so is ssl_check, which is not signed and does nothing
SELECT count(*) AS rows FROM stripe_sync.interaction \gset
SELECT * FROM t.slack('{"type": "url_verification", "token": "x", "challenge": "3eZbrw1aB"}');
SELECT * FROM stripe_sync.receive_slack('ssl_check=1&token=x'::text, '{}');
SELECT * FROM t.slack('ssl_check=1&token=x');
SELECT r.* FROM unnest('{ssl_check=0,ssl_check,xssl_check=1,"ssl_check=1&ssl_check=1","ssl_check=1&x=%zz"}'::text[]) b, stripe_sync.receive_slack(b, '{}') r;
SELECT http_status FROM stripe_sync.receive_slack('ssl_check=1&payload=' || t.url_encoded('{"type": "block_actions", "user": {"id": "U1"}, "actions": [{"action_id": "x"}]}'), '{}');
SELECT http_status FROM stripe_sync.receive_slack('ssl_check=1&x=' || repeat('x', 1024), '{}');
SELECT count(*) - :rows AS stored FROM stripe_sync.interaction;

-- ---- a redelivery is answered from what is stored ----
DELETE FROM stripe_sync.interaction;
SELECT t.form('{"user_id": "U1", "team_id": "T1", "command": "/nobody", "text": "x", "trigger_id": "1"}') AS command \gset
SELECT r.http_status, r.body = f.body AS same FROM t.slack(:'command') f, LATERAL (SELECT * FROM t.slack(CASE WHEN f.http_status > 0 THEN :'command' END)) r;
SELECT count(*) FROM stripe_sync.interaction;
UPDATE stripe_sync.interaction SET http_status = 200, answer = '{"text": "as it was"}';
SELECT * FROM t.slack(:'command');
SELECT * FROM stripe_sync.receive_slack(:'command'::text, t.slack_headers(:'command', '200 seconds'));
-- by another app it is another one
SELECT stripe_sync.add_slack_app('second', t.slack_secret());
SELECT http_status FROM t.slack(:'command', 'second');
-- an event is the same by its id, whatever else differs
SELECT http_status FROM generate_series(1, 2) n, t.slack(format('{"type": "event_callback", "event_id": "Ev1", "event": {"type": "x"}, "n": %s}', n));
SELECT app, key ~ '^body:[0-9a-f]{64}$' AS body, CASE WHEN key LIKE 'event:%' THEN key END AS event, count(*) FROM stripe_sync.interaction GROUP BY 1, 2, 3 ORDER BY 1, 2, 3;
SELECT key = 'body:' || encode(sha256(convert_to(:'command', 'UTF8')), 'hex') AS of_the_exact_bytes FROM stripe_sync.interaction WHERE app = 'second';
-- one that was rolled back is run anew
DELETE FROM stripe_sync.interaction;
BEGIN;
SELECT http_status FROM t.slack(:'command');
ROLLBACK;
SELECT http_status FROM t.slack(:'command');
SELECT count(*) FROM stripe_sync.interaction;
-- in a transaction that began before: it is tried again
SET default_transaction_isolation = 'repeatable read';
SELECT http_status FROM t.slack(:'command');
RESET default_transaction_isolation;
SET default_transaction_read_only = on;
SELECT t.sqlstate($$ SELECT * FROM t.slack('command=%2Fx') $$);
RESET default_transaction_read_only;

-- ---- what is refused, and leaves no row ----
DELETE FROM stripe_sync.interaction;
CREATE FUNCTION t.refused(body text, headers jsonb, app text DEFAULT 'default') RETURNS text LANGUAGE sql AS $$
	SELECT concat_ws(' ', r.http_status, r.body ->> 'code', r.body ->> 'error') FROM stripe_sync.receive_slack(body, headers, app) r
$$;
-- by its signature: forged, old, of the future, of another body, re-encoded, without headers
SELECT what, t.refused(:'command', headers) FROM (VALUES
	('none', NULL), ('none', '{}'), ('no object', '[]'), ('no signature', t.slack_headers(:'command') - 'X-Slack-Signature'), ('no timestamp', t.slack_headers(:'command') - 'X-Slack-Request-Timestamp'),
	('number', t.slack_headers(:'command') || '{"X-Slack-Signature": 1}'), ('forged', t.slack_headers(:'command', secret => repeat('0', 32))), ('old', t.slack_headers(:'command', '302 seconds')), ('future', t.slack_headers(:'command', '-302 seconds')),
	('other body', t.slack_headers('command=%2Fother')), ('re-encoded', t.slack_headers(replace(:'command', '%2F', '%2f'))), ('decoded', t.slack_headers(replace(:'command', '%2F', '/')))) v (what, headers);
SELECT t.refused(:'command', t.slack_headers(:'command'), 'nowhere');
DELETE FROM stripe_sync.slack_app_secret WHERE app = 'second';
SELECT t.refused(:'command', t.slack_headers(:'command'), 'second');
-- names of headers are of any case, and values may be lists
SELECT http_status FROM stripe_sync.receive_slack(:'command'::text, (SELECT jsonb_object_agg(lower(k), jsonb_build_array(v, 'x')) FROM jsonb_each(t.slack_headers(:'command')) e (k, v)));
DELETE FROM stripe_sync.interaction;
-- by its body, though it is signed
SELECT left(b, 60) AS body, t.refused(b, t.slack_headers(b)) FROM unnest(ARRAY['', ' ', '{', '{}', '[]', 'null', '"x"', '{"type": 1}', '{"type": "event_callback"', '{"type": "url_verification"}', '{"type": "url_verification", "challenge": 1}',
	'x', 'payload', 'payload=', 'payload=x', 'payload=[]', 'payload=%7B%7D', 'payload=%7B%22type%22:%22block_actions%22%7D', 'payload=%7B%22type%22:%22block_actions%22,%22actions%22:[]%7D', 'payload=%7B%22type%22:%22block_actions%22,%22actions%22:%5B1%5D%7D',
	'command', 'command=', 'command=%2Fx&command=%2Fx', 'command=%2Fx&%63ommand=%2Fx', 'command=%2Fx&text=%', 'command=%2Fx&text=%4', 'command=%2Fx&text=%zz', 'command=%2Fx&text=%00', 'command=%2Fx&text=%ff', 'command=%2Fx&%ff=1', 'command=%2Fx&text=%ed%a0%80',
	'command=%2Fx' || repeat('&', 100), 'command=' || repeat('x', 1025), 'command=%2Fx&user_id=' || repeat('U', 1025)]) b;
SELECT t.refused(b, t.slack_headers(b)) AS many_fields FROM (SELECT 'command=%2Fx' || string_agg('&f' || n || '=1', '') AS b FROM generate_series(1, 64) n) v;
SELECT t.refused(b, t.slack_headers(b)) AS deep FROM (SELECT '{"type": "x", "a": ' || repeat('[', 300) || repeat(']', 300) || '}' AS b) v;
SELECT http_status, body ->> 'code' AS code FROM stripe_sync.receive_slack('\x7b2274797065223a2278ff227d'::bytea, (SELECT jsonb_build_object('X-Slack-Request-Timestamp', at, 'X-Slack-Signature', t.slack_sign('\x7b2274797065223a2278ff227d', at)) FROM (SELECT floor(extract(epoch FROM clock_timestamp()))::bigint::text AS at) v));
SELECT http_status, body ->> 'code' AS code FROM stripe_sync.receive_slack('\x636f6d6d616e643d00'::bytea, (SELECT jsonb_build_object('X-Slack-Request-Timestamp', at, 'X-Slack-Signature', t.slack_sign('\x636f6d6d616e643d00', at)) FROM (SELECT floor(extract(epoch FROM clock_timestamp()))::bigint::text AS at) v));
SET stripe_sync.max_payload = '1kB';
SELECT t.refused(b, t.slack_headers(b)) FROM (SELECT 'command=%2Fx&text=' || repeat('x', 1007) AS b) v;
RESET stripe_sync.max_payload;
-- (but one of them, with many empty fields)
SELECT name, count(*) FROM stripe_sync.interaction GROUP BY name;
SELECT t.raises($$ SELECT stripe_sync.receive_slack(NULL::text, NULL, NULL) $$) AS nulls;

-- ---- rights: nobody but the owner reads secrets ----
SELECT relname, (SELECT count(*) FROM aclexplode(relacl) a WHERE a.grantee <> relowner) AS others, (SELECT oid = ANY (extconfig) FROM pg_extension WHERE extname = 'stripe_sync') AS dumped
  FROM pg_class WHERE oid IN ('stripe_sync.slack_app_secret'::regclass, 'stripe_sync.interaction_secret'::regclass);
