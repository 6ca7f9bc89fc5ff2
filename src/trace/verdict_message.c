/*
 * verdict_message.c
 *		Messages of a story that were not sent: why, and what to do.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "base/visible.h"
#include "engine/statement.h"
#include "server/server.h"
#include "trace/internal.h"

#define TEXT_COLUMNS 120

/* A message as its lines tell it */
typedef struct Unsent
{
	int64 id;
	char *destination;
	char *state;
	char *code; /* Slack's last answer, or NULL */
	int attempts;
	TimestampTz due_at;
} Unsent;

/* ---- reading the lines ---- */

static Unsent *
find_unsent(List **messages, int64 id)
{
	Unsent *message;
	ListCell *cell;

	foreach(cell, *messages)
		if (((Unsent *) lfirst(cell))->id == id)
			return lfirst(cell);
	message = palloc0(sizeof(Unsent));
	message->id = id;
	*messages = lappend(*messages, message);
	return message;
}

static void
note_line(Unsent *message, const TraceRecord *record)
{
	message->state = record->message_state;
	if (record->destination != NULL)
		message->destination = record->destination;
	if (record->due_at != 0)
		message->due_at = record->due_at;
	if (record->kind != TRACE_DELIVERY && record->kind != TRACE_SETTLED)
		return;
	message->attempts = Max(message->attempts, record->attempts);
	if (record->code != NULL)
		message->code = record->code;
	else if (record->http_status != 0)
		message->code = psprintf("%d", record->http_status);
}

/* The messages that are neither sent nor cancelled, of Unsent */
static List *
unsent_messages(List *lines)
{
	List *messages = NIL;
	ListCell *cell;

	foreach(cell, lines)
	{
		TraceRecord *record = trace_record_of(lfirst(cell));

		if (record->message_id != 0 && record->message_state != NULL &&
			strcmp(record->message_state, "sent") != 0 &&
			strcmp(record->message_state, "cancelled") != 0)
			note_line(find_unsent(&messages, record->message_id), record);
	}
	return messages;
}

/* ---- why, and what to do ---- */

/*
 * Why the destination takes no messages, with what to do; NULL if it does.  One
 * whose token or URL Slack rejects needs another first.
 */
static char *
disabled_words(const char *destination)
{
	static EngineStatement select = {
		"SELECT COALESCE(disabled_reason, 'no reason is known'), refused, kind"
		" FROM stripe_sync.destination WHERE name = $1 AND NOT enabled"};
	char *words = NULL;
	Rows rows;

	rows_open(&rows, &select, ARGS(arg_text(destination)));
	if (rows_next(&rows))
	{
		char *name = sql_visible(quote_literal_cstr(destination));
		char *reason = words_plain(rows_text(&rows), TEXT_COLUMNS);
		bool refused = rows_bool(&rows, false);
		bool webhook = strcmp(rows_text(&rows), "webhook") == 0;

		words = psprintf(
			"destination %s is disabled (%s): %sSELECT stripe_sync.enable_destination(%s)",
			words_plain(destination, WORDS_ID), reason,
			!refused ? ""
			: webhook
				? "give it a URL that works with stripe_sync.add_slack_webhook(), or "
				: "give it a token that works with stripe_sync.add_slack_channel(), or ",
			name);
	}
	rows_close(&rows);
	return words;
}

/* Why a message waits; NULL if it only waits for its turn. */
static char *
waiting_reason(const TraceVerdict *verdict, const Unsent *message)
{
	char *disabled = disabled_words(message->destination);
	Standstill standstill;

	if (disabled != NULL)
		return disabled;
	if (standstill_find("slack", &standstill))
		return psprintf("%s: %s", standstill.reason,
						words_plain(standstill.hint, TEXT_COLUMNS));
	if (message->attempts == 0)
		return NULL;
	return psprintf(
		"the last attempt failed%s%s%s%s%s", message->code != NULL ? " (" : "",
		message->code != NULL ? words_plain(message->code, WORDS_ID) : "",
		message->code != NULL ? ")" : "",
		message->due_at != 0 ? "; next attempt " : "",
		message->due_at != 0 ? verdict_time(verdict, message->due_at) : "");
}

/* ---- messages of the same trouble ---- */

typedef struct MessageGroup
{
	bool dead;
	char *reason;
	Unsent *first;
	int count;
} MessageGroup;

static void
add_to_group(List **groups, bool dead, char *reason, Unsent *message)
{
	MessageGroup *group;
	ListCell *cell;

	foreach(cell, *groups)
	{
		group = lfirst(cell);
		if (group->dead == dead && strcmp(group->reason, reason) == 0)
		{
			group->count++;
			return;
		}
	}
	group = palloc(sizeof(MessageGroup));
	*group = (MessageGroup){dead, reason, message, 1};
	*groups = lappend(*groups, group);
}

static char *
count_words(const MessageGroup *group)
{
	return group->count > 1
			   ? psprintf("%d messages", group->count)
			   : psprintf("message " INT64_FORMAT, group->first->id);
}

/* "message 3 to billing was given up, channel_not_found: fix, then SELECT ..." */
static char *
dead_words(const MessageGroup *group)
{
	const char *name = group->first->destination;
	bool several = group->count > 1;

	return psprintf(
		"%s to %s %s given up%s: fix, then %s", count_words(group),
		words_plain(name, WORDS_ID), several ? "were" : "was", group->reason,
		!several
			? psprintf("SELECT stripe_sync.retry_message(" INT64_FORMAT ")",
					   group->first->id)
			: psprintf(
				  "SELECT stripe_sync.retry_message(id) FROM stripe_sync.message WHERE state = 'dead' AND destination = %s",
				  sql_visible(quote_literal_cstr(name))));
}

void
verdict_messages(TraceVerdict *verdict)
{
	List *groups = NIL;
	ListCell *cell;

	foreach(cell, unsent_messages(verdict->lines))
	{
		Unsent *message = lfirst(cell);
		bool dead = strcmp(message->state, "dead") == 0;
		char *reason;

		if (message->destination == NULL)
			continue;
		if (dead)
			reason = message->code == NULL
						 ? ""
						 : psprintf(", %s",
									words_plain(message->code, WORDS_ID));
		else
			reason = waiting_reason(verdict, message);
		if (reason != NULL)
			add_to_group(&groups, dead, reason, message);
	}
	foreach(cell, groups)
	{
		MessageGroup *group = lfirst(cell);

		verdict_add(verdict,
					group->dead
						? dead_words(group)
						: psprintf("%s %s, because %s", count_words(group),
								   group->count > 1 ? "wait" : "waits",
								   group->reason));
	}
}
