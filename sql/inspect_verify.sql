-- verify_mirror: a healthy mirror is empty; each kind of damage is shown, and
-- nothing else.
\set tables '{coupon,customer,invoice,subscription,subscription_item,charge,refund,tax_id,price,account,balance}'
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.psql
\set ECHO none
\i :prelude
\set ECHO all
-- Times are shown in the session's zone.
SET timezone = 'UTC';

-- a mirror of everything that writes rows: events in and out of order, one
-- second, deletions, other accounts, pages, what is embedded, readings, singletons
SELECT t.send('evt_c1', 'customer.created', 10, '{"id":"cus_1","object":"customer","name":"a","created":1735689610,"tax_ids":{"object":"list","has_more":false,"data":[{"id":"txi_1","object":"tax_id","customer":"cus_1","value":"v"},{"id":"txi_2","object":"tax_id","customer":"cus_1","value":"w"}]}}'),
       t.send('evt_c3', 'customer.updated', 12, '{"id":"cus_1","object":"customer","name":"c","created":1735689610,"tax_ids":{"object":"list","has_more":false,"data":[{"id":"txi_1","object":"tax_id","customer":"cus_1","value":"v"}]}}'),
       t.send('evt_c2', 'customer.updated', 11, '{"id":"cus_1","object":"customer","name":"b","created":1735689610}'),
       t.send('evt_x1', 'customer.tax_id.created', 11, '{"id":"txi_2","object":"tax_id","customer":"cus_1","value":"own"}'),
       t.send('evt_d1', 'customer.created', 10, '{"id":"cus_2","object":"customer","name":"gone"}'),
       t.send('evt_d2', 'customer.deleted', 11, '{"id":"cus_2","object":"customer","name":"gone"}'),
       t.send('evt_a1', 'customer.created', 10, '{"id":"cus_1","object":"customer","name":"theirs"}', NULL, 'acct_1'),
       t.send('evt_a2', 'account.updated', 10, '{"id":"acct_1","object":"account","email":"e"}', NULL, 'acct_1'),
       t.send('evt_s1', 'customer.subscription.created', 10, '{"id":"sub_1","object":"subscription","customer":"cus_1","status":"active","items":{"object":"list","has_more":false,"data":[{"id":"si_1","object":"subscription_item","quantity":2,"price":{"id":"price_1","object":"price","active":true,"unit_amount":5}}]}}'),
       t.send('evt_i1', 'invoice.created', 10, '{"id":"in_1","object":"invoice","status":"draft","total":1}'),
       t.send('evt_i2', 'invoice.finalized', 10, '{"id":"in_1","object":"invoice","status":"open","total":1}'),
       t.send('evt_b1', 'balance.available', 10, '{"object":"balance","livemode":false}');
SELECT stripe_sync.apply_reading('{"id":"cus_3","object":"customer","name":"read"}', '', to_timestamp(t.at(20))),
       stripe_sync.apply_reading('{"id":"cus_4","object":"customer","name":"read"}', '', to_timestamp(t.at(20))),
       stripe_sync.apply_reading('{"id":"cus_2","object":"customer","deleted":true}', '', to_timestamp(t.at(20))),
       stripe_sync.apply_reading('{"id":"in_2","object":"invoice","status":"paid"}', '', to_timestamp(t.at(20)));
SELECT t.send('evt_r1', 'customer.updated', 21, '{"id":"cus_4","object":"customer","name":"later"}'), t.send('evt_r2', 'customer.updated', 19, '{"id":"cus_3","object":"customer","name":"earlier"}');
SELECT count(*) AS differences FROM stripe_sync.verify_mirror();
SELECT (SELECT count(*) FROM stripe.customers) AS customers, (SELECT count(*) FROM stripe.tax_ids) AS tax_ids, (SELECT count(*) FROM stripe.subscription_items) AS items, (SELECT count(*) FROM stripe.prices) AS prices;

