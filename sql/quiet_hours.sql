-- Quiet hours: windows and their arguments; muted alerts.
\set tables '{customer,invoice}'
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.psql
\set ECHO none
\i :prelude
\set ECHO all
SET timezone = 'UTC';
SELECT stripe_sync.add_slack_channel('ops', '#ops', 'xoxb-1'), stripe_sync.add_slack_webhook('hook', 'https://hooks.slack.com/services/T0/B0/x');
SELECT stripe_sync.pause('slack');

---- arguments ----
SELECT stripe_sync.set_quiet_hours('ops', 'mon-fri', '22:00', '06:00', 'Europe/Berlin');
SELECT stripe_sync.set_quiet_hours('ops', ' SUN , Sat', NULL, NULL, 'europe/berlin', 'none');
SELECT stripe_sync.set_quiet_hours('hook', 'fri-mon,wed', '12:00', '24:00', 'UTC', 'warning');
SELECT destination, days, from_time, to_time, zone, passes FROM stripe_sync.quiet_hours ORDER BY 1 DESC, 2;
-- the same days and times replace
SELECT stripe_sync.set_quiet_hours('ops', 'mon,tue,wed-fri', '22:00', '06:00', 'America/St_Johns', 'none');
SELECT stripe_sync.set_quiet_hours('ops', 'sat,sun', '00:00', '24:00', 'Europe/Berlin');
SELECT destination, days, from_time, to_time, zone, passes FROM stripe_sync.quiet_hours ORDER BY 1 DESC, 2;
SELECT t.raises($$SELECT stripe_sync.set_quiet_hours('none', 'mon', NULL, NULL, 'UTC')$$);
SELECT t.raises($$SELECT stripe_sync.drop_quiet_hours('none')$$);
SELECT days, t.raises(format('SELECT stripe_sync.set_quiet_hours(''ops'', %L, NULL, NULL, ''UTC'')', days)) FROM unnest('{"",monday,mon-,"-fri","mon fri","mon,,tue","mon,",1,weekdays}'::text[]) days;
SELECT zone, t.raises(format('SELECT stripe_sync.set_quiet_hours(''ops'', ''mon'', NULL, NULL, %L)', zone)) FROM unnest('{"",Berlin,+2,CET-1,FOO5,"Europe/Berlin; x"}'::text[]) zone;
SELECT passes, t.raises(format('SELECT stripe_sync.set_quiet_hours(''ops'', ''mon'', NULL, NULL, ''UTC'', %L)', passes)) FROM unnest('{info,Critical,all,NULL}'::text[]) passes;
SELECT t.raises($$SELECT stripe_sync.set_quiet_hours('ops', 'mon', '22:00', NULL, 'UTC')$$);
SELECT t.raises($$SELECT stripe_sync.set_quiet_hours('ops', 'mon', '24:00', '06:00', 'UTC')$$);
SELECT t.raises($$SELECT stripe_sync.set_quiet_hours('ops', NULL, '22:00', '06:00', 'UTC')$$);
SELECT t.raises(format('SELECT stripe_sync.set_quiet_hours(''ops'', %L, NULL, NULL, ''UTC'')', repeat('mon,', 100)));
SELECT what, ref, detail, count FROM stripe_sync.journal WHERE what LIKE 'quiet.%' ORDER BY id;

---- when ----
SELECT stripe_sync.drop_quiet_hours('ops'), stripe_sync.drop_quiet_hours('ops');
SELECT what, ref FROM stripe_sync.journal WHERE what = 'quiet.dropped';
CREATE FUNCTION t.until(at text, severity text DEFAULT 'warning', destination text DEFAULT 'ops') RETURNS timestamptz LANGUAGE sql AS $$
	SELECT stripe_sync.quiet_until(destination, severity, at::timestamptz)
