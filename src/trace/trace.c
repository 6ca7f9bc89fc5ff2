/*
 * trace.c
 *		trace(): the story of an object or event across Stripe, Postgres and
 *		Slack.
 *
 * A reference is resolved to what it refers to (lookup/reference.c).  For each of
 * these a story is gathered: the objects that belong to it (belong.c) with their
 * events, then the lines of each kind.  All of it runs in the engine's scope, in
 * the caller's transaction; nothing is written and no row is locked.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/builtins.h"

#include "base/base.h"
#include "engine/engine.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "inbox/inbox.h"
#include "trace/internal.h"

#define MOST_STORIES 10
#define MOST_TABLES	 5 /* named of those that were not looked at */

/* ---- the subject ---- */

static TraceObject *
make_object(const Referent *referent)
{
	TraceObject *object = palloc0(sizeof(TraceObject));

	object->type_name = referent->object_type;
	if (referent->object_type != NULL)
		object->type = catalog_find(referent->object_type,
									strlen(referent->object_type));
	object->id = referent->id;
	object->account = referent->account;
	object->main = true;
	return object;
}

/* The event that was asked for, which may be older than those that are shown */
static void
add_asked(TraceGather *gather)
{
	const Referent *referent = gather->referent;
	TraceEvent *asked = NULL;
	ListCell *cell;

	if (referent->event_id == NULL)
		return;
	foreach(cell, gather->events)
		if (strcmp(((TraceEvent *) lfirst(cell))->id, referent->event_id) == 0)
			asked = lfirst(cell);
	if (asked == NULL)
	{
		asked = events_find(referent->event_id, referent->account);
		if (asked == NULL)
			return;
		asked->main = true;
		gather->events = lappend(gather->events, asked);
	}
	gather->subject.event = asked->event;
}

static void
set_message(TraceGather *gather)
{
	static EngineStatement select = {
		"SELECT destination, state FROM stripe_sync.message WHERE id = $1"};
	Rows rows;

	rows_open(&rows, &select, ARGS(arg_int8(gather->referent->number)));
	if (rows_next(&rows))
	{
		gather->subject.name = rows_text(&rows);
		gather->subject.state = rows_text(&rows);
	}
	rows_close(&rows);
}

static void
tell_incident(TraceGather *gather)
{
	TraceIncident *incident = incident_find(gather->referent->number);

	if (incident == NULL)
		return;
	gather->subject.name = incident->alert;
	gather->subject.state = incident->state;
	own_story_tell_incident(gather, incident);
}

/* ---- a story ---- */

/* The lines of the story's events, and what followed from them. */
static void
tell_events(TraceGather *gather)
{
	add_asked(gather);
	events_tell(gather);
	steps_tell(gather);
	alerts_tell(gather);
	unsaid_tell(gather);
	fetches_tell(gather);
}

static void
keep_message(TraceGather *gather)
{
	int64 *message = palloc(sizeof(int64));

	*message = gather->referent->number;
	if (*message != 0)
		gather->messages = list_make1(message);
}

static void
gather_lines(TraceGather *gather)
{
	switch (gather->subject.kind)
	{
		case TRACE_OF_OBJECT:
			gather->subject.object = make_object(gather->referent);
			belong_gather(gather);
			tell_events(gather);
			keep_message(gather);
			break;
		case TRACE_OF_EVENT:
			tell_events(gather);
			keep_message(gather);
			break;
		case TRACE_OF_MESSAGE:
			set_message(gather);
			keep_message(gather);
			break;
		case TRACE_OF_INCIDENT:
			tell_incident(gather);
			break;
		case TRACE_OF_JOB:
			(void) own_story_tell_job(gather, gather->referent->number);
			break;
	}
	people_tell(gather);
	messages_tell(gather);
}

static TraceSubjectKind
kind_of(const Referent *referent)
{
	switch (referent->kind)
	{
		case REFERENT_OBJECT:
			return TRACE_OF_OBJECT;
		case REFERENT_EVENT:
			return TRACE_OF_EVENT;
		case REFERENT_MESSAGE:
			return TRACE_OF_MESSAGE;
		case REFERENT_INCIDENT:
			return TRACE_OF_INCIDENT;
		case REFERENT_JOB:
			break;
	}
	return TRACE_OF_JOB;
}

