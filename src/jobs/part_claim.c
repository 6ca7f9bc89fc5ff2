/*
 * part_claim.c
 *		Claims parts that are due, and finds when the next ones will be.
 *
 * A claim is a lease: the part becomes "running", and its row names the process,
 * the process's start and the server's start.  It has no timeout; the leases of
 * processes that are gone are taken back by reclaim.c.  The claim counts
 * the attempt, and is committed before anything is requested.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "engine/statement.h"
#include "jobs/part.h"
#include "jobs/internal.h"

/*
 * For kinds that are one_at_a_time: a condition that excludes a part w whose
 * object another running part reads.  The part is claimed after that one.
 */
static char *
exclude_same_object(void)
{
	StringInfoData sql;
	int count;
	const PartKind *const *kinds = part_kinds(&count);

	initStringInfo(&sql);
	for (int i = 0; i < count; i++)
		if (kinds[i]->one_at_a_time)
			appendStringInfo(
				&sql,
				"    AND NOT EXISTS (SELECT FROM stripe_sync.job_part r"
				"     WHERE w.kind = %1$s AND r.kind = %1$s AND r.state = 'running'"
				"      AND r.object_type = w.object_type AND r.object_id = w.object_id"
				"      AND r.account = w.account)",
				quote_literal_cstr(kinds[i]->name));
	return sql.data;
}

/* Built once: the kinds don't change while the library is loaded. */
static const char *
claim_sql(void)
{
	return MemoryContextStrdup(
		TopMemoryContext,
		psprintf(
			"UPDATE stripe_sync.job_part p SET state = 'running',"
			" attempts = p.attempts + 1, lease_pid = $2, lease_backend_start = $3,"
			" lease_server_start = pg_catalog.pg_postmaster_start_time()"
			" FROM (SELECT w.job, w.part FROM stripe_sync.job_record j"
			"   JOIN stripe_sync.job_part w ON w.job = j.id"
			"   WHERE j.state IN ('waiting', 'running')"
			"    AND w.state = 'waiting' AND w.priority BETWEEN $4 AND $5"
			"    AND w.due_at <= pg_catalog.clock_timestamp()"
			"%s"
			"   ORDER BY w.priority, w.due_at, w.part LIMIT $1"
			"   FOR UPDATE SKIP LOCKED) d"
			" WHERE p.job = d.job AND p.part = d.part RETURNING %s",
			exclude_same_object(), part_columns));
}

static void
job_begin(int64 job)
{
	static EngineStatement begin = {
		"UPDATE stripe_sync.job_record SET state = 'running',"
		" started_at = COALESCE(started_at, pg_catalog.clock_timestamp())"
		" WHERE id = $1 AND state = 'waiting'"};

	(void) statement_exec(&begin, ARGS(arg_int8(job)));
}

/*
 * Claim up to "most" due parts whose priority is between "first" and "last", in
 * the caller's transaction, and pass each to "add".  Locks the row of the job
 * before that of the part, and skips rows that are locked.
 */
void
part_claim(int first, int last, int most, void (*add)(Part *part))
{
	static EngineStatement claim = {NULL};
	Rows rows;

	if (claim.sql == NULL)
		claim.sql = claim_sql();
	rows_open(&rows, &claim,
			  ARGS(arg_int4(most), arg_int4(MyProcPid),
				   arg_time(MyStartTimestamp), arg_int4(first), arg_int4(last)));
	while (rows_next(&rows))
	{
		Part *part = part_read(&rows);

		add(part);
		job_begin(part->job);
	}
	rows_close(&rows);
}

/*
 * When the first waiting part is due, DT_NOEND if there is none.  Parts of
 * backfills count only if "backfills" is set.
 */
TimestampTz
part_next_due(bool backfills)
{
	static EngineStatement urgent = {
		"SELECT pg_catalog.min(due_at) FROM stripe_sync.job_part"
		" WHERE state = 'waiting' AND priority < 10"};
	static EngineStatement long_lists = {
		"SELECT pg_catalog.min(due_at) FROM stripe_sync.job_part"
		" WHERE state = 'waiting' AND priority >= 10"};
	TimestampTz next = statement_time(DT_NOEND, &urgent, NO_ARGS);

	StaticAssertStmt(PRIORITY_BACKFILL == 10, "as in the statements above");
	return backfills ? Min(next, statement_time(DT_NOEND, &long_lists, NO_ARGS))
					 : next;
}
