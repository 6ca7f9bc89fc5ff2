/* ---- Tracing ---- */

CREATE FUNCTION stripe_sync.trace(ref text, account text DEFAULT NULL, span interval DEFAULT NULL)
	RETURNS TABLE (at timestamptz, system text, what text, ref text, detail jsonb)
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_trace';

-- grade: read
COMMENT ON FUNCTION stripe_sync.trace(text, text, interval) IS
'Returns what happened to an object, and to what belongs to it, at Stripe, in Postgres, and in Slack, one row per occurrence, oldest first; detail has the facts as JSON. ref is the id of an event or of any object (a customer''s recent objects are included), an e-mail address, a Stripe request id, an idempotency key, a Slack timestamp, the key of a message, or a number as in ''message 12'', ''incident 3'', ''job 5''. If account is NULL, it is the only account that has the object. span limits the story to events at most that long before and after the moment of ref: that of an event, message, incident, or job, or of the newest event of an object. Raises SY005 if nothing is known by ref, 22023 if several accounts have it. Example: SELECT at, system, what FROM stripe_sync.trace(''in_1'').';
