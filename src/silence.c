/*
 * silence.c
 *		Notices an endpoint of which no event has come for longer than usual.
 *
 * Stripe stops delivering to an endpoint that keeps failing, days later and
 * with a mail that nobody reads.  What is usual is learned from the endpoint's
 * own history: its longest time without an event in two weeks.  Endpoints that
 * have few events, or whose history has no weekend in it yet, are left alone.
 *
 * While the server was down nothing could come, and Stripe's next tries are
 * hours apart: that time is neither usual nor counted, and after a start
 * nothing is said for GRACE, nor before twice what is usual.
 *
 * stripe_sync.pulse has what is known, a row for each day with events.  A day is
 * 24 hours, counted from the endpoint's first event on: calendar days would make
 * what is found depend on the hour and on a time zone.  A row counts as long as
 * all of its day is within the two weeks.  Each check adds the events that came
 * since the last one.  Those that the worker fetched itself, and simulated ones
 * apart, don't count: they say nothing of Stripe's deliveries.
 */
#include "stripe_sync.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"

#define WINDOW_DAYS	  14  /* that tell what is usual */
#define LEAST_EVENTS  100 /* in the window, or the endpoint is quiet */
#define LEAST_DAYS	  3	  /* with events, or too little is known */
#define HISTORY_DAYS  8	  /* back to the first: a weekend is among them */
#define GRACE_MINUTES 30  /* after the server's start */

/* An event may be committed a little later than one received after it. */
#define OVERLAP (60 * USECS_PER_SEC)

/* Two workers at once would count events twice. */
static void
lock_silence(void)
{
	static EngineStatement lock = {
		"LOCK TABLE stripe_sync.silence IN SHARE ROW EXCLUSIVE MODE"};

	engine_run(&lock, NULL, NULL, SPI_OK_UTILITY);
}

/* Endpoints come and go.  Is one among them whose history is yet to be read? */
static bool
adopt_endpoints(void)
{
	static EngineStatement drop = {
		"DELETE FROM stripe_sync.silence s WHERE NOT EXISTS"
		" (SELECT FROM stripe_sync.endpoint e WHERE e.name OPERATOR(pg_catalog.=) s.endpoint)"};
	static EngineStatement insert = {
		"INSERT INTO stripe_sync.silence (endpoint) SELECT name FROM stripe_sync.endpoint"
		" ON CONFLICT (endpoint) DO NOTHING"};

	engine_run(&drop, NULL, NULL, SPI_OK_DELETE);
	engine_run(&insert, NULL, NULL, SPI_OK_INSERT);
	return SPI_processed > 0;
}

/* Has the server been started since the last check? */
static void
notice_start(void)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.silence SET server_start = pg_catalog.pg_postmaster_start_time(),"
		" up_since = pg_catalog.pg_postmaster_start_time()"
		" WHERE server_start OPERATOR(pg_catalog.<>) pg_catalog.pg_postmaster_start_time()"};

	engine_run(&update, NULL, NULL, SPI_OK_UPDATE);
}

/* From when on are there events that pulse doesn't have yet? */
static TimestampTz
unknown_since(bool everything)
{
	static EngineStatement select = {
		"SELECT pg_catalog.max(last_at) FROM stripe_sync.pulse"};
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz horizon = now - WINDOW_DAYS * USECS_PER_DAY;
	bool isnull;
	Datum value;

	engine_run(&select, NULL, NULL, SPI_OK_SELECT);
	value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1,
						  &isnull);
	if (isnull || everything)
		return horizon;
	return Max(horizon, Min(now, DatumGetTimestampTz(value)) - OVERLAP);
}

/*
 * Add them.  Planned with the value: the inbox is read by the times of its
 * blocks, and only a plan that knows the value sees that few will do.
 */
