/*
 * slack_items.c
 *		The items of the area "slack".
 */
#include "postgres.h"

#include "engine/statement.h"
#include "slack_items/slack_items.h"

/* Destinations that are switched off; the one with the most messages is named */
static void
look_at_destinations(Finding *finding)
{
	static EngineStatement select = {
		"SELECT d.name, d.disabled_reason, pg_catalog.count(*) OVER (),"
		" (SELECT pg_catalog.count(*) FROM stripe_sync.message m"
		"   WHERE m.destination = d.name AND m.state = 'waiting') AS waiting"
		" FROM stripe_sync.destination d WHERE NOT d.enabled"
		" ORDER BY waiting DESC, d.name LIMIT 1"};
	Rows rows;

	finding_ok(finding, "all destinations are enabled");
	finding_figure(finding, 0, "destinations");
	rows_open(&rows, &select, NO_ARGS);
	if (rows_next(&rows))
	{
		char *name = rows_text(&rows);
		char *reason = rows_text(&rows);
		int64 count = rows_int8(&rows, 0);
		int64 waiting = rows_int8(&rows, 0);

		finding_figure(finding, count, "destinations");
		finding_fail(finding, "%s disabled, the worst is %s (%s), %s",
					 words_count(count, "destination is", "destinations are"),
					 name, reason != NULL ? reason : "no reason given",
					 words_count(waiting, "message waits", "messages wait"));
		finding_hint(finding, "SELECT stripe_sync.enable_destination(%s)",
					 hint_literal(name));
	}
	rows_close(&rows);
}

static const DoctorItem items[] = {
	{.key = "slack.destinations",
	 .item = "destinations switched off",
	 .look = look_at_destinations,
	 .own_event = "system.destination_disabled"},
};

const DoctorArea doctor_slack = {"slack", items, lengthof(items)};
