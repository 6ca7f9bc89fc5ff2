-- The catalog of object types, and the tables that are made of it.
\set tables '{customer}'
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.psql
\set ECHO none
\i :prelude
\set ECHO all
-- the view: all types of the catalog's own file
\set file :abs_srcdir /src/types/object_types.json
\set catalog `cat :'file'`
CREATE TABLE t.json AS SELECT t AS type FROM json_array_elements((:'catalog'::json)->'object_types') t;
SELECT stripe_sync.catalog_api_version() = (:'catalog'::json)->>'api_version' AS version;
SELECT count(*) > 140 AS many FROM stripe_sync.object_type;
SELECT j.type->>'object' AS differs FROM t.json j FULL JOIN stripe_sync.object_type o ON o.object_type = j.type->>'object'
 WHERE o.object_type IS NULL OR j.type IS NULL
    OR (o.table_name, o.key, o.api, o.list_path, o.retrieve_path, o.id_prefix, o.deletable)
       IS DISTINCT FROM (j.type->>'table', j.type->>'key', j.type->>'api', j.type->>'list_path', COALESCE(j.type->>'retrieve_path', o.retrieve_path), j.type->>'id_prefix', (j.type->>'deletable')::boolean)
    OR o.fields IS DISTINCT FROM COALESCE((SELECT jsonb_object_agg(f->>'name', f->>'kind') FROM json_array_elements(j.type->'fields') f), '{}');
-- singletons, which the file names no path for
SELECT o.object_type, o.retrieve_path FROM t.json j JOIN stripe_sync.object_type o ON o.object_type = j.type->>'object'
 WHERE o.retrieve_path IS NOT NULL AND j.type->>'retrieve_path' IS NULL ORDER BY 1;
SELECT j.type->>'object' AS events_differ FROM t.json j JOIN stripe_sync.object_type o ON o.object_type = j.type->>'object'
 WHERE (SELECT array_agg(e ORDER BY e COLLATE "C") FROM json_array_elements_text(j.type->'event_types') e) IS DISTINCT FROM (SELECT array_agg(e ORDER BY e COLLATE "C") FROM unnest(o.event_types) e);
SELECT object_type, table_name, key, list_path FROM stripe_sync.object_type WHERE object_type IN ('billing_portal.configuration', 'customer', 'balance', 'cash_balance', 'billing.alert_triggered') ORDER BY 1;

-- create_tables: created, unchanged, extended
SELECT * FROM stripe_sync.create_tables('{customer,coupon,coupon}');
SELECT * FROM stripe_sync.create_tables('{coupon}');
SELECT t.raises($$ SELECT stripe_sync.create_tables('{teapot}') $$) AS unknown, t.raises($$ SELECT stripe_sync.create_tables('{billing.alert_triggered}') $$) AS untabled;
SELECT count(*) FROM stripe_sync.create_tables('{}');
-- new columns are filled from _data, derived and indexed ones too; other
-- columns, rows and what users have made stay
SELECT action FROM stripe_sync.create_tables('{invoice}');
SELECT t.send('evt_1', 'invoice.created', 1, '{"id":"in_1","object":"invoice","customer":{"id":"cus_1","object":"customer","name":"n"},"amount_due":500,"created":1735689600,"number":"A-1","auto_advance":true,"metadata":{"k":"v"},"parent":{"subscription_details":{"subscription":"sub_1"}}}'),
       t.send('evt_2', 'invoice.created', 1, '{"id":"in_2","object":"invoice","customer":17,"amount_due":"much","metadata":{}}');
ALTER TABLE stripe.invoices DROP COLUMN customer, DROP COLUMN amount_due, DROP COLUMN created, DROP COLUMN auto_advance, DROP COLUMN metadata, DROP COLUMN subscription, ADD COLUMN mine text DEFAULT 'kept';
SELECT t.send('evt_3', 'invoice.created', 1, '{"id":"in_3","object":"invoice","customer":"cus_3","amount_due":300}');
SELECT * FROM stripe_sync.create_tables('{invoice}');
SELECT id, customer, amount_due, t.sec(created) AS created, auto_advance, metadata, subscription, number, mine FROM stripe.invoices ORDER BY id;
SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = 'stripe.invoices'::regclass AND NOT indisprimary ORDER BY 1;
SELECT action FROM stripe_sync.create_tables('{invoice}');
SELECT t.send('evt_4', 'invoice.updated', 2, '{"id":"in_3","object":"invoice","customer":"cus_4","amount_due":400}');
SELECT customer, amount_due, mine FROM stripe.invoices WHERE id = 'in_3';

