-- Deliveries that are refused leave a trace.  (Without the preload: webhook() notes them itself.)
\set tables '{customer}'
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.psql
\set ECHO none
\i :prelude
\set ECHO all
-- An event as Stripe writes it: on several lines.
CREATE FUNCTION t.pretty(id text, livemode boolean DEFAULT false) RETURNS text LANGUAGE sql AS $$
	SELECT jsonb_pretty(t.event(id, 'customer.created', 1, '{"id":"cus_1","object":"customer"}', livemode => livemode)::jsonb)
$$;
CREATE FUNCTION t.post(payload text, endpoint text DEFAULT 'default', secret text DEFAULT t.secret(), age interval DEFAULT '0', header text DEFAULT '',
	OUT http_status int, OUT body jsonb) LANGUAGE sql AS $$
	SELECT w.http_status, w.body FROM stripe_sync.webhook(payload,
		jsonb_build_object('Stripe-Signature', coalesce(nullif(header, ''), stripe_sync.sign(payload, secret, clock_timestamp() - age))), endpoint) w
$$;
-- What is known of refusals; what hangs on the clock is left out.
CREATE FUNCTION t.refusals() RETURNS TABLE (endpoint text, code text, events bigint, detail text) LANGUAGE sql AS $$
	SELECT endpoint, code, events, regexp_replace(last_detail, ' \d+ seconds| at \d{4}-.*', ' TIME', 'g') FROM stripe_sync.refusal ORDER BY endpoint, code
$$;
-- A minute later, or more: what webhook() has written is that old.
CREATE FUNCTION t.later(by interval) RETURNS void LANGUAGE sql AS $$
	UPDATE stripe_sync.refusal_record SET first_at = first_at - by, last_at = last_at - by, logged_at = logged_at - by;
	UPDATE stripe_sync.refusal_watch SET likely = ARRAY(SELECT l - by FROM unnest(likely) l), live_at = live_at - by, no_secret_at = no_secret_at - by,
		accepted_at = accepted_at - by, told_at = told_at - by;
	UPDATE stripe_sync.event SET received_at = received_at - by;
	UPDATE stripe_sync.alerted SET created = created - by;
$$;
SELECT stripe_sync.add_endpoint(name, secret, account => account) FROM (VALUES ('live', 'whsec_live', 'other'), ('sandbox', 'whsec_sandbox', 'sandbox'), ('unreadable', 'file:/nonexistent/stripe_sync_secret', 'unreadable')) v (name, secret, account) \g /dev/null
CREATE FUNCTION t.set_mode(text, boolean) RETURNS void LANGUAGE sql AS $$ UPDATE stripe_sync.endpoint SET livemode = $2 WHERE name = $1 $$;
SELECT t.set_mode('live', true), t.set_mode('sandbox', false) \g /dev/null

-- what is accepted leaves none
SELECT * FROM t.post(t.pretty('evt_1'));
SELECT * FROM t.refusals();

-- what the developer is told: without a signature, with one that is cut off
SELECT b.http_status, k, v FROM stripe_sync.webhook(t.pretty('evt_2'), '{}') b, jsonb_each_text(b.body) e (k, v) ORDER BY k;
SELECT b.http_status, k, v FROM t.post(t.pretty('evt_2'), header => 't=1735689600') b, jsonb_each_text(b.body) e (k, v) ORDER BY k;
-- parsed and written again: no newline is left
SELECT b.http_status, k, v FROM t.post(t.pretty('evt_2')::jsonb::text, secret => 'whsec_of_nobody') b, jsonb_each_text(b.body) e (k, v) ORDER BY k;
SELECT detail FROM t.refusals() WHERE code = 'SY002';
-- not rewritten, so the secret is another
-- (each session tries at once)
\set QUIET on
\c -
SET client_min_messages = warning;
\set QUIET off
SELECT b.http_status, k, v FROM t.post(t.pretty('evt_2'), secret => 'whsec_of_nobody') b, jsonb_each_text(b.body) e (k, v) ORDER BY k;
SELECT detail FROM t.refusals() WHERE code = 'SY002';
-- another endpoint's: its name is in the view alone
-- (each session tries at once)
\set QUIET on
\c -
SET client_min_messages = warning;
\set QUIET off
SELECT b.http_status, k, v FROM t.post(t.pretty('evt_2'), secret => 'whsec_live') b, jsonb_each_text(b.body) e (k, v) ORDER BY k;
SELECT detail FROM t.refusals() WHERE code = 'SY002';
-- others' secrets are tried once a second at most
SELECT clock_timestamp() AS began \gset
SELECT count(*) FILTER (WHERE body->>'hint' ~ 'another endpoint') BETWEEN 0 AND 1 + extract(epoch FROM clock_timestamp() - :'began'::timestamptz) AS at_most
  FROM generate_series(1, 50) i, t.post(t.pretty('evt_' || i), secret => 'whsec_live');
