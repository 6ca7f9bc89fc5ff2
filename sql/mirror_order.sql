-- Which snapshot is the newest: the rules one by one, told by explain_event;
-- each set of events in every order of arrival.
\set tables '{coupon,customer,invoice,subscription,subscription_item,charge,refund,tax_id,credit_note,credit_note_line_item}'
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.psql
\set ECHO none
\i :prelude
\set ECHO all
-- A scenario: events of one object, "{{ID}}" standing for a part of its id.
CREATE TABLE t.scenario (name text, n int, type text, at numeric, object json, previous json, PRIMARY KEY (name, n));
-- Receive a scenario's events in this order of arrival, about an object of its
-- own; tells the event that the row ends with, and the row.
CREATE FUNCTION t.play(wanted text, arrival int[], "table" text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	tag text := wanted || '_' || array_to_string(arrival, '');
	i int;
	e t.scenario;
	result text;
BEGIN
	FOREACH i IN ARRAY arrival LOOP
		SELECT * INTO STRICT e FROM t.scenario s WHERE s.name = wanted AND s.n = i;
		PERFORM t.send(format('evt_%s_%s', tag, i), e.type, e.at, replace(e.object::text, '{{ID}}', tag)::json, e.previous);
	END LOOP;
	EXECUTE format($q$ SELECT concat_ws(' ', right(_event_id, 1), _data - 'id' - 'object', 'deleted ' || t.sec(_deleted_at)) FROM stripe.%I WHERE id = 'x_' || %L $q$, "table", tag) INTO result;
	RETURN result;
END $$;
CREATE FUNCTION t.permutations(int) RETURNS SETOF int[] LANGUAGE sql AS $$
	WITH RECURSIVE p (a) AS (
		SELECT '{}'::int[] UNION ALL
		SELECT a || i FROM p, generate_series(1, $1) i WHERE NOT i = ANY (a))
	SELECT a FROM p WHERE cardinality(a) = $1 $$;
-- Every order of arrival, twice with duplicates: all end the same.
CREATE FUNCTION t.all_orders(wanted text, "table" text, OUT orders bigint, OUT ends text) RETURNS SETOF record LANGUAGE sql AS $$
	SELECT count(*), result
	  FROM t.permutations((SELECT max(n) FROM t.scenario WHERE name = wanted)) a,
	       LATERAL (VALUES (a), (a || a), (a || a[1])) v (arrival), LATERAL t.play(wanted, arrival, "table") result
	 GROUP BY result $$;
CREATE FUNCTION t.rule(event text) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT regexp_replace(line, '\(created [^)]*\) ', '') FROM string_to_table(stripe_sync.explain_event(event), E'\n') WITH ORDINALITY l (line, n)
	 WHERE line ~ 'newest|only stored|newer,' ORDER BY n $$;

-- 1. a later created is newer
INSERT INTO t.scenario VALUES
	('later', 1, 'customer.created', 10, '{"id":"x_{{ID}}","object":"customer","name":"one"}', NULL),
	('later', 2, 'customer.updated', 11, '{"id":"x_{{ID}}","object":"customer","name":"two"}', NULL),
	('later', 3, 'customer.updated', 12, '{"id":"x_{{ID}}","object":"customer","name":"three"}', NULL);
SELECT * FROM t.all_orders('later', 'customers');
SELECT t.rule('evt_later_321_1');
-- a deletion ends a life: an update of a later second is of no life
INSERT INTO t.scenario VALUES
	('dead', 1, 'coupon.created', 10, '{"id":"x_{{ID}}","object":"coupon","percent_off":1}', NULL),
	('dead', 2, 'coupon.deleted', 11, '{"id":"x_{{ID}}","object":"coupon","percent_off":1}', NULL),
	('dead', 3, 'coupon.updated', 12, '{"id":"x_{{ID}}","object":"coupon","percent_off":3}', NULL);
SELECT * FROM t.all_orders('dead', 'coupons');
SELECT t.rule('evt_dead_213_3');
-- only a later creation begins another, in which later events count
INSERT INTO t.scenario VALUES
	('again', 1, 'coupon.created', 10, '{"id":"x_{{ID}}","object":"coupon","percent_off":1}', NULL),
	('again', 2, 'coupon.deleted', 11, '{"id":"x_{{ID}}","object":"coupon","percent_off":1}', NULL),
	('again', 3, 'coupon.created', 12, '{"id":"x_{{ID}}","object":"coupon","percent_off":3}', NULL),
	('again', 4, 'coupon.updated', 13, '{"id":"x_{{ID}}","object":"coupon","percent_off":4}', '{"percent_off":3}');
SELECT * FROM t.all_orders('again', 'coupons');
-- created in the second of its deletion is that life's beginning, not another's
INSERT INTO t.scenario VALUES
	('one_second', 1, 'coupon.created', 10, '{"id":"x_{{ID}}","object":"coupon","percent_off":1}', NULL),
	('one_second', 2, 'coupon.updated', 10, '{"id":"x_{{ID}}","object":"coupon","percent_off":2}', '{"percent_off":1}'),
	('one_second', 3, 'coupon.deleted', 10, '{"id":"x_{{ID}}","object":"coupon","percent_off":2}', NULL);
SELECT * FROM t.all_orders('one_second', 'coupons');
-- a cancellation is no deletion: in its place by created
INSERT INTO t.scenario VALUES
	('cancelled', 1, 'customer.subscription.created', 10, '{"id":"x_{{ID}}","object":"subscription","status":"active"}', NULL),
	('cancelled', 2, 'customer.subscription.deleted', 11, '{"id":"x_{{ID}}","object":"subscription","status":"canceled"}', NULL),
	('cancelled', 3, 'customer.subscription.updated', 12, '{"id":"x_{{ID}}","object":"subscription","status":"canceled","metadata":{"a":"1"}}', '{"metadata":{"a":null}}');
SELECT * FROM t.all_orders('cancelled', 'subscriptions');

-- 2. within a second: equal snapshots are no conflict (the row names one of
-- them, and always the same)
INSERT INTO t.scenario VALUES
	('equal', 1, 'customer.updated', 10, '{"id":"x_{{ID}}","object":"customer","name":"same"}', NULL),
	('equal', 2, 'customer.updated', 10, '{"id":"x_{{ID}}","object":"customer","name":"same"}', NULL);
SELECT orders, regexp_replace(ends, '^. ', '') AS ends FROM t.all_orders('equal', 'customers');
SELECT count(*) FROM stripe_sync.reread WHERE object_id LIKE 'x\_equal%';
-- creation first
INSERT INTO t.scenario VALUES
	('created', 1, 'customer.updated', 10, '{"id":"x_{{ID}}","object":"customer","name":"two"}', NULL),
	('created', 2, 'customer.created', 10, '{"id":"x_{{ID}}","object":"customer","name":"one"}', NULL);
SELECT * FROM t.all_orders('created', 'customers');
-- previous_attributes: a to b to a, A to B to C, whatever the ids
INSERT INTO t.scenario VALUES
	('aba', 1, 'customer.created', 10, '{"id":"x_{{ID}}","object":"customer","name":"a"}', NULL),
	('aba', 2, 'customer.updated', 11, '{"id":"x_{{ID}}","object":"customer","name":"a"}', '{"name":"b"}'),
	('aba', 3, 'customer.updated', 11, '{"id":"x_{{ID}}","object":"customer","name":"b"}', '{"name":"a"}');
SELECT * FROM t.all_orders('aba', 'customers');
INSERT INTO t.scenario VALUES
	('abc', 1, 'customer.updated', 11, '{"id":"x_{{ID}}","object":"customer","name":"d"}', '{"name":"c"}'),
	('abc', 2, 'customer.updated', 11, '{"id":"x_{{ID}}","object":"customer","name":"c"}', '{"name":"b"}'),
	('abc', 3, 'customer.updated', 11, '{"id":"x_{{ID}}","object":"customer","name":"b"}', '{"name":"a"}');
SELECT * FROM t.all_orders('abc', 'customers');
SELECT t.rule('evt_abc_132_2');
-- each by another field, nested and absent ones
INSERT INTO t.scenario VALUES
	('fields', 1, 'customer.updated', 11, '{"id":"x_{{ID}}","object":"customer","name":"n","phone":"1","metadata":{"k":"v","l":"w"}}', '{"metadata":{"l":null}}'),
	('fields', 2, 'customer.updated', 11, '{"id":"x_{{ID}}","object":"customer","name":"n","phone":"1","metadata":{"k":"v"}}', '{"phone":null}'),
	('fields', 3, 'customer.updated', 11, '{"id":"x_{{ID}}","object":"customer","name":"n","phone":null,"metadata":{"k":"v"}}', '{"metadata":{"k":"u"}}');
SELECT * FROM t.all_orders('fields', 'customers');
-- trial_will_end tells of no change
INSERT INTO t.scenario VALUES
	('trial', 1, 'customer.subscription.updated', 10, '{"id":"x_{{ID}}","object":"subscription","status":"active"}', '{"status":"trialing"}'),
	('trial', 2, 'customer.subscription.trial_will_end', 10, '{"id":"x_{{ID}}","object":"subscription","status":"trialing"}', NULL);
SELECT * FROM t.all_orders('trial', 'subscriptions');
-- an invoice that is paid at once: only "updated" says what it changed
INSERT INTO t.scenario VALUES
	('invoice', 1, 'invoice.paid', 10, '{"id":"x_{{ID}}","object":"invoice","status":"paid","number":"A-1"}', NULL),
	('invoice', 2, 'invoice.updated', 10, '{"id":"x_{{ID}}","object":"invoice","status":"paid","number":"A-1"}', '{"status":"open"}'),
	('invoice', 3, 'invoice.finalized', 10, '{"id":"x_{{ID}}","object":"invoice","status":"open","number":"A-1"}', NULL),
	('invoice', 4, 'invoice.created', 10, '{"id":"x_{{ID}}","object":"invoice","status":"draft","number":null}', NULL);
SELECT orders, regexp_replace(ends, '^. ', '') AS ends FROM t.all_orders('invoice', 'invoices');
-- deletion last, in its second
INSERT INTO t.scenario VALUES
	('last', 1, 'customer.deleted', 11, '{"id":"x_{{ID}}","object":"customer","name":"a"}', NULL),
	('last', 2, 'customer.updated', 11, '{"id":"x_{{ID}}","object":"customer","name":"b"}', '{"name":"a"}'),
	('last', 3, 'customer.created', 10, '{"id":"x_{{ID}}","object":"customer","name":"a"}', NULL);
SELECT * FROM t.all_orders('last', 'customers');

-- 3. nothing tells: the later step of its life, then the greatest id; and it is
-- marked to be read again
INSERT INTO t.scenario VALUES
	('life', 1, 'invoice.voided', 10, '{"id":"x_{{ID}}","object":"invoice","status":"void"}', NULL),
	('life', 2, 'invoice.finalized', 10, '{"id":"x_{{ID}}","object":"invoice","status":"open"}', NULL),
	('life', 3, 'invoice.sent', 10, '{"id":"x_{{ID}}","object":"invoice","status":"draft"}', NULL);
SELECT * FROM t.all_orders('life', 'invoices');
SELECT t.rule('evt_life_123_1');
INSERT INTO t.scenario VALUES
	('id', 1, 'customer.updated', 10, '{"id":"x_{{ID}}","object":"customer","name":"x"}', NULL),
	('id', 2, 'customer.updated', 10, '{"id":"x_{{ID}}","object":"customer","name":"y"}', NULL);
SELECT * FROM t.all_orders('id', 'customers');
SELECT t.rule('evt_id_21_1');
SELECT object_type, reason, t.sec(due_at) AS due FROM stripe_sync.reread WHERE object_id = 'x_id_21';
-- what was never in doubt is not marked
SELECT count(*) FROM stripe_sync.reread WHERE object_id ~ '^x_(later|dead|again|created|cancelled|last)_';

-- a chain across seconds, in random orders of a larger set: always the last
INSERT INTO t.scenario SELECT 'many', i, 'customer.updated', 10 + i / 3, json_build_object('id', 'x_{{ID}}', 'object', 'customer', 'name', i), json_build_object('name', i - 1) FROM generate_series(1, 9) i;
SELECT setseed(0.42) \g /dev/null
SELECT count(*) AS orders, string_agg(DISTINCT ends, ' / ') AS ends FROM (
	SELECT t.play('many', array_agg(i ORDER BY random()), 'customers') AS ends FROM generate_series(1, 30) run, generate_series(1, 9) i GROUP BY run) r;

-- an event's own object is always written: _as_of and _event_id rise though
-- nothing else changed
SELECT t.send('evt_s1', 'customer.updated', 50, '{"id":"cus_s","object":"customer","name":"same"}'), t.send('evt_s2', 'customer.updated', 51, '{"id":"cus_s","object":"customer","name":"same"}');
SELECT _event_id, t.sec(_as_of) AS as_of FROM stripe.customers WHERE id = 'cus_s';
-- two accounts with one id are two objects, each with an order of its own
SELECT t.send('evt_t1', 'customer.updated', 60, '{"id":"cus_t","object":"customer","name":"own"}'), t.send('evt_t2', 'customer.updated', 59, '{"id":"cus_t","object":"customer","name":"theirs"}', NULL, 'acct_1');
SELECT _account, name FROM stripe.customers WHERE id = 'cus_t' ORDER BY 1;

-- children of pages, in every order of their parents' arrival
INSERT INTO t.scenario VALUES
	('page', 1, 'customer.subscription.created', 10, '{"id":"x_{{ID}}","object":"subscription","items":{"object":"list","has_more":false,"data":[{"id":"si_a_{{ID}}","object":"subscription_item","subscription":"x_{{ID}}","quantity":1},{"id":"si_b_{{ID}}","object":"subscription_item","subscription":"x_{{ID}}","quantity":1}]}}', NULL),
	('page', 2, 'customer.subscription.updated', 11, '{"id":"x_{{ID}}","object":"subscription","items":{"object":"list","has_more":false,"data":[{"id":"si_b_{{ID}}","object":"subscription_item","subscription":"x_{{ID}}","quantity":2}]}}', NULL),
	('page', 3, 'customer.subscription.updated', 12, '{"id":"x_{{ID}}","object":"subscription","items":{"object":"list","has_more":false,"data":[{"id":"si_a_{{ID}}","object":"subscription_item","subscription":"x_{{ID}}","quantity":3},{"id":"si_b_{{ID}}","object":"subscription_item","subscription":"x_{{ID}}","quantity":3}]}}', NULL),
	('page', 4, 'customer.subscription.updated', 13, '{"id":"x_{{ID}}","object":"subscription","items":{"object":"list","has_more":false,"data":[{"id":"si_a_{{ID}}","object":"subscription_item","subscription":"x_{{ID}}","quantity":4},{"id":"si_c_{{ID}}","object":"subscription_item","subscription":"x_{{ID}}","quantity":4}]}}', NULL);
SELECT orders FROM t.all_orders('page', 'subscriptions') \g /dev/null
SELECT count(*) AS orders, children FROM (
	SELECT string_agg(concat_ws(' ', left(id, 4), quantity, 'of ' || right(_event_id, 1), 'deleted ' || t.sec(_deleted_at)), ', ' ORDER BY id) AS children
	  FROM stripe.subscription_items WHERE subscription LIKE 'x\_page%' GROUP BY subscription) c GROUP BY children;
-- those that don't name their parent too, with a page between that isn't complete
INSERT INTO t.scenario VALUES
	('lines', 1, 'credit_note.created', 10, '{"id":"x_{{ID}}","object":"credit_note","lines":{"object":"list","has_more":false,"data":[{"id":"cnli_a_{{ID}}","object":"credit_note_line_item","amount":1},{"id":"cnli_b_{{ID}}","object":"credit_note_line_item","amount":1}]}}', NULL),
	('lines', 2, 'credit_note.updated', 11, '{"id":"x_{{ID}}","object":"credit_note","lines":{"object":"list","has_more":true,"data":[{"id":"cnli_c_{{ID}}","object":"credit_note_line_item","amount":2}]}}', NULL),
	('lines', 3, 'credit_note.updated', 12, '{"id":"x_{{ID}}","object":"credit_note","lines":{"object":"list","has_more":false,"data":[{"id":"cnli_b_{{ID}}","object":"credit_note_line_item","amount":3},{"id":"cnli_d_{{ID}}","object":"credit_note_line_item","amount":3}]}}', NULL);
SELECT orders FROM t.all_orders('lines', 'credit_notes') \g /dev/null
SELECT count(*) AS orders, children FROM (
	SELECT string_agg(concat_ws(' ', left(id, 6), amount, 'of ' || right(_event_id, 1), 'deleted ' || t.sec(_deleted_at)), ', ' ORDER BY id) AS children
	  FROM stripe.credit_note_line_items WHERE id ~ '^cnli_._lines' GROUP BY substring(id FROM '^cnli_._(.*)$')) c GROUP BY children;
-- what a child's own event or a page has written no expansion overwrites,
-- though it be later
INSERT INTO t.scenario VALUES
	('fill', 1, 'refund.created', 10, '{"id":"x_{{ID}}","object":"refund","charge":"ch_{{ID}}","status":"own"}', NULL),
	('fill', 2, 'charge.refunded', 20, '{"id":"ch_{{ID}}","object":"charge","refunds":{"object":"list","has_more":false,"data":[{"id":"x_{{ID}}","object":"refund","charge":"ch_{{ID}}","status":"listed"}]}}', NULL),
	('fill', 3, 'credit_note.updated', 30, '{"id":"cn_{{ID}}","object":"credit_note","refund":{"id":"x_{{ID}}","object":"refund","charge":"ch_{{ID}}","status":"expanded"}}', NULL);
SELECT sum(orders) AS orders, without_ids FROM t.all_orders('fill', 'refunds'), regexp_replace(ends, '"(ch|cus)_\w+"', '"\1"') without_ids GROUP BY 2 ORDER BY 2;
-- a child's own end beats a later page
INSERT INTO t.scenario VALUES
	('ended', 1, 'customer.tax_id.created', 10, '{"id":"x_{{ID}}","object":"tax_id","customer":"cus_{{ID}}","value":"own"}', NULL),
	('ended', 2, 'customer.tax_id.deleted', 11, '{"id":"x_{{ID}}","object":"tax_id","customer":"cus_{{ID}}","value":"own"}', NULL),
	('ended', 3, 'customer.updated', 12, '{"id":"cus_{{ID}}","object":"customer","tax_ids":{"object":"list","has_more":false,"data":[{"id":"x_{{ID}}","object":"tax_id","customer":"cus_{{ID}}","value":"listed"}]}}', NULL);
SELECT sum(orders) AS orders, without_ids FROM t.all_orders('ended', 'tax_ids'), regexp_replace(ends, '"(ch|cus)_\w+"', '"\1"') without_ids GROUP BY 2 ORDER BY 2;
-- its own update brings it back, and the next page that leaves it out takes it again
INSERT INTO t.scenario VALUES
	('swept', 1, 'customer.tax_id.created', 2, '{"id":"x_{{ID}}","object":"tax_id","customer":"cus_{{ID}}","value":"a"}', NULL),
	('swept', 2, 'customer.updated', 3, '{"id":"cus_{{ID}}","object":"customer","tax_ids":{"object":"list","has_more":false,"data":[]}}', NULL),
	('swept', 3, 'customer.tax_id.updated', 4, '{"id":"x_{{ID}}","object":"tax_id","customer":"cus_{{ID}}","value":"b"}', '{"value":"a"}'),
	('swept', 4, 'customer.updated', 5, '{"id":"cus_{{ID}}","object":"customer","tax_ids":{"object":"list","has_more":false,"data":[]}}', NULL);
SELECT sum(orders) AS orders, without_ids FROM t.all_orders('swept', 'tax_ids'), regexp_replace(ends, '"(ch|cus)_\w+"', '"\1"') without_ids GROUP BY 2 ORDER BY 2;

-- events that were stored while there was no table count as well
DROP TABLE stripe.coupons;
SELECT t.send('evt_m1', 'coupon.created', 10, '{"id":"MISSED","object":"coupon","name":"first"}'), t.send('evt_m3', 'coupon.updated', 20, '{"id":"MISSED","object":"coupon","name":"newest"}');
SELECT action FROM stripe_sync.create_tables('{coupon}');
SELECT t.send('evt_m2', 'coupon.updated', 15, '{"id":"MISSED","object":"coupon","name":"late"}');
SELECT name, _event_id, t.sec(_as_of) AS as_of FROM stripe.coupons WHERE id = 'MISSED';
DELETE FROM stripe.coupons WHERE id = 'MISSED';
SELECT status FROM stripe_sync.replay('evt_m1');
SELECT name, _event_id, t.sec(_as_of) AS as_of FROM stripe.coupons WHERE id = 'MISSED';
