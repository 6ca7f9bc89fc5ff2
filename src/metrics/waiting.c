/*
 * waiting.c
 *		Samples of what waits in the tables: how much, and for how long.
 *
 * Each statement reads a partial index of what waits, and 10,000 entries of it at
 * most; more are estimated from the index's statistics.  So the cost doesn't grow
 * with the number of events and messages that are settled, nor with a backlog.
 */
#include "postgres.h"

#include <math.h>

#include "engine/engine.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "metrics/internal.h"

#define EXACT			  10000 /* entries that are counted */
#define MOST_DESTINATIONS 200
#define FEW_DESTINATIONS  20 /* up to these, EXACT of each */

#define ESTIMATED " (exact up to 10,000, then estimated)"

static const Metric unsettled = {
	"events_unsettled",
	"gauge",
	"Events that are pending (a running reconcile job applies them at its end), failed (to be tried again) or dead" ESTIMATED,
	{"status"}};
static const Metric unsettled_age = {
	"events_unsettled_oldest_seconds",
	"gauge",
	"Time since the oldest event of that status was received; 0: there is none",
	{"status"}};
static const Metric event_runs = {
	"event_runs_waiting", "gauge",
	"Events with a step to be run by the worker: again after a failure, or a deferred handler" ESTIMATED};
static const Metric event_runs_overdue = {
	"event_runs_overdue_seconds", "gauge",
	"Time for which the first of them has been due; 0: none is"};
static const Metric enabled = {
	"destination_enabled",
	"gauge",
	"1 if the destination is enabled, 0 if its messages wait",
	{"destination"}};
static const Metric messages = {
	"messages_waiting",
	"gauge",
	"Messages that wait to be sent, without those that wait for another one of their thread (up to 10,000 are counted, 1,000 with more than 20 destinations)",
	{"destination"}};
static const Metric messages_overdue = {
	"messages_overdue_seconds",
	"gauge",
	"Time for which the first waiting message of the destination has been due; 0: none is",
	{"destination"}};
static const Metric messages_sending = {"messages_sending", "gauge",
										"Messages that are being sent"};
static const Metric messages_blocked = {
	"messages_blocked", "gauge",
	"Messages that wait for another one of their thread" ESTIMATED};
static const Metric parts = {
	"job_parts",
	"gauge",
	"Parts of jobs, each a list or an object to read from Stripe" ESTIMATED,
	{"state"}};
static const Metric parts_overdue = {
	"job_parts_overdue_seconds", "gauge",
	"Time for which the first waiting part of a job has been due; 0: none is"};
static const Metric refetches = {
	"refetches_waiting", "gauge",
	"Objects to be retrieved from Stripe because events do not decide their state" ESTIMATED};
static const Metric refetches_overdue = {
	"refetches_overdue_seconds", "gauge",
	"Time for which the first of them has been due; 0: none is"};
static const Metric incidents = {
	"incidents_open", "gauge", "Open incidents" ESTIMATED, {"severity"}};
static const Metric incidents_age = {
	"incidents_open_oldest_seconds",
	"gauge",
	"Time since the oldest open incident of that severity was opened; 0: there is none",
	{"severity"}};

/* ---- one number ---- */

/* Entries that the index has according to its statistics */
static double
estimate(const char *index)
{
	static EngineStatement select = {
		"SELECT greatest(reltuples, 0)::bigint FROM pg_catalog.pg_class"
		" WHERE oid = $1"};

	return statement_int8(0, &select, ARGS(arg_oid(engine_relation(index))));
}

/* A count that stops at EXACT + 1 */
static List *
add_count(List *samples, const Metric *metric, EngineStatement *select,
		  const char *index, const char *label)
{
	double count = statement_int8(0, select, ARGS(arg_int4(EXACT + 1)));

	if (count > EXACT)
		count = Max(count, estimate(index));
	return sample_add(samples, metric, count, label, NO_LABEL);
}

/* Seconds since then; 0 if that is still to come */
static double
seconds_since(TimestampTz then)
{
	TimestampTz now = GetCurrentTimestamp();

	return then >= now || TIMESTAMP_NOT_FINITE(then)
			   ? 0
			   : (double) (now - then) / USECS_PER_SEC;
}

/* ---- events ---- */

/* Counts and oldest times by a label whose values are known */
typedef struct LabelGroup
{
	const char *label;
	double count;
	TimestampTz oldest;
} LabelGroup;

/* Read rows of (label, count, oldest); returns the sum of the counts. */
static double
read_groups(Rows *rows, LabelGroup *groups, int ngroups)
{
	double sum = 0;

	for (int i = 0; i < ngroups; i++)
		groups[i].oldest = DT_NOEND;
	while (rows_next(rows))
	{
		char *label = rows_text(rows);
		double count = rows_int8(rows, 0);
		TimestampTz oldest = rows_time(rows, DT_NOEND);

		sum += count;
		for (int i = 0; i < ngroups; i++)
			if (strcmp(groups[i].label, label) == 0)
			{
				groups[i].count = count;
				groups[i].oldest = oldest;
			}
	}
	rows_close(rows);
	return sum;
}

