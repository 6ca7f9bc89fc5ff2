/*
 * step.c
 *		The parts of applying an event: the mirror, each handler, alerts.
 *
 * Each runs in a subtransaction of its own.  What fails is undone, noted on
 * the event and alone run again; a step that has failed max_attempts times is
 * dead, and so is the event, while its other steps go on.  Handlers wait until
 * the mirror has succeeded or is dead.
 */
#include "mirror.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "portability/instr_time.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#define MAX_NOTE 2000 /* bytes of a message or a context */

Step *
step_make(const char *name, int tries)
{
	Step *step = palloc(sizeof(Step));

	step->name = pstrdup(name);
	step->tries = tries;
	return step;
}

bool
step_is_dead(const Step *step)
{
	return step->tries >= guc_max_attempts;
}

/* Handlers wait until the mirror has succeeded or is dead; alerts don't. */
bool
step_waits(const Step *step)
{
	return strcmp(step->name, STEP_MIRROR) != 0 &&
		   strcmp(step->name, STEP_ALERTS) != 0;
}

/* Is the mirror among these, and not dead? */
bool
step_blocks(List *todo)
{
	ListCell *cell;

	foreach(cell, todo)
	{
		Step *step = lfirst(cell);

		if (strcmp(step->name, STEP_MIRROR) == 0 && !step_is_dead(step))
			return true;
	}
	return false;
}

/* Is it a handler that doesn't run until somebody registers it again? */
HandlerHold
step_hold(const Step *step)
{
	return step_waits(step) ? handler_hold(step->name) : HANDLER_RUNS;
}

/* Keep that it failed: on the event, in event_error, and for alerts. */
void
step_failed(StepRun *run, const Step *step, ErrorData *error)
{
	StepFailure *failure = palloc(sizeof(StepFailure));

	*failure = (StepFailure){step->name, step->tries, error};
	run->failures = lappend(run->failures, failure);
	record_failure(run->event, step->name, error);
}

static void
note_failure(const Step *step, const ErrorData *error, StringInfo notes)
{
	if (notes->len > 0)
		appendStringInfoChar(notes, '\n');
	appendStringInfo(notes, "%s: %s: %s", step->name,
					 unpack_sql_state(error->sqlerrcode),
					 engine_clip(error->message, MAX_NOTE));
	if (error->detail)
		appendStringInfo(notes, "\nDETAIL: %s",
						 engine_clip(error->detail, MAX_NOTE));
	if (error->hint)
		appendStringInfo(notes, "\nHINT: %s",
						 engine_clip(error->hint, MAX_NOTE));
	if (error->context)
		appendStringInfo(notes, "\nCONTEXT: %s",
						 engine_clip(error->context, MAX_NOTE));
}

/* It had no try. */
static void
leave_untried(StepRun *run, Step *step)
{
	step->tries--;
	run->todo = lappend(run->todo, step);
}

static void
mirror_body(void *arg)
{
	StepRun *run = arg;

	run->mirrored = mirror_apply(run->event, &run->detail);
}

/* A handler's turn; true as well when it was dropped since. */
static bool
run_handler(StepRun *run, const Step *step, StringInfo runs, ErrorData **error)
{
	Handler *handler = handler_find(step->name);
	TimestampTz started;
	instr_time before;
	instr_time after;
	bool done;

	if (handler == NULL)
		return true;
	started = GetCurrentTimestamp();
	INSTR_TIME_SET_CURRENT(before);
	done = handler_attempt(handler, run->event, NULL, NULL, error);
	INSTR_TIME_SET_CURRENT(after);
	INSTR_TIME_SUBTRACT(after, before);
	record_run(runs, step->name, started, INSTR_TIME_GET_MILLISEC(after),
			   done ? NULL : *error);
	return done;
}

/* Had it failed before?  A first run has no past, nor has a first try. */
static bool
may_recover(const StepRun *run)
{
	return run->received_at != 0 && run->claimed != 1;
}

/* Run one step; true when there is nothing left to do of it. */
static bool
run_step(StepRun *run, Step *step, StringInfo notes, StringInfo runs)
{
	HandlerHold hold = step_hold(step);
	ErrorData *error = NULL;
	bool done;

	if (hold == HANDLER_STOPPED)
	{
		leave_untried(run, step);
		return false;
	}
	if (strcmp(step->name, STEP_MIRROR) == 0)
		done = subtransaction_run(mirror_body, run, NULL, &error);
	else if (strcmp(step->name, STEP_ALERTS) == 0)
		done = alert_attempt(run->event, true, &error);
	else
		done = run_handler(run, step, runs, &error);
	if (done && may_recover(run))
		record_recovery(run->event, step->name);
	if (done)
		return true;
	note_failure(step, error, notes);
	step_failed(run, step, error);
	if (hold == HANDLER_ANOTHERS)
		leave_untried(run, step);
	else
		run->todo = lappend(run->todo, step);
	return false;
}

