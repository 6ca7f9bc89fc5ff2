-- Templates: placeholders, filters, what the mirror knows, and hostile values.
\set tables '{customer,charge,coupon,refund,subscription}'
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.psql
\set ECHO none
\i :prelude
\set ECHO all
-- A template on an event with this object.
CREATE FUNCTION t.render(template text, object json, account text DEFAULT NULL, livemode boolean DEFAULT false) RETURNS text LANGUAGE sql AS $$
	SELECT stripe_sync.render_template(template, t.event('evt_1', 'invoice.payment_failed', 60, object, '{"status":"draft"}', account, livemode)::jsonb)
$$;
CREATE FUNCTION t.wrong(template text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	hint text;
BEGIN
	RETURN 'renders as ' || t.render(template, '{}');
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
	RETURN SQLSTATE || ': ' || SQLERRM || E'\n  ' || hint;
END $$;
CREATE TABLE t.invoice AS SELECT '{"id":"in_1","object":"invoice","currency":"usd","amount_due":123450,"customer":"cus_1","customer_name":null,"customer_email":"",
	"created":1735689600,"paid":false,"attempt_count":3,"number":"A-1","metadata":{"order id":"o 7","a-b":"x"},
	"lines":{"object":"list","has_more":false,"data":[{"id":"il_1","object":"line_item","description":"Seats","amount":500,"currency":"jpy"},{"id":"il_2","object":"line_item","amount":1}]},
	"discounts":["di_1","di_2"],"total_taxes":[],"period":{"end":1767323040}}'::json AS o;

-- paths
SELECT p, t.render('{{' || p || '}}', o) FROM t.invoice, unnest(ARRAY['id', ' id ', 'amount_due', 'paid', 'lines.data.0.description', 'lines.data.1.id', 'lines.data.2.id',
	'discounts', 'discounts.1', 'period', 'metadata."order id"', 'metadata.a-b', 'customer_name', 'customer_email', 'nothing', 'nothing.at.all', 'amount_due.deeper', 'lines.data.x',
	'lines.data.99999999999999', 'event.type', 'event.id', 'event.created', 'event.livemode', 'event.data.previous_attributes.status', 'event.nothing', 'event', 'total_taxes', 'lines.data.0']) p;
-- the first that is neither missing, null nor ''
SELECT t.render('{{customer.name or customer_name or customer.email or customer_email or customer}}|{{ nothing  or  paid }}|{{customer_name or customer_email}}|{{order or or_not or number}}', o) FROM t.invoice;
-- literal text is the author's
SELECT t.render(E'*Bold* <!here> & <https://a.example|b> }} { } \n{{number}}{{number}} 😀 {{ id }}', o) FROM t.invoice;
SELECT t.render('', o) = '' AS empty, t.render('no placeholder', o) FROM t.invoice;

-- filters
SELECT p, t.render('{{' || p || '}}', o) FROM t.invoice, unnest(ARRAY['amount_due | money', 'amount_due|money:eur', 'amount_due | money:lines.data.0.currency', 'amount_due | money:nothing', 'lines.data.0.amount | money',
	'lines.data.1.amount | money', 'nothing | money', 'number | money', 'paid | money', 'lines | money', 'created | date', 'created | day', 'period.end | date', 'number | date', 'paid | day', 'nothing | date', 'number | lower', 'number | lower | upper',
	'paid | upper', 'lines | count', 'discounts | count', 'total_taxes | count', 'number | count', 'nothing | count', 'period | count', 'nothing | default:no one at all ', 'nothing | default:', 'nothing | upper | default:x | upper', 'number | default:x',
	'nothing | default:<!here> & co', 'customer | link', 'customer | link:number', 'customer | link:nothing', 'nothing | link', 'nothing | link | default:none']) p;
SELECT t.render('{{unit_amount_decimal | money}} {{a | money}} {{b | money}} {{c | date}} {{c | day}} {{d | date}} {{e | money}}', '{"currency":"usd","unit_amount_decimal":"0.5","a":"1050","b":1.50,"c":-1,"d":253402300800,"e":99999999999999999999}');
SELECT t.render('{{amount | money}} {{lines | count}}', '{"amount":1200,"lines":{"object":"list","has_more":true,"data":[1,2]}}');

