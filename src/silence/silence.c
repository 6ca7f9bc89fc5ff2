/*
 * silence.c
 *		Detects an endpoint that receives no events for longer than usual.
 *
 * Stripe disables an endpoint that keeps failing after some days, and says so by
 * e-mail only.  What is usual is learned from the endpoint's own history: its
 * longest time without an event in two weeks.  Endpoints that have few events,
 * or whose history doesn't include a weekend yet, are not judged.
 *
 * While the server is down nothing can arrive, and Stripe's retries are hours
 * apart.  That time counts neither as usual nor as silence: after a start nothing
 * is reported for GRACE_MINUTES, nor before twice the usual time.
 *
 * stripe_sync.pulse has a row for each 24 hours with events, counted from the
 * endpoint's first event on: with calendar days the result would depend on the
 * time of day and on a time zone.  A row counts while all of its 24 hours are
 * within the two weeks.  Each check adds the events received since the last one;
 * only those that were delivered or simulated, because events that the worker
 * fetches say nothing of Stripe's deliveries.
 *
 * A check is one transaction, in the engine's scope.  It locks stripe_sync.silence
 * against other checks, then the groups of the rules that it reports to.  A
 * crash leaves the state of the last check.
 */
#include "postgres.h"

#include "catalog/pg_type.h"

#include "alert/alert.h"
#include "engine/engine.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "silence/silence.h"

#define WINDOW_DAYS	  14  /* from which the usual time is learned */
#define LEAST_EVENTS  100 /* in the window, or the endpoint is not judged */
#define LEAST_DAYS	  3	  /* with events, at least */
#define HISTORY_DAYS  8	  /* since the first event: includes a weekend */
#define GRACE_MINUTES 30  /* after the server's start */

/* An event may be committed later than one that was received after it. */
#define OVERLAP (60 * USECS_PER_SEC)

/* Two checks at the same time would count events twice. */
static void
lock_silence(void)
{
	static EngineStatement lock = {
		"LOCK TABLE stripe_sync.silence IN SHARE ROW EXCLUSIVE MODE"};

	statement_exec(&lock, NO_ARGS);
}

/*
 * Bring the rows of stripe_sync.silence in line with the endpoints.  Returns true
 * if there is a new one, whose whole history must be read.
 */
static bool
sync_endpoints(void)
{
	static EngineStatement drop = {
		"DELETE FROM stripe_sync.silence s WHERE NOT EXISTS"
		" (SELECT FROM stripe_sync.endpoint e WHERE e.name = s.endpoint)"};
	static EngineStatement insert = {
		"INSERT INTO stripe_sync.silence (endpoint) SELECT name FROM stripe_sync.endpoint"
		" ON CONFLICT (endpoint) DO NOTHING"};

	statement_exec(&drop, NO_ARGS);
	return statement_exec(&insert, NO_ARGS) > 0;
}

/* Note in up_since that the server was started since the last check. */
static void
note_server_start(void)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.silence SET server_start = pg_catalog.pg_postmaster_start_time(),"
		" up_since = pg_catalog.pg_postmaster_start_time()"
		" WHERE server_start <> pg_catalog.pg_postmaster_start_time()"};

	statement_exec(&update, NO_ARGS);
}

/* The time from which on stripe_sync.pulse may lack events */
static TimestampTz
uncounted_since(bool everything)
{
	static EngineStatement select = {
		"SELECT pg_catalog.max(last_at) FROM stripe_sync.pulse"};
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz horizon = now - WINDOW_DAYS * USECS_PER_DAY;
	TimestampTz last = statement_time(DT_NOBEGIN, &select, NO_ARGS);

	if (last == DT_NOBEGIN || everything)
		return horizon;
	return Max(horizon, Min(now, last) - OVERLAP);
}

/*
 * Count the events received since then.  The statement is planned for this
 * time: the index on received_at is a BRIN index, and only a plan that knows the
 * time sees that few of its blocks match.
 */
static void
count_events(TimestampTz since)
{
	static const char *const sql =
		"WITH known AS (SELECT s.endpoint, s.up_since, pg_catalog.max(p.last_at) AS last_at,"
		"      pg_catalog.max(p.day) AS day"
		"    FROM stripe_sync.silence s LEFT JOIN stripe_sync.pulse p"
		"      ON p.endpoint = s.endpoint GROUP BY s.endpoint),"
		" fresh AS (SELECT e.endpoint, e.received_at, k.up_since,"
		"      coalesce(pg_catalog.lag(e.received_at) OVER w, k.last_at) AS before,"
		"      pg_catalog.date_bin('24 hours', e.received_at,"
		"        coalesce(k.day, pg_catalog.first_value(e.received_at) OVER w)) AS day"
		"    FROM stripe_sync.event e"
		"    JOIN known k ON k.endpoint = e.endpoint"
		"   WHERE e.received_at > $1"
		"     AND e.source = ANY ('{webhook,simulate}')"
		"     AND (k.last_at IS NULL OR e.received_at > k.last_at)"
		"  WINDOW w AS (PARTITION BY e.endpoint ORDER BY e.received_at))"
		" INSERT INTO stripe_sync.pulse AS p (endpoint, day, events, longest_gap, first_at, last_at)"
		" SELECT endpoint, day, pg_catalog.count(*),"
		"        coalesce(pg_catalog.max(received_at - CASE"
		"          WHEN before < up_since AND received_at >= up_since"
		"          THEN up_since ELSE before END), '0'), pg_catalog.min(received_at), pg_catalog.max(received_at)"
		"   FROM fresh GROUP BY 1, 2"
		" ON CONFLICT (endpoint, day) DO UPDATE"
		" SET events = p.events + excluded.events,"
		"     longest_gap = greatest(p.longest_gap, excluded.longest_gap),"
		"     first_at = least(p.first_at, excluded.first_at),"
		"     last_at = greatest(p.last_at, excluded.last_at)";

	statement_exec_once(sql, ARGS(arg_time(since)));
}

