/*
 * reconcile.c
 *		Creates the jobs that compare Stripe's list of events with the inbox, for
 *		reconcile() and by schedule.  event_list.c reads the list.
 *
 * A job has a part for each account.  How far back it reads is stored in the job,
 * as seconds before its start by Stripe's clock, and in its parts, as the
 * account's watermark: the time up to which the inbox is known to be complete.
 * The earlier of both counts.  It is read again with every page, so a running job
 * can be extended.
 *
 * At most one such job waits or runs (job_record_reconcile_idx).  A job that has
 * failed is resumed where it was when the next one is due; until then the
 * watermark is not moved.
 */
#include "postgres.h"

#include "base/base.h"
#include "engine/engine.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "engine/worker_transaction.h"
#include "inbox/inbox.h"
#include "jobs/jobs.h"
#include "jobs/part.h"
#include "server/server.h"
#include "stripe/stripe.h"
#include "sync/sync.h"
#include "sync/internal.h"

#define CHECK_INTERVAL (60 * USECS_PER_SEC)

/* ---- jobs ---- */

/*
 * Parts of connected accounts are optional: Stripe refuses an account that has
 * been disconnected.
 */
static void
add_events_part(int64 job, int number, const char *account, bool from_watermark)
{
	static EngineStatement insert = {
		"INSERT INTO stripe_sync.job_part (job, part, kind, priority, account, since, optional)"
		" SELECT $1, $2, 'events', $4, $3,"
		"  (SELECT w.at - $5 * interval '1 second' FROM stripe_sync.watermark w"
		"    WHERE w.account = $3 AND $6), $7"};

	(void) statement_exec(
		&insert,
		ARGS(arg_int8(job), arg_int4(number), arg_text(account),
			 arg_int4(PRIORITY_RECONCILE),
			 arg_int4((int32) (RECONCILE_OVERLAP / USECS_PER_SEC)),
			 arg_bool(from_watermark), arg_bool(!api_key_is_own(account))));
}

/*
 * Create a job that reads so many seconds back; 0: from the watermarks.  Returns
 * 0 if another session has just created one.
 */
static int64
create_reconcile_job(int64 seconds)
{
	static EngineStatement insert = {
		"INSERT INTO stripe_sync.job_record (kind, arguments)"
		" SELECT 'reconcile', CASE WHEN $1 > 0"
		"  THEN pg_catalog.jsonb_build_object('seconds', $1) END"
		" ON CONFLICT DO NOTHING RETURNING id"};
	List *accounts = api_accounts();
	int64 job = statement_int8(0, &insert, ARGS(arg_int8(seconds)));
	int number = 0;
	ListCell *cell;

	if (job == 0)
		return 0;
	foreach(cell, accounts)
		add_events_part(job, ++number, lfirst(cell), seconds == 0);
	job_note_created(job, "reconcile");
	worker_wake_at_commit();
	return job;
}

/*
 * Have the job read further back.  Parts that have ended continue below what they
 * have read.
 */
static void
extend_job(int64 job, int64 seconds)
{
	static EngineStatement widen = {
		"UPDATE stripe_sync.job_record SET arguments ="
		" pg_catalog.jsonb_build_object('seconds', $2)"
		" WHERE id = $1 AND COALESCE((arguments->>'seconds')::bigint, 0) < $2"};
	static EngineStatement reopen = {
		"UPDATE stripe_sync.job_part SET state = 'waiting', attempts = 0, tries = 0,"
		" due_at = pg_catalog.clock_timestamp()"
		" WHERE job = $1 AND state IN ('done', 'failed', 'skipped')"};

	if (statement_exec(&widen, ARGS(arg_int8(job), arg_int8(seconds))) > 0)
		(void) statement_exec(&reopen, ARGS(arg_int8(job)));
	worker_wake_at_commit();
}

/* The job that waits or runs, now locked, or 0 */
static int64
find_open_job(void)
{
	static EngineStatement select = {
		"SELECT id FROM stripe_sync.job_record"
		" WHERE kind = 'reconcile' AND state IN ('waiting', 'running')"
		" FOR UPDATE"};

	return statement_int8(0, &select, NO_ARGS);
}

/* ---- reconcile() ---- */

/* Another session's job may have ended before it is locked: then try again. */
static int64
extend_or_create_job(int64 seconds)
{
	int64 job;

	do
	{
		CHECK_FOR_INTERRUPTS();
		job = find_open_job();
		if (job != 0)
			extend_job(job, seconds);
		else
			job = create_reconcile_job(seconds);
	} while (job == 0);
	return job;
}

