/* ---- Tracing ---- */

CREATE FUNCTION stripe_sync.trace(ref text, account text DEFAULT NULL, span interval DEFAULT NULL)
	RETURNS TABLE (at timestamptz, system text, what text, ref text, detail jsonb)
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_trace';

-- grade: read
COMMENT ON FUNCTION stripe_sync.trace(text, text, interval) IS
'Returns what happened to an object or event, in Stripe, Postgres, and Slack, oldest first.';
