/*
 * steps.c
 *		Runs the steps of an event: the mirror, each handler, the alerts.
 *
 * Each runs in a subtransaction of its own.  A step that fails is rolled back,
 * recorded (on the event, in event_error, for alerts) and run again by itself
 * later; a step that has failed max_attempts times is dead, and so is the event,
 * while its other steps go on.  Handlers wait until the mirror has succeeded or
 * is dead.
 *
 * Errors that say nothing about the event are not caught (is_uncatchable() in
 * subtransaction.c): they roll back the caller's transaction, event included.
 */
#include "postgres.h"

#include "access/xact.h"
#include "lib/stringinfo.h"
#include "portability/instr_time.h"
#include "utils/builtins.h"

#include "alert/alert.h"
#include "base/subtransaction.h"
#include "base/text.h"
#include "engine/rights.h"
#include "handler/handler.h"
#include "inbox/event.h"
#include "inbox/inbox.h"
#include "mirror/mirror.h"
#include "server/counters.h"
#include "receive/internal.h"

#define MAX_NOTE 2000 /* bytes of a message or a context */

/* ---- what failed ---- */

#define STATEMENT_BEGIN "SQL statement \""
#define MIRROR_TABLE	" " MIRROR_SCHEMA "."

/* A context line that quotes a statement of the mirror: with parameters, on a table of it. */
static bool
is_mirror_statement(const char *line)
{
	size_t length = strlen(line);

	return strncmp(line, STATEMENT_BEGIN, strlen(STATEMENT_BEGIN)) == 0 &&
		   line[length - 1] == '"' && strstr(line, MIRROR_TABLE) != NULL &&
		   strstr(line, "$1") != NULL;
}

/* "while writing stripe.invoices for invoice in_1" */
static void
append_mirror_context(StringInfo out, const char *line, const Event *event)
{
	const char *verb = line + strlen(STATEMENT_BEGIN);
	const char *table = strstr(line, MIRROR_TABLE) + 1;

	appendStringInfo(out, "while %s %.*s",
					 strncmp(verb, "SELECT", strlen("SELECT")) == 0 ? "reading"
																	: "writing",
					 (int) strcspn(table, " \""), table);
	if (event->object_id != NULL)
		appendStringInfo(out, " for %s %s", event->object_type,
						 event->object_id);
}

/*
 * The context of an error in the mirror step.  SPI adds the statement, which
 * names every column of the table; that is replaced by the table and the object.
 */
static char *
mirror_context(const char *context, const Event *event)
{
	StringInfoData out;
	char *lines = pstrdup(context);
	char *next;

	initStringInfo(&out);
	for (char *line = lines; line != NULL; line = next)
	{
		if ((next = strchr(line, '\n')) != NULL)
			*next++ = '\0';
		if (out.len > 0)
			appendStringInfoChar(&out, '\n');
		if (is_mirror_statement(line))
			append_mirror_context(&out, line, event);
		else
			appendStringInfoString(&out, line);
	}
	return out.data;
}

/*
 * Record that a step has failed: in event_error, and in run->failures for
 * failures_report().  Shortens the error's context.
 */
void
step_failed(StepRun *run, const Step *step, ErrorData *error)
{
	StepFailure *failure = palloc(sizeof(StepFailure));

	if (error->context != NULL && strcmp(step->name, STEP_MIRROR) == 0)
		error->context = mirror_context(error->context, run->event);
	*failure = (StepFailure){step->name, step->tries, error};
	run->failures = lappend(run->failures, failure);
	record_failure(run->event, step->name, error);
}

/* Append the failure as stripe_sync.event.error shows it. */
static void
append_note(StringInfo notes, const Step *step, const ErrorData *error)
{
	if (notes->len > 0)
		appendStringInfoChar(notes, '\n');
	appendStringInfo(notes, "%s: %s: %s", step->name,
					 unpack_sql_state(error->sqlerrcode),
					 text_clip(error->message, MAX_NOTE));
	if (error->detail)
		appendStringInfo(notes, "\nDETAIL: %s",
						 text_clip(error->detail, MAX_NOTE));
	if (error->hint)
		appendStringInfo(notes, "\nHINT: %s", text_clip(error->hint, MAX_NOTE));
	if (error->context)
		appendStringInfo(notes, "\nCONTEXT: %s",
						 text_clip(error->context, MAX_NOTE));
}

/* ---- one step ---- */

/* Leave it to do, and take back the try that the caller has counted. */
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

/* Returns true if it succeeded, or was dropped since it was queued. */
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
	counter_add(COUNT_HANDLERS, step->name, done ? "succeeded" : "failed");
	return done;
}

/*
 * Can it have failed before?  Not when the event is new, nor in a first try, unless
 * that is the first one since replay_failed().
 */
static bool
may_recover(const StepRun *run)
{
	return run->received_at != 0 && (run->claimed != 1 || run->failed_before);
}

/*
 * Run one step.  Returns true if it is done, else adds it to run->todo.  A
 * handler whose function belongs to another role now fails without a try.
 */
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
	step_failed(run, step, error);
	append_note(notes, step, error);
	if (hold == HANDLER_ANOTHERS)
		leave_untried(run, step);
	else
		run->todo = lappend(run->todo, step);
	return false;
}

/* ---- all of them ---- */

/* Will code of other roles run, with the right to write? */
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
 * Run these steps, in order.  The caller has counted this try in each of them.
 * Those that are not done are in run->todo afterwards, and the failures in
 * run->error and run->failures.
 *
 * Triggers that the caller has deferred fire first if a step enters a scope of
 * another role (deferred.c): their errors are the caller's, not a step's.
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
