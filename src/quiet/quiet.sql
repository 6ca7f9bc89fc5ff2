/* ---- Quiet hours ---- */

CREATE TABLE stripe_sync.quiet_hours (
	destination		text NOT NULL,
	days			text NOT NULL,
	from_time		time NOT NULL,
	to_time			time NOT NULL,
	zone			text NOT NULL,
	passes			text NOT NULL,
	created_at		timestamptz NOT NULL DEFAULT pg_catalog.now(),
	PRIMARY KEY (destination, days, from_time, to_time)
);

-- grade: read
-- dump
COMMENT ON TABLE stripe_sync.quiet_hours IS 'Windows of time in which new messages of alerts to a destination are held';
COMMENT ON COLUMN stripe_sync.quiet_hours.destination IS 'Name of the destination';
COMMENT ON COLUMN stripe_sync.quiet_hours.days IS 'Days on which the window begins: mon-fri, or sat,sun';
COMMENT ON COLUMN stripe_sync.quiet_hours.from_time IS 'Begin of the window in zone';
COMMENT ON COLUMN stripe_sync.quiet_hours.to_time IS 'End of the window in zone; if it is not after from_time, on the next day. 24:00 is the end of the day.';
COMMENT ON COLUMN stripe_sync.quiet_hours.zone IS 'Time zone, such as Europe/Berlin';
COMMENT ON COLUMN stripe_sync.quiet_hours.passes IS 'Severity from which messages are not held: warning, critical, or none';
COMMENT ON COLUMN stripe_sync.quiet_hours.created_at IS 'Time when the window was set';

CREATE FUNCTION stripe_sync.set_quiet_hours(destination text, days text, from_time time, to_time time,
	zone text, passes text DEFAULT 'critical') RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_set_quiet_hours';

-- grade: admin
COMMENT ON FUNCTION stripe_sync.set_quiet_hours(text, text, time, time, text, text) IS
'Adds a window in which new messages of alerts, repetitions, and thread answers to a destination are held. days are those on which it begins, such as mon-fri or sat,sun; if to_time is not after from_time, it ends on the next day; with NULL times it is the whole day. zone is a time zone such as Europe/Berlin. Messages of severity passes or higher (warning or critical; none holds all) are not held. At the end one digest is posted, and each incident that is still open. A window of the same days and times is replaced. Raises SY005 if there is no such destination, 22023 for a bad argument.';

CREATE FUNCTION stripe_sync.quiet_until(destination text, severity text, at timestamptz) RETURNS timestamptz
	LANGUAGE c STABLE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_quiet_until';

COMMENT ON FUNCTION stripe_sync.quiet_until(text, text, timestamptz) IS
'Internal: until when a message of that severity is held that is queued at a time; NULL if it is not held, infinity if it is always quiet.';

CREATE FUNCTION stripe_sync.drop_quiet_hours(destination text) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_drop_quiet_hours';

-- grade: admin
COMMENT ON FUNCTION stripe_sync.drop_quiet_hours(text) IS
'Removes all quiet hours of a destination; what they hold is posted. Raises SY005 if there is no such destination.';
