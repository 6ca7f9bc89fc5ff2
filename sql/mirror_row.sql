-- Rows of a table that users have partitioned.
\set tables '{coupon,charge}'
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.psql
\set ECHO none
\i :prelude
\set ECHO all

CREATE TABLE t.columns AS SELECT * FROM stripe.coupons WHERE false;
DROP TABLE stripe.coupons;
CREATE TABLE stripe.coupons (LIKE t.columns, PRIMARY KEY (id, _account)) PARTITION BY HASH (id);
CREATE TABLE stripe.coupons_0 PARTITION OF stripe.coupons FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE stripe.coupons_1 PARTITION OF stripe.coupons FOR VALUES WITH (MODULUS 2, REMAINDER 1);
SELECT action FROM stripe_sync.create_tables('{coupon}');
SELECT t.send('evt_x1', 'coupon.created', 60, '{"id":"A","object":"coupon","percent_off":5}'), t.send('evt_x2', 'coupon.updated', 61, '{"id":"A","object":"coupon","percent_off":6}'), t.send('evt_x3', 'coupon.created', 60, '{"id":"B","object":"coupon","percent_off":7}');
SELECT id, percent_off FROM stripe.coupons ORDER BY id;
-- looked at, and filled by what embeds it
SELECT stripe_sync.explain_event('evt_x1') ~ 'evt_x2 .* is the newest' AS explained;
SELECT t.send('evt_x4', 'charge.succeeded', 62, '{"id":"ch_x","object":"charge","review":{"id":"C","object":"coupon","percent_off":8}}');
SELECT id, percent_off, _event_id FROM stripe.coupons WHERE id = 'C';
