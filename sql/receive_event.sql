-- receive: verified, stored once, byte for byte; what is refused; simulate.
\set tables '{customer}'
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.psql
\set ECHO none
\i :prelude
\set ECHO all
CREATE FUNCTION t.customer(id text, name text DEFAULT NULL) RETURNS json LANGUAGE sql
	AS $$ SELECT json_build_object('id', id, 'object', 'customer', 'name', name) $$;

-- applied, duplicate, stale
SELECT * FROM stripe_sync.receive(t.event('evt_1', 'customer.created', 1, t.customer('cus_1')),
	stripe_sync.sign(t.event('evt_1', 'customer.created', 1, t.customer('cus_1')), t.secret()));
SELECT * FROM stripe_sync.receive(t.event('evt_1', 'customer.created', 1, t.customer('cus_1'))::bytea,
	stripe_sync.sign(t.event('evt_1', 'customer.created', 1, t.customer('cus_1')), t.secret()), 'default');
SELECT t.send('evt_3', 'customer.updated', 3, t.customer('cus_1', 'Third'));
SELECT * FROM t.deliver(t.event('evt_2', 'customer.updated', 2, t.customer('cus_1', 'Second')));
-- a second delivery is a duplicate whatever else it says
SELECT t.send('evt_1', 'customer.deleted', 9, t.customer('cus_1', 'Other'));
SELECT id, name, _event_id, _deleted_at FROM stripe.customers;
SELECT count(*), max(attempts) AS attempts FROM stripe_sync.event WHERE id = 'evt_1';
-- wherever its id and account stand, and however they are written
SELECT (t.deliver(p)).status, p FROM (VALUES
	('{"type":"customer.updated","created":1735689610,"id":"evt_1","data":{"object":{"id":"cus_1","object":"customer"}}}'),
	('{"\u0069d":"evt_1","type":"customer.updated","created":1735689610,"data":{"object":{"id":"cus_1","object":"customer"}}}'),
	('{"id":"evt\u005f1","type":"customer.updated","created":1735689610,"data":{"object":{"id":"cus_1","object":"customer"}}}'),
	('{"data":{"id":"evt_9","object":{"id":"cus_1","object":"customer"}},"id":"evt_1","account":null,"type":"x"}'),
	('{"id":"evt_1","account":"","type":"customer.updated","created":1735689610,"data":{"object":{"id":"cus_1","object":"customer"}}}')) v (p);
-- another account's event of that id isn't; nor are those whose own id is another
SELECT (t.deliver(p)).status, p FROM (VALUES
	('{"id":"evt_1","type":"x","account":"acct_1"}'),
	('{"account":"acct_2","id":"evt_1","type":"x"}'),
	('{"id":"evt_1","acc\u006funt":"acct_3","type":"x"}'),
	('{"data":{"id":"evt_1"},"id":"evt_10","type":"x"}'),
	('{"id":"evt_1","id":"evt_11","type":"x"}')) v (p);
SELECT id, account, status FROM stripe_sync.event ORDER BY 1, 2;

-- what the inbox keeps of an event
SELECT * FROM t.deliver($${
  "id": "evt_kept", "object": "event", "type": "customer.updated", "api_version": "2026-10-28.endive", "account": "acct_k",
  "created": 1735689700, "livemode": false, "request": {"id": "req_k", "idempotency_key": "key-k"}, "pending_webhooks": 1,
  "data": {"object": {"object": "customer", "id": "cus_k",   "name": "A\u0000\ud83d\ude00 B", "balance": 1.0E2 }}}
$$);
SELECT id, type, endpoint, account, livemode, api_version, object_type, object_id, request_id, idempotency_key, t.sec(created) AS created,
       source, status, todo, attempts, next_attempt_at, error, applied_at BETWEEN received_at AND clock_timestamp() AS applied_then,
       received_at BETWEEN now() - interval '1 minute' AND clock_timestamp() AS received_then
  FROM stripe_sync.event WHERE id = 'evt_kept' \gx
SELECT payload::text FROM stripe_sync.event WHERE id = 'evt_kept';
-- byte for byte, spaces, escapes, order and repetition of keys
CREATE TABLE t.payload (n int, payload text);
INSERT INTO t.payload VALUES
	(1, E'\t{ "id"\n:"evt_bytes1" ,"type":"customer.updated",\r\n"x":[ ],"x":{ },"n":1.50e+1}\n\n'),
	(2, '{"id":"evt_bytes2","type":"x","s":"\/\u00e9é\ud83d\ude00"}'),
	(3, '{"id":"evt_bytes3","type":"x","nul":"\u0000","lone":"\udc00","much":1e400000}'),
	(4, '{"id":"evt_bytes4","type":"x","long":"' || (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 3000) i) || '"}');
