/* ---- Events ---- */

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

-- by the API request that caused it, for trace()
CREATE INDEX event_request_idx ON stripe_sync.event (request_id) WHERE request_id IS NOT NULL;

-- by time, for pruning and for detecting silence, and by idempotency key, for
-- trace(); BRIN, because its cost is negligible
CREATE INDEX event_received_idx ON stripe_sync.event
	USING brin (received_at, idempotency_key pg_catalog.text_bloom_ops (n_distinct_per_range = 1000));

-- CREATE INDEX has summarized the first range, empty as it is, and every insert
-- into a summarized range has to compress its Bloom filter again.
DO $$
BEGIN
	PERFORM pg_catalog.brin_desummarize_range('stripe_sync.event_received_idx', 0);
END $$;

-- grade: read
-- dump
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

/* ---- Stored events ---- */

CREATE FUNCTION stripe_sync.event_type_fits(type text, patterns text) RETURNS boolean
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_event_type_fits';
COMMENT ON FUNCTION stripe_sync.event_type_fits(text, text) IS 'Internal: returns whether an event type matches one of several patterns, separated by commas, in which * matches any characters';
