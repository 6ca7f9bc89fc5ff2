/* ---- Fetched objects ---- */

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

-- grade: read
-- dump
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

-- What the mirror's row no longer shows after newer data has replaced an object
-- retrieved from the API: the time of the last retrieval that showed the object
-- existing, and the last complete lists of children.
CREATE TABLE stripe_sync.reading (
	object_type	text NOT NULL,
	object_id	text NOT NULL,
	account		text NOT NULL,
	as_of		timestamptz NOT NULL,
	pages		jsonb,
	pages_as_of	timestamptz,
	PRIMARY KEY (object_id, object_type, account)
);

-- dump
COMMENT ON TABLE stripe_sync.reading IS 'For objects that can be deleted or have lists of children: when the object was last retrieved from Stripe''s API, if newer data has replaced that state in the mirror';
COMMENT ON COLUMN stripe_sync.reading.pages IS 'The complete lists of children that were retrieved last, with the ids only';

-- Written when newer data replaces an object retrieved from the API in the
-- mirror.  history() and as_of() need it.
CREATE TABLE stripe_sync.former_reading (
	object_type	text NOT NULL,
	object_id	text NOT NULL,
	account		text NOT NULL,
	as_of		timestamptz NOT NULL,
	object		jsonb,
	PRIMARY KEY (object_id, object_type, account, as_of)
);

-- grade: read
-- dump
COMMENT ON TABLE stripe_sync.former_reading IS 'Objects as they were retrieved from Stripe''s API, if newer data has replaced that state in the mirror; pruned with the events, except for the types in stripe_sync.history_types';
COMMENT ON COLUMN stripe_sync.former_reading.object_type IS 'Type of the object';
COMMENT ON COLUMN stripe_sync.former_reading.object_id IS 'Id of the object';
COMMENT ON COLUMN stripe_sync.former_reading.account IS 'Account of the object';
COMMENT ON COLUMN stripe_sync.former_reading.as_of IS 'Time that the object is known to reflect';
COMMENT ON COLUMN stripe_sync.former_reading.object IS 'The object; NULL if it did not exist';

CREATE FUNCTION stripe_sync.apply_reading(object jsonb, account text DEFAULT '',
	as_of timestamptz DEFAULT pg_catalog.now()) RETURNS text
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_apply_reading';
COMMENT ON FUNCTION stripe_sync.apply_reading(jsonb, text, timestamptz) IS 'Internal: writes an object retrieved from Stripe''s API to the mirror; as_of is the time that it is known to reflect. Returns applied, stale (the mirror has a newer state), or ignored (there is no table).';

CREATE FUNCTION stripe_sync.apply_reading_page(objects jsonb, account text DEFAULT '',
	as_of timestamptz DEFAULT pg_catalog.now())
	RETURNS TABLE (object_id text, status text, detail text)
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_apply_reading_page';
COMMENT ON FUNCTION stripe_sync.apply_reading_page(jsonb, text, timestamptz) IS 'Internal: same as apply_reading() for an array of objects, in one subtransaction, or in one per object if that fails; status can also be failed';
