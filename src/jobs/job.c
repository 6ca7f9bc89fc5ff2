/*
 * job.c
 *		Jobs: created, finished, cancelled.
 *
 * A job is a row of stripe_sync.job_record with parts in stripe_sync.job_part.
 * Its row is always locked before those of its parts.
 */
#include "postgres.h"

#include "base/base.h"
#include "base/compat.h"
#include "base/error_codes.h"
#include "engine/engine.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "jobs/jobs.h"
#include "jobs/part.h"
#include "server/counters.h"
#include "server/server.h"
#include "jobs/internal.h"

static void
note_job(const char *what, int64 job, const char *detail)
{
	journal_note(what, psprintf(INT64_FORMAT, job), detail);
}

/*
 * Count a new job, and note in the journal that a session has created it.  Those
 * that the worker creates by schedule are not noted.
 */
void
job_note_created(int64 job, const char *kind)
{
	counter_add(COUNT_JOBS, kind, "created");
	if (!process_is_worker())
		note_job("job.made", job, kind);
}

/* Create a job without parts, in the caller's transaction.  Returns its id. */
int64
job_create(const char *kind)
{
	static EngineStatement insert = {
		"INSERT INTO stripe_sync.job_record (kind) VALUES ($1) RETURNING id"};
	int64 job = statement_int8(0, &insert, ARGS(arg_text(kind)));

	worker_wake_at_commit();
	job_note_created(job, kind);
	return job;
}

/* ---- while its parts run, in transactions of the worker ---- */

/*
 * Lock the job's row.  Returns false without waiting if another transaction has
 * it, which may last as long as its session likes.
 */
bool
job_lock(int64 job)
{
	static EngineStatement select = {
		"SELECT FROM stripe_sync.job_record WHERE id = $1"
		" FOR NO KEY UPDATE SKIP LOCKED"};

	return statement_exec(&select, ARGS(arg_int8(job))) > 0;
}

/*
 * The part's API key is invalid: fail all parts of the job with the same account
 * that have not begun, rather than have Stripe refuse each of them.
 */
void
job_fail_account(const Part *part, const char *error)
{
	static EngineStatement fail = {
		"UPDATE stripe_sync.job_part SET state = 'failed', error = $3"
		" WHERE job = $1 AND account = $2 AND state IN ('waiting', 'blocked')"};

	(void) statement_exec(&fail, ARGS(arg_int8(part->job),
									  arg_text(part->account), arg_text(error)));
}

/*
 * Failures are noted in the journal, and the end of a job that a person has
 * asked for; not the end of scheduled ones.
 */
static void
note_finished(int64 job, const char *state, const char *kind, bool is_asked_for)
{
	counter_add(COUNT_JOBS, kind, state);
	if (strcmp(state, "failed") == 0)
		note_job("job.failed", job, kind);
	else if (is_asked_for)
		note_job("job.done", job, kind);
}

/*
 * Finish the job if none of its parts is left to run.  It has failed if any part
 * has.  The job's row is locked by the caller.
 */
void
job_finish(int64 job)
{
	static EngineStatement finish = {
		"UPDATE stripe_sync.job_record j SET finished_at = pg_catalog.clock_timestamp(),"
		" state = CASE WHEN EXISTS (SELECT FROM stripe_sync.job_part p"
		"   WHERE p.job = j.id AND p.state = 'failed') THEN 'failed' ELSE 'done' END"
		" WHERE j.id = $1 AND j.state = 'running' AND NOT EXISTS"
		"  (SELECT FROM stripe_sync.job_part p"
		"    WHERE p.job = j.id AND p.state IN ('blocked', 'waiting', 'running'))"
		" RETURNING state, kind, kind IN ('backfill', 'create_webhook_endpoint')"};
	Rows rows;

	rows_open(&rows, &finish, ARGS(arg_int8(job)));
	if (rows_next(&rows))
	{
		char *state = rows_text(&rows);
		char *kind = rows_text(&rows);

		note_finished(job, state, kind, rows_bool(&rows, false));
	}
	rows_close(&rows);
}

/* ---- cancel_job ---- */

compat_noreturn void
job_raise_missing(int64 job)
{
	ereport(ERROR, (errcode(ERRCODE_NO_SUCH_NAME),
					errmsg("there is no job " INT64_FORMAT, job),
					errhint("SELECT id, kind, state FROM stripe_sync.job shows "
							"all.")));
}

compat_noreturn static void
raise_not_cancellable(int64 job)
{
	static EngineStatement select = {
		"SELECT state FROM stripe_sync.job_record WHERE id = $1"};
	char *state = statement_text(&select, ARGS(arg_int8(job)));

	if (state == NULL)
		job_raise_missing(job);
	ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("cannot cancel job " INT64_FORMAT ": it is %s", job,
						   state)));
}

/*
 * cancel_job(id): takes the leases of the job's parts away.  A worker that runs
 * one of them finds out when it writes the answer, and drops it.  Raises SY005
 * if there is no such job, 55000 if it has ended.
 */
ENGINE_FUNCTION(stripe_sync_cancel_job)
{
	static EngineStatement cancel = {
		"UPDATE stripe_sync.job_record SET state = 'cancelled',"
		" finished_at = pg_catalog.clock_timestamp()"
		" WHERE id = $1 AND state IN ('waiting', 'running') RETURNING kind"};
	static EngineStatement cancel_parts = {
		"UPDATE stripe_sync.job_part SET state = 'cancelled', lease_pid = NULL,"
		" lease_backend_start = NULL, lease_server_start = NULL"
		" WHERE job = $1 AND state IN ('blocked', 'waiting', 'running')"};
	RoleScope scope;
	int64 job;
	char *kind;

	argument_required(fcinfo, 0, "a job's id");
	job = PG_GETARG_INT64(0);
	scope = role_enter_engine();
	if ((kind = statement_text(&cancel, ARGS(arg_int8(job)))) == NULL)
		raise_not_cancellable(job);
	counter_add(COUNT_JOBS, kind, "cancelled");
	(void) statement_exec(&cancel_parts, ARGS(arg_int8(job)));
	note_job("job.cancelled", job, NULL);
	part_kinds_cancelled(job);
	worker_wake_at_commit();
	role_leave(&scope);
	PG_RETURN_VOID();
}
