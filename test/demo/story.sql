-- story.sql: a customer signs up, pays, fails to pay; what goes wrong on the way
-- from Stripe to a database; what people see of it in Slack; and what is read
-- from Stripe's API: all that was there before, and events that never arrived.
--
-- Told by test/demo/run.  demo.event() and demo.deliver() stand in for Stripe and
-- for your application: see prelude.sql.  psql's variable "columns" is the width
-- of the terminal, 80 or more; no line may be wider than 80 when it is 80.  Columns
-- that are left out then are shown when "wide" is on.

\set QUIET on
SET client_min_messages = warning;
SET timezone = 'UTC';
\pset footer off
\pset linestyle unicode
\pset null '·'
\pset format aligned
SELECT :columns >= 130 AS wide, least(:columns - 8, 100) AS text_width, :columns - 60 AS room
\gset

-- The answers to what was delivered since the last time
\set answers 'WITH new AS (UPDATE demo.answer SET told = true WHERE NOT told RETURNING *) SELECT what AS "event", event_id AS id, status, demo.brief(detail, :room) AS detail FROM new ORDER BY n;'

\echo
\echo 'stripe_sync receives Stripe''s webhooks in your PostgreSQL database, keeps a copy'
\echo 'of Stripe''s data there, and sends alerts to Slack. This is the story of one'
\echo 'customer, Ada, with local stand-ins for Stripe and Slack. Nothing leaves this'
\echo 'machine.'
\echo
\echo '1. Setting up'
\echo '   One call stores the webhook''s signing secret and creates tables such as'
\echo '   stripe.customers. The application adds a function of its own: when a payment'
\echo '   fails, it opens a case for somebody to look at.'
\echo

\o /dev/null
\set ECHO queries
CREATE EXTENSION stripe_sync;

SELECT stripe_sync.add_endpoint('default', 'whsec_demo_of_stripe_sync');

CREATE TABLE public.dunning_case (
    customer text, invoice text, cents bigint, opened_by text);

CREATE FUNCTION public.open_case(event jsonb) RETURNS void LANGUAGE sql AS $$
    INSERT INTO public.dunning_case
    SELECT o->>'customer', o->>'id', (o->>'amount_remaining')::bigint,
           event->>'id'
      FROM (SELECT event->'data'->'object') AS d (o) $$;

SELECT stripe_sync.add_handler(
    'dunning', 'invoice.payment_failed', 'public.open_case');
\set ECHO none

\o
\echo
\echo '2. Ada signs up'
\echo '   Stripe sends customer.created and customer.subscription.created. Both are'
\echo '   stored and applied.'
\echo

\o /dev/null
SELECT demo.deliver('Ada signs up', demo.event('evt_01', 'customer.created', '9 h',
	demo.customer('ada@example.com')));
SELECT demo.deliver('… and subscribes', demo.event('evt_02', 'customer.subscription.created', '9 h 1 s',
	demo.subscription('incomplete', 0, 'in_0001')));
\o
:answers

\echo '3. Ada pays'
\echo '   Four events of one second arrive out of order: paid before finalized. The'
\echo '   late ones are stale: stored, but newer data is not overwritten.'
\echo

\o /dev/null
SELECT demo.deliver('the invoice is created', demo.event('evt_03', 'invoice.created', '9 h 2 s',
	demo.invoice('in_0001', 'draft', '9 h 2 s')));
SELECT demo.deliver('… is paid', demo.event('evt_06', 'invoice.paid', '9 h 2 s',
	demo.invoice('in_0001', 'paid', '9 h 2 s', 2900, 1)));
SELECT demo.deliver('… was finalized', demo.event('evt_04', 'invoice.finalized', '9 h 2 s',
	demo.invoice('in_0001', 'open', '9 h 2 s')));
SELECT demo.deliver('… was updated', demo.event('evt_05', 'invoice.updated', '9 h 2 s',
	demo.invoice('in_0001', 'paid', '9 h 2 s', 2900, 1),
	'{"status": "open", "amount_paid": 0, "amount_remaining": 2900, "attempt_count": 0, "attempted": false}'));
SELECT demo.deliver('the subscription is active', demo.event('evt_07', 'customer.subscription.updated', '9 h 3 s',
	demo.subscription('active', 0, 'in_0001'), '{"status": "incomplete"}'));
