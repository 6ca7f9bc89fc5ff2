/* ---- Inbox ---- */

-- event_store.c knows the columns by number (inbox_table.c checks them).  STORAGE
-- MAIN keeps the whole row in one compressed tuple; TOAST would need two more for
-- the payload.
CREATE TABLE stripe_sync.event (
	id				text NOT NULL,
	account			text NOT NULL,
	type			text NOT NULL,
	endpoint		text,
	livemode		boolean,
	api_version		text,
	object_type		text,
	object_id		text,
	request_id		text,
	idempotency_key	text,
	created			timestamptz,
	received_at		timestamptz NOT NULL,
	source			text NOT NULL,
	status			text NOT NULL,
	mirrored		text,
	todo			text[] NOT NULL,
	tries			jsonb,
	attempts		integer NOT NULL,
	next_attempt_at	timestamptz,
	error			text,
	applied_at		timestamptz,
	payload			json NOT NULL,
	CONSTRAINT event_pkey PRIMARY KEY (id, account)
);
ALTER TABLE stripe_sync.event
	ALTER id SET STORAGE MAIN, ALTER account SET STORAGE MAIN,
	ALTER type SET STORAGE MAIN, ALTER endpoint SET STORAGE MAIN,
	ALTER api_version SET STORAGE MAIN, ALTER object_type SET STORAGE MAIN,
	ALTER object_id SET STORAGE MAIN, ALTER request_id SET STORAGE MAIN,
	ALTER idempotency_key SET STORAGE MAIN, ALTER source SET STORAGE MAIN,
	ALTER status SET STORAGE MAIN, ALTER mirrored SET STORAGE MAIN,
	ALTER todo SET STORAGE MAIN, ALTER payload SET STORAGE MAIN;
DO $$
BEGIN
	IF EXISTS (SELECT FROM pg_catalog.pg_settings
			   WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals)) THEN
		ALTER TABLE stripe_sync.event ALTER payload SET COMPRESSION lz4;
	END IF;
END $$;
CREATE INDEX event_object_idx ON stripe_sync.event (object_id, created, object_type, account)
	WHERE object_id IS NOT NULL;
-- to list the connected accounts
CREATE INDEX event_account_idx ON stripe_sync.event (account) WHERE account <> '';
CREATE INDEX event_due_idx ON stripe_sync.event (next_attempt_at)
	WHERE next_attempt_at IS NOT NULL;
CREATE INDEX event_unsettled_idx ON stripe_sync.event (received_at)
	WHERE status IN ('pending', 'failed', 'dead');
