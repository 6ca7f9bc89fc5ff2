/*
 * figures.c
 *		Reads events and their errors, for figures and charts.
 *
 * How much is read is bounded: where there are more events than that, the charts
 * begin later.
 */
#include "postgres.h"

#include "engine/statement.h"

#include "dashboard/internal.h"

#define MAX_EVENTS	 100000 /* read at once */
#define MAX_COUNTED	 10000	/* failed and dead events; errors */
#define DELAY_SOURCE "webhook"

/* The bins are aligned with the clock; the last one is not over. */
static void
set_bins(Figures *figures)
{
	int64 bin = BIN_SECONDS * USECS_PER_SEC;

	figures->now = GetCurrentTimestamp();
	figures->start = figures->now - figures->now % bin - (BINS - 1) * bin;
}

static TimestampTz
bin_start(const Figures *figures, int bin)
{
	return figures->start + bin * (BIN_SECONDS * USECS_PER_SEC);
}

/* Events a minute in a bin; in the last one, with the one before if it is new */
double
figures_rate(const Figures *figures, int bin)
{
	int64 elapsed = figures->now - bin_start(figures, BINS - 1);

	if (bin < BINS - 1)
		return figures->events[bin] * 60.0 / BIN_SECONDS;
	return (figures->events[bin] + figures->events[bin - 1]) * 60.0 /
		   (BIN_SECONDS + elapsed / (double) USECS_PER_SEC);
}

/* The row of all bins together, or of one */
static void
take_events(Figures *figures, Rows *rows)
{
	int bin = rows_int4(rows, -1);
	int64 events = rows_int8(rows, 0);
	int64 last_hour = rows_int8(rows, 0);
	int64 delays = rows_int8(rows, 0);
	double p50 = rows_float8(rows, -1);
	double p95 = rows_float8(rows, -1);
	TimestampTz last = rows_time(rows, 0);

	if (bin < 0)
	{
		figures->totals.events = events;
		figures->totals.last_hour = last_hour;
		figures->totals.p50 = p50;
		figures->totals.p95 = p95;
		figures->totals.last = last;
		return;
	}
	bin = Min(bin, BINS - 1);
	figures->events[bin] += events;
	figures->delays[bin] = delays;
	figures->p50[bin] = p50;
	figures->p95[bin] = p95;
}

/* Returns false if there are more events than were read. */
static bool
read_events_from(Figures *figures, int first_bin)
{
	static EngineStatement select = {
		"SELECT bin, count(*), count(*) FILTER (WHERE received_at >= $4 - interval '1 hour'),"
		" count(delay), percentile_disc(0.5) WITHIN GROUP (ORDER BY delay),"
		" percentile_disc(0.95) WITHIN GROUP (ORDER BY delay), max(received_at)"
		" FROM (SELECT received_at,"
		"    floor(date_part('epoch', received_at - $1) / $3)::int AS bin,"
		"    CASE WHEN source = '" DELAY_SOURCE "' THEN"
		"     greatest(date_part('epoch', received_at - created), 0) END AS delay"
		"   FROM stripe_sync.event WHERE received_at >= $2 LIMIT $5) e"
		" GROUP BY GROUPING SETS ((bin), ())"};
	Rows rows;

	figures->first_bin = first_bin;
	memset(figures->events, 0, sizeof(figures->events));
	memset(figures->delays, 0, sizeof(figures->delays));
	rows_open(&rows, &select,
			  ARGS(arg_time(figures->start),
				   arg_time(bin_start(figures, first_bin)), arg_int4(BIN_SECONDS),
				   arg_time(figures->now), arg_int8(MAX_EVENTS)));
	while (rows_next(&rows))
		take_events(figures, &rows);
	rows_close(&rows);
	return figures->totals.events < MAX_EVENTS;
}

/* Of six hours, or of one, or of the last minutes if that are too many events. */
static void
read_events(Figures *figures)
{
	static const int first_bins[] = {0, BINS - 13, BINS - 2};

	for (int i = 0; i < lengthof(first_bins); i++)
		if (read_events_from(figures, first_bins[i]))
			return;
	figures->events_cut = true;
}

/* Events that are not settled, by status */
static void
read_unsettled(Figures *figures)
{
	static EngineStatement select = {
		"SELECT count(*) FILTER (WHERE status = 'pending'),"
		" count(*) FILTER (WHERE status = 'failed'),"
		" count(*) FILTER (WHERE status = 'dead'),"
		" min(received_at) FILTER (WHERE status <> 'pending')"
		" FROM (SELECT status, received_at FROM stripe_sync.event"
		"   WHERE status IN ('pending', 'failed', 'dead') LIMIT $1) e"};
	Rows rows;

	rows_open(&rows, &select, ARGS(arg_int8(MAX_COUNTED)));
	if (rows_next(&rows))
	{
		figures->totals.pending = rows_int8(&rows, 0);
		figures->totals.failed = rows_int8(&rows, 0);
		figures->totals.dead = rows_int8(&rows, 0);
		figures->totals.oldest_failed = rows_time(&rows, 0);
	}
	rows_close(&rows);
}

/* Steps of events that failed for the first time, by bin */
static void
read_step_failures(Figures *figures)
{
	static EngineStatement select = {
		"SELECT floor(EXTRACT(epoch FROM first_at - $1) / $2)::int, count(*)"
		" FROM (SELECT first_at FROM stripe_sync.event_error"
		"   WHERE last_at >= $1 AND first_at >= $1 LIMIT $3) e GROUP BY 1"};
	Rows rows;

	rows_open(&rows, &select,
			  ARGS(arg_time(figures->start), arg_int4(BIN_SECONDS),
				   arg_int8(MAX_COUNTED)));
	while (rows_next(&rows))
	{
		int bin = rows_int4(&rows, 0);

		bin = Min(bin, BINS - 1);
		figures->step_failures[bin] += rows_int8(&rows, 0);
	}
	rows_close(&rows);
}

/* Runs in the engine's scope. */
void
figures_read(Figures *figures)
{
	memset(figures, 0, sizeof(*figures));
	set_bins(figures);
	read_events(figures);
	read_unsettled(figures);
	read_step_failures(figures);
	backlog_read(figures);
	deliveries_read(figures);
}
