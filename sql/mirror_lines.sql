-- Children of older API versions: invoice lines whose ids were another object's,
-- or not unique; discounts that had no id.
\set tables '{customer,invoice,line_item,coupon,discount,charge,refund}'
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.psql
\set ECHO none
\i :prelude
\set ECHO all
SET timezone = 'UTC';

-- An invoice event as an API version renders it.  Lines are "id amount", with
-- "id/unique_id amount" where there is a unique_id.
CREATE FUNCTION t.invoice(id text, at int, invoice text, version text, VARIADIC lines text[]) RETURNS text LANGUAGE sql AS $$
	SELECT t.event(id, 'invoice.updated', at, json_build_object('id', invoice, 'object', 'invoice', 'customer', 'cus_1', 'subscription', 'sub_1',
		'lines', json_build_object('object', 'list', 'has_more', false, 'url', '/v1/invoices/' || invoice || '/lines', 'data',
			(SELECT json_agg(json_strip_nulls(json_build_object('id', split_part(l, '/', 1), 'unique_id', nullif(split_part(split_part(line, ' ', 1), '/', 2), ''), 'object', 'line_item',
				'amount', split_part(line, ' ', 2)::int, 'type', CASE WHEN l LIKE 'ii\_%' THEN 'invoiceitem' ELSE 'subscription' END,
				'invoice', CASE WHEN version > '2024' THEN invoice END)) ORDER BY n)
			   FROM unnest(lines) WITH ORDINALITY v (line, n), split_part(line, ' ', 1) l))), api_version => version)
$$;
CREATE FUNCTION t.sums(invoices text DEFAULT '%') RETURNS TABLE (invoice text, lines bigint, sum numeric) LANGUAGE sql AS $$
	SELECT invoice, count(*), sum(amount) FROM stripe.line_items WHERE _deleted_at IS NULL AND invoice LIKE invoices GROUP BY invoice ORDER BY invoice COLLATE "C" $$;

-- 2015: the line of a subscription has the subscription's id, on every invoice,
-- and twice where it was changed in the middle of a period
SELECT status FROM t.deliver(t.invoice('evt_1', 10, 'in_1', '2015-10-16', 'sub_1 1000', 'ii_1 500'));
SELECT status FROM t.deliver(t.invoice('evt_2', 20, 'in_2', '2015-10-16', 'sub_1 1000', 'sub_1 -400', 'ii_2 7'));
SELECT * FROM t.sums();
SELECT id, invoice, amount, subscription, _data->>'id' AS in_stripe FROM stripe.line_items ORDER BY id COLLATE "C";
-- 2018: lines of one invoice share an id
SELECT status FROM t.deliver(t.invoice('evt_3', 30, 'in_3', '2018-05-21', 'sli_1 300', 'sli_1 400'));
SELECT status FROM t.deliver(t.invoice('evt_4', 31, 'in_4', '2018-05-21', 'sli_1 300', 'sli_2 1', 'sli_1 300'));
SELECT * FROM t.sums() WHERE invoice > 'in_2';
-- 2019: unique_id is the id of today
SELECT status FROM t.deliver(t.invoice('evt_5', 40, 'in_3', '2019-05-16', 'sli_1/il_31 300', 'sli_1/il_32 400'));
SELECT id, amount, t.sec(_deleted_at) AS deleted FROM stripe.line_items WHERE invoice = 'in_3' ORDER BY id COLLATE "C";
SELECT status FROM t.deliver(t.invoice('evt_6', 50, 'in_3', '2026-10-28.endive', 'il_31 310', 'il_32 400', 'il_33 5'));
SELECT * FROM t.sums('in_3');
-- an older invoice is updated late, and an event of before comes later still
SELECT status FROM t.deliver(t.invoice('evt_7', 60, 'in_1', '2026-10-28.endive', 'il_11 1000', 'il_12 500', 'il_13 -1'));
SELECT status FROM t.deliver(t.invoice('evt_8', 55, 'in_1', '2018-05-21', 'sli_7 1000', 'ii_1 500'));
SELECT * FROM t.sums();
SELECT id, t.sec(_deleted_at) AS deleted FROM stripe.line_items WHERE invoice = 'in_1' ORDER BY id COLLATE "C";
SELECT count(*) AS differences FROM stripe_sync.verify_mirror();

-- any order of arrival: after each event every invoice has the lines of the
-- newest of its events that have come
CREATE TABLE t.story (n int, invoice text, at int, version text, lines text[], total int);
INSERT INTO t.story VALUES
	(1, 'a', 10, '2015-10-16', '{sub_R 1000,ii_R1 500}', 1500), (2, 'a', 70, '2018-05-21', '{sli_R1 1000,ii_R1 500,ii_R9 1}', 1501),
	(3, 'b', 20, '2015-10-16', '{sub_R 1000,sub_R -400}', 600), (4, 'b', 40, '2019-05-16', '{sli_R2/il_Rb1 300,sli_R2/il_Rb2 400}', 700),
	(5, 'b', 50, '2026-10-28.endive', '{il_Rb1 300,il_Rb2 400,il_Rb3 50}', 750),
	(6, 'c', 15, '2018-05-21', '{sli_R1 300,sli_R1 400}', 700), (7, 'c', 60, '2026-10-28.endive', '{il_Rc1 300,il_Rc2 300}', 600);
CREATE FUNCTION t.tell(run int, OUT wrong text) LANGUAGE plpgsql AS $$
DECLARE
	step record;
	come int[] := '{}';
	found text;
	must text;
