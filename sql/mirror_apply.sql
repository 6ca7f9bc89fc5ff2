-- The mirror: columns of every kind, derived ones, what objects embed, pages
-- and their children, tombstones, and what users have put on the tables.
\set tables '{account,balance,cash_balance,charge,coupon,credit_note,customer,discount,invoice,invoice_payment,line_item,payment_intent,payment_method,plan,price,product,refund,subscription,subscription_item,tax_rate}'
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.psql
\set ECHO none
\i :prelude
\set ECHO all
-- Times are shown in the session's zone.
SET timezone = 'UTC';
-- ---- columns of every kind
SELECT t.send('evt_k1', 'customer.created', 1, '{"id":"cus_k","object":"customer","address":{"city":"Graz"},"balance":-250,"created":1735689601,"default_source":"card_1",
	"delinquent":true,"discount":null,"email":"k@example.com","livemode":false,"metadata":{"a":"1"},"preferred_locales":["de","en"],"name":"Käthe 😀"}'),
       t.send('evt_k2', 'tax_rate.created', 1, '{"id":"txr_k","object":"tax_rate","percentage":20.125,"inclusive":false}'),
       t.send('evt_k3', 'price.created', 1, '{"id":"price_k","object":"price","unit_amount":null,"unit_amount_decimal":"0.000123456789","product":{"id":"prod_k","object":"product","name":"Expanded"}}'),
       t.send('evt_k4', 'payment_intent.created', 1, '{"id":"pi_k","object":"payment_intent","amount":9223372036854775807}');
SELECT id, object, address, balance, t.sec(created) AS created, default_source, delinquent, discount, email, livemode, metadata, preferred_locales, name, description FROM stripe.customers WHERE id = 'cus_k' \gx
SELECT percentage, inclusive FROM stripe.tax_rates;
SELECT unit_amount, unit_amount_decimal, product FROM stripe.prices WHERE id = 'price_k';
SELECT amount FROM stripe.payment_intents WHERE id = 'pi_k';
SELECT _account, _deleted_at, _event_id, t.sec(_as_of) AS as_of, _synced_at BETWEEN now() - interval '1 minute' AND clock_timestamp() AS synced, _data = (SELECT payload::jsonb->'data'->'object' FROM stripe_sync.event WHERE id = 'evt_k1') AS whole
  FROM stripe.customers WHERE id = 'cus_k';
-- types of the columns, and their key
SELECT attname, format_type(atttypid, atttypmod) AS type, attnotnull FROM pg_attribute WHERE attrelid = 'stripe.customers'::regclass
   AND attname IN ('id', 'balance', 'created', 'delinquent', 'default_source', 'address', 'metadata', 'preferred_locales', '_data', '_account', '_deleted_at', '_event_id', '_as_of', '_synced_at') ORDER BY attname;
SELECT conrelid::regclass AS "table", pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'p' AND conrelid IN ('stripe.customers'::regclass, 'stripe.balances'::regclass, 'stripe.cash_balances'::regclass) ORDER BY 1;
SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid IN ('stripe.subscriptions'::regclass, 'stripe.invoices'::regclass) AND NOT indisprimary ORDER BY 1;

-- a field that changed its kind, or is too large: the column is NULL, _data has it
SELECT t.send('evt_k5', 'customer.updated', 2, '{"id":"cus_k","object":"customer","address":"Graz","balance":"-250","created":"today","default_source":{"object":"card"},
	"delinquent":"yes","email":["k@example.com"],"livemode":0,"metadata":"none","name":5,"description":{"text":"x"},"preferred_locales":{}}'),
       t.send('evt_k6', 'payment_intent.processing', 2, '{"id":"pi_k","object":"payment_intent","amount":9223372036854775808,"amount_received":1.5,"canceled_at":1e300,"created":-1}'),
       t.send('evt_k7', 'tax_rate.updated', 2, '{"id":"txr_k","object":"tax_rate","percentage":"NaN"}'),
       t.send('evt_k8', 'price.updated', 2, '{"id":"price_k","object":"price","unit_amount_decimal":"a lot"}');
