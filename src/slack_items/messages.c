/*
 * messages.c
 *		Items about messages and their deliveries.
 *
 * What is counted is bounded, so that a look takes the same time whatever the
 * size of the tables: the first 1000 waiting messages of a destination, and the
 * last 2000 deliveries, as far as they are of the last day.
 */
#include "postgres.h"

#include "base/base.h"
#include "engine/statement.h"
#include "server/server.h"
#include "slack_items/internal.h"

#define BACKLOG_WARN 300 /* seconds that the oldest message waits */
#define BACKLOG_FAIL 3600
#define FAILED_WARN	 5.0 /* % of the deliveries */
#define FAILED_FAIL	 50.0
#define FAILED_LEAST 3		 /* fewer failed deliveries are no rate */
#define LIMITS_WARN	 10		 /* rate limits in a day */
#define DEAD_FAIL	 "1 day" /* given up since */
#define DEAD_WARN	 "7 days"

/* ---- backlog ---- */

typedef struct Backlog
{
	int64 count;
	double seconds; /* age of the oldest message */
	char *destination;
	int64 message; /* the oldest */
} Backlog;

/* Messages that could have been sent: due ones, and those that were tried */
static void
read_backlog(Backlog *backlog)
{
	static EngineStatement select = {
		"SELECT (pg_catalog.sum(w.n) OVER ())::bigint, d.name, w.id,"
		" EXTRACT(epoch FROM pg_catalog.clock_timestamp() - w.oldest)::float8"
		" FROM stripe_sync.destination d, LATERAL (SELECT pg_catalog.count(*) AS n,"
		"   pg_catalog.min(m.id) AS id, pg_catalog.min(m.waits_since) AS oldest"
		"  FROM (SELECT id, CASE WHEN attempts > 0 AND held_at IS NULL THEN created_at"
		"     ELSE greatest(created_at, due_at) END AS waits_since"
		"    FROM stripe_sync.message WHERE destination = d.name"
		"     AND state = 'waiting' AND blocked_by IS NULL"
		"     AND (due_at <= pg_catalog.clock_timestamp() OR attempts > 0)"
		"    LIMIT 1000) m) w"
		" WHERE d.enabled AND w.n > 0 ORDER BY w.oldest, d.name LIMIT 1"};
	Rows rows;

	memset(backlog, 0, sizeof(*backlog));
	rows_open(&rows, &select, NO_ARGS);
	if (rows_next(&rows))
	{
		backlog->count = rows_int8(&rows, 0);
		backlog->destination = rows_text(&rows);
		backlog->message = rows_int8(&rows, 0);
		backlog->seconds = rows_float8(&rows, 0);
	}
	rows_close(&rows);
}

/* What keeps messages from being sent, or the oldest one itself */
static void
hint_backlog(Finding *finding, const Backlog *backlog)
{
	if (!guc_outbound)
		finding_hint(finding, "ALTER SYSTEM SET stripe_sync.outbound = on; "
							  "SELECT pg_reload_conf();");
	else if (outbound_paused("slack"))
		finding_hint(finding, "SELECT stripe_sync.resume('slack');");
	else if (!outbound_is_original())
		finding_hint(finding, "SELECT stripe_sync.activate();");
	else
		finding_hint(
			finding,
			"SELECT stripe_sync.retry_message(id) FROM stripe_sync.message"
			" WHERE destination = %s AND state = 'waiting'"
			" AND due_at < 'infinity' AND created_at < now() - interval '%d s';",
			hint_literal(backlog->destination), BACKLOG_WARN);
}

void
look_at_backlog(Finding *finding)
{
	Backlog backlog;
	char *words;

	read_backlog(&backlog);
	finding_figure(finding, backlog.seconds, "s");
	if (backlog.count == 0)
	{
		finding_ok(finding, "no message waits");
		return;
	}
	words = psprintf(
		"%s, the oldest for %s, for %s (message " INT64_FORMAT ")",
		words_count(backlog.count, "message waits", "messages wait"),
		words_age(backlog.seconds), backlog.destination, backlog.message);
	if (backlog.seconds < BACKLOG_WARN)
	{
		finding_ok(finding, "%s", words);
		return;
	}
	if (backlog.seconds < BACKLOG_FAIL)
		finding_warn(finding, "%s", words);
	else
		finding_fail(finding, "%s", words);
	hint_backlog(finding, &backlog);
}

/* ---- dead messages ---- */

