-- Accounts and modes: what is whose, and what must not be mixed.
\set tables '{coupon,customer,subscription,subscription_item,plan,price,account,balance}'
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.psql
\set ECHO none
\i :prelude
\set ECHO all
SET timezone = 'UTC';
SELECT stripe_sync.drop_endpoint('default');

-- An event with any envelope: the fields of "more" are laid over it.
CREATE FUNCTION t.plain(id text, type text, at int, object jsonb, livemode boolean, more jsonb DEFAULT '{}') RETURNS text LANGUAGE sql AS $$
	SELECT (t.event(id, type, at, object::json, livemode => livemode)::jsonb || more)::text $$;
CREATE FUNCTION t.come(endpoint text, id text, type text, at int, object jsonb, livemode boolean DEFAULT false, more jsonb DEFAULT '{}') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	r record;
BEGIN
	SELECT * INTO r FROM t.deliver(t.plain(id, type, at, object, livemode, more), endpoint);
	RETURN concat_ws(': ', r.status, r.detail);
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ': ' || SQLERRM;
END $$;
CREATE VIEW t.coupons AS SELECT id, _account, percent_off, t.sec(_deleted_at) AS deleted FROM stripe.coupons ORDER BY id, _account COLLATE "C";

-- test beside live: rows of their own
SELECT stripe_sync.add_endpoint('live', t.secret(), true), stripe_sync.add_endpoint('test', t.secret(), false, account => 'test');
SELECT t.come('live', 'evt_l1', 'coupon.created', 10, '{"id":"WELCOME","object":"coupon","percent_off":10}', true);
SELECT t.come('test', 'evt_t1', 'coupon.created', 11, '{"id":"WELCOME","object":"coupon","percent_off":99}');
SELECT t.come('test', 'evt_t2', 'coupon.deleted', 12, '{"id":"WELCOME","object":"coupon","percent_off":99,"deleted":true}');
SELECT * FROM t.coupons;
SELECT id, account, endpoint FROM stripe_sync.event ORDER BY id COLLATE "C";
-- connected accounts below each; the live endpoint gets test events of them, too
SELECT t.come('live', 'evt_c1', 'customer.created', 13, '{"id":"cus_1","object":"customer","name":"live"}', true, '{"account":"acct_X"}'),
       t.come('test', 'evt_c2', 'customer.created', 14, '{"id":"cus_1","object":"customer","name":"test"}', false, '{"account":"acct_X"}'),
       t.come('live', 'evt_c2', 'customer.created', 14, '{"id":"cus_1","object":"customer","name":"test"}', false, '{"account":"acct_X"}');
SELECT (stripe_sync.webhook(p, jsonb_build_object('stripe-signature', stripe_sync.sign(p, t.secret())), 'live')).* FROM t.plain('evt_c2', 'customer.created', 14, '{"id":"cus_1","object":"customer","name":"test"}', false, '{"account":"acct_X"}') p;
SELECT id, _account, name FROM stripe.customers ORDER BY _account COLLATE "C";
-- an account that has an endpoint of its own, of the other mode: its rows are that one's
SELECT stripe_sync.add_endpoint('of_y', t.secret(), false, account => 'acct_Y');
SELECT t.come('of_y', 'evt_y1', 'coupon.created', 10, '{"id":"WELCOME","object":"coupon","percent_off":7}');
SELECT t.come('live', 'evt_y2', 'coupon.deleted', 12, '{"id":"WELCOME","object":"coupon","percent_off":7,"deleted":true}', true, '{"account":"acct_Y"}');
SELECT (stripe_sync.webhook(p, jsonb_build_object('stripe-signature', stripe_sync.sign(p, t.secret())), 'live')).http_status FROM t.plain('evt_y2', 'coupon.deleted', 12, '{"id":"WELCOME","object":"coupon"}', true, '{"account":"acct_Y"}') p;
SELECT t.come('of_y', 'evt_y3', 'coupon.updated', 13, '{"id":"WELCOME","object":"coupon","percent_off":8}', false, '{"account":"acct_Y"}');
SELECT * FROM t.coupons WHERE _account = 'acct_Y';
DELETE FROM stripe.coupons WHERE _account = 'acct_Y';
DELETE FROM stripe_sync.event WHERE account = 'acct_Y';
SELECT stripe_sync.drop_endpoint('of_y');
-- account objects, and what there is one of an account
SELECT t.come('live', 'evt_a1', 'account.updated', 15, '{"id":"acct_X","object":"account","email":"live"}', true, '{"account":"acct_X"}'),
       t.come('test', 'evt_a2', 'account.updated', 16, '{"id":"acct_X","object":"account","email":"test"}', false, '{"account":"acct_X"}'),
       t.come('live', 'evt_b1', 'balance.available', 15, '{"object":"balance","livemode":true}', true), t.come('test', 'evt_b2', 'balance.available', 16, '{"object":"balance","livemode":false}');