/* data.object of the event to report, for each row of "found" */
#define ABOUT                                                                                       \
	" SELECT pg_catalog.jsonb_build_object('id', endpoint, 'endpoint', endpoint,"                   \
	"  'last_event_at', pg_catalog.floor(pg_catalog.date_part('epoch', last_at))::pg_catalog.int8," \
	"  'usual_seconds', pg_catalog.floor(pg_catalog.date_part('epoch', usual))::pg_catalog.int8,"   \
	"  'silent_seconds', pg_catalog.floor(pg_catalog.date_part('epoch', silent))::pg_catalog.int8)" \
	"  FROM found"

/* The objects that a statement returns. */
static List *
read_objects(EngineStatement *statement, const StatementArg *args, int nargs)
{
	List *objects = NIL;
	Rows rows;

	rows_open(&rows, statement, args, nargs);
	while (rows_next(&rows))
		objects = lappend(objects, rows_jsonb(&rows));
	rows_close(&rows);
	return objects;
}

/* End the silence of endpoints that have an event since, and return them. */
static List *
end_silences(void)
{
	static EngineStatement ended = {
		"WITH found (endpoint, last_at, usual, silent) AS ("
		" UPDATE stripe_sync.silence s SET since = NULL, usual = NULL, noticed_at = NULL"
		"   FROM (SELECT f.endpoint, f.since, f.usual, pg_catalog.max(p.last_at) AS last_at"
		"           FROM stripe_sync.silence f"
		"           JOIN stripe_sync.pulse p ON p.endpoint = f.endpoint"
		"          WHERE f.since IS NOT NULL GROUP BY f.endpoint) f"
		"  WHERE f.endpoint = s.endpoint"
		"    AND f.last_at > f.since"
		"  RETURNING s.endpoint, f.last_at, f.usual, f.last_at - f.since)" ABOUT};

	return read_objects(&ended, NO_ARGS);
}

/*
 * Note the silence of endpoints that have none noted and whose last event is
 * longer ago than twice the usual time, 15 minutes at least; return them.
 */
static List *
begin_silences(void)
{
	static EngineStatement begun = {
		"WITH found (endpoint, last_at, usual, silent) AS ("
		" UPDATE stripe_sync.silence s"
		"    SET since = k.last_at, usual = k.usual, noticed_at = pg_catalog.now()"
		"   FROM (SELECT p.endpoint, pg_catalog.max(p.last_at) AS last_at, pg_catalog.max(p.longest_gap) AS usual"
		"           FROM stripe_sync.pulse p"
		"          WHERE p.day >= $2 GROUP BY p.endpoint"
		"         HAVING pg_catalog.sum(p.events) >= $3"
		"            AND pg_catalog.count(*) >= $4"
		"            AND pg_catalog.min(p.first_at) <= $5) k"
		"  WHERE s.endpoint = k.endpoint AND s.since IS NULL"
		"    AND (s.up_since IS NULL OR ($1 - s.up_since) > $6)"
		"    AND ($1 - greatest(k.last_at, s.up_since)) >"
		"        greatest(k.usual * 2::pg_catalog.float8,"
		"                 '15 minutes'::pg_catalog.interval)"
		" RETURNING s.endpoint, s.since, s.usual, $1 - s.since)" ABOUT};
	TimestampTz now = GetCurrentTimestamp();
	Interval grace = {.time = GRACE_MINUTES * SECS_PER_MINUTE * USECS_PER_SEC};

	return read_objects(
		&begun, ARGS(arg_time(now), arg_time(now - WINDOW_DAYS * USECS_PER_DAY),
					 arg_int8(LEAST_EVENTS), arg_int8(LEAST_DAYS),
					 arg_time(now - HISTORY_DAYS * USECS_PER_DAY),
					 arg_interval(&grace)));
}

static void
report_objects(const char *type, List *objects)
{
	ListCell *cell;

	foreach(cell, objects)
		alert_system(type, lfirst(cell));
}

/*
 * Check all endpoints and report system.silence and system.silence_over.  The
 * worker calls it once a minute, in a transaction of its own.
 */
void
silence_check(void)
{
	RoleScope scope = role_enter_engine();
	bool everything;
	List *ended;
	List *begun;

	lock_silence();
	everything = sync_endpoints();
	note_server_start();
	count_events(uncounted_since(everything));
	ended = end_silences();
	begun = begin_silences();
	report_objects("system.silence_over", ended);
	report_objects("system.silence", begun);
	role_leave(&scope);
}

/* silence_check(): the same, for tests and for hosts without the worker */
ENGINE_FUNCTION(stripe_sync_silence_check)
{
	silence_check();
	PG_RETURN_VOID();
}
