/*
 * backfill.c
 *		backfill(): creates a job that reads whole lists into the mirror.
 *
 * Job and parts are created in the caller's transaction; the worker reads them.
 * A job with the same arguments that waits or runs is joined
 * (job_record_backfill_idx), and one that failed or was cancelled is resumed.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

#include "engine/engine.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "jobs/jobs.h"
#include "server/server.h"
#include "stripe/stripe.h"
#include "sync/internal.h"

/* The job's arguments, by which the same job is found again */
static Jsonb *
make_arguments(ArrayType *types, TimestampTz since)
{
	static EngineStatement build = {
		"SELECT pg_catalog.jsonb_build_object("
		" 'object_types', (SELECT pg_catalog.jsonb_agg(DISTINCT t) FROM pg_catalog.unnest($1) t),"
		" 'created_since', pg_catalog.timezone('UTC', $2))"};

	return statement_jsonb(&build,
						   ARGS(arg_varlena(TEXTARRAYOID, types),
								arg_if(since != DT_NOBEGIN, arg_time(since))));
}

/*
 * The last job with the same arguments, now locked, unless it is done; 0 if there
 * is none.  *has_ended is set if it failed or was cancelled.  One older than 30
 * days is not resumed, because Stripe no longer lists the events that tell what
 * has changed since in the pages that were read.
 */
static int64
find_same_job(const Jsonb *arguments, bool *has_ended)
{
	static EngineStatement select = {
		"SELECT id, state FROM stripe_sync.job_record"
		" WHERE kind = 'backfill' AND arguments = $1"
		"  AND (state IN ('waiting', 'running')"
		"   OR created_at > pg_catalog.clock_timestamp() - interval '720 hours')"
		" ORDER BY id DESC LIMIT 1 FOR UPDATE"};
	int64 job = 0;
	Rows rows;

	rows_open(&rows, &select, ARGS(arg_jsonb(arguments)));
	if (rows_next(&rows))
	{
		int64 id = rows_int8(&rows, 0);
		char *state = rows_text(&rows);

		*has_ended = strcmp(state, "failed") == 0 ||
					 strcmp(state, "cancelled") == 0;
		job = strcmp(state, "done") == 0 ? 0 : id;
	}
	rows_close(&rows);
	return job;
}

/*
 * Resume a job that failed or was cancelled.  Parts that had not ended continue
 * after their cursor.  Lists whose mirror table was created anew since begin from
 * the top.  Parts that depend on a list which continues wait for it again, and
 * begin from the top then.
 */
static void
resume_job(int64 job)
{
	static EngineStatement parts = {
		"UPDATE stripe_sync.job_part SET state = 'waiting', attempts = 1, tries = 0,"
		" error = NULL, due_at = pg_catalog.clock_timestamp()"
		" WHERE job = $1 AND state IN ('failed', 'cancelled', 'skipped')"};
	static EngineStatement new_tables = {
		"UPDATE stripe_sync.job_part p SET state = 'waiting', attempts = 1, tries = 0,"
		" progress = 0, cursor = NULL, parent_id = NULL, mirror_table = NULL,"
		" due_at = pg_catalog.clock_timestamp()"
		" FROM stripe_sync.object_type t"
		" WHERE p.job = $1 AND p.kind IN ('list', 'children')"
		"  AND t.object_type = p.object_type"
		"  AND p.mirror_table <> pg_catalog.to_regclass(pg_catalog.format('%I.%I', '" MIRROR_SCHEMA
		"', t.table_name))::oid"};
	static EngineStatement dependent = {
		"UPDATE stripe_sync.job_part p SET state = 'blocked', progress = 0,"
		" cursor = NULL, parent_id = NULL"
		" FROM stripe_sync.job_part a WHERE p.job = $1 AND a.job = p.job"
		"  AND a.part = p.after_part AND a.state IN ('waiting', 'blocked')"
		"  AND (p.state = 'waiting'"
		"   OR (p.state = 'done' AND p.kind IN ('vanished', 'children')))"};
	static EngineStatement record = {
		"UPDATE stripe_sync.job_record SET state = 'waiting', finished_at = NULL,"
		" idle = idle + (pg_catalog.clock_timestamp() - finished_at)"
		" WHERE id = $1"};

	(void) statement_exec(&parts, ARGS(arg_int8(job)));
	(void) statement_exec(&new_tables, ARGS(arg_int8(job)));
	(void) statement_exec(&dependent, ARGS(arg_int8(job)));
	(void) statement_exec(&record, ARGS(arg_int8(job)));
	worker_wake_at_commit();
}

/* Returns 0 if another session has just created the same job. */
static int64
create_backfill_job(const Jsonb *arguments)
{
	static EngineStatement insert = {
		"INSERT INTO stripe_sync.job_record (kind, arguments)"
		" VALUES ('backfill', $1) ON CONFLICT DO NOTHING RETURNING id"};
	int64 job = statement_int8(0, &insert, ARGS(arg_jsonb(arguments)));

	worker_wake_at_commit();
	if (job != 0)
		job_note_created(job, "backfill");
	return job;
}

static int
count_parts(int64 job)
{
	static EngineStatement select = {
		"SELECT COALESCE(pg_catalog.max(part), 0)::bigint FROM stripe_sync.job_part"
		" WHERE job = $1"};

	return (int) statement_int8(0, &select, ARGS(arg_int8(job)));
}

/* Another session's job may have ended before it is locked: then try again. */
static int64
find_or_create_backfill(BackfillPlan *plan, const Jsonb *arguments)
{
	bool has_ended = false;

	while ((plan->job = find_same_job(arguments, &has_ended)) == 0 &&
		   (plan->job = create_backfill_job(arguments)) == 0)
		CHECK_FOR_INTERRUPTS();
	if (has_ended)
		resume_job(plan->job);
	plan->nparts = count_parts(plan->job);
	if (has_ended || plan->nparts == 0)
		backfill_add_parts(plan); /* there may be new tables and accounts */
	return plan->job;
}

/*
 * backfill(object_types, created_since): returns the job.  NULL types are all that
 * have a table, and their parts are optional: a list that the key may not read is
 * skipped.  Raises 22023 for a type that isn't listed, 55000 without a key or a
 * table.
 */
ENGINE_FUNCTION(stripe_sync_backfill)
{
	ArrayType *types = PG_ARGISNULL(0) ? NULL : PG_GETARG_ARRAYTYPE_P(0);
	BackfillPlan plan = {.since = PG_ARGISNULL(1) ? DT_NOBEGIN
												  : PG_GETARG_TIMESTAMPTZ(1)};
	int64 job;
	RoleScope scope;

	plan.optional = types == NULL;
	plan.wanted = backfill_types_wanted(types);
	scope = role_enter_engine();
	api_key_require();
	job = find_or_create_backfill(&plan, make_arguments(types, plan.since));
	outbound_note_identity();
	role_leave(&scope);
	standstill_note("stripe");
	PG_RETURN_INT64(job);
}
