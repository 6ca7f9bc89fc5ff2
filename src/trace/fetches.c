/*
 * fetches.c
 *		What was read from Stripe's API about the story's objects: by refetch,
 *		backfill and reconcile, or still to be read.
 */
#include "postgres.h"

#include "engine/engine.h"
#include "engine/statement.h"
#include "types/object.h"
#include "trace/internal.h"

#define MOST_PARTS 50
#define MOST_CALLS 50

/* The objects as rows of arguments: type, id, account of the mirror */
static void
collect_objects(const TraceGather *gather, ArgColumns *objects)
{
	ListCell *cell;

	foreach(cell, gather->subject.objects)
	{
		TraceObject *object = lfirst(cell);

		if (object->main && object->type != NULL)
			columns_add(
				objects,
				ARGS(arg_text(object->type->object), arg_text(object->id),
					 arg_text(object_account(object->type, object->account))));
	}
}

/* ---- the mirror's rows ---- */

/* Rows that no event has written are as of the time they were fetched. */
static void
tell_row(TraceGather *gather, const TraceObject *object)
{
	TraceRecord *record;

	if (!object->main || object->as_of == 0 ||
		(object->from_event != NULL && object->from_event[0] != '\0'))
		return;
	record = record_add(gather, TRACE_FETCHED, object->as_of);
	record->main = true;
	record->line.ref = object->id;
	record->object_id = object->id;
	record_say(record, "%s %s: state of the mirror, %s Stripe's API",
			   object->type_name, object->id,
			   object->from_event == NULL
				   ? "fetched from"
				   : "embedded in an object fetched from");
	record_fact_text(record, "object", object->id);
	record_fact_text(record, "table",
					 psprintf("stripe.%s", object->type->table));
}

/* ---- requests to fetch again ---- */

static void
tell_requests(TraceGather *gather, const ArgColumns *objects)
{
	static EngineStatement select = {
		"SELECT r.object_id, r.reason, r.state, r.error, r.tries, r.due_at,"
		" r.after FROM unnest($1, $2, $3) k (type, id, account)"
		" JOIN stripe_sync.reread r ON r.object_type = k.type"
		"  AND r.object_id = k.id AND r.account = k.account"};
	Rows rows;

	rows_open(&rows, &select,
			  ARGS(arg_column(objects, 0), arg_column(objects, 1),
				   arg_column(objects, 2)));
	while (rows_next(&rows))
	{
		char *id = rows_text(&rows);
		char *reason = rows_text(&rows);
		char *state = rows_text(&rows);
		char *error = rows_text(&rows);
		int tries = rows_int4(&rows, 0);
		TimestampTz due = rows_time(&rows, 0);
		TraceRecord *record = record_add(gather, TRACE_FETCHED,
										 rows_time(&rows, due));

		record->line.ref = record->object_id = id;
		record->status = state;
		record->failed = error != NULL;
		record->message = error;
		record->attempts = tries;
		record->due_at = strcmp(state, "dead") == 0 ? 0 : due;
		record_say(record, "%s is to be fetched from Stripe again: %s%s%s%s",
				   id, reason, error ? "; " : "", error ? error : "",
				   strcmp(state, "dead") == 0 ? "; given up" : "");
		record_fact_text(record, "object", id);
		record_fact_text(record, "reason", reason);
		record_fact_text(record, "state", state);
		record_fact_text(record, "error", error);
	}
	rows_close(&rows);
}

/* ---- jobs that fetched an object ---- */