static void
fold_events(TimestampTz since)
{
	static const char *const sql =
		"WITH known AS (SELECT s.endpoint, s.up_since, pg_catalog.max(p.last_at) AS last_at,"
		"      pg_catalog.max(p.day) AS day"
		"    FROM stripe_sync.silence s LEFT JOIN stripe_sync.pulse p"
		"      ON p.endpoint OPERATOR(pg_catalog.=) s.endpoint GROUP BY s.endpoint),"
		" fresh AS (SELECT e.endpoint, e.received_at, k.up_since,"
		"      coalesce(pg_catalog.lag(e.received_at) OVER w, k.last_at) AS before,"
		"      pg_catalog.date_bin('24 hours', e.received_at,"
		"        coalesce(k.day, pg_catalog.first_value(e.received_at) OVER w)) AS day"
		"    FROM stripe_sync.event e"
		"    JOIN known k ON k.endpoint OPERATOR(pg_catalog.=) e.endpoint"
		"   WHERE e.received_at OPERATOR(pg_catalog.>) $1"
		"     AND e.source OPERATOR(pg_catalog.=) ANY ('{webhook,simulate}')"
		"     AND (k.last_at IS NULL OR e.received_at OPERATOR(pg_catalog.>) k.last_at)"
		"  WINDOW w AS (PARTITION BY e.endpoint ORDER BY e.received_at))"
		" INSERT INTO stripe_sync.pulse AS p (endpoint, day, events, longest_gap, first_at, last_at)"
		" SELECT endpoint, day, pg_catalog.count(*),"
		"        coalesce(pg_catalog.max(received_at OPERATOR(pg_catalog.-) CASE"
		"          WHEN before OPERATOR(pg_catalog.<) up_since AND received_at OPERATOR(pg_catalog.>=) up_since"
		"          THEN up_since ELSE before END), '0'), pg_catalog.min(received_at), pg_catalog.max(received_at)"
		"   FROM fresh GROUP BY 1, 2"
		" ON CONFLICT (endpoint, day) DO UPDATE"
		" SET events = p.events OPERATOR(pg_catalog.+) excluded.events,"
		"     longest_gap = greatest(p.longest_gap, excluded.longest_gap),"
		"     first_at = least(p.first_at, excluded.first_at),"
		"     last_at = greatest(p.last_at, excluded.last_at)";
	Oid types[] = {TIMESTAMPTZOID};
	Datum values[] = {TimestampTzGetDatum(since)};
	int code = SPI_execute_with_args(sql, 1, types, values, NULL, false, 0);

	if (code != SPI_OK_INSERT)
		elog(ERROR, "\"%s\" ended with %s", sql, SPI_result_code_string(code));
}

/* An object for an alert's event, for each row of "found" */
#define ABOUT                                                                                       \
	" SELECT pg_catalog.jsonb_build_object('id', endpoint, 'endpoint', endpoint,"                   \
	"  'last_event_at', pg_catalog.floor(pg_catalog.date_part('epoch', last_at))::pg_catalog.int8," \
	"  'usual_seconds', pg_catalog.floor(pg_catalog.date_part('epoch', usual))::pg_catalog.int8,"   \
	"  'silent_seconds', pg_catalog.floor(pg_catalog.date_part('epoch', silent))::pg_catalog.int8)" \
	"  FROM found"

/* The objects that a statement returned. */
static List *
returned_objects(MemoryContext context)
{
	MemoryContext old = MemoryContextSwitchTo(context);
	List *objects = NIL;

	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool isnull;
		Datum value = SPI_getbinval(SPI_tuptable->vals[i],
									SPI_tuptable->tupdesc, 1, &isnull);

		objects = lappend(objects, DatumGetJsonbPCopy(value));
	}
	MemoryContextSwitchTo(old);
	return objects;
}

