/* ---- handlers: the user's functions that run on events ---- */

-- Functions and roles by name: a dump carries them where they have other oids.
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
COMMENT ON COLUMN stripe_sync.handler.function_owner IS 'Who owned the function when it was registered: it runs while that is so, or its owner is a superuser or has the rights of the role';
COMMENT ON COLUMN stripe_sync.handler.search_path IS 'As it resolved when it was registered, pg_temp last';
COMMENT ON COLUMN stripe_sync.handler.path_owners IS 'Who owned the schemas of search_path then: it runs while that is so, as with function_owner';
COMMENT ON COLUMN stripe_sync.handler.stopped_at IS 'Since when revoke_all() has stopped it; add_handler() starts it again';

CREATE FUNCTION stripe_sync.add_handler(name text, event_type text, handler regproc,
	deferred boolean DEFAULT false) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_add_handler';
COMMENT ON FUNCTION stripe_sync.add_handler(text, text, regproc, boolean) IS
'Registers a function (event jsonb) RETURNS void to run on each stored event whose type fits event_type (* allowed), once, in the event''s transaction, as the current role with its search_path of now. A deferred one runs after the commit. A known name is replaced.';

CREATE FUNCTION stripe_sync.drop_handler(name text) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_drop_handler';
COMMENT ON FUNCTION stripe_sync.drop_handler(text) IS
'Forgets a handler, and what is waiting for it. SY005 when there is no such handler.';

CREATE FUNCTION stripe_sync.test_handler(name text, event_id text) RETURNS text
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_test_handler';
COMMENT ON FUNCTION stripe_sync.test_handler(text, text) IS
'Runs a handler on a stored event and rolls it back: what it raised, how long it took, which tables it wrote.';

CREATE PROCEDURE stripe_sync.work(max_time interval DEFAULT '1 minute')
	LANGUAGE c
	AS 'MODULE_PATHNAME', 'stripe_sync_work';
COMMENT ON PROCEDURE stripe_sync.work(interval) IS
'One pass of the worker in the foreground: messages to Slack, retries of events, deferred handlers, jobs, reconciling, pruning, until nothing is due or max_time has passed. Commits after each.';

CREATE TRIGGER config_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON stripe_sync.handler
	FOR EACH STATEMENT EXECUTE FUNCTION stripe_sync.config_changed();
CREATE TRIGGER config_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON stripe_sync.mirror_table
	FOR EACH STATEMENT EXECUTE FUNCTION stripe_sync.config_changed();
