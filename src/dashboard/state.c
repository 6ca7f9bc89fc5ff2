/*
 * state.c
 *		Reads what the dashboard lists: open incidents, the last events, jobs,
 *		rejected deliveries, and the state of server and worker.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "catalog/pg_type.h"
#include "storage/itemptr.h"
#include "storage/off.h"
#include "utils/guc.h"

#include "engine/statement.h"
#include "server/server.h"

#include "dashboard/internal.h"

#define SHOWN_INCIDENTS 20
#define SHOWN_EVENTS	20
#define SHOWN_REFUSALS	10
#define SHOWN_JOBS		8
#define MAX_INCIDENTS	10000 /* counted */
#define MAX_EVENTS		100000
#define TAIL_PAGES		64 /* of the inbox */
#define CLIPPED			"2000"

/* ---- incidents ---- */

/* "state" and "kind" are those of the partial indexes. */
#define OPEN                                                                   \
	" FROM (SELECT * FROM stripe_sync.incident_record"                         \
	"   WHERE state = 'open' AND kind = 'single'"                              \
	"  UNION ALL SELECT * FROM stripe_sync.incident_record"                    \
	"   WHERE state = 'open' AND kind <> 'single') i"

static void
read_incidents(State *state)
{
	static EngineStatement select = {
		"SELECT id, alert, severity, destination, left(text, " CLIPPED "),"
		" (SELECT count(*) FROM (SELECT FROM stripe_sync.alerted a"
		"   WHERE a.incident = i.id AND NOT a.closes LIMIT 1000) c),"
		" opened_at, acknowledged_by, snoozed_until,"
		" (SELECT r.muted_until FROM stripe_sync.alert r WHERE r.name = i.alert),"
		" EXISTS (SELECT FROM stripe_sync.message m WHERE m.incident = i.id"
		"   AND m.state = 'waiting' AND m.held_at IS NOT NULL AND m.due_at = 'infinity')" OPEN
		" ORDER BY array_position('{critical,warning}'::text[], severity),"
		" acknowledged_at IS NOT NULL OR COALESCE(snoozed_until > now(), false), opened_at DESC, id DESC"
		" LIMIT $1"};
	Rows rows;

	rows_open(&rows, &select, ARGS(arg_int8(SHOWN_INCIDENTS)));
	while (rows_next(&rows))
	{
		OpenIncident *incident = palloc0(sizeof(OpenIncident));

		incident->id = rows_int8(&rows, 0);
		incident->alert = rows_text(&rows);
		incident->severity = rows_text(&rows);
		incident->destination = rows_text(&rows);
		incident->text = slack_plain(rows_text(&rows));
		incident->events = rows_int8(&rows, 0);
		incident->opened_at = rows_time(&rows, 0);
		incident->acknowledged_by = rows_text(&rows);
		incident->snoozed_until = rows_time(&rows, 0);
		incident->muted_until = rows_time(&rows, 0);
		incident->held = rows_bool(&rows, false);
		state->incidents = lappend(state->incidents, incident);
	}
	rows_close(&rows);
}

static void
count_incidents(State *state)
{
	static EngineStatement count = {"SELECT count(*) FROM (SELECT 1" OPEN
									" LIMIT $1) c"};

	state->open_incidents = statement_int8(0, &count,
										   ARGS(arg_int8(MAX_INCIDENTS)));
}

/* ---- events ---- */

/* Where the last pages of the inbox begin */
static ItemPointerData
inbox_tail(void)
{
	static EngineStatement select = {
		"SELECT pg_relation_size('stripe_sync.event') / current_setting('block_size')::bigint"};
	int64 pages = statement_int8(0, &select, NO_ARGS);
	ItemPointerData tail;

	ItemPointerSet(&tail, Max(pages - TAIL_PAGES, 0), FirstOffsetNumber);
	return tail;
}

/*
 * No index is ordered by the time of reception, so these are the newest of the
 * events since "from", of which so many at most are looked at, and of those in
 * the last pages of the table.
 */
static void
read_events_since(State *state, TimestampTz from)
{
	static EngineStatement select = {
		"SELECT id, account, type, object_id, status, source, endpoint,"
		/* the context can hold statements, and those can hold secrets */
		" left(split_part(error, E'\\nCONTEXT:', 1), " CLIPPED "), received_at"
		" FROM stripe_sync.event WHERE ctid = ANY (ARRAY("
		"  SELECT ctid FROM ("
		"   (SELECT ctid, received_at FROM (SELECT ctid, received_at FROM stripe_sync.event"
		"     WHERE received_at >= $1 LIMIT $3) n ORDER BY received_at DESC LIMIT $2)"
		"   UNION (SELECT ctid, received_at FROM stripe_sync.event"
		"     WHERE ctid >= $4 ORDER BY received_at DESC LIMIT $2)) b"
		"  ORDER BY received_at DESC LIMIT $2))"
		" ORDER BY received_at DESC, created DESC NULLS LAST, id DESC"};
	ItemPointerData tail = inbox_tail();
	Rows rows;

	state->events = NIL;
	rows_open(&rows, &select,
			  ARGS(arg_time(from), arg_int8(SHOWN_EVENTS), arg_int8(MAX_EVENTS),
				   arg_datum(TIDOID, PointerGetDatum(&tail))));
	while (rows_next(&rows))
	{
		LastEvent *event = palloc0(sizeof(LastEvent));

		event->id = rows_text(&rows);
		event->account = rows_text(&rows);
		event->type = rows_text(&rows);
		event->object_id = rows_text(&rows);
		event->status = rows_text(&rows);
		event->source = rows_text(&rows);
		event->endpoint = rows_text(&rows);
		event->error = rows_text(&rows);
		event->received_at = rows_time(&rows, 0);
		state->events = lappend(state->events, event);
	}
	rows_close(&rows);
}