/* Silences that have ended. */
static List *
find_ended(MemoryContext context)
{
	static EngineStatement ended = {
		"WITH found (endpoint, last_at, usual, silent) AS ("
		" UPDATE stripe_sync.silence s SET since = NULL, usual = NULL, noticed_at = NULL"
		"   FROM (SELECT f.endpoint, f.since, f.usual, pg_catalog.max(p.last_at) AS last_at"
		"           FROM stripe_sync.silence f"
		"           JOIN stripe_sync.pulse p ON p.endpoint OPERATOR(pg_catalog.=) f.endpoint"
		"          WHERE f.since IS NOT NULL GROUP BY f.endpoint) f"
		"  WHERE f.endpoint OPERATOR(pg_catalog.=) s.endpoint"
		"    AND f.last_at OPERATOR(pg_catalog.>) f.since"
		"  RETURNING s.endpoint, f.last_at, f.usual, f.last_at OPERATOR(pg_catalog.-) f.since)" ABOUT};

	engine_run(&ended, NULL, NULL, SPI_OK_SELECT);
	return returned_objects(context);
}

/* Silences that begin to be longer than usual. */
static List *
find_begun(MemoryContext context)
{
	static EngineStatement begun = {
		"WITH found (endpoint, last_at, usual, silent) AS ("
		" UPDATE stripe_sync.silence s"
		"    SET since = k.last_at, usual = k.usual, noticed_at = pg_catalog.now()"
		"   FROM (SELECT p.endpoint, pg_catalog.max(p.last_at) AS last_at, pg_catalog.max(p.longest_gap) AS usual"
		"           FROM stripe_sync.pulse p"
		"          WHERE p.day OPERATOR(pg_catalog.>=) $2 GROUP BY p.endpoint"
		"         HAVING pg_catalog.sum(p.events) OPERATOR(pg_catalog.>=) $3"
		"            AND pg_catalog.count(*) OPERATOR(pg_catalog.>=) $4"
		"            AND pg_catalog.min(p.first_at) OPERATOR(pg_catalog.<=) $5) k"
		"  WHERE s.endpoint OPERATOR(pg_catalog.=) k.endpoint AND s.since IS NULL"
		"    AND (s.up_since IS NULL OR ($1 OPERATOR(pg_catalog.-) s.up_since) OPERATOR(pg_catalog.>) $6)"
		"    AND ($1 OPERATOR(pg_catalog.-) greatest(k.last_at, s.up_since)) OPERATOR(pg_catalog.>)"
		"        greatest(k.usual OPERATOR(pg_catalog.*) 2::pg_catalog.float8,"
		"                 '15 minutes'::pg_catalog.interval)"
		" RETURNING s.endpoint, s.since, s.usual, $1 OPERATOR(pg_catalog.-) s.since)" ABOUT,
		6,
		{TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, INT8OID, TIMESTAMPTZOID,
		 INTERVALOID}};
	TimestampTz now = GetCurrentTimestamp();
	Interval grace = {.time = GRACE_MINUTES * SECS_PER_MINUTE * USECS_PER_SEC};
	Datum values[] = {TimestampTzGetDatum(now),
					  TimestampTzGetDatum(now - WINDOW_DAYS * USECS_PER_DAY),
					  Int64GetDatum(LEAST_EVENTS),
					  Int64GetDatum(LEAST_DAYS),
					  TimestampTzGetDatum(now - HISTORY_DAYS * USECS_PER_DAY),
					  IntervalPGetDatum(&grace)};

	engine_run(&begun, values, NULL, SPI_OK_SELECT);
	return returned_objects(context);
}

static void
tell(const char *type, List *objects)
{
	ListCell *cell;

	foreach(cell, objects)
		alert_system(type, lfirst(cell));
}

/* Called once a minute, in a transaction of its own. */
void
silence_check(void)
{
	MemoryContext context = CurrentMemoryContext;
	RoleScope scope = role_enter_engine();
	bool everything;
	List *ended;
	List *begun;

	SPI_connect();
	lock_silence();
	everything = adopt_endpoints();
	notice_start();
	fold_events(unknown_since(everything));
	ended = find_ended(context);
	begun = find_begun(context);
	SPI_finish();
	tell("system.silence_over", ended);
	tell("system.silence", begun);
	role_leave(&scope);
}

/* silence_check(): the same, for tests and for hosts without the worker */
ENGINE_FUNCTION(stripe_sync_silence_check)
{
	silence_check();
	PG_RETURN_VOID();
}
