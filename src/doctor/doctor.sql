/* ---- Doctor ---- */

CREATE TABLE stripe_sync.finding (
	key			text PRIMARY KEY,
	status		text NOT NULL,
	detail		text,
	hint		text,
	figure		double precision,
	unit		text,
	since		timestamptz NOT NULL,
	seen_at		timestamptz NOT NULL,
	took_ms		double precision,
	slow_looks	bigint NOT NULL DEFAULT 0,
	fails		integer NOT NULL DEFAULT 0,
	wells		integer NOT NULL DEFAULT 0,
	told		text,
	progress	text
);

-- grade: read
-- dump
COMMENT ON TABLE stripe_sync.finding IS 'What the worker has found when it last looked at each item of doctor()';
COMMENT ON COLUMN stripe_sync.finding.key IS 'Key of the item, as in doctor()';
COMMENT ON COLUMN stripe_sync.finding.status IS 'ok, warn, fail, or unknown';
COMMENT ON COLUMN stripe_sync.finding.detail IS 'What was found';
COMMENT ON COLUMN stripe_sync.finding.hint IS 'SQL or a setting to copy; NULL if the page of the runbook says what to do';
COMMENT ON COLUMN stripe_sync.finding.figure IS 'Figure';
COMMENT ON COLUMN stripe_sync.finding.unit IS 'Unit of the figure';
COMMENT ON COLUMN stripe_sync.finding.since IS 'Time since when it has had this status';
COMMENT ON COLUMN stripe_sync.finding.seen_at IS 'Time of the last look; -infinity if the first one has not ended';
COMMENT ON COLUMN stripe_sync.finding.took_ms IS 'Duration of the last look, in milliseconds';
COMMENT ON COLUMN stripe_sync.finding.slow_looks IS 'Number of looks that took more than 20 ms';
COMMENT ON COLUMN stripe_sync.finding.fails IS 'Number of runs in a row in which it was fail; runs in which it was unknown are not counted';
COMMENT ON COLUMN stripe_sync.finding.wells IS 'Number of runs in a row in which it was ok or warn';
COMMENT ON COLUMN stripe_sync.finding.told IS 'fail or critical if system.doctor was reported and system.doctor_well was not yet';
COMMENT ON COLUMN stripe_sync.finding.progress IS 'How far the worker is with an item that it looks at in parts; NULL if it is not at it';

CREATE TABLE stripe_sync.finding_mute (
	key		text PRIMARY KEY,
	until	timestamptz NOT NULL
);

-- grade: read
-- dump
COMMENT ON TABLE stripe_sync.finding_mute IS 'Findings that are not reported to alerts, see mute_finding()';
COMMENT ON COLUMN stripe_sync.finding_mute.key IS 'Key of the item';
COMMENT ON COLUMN stripe_sync.finding_mute.until IS 'Time when it is reported again';

CREATE FUNCTION stripe_sync.doctor() RETURNS TABLE (area text, item text, status text, detail text, hint text,
	key text, figure numeric, unit text, page text, muted_until timestamptz)
	LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 70
	AS 'MODULE_PATHNAME', 'stripe_sync_doctor';

-- grade: read
COMMENT ON FUNCTION stripe_sync.doctor() IS
'Looks at Stripe, Slack, and Postgres, item by item. status is ok, warn, fail, or unknown. hint is SQL or a setting to copy; page is the page of the runbook. Items that need pg_read_all_stats, for a caller without it, those that the worker looks at once a night, when it has, and on a standby those that only the primary knows are taken from stripe_sync.finding, and detail says how old they are.';

CREATE FUNCTION stripe_sync.mute_finding(key text, until timestamptz) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_mute_finding';

-- grade: admin
COMMENT ON FUNCTION stripe_sync.mute_finding(text, timestamptz) IS
'Has a finding of doctor() not reported to alerts until a time; NULL ends that. doctor() shows it with muted_until. Raises SY005 if there is no such key.';
