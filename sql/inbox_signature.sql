-- verify_signature and sign: Stripe's scheme, every verdict, every SQLSTATE.
\set tables '{customer}'
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.psql
\set ECHO none
\i :prelude
\set ECHO all
-- Every vector made with the official libraries comes out as its verdict.
\set vectors_file :abs_srcdir /test/vectors/stripe_signature.json
\set vectors `cat :'vectors_file'`
CREATE TABLE t.vector AS
SELECT v->>'name' AS name, v->>'verdict' AS verdict, v->>'header' AS header, v->>'secret' AS secret,
       to_timestamp((v->>'now')::bigint) AS now, make_interval(secs => (v->>'tolerance')::int) AS tolerance,
       COALESCE(decode(v->>'payload_base64', 'base64'), convert_to(v->>'payload', 'UTF8')) AS payload
  FROM json_array_elements((:'vectors'::json)->'vectors') v;
SELECT count(*) >= 31 AS all_there, count(*) FILTER (WHERE verdict = 'accept') >= 8 AS some_good FROM t.vector;
CREATE FUNCTION t.verdict(payload bytea, header text, secret text, tolerance interval, at timestamptz) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	RETURN stripe_sync.verify_signature(payload, header, secret, tolerance, at);
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END $$;
SELECT name, verdict, t.verdict(payload, header, secret, tolerance, now) FROM t.vector ORDER BY name COLLATE "C";
SELECT name AS wrong FROM t.vector
 WHERE (verdict = 'accept') IS DISTINCT FROM (t.verdict(payload, header, secret, tolerance, now) = 'true');
-- one flipped bit, anywhere in payload, secret or signature, and it doesn't fit
SELECT name AS wrong FROM t.vector, generate_series(0, length(payload) - 1) i
 WHERE verdict = 'accept' AND t.verdict(set_bit(payload, i * 8 + i % 8, 1 - get_bit(payload, i * 8 + i % 8)), header, secret, tolerance, now) <> 'SY002';