SELECT n, (t.deliver(payload)).status FROM t.payload ORDER BY n;
SELECT n, e.payload::text = p.payload AS same FROM t.payload p LEFT JOIN stripe_sync.event e ON e.id = 'evt_bytes' || n ORDER BY n;

-- an envelope without what it needn't have, and with fields of other kinds
SELECT d.* FROM (VALUES
	('{"id":"evt_bare","type":"x"}'),
	('{"id":"evt_odd","type":"customer.updated","created":"soon","livemode":"yes","request":"req_old","api_version":7,"account":null,"data":{"object":{"id":"cus_odd","object":"customer"}}}'),
	('{"id":"evt_odd2","type":"customer.updated","created":1e30,"data":[]}'),
	('{"id":"evt_odd3","type":"customer.updated","created":1735689700,"data":{"object":{"id":17,"object":"customer"}}}'),
	('{"id":"evt_odd4","type":"customer.updated","created":1735689700,"data":{"object":{"id":"x","object":{}}}}'),
	('{"id":"evt_odd5","type":"customer.updated","created":1735689700,"data":{"object":{"id":"","object":"customer"}}}')) v (p), LATERAL t.deliver(p) d;
SELECT id, livemode, created, request_id, api_version, account FROM stripe_sync.event WHERE id IN ('evt_bare', 'evt_odd', 'evt_odd2') ORDER BY id;

-- thin events, types that nobody knows, types without a table
SELECT d.* FROM (VALUES
	('{"id":"evt_thin","object":"v2.core.event","type":"v2.core.account.updated","created":"2025-01-01T00:00:07.250Z","livemode":false,"related_object":{"id":"acct_t","type":"v2.core.account","url":"/v2/core/accounts/acct_t"}}'),
	('{"id":"evt_unknown","type":"teapot.boiled","created":1735689700,"data":{"object":{"id":"tea_1","object":"teapot"}}}'),
	('{"id":"evt_untabled","type":"billing.alert.triggered","created":1735689700,"data":{"object":{"object":"billing.alert_triggered"}}}'),
	('{"id":"evt_notmade","type":"product.created","created":1735689700,"data":{"object":{"id":"prod_1","object":"product"}}}')) v (p), LATERAL t.deliver(p) d;
SELECT id, status, todo, next_attempt_at, object_type, object_id, t.sec(created) AS created FROM stripe_sync.event
 WHERE id IN ('evt_thin', 'evt_unknown', 'evt_untabled', 'evt_notmade') ORDER BY id;

-- refused payloads of every kind: signed well, but no event; nothing is stored
SELECT count(*) AS stored_before FROM stripe_sync.event \gset
CREATE FUNCTION t.refusal(payload bytea, endpoint text DEFAULT 'default') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	detail text;
BEGIN
	RETURN (stripe_sync.receive(payload, stripe_sync.sign(payload, t.secret()), endpoint)).status;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN SQLSTATE || ': ' || SQLERRM || '. ' || detail;
END $$;
SELECT what, t.refusal(payload) FROM (VALUES
	('empty', ''::bytea),
	('not UTF-8', '{"id":"evt_x","type":"'::bytea || '\xff' || '"}'),
	('not JSON', 'id=evt_x&type=y'),
	('cut short', '{"id":"evt_x","type":"y"'),
	('more after it', '{"id":"evt_x","type":"y"} x'),
	('a NUL byte', '{"id":"evt_x","type":"y"}'::bytea || '\x00'),
	('an array', '[{"id":"evt_x","type":"y"}]'),
	('a string', '"evt_x"'),
	('null', 'null'),
	('no id', '{"type":"y"}'),
	('an empty id', '{"id":"","type":"y"}'),
	('an id that is a number', '{"id":5,"type":"y"}'),
	('no type', '{"id":"evt_x"}'),
	('a type that is null', '{"id":"evt_x","type":null}'),
	('an endless id', ('{"id":"' || repeat('e', 5000) || '","type":"y"}')::bytea),
	('too deep', ('{"id":"evt_x","type":"y","d":' || repeat('[', 256) || repeat(']', 256) || '}')::bytea),
	('far too deep', ('{"id":"evt_x","type":"y","d":' || repeat('{"a":', 100000) || '1' || repeat('}', 100000) || '}')::bytea),
	('deep and unfinished', repeat('[', 500000)::bytea)) v (what, payload);
