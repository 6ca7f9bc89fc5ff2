-- Incidents: opened, counted, closed, rolled up; in any order of arrival.
\set tables '{customer,invoice,charge}'
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.psql
\set ECHO none
\i :prelude
\set ECHO all
SELECT stripe_sync.add_slack_channel('ops', '#ops', 'xoxb-1'), stripe_sync.add_slack_webhook('hook', 'https://hooks.slack.com/services/T0/B0/x'), stripe_sync.add_slack_channel('oncall', '#oncall', 'xoxb-1');
CREATE FUNCTION t.fail(event text, invoice text, at numeric, account text DEFAULT NULL) RETURNS text LANGUAGE sql AS $$
	SELECT t.send(event, 'invoice.payment_failed', at, json_build_object('id', invoice, 'object', 'invoice', 'number', upper(invoice), 'status', 'open', 'customer', 'cus_' || invoice, 'amount_due', 1200, 'currency', 'usd'), NULL, account)
$$;
CREATE FUNCTION t.pay(event text, invoice text, at numeric, account text DEFAULT NULL) RETURNS text LANGUAGE sql AS $$
	SELECT t.send(event, 'invoice.paid', at, json_build_object('id', invoice, 'object', 'invoice', 'number', upper(invoice), 'status', 'paid', 'customer', 'cus_' || invoice), NULL, account)
$$;
-- Times, but for those that a message shows in the reader's zone, and ids, differ in each run.
-- Nothing is to leave this server.
SELECT stripe_sync.pause('slack');
CREATE VIEW t.told AS
SELECT destination, method, state, regexp_replace(payload->>'text', '\d{4}-\d\d-\d\d \d\d:\d\d(:\d\d| UTC)', 'TIME', 'g') AS text,
	CASE WHEN due_at <= clock_timestamp() + interval '10 seconds' THEN 'now' ELSE 'in ' || make_interval(mins => 5 * round(extract(epoch FROM due_at - clock_timestamp()) / 300)::int) END AS due, regexp_replace(event_id, '^sys_[0-9a-f]+$', 'sys_ID') AS event_id, thread IS NULL AS alone
  FROM stripe_sync.message ORDER BY id;
-- What its own message says when it is sent.
CREATE FUNCTION t.says(incident bigint) RETURNS text LANGUAGE sql AS $$
	SELECT payload->>'text' FROM stripe_sync.message m WHERE m.incident = says.incident AND alert IS NOT NULL
$$;
CREATE VIEW t.incidents AS
SELECT kind, alert, group_key, account, destination, state, count, resolved, regexp_replace(event_id, '^sys_[0-9a-f]+$', 'sys_ID') AS event_id, regexp_replace(closed_by, '^sys_[0-9a-f]+$', 'sys_ID') AS closed_by FROM stripe_sync.incident ORDER BY id;
CREATE FUNCTION t.new() RETURNS void LANGUAGE sql AS $$
	TRUNCATE stripe_sync.message, stripe_sync.incident_record, stripe_sync.alerted, stripe_sync.event, stripe.invoices
$$;
-- As the worker leaves what it has sent.
CREATE FUNCTION t.sent() RETURNS void LANGUAGE sql AS $$
	UPDATE stripe_sync.message SET state = 'sent', attempts = 1, settled_at = clock_timestamp(), slack_ts = '1.' || id WHERE state = 'waiting'
$$;
-- Let so much time pass.
CREATE FUNCTION t.pass(by interval) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	UPDATE stripe_sync.incident_record SET opened_at = opened_at - by, window_until = window_until - by, escalate_at = escalate_at - by;
	UPDATE stripe_sync.alerted SET at = at - by;
	UPDATE stripe_sync.message SET created_at = created_at - by, due_at = due_at - by;
END $$;
CREATE FUNCTION t.rule(destination text, closed_by text DEFAULT 'invoice.paid', coalesce_for interval DEFAULT '5 minutes', severity text DEFAULT 'warning') RETURNS void LANGUAGE sql AS $$
	SELECT stripe_sync.add_alert('failed', 'invoice.payment_failed', destination, 'Failed: {{number}}', closed_by => closed_by, coalesce_for => coalesce_for, severity => severity)
$$;

