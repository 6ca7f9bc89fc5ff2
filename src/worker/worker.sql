/* ---- Maintenance ---- */

CREATE PROCEDURE stripe_sync.work(max_time interval DEFAULT '1 minute')
	LANGUAGE c
	AS 'MODULE_PATHNAME', 'stripe_sync_work';

-- grade: admin
COMMENT ON PROCEDURE stripe_sync.work(interval) IS
'Does the worker''s tasks in the calling session until none is due or max_time has passed: sends messages to Slack, retries events, runs deferred handlers and jobs, reconciles, and prunes. Commits after each.';

CREATE TABLE stripe_sync.backup_note (
	at			timestamptz NOT NULL,
	what		text NOT NULL,
	noted_at	timestamptz NOT NULL DEFAULT pg_catalog.now(),
	PRIMARY KEY (at, what)
);

-- dump
COMMENT ON TABLE stripe_sync.backup_note IS 'Backups recorded with note_backup()';

CREATE FUNCTION stripe_sync.prune(before interval DEFAULT NULL) RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_prune';

-- grade: admin
COMMENT ON FUNCTION stripe_sync.prune(interval) IS
'Deletes finished events (applied, stale, or ignored) older than before (NULL means stripe_sync.retention; at least 35 days), with their rows in event_error and handler_run. Also deletes sent, dead, and cancelled messages, closed incidents, journal entries, counts of rejected deliveries, and finished jobs of the same age, and requests to Stripe after two weeks. Pending, failed, and dead events are kept, and so is the mirror. Returns the number of events deleted.';

CREATE FUNCTION stripe_sync.note_backup(at timestamptz DEFAULT pg_catalog.now(), what text DEFAULT '') RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_note_backup';

-- grade: admin
COMMENT ON FUNCTION stripe_sync.note_backup(timestamptz, text) IS
'Records that a backup was made, or, if what begins with ''restore tested'', that one was restored. Call it from the script that makes backups. The last 100 of either are kept; doctor() reports when the last is too old.';