BEGIN
	FOR step IN SELECT *, 'in_' || s.invoice || run AS name, ARRAY(SELECT replace(l, 'R', run::text) FROM unnest(s.lines) l) AS told FROM t.story s ORDER BY random() LOOP
		PERFORM t.deliver(t.invoice(format('evt_r%s_%s', run, step.n), step.at, step.name, step.version, VARIADIC step.told));
		come := come || step.n;
		SELECT string_agg(invoice || ' ' || sum, ', ' ORDER BY invoice) INTO found FROM t.sums('in\__' || run);
		SELECT string_agg(invoice || ' ' || total, ', ' ORDER BY invoice) INTO must FROM (
			SELECT DISTINCT ON (s.invoice) 'in_' || s.invoice || run AS invoice, total FROM t.story s WHERE s.n = ANY (come) ORDER BY s.invoice, at DESC) newest;
		IF found IS DISTINCT FROM must THEN
			wrong := format('after %s: %s, not %s', come, found, must);
			RETURN;
		END IF;
	END LOOP;
END $$;
SELECT wrong FROM generate_series(100, 159) run, t.tell(run) WHERE wrong IS NOT NULL;
SELECT count(*) AS differences FROM stripe_sync.verify_mirror();
-- what was read from Stripe counts as any of them
SELECT stripe_sync.apply_reading(t.invoice('', 0, 'in_2', '2019-05-16', 'sub_1 1000', 'sub_1 -400', 'ii_2 8')::jsonb->'data'->'object', '', to_timestamp(t.at(80)));
SELECT status FROM t.deliver(t.invoice('evt_9', 79, 'in_2', '2026-10-28.endive', 'il_21 1'));
SELECT * FROM t.sums('in_2');
SELECT stripe_sync.apply_reading(t.invoice('', 0, 'in_2', '2026-10-28.endive', 'il_21 600', 'il_22 8')::jsonb->'data'->'object', '', to_timestamp(t.at(90)));
SELECT * FROM t.sums('in_2');

-- whatever the type, two elements of a page are two rows
SELECT t.send('evt_c1', 'charge.refunded', 10, '{"id":"ch_1","object":"charge","refunds":{"object":"list","has_more":false,"data":[{"id":"re_1","object":"refund","charge":"ch_1","amount":1},{"id":"re_1","object":"refund","charge":"ch_1","amount":2},{"id":"re_2","object":"refund","charge":"ch_1","amount":4}]}}');
SELECT id, amount FROM stripe.refunds ORDER BY id COLLATE "C";
-- also in an object that is embedded in another's event
SELECT t.send('evt_c2', 'charge.updated', 11, '{"id":"ch_2","object":"charge","invoice":{"id":"in_9","object":"invoice","total":5,"lines":{"object":"list","has_more":false,"data":[{"id":"sub_1","object":"line_item","amount":2},{"id":"sub_1","object":"line_item","amount":3}]}}}');
SELECT * FROM t.sums('in_9');

-- when two are merged, verify_mirror finds it, asked for either type
SELECT count(*) AS differences FROM stripe_sync.verify_mirror();
DELETE FROM stripe.line_items WHERE id = 'in_4/sli_1/2';
DELETE FROM stripe.refunds WHERE id = 'ch_1/re_1/2';
SELECT object_type, object_id, account, field, expected->'amount' AS amount FROM stripe_sync.verify_mirror() ORDER BY 1;
SELECT object_type, object_id FROM stripe_sync.verify_mirror('{line_item}') UNION ALL SELECT object_type, object_id FROM stripe_sync.verify_mirror('{invoice}');
SELECT object_type, object_id FROM stripe_sync.verify_mirror('{customer,coupon}');
SELECT status FROM stripe_sync.replay('evt_4') UNION SELECT status FROM stripe_sync.replay('evt_c1');
SELECT count(*) AS differences FROM stripe_sync.verify_mirror();

-- a discount of before 2020-08-27 has no id; its coupon has a row
SELECT * FROM t.deliver(t.event('evt_d1', 'customer.discount.created', 10, '{"object":"discount","customer":"cus_1","start":1735689600,"coupon":{"id":"WELCOME","object":"coupon","percent_off":10,"valid":true}}', api_version => '2019-05-16'));
SELECT id, percent_off, _event_id FROM stripe.coupons;
SELECT count(*) AS discounts FROM stripe.discounts;
SELECT status, mirrored, todo FROM stripe_sync.event WHERE id = 'evt_d1';
SELECT split_part(stripe_sync.explain_event('evt_d1'), E'\n', 3) AS explained;
-- a coupon's own event beats that
SELECT t.send('evt_k', 'coupon.updated', 9, '{"id":"WELCOME","object":"coupon","percent_off":20,"valid":true}');
SELECT * FROM t.deliver(t.event('evt_d2', 'customer.discount.deleted', 30, '{"object":"discount","customer":"cus_1","coupon":{"id":"WELCOME","object":"coupon","percent_off":10,"valid":false}}', api_version => '2019-05-16'));
SELECT id, percent_off, _event_id, _deleted_at FROM stripe.coupons;
DELETE FROM stripe.coupons;
SELECT status FROM stripe_sync.replay('evt_d1');
SELECT id, percent_off FROM stripe.coupons;
SELECT status FROM stripe_sync.replay('evt_k');
-- a preview is another matter
SELECT status, left(detail, 40) AS detail FROM t.deliver(t.event('evt_u', 'invoice.upcoming', 30, '{"object":"invoice","customer":"cus_1","lines":{"object":"list","data":[]}}'));
SELECT count(*) AS differences FROM stripe_sync.verify_mirror();
DROP EXTENSION stripe_sync CASCADE;
DROP SCHEMA stripe, t CASCADE;
