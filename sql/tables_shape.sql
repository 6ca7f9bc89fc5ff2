-- Tables that are not as create_tables() makes them: partitioned mirror tables,
-- another kind of relation in the place of one, an inbox with more columns or
-- with something that would have to run.
\set tables '{customer,invoice,line_item,product,price,charge,refund}'
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.psql
\set ECHO none
\i :prelude
\set ECHO all

-- ---- partitioned by the key, and by the account ----

ALTER TABLE stripe.invoices RENAME TO old_invoices;
CREATE TABLE stripe.invoices (LIKE stripe.old_invoices INCLUDING DEFAULTS, PRIMARY KEY (id, _account)) PARTITION BY HASH (id);
SELECT format('CREATE TABLE stripe.invoices_%s PARTITION OF stripe.invoices FOR VALUES WITH (MODULUS 8, REMAINDER %s)', i, i) FROM generate_series(0, 7) i \gexec
ALTER TABLE stripe.line_items RENAME TO old_line_items;
CREATE TABLE stripe.line_items (LIKE stripe.old_line_items INCLUDING DEFAULTS, PRIMARY KEY (id, _account)) PARTITION BY LIST (_account);
CREATE TABLE stripe.line_items_own PARTITION OF stripe.line_items FOR VALUES IN ('');
CREATE TABLE stripe.line_items_rest PARTITION OF stripe.line_items DEFAULT;
DROP TABLE stripe.old_invoices, stripe.old_line_items;
CREATE FUNCTION t.invoice(n int, due int, VARIADIC lines int[]) RETURNS json LANGUAGE sql AS $$
	SELECT json_build_object('id', 'in_' || n, 'object', 'invoice', 'amount_due', due,
		'lines', json_build_object('object', 'list', 'has_more', false, 'data',
			(SELECT coalesce(json_agg(json_build_object('id', format('il_%s_%s', n, i), 'object', 'line_item', 'invoice', 'in_' || n, 'amount', i)), '[]')
			   FROM unnest(lines) i WHERE i > 0))) $$;
SELECT t.send('evt_i' || n, 'invoice.created', n, t.invoice(n, n * 10, 1, 2)), count(*) OVER () AS of FROM generate_series(1, 40) n OFFSET 39;
SELECT t.send('evt_u' || n, 'invoice.updated', 100 + n, t.invoice(n, n * 100, 2, 3), NULL, CASE WHEN n > 1 THEN 'acct_1' END) FROM generate_series(1, 2) n;
-- late: it changes nothing that is newer
SELECT t.send('evt_l1', 'invoice.updated', 50, t.invoice(1, 55, 1));
SELECT tableoid::regclass <> 'stripe.line_items'::regclass AS in_partition, id, _account, amount, t.sec(_deleted_at) AS deleted FROM stripe.line_items WHERE invoice IN ('in_1', 'in_2') ORDER BY id, _account;
SELECT id, _account, amount_due FROM stripe.invoices WHERE id IN ('in_1', 'in_2') ORDER BY id, _account;
SELECT count(DISTINCT tableoid) AS partitions FROM stripe.invoices;
SELECT * FROM stripe_sync.verify_mirror();
-- a new column of 40 rows is each row's own
ALTER TABLE stripe.invoices DROP COLUMN amount_due;
SELECT * FROM stripe_sync.create_tables('{invoice}');
SELECT count(*) AS rows, count(*) FILTER (WHERE amount_due <> (_data->>'amount_due')::bigint OR amount_due IS NULL) AS wrong FROM stripe.invoices;
SELECT * FROM stripe_sync.verify_mirror();
-- a backfill's page, a whole list's end
SELECT object_id, status FROM stripe_sync.apply_reading_page(json_build_array(t.invoice(1, 7, 4), t.invoice(99, 8, 1))::jsonb, '', to_timestamp(t.at(200)));
SELECT id, amount, t.sec(_deleted_at) AS deleted FROM stripe.line_items WHERE invoice IN ('in_1', 'in_99') AND _account = '' ORDER BY id;

-- ---- a view, a foreign table ----

