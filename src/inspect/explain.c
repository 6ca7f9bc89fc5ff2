/*
 * explain.c
 *		explain_event(): why an event was applied, stale or ignored, in words.
 *
 * It is derived from what is stored now: the event's row, the stored events of
 * its object, and the object's row in the mirror.  No row is locked.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"

#include "base/subtransaction.h"
#include "engine/engine.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "inbox/event.h"
#include "mirror/mirror.h"
#include "receive/receive.h"
#include "tables/tables.h"
#include "types/object.h"

/* The event's row, as text */
typedef struct EventRow
{
	char *account;
	char *endpoint;
	char *received_at;
	char *source;
	char *status;
	char *mirrored;
	char *attempts;
	char *next_attempt_at;
	char *error;
	char *todo;
} EventRow;

/* Of several accounts' events of that id, the first.  Returns false if none. */
static bool
read_event_row(const char *id, EventRow *row)
{
	static EngineStatement select = {
		"SELECT account, endpoint, received_at, source, status, mirrored,"
		" attempts, next_attempt_at, error,"
		" (SELECT pg_catalog.string_agg(pg_catalog.format('%s (tries: %s)', t.step,"
		"    COALESCE(e.tries ->> t.step, '0')), ', ' ORDER BY t.n)"
		"    FROM pg_catalog.unnest(e.todo) WITH ORDINALITY t (step, n))"
		" FROM stripe_sync.event e WHERE id = $1 ORDER BY account LIMIT 1"};
	bool found;
	Rows rows;

	rows_open(&rows, &select, ARGS(arg_text(id)));
	found = rows_next(&rows);
	if (found)
	{
		row->account = rows_text(&rows);
		row->endpoint = rows_text(&rows);
		row->received_at = rows_text(&rows);
		row->source = rows_text(&rows);
		row->status = rows_text(&rows);
		row->mirrored = rows_text(&rows);
		row->attempts = rows_text(&rows);
		row->next_attempt_at = rows_text(&rows);
		row->error = rows_text(&rows);
		row->todo = rows_text(&rows);
	}
	rows_close(&rows);
	return found;
}

/* timestamptz_to_str() returns a static buffer. */
static const char *
time_words(TimestampTz at)
{
	return pstrdup(timestamptz_to_str(at));
}

/* "evt_1 is an invoice.paid event about invoice in_1, ...  It was received ..." */
static void
append_arrival(StringInfo out, const Event *event, const EventRow *row)
{
	appendStringInfo(out, "%s is %s %s event", event->id,
					 strchr("aeiou", event->type[0]) ? "an" : "a", event->type);
	if (event->object_id != NULL)
		appendStringInfo(out, " about %s %s", event->object_type,
						 event->object_id);
	if (event->account[0] != '\0')
		appendStringInfo(out, " of account %s", event->account);
	if (event->has_created)
		appendStringInfo(out, ", created %s", time_words(event->created));
	appendStringInfo(out, ".\nIt was received %s (%s%s%s) and is %s after %s.\n",
					 row->received_at, row->source,
					 row->endpoint ? " at endpoint " : "",
					 row->endpoint ? row->endpoint : "", row->status,
					 strcmp(row->attempts, "1") == 0
						 ? "one attempt"
						 : psprintf("%s attempts", row->attempts));
}

/* Which events were compared, and which rule decided. */
static void
append_decision(StringInfo out, const Event *event, const char *account)
{
	EventHistory *history = fetched_note_read_history(
		event->catalog, event->object_id, account);
	Verdict verdict = newest_find(history);
	int n = list_length(history->versions);

	if (n == 1)
		appendStringInfo(out,
						 "It is the only stored event about that object.\n");
	else
		appendStringInfo(
			out,
			"Of %d stored events about that object %s (created %s) is the newest: %s.\n",
			n, verdict.newest->event_id, time_words(verdict.newest->created),
			verdict.rule);
	if (verdict.ambiguous)
		appendStringInfoString(
			out,
			"Stripe does not say which of them is newer, so the rule may be wrong: the object is marked to be fetched again from Stripe.\n");
}