---- a life, told by a bot ----
SELECT t.rule('ops');
SELECT t.fail('evt_1', 'in_1', 1);
SELECT * FROM t.incidents;
SELECT * FROM t.told;
-- more within the window only count; one change waits
SELECT t.sent();
SELECT t.fail('evt_2', 'in_1', 2), t.fail('evt_3', 'in_1', 3), t.fail('evt_4', 'in_1', 4);
SELECT * FROM t.incidents;
SELECT * FROM t.told;
-- the next change waits a while: people can't read faster
SELECT t.sent();
SELECT t.fail('evt_5', 'in_1', 5);
SELECT method, due_at - (SELECT max(due_at) FROM stripe_sync.message WHERE state = 'sent' AND method = 'update') AS after_the_last FROM stripe_sync.message WHERE state = 'waiting';
-- delivered again, replayed: counted once
SELECT t.fail('evt_5', 'in_1', 5), (SELECT status FROM stripe_sync.replay('evt_5')), (SELECT count(*) FROM stripe_sync.replay('-infinity', 'infinity', NULL, '{applied,stale,ignored,failed,dead}'));
SELECT count FROM t.incidents;
-- the closing event: the change that waits goes out at once, and an answer below
SELECT t.pay('evt_6', 'in_1', 6);
SELECT * FROM t.incidents;
SELECT * FROM t.told WHERE state = 'waiting';
SELECT count(DISTINCT thread) AS threads FROM stripe_sync.message;
-- never twice, never open again
SELECT t.sent();
SELECT t.pay('evt_6', 'in_1', 6), t.pay('evt_7', 'in_1', 7), t.fail('evt_1', 'in_1', 1), t.fail('evt_5', 'in_1', 5);
SELECT count(*) FROM stripe_sync.replay('-infinity', 'infinity', NULL, '{applied,stale,ignored,failed,dead}');
SELECT (stripe_sync.replay(id, true)).status, count(*) FROM stripe_sync.event GROUP BY 1 ORDER BY 1;
SELECT * FROM t.incidents;
SELECT * FROM t.told WHERE state = 'waiting';
-- a failure that is late, older than the payment
SELECT t.fail('evt_8', 'in_1', 5.5);
SELECT * FROM t.incidents;
SELECT * FROM t.told WHERE state = 'waiting';
-- and one that is new: another incident
SELECT t.fail('evt_9', 'in_1', 9);
SELECT * FROM t.incidents;
SELECT * FROM t.told WHERE state = 'waiting';

---- silent where nothing was open ----
SELECT t.new(), t.pay('evt_1', 'in_1', 1), t.pay('evt_2', 'in_2', 1);
SELECT * FROM t.incidents;
SELECT * FROM t.told;

---- a failure after the window but before the close ----
SELECT t.new(), t.fail('evt_1', 'in_1', 1), t.sent(), t.pass('6 minutes');
SELECT t.fail('evt_2', 'in_1', 2);
SELECT * FROM t.incidents;
SELECT * FROM t.told WHERE state = 'waiting';
SELECT round(extract(epoch FROM window_until - clock_timestamp()) / 60) AS minutes FROM stripe_sync.incident_record;
-- within the new window it only counts
SELECT t.sent();
SELECT t.fail('evt_3', 'in_1', 3);
SELECT method, state FROM t.told WHERE state = 'waiting';
SELECT t.pay('evt_4', 'in_1', 4);
SELECT * FROM t.incidents;
SELECT * FROM t.told WHERE state = 'waiting';

---- every order of arrival ----
-- Of these events of one invoice, all orders; what is open in the end, and how
-- often people were told that it opened.
CREATE FUNCTION t.arrive(kinds text[], seconds numeric[]) RETURNS TABLE (orders bigint, opened text, ends text, told bigint) LANGUAGE plpgsql AS $$
DECLARE
	permutation int[];
	i int;