SELECT balance, created, default_source, delinquent, email, livemode, name, description FROM stripe.customers WHERE id = 'cus_k' \gx
SELECT _data FROM stripe.customers WHERE id = 'cus_k';
SELECT amount, amount_received, canceled_at, created, _data->'amount' AS data FROM stripe.payment_intents WHERE id = 'pi_k';
SELECT percentage FROM stripe.tax_rates;
SELECT unit_amount_decimal FROM stripe.prices WHERE id = 'price_k';
SELECT count(*) AS failed FROM stripe_sync.event WHERE status <> 'applied';
-- fields that are gone from a newer snapshot are gone from the row
SELECT t.send('evt_k9', 'customer.updated', 3, '{"id":"cus_k","object":"customer","email":"k2@example.com"}');
SELECT email, name, metadata FROM stripe.customers WHERE id = 'cus_k';

-- ---- columns that moved between API versions
CREATE FUNCTION t.page(VARIADIC data json[]) RETURNS json LANGUAGE sql AS $$ SELECT json_build_object('object', 'list', 'has_more', false, 'data', $1) $$;
CREATE FUNCTION t.page() RETURNS json LANGUAGE sql AS $$ SELECT '{"object":"list","has_more":false,"data":[]}'::json $$;
CREATE FUNCTION t.item(id text, subscription text, extra jsonb DEFAULT '{}') RETURNS json LANGUAGE sql AS $$
	SELECT (jsonb_build_object('id', id, 'object', 'subscription_item', 'subscription', subscription, 'quantity', 1) || extra)::json $$;
SELECT t.send('evt_d1', 'invoice.created', 1, '{"id":"in_old","object":"invoice","subscription":"sub_1","charge":"ch_1","payment_intent":{"id":"pi_1","object":"payment_intent"}}'),
       t.send('evt_d2', 'invoice.created', 1, '{"id":"in_new","object":"invoice","parent":{"type":"subscription_details","subscription_details":{"subscription":"sub_2"}},
	"payments":{"object":"list","has_more":false,"data":[{"id":"inpay_1","object":"invoice_payment","invoice":"in_new","payment":{"type":"payment_intent","payment_intent":"pi_2","charge":"ch_2"}}]}}'),
       t.send('evt_d3', 'invoice.created', 1, '{"id":"in_none","object":"invoice","parent":null,"payments":{"object":"list","has_more":false,"data":[]}}'),
       t.send('evt_d4', 'charge.succeeded', 1, '{"id":"ch_old","object":"charge","invoice":"in_old"}'),
       t.send('evt_d5', 'charge.succeeded', 1, '{"id":"ch_new","object":"charge"}');
SELECT id, subscription, charge, payment_intent FROM stripe.invoices ORDER BY id;
SELECT id, invoice FROM stripe.charges ORDER BY id;
SELECT t.send('evt_d6', 'customer.subscription.created', 1, '{"id":"sub_old","object":"subscription","current_period_start":1735689700,"current_period_end":1735689800,"quantity":3,"plan":{"id":"plan_1","object":"plan"},
	"items":{"object":"list","has_more":false,"data":[{"id":"si_old","object":"subscription_item","subscription":"sub_old","quantity":3,"price":{"id":"price_1","object":"price","unit_amount":5}}]}}'),
       t.send('evt_d7', 'customer.subscription.created', 1, json_build_object('id', 'sub_new', 'object', 'subscription', 'items', t.page(
	t.item('si_new', 'sub_new', '{"quantity":4,"price":{"id":"price_2","object":"price","unit_amount":6},"current_period_start":1735689710,"current_period_end":1735689810}')))),
       t.send('evt_d8', 'customer.subscription.created', 1, json_build_object('id', 'sub_two', 'object', 'subscription', 'items', t.page(
	t.item('si_two1', 'sub_two', '{"price":{"id":"price_1","object":"price"},"current_period_start":1735689720,"current_period_end":1735689830}'),
	t.item('si_two2', 'sub_two', '{"price":{"id":"price_2","object":"price"},"current_period_start":1735689715,"current_period_end":1735689820}'))));
