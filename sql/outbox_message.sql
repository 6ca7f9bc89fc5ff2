-- Messages as the application queues them: arguments, text, blocks, keys,
-- rights, and what may be done to one that waits.  Nothing is sent here.
\set tables '{invoice}'
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.psql
\set ECHO none
\i :prelude
\set ECHO all
-- Times are shown in the session's zone.
SET timezone = 'UTC';

CREATE VIEW t.shown AS SELECT row_number() OVER (ORDER BY id) AS n, destination, method, payload, key, thread, state, attempts, due_at = created_at OR due_at < created_at AS due, last_code, settled_at IS NOT NULL AS settled FROM stripe_sync.message;

-- Nothing may leave while these tests look on.
SELECT stripe_sync.pause('slack');
SELECT stripe_sync.add_slack_webhook('hook', 'https://hooks.slack.com/services/T0/B0/HUSH'), stripe_sync.add_slack_channel('bot', '#bot', 'xoxb-HUSH');

-- A message is queued, with its id for an answer.
SELECT stripe_sync.notify('hook', 'Order 17 was refunded') AS id \gset
SELECT destination FROM stripe_sync.message WHERE id = :id;
SELECT stripe_sync.notify('bot', 'named', blocks => '[{"type": "section", "text": {"type": "mrkdwn", "text": "*bold* <!here>"}}]', key => 'order-17', thread => 'orders') > 0 AS queued;
SELECT stripe_sync.notify('hook', 'nulls', NULL, NULL, NULL, NULL) > 0 AS queued;
SELECT n, destination, method, payload, key, thread, state, attempts, due, last_code, settled FROM t.shown;

