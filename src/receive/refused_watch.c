/*
 * refused_watch.c
 *		The system events about refused deliveries.
 *
 * system.deliveries_refused is raised, at most once a day for an endpoint, if
 * within an hour three or more deliveries that probably came from Stripe were
 * refused and none was accepted; if a live event was refused because of its
 * mode; or if an endpoint has no secret that can be used.  Requests of scanners,
 * and test events at a live endpoint, are not reported.
 *
 * system.deliveries_accepted ends it, when the endpoint accepts events again.
 * After a refused live event, an accepted test event does not count: while the
 * endpoint takes test events only, it ends when no live event has been refused
 * for a day.  Names that no endpoint has accept nothing; for them it ends when
 * no delivery has come for an hour and another endpoint accepts events.
 *
 * stripe_sync.refusal_watch has a row for each endpoint, and one of name '' for
 * all names that no endpoint has.  Its accepted_at comes from shared memory
 * (refused_count.c); without it, the inbox is searched.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "alert/alert.h"
#include "engine/engine.h"
#include "engine/statement.h"
#include "receive/receive.h"
#include "server/server.h"

#define REFUSED	 "system.deliveries_refused"
#define ACCEPTED "system.deliveries_accepted"

/* Refused deliveries of an endpoint that are to be reported, or were */
typedef struct RefusedReport
{
	char *endpoint;
	char *what; /* mode, secret, refused */
	TimestampTz since;
	bool accepted; /* by refusal_watch, since then */
} RefusedReport;

/* ---- rows ---- */

/* The statement selects (endpoint, what, since, accepted). */
static List *
read_reports(EngineStatement *select, const StatementArg *args, int nargs)
{
	List *reports = NIL;
	Rows rows;

	rows_open(&rows, select, args, nargs);
	while (rows_next(&rows))
	{
		RefusedReport *report = palloc(sizeof(RefusedReport));

		report->endpoint = rows_text(&rows);
		report->what = rows_text(&rows);
		report->since = rows_time(&rows, DT_NOEND);
		report->accepted = rows_bool(&rows, false);
		reports = lappend(reports, report);
	}
	rows_close(&rows);
	return reports;
}

/* Has the endpoint ("": any) stored an event since then? */
static bool
inbox_has(const char *endpoint, TimestampTz since)
{
	static EngineStatement of_one = {
		"SELECT true FROM stripe_sync.event WHERE received_at > $2"
		" AND endpoint = $1 AND source = 'webhook' LIMIT 1"};
	static EngineStatement of_any = {
		"SELECT true FROM stripe_sync.event WHERE received_at > $1"
		" AND source = 'webhook' LIMIT 1"};

	if (endpoint[0] == '\0')
		return statement_bool(false, &of_any, ARGS(arg_time(since)));
	return statement_bool(false, &of_one,
						  ARGS(arg_text(endpoint), arg_time(since)));
}

/* ---- system events ---- */

/* The object of the system event; NULL if the count is gone. */
static Jsonb *
report_object(const RefusedReport *report)
{
	static EngineStatement build = {
		"SELECT pg_catalog.jsonb_build_object("
		" 'id', COALESCE(nullif($1, ''), '(unknown)'),"
		" 'endpoint', COALESCE(nullif($1, ''), '(unknown)'), 'trouble', $2,"
		" 'code', r.code, 'refused', r.events, 'detail', pg_catalog.rtrim(r.last_detail, '.'),"
		" 'first_at', EXTRACT(epoch FROM r.first_at)::bigint,"
		" 'last_at', EXTRACT(epoch FROM r.last_at)::bigint,"
		" 'reason', CASE $2"
		"  WHEN 'mode' THEN 'a live event was received, and the endpoint takes test events'"
		"  WHEN 'secret' THEN 'there is no signing secret that can be used'"
		"  ELSE 'three or more within an hour, and none was accepted' END,"
		" 'remedy', CASE WHEN $2 = 'mode' THEN 'Set the endpoint''s mode, or add one"
		" for live events, with `stripe_sync.add_endpoint()`. Then `SELECT"
		" stripe_sync.reconcile(''30 days'')` fetches the refused events.'"
		"  ELSE 'Fix the cause: see `SELECT * FROM stripe_sync.refusal`. Then `SELECT"
		" stripe_sync.reconcile(''30 days'')` fetches the refused events.' END)"
		" FROM stripe_sync.refusal_watch w"
		" JOIN stripe_sync.refusal_record r ON r.endpoint = w.endpoint AND r.code ="
		"  CASE $2 WHEN 'mode' THEN 'SY006' WHEN 'secret' THEN 'SY007'"
		"   ELSE w.likely_code END"
		" WHERE w.endpoint = $1"};

	return statement_jsonb(
		&build, ARGS(arg_text(report->endpoint), arg_text(report->what)));
}

static void
raise_report(const char *type, const RefusedReport *report)
{
	Jsonb *object = report_object(report);

	if (object != NULL)
		alert_system(type, object);
}

/* Store what was reported now; NULL ends it. */
static void
store_reported(const char *endpoint, const char *what)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.refusal_watch SET told = $2, told_at = CASE WHEN $2"
		" IS NULL THEN told_at ELSE pg_catalog.clock_timestamp() END"
		" WHERE endpoint = $1"};

	statement_exec(&update, ARGS(arg_text(endpoint), arg_text(what)));
}

/* ---- system.deliveries_accepted ---- */