SELECT id, t.sec(current_period_start) AS start, t.sec(current_period_end) AS "end", price, quantity FROM stripe.subscriptions ORDER BY id;

-- ---- embedded and expanded objects fill rows that nothing better has written
SELECT t.send('evt_e1', 'charge.succeeded', 10, '{"id":"ch_e","object":"charge","customer":{"id":"cus_e","object":"customer","email":"expanded@example.com"},"balance_transaction":{"id":"txn_e","object":"balance_transaction","amount":1}}');
SELECT customer FROM stripe.charges WHERE id = 'ch_e';
SELECT email, _event_id FROM stripe.customers WHERE id = 'cus_e';
-- a later one replaces an embedded one, an older one doesn't
SELECT t.send('evt_e2', 'charge.succeeded', 12, '{"id":"ch_e2","object":"charge","customer":{"id":"cus_e","object":"customer","email":"later@example.com"}}'),
       t.send('evt_e3', 'charge.succeeded', 11, '{"id":"ch_e3","object":"charge","customer":{"id":"cus_e","object":"customer","email":"older@example.com"}}');
SELECT email, _event_id FROM stripe.customers WHERE id = 'cus_e';
-- its own event beats every embedding, however old
SELECT t.send('evt_e4', 'customer.updated', 5, '{"id":"cus_e","object":"customer","email":"own@example.com"}');
SELECT email, _event_id, t.sec(_as_of) AS as_of FROM stripe.customers WHERE id = 'cus_e';
SELECT t.send('evt_e5', 'charge.succeeded', 20, '{"id":"ch_e5","object":"charge","customer":{"id":"cus_e","object":"customer","email":"embedded@example.com"}}');
SELECT email, _event_id FROM stripe.customers WHERE id = 'cus_e';
-- a pointer, or one that says it is deleted, fills nothing
SELECT t.send('evt_e6', 'charge.succeeded', 21, '{"id":"ch_e6","object":"charge","customer":{"id":"cus_p","object":"customer"},"payment_intent":{"id":"pi_p","object":"payment_intent","deleted":true,"x":1}}');
SELECT (SELECT count(*) FROM stripe.customers WHERE id = 'cus_p') AS pointers, (SELECT count(*) FROM stripe.payment_intents WHERE id = 'pi_p') AS deleted, (SELECT customer FROM stripe.charges WHERE id = 'ch_e6') AS id;
-- one whose content is the same isn't written
SELECT xmin AS before FROM stripe.prices WHERE id = 'price_1' \gset
SELECT _event_id FROM stripe.prices WHERE id = 'price_1';
SELECT t.send('evt_e7', 'customer.subscription.created', 30, json_build_object('id', 'sub_e7', 'object', 'subscription', 'items', t.page(t.item('si_e7', 'sub_e7', '{"price":{"id":"price_1","object":"price","unit_amount":5}}'))));
SELECT xmin = :before AS untouched, _event_id FROM stripe.prices WHERE id = 'price_1';

