/*
 * size.c
 *		Items: the size of inbox and mirror, how fast they grow, and whether
 *		the retention holds the inbox.
 *
 * The number of events a day is that of stripe_sync.pulse, the size of one is
 * the average over the inbox: no table is read.
 */
#include "postgres.h"

#include <sys/statvfs.h>

#include "miscadmin.h"

#include "base/base.h"
#include "engine/engine.h"
#include "postgres_items/internal.h"

#define SECONDS_A_DAY 86400.0
#define LATE_DAYS	  2 /* how long finished events may outlive the retention */
#define WARN_DAYS	  30 /* until the disk is full */
#define FAIL_DAYS	  7

typedef struct Sizes
{
	double inbox; /* bytes */
	double outbox;
	double mirror;
	double events; /* rows, as the planner estimates */
	double charges;
	double daily; /* events, over the last two weeks */
} Sizes;

/*
 * The sizes of the mirror are those that the last VACUUM, ANALYZE or CREATE INDEX
 * noted: to ask the file system for a thousand files takes long, and the server
 * opens each index for it.  A table that has rows and was not analyzed yet is
 * asked for.
 */
static Sizes
read_sizes(void)
{
	static EngineStatement select = {
		"WITH own AS (SELECT c.relname, pg_catalog.pg_total_relation_size(c.oid)::float8 AS bytes,"
		"   greatest(c.reltuples, 0)::float8 AS rows FROM pg_catalog.pg_class c"
		"   JOIN pg_catalog.pg_extension x ON x.extnamespace = c.relnamespace"
		"  WHERE x.extname = 'stripe_sync' AND c.relkind = 'r' AND c.relname = ANY"
		"   ('{event,event_error,handler_run,message,delivery,incident_record,alerted}')),"
		" tab AS (SELECT c.oid, c.relname, c.reltoastrelid, c.relpages, c.reltuples"
		"   FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
		"   JOIN stripe_sync.mirror_table m ON m.table_name = c.relname"
		"  WHERE n.nspname = 'stripe' AND c.relkind = 'r'),"
		" part AS (SELECT t.oid, t.relpages::bigint AS pages FROM tab t"
		"  UNION ALL SELECT t.oid, c.relpages FROM tab t"
		"   JOIN pg_catalog.pg_index i ON i.indrelid = t.oid"
		"   JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid"
		"  UNION ALL SELECT t.oid, c.relpages FROM tab t"
		"   JOIN pg_catalog.pg_class c ON c.oid = t.reltoastrelid),"
		" noted AS (SELECT pg_catalog.sum(pages) * pg_catalog.current_setting('block_size')::float8"
		"   AS bytes FROM part),"
		" asked AS (SELECT pg_catalog.sum(pg_catalog.pg_total_relation_size(t.oid))::float8 AS bytes"
		"   FROM tab t WHERE t.reltuples < 0 AND pg_catalog.pg_stat_get_live_tuples(t.oid) > 0)"
		" SELECT (SELECT pg_catalog.sum(bytes) FROM own WHERE relname IN ('event', 'event_error', 'handler_run')),"
		"  (SELECT pg_catalog.sum(bytes) FROM own WHERE relname IN ('message', 'delivery', 'incident_record', 'alerted')),"
		"  (SELECT coalesce(n.bytes, 0) + coalesce(a.bytes, 0) FROM noted n, asked a),"
		"  (SELECT rows FROM own WHERE relname = 'event'),"
		"  (SELECT greatest(t.reltuples, 0)::float8 FROM tab t WHERE t.relname = 'charges'),"
		"  (SELECT pg_catalog.sum(p.events)::float8 / greatest(1, EXTRACT(epoch FROM"
		"    pg_catalog.now() - pg_catalog.min(p.first_at))::float8 / 86400) FROM stripe_sync.pulse p)"};
	Sizes sizes = {0};
	Rows rows;

	rows_open(&rows, &select, NO_ARGS);
	if (rows_next(&rows))
	{
		sizes.inbox = rows_float8(&rows, 0);
		sizes.outbox = rows_float8(&rows, 0);
		sizes.mirror = rows_float8(&rows, 0);
		sizes.events = rows_float8(&rows, 0);
		sizes.charges = rows_float8(&rows, 0);
		sizes.daily = rows_float8(&rows, 0);
	}
	rows_close(&rows);
	return sizes;
}

/* What a day's events add to the inbox */
static double
daily_bytes(const Sizes *sizes)
{
	return sizes->events >= 1 ? sizes->inbox / sizes->events * sizes->daily : 0;
}

/* ---- size ---- */

