-- A webhook endpoint is asked for: what is refused at once, and what the job
-- says.  What the worker does with it: test/tap/endpoints/webhook_endpoint.pl.
\set tables '{customer}'
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.psql
\set ECHO none
\i :prelude
\set ECHO all
-- nothing is asked of Stripe here
SELECT stripe_sync.pause('stripe');
-- without a key
SELECT t.raises($$SELECT stripe_sync.create_webhook_endpoint('https://shop.example/hook')$$);
SELECT stripe_sync.set_api_key('rk_test_x');
SELECT (next_at - clock_timestamp()) BETWEEN '50 s' AND '60 s' AS soon, read_at, error FROM stripe_sync.endpoint_watch;
-- another key brings it forward, none leaves it alone
UPDATE stripe_sync.endpoint_watch SET next_at = next_at + interval '1 day';
SELECT stripe_sync.set_api_key(NULL);
SELECT next_at > clock_timestamp() + interval '23 h' AS as_before FROM stripe_sync.endpoint_watch;
SELECT stripe_sync.set_api_key('rk_test_x');
SELECT (next_at - clock_timestamp()) BETWEEN '50 s' AND '60 s' AS soon FROM stripe_sync.endpoint_watch;

-- URLs that no endpoint can have
SELECT left(url, 40) AS url, t.raises(format('SELECT stripe_sync.create_webhook_endpoint(%L)', url)) FROM (VALUES
	(NULL), (''), ('shop.example/hook'), ('http://shop.example/hook'), ('ftp://shop.example/hook'), ('https://'), ('https://user:password@shop.example/hook'),
	('https://shop.example/hook#there'), ('https://shop.example/a hook'), (E'https://shop.example/\r\nX: y'), ('https://shop.example/' || repeat('x', 2000)),
	('HTTP://shop.example/hook'), ('javascript:alert(1)')) v (url);
SELECT stripe_sync.create_webhook_endpoint('http://shop.example/hook');

-- types that there are none of
SELECT types, t.raises(format('SELECT stripe_sync.create_webhook_endpoint(%L, %L)', 'https://shop.example/hook', types)) FROM (VALUES
	('{}'::text[]), ('{NULL}'), ('{invoice.paid,NULL}'), ('{invoice}'), ('{invoice.*}'), ('{invoice.paid,no.such}'), ('{*,invoice.paid}'), ('{*,*}'), ('{""}'), ('{system.silence}'), ('{" invoice.paid"}')) v (types);
SELECT t.sqlstate($$SELECT stripe_sync.create_webhook_endpoint('https://shop.example/hook', array_fill('invoice.paid'::text, '{1001}'))$$);
SELECT count(*) AS jobs FROM stripe_sync.job;

-- a job, and what it will say to Stripe
CREATE VIEW t.asked AS SELECT kind, state, arguments - 'idempotency_key' - 'description' AS arguments, arguments ->> 'idempotency_key' ~ '^stripe_sync-[0-9a-f-]{36}$' AS has_key, result FROM stripe_sync.job ORDER BY id;
SELECT stripe_sync.create_webhook_endpoint('https://shop.example/hook', '{invoice.paid,customer.created}') > 0 AS job;
SELECT * FROM t.asked;
-- one that waits is joined
SELECT stripe_sync.create_webhook_endpoint('https://shop.example/hook') = max(id) AS joined FROM stripe_sync.job;
SELECT stripe_sync.create_webhook_endpoint('https://shop.example/hook', '{customer.created,invoice.paid}') = max(id) AS joined FROM stripe_sync.job;
SELECT t.sqlstate($$SELECT stripe_sync.create_webhook_endpoint('https://shop.example/hook', '{invoice.paid}')$$);
SELECT count(stripe_sync.create_webhook_endpoint('HTTPS://shop.example/' || n, '{*}')) AS others FROM generate_series(1, 3) n;
SELECT count(*) AS jobs, count(DISTINCT arguments ->> 'idempotency_key') AS keys FROM stripe_sync.job;
-- another version
DELETE FROM stripe_sync.job_record;
SET stripe_sync.api_version = '2030-01-01.zinnia; some_beta=v1';
SELECT stripe_sync.create_webhook_endpoint('https://shop.example/hook', '{*}') > 0 AS job;
SELECT arguments -> 'api_version' AS version FROM t.asked;
RESET stripe_sync.api_version;

