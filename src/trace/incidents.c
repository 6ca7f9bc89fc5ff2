/*
 * incidents.c
 *		The story of an incident that is not one object's: a roll-up, a digest, or
 *		one that counts events of several objects.
 *
 * It names the events that it counts, and tells none of their stories.
 */
#include "postgres.h"

#include "engine/statement.h"
#include "trace/gather.h"

#define MOST_EVENTS 300

static TraceRecord *
add_record(TraceGather *gather, TimestampTz at, const TraceIncident *incident)
{
	TraceRecord *record = record_add(gather, TRACE_INCIDENT, at);

	record->main = true;
	record->line.ref = psprintf("incident " INT64_FORMAT, incident->id);
	record->incident = incident->id;
	record->alert = incident->alert;
	record->destination = incident->destination;
	record->status = incident->state;
	record_fact_number(record, "incident", incident->id);
	record_fact_text(record, "kind", incident->kind);
	return record;
}

/* One event that it counts */
static void
tell_event(TraceGather *gather, const TraceIncident *incident, Rows *rows)
{
	char *event_id = rows_text(rows);
	char *account = rows_text(rows);
	char *alert = rows_text(rows);
	bool closes = rows_bool(rows, false);
	TraceRecord *record = add_record(gather, rows_time(rows, 0), incident);

	record->line.ref = event_id;
	record->event_id = event_id;
	record->account = account;
	record->event_type = rows_text(rows);
	record_say(record, "alert %s: %s %s%s%s", alert,
			   closes ? "resolved by" : "counted", event_id,
			   record->event_type ? "  " : "",
			   record->event_type ? record->event_type : "");
	record_fact_text(record, "event", event_id);
	record_fact_text(record, "alert", alert);
}

static void
tell_events(TraceGather *gather, const TraceIncident *incident)
{
	static EngineStatement select = {
		"SELECT a.event_id, a.account, a.alert, a.closes, a.at, e.type"
		" FROM stripe_sync.alerted a LEFT JOIN stripe_sync.event e"
		"  ON e.id = a.event_id AND e.account = a.account"
		" WHERE a.incident = $1 ORDER BY a.at DESC LIMIT $2"};
	uint64 count;
	Rows rows;

	rows_open(&rows, &select, ARGS(arg_int8(incident->id),
								   arg_int4(MOST_EVENTS)));
	count = rows.count;
	while (rows_next(&rows))
		tell_event(gather, incident, &rows);
	rows_close(&rows);
	if (count == MOST_EVENTS)
		record_cut(gather, "Only the last %d events are shown.", MOST_EVENTS);
}

static void
tell_state(TraceGather *gather, TraceIncident *incident)
{
	TraceRecord *record = add_record(gather, incident->opened_at, incident);

	record_say(record, "incident " INT64_FORMAT " (%s) opened by alert %s for %s",
			   incident->id, incident->kind, incident->alert,
			   incident->destination);
	if (incident->escalated_at != 0)
		record_say(add_record(gather, incident->escalated_at, incident),
				   "incident " INT64_FORMAT " was still open: repeated",
				   incident->id);
	if (incident->closed_at != 0)
		record_say(add_record(gather, incident->closed_at, incident),
				   "incident " INT64_FORMAT " closed%s%s", incident->id,
				   incident->closed_by ? " by " : "",
				   incident->closed_by ? incident->closed_by : "");
}

/* The lines of an incident; its messages are told by messages_tell(). */
void
incidents_tell(TraceGather *gather, TraceIncident *incident)
{
	incident->ours = true;
	gather->incidents = list_make1(incident);
	tell_state(gather, incident);
	tell_events(gather, incident);
}