/* Events received since then among those that were read */
static int
events_since(const State *state, TimestampTz from)
{
	int count = 0;
	ListCell *cell;

	foreach(cell, state->events)
		count += ((LastEvent *) lfirst(cell))->received_at >= from;
	return count;
}

/* The shortest time in which there are enough is looked at. */
static void
read_events(State *state, const Figures *figures)
{
	static const int hours[] = {1, 6, 48, 14 * 24, 400 * 24};

	for (int i = 0; i < lengthof(hours); i++)
	{
		TimestampTz from = figures->now - hours[i] * USECS_PER_HOUR;

		read_events_since(state, from);
		if (events_since(state, from) >= SHOWN_EVENTS)
			break;
	}
}

/* ---- refusals and jobs ---- */

static void
read_refusals(State *state)
{
	static EngineStatement select = {
		"SELECT endpoint, code, left(last_detail, " CLIPPED "), events, last_at"
		" FROM stripe_sync.refusal ORDER BY last_at DESC LIMIT $1"};
	Rows rows;

	rows_open(&rows, &select, ARGS(arg_int8(SHOWN_REFUSALS)));
	while (rows_next(&rows))
	{
		Refused *refused = palloc0(sizeof(Refused));

		refused->endpoint = rows_text(&rows);
		refused->code = rows_text(&rows);
		refused->detail = rows_text(&rows);
		refused->events = rows_int8(&rows, 0);
		refused->last_at = rows_time(&rows, 0);
		state->refusals = lappend(state->refusals, refused);
	}
	rows_close(&rows);
}

/* The newest jobs by number; refetches are too many and too small to be shown. */
static void
read_jobs(State *state)
{
	static EngineStatement select = {
		"SELECT id, kind, state, progress::float8, left(error, " CLIPPED "),"
		" coalesce(finished_at, started_at, created_at)"
		" FROM stripe_sync.job WHERE id = ANY (ARRAY("
		"  SELECT id FROM (SELECT id, kind FROM stripe_sync.job_record"
		"    ORDER BY id DESC LIMIT 500) j WHERE kind <> 'refetch'"
		"  ORDER BY id DESC LIMIT $1)) ORDER BY id DESC"};
	Rows rows;

	rows_open(&rows, &select, ARGS(arg_int8(SHOWN_JOBS)));
	while (rows_next(&rows))
	{
		RecentJob *job = palloc0(sizeof(RecentJob));

		job->id = rows_int8(&rows, 0);
		job->kind = rows_text(&rows);
		job->state = rows_text(&rows);
		job->progress = rows_float8(&rows, 0);
		job->error = rows_text(&rows);
		job->at = rows_time(&rows, 0);
		state->jobs = lappend(state->jobs, job);
	}
	rows_close(&rows);
}

/* ---- server and worker ---- */

static void
read_worker(State *state)
{
	static EngineStatement select = {
		"SELECT coalesce(state, ''), since FROM stripe_sync.worker"
		" WHERE database = current_database() ORDER BY pid IS NULL LIMIT 1"};
	Rows rows;

	state->worker = "none";
	rows_open(&rows, &select, NO_ARGS);
	if (rows_next(&rows))
	{
		state->worker = rows_text(&rows);
		state->worker_since = rows_time(&rows, 0);
	}
	rows_close(&rows);
}

/* Why messages or requests are not sent; once if both have the same reason. */
static void
read_notes(State *state)
{
	static const char *const whats[] = {"slack", "stripe"};
	const char *last = "";

	for (int i = 0; i < lengthof(whats); i++)
	{
		Standstill standstill;

		if (!standstill_find(whats[i], &standstill) ||
			strcmp(standstill.reason, last) == 0)
			continue;
		last = standstill.reason;
		state->notes = lappend(
			state->notes,
			psprintf("%s. %s", standstill.reason,
					 standstill.hint != NULL ? standstill.hint : ""));
	}
}

static void
read_server(State *state)
{
	static EngineStatement select = {
		"SELECT current_database(), split_part(current_setting('server_version'), ' ', 1)"};
	const char *instance = GetConfigOption("stripe_sync.instance_name", true,
										   false);
	Rows rows;

	if (instance != NULL && instance[0] != '\0')
		state->instance = pstrdup(instance);
	rows_open(&rows, &select, NO_ARGS);
	if (rows_next(&rows))
	{
		state->database = rows_text(&rows);
		state->server_version = rows_text(&rows);
	}
	rows_close(&rows);
	state->standby = RecoveryInProgress();
	if (state->standby)
		state->replayed = GetLatestXTime();
}

/* Runs in the engine's scope. */
void
state_read(State *state, const Figures *figures)
{
	memset(state, 0, sizeof(*state));
	read_server(state);
	read_worker(state);
	if (!state->standby)
		read_notes(state);
	read_incidents(state);
	count_incidents(state);
	read_events(state, figures);
	read_refusals(state);
	read_jobs(state);
}