BEGIN
	CREATE TEMP TABLE ends (opened text, ends text, told bigint);
	FOR permutation IN
		WITH RECURSIVE p AS (
			SELECT ARRAY[g] AS p FROM generate_subscripts(kinds, 1) g UNION ALL
			SELECT p.p || g FROM p, generate_subscripts(kinds, 1) g WHERE g <> ALL (p.p))
		SELECT p.p FROM p WHERE cardinality(p.p) = cardinality(kinds)
	LOOP
		PERFORM t.new();
		FOREACH i IN ARRAY permutation LOOP
			IF kinds[i] = 'fail' THEN PERFORM t.fail('evt_' || i, 'in_1', seconds[i]);
			ELSE PERFORM t.pay('evt_' || i, 'in_1', seconds[i]); END IF;
		END LOOP;
		PERFORM stripe_sync.replay('-infinity', 'infinity', NULL, '{applied,stale}');
		PERFORM stripe_sync.replay(id) FROM stripe_sync.event;
		INSERT INTO ends SELECT (SELECT string_agg(event_id, ' ' ORDER BY event_id) FROM stripe_sync.incident), (SELECT string_agg(state, ' ' ORDER BY id) FROM stripe_sync.incident),
			(SELECT count(*) FROM stripe_sync.message WHERE alert IS NOT NULL);
	END LOOP;
	RETURN QUERY SELECT count(*), e.opened, e.ends, e.told FROM ends e GROUP BY 2, 3, 4 ORDER BY 2, 3, 4;
	DROP TABLE ends;
END $$;
SELECT * FROM t.arrive('{fail,pay}', '{1,2}');
SELECT * FROM t.arrive('{fail,pay}', '{1,1}');
SELECT * FROM t.arrive('{fail,fail,pay}', '{1,2,3}');
SELECT * FROM t.arrive('{fail,fail,pay}', '{1,2,2}');
-- failed again since it was paid: one is open in every order
SELECT * FROM t.arrive('{fail,pay,fail}', '{1,2,3}');
SELECT * FROM t.arrive('{fail,pay,fail,pay}', '{1,2,3,4}');
-- the same where a path says what belongs together
SELECT stripe_sync.add_alert('failed', 'invoice.payment_failed', 'ops', 'Failed: {{number}}', closed_by => 'invoice.paid', group_by => '$.data.object.customer');
SELECT * FROM t.arrive('{fail,pay}', '{1,2}');
SELECT * FROM t.arrive('{fail,pay}', '{1,1}');
SELECT * FROM t.arrive('{fail,fail,pay}', '{1,2,3}');
SELECT * FROM t.arrive('{fail,pay,fail}', '{1,2,3}');
SELECT * FROM t.arrive('{fail,pay,fail,pay}', '{1,2,3,4}');

---- a webhook, which can't update ----
SELECT t.new(), t.rule('hook');
SELECT t.fail('evt_1', 'in_1', 1);
SELECT * FROM t.told;
SELECT t.sent();
-- one summary, when the window ends
SELECT t.fail('evt_2', 'in_1', 2), t.fail('evt_3', 'in_1', 3);
SELECT * FROM t.told;
-- paid before that: it isn't needed
SELECT t.pay('evt_4', 'in_1', 4);
SELECT * FROM t.told;
-- after the window it is told at once
SELECT t.new(), t.fail('evt_5', 'in_1', 5), t.sent(), t.pass('6 minutes'), t.fail('evt_6', 'in_1', 6);
SELECT * FROM t.told;
SELECT t.sent();
SELECT t.fail('evt_7', 'in_1', 7);
SELECT method, state, due FROM t.told;

---- what nothing closes ends with its window ----
SELECT t.new(), t.rule('ops', NULL);
SELECT t.fail('evt_1', 'in_1', 1), t.fail('evt_2', 'in_1', 2);
SELECT t.pay('evt_3', 'in_1', 3);
SELECT * FROM t.incidents;
SELECT t.sent(), t.pass('6 minutes');
SELECT t.fail('evt_4', 'in_1', 4);
SELECT * FROM t.incidents;
SELECT * FROM t.told WHERE state = 'waiting';
SELECT t.sent(), t.pass('6 minutes');
CALL stripe_sync.work();
SELECT * FROM t.incidents;
-- '0': nothing is grouped
SELECT t.new(), t.rule('ops', NULL, '0');
SELECT count(t.fail('evt_' || n, 'in_1', n)) FROM generate_series(1, 7) n;
SELECT kind, count(*), sum(count) AS events FROM stripe_sync.incident GROUP BY kind;