SELECT id, _account, email FROM stripe.accounts ORDER BY _account;
SELECT _account, livemode FROM stripe.balances ORDER BY _account;
SELECT count(*) AS differences FROM stripe_sync.verify_mirror();

-- whose an event is
SELECT e AS endpoint, m AS envelope, t.come(e, 'evt_w' || n, 'plan.created', 20, '{"id":"gold","object":"plan"}', e = 'live', m) ~ '^(applied|stale)' AS stored FROM (VALUES (1, 'live', '{}'::jsonb), (2, 'live', '{"account":null,"context":null}'), (3, 'live', '{"user_id":"acct_1Other","api_version":"2015-10-16"}'), (4, 'live', '{"context":"acct_o"}'), (5, 'live', '{"context":"acct_o","account":"acct_c"}'),
	(6, 'live', '{"context":"acct_o/acct_c","account":"acct_c"}'), (7, 'test', '{"context":"acct_o/acct_c"}'), (8, 'test', '{"user_id":"acct_1Other"}'), (9, 'live', '{"user_id":"somebody"}'), (10, 'live', '{"context":"org_1"}'), (11, 'live', '{"context":"acct_o/../x"}')) v (n, e, m) ORDER BY n;
SELECT id, account FROM stripe_sync.event WHERE id LIKE 'evt\_w%' ORDER BY substr(id, 6)::int;
SELECT _account FROM stripe.plans ORDER BY _account COLLATE "C";
-- an endpoint's own account, named
SELECT stripe_sync.add_endpoint('own', t.secret(), true, account => 'acct_o2');
SELECT t.come('own', 'evt_o1', 'plan.created', 21, '{"id":"own","object":"plan"}', true, '{"context":"acct_o2"}'), t.come('own', 'evt_o2', 'plan.created', 21, '{"id":"own","object":"plan"}', true, '{"context":"acct_o2/acct_c"}'),
       t.come('own', 'evt_o3', 'plan.created', 21, '{"id":"own","object":"plan"}', true, '{"account":"acct_d"}');
SELECT id, account FROM stripe_sync.event WHERE id LIKE 'evt\_o%' ORDER BY id;
-- in whatever order the fields stand, a second delivery is seen
SELECT t.come('live', 'evt_w3', 'plan.created', 20, '{"id":"gold","object":"plan"}', true, '{"user_id":"acct_1Other"}'), t.come('test', 'evt_w7', 'plan.created', 20, '{"id":"gold","object":"plan"}', false, '{"context":"acct_o/acct_c"}');
SELECT status FROM t.deliver('{"context":"acct_o/acct_c","account":"acct_c","id":"evt_w6","type":"plan.created"}', 'live') UNION ALL SELECT status FROM t.deliver('{"id":"evt_w6","type":"plan.created","context":"acct_o\/acct_c"}', 'live');
-- the request of a thin event is said otherwise, too
SELECT status FROM t.deliver('{"id":"evt_thin","object":"v2.core.event","type":"v1.customer.created","created":"2026-01-01T00:00:00Z","livemode":true,"context":"acct_o","reason":{"type":"request","request":{"id":"req_9","idempotency_key":"key_9"}},"related_object":{"id":"cus_9","type":"customer"}}', 'live');
SELECT account, request_id, idempotency_key, object_id FROM stripe_sync.event WHERE id = 'evt_thin';

