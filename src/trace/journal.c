/*
 * journal.c
 *		What was done to the destinations of a story's messages while these were
 *		waited for, and pauses.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "engine/statement.h"
#include "trace/internal.h"

#define MOST_ENTRIES 50 /* of the journal */

/* The destinations of the story's messages, and when they were on their way */
typedef struct Stretch
{
	ArrayBuildState *destinations;
	int count;
	TimestampTz from;
	TimestampTz until;
} Stretch;

static void
find_stretch(TraceGather *gather, Stretch *stretch)
{
	ListCell *cell;

	stretch->destinations = initArrayResult(TEXTOID, CurrentMemoryContext,
											false);
	stretch->from = DT_NOEND;
	stretch->until = DT_NOBEGIN;
	foreach(cell, gather->records)
	{
		TraceRecord *record = lfirst(cell);

		if (record->message_id == 0 || record->destination == NULL)
			continue;
		(void) accumArrayResult(stretch->destinations,
								CStringGetTextDatum(record->destination), false,
								TEXTOID, CurrentMemoryContext);
		stretch->count++;
		stretch->from = Min(stretch->from, record->line.at);
		stretch->until = Max(stretch->until, record->line.at);
		if (record->message_state != NULL &&
			strcmp(record->message_state, "waiting") == 0)
			stretch->until = DT_NOEND;
	}
}

/* "destination billing disabled" for destination.off of billing */
static char *
entry_words(const char *what, const char *ref)
{
	static const struct
	{
		const char *what;
		const char *words;
	} verbs[] = {{"destination.added", "added"},
				 {"destination.on", "enabled"},
				 {"destination.off", "disabled"},
				 {"destination.dropped", "dropped"}};

	for (int i = 0; i < lengthof(verbs); i++)
		if (strcmp(what, verbs[i].what) == 0 && ref != NULL)
			return psprintf("destination %s %s", ref, verbs[i].words);
	if (strcmp(what, "pause") == 0)
		return pstrdup("sending paused");
	if (strcmp(what, "resume") == 0)
		return pstrdup("sending resumed");
	return psprintf("%s %s", what, ref ? ref : "");
}

static void
tell_entry(TraceGather *gather, Rows *rows)
{
	TraceRecord *record = record_add(gather, TRACE_JOURNAL, rows_time(rows, 0));
	char *what = rows_text(rows);
	char *ref = rows_text(rows);
	char *by = rows_text(rows);
	char *detail = rows_text(rows);

	record->line.ref = ref != NULL ? ref : pstrdup("");
	record_say(record, "%s by %s%s%s", entry_words(what, ref), by,
			   detail ? ": " : "", detail ? detail : "");
	record_fact_text(record, "what", what);
	record_fact_text(record, "by", by);
	record_fact_text(record, "detail", detail);
}

void
journal_tell(TraceGather *gather)
{
	static EngineStatement select = {
		"SELECT at, what, ref, by, detail FROM stripe_sync.journal"
		" WHERE at BETWEEN $1 AND $2"
		" AND ((pg_catalog.starts_with(what, 'destination.') AND ref = ANY ($3))"
		"  OR (what IN ('pause', 'resume') AND COALESCE(ref, '') <> 'stripe'))"
		" ORDER BY at LIMIT $4"};
	Stretch stretch = {0};
	Rows rows;

	find_stretch(gather, &stretch);
	if (stretch.count == 0)
		return;
	rows_open(&rows, &select,
			  ARGS(arg_time(stretch.from), arg_time(stretch.until),
				   arg_datum(TEXTARRAYOID, makeArrayResult(stretch.destinations,
														   CurrentMemoryContext)),
				   arg_int4(MOST_ENTRIES)));
	while (rows_next(&rows))
		tell_entry(gather, &rows);
	rows_close(&rows);
}
