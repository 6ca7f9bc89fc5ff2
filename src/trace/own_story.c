/*
 * own_story.c
 *		Stories of nobody's: an incident that counts events of several customers (a
 *		roll-up, a digest), and a job.
 *
 * An incident's names the events that it counts, and tells none of their stories.
 */
#include "postgres.h"

#include "engine/engine.h"
#include "engine/statement.h"
#include "trace/internal.h"

#define MOST_EVENTS 300
#define MOST_TEXT	500 /* bytes */

/* ---- incidents ---- */

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

	rows_open(&rows, &select,
			  ARGS(arg_int8(incident->id), arg_int4(MOST_EVENTS)));
	count = rows.count;
	while (rows_next(&rows))
		tell_event(gather, incident, &rows);
	rows_close(&rows);
	if (count == MOST_EVENTS)
		record_cut(gather, "Only the last %d events are shown.", MOST_EVENTS);
}

/* That is told by the step (people.c). */
static bool
closed_by_person(const TraceIncident *incident)
{
	return incident->closed_by != NULL &&
		   strncmp(incident->closed_by, "slack:", 6) == 0;
}

static void
tell_state(TraceGather *gather, TraceIncident *incident)
{
	TraceRecord *record = add_record(gather, incident->opened_at, incident);

	record_say(
		record, "incident " INT64_FORMAT " (%s) opened by alert %s for %s",
		incident->id, incident->kind, incident->alert, incident->destination);
	if (incident->closed_at != 0 && !closed_by_person(incident))
		record_say(add_record(gather, incident->closed_at, incident),
				   "incident " INT64_FORMAT " closed%s%s", incident->id,
				   incident->closed_by ? " by " : "",
				   incident->closed_by ? incident->closed_by : "");
}

/* The lines of an incident; its messages are told by messages_tell(). */
void
own_story_tell_incident(TraceGather *gather, TraceIncident *incident)
{
	incident->ours = true;
	gather->incidents = list_make1(incident);
	tell_state(gather, incident);
	tell_events(gather, incident);
}

/* ---- jobs ---- */

/* A row of the view stripe_sync.job */
typedef struct Job
{
	int64 id;
	char *kind;
	char *state;
	char *error;
	int64 pages;
	int64 objects;
	int64 missing;
	int64 repaired;
	TimestampTz created_at;
	TimestampTz started_at;
	TimestampTz finished_at;
} Job;

static bool
read_job(int64 id, Job *job)
{
	static EngineStatement select = {
		"SELECT kind, state, error, pages, objects, missing, repaired,"
		" created_at, started_at, finished_at FROM stripe_sync.job WHERE id = $1"};
	Rows rows;
	bool found;

	rows_open(&rows, &select, ARGS(arg_int8(id)));
	found = rows_next(&rows);
	if (found)
	{
		job->id = id;
		job->kind = rows_text(&rows);
		job->state = rows_text(&rows);
		job->error = rows_text(&rows);
		job->pages = rows_int8(&rows, 0);
		job->objects = rows_int8(&rows, 0);
		job->missing = rows_int8(&rows, 0);
		job->repaired = rows_int8(&rows, 0);
		job->created_at = rows_time(&rows, 0);
		job->started_at = rows_time(&rows, 0);
		job->finished_at = rows_time(&rows, 0);
	}
	rows_close(&rows);
	return found;
}

static TraceRecord *
add_job_record(TraceGather *gather, TimestampTz at, const Job *job)
{
	TraceRecord *record = record_add(gather, TRACE_JOB, at);

	record->main = true;
	record->line.ref = psprintf("job " INT64_FORMAT, job->id);
	record->job = job->id;
	record->status = job->state;
	record_fact_number(record, "job", job->id);
	record_fact_text(record, "kind", job->kind);
	return record;
}

static void
tell_end(TraceGather *gather, const Job *job)
{
	TraceRecord *record = add_job_record(gather, job->finished_at, job);

	record->failed = strcmp(job->state, "failed") == 0;
	record->message = job->error;
	record_say(record,
			   "job " INT64_FORMAT " %s: " INT64_FORMAT " pages, " INT64_FORMAT
			   " objects, " INT64_FORMAT " missing events, " INT64_FORMAT
			   " repaired%s%s",
			   job->id, job->state, job->pages, job->objects, job->missing,
			   job->repaired, job->error ? "; " : "",
			   job->error ? job->error : "");
	record_fact_text(record, "state", job->state);
	record_fact_number(record, "pages", job->pages);
	record_fact_number(record, "objects", job->objects);
	record_fact_number(record, "missing", job->missing);
	record_fact_number(record, "repaired", job->repaired);
	record_fact_text(record, "error", job->error);
}

/* Requests of the job that Stripe did not answer as they should be */
static void
tell_bad_calls(TraceGather *gather, const Job *job)
{
	static EngineStatement select = {
		"SELECT started_at, method, path, status, code, request_id"
		" FROM stripe_sync.api_call WHERE started_at BETWEEN $2 AND"
		"  COALESCE($3, pg_catalog.clock_timestamp()) AND job = $1"
		"  AND COALESCE(status, 0) NOT BETWEEN 200 AND 299"
		" ORDER BY id DESC LIMIT $4"};
	int nest = plan_for_brin();
	Rows rows;

	rows_open(&rows, &select,
			  ARGS(arg_int8(job->id), arg_time(job->started_at),
				   arg_if(job->finished_at != 0, arg_time(job->finished_at)),
				   arg_int4(MOST_EVENTS)));
	plan_settings_restore(nest);
	while (rows_next(&rows))
	{
		TraceRecord *record = add_job_record(gather, rows_time(&rows, 0), job);
		char *method = rows_text(&rows);
		char *path = rows_text(&rows);
		int status = rows_int4(&rows, 0);

		record->line.system = "stripe";
		record->http_status = status;
		record->code = rows_text(&rows);
		record->failed = record->over = true; /* the job's end says more */
		record_say(record, "%s %s: %s%s%s", method, path,
				   status ? psprintf("%d", status) : "no answer",
				   record->code ? " " : "", record->code ? record->code : "");
		record_fact_text(record, "request_id", rows_text(&rows));
		record_fact_number(record, "http_status", status);
		record_fact_text(record, "code", record->code);
	}
	rows_close(&rows);
}

/* The lines of a job.  Returns false if there is none. */
bool
own_story_tell_job(TraceGather *gather, int64 id)
{
	Job job;

	if (!read_job(id, &job))
		return false;
	gather->subject.name = job.kind;
	gather->subject.state = job.state;
	gather->subject.text = job.error ? trace_plain(job.error, MOST_TEXT) : NULL;
	record_say(add_job_record(gather, job.created_at, &job),
			   "job " INT64_FORMAT " (%s) made", job.id, job.kind);
	if (job.started_at == 0)
		return true;
	record_say(add_job_record(gather, job.started_at, &job),
			   "job " INT64_FORMAT " started", job.id);
	tell_bad_calls(gather, &job);
	if (job.finished_at != 0)
		tell_end(gather, &job);
	return true;
}