-- what is refused, and what it hints at
SELECT t.hint($$ SELECT stripe_sync.add_endpoint('live2', t.secret(), false) $$);
SELECT t.hint($$ SELECT stripe_sync.add_endpoint('test2', t.secret(), true, account => 'test') $$);
SELECT t.hint($$ SELECT stripe_sync.add_endpoint('test', t.secret(), account => 'sandbox_2') $$);
SELECT t.raises(format('SELECT stripe_sync.add_endpoint(''x'', ''whsec_x'', account => %L)', a)), a FROM unnest('{Test,test/acct_1,acct_,"a b",/,acct_1/acct_2}'::text[]) a;
SELECT name, livemode, account, mode_learned FROM stripe_sync.endpoint ORDER BY name;
-- what is there is kept
SELECT stripe_sync.add_endpoint('test', t.secret());
SELECT name, livemode, account, tolerance FROM stripe_sync.endpoint WHERE name = 'test';

-- an endpoint that was given no mode keeps that of its first event
SELECT stripe_sync.add_endpoint('any', t.secret(), account => 'any');
SELECT t.come('any', 'evt_n1', 'customer.created', 30, '{"id":"cus_n","object":"customer","name":"test"}');
SELECT livemode, mode_learned FROM stripe_sync.endpoint WHERE name = 'any';
CREATE TABLE t.handled (id text);
CREATE FUNCTION t.note(event jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO t.handled VALUES (event->>'id') $$;
SELECT stripe_sync.add_handler('note', 'customer.deleted', 't.note');
SELECT t.come('any', 'evt_n2', 'customer.deleted', 31, '{"id":"cus_n","object":"customer","name":"live","deleted":true}', true);
SELECT id, status, mirrored, todo, object_id FROM stripe_sync.event WHERE id = 'evt_n2';
SELECT string_agg(v, E'\n') FROM (SELECT v FROM string_to_table(stripe_sync.explain_event('evt_n2'), E'\n') v OFFSET 2) x;
SELECT left(t.come('any', 'evt_n2', 'customer.deleted', 31, '{"id":"cus_n","object":"customer","name":"live","deleted":true}', true), 30) AS again;
SELECT left(t.come('any', 'evt_n6', 'customer.created', 34, '{"id":"cus_n6","object":"customer"}', true), 30) AS another;
-- it counts for nothing, and is not applied as long as that is so
SELECT t.come('any', 'evt_n3', 'customer.updated', 29, '{"id":"cus_n","object":"customer","name":"earlier"}');
SELECT name, _deleted_at FROM stripe.customers WHERE id = 'cus_n';
SELECT left((stripe_sync.replay('evt_n2')).detail, 60) AS still;
-- beside another of the account it takes what that one takes
SELECT stripe_sync.add_endpoint('any2', t.secret(), account => 'any');
SELECT left(t.come('any2', 'evt_n4', 'customer.created', 32, '{"id":"cus_n2","object":"customer"}', true), 30);
SELECT name, livemode, mode_learned FROM stripe_sync.endpoint WHERE account = 'any' ORDER BY name;
SELECT stripe_sync.drop_endpoint('any2');
-- once it is right everything of it is done
SET client_min_messages = notice;
SELECT stripe_sync.add_endpoint('any', t.secret(), livemode => true);
RESET client_min_messages;
SELECT status, detail FROM stripe_sync.replay('evt_n2');
SELECT name, t.sec(_deleted_at) AS deleted FROM stripe.customers WHERE id = 'cus_n';
SELECT id, status, todo, object_id FROM stripe_sync.event WHERE id = 'evt_n2';
SELECT * FROM t.handled;
-- so it is when Stripe is told to send it again
SELECT t.come('any', 'evt_n6', 'customer.created', 34, '{"id":"cus_n6","object":"customer"}', true) AS again, t.come('any', 'evt_n6', 'customer.created', 34, '{"id":"cus_n6","object":"customer"}', true) AS once_more;
SELECT t.come('any', 'evt_n5', 'customer.created', 33, '{"id":"cus_n5","object":"customer"}');

-- a database of before, in which endpoints of both modes share an account
SELECT stripe_sync.drop_endpoint(name) FROM stripe_sync.endpoint \g /dev/null
TRUNCATE stripe_sync.event, stripe.coupons, stripe.customers, stripe.plans, t.handled;
INSERT INTO stripe_sync.endpoint (name, livemode, tolerance) VALUES ('live', true, '5 minutes'), ('test', false, '5 minutes');
INSERT INTO stripe_sync.endpoint_secret SELECT v, 1, t.secret() FROM unnest('{live,test}'::text[]) v;
SELECT t.come('live', 'evt_u1', 'coupon.created', 10, '{"id":"WELCOME","object":"coupon","percent_off":10}', true);
-- what it has stored of a connected account before, under one's own
INSERT INTO stripe_sync.event SELECT 'evt_u0', '', type, endpoint, livemode, api_version, object_type, 'cus_u', request_id, idempotency_key, created, received_at, source, status, mirrored, todo, tries, attempts, next_attempt_at, error, applied_at,
	t.plain('evt_u0', 'customer.created', 9, '{"id":"cus_u","object":"customer"}', true, '{"user_id":"acct_1Other"}')::json FROM stripe_sync.event WHERE id = 'evt_u1';
SELECT t.come('live', 'evt_u0', 'customer.created', 9, '{"id":"cus_u","object":"customer"}', true, '{"user_id":"acct_1Other"}') AS redelivered;
SELECT t.come('test', 'evt_u2', 'coupon.deleted', 11, '{"id":"WELCOME","object":"coupon","percent_off":99,"deleted":true}');
SELECT * FROM t.coupons;
SELECT t.come('live', 'evt_u3', 'coupon.updated', 12, '{"id":"WELCOME","object":"coupon","percent_off":11}', true);
SELECT * FROM t.coupons;
-- until somebody says whose the test events are
SELECT t.hint($$ SELECT stripe_sync.add_endpoint('test', t.secret(), false) $$);
SET client_min_messages = notice;
SELECT stripe_sync.add_endpoint('test', t.secret(), false, account => 'test');
RESET client_min_messages;
SELECT t.come('test', 'evt_u4', 'coupon.created', 13, '{"id":"OTHER","object":"coupon","percent_off":5}');
SELECT status FROM stripe_sync.replay('evt_u2');
SELECT * FROM t.coupons;
SELECT id, account, status FROM stripe_sync.event ORDER BY id;
SELECT t.come('test', 'evt_u2', 'coupon.deleted', 11, '{"id":"WELCOME","object":"coupon","percent_off":99,"deleted":true}');

-- keys: of the account's mode, and for no other account
SELECT t.hint($$ SELECT stripe_sync.set_api_key('rk_test_1') $$);
SELECT t.hint($$ SELECT stripe_sync.set_api_key('sk_org_live_1', 'test') $$);
SELECT t.raises($$ SELECT stripe_sync.set_api_key('rk_live_1', 'test/acct_1') $$), t.raises($$ SELECT stripe_sync.set_api_key('rk_test_1', 'nothing') $$), t.raises($$ SELECT stripe_sync.set_api_key('rk_test_1', 'test/cus_1') $$);
SELECT stripe_sync.set_api_key('rk_live_1');
SELECT t.hint($$ SELECT stripe_sync.refetch('customer', 'cus_1', 'test') $$);
SELECT t.hint($$ SELECT stripe_sync.refetch('customer', 'cus_1', 'test/acct_1') $$);
SELECT t.raises($$ SELECT stripe_sync.refetch('customer', 'cus_1', 'acct_1') $$);
SELECT stripe_sync.reconcile() > 0 AS job;
SELECT account, optional FROM stripe_sync.job_part WHERE kind = 'events' ORDER BY account;
DELETE FROM stripe_sync.job_record;
SELECT stripe_sync.set_api_key('rk_test_1', 'test');
SELECT stripe_sync.reconcile() > 0 AS job, t.raises($$ SELECT stripe_sync.refetch('customer', 'cus_1', 'test/acct_1') $$);
SELECT kind, account, optional FROM stripe_sync.job_part ORDER BY kind, account;

-- an account is moved with all that there is of it
SELECT t.come('test', 'evt_m1', 'customer.created', 40, '{"id":"cus_m","object":"customer"}', false, '{"account":"acct_c"}'), t.come('live', 'evt_m2', 'customer.created', 40, '{"id":"cus_m","object":"customer"}', true, '{"account":"acct_c"}');
SELECT stripe_sync.apply_reading('{"id":"cus_m2","object":"customer"}', 'test', to_timestamp(t.at(41)));
INSERT INTO stripe_sync.watermark VALUES ('test', now()), ('test/acct_c', now()), ('', now());
SELECT t.hint($$ SELECT stripe_sync.move_account('test', '') $$);
SELECT t.raises(format('SELECT stripe_sync.move_account(%L, %L)', a, b)), a, b FROM (VALUES ('test', 'test'), ('test', 'a b'), ('test', 'a/b')) v (a, b);
SELECT stripe_sync.move_account('test', 'sandbox');
SELECT name, account FROM stripe_sync.endpoint ORDER BY name;
SELECT account, count(*) FROM stripe_sync.event GROUP BY 1 ORDER BY account COLLATE "C";
SELECT _account, id FROM stripe.customers UNION ALL SELECT _account, id FROM stripe.coupons ORDER BY 1, 2;
SELECT account FROM stripe_sync.watermark ORDER BY account COLLATE "C";
SELECT account, key FROM stripe_sync.api_key ORDER BY account COLLATE "C";
SELECT kind, account FROM stripe_sync.job_part ORDER BY kind, account;
SELECT t.come('test', 'evt_m1', 'customer.created', 40, '{"id":"cus_m","object":"customer"}', false, '{"account":"acct_c"}') AS redelivered, t.come('test', 'evt_m3', 'coupon.updated', 42, '{"id":"OTHER","object":"coupon","percent_off":6}');
SELECT * FROM t.coupons;
-- one's own, with its connected ones, but not what is another endpoint's
SELECT stripe_sync.move_account('', 'acct_me') > 0 AS moved;
SELECT DISTINCT account FROM stripe_sync.event ORDER BY 1;
SELECT stripe_sync.move_account('acct_me', '') > 0 AS back;
SELECT DISTINCT account FROM stripe_sync.event ORDER BY 1;
-- something is there already: nothing is moved
SELECT stripe_sync.add_endpoint('other', t.secret(), false, account => 'other');
SELECT t.come('other', 'evt_x', 'customer.created', 40, '{"id":"cus_m2","object":"customer"}');
SELECT t.raises($$ SELECT stripe_sync.move_account('sandbox', 'other') $$);
SELECT account, count(*) FROM stripe_sync.event GROUP BY 1 ORDER BY account COLLATE "C";
DELETE FROM stripe_sync.event WHERE id = 'evt_u0';
SELECT count(*) AS differences FROM stripe_sync.verify_mirror();
DROP EXTENSION stripe_sync CASCADE;
DROP SCHEMA stripe, t CASCADE;
