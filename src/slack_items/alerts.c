/*
 * alerts.c
 *		Items about alerts: too many, too few, missing.
 *
 * The last 2000 incidents are counted, as far as they are of the last day, so
 * that a look takes the same time whatever the size of the table.
 */
#include "postgres.h"

#include "alert/alert.h"
#include "base/base.h"
#include "engine/statement.h"
#include "slack_items/internal.h"

#define NOISY_WARN 50 /* incidents of an alert in a day */
#define UNUSED_FOR "90 days"

void
look_at_noisy_alerts(Finding *finding)
{
	static EngineStatement select = {
		"SELECT l.alert, pg_catalog.count(*) FROM (SELECT alert, kind, opened_at"
		"  FROM stripe_sync.incident_record ORDER BY id DESC LIMIT 2000) l"
		" WHERE l.kind = 'single'"
		"  AND l.opened_at > pg_catalog.clock_timestamp() - interval '1 day'"
		"  AND EXISTS (SELECT FROM stripe_sync.alert a WHERE a.name = l.alert)"
		" GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 1"};
	char *alert = NULL;
	int64 count = 0;
	Rows rows;

	rows_open(&rows, &select, NO_ARGS);
	if (rows_next(&rows))
	{
		alert = rows_text(&rows);
		count = rows_int8(&rows, 0);
	}
	rows_close(&rows);
	finding_figure(finding, count, "incidents");
	if (alert == NULL)
		finding_ok(finding, "no alert has fired in a day");
	else if (count < NOISY_WARN)
		finding_ok(finding, "%s has fired most often in a day, %s", alert,
				   words_count(count, "time", "times"));
	else
		finding_warn(finding,
					 "%s has opened " INT64_FORMAT
					 " incidents in a day: people stop reading",
					 alert, count);
}

/*
 * Alerts that were added long ago and have never fired.  The default ones and
 * those about the extension itself or the application are insurances, which
 * should not.
 */
void
look_at_unused_alerts(Finding *finding)
{
	static EngineStatement select = {
		"SELECT a.name FROM stripe_sync.alert a"
		" WHERE a.created_at < pg_catalog.clock_timestamp() - interval '" UNUSED_FOR
		"'  AND a.event_type NOT LIKE 'system.%'"
		"  AND a.event_type NOT LIKE 'app.%'"
		"  AND NOT EXISTS (SELECT FROM stripe_sync.incident_record i"
		"    WHERE i.alert = a.name)"
		"  AND NOT EXISTS (SELECT FROM stripe_sync.alerted d"
		"    WHERE d.alert = a.name AND NOT d.closes)"
		" ORDER BY a.created_at, a.name"};
	char *first = NULL;
	int count = 0;
	Rows rows;

	rows_open(&rows, &select, NO_ARGS);
	while (rows_next(&rows))
	{
		char *name = rows_text(&rows);

		if (default_alert_is(name))
			continue;
		if (count++ == 0)
			first = name;
	}
	rows_close(&rows);
	finding_figure(finding, count, "alerts");
	if (count == 0)
	{
		finding_ok(finding, "no alert is unused");
		return;
	}
	finding_warn(finding, "%s never fired in " UNUSED_FOR ": %s",
				 words_count(count, "alert has", "alerts have"), first);
	finding_hint(finding, "SELECT stripe_sync.drop_alert(%s);",
				 hint_literal(first));
}

/*
 * Destinations that have had max_alerts_per_hour messages: further alerts are
 * counted in a digest.
 */
void
look_at_flood(Finding *finding)
{
	static EngineStatement select = {
		"SELECT d.name, n.messages FROM stripe_sync.destination d,"
		" LATERAL (SELECT pg_catalog.count(*) AS messages FROM stripe_sync.message m"
		"  WHERE m.destination = d.name AND m.alert IS NOT NULL AND m.created_at"
		"   > pg_catalog.clock_timestamp() - interval '1 hour') n"
		" ORDER BY 2 DESC, 1 LIMIT 1"};
	char *name = NULL;
	int64 messages = 0;
	Rows rows;

	rows_open(&rows, &select, NO_ARGS);
	if (rows_next(&rows))
	{
		name = rows_text(&rows);
		messages = rows_int8(&rows, 0);
	}
	rows_close(&rows);
	finding_figure(finding, messages, "messages");
	if (messages < guc_max_alerts_per_hour)
	{
		finding_ok(finding, "at most %s of alerts to one destination in an hour",
				   words_count(messages, "message", "messages"));
		return;
	}
	finding_warn(finding,
				 "%s has had " INT64_FORMAT " messages of alerts in an hour "
				 "(stripe_sync.max_alerts_per_hour is %d): further ones are "
				 "counted in a digest",
				 name, messages, guc_max_alerts_per_hour);
	finding_hint(finding,
				 "ALTER SYSTEM SET stripe_sync.max_alerts_per_hour = %d; SELECT "
				 "pg_reload_conf();",
				 2 * guc_max_alerts_per_hour);
}

/* Is anybody told when the extension itself fails? */
void
look_at_system_alerts(Finding *finding)
{
	static const char *const events[] = {"system.destination_disabled",
										 "system.event_dead", "system.doctor"};
	static EngineStatement destination = {
		"SELECT name FROM stripe_sync.destination ORDER BY NOT enabled, name"
		" LIMIT 1"};
	const char *missing = NULL;
	char *name;
	int count = 0;

	for (int i = 0; i < lengthof(events); i++)
		if (!alert_wanted(events[i]) && count++ == 0)
			missing = events[i];
	finding_figure(finding, count, "event types");
	if (count == 0)
	{
		finding_ok(finding, "failures of the extension itself are reported");
		return;
	}
	name = statement_text(&destination, NO_ARGS);
	finding_warn(finding, "no alert for %s, such as %s: %s",
				 words_count(count, "event of the extension itself",
							 "events of the extension itself"),
				 missing,
				 name != NULL ? "nobody is told"
							  : "there is no destination to tell it");
	if (name != NULL)
		finding_hint(finding, "SELECT stripe_sync.add_default_alerts(%s);",
					 hint_literal(name));
}
