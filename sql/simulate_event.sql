-- simulate: what is left out, previous_attributes, times; what is stored beside it; stories.
\set tables '{customer,subscription,subscription_item,price,plan,product,invoice,line_item,invoice_payment,payment_intent,charge,payment_method,checkout.session,dispute,refund,coupon}'
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.psql
\set ECHO none
\i :prelude
\set ECHO all
-- the previous_attributes of the last event about an object; that they are missing, too
CREATE FUNCTION t.previous(object text) RETURNS text LANGUAGE sql AS $$
	SELECT coalesce(payload->'data'->>'previous_attributes', 'none') FROM stripe_sync.event WHERE object_id = object ORDER BY id DESC LIMIT 1
$$;
CREATE FUNCTION t.simulate(type text, object jsonb, OUT status text, OUT previous text) LANGUAGE plpgsql AS $$
BEGIN
	SELECT s.status INTO status FROM stripe_sync.simulate(type, object) s;
	previous := t.previous(object->>'id');
END $$;

-- created, updated, updated within a second: 40 times, and as fast as it goes
SELECT count(*) AS calls FROM generate_series(1, 40) n, LATERAL stripe_sync.simulate('customer.created', jsonb_build_object('id', 'cus_fast' || n, 'name', 'one')) a,
	LATERAL stripe_sync.simulate('customer.updated', jsonb_build_object('id', 'cus_fast' || n, 'name', 'two', 'n', length(a.status))) b,
	LATERAL stripe_sync.simulate('customer.updated', jsonb_build_object('id', 'cus_fast' || n, 'name', 'one', 'n', length(b.status))) c
 WHERE c.status = 'applied';
SELECT name, count(*) FROM stripe.customers WHERE id LIKE 'cus_fast%' GROUP BY name;

-- what is left out is a fixture's, then what is stored; null is null
SELECT * FROM t.simulate('customer.created', '{"id": "cus_1", "object": "customer", "email": "ada@example.com", "metadata": {"plan": "pro", "seats": "3"}}');
SELECT email, name, balance, tax_exempt, livemode, metadata, created BETWEEN now() - interval '1 minute' AND now() AS created FROM stripe.customers WHERE id = 'cus_1';
SELECT * FROM t.simulate('customer.updated', '{"id": "cus_1", "name": "Ada"}');
SELECT * FROM t.simulate('customer.updated', '{"id": "cus_1", "email": null, "address": {"city": "Berlin", "line1": null}}');
SELECT * FROM t.simulate('customer.updated', '{"id": "cus_1", "address": {"city": "Bonn"}, "preferred_locales": ["de", "en"], "metadata": {"plan": "pro"}}');
SELECT * FROM t.simulate('customer.updated', '{"id": "cus_1", "address": null, "preferred_locales": ["de"], "new": {"x": 1}}');
SELECT * FROM t.simulate('customer.updated', '{"id": "cus_1", "name": "Ada"}');
SELECT email, name, address, preferred_locales, metadata FROM stripe.customers WHERE id = 'cus_1';
-- its last event has the whole object
SELECT payload->'data'->'object'->>'name' AS name, payload->'data'->'object'->>'invoice_prefix' AS prefix, payload->>'object' AS object, payload->>'livemode' AS live
  FROM stripe_sync.event WHERE object_id = 'cus_1' ORDER BY id DESC LIMIT 1;