-- ---- pages and their children
CREATE FUNCTION t.sub(id text, items json) RETURNS json LANGUAGE sql AS $$ SELECT json_build_object('id', id, 'object', 'subscription', 'status', 'active', 'items', items) $$;
CREATE VIEW t.items AS SELECT subscription, id, quantity, t.sec(_deleted_at) AS deleted_at, _event_id, t.sec(_as_of) AS as_of FROM stripe.subscription_items ORDER BY subscription, id;
SELECT t.send('evt_p1', 'customer.subscription.created', 10, t.sub('sub_p', t.page(t.item('si_a', 'sub_p'), t.item('si_b', 'sub_p'))));
SELECT * FROM t.items WHERE subscription = 'sub_p';
-- one that the newest parent no longer lists gets a tombstone, and its content stays
SELECT t.send('evt_p2', 'customer.subscription.updated', 11, t.sub('sub_p', t.page(t.item('si_b', 'sub_p', '{"quantity":2}'), t.item('si_c', 'sub_p'))));
SELECT * FROM t.items WHERE subscription = 'sub_p';
-- and loses it when it is listed again
SELECT t.send('evt_p3', 'customer.subscription.updated', 12, t.sub('sub_p', t.page(t.item('si_a', 'sub_p', '{"quantity":3}'))));
SELECT * FROM t.items WHERE subscription = 'sub_p';
-- a page with has_more lists, but sweeps nothing; the rest is asked for
SELECT t.send('evt_p4', 'customer.subscription.updated', 13, t.sub('sub_p', '{"object":"list","has_more":true,"data":[{"id":"si_d","object":"subscription_item","subscription":"sub_p","quantity":4}]}'));
SELECT * FROM t.items WHERE subscription = 'sub_p';
SELECT object_type, object_id, account, reason, t.sec(due_at) AS due FROM stripe_sync.reread;
-- nor does one that isn't there
SELECT t.send('evt_p6', 'customer.subscription.updated', 15, t.sub('sub_p', NULL));
SELECT count(*) AS live FROM t.items WHERE subscription = 'sub_p' AND deleted_at IS NULL;
-- an empty one sweeps all; another subscription's items stay
SELECT t.send('evt_p7', 'customer.subscription.created', 15, t.sub('sub_q', t.page(t.item('si_q', 'sub_q')))), t.send('evt_p8', 'customer.subscription.updated', 16, t.sub('sub_p', t.page()));
SELECT * FROM t.items WHERE subscription IN ('sub_p', 'sub_q');
-- a parent that comes late: its children take their place, in time
SELECT t.send('evt_l3', 'customer.subscription.updated', 23, t.sub('sub_l', t.page(t.item('si_l1', 'sub_l', '{"quantity":30}')))),
       t.send('evt_l1', 'customer.subscription.created', 21, t.sub('sub_l', t.page(t.item('si_l1', 'sub_l', '{"quantity":10}'), t.item('si_l2', 'sub_l', '{"quantity":11}')))),
       t.send('evt_l2', 'customer.subscription.updated', 22, t.sub('sub_l', t.page(t.item('si_l2', 'sub_l', '{"quantity":20}'), t.item('si_l3', 'sub_l'))));
SELECT * FROM t.items WHERE subscription = 'sub_l';
-- cancelled: not deleted, and its items live on
SELECT t.send('evt_l4', 'customer.subscription.deleted', 24, json_build_object('id', 'sub_l', 'object', 'subscription', 'status', 'canceled', 'items', t.page(t.item('si_l1', 'sub_l', '{"quantity":30}'))));
SELECT status, _deleted_at FROM stripe.subscriptions WHERE id = 'sub_l';
SELECT id, deleted_at FROM t.items WHERE subscription = 'sub_l';
-- children that have events of their own: a charge's refunds.  In the same
-- second the own event counts, in a later one the page does.
SELECT t.send('evt_r1', 'refund.created', 40, '{"id":"re_1","object":"refund","charge":"ch_r","amount":5,"status":"pending"}'),
       t.send('evt_r2', 'charge.refunded', 40, json_build_object('id', 'ch_r', 'object', 'charge', 'refunds', t.page('{"id":"re_1","object":"refund","charge":"ch_r","amount":5,"status":"from the page"}')));