-- by time, for pruning and for detecting silence; BRIN, because its cost is negligible
CREATE INDEX event_received_idx ON stripe_sync.event USING brin (received_at);
COMMENT ON TABLE stripe_sync.event IS 'The inbox: every accepted event, with its payload and its processing state';
COMMENT ON COLUMN stripe_sync.event.id IS 'Stripe''s id of the event (evt_...)';
COMMENT ON COLUMN stripe_sync.event.account IS 'The endpoint''s account and, below it, the connected account; empty for your own account';
COMMENT ON COLUMN stripe_sync.event.type IS 'Event type, for example invoice.paid';
COMMENT ON COLUMN stripe_sync.event.endpoint IS 'Endpoint that received the event; NULL for an event found by reconcile() if the account does not have exactly one endpoint of its mode';
COMMENT ON COLUMN stripe_sync.event.livemode IS 'True for live mode';
COMMENT ON COLUMN stripe_sync.event.api_version IS 'API version that rendered the payload';
COMMENT ON COLUMN stripe_sync.event.object_type IS 'Type of the object in the payload';
COMMENT ON COLUMN stripe_sync.event.object_id IS 'Id of the object in the payload';
COMMENT ON COLUMN stripe_sync.event.request_id IS 'API request that caused the event (req_...)';
COMMENT ON COLUMN stripe_sync.event.idempotency_key IS 'Idempotency key of that API request';
COMMENT ON COLUMN stripe_sync.event.created IS 'Time of the event at Stripe';
COMMENT ON COLUMN stripe_sync.event.received_at IS 'Time when the event was stored';
COMMENT ON COLUMN stripe_sync.event.source IS 'webhook, simulate, or reconcile';
COMMENT ON COLUMN stripe_sync.event.status IS 'pending, applied, stale (the mirror has a newer state), ignored (there is nothing to mirror), failed (a step failed and will be retried), or dead (a step has failed max_attempts times)';
COMMENT ON COLUMN stripe_sync.event.mirrored IS 'Result of the mirror step: applied, stale, or ignored; NULL until the step has succeeded';
COMMENT ON COLUMN stripe_sync.event.todo IS 'Steps not yet done: mirror, names of handlers, alerts';
COMMENT ON COLUMN stripe_sync.event.tries IS 'Number of attempts at each step in todo';
COMMENT ON COLUMN stripe_sync.event.attempts IS 'Number of attempts at processing the event';
COMMENT ON COLUMN stripe_sync.event.next_attempt_at IS 'Time of the next attempt; NULL if none is scheduled';
COMMENT ON COLUMN stripe_sync.event.error IS 'Errors of the steps that failed in the last attempt: step, SQLSTATE, message, context';
COMMENT ON COLUMN stripe_sync.event.applied_at IS 'Time when the mirror step succeeded';
COMMENT ON COLUMN stripe_sync.event.payload IS 'The payload, byte for byte';

-- Objects to be retrieved from Stripe, once a key is set.  A row stays until the
-- object has been retrieved and written, whatever errors occur.
CREATE TABLE stripe_sync.reread (
	object_type	text NOT NULL,
	object_id	text NOT NULL,
	account		text NOT NULL,
	reason		text NOT NULL,
	due_at		timestamptz NOT NULL,
	after		timestamptz NOT NULL,
	state		text NOT NULL DEFAULT 'waiting',
	tries		integer NOT NULL DEFAULT 0,
	error		text,
	PRIMARY KEY (object_type, object_id, account)
);
CREATE INDEX reread_due_idx ON stripe_sync.reread (due_at) WHERE state = 'waiting';
COMMENT ON TABLE stripe_sync.reread IS 'Objects that the worker will retrieve from Stripe because the mirror cannot decide their state from events';
COMMENT ON COLUMN stripe_sync.reread.object_type IS 'Type of the object';
COMMENT ON COLUMN stripe_sync.reread.object_id IS 'Id of the object';
COMMENT ON COLUMN stripe_sync.reread.account IS 'Account of the object';
COMMENT ON COLUMN stripe_sync.reread.reason IS 'Reason for retrieving it';
COMMENT ON COLUMN stripe_sync.reread.due_at IS 'Time of the next attempt';
COMMENT ON COLUMN stripe_sync.reread.after IS 'The response must be as of this time at Stripe, or later';
COMMENT ON COLUMN stripe_sync.reread.state IS 'waiting (until due_at), asked (a job retrieves it), or dead (until refetch() is called)';
COMMENT ON COLUMN stripe_sync.reread.tries IS 'Number of times that writing the object failed';
COMMENT ON COLUMN stripe_sync.reread.error IS 'Last error; NULL if there was none';

CREATE FUNCTION stripe_sync.receive(payload bytea, signature text, endpoint text DEFAULT 'default',
	OUT event_id text, OUT status text, OUT detail text)
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_receive';
CREATE FUNCTION stripe_sync.receive(payload text, signature text, endpoint text DEFAULT 'default',
	OUT event_id text, OUT status text, OUT detail text)
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_receive';
COMMENT ON FUNCTION stripe_sync.receive(bytea, text, text) IS
'Verifies, stores, and applies one webhook delivery. payload is the raw request body, signature the Stripe-Signature header. Returned status: applied, duplicate, stale (stored; the mirror has a newer state), ignored (stored; there is nothing to mirror), or failed (stored; the failed steps will be retried). Raises SY001 to SY007; nothing is stored then.';
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
COMMENT ON FUNCTION stripe_sync.webhook(bytea, jsonb, text) IS
'Processes a webhook request as receive() does and returns the HTTP response to send: 200 (stored, or ignored because of SY006), 400 (not a valid event from Stripe), 413 (payload too large), or 500 (endpoint not configured, or the library does not match the installed version of the extension). Header names are not case-sensitive. Invalid input from the client does not raise an error.';
COMMENT ON FUNCTION stripe_sync.webhook(text, jsonb, text) IS
'Same as webhook(bytea, ...)';

