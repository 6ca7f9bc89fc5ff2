/* ---- upkeep: detection of silence, pruning, notes of backups ---- */

-- The history from which the usual time between an endpoint's events is learned.
CREATE TABLE stripe_sync.pulse (
	endpoint	text NOT NULL,
	day			timestamptz NOT NULL,
	events		bigint NOT NULL,
	longest_gap	interval NOT NULL,
	first_at	timestamptz NOT NULL,
	last_at		timestamptz NOT NULL,
	PRIMARY KEY (endpoint, day)
);
COMMENT ON TABLE stripe_sync.pulse IS 'Number of events of an endpoint and the longest time without one, for each 24 hours';
COMMENT ON COLUMN stripe_sync.pulse.day IS 'Start of the 24 hours, which are counted from the endpoint''s first event on';

CREATE TABLE stripe_sync.backup_note (
	at			timestamptz NOT NULL,
	what		text NOT NULL,
	noted_at	timestamptz NOT NULL DEFAULT pg_catalog.now(),
	PRIMARY KEY (at, what)
);
COMMENT ON TABLE stripe_sync.backup_note IS 'Backups that somebody noted with note_backup()';

-- A row for each endpoint whose history is in pulse.
CREATE TABLE stripe_sync.silence (
	endpoint	text PRIMARY KEY,
	since		timestamptz,
	usual		interval,
	noticed_at	timestamptz,
	server_start	timestamptz NOT NULL DEFAULT pg_catalog.pg_postmaster_start_time(),
	up_since	timestamptz
);
COMMENT ON TABLE stripe_sync.silence IS 'Endpoints, and since when each has received no events, so that a silence is reported once';
COMMENT ON COLUMN stripe_sync.silence.since IS 'Time of the last event before the silence; NULL, as are usual and noticed_at, while there is none';
COMMENT ON COLUMN stripe_sync.silence.usual IS 'Longest time without an event in the two weeks before the silence';
COMMENT ON COLUMN stripe_sync.silence.server_start IS 'Start time of the server at the last check';
COMMENT ON COLUMN stripe_sync.silence.up_since IS 'Start time of the server, from which a silence is counted at the earliest; NULL if the server was not started since the endpoint was added';

CREATE FUNCTION stripe_sync.silence_check() RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_silence_check';
COMMENT ON FUNCTION stripe_sync.silence_check() IS 'Internal: detects endpoints that receive no events for longer than usual; the worker calls it every minute';

CREATE FUNCTION stripe_sync.prune(before interval DEFAULT NULL) RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_prune';
COMMENT ON FUNCTION stripe_sync.prune(interval) IS
'Deletes settled events (applied, stale, ignored) that are older than before (NULL: stripe_sync.retention; never younger than 35 days), with their rows of event_error and handler_run, and settled messages, closed incidents, entries of the journal, counts of refused deliveries and jobs that are over as old; requests to Stripe after two weeks. What waits, has failed or is dead stays, and so does the mirror. Returns how many events went.';

CREATE FUNCTION stripe_sync.note_backup(at timestamptz DEFAULT pg_catalog.now(), what text DEFAULT '') RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_note_backup';
COMMENT ON FUNCTION stripe_sync.note_backup(timestamptz, text) IS
'Notes that a backup was made, for doctor() to know: call it from the script that makes them. The last 100 are kept.';