/* The object's row in the mirror: as of when, and from which event. */
static void
append_row(StringInfo out, const Event *event, const char *account)
{
	MirrorTable *table = table_cache_find(event->catalog, TABLE_READ);
	MirrorState state;

	if (table == NULL)
		appendStringInfo(
			out,
			"There is no table %s.%s: call stripe_sync.create_tables(ARRAY[%s]), then stripe_sync.replay(%s).\n",
			MIRROR_SCHEMA, event->catalog->table,
			quote_literal_cstr(event->catalog->object),
			quote_literal_cstr(event->id));
	else if (!mirror_peek(table, event->object_id, account, &state, NULL))
		appendStringInfo(out, "%s.%s has no row for it.\n", MIRROR_SCHEMA,
						 event->catalog->table);
	else
	{
		appendStringInfo(
			out, "%s.%s holds its state as of %s, from %s", MIRROR_SCHEMA,
			event->catalog->table, time_words(state.as_of),
			state.event_id == NULL					 ? "Stripe's API"
			: strcmp(state.event_id, event->id) == 0 ? "this event"
													 : state.event_id);
		if (state.deleted)
			appendStringInfo(out, ", deleted %s", time_words(state.deleted_at));
		appendStringInfoString(out, ".\n");
	}
}

/* Arguments of append_row_body() */
typedef struct RowArguments
{
	StringInfo out;
	const Event *event;
	const char *account;
} RowArguments;

static void
append_row_body(void *arg)
{
	RowArguments *part = arg;

	append_row(part->out, part->event, part->account);
}

/* An error, as of a table that was altered, is shown and not raised. */
static void
append_mirror(StringInfo out, const Event *event, const char *account)
{
	RowArguments part = {out, event, account};
	ErrorData *error;

	if (!subtransaction_run(append_row_body, &part, NULL, &error))
		appendStringInfo(out, "%s.%s cannot be used: %s.\n", MIRROR_SCHEMA,
						 event->catalog->table, error->message);
}

/* The steps left to do, when the next attempt is due, and the last error. */
static void
append_todo(StringInfo out, const EventRow *row)
{
	if (row->todo == NULL)
		appendStringInfoString(out, "Nothing is left to do.");
	else
	{
		appendStringInfo(out, "Still to do: %s.", row->todo);
		if (row->next_attempt_at != NULL)
			appendStringInfo(out, " The next attempt is due %s.",
							 row->next_attempt_at);
		else
			appendStringInfoString(
				out,
				" There will be no further attempt: fix the cause, then call stripe_sync.replay().");
	}
	if (row->error != NULL)
		appendStringInfo(out, "\nLast error: %s", row->error);
}

/* Returns false unless the event is held because of its mode. */
static bool
append_held(StringInfo out, const Event *event, const EventRow *row)
{
	StoredEvent stored = {.event = *event,
						  .status = row->status,
						  .mirrored = row->mirrored,
						  .endpoint = row->endpoint};
	char *reason;

	if (!held_is(&stored))
		return false;
	reason = held_reason(&stored);
	if (reason != NULL)
		appendStringInfo(out, "It was not applied: %s.", reason);
	else
		appendStringInfo(
			out,
			"It was not applied, because its mode was not its endpoint's. It is now: SELECT stripe_sync.replay(%s).",
			quote_literal_cstr(event->id));
	return true;
}

/*
 * explain_event(event_id).  Raises SY005 if there is no such event.  If several
 * accounts have an event of that id, it explains the first by account.
 */
ENGINE_FUNCTION(stripe_sync_explain_event)
{
	char *id = text_to_cstring(PG_GETARG_TEXT_PP(0));
	RoleScope scope = role_enter_engine();
	StringInfoData out;
	EventRow row;
	Event event;

	if (!read_event_row(id, &row) || !event_load(id, row.account, &event))
		event_missing(id);
	initStringInfo(&out);
	append_arrival(&out, &event, &row);
	if (append_held(&out, &event, &row))
	{
		role_leave(&scope);
		PG_RETURN_TEXT_P(cstring_to_text(out.data));
	}
	if (event.catalog != NULL)
	{
		const char *account = object_account(event.catalog, event.account);

		append_decision(&out, &event, account);
		append_mirror(&out, &event, account);
	}
	else
		appendStringInfo(&out, "It is not mirrored: %s.\n", event.unmirrored);
	append_todo(&out, &row);
	role_leave(&scope);
	PG_RETURN_TEXT_P(cstring_to_text(out.data));
}
