/*
 * messages.c
 *		Messages of the story: queued, every attempt to send them with Slack's
 *		answer, and those that were given up or cancelled; and what was done to
 *		their destinations meanwhile (switched off and on, Slack paused).
 *
 * They are the messages of the story's own incidents, those that one of its
 * events caused (also in an incident shared with others), and those that were
 * asked for.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "engine/statement.h"
#include "trace/internal.h"

#define MOST_MESSAGES 300

static TraceMessage *
read_message(Rows *rows)
{
	TraceMessage *message = palloc0(sizeof(TraceMessage));

	message->id = rows_int8(rows, 0);
	message->destination = rows_text(rows);
	message->method = rows_text(rows);
	message->state = rows_text(rows);
	message->attempts = rows_int4(rows, 0);
	message->due_at = rows_time(rows, 0);
	message->last_code = rows_text(rows);
	message->event_id = rows_text(rows);
	message->incident = rows_int8(rows, 0);
	message->is_post = rows_bool(rows, true);
	message->created_at = rows_time(rows, 0);
	message->settled_at = rows_time(rows, 0);
	message->where = rows_text(rows);
	message->disabled = rows_text(rows);
	message->held_at = rows_time(rows, 0);
	return message;
}

/* What selects the messages, as arrays */
typedef struct Selection
{
	ArrayBuildState *ids;
	ArgColumns keys;
} Selection;

static void
collect(TraceGather *gather, Selection *selection)
{
	MemoryContext memory = CurrentMemoryContext;
	ListCell *cell;

	selection->ids = initArrayResult(INT8OID, memory, false);
	foreach(cell, gather->messages)
		(void) accumArrayResult(selection->ids,
								Int64GetDatum(*(int64 *) lfirst(cell)), false,
								INT8OID, memory);
	columns_add(&selection->keys,
				ARGS(arg_text(""), arg_text(""), arg_text("")));
	steps_alert_keys(gather, &selection->keys);
}

/*
 * The messages in the order in which they were queued, of TraceMessage.  An update
 * that was queued again while it was being sent has no account.
 */
static List *
read_messages(TraceGather *gather)
{
	static EngineStatement select = {
		"SELECT m.id, m.destination, m.method, m.state, m.attempts, m.due_at,"
		" m.last_code, m.event_id, COALESCE(m.incident, 0),"
		" m.incident IS NULL OR i.message_id = m.id, m.created_at, m.settled_at,"
		" CASE WHEN pg_catalog.starts_with(d.channel, '#') THEN d.channel"
		"  ELSE m.destination END,"
		" CASE WHEN d.enabled THEN NULL"
		"  ELSE COALESCE(d.disabled_reason, '') END, m.held_at"
		" FROM stripe_sync.message m"
		" LEFT JOIN stripe_sync.destination d ON d.name = m.destination"
		" LEFT JOIN stripe_sync.incident_record i ON i.id = m.incident"
		/* an array, so that the planner looks up the ids and nothing else */
		" WHERE m.id = ANY (ARRAY("
		"   SELECT o.id FROM stripe_sync.message o WHERE o.incident = ANY ($1)"
		"   UNION ALL SELECT o FROM pg_catalog.unnest($2) o"
		"   UNION ALL SELECT o.id FROM unnest($3, $4) k (id, account)"
		"    JOIN stripe_sync.message o ON o.event_id = k.id"
		"     AND COALESCE(o.account, k.account) = k.account))"
		" ORDER BY m.id LIMIT $5"};
	Selection selection = {0};
	List *messages = NIL;
	Rows rows;

	collect(gather, &selection);
	rows_open(
		&rows, &select,
		ARGS(arg_varlena(INT8ARRAYOID, incident_ids(gather)),
			 arg_datum(INT8ARRAYOID,
					   makeArrayResult(selection.ids, CurrentMemoryContext)),
			 arg_column(&selection.keys, 0), arg_column(&selection.keys, 1),
			 arg_int4(MOST_MESSAGES)));
	while (rows_next(&rows))
		messages = lappend(messages, read_message(&rows));
	rows_close(&rows);
	if (list_length(messages) == MOST_MESSAGES)
		record_cut(gather, "Only the first %d messages are shown.",
				   MOST_MESSAGES);
	return messages;
}

/* ---- lines ---- */

/* When its next attempt is due; 0: not at a time that is known */
static TimestampTz
due_at(const TraceMessage *message)
{
	return strcmp(message->state, "waiting") != 0 ||
				   TIMESTAMP_NOT_FINITE(message->due_at)
			   ? 0
			   : message->due_at;
}