$$;
SELECT t.until('2026-06-05 12:00') IS NULL AS never_quiet;
-- a window across midnight belongs to the day it begins
SELECT stripe_sync.set_quiet_hours('ops', 'fri', '22:00', '06:00', 'UTC');
SELECT at, t.until(at), t.until(at, 'info') AS info, t.until(at, 'critical') AS critical FROM unnest('{2026-06-05 05:00, 2026-06-05 21:59:59.999999, 2026-06-05 22:00, 2026-06-06 05:59:59, 2026-06-06 06:00, 2026-06-06 23:00}'::text[]) at;
-- windows that touch are one
SELECT stripe_sync.set_quiet_hours('ops', 'sat', '06:00', '06:00', 'UTC'), stripe_sync.set_quiet_hours('ops', 'sun', NULL, NULL, 'UTC'), stripe_sync.set_quiet_hours('ops', 'mon', '00:00', '08:30', 'UTC', 'none');
SELECT at, t.until(at), t.until(at, 'critical') AS critical FROM unnest('{2026-06-05 22:00, 2026-06-07 05:00, 2026-06-08 08:29, 2026-06-08 08:30}'::text[]) at;
SELECT stripe_sync.set_quiet_hours('ops', 'mon-sun', NULL, NULL, 'UTC', 'warning');
SELECT t.until('2026-06-09 12:00') AS passes, t.until('2026-06-09 12:00', 'info') AS always, t.until('infinity', 'info') AS never;
SELECT stripe_sync.drop_quiet_hours('hook'), stripe_sync.drop_quiet_hours('ops');

---- muted: recorded, and nothing is said ----
CREATE FUNCTION t.fail(event text, invoice text, at numeric) RETURNS text LANGUAGE sql AS $$
	SELECT t.send(event, 'invoice.payment_failed', at, json_build_object('id', invoice, 'object', 'invoice', 'number', upper(invoice)))
$$;
CREATE FUNCTION t.pay(event text, invoice text, at numeric) RETURNS text LANGUAGE sql AS $$
	SELECT t.send(event, 'invoice.paid', at, json_build_object('id', invoice, 'object', 'invoice', 'number', upper(invoice)))
$$;
CREATE VIEW t.told AS
SELECT m.method, m.state, m.last_code, CASE WHEN m.due_at = 'infinity' THEN 'held' END AS held, i.group_key, i.state AS incident FROM stripe_sync.message m JOIN stripe_sync.incident i ON i.id = m.incident ORDER BY m.id;
SELECT stripe_sync.add_alert('failed', 'invoice.payment_failed', 'ops', 'Failed: {{number}}', closed_by => 'invoice.paid');
SELECT stripe_sync.mute_alert('failed', now() + interval '1 hour');
SELECT t.fail('evt_1', 'in_1', 1), t.fail('evt_2', 'in_2', 2), t.fail('evt_3', 'in_1', 3), t.pay('evt_4', 'in_2', 4);
SELECT group_key, state, count, message_id FROM stripe_sync.incident ORDER BY id;
SELECT * FROM t.told;
-- a flood doesn't tell either
SET stripe_sync.max_alerts_per_hour = 1;
SELECT t.fail('evt_f' || n, 'in_f' || n, 5 + n) FROM generate_series(1, 3) n;
SELECT kind, count(*) FROM stripe_sync.incident GROUP BY 1;
SELECT * FROM t.told;
RESET stripe_sync.max_alerts_per_hour;
-- when it ends, the next event of an open one tells, that it is resolved doesn't
SELECT stripe_sync.mute_alert('failed', NULL);
SELECT t.pay('evt_5', 'in_f1', 20), t.fail('evt_6', 'in_1', 21), t.fail('evt_7', 'in_1', 22);
SELECT * FROM t.told;
-- muted now: its message is changed, no answer is posted
SELECT stripe_sync.mute_alert('failed', now() + interval '1 hour');
SELECT t.pay('evt_8', 'in_1', 23);
SELECT * FROM t.told;
SELECT stripe_sync.mute_alert('failed', NULL);