-- the type of object may be left out where there is but one, the id as well
SELECT status FROM stripe_sync.simulate('coupon.created', '{"percent_off": 10}');
SELECT id ~ '^sim_[0-9a-f]+$' AS made_up, percent_off, duration FROM stripe.coupons;
SELECT status FROM stripe_sync.simulate('tax_rate.created', '{"id": "txr_1"}');
SELECT object_type, payload->'data'->'object'->>'livemode' AS live FROM stripe_sync.event WHERE object_id = 'txr_1';
SELECT status, detail FROM stripe_sync.simulate('anything.else', '{"a": 1}');
SELECT status, detail FROM stripe_sync.simulate('customer.created', '{"id": 7}');
-- the first that is told of it is so
SELECT status FROM stripe_sync.simulate('invoice.paid', '{"id": "in_paid", "customer": "cus_1"}');
SELECT status, customer, amount_remaining, number FROM stripe.invoices;
SELECT count(*) FROM stripe_sync.simulate('balance.available', '{"available": []}');
-- other accounts have objects of their own
SELECT status FROM stripe_sync.simulate('customer.updated', '{"id": "cus_1", "name": "Bob"}', account => 'acct_1Bob');
SELECT _account, name, email FROM stripe.customers WHERE id = 'cus_1' ORDER BY _account;

-- never later than now; a time of one's own
SELECT count(*) AS later FROM stripe_sync.event WHERE created > received_at OR created > clock_timestamp();
SELECT status FROM stripe_sync.simulate('customer.updated', '{"id": "cus_1", "name": "Late"}', created => now() - interval '1 day');
SELECT name FROM stripe.customers WHERE id = 'cus_1' AND _account = '';
SELECT status FROM stripe_sync.simulate('customer.created', '{"id": "cus_2", "name": "A"}', created => '2025-01-01 00:00:00.9Z');
SELECT status FROM stripe_sync.simulate('customer.updated', '{"id": "cus_2", "name": "B"}', created => '2025-01-01 00:00:00Z');
SELECT status FROM stripe_sync.simulate('customer.updated', '{"id": "cus_2", "name": "A"}', created => '2025-01-01 00:00:00Z');
SELECT name, _as_of AT TIME ZONE 'UTC' AS as_of FROM stripe.customers WHERE id = 'cus_2';
-- previous_attributes of one's own, or none
SELECT status FROM stripe_sync.simulate('customer.updated', '{"id": "cus_2", "name": "C"}', previous => '{"name": "Z"}');
SELECT t.previous('cus_2');
SELECT status FROM stripe_sync.simulate('customer.updated', '{"id": "cus_2", "name": "D"}', created => '2025-01-02', previous => 'null');
SELECT payload->'data' ? 'previous_attributes' AS has FROM (SELECT payload::jsonb FROM stripe_sync.event WHERE object_id = 'cus_2' ORDER BY id DESC LIMIT 1) e;

-- a life ends, and another begins
SELECT * FROM t.simulate('customer.deleted', '{"id": "cus_2"}');
SELECT name, _deleted_at IS NOT NULL AS deleted FROM stripe.customers WHERE id = 'cus_2';
SELECT status, regexp_replace(detail, '^evt_sim_\w+', 'EVENT') AS detail FROM stripe_sync.simulate('customer.updated', '{"id": "cus_2", "name": "dead"}');
SELECT * FROM t.simulate('customer.created', '{"id": "cus_2"}');
SELECT name, _deleted_at IS NOT NULL AS deleted FROM stripe.customers WHERE id = 'cus_2';
-- created once more, after a change of the same second
SELECT * FROM t.simulate('customer.updated', '{"id": "cus_2", "name": "E"}');
SELECT * FROM t.simulate('customer.created', '{"id": "cus_2", "name": "F"}');
SELECT name FROM stripe.customers WHERE id = 'cus_2';
-- more of one second than can be put in order
SELECT count(*), min(s.status) FROM generate_series(1, 20) n, LATERAL stripe_sync.simulate('customer.updated', jsonb_build_object('id', 'cus_2', 'balance', n % 3)) s;
SELECT balance FROM stripe.customers WHERE id = 'cus_2';
-- what has a page of children
SELECT status FROM stripe_sync.simulate('customer.subscription.created', '{"id": "sub_1", "customer": "cus_1"}');
SELECT s.customer, s.status, i.id, i.price->>'id' AS price, s.price = i.price->>'id' AS same, s.current_period_end > now() AS paid FROM stripe.subscriptions s JOIN stripe.subscription_items i ON i.subscription = s.id;
SELECT * FROM t.simulate('customer.subscription.deleted', '{"id": "sub_1", "status": "canceled"}');
SELECT status, _deleted_at FROM stripe.subscriptions;

