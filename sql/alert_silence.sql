-- An endpoint of which no event has come for longer than usual is noticed, once.
\set tables '{customer}'
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.psql
\set ECHO none
\i :prelude
\set ECHO all
-- Events that came to an endpoint: one every so often, the last so long ago.
-- (One time for all of a transaction, so that gaps are whole.)
CREATE SEQUENCE t.n;
CREATE FUNCTION t.came(endpoint text, count int, every interval, until interval, source text DEFAULT 'webhook') RETURNS void LANGUAGE sql AS $$
	INSERT INTO stripe_sync.event (id, account, type, endpoint, received_at, source, status, todo, attempts, payload)
	SELECT 'evt_' || nextval('t.n'), '', 'x', endpoint, now() - until - every * i, source, 'ignored', '{}', 1, '{}' FROM generate_series(0, count - 1) i
$$;
CREATE FUNCTION t.check() RETURNS TABLE (endpoint text, usual interval, since interval) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM stripe_sync.silence_check();
	RETURN QUERY SELECT s.endpoint, s.usual, date_trunc('hour', clock_timestamp() - s.since) FROM stripe_sync.silence s WHERE s.since IS NOT NULL ORDER BY 1;
END $$;
-- Make what is known of endpoints older.
CREATE FUNCTION t.shift(endpoints text[], by interval) RETURNS void LANGUAGE sql AS $$
	UPDATE stripe_sync.pulse SET last_at = last_at - by, longest_gap = least(longest_gap, '1 hour') WHERE endpoint = ANY (endpoints)
$$;
SELECT count(stripe_sync.add_endpoint(name, 'whsec_x')) AS endpoints FROM unnest('{busy,resting,few,young,fetched,dropped,old,new}'::text[]) name;

-- nothing ever came: nothing to say
SELECT * FROM t.check();
-- an event every hour for ten days
SELECT t.came('busy', 240, '1 hour', '2 hours 5 minutes');
-- the same, and not yet for twice as long
SELECT t.came('resting', 240, '1 hour', '1 hour 55 minutes');
-- quiet ones: fewer than 100 events, fewer than three days, none of eight days ago, all of them older than two weeks
SELECT t.came('few', 99, '2 hours', '4 days'), t.came('new', 1000, '10 minutes', '5 hours'), t.came('young', 1000, '1 minute', '5 hours'), t.came('old', 1000, '1 hour', '15 days');
-- what the worker reads from Stripe says nothing of deliveries
SELECT t.came('fetched', 240, '1 hour', '3 hours'), t.came('fetched', 10, '1 hour', '1 minute', 'reconcile');
SELECT t.came('dropped', 240, '1 hour', '3 hours'), stripe_sync.drop_endpoint('dropped'), t.came(NULL, 240, '1 hour', '3 hours');
SELECT * FROM t.check();
-- said once
SELECT noticed_at AS noticed FROM stripe_sync.silence WHERE endpoint = 'busy' \gset
SELECT * FROM t.check();
SELECT noticed_at = :'noticed' AS unchanged FROM stripe_sync.silence WHERE endpoint = 'busy';
-- what is known, day by day; nothing is counted twice
SELECT endpoint, sum(events) AS events, max(longest_gap) AS longest_gap, count(*) AS days FROM stripe_sync.pulse WHERE endpoint IN ('busy', 'resting') GROUP BY 1 ORDER BY 1;
SELECT count(*) FROM stripe_sync.pulse WHERE endpoint = 'old';

-- an event comes: it is over, and the silence is usual from now on
SELECT t.came('busy', 1, '0', '0');
SELECT * FROM t.check();
SELECT sum(events) AS events, date_trunc('hour', max(longest_gap)) AS longest_gap FROM stripe_sync.pulse WHERE endpoint = 'busy';
SELECT t.came('fetched', 3, '0', '0');
SELECT * FROM t.check();
-- silent once more; an endpoint that is dropped is forgotten
SELECT t.shift('{busy,resting}', '4 hours');
SELECT endpoint, usual FROM t.check();
SELECT stripe_sync.drop_endpoint('resting');
SELECT endpoint FROM t.check();
-- never sooner than a quarter of an hour, however busy
-- (the history of an endpoint that is new is read back to its beginning)
SELECT stripe_sync.add_endpoint('brisk', 'whsec_x'), t.came('brisk', 12000, '1 minute', '14 minutes');
SELECT endpoint FROM t.check();
SELECT t.shift('{brisk}', '2 minutes');
SELECT endpoint, usual FROM t.check();

