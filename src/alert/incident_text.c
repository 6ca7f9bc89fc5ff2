/*
 * incident_text.c
 *		The text of an incident's own message.
 *
 * It is made when the message is sent, from the incident's row and the counts
 * of its events at that time (incident_message.c).
 */
#include "postgres.h"

#include "lib/stringinfo.h"

#include "base/base.h"
#include "inbox/event.h"
#include "message/message.h"
#include "outbox/outbox.h"
#include "alert/internal.h"

#define FIRST_LINE 200 /* characters */

/* The first line of an incident's text, cut to 200 characters. */
char *
incident_first_line(const Incident *incident)
{
	const char *text = incident->text;

	return mrkdwn_cut(pnstrdup(text, strcspn(text, "\n")), FIRST_LINE);
}

/* Append to the status line, with a separator; nothing for NULL or "". */
static void
append_status(StringInfo status, const char *part)
{
	if (part == NULL || part[0] == '\0')
		return;
	if (status->len > 0)
		appendStringInfoString(status, " · ");
	appendStringInfoString(status, part);
}

/* ---- how it stands ---- */

/* Closed by an event or a person, not because its window or destination ended */
bool
incident_is_resolved(const Incident *incident)
{
	return strcmp(incident->state, "closed") == 0 && incident->closed_by != NULL;
}

static bool
is_single_incident(const Incident *incident)
{
	return strcmp(incident->kind, "single") == 0;
}

/*
 * Messages of "@customer" rules have an empty footer; they don't name the rule,
 * which means nothing to a customer.
 */
static bool
is_for_customer(const Incident *incident)
{
	return incident->footer != NULL && incident->footer[0] == '\0';
}

/* "45 min", "3 h 12 min", "2 d 5 h" */
char *
incident_duration(TimestampTz from, TimestampTz to)
{
	int64 minutes = Max(to - from, 0) / USECS_PER_MINUTE;
	int64 hours = minutes / MINS_PER_HOUR;

	if (minutes == 0)
		return "less than a minute";
	if (hours == 0)
		return psprintf(INT64_FORMAT " min", minutes);
	if (hours < HOURS_PER_DAY)
		return psprintf(INT64_FORMAT " h " INT64_FORMAT " min", hours,
						minutes % MINS_PER_HOUR);
	return psprintf(INT64_FORMAT " d " INT64_FORMAT " h", hours / HOURS_PER_DAY,
					hours % HOURS_PER_DAY);
}

/* ---- who ---- */

#define PERSON "slack:" /* "slack:U1"; of another workspace "slack:T1/U1" */

/* A person, as Slack shows their name; in a post this pings them. */
char *
incident_person(const char *by)
{
	const char *slash = strrchr(by, '/');

	return psprintf("<@%s>",
					mrkdwn_escape(slash ? slash + 1 : by + strlen(PERSON)));
}

static bool
is_person(const char *by)
{
	return strncmp(by, PERSON, strlen(PERSON)) == 0;
}

/* The event's type, with a link to it if it is one of Stripe's */
static char *
event_name(Event *event)
{
	if (strncmp(event->id, "evt_", 4) != 0)
		return psprintf("`%s`", mrkdwn_escape(event->type));
	return template_render("{{event.id | link:event.type}}", event, false);
}

/*
 * What closed it: a person, or an event.  NULL for one that the inbox doesn't
 * hold, such as the extension's own.
 */
static char *
closer(const Incident *incident)
{
	Event event;

	if (is_person(incident->closed_by))
		return incident_person(incident->closed_by);
	if (!event_load(incident->closed_by, incident->account, &event))
		return NULL;
	return event_name(&event);
}

/* ---- the line below the message ---- */

static void
append_resolved(StringInfo status, const Incident *incident)
{
	char *by = is_for_customer(incident) ? NULL : closer(incident);

	append_status(
		status,
		psprintf("%s %s after %s%s%s",
				 incident->closed_badly ? "Closed" : "Resolved",
				 mrkdwn_date(incident->closed_at),
				 incident_duration(incident->opened_at, incident->closed_at),
				 by ? " by " : "", by ? by : ""));
}

/* What people have done with it */
static void
append_people(StringInfo status, const Incident *incident)
{
	if (incident->snoozed_until != 0)
		append_status(status, psprintf("Snoozed until %s by %s",
									   mrkdwn_date(incident->snoozed_until),
									   incident_person(incident->snoozed_by)));
	if (incident->acknowledged_at != 0)
		append_status(status,
					  psprintf("Acknowledged %s by %s",
							   mrkdwn_date(incident->acknowledged_at),
							   incident_person(incident->acknowledged_by)));
}

/*
 * How often, when last, who has taken it up, resolved when and by what, by which
 * rule, a link to the event, which database.  NULL if there is nothing to say.
 */
