-- What people and the clock do with incidents: acknowledged, snoozed, resolved, woken, repeated; muted rules.
\set tables '{customer,invoice}'
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.psql
\set slack :abs_srcdir /sql/slack.psql
\set ECHO none
\i :prelude
\i :slack
\set ECHO all
SELECT stripe_sync.add_slack_channel('ops', '#ops', 'xoxb-1'), stripe_sync.add_slack_webhook('hook', 'https://hooks.slack.com/services/T0/B0/x'), stripe_sync.add_slack_channel('oncall', '#oncall', 'xoxb-1');
SELECT stripe_sync.add_slack_app('default', t.slack_secret()), stripe_sync.set_slack_user('U1', 'act'), stripe_sync.set_slack_user('U2', 'act');
-- Nothing is to leave this server.
SELECT stripe_sync.pause('slack');
CREATE FUNCTION t.fail(event text, invoice text, at numeric) RETURNS text LANGUAGE sql AS $$
	SELECT t.send(event, 'invoice.payment_failed', at, json_build_object('id', invoice, 'object', 'invoice', 'number', upper(invoice), 'status', 'open'))
$$;
CREATE FUNCTION t.pay(event text, invoice text, at numeric) RETURNS text LANGUAGE sql AS $$
	SELECT t.send(event, 'invoice.paid', at, json_build_object('id', invoice, 'object', 'invoice', 'number', upper(invoice), 'status', 'paid'))
$$;
CREATE FUNCTION t.new() RETURNS void LANGUAGE sql AS $$
	TRUNCATE stripe_sync.message, stripe_sync.incident_record, stripe_sync.incident_step, stripe_sync.alerted, stripe_sync.event, stripe.invoices
$$;
CREATE FUNCTION t.sent() RETURNS void LANGUAGE sql AS $$
	UPDATE stripe_sync.message SET state = 'sent', attempts = 1, settled_at = clock_timestamp(), slack_ts = '1.' || id WHERE state = 'waiting'
$$;
CREATE FUNCTION t.pass(by interval) RETURNS void LANGUAGE sql AS $$
	UPDATE stripe_sync.incident_record SET opened_at = opened_at - by, window_until = window_until - by, escalate_at = escalate_at - by, snoozed_until = snoozed_until - by, closed_at = closed_at - by;
	UPDATE stripe_sync.alerted SET at = at - by;
	UPDATE stripe_sync.message SET created_at = created_at - by, due_at = due_at - by, settled_at = settled_at - by
$$;
CREATE FUNCTION t.rule(destination text, closed_by text DEFAULT 'invoice.paid', severity text DEFAULT 'critical') RETURNS void LANGUAGE sql AS $$
	SELECT stripe_sync.add_alert('failed', 'invoice.payment_failed', destination, 'Failed: {{number}}', closed_by => closed_by, severity => severity)
