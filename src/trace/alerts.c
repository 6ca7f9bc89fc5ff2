/*
 * alerts.c
 *		What alerts made of the story's events: incidents opened, counted,
 *		resolved; and events that were not said on their own.
 *
 * Alerts count events of the inbox by their id, and failures of events by an id
 * made of the event's, the SQLSTATE and the step (failed_events.c).  An incident
 * that counts events of others is told as far as this story's events go.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"

#include "base/base.h"
#include "engine/statement.h"
#include "trace/internal.h"

#define MOST_ROWS 500

/* ---- incidents ---- */

#define INCIDENT_COLUMNS                                                       \
	" i.id, i.kind, i.alert, i.group_key, i.account, i.destination, i.state,"  \
	" i.event_id, i.opened_at, i.closed_at, i.closed_by, i.message_id"

static TraceIncident *
read_incident(Rows *rows)
{
	TraceIncident *incident = palloc0(sizeof(TraceIncident));

	incident->id = rows_int8(rows, 0);
	incident->kind = rows_text(rows);
	incident->alert = rows_text(rows);
	incident->group_key = rows_text(rows);
	incident->account = rows_text(rows);
	incident->destination = rows_text(rows);
	incident->state = rows_text(rows);
	incident->event_id = rows_text(rows);
	incident->opened_at = rows_time(rows, 0);
	incident->closed_at = rows_time(rows, 0);
	incident->closed_by = rows_text(rows);
	incident->message = rows_int8(rows, 0);
	return incident;
}

/* NULL if there is none */
TraceIncident *
incident_find(int64 id)
{
	static EngineStatement select = {
		"SELECT" INCIDENT_COLUMNS
		" FROM stripe_sync.incident_record i WHERE i.id = $1"};
	TraceIncident *incident = NULL;
	Rows rows;

	rows_open(&rows, &select, ARGS(arg_int8(id)));
	if (rows_next(&rows))
		incident = read_incident(&rows);
	rows_close(&rows);
	return incident;
}

/* Ids of the incidents that are told in full */
ArrayType *
incident_ids(const TraceGather *gather)
{
	MemoryContext memory = CurrentMemoryContext;
	ArrayBuildState *ids = initArrayResult(INT8OID, memory, false);
	ListCell *cell;

	foreach(cell, gather->incidents)
	{
		TraceIncident *incident = lfirst(cell);

		if (incident->ours)
			(void) accumArrayResult(ids, Int64GetDatum(incident->id), false,
									INT8OID, memory);
	}
	return DatumGetArrayTypeP(makeArrayResult(ids, memory));
}

/* Is the incident grouped by an object of the story? */
static bool
is_of_object(const TraceGather *gather, const TraceIncident *incident)
{
	ListCell *cell;

	foreach(cell, gather->subject.objects)
		if (strcmp(((TraceObject *) lfirst(cell))->id, incident->group_key) == 0)
			return true;
	return false;
}

/* Does the incident count an event that is not of the story? */
static bool
counts_others(const TraceIncident *incident, const ArgColumns *keys)
{
	static EngineStatement select = {
		"SELECT true FROM stripe_sync.alerted WHERE incident = $1"
		" AND event_id <> ALL ($2) LIMIT 1"};

	return statement_bool(false, &select,
						  ARGS(arg_int8(incident->id), arg_column(keys, 0)));
}

/* The incident as the story has it, added when it is new */
static TraceIncident *
keep_incident(TraceGather *gather, TraceIncident *incident,
			  const ArgColumns *keys)
{
	ListCell *cell;

	foreach(cell, gather->incidents)
		if (((TraceIncident *) lfirst(cell))->id == incident->id)
			return lfirst(cell);
	incident->ours = strcmp(incident->kind, "single") == 0 &&
					 (is_of_object(gather, incident) ||
					  !counts_others(incident, keys));
	gather->incidents = lappend(gather->incidents, incident);
	return incident;
}

/* ---- lines ---- */

static const char *
kind_words(const TraceIncident *incident)
{
	if (strcmp(incident->kind, "single") == 0)
		return "incident";
	return strcmp(incident->kind, "digest") == 0 ? "digest incident"
												 : "roll-up incident";
}

static TraceRecord *
add_record(TraceGather *gather, TraceKind kind, TimestampTz at,
		   const TraceIncident *incident, const char *alert)
{
	TraceRecord *record = record_add(gather, kind, at);

	record->line.ref = psprintf("incident " INT64_FORMAT, incident->id);
	record->incident = incident->id;
	record->alert = pstrdup(alert);
	record->destination = incident->destination;
	record->status = incident->state;
	record_fact_number(record, "incident", incident->id);
	record_fact_text(record, "kind", incident->kind);
	record_fact_text(record, "alert", alert);
	record_fact_text(record, "destination", incident->destination);
	record_fact_text(record, "state", incident->state);
	return record;
}

/* Why an event was not said on its own */
static char *
collector_reason(const TraceIncident *incident)
{
	if (strcmp(incident->kind, "digest") == 0)
		return psprintf(
			"destination %s had more than %d messages of alerts in an hour",
			incident->destination, guc_max_alerts_per_hour);
	return psprintf("the alert had opened more than %d incidents",
					guc_coalesce_burst);
}