-- each kind of damage, put right again by what repairs it
CREATE FUNCTION t.damage(statement text, OUT object text, OUT field text, OUT mirror jsonb, OUT expected jsonb) RETURNS SETOF record LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	RETURN QUERY SELECT concat_ws(' ', v.object_type, v.object_id, v.account), v.field, v.mirror, v.expected FROM stripe_sync.verify_mirror() v;
END $$;
-- a typed column
SELECT * FROM t.damage($$ UPDATE stripe.customers SET name = 'wrong' WHERE _event_id = 'evt_c3' $$);
SELECT status FROM stripe_sync.replay('evt_c3');
SELECT * FROM t.damage($$ UPDATE stripe.customers SET created = NULL WHERE _event_id = 'evt_c3' $$);
SELECT status FROM stripe_sync.replay('evt_c3');
-- the whole object
SELECT * FROM t.damage($$ UPDATE stripe.invoices SET _data = _data || '{"total": 7}', total = 7 WHERE id = 'in_1' $$);
SELECT status FROM stripe_sync.replay('evt_i2');
-- an older state, whole
SELECT * FROM t.damage($$ UPDATE stripe.invoices SET _data = '{"id":"in_1","object":"invoice","status":"draft","total":1}', status = 'draft', _event_id = 'evt_i1' WHERE id = 'in_1' $$);
SELECT status FROM stripe_sync.replay('evt_i2');
-- a row that is missing, also of another account, of an account, of what has no id
SELECT * FROM t.damage($$ DELETE FROM stripe.customers WHERE _account = 'acct_1' $$);
SELECT status FROM stripe_sync.replay('evt_a1');
SELECT * FROM t.damage($$ DELETE FROM stripe.accounts $$);
SELECT status FROM stripe_sync.replay('evt_a2');
SELECT * FROM t.damage($$ DELETE FROM stripe.balances $$);
SELECT status FROM stripe_sync.replay('evt_b1');
-- a tombstone that is missing, one that is too much, one at the wrong time
SELECT * FROM t.damage($$ UPDATE stripe.tax_ids SET _deleted_at = NULL WHERE id = 'txi_2' $$);
SELECT * FROM t.damage($$ UPDATE stripe.tax_ids SET _deleted_at = to_timestamp(t.at(100)) WHERE id = 'txi_2' $$);
SELECT status FROM stripe_sync.replay('evt_x1');
SELECT * FROM t.damage($$ UPDATE stripe.subscriptions SET _deleted_at = _as_of $$);
SELECT status FROM stripe_sync.replay('evt_s1');
-- when it is from
SELECT * FROM t.damage($$ UPDATE stripe.subscriptions SET _as_of = _as_of - interval '1 s' $$);
SELECT status FROM stripe_sync.replay('evt_s1');
-- what a page of the parent's has written, or an embedding
SELECT * FROM t.damage($$ UPDATE stripe.subscription_items SET quantity = 3, _data = jsonb_set(_data, '{quantity}', '3') $$);
SELECT status FROM stripe_sync.replay('evt_s1');
SELECT * FROM t.damage($$ UPDATE stripe.subscription_items SET quantity = 2, _data = jsonb_set(_data, '{quantity}', '2') $$);
SELECT * FROM t.damage($$ UPDATE stripe.prices SET _data = _data || '{"unit_amount":6}', unit_amount = 6 $$);
SELECT * FROM t.damage($$ UPDATE stripe.prices SET _data = _data || '{"unit_amount":5}', unit_amount = 5 $$);
-- what was read: a typed column shows, and another reading mends it
SELECT * FROM t.damage($$ UPDATE stripe.invoices SET status = 'void' WHERE id = 'in_2' $$);
SELECT stripe_sync.apply_reading('{"id":"in_2","object":"invoice","status":"paid"}', '', to_timestamp(t.at(22)));
SELECT * FROM t.damage('SELECT 1');

-- a user's own columns are nobody's business, and no code of a user's is run
-- with other rights than the owner's
CREATE ROLE regress_verify_owner;
ALTER TABLE stripe.customers ADD COLUMN note text, ADD COLUMN doubled text GENERATED ALWAYS AS (name || name) STORED, DROP COLUMN phone;
ALTER TABLE stripe.customers OWNER TO regress_verify_owner;
GRANT USAGE ON SCHEMA stripe TO regress_verify_owner;
CREATE TYPE t.odd AS (n int);
CREATE FUNCTION t.odd_json(t.odd) RETURNS json LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'run as %', current_user; END $$;
CREATE CAST (t.odd AS json) WITH FUNCTION t.odd_json(t.odd);
ALTER TABLE stripe.customers ADD COLUMN odd t.odd DEFAULT ROW(1);
SELECT * FROM t.damage($$ UPDATE stripe.customers SET note = 'x' $$);
SELECT * FROM t.damage($$ UPDATE stripe.customers SET name = 'wrong' WHERE _event_id = 'evt_c3' $$);
UPDATE stripe.customers SET name = 'c' WHERE _event_id = 'evt_c3';

-- of many objects a sample; of types that are named, those
SELECT count(*) FROM (SELECT t.send('evt_n' || i, 'coupon.created', 30, json_build_object('id', 'C' || i, 'object', 'coupon', 'percent_off', i)) FROM generate_series(1, 50) i) s;
UPDATE stripe.coupons SET percent_off = -1;
SELECT count(*), count(DISTINCT object_id) FROM stripe_sync.verify_mirror(sample => 20);
SELECT count(*) FROM stripe_sync.verify_mirror('{coupon}');
SELECT count(*) FROM stripe_sync.verify_mirror('{customer,invoice}');
SELECT t.raises($$ SELECT stripe_sync.verify_mirror('{nothing}') $$), t.raises($$ SELECT stripe_sync.verify_mirror('{payout}') $$), t.raises($$ SELECT stripe_sync.verify_mirror(sample => 0) $$);
SELECT count(*) FROM stripe_sync.verify_mirror('{}');

-- whoever may read may call it
CREATE ROLE regress_verify_reader;
SELECT stripe_sync.grant_read('regress_verify_reader');
SET ROLE regress_verify_reader;
SELECT count(*) FROM stripe_sync.verify_mirror('{coupon}');
RESET ROLE;
SELECT stripe_sync.revoke_all('regress_verify_reader');
DROP EXTENSION stripe_sync CASCADE;
DROP SCHEMA stripe, t CASCADE;
DROP ROLE regress_verify_reader, regress_verify_owner;