---- connected accounts are apart ----
SELECT t.new(), t.rule('ops');
SELECT t.fail('evt_1', 'in_1', 1), t.fail('evt_2', 'in_1', 1, 'acct_a'), t.fail('evt_3', 'in_1', 2, 'acct_b'), t.fail('evt_4', 'in_1', 2, 'acct_b'), t.fail('evt_1', 'in_1', 2, 'acct_b');
SELECT t.pay('evt_5', 'in_1', 3, 'acct_a');
SELECT * FROM t.incidents;

---- past coalesce_burst: one roll-up that counts on ----
SELECT t.new();
SELECT count(t.fail('evt_' || n, 'in_' || n, n)) FROM generate_series(1, 9) n;
SELECT * FROM t.incidents;
SELECT * FROM t.told;
-- what is paid of those is counted too; what is single is closed
SELECT t.sent();
SELECT t.pay('evt_p' || n, 'in_' || n, 20 + n) FROM generate_series(4, 8) n;
SELECT * FROM t.incidents;
SELECT * FROM t.told WHERE state = 'waiting';
-- again, late, replayed
SELECT t.pay('evt_p8', 'in_8', 28), t.pay('evt_q8', 'in_8', 29), t.fail('evt_8b', 'in_8', 10), (SELECT count(*) FROM stripe_sync.replay('-infinity', 'infinity', NULL, '{applied,stale}'));
SELECT kind, count, resolved FROM t.incidents WHERE kind = 'rollup';
-- it counts on as long as they come
SELECT t.sent(), t.pass('4 minutes'), t.fail('evt_10', 'in_10', 40), t.pass('4 minutes'), t.fail('evt_11', 'in_11', 41);
SELECT kind, state, count, resolved FROM t.incidents WHERE kind = 'rollup';
-- and no longer: then it begins anew
SELECT t.sent(), t.pass('6 minutes'), t.fail('evt_12', 'in_12', 50);
SELECT kind, state, count, group_key FROM t.incidents WHERE event_id IN ('evt_6', 'evt_12') ORDER BY kind;
-- its own are still known
SELECT t.pay('evt_p9', 'in_9', 60);
SELECT kind, state, count, resolved FROM t.incidents WHERE kind = 'rollup';
SELECT count(t.fail('evt_' || n, 'in_' || n, n)) FROM generate_series(100, 109) n;
SELECT kind, state, count, resolved FROM t.incidents WHERE kind = 'rollup';
-- the last one ends too, when nothing has come for the window; a payment after that is no news
SELECT t.pass('4 minutes'), t.sent();
CALL stripe_sync.work();
SELECT state, count FROM t.incidents WHERE kind = 'rollup';
SELECT t.pass('2 minutes');
CALL stripe_sync.work();
SELECT state, count, resolved FROM t.incidents WHERE kind = 'rollup';
SELECT t.pay('evt_p109', 'in_109', 200);
SELECT state, count, resolved FROM t.incidents WHERE kind = 'rollup';
SELECT count(*) FROM t.told WHERE state = 'waiting';
-- a window's day is 24 hours, in a zone whose clocks change too
SELECT t.new();
SET timezone = 'America/St_Johns';
SELECT stripe_sync.add_alert('days' || days, 'x', 'ops', 'x', coalesce_for => days * interval '1 day') FROM generate_series(60, 360, 60) days \g /dev/null
INSERT INTO stripe_sync.incident_record (kind, alert, group_key, account, destination, severity, text, event_id, opened_at, window_until)
SELECT 'rollup', 'days' || days, minutes, '', 'ops', 'warning', 'x', 'evt_x', now() - make_interval(hours => days * 24, mins => minutes), now() FROM generate_series(60, 360, 60) days, unnest('{-30,30}'::int[]) minutes;
CALL stripe_sync.work();
SELECT group_key AS minutes, state, count(*) FROM stripe_sync.incident_record GROUP BY 1, 2 ORDER BY 1, 2;
SELECT stripe_sync.drop_alert('days' || days) FROM generate_series(60, 360, 60) days \g /dev/null
RESET timezone;
SELECT t.rule('ops', coalesce_for => '1 hour');
SET stripe_sync.coalesce_burst = 1;
SELECT t.new();
SELECT count(t.fail('evt_' || n, 'in_' || n, n)) FROM generate_series(1, 3) n;
SELECT kind, count FROM t.incidents;
RESET stripe_sync.coalesce_burst;