static void
say_opened(TraceRecord *record, TraceIncident *incident, const char *alert)
{
	record_say(record, "alert %s opened %s " INT64_FORMAT "%s", alert,
			   kind_words(incident), incident->id,
			   incident->message != 0
				   ? psprintf(", queued message " INT64_FORMAT " for %s",
							  incident->message, incident->destination)
				   : ", and no message: the alert was muted");
	if (incident->message == 0)
		return;
	incident->has_post = true;
	record->message_id = incident->message;
	record_fact_number(record, "message", incident->message);
}

static void
say_collected(TraceRecord *record, const TraceIncident *incident,
			  const char *alert)
{
	record_say(record,
			   "alert %s: not said on its own but counted in %s " INT64_FORMAT
			   "%s, because %s",
			   alert, kind_words(incident), incident->id,
			   incident->message != 0
				   ? psprintf(" (message " INT64_FORMAT " for %s)",
							  incident->message, incident->destination)
				   : "",
			   collector_reason(incident));
	record_fact_text(record, "why", collector_reason(incident));
}

/* A row of stripe_sync.alerted */
typedef struct Counted
{
	char *of;		/* the story's event */
	char *event_id; /* as the alert knows it */
	char *account;
	char *alert;
	bool closes;
	TimestampTz at;
	bool has_incident;
} Counted;

static void
tell_counted(TraceGather *gather, const Counted *row, TraceIncident *incident)
{
	bool single = strcmp(incident->kind, "single") == 0;
	bool opens = !row->closes && strcmp(incident->event_id, row->event_id) == 0;
	TraceRecord *record = add_record(
		gather, single || opens || row->closes ? TRACE_INCIDENT : TRACE_UNSAID,
		row->at, incident, row->alert);

	record->event_id = row->of;
	record->account = row->account;
	record_fact_text(record, "event", row->of);
	if (opens)
		say_opened(record, incident, row->alert);
	else if (row->closes)
		record_say(record, "alert %s: resolved%s %s " INT64_FORMAT, row->alert,
				   single ? "" : " in", kind_words(incident), incident->id);
	else if (single)
		record_say(record, "alert %s: counted in %s " INT64_FORMAT, row->alert,
				   kind_words(incident), incident->id);
	else
		say_collected(record, incident, row->alert);
}

/* Counted without an incident: it came after what resolves it. */
static void
tell_late(TraceGather *gather, const Counted *row)
{
	TraceRecord *record;

	if (row->closes)
		return;
	record = record_add(gather, TRACE_UNSAID, row->at);
	record->line.ref = row->of;
	record->event_id = row->of;
	record->account = row->account;
	record->alert = row->alert;
	record_say(
		record,
		"alert %s: not said, because the event that resolves it came first",
		row->alert);
	record_fact_text(record, "alert", row->alert);
	record_fact_text(record, "event", row->of);
}

static void
mark_alerted(TraceGather *gather, const Counted *row)
{
	ListCell *cell;

	foreach(cell, gather->events)
	{
		TraceEvent *one = lfirst(cell);

		if (strcmp(one->id, row->event_id) == 0 &&
			strcmp(one->account, row->account) == 0)
			one->alerted = true;
	}
}

static void
tell_rows(TraceGather *gather, const ArgColumns *keys)
{
	static EngineStatement select = {
		"SELECT k.own, a.event_id, a.account, a.alert, a.closes, a.at,"
		" i.id IS NOT NULL," INCIDENT_COLUMNS
		" FROM unnest($1, $2, $3) k (id, account, own)"
		" JOIN stripe_sync.alerted a"
		"  ON a.event_id = k.id AND a.account = k.account"
		" LEFT JOIN stripe_sync.incident_record i ON i.id = a.incident"
		" ORDER BY a.at LIMIT $4"};
	Rows rows;

	rows_open(&rows, &select,
			  ARGS(arg_column(keys, 0), arg_column(keys, 1),
				   arg_column(keys, 2), arg_int4(MOST_ROWS)));
	while (rows_next(&rows))
	{
		Counted row = {.of = rows_text(&rows)};

		row.event_id = rows_text(&rows);
		row.account = rows_text(&rows);
		row.alert = rows_text(&rows);
		row.closes = rows_bool(&rows, false);
		row.at = rows_time(&rows, 0);
		row.has_incident = rows_bool(&rows, false);
		mark_alerted(gather, &row);
		if (row.has_incident)
			tell_counted(gather, &row,
						 keep_incident(gather, read_incident(&rows), keys));
		else
			tell_late(gather, &row);
	}
	rows_close(&rows);
}

/* What became of an incident without an event of the story */
static void
tell_end(TraceGather *gather, const TraceIncident *incident)
{
	TraceRecord *record;

	if (incident->closed_at == 0 || incident->closed_by != NULL)
		return;
	record = add_record(gather, TRACE_INCIDENT, incident->closed_at, incident,
						incident->alert);
	record_say(record, "incident " INT64_FORMAT " closed without an event",
			   incident->id);
}

/* The lines of alerts and incidents. */
void
alerts_tell(TraceGather *gather)
{
	ArgColumns keys = {0};
	ListCell *cell;

	steps_alert_keys(gather, &keys);
	if (keys.ncolumns == 0)
		return;
	tell_rows(gather, &keys);
	foreach(cell, gather->incidents)
		if (((TraceIncident *) lfirst(cell))->ours)
			tell_end(gather, lfirst(cell));
}
