/*
 * due_events.c
 *		Runs the next step of events that are due: a step that has failed, or a
 *		deferred handler.  Called by the worker and work().
 *
 * Each event takes two transactions:
 *
 *	claim	locks the row, chooses one step, counts its attempt and sets the time
 *			of the next one by the backoff.  A crash after the commit costs that
 *			attempt, and can't repeat it at once for ever.
 *	run		locks the row again, runs the step unless another session has run it
 *			meanwhile, and writes the outcome.
 *
 * So a handler shares its transaction with no other handler.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "base/subtransaction.h"
#include "engine/engine.h"
#include "engine/statement.h"
#include "engine/worker_transaction.h"
#include "handler/handler.h"
#include "inbox/event.h"
#include "inbox/inbox.h"
#include "receive/receive.h"
#include "receive/internal.h"

/* A due event, and the step whose attempt was counted */
typedef struct DueEvent
{
	char *id;
	char *account;
	Step *step; /* NULL: none may run */
} DueEvent;

static MemoryContext claim_memory = NULL;

/*
 * The step to run next: the mirror before all handlers, else the one with the
 * fewest tries.  Alerts don't wait for the mirror.  A handler that is held comes
 * last.  NULL if all steps are dead.
 */
static Step *
choose_step(List *todo)
{
	bool blocked = step_blocks(todo);
	Step *chosen = NULL;
	Step *held = NULL;
	ListCell *cell;

	foreach(cell, todo)
	{
		Step *step = lfirst(cell);

		if (step_is_dead(step) || (blocked && step_waits(step)))
			continue;
		if (step_hold(step) != HANDLER_RUNS)
			held = step;
		else if (chosen == NULL || step->tries < chosen->tries)
			chosen = step;
	}
	return chosen != NULL ? chosen : held;
}

/* Lock the event that has been due for longest and that no session has locked. */
static bool
lock_due(DueEvent *claim)
{
	static EngineStatement select = {
		"SELECT id, account FROM stripe_sync.event"
		" WHERE next_attempt_at <= pg_catalog.clock_timestamp()"
		" ORDER BY next_attempt_at LIMIT 1 FOR UPDATE SKIP LOCKED"};
	int nest = plan_for_indexes();
	MemoryContext old = MemoryContextSwitchTo(claim_memory);
	bool found;
	Rows rows;

	rows_open(&rows, &select, NO_ARGS);
	found = rows_next(&rows);
	if (found)
	{
		claim->id = rows_text(&rows);
		claim->account = rows_text(&rows);
	}
	rows_close(&rows);
	MemoryContextSwitchTo(old);
	plan_settings_restore(nest);
	return found;
}

/*
 * Choose the step and count its attempt.  The outcome written is the one that
 * holds if the second transaction never ends: failed, or dead if this is the
 * last attempt.
 */
static void
count_attempt(DueEvent *claim)
{
	StoredEvent *stored = replay_lock(claim->id, claim->account);
	Step *step = choose_step(stored->todo);
	StepRun run = {.event = &stored->event,
				   .mirrored = stored->mirrored,
				   .error = stored->error,
				   .todo = stored->todo,
				   .received_at = stored->received_at};
	MemoryContext old = MemoryContextSwitchTo(claim_memory);

	if (step != NULL)
	{
		step->tries++;
		run.claimed = step->tries;
		claim->step = step_make(step->name, step->tries);
	}
	MemoryContextSwitchTo(old);
	step_settle(&run,
				strcmp(step_status(&run), "dead") == 0 ? "dead" : stored->status,
				1);
}

/* When the next event is due; DT_NOEND: none is. */
static TimestampTz
next_due_time(void)
{
	static EngineStatement select = {
		"SELECT next_attempt_at FROM stripe_sync.event"
		" WHERE next_attempt_at IS NOT NULL ORDER BY next_attempt_at LIMIT 1"};
	int nest = plan_for_indexes();
	TimestampTz next = statement_time(DT_NOEND, &select, NO_ARGS);

	plan_settings_restore(nest);
	return next;
}

/*
 * Run the claimed step.  If its tries have changed, another session has run it
 * meanwhile, and nothing is done.
 */
