/*
 * quiet_window.c
 *		Is it quiet at a destination, and until when?
 *
 * A window begins at from_time of a day in its time zone and ends at to_time, as
 * AT TIME ZONE reads them: a time that the clocks skip is counted with the offset
 * before the change (02:30 is 03:30), and of a time that comes twice the second
 * one is meant.  So a window has a beginning and an end each day whatever the
 * clocks do, and is empty if the end is not after the beginning.
 *
 * All functions but quiet_until() of SQL run in the engine's scope.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

#include "engine/engine.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "quiet/internal.h"

/* What is quiet for longer is always quiet: windows repeat every week. */
#define LONGEST_QUIET (15 * USECS_PER_DAY)

typedef struct Window
{
	int days;	/* bit 0 is Monday */
	int64 from; /* microseconds since midnight */
	int64 to;	/* more than from; on the next day if more than a day */
	pg_tz *zone;
	int passes; /* severity_rank() from which messages are not held */
} Window;

/* "none" as the severity that passes is above all. */
static int
severity_rank(const char *severity)
{
	static const char *const severities[] = {"info", "warning", "critical"};

	for (int i = 0; i < lengthof(severities); i++)
		if (strcmp(severity, severities[i]) == 0)
			return i;
	return lengthof(severities);
}

/* ---- read ---- */

static int64
read_time(Rows *rows)
{
	bool isnull;

	return DatumGetTimeADT(rows_datum(rows, TIMEOID, &isnull));
}

/* A zone that the server doesn't know any more is taken for UTC. */
static Window *
read_window(Rows *rows)
{
	Window *window = palloc(sizeof(Window));

	window->days = quiet_days_parse(rows_text(rows));
	window->from = read_time(rows);
	window->to = read_time(rows);
	if (window->to <= window->from)
		window->to += USECS_PER_DAY;
	window->zone = pg_tzset(rows_text(rows));
	if (window->zone == NULL)
		window->zone = pg_tzset("GMT");
	window->passes = severity_rank(rows_text(rows));
	return window;
}

static List *
read_windows(const char *destination)
{
	static EngineStatement select = {
		"SELECT days, from_time, to_time, zone, passes"
		" FROM stripe_sync.quiet_hours WHERE destination = $1"};
	List *windows = NIL;
	Rows rows;

	rows_open(&rows, &select, ARGS(arg_text(destination)));
	while (rows_next(&rows))
		windows = lappend(windows, read_window(&rows));
	rows_close(&rows);
	return windows;
}

/* ---- in one window ---- */

/* The instant of a local time, so many microseconds after a day's midnight */
static TimestampTz
local_instant(int date, int64 time, pg_tz *zone)
{
	Timestamp local = (Timestamp) (date - POSTGRES_EPOCH_JDATE) * USECS_PER_DAY +
					  time;
	struct pg_tm tm;
	fsec_t fsec;

	if (timestamp2tm(local, NULL, &tm, &fsec, NULL, NULL) != 0)
		return DT_NOEND;
	return local + DetermineTimeZoneOffset(&tm, zone) * USECS_PER_SEC;
}

/* The end of the window that begins on a day, if "at" is in it */
static TimestampTz
end_of_day(const Window *window, int date, TimestampTz at)
{
	int weekday = (j2day(date) + 6) % 7; /* 0 is Monday */
	TimestampTz end;

	if ((window->days & 1 << weekday) == 0)
		return DT_NOBEGIN;
	end = local_instant(date, window->to, window->zone);
	if (local_instant(date, window->from, window->zone) > at || at >= end)
		return DT_NOBEGIN;
	return end;
}

/* The end of the window, if "at" is in it; else DT_NOBEGIN. */
static TimestampTz
window_end(const Window *window, TimestampTz at)
{
	struct pg_tm tm;
	fsec_t fsec;
	int offset;
	int date;

	if (timestamp2tm(at, &offset, &tm, &fsec, NULL, window->zone) != 0)
		return DT_NOBEGIN;
	date = date2j(tm.tm_year, tm.tm_mon, tm.tm_mday);
	/* it may have begun the day before */
	return Max(end_of_day(window, date - 1, at), end_of_day(window, date, at));
}

/* ---- in any ---- */

/* The end of the longest window that is quiet for the severity at this time */
static TimestampTz
next_end(const List *windows, const char *severity, TimestampTz at)
{
	TimestampTz end = DT_NOBEGIN;
	ListCell *cell;

	foreach(cell, windows)
	{
		const Window *window = lfirst(cell);

		if (severity_rank(severity) < window->passes)
			end = Max(end, window_end(window, at));
	}
	return end;
}

/* Windows that overlap, or follow each other at once, are one time of quiet. */
TimestampTz
quiet_until(const char *destination, const char *severity, TimestampTz at)
{
	List *windows = read_windows(destination);
	TimestampTz until = DT_NOBEGIN;
	TimestampTz end = at;

	while ((end = next_end(windows, severity, end)) != DT_NOBEGIN)
	{
		until = end;
		if (until - at > LONGEST_QUIET)
			return DT_NOEND;
	}
	return until;
}

bool
quiet_holds(const char *destination, const char *severity, TimestampTz at)
{
	return quiet_until(destination, severity, at) != DT_NOBEGIN;
}

char *
quiet_zone(const char *destination)
{
	static EngineStatement select = {
		"SELECT zone FROM stripe_sync.quiet_hours WHERE destination = $1"
		" ORDER BY created_at, days LIMIT 1"};

	return statement_text(&select, ARGS(arg_text(destination)));
}

/* quiet_until(destination, severity, at): NULL if it isn't quiet then */
ENGINE_FUNCTION(stripe_sync_quiet_until)
{
	RoleScope scope;
	TimestampTz until;

	argument_required(fcinfo, 0, "destination");
	argument_required(fcinfo, 1, "severity");
	argument_required(fcinfo, 2, "at");
	scope = role_enter_engine();
	until = quiet_until(text_to_cstring(PG_GETARG_TEXT_PP(0)),
						text_to_cstring(PG_GETARG_TEXT_PP(1)),
						PG_GETARG_TIMESTAMPTZ(2));
	role_leave(&scope);
	if (until == DT_NOBEGIN)
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(until);
}
