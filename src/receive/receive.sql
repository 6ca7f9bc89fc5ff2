/* ---- Receiving events ---- */

CREATE FUNCTION stripe_sync.receive(payload bytea, signature text, endpoint text DEFAULT 'default',
	OUT event_id text, OUT status text, OUT detail text)
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_receive';

CREATE FUNCTION stripe_sync.receive(payload text, signature text, endpoint text DEFAULT 'default',
	OUT event_id text, OUT status text, OUT detail text)
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_receive';

-- grade: ingest
COMMENT ON FUNCTION stripe_sync.receive(bytea, text, text) IS
'Verifies, stores, and applies one webhook delivery. payload is the raw request body, signature the Stripe-Signature header. Returned status: applied, duplicate, stale (stored; the mirror has a newer state), ignored (stored; there is nothing to mirror), or failed (stored; the failed steps will be retried). Raises SY001 to SY007; nothing is stored then.';

-- grade: ingest
COMMENT ON FUNCTION stripe_sync.receive(text, text, text) IS
'Same as receive(bytea, ...)';

CREATE FUNCTION stripe_sync.webhook(payload bytea, headers jsonb, endpoint text DEFAULT 'default',
	OUT http_status int, OUT body jsonb)
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_webhook';

CREATE FUNCTION stripe_sync.webhook(payload text, headers jsonb, endpoint text DEFAULT 'default',
	OUT http_status int, OUT body jsonb)
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_webhook';

-- grade: ingest
COMMENT ON FUNCTION stripe_sync.webhook(bytea, jsonb, text) IS
'Processes a webhook request as receive() does and returns the HTTP response to send: 200 (stored, or ignored because of SY006), 400 (not a valid event from Stripe), 413 (payload too large), or 500 (endpoint not configured, or the library does not match the installed version of the extension). Header names are not case-sensitive. Invalid input from the client does not raise an error.';

-- grade: ingest
COMMENT ON FUNCTION stripe_sync.webhook(text, jsonb, text) IS
'Same as webhook(bytea, ...)';

CREATE FUNCTION stripe_sync.replay(INOUT event_id text, handlers boolean DEFAULT false,
	OUT status text, OUT detail text)
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_replay';

-- grade: admin
COMMENT ON FUNCTION stripe_sync.replay(text, boolean) IS
'Processes a stored event again. For a failed or dead event, runs the steps that failed. For any other event, runs the mirror step, and the handlers too if handlers is true. Raises SY005 if there is no such event.';

CREATE FUNCTION stripe_sync.replay(since timestamptz, until timestamptz DEFAULT pg_catalog.now(),
	types text[] DEFAULT NULL, statuses text[] DEFAULT ARRAY['failed','dead'])
	RETURNS TABLE (event_id text, status text, detail text)
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_replay_many';

-- grade: admin
COMMENT ON FUNCTION stripe_sync.replay(timestamptz, timestamptz, text[], text[]) IS
'Replays the events received between since and until, oldest first. types may contain patterns with *. NULL for types or statuses selects all.';