---- one customer's failures are no burst to another ----
SELECT t.new(), t.rule('@customer');
SELECT count(stripe_sync.add_slack_webhook('shop ' || n, 'https://hooks.slack.com/services/T0/B0/' || n)), count(stripe_sync.route_customer('cus_in_' || n, 'shop ' || n)) FROM generate_series(1, 8) n;
SELECT count(t.fail('evt_' || n, 'in_' || n, n)) FROM generate_series(1, 9) n;
SELECT kind, destination, count FROM t.incidents;
SELECT todo, status, count(*) FROM stripe_sync.event GROUP BY 1, 2;
-- nor is one's incident another's: a group that both have, or none at all
SELECT t.new(), stripe_sync.add_alert('failed', 'invoice.payment_failed', '@customer', 'x', group_by => '$.data.object.currency', closed_by => 'invoice.paid');
SELECT t.fail('evt_1', 'in_1', 1), t.fail('evt_2', 'in_2', 2), t.fail('evt_3', 'in_1', 3), t.send('evt_4', 'invoice.paid', 4, '{"id":"in_1","object":"invoice","customer":"cus_in_1","currency":"usd"}');
SELECT group_key, destination, state, count FROM t.incidents;
SELECT t.new(), stripe_sync.add_alert('failed', 'invoice.upcoming', '@customer', 'x'), stripe_sync.add_alert('all', '*.upcoming', 'ops', 'x');
SELECT t.send('evt_' || n, 'invoice.upcoming', n, json_build_object('object', 'invoice', 'customer', 'cus_in_' || n % 2 + 1)) FROM generate_series(1, 3) n;
SELECT t.send('evt_9', 'thing.upcoming', 9, '{"object":"thing"}');
SELECT alert, group_key, destination, count FROM t.incidents;
SELECT stripe_sync.drop_alert('all');
-- nor does a customer read our rules' names when many are counted, or too many
SELECT t.new(), stripe_sync.add_alert('internal_rule', 'invoice.payment_failed', '@customer', 'Failed: {{number}}', group_by => '$.id'), stripe_sync.add_alert('failed', 'x', 'ops', 'x');
SET stripe_sync.coalesce_burst = 1;
SELECT count(t.fail('evt_' || n, 'in_1', n)) FROM generate_series(1, 3) n;
SELECT kind, count FROM t.incidents;
SET stripe_sync.max_alerts_per_hour = 2;
SELECT t.pass('30 minutes');
SELECT count(t.fail('evt_1' || n, 'in_1', n)) FROM generate_series(1, 2) n;
SELECT kind, count FROM t.incidents;
SELECT kind, t.says(id) LIKE '%internal_rule%' AS named, t.says(id) LIKE '%more* since%Failed: IN_1' AS says FROM stripe_sync.incident ORDER BY id;
RESET stripe_sync.max_alerts_per_hour;
RESET stripe_sync.coalesce_burst;
SELECT stripe_sync.drop_alert('internal_rule');

---- past max_alerts_per_hour: one digest ----
SET stripe_sync.max_alerts_per_hour = 3;
SELECT t.new(), t.rule('ops'), stripe_sync.add_alert('flood', 'system.flood', 'oncall', 'Flood of {{destination}}: more than {{per_hour}}'),
	stripe_sync.add_alert('other', 'customer.created', 'ops', 'New: {{id}}'), stripe_sync.add_alert('elsewhere', 'customer.created', 'oncall', 'New: {{id}}');
