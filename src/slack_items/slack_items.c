/*
 * slack_items.c
 *		The items of the area "slack".
 */
#include "postgres.h"

#include "slack_items/internal.h"

#define DISABLED "system.destination_disabled"

static const DoctorItem items[] = {
	{.key = "slack.destinations",
	 .item = "destinations switched off",
	 .look = look_at_destinations,
	 .own_event = DISABLED},
	{.key = "slack.tokens",
	 .item = "tokens and webhook URLs that Slack rejects",
	 .flags = DOCTOR_CRITICAL, /* without a fallback */
	 .look = look_at_tokens,
	 .own_event = DISABLED},
	{.key = "slack.fallback",
	 .item = "destinations without a fallback",
	 .look = look_at_fallback},
	{.key = "slack.backlog",
	 .item = "messages that wait",
	 .look = look_at_backlog},
	{.key = "slack.dead_messages",
	 .item = "messages that were given up",
	 .look = look_at_dead_messages},
	{.key = "slack.failure_rate",
	 .item = "deliveries that fail",
	 .look = look_at_failure_rate},
	{.key = "slack.rate_limits",
	 .item = "rate limits of Slack",
	 .look = look_at_rate_limits},
	{.key = "slack.flood",
	 .item = "alerts collected in digests",
	 .look = look_at_flood},
	{.key = "slack.system_alerts",
	 .item = "alerts about the extension itself",
	 .look = look_at_system_alerts},
	{.key = "slack.noisy_alerts",
	 .item = "alerts that fire too often",
	 .look = look_at_noisy_alerts},
	{.key = "slack.unused_alerts",
	 .item = "alerts that never fire",
	 .look = look_at_unused_alerts},
	{.key = "slack.unacknowledged_alerts",
	 .item = "critical incidents that nobody takes up",
	 .look = look_at_unacknowledged},
	{.key = "slack.open_incidents",
	 .item = "incidents open too long",
	 .look = look_at_open_incidents},
};

const DoctorArea doctor_slack = {"slack", items, lengthof(items)};
