-- Arguments that can't be right are refused, those that hardly are remarked on, once.
\set tables '{customer,invoice}'
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.psql
\set ECHO none
\i :prelude
\set ECHO all

-- ---- signing secrets ----

-- of another kind: nothing is stored, nothing shown
CREATE TEMP TABLE given (secret text);
INSERT INTO given VALUES ('sk_test_HUSH'), ('rk_live_HUSH'), ('pk_test_HUSH'), ('we_HUSH'), ('xoxb-HUSH'), ('https://hooks.slack.com/HUSH'), ('whsec_'), ('whsec_...'), ('whsec_HUSH...'), ('whsec_HUSH…'),
	('whsec_HUSH '), (' whsec_HUSH'), (E'whsec_HUSH\n'), (E'whsec_\tHUSH'), ('two words');
SELECT secret, t.raises(format('SELECT stripe_sync.add_endpoint(''new'', %L)', secret)) AS said, t.sqlstate(format('SELECT stripe_sync.rotate_endpoint_secret(''default'', %L)', secret)) AS rotated FROM given;
SELECT count(*) AS made FROM stripe_sync.endpoint WHERE name = 'new';
SELECT t.hint($$ SELECT stripe_sync.add_endpoint('new', 'sk_test_HUSH') $$);
-- gateways sign with strings of their own: a NOTICE when it is new, not when it is said again
SET client_min_messages = notice;
SELECT stripe_sync.add_endpoint('gateway', 'a-string-of-its-own');
SELECT stripe_sync.add_endpoint('gateway', 'a-string-of-its-own');
SELECT stripe_sync.rotate_endpoint_secret('gateway', 'another-string');
SELECT stripe_sync.rotate_endpoint_secret('gateway', 'another-string');
SELECT stripe_sync.add_endpoint('whole', 'whsec_test_2');
-- a file that can't be read now
SELECT stripe_sync.add_endpoint('file', 'file:/nonexistent/whsec');
SELECT stripe_sync.rotate_endpoint_secret('file', 'file:/nonexistent/other');
SELECT stripe_sync.set_api_key('file:/nonexistent/key');
SELECT stripe_sync.add_slack_webhook('file', 'file:/nonexistent/url');
SELECT stripe_sync.add_slack_channel('file', '#c', 'file:/nonexistent/token');

-- ---- Slack ----

SELECT t.hint($$ SELECT stripe_sync.add_slack_channel('ops', '#ops', 'https://hooks.slack.com/services/T0/B0/HUSH') $$);
SELECT t.hint($$ SELECT stripe_sync.add_slack_channel('ops', '#the ops', 'xoxb-HUSH') $$);
SELECT stripe_sync.add_slack_channel('ops', '#ops', 'xoxp-HUSH');
SELECT stripe_sync.add_slack_channel('ops', '#ops', 'xoxp-HUSH');
SELECT stripe_sync.add_slack_channel('ops', '#ops', 'xoxe.xoxb-HUSH'), stripe_sync.add_slack_channel('ops', '#ops', 'xoxb-HUSH');
SELECT stripe_sync.route_customer('4711', 'ops');
SELECT stripe_sync.route_customer('4711', 'ops');
SELECT stripe_sync.route_customer('cus_1', 'ops');

-- ---- types of events ----

CREATE FUNCTION t.nothing(event jsonb) RETURNS void LANGUAGE sql AS '';
SELECT stripe_sync.add_handler('h', 'invoice.payed', 't.nothing');
SELECT stripe_sync.add_handler('h', 'invoice.payed', 't.nothing');
SELECT stripe_sync.add_handler('h', 'invoices.*', 't.nothing');
SELECT stripe_sync.add_handler('h', 'something.altogether.different', 't.nothing');
SELECT stripe_sync.add_handler('h', 'invoice.paid, invoice.voided', 't.nothing');
SELECT stripe_sync.add_handler('h', 'system.silence', 't.nothing');
SELECT stripe_sync.add_handler('h', 'app.order_placed', 't.nothing');
SELECT stripe_sync.add_handler('h', 'invoice.paid', 't.nothing'), stripe_sync.add_handler('h', 'invoice.*', 't.nothing'), stripe_sync.add_handler('h', '*', 't.nothing'), stripe_sync.add_handler('h', '*.created', 't.nothing'),
       stripe_sync.add_handler('h', 'v2.core.event', 't.nothing');