-- money, in every currency's own minor units: 123456 and 1200
SELECT c, t.render(format('{{a | money:%1$s}} {{b | money:%1$s}}', c), '{"a":123456,"b":1200}') FROM unnest(string_to_array(
	'usd eur gbp jpy kwd bhd jod omr tnd isk ugx bif clp djf gnf kmf krw mga pyg rwf vnd vuv xaf xof xpf cad aud nzd mxn brl cny hkd twd inr ils php chf sek huf xyz XYZ KWD', ' ')) c;
SELECT a, t.render(format('{{a | money:usd}} {{a | money:kwd}} {{a | money:jpy}} {{a | money:isk}} {{a | money:xyz}}'), json_build_object('a', a))
  FROM unnest(ARRAY[500, 1250, 0, 1, -1, 5, 99, 100, -100, -500, 99999, 100000, 123456789, 9223372036854775807, -9223372036854775808]) a;
SELECT t.render('{{a | money}} {{b.a | money}} {{c.a | money}} {{d.a | money}}', '{"currency":"eur","a":1,"b":{"a":2,"currency":"usdc"},"c":{"a":3,"currency":"<!here>"},"d":{"a":4,"currency":""}}');

-- the customer has to be looked up: it is in the mirror or not
SELECT t.render('{{customer.email or customer}}', o) AS before FROM t.invoice;
SELECT t.send('evt_c', 'customer.created', 1, '{"id":"cus_1","object":"customer","name":"Ann","email":"ann@example.com","currency":"eur","balance":-500,"address":{"city":"Ulm"},"invoice_settings":{"default_payment_method":null}}');
SELECT t.render('{{customer.name or customer_name or customer}} {{customer.email}} {{customer.balance | money}} {{customer.address.city}} {{customer.nothing or customer}} {{customer.address.city.x or amount_due}}', o) FROM t.invoice;
-- an object that came whole is walked itself, and is shown as its id
SELECT t.render('{{customer.name}} {{customer.email}} {{customer}}', '{"customer":{"id":"cus_1","object":"customer","name":"Embedded"}}');
-- by the field's name where the id doesn't tell; over several objects
SELECT t.send('evt_k', 'coupon.created', 1, '{"id":"SUMMER","object":"coupon","name":"Summer sale"}'),
	t.send('evt_h', 'charge.succeeded', 1, '{"id":"py_1","object":"charge","amount":500,"currency":"kwd","customer":"cus_1","refunds":null}'),
	t.send('evt_r', 'refund.created', 1, '{"id":"re_1","object":"refund","charge":"py_1","payment_intent":null,"amount":1}');
SELECT t.render('{{coupon.name}} {{latest_charge.amount | money}} {{latest_charge.customer.name}} {{refund.charge.customer.email}} {{other.name}}',
	'{"coupon":"SUMMER","latest_charge":"py_1","refund":"re_1","other":"SUMMER"}');
-- another account's customer is another one
SELECT t.render('{{customer.name or customer}}', o, 'acct_1') FROM t.invoice;
SELECT t.send('evt_c2', 'customer.created', 1, '{"id":"cus_1","object":"customer","name":"Connected"}', account => 'acct_1');
SELECT t.render('{{customer.name or customer}}', o, 'acct_1') FROM t.invoice;
-- a deleted one is still known
SELECT t.send('evt_c3', 'customer.deleted', 2, '{"id":"cus_1","object":"customer","name":"Ann, gone","email":"ann@example.com"}');
SELECT t.render('{{customer.name or customer}}', o) FROM t.invoice;
-- fields that Stripe has moved are found where they are
SELECT t.render('{{current_period_end | day}}', '{"id":"sub_1","object":"subscription","items":{"object":"list","data":[{"id":"si_1","object":"subscription_item","current_period_end":1767323040}]}}');
-- who tries a template sees of the mirror what he may read
CREATE ROLE regress_template_admin;
SELECT stripe_sync.grant_admin('regress_template_admin');
GRANT USAGE ON SCHEMA t TO regress_template_admin;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA t TO regress_template_admin;
CREATE FUNCTION t.tried() RETURNS TABLE (text text, section text) LANGUAGE sql AS $$
	SELECT t.render('{{customer.name or customer}}', '{"customer":"cus_1"}'),
		stripe_sync.preview_message('x', '[{"type":"section","text":{"type":"mrkdwn","text":"{{customer.name or customer}}"}}]',
			'{"id":"evt_1","type":"x","data":{"object":{"id":"in_1","customer":"cus_1"}}}') #>> '{blocks,0,text,text}'
