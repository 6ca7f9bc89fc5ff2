/*
 * event_items.c
 *		What the newest events tell: how old and how late they are, their API
 *		versions, and types that have no table.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "lib/stringinfo.h"

#include "stripe/stripe.h"
#include "tables/tables.h"
#include "types/types.h"
#include "stripe_items/internal.h"

#define MOST_NAMED 3 /* in one sentence */

static double
seconds_since(TimestampTz at)
{
	return (double) (GetCurrentTimestamp() - at) / USECS_PER_SEC;
}

/* ---- stripe.last_event ---- */

#define LONG_WITHOUT (7.0 * SECS_PER_DAY)

static TimestampTz
newest_delivery(void)
{
	static EngineStatement select = {
		RECENT "SELECT GREATEST((SELECT pg_catalog.max(received_at) FROM recent"
			   "  WHERE source <> 'reconcile' AND $3 IS NOT NULL),"
			   " (SELECT pg_catalog.max(last_at) FROM stripe_sync.pulse))"};
	RecentEvents recent = recent_begin();
	TimestampTz newest = statement_time(DT_NOBEGIN, &select,
										ARGS(RECENT_ARGS(&recent)));

	recent_end(&recent);
	return newest;
}

/* No event, since the first endpoint was added */
static void
judge_no_event(Finding *finding)
{
	static EngineStatement select = {
		"SELECT pg_catalog.min(created_at) FROM stripe_sync.endpoint"};
	TimestampTz added = statement_time(DT_NOEND, &select, NO_ARGS);
	double age = added == DT_NOEND ? 0 : seconds_since(added);

	if (age > LONG_WITHOUT)
		finding_warn(
			finding,
			"no event has been delivered in the %s since the first endpoint was added",
			words_age(age));
	else
		finding_ok(finding, "no event has been delivered yet");
}

void
look_at_last_event(Finding *finding)
{
	TimestampTz newest = newest_delivery();
	double age;

	if (newest == DT_NOBEGIN)
	{
		judge_no_event(finding);
		return;
	}
	age = Max(seconds_since(newest), 0);
	finding_figure(finding, age, "s");
	if (age > LONG_WITHOUT)
		finding_warn(finding, "no event has been delivered for %s",
					 words_age(age));
	else
		finding_ok(finding, "the newest event was delivered %s ago",
				   words_age(age));
}

/* ---- stripe.delivery_delay ---- */

#define LEAST_EVENTS 20 /* of an endpoint, or it is not judged */
#define LATE		 60 /* seconds */
#define VERY_LATE	 SECS_PER_HOUR
#define AHEAD		 -5 /* delivered before it happened: a clock is wrong */

/* The delays of one endpoint */
typedef struct Delays
{
	char *endpoint;
	int64 events;
	double p50;
	double p95;
	double max;
} Delays;

static List *
read_delays(void)
{
	static EngineStatement select = {
		RECENT
		"SELECT endpoint, pg_catalog.count(*),"
		" pg_catalog.percentile_disc(0.5) WITHIN GROUP (ORDER BY late),"
		" pg_catalog.percentile_disc(0.95) WITHIN GROUP (ORDER BY late),"
		" pg_catalog.max(late) FROM (SELECT endpoint,"
		"  EXTRACT(epoch FROM received_at - created)::float8 AS late FROM day"
		"  WHERE source = 'webhook' AND created IS NOT NULL"
		"   AND endpoint IS NOT NULL) d"
		" GROUP BY endpoint ORDER BY 4 DESC, 1"};
	RecentEvents recent = recent_begin();
	List *delays = NIL;
	Rows rows;

	rows_open(&rows, &select, ARGS(RECENT_ARGS(&recent)));
	while (rows_next(&rows))
	{
		Delays *row = palloc(sizeof(Delays));

		row->endpoint = rows_text(&rows);
		row->events = rows_int8(&rows, 0);
		row->p50 = rows_float8(&rows, 0);
		row->p95 = rows_float8(&rows, 0);
		row->max = rows_float8(&rows, 0);
		delays = lappend(delays, row);
	}
	rows_close(&rows);
	recent_end(&recent);
	return delays;
}

static char *
describe_delays(List *delays)
{
	StringInfoData words;
	ListCell *cell;

	initStringInfo(&words);
	foreach(cell, delays)
	{
		const Delays *row = lfirst(cell);

		if (foreach_current_index(cell) == MOST_NAMED)
			break;
		appendStringInfo(
			&words,
			"%sendpoint \"%s\": half within %.1f s, 95 %% within %.1f s, "
			"all within %.1f s (%s)",
			words.len > 0 ? "; " : "", row->endpoint, row->p50, row->p95,
			row->max, words_count(row->events, "event", "events"));
	}
	if (list_length(delays) > MOST_NAMED)
		appendStringInfo(&words, "; and %d more endpoints",
						 list_length(delays) - MOST_NAMED);
	return words.data;
}

