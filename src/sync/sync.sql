/* ---- Backfill, reconcile, refetch ---- */

-- One row, inserted when the first key is set.
CREATE TABLE stripe_sync.reconcile_schedule (
	next_at	timestamptz NOT NULL,
	one		boolean PRIMARY KEY DEFAULT true CHECK (one)
);

-- dump
COMMENT ON TABLE stripe_sync.reconcile_schedule IS 'Time of the next automatic reconcile';

-- Events of an account up to this time are known to be in the inbox.
CREATE TABLE stripe_sync.watermark (
	account	text PRIMARY KEY,
	at		timestamptz NOT NULL
);

-- dump
COMMENT ON TABLE stripe_sync.watermark IS 'Time up to which Stripe''s list of events has been compared with the inbox, by account';

CREATE FUNCTION stripe_sync.refetch(object_type text, object_id text, account text DEFAULT '') RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_refetch';

-- grade: admin
COMMENT ON FUNCTION stripe_sync.refetch(text, text, text) IS
'Creates a job that retrieves one object from Stripe again, and returns its id. Example: refetch(''customer'', ''cus_1''). If such a job is waiting, returns that one. Raises 22023 for a type that cannot be retrieved, 55000 if no key is set.';

CREATE FUNCTION stripe_sync.reconcile(since interval DEFAULT '3 days') RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_reconcile';

-- grade: admin
COMMENT ON FUNCTION stripe_sync.reconcile(interval) IS
'Creates a job that reads Stripe''s list of events since the given time ago and stores and applies those that are missing. Returns the id of the job; if one is waiting or running, it is extended and its id returned. Stripe lists events for 30 days. Raises 55000 if no key is set.';

CREATE FUNCTION stripe_sync.backfill(object_types text[] DEFAULT NULL, created_since timestamptz DEFAULT NULL) RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_backfill';

-- grade: admin
COMMENT ON FUNCTION stripe_sync.backfill(text[], timestamptz) IS
'Creates a job that reads lists of objects from Stripe into the mirror, and returns its id. NULL for object_types selects all types that have a table. Only objects created after created_since are read; NULL reads all. Example: backfill(ARRAY[''customer'', ''invoice'']). If the same job is waiting or running, returns that one; if it failed or was cancelled, it is continued. Raises 22023 for a type that cannot be listed, 55000 if there is no key or no table.';

CREATE FUNCTION stripe_sync.backfill(object_type text) RETURNS bigint
	LANGUAGE sql VOLATILE PARALLEL UNSAFE
	BEGIN ATOMIC
		SELECT stripe_sync.backfill(
			CASE WHEN backfill.object_type IS NULL THEN NULL
				-- an untyped literal resolves to this function too
				WHEN pg_catalog.starts_with(backfill.object_type, '{') THEN backfill.object_type::pg_catalog.text[]
				ELSE ARRAY[backfill.object_type] END, NULL);
	END;

-- grade: admin
COMMENT ON FUNCTION stripe_sync.backfill(text) IS
'Same as backfill(text[], timestamptz) for one type. Example: backfill(''customer''). A text that begins with { is read as an array; NULL selects all types.';