static void
end_reports(void)
{
	static EngineStatement select = {
		"SELECT w.endpoint, w.told, w.told_at,"
		" COALESCE(w.accepted_at > w.told_at, false)"
		"  OR w.endpoint <> '' AND e.name IS NULL"
		" FROM stripe_sync.refusal_watch w"
		" LEFT JOIN stripe_sync.endpoint e ON e.name = w.endpoint"
		" WHERE w.told IS NOT NULL"
		"  AND NOT (w.told = 'mode' AND COALESCE(NOT e.livemode, false)"
		"   AND w.live_at > pg_catalog.clock_timestamp() - interval '1 day')"
		"  AND NOT (w.endpoint = '' AND w.likely[1] >"
		"   pg_catalog.clock_timestamp() - interval '1 hour')"
		" ORDER BY w.endpoint"};
	ListCell *cell;

	foreach(cell, read_reports(&select, NO_ARGS))
	{
		RefusedReport *report = lfirst(cell);

		if (!report->accepted && !inbox_has(report->endpoint, report->since))
			continue;
		store_reported(report->endpoint, NULL);
		raise_report(ACCEPTED, report);
	}
}

/* ---- system.deliveries_refused ---- */

/*
 * Endpoints that refuse what should be accepted, of RefusedReport.  For alerts,
 * those that haven't been reported for a day.  For others, without what has
 * been put right: a missing secret, of which nothing needs to have come since,
 * and a mode for which an endpoint was added later, or none is.
 */
static List *
find_reports(bool for_alerts)
{
	static EngineStatement select = {
		"SELECT w.endpoint, CASE"
		"  WHEN w.live_at > n.at - interval '1 day' AND ($1 OR w.live_at > n.live) THEN 'mode'"
		"  WHEN $1 AND w.no_secret_at > n.at - interval '1 day' THEN 'secret'"
		"  ELSE 'refused' END,"
		" LEAST(w.likely[3], n.at - interval '1 hour'),"
		" COALESCE(w.accepted_at > LEAST(w.likely[3], n.at - interval '1 hour'), false)"
		" FROM stripe_sync.refusal_watch w, (SELECT pg_catalog.clock_timestamp(),"
		"  (SELECT pg_catalog.max(e.created_at) FROM stripe_sync.endpoint e"
		"    WHERE e.livemode)) AS n (at, live)"
		" WHERE (NOT $1 OR COALESCE(w.told_at <= n.at - interval '1 day', true))"
		"  AND (w.endpoint = '' OR EXISTS (SELECT FROM stripe_sync.endpoint e"
		"    WHERE e.name = w.endpoint))"
		"  AND (w.live_at > n.at - interval '1 day' AND ($1 OR w.live_at > n.live)"
		"   OR $1 AND w.no_secret_at > n.at - interval '1 day'"
		"   OR w.likely[1] > n.at - interval '1 day'"
		"    AND w.likely[1] - w.likely[3] <= interval '1 hour')"
		" ORDER BY w.endpoint"};
	List *reports = NIL;
	ListCell *cell;

	foreach(cell, read_reports(&select, ARGS(arg_bool(for_alerts))))
	{
		RefusedReport *report = lfirst(cell);

		if (strcmp(report->what, "refused") == 0 &&
			(report->accepted || (report->endpoint[0] != '\0' &&
								  inbox_has(report->endpoint, report->since))))
			continue;
		reports = lappend(reports, report);
	}
	return reports;
}

/*
 * Only called if an alert uses it.  What was refused in the last day is reported
 * to an alert that is added later.
 */
static void
begin_reports(void)
{
	ListCell *cell;

	foreach(cell, find_reports(true))
	{
		RefusedReport *report = lfirst(cell);

		store_reported(report->endpoint, report->what);
		raise_report(REFUSED, report);
	}
}

/* ---- for the doctor ---- */

/* The count of what was reported; NULL if it is gone. */
static RefusedDeliveries *
read_deliveries(const RefusedReport *report)
{
	static EngineStatement select = {
		"SELECT r.code, r.last_at, r.last_detail FROM stripe_sync.refusal_record r"
		" JOIN stripe_sync.refusal_watch w ON w.endpoint = r.endpoint"
		" WHERE r.endpoint = $1"
		"  AND r.code = CASE $2 WHEN 'mode' THEN 'SY006' ELSE w.likely_code END"};
	RefusedDeliveries *deliveries = NULL;
	Rows rows;

	rows_open(&rows, &select,
			  ARGS(arg_text(report->endpoint), arg_text(report->what)));
	if (rows_next(&rows))
	{
		deliveries = palloc(sizeof(RefusedDeliveries));
		deliveries->endpoint = report->endpoint;
		deliveries->code = rows_text(&rows);
		deliveries->last_at = rows_time(&rows, 0);
		deliveries->detail = rows_text(&rows);
	}
	rows_close(&rows);
	return deliveries;
}

/* Endpoints that refuse Stripe's deliveries at present, of RefusedDeliveries */
List *
refusals_present(void)
{
	List *present = NIL;
	ListCell *cell;

	foreach(cell, find_reports(false))
	{
		RefusedDeliveries *deliveries = read_deliveries(lfirst(cell));

		if (deliveries != NULL)
			present = lappend(present, deliveries);
	}
	return present;
}

/* Delete the rows of dropped endpoints for which no report is open. */
static void
delete_stale_rows(void)
{
	static EngineStatement drop = {
		"DELETE FROM stripe_sync.refusal_watch w WHERE w.told IS NULL AND w.endpoint <> ''"
		" AND NOT EXISTS (SELECT FROM stripe_sync.endpoint e WHERE e.name = w.endpoint)"};

	statement_exec(&drop, NO_ARGS);
}

/*
 * The worker calls it once a minute, after refusals_write() and in a transaction
 * of its own.  Does nothing while another session holds ADVISORY_REFUSALS.
 */
void
refusals_judge(void)
{
	if (!outbound_is_original() || !advisory_try_lock(ADVISORY_REFUSALS, 0))
		return;
	end_reports();
	if (alert_wanted(REFUSED))
		begin_reports();
	delete_stale_rows();
}