SELECT status, _event_id FROM stripe.refunds;
SELECT t.send('evt_r3', 'charge.updated', 41, json_build_object('id', 'ch_r', 'object', 'charge', 'refunds', t.page('{"id":"re_1","object":"refund","charge":"ch_r","amount":5,"status":"from a later page"}')));
SELECT status, _event_id FROM stripe.refunds;
SELECT t.send('evt_r4', 'refund.updated', 42, '{"id":"re_1","object":"refund","charge":"ch_r","amount":5,"status":"succeeded"}');
SELECT status, _event_id, _deleted_at FROM stripe.refunds;

-- ---- tombstones
SELECT t.send('evt_t1', 'coupon.created', 10, '{"id":"TEN","object":"coupon","percent_off":10}'), t.send('evt_t2', 'coupon.deleted', 11, '{"id":"TEN","object":"coupon","percent_off":10}');
SELECT percent_off, t.sec(_deleted_at) AS deleted_at, _event_id FROM stripe.coupons WHERE id = 'TEN';
-- made again, it lives
SELECT t.send('evt_t3', 'coupon.created', 12, '{"id":"TEN","object":"coupon","percent_off":11}');
SELECT percent_off, t.sec(_deleted_at) AS deleted_at, _event_id FROM stripe.coupons WHERE id = 'TEN';
-- a deletion that is the first to be heard of makes a row; one may say no more than that
SELECT t.send('evt_t4', 'product.deleted', 10, '{"id":"prod_t","object":"product","deleted":true}');
SELECT id, name, t.sec(_deleted_at) AS deleted_at FROM stripe.products WHERE id = 'prod_t';

-- ---- objects without an id: one an account, or one a customer
SELECT t.send('evt_i1', 'balance.available', 10, '{"object":"balance","livemode":false,"pending":[]}'), t.send('evt_i2', 'balance.available', 11, '{"object":"balance","livemode":false,"pending":[{"amount":3}]}'),
       t.send('evt_i3', 'balance.available', 9, '{"object":"balance","livemode":false,"pending":[{"amount":1}]}'), t.send('evt_i4', 'balance.available', 9, '{"object":"balance","pending":[{"amount":2}]}', NULL, 'acct_1');
SELECT _account, pending, _event_id FROM stripe.balances ORDER BY 1;
SELECT t.send('evt_i5', 'customer_cash_balance_transaction.created', 10, '{"object":"cash_balance","customer":"cus_1","available":{"eur":5}}'), t.send('evt_i6', 'cash_balance.funds_available', 11, '{"object":"cash_balance","customer":"cus_1","available":{"eur":6}}');
SELECT customer, available FROM stripe.cash_balances;

-- ---- Connect: accounts are nobody's, whoever tells of them
SELECT t.send('evt_c1', 'account.updated', 10, '{"id":"acct_9","object":"account","email":"platform@example.com"}'), t.send('evt_c2', 'account.updated', 12, '{"id":"acct_9","object":"account","email":"own@example.com"}', NULL, 'acct_9'),
       t.send('evt_c3', 'account.updated', 11, '{"id":"acct_9","object":"account","email":"between@example.com"}');
SELECT id, _account, email FROM stripe.accounts;
-- children and embedded objects are of the event's account
SELECT t.send('evt_c4', 'customer.subscription.created', 10, json_build_object('id', 'sub_c', 'object', 'subscription', 'items', t.page(t.item('si_c', 'sub_c', '{"price":{"id":"price_c","object":"price","active":true}}'))), NULL, 'acct_9'),
       t.send('evt_c5', 'customer.subscription.created', 10, json_build_object('id', 'sub_c', 'object', 'subscription', 'items', t.page(t.item('si_c', 'sub_c')))),
       t.send('evt_c6', 'customer.subscription.updated', 11, json_build_object('id', 'sub_c', 'object', 'subscription', 'items', t.page()));
SELECT id, _account, _deleted_at IS NULL AS live FROM stripe.subscription_items WHERE id = 'si_c' ORDER BY 2;
SELECT id, _account FROM stripe.prices WHERE id = 'price_c';