-- what the application sends itself doesn't count
SELECT count(stripe_sync.notify('ops', 'Hello ' || n)) FROM generate_series(1, 10) n;
SELECT count(t.fail('evt_' || n, 'in_' || n, n)) FROM generate_series(1, 5) n;
SELECT t.send('evt_c', 'customer.created', 9, '{"id":"cus_1","object":"customer"}');
SELECT * FROM t.incidents;
SELECT * FROM t.told WHERE NOT alone;
SELECT t.pay('evt_p' || n, 'in_' || n, 20 + n) FROM generate_series(3, 4) n;
SELECT kind, count, resolved FROM t.incidents WHERE kind = 'digest';
-- it counts on, and no roll-up gets past it
SELECT t.sent();
SELECT count(t.fail('evt_' || n, 'in_' || n, n)) FROM generate_series(10, 19) n;
SELECT kind, alert, destination, state, count FROM t.incidents WHERE destination = 'ops';
SELECT * FROM t.told WHERE state = 'waiting';
-- what was open already and happens again is counted, and told nobody
SELECT t.sent(), t.pass('6 minutes'), t.fail('evt_20', 'in_1', 90);
SELECT * FROM t.told WHERE state = 'waiting';
-- an hour later
SELECT t.pass('2 hours'), t.sent();
SELECT t.fail('evt_30', 'in_30', 30);
SELECT kind, alert, state, count FROM t.incidents WHERE event_id = 'evt_30';
-- summaries of a webhook are messages too
SELECT t.new(), t.rule('hook');
SELECT t.fail('evt_1', 'in_1', 1), t.fail('evt_2', 'in_2', 1), t.sent(), t.fail('evt_3', 'in_1', 2), t.sent(), t.fail('evt_4', 'in_3', 3);
SELECT kind, alert, count FROM t.incidents;
-- and what is said of their end: as many as there may be
SELECT t.new(), t.fail('evt_1', 'in_1', 1), t.fail('evt_2', 'in_2', 1), t.pay('evt_3', 'in_1', 2), t.pay('evt_4', 'in_2', 2);
SELECT state, closed_by FROM t.incidents;
SELECT text FROM t.told;
-- what is critical goes out all the same, up to ten more
SELECT t.new(), t.rule('ops'), stripe_sync.add_alert('dispute', 'charge.dispute.created', 'ops', 'Dispute', severity => 'critical');
SET stripe_sync.coalesce_burst = 100;
SELECT count(t.fail('evt_' || n, 'in_' || n, n)) FROM generate_series(1, 5) n;
SELECT count(t.send('evt_d' || n, 'charge.dispute.created', n, json_build_object('id', 'dp_' || n, 'object', 'dispute'))) FROM generate_series(1, 12) n;
SELECT kind, alert, count(*), sum(count) AS events FROM stripe_sync.incident GROUP BY 1, 2 ORDER BY min(id);
RESET stripe_sync.coalesce_burst;
SELECT stripe_sync.drop_alert('dispute');
RESET stripe_sync.max_alerts_per_hour;
SELECT stripe_sync.drop_alert(x) FROM unnest('{flood,other,elsewhere}'::text[]) x;

---- one broken rule holds up nothing, and is tried again ----
SELECT t.new(), t.rule('ops'), stripe_sync.add_alert('a_broken', 'invoice.payment_failed', 'ops', 'never'),
	stripe_sync.add_alert('z_last', 'invoice.*', 'ops', 'Last');
ALTER TABLE stripe_sync.message ADD CONSTRAINT broken CHECK (alert <> 'a_broken');
SELECT status, split_part(detail, E'\n', 1) AS detail FROM t.deliver(t.event('evt_1', 'invoice.payment_failed', 1, '{"id":"in_1","object":"invoice"}'));
SELECT status, mirrored, todo, attempts, next_attempt_at > now() AS due, split_part(error, E'\n', 1) AS error FROM stripe_sync.event;
SELECT id FROM stripe.invoices;
SELECT alert, state FROM t.incidents;
-- mended and retried: it alone is told
ALTER TABLE stripe_sync.message DROP CONSTRAINT broken;
SELECT stripe_sync.add_alert('a_broken', 'invoice.payment_failed', 'ops', 'Mended', condition => '$.created > 0');
UPDATE stripe_sync.event SET next_attempt_at = now();
CALL stripe_sync.work();
SELECT status, todo, error FROM stripe_sync.event;
SELECT alert, count FROM t.incidents;
SELECT stripe_sync.drop_alert(x) FROM unnest('{a_broken,z_last}'::text[]) x;

