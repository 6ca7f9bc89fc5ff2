/* ---- Dashboard ---- */

CREATE FUNCTION stripe_sync.dashboard() RETURNS text
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_dashboard';

-- grade: read
COMMENT ON FUNCTION stripe_sync.dashboard() IS
'Returns one HTML page with the findings of doctor(), figures and charts of the last six hours, open incidents, the last events with their traces, and rejected deliveries. The page has no scripts and loads nothing. Times are in the session''s time zone. Example: psql -XAtc ''SELECT stripe_sync.dashboard()'' > dashboard.html';

CREATE FUNCTION stripe_sync.dashboard_text() RETURNS text
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_dashboard_text';

-- grade: read
COMMENT ON FUNCTION stripe_sync.dashboard_text() IS
'Returns the main content of dashboard() as plain text of at most 24 lines and 80 columns. Example: SELECT stripe_sync.dashboard_text() \watch 5';
