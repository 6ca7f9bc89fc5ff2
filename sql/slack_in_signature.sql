-- verify_slack_signature: Slack's scheme, every vector, every edge.
\set tables '{}'
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.psql
\set slack :abs_srcdir /sql/slack.psql
\set ECHO none
\i :prelude
\i :slack
\set ECHO all
-- Every vector made with Slack's own libraries comes out as its verdict.
\set vectors_file :abs_srcdir /test/vectors/slack_signature.json
\set vectors `cat :'vectors_file'`
CREATE TABLE t.vector AS
SELECT v->>'name' AS name, v->>'verdict' AS verdict, v->>'body' AS body, v->>'timestamp' AS at, v->>'signature' AS signature,
       v->>'signing_secret' AS secret, to_timestamp((v->>'now')::bigint) AS now
  FROM json_array_elements((:'vectors'::json)->'vectors') v;
SELECT count(*) >= 14 AS all_there, count(*) FILTER (WHERE verdict = 'accept') >= 2 AS some_good FROM t.vector;
CREATE FUNCTION t.verdict(body bytea, at text, signature text, secret text, now timestamptz) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	RETURN stripe_sync.verify_slack_signature(body, at, signature, secret, now);
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END $$;
SELECT name, verdict, t.verdict(convert_to(body, 'UTF8'), at, signature, secret, now) FROM t.vector ORDER BY name COLLATE "C";
SELECT name AS wrong FROM t.vector
 WHERE (verdict = 'accept') IS DISTINCT FROM (t.verdict(convert_to(body, 'UTF8'), at, signature, secret, now) = 'true');
-- one flipped bit, anywhere in body, secret or signature, and it doesn't fit
SELECT count(*) > 300 AS flipped, bool_or(t.verdict(set_bit(b, i * 8 + i % 8, 1 - get_bit(b, i * 8 + i % 8)), at, signature, secret, now) <> 'false') AS fits
  FROM (SELECT *, convert_to(body, 'UTF8') AS b FROM t.vector WHERE verdict = 'accept') v, generate_series(0, length(b) - 1) i;
SELECT bool_or(t.verdict(convert_to(body, 'UTF8'), at, overlay(signature PLACING to_hex((strpos('0123456789abcdef', substr(signature, 3 + i, 1)) - 1) # d) FROM 3 + i FOR 1), secret, now) <> 'false') AS fits
  FROM t.vector, generate_series(1, 64) i, unnest('{1,2,4,8}'::int[]) d WHERE verdict = 'accept';
SELECT bool_or(t.verdict(convert_to(body, 'UTF8'), at, signature, overlay(secret PLACING 'x' FROM i FOR 1), now) <> 'false') AS fits
  FROM t.vector, generate_series(1, length(secret)) i WHERE verdict = 'accept' AND substr(secret, i, 1) <> 'x';

-- What this file signs with, by the definition of HMAC, is what it verifies.
CREATE FUNCTION t.at(age int, at text DEFAULT '1760000000', body text DEFAULT 'x', secret text DEFAULT t.slack_secret()) RETURNS boolean LANGUAGE sql AS $$
	SELECT stripe_sync.verify_slack_signature(body, at, t.slack_sign(convert_to(body, 'UTF8'), at, secret), secret, to_timestamp(1760000000 + age))
$$;
-- five minutes, either way, to the second
SELECT age, t.at(age) FROM unnest('{-301,-300,0,300,301}'::int[]) age;
SELECT stripe_sync.verify_slack_signature('x'::text, at, t.slack_sign('x', at), t.slack_secret()) AS now_by_default
  FROM (SELECT extract(epoch FROM now())::bigint::text) AS v (at);
-- what is no timestamp, though it is signed
SELECT at, t.at(0, at) FROM unnest('{1760000000,"1760000000 "," 1760000000",+1760000000,01760000000,1760000000.0,1.76e9,0x68e77800,-1760000000,1760000000000,1760000000000000000000,"",-,abc,NaN}'::text[]) at;
SELECT t.verdict('x', repeat('9', 12), t.slack_sign('x', repeat('9', 12)), t.slack_secret(), to_timestamp(999999999999)) AS twelve_digits,
       t.verdict('x', '0', t.slack_sign('x', '0'), t.slack_secret(), to_timestamp(0)) AS zero;
-- what is no signature
SELECT form, t.verdict('x', '1760000000', replace(form, 'GOOD', right(t.slack_sign('x', '1760000000'), 64)), t.slack_secret(), to_timestamp(1760000000))
  FROM unnest('{v0=GOOD,GOOD,V0=GOOD,v1=GOOD," v0=GOOD","v0=GOOD ","v0= GOOD",v0=GOOD0,"v0=GOOD,v0=GOOD",v0GOOD,v0=,v0,""}'::text[]) form;
SELECT t.verdict('x', '1760000000', 'v0=' || upper(right(t.slack_sign('x', '1760000000'), 64)), t.slack_secret(), to_timestamp(1760000000)) AS upper_case;
SELECT t.verdict('x', '1760000000', left(t.slack_sign('x', '1760000000'), -1), t.slack_secret(), to_timestamp(1760000000)) AS digit_less;
-- any bytes, an empty body, any secret but an empty one
SELECT stripe_sync.verify_slack_signature('\x00ff00'::bytea, '5', t.slack_sign('\x00ff00', '5'), t.slack_secret(), to_timestamp(5)) AS any_bytes;
SELECT t.at(0, body => '') AS empty_body, t.at(0, secret => '') AS empty_secret, t.at(0, secret => 's') AS short_secret, t.at(0, secret => repeat('k', 64)) AS block;
SELECT stripe_sync.verify_slack_signature('é'::text, '5', t.slack_sign('\xc3a9', '5'), t.slack_secret(), to_timestamp(5)) AS text_as_bytea;
SELECT t.verdict('x', '5', t.slack_sign('x', '5'), t.slack_secret(), at) FROM unnest('{infinity,-infinity}'::timestamptz[]) at;
-- NULL is never an answer
SELECT n, t.raises(format('SELECT stripe_sync.verify_slack_signature(%s)', string_agg(CASE WHEN n = i THEN 'NULL' ELSE a END, ', ' ORDER BY i)))
  FROM unnest('{''x''::bytea,''5'',''v0='',''s'',now()}'::text[]) WITH ORDINALITY v (a, i), generate_series(1, 5) n GROUP BY n ORDER BY n;
SELECT t.raises($$ SELECT stripe_sync.verify_slack_signature(NULL::text, '5', 'v0=', 's') $$);
-- and whoever may log in may ask
CREATE ROLE regress_slack_asker;
GRANT USAGE ON SCHEMA stripe_sync TO regress_slack_asker;
SET ROLE regress_slack_asker;
SELECT stripe_sync.verify_slack_signature('x'::text, '5', 'v0=', 's') AS may_ask;
RESET ROLE;
DROP OWNED BY regress_slack_asker;
DROP ROLE regress_slack_asker;