static char *
incident_status(const Incident *incident, const IncidentCounts *counts)
{
	StringInfoData status;

	initStringInfo(&status);
	if (is_single_incident(incident) && counts->opening > 1)
		append_status(&status, psprintf("%lld times, last %s",
										(long long) counts->opening,
										mrkdwn_date(counts->last_at)));
	if (incident_is_resolved(incident))
		append_resolved(&status, incident);
	else
		append_people(&status, incident);
	if (!is_single_incident(incident) && counts->closing > 0)
		append_status(&status, psprintf("%lld of them resolved since",
										(long long) counts->closing));
	if (is_for_customer(incident))
		return status.len > 0 ? status.data : NULL;
	append_status(
		&status,
		mrkdwn_escape(incident->alert[0] == '@' ? "" : incident->alert));
	append_status(&status, incident->footer);
	append_status(&status, mrkdwn_escape(guc_instance_name));
	return status.len > 0 ? status.data : NULL;
}

/* The text itself; of a roll-up or digest, what it counts. */
static char *
headline(const Incident *incident, const IncidentCounts *counts)
{
	if (!is_single_incident(incident) && is_for_customer(incident))
		return psprintf("*%lld more* since %s, for example:\n%s",
						(long long) counts->opening,
						mrkdwn_date(incident->opened_at),
						incident_first_line(incident));
	if (strcmp(incident->kind, "rollup") == 0)
		return psprintf(
			"*%lld more* of `%s` since %s, for example:\n%s",
			(long long) counts->opening, mrkdwn_escape(incident->alert),
			mrkdwn_date(incident->opened_at), incident_first_line(incident));
	if (strcmp(incident->kind, "digest") == 0)
		return psprintf("*More than %d alerts in an hour:* %lld more since %s, "
						"counted here instead of sent: %s",
						guc_max_alerts_per_hour, (long long) counts->opening,
						mrkdwn_date(incident->opened_at),
						mrkdwn_escape(alerted_count_by_rule(incident->id)));
	return incident->text;
}

/* ---- messages ---- */

/*
 * Has it buttons at this destination?  Only where an app answers them: Slack
 * shows a warning at any other.
 */
static bool
has_buttons(const Incident *incident, const char *name)
{
	Destination destination;

	return !incident_is_resolved(incident) && !is_for_customer(incident) &&
		   strcmp(incident->kind, "digest") != 0 &&
		   destination_find(name, &destination) && !destination.is_webhook &&
		   destination.app != NULL;
}

/*
 * The incident as it stands now, for a message at that destination.  "buttons"
 * must live as long as the parts.
 */
static MessageParts
incident_parts(const Incident *incident, const char *destination,
			   MessageButtons *buttons)
{
	IncidentCounts counts = alerted_count(incident->id);

	*buttons = (MessageButtons){.incident = incident->id,
								.acknowledges = incident->acknowledged_at == 0 ||
												incident->snoozed_until != 0,
								.refs = incident->refs};
	return (MessageParts){
		.text = headline(incident, &counts),
		.blocks = incident->blocks,
		.severity = incident->severity,
		.status = incident_status(incident, &counts),
		.ending = incident->closing_text,
		.resolved = incident_is_resolved(incident),
		.ended_badly = incident->closed_badly,
		.is_test = incident->is_test,
		.buttons = has_buttons(incident, destination) ? buttons : NULL};
}

/*
 * The payload of the incident's own message.  "method" is "update" for
 * chat.update, whose arguments differ and which pings nobody; a summary is
 * another post, so it doesn't repeat the mention.
 */
Jsonb *
incident_payload(const Incident *incident, const char *destination,
				 const char *method)
{
	MessageButtons buttons;
	MessageParts parts = incident_parts(incident, destination, &buttons);

	parts.is_update = strcmp(method, "update") == 0;
	if (strcmp(method, "summary") != 0)
		parts.mention = incident->mention;
	return blocks_message(&parts);
}

/* The payload of a repetition in another channel: the incident, and "text" */
Jsonb *
incident_repetition(const Incident *incident, const char *destination,
					const char *text)
{
	MessageButtons buttons;
	MessageParts parts = incident_parts(incident, destination, &buttons);

	parts.text = text;
	parts.blocks = NULL;
	return blocks_message(&parts);
}

/* The payload of an answer in the thread; at a webhook, in the channel. */
Jsonb *
incident_answer(const Incident *incident, const char *text, bool in_channel)
{
	MessageParts parts = {.text = text, .is_test = incident->is_test};

	if (in_channel && !is_for_customer(incident) && guc_instance_name[0] != '\0')
		parts.status = mrkdwn_escape(guc_instance_name);
	return blocks_message(&parts);
}

/*
 * The text that says that it is resolved, for the thread.  "event" has closed it,
 * or is NULL: a person has.
 */
char *
incident_end_text(const Incident *incident, Event *event)
{
	char *after = incident_duration(incident->opened_at, incident->closed_at);
	int64 count = alerted_count(incident->id).opening;
	char *times = count > 1 ? psprintf(", %lld times", (long long) count) : "";
	char *by = "";

	if (incident->closing_text != NULL)
		return psprintf("%s%s\n_After %s%s:_ %s",
						incident->closed_badly ? "" : ":white_check_mark: ",
						incident->closing_text, after, times,
						incident_first_line(incident));
	if (!is_for_customer(incident))
		by = psprintf(" by %s", event ? event_name(event)
									  : incident_person(incident->closed_by));
	return psprintf("%s%s after %s%s: %s",
					incident->closed_badly ? ":x: Closed"
										   : ":white_check_mark: Resolved",
					by, after, times, incident_first_line(incident));
}