-- another tool's table of that name is refused, and left alone
CREATE TABLE stripe.products (id text PRIMARY KEY, data json);
SELECT t.hint($$ SELECT stripe_sync.create_tables('{product}') $$);
-- nor is anything written to it
SELECT t.send('evt_5', 'product.created', 5, '{"id":"prod_1","object":"product"}');
SELECT * FROM stripe.products;
DROP TABLE stripe.products;
CREATE VIEW stripe.products AS SELECT 1 AS id;
SELECT t.raises($$ SELECT stripe_sync.create_tables('{product}') $$);
DROP VIEW stripe.products;

-- all of them, by add_endpoint, when there are none
DROP SCHEMA stripe CASCADE;
SELECT stripe_sync.add_endpoint('other', 'whsec_other');
SELECT (SELECT count(*) FROM pg_tables WHERE schemaname = 'stripe') = (SELECT count(table_name) FROM stripe_sync.object_type) AS all_made;
SELECT count(*) FILTER (WHERE action <> 'unchanged') AS changed FROM stripe_sync.create_tables();
-- every column has its field's type
SELECT o.table_name, f.key AS field, f.value AS kind, format_type(a.atttypid, a.atttypmod) AS type
  FROM stripe_sync.object_type o, jsonb_each_text(o.fields) f LEFT JOIN pg_attribute a ON true
 WHERE o.table_name IS NOT NULL AND a.attrelid = to_regclass(format('stripe.%I', o.table_name)) AND a.attname = f.key
   AND format_type(a.atttypid, a.atttypmod) IS DISTINCT FROM CASE f.value WHEN 'string' THEN 'text' WHEN 'reference' THEN 'text' WHEN 'integer' THEN 'bigint' WHEN 'number' THEN 'numeric' WHEN 'decimal' THEN 'numeric'
       WHEN 'timestamp' THEN 'timestamp with time zone' WHEN 'boolean' THEN 'boolean' ELSE 'jsonb' END;
SELECT o.table_name, f AS missing FROM stripe_sync.object_type o, jsonb_object_keys(o.fields) f
 WHERE o.table_name IS NOT NULL AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = to_regclass(format('stripe.%I', o.table_name)) AND a.attname = f);

-- not members of the extension: they outlive it, and are adopted by the next
SELECT t.send('evt_6', 'customer.created', 6, '{"id":"cus_6","object":"customer","name":"survives"}');
ALTER TABLE stripe.customers ADD COLUMN mine text;
SELECT count(*) AS members FROM pg_depend WHERE classid = 'pg_class'::regclass AND deptype = 'e' AND objid IN (SELECT oid FROM pg_class WHERE relnamespace = 'stripe'::regnamespace);
DROP EXTENSION stripe_sync;
SELECT id, name FROM stripe.customers;
CREATE EXTENSION stripe_sync;
SELECT stripe_sync.add_endpoint('default', t.secret());
SELECT * FROM stripe_sync.create_tables('{customer}');
-- an older event of it is late still, though the inbox has forgotten
SELECT t.send('evt_5', 'customer.updated', 5, '{"id":"cus_6","object":"customer","name":"older"}'), t.send('evt_7', 'customer.updated', 7, '{"id":"cus_6","object":"customer","name":"newer"}');
SELECT name, _event_id FROM stripe.customers WHERE id = 'cus_6';
SELECT stripe_sync.grant_read('pg_monitor') \g /dev/null
SELECT has_table_privilege('pg_monitor', 'stripe.customers', 'SELECT') AS adopted_is_readable;
SELECT stripe_sync.revoke_all('pg_monitor') \g /dev/null

-- CREATE EXTENSION alone makes no schema of the user's
DROP EXTENSION stripe_sync;
DROP SCHEMA stripe CASCADE;
CREATE EXTENSION stripe_sync;
SELECT to_regnamespace('stripe') IS NULL AS none;
