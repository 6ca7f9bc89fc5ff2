-- story.sql: a customer signs up, pays, fails to pay; and what goes wrong on
-- the way from Stripe to a database.
--
-- Told by test/demo/run.  demo.event() and demo.deliver() play Stripe and your
-- application: see prelude.sql.

\set QUIET on
SET client_min_messages = warning;
SET timezone = 'UTC';
\pset footer off
\pset linestyle unicode
\pset null '·'
\pset format wrapped
\pset columns 110

-- The answers to what was delivered since the last time
\set answers 'WITH told AS (DELETE FROM demo.answer RETURNING *) SELECT what AS " ", event_id, status, detail FROM told ORDER BY n;'

\echo
\echo '1. An endpoint, and something of the application''s own'
\echo '   One call names the endpoint and makes the mirror''s tables. The application adds a'
\echo '   handler: when a payment fails, a case is opened for somebody to look at.'
\echo

\o /dev/null
\set ECHO queries
CREATE EXTENSION stripe_sync;

SELECT stripe_sync.add_endpoint('default', 'whsec_demo_of_stripe_sync');

CREATE TABLE public.dunning_case (customer text, invoice text, cents bigint, opened_by text);

CREATE FUNCTION public.open_case(event jsonb) RETURNS void LANGUAGE sql AS $$
	INSERT INTO public.dunning_case
		SELECT o->>'customer', o->>'id', (o->>'amount_remaining')::bigint, event->>'id'
		FROM (SELECT event->'data'->'object') AS d (o) $$;

SELECT stripe_sync.add_handler('dunning', 'invoice.payment_failed', 'public.open_case');
\set ECHO none

\o
\echo
\echo '2. Ada signs up'
\echo '   Stripe sends customer.created and customer.subscription.created.'
\echo

\o /dev/null
SELECT demo.deliver('Ada signs up', demo.event('evt_01', 'customer.created', '9 h',
	demo.customer('ada@example.com')));
SELECT demo.deliver('… and subscribes', demo.event('evt_02', 'customer.subscription.created', '9 h 1 s',
	demo.subscription('incomplete', 0, 'in_0001')));
\o
:answers

\echo '3. Ada pays'
\echo '   Four events of one second, and they come out of order: paid before finalized.'
\echo

\o /dev/null
SELECT demo.deliver('the invoice is drawn up', demo.event('evt_03', 'invoice.created', '9 h 2 s',
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
\echo '   The handler runs in the transaction that stores the event.'
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
\echo '   It does so whenever an answer was lost. Nothing may happen twice.'
\echo

\o /dev/null
SELECT demo.deliver('the failed payment, again', demo.event('evt_09', 'invoice.payment_failed', '30 days 9 h 5 s',
	demo.invoice('in_0002', 'open', '30 days 9 h', 0, 1)));
\o
:answers

\echo '6. Two changes of Ada''s address arrive in the wrong order'
\echo '   The older one must not overwrite the newer.'
\echo

\o /dev/null
SELECT demo.deliver('a new address', demo.event('evt_12', 'customer.updated', '31 days 10 h',
	demo.customer('ada@analytical.example'), '{"email": "ada@engine.example"}'));
SELECT demo.deliver('… the one before, late', demo.event('evt_11', 'customer.updated', '31 days 9 h',
	demo.customer('ada@engine.example'), '{"email": "ada@example.com"}'));
\o
:answers

\echo '7. Somebody forges a payment'
\echo '   Signed with a guessed secret. This is what webhook() has your application answer:'
\echo

SELECT demo.event('evt_forged', 'invoice.paid', '32 days',
	demo.invoice('in_0002', 'paid', '30 days 9 h', 2900, 2)) AS forged
\gset

SELECT http_status, body FROM stripe_sync.webhook(
	:'forged'::text,
	jsonb_build_object('Stripe-Signature', stripe_sync.sign(:'forged'::text, 'whsec_a_guess')));

\echo '8. The mirror: what the application reads instead of calling Stripe'
\echo '   SELECT … FROM stripe.customers;'
\echo

SELECT id, name, email, _event_id, _as_of FROM stripe.customers;

\echo '   SELECT … FROM stripe.subscriptions;'
\echo

SELECT id, customer, status, price, quantity, current_period_end FROM stripe.subscriptions;

\echo '   SELECT … FROM stripe.invoices;'
\echo

SELECT id, subscription, status, amount_due, amount_paid, attempt_count, _event_id
	FROM stripe.invoices ORDER BY created;

\echo '9. The inbox: every event, as Stripe said it, and what became of it'
\echo '   SELECT … FROM stripe_sync.event;'
\echo

SELECT id, type, object_id, created, status FROM stripe_sync.event ORDER BY received_at;

\echo '10. What the handler did: one case, though the event came twice'
\echo '    SELECT * FROM dunning_case;'
\echo

SELECT * FROM public.dunning_case;

\echo '11. Why was evt_11 left out of the mirror?'
\echo '    SELECT stripe_sync.explain_event(''evt_11'');'
\echo

\pset format unaligned
\pset tuples_only on
SELECT regexp_replace(stripe_sync.explain_event('evt_11'), '^', '    ', 'gm');
