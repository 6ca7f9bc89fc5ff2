/*
 * missing_events.c
 *		The end of a list of events: missing events are made due, counted and
 *		reported, and the account's watermark is moved.
 *
 * All of it runs in the transaction of the list's last page.
 */
#include "postgres.h"

#include "alert/alert.h"
#include "base/base.h"
#include "engine/statement.h"
#include "jobs/part.h"
#include "server/server.h"
#include "sync/internal.h"

/* The missing events of an account */
typedef struct MissingEvents
{
	int64 all;		/* of any type */
	int64 expected; /* of types that come by webhook */
	char *first;	/* id of the first expected one, or NULL */
	char *last;
	TimestampTz first_at;
	TimestampTz last_at;
} MissingEvents;

/* ---- making them due ---- */

#define SECOND_DIGITS 12

/*
 * Makes all events due that this job and earlier ones have stored for the
 * account.  The due times are a microsecond apart, in the events' own order.
 * The first and last event are returned as SECOND_DIGITS digits and the id.
 */
static const char *const release_sql =
	"WITH o AS (SELECT e.id, e.account, pg_catalog.row_number() OVER"
	"   (ORDER BY e.created, e.id COLLATE \"C\") AS n FROM stripe_sync.event e"
	"  WHERE e.status = 'pending' AND e.next_attempt_at IS NULL"
	"    AND e.source = 'reconcile' AND e.account = $1),"
	" released AS (UPDATE stripe_sync.event e SET"
	"   status = CASE WHEN e.todo = '{}' THEN 'ignored' ELSE e.status END,"
	"   next_attempt_at = CASE WHEN e.todo <> '{}'"
	"    THEN $2 + o.n * interval '1 microsecond' END"
	"  FROM o WHERE e.id = o.id AND e.account = o.account"
	"  RETURNING e.type, e.id, EXTRACT(epoch FROM e.created)::bigint AS second)"
	" SELECT pg_catalog.sum(t.n)::bigint, COALESCE(pg_catalog.sum(t.n) FILTER (WHERE t.due), 0)::bigint,"
	"  pg_catalog.min(t.first) FILTER (WHERE t.due), pg_catalog.max(t.last) FILTER (WHERE t.due)"
	" FROM (SELECT r.type, pg_catalog.count(*) AS n, stripe_sync.comes_by_webhook(r.type) AS due,"
	"   pg_catalog.min(pg_catalog.lpad(r.second::text, 12, '0') || r.id COLLATE \"C\") AS first,"
	"   pg_catalog.max(pg_catalog.lpad(r.second::text, 12, '0') || r.id COLLATE \"C\") AS last"
	"  FROM released r GROUP BY r.type) t";

/* Split a text "seconds id".  Returns NULL if it is NULL. */
static char *
read_bound(const char *bound, TimestampTz *at)
{
	*at = DT_NOBEGIN;
	if (bound == NULL || strlen(bound) <= SECOND_DIGITS)
		return NULL;
	*at = time_t_to_timestamptz(
		(pg_time_t) strtoll(pnstrdup(bound, SECOND_DIGITS), NULL, 10));
	return pstrdup(bound + SECOND_DIGITS);
}

static MissingEvents
release_events(const char *account)
{
	static EngineStatement release = {NULL};
	MissingEvents events = {0};
	Rows rows;

	release.sql = release_sql;
	rows_open(&rows, &release,
			  ARGS(arg_text(account), arg_time(GetCurrentTimestamp())));
	if (rows_next(&rows))
	{
		events.all = rows_int8(&rows, 0);
		events.expected = rows_int8(&rows, 0);
		events.first = read_bound(rows_text(&rows), &events.first_at);
		events.last = read_bound(rows_text(&rows), &events.last_at);
	}
	rows_close(&rows);
	worker_wake_at_commit();
	return events;
}

/* ---- types that come by webhook ---- */

/*
 * If no type has been recorded yet, record those of a sample of the inbox.
 * event_list.c records them only from events that it finds in the list.
 */
