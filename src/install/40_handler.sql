/* ---- handlers: the user's functions that run on events ---- */

-- Functions and roles are stored by name: OIDs are not the same after a restore.
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
COMMENT ON TABLE stripe_sync.handler IS 'Functions that run on events, and the role each runs as';
COMMENT ON COLUMN stripe_sync.handler.function_owner IS 'Owner of the function when it was registered. The function runs while its owner is this role, a superuser, or a role that has the rights of the column role';
COMMENT ON COLUMN stripe_sync.handler.search_path IS 'Schemas of the search_path when it was registered, pg_temp last';
COMMENT ON COLUMN stripe_sync.handler.path_owners IS 'Owners of the schemas of search_path at that time; checked at each call, as function_owner is';
COMMENT ON COLUMN stripe_sync.handler.stopped_at IS 'When revoke_all() stopped it; NULL if it is not stopped. add_handler() starts it again';

CREATE FUNCTION stripe_sync.add_handler(name text, event_type text, handler regproc,
	deferred boolean DEFAULT false) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_add_handler';
COMMENT ON FUNCTION stripe_sync.add_handler(text, text, regproc, boolean) IS
'Registers a function (event jsonb) RETURNS void. It runs once on each stored event whose type matches event_type (* allowed), in the event''s transaction, as the current role and with its present search_path. A deferred handler runs after the commit. An existing handler of this name is replaced.';

CREATE FUNCTION stripe_sync.drop_handler(name text) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_drop_handler';
COMMENT ON FUNCTION stripe_sync.drop_handler(text) IS
'Drops a handler; events no longer wait for it. Raises SY005 if there is no such handler.';

CREATE FUNCTION stripe_sync.test_handler(name text, event_id text) RETURNS text
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_test_handler';
COMMENT ON FUNCTION stripe_sync.test_handler(text, text) IS
'Runs a handler on a stored event, rolls everything back, and returns what it raised, how long it took and which tables it wrote. Raises SY005 if there is no such handler or event.';

CREATE PROCEDURE stripe_sync.work(max_time interval DEFAULT '1 minute')
	LANGUAGE c
	AS 'MODULE_PATHNAME', 'stripe_sync_work';
COMMENT ON PROCEDURE stripe_sync.work(interval) IS
'One pass of the worker in the foreground: messages to Slack, retries of events, deferred handlers, jobs, reconciling, pruning, until nothing is due or max_time has passed. Commits after each.';

CREATE TRIGGER config_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON stripe_sync.handler
	FOR EACH STATEMENT EXECUTE FUNCTION stripe_sync.config_changed();
CREATE TRIGGER config_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON stripe_sync.mirror_table
	FOR EACH STATEMENT EXECUTE FUNCTION stripe_sync.config_changed();
