/*
 * verdict_event.c
 *		Steps of a story's events that still fail, and events that are held.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "base/visible.h"
#include "inbox/event.h"
#include "trace/internal.h"

/* ---- steps of events ---- */

/* One way in which a step failed, in one or more events */
typedef struct FailedStep
{
	TraceRecord *first;
	List *records; /* of TraceRecord: one for each event and message */
	List *events;  /* of char *, each once */
} FailedStep;

static bool
is_same_error(const TraceRecord *a, const TraceRecord *b)
{
	return strcmp(a->step, b->step) == 0 &&
		   strcmp(a->sqlstate, b->sqlstate) == 0;
}

static bool
is_told(const FailedStep *step, const TraceRecord *record)
{
	ListCell *cell;

	foreach(cell, step->records)
	{
		TraceRecord *other = lfirst(cell);

		if (strcmp(other->event_id, record->event_id) == 0 &&
			strcmp(other->message ? other->message : "",
				   record->message ? record->message : "") == 0)
			return true;
	}
	return false;
}

static void
add_failure(FailedStep *step, TraceRecord *record)
{
	ListCell *cell;

	if (is_told(step, record))
		return;
	step->records = lappend(step->records, record);
	foreach(cell, step->events)
		if (strcmp(lfirst(cell), record->event_id) == 0)
			return;
	step->events = lappend(step->events, record->event_id);
}

/* The steps that still fail, of FailedStep, in the order of the lines */
static List *
failed_steps(List *lines)
{
	List *steps = NIL;
	ListCell *cell;
	ListCell *other;

	foreach(cell, lines)
	{
		TraceRecord *record = trace_record_of(lfirst(cell));
		FailedStep *found = NULL;

		if (record->kind != TRACE_ERROR || !record->failed || record->over)
			continue;
		foreach(other, steps)
			if (is_same_error(((FailedStep *) lfirst(other))->first, record))
				found = lfirst(other);
		if (found == NULL)
		{
			found = palloc0(sizeof(FailedStep));
			found->first = record;
			steps = lappend(steps, found);
		}
		add_failure(found, record);
	}
	return steps;
}

/* The line that tells how the event stands, or NULL */
static TraceRecord *
received(List *lines, const char *event_id)
{
	ListCell *cell;

	foreach(cell, lines)
	{
		TraceRecord *record = trace_record_of(lfirst(cell));

		if (record->kind == TRACE_RECEIVED &&
			strcmp(record->event_id, event_id) == 0)
			return record;
	}
	return NULL;
}

static char *
step_words(const char *step)
{
	if (step[0] == '\0')
		return pstrdup("reading the event");
	if (strcmp(step, STEP_MIRROR) == 0)
		return pstrdup("the mirror step");
	if (strcmp(step, STEP_ALERTS) == 0)
		return pstrdup("the alerts step");
	return psprintf("handler %s", words_plain(step, WORDS_ID));
}

static char *
times_words(const FailedStep *step)
{
	int attempts = 0;
	ListCell *cell;

	if (list_length(step->events) > 1)
		return psprintf("on %d events", list_length(step->events));
	foreach(cell, step->records)
		attempts += ((TraceRecord *) lfirst(cell))->attempts;
	return attempts <= 1 ? pstrdup("once") : psprintf("%d times", attempts);
}

/* "handler access failed 3 times, 22P02 (next attempt 02:25)" */
static void
add_failed_step(TraceVerdict *verdict, const FailedStep *step)
{
	char *event = linitial(step->events);
	TraceRecord *stored = received(verdict->lines, event);
	char *next = "";
	char *remedy = psprintf("SELECT stripe_sync.replay(%s)",
							sql_visible(quote_literal_cstr(event)));

	if (list_length(step->events) > 1 && stored != NULL)
		remedy = psprintf("SELECT * FROM stripe_sync.replay(since => '%s')",
						  words_time(stored->line.at, true));
	else if (stored != NULL && stored->due_at != 0)
		next = psprintf(" (next attempt %s)",
						verdict_time(verdict, stored->due_at));
	else if (stored != NULL && stored->status != NULL &&
			 strcmp(stored->status, "dead") == 0)
		next = ", and was given up";
	verdict_add(verdict,
				psprintf("%s failed %s, %s%s: fix, then %s",
						 step_words(step->first->step), times_words(step),
						 step->first->sqlstate, next, remedy));
}

/* ---- events that are held ---- */

void
verdict_held(TraceVerdict *verdict)
{
	const Event *event = verdict->subject->event;
	TraceRecord *stored = event != NULL ? received(verdict->lines, event->id)
										: NULL;

	if (stored == NULL || stored->status == NULL || event->object_id == NULL ||
		strcmp(stored->status, "ignored") != 0 || stored->object_id != NULL)
		return;
	verdict_add(
		verdict,
		psprintf(
			"held, because its mode is not its endpoint's: SELECT stripe_sync.explain_event(%s)",
			sql_visible(quote_literal_cstr(event->id))));
}

void
verdict_failed_steps(TraceVerdict *verdict)
{
	ListCell *cell;

	foreach(cell, failed_steps(verdict->lines))
		add_failed_step(verdict, lfirst(cell));
}