---- the system's own events ----
SELECT t.new();
SELECT count(*) FROM stripe_sync.add_default_alerts('ops');
CREATE FUNCTION t.refuse(event jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'out of <stock> & more'; END $$;
SELECT stripe_sync.add_handler('stock', 'charge.*', 't.refuse');
SELECT t.send('evt_1', 'charge.succeeded', 1, '{"id":"ch_1","object":"charge"}'), t.send('evt_2', 'charge.succeeded', 2, '{"id":"ch_2","object":"charge"}');
SELECT kind, alert, group_key, count, event_id FROM t.incidents;
SELECT * FROM t.told;
-- of the mode and the account of what they are about
SELECT stripe_sync.add_endpoint('live', t.secret(), true, account => 'live');
SELECT t.deliver(t.event('evt_3', 'charge.succeeded', 3, '{"id":"ch_3","object":"charge"}', NULL, 'acct_a', true), 'live');
SELECT account, count, text LIKE '%<https://dashboard.stripe.com/acct_a/events/evt_3|%' AS live, text LIKE '%/test/%' AS test FROM stripe_sync.incident WHERE alert = 'events_failing' ORDER BY id;
DELETE FROM stripe_sync.event WHERE id = 'evt_3';
-- said once each, however often it is tried
UPDATE stripe_sync.event SET next_attempt_at = now();
CALL stripe_sync.work();
SELECT attempts FROM stripe_sync.event ORDER BY id;
SELECT kind, alert, count FROM t.incidents;
SET stripe_sync.max_attempts = 3;
UPDATE stripe_sync.event SET next_attempt_at = now();
CALL stripe_sync.work();
SELECT status FROM stripe_sync.event ORDER BY id;
SELECT kind, alert, group_key, count, event_id FROM t.incidents;
SELECT text FROM t.told WHERE event_id LIKE 'sys_dead_%';
SELECT status FROM stripe_sync.replay('evt_1');
RESET stripe_sync.max_attempts;
SELECT stripe_sync.drop_handler('stock');
SELECT kind, alert, group_key, count, event_id FROM t.incidents;
-- an endpoint falls silent, and is heard again
SELECT t.new();
TRUNCATE stripe_sync.pulse, stripe_sync.silence;
INSERT INTO stripe_sync.event (id, account, type, endpoint, received_at, source, status, todo, attempts, payload)
	SELECT 'evt_' || i, '', 'x', 'default', now() - interval '3 hours' - i * interval '1 hour', 'webhook', 'ignored', '{}', 1, '{}' FROM generate_series(1, 240) i;
SELECT stripe_sync.silence_check();
SELECT alert, group_key, state, count FROM t.incidents;
SELECT text FROM t.told;
SELECT t.fail('evt_new', 'in_1', 1) AS heard;
SELECT stripe_sync.silence_check();
SELECT alert, group_key, state, count FROM t.incidents;
SELECT method, text FROM t.told WHERE text LIKE '%silence\_over%';

---- destinations and rules that go while something is open ----
SELECT t.new();
SELECT count(stripe_sync.drop_alert(name)) FROM stripe_sync.alert;
SELECT stripe_sync.add_slack_channel('old', '#old', 'xoxb-1'), t.rule('old', severity => 'critical');
SELECT t.fail('evt_1', 'in_1', 1), t.fail('evt_2', 'in_2', 2);
SELECT t.raises($$ SELECT stripe_sync.drop_destination('old') $$);
-- the rule moves: what is open stays where it was told, what is new goes on elsewhere
SELECT t.sent(), t.rule('ops', severity => 'critical');
SELECT t.fail('evt_3', 'in_1', 3), t.fail('evt_4', 'in_3', 4);
SELECT * FROM t.incidents;
SELECT destination, method FROM t.told WHERE state = 'waiting';
-- the place goes: what is open there ends, and begins anew where the rule is now
SET client_min_messages = notice;
SELECT stripe_sync.drop_destination('old');
SET client_min_messages = warning;
SELECT t.fail('evt_5', 'in_1', 5), t.pay('evt_6', 'in_2', 6);
SELECT * FROM t.incidents;
SELECT destination, method, state FROM t.told WHERE state <> 'sent';
-- the rule goes: its incidents stay, and end
SELECT stripe_sync.drop_alert('failed'), t.sent();
SELECT t.pay('evt_7', 'in_1', 7), t.fail('evt_8', 'in_3', 8);
SELECT event_id, state, count FROM t.incidents;
SELECT t.pass('6 minutes');
CALL stripe_sync.work();
SELECT event_id, state, count FROM t.incidents;

---- critical incidents that nobody resolves are repeated, once ----
SELECT t.new(), t.rule('ops', severity => 'critical'), stripe_sync.set_escalation('ops', 'oncall');
SELECT t.fail('evt_1', 'in_1', 1), t.fail('evt_2', 'in_2', 2), t.pay('evt_3', 'in_2', 3), t.sent();
CALL stripe_sync.work();
SELECT * FROM t.told WHERE state = 'waiting';
SELECT t.pass('31 minutes');
CALL stripe_sync.work();
SELECT * FROM t.told WHERE state = 'waiting';
SELECT t.sent(), t.pass('31 minutes');
CALL stripe_sync.work();
SELECT * FROM t.told WHERE state = 'waiting';
-- as well those that nothing closes; in their thread where there is no second place
SELECT t.new(), t.rule('ops', NULL, severity => 'critical'), stripe_sync.set_escalation('ops', NULL);
SELECT t.fail('evt_1', 'in_1', 1), t.sent(), t.pass('6 minutes');
CALL stripe_sync.work();
SELECT state FROM t.incidents;
SELECT t.pass('31 minutes');
CALL stripe_sync.work();
SELECT * FROM t.told WHERE state = 'waiting';
-- who was told that it is open is told its end
SELECT t.new(), t.rule('ops', severity => 'critical'), stripe_sync.set_escalation('ops', 'oncall');
SELECT t.fail('evt_1', 'in_1', 1), t.fail('evt_2', 'in_2', 2), t.sent(), t.pay('evt_3', 'in_2', 3), t.pass('45 minutes');
CALL stripe_sync.work();
SELECT t.pay('evt_4', 'in_1', 4);
SELECT text FROM t.told WHERE destination = 'oncall';
SELECT count(DISTINCT thread) AS threads FROM stripe_sync.message WHERE destination = 'oncall';
SELECT stripe_sync.set_escalation('ops', NULL);
-- others are not, and 0 is off
SELECT t.new(), t.rule('ops', severity => 'warning'), t.fail('evt_1', 'in_1', 1), t.sent(), t.pass('31 minutes');
CALL stripe_sync.work();
SELECT * FROM t.told WHERE state = 'waiting';
SET stripe_sync.escalate_after = 0;
SELECT t.new(), t.rule('ops', severity => 'critical'), t.fail('evt_1', 'in_1', 1), t.sent(), t.pass('31 minutes');
CALL stripe_sync.work();
SELECT * FROM t.told WHERE state = 'waiting';
RESET stripe_sync.escalate_after;
-- for what was to be repeated too
SELECT t.new(), t.fail('evt_1', 'in_1', 1), t.sent(), t.pass('31 minutes');
SET stripe_sync.escalate_after = 0;
CALL stripe_sync.work();
RESET stripe_sync.escalate_after;
CALL stripe_sync.work();
SELECT * FROM t.told WHERE state = 'waiting';

---- a rule that changes while something is open ----
SELECT t.new(), t.rule('ops'), t.fail('evt_1', 'in_1', 1), t.fail('evt_2', 'in_2', 1), t.rule('ops', 'invoice.voided');
-- closed by something else: what is open is, too
SELECT t.send('evt_3', 'invoice.voided', 3, '{"id":"in_1","object":"invoice"}');
SELECT group_key, state, closed_by FROM t.incidents;
-- grouped otherwise: it ends
SELECT stripe_sync.add_alert('failed', 'invoice.payment_failed', 'ops', 'x', group_by => '$.data.object.customer', closed_by => 'invoice.paid');
SELECT group_key, state, closed_by FROM t.incidents;
SELECT t.fail('evt_4', 'in_2', 4);
SELECT stripe_sync.add_alert('failed', 'invoice.payment_failed', 'ops', 'y', group_by => '$.data.object.customer', closed_by => 'invoice.paid');
SELECT group_key, state, closed_by FROM t.incidents;

-- the view is a reader's, the tables behind it aren't
CREATE ROLE regress_incident;
SELECT stripe_sync.grant_read('regress_incident');
SET ROLE regress_incident;
SELECT count(*) FROM stripe_sync.incident;
SELECT t.sqlstate('SELECT count(*) FROM stripe_sync.incident_record'), t.sqlstate('SELECT count(*) FROM stripe_sync.alerted'), t.sqlstate('DELETE FROM stripe_sync.incident');
RESET ROLE;
SELECT stripe_sync.revoke_all('regress_incident');
DROP ROLE regress_incident;
