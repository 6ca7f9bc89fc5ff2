/* ---- the inbox: every event accepted, and its status ---- */

-- event_store.c knows the columns by number (inbox_table.c checks them).  STORAGE
-- MAIN keeps a row in one compressed tuple; TOAST would cost two more.
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
-- of connected accounts only: lists them
CREATE INDEX event_account_idx ON stripe_sync.event (account) WHERE account <> '';
CREATE INDEX event_due_idx ON stripe_sync.event (next_attempt_at)
	WHERE next_attempt_at IS NOT NULL;
CREATE INDEX event_unsettled_idx ON stripe_sync.event (received_at)
	WHERE status IN ('pending', 'failed', 'dead');
-- by time, for the retention and system.silence; a BRIN index costs little
CREATE INDEX event_received_idx ON stripe_sync.event USING brin (received_at);
COMMENT ON TABLE stripe_sync.event IS 'The inbox: every event accepted, with its exact bytes and its status';
COMMENT ON COLUMN stripe_sync.event.account IS 'The endpoint''s account and the connected account below it; empty for your own';
COMMENT ON COLUMN stripe_sync.event.source IS 'webhook, simulate or reconcile';
COMMENT ON COLUMN stripe_sync.event.status IS 'pending, applied, stale, ignored, failed or dead';
COMMENT ON COLUMN stripe_sync.event.mirrored IS 'Result of the mirror step: applied, stale or ignored; NULL until it has run';
COMMENT ON COLUMN stripe_sync.event.todo IS 'Steps still to run: mirror, names of handlers, alerts';
COMMENT ON COLUMN stripe_sync.event.tries IS 'Attempts made of each step in todo';
COMMENT ON COLUMN stripe_sync.event.error IS 'Last errors of the steps: name, SQLSTATE, message, detail, hint, context';
COMMENT ON COLUMN stripe_sync.event.payload IS 'The payload, byte for byte';

-- Objects to be fetched again from Stripe, once there is a key for it.  A row
-- stays until the object has been fetched and written.
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
COMMENT ON TABLE stripe_sync.reread IS 'Objects to be fetched again from Stripe';
COMMENT ON COLUMN stripe_sync.reread.state IS 'waiting (until due_at), asked (part of a job) or dead (until refetch() is called)';
COMMENT ON COLUMN stripe_sync.reread.tries IS 'How often writing it has failed';
COMMENT ON COLUMN stripe_sync.reread.error IS 'Why it was not fetched or written; NULL: nothing has failed';
COMMENT ON COLUMN stripe_sync.reread.after IS 'The answer must be as of this time of Stripe''s clock, or later';

CREATE FUNCTION stripe_sync.receive(payload bytea, signature text, endpoint text DEFAULT 'default',
	OUT event_id text, OUT status text, OUT detail text)
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_receive';
CREATE FUNCTION stripe_sync.receive(payload text, signature text, endpoint text DEFAULT 'default',
	OUT event_id text, OUT status text, OUT detail text)
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_receive';
COMMENT ON FUNCTION stripe_sync.receive(bytea, text, text) IS
'Verifies, stores and applies one delivery: payload is the raw body of the request, signature the Stripe-Signature header. Status: applied, duplicate, stale, ignored or failed (stored; failed steps are retried). Raises SY001 to SY007, and then stores nothing.';
COMMENT ON FUNCTION stripe_sync.receive(text, text, text) IS 'As receive(bytea, ...)';

CREATE FUNCTION stripe_sync.webhook(payload bytea, headers jsonb, endpoint text DEFAULT 'default',
	OUT http_status int, OUT body jsonb)
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_webhook';
CREATE FUNCTION stripe_sync.webhook(payload text, headers jsonb, endpoint text DEFAULT 'default',
	OUT http_status int, OUT body jsonb)
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_webhook';
COMMENT ON FUNCTION stripe_sync.webhook(bytea, jsonb, text) IS
'The answer of an HTTP front to a delivery: 200 stored, 400 not from Stripe, 413 too large, 500 not set up, or the library does not fit the catalog. Header names are case-insensitive. Raises no error for anything a client sent.';
COMMENT ON FUNCTION stripe_sync.webhook(text, jsonb, text) IS 'As webhook(bytea, ...)';

CREATE FUNCTION stripe_sync.simulate(event_type text, object jsonb, endpoint text DEFAULT 'default',
	account text DEFAULT '', created timestamptz DEFAULT NULL, previous jsonb DEFAULT NULL,
	OUT event_id text, OUT status text, OUT detail text)
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_simulate';
COMMENT ON FUNCTION stripe_sync.simulate(text, jsonb, text, text, timestamptz, jsonb) IS
'Builds an event (evt_sim_...) about an object, signs it with the endpoint''s secret and receives it: simulate(''customer.updated'', ''{"id": "cus_1", "name": "Ada"}''). Omitted fields are taken from the stored object, or from a fixture; previous are the previous_attributes, by default the difference from the stored object. Of successive calls the last one''s state is the newest: if its order is uncertain, the call waits for the next second. Raises 55000 on endpoints that take live events, 22023 for a time in the future.';

CREATE FUNCTION stripe_sync.simulate_story(story text, customer text DEFAULT NULL, steps text[] DEFAULT NULL, endpoint text DEFAULT 'default')
	RETURNS TABLE (step text, event_id text, type text, object_id text, status text)
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_simulate_story';
COMMENT ON FUNCTION stripe_sync.simulate_story(text, text, text[], text) IS
'Simulates a sequence of events as Stripe sends it, ending now, and returns a row for each. Stories: subscription (steps checkout, paid, renewed, failed, recovered, cancelled), dispute (paid, opened, answered, lost), refund (paid, partly_refunded, refunded); steps are the first ones to simulate, NULL for all. customer is created unless it is stored; NULL for a new one.';

CREATE FUNCTION stripe_sync.event_type_fits(type text, pattern text) RETURNS boolean
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_event_type_fits';
COMMENT ON FUNCTION stripe_sync.event_type_fits(text, text) IS
'Does an event type match a pattern in which * stands for any characters?';

CREATE FUNCTION stripe_sync.replay(INOUT event_id text, handlers boolean DEFAULT false,
	OUT status text, OUT detail text)
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_replay';
COMMENT ON FUNCTION stripe_sync.replay(text, boolean) IS
'Applies a stored event again: the steps left to do if it is failed or dead, else the mirror, and with handlers the handlers too. Raises SY005 if there is no such event.';

CREATE FUNCTION stripe_sync.replay(since timestamptz, until timestamptz DEFAULT pg_catalog.now(),
	types text[] DEFAULT NULL, statuses text[] DEFAULT ARRAY['failed','dead'])
	RETURNS TABLE (event_id text, status text, detail text)
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_replay_many';
COMMENT ON FUNCTION stripe_sync.replay(timestamptz, timestamptz, text[], text[]) IS
'Replays the events received from since to until, oldest first; types may contain *. NULL for types or statuses takes all.';

CREATE FUNCTION stripe_sync.explain_event(event_id text) RETURNS text
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_explain_event';
COMMENT ON FUNCTION stripe_sync.explain_event(text) IS
'Why an event was applied, stale or ignored, which rule decided between which events, and what is still to do. Raises SY005 if there is no such event.';