static void
tell_calls(TraceGather *gather, int64 job, const char *id)
{
	static EngineStatement select = {
		"SELECT c.started_at, c.method, c.path, c.status, c.code, c.request_id,"
		" (1000 * EXTRACT(epoch FROM c.duration))::float8"
		" FROM stripe_sync.job_record j JOIN stripe_sync.api_call c"
		"  ON c.started_at BETWEEN j.started_at"
		"   AND COALESCE(j.finished_at, pg_catalog.clock_timestamp())"
		"  AND c.job = j.id AND pg_catalog.strpos(c.path, $2) > 0"
		" WHERE j.id = $1 ORDER BY c.id LIMIT $3"};
	int nest = plan_for_brin();
	Rows rows;

	rows_open(&rows, &select,
			  ARGS(arg_int8(job), arg_text(id), arg_int4(MOST_CALLS)));
	plan_settings_restore(nest);
	while (rows_next(&rows))
	{
		TraceRecord *record = record_add(gather, TRACE_FETCHED,
										 rows_time(&rows, 0));
		char *method = rows_text(&rows);
		char *path = rows_text(&rows);
		int status = rows_int4(&rows, 0);
		char *code = rows_text(&rows);
		char *request = rows_text(&rows);
		double ms = rows_float8(&rows, 0);

		record->line.system = "stripe";
		record->line.ref = pstrdup(id);
		record->job = job;
		record->failed = status < 200 || status > 299;
		record->over = true; /* the job says whether it was fetched after all */
		record->http_status = status;
		record->code = code;
		record_say(record, "job " INT64_FORMAT ": %s %s (%s%s%s, %.0f ms)", job,
				   method, path, status ? psprintf("%d", status) : "no answer",
				   code ? " " : "", code ? code : "", ms);
		record_fact_number(record, "job", job);
		record_fact_text(record, "request_id", request);
		record_fact_number(record, "http_status", status);
		record_fact_text(record, "code", code);
		record_fact_ms(record, "ms", ms);
	}
	rows_close(&rows);
}

static void
tell_part(TraceGather *gather, Rows *rows)
{
	int64 job = rows_int8(rows, 0);
	char *kind = rows_text(rows);
	char *id = rows_text(rows);
	char *state = rows_text(rows);
	char *error = rows_text(rows);
	TraceRecord *record = record_add(gather, TRACE_FETCHED, rows_time(rows, 0));

	record->line.ref = psprintf("job " INT64_FORMAT, job);
	record->job = job;
	record->object_id = id;
	record->status = state;
	record->message = error;
	record->failed = strcmp(state, "failed") == 0;
	record_say(record, "job " INT64_FORMAT " (%s) fetches %s: %s%s%s", job,
			   kind, id, state, error ? ": " : "", error ? error : "");
	record_fact_number(record, "job", job);
	record_fact_text(record, "kind", kind);
	record_fact_text(record, "state", state);
	record_fact_text(record, "error", error);
	tell_calls(gather, job, id);
}

static void
tell_parts(TraceGather *gather, const ArgColumns *objects)
{
	static EngineStatement select = {
		"SELECT j.id, j.kind, p.object_id, p.state, p.error,"
		" COALESCE(j.finished_at, j.started_at, j.created_at)"
		" FROM unnest($1, $2, $3) k (type, id, account)"
		" JOIN stripe_sync.job_part p ON p.object_id = k.id"
		"  AND p.object_type = k.type AND p.account = k.account"
		" JOIN stripe_sync.job_record j ON j.id = p.job"
		" ORDER BY j.id DESC LIMIT $4"};
	Rows rows;

	rows_open(&rows, &select,
			  ARGS(arg_column(objects, 0), arg_column(objects, 1),
				   arg_column(objects, 2), arg_int4(MOST_PARTS)));
	while (rows_next(&rows))
		tell_part(gather, &rows);
	rows_close(&rows);
}

/* ---- events that a reconcile run found ---- */

static void
tell_reconcile(TraceEvent *one)
{
	static EngineStatement select = {
		"SELECT id FROM (SELECT id, kind, started_at FROM stripe_sync.job_record"
		"   WHERE finished_at >= $1 ORDER BY finished_at LIMIT 10) j"
		" WHERE kind = 'reconcile' AND started_at <= $1"
		" UNION ALL SELECT id FROM stripe_sync.job_record"
		" WHERE kind = 'reconcile' AND state IN ('waiting', 'running')"
		"  AND started_at <= $1 LIMIT 1"};
	int64 job;

	if (one->received == NULL || strcmp(one->source, "reconcile") != 0)
		return;
	job = statement_int8(0, &select, ARGS(arg_time(one->received_at)));
	if (job == 0)
		return;
	one->received->job = job;
	record_append(one->received, " (job " INT64_FORMAT ")", job);
	record_fact_number(one->received, "job", job);
}

/* The lines of what was read from Stripe. */
void
fetches_tell(TraceGather *gather)
{
	ArgColumns objects = {0};
	ListCell *cell;

	foreach(cell, gather->subject.objects)
		tell_row(gather, lfirst(cell));
	foreach(cell, gather->events)
		tell_reconcile(lfirst(cell));
	collect_objects(gather, &objects);
	if (objects.ncolumns == 0)
		return;
	tell_requests(gather, &objects);
	tell_parts(gather, &objects);
}
