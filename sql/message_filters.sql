-- Filters that put an event's values into words: map, words, who, monthly.
\set tables '{customer,charge,invoice,subscription,price,product,payment_intent}'
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.psql
\set ECHO none
\i :prelude
\set ECHO all
CREATE FUNCTION t.fill(template text, object jsonb) RETURNS text LANGUAGE sql AS $$
	SELECT stripe_sync.render_template(template, jsonb_build_object('id', 'evt_1', 'object', 'event', 'type', 'x.y', 'created', 1, 'livemode', true, 'data', jsonb_build_object('object', object)))
$$;

---- map ----
SELECT m AS map, v AS value, t.fill('[{{v | map:' || m || '}}]', jsonb_build_object('v', v)) FROM unnest(ARRAY[
	'won=Won;lost=:x: Lost;*=Other', 'won=Won;lost=Lost', ' won = It is won ; lost = a=b ', '"a;b"="x=y;|z";"*"=star', 'won=;*="  kept  "', '*=<!channel> & co', 'won=Won | upper | default:none']) m,
	unnest(ARRAY['"won"', '"lost"', '"a;b"', '"*"', '"<odd>"', 'null', 'true', '12']::jsonb[]) v;
-- with text that | ends nothing in quotes, and } does
SELECT t.fill('{{v | map:a="1 | 2" | upper}} {{v | map:a=x}}y', '{"v":"a"}');
-- what is no map
SELECT m, t.hint(format('SELECT t.fill(%L, ''{}'')', '{{v | map' || m || '}}')) FROM unnest(ARRAY['', ':', ':x', ':=x', ':a=b;', ':a=b;;c=d', ':a=b;c', ':"a=b', ':a="b', ':a="b"c', ':a=say "b"', ':"a"b=c', ':""=x']) m;

---- words ----
SELECT v, t.fill('{{v | words}} {{v | words | upper}}', jsonb_build_object('v', v)) FROM unnest(ARRAY['"made_with_stolen_card"', '"plain"', '"__"', 'null', '7', '"<a_b>"']::jsonb[]) v;

---- day: a date without a time is the same day for everybody ----
SELECT v, t.fill('{{v | day}} {{v | date}}', jsonb_build_object('v', v)) FROM unnest(ARRAY[1735689600, 1735689601, 0]) v;

---- who ----
SELECT t.send('evt_c1', 'customer.created', 1, '{"id":"cus_1","object":"customer","name":"Ann <b> | x","email":"ann@example.com"}'),
	t.send('evt_c2', 'customer.created', 1, '{"id":"cus_2","object":"customer","name":null,"email":"two@example.com"}'),
	t.send('evt_c3', 'customer.created', 1, '{"id":"cus_3","object":"customer","name":"  ","email":null}'),
	t.send('evt_h1', 'charge.succeeded', 1, '{"id":"ch_1","object":"charge","amount":500,"currency":"usd","customer":"cus_3","billing_details":{"name":"Card Holder","email":"card@example.com"}}');
CREATE TABLE t.whom (n serial, o jsonb);
INSERT INTO t.whom (o) VALUES ('{"customer":"cus_1"}'), ('{"customer":"cus_2"}'), ('{"customer":"cus_3"}'), ('{"customer":"cus_9"}'), ('{"customer":"cus_9","customer_name":"From the invoice","customer_email":"i@example.com"}'),
	('{"customer":{"id":"cus_8","object":"customer","name":"Expanded","email":"e@example.com"}}'), ('{"customer":null}'), ('{"customer":null,"customer_name":"<Guest>"}'), ('{"charge":"ch_1"}'), ('{"customer":"<!channel>"}'), ('{"customer":7}');
SELECT o, t.fill('{{customer or charge.customer or customer_name | who | default:nobody}}', o) FROM t.whom ORDER BY n;
SET stripe_sync.slack_personal = on;
SELECT o, t.fill('{{customer or charge.customer or customer_name | who | default:nobody}}', o) FROM t.whom ORDER BY n;
-- in a plain text object and an address
SELECT stripe_sync.preview_message('x', '[{"type":"header","text":{"type":"plain_text","text":"{{customer | who}}"}}]', jsonb_build_object('id', 'evt_1', 'type', 'x.y', 'data', jsonb_build_object('object', '{"customer":"cus_1"}'::jsonb)))->'blocks'->0->'text'->>'text' AS header;
-- a customer reads neither address nor link, also where people may
SELECT stripe_sync.add_slack_channel('shop', '#shop', 'xoxb-1'), stripe_sync.route_customer('cus_1', 'shop'), stripe_sync.route_customer('cus_2', 'shop'),
	stripe_sync.add_alert('theirs', 'invoice.finalized', '@customer', 'Dear {{customer | who}}', blocks => '[{"type":"section","text":{"type":"mrkdwn","text":"Dear {{customer | who}}"}}]', closed_by => 'invoice.paid', closing_template => 'Thank you, {{customer | who}}'),
	stripe_sync.add_slack_channel('ops', '#ops', 'xoxb-1'), stripe_sync.add_alert('ours', 'invoice.finalized', 'ops', 'Finalized for {{customer | who}}');
