/* ---- Handlers ---- */

-- Functions and roles are stored by name, because their OIDs differ after a restore.
CREATE TABLE stripe_sync.handler (
	name		text PRIMARY KEY,
	event_type	text NOT NULL,
	function	text NOT NULL,
	function_owner text NOT NULL,
	role		text NOT NULL,
	search_path	text NOT NULL,
	path_owners	text[] NOT NULL,
	deferred	boolean NOT NULL,
	stopped_at	timestamptz,
	created_at	timestamptz NOT NULL DEFAULT pg_catalog.now()
);

-- grade: read
-- dump
COMMENT ON TABLE stripe_sync.handler IS 'Functions that run on events, and the role each runs as';
COMMENT ON COLUMN stripe_sync.handler.name IS 'Name of the handler';
COMMENT ON COLUMN stripe_sync.handler.event_type IS 'Event type, or a pattern with *';
COMMENT ON COLUMN stripe_sync.handler.function IS 'Function to run';
COMMENT ON COLUMN stripe_sync.handler.function_owner IS 'Owner of the function when it was registered. The handler does not run if the owner has changed, unless the new owner is a superuser or has the privileges of role.';
COMMENT ON COLUMN stripe_sync.handler.role IS 'Role that registered the handler; the function runs as this role';
COMMENT ON COLUMN stripe_sync.handler.search_path IS 'search_path when it was registered, with pg_temp last; the function runs with it';
COMMENT ON COLUMN stripe_sync.handler.path_owners IS 'Owners of the schemas in search_path when it was registered; checked as function_owner is';
COMMENT ON COLUMN stripe_sync.handler.deferred IS 'True if the worker runs it after the event is committed';
COMMENT ON COLUMN stripe_sync.handler.stopped_at IS 'Time when revoke_all() stopped the handler; add_handler() starts it again';
COMMENT ON COLUMN stripe_sync.handler.created_at IS 'Time when it was registered';

CREATE FUNCTION stripe_sync.add_handler(name text, event_type text, handler regproc,
	deferred boolean DEFAULT false) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_add_handler';

-- grade: admin
COMMENT ON FUNCTION stripe_sync.add_handler(text, text, regproc, boolean) IS
'Registers a function (event jsonb) RETURNS void that runs once on each stored event whose type matches event_type, a type or a pattern with *. The function runs in the transaction that stores the event, as the current role and with the current search_path. If deferred is true, the worker runs it after that transaction is committed. A handler of the same name is replaced.';

CREATE FUNCTION stripe_sync.drop_handler(name text) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_drop_handler';

-- grade: admin
COMMENT ON FUNCTION stripe_sync.drop_handler(text) IS
'Removes a handler and its outstanding runs. Raises SY005 if there is no such handler.';

CREATE FUNCTION stripe_sync.test_handler(name text, event_id text) RETURNS text
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_test_handler';

-- grade: admin
COMMENT ON FUNCTION stripe_sync.test_handler(text, text) IS
'Runs a handler on a stored event and rolls it back. Returns the error if there was one, the run time, and the tables written.';
CREATE TRIGGER config_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON stripe_sync.handler
	FOR EACH STATEMENT EXECUTE FUNCTION stripe_sync.config_changed();