-- which types, if nobody says: of the tables that there are
CREATE FUNCTION t.types() RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	DELETE FROM stripe_sync.job_record;
	PERFORM stripe_sync.create_webhook_endpoint('https://shop.example/hook');
	RETURN QUERY SELECT jsonb_array_elements_text(arguments -> 'types') FROM stripe_sync.job;
END $$;
SELECT t.types();
-- of handlers and alerts, by name and by pattern, and of no system events
CREATE FUNCTION t.handle(event jsonb) RETURNS void LANGUAGE sql AS $$ SELECT $$;
SELECT stripe_sync.add_handler('disputes', 'charge.dispute.*', 't.handle'), stripe_sync.add_handler('own', 'my.own', 't.handle'), stripe_sync.add_slack_webhook('ops', 'https://hooks.slack.com/services/T/B/x'),
       stripe_sync.add_alert('failed', 'invoice.payment_failed', 'ops', 'x', closed_by => 'invoice.paid'), stripe_sync.add_alert('silent', 'system.silence', 'ops', 'x');
SELECT t.types() EXCEPT SELECT unnest(event_types) FROM stripe_sync.object_type WHERE object_type = 'customer' ORDER BY 1;
-- what Stripe waits for an answer to, only for who names it
SELECT stripe_sync.add_handler('issuing', 'issuing_authorization.*', 't.handle');
SELECT t FROM t.types() t WHERE t LIKE 'issuing%' ORDER BY 1;
SELECT stripe_sync.add_handler('issuing', 'issuing_authorization.request', 't.handle');
SELECT t FROM t.types() t WHERE t LIKE 'issuing%' ORDER BY 1;
SELECT stripe_sync.drop_handler('issuing');
-- with a table for everything: every type, those included that are to come
SELECT count(*) > 100 AS tables FROM stripe_sync.create_tables();
SELECT t.types();
SELECT stripe_sync.add_handler('issuing', 'issuing_authorization.request', 't.handle');
SELECT count(*) > 200 AS many, bool_or(t = 'issuing_authorization.request') AS named, bool_or(t = '*') AS every FROM t.types() t;

-- one that was made already
DELETE FROM stripe_sync.job_record;
SELECT stripe_sync.create_webhook_endpoint('https://shop.example/hook', '{invoice.paid}') AS job \gset
UPDATE stripe_sync.job_record SET state = 'done';
UPDATE stripe_sync.job_part SET state = 'done';
INSERT INTO stripe_sync.watched_endpoint (id, url, livemode, status, enabled_events, endpoint, job) VALUES ('we_1', 'https://shop.example/hook', false, 'enabled', '{invoice.paid}', 'default', :job);
SELECT stripe_sync.create_webhook_endpoint('https://shop.example/hook') = :job AS the_same;
SELECT stripe_sync.create_webhook_endpoint('https://shop.example/hook', '{invoice.paid}') = :job AS the_same;
SELECT stripe_sync.create_webhook_endpoint('https://shop.example/hook', '{invoice.paid,invoice.sent}');
SELECT t.sqlstate($$SELECT stripe_sync.create_webhook_endpoint('https://shop.example/hook', '{invoice.sent}')$$);
-- of the other mode, deleted, or dropped here: anew
BEGIN;
SELECT stripe_sync.set_api_key('rk_live_x');
SELECT stripe_sync.create_webhook_endpoint('https://shop.example/hook') > :job AS anew;
ROLLBACK;
BEGIN;
UPDATE stripe_sync.watched_endpoint SET trouble = '{gone}';
SELECT stripe_sync.create_webhook_endpoint('https://shop.example/hook') > :job AS anew;
ROLLBACK;
BEGIN;
SELECT stripe_sync.drop_endpoint('default');
SELECT stripe_sync.create_webhook_endpoint('https://shop.example/hook') > :job AS anew;
ROLLBACK;
