-- What is settled and old goes; what waits, has failed or is dead stays.
\set tables '{customer,subscription,subscription_item,price}'
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.psql
\set ECHO none
\i :prelude
\set ECHO all
CREATE FUNCTION t.customer(id text, name text) RETURNS json LANGUAGE sql AS $$ SELECT json_build_object('id', id, 'object', 'customer', 'name', name) $$;
CREATE FUNCTION t.age(ids text[], age interval) RETURNS void LANGUAGE sql AS $$ UPDATE stripe_sync.event SET received_at = now() - age WHERE id = ANY (ids) $$;
CREATE FUNCTION t.events() RETURNS text LANGUAGE sql AS $$ SELECT string_agg(id, ' ' ORDER BY id COLLATE "C") FROM stripe_sync.event $$;

-- by status: only applied, stale and ignored ones
SELECT t.send('evt_' || s, 'customer.created', 1, t.customer('cus_' || s, s)) FROM unnest('{applied,stale,ignored,pending,failed,dead,deferred,young}'::text[]) s;
UPDATE stripe_sync.event SET status = substr(id, 5) WHERE id IN ('evt_stale', 'evt_ignored', 'evt_pending', 'evt_failed', 'evt_dead');
-- (one whose deferred handler has yet to run)
UPDATE stripe_sync.event SET todo = '{h}', next_attempt_at = now() WHERE id = 'evt_deferred';
UPDATE stripe_sync.event SET received_at = now() - interval '100 days' WHERE id <> 'evt_young';
SELECT stripe_sync.prune();
SELECT t.events();
SELECT stripe_sync.prune() AS again;
DELETE FROM stripe_sync.event;

-- how old: as asked, but never younger than 35 days; else as set
SELECT t.send('evt_' || d, 'customer.created', 1, t.customer('cus_' || d, d::text)), t.age(ARRAY['evt_' || d], d * interval '1 day') FROM unnest('{34,36,59,61,89,91}'::int[]) d \g /dev/null
SHOW stripe_sync.retention;
SELECT stripe_sync.prune();
SELECT t.events();
SELECT stripe_sync.prune('60 days');
SELECT t.events();
SELECT stripe_sync.prune('1 second');
SELECT t.events();
SELECT stripe_sync.prune('0');
SELECT t.events();
SELECT stripe_sync.prune('170000000 years');
SELECT t.events();
SELECT t.raises($$ SELECT stripe_sync.prune('-1 day') $$);
DELETE FROM stripe_sync.event;

-- messages that are settled, with their deliveries; nothing that waits or is under way
INSERT INTO stripe_sync.message (destination, method, payload, key, state, due_at, settled_at)
SELECT 'd', 'post', '{}', state || age, state, now(), CASE WHEN state NOT IN ('waiting', 'sending') THEN now() - age * interval '1 day' END
  FROM unnest('{waiting,sending,sent,dead,cancelled}'::text[]) state, unnest('{1,100}'::int[]) age;
INSERT INTO stripe_sync.delivery (message_id, attempt, started_at, verdict) SELECT id, 1, now(), 'sent' FROM stripe_sync.message, generate_series(1, 2);
-- incidents: an open one keeps its message, a closed one stays as long as a message of it
INSERT INTO stripe_sync.incident_record (id, kind, alert, group_key, account, destination, severity, state, text, event_id, opened_at, window_until, closed_at)
OVERRIDING SYSTEM VALUE SELECT i, 'single', 'a', i::text, '', 'd', 'warning', CASE WHEN closed IS NULL THEN 'open' ELSE 'closed' END, 'text', 'evt_i' || i, now() - interval '200 days', now(), now() - closed
  FROM (VALUES (1, NULL), (2, interval '100 days'), (3, '100 days'), (4, '1 day')) v (i, closed);
INSERT INTO stripe_sync.message (destination, method, payload, key, state, due_at, settled_at, incident) VALUES
	('d', 'post', '{}', 'of open', 'sent', now(), now() - interval '150 days', 1), ('d', 'post', '{}', 'of closed', 'sent', now(), now() - interval '150 days', 2),
	('d', 'post', '{}', 'waits for closed', 'waiting', now(), NULL, 3), ('d', 'post', '{}', 'of young', 'sent', now(), now() - interval '150 days', 4);
-- which alert has seen which event: as long as the event is there, or the incident counts it
SELECT t.send('evt_kept', 'customer.created', 1, t.customer('cus_k', 'k'));
INSERT INTO stripe_sync.alerted (event_id, account, alert, group_key, created, closes, incident, at)
SELECT id, '', 'a', '', now(), false, incident, now() - age FROM (VALUES ('evt_gone', NULL, interval '100 days'), ('evt_kept', NULL, '100 days'), ('evt_recent', NULL, '1 day'),
	('evt_i1', 1, '100 days'), ('evt_i2', 2, '100 days'), ('evt_i3', 3, '100 days'), ('evt_i4', 4, '100 days'), ('evt_i9', 9, '100 days')) v (id, incident, age);