void
look_at_dead_messages(Finding *finding)
{
	static EngineStatement select = {
		"SELECT m.id, m.destination, COALESCE(m.last_code, 'unknown'),"
		" pg_catalog.count(*) OVER (),"
		" m.settled_at > pg_catalog.clock_timestamp() - interval '" DEAD_FAIL "'"
		" FROM stripe_sync.message m WHERE m.state = 'dead' AND m.settled_at"
		"  > pg_catalog.clock_timestamp() - interval '" DEAD_WARN "'"
		" ORDER BY m.settled_at DESC LIMIT 1"};
	Rows rows;

	finding_figure(finding, 0, "messages");
	finding_ok(finding, "no message was given up");
	rows_open(&rows, &select, NO_ARGS);
	if (rows_next(&rows))
	{
		int64 id = rows_int8(&rows, 0);
		char *destination = rows_text(&rows);
		char *code = rows_text(&rows);
		int64 count = rows_int8(&rows, 0);
		char *words = psprintf(
			"%s given up in a week, the last is message " INT64_FORMAT
			" for %s (%s)",
			words_count(count, "message was", "messages were"), id, destination,
			code);

		finding_figure(finding, count, "messages");
		if (rows_bool(&rows, false))
			finding_fail(finding, "%s", words);
		else
			finding_warn(finding, "%s", words);
		finding_hint(
			finding,
			"SELECT stripe_sync.retry_message(id) FROM stripe_sync.message"
			" WHERE state = 'dead' AND settled_at > now() - interval '" DEAD_WARN
			"';");
	}
	rows_close(&rows);
}

/* ---- deliveries of a day ---- */

#define LAST_DAY                                                               \
	"(SELECT * FROM (SELECT * FROM stripe_sync.delivery ORDER BY id DESC"      \
	"  LIMIT 2000) l WHERE l.started_at"                                       \
	"  > pg_catalog.clock_timestamp() - interval '1 day')"

#define IS_LIMIT                                                               \
	"(l.http_status = 429 OR l.code IN ('ratelimited', 'rate_limited'))"

typedef struct DayOfDeliveries
{
	int64 all;
	int64 failed; /* rate limits are not counted, nor lost ones */
	int64 limited;
} DayOfDeliveries;

static void
read_day(DayOfDeliveries *day)
{
	static EngineStatement select = {
		"SELECT pg_catalog.count(*), pg_catalog.count(*) FILTER"
		"  (WHERE l.verdict NOT IN ('sent', 'lost')"
		"    AND " IS_LIMIT " IS NOT TRUE),"
		" pg_catalog.count(*) FILTER (WHERE " IS_LIMIT ")"
		" FROM " LAST_DAY " l"};
	Rows rows;

	memset(day, 0, sizeof(*day));
	rows_open(&rows, &select, NO_ARGS);
	if (rows_next(&rows))
	{
		day->all = rows_int8(&rows, 0);
		day->failed = rows_int8(&rows, 0);
		day->limited = rows_int8(&rows, 0);
	}
	rows_close(&rows);
}

/* Name the destination with the most failures, and its most frequent answer. */
static void
name_worst(Finding *finding, const char *rate)
{
	static EngineStatement select = {
		"SELECT m.destination, COALESCE(l.code, l.verdict), pg_catalog.count(*)"
		" FROM " LAST_DAY " l JOIN stripe_sync.message m ON m.id = l.message_id"
		" WHERE l.verdict NOT IN ('sent', 'lost') AND " IS_LIMIT " IS NOT TRUE"
		" GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT 1"};
	Rows rows;

	rows_open(&rows, &select, NO_ARGS);
	if (rows_next(&rows))
	{
		char *destination = rows_text(&rows);
		char *code = rows_text(&rows);

		finding_warn(finding, "%s, most of them for %s (%s)", rate, destination,
					 code);
		finding_hint(finding, "CALL stripe_sync.check_destination(%s);",
					 hint_literal(destination));
	}
	else
		finding_warn(finding, "%s", rate);
	rows_close(&rows);
}

void
look_at_failure_rate(Finding *finding)
{
	DayOfDeliveries day;
	double rate;
	char *words;

	read_day(&day);
	rate = day.all == 0 ? 0 : 100.0 * day.failed / day.all;
	finding_figure(finding, rate, "%");
	words = psprintf(INT64_FORMAT " of %s in a day failed", day.failed,
					 words_count(day.all, "delivery", "deliveries"));
	if (rate < FAILED_WARN || day.failed < FAILED_LEAST)
	{
		finding_ok(finding, "%s", words);
		return;
	}
	name_worst(finding, words);
	if (rate >= FAILED_FAIL)
		finding->status = FINDING_FAIL;
}

/* The rate that is set is too high for Slack; without one there is none. */
void
look_at_rate_limits(Finding *finding)
{
	DayOfDeliveries day;

	read_day(&day);
	finding_figure(finding, day.limited, "deliveries");
	if (day.limited < LIMITS_WARN)
	{
		finding_ok(finding, "Slack has put off %s in a day",
				   words_count(day.limited, "delivery", "deliveries"));
		return;
	}
	finding_warn(finding,
				 "Slack has put off %s of " INT64_FORMAT
				 " in a day (429); they are sent later",
				 words_count(day.limited, "delivery", "deliveries"), day.all);
	finding_hint(finding,
				 "ALTER SYSTEM SET stripe_sync.slack_rate = %g; SELECT "
				 "pg_reload_conf();",
				 guc_slack_rate > 0 ? Max(guc_slack_rate / 2, 0.1) : 1.0);
}
