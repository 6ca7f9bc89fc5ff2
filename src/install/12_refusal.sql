/* ---- refused deliveries: how many, when, why ---- */

-- A row for each endpoint and code, so its size does not depend on what is sent.
-- '' stands for all names that no endpoint has.
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
COMMENT ON TABLE stripe_sync.refusal_record IS 'Counts of refused deliveries, written once a minute; read the view stripe_sync.refusal';
COMMENT ON COLUMN stripe_sync.refusal_record.logged_at IS 'When one was last written to the server''s log';

-- The state from which system.deliveries_refused is raised: see refused_watch.c.
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
COMMENT ON TABLE stripe_sync.refusal_watch IS 'State of the reports of refused deliveries, by endpoint';
COMMENT ON COLUMN stripe_sync.refusal_watch.likely IS 'Times of the last three that probably came from Stripe, the newest first';
COMMENT ON COLUMN stripe_sync.refusal_watch.live_at IS 'When a live event was last refused because of its mode';
COMMENT ON COLUMN stripe_sync.refusal_watch.no_secret_at IS 'When one was last refused for lack of a usable secret';
COMMENT ON COLUMN stripe_sync.refusal_watch.accepted_at IS 'When one was last accepted, as noted in shared memory';
COMMENT ON COLUMN stripe_sync.refusal_watch.told IS 'The report that is open: mode, secret or refused; NULL: none';

CREATE FUNCTION stripe_sync.refusals(OUT endpoint text, OUT code text, OUT events bigint,
	OUT first_at timestamptz, OUT last_at timestamptz, OUT last_detail text) RETURNS SETOF record
	LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 10
	AS 'MODULE_PATHNAME', 'stripe_sync_refusals';
COMMENT ON FUNCTION stripe_sync.refusals() IS
'Refused deliveries that were counted but not written to the table yet, for the view stripe_sync.refusal';

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
COMMENT ON VIEW stripe_sync.refusal IS
'Refused deliveries by endpoint and code (see "Errors" in the documentation): how many, when, and the reason of the last one. Never a payload.';
COMMENT ON COLUMN stripe_sync.refusal.endpoint IS 'NULL: names that no endpoint has';