SELECT stripe_sync.prune();
SELECT key, (SELECT count(*) FROM stripe_sync.delivery d WHERE d.message_id = m.id) AS deliveries FROM stripe_sync.message m ORDER BY id;
SELECT count(*) AS orphans FROM stripe_sync.delivery d WHERE NOT EXISTS (SELECT FROM stripe_sync.message m WHERE m.id = d.message_id);
SELECT id, state FROM stripe_sync.incident_record ORDER BY id;
SELECT string_agg(event_id, ' ' ORDER BY event_id COLLATE "C") AS alerted FROM stripe_sync.alerted;
-- days that no longer tell what is usual
INSERT INTO stripe_sync.pulse SELECT 'e', at, 1, '0', at, at FROM unnest('{0,13,14,100}'::int[]) d, LATERAL (SELECT now() - d * interval '24 hours') v (at);
SELECT stripe_sync.prune();
SELECT array_agg(date_part('day', now() - day) ORDER BY day DESC) AS days_ago FROM stripe_sync.pulse;

-- jobs that are over go with their parts; but the last run of reconcile, which may have to go on
INSERT INTO stripe_sync.job_record (id, kind, state, finished_at)
SELECT n, kind, state, now() - age * interval '1 day' FROM (VALUES (1, 'refetch', 'done', 100), (2, 'refetch', 'failed', 100), (3, 'reconcile', 'failed', 100), (4, 'backfill', 'cancelled', 100),
	(5, 'refetch', 'done', 1), (6, 'backfill', 'running', NULL), (7, 'reconcile', 'failed', 100)) v (n, kind, state, age);
INSERT INTO stripe_sync.job_part (job, part, kind, priority, state) SELECT id, 1, 'events', 1, 'done' FROM stripe_sync.job_record;
-- requests: after two weeks, whatever is set
INSERT INTO stripe_sync.api_call (method, path, account, attempt, started_at, duration)
SELECT 'GET', age::text, '', 1, now() - age * interval '1 day', '1 s' FROM unnest('{1,13,15,100}'::int[]) age;
SET stripe_sync.retention = 0;
SELECT stripe_sync.prune();
SELECT string_agg(path, ' ' ORDER BY id) AS calls FROM stripe_sync.api_call;
SELECT count(*) AS jobs FROM stripe_sync.job_record;
RESET stripe_sync.retention;
SELECT stripe_sync.prune();
SELECT string_agg(id::text, ' ' ORDER BY id) AS jobs, (SELECT string_agg(job::text, ' ' ORDER BY job) FROM stripe_sync.job_part) AS parts FROM stripe_sync.job_record;

-- many at once
DELETE FROM stripe_sync.event;
INSERT INTO stripe_sync.event (id, account, type, received_at, source, status, todo, attempts, payload)
SELECT 'evt_' || i, '', 'x', now() - interval '100 days', 'webhook', 'ignored', '{}', 1, '{}' FROM generate_series(1, 2500) i;
SELECT stripe_sync.prune();
SELECT count(*) AS left FROM stripe_sync.event;
DELETE FROM stripe_sync.event;

-- the mirror stays, and still knows what is newer than what it holds
SELECT t.send('evt_1', 'customer.created', 10, t.customer('cus_1', 'first')), t.send('evt_2', 'customer.updated', 20, t.customer('cus_1', 'second')),
	t.send('evt_3', 'customer.created', 10, t.customer('cus_2', 'gone')), t.send('evt_4', 'customer.deleted', 20, '{"id":"cus_2","object":"customer","deleted":true}');
SELECT t.age('{evt_1,evt_2,evt_3,evt_4}', '100 days');
SELECT stripe_sync.prune();
SELECT t.events();
SELECT id, name, _event_id, t.sec(_as_of) AS as_of, _deleted_at IS NOT NULL AS deleted FROM stripe.customers WHERE id IN ('cus_1', 'cus_2') ORDER BY id;
-- late ones, of before and of the same second, are stale
SELECT t.send('evt_5', 'customer.updated', 15, t.customer('cus_1', 'late')), t.send('evt_6', 'customer.updated', 20, t.customer('cus_1', 'same second')),
	t.send('evt_7', 'customer.updated', 15, t.customer('cus_2', 'late'));
SELECT id, name, _event_id, t.sec(_as_of) AS as_of, _deleted_at IS NOT NULL AS deleted FROM stripe.customers WHERE id IN ('cus_1', 'cus_2') ORDER BY id;
SELECT status FROM stripe_sync.replay('evt_5');
-- a later one wins
SELECT t.send('evt_8', 'customer.updated', 30, t.customer('cus_1', 'third'));
SELECT id, name, _event_id, t.sec(_as_of) AS as_of FROM stripe.customers WHERE id = 'cus_1';
-- and those that were stale are so still
SELECT status FROM stripe_sync.replay('evt_6');
SELECT id, name, _event_id FROM stripe.customers WHERE id = 'cus_1';
-- an event that was pruned and comes once more is no duplicate, and stale
SELECT t.send('evt_2', 'customer.updated', 20, t.customer('cus_1', 'second'));
SELECT id, name, _event_id FROM stripe.customers WHERE id = 'cus_1';
TRUNCATE stripe_sync.event;