static void
record_types_of_inbox(void)
{
	static EngineStatement insert = {
		"INSERT INTO stripe_sync.webhook_type (type)"
		" SELECT DISTINCT e.type FROM stripe_sync.event e TABLESAMPLE SYSTEM"
		"  ((SELECT LEAST(100, 1000000 / GREATEST(c.relpages, 1))"
		"     FROM pg_catalog.pg_class c WHERE c.oid = 'stripe_sync.event'::regclass))"
		"  WHERE e.source = 'webhook'"
		"   AND NOT EXISTS (SELECT FROM stripe_sync.webhook_type)"
		" ON CONFLICT DO NOTHING"};

	(void) statement_exec(&insert, NO_ARGS);
}

/* ---- recording and reporting ---- */

/* A part that was resumed may have found missing events before. */
static void
record_in_part(const Part *part, const MissingEvents *events)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.job_part SET"
		" gap_first = CASE WHEN gap_first_at <= $4 THEN gap_first ELSE $3 END,"
		" gap_first_at = LEAST(gap_first_at, $4),"
		" gap_last = CASE WHEN gap_last_at >= $6 THEN gap_last ELSE $5 END,"
		" gap_last_at = GREATEST(gap_last_at, $6)"
		" WHERE job = $1 AND part = $2"};

	(void) statement_exec(
		&update, ARGS(arg_int8(part->job), arg_int4(part->number),
					  arg_text(events->first), arg_time(events->first_at),
					  arg_text(events->last), arg_time(events->last_at)));
}

static void
report_missing_events(const Part *part, const MissingEvents *events)
{
	static EngineStatement build = {
		"SELECT pg_catalog.jsonb_build_object('id', $1, 'job', $1, 'missing', $2,"
		" 'account', $3, 'first', $4, 'last', $5,"
		" 'first_at', EXTRACT(epoch FROM $6)::bigint,"
		" 'last_at', EXTRACT(epoch FROM $7)::bigint)"};

	alert_system(
		"system.reconcile_missing",
		statement_jsonb(&build,
						ARGS(arg_int8(part->job), arg_int8(events->expected),
							 arg_text(part->account), arg_text(events->first),
							 arg_text(events->last), arg_time(events->first_at),
							 arg_time(events->last_at))));
}

/*
 * Move the account's watermark to the end of the range, if the range begins at or
 * before the watermark, at the beginning of Stripe's list, or, without a
 * watermark, where a first job begins.  Otherwise there would be a gap below it.
 */
static void
advance_watermark(const Part *part)
{
	static EngineStatement upsert = {
		"INSERT INTO stripe_sync.watermark AS w (account, at)"
		" SELECT $1, $2 WHERE $3 <= GREATEST($4, COALESCE("
		"  (SELECT o.at FROM stripe_sync.watermark o WHERE o.account = $1), $5))"
		" ON CONFLICT (account) DO UPDATE SET at = GREATEST(w.at, excluded.at)"};
	TimestampTz start = part->until + RECONCILE_YOUNG;

	(void) statement_exec(
		&upsert, ARGS(arg_text(part->account), arg_time(part->until),
					  arg_time(part->since), arg_time(start - STRIPE_KEEPS),
					  arg_time(start - RECONCILE_AT_FIRST)));
}

/*
 * The part has read its whole range.  "now" is by Stripe's clock.  If reading
 * took longer than the interval of reconciliation, the next job is run at once.
 */
void
missing_events_finish(Part *part, TimestampTz now)
{
	MissingEvents events;

	record_types_of_inbox();
	events = release_events(part->account);
	part->repaired += events.all;
	advance_watermark(part);
	if (events.first != NULL && events.last != NULL)
	{
		record_in_part(part, &events);
		report_missing_events(part, &events);
	}
	if (now - RECONCILE_YOUNG - part->until >
		guc_reconcile_interval * USECS_PER_SEC)
		reconcile_run_soon();
	part->finished = true;
}

/*
 * PartKind.cancelled: make the events due that the job has stored, since it will
 * not reach the end of its range.
 */
void
missing_events_release_job(int64 job)
{
	static EngineStatement select = {
		"SELECT DISTINCT account FROM stripe_sync.job_part"
		" WHERE job = $1 AND kind = 'events'"};
	Rows rows;

	rows_open(&rows, &select, ARGS(arg_int8(job)));
	while (rows_next(&rows))
		(void) release_events(rows_text(&rows));
	rows_close(&rows);
}
