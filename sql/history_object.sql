-- history() and as_of(): what was known of an object, and when.
\set tables '{customer,subscription,subscription_item,coupon,invoice}'
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.psql
\set ECHO none
\i :prelude
\set ECHO all
CREATE FUNCTION t.customer(id text, name text, created numeric DEFAULT 0) RETURNS json LANGUAGE sql AS $$ SELECT json_build_object('id', id, 'object', 'customer', 'name', name, 'created', t.at(created)) $$;
CREATE FUNCTION t.as_of(type text, at numeric, id text DEFAULT NULL) RETURNS TABLE (object_id text, what text) LANGUAGE sql AS $$
	SELECT object_id, CASE WHEN known THEN coalesce(object->>'name', object->>'status', object->>'quantity', object::text) ELSE '?' END
	  FROM stripe_sync.as_of(type, to_timestamp(t.at(0) + at)) WHERE id IS NULL OR object_id = id ORDER BY 1 $$;
CREATE FUNCTION t.over_time(type text, id text, VARIADIC at numeric[]) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(s || ' ' || coalesce((SELECT what FROM t.as_of(type, s, id)), '-'), ', ' ORDER BY s) FROM unnest(at) s $$;
CREATE FUNCTION t.history(type text, id text) RETURNS TABLE (sec numeric, event_id text, field text, old text, new text) LANGUAGE sql AS $$
	SELECT t.sec(at), event_id, field, CASE WHEN field IS NULL THEN old->>'id' ELSE old::text END, CASE WHEN field IS NULL THEN new->>'id' ELSE new::text END FROM stripe_sync.history(type, id) $$;

-- created, changed, deleted: no row before and after
SELECT t.send('evt_2', 'customer.updated', 20, t.customer('cus_1', 'B'), '{"name": "A"}');
SELECT t.send('evt_3', 'customer.deleted', 30, t.customer('cus_1', 'B'));
SELECT t.send('evt_1', 'customer.created', 10, t.customer('cus_1', 'A'));
SELECT t.over_time('customer', 'cus_1', 9.9, 10, 19, 20, 29, 30, 40);
SELECT * FROM t.history('customer', 'cus_1');

-- older than its first event: unknown until then, and no row before it was created
SELECT t.send('evt_4', 'customer.updated', 20, t.customer('cus_2', 'B', 5), '{"name": "A"}');
SELECT t.over_time('customer', 'cus_2', 4, 6, 19, 20);
SELECT * FROM t.history('customer', 'cus_2');

-- an event in between is missing: unknown from the one before it on
SELECT t.send('evt_5', 'customer.updated', 30, t.customer('cus_2', 'D', 5), '{"name": "C"}');
SELECT t.over_time('customer', 'cus_2', 19, 20, 29, 30);
SELECT * FROM t.history('customer', 'cus_2');

-- a burst of one second
SELECT t.send('evt_6c', 'customer.updated', 10, t.customer('cus_3', 'B'), '{"name": "A"}');
SELECT t.send('evt_6a', 'customer.updated', 10, t.customer('cus_3', 'C'), '{"name": "B"}');
SELECT t.send('evt_6b', 'customer.created', 10, t.customer('cus_3', 'A'));
SELECT t.over_time('customer', 'cus_3', 9, 10, 11);
SELECT * FROM t.history('customer', 'cus_3');

-- a life begun again: what came in between does not count
CREATE FUNCTION t.coupon(name text) RETURNS json LANGUAGE sql AS $$ SELECT json_build_object('id', 'co_1', 'object', 'coupon', 'name', name, 'created', t.at(10)) $$;
SELECT t.send('evt_c1', 'coupon.created', 10, t.coupon('A'));
SELECT t.send('evt_c2', 'coupon.deleted', 20, t.coupon('A'));
SELECT t.send('evt_c3', 'coupon.updated', 25, t.coupon('X'), '{"name": "A"}');
SELECT t.send('evt_c4', 'coupon.created', 30, t.coupon('B'));
SELECT t.send('evt_c5', 'coupon.updated', 40, t.coupon('C'), '{"name": "B"}');
SELECT t.over_time('coupon', 'co_1', 9, 10, 20, 25, 30, 40);
SELECT * FROM t.history('coupon', 'co_1');

