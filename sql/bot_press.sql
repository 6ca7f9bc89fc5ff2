-- Buttons of incidents: who may press them, what they do, what people are told.
\set tables '{invoice,customer}'
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
SELECT stripe_sync.add_alert('failed', 'invoice.payment_failed', 'ops', 'Payment of {{customer}} failed',
	group_by => '$.data.object.id', coalesce_for => '0', closed_by => 'invoice.paid', severity => 'critical');
CREATE FUNCTION t.invoice(id text) RETURNS json LANGUAGE sql AS $$ SELECT json_build_object('id', id, 'object', 'invoice', 'customer', 'cus_1', 'currency', 'eur', 'amount_due', 2900) $$;
SELECT t.send('evt_' || n, 'invoice.payment_failed', n, t.invoice('in_' || n)) FROM generate_series(1, 6) n;
SELECT id, group_key, state FROM stripe_sync.incident ORDER BY id;

-- who may do what
SELECT t.raises($$ SELECT stripe_sync.set_slack_user('ada', 'act') $$), t.hint($$ SELECT stripe_sync.set_slack_user('@ada', 'act') $$);
SELECT id, t.raises(format('SELECT stripe_sync.set_slack_user(%L, %L)', id, may)) FROM (VALUES ('u123', 'act'), ('U', 'act'), ('U1/T1', 'act'), ('T1/', 'act'), ('/U1', 'act'), ('T1/S1', 'act'),
	('C1', 'act'), ('U1 ', 'act'), ('', 'act'), ('U' || repeat('1', 40), 'act'), ('U1', 'Act'), ('U1', ''), (NULL, 'act'), ('U1', NULL), ('U1''--', 'see')) v (id, may);
SELECT stripe_sync.set_slack_user('USEE', 'see'), stripe_sync.set_slack_user('UACT', 'act'), stripe_sync.set_slack_user('WADM', 'act'), stripe_sync.set_slack_user('WADM', 'administer'),
	stripe_sync.set_slack_user('UNO', 'nothing'), stripe_sync.set_slack_user('T2/UFAR', 'act');
SELECT slack_user, may, set_by = current_user AS by_me FROM stripe_sync.slack_user ORDER BY slack_user;
SELECT what, ref, detail, by = current_user AS by_me FROM stripe_sync.journal WHERE what = 'slack_user.set' ORDER BY id;

-- acknowledged once; the second is told by whom
SELECT first_press_at FROM stripe_sync.slack_app;
SELECT * FROM t.press('UACT', 'acknowledge', '1');
SELECT * FROM t.press('WADM', 'acknowledge', '1');
SELECT t.told();
SELECT * FROM t.interactions();
SELECT id, acknowledged_by, state FROM stripe_sync.incident WHERE id = 1;
SELECT incident, step, by, interaction FROM stripe_sync.incident_step ORDER BY id;
SELECT first_press_at IS NOT NULL AS pressed FROM stripe_sync.slack_app;

-- those who may not: nothing is done, and nothing told of what they may not see
SELECT * FROM t.press('UNEW', 'acknowledge', '2');
SELECT * FROM t.press('UNEW', 'trace', '2');
SELECT * FROM t.press('UNEW', 'trace', '999');
SELECT * FROM t.press('UNO', 'trace', '2');
SELECT * FROM t.press('USEE', 'resolve', '2');
SELECT * FROM t.press('USEE', 'snooze', '2:1h');
SELECT * FROM t.press('UACT', 'mute_finding', '2');
SELECT * FROM t.press('UACT', 'retry_event', '2');
SELECT * FROM t.press('UACT', 'retry_message', '2');
SELECT * FROM t.press('UACT', 'enable', '2');
SELECT * FROM t.press('UACT', 'reconcile', '2');
SELECT t.told();
SELECT * FROM t.interactions();
SELECT count(*) FROM stripe_sync.incident_step;