ALTER TABLE stripe.products RENAME TO real_products;
CREATE VIEW stripe.products AS SELECT * FROM stripe.real_products;
CREATE FOREIGN DATA WRAPPER nowhere;
CREATE SERVER nowhere FOREIGN DATA WRAPPER nowhere;
ALTER TABLE stripe.prices RENAME TO real_prices;
CREATE FOREIGN TABLE stripe.prices (id text, _account text) SERVER nowhere;
SELECT status, left(detail, 80) AS detail FROM t.deliver(t.event('evt_p1', 'product.created', 1, '{"id":"prod_1","object":"product"}'));
SELECT t.hint($$ SELECT stripe_sync.create_tables('{price}') $$);
-- they stop no other type
SELECT object_type, field, mirror FROM stripe_sync.verify_mirror();
SELECT t.raises($$ SELECT stripe_sync.verify_mirror('{product}') $$);
ALTER TABLE stripe.customers DROP COLUMN name;
SELECT object_type, action FROM stripe_sync.create_tables() WHERE object_type IN ('customer', 'product', 'price');
DROP VIEW stripe.products;
DROP FOREIGN TABLE stripe.prices;
DROP FOREIGN DATA WRAPPER nowhere CASCADE;
ALTER TABLE stripe.real_products RENAME TO products;
ALTER TABLE stripe.real_prices RENAME TO prices;
SELECT status FROM stripe_sync.replay('evt_p1');

-- ---- keys that take two ids for one; an identity that is not the key ----

