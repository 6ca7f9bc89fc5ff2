/* ---- Maintenance ---- */

-- History of an endpoint, one row per 24 hours, for detecting silence.
CREATE TABLE stripe_sync.pulse (
	endpoint	text NOT NULL,
	day			timestamptz NOT NULL,
	events		bigint NOT NULL,
	longest_gap	interval NOT NULL,
	first_at	timestamptz NOT NULL,
	last_at		timestamptz NOT NULL,
	PRIMARY KEY (endpoint, day)
);
COMMENT ON TABLE stripe_sync.pulse IS 'Number of events of an endpoint and the longest time without one, by periods of 24 hours';
COMMENT ON COLUMN stripe_sync.pulse.day IS 'Start of the 24 hours, counted from the endpoint''s first event';

CREATE TABLE stripe_sync.backup_note (
	at			timestamptz NOT NULL,
	what		text NOT NULL,
	noted_at	timestamptz NOT NULL DEFAULT pg_catalog.now(),
	PRIMARY KEY (at, what)
);
COMMENT ON TABLE stripe_sync.backup_note IS 'Backups recorded with note_backup()';

-- One row per endpoint that has rows in pulse.
CREATE TABLE stripe_sync.silence (
	endpoint	text PRIMARY KEY,
	since		timestamptz,
	usual		interval,
	noticed_at	timestamptz,
	server_start	timestamptz NOT NULL DEFAULT pg_catalog.pg_postmaster_start_time(),
	up_since	timestamptz
);
COMMENT ON TABLE stripe_sync.silence IS 'Endpoints that have received no event for longer than usual, so that each silence is reported once';
COMMENT ON COLUMN stripe_sync.silence.since IS 'Time of the last event; NULL if the endpoint is not silent, as are usual and noticed_at';
COMMENT ON COLUMN stripe_sync.silence.usual IS 'Longest time without an event in the two weeks before';
COMMENT ON COLUMN stripe_sync.silence.server_start IS 'Start time of the server when the endpoint was last checked';
COMMENT ON COLUMN stripe_sync.silence.up_since IS 'Silence is counted from this time at the earliest, when the server could receive events again; NULL if the server has not been restarted since the endpoint was added';

CREATE FUNCTION stripe_sync.silence_check() RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_silence_check';
COMMENT ON FUNCTION stripe_sync.silence_check() IS 'Internal: detects endpoints that have become silent, as the worker does every minute';

CREATE FUNCTION stripe_sync.prune(before interval DEFAULT NULL) RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_prune';
COMMENT ON FUNCTION stripe_sync.prune(interval) IS
'Deletes finished events (applied, stale, or ignored) older than before (NULL means stripe_sync.retention; at least 35 days), with their rows in event_error and handler_run. Also deletes sent, dead, and cancelled messages, closed incidents, journal entries, counts of rejected deliveries, and finished jobs of the same age, and requests to Stripe after two weeks. Pending, failed, and dead events are kept, and so is the mirror. Returns the number of events deleted.';

CREATE FUNCTION stripe_sync.note_backup(at timestamptz DEFAULT pg_catalog.now(), what text DEFAULT '') RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_note_backup';
COMMENT ON FUNCTION stripe_sync.note_backup(timestamptz, text) IS
'Records that a backup was made. Call it from the script that makes backups. The last 100 are kept.';