-- one that is dead keeps the others of its object, so that they are known when
-- it is run at last; children that it lists are not taken back to what they were
CREATE FUNCTION t.subscription(id text, items text) RETURNS json LANGUAGE sql AS $$
	SELECT json_build_object('id', id, 'object', 'subscription', 'status', 'active', 'items', json_build_object('object', 'list', 'has_more', false, 'data', (SELECT
		json_agg(json_build_object('id', split_part(item, ':', 1), 'object', 'subscription_item', 'quantity', split_part(item, ':', 2)::int, 'subscription', id)) FROM string_to_table(items, ' ') item)))
$$;
SELECT t.send('evt_11', 'customer.subscription.created', 10, t.subscription('sub_1', 'si_1:1 si_2:1')), t.send('evt_12', 'customer.subscription.updated', 20, t.subscription('sub_1', 'si_1:5')),
	t.send('evt_13', 'customer.subscription.created', 10, t.subscription('sub_2', 'si_3:1'));
UPDATE stripe_sync.event SET status = 'dead', todo = '{mirror}', tries = '{"mirror": 12}', mirrored = NULL WHERE id = 'evt_11';
SELECT t.age('{evt_11,evt_12,evt_13}', '100 days');
SELECT stripe_sync.prune();
SELECT t.events();
SELECT status FROM stripe_sync.replay('evt_11');
SELECT id, quantity, _event_id, _deleted_at IS NOT NULL AS deleted FROM stripe.subscription_items ORDER BY id;
-- now all of them may go
SELECT stripe_sync.prune();
SELECT count(*) AS left FROM stripe_sync.event;

-- a superuser's child table: none of its rows goes in the place of one of ours
SELECT t.send('evt_21', 'customer.created', 10, '{"id":"cus_21","object":"customer"}');
SELECT t.age('{evt_21}', '100 days');
CREATE TABLE t.child () INHERITS (stripe_sync.event);
INSERT INTO t.child SELECT (jsonb_populate_record(e, jsonb_build_object('id', 'evt_child', 'received_at', now()))).* FROM stripe_sync.event e, generate_series(1, 20);
SELECT stripe_sync.prune();
SELECT count(*) AS of_child, (SELECT count(*) FROM ONLY stripe_sync.event) AS ours FROM t.child;
DROP TABLE t.child;

-- notes of backups: the last hundred
BEGIN;
SELECT stripe_sync.note_backup(), stripe_sync.note_backup(now() - interval '1 day', 'base backup'), stripe_sync.note_backup('2020-01-01', NULL);
SELECT at = now() AS now, at::date = '2020-01-01' AS old, what FROM stripe_sync.backup_note ORDER BY at DESC;
COMMIT;
-- many backups leave the restores that were tried
SELECT stripe_sync.note_backup(now() - interval '20 days', 'Restore tested on a spare server');
SELECT count(stripe_sync.note_backup(now() - i * interval '1 minute', i::text)) FROM generate_series(1, 150) i;
SELECT count(*), min(at) > now() - interval '1 day' AS newest, max(what) AS last FROM stripe_sync.backup_note GROUP BY what ILIKE 'restore%' ORDER BY 1;
SELECT t.raises(s) FROM (VALUES ('SELECT stripe_sync.note_backup(NULL)'), ('SELECT stripe_sync.note_backup(''infinity'')'), ('SELECT stripe_sync.note_backup(''-infinity'')'),
	('SELECT stripe_sync.note_backup(now() + interval ''2 hours'')'), ('SELECT stripe_sync.note_backup(now(), repeat(''x'', 1001))')) v (s);

-- what people did in Slack, and the answers to it that are settled; what lets its holder answer, after half an hour
INSERT INTO stripe_sync.interaction (id, app, key, kind, sent_at, received_at, body)
SELECT i, 'a', i::text, 'press', now(), now() - age, '{}' FROM (VALUES (1, interval '1 minute'), (2, '32 minutes'), (3, '89 days'), (4, '91 days')) v (i, age);
INSERT INTO stripe_sync.interaction_secret (interaction, trigger_id) SELECT i, 't' FROM generate_series(1, 5) i;
INSERT INTO stripe_sync.slack_call (id, interaction, kind, payload, state, expires_at, settled_at)
SELECT i, 1, 'response', '{}', 'sent', now(), now() - age FROM (VALUES (1, interval '89 days'), (2, '91 days'), (3, NULL)) v (i, age);
SELECT stripe_sync.prune();
SELECT (SELECT string_agg(id::text, ' ' ORDER BY id) FROM stripe_sync.interaction) AS interactions, (SELECT string_agg(interaction::text, ' ') FROM stripe_sync.interaction_secret) AS secrets,
       (SELECT string_agg(id::text, ' ' ORDER BY id) FROM stripe_sync.slack_call) AS calls;
SET stripe_sync.retention = 0;
UPDATE stripe_sync.interaction SET received_at = now() - interval '32 minutes';
SELECT stripe_sync.prune();
SELECT count(*) AS interactions, (SELECT count(*) FROM stripe_sync.interaction_secret) AS secrets FROM stripe_sync.interaction;
RESET stripe_sync.retention;