---- held ----
TRUNCATE stripe_sync.message, stripe_sync.incident_record, stripe_sync.alerted, stripe_sync.event;
SELECT stripe_sync.set_quiet_hours('ops', 'mon-sun', NULL, NULL, 'UTC');
SELECT t.fail('evt_1', 'in_1', 1), t.fail('evt_2', 'in_2', 2), t.fail('evt_3', 'in_1', 3), t.pay('evt_4', 'in_2', 4);
SELECT * FROM t.told;
-- what is held is no backlog
SELECT status, detail FROM stripe_sync.doctor() WHERE key = 'slack.backlog';
-- sent all the same, and given up
SELECT stripe_sync.retry_message(min(id)), stripe_sync.cancel_message(max(id)) FROM stripe_sync.message WHERE method = 'post';
SELECT * FROM t.told;
-- notify() and tests are not held
SELECT stripe_sync.notify('ops', 'Now') IS NOT NULL AS queued;
SELECT due_at < 'infinity' AS due FROM stripe_sync.message WHERE incident IS NULL;
-- more than are posted: the ten worst, the oldest first
TRUNCATE stripe_sync.message, stripe_sync.incident_record, stripe_sync.alerted, stripe_sync.event;
SET stripe_sync.coalesce_burst = 100;
SELECT count(t.fail('evt_' || n, 'in_' || n, n)) FROM generate_series(1, 25) n;
SELECT stripe_sync.drop_quiet_hours('ops');
CALL stripe_sync.work('10 seconds');
SELECT method, state, last_code, blocked_by IS NOT NULL AS after_digest, count(*) FROM stripe_sync.message GROUP BY 1, 2, 3, 4 ORDER BY 2, 4;
SELECT regexp_replace(payload->>'text', '\d{4}-\d\d-\d\d \d\d:\d\d UTC', 'TIME') AS text, jsonb_array_length(payload->'blocks') AS blocks, payload->'blocks'->-1->'text'->>'text' AS last FROM stripe_sync.message WHERE incident IS NULL;
SELECT (length(payload->>'blocks') - length(replace(payload->>'blocks', 'Failed: IN_', ''))) / length('Failed: IN_') AS rows FROM stripe_sync.message WHERE incident IS NULL;
-- one of those that weren't posted is told by its next event
SELECT t.fail('evt_again', 'in_25', 30);
SELECT * FROM t.told WHERE group_key = 'in_25';
-- a destination that is dropped has no quiet hours
SELECT stripe_sync.set_quiet_hours('hook', 'mon-sun', NULL, NULL, 'UTC');
SELECT stripe_sync.drop_destination('hook');
SELECT count(*) FROM stripe_sync.quiet_hours;

---- a repetition at a second destination ----
TRUNCATE stripe_sync.message, stripe_sync.incident_record, stripe_sync.alerted, stripe_sync.event;
SELECT stripe_sync.add_slack_channel('oncall', '#oncall', 'xoxb-1'), stripe_sync.set_escalation('ops', 'oncall');
SELECT stripe_sync.add_alert('failed', 'invoice.payment_failed', 'ops', 'Failed: {{number}}', closed_by => 'invoice.paid', severity => 'critical');
SELECT stripe_sync.set_quiet_hours('oncall', 'mon-sun', NULL, NULL, 'UTC', 'none');
SELECT t.fail('evt_1', 'in_r1', 1), t.fail('evt_2', 'in_r2', 2);
UPDATE stripe_sync.incident_record SET escalate_at = now();
CALL stripe_sync.work('10 seconds');
SELECT t.pay('evt_3', 'in_r1', 3);
SELECT m.destination, t.* FROM stripe_sync.message m, LATERAL (SELECT m.method, m.state, m.last_code, m.due_at = 'infinity' AS held, i.group_key FROM stripe_sync.incident i WHERE i.id = m.incident) t ORDER BY m.id;
SELECT stripe_sync.drop_quiet_hours('oncall');
CALL stripe_sync.work('10 seconds');
SELECT m.destination, m.method, m.state, m.last_code, m.due_at = 'infinity' AS held, m.blocked_by IS NOT NULL AS after_digest, left(m.payload->>'text', 38) AS text FROM stripe_sync.message m WHERE m.destination = 'oncall' AND incident IS NOT NULL ORDER BY m.id;
SELECT regexp_replace(payload->>'text', '\d{4}-\d\d-\d\d \d\d:\d\d UTC', 'TIME') AS text FROM stripe_sync.message WHERE incident IS NULL;
