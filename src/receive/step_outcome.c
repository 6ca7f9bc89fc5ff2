/*
 * step_outcome.c
 *		The outcome of running an event's steps: its status, when the next
 *		attempt is due, and the update of its row.
 *
 *	status		while
 *	applied, stale, ignored		the mirror's verdict; no step has failed
 *	failed		a step has failed and is to be tried again
 *	dead		a step has failed max_attempts times
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "base/backoff.h"
#include "engine/statement.h"
#include "handler/handler.h"
#include "inbox/event.h"
#include "server/server.h"
#include "receive/internal.h"

/*
 * The event's status when run->todo is left to do.  A deferred handler without
 * a try leaves the mirror's verdict as the status; one whose function belongs to
 * another role now has failed, although no try is counted.
 */
const char *
step_status(const StepRun *run)
{
	bool failed = false;
	ListCell *cell;

	foreach(cell, run->todo)
	{
		Step *step = lfirst(cell);

		if (step_is_dead(step))
			return "dead";
		failed = failed || step->tries > 0 ||
				 step_hold(step) == HANDLER_ANOTHERS;
	}
	return failed || run->mirrored == NULL ? "failed" : run->mirrored;
}

/*
 * The delay, in microseconds, of a handler that is held: no try is counted, so
 * the delay is the time since the event was received, within the bounds of the
 * backoff.
 */
static int64
backoff_by_age(const StepRun *run)
{
	int64 age = run->received_at == 0 ? 0
									  : GetCurrentTimestamp() - run->received_at;

	return Min(Max(age, BACKOFF_FIRST), BACKOFF_MOST);
}

/*
 * When the next attempt is due: by the step with the fewest tries.  Returns false
 * if there is no step that may run.
 */
static bool
next_attempt(const StepRun *run, TimestampTz *due)
{
	bool blocked = step_blocks(run->todo);
	bool held = false;
	int tries = -1;
	int64 delay;
	ListCell *cell;

	foreach(cell, run->todo)
	{
		Step *step = lfirst(cell);

		if (step_is_dead(step) || (blocked && step_waits(step)))
			continue;
		if (step_hold(step) != HANDLER_RUNS)
			held = true;
		else
			tries = tries < 0 ? step->tries : Min(tries, step->tries);
	}
	if (tries < 0 && !held)
		return false;
	/* no delay before a first try, or for the steps after the claimed one */
	delay = tries == 0 || tries < run->claimed
				? 0
				: backoff_delay(tries, BACKOFF_FIRST, BACKOFF_MOST);
	if (tries < 0)
		delay = backoff_by_age(run);
	else if (held)
		delay = Min(delay, backoff_by_age(run));
	*due = GetCurrentTimestamp() + delay;
	return true;
}

/* No row has the id and account of the payload. */
static void
event_is_damaged(const Event *event)
{
	ereport(
		ERROR,
		(errcode(ERRCODE_DATA_CORRUPTED),
		 errmsg(
			 "no row of the inbox has the id \"%s\" and account \"%s\" of its payload",
			 event->id, event->account),
		 errhint(
			 "The row was altered by hand or is damaged. Compare id and account of stripe_sync.event with the payload.")));
}

/*
 * Update the event's row with the outcome.  "attempts" is added to its count.
 * The caller has locked the row or inserted it in this transaction.  Wakes the
 * worker at commit if an attempt is due.
 */
void
step_settle(const StepRun *run, const char *status, int attempts)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.event SET status = $3, mirrored = $4, todo = $5,"
		" tries = $6, next_attempt_at = $7, error = $8, attempts = attempts + $9,"
		" applied_at = CASE WHEN $4 IS NULL THEN NULL"
		"   ELSE COALESCE(applied_at, pg_catalog.clock_timestamp()) END"
		" WHERE id = $1 AND account = $2"};
	TimestampTz due = 0;
	bool is_due = next_attempt(run, &due);
	uint64 updated = statement_exec(
		&update, ARGS(arg_text(run->event->id), arg_text(run->event->account),
					  arg_text(status), arg_text(run->mirrored),
					  arg_datum(TEXTARRAYOID, step_names(run->todo)),
					  arg_datum(JSONBOID, step_tries(run->todo)),
					  arg_if(is_due, arg_time(due)), arg_text(run->error),
					  arg_int4(attempts)));

	if (updated != 1)
		event_is_damaged(run->event);
	if (is_due)
		worker_wake_at_commit();
}
