/*
 * counted.c
 *		Samples of the counters in shared memory.
 *
 * An entry shows all its outcomes, zeros included, so that a rate can be computed
 * from the first one on.  If the library isn't preloaded nothing is counted, and
 * each metric has one sample without a value.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "metrics/internal.h"
#include "server/counters.h"

static const Metric available = {
	"counters_available", "gauge",
	"1 if events and deliveries are counted; 0 if stripe_sync is not in shared_preload_libraries, and metrics of type counter and histogram are unknown"};
static const Metric since = {
	"counters_reset_timestamp_seconds", "gauge",
	"Unix time since which the counters count: reset_activity(), a crash of the server, or the first start"};
static const Metric lost = {
	"counters_lost_total", "counter",
	"Counts of all databases for which there was no room in shared memory"};
static const Metric queued = {"messages_queued_total",
							  "counter",
							  "Messages queued for a destination",
							  {"destination"}};
static const Metric duration = {
	"receive_duration_seconds",
	"histogram",
	"Duration of receive() and webhook() for deliveries that were stored or are duplicates, without the commit",
	{"le"}};

/* The metric of each kind but COUNT_RECEIVE, which is a histogram */
static const Metric metrics[COUNTER_KINDS] = {
	[COUNT_EVENTS] =
		{"events_total",
		 "counter",
		 "Events received, by endpoint and status; refused: not stored; error: rolled back by an error; reconciled: missing, stored by reconcile()",
		 {"endpoint", "status"}},
	[COUNT_RETRIES] =
		{"event_runs_total",
		 "counter",
		 "Runs of steps of stored events by the worker or replay(); dead: a step has failed max_attempts times",
		 {"outcome"}},
	[COUNT_HANDLERS] = {"handler_runs_total",
						"counter",
						"Runs of a handler",
						{"handler", "outcome"}},
	[COUNT_ALERTS] =
		{"incidents_total",
		 "counter",
		 "Incidents of an alert: opened; closed by an event, or by the end of the window",
		 {"alert", "change"}},
	[COUNT_MESSAGES] =
		{"deliveries_total",
		 "counter",
		 "Attempts to send messages, by destination and verdict; lost: the sender ended before the answer",
		 {"destination", "verdict"}},
	[COUNT_API] = {"api_requests_total",
				   "counter",
				   "Requests to the Stripe API, by outcome",
				   {"outcome"}},
	[COUNT_JOBS] = {"jobs_total",
					"counter",
					"Jobs created and ended, by kind and state",
					{"kind", "state"}},
	[COUNT_DOCTOR] = {"doctor_runs_total", "counter",
					  "Runs of the doctor by the worker"},
};

/* ---- one entry ---- */

static List *
add_histogram(List *samples, const CounterRow *row)
{
	uint64 below = 0;

	for (int i = 0; i <= RECEIVE_BUCKETS; i++)
	{
		const char *bound = i < RECEIVE_BUCKETS
								? psprintf("%g", receive_bounds[i])
								: "+Inf";

		below += row->counts[i];
		samples = sample_add(samples, &duration, below, bound, NO_LABEL);
		((Sample *) llast(samples))->suffix = "_bucket";
	}
	samples = sample_add(samples, &duration, row->counts[RECEIVE_SUM] / 1e6,
						 NO_LABEL, NO_LABEL);
	((Sample *) llast(samples))->suffix = "_sum";
	samples = sample_add(samples, &duration, below, NO_LABEL, NO_LABEL);
	((Sample *) llast(samples))->suffix = "_count";
	return samples;
}

/* Names that only an endpoint can lack: the delivery named one that isn't there */
static const char *
shown_name(const CounterRow *row)
{
	return row->name[0] != '\0' ? row->name : "(none)";
}

static List *
add_entry(List *samples, const CounterRow *row)
{
	const Metric *metric = &metrics[row->kind];
	int first = row->kind == COUNT_MESSAGES ? 1 : 0; /* 0: queued */
	const char *outcome;

	if (row->kind == COUNT_RECEIVE)
		return add_histogram(samples, row);
	for (int i = first;
		 i < COUNTER_SLOTS && (outcome = counter_outcome(row->kind, i)); i++)
	{
		if (metric->labels[0] == NULL)
			samples = sample_add(samples, metric, row->counts[i], NO_LABEL,
								 NO_LABEL);
		else if (metric->labels[1] == NULL)
			samples = sample_add(samples, metric, row->counts[i], outcome,
								 NO_LABEL);
		else
			samples = sample_add(samples, metric, row->counts[i],
								 shown_name(row), outcome);
	}
	return samples;
}

/* ---- all of them ---- */

static int
compare_rows(const void *a, const void *b)
{
	const CounterRow *one = a;
	const CounterRow *other = b;

	if (one->kind != other->kind)
		return one->kind < other->kind ? -1 : 1;
	return strcmp(one->name, other->name);
}

/* Has the kind names, so that nothing is shown before the first is counted? */
static bool
is_named(CounterKind kind)
{
	return kind != COUNT_RECEIVE && metrics[kind].labels[1] != NULL;
}

static List *
add_kind(List *samples, CounterKind kind, const CounterRow *rows, int nrows)
{
	CounterRow none = {kind};
	bool any = false;

	for (int i = 0; i < nrows; i++)
		if (rows[i].kind == kind)
		{
			samples = add_entry(samples, &rows[i]);
			any = true;
		}
	return any || is_named(kind) ? samples : add_entry(samples, &none);
}

static List *
add_queued(List *samples, const CounterRow *rows, int nrows)
{
	for (int i = 0; i < nrows; i++)
		if (rows[i].kind == COUNT_MESSAGES)
			samples = sample_add(samples, &queued, rows[i].counts[0],
								 shown_name(&rows[i]), NO_LABEL);
	return samples;
}

static List *
add_unknown(List *samples, const Metric *metric)
{
	samples = sample_add(samples, metric, 0, NO_LABEL, NO_LABEL);
	((Sample *) llast(samples))->is_known = false;
	return samples;
}

static List *
all_unknown(List *samples)
{
	samples = sample_add(samples, &available, 0, NO_LABEL, NO_LABEL);
	for (int kind = 0; kind < COUNT_RESET; kind++)
		samples = add_unknown(samples, kind == COUNT_RECEIVE ? &duration
															 : &metrics[kind]);
	return add_unknown(samples, &queued);
}

List *
counted_samples(List *samples)
{
	CounterRow *rows;
	int nrows;

	if (!counters_shared())
		return all_unknown(samples);
	rows = counters_read(&nrows);
	qsort(rows, nrows, sizeof(CounterRow), compare_rows);
	samples = sample_add(samples, &available, 1, NO_LABEL, NO_LABEL);
	samples = sample_add(samples, &since,
						 (double) timestamptz_to_time_t(counters_since()),
						 NO_LABEL, NO_LABEL);
	samples = sample_add(samples, &lost, counters_lost(), NO_LABEL, NO_LABEL);
	for (int kind = 0; kind < COUNT_RESET; kind++)
		samples = add_kind(samples, kind, rows, nrows);
	return add_queued(samples, rows, nrows);
}
