/*
 * steps.c
 *		The steps of the story's events: errors, and handlers that ran.
 *
 * Equal errors of a step are one row of stripe_sync.event_error.  Where
 * stripe_sync.handler_run has the failed runs of a handler, each is a line of its
 * own; else the first and the last failure are.
 */
#include "postgres.h"

#include "engine/array_argument.h"
#include "engine/statement.h"
#include "inbox/event.h"
#include "trace/internal.h"

#define MOST_ROWS 500

static void
read_error(Rows *rows, TraceError *error)
{
	error->event_id = rows_text(rows);
	error->account = rows_text(rows);
	error->event_type = rows_text(rows);
	error->step = rows_text(rows);
	error->attempts = rows_int4(rows, 0);
	error->first_at = rows_time(rows, 0);
	error->last_at = rows_time(rows, 0);
	error->sqlstate = rows_text(rows);
	error->message = rows_text(rows);
	error->detail = rows_text(rows);
	error->hint = rows_text(rows);
	error->failing = rows_bool(rows, false);
	error->told = false;
}

static List *
read_errors(const ArgColumns *keys)
{
	static EngineStatement select = {
		"SELECT e.event_id, e.account, e.event_type, e.step, e.attempts,"
		" e.first_at, e.last_at, e.sqlstate, e.message, e.detail, e.hint,"
		" e.state = 'failing'"
		" FROM unnest($1, $2) k (id, account)"
		" JOIN stripe_sync.event_error e"
		"  ON e.event_id = k.id AND e.account = k.account"
		" ORDER BY e.first_at, e.id LIMIT $3"};
	List *errors = NIL;
	Rows rows;

	rows_open(
		&rows, &select,
		ARGS(arg_column(keys, 0), arg_column(keys, 1), arg_int4(MOST_ROWS)));
	while (rows_next(&rows))
	{
		TraceError *error = palloc(sizeof(TraceError));

		read_error(&rows, error);
		errors = lappend(errors, error);
	}
	rows_close(&rows);
	return errors;
}

static char *
step_words(const char *step)
{
	if (step[0] == '\0')
		return pstrdup("the event could not be read");
	if (strcmp(step, STEP_MIRROR) == 0)
		return pstrdup("the mirror step failed");
	if (strcmp(step, STEP_ALERTS) == 0)
		return pstrdup("the alerts failed");
	return psprintf("handler %s failed", step);
}

static TraceRecord *
add_error(TraceGather *gather, TimestampTz at, const TraceError *error)
{
	TraceRecord *record = record_add(gather, TRACE_ERROR, at);

	record->failed = true;
	record->over = !error->failing;
	record->line.ref = error->event_id;
	record->event_id = error->event_id;
	record->account = error->account;
	record->event_type = error->event_type;
	record->step = error->step;
	record->sqlstate = error->sqlstate;
	record->message = error->message;
	record->attempts = error->attempts;
	record_fact_text(record, "event", error->event_id);
	record_fact_text(record, "step", error->step);
	record_fact_text(record, "sqlstate", error->sqlstate);
	record_fact_text(record, "message", error->message);
	record_fact_text(record, "detail", error->detail);
	record_fact_text(record, "hint", error->hint);
	record_fact_number(record, "attempts", error->attempts);
	record_fact_text(record, "state", error->failing ? "failing" : "recovered");
	return record;
}

static void
tell_error(TraceGather *gather, const TraceError *error)
{
	TraceRecord *record;

	if (error->told)
		return;
	record = add_error(gather, error->first_at, error);
	record_say(record, "%s: %s: %s", step_words(error->step), error->sqlstate,
			   error->message);
	if (error->attempts < 2)
		return;
	record = add_error(gather, error->last_at, error);
	record_say(record, "%s again, %d attempts in all: %s",
			   step_words(error->step), error->attempts, error->sqlstate);
}

/* ---- handlers ---- */

static TraceError *
error_of_run(List *errors, const char *event_id, const char *account,
			 const char *handler, const char *sqlstate)
{
	ListCell *cell;

	foreach(cell, errors)
	{
		TraceError *error = lfirst(cell);

		if (strcmp(error->event_id, event_id) == 0 &&
			strcmp(error->account, account) == 0 &&
			strcmp(error->step, handler) == 0 &&
			strcmp(error->sqlstate, sqlstate) == 0)
			return error;
	}
	return NULL;
}