/* Days until the file system of the data directory is full; -1: unknown */
static double
days_until_full(double daily)
{
	struct statvfs disk;

	if (statvfs(DataDir, &disk) != 0)
		return -1;
	return (double) disk.f_bavail * (double) disk.f_frsize / Max(daily, 1);
}

void
look_at_size(Finding *finding)
{
	Sizes sizes = read_sizes();
	double all = sizes.inbox + sizes.outbox + sizes.mirror;
	double days = days_until_full(daily_bytes(&sizes));
	const char *charges = "";

	finding_figure(finding, all, "bytes");
	if (sizes.charges >= 1)
		charges = psprintf(
			"; %s per 100,000 charges",
			words_bytes((sizes.inbox + sizes.mirror) / sizes.charges * 100000));
	if (days >= WARN_DAYS || days < 0)
		finding_ok(finding, "inbox %s, mirror %s, outbox %s%s",
				   words_bytes(sizes.inbox), words_bytes(sizes.mirror),
				   words_bytes(sizes.outbox), charges);
	else if (days >= FAIL_DAYS)
		finding_warn(
			finding,
			"at the present growth the disk is full in %.0f days (inbox %s, mirror %s%s)",
			days, words_bytes(sizes.inbox), words_bytes(sizes.mirror), charges);
	else
		finding_fail(
			finding,
			"at the present growth the disk is full in %.0f days (inbox %s, mirror %s%s)",
			days, words_bytes(sizes.inbox), words_bytes(sizes.mirror), charges);
}

/* ---- growth ---- */

/*
 * The age of the oldest event, in days: as the last ANALYZE found it, or else as
 * far back as stripe_sync.pulse goes.
 */
static double
inbox_age(void)
{
	static EngineStatement select = {
		"SELECT EXTRACT(epoch FROM pg_catalog.now() - coalesce("
		"  (SELECT (s.histogram_bounds::text::timestamptz[])[1]"
		"     FROM pg_catalog.pg_stats s WHERE s.schemaname = 'stripe_sync'"
		"      AND s.tablename = 'event' AND s.attname = 'received_at'),"
		"  (SELECT pg_catalog.min(p.first_at) FROM stripe_sync.pulse p)))::float8"};
	double age = 0;
	Rows rows;

	rows_open(&rows, &select, NO_ARGS);
	if (rows_next(&rows))
		age = rows_float8(&rows, 0);
	rows_close(&rows);
	return age / SECONDS_A_DAY;
}

/*
 * Finished events that the retention should have deleted.  Stops at one, and by
 * the BRIN index reads only where such old ones are.
 */
static bool
has_overdue(double days)
{
	static EngineStatement select = {
		"SELECT EXISTS (SELECT FROM stripe_sync.event e"
		" WHERE e.received_at < pg_catalog.now() - pg_catalog.make_interval(secs => $1)"
		"  AND e.status = ANY ('{applied,stale,ignored}') AND e.todo = '{}'"
		"  AND e.next_attempt_at IS NULL AND NOT EXISTS (SELECT FROM stripe_sync.event u"
		"   WHERE u.object_id = e.object_id AND u.status = ANY ('{pending,failed,dead}')))"};

	int nest = plan_for_brin();
	bool found = statement_bool(false, &select,
								ARGS(arg_float8(days * SECONDS_A_DAY)));

	plan_settings_restore(nest);
	return found;
}

/* When events come and go at the same rate */
void
look_at_growth(Finding *finding)
{
	Sizes sizes = read_sizes();
	double daily = daily_bytes(&sizes);
	double kept = guc_retention / (SECONDS_A_DAY / SECS_PER_MINUTE);
	double age = inbox_age();

	finding_figure(finding, daily, "bytes/day");
	if (guc_retention == 0)
	{
		finding_warn(
			finding,
			"the inbox grows by %s a day without end, because stripe_sync.retention is 0",
			words_bytes(daily));
		finding_hint(
			finding,
			"ALTER SYSTEM SET stripe_sync.retention = '90d'; SELECT pg_reload_conf();");
	}
	else if (has_overdue(kept + LATE_DAYS))
	{
		finding_fail(
			finding,
			"events older than stripe_sync.retention (%.0f days) are not deleted",
			kept);
		finding_hint(finding, "SELECT stripe_sync.prune();");
	}
	else if (age >= kept)
		finding_ok(
			finding,
			"the inbox takes %s a day and gives up as much: the retention of %.0f days is reached",
			words_bytes(daily), kept);
	else
		finding_ok(
			finding,
			"the inbox grows by %s a day; in %.0f days the retention of %.0f days will hold it at about %s",
			words_bytes(daily), kept - age, kept, words_bytes(daily * kept));
}