$$;
-- A press of the incident of that group, as Slack signs it; what became of it
CREATE FUNCTION t.press(person text, action text, of text DEFAULT 'in_1', option text DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	id text := (SELECT max(i.id) FROM stripe_sync.incident_record i WHERE group_key = of);
	received int;
BEGIN
	SELECT r.http_status INTO received FROM t.slack(t.form(json_build_object('payload', json_build_object('type', 'block_actions', 'team', json_build_object('id', 'T1'),
		'user', json_build_object('id', person, 'team_id', 'T1'), 'channel', json_build_object('id', 'C1'), 'message', json_build_object('ts', '1.1'), 'nonce', gen_random_uuid(),
		'actions', json_build_array(CASE WHEN option IS NULL THEN json_build_object('type', 'button', 'action_id', 'stripe_sync.' || action, 'value', id)
			ELSE json_build_object('type', 'static_select', 'action_id', 'stripe_sync.' || action, 'selected_option', json_build_object('value', id || ':' || option)) END))))) r;
	RETURN received || ' ' || (SELECT concat_ws(': ', status, error) FROM stripe_sync.interaction ORDER BY interaction.id DESC LIMIT 1);
END $$;
CREATE VIEW t.incidents AS
SELECT group_key, state, count, closed_by, acknowledged_by, acknowledged_at IS NOT NULL AS acknowledged, snoozed_by, date_trunc('hour', snoozed_until - clock_timestamp() + interval '1 minute') AS snoozed, escalations,
	(SELECT escalate_at IS NOT NULL FROM stripe_sync.incident_record r WHERE r.id = i.id) AS repeats FROM stripe_sync.incident i ORDER BY id;
CREATE VIEW t.steps AS
SELECT step, by, date_trunc('hour', until - at + interval '1 minute') AS until, interaction IS NOT NULL AS pressed FROM stripe_sync.incident_step ORDER BY id;
CREATE VIEW t.waits AS
SELECT destination, method, regexp_replace(key, '\d+', 'N', 'g') AS key, regexp_replace(thread, '\d+', 'N', 'g') AS thread, regexp_replace(regexp_replace(payload->>'text', '^\[TEST\] ', ''), ' after [0-9a-z ]+(?=[,:])', ' after a while') AS text, due_at <= clock_timestamp() AS due
  FROM stripe_sync.message WHERE state = 'waiting' ORDER BY id;

---- acknowledged ----
SELECT t.rule('ops');
SELECT t.fail('evt_1', 'in_1', 1), t.sent();
SELECT t.press('U1', 'acknowledge');
SELECT * FROM t.incidents;
SELECT * FROM t.steps;
SELECT * FROM t.waits;
-- the second one is told who was first
SELECT t.press('U2', 'acknowledge'), t.press('U1', 'acknowledge');
SELECT count(*) FROM t.steps;
SELECT count(*) FROM t.waits;
-- it counts; an update that waits already shows what is done next, too
SELECT t.sent(), t.fail('evt_2', 'in_1', 2);
SELECT method, key IS NOT NULL AS keyed, due FROM t.waits;
SELECT t.press('U2', 'snooze', option => '1h');
SELECT method, key IS NOT NULL AS keyed, due FROM t.waits;
SELECT * FROM t.incidents;
-- paid all the same
SELECT t.sent(), t.pay('evt_3', 'in_1', 3);
SELECT * FROM t.incidents;
SELECT * FROM t.waits;
SELECT t.press('U1', 'resolve'), t.press('U1', 'acknowledge'), t.press('U1', 'snooze', option => '1h');
SELECT count(*) FROM t.steps;

---- resolved by a person ----
SELECT t.new(), t.fail('evt_1', 'in_1', 1), t.sent(), t.press('U1', 'resolve'), t.press('U2', 'resolve');
SELECT * FROM t.incidents;
SELECT * FROM t.steps;
SELECT * FROM t.waits;
-- its payment closes nothing; another failure opens another
SELECT t.sent(), t.pay('evt_2', 'in_1', 2), t.fail('evt_3', 'in_1', 3);
SELECT * FROM t.incidents;
SELECT method, text FROM t.waits;
-- a roll-up
SET stripe_sync.coalesce_burst = 1;
SELECT t.new(), t.fail('evt_1', 'in_1', 1), t.fail('evt_2', 'in_2', 2), t.sent(), t.press('U1', 'resolve', 'ops');
SELECT kind, state, closed_by FROM stripe_sync.incident ORDER BY id;
SELECT t.fail('evt_3', 'in_3', 3);
SELECT kind, state, count FROM stripe_sync.incident ORDER BY id;
RESET stripe_sync.coalesce_burst;

---- snoozed: nothing is said until it is over ----
SELECT t.new(), t.fail('evt_1', 'in_1', 1), t.sent(), t.press('U1', 'acknowledge'), t.press('U1', 'snooze', option => '1d'), t.press('U2', 'snooze', option => '1h');
SELECT * FROM t.incidents;
SELECT * FROM t.steps;
SELECT t.sent(), t.pass('31 minutes'), t.fail('evt_2', 'in_1', 2);
CALL stripe_sync.work();
SELECT method, text FROM t.waits;
SELECT t.sent(), t.pass('30 minutes');
CALL stripe_sync.work();
SELECT * FROM t.incidents;
SELECT step, by FROM stripe_sync.incident_step ORDER BY id;
SELECT method, text FROM t.waits;
-- once
SELECT t.sent();
CALL stripe_sync.work();
SELECT count(*) FROM t.waits;
-- it is repeated again
SELECT t.pass('31 minutes');
CALL stripe_sync.work();
SELECT method, text FROM t.waits;
-- what has ended meanwhile doesn't come back
SELECT t.new(), t.fail('evt_1', 'in_1', 1), t.press('U1', 'snooze', option => '1h'), t.pay('evt_2', 'in_1', 2), t.sent(), t.pass('2 hours');
CALL stripe_sync.work();
SELECT * FROM t.incidents;
SELECT count(*) FROM t.waits;
-- with escalate_after = 0 it comes back, and is not repeated
SET stripe_sync.escalate_after = 0;
SELECT t.new(), t.fail('evt_1', 'in_1', 1), t.press('U1', 'snooze', option => '1h'), t.sent(), t.pass('2 hours');
CALL stripe_sync.work();
SELECT state, snoozed, repeats FROM t.incidents;
RESET stripe_sync.escalate_after;

---- repeated until somebody takes it up, three times ----
SELECT t.new(), stripe_sync.set_escalation('ops', 'oncall'), t.fail('evt_1', 'in_1', 1), t.sent();
SELECT t.pass('31 minutes');
CALL stripe_sync.work();
SELECT t.pass('31 minutes');
CALL stripe_sync.work();
SELECT t.pass('31 minutes');
CALL stripe_sync.work();
SELECT t.pass('31 minutes');
CALL stripe_sync.work();
SELECT destination, method, thread, text FROM t.waits;
SELECT * FROM t.incidents;
SELECT step, count(*) FROM t.steps GROUP BY 1;
-- each of them shows what is done
SELECT t.sent(), t.press('U1', 'acknowledge');
SELECT destination, method, key, thread FROM t.waits;
-- once, where nobody has ever pressed a button
UPDATE stripe_sync.slack_app SET first_press_at = NULL;
SELECT t.new(), t.fail('evt_1', 'in_1', 1), t.sent(), t.pass('31 minutes');
CALL stripe_sync.work();
SELECT t.pass('31 minutes');
CALL stripe_sync.work();
SELECT destination, text FROM t.waits;
-- the second destination's app counts as well
UPDATE stripe_sync.slack_app SET first_press_at = now();
UPDATE stripe_sync.destination SET app = NULL WHERE name = 'ops';
SELECT t.new(), t.fail('evt_1', 'in_1', 1), t.sent(), t.pass('31 minutes');
CALL stripe_sync.work();
SELECT repeats FROM t.incidents;
UPDATE stripe_sync.destination SET app = 'default' WHERE name = 'ops';
SELECT stripe_sync.set_escalation('ops', NULL);

---- what no event closes: its window is no end ----
SELECT t.rule('ops', NULL), t.new(), t.fail('evt_1', 'in_1', 1), t.sent(), t.pass('6 minutes');
CALL stripe_sync.work();
SELECT * FROM t.incidents;
SELECT t.press('U1', 'acknowledge'), t.press('U1', 'snooze', option => '1h'), t.sent(), t.pass('2 hours');
CALL stripe_sync.work();
SELECT method, text FROM t.waits;
SELECT t.press('U2', 'resolve');
SELECT * FROM t.incidents;

---- muted ----
SELECT t.rule('ops'), t.new(), stripe_sync.mute_alert('failed', now() + interval '1 hour');
-- sessions needn't read their rules again for it
SELECT pg_catalog.pg_get_triggerdef(oid) NOT LIKE '%muted_until%' AS apart FROM pg_trigger WHERE tgname = 'config_changed' AND tgrelid = 'stripe_sync.alert'::regclass;
SELECT t.fail('evt_1', 'in_1', 1), t.fail('evt_2', 'in_1', 2);
SELECT * FROM t.incidents;
SELECT count(*) FROM t.waits;
SELECT t.pass('31 minutes');
CALL stripe_sync.work();
SELECT * FROM t.incidents;
SELECT count(*) FROM t.steps;
-- when that ends, it has a message as soon as there is news
SELECT stripe_sync.mute_alert('failed', NULL), t.fail('evt_3', 'in_1', 3);
SELECT method, text FROM t.waits;
SELECT t.sent(), t.pay('evt_4', 'in_1', 4);
SELECT method, text FROM t.waits;
-- what nobody has seen has no end to tell
SELECT t.new(), stripe_sync.mute_alert('failed', 'infinity'), t.fail('evt_1', 'in_1', 1), stripe_sync.mute_alert('failed', '-infinity'), t.pay('evt_2', 'in_1', 2);
SELECT state FROM t.incidents;
SELECT count(*) FROM t.waits;
SELECT what, ref, regexp_replace(detail, '\d\d\d\d-.*', 'TIME') AS detail FROM stripe_sync.journal WHERE what LIKE 'alert.%mute%' ORDER BY id;
-- it survives a set-up script
SELECT stripe_sync.mute_alert('failed', 'infinity'), t.rule('ops');
SELECT muted_until FROM stripe_sync.alert;
SELECT t.raises($$ SELECT stripe_sync.mute_alert('nothing', NULL) $$), t.raises($$ SELECT stripe_sync.mute_alert(NULL, NULL) $$);

---- steps go with their incident ----
SELECT stripe_sync.mute_alert('failed', NULL), t.new(), t.fail('evt_1', 'in_1', 1), t.press('U1', 'resolve'), t.sent(), t.pass('100 days');
UPDATE stripe_sync.event SET received_at = received_at - interval '100 days', applied_at = applied_at - interval '100 days';
SELECT count(*) FROM t.steps;
SELECT stripe_sync.prune() > 0 AS pruned;
SELECT (SELECT count(*) FROM stripe_sync.incident), (SELECT count(*) FROM t.steps) AS steps;