-- sign makes what verify accepts: the well-known digest of this payload
SELECT stripe_sync.sign('{"id":"evt_1"}'::text, 'whsec_test_secret', to_timestamp(1760000000)) =
       't=1760000000,v1=' || encode(sha256(
           -- HMAC by its definition, with nothing of the extension's
           (SELECT string_agg(set_byte('\x00', 0, get_byte(k, i) # 92), ''::bytea ORDER BY i) FROM generate_series(0, 63) i) ||
           sha256((SELECT string_agg(set_byte('\x00', 0, get_byte(k, i) # 54), ''::bytea ORDER BY i) FROM generate_series(0, 63) i) ||
                  '1760000000.{"id":"evt_1"}'::bytea)), 'hex') AS by_definition
  FROM (SELECT 'whsec_test_secret'::bytea || decode(repeat('00', 64 - 17), 'hex')) AS v (k);
SELECT stripe_sync.sign('x'::text, 's', to_timestamp(5)) = stripe_sync.sign('x'::bytea, 's', to_timestamp(5)) AS text_as_bytea;
SELECT stripe_sync.sign('x'::text, 's') ~ '^t=[1-9][0-9]{9},v1=[0-9a-f]{64}$' AS form;
SELECT stripe_sync.verify_signature('x'::text, stripe_sync.sign('x'::text, 's'), 's') AS now_by_default;
-- a secret longer than a block of the hash
SELECT stripe_sync.verify_signature('x'::text, stripe_sync.sign('x'::text, repeat('k', 100)), repeat('k', 100)) AS long_secret;

-- the age: to the second, forward without end, off with NULL
CREATE FUNCTION t.aged(age int, tolerance interval) RETURNS text LANGUAGE sql AS $$
	SELECT t.verdict('x', stripe_sync.sign('x'::text, 's', to_timestamp(1760000000)), 's', tolerance, to_timestamp(1760000000 + age))
$$;
SELECT age, tolerance, t.aged(age, tolerance::interval) FROM (VALUES
	(299, '5 minutes'), (300, '5 minutes'), (301, '5 minutes'), (0, '0'), (1, '0'),
	(-100000000, '5 minutes'), (100000000, NULL), (86400, '1 day'), (86401, '1 day')) v (age, tolerance);
SELECT t.raises($$ SELECT stripe_sync.verify_signature('x'::text, 't=1,v1=00', 's', '-1 second') $$) AS negative;
-- a misfit is a misfit, however old: the age of a forged one isn't told
SELECT t.verdict('x', 't=1,v1=' || repeat('0', 64), 's', '5 minutes', to_timestamp(1760000000));

-- what makes a header unreadable, and what doesn't
SELECT header, t.verdict('x', replace(header, 'GOOD', right(stripe_sync.sign('x'::text, 's', to_timestamp(1760000000)), 64)), 's', '5 minutes', to_timestamp(1760000000))
  FROM (VALUES ('t=1760000000,v1=GOOD'), ('v1=GOOD,t=1760000000'), ('t=1760000000,v0=GOOD'), ('t=1760000000,v2=GOOD'),
	('t=1760000000,v0=00,v1=GOOD,v2=00'), ('t=1760000000,t=1760000000,v1=GOOD'), ('t=1760000000'), ('v1=GOOD'),
	('t=,v1=GOOD'), ('t=1760000000 ,v1=GOOD'), ('t=0001760000000,v1=GOOD'), ('t=1234567890123,v1=GOOD'), ('t=1760000000,v1=GOOD0'),
	('t=1760000000,v1=00,v1=GOOD'), ('t=1760000000,v1=00,v1='), ('t=1760000000,,v1=GOOD,'), ('T=1760000000,v1=GOOD'), (''), (',,,'), ('garbage')) v (header);
-- hexadecimal digits may be in either case
SELECT t.verdict('x', upper(stripe_sync.sign('x'::text, 's', to_timestamp(5))), 's', NULL, now()) AS upper_names,
       t.verdict('x', 't=5,v1=' || upper(right(stripe_sync.sign('x'::text, 's', to_timestamp(5)), 64)), 's', NULL, now()) AS upper_digits;

-- NULL is never an answer: it raises, as emptiness does
SELECT t.raises($$ SELECT stripe_sync.verify_signature(NULL::text, 't=1,v1=00', 's') $$) AS payload,
       t.raises($$ SELECT stripe_sync.verify_signature(''::bytea, 't=1,v1=00', 's') $$) AS empty_payload;
SELECT t.raises($$ SELECT stripe_sync.verify_signature('x'::text, NULL, 's') $$) AS signature;
SELECT t.raises($$ SELECT stripe_sync.verify_signature('x'::text, 't=1,v1=00', NULL) $$) AS secret,
       t.raises($$ SELECT stripe_sync.verify_signature('x'::text, 't=1,v1=00', '') $$) AS empty_secret;
SELECT t.raises($$ SELECT stripe_sync.sign('x'::text, '') $$) AS sign_without_secret,
       stripe_sync.sign('x'::text, NULL) IS NULL AS sign_null;
SELECT t.raises($$ SELECT stripe_sync.sign('x'::text, 's', '1969-12-31 23:59:59Z') $$) AS before_1970,
       t.raises($$ SELECT stripe_sync.sign('x'::text, 's', 'infinity') $$) AS infinity;
-- a time without end is no time to be young at
SELECT t.verdict('x', stripe_sync.sign('x'::text, 's', to_timestamp(5)), 's', '5 minutes', 'infinity') AS at_infinity,
       t.verdict('x', stripe_sync.sign('x'::text, 's', to_timestamp(5)), 's', NULL, '-infinity') AS before_all;

-- bytes that are no text are signed as they are
SELECT stripe_sync.verify_signature('\x00ff00'::bytea, stripe_sync.sign('\x00ff00'::bytea, 's'), 's') AS any_bytes;
