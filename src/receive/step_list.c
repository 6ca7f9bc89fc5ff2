/*
 * step_list.c
 *		Steps of an event that are still to run: the columns todo and tries of
 *		stripe_sync.event, and what may run now.
 *
 * A step is the mirror, the alerts, or a handler by its name.  tries counts the
 * attempts of each; a step whose tries have reached stripe_sync.max_attempts is
 * dead and only replay() runs it again.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/json.h"

#include "alert/alert.h"
#include "base/base.h"
#include "handler/handler.h"
#include "inbox/event.h"
#include "receive/internal.h"

/* "tries": attempts made so far; copies the name. */
Step *
step_make(const char *name, int tries)
{
	Step *step = palloc(sizeof(Step));

	step->name = pstrdup(name);
	step->tries = tries;
	return step;
}

/* Have its attempts reached stripe_sync.max_attempts? */
bool
step_is_dead(const Step *step)
{
	return step->tries >= guc_max_attempts;
}

/*
 * Does the step wait for the mirror?  Handlers do, until it has succeeded or is
 * dead, so that they read the event's state in the mirror.  Alerts don't.
 */
bool
step_waits(const Step *step)
{
	return strcmp(step->name, STEP_MIRROR) != 0 &&
		   strcmp(step->name, STEP_ALERTS) != 0;
}

/* Is the mirror in the list, and not dead?  Then handlers wait. */
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

/* Why a handler does not run until it is registered again, if so. */
HandlerHold
step_hold(const Step *step)
{
	return step_waits(step) ? handler_hold(step->name) : HANDLER_RUNS;
}

/* ---- the steps of an event ---- */

/*
 * The steps to run now.  Deferred and stopped handlers are appended to *waiting,
 * with no try counted.
 */
List *
steps_first(const Event *event, List **waiting)
{
	List *steps = NIL;
	ListCell *cell;

	if (event->catalog != NULL || event->holder != NULL)
		steps = lappend(steps, step_make(STEP_MIRROR, 1));
	foreach(cell, handler_matching(event->type))
	{
		Handler *handler = lfirst(cell);

		if (handler->deferred || handler->registered.stopped)
			*waiting = lappend(*waiting, step_make(handler->registered.name, 0));
		else
			steps = lappend(steps, step_make(handler->registered.name, 1));
	}
	if (alert_wanted(event->type))
		steps = lappend(steps, step_make(STEP_ALERTS, 1));
	return steps;
}

/* All steps of an event that is stored without applying it: no try is made. */
List *
steps_all(const Event *event)
{
	List *waiting = NIL;
	List *steps = steps_first(event, &waiting);
	ListCell *cell;

	steps = list_concat(steps, waiting);
	foreach(cell, steps)
		((Step *) lfirst(cell))->tries = 0;
	return steps;
}

/* ---- columns ---- */

/* The column todo, text[] */
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

/* The column tries, jsonb: an object of step names and numbers */
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

/* The steps of these columns; "tries" may be NULL. */
List *
step_list_read(ArrayType *todo, Jsonb *tries)
{
	Datum *names;
	int n;
	List *steps = NIL;

	deconstruct_array(todo, TEXTOID, -1, false, TYPALIGN_INT, &names, NULL, &n);
	for (int i = 0; i < n; i++)
	{
		char *name = TextDatumGetCString(names[i]);
		JsonbValue value;
		int64 count = 0;

		if (tries != NULL && json_get(&tries->root, name, &value))
			(void) json_to_int64(&value, &count);
		steps = lappend(steps, step_make(name, (int) count));
	}
	return steps;
}
