-- dashboard(): its structure, and that everything in it is escaped.
-- dashboard_text(): its shape.  A browser looks at the page in
-- test/tap/dashboard/chromium.pl.
\set tables '{customer,invoice}'
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.psql
\set ECHO none
\i :prelude
\set ECHO all
SET timezone = 'UTC';

-- What is in the page, by a regular expression.
CREATE FUNCTION t.found(pattern text) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT m[1] FROM regexp_matches(stripe_sync.dashboard(), pattern, 'g') AS m $$;
-- The shape of the text: are its lines few and short, and all characters printed?
CREATE FUNCTION t.shape(OUT lines boolean, OUT columns boolean, OUT printed boolean) LANGUAGE sql AS $$
	SELECT count(*) <= 24, max(length(line)) <= 80, bool_and(line !~ E'[\\x01-\\x1f\\x7f-\\x9f\\u202a-\\u202e]')
	  FROM string_to_table(stripe_sync.dashboard_text(), E'\n') AS line $$;

-- Nothing has happened yet: every section is there and says so.
SELECT t.found('<section id="(\w+)"');
SELECT t.found('<p class="nothing">([^<]*)') EXCEPT SELECT 'Nothing needs attention.' ORDER BY 1;
SELECT t.found('<meta http-equiv="Content-Security-Policy" content="([^"]*)');
SELECT t.found('<(script|link|img|iframe|object|form|a)[ >]');
SELECT DISTINCT t.found('(\y(?:src|href|action|on\w+)=)');
SELECT t.found('<html lang="([^"]*)'), count(*) AS titles FROM t.found('<title>[^<]*(stripe_sync)') GROUP BY 1;
SELECT count(*) AS charts FROM t.found('<svg class="chart" role="img"[^>]*><title (id)="[^>]*>[^<]+</title><desc [^>]*>[^<]+</desc>');
SELECT * FROM t.shape();

-- Events, an incident, a message, a failure
SELECT stripe_sync.add_slack_webhook('billing', 'https://hooks.slack.com/services/T0/B0/dashboardSecret') \g /dev/null
SELECT stripe_sync.add_alert('failed', 'invoice.payment_failed', 'billing', '*Payment failed* of {{customer_name}}', severity => 'critical');
CREATE FUNCTION t.broken(event jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE 'no <luck>'; END $$;
SELECT stripe_sync.add_handler('broken', 'customer.*', 't.broken');
SELECT t.send('evt_1', 'invoice.payment_failed', 1, '{"id":"in_1","object":"invoice","customer_name":"<b>Ada</b> & \"Co\""}');
SELECT t.send('evt_2', 'customer.updated', 2, '{"id":"cus_1","object":"customer"}');
SELECT t.found('<dt>([^<]*)</dt><dd><b>'), regexp_replace(t.found('<dt>[^<]*</dt><dd><b>([^<]*)'), '\d+ d', 'N d');
SELECT t.found('<p class="said"><bdi>(Payment[^\n]*)</bdi></p>');
SELECT t.found('<span class="type"><bdi>([^<]*)') AS type ORDER BY 1;
SELECT t.found('<pre class="error">([^<]*)');
SELECT count(*) FROM t.found('(<b>Ada)');
SELECT DISTINCT t.found('(dashboardSecret|whsec_|CONTEXT)');
SELECT regexp_replace(line, '\d\d:\d\d:\d\d|now    |\d s ago', 'TIME') FROM string_to_table(stripe_sync.dashboard_text(), E'\n') AS line WHERE line ~ 'critical|customer';
SELECT * FROM t.shape();

-- Names that are no names.  They are shown and do nothing.
CREATE FUNCTION t.hostile() RETURNS text LANGUAGE sql AS $$
	SELECT E'\'"><script>alert(1)</script></style></title><!-- " onload=x \x07\x1b[2J\u202e\n' || repeat('x', 3000) $$;
UPDATE stripe_sync.event SET type = t.hostile(), object_id = t.hostile(), endpoint = t.hostile(), error = t.hostile(), source = t.hostile() WHERE id = 'evt_1';
UPDATE stripe_sync.incident_record SET alert = t.hostile(), text = t.hostile(), destination = t.hostile(), severity = t.hostile();
INSERT INTO stripe_sync.destination (name, kind, enabled, disabled_reason) VALUES (t.hostile(), 'webhook', false, t.hostile());
INSERT INTO stripe_sync.refusal_record VALUES (t.hostile(), 'SY002', 7, now(), now(), t.hostile());
INSERT INTO stripe_sync.job_record (kind, state, error) VALUES (t.hostile(), t.hostile(), t.hostile());
SELECT DISTINCT t.found('(<script|</style>[^[:space:]]|</title>[^[:space:]<]|<!--|<[^>]* onload)');
SELECT t.found('<section id="(\w+)"') EXCEPT SELECT unnest('{findings,figures,charts,incidents,destinations,events,refusals,jobs}'::text[]);
SELECT length(stripe_sync.dashboard()) < 100000 AS bounded;
SELECT * FROM t.shape();

-- Times are in the session's time zone.
SET timezone = 'Asia/Kolkata';
SELECT stripe_sync.dashboard() ~ '<time datetime="\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ">\d{4}-\d\d-\d\d \d\d:\d\d:\d\d IST</time>' AS page,
	stripe_sync.dashboard_text() ~ '\d\d:\d\d:\d\d IST$|\d\d:\d\d:\d\d IST\n' AS screen;
SET timezone = 'UTC';

-- Paused: both say so, and how to end it.
SELECT stripe_sync.pause();
SELECT DISTINCT t.found('<p class="note">(.*?)</p>');
SELECT stripe_sync.resume();

-- more events in ten minutes than are read: rates are at least those shown
BEGIN;
INSERT INTO stripe_sync.event (id, account, type, received_at, source, status, todo, attempts, payload)
SELECT 'evt_burst' || i, '', 'x', now(), 'webhook', 'ignored', '{}', 0, '{}' FROM generate_series(1, 100001) i;
SELECT stripe_sync.dashboard() ~ 'More than 100,000 events were received in the last ten minutes' AS page, stripe_sync.dashboard_text() ~ '\nevents/min .* ≥ [0-9,]+ now' AS screen;
ROLLBACK;

-- Rights
SET client_min_messages = warning;
CREATE ROLE regress_dashboard_reader;
CREATE ROLE regress_dashboard_nobody;
GRANT USAGE ON SCHEMA stripe_sync TO regress_dashboard_nobody;
SELECT stripe_sync.grant_read('regress_dashboard_reader');
SET ROLE regress_dashboard_nobody;
SELECT stripe_sync.dashboard();
SELECT stripe_sync.dashboard_text();
SET ROLE regress_dashboard_reader;
SELECT stripe_sync.dashboard() ~ '^<!DOCTYPE html>.*</html>\n$' AS page, stripe_sync.dashboard_text() ~ '^stripe_sync ' AS screen;
RESET ROLE;
SELECT stripe_sync.revoke_all('regress_dashboard_reader');
DROP OWNED BY regress_dashboard_nobody;
DROP ROLE regress_dashboard_reader, regress_dashboard_nobody;