-- and only of bodies up to 64 kB
-- (each session tries at once)
\set QUIET on
\c -
SET client_min_messages = warning;
\set QUIET off
SELECT length(p) > 65536 AS long, body->>'hint' AS hint FROM (SELECT t.pretty('evt_2') || repeat(E' \n', 33000)) p (p), t.post(p, secret => 'whsec_live');
-- one that has lapsed: that is in the view alone
SELECT stripe_sync.rotate_endpoint_secret('sandbox', 'whsec_sandbox2', '0') \g /dev/null
SELECT count(*) AS lapsed FROM stripe_sync.endpoint_secret WHERE endpoint = 'sandbox' AND lapses_at IS NOT NULL;
INSERT INTO stripe_sync.endpoint_secret VALUES ('sandbox', 0, 'whsec_sandbox', now() - interval '1 hour');
-- (each session tries at once)
\set QUIET on
\c -
SET client_min_messages = warning;
\set QUIET off
SELECT body->>'hint' AS hint FROM t.post(t.pretty('evt_2'), 'sandbox', 'whsec_sandbox');
-- too old; no event
SELECT b.http_status, k, v FROM t.post(t.pretty('evt_2'), age => '1 hour') b, jsonb_each_text(b.body) e (k, v) ORDER BY k;
SELECT b.http_status, k, v FROM t.post('{"no": "event"}') b, jsonb_each_text(b.body) e (k, v) ORDER BY k;
-- the wrong mode: 200, and which came and which is taken
SELECT b.http_status, k, v FROM t.post(t.pretty('evt_2', true), 'sandbox', 'whsec_sandbox2') b, jsonb_each_text(b.body) e (k, v) ORDER BY k;
SELECT b.http_status, k, v FROM t.post(t.pretty('evt_2', false), 'live', 'whsec_live') b, jsonb_each_text(b.body) e (k, v) ORDER BY k;
-- what is ours to mend isn't told
SELECT b.http_status, k, v FROM t.post(t.pretty('evt_2'), 'unreadable') b, jsonb_each_text(b.body) e (k, v) ORDER BY k;
-- however many names no endpoint has, they are one row, and a line is a line
SELECT count(*) FROM generate_series(1, 200) i, t.post(t.pretty('evt_2'), 'nowhere ' || i);
SELECT http_status FROM t.post(t.pretty('evt_2'), E'line\nLOG:  forged' || repeat('ä', 300));
-- receive() raises
SELECT t.raises($$ SELECT stripe_sync.receive('{}'::text, 't=1,v1=00') $$);
SELECT * FROM t.refusals();
SELECT max(octet_length(last_detail)) <= 255 AS short FROM stripe_sync.refusal;

