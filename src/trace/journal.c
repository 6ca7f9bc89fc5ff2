/*
 * journal.c
 *		What was done to the destinations of a story's messages while these were
 *		waited for, and pauses; when the alerts of its incidents were muted.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "engine/statement.h"
#include "trace/internal.h"

#define MOST_ENTRIES 50 /* of the journal */

/* A time, and the names of what the story is about in it */
typedef struct Stretch
{
	ArrayBuildState *names;
	int count;
	TimestampTz from;
	TimestampTz until;
} Stretch;

static void
start_stretch(Stretch *stretch)
{
	*stretch = (Stretch){
		.names = initArrayResult(TEXTOID, CurrentMemoryContext, false),
		.from = DT_NOEND,
		.until = DT_NOBEGIN};
}

static void
add_name(Stretch *stretch, const char *name)
{
	(void) accumArrayResult(stretch->names, CStringGetTextDatum(name), false,
							TEXTOID, CurrentMemoryContext);
	stretch->count++;
}

/* The destinations of the story's messages, and when they were on their way */
static void
find_stretch(TraceGather *gather, Stretch *stretch)
{
	ListCell *cell;

	start_stretch(stretch);
	foreach(cell, gather->records)
	{
		TraceRecord *record = lfirst(cell);

		if (record->message_id == 0 || record->destination == NULL)
			continue;
		add_name(stretch, record->destination);
		stretch->from = Min(stretch->from, record->line.at);
		stretch->until = Max(stretch->until, record->line.at);
		if (record->message_state != NULL &&
			strcmp(record->message_state, "waiting") == 0)
			stretch->until = DT_NOEND;
	}
}

/* The alerts of the story's incidents, while these were open */
static void
find_alerts(TraceGather *gather, Stretch *stretch)
{
	ListCell *cell;

	start_stretch(stretch);
	foreach(cell, gather->incidents)
	{
		TraceIncident *incident = lfirst(cell);

		if (!incident->ours)
			continue;
		add_name(stretch, incident->alert);
		stretch->from = Min(stretch->from, incident->opened_at);
		stretch->until = Max(stretch->until, incident->closed_at != 0
												 ? incident->closed_at
												 : DT_NOEND);
	}
}

/* "destination billing disabled" for destination.off of billing, and so on */
static char *
entry_words(const char *what, const char *ref)
{
	static const struct
	{
		const char *what;
		const char *words;
	} verbs[] = {
		{"destination.added", "added"},	 {"destination.on", "enabled"},
		{"destination.off", "disabled"}, {"destination.dropped", "dropped"},
		{"alert.muted", "muted"},		 {"alert.unmuted", "no longer muted"}};

	for (int i = 0; i < lengthof(verbs); i++)
		if (strcmp(what, verbs[i].what) == 0 && ref != NULL)
			return psprintf("%.*s %s %s", (int) strcspn(what, "."), what, ref,
							verbs[i].words);
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

static void
tell_entries(TraceGather *gather, EngineStatement *select,
			 const Stretch *stretch)
{
	Rows rows;

	rows_open(
		&rows, select,
		ARGS(arg_time(stretch->from), arg_time(stretch->until),
			 arg_datum(TEXTARRAYOID,
					   makeArrayResult(stretch->names, CurrentMemoryContext)),
			 arg_int4(MOST_ENTRIES)));
	while (rows_next(&rows))
		tell_entry(gather, &rows);
	rows_close(&rows);
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
	static EngineStatement select_mutes = {
		"SELECT at, what, ref, by, detail FROM stripe_sync.journal"
		" WHERE at BETWEEN $1 AND $2 AND what IN ('alert.muted', 'alert.unmuted')"
		" AND ref = ANY ($3) ORDER BY at LIMIT $4"};
	Stretch stretch = {0};

	find_stretch(gather, &stretch);
	if (stretch.count > 0)
		tell_entries(gather, &select, &stretch);
	find_alerts(gather, &stretch);
	if (stretch.count > 0)
		tell_entries(gather, &select_mutes, &stretch);
}
