-- explain_event: why an event ended as it did.
\set tables '{customer,subscription}'
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.psql
\set ECHO none
\i :prelude
\set ECHO all
-- Times are shown in the session's zone.
SET timezone = 'UTC';
-- What it says, without the times of now.
CREATE FUNCTION t.explain(event text) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT regexp_replace(regexp_replace(stripe_sync.explain_event(event), 'received [-0-9: .+]+', 'received NOW '), 'due [-0-9: .+]+', 'due LATER ') $$;
SELECT t.send('evt_1', 'customer.created', 1, '{"id":"cus_1","object":"customer"}');
SELECT t.explain('evt_1');
SELECT t.send('evt_3', 'customer.updated', 3, '{"id":"cus_1","object":"customer"}'), t.send('evt_2', 'customer.updated', 2, '{"id":"cus_1","object":"customer","name":"x"}');
SELECT t.explain('evt_2');
SELECT t.explain('evt_3');
SELECT t.send('evt_4', 'customer.deleted', 4, '{"id":"cus_1","object":"customer"}', NULL, 'acct_1');
SELECT t.explain('evt_4');
SELECT t.send('evt_5', 'product.created', 5, '{"id":"prod_1","object":"product"}'), t.send('evt_6', 'teapot.boiled', 6, '{"object":"teapot"}'), t.send('evt_7', 'invoice.upcoming', 7, '{"object":"invoice"}');
SELECT t.explain('evt_5');
SELECT t.explain('evt_6');
SELECT t.explain('evt_7');
-- ambiguous: it says so
SELECT t.send('evt_8', 'customer.updated', 8, '{"id":"cus_2","object":"customer","name":"x"}'), t.send('evt_9', 'customer.updated', 8, '{"id":"cus_2","object":"customer","name":"y"}');
SELECT t.explain('evt_8');
-- failed: what is still to do, and when
CREATE FUNCTION t.broken(event jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE 'no luck'; END $$;
SELECT stripe_sync.add_handler('broken', 'customer.*', 't.broken');
SELECT t.send('evt_10', 'customer.updated', 10, '{"id":"cus_3","object":"customer"}');
SELECT line FROM t.explain('evt_10') e, string_to_table(e, E'\n') line WHERE line !~ '^(CONTEXT|SQL)';
-- and once it is dead
SET stripe_sync.max_attempts = 1;
SELECT t.send('evt_11', 'customer.updated', 11, '{"id":"cus_3","object":"customer"}') \g /dev/null
SELECT line FROM t.explain('evt_11') e, string_to_table(e, E'\n') line WHERE line ~ '^(It was received|Still)';
RESET stripe_sync.max_attempts;
-- the table is another thing now, or gone
SELECT t.send('evt_12', 'customer.subscription.created', 12, '{"id":"sub_1","object":"subscription"}') \g /dev/null
ALTER TABLE stripe.subscriptions RENAME TO were_subscriptions;
SELECT line FROM t.explain('evt_12') e, string_to_table(e, E'\n') line WHERE line ~ '^(There|stripe)';
CREATE VIEW stripe.subscriptions AS SELECT * FROM stripe.were_subscriptions;
SELECT line FROM t.explain('evt_12') e, string_to_table(e, E'\n') line WHERE line ~ '^(There|stripe)';
DROP VIEW stripe.subscriptions;
SELECT t.raises($$ SELECT stripe_sync.explain_event('evt_none') $$), stripe_sync.explain_event(NULL) IS NULL AS strict;
