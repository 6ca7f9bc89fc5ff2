/* ---- Rejected deliveries ---- */

-- One row per endpoint and code, so that the size does not depend on the number of
-- deliveries.  '' stands for all names that no endpoint has.
CREATE TABLE stripe_sync.refusal_record (
	endpoint	text NOT NULL,
	code		text NOT NULL,
	events		bigint NOT NULL,
	first_at	timestamptz NOT NULL,
	last_at		timestamptz NOT NULL,
	last_detail	text NOT NULL,
	logged_at	timestamptz,
	PRIMARY KEY (endpoint, code)
);

-- dump
COMMENT ON TABLE stripe_sync.refusal_record IS 'Counts of rejected webhook deliveries, written once a minute; the view stripe_sync.refusal adds those not yet written';
COMMENT ON COLUMN stripe_sync.refusal_record.logged_at IS 'Time of the last entry in the server log';

-- State of the alerts: see refused_watch.c.
CREATE TABLE stripe_sync.refusal_watch (
	endpoint		text PRIMARY KEY,
	likely			timestamptz[] NOT NULL DEFAULT '{}',
	likely_code		text,
	live_at			timestamptz,
	no_secret_at	timestamptz,
	accepted_at		timestamptz,
	told			text,
	told_at			timestamptz
);

-- dump
COMMENT ON TABLE stripe_sync.refusal_watch IS 'State of the alerts about rejected webhook deliveries, one row per endpoint';
COMMENT ON COLUMN stripe_sync.refusal_watch.likely IS 'Times of the last three rejected deliveries that look like Stripe''s, newest first';
COMMENT ON COLUMN stripe_sync.refusal_watch.live_at IS 'Time of the last live mode event rejected because of its mode';
COMMENT ON COLUMN stripe_sync.refusal_watch.no_secret_at IS 'Time of the last delivery while no secret was usable';
COMMENT ON COLUMN stripe_sync.refusal_watch.accepted_at IS 'Time of the last accepted delivery, as far as it is known from shared memory';
COMMENT ON COLUMN stripe_sync.refusal_watch.told IS 'Condition that is reported and not yet over: mode, secret, or refused; NULL if none';

CREATE FUNCTION stripe_sync.refusals(OUT endpoint text, OUT code text, OUT events bigint,
	OUT first_at timestamptz, OUT last_at timestamptz, OUT last_detail text) RETURNS SETOF record
	LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 10
	AS 'MODULE_PATHNAME', 'stripe_sync_refusals';

-- grade: read
COMMENT ON FUNCTION stripe_sync.refusals() IS
'Returns the counts of rejected webhook deliveries that are not yet written to a table. Used by the view stripe_sync.refusal.';

CREATE VIEW stripe_sync.refusal AS
SELECT nullif(r.endpoint, '') AS endpoint, r.code, pg_catalog.sum(r.events)::bigint AS events,
	   pg_catalog.min(r.first_at) AS first_at, pg_catalog.max(r.last_at) AS last_at,
	   (pg_catalog.array_agg(r.last_detail ORDER BY r.last_at DESC))[1] AS last_detail
  FROM (SELECT w.endpoint, w.code, w.events, w.first_at, w.last_at, w.last_detail
		  FROM stripe_sync.refusal_record w
		UNION ALL
		SELECT m.endpoint, m.code, m.events, m.first_at, m.last_at, m.last_detail
		  FROM stripe_sync.refusals() m) r
 GROUP BY r.endpoint, r.code;

-- grade: read
COMMENT ON VIEW stripe_sync.refusal IS 'Rejected webhook deliveries by endpoint and error code: how many, when, and the reason of the last one. Payloads are not stored.';
COMMENT ON COLUMN stripe_sync.refusal.endpoint IS 'Name of the endpoint; NULL counts deliveries to names that no endpoint has';
COMMENT ON COLUMN stripe_sync.refusal.code IS 'SQLSTATE of the error';
COMMENT ON COLUMN stripe_sync.refusal.events IS 'Number of rejected deliveries';
COMMENT ON COLUMN stripe_sync.refusal.first_at IS 'Time of the first one';
COMMENT ON COLUMN stripe_sync.refusal.last_at IS 'Time of the last one';
COMMENT ON COLUMN stripe_sync.refusal.last_detail IS 'Reason of the last one';
