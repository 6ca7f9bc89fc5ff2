/*
 * backfill_order.c
 *		Parts of a backfill that wait for another part (after_part).
 *
 * Lists wait for the account's age; "vanished" and "children" wait for the list
 * that they are compared with, or whose objects they go through.
 */
#include "postgres.h"

#include "engine/statement.h"
#include "jobs/jobs.h"
#include "jobs/part.h"
#include "sync/internal.h"

/*
 * Make the parts that waited for this one due.  "vanished" compares the mirror
 * with the whole list, so it is skipped unless the list was read to its end, and
 * takes over the time that the list's pages are as of.
 */
static void
unblock_parts(const Part *part, const char *state)
{
	static EngineStatement release = {
		"UPDATE stripe_sync.job_part SET due_at = pg_catalog.clock_timestamp(),"
		" until = CASE WHEN kind = 'vanished' THEN $4 ELSE until END,"
		" state = CASE WHEN kind = 'vanished' AND $3 <> 'done' THEN 'skipped' ELSE 'waiting' END"
		" WHERE job = $1 AND after_part = $2 AND state = 'blocked'"};

	(void) statement_exec(&release,
						  ARGS(arg_int8(part->job), arg_int4(part->number),
							   arg_text(state), arg_time(part->until)));
}

/* PartKind.ended of kinds that other parts wait for */
void
backfill_part_ended(const Part *part, const Outcome *outcome)
{
	unread_part_ended(part, outcome);
	if (strcmp(outcome->state, "waiting") != 0)
		unblock_parts(part, outcome->state);
}