-- a change seen by a fetch alone: known from then on, unknown between it and the event before
SELECT t.send('evt_f1', 'customer.created', 10, t.customer('cus_4', 'A'));
SELECT stripe_sync.apply_reading(t.customer('cus_4', 'B')::jsonb, '', to_timestamp(t.at(20)));
SELECT t.over_time('customer', 'cus_4', 9, 10, 19, 20, 30);
-- also when the next event has replaced it in the mirror, and when it came late
SELECT t.send('evt_f2', 'customer.updated', 40, t.customer('cus_4', 'C'), '{"name": "B"}');
SELECT stripe_sync.apply_reading(t.customer('cus_4', 'A')::jsonb, '', to_timestamp(t.at(15)));
SELECT t.over_time('customer', 'cus_4', 9, 10, 14, 15, 16, 19, 20, 30, 40, 50);
SELECT * FROM t.history('customer', 'cus_4');
-- first known by a fetch; not found by a later one
SELECT stripe_sync.apply_reading(t.customer('cus_5', 'A', 5)::jsonb, '', to_timestamp(t.at(20)));
SELECT stripe_sync.apply_reading('{"id": "cus_5", "object": "customer", "deleted": true}', '', to_timestamp(t.at(40)));
SELECT t.over_time('customer', 'cus_5', 4, 10, 20, 30, 40, 50);
SELECT * FROM t.history('customer', 'cus_5');
-- the same again and again is noted once
SELECT stripe_sync.apply_reading(t.customer('cus_6', 'A', 5)::jsonb, '', to_timestamp(t.at(20 + n))) FROM generate_series(1, 5) n;
SELECT t.sec(as_of), object->>'name' AS name FROM stripe_sync.former_reading WHERE object_id = 'cus_6';
SELECT t.over_time('customer', 'cus_6', 20, 21, 24);

-- items of subscriptions follow from their parents' events
CREATE FUNCTION t.item(id text, quantity int) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_object('id', id, 'object', 'subscription_item', 'quantity', quantity, 'subscription', 'sub_1', 'created', t.at(10)) $$;
CREATE FUNCTION t.sub(status text, VARIADIC items jsonb[]) RETURNS json LANGUAGE sql AS $$ SELECT json_build_object('id', 'sub_1', 'object', 'subscription', 'status', status, 'created', t.at(10), 'items', json_build_object('object', 'list', 'has_more', false, 'data', items)) $$;
SELECT t.send('evt_s1', 'customer.subscription.created', 10, t.sub('active', t.item('si_1', 1)));
SELECT t.send('evt_s2', 'customer.subscription.updated', 20, t.sub('active', t.item('si_1', 2), t.item('si_2', 5)), json_build_object('items', json_build_object('data', ARRAY[t.item('si_1', 1)])));
SELECT t.send('evt_s3', 'customer.subscription.updated', 30, t.sub('active', t.item('si_2', 5)), json_build_object('items', json_build_object('data', ARRAY[t.item('si_1', 2), t.item('si_2', 5)])));
SELECT t.send('evt_s4', 'customer.subscription.deleted', 40, t.sub('canceled', t.item('si_2', 5)));
SELECT t.over_time('subscription', 'sub_1', 9, 10, 39, 40);
SELECT t.over_time('subscription_item', 'si_1', 9, 10, 19, 20, 29, 30, 40);
SELECT t.over_time('subscription_item', 'si_2', 9, 10, 19, 20, 29, 30, 40);
SELECT * FROM t.history('subscription_item', 'si_1');

