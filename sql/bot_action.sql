-- The user's own actions and commands: registered, called with an interaction, and what becomes of their answers.
\set tables '{customer}'
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.psql
\set slack :abs_srcdir /sql/slack.psql
\set ECHO none
\i :prelude
\i :slack
\set ECHO all
\set QUIET off
SET search_path = public;
CREATE SCHEMA app;
CREATE FUNCTION app.echo(i jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_object('text', (i - 'body')::text) $$;
CREATE FUNCTION app.takes_text(i text) RETURNS jsonb LANGUAGE sql AS 'SELECT NULL::jsonb';
CREATE FUNCTION app.returns_void(i jsonb) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION app.returns_set(i jsonb) RETURNS SETOF jsonb LANGUAGE sql AS 'SELECT i';
CREATE PROCEDURE app.a_procedure(i jsonb) LANGUAGE sql AS '';

-- ---- registered ----
SELECT stripe_sync.add_slack_action('app.refund', 'app.echo'), stripe_sync.add_slack_command('/orders', 'app.echo');
SELECT action_id, function, function_owner = current_user AND role = current_user AS mine, search_path, stopped_at FROM stripe_sync.slack_action;
SELECT command, function, function_owner = current_user AND role = current_user AS mine, search_path, stopped_at FROM stripe_sync.slack_command;
SELECT f, t.raises(format('SELECT stripe_sync.add_slack_action(%L, %L)', 'x', f)), t.raises(format('SELECT stripe_sync.add_slack_command(%L, %L)', '/x', f))
  FROM (VALUES ('app.takes_text'), ('app.returns_void'), ('app.returns_set'), ('app.a_procedure')) v (f);
SELECT id, t.raises(format('SELECT stripe_sync.add_slack_action(%L, %L)', id, 'app.echo')) FROM (VALUES (NULL), (''), ('  '), ('stripe_sync.'), ('stripe_sync.acknowledge'), ('Stripe_sync.x')) v (id);
SELECT t.raises(format('SELECT stripe_sync.add_slack_action(%L, %L)', repeat('ä', 255), 'app.echo')), t.raises(format('SELECT stripe_sync.add_slack_action(%L, %L)', repeat('ä', 256), 'app.echo'));
SELECT c, t.raises(format('SELECT stripe_sync.add_slack_command(%L, %L)', c, 'app.echo')) FROM (VALUES (NULL), (''), ('/'), ('orders'), ('/Orders'), ('/or ders'), ('//x'), ('/stripe'), ('/ö'), ('/' || repeat('x', 32)), ('/' || repeat('x', 31))) v (c);
SELECT t.raises($$ SELECT stripe_sync.add_slack_action('x', NULL) $$), t.raises($$ SELECT stripe_sync.add_slack_command('/x', NULL) $$), t.sqlstate($$ SELECT stripe_sync.add_slack_action('x', 'app.nothing') $$);
SELECT t.hint($$ SELECT stripe_sync.drop_slack_action('nothing') $$), t.hint($$ SELECT stripe_sync.drop_slack_command('/nothing') $$), t.raises($$ SELECT stripe_sync.drop_slack_action(NULL) $$), t.raises($$ SELECT stripe_sync.drop_slack_command(NULL) $$);
DELETE FROM stripe_sync.slack_action WHERE action_id <> 'app.refund';
DELETE FROM stripe_sync.slack_command WHERE command <> '/orders';

-- ---- called ----
SELECT stripe_sync.add_slack_app('default', t.slack_secret()), stripe_sync.set_slack_user('U2', 'act');
CREATE SEQUENCE t.request;
-- A command; answers are shown as they are returned to Slack.
CREATE FUNCTION t.command(name text, text text DEFAULT '', who text DEFAULT 'U1', OUT http_status int, OUT body jsonb) LANGUAGE sql VOLATILE AS $$
	SELECT s.* FROM t.slack(t.form(json_build_object('command', name, 'text', text, 'team_id', 'T1', 'user_id', who, 'user_name', 'ada', 'channel_id', 'C1', 'token', 'x',
		'response_url', 'https://hooks.slack.com/commands/' || nextval('t.request'), 'trigger_id', 'x'))) s
$$;
-- Anything that comes as a payload
CREATE FUNCTION t.payload(payload jsonb, OUT http_status int, OUT body jsonb) LANGUAGE sql VOLATILE AS $$
	SELECT s.* FROM t.slack('payload=' || t.url_encoded((jsonb_build_object('team', jsonb_build_object('id', 'T1'), 'user', jsonb_build_object('id', 'U1', 'username', 'ada', 'team_id', 'T1'),
		'trigger_id', 'x' || nextval('t.request')) || payload)::text)) s
$$;
CREATE FUNCTION t.press(action_id text, value text DEFAULT 'v') RETURNS int LANGUAGE sql VOLATILE AS $$
	SELECT http_status FROM t.payload(jsonb_build_object('type', 'block_actions', 'channel', '{"id": "C1"}'::jsonb, 'container', '{"message_ts": "1.000100"}'::jsonb, 'response_url', 'https://hooks.slack.com/actions/1',
		'actions', jsonb_build_array(jsonb_build_object('type', 'button', 'action_id', action_id, 'value', value))))
$$;
CREATE VIEW t.last AS SELECT kind, name, status, error FROM stripe_sync.interaction ORDER BY id DESC LIMIT 1;
CREATE FUNCTION t.owed() RETURNS SETOF jsonb LANGUAGE sql VOLATILE AS $$ WITH d AS (DELETE FROM stripe_sync.slack_call RETURNING id, payload) SELECT payload FROM d ORDER BY id $$;

SELECT http_status, body->>'response_type' AS seen_by, (body->>'text')::jsonb - 'id' AS interaction FROM t.command('/orders', 'last week');
SELECT http_status, (body->>'text')::jsonb ->> 'may' AS may FROM t.command('/orders', '', 'U2');
TABLE t.last;
SELECT * FROM t.command('/unknown');
TABLE t.last;
SELECT t.press('app.refund', 're & <1>');
SELECT o - 'text' AS message, (o->>'text')::jsonb - 'id' AS interaction FROM t.owed() o;
TABLE t.last;
SELECT t.press('app.unknown');
TABLE t.last;

-- ---- answers ----
CREATE TABLE app.answer (a jsonb);
CREATE TABLE app.log (n serial, what text);
CREATE FUNCTION app.say(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO app.log (what) VALUES (i->>'kind');
	RETURN (SELECT a FROM app.answer);
END $$;
SELECT stripe_sync.add_slack_command('/say', 'app.say'), stripe_sync.add_slack_action('say', 'app.say');
CREATE FUNCTION t.say(answer jsonb) RETURNS void LANGUAGE sql AS $$ DELETE FROM app.answer; INSERT INTO app.answer VALUES (answer) $$;
SET client_min_messages = error;
-- Each answer as that of a command, and of a press: what Slack gets, what it is owed
CREATE FUNCTION t.try(answer jsonb, OUT command jsonb, OUT press jsonb, OUT said text) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM t.say(answer);
	command := (SELECT body FROM t.command('/say'));
	PERFORM t.press('say');
	press := (SELECT jsonb_agg(o) FROM t.owed() o);
	said := (SELECT status || COALESCE(': ' || error, '') FROM t.last);
	command := replace(regexp_replace(command::text, 'Interaction \d+', 'Interaction N'), 'x', 'x')::jsonb;
	press := regexp_replace(press::text, 'Interaction \d+', 'Interaction N')::jsonb;
END $$;
SELECT a, r.* FROM (VALUES (1, NULL::jsonb), (2, 'null'), (3, '{"text": "Done."}'), (4, '{"text": "All see", "response_type": "in_channel"}'), (5, '{"text": "New", "replace_original": true}'),
	(6, '{"blocks": [{"type": "divider"}], "text": "x", "metadata": {"a": null}}'), (7, '{"delete_original": true}')) v (n, a), t.try(a) r ORDER BY n;
SELECT count(*) AS kept FROM app.log;
TRUNCATE app.log;
-- nonsense
SELECT a, (r).command->>'text' AS told, (r).press IS NOT NULL AS told_too, (r).said FROM (VALUES (1, '"text"'::jsonb), (2, '7'), (3, '[]'), (4, '{}'), (5, '{"txt": "x"}'), (6, '{"text": 7}'), (7, '{"text": "x", "response_type": "public"}'),
	(8, '{"text": "x", "response_type": 1}'), (9, '{"blocks": 1}'), (10, '{"blocks": {"type": "divider"}}'), (11, '{"blocks": [1]}'), (12, '{"view": "x"}'), (13, '{"response_action": "clear"}')) v (n, a), LATERAL (SELECT t.try(a) AS r) x ORDER BY n;
SELECT count(*) AS undone FROM app.log;
SELECT (r).said FROM (SELECT t.try(jsonb_build_object('text', repeat('x', 300000))) AS r) x;
SELECT char_length((r).command->>'text') AS cut, (r).said FROM (SELECT t.try(jsonb_build_object('text', repeat('x', 50000))) AS r) x;
SELECT jsonb_array_length((r).command->'blocks') AS blocks, (r).said FROM (SELECT t.try(jsonb_build_object('blocks', (SELECT jsonb_agg('{"type": "divider"}'::jsonb) FROM generate_series(1, 60)))) AS r) x;

-- ---- views ----
CREATE FUNCTION t.submit(answer jsonb, OUT body jsonb, OUT said text) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM t.say(answer);
	body := (SELECT p.body FROM t.payload('{"type": "view_submission", "view": {"id": "V1", "callback_id": "say", "state": {"values": {}}}}') p);
	body := regexp_replace(body::text, 'Interaction \d+', 'Interaction N')::jsonb;
	said := (SELECT status || COALESCE(': ' || error, '') FROM t.last);
END $$;
SELECT s.* FROM (VALUES (1, NULL::jsonb), (2, '{"response_action": "clear"}'), (3, '{"response_action": "errors", "errors": {"b": "Too much"}}'), (4, '{"response_action": "update", "view": {"type": "modal"}}'),
	(5, '{"response_action": "errors"}'), (6, '{"response_action": "push"}'), (7, '{"response_action": "open"}'), (8, '{"response_action": 1}'), (9, '{"text": "x"}')) v (n, a), t.submit(a) s ORDER BY n;
-- closed, and shortcuts: by callback_id too
SELECT t.say(NULL), (t.payload('{"type": "view_closed", "view": {"id": "V1", "callback_id": "say"}}')).http_status;
TABLE t.last;
SELECT t.say('{"text": "Made."}'), (t.payload('{"type": "message_action", "callback_id": "say", "channel": {"id": "C1"}, "message": {"ts": "1.1"}, "response_url": "https://hooks.slack.com/app/1"}')).http_status;
TABLE t.last;
SELECT t.owed();
SELECT t.say(NULL), (t.payload('{"type": "shortcut", "callback_id": "say"}')).http_status;
TABLE t.last;

-- ---- errors ----
CREATE FUNCTION app.fails(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO app.log (what) VALUES ('half done');
	RAISE 'no stock of <%>', i->>'value' USING ERRCODE = 'P7777';
END $$;
SELECT stripe_sync.add_slack_command('/fails', 'app.fails'), stripe_sync.add_slack_action('fails', 'app.fails');
TRUNCATE app.log;
\set VERBOSITY terse
SET client_min_messages = warning;
BEGIN;
INSERT INTO app.log (what) VALUES ('the caller''s');
SELECT http_status, regexp_replace(body::text, '\d+ of', 'N of') AS body FROM t.command('/fails', 'tea');
COMMIT;
SELECT what FROM app.log;
TABLE t.last;
SET client_min_messages = error;
SELECT t.press('fails');
SELECT regexp_replace(o->>'text', '\d+', 'N') AS told FROM t.owed() o;
SELECT stripe_sync.add_slack_action('say', 'app.fails');
SELECT * FROM t.submit(NULL);
-- in time
SET stripe_sync.handler_timeout = '250ms';
CREATE FUNCTION app.sleeps(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO app.log (what) VALUES ('slept'); PERFORM pg_sleep(60); RETURN NULL; EXCEPTION WHEN query_canceled THEN PERFORM pg_sleep(60); RETURN NULL; END $$;
SELECT stripe_sync.add_slack_command('/sleeps', 'app.sleeps');
SELECT http_status, body->>'text' ~ 'did not work' AS polite FROM t.command('/sleeps');
TABLE t.last;
RESET stripe_sync.handler_timeout;
SELECT count(*) FROM app.log WHERE what = 'slept';
-- a redelivery runs nothing twice
TRUNCATE app.log;
SELECT stripe_sync.add_slack_command('/say', 'app.say');
SELECT t.say('{"text": "Once."}');
CREATE TABLE t.body AS SELECT t.form('{"command": "/say", "text": "", "team_id": "T1", "user_id": "U1"}') AS b;
SELECT s.* FROM t.body, t.slack(b) s;
SELECT s.* FROM t.body, t.slack(b) s;
SELECT count(*) FROM app.log;

-- ---- gone, another's, stopped ----
DROP ROLE IF EXISTS regress_bot_app, regress_bot_other;
CREATE ROLE regress_bot_app;
CREATE ROLE regress_bot_other;
GRANT USAGE, CREATE ON SCHEMA app TO regress_bot_app, regress_bot_other;
SELECT stripe_sync.grant_admin('regress_bot_app');
CREATE TABLE app.who (who text);
GRANT ALL ON app.who TO PUBLIC;
SET ROLE regress_bot_app;
CREATE FUNCTION app.mine(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO app.who VALUES (current_user); RETURN NULL; END $$;
SELECT stripe_sync.add_slack_action('mine', 'app.mine'), stripe_sync.add_slack_command('/mine', 'app.mine');
SELECT stripe_sync.add_handler('mine', '*', 'app.returns_void');
RESET ROLE;
SELECT http_status, body FROM t.command('/mine');
SELECT t.press('mine');
SELECT who, count(*) FROM app.who GROUP BY who;
ALTER FUNCTION app.mine(jsonb) OWNER TO regress_bot_other;
SELECT t.press('mine');
TABLE t.last;
ALTER FUNCTION app.mine(jsonb) OWNER TO regress_bot_app;
ALTER FUNCTION app.mine(jsonb) RENAME TO was_mine;
SELECT t.press('mine');
TABLE t.last;
ALTER FUNCTION app.was_mine(jsonb) RENAME TO mine;
REVOKE EXECUTE ON FUNCTION app.mine(jsonb) FROM PUBLIC, regress_bot_app;
SELECT t.press('mine');
TABLE t.last;
GRANT EXECUTE ON FUNCTION app.mine(jsonb) TO regress_bot_app;
SET client_min_messages = notice;
SELECT stripe_sync.revoke_all('regress_bot_app');
SELECT stripe_sync.revoke_all('regress_bot_app');
SET client_min_messages = error;
SELECT t.press('mine');
TABLE t.last;
SELECT http_status, regexp_replace(body->>'text', '\d+', 'N') AS told FROM t.command('/mine');
TABLE t.last;
SELECT count(*) FROM app.who;
-- registered again it runs again, as who registers it
SELECT stripe_sync.add_slack_action('mine', 'app.mine');
SELECT t.press('mine');
SELECT status, error FROM t.last;
SELECT stripe_sync.drop_slack_action('mine'), stripe_sync.drop_slack_command('/mine'), stripe_sync.drop_handler('mine');
SELECT t.press('mine');
TABLE t.last;
DROP OWNED BY regress_bot_app, regress_bot_other;
DROP ROLE regress_bot_app;
DROP ROLE regress_bot_other;
