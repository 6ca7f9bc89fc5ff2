/* ---- Silent endpoints ---- */

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

-- dump
COMMENT ON TABLE stripe_sync.pulse IS 'Number of events of an endpoint and the longest time without one, by periods of 24 hours';
COMMENT ON COLUMN stripe_sync.pulse.day IS 'Start of the 24 hours, counted from the endpoint''s first event';

-- One row per endpoint that has rows in pulse.
CREATE TABLE stripe_sync.silence (
	endpoint	text PRIMARY KEY,
	since		timestamptz,
	usual		interval,
	noticed_at	timestamptz,
	server_start	timestamptz NOT NULL DEFAULT pg_catalog.pg_postmaster_start_time(),
	up_since	timestamptz
);

-- dump
COMMENT ON TABLE stripe_sync.silence IS 'Endpoints that have received no event for longer than usual, so that each silence is reported once';
COMMENT ON COLUMN stripe_sync.silence.since IS 'Time of the last event; NULL if the endpoint is not silent, as are usual and noticed_at';
COMMENT ON COLUMN stripe_sync.silence.usual IS 'Longest time without an event in the two weeks before';
COMMENT ON COLUMN stripe_sync.silence.server_start IS 'Start time of the server when the endpoint was last checked';
COMMENT ON COLUMN stripe_sync.silence.up_since IS 'Silence is counted from this time at the earliest, when the server could receive events again; NULL if the server has not been restarted since the endpoint was added';

CREATE FUNCTION stripe_sync.silence_check() RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_silence_check';
COMMENT ON FUNCTION stripe_sync.silence_check() IS 'Internal: detects endpoints that have become silent, as the worker does every minute';