$$;
REVOKE SELECT ON stripe.customers FROM regress_template_admin;
SET ROLE regress_template_admin;
SELECT * FROM t.tried();
RESET ROLE;
SELECT stripe_sync.grant_read('regress_template_admin');
SET ROLE regress_template_admin;
SELECT * FROM t.tried();
RESET ROLE;
ALTER TABLE stripe.customers ENABLE ROW LEVEL SECURITY;
SET ROLE regress_template_admin;
SELECT * FROM t.tried();
RESET ROLE;
ALTER TABLE stripe.customers DISABLE ROW LEVEL SECURITY;
SELECT stripe_sync.revoke_all('regress_template_admin');
DROP OWNED BY regress_template_admin;
DROP ROLE regress_template_admin;
-- a table that can't be used is as if there were none
ALTER TABLE stripe.customers RENAME COLUMN _data TO data_;
SELECT t.render('{{customer.name or customer}}', o) FROM t.invoice;
ALTER TABLE stripe.customers RENAME COLUMN data_ TO _data;
-- one with row security is read as its owner
CREATE ROLE regress_template_owner;
GRANT USAGE ON SCHEMA stripe TO regress_template_owner;
ALTER TABLE stripe.customers OWNER TO regress_template_owner;
ALTER TABLE stripe.customers ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
SELECT t.render('{{customer.name or customer}}', o) FROM t.invoice;
CREATE POLICY all_rows ON stripe.customers USING (true);
SELECT t.render('{{customer.name or customer}}', o) FROM t.invoice;
-- and so are those that its owner may not read
REVOKE ALL ON stripe.customers FROM regress_template_owner;
SELECT t.render('{{customer.name or customer}}', o) FROM t.invoice;
DROP SCHEMA stripe CASCADE;
DROP ROLE regress_template_owner;
SELECT t.render('{{customer.name or customer}}', o) FROM t.invoice;

-- links: test, live, a connected account's
SELECT t.render('{{customer | link}}', o), t.render('{{customer | link}}', o, NULL, true) AS live, t.render('{{customer | link}}', o, 'acct_1') AS connected, t.render('{{customer | link}}', o, 'acct_1', true) AS connected_live FROM t.invoice;
SELECT t.render('{{account | link}} {{refund | link}}', '{"account":"acct_1","refund":{"id":"re_1","object":"refund","charge":"ch_1"}}', 'acct_1');
SELECT id, t.render('{{id | link}}', json_build_object('id', id), NULL, true) FROM unnest(string_to_array('cus_1 in_1 pi_1 ch_1 py_1 sub_1 sub_sched_1 dp_1 du_1 po_1 prod_1 price_1 evt_1 cs_test_1 acct_1 seti_1 tr_1 qt_1 re_1 pyr_1 issfr_1 prv_1 il_1 SUMMER', ' ')) id;
-- refunds, warnings and reviews are shown with their payment
SELECT t.render('{{id | link}}', '{"id":"re_1","object":"refund","payment_intent":"pi_1","charge":"ch_1"}'), t.render('{{id | link:charge}}', '{"id":"issfr_1","payment_intent":null,"charge":"ch_1"}');
SELECT t.render('{{id | link:name}} {{a | link}}', '{"id":"a/b?c=<d>&e|f ü","name":"<x|y>\nz & co","a":{"id":"in_9","object":"invoice"}}');

