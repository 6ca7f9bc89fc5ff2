-- What is read from Stripe's API comes into the mirror as of a time.
\set tables '{coupon,customer,invoice,subscription,subscription_item,charge,refund,tax_id,price,account,balance,cash_balance,product,credit_note,credit_note_line_item}'
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.psql
\set ECHO none
\i :prelude
\set ECHO all
CREATE FUNCTION t.read(at numeric, object jsonb, account text DEFAULT '') RETURNS text LANGUAGE sql
	AS $$ SELECT stripe_sync.apply_reading(object, account, to_timestamp(t.at(0)) + at * interval '1 s') $$;
CREATE FUNCTION t.customer(wanted text, OUT name text, OUT event text, OUT as_of numeric, OUT deleted numeric, OUT data jsonb) LANGUAGE sql
	AS $$ SELECT name, _event_id, t.sec(_as_of), t.sec(_deleted_at), _data - 'id' - 'object' FROM stripe.customers WHERE id = wanted $$;

-- later events win, earlier ones and those of the same second lose
SELECT t.read(20, '{"id":"cus_1","object":"customer","name":"read"}');
SELECT * FROM t.customer('cus_1');
SELECT t.send('evt_1', 'customer.updated', 19, '{"id":"cus_1","object":"customer","name":"19"}'), t.send('evt_2', 'customer.updated', 20, '{"id":"cus_1","object":"customer","name":"20"}');
SELECT * FROM t.customer('cus_1');
SELECT stripe_sync.explain_event('evt_2') ~ 'from Stripe''s API' AS explained;
SELECT t.send('evt_3', 'customer.updated', 21, '{"id":"cus_1","object":"customer","name":"21"}');
SELECT * FROM t.customer('cus_1');
SELECT t.read(20.5, '{"id":"cus_1","object":"customer","name":"late"}');
SELECT * FROM t.customer('cus_1');
-- a later reading beats an earlier one, never the other way round
SELECT t.read(22, '{"id":"cus_1","object":"customer","name":"22"}'), t.read(21.9, '{"id":"cus_1","object":"customer","name":"21.9"}');
SELECT * FROM t.customer('cus_1');
-- the same again: the time rises, so that events before it stay stale
SELECT t.read(30, '{"id":"cus_1","object":"customer","name":"22"}'), t.send('evt_4', 'customer.updated', 29, '{"id":"cus_1","object":"customer","name":"29"}');
SELECT * FROM t.customer('cus_1');

-- an object that has not changed is not stored anew, but for its row
CREATE TABLE t.large AS SELECT jsonb_build_object('id', 'prod_1', 'object', 'product', 'name', 'n', 'metadata', (SELECT jsonb_object_agg('k' || i, md5(i::text)) FROM generate_series(1, 300) i)) AS object;
SELECT t.read(10, object) FROM t.large;
CREATE TABLE t.before AS SELECT pg_relation_size(reltoastrelid) AS size FROM pg_class WHERE oid = 'stripe.products'::regclass;
SELECT t.read(n, object) FROM t.large, generate_series(11, 40) n \g /dev/null
SELECT t.sec(_as_of) AS as_of FROM stripe.products;
SELECT pg_relation_size(reltoastrelid) - size AS grown FROM pg_class, t.before WHERE oid = 'stripe.products'::regclass;
-- and what somebody has put into its columns is put right
UPDATE stripe.products SET name = 'wrong';
SELECT t.read(41, object) FROM t.large;
SELECT name FROM stripe.products;

-- gone: the row and its content stay
SELECT t.read(31, '{"id":"cus_1","object":"customer","deleted":true}');
SELECT * FROM t.customer('cus_1');
SELECT t.read(32, '{"id":"cus_1","object":"customer","deleted":true}'), t.send('evt_5', 'customer.updated', 30, '{"id":"cus_1","object":"customer","name":"30"}');
SELECT * FROM t.customer('cus_1');
-- its deletion arrives late: that is when
SELECT t.send('evt_6', 'customer.deleted', 31, '{"id":"cus_1","object":"customer","name":"last"}');
SELECT * FROM t.customer('cus_1');
-- one that was never seen
SELECT t.read(31, '{"id":"cus_none","object":"customer","deleted":true}');
SELECT * FROM t.customer('cus_none');
-- found again: a later reading begins another life, in which later events count
SELECT t.send('evt_k1', 'coupon.created', 10, '{"id":"SPRING","object":"coupon","name":"a"}'), t.send('evt_k2', 'coupon.deleted', 11, '{"id":"SPRING","object":"coupon","name":"a"}'),
       t.read(12, '{"id":"SPRING","object":"coupon","name":"b"}'), t.send('evt_k3', 'coupon.updated', 13, '{"id":"SPRING","object":"coupon","name":"c"}');
