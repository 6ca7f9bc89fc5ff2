-- webhook: what an HTTP front answers.  It never raises for what a client sent.
\set tables '{customer,subscription_item}'
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.psql
\set ECHO none
\i :prelude
\set ECHO all
CREATE FUNCTION t.customer(id text) RETURNS json LANGUAGE sql
	AS $$ SELECT json_build_object('id', id, 'object', 'customer') $$;
-- A delivery with its signature in the usual header.
CREATE FUNCTION t.post(payload text, endpoint text DEFAULT 'default', secret text DEFAULT t.secret(), age interval DEFAULT '0',
	OUT http_status int, OUT body jsonb) LANGUAGE sql AS $$
	SELECT w.http_status, w.body
	  FROM stripe_sync.webhook(payload, jsonb_build_object('Stripe-Signature', stripe_sync.sign(payload, secret, now() - age), 'Host', 'x'), endpoint) w
$$;
-- 200 for every status
SELECT * FROM t.post(t.event('evt_2', 'customer.updated', 2, t.customer('cus_1')));
SELECT * FROM t.post(t.event('evt_2', 'customer.updated', 2, t.customer('cus_1')));
SELECT * FROM t.post(t.event('evt_1', 'customer.created', 1, t.customer('cus_1')));
SELECT * FROM t.post(t.event('evt_3', 'teapot.boiled', 3, '{"id":"tea_1","object":"teapot"}'));
ALTER TABLE stripe.customers ADD CONSTRAINT none CHECK (id <> 'cus_bad');
SELECT http_status, body - 'detail' AS body FROM t.post(t.event('evt_4', 'customer.created', 4, t.customer('cus_bad')));
SELECT id, status FROM stripe_sync.event ORDER BY id;

-- 400 for what isn't Stripe's
SELECT http_status, body->>'code' AS code FROM t.post(t.event('evt_5', 'customer.created', 5, t.customer('cus_5')), secret => 'whsec_other');
SELECT http_status, body->>'code' AS code FROM t.post(t.event('evt_5', 'customer.created', 5, t.customer('cus_5')), age => '301 seconds');
SELECT http_status, body->>'code' AS code FROM t.post('{"no":"event"}');
SELECT http_status, body->>'code' AS code FROM t.post('');
SELECT http_status, body->>'code' AS code FROM t.post('not json');
SELECT http_status, body->>'code' AS code FROM stripe_sync.webhook('\xff00'::bytea, jsonb_build_object('stripe-signature', stripe_sync.sign('\xff00'::bytea, t.secret())));
-- no header, no headers, headers of any shape
SELECT http_status, body->>'code' AS code, headers FROM (VALUES ('{}'::jsonb), (NULL), ('[]'), ('"x"'), ('7'), ('null'),
	('{"stripe-signature": null}'), ('{"stripe-signature": 5}'), ('{"stripe-signature": []}'), ('{"stripe-signature": [5]}'), ('{"stripe-signature": {"t": 1}}'),
	('{"stripe-signature": ""}'), ('{"x-stripe-signature": "t=1,v1=00"}'), ('["stripe-signature", "t=1,v1=00"]')) v (headers),
	LATERAL stripe_sync.webhook('{"id":"evt_5","type":"x"}'::text, headers) w;
SELECT http_status, body->>'code' AS code FROM stripe_sync.webhook(NULL::text, '{"stripe-signature": "t=1,v1=00"}');

-- 413 for too large, even before the signature is looked at
SET stripe_sync.max_payload = '1kB';
SELECT http_status, body->>'code' AS code FROM t.post('{"id":"evt_6","type":"x","x":"' || repeat('x', 2000) || '"}');
RESET stripe_sync.max_payload;

-- 200 for the wrong mode, and it isn't stored: a live Connect endpoint gets test events too
SELECT stripe_sync.add_endpoint('live', t.secret(), livemode => true, account => 'live');
SELECT * FROM t.post(t.event('evt_7', 'customer.created', 7, t.customer('cus_7')), 'live');

-- 500 where it is for us to mend; the client isn't told what
\set VERBOSITY terse
SELECT http_status, body->>'code' AS code, body::text ~ 'nowhere' AS told FROM t.post('{"id":"evt_8","type":"x"}', 'nowhere');
SELECT stripe_sync.add_endpoint('unreadable', 'file:/nonexistent/stripe_sync_secret');
SELECT http_status, body->>'code' AS code, body::text ~ 'nonexistent' AS told FROM t.post('{"id":"evt_8","type":"x"}', 'unreadable');
SELECT count(*) AS stored FROM stripe_sync.event WHERE id IN ('evt_5', 'evt_6', 'evt_7', 'evt_8');

-- header names in any case; a value may be a list
CREATE FUNCTION t.with_header(id text, name text, form text) RETURNS text LANGUAGE sql AS $$
	SELECT w.http_status || ' ' || (w.body->>'status')
	  FROM (SELECT '{"id":"' || id || '","type":"x"}') p (payload), LATERAL (SELECT stripe_sync.sign(payload, t.secret())) s (header),
	       LATERAL stripe_sync.webhook(payload, jsonb_build_object('a', 1, name,
	           CASE form WHEN 'string' THEN to_jsonb(header) WHEN 'list' THEN jsonb_build_array(header) END, 'zz', '{"y": [1]}'::jsonb)) w
$$;
SELECT name, form, t.with_header('evt_h' || n, name, form) FROM (VALUES (1, 'Stripe-Signature', 'string'), (2, 'stripe-signature', 'string'),
	(3, 'STRIPE-SIGNATURE', 'string'), (4, 'sTRIPE-sIGNATURE', 'list'), (5, 'stripe-signature', 'list')) v (n, name, form) ORDER BY n;

-- payload as bytea
SELECT * FROM stripe_sync.webhook('{"id":"evt_b","type":"x"}'::bytea, jsonb_build_object('stripe-signature', stripe_sync.sign('{"id":"evt_b","type":"x"}'::text, t.secret())));

-- what says nothing of the event is raised here as well, so that Stripe sends
-- again: a serialization failure of the caller's
CREATE FUNCTION t.unserializable() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'try again' USING ERRCODE = '40001'; END $$;
CREATE TRIGGER unserializable BEFORE INSERT ON stripe.customers FOR EACH ROW EXECUTE FUNCTION t.unserializable();
SELECT t.raises($$ SELECT t.post(t.event('evt_9', 'customer.created', 9, t.customer('cus_9'))) $$);
SELECT count(*) FROM stripe_sync.event WHERE id = 'evt_9';