static List *
add_groups(List *samples, const Metric *count, const Metric *age,
		   const LabelGroup *groups, int ngroups, double factor)
{
	for (int i = 0; i < ngroups; i++)
		samples = sample_add(samples, count, rint(groups[i].count * factor),
							 groups[i].label, NO_LABEL);
	for (int i = 0; i < ngroups; i++)
		samples = sample_add(samples, age, seconds_since(groups[i].oldest),
							 groups[i].label, NO_LABEL);
	return samples;
}

/* Of more than EXACT, those of the oldest stand for all. */
static List *
add_unsettled(List *samples)
{
	static EngineStatement select = {
		"SELECT u.status, pg_catalog.count(*), pg_catalog.min(u.received_at)"
		" FROM (SELECT status, received_at FROM stripe_sync.event"
		"  WHERE status IN ('pending', 'failed', 'dead')"
		"  ORDER BY received_at LIMIT $1) u GROUP BY u.status"};
	LabelGroup groups[] = {{"pending"}, {"failed"}, {"dead"}};
	double factor = 1;
	double sum;
	Rows rows;

	rows_open(&rows, &select, ARGS(arg_int4(EXACT + 1)));
	sum = read_groups(&rows, groups, lengthof(groups));
	if (sum > EXACT)
		factor = Max(1, estimate("event_unsettled_idx") / sum);
	return add_groups(samples, &unsettled, &unsettled_age, groups,
					  lengthof(groups), factor);
}

static List *
add_event_runs(List *samples)
{
	static EngineStatement count = {
		"SELECT pg_catalog.count(*) FROM (SELECT FROM stripe_sync.event"
		"  WHERE next_attempt_at IS NOT NULL LIMIT $1) e"};
	static EngineStatement first = {
		"SELECT next_attempt_at FROM stripe_sync.event"
		" WHERE next_attempt_at IS NOT NULL ORDER BY next_attempt_at LIMIT 1"};

	samples = add_count(samples, &event_runs, &count, "event_due_idx", NO_LABEL);
	return sample_add(samples, &event_runs_overdue,
					  seconds_since(statement_time(DT_NOEND, &first, NO_ARGS)),
					  NO_LABEL, NO_LABEL);
}

/* ---- messages ---- */

typedef struct DestinationBacklog
{
	char *name;
	bool enabled;
	int64 waiting;
	TimestampTz due;
} DestinationBacklog;

static int64
count_destinations(void)
{
	static EngineStatement select = {
		"SELECT pg_catalog.count(*) FROM stripe_sync.destination"};

	return statement_int8(0, &select, NO_ARGS);
}

/* The first MOST_DESTINATIONS, by name */
static List *
read_backlogs(void)
{
	static EngineStatement select = {
		"SELECT d.name, d.enabled, w.n, w.due FROM"
		" (SELECT name, enabled FROM stripe_sync.destination"
		"  ORDER BY name LIMIT $1) d CROSS JOIN LATERAL"
		" (SELECT pg_catalog.count(*) AS n, pg_catalog.min(l.due_at) AS due FROM"
		"  (SELECT m.due_at FROM stripe_sync.message m"
		"    WHERE m.destination = d.name AND m.state = 'waiting'"
		"     AND m.blocked_by IS NULL AND m.due_at < 'infinity'"
		"    ORDER BY m.due_at LIMIT $2) l) w"};
	int most = count_destinations() > FEW_DESTINATIONS ? EXACT / 10 : EXACT;
	List *backlogs = NIL;
	Rows rows;

	rows_open(&rows, &select, ARGS(arg_int4(MOST_DESTINATIONS), arg_int4(most)));
	while (rows_next(&rows))
	{
		DestinationBacklog *backlog = palloc(sizeof(DestinationBacklog));

		backlog->name = rows_text(&rows);
		backlog->enabled = rows_bool(&rows, false);
		backlog->waiting = rows_int8(&rows, 0);
		backlog->due = rows_time(&rows, DT_NOEND);
		backlogs = lappend(backlogs, backlog);
	}
	rows_close(&rows);
	return backlogs;
}