-- what another session sees: each endpoint and code was written once; the next minute has the rest
\set QUIET on
\c -
SET client_min_messages = warning;
\set QUIET off
SELECT endpoint, code, events FROM t.refusals() WHERE code IN ('SY002', 'SY005') ORDER BY 1, 2;
SELECT t.later('2 minutes');
SELECT count(*) FROM generate_series(1, 5) i, t.post(t.pretty('evt_' || i), secret => 'whsec_of_nobody');
SELECT endpoint, code, events FROM stripe_sync.refusal_record WHERE code = 'SY002' AND endpoint = 'default';
SELECT endpoint, code, events, last_at > first_at AS later FROM stripe_sync.refusal WHERE code = 'SY002' AND endpoint = 'default';
SELECT t.later('2 minutes');
SELECT http_status FROM t.post(t.pretty('evt_2'), secret => 'whsec_of_nobody');
SELECT endpoint, code, events FROM stripe_sync.refusal_record WHERE code = 'SY002' AND endpoint = 'default';
SELECT count(*) AS events_stored FROM stripe_sync.event;
-- what receive() refuses is written with the next of webhook(), for it raises itself
SELECT t.raises($$ SELECT stripe_sync.receive('{}'::text, 'x', 'sandbox') $$);
SELECT (SELECT count(*) FROM stripe_sync.refusal_record r WHERE r.endpoint = v.endpoint AND r.code = v.code) AS written, v.events FROM stripe_sync.refusal v WHERE endpoint = 'sandbox' AND code = 'SY001';
SELECT http_status FROM t.post(t.pretty('evt_2'), 'live', age => '1 hour', secret => 'whsec_live');
SELECT endpoint, code, events FROM stripe_sync.refusal_record WHERE endpoint = 'sandbox' AND code = 'SY001';
-- in a transaction that only reads nothing is written, and the answer is the same
BEGIN READ ONLY;
SELECT http_status, body->>'code' AS code FROM t.post(t.pretty('evt_2'), secret => 'whsec_of_nobody');
COMMIT;
-- at every isolation level
SELECT t.later('2 minutes');
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT http_status, body->>'code' AS code FROM t.post(t.pretty('evt_2'), secret => 'whsec_of_nobody');
COMMIT;
SELECT events FROM stripe_sync.refusal_record WHERE code = 'SY002' AND endpoint = 'default';

-- what can't be written is answered all the same, and written later
SELECT t.later('2 minutes');
ALTER TABLE stripe_sync.refusal_record ADD CONSTRAINT none CHECK (code <> 'SY003') NOT VALID;
SELECT http_status, body->>'code' AS code FROM t.post(t.pretty('evt_2'), age => '1 hour');
SELECT events FROM stripe_sync.refusal_record WHERE code = 'SY003' AND endpoint = 'default';
ALTER TABLE stripe_sync.refusal_record DROP CONSTRAINT none;
SELECT http_status, body->>'code' AS code FROM t.post(t.pretty('evt_2'), age => '1 hour');
SELECT events FROM stripe_sync.refusal_record WHERE code = 'SY003' AND endpoint = 'default';

-- the log has a line an hour for each endpoint and reason
SELECT t.later('2 hours');
\set QUIET on
\c -
SET client_min_messages = warning;
\set QUIET off
SET client_min_messages = log;
SELECT http_status FROM t.post(t.pretty('evt_2'), secret => 'whsec_of_nobody');
SELECT http_status FROM t.post(t.pretty('evt_2'), secret => 'whsec_of_nobody');
SELECT http_status FROM t.post(t.pretty('evt_2'), 'nowhere');
SELECT http_status FROM t.post(t.pretty('evt_2'), 'elsewhere');
SELECT http_status FROM t.post(t.pretty('evt_2', true), 'sandbox', 'whsec_sandbox2');
SELECT http_status FROM t.post(t.pretty('evt_2'), 'unreadable');
-- (whichever session it is)
\set QUIET on
\c -
SET client_min_messages = warning;
\set QUIET off
SELECT t.later('2 minutes');
SET client_min_messages = log;
SELECT http_status FROM t.post(t.pretty('evt_2'), secret => 'whsec_of_nobody');
SELECT t.later('59 minutes');
\set QUIET on
\c -
SET client_min_messages = warning;
\set QUIET off
SET client_min_messages = log;
SELECT http_status FROM t.post(t.pretty('evt_2'), secret => 'whsec_of_nobody');
SET client_min_messages = warning;

