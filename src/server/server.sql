/* ---- Worker ---- */

-- A copy of a database contains the row of the original, and is recognized as a
-- copy by it.
CREATE TABLE stripe_sync.identity (
	system_identifier	bigint NOT NULL,
	database			oid NOT NULL,
	restore				text NOT NULL DEFAULT '',
	noted_at			timestamptz NOT NULL DEFAULT pg_catalog.now(),
	PRIMARY KEY (system_identifier, database)
);

-- grade: read
-- dump
COMMENT ON TABLE stripe_sync.identity IS 'Server and database in which the extension was set up. Messages and requests are sent only if the table has one row and it matches.';
COMMENT ON COLUMN stripe_sync.identity.system_identifier IS 'System identifier of the server';
COMMENT ON COLUMN stripe_sync.identity.database IS 'OID of the database';
COMMENT ON COLUMN stripe_sync.identity.restore IS 'Restore from a backup that the server came from at that time, as in its file stripe_sync.inactive; empty if none';
COMMENT ON COLUMN stripe_sync.identity.noted_at IS 'Time when the row was written';
CREATE TRIGGER config_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON stripe_sync.identity
	FOR EACH STATEMENT EXECUTE FUNCTION stripe_sync.config_changed();

CREATE TABLE stripe_sync.pause (
	what	text PRIMARY KEY,
	since	timestamptz NOT NULL DEFAULT pg_catalog.now()
);

-- dump
COMMENT ON TABLE stripe_sync.pause IS 'What is paused: slack, stripe';
CREATE TRIGGER config_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON stripe_sync.pause
	FOR EACH STATEMENT EXECUTE FUNCTION stripe_sync.config_changed();

CREATE FUNCTION stripe_sync.activate() RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_activate';

-- grade: admin
COMMENT ON FUNCTION stripe_sync.activate() IS
'Permits a copy of a database (restored, cloned, or on a restored server) to send to Slack and to call Stripe, if it takes the place of the original. Reports the number of waiting messages. Other databases of the server are not affected.';

CREATE FUNCTION stripe_sync.pause(what text DEFAULT 'all') RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_pause';

-- grade: admin
COMMENT ON FUNCTION stripe_sync.pause(text) IS
'Stops messages to Slack (''slack''), requests to Stripe (''stripe''), or both (''all'') until resume(). What becomes due meanwhile waits. Raises 22023 for any other value.';

CREATE FUNCTION stripe_sync.resume(what text DEFAULT 'all') RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_resume';

-- grade: admin
COMMENT ON FUNCTION stripe_sync.resume(text) IS
'Ends a pause of ''slack'', ''stripe'', or ''all''. Raises 22023 for any other value.';

CREATE FUNCTION stripe_sync.workers(OUT pid integer, OUT database oid, OUT state text, OUT since timestamptz)
	RETURNS SETOF record
	LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 10
	AS 'MODULE_PATHNAME', 'stripe_sync_workers';

-- grade: read
COMMENT ON FUNCTION stripe_sync.workers() IS
'Returns the background workers. Used by the view stripe_sync.worker. Returns no rows if the library is not in shared_preload_libraries.';

CREATE FUNCTION stripe_sync.worker_missing() RETURNS text
	LANGUAGE c VOLATILE PARALLEL RESTRICTED
	AS 'MODULE_PATHNAME', 'stripe_sync_worker_missing';

-- grade: read
COMMENT ON FUNCTION stripe_sync.worker_missing() IS
'Returns why this database has no worker; NULL if it has one or one will be started. Used by the view stripe_sync.worker.';

CREATE VIEW stripe_sync.worker AS
SELECT w.pid, d.datname AS database, w.state, w.since
  FROM stripe_sync.workers() AS w
  LEFT JOIN pg_catalog.pg_database AS d ON d.oid OPERATOR(pg_catalog.=) w.database
 WHERE w.database IS NULL OR d.oid IS NOT NULL
UNION ALL
SELECT NULL, pg_catalog.current_database(), 'none: ' OPERATOR(pg_catalog.||) m.why, NULL
  FROM stripe_sync.worker_missing() AS m (why)
 WHERE m.why IS NOT NULL;

-- grade: read
COMMENT ON VIEW stripe_sync.worker IS 'Background workers of the server: one for each database that has the extension, and the launcher, which has no database. If this database has no worker, its row gives the reason.';
COMMENT ON COLUMN stripe_sync.worker.pid IS 'Process ID; NULL if there is no worker';
COMMENT ON COLUMN stripe_sync.worker.database IS 'Name of the database; NULL for the launcher';
COMMENT ON COLUMN stripe_sync.worker.state IS 'starting, working, sleeping, leaving; idle, with the reason (the library does not match the installed version: ALTER EXTENSION stripe_sync UPDATE); failing (see the server log; retried every second); waiting (no worker process is available); paused, with what is paused if not all; inactive, with the reason (see activate()); off (stripe_sync.outbound is off); none, with the reason (there is no worker; CALL stripe_sync.work() does its tasks). The launcher''s state is launching.';
COMMENT ON COLUMN stripe_sync.worker.since IS 'Time when the state began';