-- ---- what users have put on the tables is respected
CREATE TABLE t.log (n serial, what text);
CREATE FUNCTION t.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO t.log (what) VALUES (concat_ws(' ', TG_WHEN, TG_OP, NEW.id)); RETURN NEW; END $$;
CREATE TRIGGER before BEFORE INSERT OR UPDATE ON stripe.products FOR EACH ROW EXECUTE FUNCTION t.note();
CREATE TRIGGER after AFTER INSERT OR UPDATE ON stripe.products FOR EACH ROW EXECUTE FUNCTION t.note();
ALTER TABLE stripe.products ADD COLUMN mine text DEFAULT 'kept', ADD COLUMN upper_name text GENERATED ALWAYS AS (upper(name)) STORED, ADD CONSTRAINT named CHECK (name <> 'forbidden');
CREATE UNIQUE INDEX products_name ON stripe.products (name) WHERE name LIKE 'unique%';
CREATE INDEX products_lower ON stripe.products (lower(name));
SELECT t.send('evt_u1', 'product.created', 10, '{"id":"prod_1","object":"product","name":"first","mine":"of the object"}');
SELECT id, name, mine, upper_name FROM stripe.products WHERE id = 'prod_1';
UPDATE stripe.products SET mine = 'changed' WHERE id = 'prod_1';
SELECT t.send('evt_u2', 'product.updated', 11, '{"id":"prod_1","object":"product","name":"second"}');
SELECT id, name, mine, upper_name FROM stripe.products WHERE id = 'prod_1';
SELECT what FROM t.log ORDER BY n;
SELECT t.send('evt_u3', 'product.updated', 12, '{"id":"prod_1","object":"product","name":"forbidden"}');
SELECT left(error, 14) AS error FROM stripe_sync.event WHERE id = 'evt_u3';
SELECT t.send('evt_u4', 'product.created', 13, '{"id":"prod_2","object":"product","name":"unique x"}'), t.send('evt_u5', 'product.created', 13, '{"id":"prod_3","object":"product","name":"unique x"}');
SELECT left(error, 14) AS error FROM stripe_sync.event WHERE id = 'evt_u5';
SET enable_seqscan = off;
SELECT id FROM stripe.products WHERE lower(name) = 'second';
RESET enable_seqscan;
-- a trigger may change what is written, or keep a row out
CREATE FUNCTION t.censor() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.name = 'out' THEN RETURN NULL; END IF; NEW.name := 'censored'; RETURN NEW; END $$;
CREATE TRIGGER censor BEFORE INSERT OR UPDATE ON stripe.coupons FOR EACH ROW EXECUTE FUNCTION t.censor();
SELECT t.send('evt_u6', 'coupon.created', 20, '{"id":"CENSORED","object":"coupon","name":"rude"}'), t.send('evt_u7', 'coupon.created', 20, '{"id":"OUT","object":"coupon","name":"out"}');
SELECT id, name FROM stripe.coupons WHERE id IN ('CENSORED', 'OUT');
-- a foreign key to the mirror holds through its updates
CREATE TABLE t.orders (product text, account text DEFAULT '', FOREIGN KEY (product, account) REFERENCES stripe.products (id, _account));
INSERT INTO t.orders VALUES ('prod_1');
SELECT t.send('evt_u8', 'product.deleted', 14, '{"id":"prod_1","object":"product","name":"second"}');
SELECT id, _deleted_at IS NOT NULL AS deleted FROM stripe.products WHERE id = 'prod_1';
-- one that the caller has deferred may wait for the event
CREATE TABLE t.waits (customer text, account text DEFAULT '', FOREIGN KEY (customer, account) REFERENCES stripe.customers (id, _account) DEFERRABLE INITIALLY DEFERRED);
BEGIN;
INSERT INTO t.waits VALUES ('cus_waited');
SELECT t.send('evt_u8b', 'customer.created', 10, '{"id":"cus_waited","object":"customer"}');
COMMIT;
SELECT customer FROM t.waits;
DROP TABLE t.waits;
-- a column that is dropped is done without; one of a plain table as well
ALTER TABLE stripe.customers DROP COLUMN phone, ADD COLUMN note text;
SELECT t.send('evt_u9', 'customer.created', 10, '{"id":"cus_u","object":"customer","phone":"123","email":"u@example.com"}');
SELECT id, email, note, _data->>'phone' AS phone FROM stripe.customers WHERE id = 'cus_u';

