/*
 * backlog.c
 *		Reads messages that wait, now and in the last hours, and deliveries.
 */
#include "postgres.h"

#include "engine/statement.h"

#include "dashboard/internal.h"

#define MAX_MESSAGES   50000
#define MAX_DELIVERIES 10000

/*
 * Messages that wait now.  Those queued for a later time are no backlog, nor are
 * those that quiet hours hold; one that they held waits since they ended.
 */
#define WAITS                                                                  \
	" (SELECT CASE WHEN held_at IS NULL THEN created_at ELSE due_at END"       \
	"   AS created_at, due_at, attempts FROM stripe_sync.message"
#define UNSETTLED                                                              \
	WAITS "  WHERE state = 'waiting' AND blocked_by IS NULL"                   \
		  "   AND due_at < 'infinity' LIMIT $1)"                               \
		  " UNION ALL" WAITS                                                   \
		  "  WHERE state = 'waiting' AND blocked_by IS NOT NULL LIMIT $1)"     \
		  " UNION ALL" WAITS "  WHERE state = 'sending' LIMIT $1)"

static void
read_held(Figures *figures)
{
	static EngineStatement select = {
		"SELECT count(*) FROM (SELECT FROM stripe_sync.message WHERE state = 'waiting'"
		" AND held_at IS NOT NULL AND due_at = 'infinity' LIMIT $1) m"};

	figures->totals.held = statement_int8(0, &select,
										  ARGS(arg_int8(MAX_MESSAGES)));
}

static void
read_waiting(Figures *figures)
{
	static EngineStatement select = {
		"SELECT count(*) FILTER (WHERE NOT later), count(*) FILTER (WHERE later),"
		" min(created_at) FILTER (WHERE NOT later), count(*) >= $1"
		" FROM (SELECT created_at, due_at > $2 AND attempts = 0 AS later"
		"   FROM (" UNSETTLED ") m) w"};
	Rows rows;

	rows_open(&rows, &select,
			  ARGS(arg_int8(MAX_MESSAGES), arg_time(figures->now)));
	if (rows_next(&rows))
	{
		figures->totals.waiting = rows_int8(&rows, 0);
		figures->totals.scheduled = rows_int8(&rows, 0);
		figures->totals.oldest_waiting = rows_time(&rows, 0);
		figures->totals.waiting_cut = rows_bool(&rows, false);
	}
	rows_close(&rows);
}

/* So many messages waited from one bin's end to before another's */
static void
add_waiting(Figures *figures, int from, int to, int64 count)
{
	for (int bin = Max(from, 0); bin < Min(to, BINS); bin++)
		figures->backlog[bin] += count;
}

/* How many messages waited at the end of each bin */
static void
read_backlog(Figures *figures)
{
	static EngineStatement select = {
		"SELECT greatest(floor(EXTRACT(epoch FROM queued - $3) / $4), 0)::int,"
		" floor(EXTRACT(epoch FROM settled - $3) / $4)::int, count(*)"
		" FROM (SELECT created_at AS queued, NULL::timestamptz AS settled"
		"    FROM (" UNSETTLED ") m WHERE due_at <= $2 OR attempts > 0"
		"   UNION ALL (SELECT CASE WHEN attempts > 1 AND held_at IS NULL THEN created_at"
		"     ELSE greatest(created_at, least(due_at, settled_at)) END, settled_at"
		"    FROM stripe_sync.message WHERE settled_at >= $3 LIMIT $1)) b"
		" GROUP BY 1, 2"};
	Rows rows;

	rows_open(&rows, &select,
			  ARGS(arg_int8(MAX_MESSAGES), arg_time(figures->now),
				   arg_time(figures->start), arg_int4(BIN_SECONDS)));
	while (rows_next(&rows))
	{
		int queued = rows_int4(&rows, 0);
		int settled = rows_int4(&rows, BINS);

		add_waiting(figures, queued, settled, rows_int8(&rows, 0));
	}
	rows_close(&rows);
}

void
backlog_read(Figures *figures)
{
	read_waiting(figures);
	read_held(figures);
	read_backlog(figures);
}

/* ---- deliveries ---- */

static DestinationFigures *
find_destination(Figures *figures, const char *name)
{
	ListCell *cell;
	DestinationFigures *made;

	foreach(cell, figures->destinations)
	{
		DestinationFigures *destination = lfirst(cell);

		if (strcmp(destination->name, name) == 0)
			return destination;
	}
	made = palloc0(sizeof(DestinationFigures));
	made->name = pstrdup(name);
	figures->destinations = lappend(figures->destinations, made);
	return made;
}

static void
read_destinations(Figures *figures)
{
	static EngineStatement select = {
		"SELECT name, CASE WHEN NOT enabled THEN coalesce(disabled_reason, 'disabled') END"
		" FROM stripe_sync.destination ORDER BY name LIMIT 100"};
	Rows rows;

	rows_open(&rows, &select, NO_ARGS);
	while (rows_next(&rows))
	{
		DestinationFigures *destination = find_destination(figures,
														   rows_text(&rows));

		destination->known = true;
		destination->disabled = rows_text(&rows);
	}
	rows_close(&rows);
}

/* Deliveries to one destination that ended in one way, in one bin */
static void
take_delivery(Figures *figures, Rows *rows)
{
	DestinationFigures *destination = find_destination(figures, rows_text(rows));
	char *verdict = rows_text(rows);
	int bin = rows_int4(rows, -1);
	int64 count = rows_int8(rows, 0);
	TimestampTz last = rows_time(rows, 0);

	destination->last = Max(destination->last, last);
	if (strcmp(verdict, "sent") == 0)
		destination->sent += count;
	else if (strcmp(verdict, "retry") == 0 || strcmp(verdict, "lost") == 0)
		destination->repeated += count;
	else
		destination->failed += count;
	if (bin >= 0 && strcmp(verdict, "sent") != 0)
		figures->delivery_failures[Min(bin, BINS - 1)] += count;
}

/* The last deliveries of 24 hours, and every destination. */
void
deliveries_read(Figures *figures)
{
	static EngineStatement select = {
		"SELECT m.destination, d.verdict,"
		" floor(EXTRACT(epoch FROM d.started_at - $1) / $2)::int, count(*), max(d.started_at)"
		" FROM (SELECT message_id, verdict, started_at FROM stripe_sync.delivery"
		"   ORDER BY id DESC LIMIT $4) d"
		" JOIN stripe_sync.message m ON m.id = d.message_id"
		" WHERE d.started_at >= $3 - interval '24 hours' GROUP BY 1, 2, 3"};
	Rows rows;

	read_destinations(figures);
	rows_open(&rows, &select,
			  ARGS(arg_time(figures->start), arg_int4(BIN_SECONDS),
				   arg_time(figures->now), arg_int8(MAX_DELIVERIES)));
	while (rows_next(&rows))
		take_delivery(figures, &rows);
	rows_close(&rows);
}