\o
:answers

\echo '4. A month later her card is declined'
\echo '   The application''s function runs in the transaction that stores the event.'
\echo

\o /dev/null
SELECT demo.deliver('the next invoice', demo.event('evt_08', 'invoice.created', '30 days 9 h',
	demo.invoice('in_0002', 'open', '30 days 9 h')));
SELECT demo.deliver('its payment fails', demo.event('evt_09', 'invoice.payment_failed', '30 days 9 h 5 s',
	demo.invoice('in_0002', 'open', '30 days 9 h', 0, 1)));
SELECT demo.deliver('the subscription is past due', demo.event('evt_10', 'customer.subscription.updated', '30 days 9 h 5 s',
	demo.subscription('past_due', 1, 'in_0002'), '{"status": "active", "latest_invoice": "in_0001"}'));
\o
:answers

\echo '5. Stripe delivers the failed payment once more'
\echo '   Stripe repeats a delivery if it got no response. The event is recognized, and'
\echo '   nothing happens twice.'
\echo

\o /dev/null
SELECT demo.deliver('the failed payment, again', demo.event('evt_09', 'invoice.payment_failed', '30 days 9 h 5 s',
	demo.invoice('in_0002', 'open', '30 days 9 h', 0, 1)));
\o
:answers

\echo '6. Two changes of Ada''s address arrive in the wrong order'
\echo '   The older one does not overwrite the newer.'
\echo

\o /dev/null
SELECT demo.deliver('a new address', demo.event('evt_12', 'customer.updated', '31 days 10 h',
	demo.customer('ada@analytical.example'), '{"email": "ada@engine.example"}'));
SELECT demo.deliver('… the one before, late', demo.event('evt_11', 'customer.updated', '31 days 9 h',
	demo.customer('ada@engine.example'), '{"email": "ada@example.com"}'));
\o
:answers

\echo '7. Somebody forges a payment'
\echo '   It is signed with a guessed secret. The response to it:'
\echo

SELECT demo.event('evt_forged', 'invoice.paid', '32 days',
	demo.invoice('in_0002', 'paid', '30 days 9 h', 2900, 2)) AS forged
\gset

SELECT http_status AS http, body ->> 'code' AS code, body ->> 'error' AS error FROM stripe_sync.webhook(
	:'forged'::text,
	jsonb_build_object('Stripe-Signature', stripe_sync.sign(:'forged'::text, 'whsec_a_guess')));

\echo '8. What the application reads instead of calling Stripe'
\echo '   SELECT … FROM stripe.customers;'
\echo

\if :wide
SELECT id, name, email, currency, balance, delinquent, _event_id, _as_of FROM stripe.customers;
\else
SELECT id, name, email, currency, _event_id FROM stripe.customers;
\endif

\echo '   SELECT … FROM stripe.subscriptions;'
\echo

\if :wide
SELECT id, customer, status, price, quantity, current_period_end FROM stripe.subscriptions;
\else
SELECT id, status, price, quantity, current_period_end FROM stripe.subscriptions;
\endif

\echo '   SELECT … FROM stripe.invoices;'
\echo

\if :wide
SELECT id, customer, subscription, status, amount_due, amount_paid, attempt_count, created, _event_id
	FROM stripe.invoices ORDER BY created;
\else
SELECT id, subscription, status, amount_due, amount_paid, _event_id
	FROM stripe.invoices ORDER BY created;
\endif

\echo '9. What the application''s function did: one case, though the event came twice'
\echo '   SELECT * FROM dunning_case;'
\echo

SELECT * FROM public.dunning_case;

\echo '10. Every event is kept, with its result. Why was evt_11 stale?'
\echo '    SELECT stripe_sync.explain_event(''evt_11'');'
\echo

\pset format unaligned
\pset tuples_only on
SELECT demo.wrap(stripe_sync.explain_event('evt_11'), :text_width);

\echo '11. Slack: a channel, a standard set of alerts, and an app for buttons'
\echo '    Here Slack is a stand-in on this machine; all else is as it would be.'
\echo

\o /dev/null
\set ECHO queries
SELECT stripe_sync.add_slack_channel('billing', '#billing', 'xoxb-demo-token');

