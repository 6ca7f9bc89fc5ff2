/* ---- the worker, and what it may do ---- */

-- Which database this is.  A copy brings the original's note, and so knows
-- that it is a copy.
CREATE TABLE stripe_sync.identity (
	system_identifier	bigint NOT NULL,
	database			oid NOT NULL,
	restore				text NOT NULL DEFAULT '',
	noted_at			timestamptz NOT NULL DEFAULT pg_catalog.now(),
	PRIMARY KEY (system_identifier, database)
);
COMMENT ON TABLE stripe_sync.identity IS 'The server and database that were set up; only a database whose one note is its own sends';
COMMENT ON COLUMN stripe_sync.identity.restore IS 'The restore from a backup that the server came from then, as in its file stripe_sync.inactive; empty: none';
CREATE TRIGGER config_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON stripe_sync.identity
	FOR EACH STATEMENT EXECUTE FUNCTION stripe_sync.config_changed();

CREATE TABLE stripe_sync.pause (
	what	text PRIMARY KEY,
	since	timestamptz NOT NULL DEFAULT pg_catalog.now()
);
COMMENT ON TABLE stripe_sync.pause IS 'What is paused: slack, stripe';
CREATE TRIGGER config_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON stripe_sync.pause
	FOR EACH STATEMENT EXECUTE FUNCTION stripe_sync.config_changed();

CREATE FUNCTION stripe_sync.activate() RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_activate';
COMMENT ON FUNCTION stripe_sync.activate() IS
'Lets this database send to Slack and call Stripe, when it is a copy (restored, cloned, on a restored server) and takes the original''s place. Says how many messages wait. Other databases of the server are not touched.';

CREATE FUNCTION stripe_sync.pause(what text DEFAULT 'all') RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_pause';
COMMENT ON FUNCTION stripe_sync.pause(text) IS
'Stops what this database sends (''slack''), what it calls (''stripe''), or both (''all''), until resume(). What falls due meanwhile waits. 22023 for any other word.';

CREATE FUNCTION stripe_sync.resume(what text DEFAULT 'all') RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_resume';
COMMENT ON FUNCTION stripe_sync.resume(text) IS
'Ends what pause() began: ''slack'', ''stripe'' or ''all''. 22023 for any other word.';

CREATE FUNCTION stripe_sync.workers(OUT pid integer, OUT database oid, OUT state text, OUT since timestamptz)
	RETURNS SETOF record
	LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 10
	AS 'MODULE_PATHNAME', 'stripe_sync_workers';
COMMENT ON FUNCTION stripe_sync.workers() IS
'What the view stripe_sync.worker shows; nothing when the library is not in shared_preload_libraries';

CREATE FUNCTION stripe_sync.worker_missing() RETURNS text
	LANGUAGE c VOLATILE PARALLEL RESTRICTED
	AS 'MODULE_PATHNAME', 'stripe_sync_worker_missing';
COMMENT ON FUNCTION stripe_sync.worker_missing() IS
'Why this database has no worker, for the view stripe_sync.worker; NULL when it has one, or will';

CREATE VIEW stripe_sync.worker AS
SELECT w.pid, d.datname AS database, w.state, w.since
  FROM stripe_sync.workers() AS w
  LEFT JOIN pg_catalog.pg_database AS d ON d.oid OPERATOR(pg_catalog.=) w.database
 WHERE w.database IS NULL OR d.oid IS NOT NULL
UNION ALL
SELECT NULL, pg_catalog.current_database(), 'none: ' OPERATOR(pg_catalog.||) m.why, NULL
  FROM stripe_sync.worker_missing() AS m (why)
 WHERE m.why IS NOT NULL;
COMMENT ON VIEW stripe_sync.worker IS
'The background workers of the whole server, one for each database that has the extension; the row without a database is their launcher. Where this database has none, its row says why.';
COMMENT ON COLUMN stripe_sync.worker.pid IS 'NULL while there is none';
COMMENT ON COLUMN stripe_sync.worker.state IS
'starting, working, sleeping, leaving; idle: why (library and catalog do not fit: ALTER EXTENSION stripe_sync UPDATE); failing (the log says of what, it tries again every second); waiting (no worker process is free); paused, or paused: what; inactive: why (see activate()); off: stripe_sync.outbound; none: why (there is no worker, and CALL work() does what waits). The launcher''s is launching.';
COMMENT ON COLUMN stripe_sync.worker.since IS 'When the state began';