SELECT name, _event_id, t.sec(_as_of) AS as_of, _deleted_at FROM stripe.coupons;
-- also when the deletion before it arrives last of all
SELECT t.read(12, '{"id":"SUMMER","object":"coupon","name":"b"}'), t.send('evt_l3', 'coupon.updated', 13, '{"id":"SUMMER","object":"coupon","name":"c"}'), t.send('evt_l2', 'coupon.deleted', 11, '{"id":"SUMMER","object":"coupon","name":"a"}');
SELECT name, _event_id, t.sec(_as_of) AS as_of, _deleted_at FROM stripe.coupons WHERE id = 'SUMMER';
SELECT object_type, object_id, t.sec(as_of) AS as_of, pages FROM stripe_sync.reading WHERE object_id = 'SUMMER';

-- accounts, and what has no id
SELECT t.read(10, '{"id":"acct_1","object":"account","email":"e"}', 'acct_1'), t.read(10, '{"id":"cus_1","object":"customer","name":"theirs"}', 'acct_1'),
       t.read(10, '{"object":"balance","livemode":false}'), t.read(11, '{"object":"balance","livemode":true}'), t.read(10, '{"object":"cash_balance","customer":"cus_1","livemode":false}');
SELECT id, _account, email FROM stripe.accounts;
SELECT livemode, t.sec(_as_of) AS as_of FROM stripe.balances;
SELECT customer, t.sec(_as_of) AS as_of FROM stripe.cash_balances;
SELECT name, _account FROM stripe.customers WHERE _account <> '';
SELECT t.send('evt_bal', 'balance.available', 11, '{"object":"balance","livemode":false}'), t.send('evt_bal2', 'balance.available', 12, '{"object":"balance","livemode":false}');

-- children: listed, swept, asked for when the page was cut short
SELECT t.read(10, '{"id":"sub_1","object":"subscription","status":"active","items":{"object":"list","has_more":false,"data":[{"id":"si_1","object":"subscription_item","subscription":"sub_1","quantity":1,"price":{"id":"price_1","object":"price","unit_amount":5}},{"id":"si_2","object":"subscription_item","subscription":"sub_1","quantity":1}]}}');
SELECT t.read(11, '{"id":"sub_1","object":"subscription","status":"active","items":{"object":"list","has_more":true,"data":[{"id":"si_3","object":"subscription_item","subscription":"sub_1","quantity":1}]}}');
SELECT id, _event_id, t.sec(_as_of) AS as_of, t.sec(_deleted_at) AS deleted FROM stripe.subscription_items ORDER BY id;
SELECT object_type, object_id, reason FROM stripe_sync.reread;
SELECT t.read(12, '{"id":"sub_1","object":"subscription","status":"active","items":{"object":"list","has_more":false,"data":[{"id":"si_3","object":"subscription_item","subscription":"sub_1","quantity":2}]}}');
SELECT id, quantity, t.sec(_as_of) AS as_of, t.sec(_deleted_at) AS deleted FROM stripe.subscription_items ORDER BY id;
-- an event of the parent's that comes late changes nothing of that
SELECT t.send('evt_s1', 'customer.subscription.updated', 9, '{"id":"sub_1","object":"subscription","status":"active","items":{"object":"list","has_more":false,"data":[{"id":"si_1","object":"subscription_item","subscription":"sub_1","quantity":9},{"id":"si_4","object":"subscription_item","subscription":"sub_1","quantity":9}]}}');
SELECT id, quantity, t.sec(_as_of) AS as_of, t.sec(_deleted_at) AS deleted FROM stripe.subscription_items ORDER BY id;
-- children that don't name their parent: what its former pages list is swept
SELECT t.read(10, '{"id":"cn_1","object":"credit_note","lines":{"object":"list","has_more":false,"data":[{"id":"cnli_1","object":"credit_note_line_item","amount":1},{"id":"cnli_2","object":"credit_note_line_item","amount":1}]}}'),
       t.read(11, '{"id":"cn_1","object":"credit_note","lines":{"object":"list","has_more":true,"data":[{"id":"cnli_3","object":"credit_note_line_item","amount":1}]}}'),
       t.read(13, '{"id":"cn_1","object":"credit_note","lines":{"object":"list","has_more":false,"data":[{"id":"cnli_2","object":"credit_note_line_item","amount":1}]}}');
