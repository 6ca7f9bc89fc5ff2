/*
 * verdict.c
 *		What is wrong and what to do, in one sentence with SQL to copy:
 *
 *	paid 02:19; handler access failed 3 times, 22P02: fix, then SELECT
 *	  stripe_sync.replay('evt_1')
 *
 * It is made from the lines of the story: what has failed and is not over, what
 * waits, and which incidents are open.  What waits only for its turn is not wrong.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "base/visible.h"
#include "server/server.h"
#include "trace/internal.h"

#define MOST_TROUBLES 4
#define TEXT_COLUMNS  120 /* of an error's text */

void
verdict_add(TraceVerdict *verdict, char *trouble)
{
	verdict->troubles = lappend(verdict->troubles, trouble);
}

/* "02:19", with the date unless it is that of the story's last line */
char *
verdict_time(const TraceVerdict *verdict, TimestampTz at)
{
	char *words = words_time(at, false);
	TraceLine *last = verdict->lines != NIL ? llast(verdict->lines) : NULL;
	const char *time = strchr(words, ' ');

	if (last == NULL || time == NULL ||
		strncmp(words, words_time(last->at, false), time - words) != 0)
		return words;
	return pstrdup(time + 1);
}

/* ---- how the object stands ---- */

/* When an invoice became what it is: status_transitions.paid_at */
static TimestampTz
transition_time(const TraceObject *object, const char *status)
{
	JsonbContainer *times = json_get_object(&object->data->root,
											"status_transitions");
	const char *name = strcmp(status, "open") == 0 ? "finalized_at"
					   : strcmp(status, "uncollectible") == 0
						   ? "marked_uncollectible_at"
						   : psprintf("%s_at", status);
	JsonbValue value;
	int64 seconds;

	if (times == NULL || !json_get(times, name, &value) ||
		!json_to_int64(&value, &seconds))
		return 0;
	return time_t_to_timestamptz((pg_time_t) seconds);
}

/* "paid 02:19", "deleted"; NULL if the object has no status */
static char *
standing(const TraceVerdict *verdict)
{
	const TraceObject *object = verdict->subject->object;
	char *status;
	TimestampTz at;

	if (object == NULL)
		return NULL;
	if (object->deleted)
		return pstrdup("deleted");
	if (object->data == NULL)
		return NULL;
	status = object_status(&object->data->root);
	if (status == NULL)
		return NULL;
	at = transition_time(object, status);
	return at == 0 ? status
				   : psprintf("%s %s", status, verdict_time(verdict, at));
}

/* ---- incidents, jobs, objects to be fetched ---- */

static void
add_open_incidents(TraceVerdict *verdict)
{
	List *told = NIL;
	ListCell *cell;

	foreach(cell, verdict->lines)
	{
		TraceRecord *record = trace_record_of(lfirst(cell));

		if (record->kind != TRACE_INCIDENT || record->incident == 0 ||
			record->status == NULL || strcmp(record->status, "open") != 0 ||
			list_member_int(told, (int) record->incident))
			continue;
		told = lappend_int(told, (int) record->incident);
		verdict_add(
			verdict,
			psprintf("incident " INT64_FORMAT " (%s) is open", record->incident,
					 words_plain(record->alert ? record->alert : "", WORDS_ID)));
	}
}

/* The type of an object of the story, or NULL */
static const char *
type_of(const TraceVerdict *verdict, const char *id)
{
	ListCell *cell;

	foreach(cell, verdict->subject->objects)
		if (strcmp(((TraceObject *) lfirst(cell))->id, id) == 0)
			return ((TraceObject *) lfirst(cell))->type_name;
	return NULL;
}

/* A request to fetch an object again that was given up */
static void
add_not_fetched(TraceVerdict *verdict, const TraceRecord *record)
{
	const char *type = type_of(verdict, record->object_id);

	verdict_add(
		verdict,
		psprintf(
			"%s could not be fetched from Stripe (%s)%s",
			words_plain(record->object_id, WORDS_ID),
			words_plain(record->message ? record->message : "", TEXT_COLUMNS),
			type == NULL
				? ""
				: psprintf(": SELECT stripe_sync.refetch(%s, %s)",
						   sql_visible(quote_literal_cstr(type)),
						   sql_visible(quote_literal_cstr(record->object_id)))));
}

static void
add_failed_jobs(TraceVerdict *verdict)
{
	ListCell *cell;

	foreach(cell, verdict->lines)
	{
		TraceRecord *record = trace_record_of(lfirst(cell));

		if (!record->failed || record->over)
			continue;
		if (record->kind == TRACE_FETCHED && record->object_id != NULL &&
			record->due_at == 0 && record->status != NULL &&
			strcmp(record->status, "dead") == 0)
			add_not_fetched(verdict, record);
		else if (record->kind == TRACE_JOB)
			verdict_add(
				verdict,
				psprintf("job " INT64_FORMAT " failed: %s", record->job,
						 words_plain(record->message ? record->message
													 : "no error is known",
									 TEXT_COLUMNS)));
	}
}

/* A job that is asked for, and that nobody runs */
static void
add_waiting_job(TraceVerdict *verdict)
{
	const TraceSubject *subject = verdict->subject;
	Standstill standstill;

	if (subject->kind != TRACE_OF_JOB || subject->state == NULL ||
		(strcmp(subject->state, "waiting") != 0 &&
		 strcmp(subject->state, "running") != 0) ||
		!standstill_find("stripe", &standstill))
		return;
	verdict_add(verdict, psprintf("job " INT64_FORMAT " waits, because %s: %s",
								  subject->number, standstill.reason,
								  words_plain(standstill.hint, TEXT_COLUMNS)));
}

/* ---- the sentence ---- */

static char *
sentence(const TraceVerdict *verdict)
{
	char *stands = standing(verdict);
	StringInfoData out;
	ListCell *cell;
	int told = 0;

	initStringInfo(&out);
	if (stands != NULL)
		appendStringInfoString(&out, stands);
	foreach(cell, verdict->troubles)
	{
		if (told++ == MOST_TROUBLES)
			break;
		appendStringInfo(&out, "%s%s", out.len > 0 ? "; " : "",
						 (char *) lfirst(cell));
	}
	if (list_length(verdict->troubles) > MOST_TROUBLES)
		appendStringInfo(&out, "; and %d more",
						 list_length(verdict->troubles) - MOST_TROUBLES);
	return out.data;
}

/* NULL if nothing is wrong.  Runs in the engine's scope. */
char *
trace_verdict(const TraceSubject *subject, List *lines)
{
	TraceVerdict verdict = {subject, lines, NIL};

	verdict_failed_steps(&verdict);
	verdict_held(&verdict);
	verdict_messages(&verdict);
	add_failed_jobs(&verdict);
	add_waiting_job(&verdict);
	add_open_incidents(&verdict);
	return verdict.troubles != NIL ? sentence(&verdict) : NULL;
}