-- what is refused
SELECT t.hint($$ SELECT stripe_sync.simulate('customer.created', '{"id": "cus_9"}', created => now() + interval '1 minute') $$);
SELECT t.hint($$ SELECT stripe_sync.simulate('customer.created', '{"id": "cus_9"}', previous => '[1]') $$);
SELECT t.hint($$ SELECT stripe_sync.simulate('customer.created', '{"id": "cus_9"}', account => 'bob') $$);
SELECT t.hint($$ SELECT stripe_sync.simulate('customer.created', NULL) $$);
SELECT t.raises($$ SELECT stripe_sync.simulate(NULL, '{}') $$) AS no_type, t.raises($$ SELECT stripe_sync.simulate('customer.created', '{}', 'nowhere') $$) AS nowhere,
       t.raises($$ SELECT stripe_sync.simulate('customer.created', '{}', created => 'infinity') $$) AS never, t.raises($$ SELECT stripe_sync.simulate('customer.created', '{}', created => '-infinity') $$) AS always;

-- ---- stories ----

-- what a story of so many steps leaves of its subscription
CREATE FUNCTION t.story(customer text, VARIADIC steps text[], OUT events bigint, OUT not_applied bigint, OUT subscription text, OUT paid_until interval, OUT invoices text) LANGUAGE plpgsql AS $$
BEGIN
	SELECT count(*), count(*) FILTER (WHERE s.status <> 'applied') INTO events, not_applied FROM stripe_sync.simulate_story('subscription', story.customer, story.steps) s;
	SELECT s.status, date_trunc('day', justify_hours(s.current_period_end - now() + interval '2 hours')) INTO subscription, paid_until FROM stripe.subscriptions s WHERE s.customer = story.customer;
	SELECT string_agg(i.status || ' ' || i.amount_remaining, ', ' ORDER BY i.number) INTO invoices FROM stripe.invoices i WHERE i.customer = story.customer;
END $$;
SELECT step, type, status FROM stripe_sync.simulate_story('subscription', 'cus_story');
SELECT s.status, s.ended_at = s.canceled_at AS ended, s.current_period_end - s.current_period_start AS period, i.quantity FROM stripe.subscriptions s JOIN stripe.subscription_items i ON i.subscription = s.id AND i._deleted_at IS NULL WHERE s.customer = 'cus_story';
SELECT i.number, i.status, i.billing_reason, i.attempt_count, i.amount_paid, i.subscription = s.id AS of_subscription, sum(l.amount) AS lines, i.status_transitions->>'paid_at' IS NOT NULL AS paid
  FROM stripe.invoices i JOIN stripe.subscriptions s USING (customer) JOIN stripe.line_items l ON l.invoice = i.id WHERE i.customer = 'cus_story' GROUP BY i.id, i._account, s.id, s._account ORDER BY 1;
SELECT c.status, c.amount, c.failure_code, p.status AS intent, p.latest_charge = c.id AS latest FROM stripe.charges c JOIN stripe.payment_intents p ON p.id = c.payment_intent WHERE c.customer = 'cus_story' ORDER BY c.id;
SELECT k.status, k.payment_status, k.mode, k.customer_details->>'email' AS email, c.name, k.subscription IS NOT NULL AS subscribed FROM stripe.checkout_sessions k JOIN stripe.customers c ON c.id = k.customer WHERE c.id = 'cus_story';
SELECT p.name, r.unit_amount, r.product = p.id AS of_product FROM stripe.prices r JOIN stripe.products p ON p.id = r.product;
-- the last is of now, none is later; only updates have previous_attributes
SELECT max(created) BETWEEN now() - interval '1 minute' AND clock_timestamp() AS now, bool_or(payload->'data'->'previous_attributes' IS NOT NULL AND type NOT LIKE '%.updated') AS others FROM stripe_sync.event WHERE id IN
	(SELECT id FROM stripe_sync.event WHERE object_id IN (SELECT id FROM stripe.subscriptions WHERE customer = 'cus_story'));