-- after the events are pruned: the same of kept types, nothing guessed of others
CREATE TABLE t.before AS
SELECT 'as_of' AS what, type, s, to_jsonb(a) AS row FROM unnest('{subscription,subscription_item}'::text[]) type, generate_series(5, 50) s, stripe_sync.as_of(type, to_timestamp(t.at(s))) a
UNION ALL SELECT 'history', type, row_number() OVER (PARTITION BY id), to_jsonb(h) FROM (VALUES ('subscription', 'sub_1'), ('subscription_item', 'si_1'), ('subscription_item', 'si_2')) v (type, id), stripe_sync.history(type, id) h;
SELECT what, count(*) > 10 AS some FROM t.before GROUP BY what ORDER BY 1;
UPDATE stripe_sync.event SET received_at = now() - interval '100 days';
SELECT stripe_sync.prune();
SELECT count(*) AS events FROM stripe_sync.event;
SELECT n, t.sec(at), event_id, kind, field, old, CASE WHEN field IS NULL THEN new->>'id' ELSE new::text END AS new FROM stripe_sync.change WHERE object_id = 'sub_1' ORDER BY n;
SELECT object_id, n, t.sec(at), event_id, parent, kind, field, old, CASE WHEN field IS NULL THEN new->>'id' ELSE new::text END AS new FROM stripe_sync.change WHERE object_type = 'subscription_item' ORDER BY object_id, n;
CREATE TABLE t.after AS
SELECT 'as_of' AS what, type, s, to_jsonb(a) AS row FROM unnest('{subscription,subscription_item}'::text[]) type, generate_series(5, 50) s, stripe_sync.as_of(type, to_timestamp(t.at(s))) a
UNION ALL SELECT 'history', type, row_number() OVER (PARTITION BY id), to_jsonb(h) FROM (VALUES ('subscription', 'sub_1'), ('subscription_item', 'si_1'), ('subscription_item', 'si_2')) v (type, id), stripe_sync.history(type, id) h;
TABLE t.before EXCEPT TABLE t.after;
TABLE t.after EXCEPT TABLE t.before;
SELECT t.over_time('customer', 'cus_2', 4, 6, 20, 29, 30);
SELECT t.over_time('customer', 'cus_1', 9, 20, 30);
-- the chain goes on
SELECT t.send('evt_s5', 'customer.subscription.updated', 50, t.sub('past_due', t.item('si_2', 6)), json_build_object('status', 'canceled', 'items', json_build_object('data', ARRAY[t.item('si_2', 5)])));
SELECT t.over_time('subscription_item', 'si_2', 40, 49, 50);
UPDATE stripe_sync.event SET received_at = now() - interval '100 days';
SELECT stripe_sync.prune();
SELECT t.over_time('subscription_item', 'si_2', 19, 20, 40, 49, 50);
SELECT t.over_time('subscription', 'sub_1', 9, 10, 39, 40, 50);
-- types no longer kept: what happened then is not known
SET stripe_sync.history_types = '';
SELECT t.send('evt_s6', 'customer.subscription.updated', 60, t.sub('unpaid', t.item('si_2', 6)), '{"status": "past_due"}');
UPDATE stripe_sync.event SET received_at = now() - interval '100 days';
SELECT stripe_sync.prune();
SELECT t.over_time('subscription', 'sub_1', 50, 59, 60, 70);
RESET stripe_sync.history_types;
SELECT t.send('evt_s7', 'customer.subscription.deleted', 80, t.sub('canceled', t.item('si_2', 6)));
SELECT t.over_time('subscription', 'sub_1', 50, 59, 60, 79, 80);
-- an event that comes late, before what is kept
SELECT t.send('evt_s8', 'customer.subscription.updated', 25, t.sub('past_due', t.item('si_1', 2), t.item('si_2', 5)), '{"status": "active"}');
UPDATE stripe_sync.event SET received_at = now() - interval '100 days' WHERE id = 'evt_s8';
SELECT t.over_time('subscription', 'sub_1', 9, 10, 24, 25, 29, 30, 40, 50);
SELECT stripe_sync.prune();
SELECT t.over_time('subscription', 'sub_1', 9, 10, 24, 25, 29, 30, 40, 50);

-- arguments and the setting
SELECT t.hint($$ SELECT * FROM stripe_sync.as_of('subscripton', now()) $$);
SELECT t.raises($$ SELECT * FROM stripe_sync.as_of('subscription', NULL) $$);
SELECT count(*) FROM stripe_sync.as_of('invoice', now());
SELECT t.raises_all($$ SET stripe_sync.history_types = 'subscription, nothing' $$);
SET stripe_sync.history_types = 'invoice, coupon';
RESET stripe_sync.history_types;