-- another workspace: by T.../U... alone
SELECT * FROM t.press('UACT', 'acknowledge', '2', 'T2');
SELECT * FROM t.press('UFAR', 'acknowledge', '2', 'T1');
SELECT * FROM t.press('UFAR', 'acknowledge', '2', 'T2');
SELECT t.told();
SELECT * FROM t.interactions();
SELECT acknowledged_by FROM stripe_sync.incident WHERE id = 2;
SELECT stripe_sync.set_slack_user('T1/UACT', 'nothing');
SELECT * FROM t.press('UACT', 'acknowledge', '3');
DELETE FROM stripe_sync.slack_user WHERE slack_user = 'T1/UACT';
SELECT t.told();
-- who is no person
SELECT p.* FROM (VALUES ('', 'T1'), ('uact', 'T1'), ('UACT', ''), ('UACT', 'T1/UACT'), ('''; DROP', 'T1'), (repeat('U', 100), 'T1')) v (u, team), t.press(u, 'acknowledge', '3', team) p;
SELECT told, count(*) FROM t.told() GROUP BY 1 ORDER BY 1;
SELECT status, error, count(*) FROM t.interactions() GROUP BY 1, 2;

-- user groups: the most that one of them may, unless the person has a row
INSERT INTO stripe_sync.slack_group_member (slack_group, app, slack_user) VALUES ('S1', 'default', 'UGRP'), ('S2', 'default', 'UGRP'), ('S1', 'default', 'UNO'), ('S3', 'default', 'UGRP'), ('S1', 'other', 'UELSE');
SELECT * FROM t.press('UGRP', 'acknowledge', '3');
SELECT stripe_sync.set_slack_user('S1', 'act'), stripe_sync.set_slack_user('S2', 'nothing');
SELECT * FROM t.press('UGRP', 'acknowledge', '3', 'T2');
SELECT * FROM t.press('UNO', 'acknowledge', '3');
SELECT * FROM t.press('UELSE', 'acknowledge', '3');
SELECT * FROM t.press('UGRP', 'acknowledge', '3');
SELECT t.told();
SELECT name, value, by, status, error FROM t.interactions();
SELECT acknowledged_by FROM stripe_sync.incident WHERE id = 3;

-- snooze
SELECT * FROM t.press('UACT', 'snooze', '4:1h');
SELECT snoozed_by, snoozed_until - now() BETWEEN '59 min' AND '61 min' AS an_hour FROM stripe_sync.incident WHERE id = 4;
SELECT * FROM t.press('WADM', 'snooze', '4:1d');
SELECT snoozed_by, snoozed_until - now() BETWEEN '23:59' AND '24:01' AS a_day FROM stripe_sync.incident WHERE id = 4;
SELECT * FROM t.press('UACT', 'snooze', '4:morning');
SELECT snoozed_until = (date_trunc('day', now() AT TIME ZONE r) + '33 h') AT TIME ZONE r AS morning FROM stripe_sync.incident, (SELECT reset_val FROM pg_settings WHERE name = 'TimeZone') s (r) WHERE id = 4;
INSERT INTO stripe_sync.quiet_hours (destination, days, from_time, to_time, zone, passes) VALUES ('ops', 'sat,sun', '00:00', '24:00', 'Pacific/Kiritimati', 'critical');
SELECT * FROM t.press('UACT', 'snooze', '4:morning');
SELECT snoozed_until = (date_trunc('day', now() AT TIME ZONE 'Pacific/Kiritimati') + '33 h') AT TIME ZONE 'Pacific/Kiritimati' AS there FROM stripe_sync.incident WHERE id = 4;
DELETE FROM stripe_sync.quiet_hours;
SELECT p.* FROM unnest('{4,4:,4:2h,4:1h:1h,4:1H}'::text[]) v, t.press('UACT', 'snooze', v) p;
SELECT t.told();
SELECT name, value, status, error FROM t.interactions();

-- resolve; then the message is a closed incident's
SELECT * FROM t.press('UACT', 'resolve', '5');
SELECT state, closed_by FROM stripe_sync.incident WHERE id = 5;
SELECT p.* FROM unnest('{resolve,acknowledge,snooze,retry_event,reconcile}'::text[]) a, t.press('WADM', a, '5') p;
SELECT t.told();
SELECT t.send('evt_16', 'invoice.paid', 16, t.invoice('in_6'));
SELECT * FROM t.press('UACT', 'resolve', '6');
SELECT t.told();
SELECT name, value, incident, status, error FROM t.interactions();

-- values that no button has
SELECT p.* FROM unnest(ARRAY['999', '', ' 1', '1 ', '-1', '+1', '1e1', '0x1', '1;DROP', '99999999999999999999', '999999999999999999', repeat('1', 5000), NULL, '1' || chr(8203)]) v, t.press('WADM', 'acknowledge', v) p;
SELECT told, count(*) FROM t.told() GROUP BY 1;
SELECT incident, status, error, count(*) FROM t.interactions() GROUP BY 1, 2, 3;
-- buttons that this version doesn't have, and the one that is a link
SELECT p.* FROM unnest('{open,"",Acknowledge,acknowledge.,acknowledg,drop}'::text[]) a, t.press('WADM', a, '1') p;
SELECT t.told();
SELECT name, status, error FROM t.interactions();

-- trace: as the person may, not as the role of the HTTP front
CREATE ROLE bot_front;
SELECT stripe_sync.grant_ingest('bot_front');
GRANT USAGE ON SCHEMA t TO bot_front;
GRANT ALL ON ALL TABLES IN SCHEMA t TO bot_front;
GRANT ALL ON ALL SEQUENCES IN SCHEMA t TO bot_front;
SELECT t.send('evt_20', 'customer.created', 20, '{"id":"cus_1","object":"customer","name":"Ada `Lovelace` <b>","email":"ada@example.com"}');
UPDATE stripe_sync.incident_record SET refs = '{"trace":"in_1","account":"","url":"https://dashboard.stripe.com/test/invoices/in_1"}' WHERE id = 1;
UPDATE stripe_sync.incident_record SET refs = '{"trace":"in_none","account":""}' WHERE id = 2;
UPDATE stripe_sync.incident_record SET refs = '{"trace":"in_1","account":"acct_2"}' WHERE id = 3;
SET ROLE bot_front;
SELECT * FROM t.press('USEE', 'trace', '1');
SELECT t.sqlstate('SELECT count(*) FROM stripe.customers'), t.sqlstate('SELECT stripe_sync.trace_text(''in_1'')');
RESET ROLE;
SELECT regexp_replace(b->'text'->>'text', ' *(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d|\+\d+\.\d s)|\d+ days', '<time>', 'g') AS block FROM stripe_sync.slack_call, jsonb_array_elements(payload->'blocks') b;
SELECT payload - 'blocks' AS rest FROM stripe_sync.slack_call;
DELETE FROM stripe_sync.slack_call;
SELECT * FROM t.press('USEE', 'trace', '2');
SELECT * FROM t.press('USEE', 'trace', '3');
SELECT * FROM t.press('USEE', 'trace', '4');
SELECT t.told();
SELECT name, incident, status, error FROM t.interactions();
DROP OWNED BY bot_front;
DROP ROLE bot_front;

-- the system's own alerts
SELECT stripe_sync.add_alert('failing', 'system.event_failed', 'ops', 'Failing');
CREATE TABLE t.broken AS SELECT true AS broken;
CREATE FUNCTION t.handle(event jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN IF (SELECT broken FROM t.broken) THEN RAISE 'as asked: ada@example.com'; END IF; END $$;
SELECT stripe_sync.add_handler('h', 'x', 't.handle');
SELECT t.send('evt_30', 'x', 30, '{}');
SELECT max(id) AS failing FROM stripe_sync.incident \gset
UPDATE stripe_sync.incident_record SET refs = '{"event":"evt_30","account":""}' WHERE id = :failing;
SELECT * FROM t.press('WADM', 'retry_event', :'failing');
UPDATE t.broken SET broken = false;
SELECT * FROM t.press('WADM', 'retry_event', :'failing');
SELECT * FROM t.press('WADM', 'retry_event', :'failing');
SELECT t.told();
SELECT status, attempts, todo FROM stripe_sync.event WHERE id = 'evt_30';
SELECT name, status, error FROM t.interactions();
-- what the incident is not about
SELECT p.* FROM unnest('{retry_message,enable,mute_finding}'::text[]) a, t.press('WADM', a, :'failing') p;
UPDATE stripe_sync.incident_record SET refs = '{"event":"evt_none","account":"","message":12345,"destination":"nowhere","finding":"no.such"}' WHERE id = :failing;
SELECT p.* FROM unnest('{retry_event,retry_message,enable,mute_finding,reconcile}'::text[]) a, t.press('WADM', a, :'failing') p;
SELECT t.told();
SELECT name, status, error FROM t.interactions();
SELECT stripe_sync.set_api_key('sk_test_1');
SELECT stripe_sync.disable_destination('ops', 'as asked');
UPDATE stripe_sync.message SET state = 'dead', settled_at = now() WHERE id = 1;
UPDATE stripe_sync.incident_record SET refs = '{"message":1,"destination":"ops","finding":"slack.backlog","reconcile":true}' WHERE id = :failing;
SELECT p.* FROM unnest('{retry_message,enable,mute_finding,reconcile}'::text[]) a, t.press('WADM', a, :'failing') p;
SELECT t.told();
SELECT name, status, error FROM t.interactions();
SELECT what, ref, regexp_replace(detail, '^until .*', 'until ...') AS detail, by FROM stripe_sync.journal WHERE by LIKE 'slack:%' ORDER BY id;
SELECT state FROM stripe_sync.message WHERE id = 1;
SELECT enabled FROM stripe_sync.destination WHERE name = 'ops';
SELECT key, until - now() BETWEEN '23:59' AND '24:01' AS a_day FROM stripe_sync.finding_mute;
SELECT kind, state FROM stripe_sync.job ORDER BY id;

-- what fails with an error of its own: told without it, and stored
UPDATE stripe_sync.incident_record SET refs = '{"trace":"in_1","account":""}' WHERE id = 4;
ALTER TABLE stripe_sync.incident_step ADD CONSTRAINT broken CHECK (step <> 'acknowledged') NOT VALID;
SELECT * FROM t.press('UACT', 'acknowledge', '4');
ALTER TABLE stripe_sync.incident_step DROP CONSTRAINT broken;
SELECT regexp_replace(told, '\d+', 'N') FROM t.told();
SELECT name, incident, status, error FROM t.interactions();
SELECT acknowledged_by FROM stripe_sync.incident WHERE id = 4;

-- the same request again: answered from what is stored, nothing is done twice
SELECT t.press_body('WADM', 'stripe_sync.reconcile', :'failing') AS body \gset
UPDATE stripe_sync.incident_record SET refs = '{"finding":"slack.backlog"}' WHERE id = :failing;
DELETE FROM stripe_sync.finding_mute;
SELECT t.press_body('WADM', 'stripe_sync.mute_finding', :'failing') AS body \gset
SELECT * FROM t.slack(:'body');
DELETE FROM stripe_sync.finding_mute;
SELECT * FROM t.slack(:'body');
SELECT count(*) FROM stripe_sync.finding_mute;
SELECT t.told();
SELECT count(*) FROM t.interactions();

-- one that is rolled back is done anew
SELECT t.press_body('UACT', 'stripe_sync.acknowledge', '4') AS body \gset
BEGIN;
SELECT * FROM t.slack(:'body');
ROLLBACK;
SELECT acknowledged_by FROM stripe_sync.incident WHERE id = 4;
SELECT * FROM t.slack(:'body');
SELECT acknowledged_by FROM stripe_sync.incident WHERE id = 4;

-- not from Slack
SELECT r.* FROM stripe_sync.receive_slack(:'body', t.slack_headers(:'body', secret => 'wrong')) r;
SELECT r.* FROM stripe_sync.receive_slack(:'body', t.slack_headers(:'body', '302 s')) r;
SELECT r.* FROM stripe_sync.receive_slack(:'body', '{}') r;
SELECT r.* FROM stripe_sync.receive_slack(NULL::text, NULL) r;
SELECT r.* FROM stripe_sync.receive_slack(:'body', t.slack_headers(:'body'), 'nobody') r;
SELECT * FROM t.slack('neither form nor JSON');
SELECT * FROM t.slack('{"type":"url_verification","challenge":"abc","token":"x"}');
SELECT * FROM t.slack('ssl_check=1&token=x');
SELECT count(*) FROM t.interactions();
-- nobody answers these
SELECT * FROM t.slack('payload=' || t.url_encoded('{"type":"view_closed","user":{"id":"UACT","team_id":"T1"},"team":{"id":"T1"},"view":{"callback_id":"x"}}'));
SELECT * FROM t.command('UACT', '/nobody', 'text');
SELECT kind, name, status FROM t.interactions();
