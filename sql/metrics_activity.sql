-- What has happened and what waits: the view, and Prometheus' text.  (Without the preload: nothing counts.)
\set tables '{customer}'
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.psql
\set ECHO none
\i :prelude
\set ECHO all
SELECT t.send('evt_1', 'customer.created', 1, '{"id":"cus_1","object":"customer"}');

-- each metric: what is not counted says why; the rest is read from the tables
SELECT name, labels, type, value IS NULL AS unknown, stats_reset, left(description, 75) AS description FROM stripe_sync.activity
 WHERE name NOT IN ('worker_running', 'info');
SELECT DISTINCT a.name FROM stripe_sync.activity a WHERE a.name ~ '(^|_)seconds$' AND a.value <> 0 OR a.value < 0;
SELECT stripe_sync.reset_activity();

-- what waits
SELECT stripe_sync.add_slack_webhook('ops', 'https://hooks.slack.com/services/T0/B0/x') \g /dev/null
SELECT stripe_sync.add_slack_webhook(E'we"ird\\', 'https://hooks.slack.com/services/T0/B0/y') \g /dev/null
SELECT stripe_sync.disable_destination('ops', 'test') \g /dev/null
SELECT count(stripe_sync.notify('ops', 'text ' || i)) FROM generate_series(1, 3) i;
SELECT stripe_sync.notify('ops', 'blocked') \gset
UPDATE stripe_sync.message SET blocked_by = id - 1 WHERE id = :notify;
UPDATE stripe_sync.message SET due_at = now() - interval '90 seconds' WHERE id = :notify - 1;
INSERT INTO stripe_sync.event (id, account, type, received_at, source, status, todo, attempts, next_attempt_at, payload)
SELECT 'evt_' || status || i, '', 'x', now() - i * interval '1 hour', 'webhook', status, '{mirror}', 1, CASE WHEN status = 'failed' THEN now() - i * interval '1 minute' END, '{}'
  FROM (VALUES ('pending', 1), ('failed', 2), ('dead', 3)) s (status, n), generate_series(1, n) i;
INSERT INTO stripe_sync.reread (object_type, object_id, account, reason, due_at, after) VALUES ('customer', 'cus_1', '', 'test', now() - interval '10 minutes', now());
INSERT INTO stripe_sync.incident_record (kind, alert, group_key, account, destination, severity, text, event_id, opened_at, window_until)
SELECT kind, 'a', i::text, '', 'ops', severity, 'text', 'evt', now() - interval '2 days', now() FROM (VALUES (1, 'single', 'warning'), (2, 'single', 'critical'), (3, 'rollup', 'warning')) v (i, kind, severity);
SELECT name, labels, CASE WHEN name ~ 'seconds$' THEN round(value / 60) ELSE value END AS value_or_minutes FROM stripe_sync.activity
 WHERE value <> 0 AND type = 'gauge' AND name !~ '^(info|worker|outbound|table|counters)';
-- more than are counted: at least those
INSERT INTO stripe_sync.event (id, account, type, received_at, source, status, todo, attempts, next_attempt_at, payload)
SELECT 'evt_many' || i, '', 'x', now(), 'webhook', 'failed', '{mirror}', 1, now(), '{}' FROM generate_series(1, 11000) i;
SELECT name, labels, value > 10000 AS many FROM stripe_sync.activity WHERE name = 'event_runs_waiting';
ANALYZE stripe_sync.event;
SELECT name, labels, value FROM stripe_sync.activity WHERE name = 'event_runs_waiting';
DELETE FROM stripe_sync.event WHERE id LIKE 'evt_many%';

-- the text: each metric with its help and type once, before its samples; a name and its value; escaped labels
CREATE TABLE t.lines AS SELECT line, n FROM regexp_split_to_table(stripe_sync.metrics(), E'\n') WITH ORDINALITY l (line, n);
SELECT line FROM t.lines WHERE line !~ '^# (HELP stripe_sync_[a-z_]+ [^"\\]+\.|TYPE stripe_sync_[a-z_]+ (counter|gauge|histogram))$'
	AND line !~ '^stripe_sync_[a-z_]+(\{[a-z]+="([^"\\]|\\[\\"n])*"(,[a-z]+="([^"\\]|\\[\\"n])*")*\})? -?[0-9.e+]+$' AND line <> '';
SELECT regexp_replace(line, '\.\d+$', '') AS line FROM t.lines WHERE line ~ '^stripe.*destination' ORDER BY n;
SELECT name FROM (SELECT split_part(line, ' ', 3) AS name FROM t.lines WHERE line LIKE '# TYPE %') s GROUP BY name HAVING count(*) > 1;
SELECT l.line FROM t.lines l, LATERAL (SELECT p.line FROM t.lines p WHERE p.n < l.n AND p.line LIKE '# TYPE %' ORDER BY p.n DESC LIMIT 1) p
 WHERE l.line ~ '^stripe_' AND NOT starts_with(l.line, split_part(p.line, ' ', 3));
-- the same as the view's
SELECT count(*) FROM t.lines WHERE line ~ '^stripe_sync_' HAVING count(*) <> (SELECT count(value) FROM stripe_sync.activity);

-- who may read
CREATE ROLE metrics_reader;
CREATE ROLE metrics_other;
SELECT stripe_sync.grant_read('metrics_reader');
SET ROLE metrics_other;
SELECT t.raises('SELECT * FROM stripe_sync.activity');
SELECT t.raises('SELECT stripe_sync.metrics()');
SET ROLE metrics_reader;
SELECT count(*) > 40 AS rows FROM stripe_sync.activity;
SELECT length(stripe_sync.metrics()) > 1000 AS text;
SELECT t.raises('SELECT stripe_sync.reset_activity()');
RESET ROLE;
DROP OWNED BY metrics_reader;
DROP ROLE metrics_reader, metrics_other;