-- the server has been down: half an hour and twice the usual are waited for
UPDATE stripe_sync.silence SET since = NULL;
SELECT count(stripe_sync.add_endpoint(name, 'whsec_x')) FROM unnest('{hourly,lively}'::text[]) name;
SELECT t.came('hourly', 240, '1 hour', '5 hours'), t.came('lively', 1300, '10 minutes', '5 hours');
SELECT endpoint FROM t.check();
UPDATE stripe_sync.silence SET server_start = server_start - interval '1 day';
UPDATE stripe_sync.silence SET since = NULL;
SELECT endpoint FROM t.check();
SELECT endpoint, server_start = pg_postmaster_start_time() AND up_since = server_start AS noticed FROM stripe_sync.silence WHERE endpoint = 'lively';
CREATE FUNCTION t.up(name text, ago interval) RETURNS text LANGUAGE sql AS $$
	UPDATE stripe_sync.silence SET since = NULL, up_since = clock_timestamp() - ago WHERE endpoint = name;
	SELECT (SELECT count(*) FROM t.check() c WHERE c.endpoint = name) || ' silent'
$$;
SELECT name, minutes, t.up(name, make_interval(mins => minutes)) FROM (VALUES ('lively', 1), ('lively', 29), ('lively', 31), ('hourly', 31), ('hourly', 119), ('hourly', 121)) v (name, minutes);
-- and what was missed meanwhile is not usual
SELECT t.up('hourly', '10 minutes'), t.up('lively', '5 minutes'), t.came('hourly', 1, '0', '0'), t.came('lively', 1, '0', '0');
SELECT endpoint FROM t.check();
SELECT endpoint, date_trunc('minute', max(longest_gap)) AS longest_gap FROM stripe_sync.pulse WHERE endpoint IN ('hourly', 'lively') GROUP BY 1 ORDER BY 1;

-- days are spans of 24 hours, whatever the hour is now
TRUNCATE stripe_sync.silence, stripe_sync.pulse, stripe_sync.event;
SELECT count(stripe_sync.add_endpoint(name, 'whsec_x')) FROM unnest('{week,nearly_week,three_days,two_days,aged}'::text[]) name;
-- eight days and an hour back to the first event, and an hour less than eight
SELECT t.came('week', 189, '1 hour', '5 hours'), t.came('nearly_week', 187, '1 hour', '5 hours');
-- events on three days, the last of them just begun, and on two that are nearly over
SELECT t.came('three_days', 146, '20 minutes', '149 hours'), t.came('two_days', 144, '20 minutes', '149 hours');
-- six hours without an event, nearly two weeks ago, are usual
SELECT t.came('aged', 1, '0', '334 hours'), t.came('aged', 324, '1 hour', '5 hours');
SELECT endpoint, usual FROM t.check();
SELECT endpoint, count(*) AS days, min(day) = min(first_at) AS from_the_first FROM stripe_sync.pulse GROUP BY 1 ORDER BY 1;
-- and no longer when that day began more than two weeks ago
BEGIN;
UPDATE stripe_sync.event SET received_at = received_at - interval '12 hours';
UPDATE stripe_sync.pulse SET day = day - interval '12 hours', first_at = first_at - interval '12 hours', last_at = last_at - interval '12 hours';
COMMIT;
SELECT endpoint, usual FROM t.check() WHERE endpoint = 'aged';

-- real deliveries, simulated ones and redeliveries
TRUNCATE stripe_sync.silence, stripe_sync.pulse, stripe_sync.event;
SELECT t.send('evt_a', 'customer.created', 1, '{"id":"cus_1","object":"customer"}'), t.send('evt_a', 'customer.created', 1, '{"id":"cus_1","object":"customer"}');
SELECT status FROM stripe_sync.simulate('customer.created', '{"id":"cus_2","object":"customer"}');
SELECT count(*) AS silent FROM t.check();
SELECT endpoint, events, longest_gap < interval '1 minute' AS short, last_at = (SELECT max(received_at) FROM stripe_sync.event) AS last FROM stripe_sync.pulse;
-- nobody else's to call
CREATE ROLE regress_silence_admin;
SELECT stripe_sync.grant_admin('regress_silence_admin');
SELECT has_function_privilege('regress_silence_admin', 'stripe_sync.silence_check()', 'EXECUTE') AS admin_may;
SELECT stripe_sync.revoke_all('regress_silence_admin');
DROP ROLE regress_silence_admin;