-- ---- alerts ----
SELECT stripe_sync.pause('slack'), stripe_sync.add_slack_webhook('ops', 'https://hooks.slack.com/services/T0/B0/tOkEn') \g /dev/null
SELECT count(*) FROM stripe_sync.add_default_alerts('ops') WHERE add_default_alerts = 'deliveries_refused';
-- A minute's look of the worker's; tells what there is to tell now.
CREATE TABLE t.seen (id bigint PRIMARY KEY);
CREATE FUNCTION t.told() RETURNS SETOF text LANGUAGE sql AS $$
	WITH new AS (INSERT INTO t.seen SELECT id FROM stripe_sync.message ON CONFLICT DO NOTHING RETURNING id)
	SELECT payload->>'text' FROM stripe_sync.message JOIN new USING (id) ORDER BY id
$$;
CREATE FUNCTION t.start() RETURNS void LANGUAGE sql AS $$
	TRUNCATE stripe_sync.refusal_record, stripe_sync.refusal_watch, stripe_sync.incident_record, stripe_sync.alerted
$$;
-- Refused deliveries that look like Stripe's, so far apart.
CREATE FUNCTION t.refused(n int, apart interval, endpoint text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1 .. n LOOP
		PERFORM t.later(apart);
		PERFORM t.post(t.pretty('evt_3'), endpoint, 'whsec_of_nobody');
	END LOOP;
END $$;
SELECT t.start();
-- scanners are no news
SELECT count(*) FROM generate_series(1, 10) i, stripe_sync.webhook('GET /wp-login.php'::text, jsonb_build_object('stripe-signature', i));
-- nor test events at a live endpoint
SELECT count(*) FROM generate_series(1, 10) i, t.post(t.pretty('evt_t' || i), 'live', 'whsec_live');
CALL stripe_sync.work('1 second');
SELECT * FROM t.told();
-- two that look like Stripe's are none yet
SELECT t.start(), t.refused(2, '2 minutes', 'live');
CALL stripe_sync.work('1 second');
SELECT * FROM t.told();
-- the third within an hour is
SELECT t.refused(1, '55 minutes', 'live');
CALL stripe_sync.work('1 second');
SELECT * FROM t.told();
SELECT endpoint, cardinality(likely) AS likely, likely_code, told FROM stripe_sync.refusal_watch;
-- it is told once in a day
SELECT t.later('2 hours'), t.refused(3, '2 minutes', 'live');
CALL stripe_sync.work('1 second');
SELECT * FROM t.told();
-- closed when events are accepted again
SELECT body->>'status' AS status FROM t.post(t.pretty('evt_4', true), 'live', 'whsec_live');
CALL stripe_sync.work('1 second');
SELECT * FROM t.told();
SELECT alert, group_key, severity, state FROM stripe_sync.incident;
SELECT told FROM stripe_sync.refusal_watch;
-- none of the last hour was accepted: that is part of it
SELECT t.later('2 days');
SELECT body->>'status' AS status FROM t.post(t.pretty('evt_5', true), 'live', 'whsec_live');
SELECT t.refused(3, '2 minutes', 'live');
CALL stripe_sync.work('1 second');
SELECT * FROM t.told();
SELECT t.later('55 minutes');
CALL stripe_sync.work('1 second');
SELECT * FROM t.told();
-- three within more than an hour are not
SELECT t.start(), t.refused(3, '40 minutes', 'live');
CALL stripe_sync.work('1 second');
SELECT * FROM t.told();

-- one live event refused by mode is enough, whatever else is accepted
SELECT t.start();
SELECT body->>'status' AS status FROM t.post(t.pretty('evt_6', true), 'sandbox', 'whsec_sandbox2');
SELECT body->>'status' AS status FROM t.post(t.pretty('evt_7'), 'sandbox', 'whsec_sandbox2');
CALL stripe_sync.work('1 second');
SELECT * FROM t.told();
-- events of test mode don't end it, while that is what the endpoint takes
SELECT body->>'status' AS status FROM t.post(t.pretty('evt_8'), 'sandbox', 'whsec_sandbox2');
CALL stripe_sync.work('1 second');
SELECT * FROM t.told();
SELECT t.set_mode('sandbox', true) \g /dev/null
SELECT body->>'status' AS status FROM t.post(t.pretty('evt_6', true), 'sandbox', 'whsec_sandbox2');
CALL stripe_sync.work('1 second');
SELECT * FROM t.told();
-- no secret to be used
SELECT t.start();
SELECT body->>'code' AS code FROM t.post(t.pretty('evt_9'), 'unreadable');
CALL stripe_sync.work('1 second');
SELECT * FROM t.told();
-- names that no endpoint has; over when others are accepted and none has come for an hour
SELECT t.start(), t.refused(3, '2 minutes', 'prod');
CALL stripe_sync.work('1 second');
SELECT * FROM t.told();
SELECT body->>'status' AS status FROM t.post(t.pretty('evt_10'));
CALL stripe_sync.work('1 second');
SELECT * FROM t.told();
SELECT t.later('1 hour');
SELECT body->>'status' AS status FROM t.post(t.pretty('evt_11'));
CALL stripe_sync.work('1 second');
SELECT * FROM t.told();
-- while no alert wants to know nothing counts as told
SELECT t.start(), stripe_sync.drop_alert('deliveries_refused');
SELECT body->>'code' AS code FROM t.post(t.pretty('evt_9'), 'unreadable');
CALL stripe_sync.work('1 second');
SELECT told FROM stripe_sync.refusal_watch;
SELECT count(*) > 10 AS added FROM stripe_sync.add_default_alerts('ops');
CALL stripe_sync.work('1 second');
SELECT * FROM t.told();

-- pruned when the last is that old
SELECT t.later('100 days'), stripe_sync.prune() >= 0 AS pruned;
SELECT count(*) FROM stripe_sync.refusal;

-- readers see it; who hands in deliveries doesn't
CREATE ROLE regress_refusal_web;
CREATE ROLE regress_refusal_reader;
SELECT stripe_sync.grant_ingest('regress_refusal_web'), stripe_sync.grant_read('regress_refusal_reader') \g /dev/null
SET ROLE regress_refusal_web;
SELECT http_status, body->>'code' AS code FROM stripe_sync.webhook('x'::text, '{}');
SELECT t.sqlstate('SELECT * FROM stripe_sync.refusal');
SET ROLE regress_refusal_reader;
SELECT endpoint, code, events FROM stripe_sync.refusal;
RESET ROLE;
SELECT stripe_sync.revoke_all('regress_refusal_web'), stripe_sync.revoke_all('regress_refusal_reader') \g /dev/null
REVOKE USAGE ON SCHEMA t FROM regress_refusal_web;
DROP ROLE regress_refusal_web, regress_refusal_reader;

-- An endpoint without a mode keeps that of its first event.  One of the other is
-- stored and ignored; it is counted, and a live one is told of.
SELECT stripe_sync.add_endpoint('learns', 'whsec_learns', account => 'learns') \g /dev/null
SELECT body->>'status' AS status FROM t.post(t.pretty('evt_l1'), 'learns', 'whsec_learns');
SELECT body->>'status' AS status FROM t.post(t.pretty('evt_l2', true), 'learns', 'whsec_learns');
SELECT code, events, detail FROM t.refusals() WHERE endpoint = 'learns';
SELECT live_at IS NOT NULL AS live_came FROM stripe_sync.refusal_watch WHERE endpoint = 'learns';
SELECT id, status FROM stripe_sync.event WHERE endpoint = 'learns' ORDER BY id;

-- In a copy nothing is written of them: a restore may be bringing the same rows.
UPDATE stripe_sync.identity SET system_identifier = system_identifier + 1;
SELECT http_status FROM t.post(t.pretty('evt_copy'), 'learns', 'whsec_of_nobody');
SELECT count(*) AS written FROM stripe_sync.refusal_record WHERE endpoint = 'learns' AND code = 'SY002';
SELECT events FROM stripe_sync.refusals() WHERE endpoint = 'learns' AND code = 'SY002';