/* What was not looked at, because the caller may not or the table cannot be used */
static void
note_left_out(TraceGather *gather)
{
	List *tables = visible_rows_left_out();
	int n = list_length(tables);
	StringInfoData names;

	if (n == 0)
		return;
	initStringInfo(&names);
	for (int i = 0; i < Min(n, MOST_TABLES); i++)
		appendStringInfo(&names, "%s%s", i > 0 ? ", " : "",
						 (char *) list_nth(tables, i));
	record_cut(gather, "Not looked at: %s%s.", names.data,
			   n > MOST_TABLES ? psprintf(" and %d others", n - MOST_TABLES)
							   : "");
}

static List *
bounded_lines(TraceGather *gather)
{
	List *lines = record_lines(gather);
	int over = list_length(lines) - TRACE_MOST_LINES;

	if (over <= 0)
		return lines;
	record_cut(gather, "Only the last %d lines are shown.", TRACE_MOST_LINES);
	return list_copy_tail(lines, over);
}

static TraceStory *
tell_story(TraceGather *gather, const Reference *reference)
{
	TraceStory *story = palloc0(sizeof(TraceStory));
	int nest = plan_for_indexes();

	gather_lines(gather);
	plan_settings_restore(nest);
	if (reference->others != NULL)
		record_cut(gather, "%s", reference->others);
	note_left_out(gather);
	story->lines = bounded_lines(gather);
	if (story->lines == NIL)
		record_cut(gather, "No event about it is stored%s.",
				   gather->span != NULL ? " within that span" : "");
	story->heading = trace_heading(&gather->subject);
	story->verdict = trace_verdict(&gather->subject, story->lines);
	story->cut = gather->cut != NULL ? gather->cut->data : NULL;
	return story;
}

/* ---- all stories ---- */

/* Is the object told in one of these stories (TraceGather)? */
static bool
is_told(List *gathers, const Referent *referent)
{
	ListCell *cell;
	ListCell *one;

	if (referent->kind != REFERENT_OBJECT)
		return false;
	foreach(cell, gathers)
		foreach(one, ((TraceGather *) lfirst(cell))->subject.objects)
		{
			TraceObject *object = lfirst(one);

			if (strcmp(object->id, referent->id) == 0 &&
				strcmp(object->account, referent->account) == 0)
				return true;
		}
	return false;
}

static List *
tell_all(const Reference *reference, const Interval *span)
{
	List *gathers = NIL;
	List *stories = NIL;
	ListCell *cell;

	foreach(cell, reference->referents)
	{
		Referent *referent = lfirst(cell);
		TraceGather *gather;

		if (is_told(gathers, referent) || list_length(stories) >= MOST_STORIES)
			continue;
		gather = palloc0(sizeof(TraceGather));
		gather->referent = referent;
		gather->span = span;
		gather->subject.kind = kind_of(referent);
		gather->subject.ref = reference->ref;
		gather->subject.number = referent->number;
		gathers = lappend(gathers, gather);
		stories = lappend(stories, tell_story(gather, reference));
	}
	return stories;
}

List *
trace_collect(const char *ref, const char *account, const Interval *span)
{
	Reference reference = {.ref = ref, .account = account};
	RoleScope scope = role_enter_engine();
	List *stories;

	endpoint_check_interval(span, "span");
	(void) visible_rows_left_out();
	reference_resolve(&reference);
	stories = tell_all(&reference, span);
	role_leave(&scope);
	return stories;
}

/* trace(ref, account, span) */
ENGINE_FUNCTION(stripe_sync_trace)
{
	const char *account = PG_ARGISNULL(1)
							  ? NULL
							  : text_to_cstring(PG_GETARG_TEXT_PP(1));
	const Interval *span = PG_ARGISNULL(2) ? NULL : PG_GETARG_INTERVAL_P(2);
	List *stories;
	ListCell *cell;
	ListCell *line;

	argument_required(fcinfo, 0, "reference");
	InitMaterializedSRF(fcinfo, 0);
	stories = trace_collect(text_to_cstring(PG_GETARG_TEXT_PP(0)), account,
							span);
	foreach(cell, stories)
		foreach(line, ((TraceStory *) lfirst(cell))->lines)
		{
			TraceLine *one = lfirst(line);

			result_add_row((ReturnSetInfo *) fcinfo->resultinfo,
						   ARGS(arg_time(one->at), arg_text(one->system),
								arg_text(one->what), arg_text(one->ref),
								arg_jsonb(one->detail)));
		}
	return (Datum) 0;
}