/* A run that failed.  Without a row of its error little is known. */
static void
tell_failed_run(TraceGather *gather, List *errors, const TraceError *run,
				double ms)
{
	TraceError *error = error_of_run(errors, run->event_id, run->account,
									 run->step, run->sqlstate);
	TraceRecord *record = add_error(gather, run->first_at,
									error != NULL ? error : run);

	if (error != NULL)
		error->told = true;
	record_say(record, "handler %s failed after %.1f ms: %s%s%s", run->step, ms,
			   run->sqlstate, error != NULL ? ": " : "",
			   error != NULL ? error->message : "");
	record_fact_ms(record, "ms", ms);
}

static void
tell_run(TraceGather *gather, const TraceError *run, double ms, bool deferred)
{
	TraceRecord *record = record_add(gather, TRACE_HANDLER, run->first_at);

	record->line.ref = run->event_id;
	record->event_id = run->event_id;
	record->account = run->account;
	record->step = run->step;
	record_say(record, "handler %s ran in %.1f ms%s", run->step, ms,
			   deferred ? " (deferred)" : "");
	record_fact_text(record, "event", run->event_id);
	record_fact_text(record, "handler", run->step);
	record_fact_ms(record, "ms", ms);
}

/* The runs of handlers; errors that they tell are marked. */
static void
tell_runs(TraceGather *gather, const ArgColumns *keys, List *errors)
{
	static EngineStatement select = {
		"SELECT r.event_id, r.account, run ->> 'handler',"
		" (run ->> 'at')::timestamptz, (run ->> 'ms')::float8,"
		" run ->> 'sqlstate', COALESCE(h.deferred, false)"
		" FROM unnest($1, $2) k (id, account)"
		" JOIN stripe_sync.handler_run r"
		"  ON r.event_id = k.id AND r.account = k.account"
		" CROSS JOIN LATERAL pg_catalog.jsonb_array_elements(r.runs) run"
		" LEFT JOIN stripe_sync.handler h ON h.name = run ->> 'handler'"
		" LIMIT $3"};
	Rows rows;

	rows_open(
		&rows, &select,
		ARGS(arg_column(keys, 0), arg_column(keys, 1), arg_int4(MOST_ROWS)));
	while (rows_next(&rows))
	{
		TraceError run = {.event_id = rows_text(&rows)};
		double ms;
		bool deferred;

		run.account = rows_text(&rows);
		run.step = rows_text(&rows);
		run.first_at = rows_time(&rows, 0);
		ms = rows_float8(&rows, 0);
		run.sqlstate = rows_text(&rows);
		deferred = rows_bool(&rows, false);
		if (run.sqlstate != NULL)
			tell_failed_run(gather, errors, &run, ms);
		else
			tell_run(gather, &run, ms, deferred);
	}
	rows_close(&rows);
}

/* The lines of the events' steps. */
void
steps_tell(TraceGather *gather)
{
	ArgColumns keys = {0};
	List *errors;
	ListCell *cell;

	foreach(cell, gather->events)
	{
		TraceEvent *one = lfirst(cell);

		columns_add(&keys, ARGS(arg_text(one->id), arg_text(one->account)));
	}
	if (keys.ncolumns == 0)
		return;
	errors = read_errors(&keys);
	tell_runs(gather, &keys, errors);
	foreach(cell, errors)
		tell_error(gather, lfirst(cell));
	gather->errors = errors;
}

/* ---- what alerts know them by ---- */

/*
 * The ids under which alerts know the story's events: columns id, account, and
 * the event's own id.
 */
void
steps_alert_keys(TraceGather *gather, ArgColumns *keys)
{
	ListCell *cell;

	foreach(cell, gather->events)
	{
		TraceEvent *one = lfirst(cell);

		columns_add(keys, ARGS(arg_text(one->id), arg_text(one->account),
							   arg_text(one->id)));
	}
	foreach(cell, gather->errors)
	{
		TraceError *error = lfirst(cell);
		char *key = psprintf("%s_%s_%s", error->event_id, error->sqlstate,
							 error->step);

		columns_add(keys,
					ARGS(arg_text(psprintf("sys_failed_%s", key)),
						 arg_text(error->account), arg_text(error->event_id)));
		columns_add(keys,
					ARGS(arg_text(psprintf("sys_dead_%s", key)),
						 arg_text(error->account), arg_text(error->event_id)));
	}
}