SELECT stripe_sync.add_default_alerts('billing');

SELECT stripe_sync.add_slack_app(
    'default', '0123456789abcdef0123456789abcdef', 'xoxb-demo-token');

SELECT stripe_sync.set_slack_user('U0GRACE', 'act');
\set ECHO none
\o

\pset format aligned
\pset tuples_only off
\echo
\if :wide
SELECT name, event_type, closed_by, severity, destination FROM stripe_sync.alert
	WHERE event_type NOT LIKE 'system.%' ORDER BY name;
\else
SELECT name, event_type, severity FROM stripe_sync.alert
	WHERE event_type NOT LIKE 'system.%' ORDER BY name;
\endif

\echo '12. Ada''s card is declined once more: an incident opens'
\echo '    The message is stored in the event''s transaction. A background worker sends'
\echo '    it after the commit.'
\echo

\o /dev/null
SELECT demo.deliver('another payment fails', demo.event('evt_13', 'invoice.payment_failed', '35 days 9 h',
	demo.invoice('in_0002', 'open', '30 days 9 h', 0, 2)));
\o
:answers

\pset format unaligned
\pset tuples_only on
SELECT demo.slack_shows();
\echo

\echo '13. Grace presses Acknowledge. It is declined twice more: the message is'
\echo '    updated, nobody is notified again'
\echo

-- in one transaction, so that the worker sees both
\o /dev/null
SELECT demo.slack_does('press Acknowledge U0GRACE');
SELECT demo.slack_is_told();
BEGIN;
SELECT demo.deliver('another payment fails', demo.event('evt_14', 'invoice.payment_failed', '37 days 9 h',
	demo.invoice('in_0002', 'open', '30 days 9 h', 0, 3)));
SELECT demo.deliver('another payment fails', demo.event('evt_15', 'invoice.payment_failed', '39 days 9 h',
	demo.invoice('in_0002', 'open', '30 days 9 h', 0, 4)));
COMMIT;
\o
SELECT demo.slack_shows();
\echo

\echo '14. Ada pays: the message is updated, and its thread has a reply'
\echo

\o /dev/null
SELECT demo.deliver('Ada pays, late', demo.event('evt_16', 'invoice.paid', '39 days 14 h',
	demo.invoice('in_0002', 'paid', '30 days 9 h', 2900, 5)));
\o
SELECT demo.slack_shows();
\echo

\pset format aligned
\pset tuples_only off
\echo '    SELECT … FROM stripe_sync.incident;'
\echo
SELECT alert, group_key, event_id AS opened_by, count, state, closed_by FROM stripe_sync.incident;

\echo '15. Your application sends a message while Slack has problems'
\echo '    Slack responds first with 429 (wait a second), then with 500. The message'
\echo '    is sent again until Slack accepts it.'
\echo

\o /dev/null
SELECT demo.slack('trouble seat');
\set ECHO queries
SELECT stripe_sync.notify(
    'billing', 'Ada''s seat is open again.', key => 'seat/sub_Ada');
\set ECHO none
SELECT demo.slack_is_told();
\o
\echo
\echo '    SELECT … FROM stripe_sync.delivery;'
\echo
SELECT attempt, http_status, code, verdict,
	   round(extract(epoch FROM d.started_at - min(d.started_at) OVER ()), 1) AS "after (s)"
	FROM stripe_sync.delivery d JOIN stripe_sync.message m ON m.id = d.message_id
	WHERE m.key = 'seat/sub_Ada' ORDER BY attempt;

\echo '16. What was there before the first webhook: an API key, and a backfill'
\echo '    The shop is a year older than its webhooks. Stripe (a stand-in, over TLS)'
\echo '    has its customers, subscriptions, invoices and charges; the database has'
\echo '    only Ada''s.'
\echo