static void
run_step_body(void *arg)
{
	DueEvent *claim = arg;
	StoredEvent *stored = replay_lock(claim->id, claim->account);
	List *steps = NIL;
	List *rest = NIL;
	ListCell *cell;

	foreach(cell, stored ? stored->todo : NIL)
	{
		Step *step = lfirst(cell);

		if (claim->step != NULL && step->tries == claim->step->tries &&
			strcmp(step->name, claim->step->name) == 0)
			steps = lappend(steps, step);
		else
			rest = lappend(rest, step);
	}
	if (steps == NIL)
		return;
	stored->claimed = claim->step->tries;
	(void) replay_run(stored, steps, rest, 0);
}

/* An event, and the error that rolled back the subtransaction that ran it */
typedef struct FailedTurn
{
	DueEvent *claim;
	ErrorData *error;
} FailedTurn;

/* Record it as the failure of a step is: in event_error, and for alerts. */
static void
record_failed_turn(void *arg)
{
	FailedTurn *failed = arg;
	StoredEvent *stored = replay_lock(failed->claim->id, failed->claim->account);
	StepRun run = {0};

	if (stored == NULL)
		return;
	run.event = &stored->event;
	step_failed(&run, failed->claim->step, failed->error);
	failures_report(&run);
}

/*
 * Run the claimed step.  Errors that receive() would not catch (except
 * cancellation and shutdown) end this attempt only: it is counted already, and
 * other due events must not wait for it.
 */
static void
run_claimed(DueEvent *claim)
{
	static EngineStatement note = {"UPDATE stripe_sync.event SET error = $3"
								   " WHERE id = $1 AND account = $2"};
	FailedTurn failed = {claim, NULL};
	ErrorData *ignored;

	if (subtransaction_run(run_step_body, claim, subtransaction_excuse_all,
						   &failed.error))
		return;
	statement_exec(
		&note, ARGS(arg_text(claim->id), arg_text(claim->account),
					arg_text(psprintf("%s: %s: %s", claim->step->name,
									  unpack_sql_state(failed.error->sqlerrcode),
									  failed.error->message))));
	(void) subtransaction_run(record_failed_turn, &failed,
							  subtransaction_excuse_all, &ignored);
}

/* The event could not be read, so the failure is not attributed to a step. */
static void
record_unreadable(void *arg)
{
	FailedTurn *failed = arg;
	Event event = {
		.id = failed->claim->id, .account = failed->claim->account, .type = ""};

	record_failure(&event, "", failed->error);
}

/* Retry an event that could not be claimed in an hour: others must not wait. */
static void
postpone(DueEvent *claim, ErrorData *error)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.event SET error = $3,"
		" next_attempt_at = pg_catalog.clock_timestamp() + interval '1 hour'"
		" WHERE id = $1 AND account = $2"};
	FailedTurn failed = {claim, error};
	ErrorData *ignored;

	statement_exec(
		&update,
		ARGS(arg_text(claim->id), arg_text(claim->account),
			 arg_text(psprintf("%s: %s", unpack_sql_state(error->sqlerrcode),
							   error->message))));
	(void) subtransaction_run(record_unreadable, &failed,
							  subtransaction_excuse_all, &ignored);
}

static void
count_attempt_body(void *arg)
{
	count_attempt(arg);
}

/* Returns false if no event is due.  Sets claim->step if a step is to be run. */
static bool
claim_due(DueEvent *claim)
{
	ErrorData *error;

	if (!lock_due(claim))
		return false;
	if (!subtransaction_run(count_attempt_body, claim,
							subtransaction_excuse_all, &error))
	{
		claim->step = NULL;
		postpone(claim, error);
	}
	return true;
}

/*
 * Process one due event, in transactions of its own.  Returns false if there is
 * nothing to do until *next: then system.event_recovered is considered too.
 */
bool
due_events_turn(TimestampTz *next)
{
	DueEvent claim = {0};
	bool more = false;

	if (claim_memory == NULL)
		claim_memory = AllocSetContextCreate(
			TopMemoryContext, "stripe_sync retry", ALLOCSET_SMALL_SIZES);
	MemoryContextReset(claim_memory);
	worker_begin();
	if (!claim_due(&claim))
	{
		/* an event that is due now is locked by another session: retry in 1 s */
		*next = Max(next_due_time(), GetCurrentTimestamp() + USECS_PER_SEC);
		more = recoveries_report();
	}
	worker_commit();
	if (claim.id == NULL)
		return more;
	if (claim.step != NULL)
	{
		worker_begin();
		run_claimed(&claim);
		worker_commit();
	}
	return true;
}