SELECT t.send('evt_i' || n, 'invoice.finalized', 2, json_build_object('id', 'in_' || n, 'object', 'invoice', 'customer', 'cus_' || n)), t.send('evt_p' || n, 'invoice.paid', 3, json_build_object('id', 'in_' || n, 'object', 'invoice', 'customer', 'cus_' || n)) FROM generate_series(1, 2) n;
SELECT alert, text, blocks->0->'text'->>'text' AS block, closing_text, payload_mail FROM stripe_sync.incident_record i,
	LATERAL (SELECT bool_or(payload::text LIKE '%@example.com%') AS payload_mail FROM stripe_sync.message m WHERE m.incident = i.id) m ORDER BY i.id;
RESET stripe_sync.slack_personal;

---- monthly ----
CREATE FUNCTION t.item(amount numeric, every text, n int DEFAULT 1, quantity numeric DEFAULT 1, currency text DEFAULT 'usd', more jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object('object', 'subscription_item', 'quantity', quantity, 'price', jsonb_build_object('object', 'price', 'unit_amount', amount, 'currency', currency, 'billing_scheme', 'per_unit',
		'recurring', jsonb_build_object('interval', every, 'interval_count', n, 'usage_type', 'licensed'))) || CASE WHEN more = '{}' THEN more ELSE jsonb_build_object('price', '{"object":"price","unit_amount":5,"currency":"usd","recurring":{"interval":"month"}}'::jsonb || more) END
$$;
CREATE FUNCTION t.monthly(VARIADIC items jsonb[]) RETURNS text LANGUAGE sql AS $$
	SELECT t.fill('{{items | monthly | default:unknown}}', jsonb_build_object('items', jsonb_build_object('object', 'list', 'data', to_jsonb(items), 'has_more', false)))
$$;
SELECT every, n, t.monthly(t.item(12000, every, n)) AS usd, t.monthly(t.item(12000, every, n, 3, 'jpy')) AS "3 × jpy", t.monthly(t.item(12000, every, n, 1, 'kwd')) AS kwd
  FROM unnest(ARRAY['day', 'week', 'month', 'year', 'fortnight']) every, unnest(ARRAY[1, 3, 0]) n;
SELECT t.monthly(t.item(1000, 'month'), t.item(12000, 'year', 1, 2)) AS two, t.monthly(t.item(1000, 'month'), t.item(1000, 'month', 1, 1, 'eur')) AS currencies,
	t.monthly(t.item(NULL, 'month')) AS tiers, t.monthly(t.item(NULL, 'month', 1, 100, 'usd', '{"unit_amount_decimal":"0.5"}')) AS decimals, t.monthly(t.item(0, 'month')) AS free,
	t.monthly(t.item(5, 'month', 1, 1, 'usd', '{"transform_quantity":{"divide_by":10,"round":"up"}}')) AS transformed, t.monthly(t.item(5, 'month', 1, NULL, 'usd', '{"recurring":{"interval":"month","usage_type":"metered"}}')) AS metered,
	t.monthly(t.item(1e15, 'month', 1, 1000)) AS too_much, t.monthly(VARIADIC ARRAY[]::jsonb[]) AS none, t.monthly('7') AS odd;
-- a plan of an older API version; an array; a list that is cut off; no list
SELECT t.monthly('{"quantity":2,"plan":{"object":"plan","amount":600,"currency":"gbp","interval":"month","interval_count":2}}') AS plan,
	t.fill('{{items | monthly}}', jsonb_build_object('items', jsonb_build_array(t.item(100, 'month')))) AS "array",
	t.fill('{{items | monthly | default:unknown}}', jsonb_build_object('items', jsonb_build_object('data', jsonb_build_array(t.item(100, 'month')), 'has_more', true))) AS cut,
	t.fill('{{items | monthly | default:unknown}}', '{"items":"x"}') AS text, t.fill('{{items | monthly}}', '{}') AS missing;
SELECT stripe_sync.drop_alert(x) FROM unnest('{theirs,ours}'::text[]) x;