-- hostile values arrive as text
SELECT t.render('{{name}}', '{"name":"<!channel> & <https://x|y>"}');
SELECT t.render('[{{a}}] [{{b | upper}}] [{{c}}] [{{d}}]', '{"a":"one\ntwo\tthree\r\u0007","b":"<b>&amp;","c":"\u202Eevil\u2028 \u2066x\u2069 \u200Fy\u0085z\u007F","d":"{{id}}","id":"in_1"}');
SELECT t.render('[{{a}}]', '{"a":{"k":"<!here>"}}'), t.render('[{{a}}]', '{"a":["<",">","&"]}');
-- one value has 500 characters at most, JSON 200, and is cut between characters
SELECT length(r), right(r, 3), octet_length(r) FROM t.render('{{a}}', json_build_object('a', repeat('😀', 501))) r;
SELECT length(r), right(r, 3) FROM t.render('{{a}}', json_build_object('a', repeat('ü', 500))) r;
SELECT length(r), right(r, 8), replace(r, '&amp;', '') FROM t.render('{{a}}', json_build_object('a', repeat('&', 600))) r;
SELECT length(r), right(r, 3) FROM t.render('{{a}}', json_build_object('a', json_build_array(repeat('é', 500)))) r;
SELECT length(r) FROM t.render('{{id | link:a}}', json_build_object('id', 'cus_1', 'a', repeat('x', 501))) r;
-- 50 KB of result and more
SELECT length(t.render(repeat('{{a}}', 100), json_build_object('a', repeat('x', 500)))), length(t.render(repeat('{{a}} ', 10000), json_build_object('a', repeat('x', 600)))) <= 131072 + 10500 AS bounded;
SELECT length(t.render('{{a}}', json_build_object('a', (SELECT json_agg(g) FROM generate_series(1, 50000) g))));

-- an event without an object, and none at all
SELECT stripe_sync.render_template('{{id}} {{event.type}} {{customer.name | default:x}}', '{"id":"evt_2","type":"x"}');
SELECT t.sqlstate($$ SELECT stripe_sync.render_template('x', '{"id":"evt_2"}') $$) AS no_type, t.sqlstate($$ SELECT stripe_sync.render_template('x', '[]') $$) AS no_object;
SELECT stripe_sync.render_template(NULL, '{}') IS NULL AND stripe_sync.render_template('x', NULL) IS NULL AS strict;

-- what is wrong with a template is said where it is
SELECT x, t.wrong(x) FROM unnest(ARRAY['{{', 'a {{b', '{{}}', '{{ }}', '{{ | money}}', '{{a..b}}', '{{.a}}', '{{a.}}', '{{a b}}', '{{a or}}', '{{or a}}', '{{a | }}', '{{a | nosuch}}', '{{a | MONEY}}', '{{a | money: | upper}}', '{{a | money:a b}}',
	'{{a | upper:x}}', '{{a | default}}', '{{a|upper|}}', '{{a "b"}}', '{{a."b}}', '{{{a}}}', '{{a{{b}}', 'ü😀 {{$}}', '{{a,b}}', '{{a | date %Y}}']) x;
SELECT t.wrong(repeat('x', 65537)), t.wrong(repeat('x', 65536)) = 'renders as ' || repeat('x', 65536) AS fits;
SELECT left(t.wrong(repeat('{{', 32768)), 40) AS a, left(t.wrong(repeat('{{a}}', 13107)), 20) AS b, left(t.wrong('{{' || repeat('a.', 32000) || 'a}}'), 20) AS c, left(t.wrong('{{a' || repeat('|upper', 10000) || '}}'), 20) AS d;

-- whose it is
CREATE ROLE regress_template;
SET ROLE regress_template;
SELECT t.sqlstate($$ SELECT stripe_sync.render_template('x', '{}') $$), t.sqlstate($$ SELECT stripe_sync.preview_message('x') $$);
RESET ROLE;
DROP ROLE regress_template;