SELECT payload->'data'->'previous_attributes' AS previous FROM stripe_sync.event WHERE object_id IN (SELECT id FROM stripe.subscriptions WHERE customer = 'cus_story') AND type = 'customer.subscription.updated' AND payload->'data'->'previous_attributes'->'status' IS NOT NULL ORDER BY created;
-- any of its first steps
SELECT * FROM t.story('cus_s1', 'checkout');
SELECT * FROM t.story('cus_s2', 'checkout', 'paid');
SELECT * FROM t.story('cus_s3', 'checkout', 'paid', 'renewed');
SELECT * FROM t.story('cus_s4', 'checkout', 'paid', 'renewed', 'failed');
SELECT * FROM t.story('cus_s5', 'checkout', 'paid', 'renewed', 'failed', 'recovered');
-- a customer that is stored stays as it is; a new one is made
SELECT step, type, status FROM stripe_sync.simulate_story('refund', 'cus_1', '{paid,partly_refunded}');
SELECT name FROM stripe.customers WHERE id = 'cus_1' AND _account = '';
SELECT c.amount_refunded, c.refunded, r.amount, r.reason FROM stripe.charges c JOIN stripe.refunds r ON r.charge = c.id WHERE c.customer = 'cus_1';
SELECT count(DISTINCT object_id) FILTER (WHERE type = 'customer.created') AS customers, array_agg(DISTINCT step ORDER BY step) AS steps, min(status) AS status FROM stripe_sync.simulate_story('refund');
SELECT c.amount_refunded, c.refunded, sum(r.amount) AS refunds FROM stripe.charges c JOIN stripe.refunds r ON r.charge = c.id WHERE c.refunded GROUP BY c.id, c._account;
SELECT step, type, status FROM stripe_sync.simulate_story('dispute', steps => '{paid,opened,answered,lost}');
SELECT d.status, d.amount, d.reason, c.disputed, d.evidence_details->'submission_count' AS submissions FROM stripe.disputes d JOIN stripe.charges c ON c.id = d.charge;
-- handlers see them as any other
CREATE TABLE t.seen (n int GENERATED ALWAYS AS IDENTITY, type text);
CREATE FUNCTION t.see(event jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO t.seen (type) VALUES (event->>'type') $$;
SELECT stripe_sync.add_handler('see', 'invoice.paid*', 't.see');
SELECT count(*) FROM stripe_sync.simulate_story('subscription', steps => '{checkout,paid,renewed}');
SELECT type, count(*) FROM t.seen GROUP BY type ORDER BY type;
SELECT t.hint($$ SELECT * FROM stripe_sync.simulate_story('divorce') $$);
SELECT t.hint($$ SELECT * FROM stripe_sync.simulate_story('dispute', steps => '{opened}') $$);
SELECT t.raises($$ SELECT * FROM stripe_sync.simulate_story('dispute', steps => '{}') $$) AS none, t.raises($$ SELECT * FROM stripe_sync.simulate_story(NULL) $$) AS no_story;
SELECT t.hint($$ SELECT * FROM stripe_sync.simulate_story('dispute', 'Ada') $$);
UPDATE stripe_sync.endpoint SET livemode = true;
SELECT t.raises($$ SELECT * FROM stripe_sync.simulate_story('dispute') $$);

-- the mirror is what its events say, and nothing of it was in doubt
SELECT * FROM stripe_sync.verify_mirror();
SELECT * FROM stripe_sync.reread;