/* The one with the greatest p95 of those that are judged, or NULL */
static const Delays *
worst_delays(List *delays)
{
	ListCell *cell;

	foreach(cell, delays)
	{
		const Delays *row = lfirst(cell);

		if (row->events >= LEAST_EVENTS)
			return row;
	}
	return NULL;
}

void
look_at_delivery_delay(Finding *finding)
{
	List *delays = read_delays();
	const Delays *worst = worst_delays(delays);
	char *words = describe_delays(delays);

	if (delays == NIL)
	{
		finding_ok(finding, "no event was delivered in the last day");
		return;
	}
	finding_figure(finding,
				   worst != NULL ? worst->p95
								 : ((const Delays *) linitial(delays))->p95,
				   "s");
	if (worst != NULL && worst->p95 > VERY_LATE)
		finding_fail(finding, "events are delivered very late: %s", words);
	else if (worst != NULL && worst->p95 > LATE)
		finding_warn(finding, "events are delivered late: %s", words);
	else if (worst != NULL && worst->p50 < AHEAD)
		finding_warn(
			finding,
			"events are delivered before they happen, so the server's clock is behind: %s",
			words);
	else
		finding_ok(finding, "%s", words);
}

/* ---- stripe.api_versions ---- */

/*
 * $4: the version expected.  The newest ten deliveries of each endpoint, so
 * that a change is seen soon; and what the endpoints at Stripe are set to.
 */
void
look_at_api_versions(Finding *finding)
{
	static EngineStatement select = {
		RECENT
		"SELECT pg_catalog.format('endpoint \"%s\" receives %s', endpoint, api_version)"
		" FROM (SELECT endpoint, api_version, pg_catalog.row_number() OVER"
		"   (PARTITION BY endpoint ORDER BY received_at DESC) AS n FROM day"
		"  WHERE source = 'webhook' AND endpoint IS NOT NULL"
		"   AND api_version IS NOT NULL) e"
		" WHERE n <= 10 AND api_version <> $4 GROUP BY endpoint, api_version"
		" UNION SELECT pg_catalog.format('%s sends %s', w.id, w.api_version)"
		" FROM stripe_sync.watched_endpoint w WHERE 'version' = ANY (w.trouble)"
		" ORDER BY 1"};
	char *expected = api_version_name();
	RecentEvents recent = recent_begin();
	StringInfoData words;
	int count = 0;
	Rows rows;

	initStringInfo(&words);
	rows_open(&rows, &select, ARGS(RECENT_ARGS(&recent), arg_text(expected)));
	while (rows_next(&rows))
	{
		if (count++ < MOST_NAMED)
			appendStringInfo(&words, "%s%s", words.len > 0 ? ", " : "",
							 rows_text(&rows));
	}
	rows_close(&rows);
	recent_end(&recent);
	finding_figure(finding, count, "versions");
	if (count > 0)
		finding_warn(
			finding,
			"events are of another API version than %s, which the worker reads with: %s",
			expected, words.data);
	else
		finding_ok(finding, "events are of API version %s", expected);
}

/* ---- stripe.unmirrored_types ---- */

/* Does the type have a place in the mirror, and is its table missing? */
static bool
lacks_table(const char *object_type)
{
	const CatalogType *type = catalog_find(object_type, strlen(object_type));

	return type != NULL && type->table != NULL &&
		   !OidIsValid(table_lookup(type));
}

/* Types of objects that have arrived and have no table, as a list of char * */
static List *
find_unmirrored(int64 *events)
{
	static EngineStatement select = {
		RECENT "SELECT object_type, pg_catalog.count(*) FROM day"
			   " WHERE object_type IS NOT NULL GROUP BY 1 ORDER BY 1"};
	RecentEvents recent = recent_begin();
	List *types = NIL;
	Rows rows;

	*events = 0;
	rows_open(&rows, &select, ARGS(RECENT_ARGS(&recent)));
	while (rows_next(&rows))
	{
		char *type = rows_text(&rows);

		if (!lacks_table(type))
			continue;
		types = lappend(types, type);
		*events += rows_int8(&rows, 0);
	}
	rows_close(&rows);
	recent_end(&recent);
	return types;
}

void
look_at_unmirrored_types(Finding *finding)
{
	int64 events;
	List *types = find_unmirrored(&events);
	StringInfoData names;
	ListCell *cell;

	finding_figure(finding, list_length(types), "types");
	if (types == NIL)
	{
		finding_ok(finding, "every type that arrives has its table");
		return;
	}
	initStringInfo(&names);
	foreach(cell, types)
		appendStringInfo(&names, "%s%s", names.len > 0 ? ", " : "",
						 hint_literal(lfirst(cell)));
	finding_warn(
		finding,
		"%s in the last day whose objects are not mirrored, because there is no table for: %s",
		words_count(events, "event", "events"), names.data);
	finding_hint(finding, "SELECT * FROM stripe_sync.create_tables(ARRAY[%s])",
				 names.data);
}
