/* ---- Tracing, as text and as a page ---- */

CREATE FUNCTION stripe_sync.trace_text(ref text, account text DEFAULT NULL, span interval DEFAULT NULL)
	RETURNS text
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_trace_text';

-- grade: read
COMMENT ON FUNCTION stripe_sync.trace_text(text, text, interval) IS
'Returns the story that trace() returns as text for a terminal of 80 columns, in the session''s time zone: psql -Atc "SELECT stripe_sync.trace_text(''in_...'')". The first line tells what is wrong and what to do, if anything is; the next one what the story is about. Raises SY005 if nothing is known by that reference.';

CREATE FUNCTION stripe_sync.trace_html(ref text, account text DEFAULT NULL, span interval DEFAULT NULL)
	RETURNS text
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'stripe_sync_trace_html';

-- grade: read
COMMENT ON FUNCTION stripe_sync.trace_html(text, text, interval) IS
'Returns the story that trace() returns as an HTML page, without scripts and outside resources: psql -Atc "SELECT stripe_sync.trace_html(''in_...'')" > trace.html. Raises SY005 if nothing is known by that reference.';