TraceRecord *
messages_record(TraceGather *gather, TraceKind kind, TimestampTz at,
				const TraceMessage *message)
{
	TraceRecord *record = record_add(gather, kind, at);

	record->line.ref = psprintf("message " INT64_FORMAT, message->id);
	record->message_id = message->id;
	record->message_state = message->state;
	record->status = message->state;
	record->destination = message->destination;
	record->event_id = message->event_id;
	record->incident = message->incident;
	record->due_at = due_at(message);
	record_fact_number(record, "message", message->id);
	record_fact_text(record, "destination", message->destination);
	record_fact_text(record, "method", message->method);
	return record;
}

static TraceRecord *
find_opening(TraceGather *gather, int64 message)
{
	ListCell *cell;

	foreach(cell, gather->records)
	{
		TraceRecord *record = lfirst(cell);

		if (record->kind == TRACE_INCIDENT && record->message_id == message)
			return record;
	}
	return NULL;
}

/* Is it held by quiet hours?  Its due_at is infinity then. */
static bool
is_held(const TraceMessage *message)
{
	return message->held_at != 0 && strcmp(message->state, "waiting") == 0 &&
		   TIMESTAMP_NOT_FINITE(message->due_at);
}

/* Why it waits, if its destination takes no messages */
static char *
waiting_words(const TraceMessage *message)
{
	if (is_held(message))
		return psprintf("; it is held until the quiet hours of %s end",
						message->destination);
	if (strcmp(message->state, "waiting") != 0 || message->disabled == NULL)
		return "";
	return psprintf("; it waits, because destination %s is disabled%s%s",
					message->destination,
					message->disabled[0] != '\0' ? ": " : "", message->disabled);
}

static char *
queued_words(const TraceMessage *message)
{
	if (strcmp(message->method, "update") == 0)
		return psprintf("update of the message of incident " INT64_FORMAT
						" queued for %s (message " INT64_FORMAT ")",
						message->incident, message->destination, message->id);
	if (strcmp(message->method, "summary") == 0)
		return psprintf("summary of incident " INT64_FORMAT
						" queued for %s (message " INT64_FORMAT ")",
						message->incident, message->destination, message->id);
	if (!message->is_post)
		return psprintf("answer in the thread of incident " INT64_FORMAT
						" queued for %s (message " INT64_FORMAT ")",
						message->incident, message->destination, message->id);
	return psprintf("message " INT64_FORMAT " queued for %s", message->id,
					message->destination);
}

/* The line of the incident that it opened may say already that it was queued. */
static void
tell_queued(TraceGather *gather, const TraceMessage *message)
{
	TraceRecord *record = message->is_post ? find_opening(gather, message->id)
										   : NULL;

	if (record != NULL)
		record_append(record, "%s", waiting_words(message));
	else
	{
		record = messages_record(gather, TRACE_QUEUED, message->created_at,
								 message);
		record_say(record, "%s%s", queued_words(message),
				   waiting_words(message));
	}
	record->message_state = message->state;
	record->due_at = due_at(message);
	record_fact_text(record, "message_state", message->state);
	record_fact_time(record, "due_at", record->due_at);
}

static void
tell_settled(TraceGather *gather, const TraceMessage *message)
{
	bool dead = strcmp(message->state, "dead") == 0;
	TraceRecord *record;

	if (!dead && strcmp(message->state, "cancelled") != 0)
		return;
	record = messages_record(gather, TRACE_SETTLED, message->settled_at,
							 message);
	record->failed = dead;
	record->code = message->last_code;
	record->attempts = message->attempts;
	if (dead)
		record_say(
			record, "message " INT64_FORMAT " given up after %d attempt%s%s%s",
			message->id, message->attempts, message->attempts == 1 ? "" : "s",
			message->last_code ? ": " : "",
			message->last_code ? message->last_code : "");
	else
		record_say(record, "message " INT64_FORMAT " cancelled%s", message->id,
				   message->last_code != NULL &&
						   strcmp(message->last_code, "quiet_hours") == 0
					   ? ": the digest after the quiet hours said it"
					   : "");
	record_fact_text(record, "state", message->state);
	record_fact_text(record, "code", message->last_code);
}

/* ---- what was done to their destinations meanwhile ---- */

/* The lines of messages, their deliveries and destinations. */
void
messages_tell(TraceGather *gather)
{
	List *messages = read_messages(gather);
	ListCell *cell;

	foreach(cell, messages)
	{
		tell_queued(gather, lfirst(cell));
		tell_settled(gather, lfirst(cell));
	}
	deliveries_tell(gather, messages);
	journal_tell(gather);
}