/* ---- Simulated events ---- */

CREATE FUNCTION stripe_sync.simulate(event_type text, object jsonb, endpoint text DEFAULT 'default',
	account text DEFAULT '', created timestamptz DEFAULT NULL, previous jsonb DEFAULT NULL,
	OUT event_id text, OUT status text, OUT detail text)
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_simulate';
COMMENT ON FUNCTION stripe_sync.simulate(text, jsonb, text, text, timestamptz, jsonb) IS
'Creates an event (evt_sim_...) about an object, signs it with the endpoint''s secret, and receives it. Example: simulate(''customer.updated'', ''{"id": "cus_1", "name": "Ada"}''). Missing fields are taken from the stored object, or from a fixture if there is none. previous is the event''s previous_attributes; NULL computes it from the stored object. The state of the last call is the newest: if two calls fall into the same second and cannot be ordered, the second call waits for the next second. Raises 55000 for an endpoint that accepts live events, and 22023 if created is in the future.';

CREATE FUNCTION stripe_sync.simulate_story(story text, customer text DEFAULT NULL, steps text[] DEFAULT NULL, endpoint text DEFAULT 'default')
	RETURNS TABLE (step text, event_id text, type text, object_id text, status text)
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_simulate_story';
COMMENT ON FUNCTION stripe_sync.simulate_story(text, text, text[], text) IS
'Simulates a sequence of events as Stripe would send them, the last one as of now, and returns the events sent. Stories and their steps: subscription (checkout, paid, renewed, failed, recovered, cancelled), dispute (paid, opened, answered, lost), refund (paid, partly_refunded, refunded). steps selects the first steps of the story; NULL selects all. The customer is created if it is not stored; NULL creates a new one.';

/* ---- Stored events ---- */

CREATE FUNCTION stripe_sync.event_type_fits(type text, pattern text) RETURNS boolean
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_event_type_fits';
COMMENT ON FUNCTION stripe_sync.event_type_fits(text, text) IS 'Internal: returns whether an event type matches a pattern in which * matches any characters';

CREATE FUNCTION stripe_sync.replay(INOUT event_id text, handlers boolean DEFAULT false,
	OUT status text, OUT detail text)
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_replay';
COMMENT ON FUNCTION stripe_sync.replay(text, boolean) IS
'Processes a stored event again. For a failed or dead event, runs the steps that failed. For any other event, runs the mirror step, and the handlers too if handlers is true. Raises SY005 if there is no such event.';

CREATE FUNCTION stripe_sync.replay(since timestamptz, until timestamptz DEFAULT pg_catalog.now(),
	types text[] DEFAULT NULL, statuses text[] DEFAULT ARRAY['failed','dead'])
	RETURNS TABLE (event_id text, status text, detail text)
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_replay_many';
COMMENT ON FUNCTION stripe_sync.replay(timestamptz, timestamptz, text[], text[]) IS
'Replays the events received between since and until, oldest first. types may contain patterns with *. NULL for types or statuses selects all.';

CREATE FUNCTION stripe_sync.explain_event(event_id text) RETURNS text
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_explain_event';
COMMENT ON FUNCTION stripe_sync.explain_event(text) IS
'Explains why an event was applied, stale, or ignored, which rule decided between which events, and which steps remain. Raises SY005 if there is no such event.';
