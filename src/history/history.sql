/* ---- History ---- */

-- Written by the pruning: see kept.c.
CREATE TABLE stripe_sync.change (
	object_type	text NOT NULL,
	object_id	text NOT NULL,
	account		text NOT NULL,
	n			integer NOT NULL,
	at			timestamptz NOT NULL,
	event_id	text,
	parent		text,
	api_version	text,
	described	boolean NOT NULL,
	kind		text NOT NULL,
	field		text,
	old			jsonb,
	new			jsonb,
	PRIMARY KEY (object_id, object_type, account, n)
);

-- children of a parent whose events are pruned
CREATE INDEX change_parent_idx ON stripe_sync.change (parent) WHERE parent IS NOT NULL;
CREATE INDEX change_type_idx ON stripe_sync.change (object_type, at);

-- grade: read
-- dump
COMMENT ON TABLE stripe_sync.change IS 'What pruned events said of the objects of the types in stripe_sync.history_types; history() and as_of() read it';
COMMENT ON COLUMN stripe_sync.change.object_type IS 'Type of the object';
COMMENT ON COLUMN stripe_sync.change.object_id IS 'Id of the object';
COMMENT ON COLUMN stripe_sync.change.account IS 'Account of the object';
COMMENT ON COLUMN stripe_sync.change.n IS 'Position among the rows of the object';
COMMENT ON COLUMN stripe_sync.change.at IS 'Time of the event at Stripe';
COMMENT ON COLUMN stripe_sync.change.event_id IS 'The event; it is no longer stored';
COMMENT ON COLUMN stripe_sync.change.parent IS 'Id of the object whose event lists this one; NULL for an event of the object itself';
COMMENT ON COLUMN stripe_sync.change.api_version IS 'API version that rendered the event';
COMMENT ON COLUMN stripe_sync.change.described IS 'True if the event also said how the object was before it';
COMMENT ON COLUMN stripe_sync.change.kind IS 'created, found (first known), changed, deleted, before (the state before the first known event), unseen (changed before the event, at an unknown time), or lost (events of the type were not kept at that time)';
COMMENT ON COLUMN stripe_sync.change.field IS 'Path of the field; NULL for the whole object';
COMMENT ON COLUMN stripe_sync.change.old IS 'Old value; NULL if the field was absent';
COMMENT ON COLUMN stripe_sync.change.new IS 'New value; NULL if the field is absent';

-- Written by the pruning (forgotten.c).
CREATE TABLE stripe_sync.forgotten (
	object_type	text PRIMARY KEY,
	until		timestamptz NOT NULL
);

-- grade: read
-- dump
COMMENT ON TABLE stripe_sync.forgotten IS 'Up to when events of a type were pruned without their changes being kept; as_of() does not take what is left from that time as complete';
COMMENT ON COLUMN stripe_sync.forgotten.object_type IS 'Type of the object';
COMMENT ON COLUMN stripe_sync.forgotten.until IS 'Time at Stripe of the latest event or fetch that was pruned and not kept';

CREATE FUNCTION stripe_sync.history(object_type text, object_id text, account text DEFAULT '')
	RETURNS TABLE (at timestamptz, event_id text, field text, old jsonb, new jsonb)
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_history';

-- grade: read
COMMENT ON FUNCTION stripe_sync.history(text, text, text) IS
'Returns every known change of an object, field by field, oldest first. A row without a field is the whole object: old is NULL when it was created or is first known, new is NULL when it was deleted. A row without an event_id is a change that no event told of, at the time when it became known.';

CREATE FUNCTION stripe_sync.as_of(object_type text, at timestamptz, account text DEFAULT NULL)
	RETURNS TABLE (object_id text, account text, object jsonb, known boolean)
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_as_of';

-- grade: read
COMMENT ON FUNCTION stripe_sync.as_of(text, timestamptz, text) IS
'Returns the objects of a type as they were at a time, of one account or of all. An object that was deleted by then or not yet created has no row. known is false, and object NULL, where the state at that time is not known. Example: SELECT object->''plan''->>''id'' FROM stripe_sync.as_of(''subscription'', ''2026-03-01'') WHERE object_id = ''sub_1''.';
