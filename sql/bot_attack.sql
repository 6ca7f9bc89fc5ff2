-- Requests and texts of people who mean harm: what they say of themselves, what they make the database wait for, what they put into messages.
\set tables '{customer,invoice}'
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.psql
\set slack :abs_srcdir /sql/slack.psql
\set press :abs_srcdir /sql/press.psql
\set ECHO none
\i :prelude
\i :slack
\i :press
\set ECHO all
SET timezone = 'UTC';
SELECT stripe_sync.add_slack_channel('ops', '#ops', 'xoxb-1');
SELECT stripe_sync.add_slack_app('default', t.slack_secret(), 'xoxb-1');
SELECT stripe_sync.set_slack_user('UADM', 'administer'), stripe_sync.set_slack_user('USEE', 'see');

-- a view that somebody of another workspace submits: "team" is theirs, the view says where the app is
CREATE FUNCTION t.may(i jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_object('response_action', 'errors', 'errors', jsonb_build_object('b', i ->> 'may')) $$;
SELECT stripe_sync.add_slack_action('refund', 't.may');
CREATE FUNCTION t.submit(team text, own text, view jsonb) RETURNS text LANGUAGE sql AS $$
	SELECT body #>> '{errors,b}' FROM t.slack('payload=' || t.url_encoded(jsonb_build_object('type', 'view_submission', 'team', jsonb_build_object('id', own), 'trigger_id', nextval('t.request'),
		'user', jsonb_build_object('id', 'UADM', 'team_id', team), 'view', '{"callback_id":"refund"}' || view)::text))
$$;
SELECT t.submit('T1', 'T1', '{}') AS own, t.submit('T1', 'T1', '{"app_installed_team_id":"T1"}') AS same, t.submit('T1', 'T1', '{"app_installed_team_id":null}') AS unsaid,
	t.submit('T2', 'T2', '{"app_installed_team_id":"T1"}') AS anothers, t.submit('T2', 'T1', '{}') AS shared, t.submit('T1', 'T1', '{"app_installed_team_id":["T1"]}') AS odd;

-- a function is given less time than Slack waits, whatever handler_timeout is
SET stripe_sync.handler_timeout = 0;
CREATE FUNCTION t.sleeps(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(60); RETURN NULL; END $$;
SELECT stripe_sync.add_slack_command('/sleeps', 't.sleeps');
SET client_min_messages = error;
SELECT http_status, body ->> 'text' ~ 'did not work' AS polite FROM t.command('UADM', '/sleeps', '');
RESET client_min_messages;
SELECT name, status, error FROM t.interactions() WHERE kind = 'command';
RESET stripe_sync.handler_timeout;

-- a name that would be a link in Markdown
SELECT b ->> 'text' AS text FROM jsonb_array_elements(stripe_sync.preview_message('x', '[{"type":"markdown","text":"**{{name}}** owes; {{id | link}}; [see](https://example.com)"}]',
	'{"id":"evt_1","type":"x","livemode":true,"data":{"object":{"id":"cus_1","name":"[Log in](https://evil.example) ![x](https://evil.example/x) <!channel> <https://evil.example|x>"}}}') -> 'blocks') b;
SELECT b ->> 'text' AS text FROM jsonb_array_elements(stripe_sync.preview_message('x', '[{"type":"markdown","text":"{{name | link}}"}]',
	'{"id":"evt_1","type":"x","livemode":true,"data":{"object":{"id":"cus_1","name":"a](https://evil.example)[b"}}}') -> 'blocks') b;

-- credentials in places of their own
SELECT http_status FROM t.slack('{"type":"event_callback","token":"SECRET","team_id":"T1","event_id":"Ev1","event":{"type":"function_executed","bot_access_token":"SECRET","token":"SECRET",
	"inputs":{"who":{"interactor":{"id":"U1","secret":"SECRET"},"interactivity_pointer":"SECRET"},"x":{"y":1},"also":{"interactivity_pointer":"SECRET"},"z":[1]}}}');
SELECT body FROM stripe_sync.interaction WHERE kind = 'event';
SELECT e, p.http_status FROM unnest(ARRAY['{"inputs":1}', '{"inputs":[{"interactivity_pointer":1}]}', '[1]']) WITH ORDINALITY v (e, n), t.slack('{"type":"event_callback","event_id":"Odd' || n || '","event":' || e || '}') p;