CREATE COLLATION t.caseless (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
ALTER TABLE stripe.products ALTER id TYPE text COLLATE t.caseless;
SELECT status, detail ~ 'nondeterministic' AS said FROM t.deliver(t.event('evt_p2', 'product.created', 2, '{"id":"PROD_1","object":"product"}'));
ALTER TABLE stripe.products ALTER id TYPE text COLLATE "C";
SELECT status FROM stripe_sync.replay('evt_p2');
SELECT id FROM stripe.products ORDER BY id COLLATE "C";
CREATE UNIQUE INDEX customers_identity ON stripe.customers (_account, id);
ALTER TABLE stripe.customers REPLICA IDENTITY USING INDEX customers_identity;
SELECT t.send('evt_c1', 'customer.created', 1, '{"id":"cus_1","object":"customer","name":"a"}'), t.send('evt_c2', 'customer.updated', 2, '{"id":"cus_1","object":"customer","name":"b"}');
SELECT id, name FROM stripe.customers;

-- ---- columns of a precision, or generated, in the place of ours; an owner without the right ----

ALTER TABLE stripe.prices ALTER unit_amount_decimal TYPE numeric(12,2);
SELECT t.send('evt_d1', 'price.created', 1, '{"id":"price_d","object":"price","unit_amount_decimal":"12.3456"}');
SELECT unit_amount_decimal FROM stripe.prices;
SELECT t.send('evt_d2', 'price.updated', 2, '{"id":"price_d","object":"price","unit_amount_decimal":"77777777777.5"}');
SELECT unit_amount_decimal FROM stripe.prices;
SELECT substr(error, 1, 37) AS error FROM stripe_sync.event WHERE id = 'evt_d2';
ALTER TABLE stripe.prices DROP COLUMN nickname, ADD COLUMN nickname text GENERATED ALWAYS AS (upper(_data->>'nickname')) STORED,
	ALTER unit_amount_decimal TYPE numeric;
SELECT t.send('evt_g1', 'price.updated', 3, '{"id":"price_d","object":"price","nickname":"small","currency":"eur"}');
SELECT nickname, currency FROM stripe.prices;
SELECT * FROM stripe_sync.verify_mirror('{price}');
SELECT action FROM stripe_sync.create_tables('{price}');
CREATE ROLE shape_owner;
GRANT USAGE ON SCHEMA stripe TO shape_owner;
ALTER TABLE stripe.prices OWNER TO shape_owner;
REVOKE UPDATE ON stripe.prices FROM shape_owner;
SELECT t.send('evt_r1', 'price.updated', 4, '{"id":"price_d","object":"price","currency":"usd"}');
SELECT currency FROM stripe.prices;
GRANT UPDATE ON stripe.prices TO shape_owner;
SELECT status FROM stripe_sync.replay('evt_r1');
SELECT currency FROM stripe.prices;
ALTER TABLE stripe.prices OWNER TO CURRENT_USER;
DROP OWNED BY shape_owner;
DROP ROLE shape_owner;

-- ---- foreign keys to what isn't the primary key ----

CREATE UNIQUE INDEX ON stripe.products (name);
CREATE TABLE t.log (what text);
CREATE TABLE t.named (name text PRIMARY KEY REFERENCES stripe.products (name) ON UPDATE CASCADE DEFERRABLE INITIALLY DEFERRED);
CREATE FUNCTION t.logged() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO t.log VALUES (OLD.name || ' ' || NEW.name); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER logged AFTER UPDATE ON t.named DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION t.logged();
SELECT t.send('evt_n1', 'product.created', 10, '{"id":"prod_n","object":"product","name":"a"}');
INSERT INTO t.named VALUES ('a');
SELECT t.send('evt_n2', 'product.updated', 11, '{"id":"prod_n","object":"product","name":"b"}');
SELECT name, (SELECT what FROM t.log) AS log FROM t.named;

-- ---- tombstones of children are compared ----

SELECT t.send('evt_i50', 'invoice.created', 300, t.invoice(50, 1, 1, 2)), t.send('evt_u50', 'invoice.updated', 301, t.invoice(50, 1, 2));
SELECT * FROM stripe_sync.verify_mirror('{line_item}');
UPDATE stripe.line_items SET _deleted_at = NULL WHERE id = 'il_50_1';
UPDATE stripe.line_items SET _deleted_at = to_timestamp(t.at(301)) WHERE id = 'il_50_2';
SELECT object_id, field, mirror IS NOT NULL AS mirror, expected IS NOT NULL AS expected FROM stripe_sync.verify_mirror('{line_item}') ORDER BY 1;

-- ---- the note of a table's search_path is seen by this session ----

CREATE SCHEMA mine;
CREATE TABLE mine.seen (id text);
CREATE FUNCTION t.see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO seen VALUES (NEW.id); RETURN NULL; END $$;
CREATE TRIGGER see AFTER INSERT ON stripe.charges FOR EACH ROW EXECUTE FUNCTION t.see();
SELECT t.send('evt_h1', 'charge.succeeded', 1, '{"id":"ch_1","object":"charge"}');
UPDATE stripe_sync.mirror_table SET search_path = 'mine, pg_temp' WHERE table_name = 'charges';
SELECT t.send('evt_h2', 'charge.succeeded', 2, '{"id":"ch_2","object":"charge"}');
SELECT * FROM mine.seen;

-- ---- a user's own column of a name that a later catalog brings ----

-- as a table stands that an earlier catalog made, to which its user has added columns since
ALTER TABLE stripe.customers DROP COLUMN phone, DROP COLUMN description, DROP COLUMN balance;
UPDATE stripe_sync.mirror_table SET columns = array_remove(array_remove(array_remove(columns, 'phone'), 'description'), 'balance') WHERE table_name = 'customers';
ALTER TABLE stripe.customers ADD phone int DEFAULT 7, ADD description text DEFAULT 'mine';
-- it is left alone, before create_tables() and after
SELECT t.send('evt_c20', 'customer.created', 20, '{"id":"cus_20","object":"customer","phone":"+1","description":"theirs","balance":5}');
SET client_min_messages = notice;
SELECT * FROM stripe_sync.create_tables('{customer}');
SET client_min_messages = warning;
SELECT * FROM stripe_sync.create_tables('{customer}');
SELECT t.send('evt_c21', 'customer.updated', 21, '{"id":"cus_20","object":"customer","phone":"+2","description":"theirs","balance":6}');
SELECT phone, description, balance, _data ->> 'phone' AS theirs FROM stripe.customers WHERE id = 'cus_20';
SELECT * FROM stripe_sync.verify_mirror('{customer}');
-- out of the way, Stripe's comes, and is filled
ALTER TABLE stripe.customers RENAME phone TO my_phone;
ALTER TABLE stripe.customers RENAME description TO my_description;
SELECT * FROM stripe_sync.create_tables('{customer}');
SELECT phone, description, my_phone, my_description FROM stripe.customers WHERE id = 'cus_20';
-- a column of the mirror's that was altered fails, until create_tables() says whose it is
ALTER TABLE stripe.customers ALTER phone TYPE int USING 8;
SELECT status, detail ~ 'is no longer of type text' AS said FROM t.deliver(t.event('evt_c22', 'customer.updated', 22, '{"id":"cus_20","object":"customer","name":"n"}'));
SELECT * FROM stripe_sync.create_tables('{customer}');
SELECT status FROM stripe_sync.replay('evt_c22');
SELECT name, phone FROM stripe.customers WHERE id = 'cus_20';
SELECT * FROM stripe_sync.verify_mirror('{customer}');
-- changed back it is filled before it is written
ALTER TABLE stripe.customers ALTER phone TYPE text;
SELECT t.deliver(t.event('evt_c23', 'customer.updated', 23, '{"id":"cus_20","object":"customer","name":"n2","phone":"+3"}'))::text ~ 'changed back.*create_tables' AS said;
SELECT * FROM stripe_sync.create_tables('{customer}');
SELECT status FROM stripe_sync.replay('evt_c23');
SELECT name, phone FROM stripe.customers WHERE id = 'cus_20';
SELECT * FROM stripe_sync.verify_mirror('{customer}');
-- dropped, and another of the name made in its place
ALTER TABLE stripe.customers DROP phone, ADD phone int DEFAULT 9;
SELECT * FROM stripe_sync.create_tables('{customer}');
SELECT t.send('evt_c24', 'customer.updated', 24, '{"id":"cus_20","object":"customer","name":"n","phone":"+4"}');
SELECT name, phone FROM stripe.customers WHERE id = 'cus_20';
ALTER TABLE stripe.customers DROP phone, DROP my_phone, DROP my_description;
SELECT * FROM stripe_sync.create_tables('{customer}');

-- ---- the index of e-mail addresses; what is computed in an index's definition ----

SELECT * FROM stripe_sync.create_tables('{customer}');
DROP INDEX stripe.customers_lower_idx;
CREATE INDEX of_others ON stripe.customers (lower(email)) WHERE phone IS NOT NULL;
CREATE INDEX of_name ON stripe.customers (lower(name));
SELECT action FROM stripe_sync.create_tables('{customer}');
SELECT pg_get_indexdef('stripe.customers_lower_idx'::regclass);
SELECT action FROM stripe_sync.create_tables('{customer}');
-- a user's own is as good
DROP INDEX stripe.customers_lower_idx;
CREATE INDEX mine ON stripe.customers (lower(email));
SELECT action FROM stripe_sync.create_tables('{customer}');
DROP INDEX stripe.mine, stripe.of_others, stripe.of_name;
-- what a constant part calls does not run with our rights
CREATE ROLE regress_shape_index;
GRANT USAGE, CREATE ON SCHEMA stripe, t TO regress_shape_index;
ALTER TABLE stripe.customers OWNER TO regress_shape_index;
SET ROLE regress_shape_index;
CREATE FUNCTION t.seven() RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN
	IF current_user <> 'regress_shape_index' THEN RAISE WARNING 'runs as another role'; END IF; RETURN '7'; END $$;
CREATE INDEX hostile ON stripe.customers ((name || t.seven()));
CREATE INDEX hostile_part ON stripe.customers (name) WHERE name <> t.seven();
RESET ROLE;
\set QUIET on
\c
\set QUIET off
SELECT action FROM stripe_sync.create_tables('{customer}');
SELECT t.send('evt_x1', 'customer.created', 600, '{"id":"cus_x","object":"customer","name":"n"}');
SET ROLE regress_shape_index;
SELECT name FROM stripe.customers WHERE id = 'cus_x';
RESET ROLE;
SELECT count(*) > 0 AS told FROM stripe_sync.trace('cus_x');
ALTER TABLE stripe.customers OWNER TO CURRENT_USER;
DROP INDEX stripe.hostile, stripe.hostile_part;
DROP OWNED BY regress_shape_index;
DROP ROLE regress_shape_index;

-- ---- row security that holds for the table's owner too ----

CREATE ROLE regress_shape_owner;
GRANT USAGE ON SCHEMA stripe TO regress_shape_owner;
ALTER TABLE stripe.customers OWNER TO regress_shape_owner;
ALTER TABLE stripe.customers ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
-- denied, with what to do
SELECT * FROM t.deliver(t.event('evt_c30', 'customer.created', 30, '{"id":"cus_30","object":"customer"}'));
-- a row that is hidden is neither written anew nor missing
SELECT status, split_part(detail, E'\n', 1) AS detail FROM t.deliver(t.event('evt_c31', 'customer.updated', 31, '{"id":"cus_20","object":"customer","name":"o"}'));
CREATE POLICY a_few ON stripe.customers USING (name IS NULL);
SELECT status, split_part(detail, E'\n', 1) AS detail FROM t.deliver(t.event('evt_c32', 'customer.updated', 32, '{"id":"cus_20","object":"customer","name":null}'));
SELECT status FROM stripe_sync.replay('evt_c30');
SET client_min_messages = notice;
SELECT * FROM stripe_sync.verify_mirror('{customer}');
SET client_min_messages = warning;
-- nor are its new columns filled
ALTER TABLE stripe.customers DROP COLUMN balance;
SELECT action FROM stripe_sync.create_tables('{customer}');
-- one that is missing is missing
DELETE FROM stripe.customers WHERE id = 'cus_30';
SELECT object_id, field FROM stripe_sync.verify_mirror('{customer}');
-- as the hint says
CREATE POLICY mirror ON stripe.customers TO regress_shape_owner USING (true) WITH CHECK (true);
SELECT status FROM stripe_sync.replay('evt_c30');
SELECT e, r.status FROM unnest('{evt_c31,evt_c32}'::text[]) e, stripe_sync.replay(e) r;
SELECT id, name FROM stripe.customers WHERE id IN ('cus_20', 'cus_30') ORDER BY 1;
SELECT * FROM stripe_sync.verify_mirror('{customer}');
-- nor is an account moved whose rows it may hide
SELECT t.hint($$ SELECT stripe_sync.move_account('', 'elsewhere') $$);
SELECT DISTINCT account FROM stripe_sync.event;
ALTER TABLE stripe.customers NO FORCE ROW LEVEL SECURITY, DISABLE ROW LEVEL SECURITY;
ALTER TABLE stripe.customers OWNER TO CURRENT_USER;
-- a partitioned table can't be looked into otherwise: nothing is said to be missing
GRANT ALL ON stripe.line_items_own, stripe.line_items_rest TO regress_shape_owner;
ALTER TABLE stripe.line_items OWNER TO regress_shape_owner;
ALTER TABLE stripe.line_items ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
SELECT field, count(*) FROM stripe_sync.verify_mirror('{line_item}') GROUP BY 1;
ALTER TABLE stripe.line_items NO FORCE ROW LEVEL SECURITY, DISABLE ROW LEVEL SECURITY;
ALTER TABLE stripe.line_items OWNER TO CURRENT_USER;
DROP POLICY a_few ON stripe.customers;
DROP POLICY mirror ON stripe.customers;
DROP OWNED BY regress_shape_owner;
DROP ROLE regress_shape_owner;

-- ---- the inbox ----

ALTER TABLE stripe_sync.event ADD tenant text DEFAULT 'one', ADD size int GENERATED ALWAYS AS (length(id)) STORED, ADD gone int;
ALTER TABLE stripe_sync.event DROP gone;
SELECT t.send('evt_c3', 'customer.updated', 3, '{"id":"cus_1","object":"customer","name":"c"}'), t.send('evt_c3', 'customer.updated', 3, '{"id":"cus_1","object":"customer","name":"c"}');
SELECT id, tenant, size FROM stripe_sync.event WHERE id = 'evt_c3';
ALTER TABLE stripe_sync.event ADD CHECK (tenant <> 'one') NOT VALID;
SELECT t.raises($$ SELECT t.send('evt_c4', 'customer.updated', 4, '{"id":"cus_1","object":"customer"}') $$) ~ '^23514' AS check_is_kept;
ALTER TABLE stripe_sync.event DROP tenant, DROP size;
CREATE FUNCTION t.pass() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
CREATE TRIGGER pass BEFORE INSERT ON stripe_sync.event FOR EACH ROW EXECUTE FUNCTION t.pass();
CREATE SEQUENCE t.n;
CREATE FUNCTION t.refused() RETURNS text LANGUAGE sql AS $$ SELECT split_part(t.raises_all($q$ SELECT t.send('evt_r' || nextval('t.n'), 'customer.updated', 5, '{"id":"cus_1","object":"customer"}') $q$), E'\nCONTEXT', 1) $$;
SELECT t.refused();
DROP TRIGGER pass ON stripe_sync.event;
CREATE RULE loud AS ON INSERT TO stripe_sync.event DO ALSO NOTIFY loud;
SELECT t.refused();
DROP RULE loud ON stripe_sync.event;
CREATE TABLE t.child () INHERITS (stripe_sync.event);
SELECT t.refused();
DROP TABLE t.child;
CREATE ACCESS METHOD other_heap TYPE TABLE HANDLER heap_tableam_handler;
ALTER TABLE stripe_sync.event SET ACCESS METHOD other_heap;
SELECT t.refused();
ALTER TABLE stripe_sync.event SET ACCESS METHOD heap;
DROP ACCESS METHOD other_heap;
ALTER TABLE stripe_sync.event RENAME error TO trouble;
SELECT t.refused();
ALTER TABLE stripe_sync.event RENAME trouble TO error;
-- foreign keys that point to it are fine
CREATE TABLE t.mine (event text, account text, FOREIGN KEY (event, account) REFERENCES stripe_sync.event);
SELECT t.refused();
DROP TABLE t.mine;
-- a row whose payload names another event can't be settled, and is said
UPDATE stripe_sync.event SET payload = replace(payload::text, 'evt_c3', 'evt_cx')::json, status = 'failed', todo = '{mirror}', tries = '{"mirror":1}', next_attempt_at = now() WHERE id = 'evt_c3';
CALL stripe_sync.work('10 seconds');
SELECT error, next_attempt_at > now() AS put_off FROM stripe_sync.event WHERE id = 'evt_c3';