static List *
add_backlogs(List *samples)
{
	List *backlogs = read_backlogs();
	ListCell *cell;

	foreach(cell, backlogs)
	{
		DestinationBacklog *backlog = lfirst(cell);

		samples = sample_add(samples, &enabled, backlog->enabled, backlog->name,
							 NO_LABEL);
	}
	foreach(cell, backlogs)
	{
		DestinationBacklog *backlog = lfirst(cell);

		samples = sample_add(samples, &messages, backlog->waiting,
							 backlog->name, NO_LABEL);
	}
	foreach(cell, backlogs)
	{
		DestinationBacklog *backlog = lfirst(cell);

		samples = sample_add(samples, &messages_overdue,
							 seconds_since(backlog->due), backlog->name,
							 NO_LABEL);
	}
	return samples;
}

static List *
add_messages(List *samples)
{
	static EngineStatement sending = {
		"SELECT pg_catalog.count(*) FROM (SELECT FROM stripe_sync.message"
		"  WHERE state = 'sending' LIMIT $1) m"};
	static EngineStatement blocked = {
		"SELECT pg_catalog.count(*) FROM (SELECT FROM stripe_sync.message"
		"  WHERE blocked_by IS NOT NULL LIMIT $1) m"};

	samples = add_backlogs(samples);
	samples = add_count(samples, &messages_sending, &sending,
						"message_sending_idx", NO_LABEL);
	return add_count(samples, &messages_blocked, &blocked,
					 "message_blocked_idx", NO_LABEL);
}

/* ---- jobs, refetches, incidents ---- */

static List *
add_parts(List *samples)
{
	static EngineStatement waiting = {
		"SELECT pg_catalog.count(*) FROM (SELECT FROM stripe_sync.job_part"
		"  WHERE state = 'waiting' LIMIT $1) p"};
	static EngineStatement running = {
		"SELECT pg_catalog.count(*) FROM (SELECT FROM stripe_sync.job_part"
		"  WHERE state = 'running' LIMIT $1) p"};
	static EngineStatement blocked = {
		"SELECT pg_catalog.count(*) FROM (SELECT FROM stripe_sync.job_part"
		"  WHERE state = 'blocked' LIMIT $1) p"};
	static EngineStatement first = {
		"SELECT least((SELECT pg_catalog.min(due_at) FROM stripe_sync.job_part"
		"   WHERE state = 'waiting' AND priority < 10),"
		"  (SELECT pg_catalog.min(due_at) FROM stripe_sync.job_part"
		"   WHERE state = 'waiting' AND priority >= 10))"};

	samples = add_count(samples, &parts, &waiting, "job_part_due_idx",
						"waiting");
	samples = add_count(samples, &parts, &running, "job_part_running_idx",
						"running");
	samples = add_count(samples, &parts, &blocked, "job_part_blocked_idx",
						"blocked");
	return sample_add(samples, &parts_overdue,
					  seconds_since(statement_time(DT_NOEND, &first, NO_ARGS)),
					  NO_LABEL, NO_LABEL);
}

static List *
add_refetches(List *samples)
{
	static EngineStatement count = {
		"SELECT pg_catalog.count(*) FROM (SELECT FROM stripe_sync.reread"
		"  WHERE state = 'waiting' LIMIT $1) r"};
	static EngineStatement first = {
		"SELECT due_at FROM stripe_sync.reread"
		" WHERE state = 'waiting' ORDER BY due_at LIMIT 1"};

	samples = add_count(samples, &refetches, &count, "reread_due_idx", NO_LABEL);
	return sample_add(samples, &refetches_overdue,
					  seconds_since(statement_time(DT_NOEND, &first, NO_ARGS)),
					  NO_LABEL, NO_LABEL);
}

static List *
add_incidents(List *samples)
{
	static EngineStatement select = {
		"SELECT i.severity, pg_catalog.count(*), pg_catalog.min(i.opened_at) FROM"
		" ((SELECT severity, opened_at FROM stripe_sync.incident_record"
		"   WHERE state = 'open' AND kind = 'single' LIMIT $1)"
		"  UNION ALL (SELECT severity, opened_at FROM stripe_sync.incident_record"
		"   WHERE state = 'open' AND kind <> 'single' LIMIT $1)) i"
		" GROUP BY i.severity"};
	LabelGroup groups[] = {{"info"}, {"warning"}, {"critical"}};
	double factor = 1;
	double sum;
	Rows rows;

	rows_open(&rows, &select, ARGS(arg_int4(EXACT + 1)));
	sum = read_groups(&rows, groups, lengthof(groups));
	if (sum > EXACT)
		factor = Max(1, estimate("incident_open_idx") / sum);
	return add_groups(samples, &incidents, &incidents_age, groups,
					  lengthof(groups), factor);
}

List *
waiting_samples(List *samples)
{
	int nest = plan_for_indexes_with_lock_timeout();

	samples = add_unsettled(samples);
	samples = add_event_runs(samples);
	samples = add_messages(samples);
	samples = add_parts(samples);
	samples = add_refetches(samples);
	samples = add_incidents(samples);
	plan_settings_restore(nest);
	return samples;
}