SELECT stripe_sync.add_alert('a', 'customer.subscription.trial_will_ende', 'ops', 'x', closed_by => 'customer.subscription.deletd');
SELECT stripe_sync.add_alert('a', 'customer.subscription.trial_will_ende', 'ops', 'y', closed_by => 'customer.subscription.deletd');
SELECT stripe_sync.add_alert('a', 'system.silense', 'ops', 'x');
SELECT stripe_sync.add_alert('a', 'system.silence', 'ops', 'x', closed_by => 'system.silence_over'), stripe_sync.add_alert('a', 'app.order_shipped', 'ops', 'x');
SELECT count(*) FROM stripe_sync.add_default_alerts('ops');

SELECT status FROM stripe_sync.simulate('customer.udpated', '{"id":"cus_1","object":"customer"}');
SELECT status FROM stripe_sync.simulate('customer.updated', '{"id":"cus_3","object":"customer"}');

-- ---- types of objects ----

SELECT t.hint($$ SELECT stripe_sync.create_tables('{customers}') $$), t.hint($$ SELECT stripe_sync.verify_mirror('{checkout_sessions}') $$), t.hint($$ SELECT stripe_sync.refetch('invoices', 'in_1') $$), t.hint($$ SELECT stripe_sync.create_tables('{paymentintent}') $$);
SELECT stripe_sync.set_api_key('rk_test_HUSH');
SELECT t.hint($$ SELECT stripe_sync.backfill('{customers}') $$), t.hint($$ SELECT stripe_sync.backfill('customers') $$);
-- one type by its name, an array as text, all of them
SET client_min_messages = warning;
SELECT stripe_sync.backfill('customer') AS job, stripe_sync.backfill('{customer}') AS same, stripe_sync.backfill(ARRAY['customer']) AS again \gset
SELECT :job = :same AND :job = :again AS one, arguments FROM stripe_sync.job WHERE id = :job;
SELECT stripe_sync.backfill('{customer,invoice}') AS job \gset
SELECT arguments -> 'object_types' AS types FROM stripe_sync.job WHERE id = :job;
SELECT stripe_sync.backfill(NULL) AS job, stripe_sync.backfill() AS same \gset
SELECT :job = :same AS one, arguments -> 'object_types' AS types FROM stripe_sync.job WHERE id = :job;
SELECT t.sqlstate($$ SELECT stripe_sync.backfill('{customer') $$), t.sqlstate($$ SELECT stripe_sync.backfill('') $$);

-- ---- a URL that Stripe can't reach ----

SELECT url, t.raises(format('SELECT stripe_sync.create_webhook_endpoint(%L)', url)) AS said FROM unnest('{https://localhost/hook,https://127.0.0.1:3000/hook,https://[::1]/hook,https://shop.localhost/,https://mac.local/,https://shop/hook,https://10.0.0.1/,https://172.20.1.1/,https://192.168.1.2/}'::text[]) url;
SELECT t.raises_all($$ SELECT stripe_sync.create_webhook_endpoint('https://localhost:3000/hook') $$);
SELECT t.raises($$ SELECT stripe_sync.create_webhook_endpoint('https://172.32.1.1/hook') $$);
SELECT t.hint($$ SELECT stripe_sync.create_webhook_endpoint('https://shop.example.com/hook', '{invoice.payed}') $$);

-- ---- NULL ----

SELECT s, t.raises('SELECT stripe_sync.' || s) AS said FROM unnest(ARRAY['add_handler(NULL, ''*'', ''t.nothing'')', 'add_handler(''h'', NULL, ''t.nothing'')', 'add_handler(''h'', ''*'', NULL)', 'drop_handler(NULL)', 'drop_endpoint(NULL)',
	'drop_alert(NULL)', 'cancel_job(NULL)', 'retry_message(NULL)', 'cancel_message(NULL)', 'move_account(NULL, ''x'')', 'move_account(''x'', NULL)', 'replay(NULL::text)', 'test_handler(NULL, ''evt_1'')', 'test_handler(''h'', NULL)', 'grant_ingest(NULL)', 'grant_mirror(NULL)', 'grant_read(NULL)', 'grant_admin(NULL)', 'revoke_all(NULL)']) s;

-- ---- what applications call all day says nothing ----

SET client_min_messages = notice;
SELECT stripe_sync.notify('ops', 'x') > 0 AS queued;
SELECT t.send('evt_1', 'customer.unheard_of', 1, '{"id":"cus_2","object":"customer"}');
SELECT http_status FROM stripe_sync.webhook('{}'::text, '{"stripe-signature":"t=1,v1=00"}');
