/*
 * events.c
 *		The stored events of a story's objects, and their lines: happened at
 *		Stripe, received, applied or not, and what changed.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "base/refusal.h"
#include "engine/statement.h"
#include "inbox/event.h"
#include "receive/receive.h"
#include "types/object.h"
#include "trace/internal.h"

#define AT_ONCE USECS_PER_SEC		 /* applied with its receipt */
#define LATE	(10 * USECS_PER_SEC) /* longer than Stripe takes on a good day */

/* ---- reading ---- */

/* The columns of an event's row, as read_event() reads them */
#define EVENT_COLUMNS                                                          \
	" id, account, type, endpoint, object_id, request_id, idempotency_key,"    \
	" COALESCE(created, received_at), received_at, source, status, mirrored,"  \
	" NULLIF(pg_catalog.array_to_string(todo, ', '), ''), attempts,"           \
	" next_attempt_at, error, applied_at, payload::text"

/* NULL if the stored payload cannot be read */
static Event *
read_payload(const text *payload, char *account)
{
	Event *event = palloc(sizeof(Event));
	Refusal refusal;

	if (!event_read(VARDATA_ANY(payload), VARSIZE_ANY_EXHDR(payload), event,
					&refusal))
		return NULL;
	event->account = account; /* as event_load() does */
	return event;
}

static TraceEvent *
read_event(Rows *rows)
{
	TraceEvent *one = palloc0(sizeof(TraceEvent));

	one->id = rows_text(rows);
	one->account = rows_text(rows);
	one->type = rows_text(rows);
	one->endpoint = rows_text(rows);
	one->object_id = rows_text(rows);
	one->request_id = rows_text(rows);
	one->idempotency_key = rows_text(rows);
	one->created = rows_time(rows, 0);
	one->received_at = rows_time(rows, 0);
	one->source = rows_text(rows);
	one->status = rows_text(rows);
	one->mirrored = rows_text(rows);
	one->todo = rows_text(rows);
	one->attempts = rows_int4(rows, 0);
	one->next_attempt_at = rows_time(rows, 0);
	one->error = rows_text(rows);
	one->applied_at = rows_time(rows, 0);
	one->event = read_payload(rows_varlena(rows, TEXTOID), one->account);
	return one;
}

/*
 * The object's events that were created between two times, the newest first, of
 * TraceEvent; at most "most".
 */
List *
events_of_object(const TraceObject *object, TimestampTz from, TimestampTz until,
				 int most)
{
	static EngineStatement select = {
		"SELECT" EVENT_COLUMNS " FROM stripe_sync.event"
		" WHERE object_id = $1 AND account = COALESCE($2, account)"
		" AND object_type = COALESCE($3, object_type)"
		" AND COALESCE(created, received_at) BETWEEN $4 AND $5"
		" ORDER BY created DESC, id DESC LIMIT $6"};
	bool any = object->type != NULL &&
			   strcmp(object->type->object, "account") == 0;
	List *events = NIL;
	Rows rows;

	rows_open(&rows, &select,
			  ARGS(arg_text(object->id), arg_text(any ? NULL : object->account),
				   arg_text(object->type_name), arg_time(from), arg_time(until),
				   arg_int4(most)));
	while (rows_next(&rows))
		events = lappend(events, read_event(&rows));
	rows_close(&rows);
	return events;
}

/* An event by its id, or NULL */
TraceEvent *
events_find(const char *id, const char *account)
{
	static EngineStatement select = {"SELECT" EVENT_COLUMNS
									 " FROM stripe_sync.event"
									 " WHERE id = $1 AND account = $2"};
	TraceEvent *one = NULL;
	Rows rows;

	rows_open(&rows, &select, ARGS(arg_text(id), arg_text(account)));
	if (rows_next(&rows))
		one = read_event(&rows);
	rows_close(&rows);
	return one;
}

/* ---- telling ---- */

static TraceRecord *
add_record(TraceGather *gather, TraceKind kind, TimestampTz at,
		   const TraceEvent *one)
{
	TraceRecord *record = record_add(gather, kind, at);

	record->line.ref = one->id;
	record->main = one->main;
	record->event_id = one->id;
	record->account = one->account;
	record->event_type = one->type;
	record->object_id = one->object_id;
	record->status = one->status;
	record->due_at = one->next_attempt_at;
	return record;
}

/* "  (charge ch_1, request req_8, idempotency key abc)" */
static char *
cause_words(const TraceEvent *one)
{
	StringInfoData words;

	initStringInfo(&words);
	if (!one->main && one->object_id != NULL)
		appendStringInfo(&words, ", %s", one->object_id);
	if (one->request_id != NULL)
		appendStringInfo(&words, ", request %s", one->request_id);
	if (one->idempotency_key != NULL)
		appendStringInfo(&words, ", idempotency key %s", one->idempotency_key);
	return words.len > 0 ? psprintf("  (%s)", words.data + 2) : "";
}