SELECT count(*) = :stored_before AS nothing_stored FROM stripe_sync.event;
-- brackets within a string are no nesting, and 256 levels are fine
SELECT t.refusal(convert_to('{"id":"evt_brackets","type":"y","d":"' || repeat('[', 1000) || '\"[["}', 'UTF8')) AS in_string,
       t.refusal(('{"id":"evt_deep","type":"y","d":' || repeat('[', 255) || repeat(']', 255) || '}')::bytea) AS deep;
-- the greatest size
SET stripe_sync.max_payload = '1kB';
SELECT t.refusal(('{"id":"evt_large","type":"y","x":"' || repeat('x', 1024 - 36) || '"}')::bytea) AS just_fits,
       length('{"id":"evt_large","type":"y","x":"' || repeat('x', 1024 - 36) || '"}');
SELECT t.refusal(('{"id":"evt_larger","type":"y","x":"' || repeat('x', 1024 - 36) || '"}')::bytea) AS too_large;
RESET stripe_sync.max_payload;
-- whoever forges learns nothing of this: the signature is judged before the payload
SELECT t.raises($$ SELECT stripe_sync.receive('nonsense'::text, 't=1,v1=00') $$) AS forged_nonsense,
       t.raises($$ SELECT stripe_sync.receive('{"id":"evt_1","type":"x"}'::text, 't=1,v1=00') $$) AS forged_duplicate;

-- refused signatures
SELECT t.raises(format('SELECT stripe_sync.receive(%L::text, %L)', p, s)) FROM (SELECT t.event('evt_s', 'customer.created', 1, t.customer('cus_s'))) e (p),
	LATERAL (VALUES (1, 'nonsense'), (2, stripe_sync.sign(p, 'whsec_other')), (3, stripe_sync.sign(p, t.secret(), now() - interval '6 minutes')),
	(4, NULL), (5, stripe_sync.sign(p || ' ', t.secret()))) v (n, s) ORDER BY n;
SELECT t.raises($$ SELECT stripe_sync.receive(NULL::text, 't=1,v1=00') $$) AS null_payload,
       t.raises($$ SELECT stripe_sync.receive('x'::text, 't=1,v1=00', 'nowhere') $$) AS no_endpoint;
SELECT count(*) FROM stripe_sync.event WHERE id = 'evt_s';

-- stored with the caller: undone with it too
BEGIN;
SELECT t.send('evt_undone', 'customer.created', 1, t.customer('cus_undone'));
ROLLBACK;
SELECT (SELECT count(*) FROM stripe_sync.event WHERE id = 'evt_undone') AS events, (SELECT count(*) FROM stripe.customers WHERE id = 'cus_undone') AS customers;
SELECT t.send('evt_undone', 'customer.created', 1, t.customer('cus_undone')) AS then_sent_again;

-- simulate
SELECT event_id ~ '^evt_sim_[0-9a-f]+$' AS id, status, detail FROM stripe_sync.simulate('customer.created', '{"id":"cus_sim","object":"customer","name":"Simulated"}');
SELECT e.type, e.source, e.endpoint, e.livemode, e.api_version = stripe_sync.catalog_api_version() AS version, c.name, c._event_id = e.id AS mirrored
  FROM stripe_sync.event e JOIN stripe.customers c ON c.id = e.object_id WHERE e.object_id = 'cus_sim';
SELECT stripe_sync.add_endpoint('live', t.secret(), livemode => true, account => 'live');
SELECT t.raises($$ SELECT stripe_sync.simulate('customer.created', '{"id":"cus_sim2","object":"customer"}', 'live') $$) AS live,
       t.raises($$ SELECT stripe_sync.simulate('customer.created', '[]') $$) AS array,
       t.raises($$ SELECT stripe_sync.simulate('customer.created', '{}', 'nowhere') $$) AS nowhere;

-- within one statement, in a savepoint, by a prepared statement
PREPARE receive (text) AS SELECT t.send($1, 'customer.updated', 200, t.customer('cus_1', $1));
EXECUTE receive ('evt_p1');
EXECUTE receive ('evt_p2');
EXECUTE receive ('evt_p1');
BEGIN;
SAVEPOINT s;
SELECT t.send('evt_sp', 'customer.updated', 201, t.customer('cus_1', 'Savepoint'));
ROLLBACK TO s;
SELECT t.send('evt_sp', 'customer.updated', 201, t.customer('cus_1', 'Savepoint'));
COMMIT;
SELECT name, _event_id FROM stripe.customers WHERE id = 'cus_1' AND _account = '';