/* Returns the job.  Raises 55000 without a key. */
int64
reconcile_start(int64 seconds)
{
	RoleScope scope = role_enter_engine();
	int64 job;

	api_key_require();
	job = extend_or_create_job(seconds);
	outbound_note_identity();
	role_leave(&scope);
	return job;
}

/*
 * reconcile(since): returns the job.  "since" is at most 30 days, for which
 * Stripe lists events.  Raises 22023 for an interval that is not positive, 55000
 * without a key.
 */
ENGINE_FUNCTION(stripe_sync_reconcile)
{
	int64 seconds;
	int64 job;

	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("since cannot be NULL"),
						errhint("For example: '3 days'.")));
	endpoint_check_interval(PG_GETARG_INTERVAL_P(0), "since");
	seconds = endpoint_seconds(PG_GETARG_INTERVAL_P(0));
	if (seconds > STRIPE_KEEPS / USECS_PER_SEC)
		ereport(NOTICE,
				(errmsg("Stripe lists only the events of the last 30 days"),
				 errhint("SELECT stripe_sync.backfill() reads the objects "
						 "themselves.")));
	seconds = Max(1, Min(seconds, STRIPE_KEEPS / USECS_PER_SEC));
	job = reconcile_start(seconds);
	standstill_note("stripe");
	PG_RETURN_INT64(job);
}

/* ---- the schedule ---- */

/* Schedule the first job one interval after the first key was set. */
void
reconcile_schedule_first(void)
{
	static EngineStatement schedule = {
		"INSERT INTO stripe_sync.reconcile_schedule (next_at)"
		" VALUES (pg_catalog.clock_timestamp() + $1 * interval '1 second')"
		" ON CONFLICT (one) DO NOTHING"};

	(void) statement_exec(&schedule, ARGS(arg_int4(guc_reconcile_interval)));
}

/*
 * Is a job due?  If so, the next one is scheduled.  A time further away than the
 * interval, because that was shortened or the clock set back, is due too.
 */
static bool
claim_schedule(void)
{
	static EngineStatement take = {
		"UPDATE stripe_sync.reconcile_schedule SET next_at ="
		" pg_catalog.clock_timestamp() + $1 * interval '1 second'"
		" WHERE next_at <= pg_catalog.clock_timestamp()"
		"  OR next_at > pg_catalog.clock_timestamp() + $1 * interval '1 second'"};

	return statement_exec(&take, ARGS(arg_int4(guc_reconcile_interval))) > 0;
}

static TimestampTz
next_scheduled(void)
{
	static EngineStatement select = {
		"SELECT pg_catalog.min(next_at) FROM stripe_sync.reconcile_schedule"};

	return statement_time(DT_NOEND, &select, NO_ARGS);
}

/* Resume the last job if it has failed. */
static bool
resume_failed_job(void)
{
	static EngineStatement reopen_job = {
		"UPDATE stripe_sync.job_record SET state = 'waiting', finished_at = NULL,"
		" idle = idle + (pg_catalog.clock_timestamp() - finished_at)"
		" WHERE id = (SELECT j.id FROM stripe_sync.job_record j"
		"   WHERE j.kind = 'reconcile' ORDER BY j.id DESC LIMIT 1)"
		" AND state = 'failed' RETURNING id"};
	static EngineStatement reopen_parts = {
		"UPDATE stripe_sync.job_part SET state = 'waiting', attempts = 0, tries = 0,"
		" due_at = pg_catalog.clock_timestamp() WHERE job = $1 AND state = 'failed'"};
	int64 job = statement_int8(0, &reopen_job, NO_ARGS);

	if (job == 0)
		return false;
	(void) statement_exec(&reopen_parts, ARGS(arg_int8(job)));
	return true;
}

/*
 * Have the next job run now: the one that has just ended began so long ago that
 * newer events have not been compared.
 */
void
reconcile_run_soon(void)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.reconcile_schedule SET next_at = pg_catalog.clock_timestamp()"};

	(void) statement_exec(&update, NO_ARGS);
	worker_wake_at_commit();
}

/*
 * Create the scheduled job if it is due, in a transaction of its own.  Returns
 * false if it isn't; *next is when to call it again, a minute at most, since a
 * new key or the end of a pause doesn't wake the worker.
 */
bool
reconcile_schedule(TimestampTz *next)
{
	bool due = false;

	worker_begin();
	*next = GetCurrentTimestamp() + CHECK_INTERVAL;
	if (guc_reconcile_interval > 0 && outbound_allowed("stripe") &&
		api_key_is_set())
	{
		due = claim_schedule();
		if (due && find_open_job() == 0 && !resume_failed_job())
			(void) create_reconcile_job(0);
		*next = Min(*next, next_scheduled());
	}
	worker_commit();
	return due;
}
