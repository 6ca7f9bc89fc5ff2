/*
 * explain.c
 *		Why an event ended as it did, in words.
 *
 * Told from what is stored now: the event's row, the set of its object's
 * events, and the mirror's row.
 */
#include "mirror.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"

#include "account.h"

/* The event's own row, as text. */
typedef struct Story
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
} Story;

static bool
read_story(const char *id, Story *story)
{
	static EngineStatement select = {
		"SELECT account, endpoint, received_at::pg_catalog.text, source, status, mirrored,"
		" attempts::pg_catalog.text, next_attempt_at::pg_catalog.text, error,"
		" (SELECT pg_catalog.string_agg(pg_catalog.format('%s (tries: %s)', t.step,"
		"    COALESCE(e.tries OPERATOR(pg_catalog.->>) t.step, '0')), ', ' ORDER BY t.n)"
		"    FROM pg_catalog.unnest(e.todo) WITH ORDINALITY t (step, n))"
		" FROM stripe_sync.event e WHERE id OPERATOR(pg_catalog.=) $1 ORDER BY account LIMIT 1",
		1,
		{TEXTOID}};
	Datum values[] = {CStringGetTextDatum(id)};
	char **fields[] = {&story->account,		&story->endpoint,
					   &story->received_at, &story->source,
					   &story->status,		&story->mirrored,
					   &story->attempts,	&story->next_attempt_at,
					   &story->error,		&story->todo};
	MemoryContext context = CurrentMemoryContext;
	bool found;

	SPI_connect();
	engine_run(&select, values, NULL, SPI_OK_SELECT);
	found = SPI_processed > 0;
	for (int i = 0; found && i < lengthof(fields); i++)
	{
		char *value = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc,
								   i + 1);

		*fields[i] = value ? MemoryContextStrdup(context, value) : NULL;
	}
	SPI_finish();
	return found;
}

static const char *
when(TimestampTz at)
{
	return pstrdup(timestamptz_to_str(at));
}

static void
tell_arrival(StringInfo out, const Event *event, const Story *story)
{
	appendStringInfo(out, "%s is %s %s event", event->id,
					 strchr("aeiou", event->type[0]) ? "an" : "a", event->type);
	if (event->object_id != NULL)
		appendStringInfo(out, " about %s %s", event->object_type,
						 event->object_id);
	if (event->account[0] != '\0')
		appendStringInfo(out, " of account %s", event->account);
	if (event->has_created)
		appendStringInfo(out, ", created %s", when(event->created));
	appendStringInfo(out, ".\nIt arrived %s (%s%s%s) and is %s after %s.\n",
					 story->received_at, story->source,
					 story->endpoint ? " at endpoint " : "",
					 story->endpoint ? story->endpoint : "", story->status,
					 strcmp(story->attempts, "1") == 0
						 ? "one attempt"
						 : psprintf("%s attempts", story->attempts));
}

/* Among which events was decided, and by which rule. */
static void
tell_decision(StringInfo out, const Event *event, const char *account)
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
			n, verdict.newest->event_id, when(verdict.newest->created),
			verdict.rule);
	if (verdict.ambiguous)
		appendStringInfoString(
			out,
			"That is a convention, not knowledge: the object is marked to be read again from Stripe.\n");
}

static void
show_row(StringInfo out, const Event *event, const char *account)
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
		appendStringInfo(out, "%s.%s holds its state as of %s, from %s",
						 MIRROR_SCHEMA, event->catalog->table, when(state.as_of),
						 state.event_id == NULL ? "a reading of Stripe's API"
						 : strcmp(state.event_id, event->id) == 0
							 ? "this event"
							 : state.event_id);
		if (state.deleted)
			appendStringInfo(out, ", deleted %s", when(state.deleted_at));
		appendStringInfoString(out, ".\n");
	}
}

typedef struct MirrorTale
{
	StringInfo out;
	const Event *event;
	const char *account;
} MirrorTale;

static void
show_row_body(void *arg)
{
	MirrorTale *tale = arg;

	show_row(tale->out, tale->event, tale->account);
}

/* A table that can't be used is told, not raised. */
static void
tell_mirror(StringInfo out, const Event *event, const char *account)
{
	MirrorTale tale = {out, event, account};
	ErrorData *error;

	if (!subtransaction_run(show_row_body, &tale, NULL, &error))
		appendStringInfo(out, "%s.%s can't be used: %s.\n", MIRROR_SCHEMA,
						 event->catalog->table, error->message);
}

static void
tell_rest(StringInfo out, const Story *story)
{
	if (story->todo == NULL)
		appendStringInfoString(out, "Nothing is left to do.");
	else
	{
		appendStringInfo(out, "Still to do: %s.", story->todo);
		if (story->next_attempt_at != NULL)
			appendStringInfo(out, " The next try is due %s.",
							 story->next_attempt_at);
		else
			appendStringInfoString(
				out,
				" It is not tried again by itself: mend the cause, then call stripe_sync.replay().");
	}
	if (story->error != NULL)
		appendStringInfo(out, "\nWhat failed last: %s", story->error);
}

/* An event that was stored and ignored; false when it is any other. */
static bool
tell_held(StringInfo out, const Event *event, const Story *story)
{
	StoredEvent stored = {.event = *event,
						  .status = story->status,
						  .mirrored = story->mirrored,
						  .endpoint = story->endpoint};
	char *reason;

	if (!held_is(&stored))
		return false;
	reason = held_reason(&stored);
	if (reason != NULL)
		appendStringInfo(out, "Nothing of it was done: %s.", reason);
	else
		appendStringInfo(
			out,
			"Nothing of it was done, for its mode was not its endpoint's. Now it is: SELECT stripe_sync.replay(%s).",
			quote_literal_cstr(event->id));
	return true;
}

/* explain_event(event_id) */
ENGINE_FUNCTION(stripe_sync_explain_event)
{
	char *id = text_to_cstring(PG_GETARG_TEXT_PP(0));
	RoleScope scope = role_enter_engine();
	StringInfoData out;
	Story story;
	Event event;

	if (!read_story(id, &story) || !event_load(id, story.account, &event))
		event_missing(id);
	initStringInfo(&out);
	tell_arrival(&out, &event, &story);
	if (tell_held(&out, &event, &story))
	{
		role_leave(&scope);
		PG_RETURN_TEXT_P(cstring_to_text(out.data));
	}
	if (event.catalog != NULL)
	{
		const char *account = object_account(event.catalog, event.account);

		tell_decision(&out, &event, account);
		tell_mirror(&out, &event, account);
	}
	else
		appendStringInfo(&out, "Nothing of it is mirrored: %s.\n",
						 event.unmirrored);
	tell_rest(&out, &story);
	role_leave(&scope);
	PG_RETURN_TEXT_P(cstring_to_text(out.data));
}