-- The text is plain: what means something to Slack is escaped, and it is cut to 4,000 characters, never within an entity.
CREATE FUNCTION t.queued(said text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE queued bigint := stripe_sync.notify('hook', said);
BEGIN
	RETURN (SELECT payload ->> 'text' FROM stripe_sync.message WHERE id = queued);
END $$;
SELECT said, t.queued(said) FROM unnest(ARRAY['<!channel> & <https://x|y>', '&amp;', 'a > b', E'two\nlines', 'café ☕ 日本', E'\ttab']) said;
SELECT length(t.queued(repeat('x', 4000))) AS all_of_it, length(t.queued(repeat('x', 50000))) <= 4000 AS cut, right(t.queued(repeat('x', 50000)), 1) AS shown;
SELECT n AS "before the end", right(t.queued(repeat('x', 3999 - n) || repeat('&', 20)), 8) ~ '(^|;|x)…$|;$' AS whole_entity FROM generate_series(0, 8) n;
SELECT length(t.queued(repeat('日', 5000))) <= 4000 AS characters_not_bytes;

-- Blocks are the author's; what Slack would refuse for its size is cut.
CREATE FUNCTION t.blocks(given jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE queued bigint := stripe_sync.notify('bot', 'x', given);
BEGIN
	RETURN (SELECT payload -> 'blocks' FROM stripe_sync.message WHERE id = queued);
END $$;
SELECT t.blocks('[]') IS NULL AS "text alone", t.blocks('[{"type": "divider"}]');
SELECT jsonb_array_length(t.blocks((SELECT jsonb_agg('{"type": "divider"}'::jsonb) FROM generate_series(1, 60)))) AS no_more_than_50;
SELECT length(t.blocks(jsonb_build_array(jsonb_build_object('type', 'section', 'text', jsonb_build_object('type', 'mrkdwn', 'text', repeat('x', 50000))))) #>> '{0,text,text}') <= 3000 AS cut;
SELECT b, t.sqlstate(format('SELECT stripe_sync.notify(''bot'', ''x'', %L)', b)) FROM unnest(ARRAY['{}', '"text"', 'null', '1', '[1]', '["x"]', '[[]]']) b;
SELECT t.raises($$ SELECT stripe_sync.notify('bot', 'x', '{}') $$);

-- Arguments: what is missing, what there isn't, what cannot be.
SELECT s, t.raises('SELECT stripe_sync.' || s) FROM unnest(ARRAY[
	$$notify(NULL, 'x')$$, $$notify('hook', NULL)$$, $$notify('hook', '')$$, $$notify('hook', E' \n\t ')$$, $$notify('nowhere', 'x')$$, $$notify('', 'x')$$,
	$$notify('hook', 'x', key => '')$$, $$notify('hook', 'x', thread => '')$$,
	$$notify('hook', 'x', send_after => 'infinity')$$, $$test_destination(NULL)$$, $$test_destination('nowhere')$$,
	$$retry_message(4711)$$, $$cancel_message(4711)$$, $$retry_message(-1)$$]) s;
SELECT t.raises(format('SELECT stripe_sync.notify(''hook'', ''x'', key => %L)', repeat('k', 256))) AS too_long, t.raises(format('SELECT stripe_sync.notify(''hook'', ''x'', key => %L)', repeat('k', 255))) AS long_enough,
	t.raises(format('SELECT stripe_sync.notify(''hook'', ''x'', thread => %L)', repeat('é', 128))) AS bytes_count;
-- an incident's thread is the alerts' own: nobody else can hold it back
SELECT t.raises($$ SELECT stripe_sync.notify('hook', 'x', thread => 'incident/1') $$) AS thread, t.raises($$ SELECT stripe_sync.notify('hook', 'x', key => 'incident/1') $$) AS key;
SELECT t.hint('SELECT stripe_sync.' || s) FROM unnest(ARRAY[$$notify('nowhere', 'x')$$, $$notify('hook', NULL)$$, $$notify('hook', '')$$, $$notify('hook', 'x', key => '')$$, $$notify('hook', 'x', send_after => 'infinity')$$,
	$$test_destination('nowhere')$$, $$retry_message(4711)$$]) s;
SELECT t.raises('SELECT stripe_sync.retry_message(NULL)'), t.raises('SELECT stripe_sync.cancel_message(NULL)');

-- When: not in the past, though one may say so.
TRUNCATE stripe_sync.message RESTART IDENTITY;
SELECT stripe_sync.notify('hook', 'past', send_after => '-infinity'), stripe_sync.notify('hook', 'long ago', send_after => now() - interval '1 year'), stripe_sync.notify('hook', 'then', send_after => '2100-01-01');
SELECT id, payload ->> 'text' AS text, CASE WHEN due_at > now() + interval '1 minute' THEN due_at::text WHEN due_at > now() - interval '1 minute' THEN 'now' END AS due FROM stripe_sync.message ORDER BY id;

-- The same key twice is one message, whatever else is different; the first counts.
SELECT stripe_sync.notify('hook', 'first', key => 'k') AS first, stripe_sync.notify('bot', 'second', key => 'k') AS second, stripe_sync.notify('hook', 'other', key => 'K') AS other;
SELECT id, destination, payload ->> 'text' AS text FROM stripe_sync.message WHERE lower(key) = 'k' ORDER BY id;
UPDATE stripe_sync.message SET state = 'sent', settled_at = now() WHERE key = 'k';
SELECT stripe_sync.notify('hook', 'third', key => 'k') AS "once sent, still the same";
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT stripe_sync.notify('hook', 'fourth', key => 'k') AS "in any isolation";
COMMIT;
SELECT count(*) FROM (SELECT stripe_sync.notify('hook', 'bulk', key => 'bulk ' || i % 10) AS id FROM generate_series(1, 100) i) q;
SELECT count(*) FROM stripe_sync.message WHERE key LIKE 'bulk %';

-- It commits or rolls back with the caller; also from a trigger.
BEGIN;
SELECT stripe_sync.notify('hook', 'undone') > 0 AS queued;
ROLLBACK;
CREATE TABLE t.refund (id int, amount int);
CREATE FUNCTION t.tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM stripe_sync.notify('hook', 'refund ' || new.id, key => 'refund-' || new.id); RETURN new; END $$;
CREATE TRIGGER tell AFTER INSERT ON t.refund FOR EACH ROW EXECUTE FUNCTION t.tell();
INSERT INTO t.refund VALUES (1, 100), (2, 200), (2, 200);
BEGIN;
INSERT INTO t.refund VALUES (3, 300);
ROLLBACK;
SELECT payload ->> 'text' AS text FROM stripe_sync.message WHERE payload ->> 'text' ~ 'refund|undone' ORDER BY id;

-- To a destination that is off a message waits; a test is refused there, with what to do.
SELECT stripe_sync.disable_destination('hook', 'Holidays');
SELECT stripe_sync.notify('hook', 'waits') > 0 AS queued;
SELECT t.hint($$ SELECT stripe_sync.test_destination('hook') $$);
SELECT stripe_sync.enable_destination('hook');
SET stripe_sync.instance_name = 'eu';
SELECT stripe_sync.test_destination('bot') > 0 AS queued;
RESET stripe_sync.instance_name;
SELECT destination, method, payload FROM stripe_sync.message WHERE method = 'test';

-- Retry and cancel: by the state that it is in.
TRUNCATE stripe_sync.message RESTART IDENTITY;
INSERT INTO stripe_sync.message (destination, method, payload, state, attempts, due_at, settled_at) SELECT 'hook', 'post', '{"text": "x"}', s, 7, '2100-01-01', CASE WHEN s IN ('sent', 'dead', 'cancelled') THEN now() END FROM unnest('{waiting,sending,sent,dead,cancelled}'::text[]) s;
SELECT id, state, t.raises('SELECT stripe_sync.cancel_message(' || id || ')') AS cancel FROM stripe_sync.message ORDER BY id;
SELECT id, state, attempts, settled_at IS NOT NULL AS settled FROM stripe_sync.message ORDER BY id;
UPDATE stripe_sync.message SET state = 'waiting', settled_at = NULL WHERE id = 1;
SELECT id, state, t.raises('SELECT stripe_sync.retry_message(' || id || ')') AS retry FROM stripe_sync.message ORDER BY id;
SELECT id, state, attempts, due_at < '2099-01-01' AS due, settled_at IS NOT NULL AS settled FROM stripe_sync.message ORDER BY id;
-- whoever waited for one that is called off has its turn
INSERT INTO stripe_sync.message (destination, method, payload, due_at, thread, blocked_by) VALUES ('hook', 'post', '{"text": "y"}', now(), 'th', 1);
SELECT stripe_sync.cancel_message(1);
SELECT id, state, blocked_by FROM stripe_sync.message WHERE id IN (1, 6) ORDER BY id;

-- Who hands in may notify, and nothing else of this.
CREATE ROLE regress_outbox_ingest;
CREATE ROLE regress_outbox_read;
CREATE ROLE regress_outbox_none;
SELECT stripe_sync.grant_ingest('regress_outbox_ingest'), stripe_sync.grant_read('regress_outbox_read');
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA t TO PUBLIC;
CREATE FUNCTION t.rights() RETURNS TABLE (statement text, outcome text) LANGUAGE sql AS $$
	SELECT s, t.sqlstate(s) FROM unnest(ARRAY[
		'SELECT stripe_sync.notify(''hook'', ''by a role'')', 'SELECT stripe_sync.test_destination(''hook'')', 'SELECT stripe_sync.retry_message(6)', 'SELECT stripe_sync.cancel_message(6)',
		'SELECT count(*) FROM stripe_sync.message', 'SELECT count(*) FROM stripe_sync.delivery', 'SELECT count(*) FROM stripe_sync.destination_secret', 'SELECT count(*) FROM stripe_sync.destination_pace',
		'INSERT INTO stripe_sync.message (destination, method, payload, due_at) VALUES (''hook'', ''post'', ''{}'', now())', 'UPDATE stripe_sync.message SET due_at = now()']) s
$$;
SET ROLE regress_outbox_ingest;
SELECT * FROM t.rights();
SET ROLE regress_outbox_read;
SELECT * FROM t.rights();
SET ROLE regress_outbox_none;
SELECT * FROM t.rights();
RESET ROLE;
-- ... under whatever search_path
SET ROLE regress_outbox_ingest;
SET search_path = t;
SELECT stripe_sync.notify('hook', 'by a role') > 0 AS queued;
RESET search_path;
RESET ROLE;
SELECT stripe_sync.revoke_all('regress_outbox_ingest'), stripe_sync.revoke_all('regress_outbox_read');
DROP ROLE regress_outbox_ingest, regress_outbox_read, regress_outbox_none;

-- Nothing was sent, and nothing holds what opens Slack.
SELECT count(*) FROM stripe_sync.delivery;
SELECT count(*) FROM stripe_sync.message m WHERE m::text ~ 'HUSH';
