/*
 * trace.c
 *		trace(): the story of an object or event across Stripe, Postgres and
 *		Slack.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/builtins.h"

#include "base/error_codes.h"
#include "engine/engine.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "inbox/event.h"
#include "types/object.h"
#include "trace/gather.h"
#include "trace/trace.h"

/* First version: an event or an object by its id. */
static List *
read_events(const char *ref, const char *account)
{
	static EngineStatement select = {
		"SELECT id, account, type, created, received_at, endpoint, status"
		" FROM stripe_sync.event"
		" WHERE object_id = COALESCE((SELECT object_id FROM stripe_sync.event"
		"    WHERE id = $1 AND account = COALESCE($2, account) LIMIT 1), $1)"
		"  AND account = COALESCE($2, account) ORDER BY created"};
	TraceGather *gather = palloc0(sizeof(TraceGather));
	Rows rows;

	rows_open(&rows, &select, ARGS(arg_text(ref), arg_text(account)));
	while (rows_next(&rows))
	{
		char *id = rows_text(&rows);
		char *of = rows_text(&rows);
		char *type = rows_text(&rows);
		TimestampTz created = rows_time(&rows, 0);
		TimestampTz received = rows_time(&rows, 0);
		char *endpoint = rows_text(&rows);
		char *status = rows_text(&rows);
		TraceRecord *record = record_add(gather, TRACE_HAPPENED, created);

		record->event_id = record->line.ref = id;
		record->account = of;
		record->event_type = type;
		record_say(record, psprintf("%s  %s", type, id));
		record = record_add(gather, TRACE_RECEIVED, received);
		record->event_id = record->line.ref = id;
		record->account = of;
		record->event_type = type;
		record->status = status;
		record_say(record, psprintf("received by endpoint %s; %s",
									endpoint ? endpoint : "(none)", status));
	}
	rows_close(&rows);
	return record_lines(gather);
}

List *
trace_collect(const char *ref, const char *account, const Interval *span)
{
	RoleScope scope = role_enter_engine();
	TraceStory *story = palloc0(sizeof(TraceStory));
	TraceSubject subject = {.ref = ref};

	story->lines = read_events(ref, account);
	if (story->lines == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_NO_SUCH_NAME),
				 errmsg("nothing is known by the reference \"%s\"", ref)));
	story->heading = trace_heading(&subject);
	story->verdict = trace_verdict(&subject, story->lines);
	role_leave(&scope);
	return list_make1(story);
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