/* Will code of another role's run, which may write? */
static bool
enters_scope(const StepRun *run, List *steps)
{
	ListCell *cell;

	foreach(cell, steps)
	{
		Step *step = lfirst(cell);

		if (step_waits(step) || (strcmp(step->name, STEP_MIRROR) == 0 &&
								 mirror_enters_scope(run->event)))
			return true;
	}
	return false;
}

/*
 * Run these steps, in order.  Their tries count this one already.  Those that
 * are left stand in run->todo afterwards.
 *
 * What the caller has deferred is fired first where it must be (deferred.c):
 * what that raises is the caller's, and no failure of the event's.
 */
void
step_run(StepRun *run, List *steps)
{
	StringInfoData notes;
	StringInfoData runs;
	bool blocked = false;
	ListCell *cell;

	initStringInfo(&notes);
	initStringInfo(&runs);
	if (deferred_possible() && enters_scope(run, steps))
		deferred_fire_callers();
	foreach(cell, steps)
	{
		Step *step = lfirst(cell);

		if (blocked && step_waits(step))
			leave_untried(run, step);
		else if (!run_step(run, step, &notes, &runs) &&
				 strcmp(step->name, STEP_MIRROR) == 0)
			blocked = !step_is_dead(step);
	}
	if (notes.len > 0)
		run->error = notes.data;
	record_runs(run->event, &runs, run->received_at == 0);
}

/* What the event is, when this much is left to do. */
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

/* Without tries to count: after as long again as the event is here. */
static int64
backoff_by_age(const StepRun *run)
{
	int64 age = run->received_at == 0 ? 0
									  : GetCurrentTimestamp() - run->received_at;

	return Min(Max(age, BACKOFF_FIRST), BACKOFF_MOST);
}

/* When is the next try due?  False when nothing is left that may be tried. */
static bool
step_due(const StepRun *run, TimestampTz *due)
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
	/* what merely waits, and what has its turn after the one just claimed */
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

/* The column todo. */
Datum
step_names(List *steps)
{
	Datum *names = palloc(sizeof(Datum) * Max(list_length(steps), 1));
	int n = 0;
	ListCell *cell;

	foreach(cell, steps)
		names[n++] = CStringGetTextDatum(((Step *) lfirst(cell))->name);
	return PointerGetDatum(
		construct_array(names, n, TEXTOID, -1, false, TYPALIGN_INT));
}

/* The column tries: step by step. */
Datum
step_tries(List *steps)
{
	StringInfoData json;
	ListCell *cell;

	initStringInfo(&json);
	appendStringInfoChar(&json, '{');
	foreach(cell, steps)
	{
		Step *step = lfirst(cell);

		if (json.len > 1)
			appendStringInfoChar(&json, ',');
		escape_json(&json, step->name);
		appendStringInfo(&json, ":%d", step->tries);
	}
	appendStringInfoChar(&json, '}');
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data));
}

/* The row that holds the event has another key. */
static void
event_is_damaged(const Event *event)
{
	ereport(
		ERROR,
		(errcode(ERRCODE_DATA_CORRUPTED),
		 errmsg(
			 "no row of the inbox has the id \"%s\" and account \"%s\" that its payload names",
			 event->id, event->account),
		 errhint(
			 "The row was altered by hand, or damaged. Compare id and account of stripe_sync.event with the payload.")));
}

/*
 * Write on the event what became of it.  "attempts" are those to count now.
 */
void
step_settle(const StepRun *run, const char *status, int attempts)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.event SET status = $3, mirrored = $4, todo = $5, tries = $6,"
		" next_attempt_at = $7, error = $8,"
		" attempts = attempts OPERATOR(pg_catalog.+) $9,"
		" applied_at = CASE WHEN $4 IS NULL THEN NULL"
		"   ELSE COALESCE(applied_at, pg_catalog.clock_timestamp()) END"
		" WHERE id OPERATOR(pg_catalog.=) $1 AND account OPERATOR(pg_catalog.=) $2",
		9,
		{TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTARRAYOID, JSONBOID,
		 TIMESTAMPTZOID, TEXTOID, INT4OID}};
	TimestampTz due = 0;
	bool is_due = step_due(run, &due);
	Datum values[] = {CStringGetTextDatum(run->event->id),
					  CStringGetTextDatum(run->event->account),
					  CStringGetTextDatum(status),
					  run->mirrored ? CStringGetTextDatum(run->mirrored)
									: (Datum) 0,
					  step_names(run->todo),
					  step_tries(run->todo),
					  TimestampTzGetDatum(due),
					  run->error ? CStringGetTextDatum(run->error) : (Datum) 0,
					  Int32GetDatum(attempts)};
	char nulls[] = {' ',
					' ',
					' ',
					run->mirrored ? ' ' : 'n',
					' ',
					' ',
					is_due ? ' ' : 'n',
					run->error ? ' ' : 'n',
					' ',
					'\0'};

	SPI_connect();
	engine_run(&update, values, nulls, SPI_OK_UPDATE);
	if (SPI_processed != 1)
		event_is_damaged(run->event);
	SPI_finish();
	if (is_due)
		worker_wake_at_commit();
}