-- ---- under the stricter isolation levels too
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT t.send('evt_s1', 'customer.updated', 11, '{"id":"cus_u","object":"customer","email":"s@example.com"}'), t.send('evt_s2', 'customer.created', 11, '{"id":"cus_s","object":"customer","email":"s2@example.com"}');
COMMIT;
SELECT id, email FROM stripe.customers WHERE id IN ('cus_u', 'cus_s') ORDER BY id;

-- ---- one event's id in two accounts, about two objects
SELECT t.send('evt_dup', 'customer.created', 1, '{"id":"cus_dup1","object":"customer","email":"own@example.com"}'), t.send('evt_dup', 'customer.created', 1, '{"id":"cus_dup2","object":"customer","email":"theirs@example.com"}', NULL, 'acct_1');
SELECT t.send('evt_dup2', 'charge.succeeded', 5, '{"id":"ch_dup","object":"charge","customer":{"id":"cus_dup2","object":"customer","email":"expanded@example.com"}}', NULL, 'acct_1'),
       t.send('evt_dup3', 'charge.succeeded', 5, '{"id":"ch_dup","object":"charge","customer":{"id":"cus_dup1","object":"customer","email":"expanded@example.com"}}');
SELECT id, _account, email, _event_id FROM stripe.customers WHERE id LIKE 'cus\_dup%' ORDER BY id, _account;

-- ---- tables that their owner has bent: the event waits for them to be mended
CREATE FUNCTION t.webhook(payload text) RETURNS text LANGUAGE sql AS $$
	SELECT concat_ws(' ', w.http_status, w.body) FROM stripe_sync.webhook(payload, jsonb_build_object('Stripe-Signature', stripe_sync.sign(payload, t.secret(), clock_timestamp()))) w $$;
ALTER TABLE stripe.payment_methods DROP CONSTRAINT payment_methods_pkey, ADD PRIMARY KEY (_account, id);
SELECT t.raises($$ SELECT t.webhook(t.event('evt_b1', 'payment_method.attached', 1, '{"id":"pm_b","object":"payment_method"}')) $$),
       t.raises($$ SELECT t.webhook(t.event('evt_b2', 'payment_intent.created', 1, '{"id":"pi_b","object":"payment_intent","payment_method":{"id":"pm_b2","object":"payment_method","type":"card"}}')) $$);
SELECT id, status, todo, line FROM stripe_sync.event, string_to_table(error, E'\n') WITH ORDINALITY l (line, n) WHERE id LIKE 'evt\_b_' AND n <= 2 ORDER BY id, n;
ALTER TABLE stripe.payment_methods DROP CONSTRAINT payment_methods_pkey, ADD PRIMARY KEY (id, _account);
SELECT status FROM stripe_sync.replay('evt_b1');
-- without the column that names the parent, pages still list and sweep
DROP VIEW t.items;
ALTER TABLE stripe.subscription_items DROP COLUMN subscription;
SELECT t.send('evt_b3', 'customer.subscription.created', 1, t.sub('sub_b', t.page(t.item('si_b1', 'sub_b'), t.item('si_b2', 'sub_b')))),
       t.send('evt_b4', 'customer.subscription.updated', 2, t.sub('sub_b', t.page(t.item('si_b2', 'sub_b'), t.item('si_b3', 'sub_b'))));
SELECT id, _event_id, t.sec(_deleted_at) AS deleted_at FROM stripe.subscription_items WHERE id LIKE 'si\_b_' ORDER BY id;
