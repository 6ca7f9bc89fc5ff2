/* ---- Metrics ---- */

CREATE FUNCTION stripe_sync.activity_samples(OUT name text, OUT labels jsonb, OUT value double precision,
	OUT type text, OUT stats_reset timestamptz, OUT description text)
	RETURNS SETOF record
	LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 100
	AS 'MODULE_PATHNAME', 'stripe_sync_activity_samples';

-- grade: read
COMMENT ON FUNCTION stripe_sync.activity_samples() IS
'Returns the rows of the view stripe_sync.activity.';

CREATE VIEW stripe_sync.activity AS
SELECT a.name, a.labels, a.value, a.type, a.stats_reset, a.description
  FROM stripe_sync.activity_samples() AS a;

-- grade: read
COMMENT ON VIEW stripe_sync.activity IS 'What has happened in this database since stats_reset, and what waits now. metrics() returns the same for Prometheus.';
COMMENT ON COLUMN stripe_sync.activity.name IS 'Name of the metric; metrics() puts stripe_sync_ before it';
COMMENT ON COLUMN stripe_sync.activity.labels IS 'What the value is of, for example {"status": "applied", "endpoint": "default"}; (others) stands for names for which there was no room, (none) for an endpoint that does not exist';
COMMENT ON COLUMN stripe_sync.activity.value IS 'The value; NULL if it is unknown, because the library is not in shared_preload_libraries';
COMMENT ON COLUMN stripe_sync.activity.type IS 'counter (it only increases), gauge (as of now), or histogram (le is the upper bound of a bucket, which includes those below it)';
COMMENT ON COLUMN stripe_sync.activity.stats_reset IS 'Time since which it counts: of reset_activity(), of the start after a crash of the server, or of the first start; NULL for a gauge';
COMMENT ON COLUMN stripe_sync.activity.description IS 'What the value says';

CREATE FUNCTION stripe_sync.reset_activity() RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_reset_activity';

-- grade: admin
COMMENT ON FUNCTION stripe_sync.reset_activity() IS
'Sets the counters of this database to zero when the transaction commits. Raises 55000 if the library is not in shared_preload_libraries.';

CREATE FUNCTION stripe_sync.metrics() RETURNS text
	LANGUAGE c VOLATILE PARALLEL RESTRICTED
	AS 'MODULE_PATHNAME', 'stripe_sync_metrics';

-- grade: read
COMMENT ON FUNCTION stripe_sync.metrics() IS
'Returns the metrics of the view stripe_sync.activity in Prometheus'' text format (text/plain; version=0.0.4).';
