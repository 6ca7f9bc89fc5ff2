/* ---- Explaining and verifying ---- */

CREATE FUNCTION stripe_sync.explain_event(event_id text) RETURNS text
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_explain_event';

-- grade: read
COMMENT ON FUNCTION stripe_sync.explain_event(text) IS
'Explains why an event was applied, stale, or ignored, which rule decided between which events, and which steps remain. Raises SY005 if there is no such event.';

CREATE FUNCTION stripe_sync.verify_mirror(object_types text[] DEFAULT NULL, sample int DEFAULT 1000)
	RETURNS TABLE (object_type text, object_id text, account text, field text, mirror jsonb, expected jsonb)
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_verify_mirror';

-- grade: read
COMMENT ON FUNCTION stripe_sync.verify_mirror(text[], int) IS
'Rebuilds objects from the stored events and returns the fields that differ in the mirror; no rows means no differences. Checks up to sample randomly chosen objects of each type that has a table. Field (row) means that the row is missing. Objects whose newest state came from a parent''s list or from Stripe''s API are compared with their _data column. To repair an object, use replay(event_id) or refetch().';