static void
tell_happened(TraceGather *gather, const TraceEvent *one)
{
	TraceRecord *record = add_record(gather, TRACE_HAPPENED, one->created, one);

	record_say(record, "%s  %s%s", one->type, one->id, cause_words(one));
	record_fact_text(record, "event", one->id);
	record_fact_text(record, "type", one->type);
	record_fact_text(record, "object", one->object_id);
	record_fact_text(record, "account",
					 one->account[0] != '\0' ? one->account : NULL);
	record_fact_text(record, "request_id", one->request_id);
	record_fact_text(record, "idempotency_key", one->idempotency_key);
}

/* What became of the mirror step */
static char *
outcome_words(TraceGather *gather, const TraceEvent *one)
{
	char *changes;

	if (one->mirrored == NULL)
		return strcmp(one->status, "ignored") == 0
				   ? pstrdup("ignored: its mode is not its endpoint's")
			   : strcmp(one->status, "pending") == 0
				   ? pstrdup("not applied yet")
				   : pstrdup("not applied: the mirror step failed");
	if (strcmp(one->mirrored, "stale") == 0)
		return pstrdup("stale: the mirror has a newer state");
	if (strcmp(one->mirrored, "ignored") == 0)
		return one->event != NULL && one->event->unmirrored != NULL
				   ? psprintf("ignored: %s", one->event->unmirrored)
				   : pstrdup("ignored: there is nothing to mirror");
	changes = one->event != NULL
				  ? event_change_words(one->event, &gather->histories)
				  : "";
	return changes != NULL && changes[0] != '\0'
			   ? psprintf("applied: %s", changes)
			   : pstrdup("applied");
}

static char *
source_words(const TraceEvent *one)
{
	const char *endpoint = one->endpoint != NULL
							   ? psprintf(" by endpoint %s", one->endpoint)
							   : "";

	if (strcmp(one->source, "reconcile") == 0)
		return psprintf(
			"found in Stripe's list of events by reconcile%s",
			one->endpoint ? psprintf(", for endpoint %s", one->endpoint) : "");
	if (strcmp(one->source, "simulate") == 0)
		return psprintf("simulated, received%s", endpoint);
	return psprintf("received%s", endpoint);
}

static void
add_outcome_facts(TraceRecord *record, const TraceEvent *one)
{
	record_fact_text(record, "event", one->id);
	record_fact_text(record, "status", one->status);
	record_fact_text(record, "mirrored", one->mirrored);
	record_fact_number(record, "attempts", one->attempts);
	record_fact_text(record, "todo", one->todo);
	record_fact_time(record, "next_attempt_at", one->next_attempt_at);
	record->failed = strcmp(one->status, "failed") == 0 ||
					 strcmp(one->status, "dead") == 0;
}

static void
tell_received(TraceGather *gather, TraceEvent *one)
{
	TraceRecord *record = add_record(gather, TRACE_RECEIVED, one->received_at,
									 one);
	TimestampTz delay = one->received_at - one->created;
	bool at_once = one->applied_at == 0 ||
				   one->applied_at - one->received_at < AT_ONCE;

	one->received = record;
	record_say(record, "%s%s; %s", source_words(one),
			   delay >= LATE
				   ? psprintf(", %s after it happened", trace_duration(delay))
				   : "",
			   at_once ? outcome_words(gather, one) : "applied later");
	record_fact_text(record, "endpoint", one->endpoint);
	record_fact_text(record, "source", one->source);
	record_fact_ms(record, "delay_ms", delay / 1000.0);
	add_outcome_facts(record, one);
	if (at_once)
		return;
	record = add_record(gather, TRACE_APPLIED, one->applied_at, one);
	record_say(record, "%s%s", outcome_words(gather, one),
			   one->attempts > 1 ? psprintf(" (%d attempts)", one->attempts)
								 : "");
	add_outcome_facts(record, one);
}

static int
compare_events(const ListCell *a, const ListCell *b)
{
	const TraceEvent *left = lfirst(a);
	const TraceEvent *right = lfirst(b);

	if (left->created != right->created)
		return left->created < right->created ? -1 : 1;
	if (left->received_at != right->received_at)
		return left->received_at < right->received_at ? -1 : 1;
	return strcmp(left->id, right->id);
}

/* The lines of the story's events.  Those of one second are as they came. */
void
events_tell(TraceGather *gather)
{
	ListCell *cell;

	list_sort(gather->events, compare_events);
	foreach(cell, gather->events)
	{
		tell_happened(gather, lfirst(cell));
		tell_received(gather, lfirst(cell));
	}
}