-- The changes of the next chapter happen twenty minutes ago and after the backfill,
-- so by Stripe's clock the backfill is an hour ago.
\o /dev/null
SELECT demo.fill_stripe();
SELECT demo.stripe('clock', '{"shift": -3600}');
\set ECHO queries
SELECT stripe_sync.set_api_key('rk_test_demo_of_stripe_sync');
\set ECHO none
\o
\echo 'SELECT stripe_sync.backfill(ARRAY[''product'', ''price'', …]) AS job;'
\echo 'CALL stripe_sync.wait_job(:job);'
\echo
SELECT stripe_sync.backfill('{product,price,customer,subscription,invoice,charge}') AS job
\gset
SET client_min_messages = notice;
CALL stripe_sync.wait_job(:job);
SET client_min_messages = warning;
\echo
\echo '    SELECT … FROM stripe_sync.job;'
\echo
SELECT id, kind, state, progress, pages, objects,
	   round(objects / extract(epoch FROM finished_at - started_at)) AS "objects/s", error
	FROM stripe_sync.job WHERE id = :job;

\echo '    What the database has now:'
\echo
SELECT t.name AS table, t.rows FROM (VALUES
	(1, 'stripe.products', (SELECT count(*) FROM stripe.products)),
	(2, 'stripe.prices', (SELECT count(*) FROM stripe.prices)),
	(3, 'stripe.customers', (SELECT count(*) FROM stripe.customers)),
	(4, 'stripe.subscriptions', (SELECT count(*) FROM stripe.subscriptions)),
	(5, 'stripe.subscription_items', (SELECT count(*) FROM stripe.subscription_items)),
	(6, 'stripe.invoices', (SELECT count(*) FROM stripe.invoices)),
	(7, 'stripe.line_items', (SELECT count(*) FROM stripe.line_items)),
	(8, 'stripe.charges', (SELECT count(*) FROM stripe.charges))) AS t (n, name, rows) ORDER BY t.n;

\echo '17. Things change at Stripe while your application is being deployed'
\echo '    Of seven webhooks, four are dropped. The database differs from Stripe.'
\echo

\o /dev/null
SELECT demo.stripe('clock', '{"shift": 0}');
SELECT format('SELECT demo.change(%L, %L, %L, %L)', ref, field, value, arrives) FROM (VALUES
	(1, 'cus_Ada', 'email', '"ada@new.example"'::jsonb, true),
	(2, 'sub_Ada', 'cancel_at_period_end', 'true', false),
	(3, 'cus_Ada', 'name', '"Ada King"', false),
	(4, (SELECT min(id) FROM stripe.invoices WHERE status = 'open'), 'status', '"paid"', false),
	(5, (SELECT max(id) FROM stripe.invoices WHERE status = 'open'), 'status', '"paid"', true),
	(6, (SELECT min(id) FROM stripe.subscriptions WHERE status = 'active'), 'status', '"past_due"', true),
	(7, (SELECT max(id) FROM stripe.subscriptions WHERE status = 'active' AND id <> 'sub_Ada'), 'status', '"canceled"', false)
	) AS w (n, ref, field, value, arrives) ORDER BY n
\gexec
UPDATE demo.answer SET told = true;
\o
SELECT demo.short(object, :'wide') AS object, field, stripe, here, webhook FROM demo.compare();

\echo '18. Comparing with Stripe''s list of events, and fetching what is missing'
\echo '    This happens automatically every 15 minutes. Events younger than five'
\echo '    minutes are left out, because they may still arrive.'
\echo
\echo 'SELECT stripe_sync.reconcile() AS job;'
\echo 'CALL stripe_sync.wait_job(:job);'
\echo
SELECT stripe_sync.reconcile() AS job
\gset
SET client_min_messages = notice;
CALL stripe_sync.wait_job(:job);
SET client_min_messages = warning;
\o /dev/null
SELECT demo.all_is_applied();
\o
\echo
SELECT id, kind, state, pages, objects AS events, missing, repaired, error FROM stripe_sync.job WHERE id = :job;

\echo '    The missing events are stored and applied:'
\echo
SELECT type, demo.short(object_id, :'wide') AS object_id, status, source FROM stripe_sync.event
	WHERE source = 'reconcile' ORDER BY created, id;

\echo '    Stripe and the database agree again:'
\echo
SELECT demo.short(object, :'wide') AS object, field, stripe, here, webhook FROM demo.compare();

\echo '19. What Slack shows in the end'
\echo

\pset format unaligned
\pset tuples_only on
SELECT demo.slack_shows();

\echo
\echo '20. Summary'
\echo '    Events, as counted in the tables: SELECT * FROM demo.summary();'
\echo

\pset format aligned
\pset tuples_only off
SELECT * FROM demo.summary();