SELECT id, t.sec(_as_of) AS as_of, t.sec(_deleted_at) AS deleted FROM stripe.credit_note_line_items ORDER BY id;
SELECT t.sec(as_of) AS as_of, pages, t.sec(pages_as_of) AS pages_as_of FROM stripe_sync.reading WHERE object_id = 'cn_1';
-- what is embedded only fills: its own events win, whenever they are from
SELECT id, _event_id = '' AS filled, unit_amount FROM stripe.prices;
SELECT t.send('evt_p1', 'price.created', 5, '{"id":"price_1","object":"price","unit_amount":6}');
SELECT t.read(13, '{"id":"sub_2","object":"subscription","items":{"object":"list","has_more":false,"data":[{"id":"si_5","object":"subscription_item","price":{"id":"price_1","object":"price","unit_amount":7}}]}}');
SELECT id, _event_id, unit_amount FROM stripe.prices;

-- a page: each object by itself where one of them can't be written
CREATE FUNCTION t.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.name = 'bad' THEN RAISE EXCEPTION 'no % as %', NEW.name, current_user; END IF; RETURN NEW; END $$;
CREATE ROLE regress_reading_owner;
GRANT USAGE ON SCHEMA stripe, t TO regress_reading_owner;
ALTER TABLE stripe.coupons OWNER TO regress_reading_owner;
CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON stripe.coupons FOR EACH ROW EXECUTE FUNCTION t.refuse();
SELECT * FROM stripe_sync.apply_reading_page('[{"id":"P3","object":"coupon","name":"c"},{"id":"P1","object":"coupon","name":"bad"},{"id":"P2","object":"coupon","name":"b"},{"id":"SPRING","object":"coupon","name":"old"},{"id":"po_1","object":"payout"},{"id":"P2","object":"coupon","name":"b"}]', '', to_timestamp(t.at(12)));
SELECT id, name FROM stripe.coupons WHERE id LIKE 'P%' ORDER BY id;
SELECT * FROM stripe_sync.apply_reading_page('[]');
-- an error that isn't the row's ends the transaction
CREATE OR REPLACE FUNCTION t.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'try again' USING ERRCODE = '40001'; END $$;
SELECT t.raises($$ SELECT stripe_sync.apply_reading_page('[{"id":"P9","object":"coupon"}]') $$);
DROP TRIGGER refuse ON stripe.coupons;
-- a page of objects that share what is embedded in them, and children
SELECT status, count(*) FROM stripe_sync.apply_reading_page((SELECT jsonb_agg(jsonb_build_object('id', 'sub_p' || i, 'object', 'subscription', 'items', jsonb_build_object('object', 'list', 'has_more', false, 'data',
	jsonb_build_array(jsonb_build_object('id', 'si_p' || i, 'object', 'subscription_item', 'price', '{"id":"price_p","object":"price","unit_amount":1}'::jsonb)))))
	FROM generate_series(1, 100) i), '', to_timestamp(t.at(12))) GROUP BY 1;
SELECT (SELECT count(*) FROM stripe.subscriptions WHERE id LIKE 'sub_p%') AS subscriptions, (SELECT count(*) FROM stripe.subscription_items WHERE id LIKE 'si_p%') AS items, (SELECT count(*) FROM stripe.prices WHERE id = 'price_p') AS prices;

-- what can't be taken
SELECT t.raises($$ SELECT t.read(1, '{"object":"nothing"}') $$), t.raises($$ SELECT t.read(1, '{"object":"customer"}') $$), t.raises($$ SELECT t.read(1, '[]') $$);
SELECT t.read(1, '{"id":"po_1","object":"payout"}');
-- internal: nobody's to call
SELECT p.oid::regprocedure, acl.grantee::regrole FROM pg_proc p, aclexplode(p.proacl) acl WHERE p.proname LIKE 'apply_reading%' AND acl.grantee <> p.proowner;
SELECT count(*) FROM stripe_sync.verify_mirror();
DROP EXTENSION stripe_sync CASCADE;
DROP SCHEMA stripe, t CASCADE;
DROP ROLE regress_reading_owner;
