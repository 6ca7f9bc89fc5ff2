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
#include "message/message.h"
#include "alert/internal.h"

#define FIRST_LINE 200 /* characters */

/*
 * Slack shows the time in the reader's time zone; a client that can't shows the
 * text in UTC.
 */
static char *
slack_date(TimestampTz at)
{
	pg_time_t seconds = timestamptz_to_time_t(at);
	char text[64];

	pg_strftime(text, sizeof(text), "%Y-%m-%d %H:%M UTC", pg_gmtime(&seconds));
	return psprintf("<!date^%lld^{date_short_pretty} {time}|%s>",
					(long long) seconds, text);
}

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

/* Closed by an event, not because its window or its destination ended. */
static bool
is_resolved(const Incident *incident)
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

/*
 * The line below the message: how often, when last, resolved when, by which
 * rule, and a link to the event.  NULL if there is nothing to say.
 */
static char *
incident_status(const Incident *incident, const IncidentCounts *counts)
{
	StringInfoData status;

	initStringInfo(&status);
	if (is_single_incident(incident) && counts->opening > 1)
		append_status(&status, psprintf("%lld times, last %s",
										(long long) counts->opening,
										slack_date(counts->last_at)));
	if (is_resolved(incident))
		append_status(&status,
					  psprintf("Resolved %s", slack_date(incident->closed_at)));
	if (!is_single_incident(incident) && counts->closing > 0)
		append_status(&status, psprintf("%lld of them resolved since",
										(long long) counts->closing));
	if (!is_for_customer(incident))
		append_status(
			&status,
			mrkdwn_escape(incident->alert[0] == '@' ? "" : incident->alert));
	append_status(&status, incident->footer);
	return status.len > 0 ? status.data : NULL;
}

/* The text itself; of a roll-up or digest, what it counts. */
static char *
headline(const Incident *incident, const IncidentCounts *counts)
{
	if (!is_single_incident(incident) && is_for_customer(incident))
		return psprintf("*%lld more* since %s, for example:\n%s",
						(long long) counts->opening,
						slack_date(incident->opened_at),
						incident_first_line(incident));
	if (strcmp(incident->kind, "rollup") == 0)
		return psprintf(
			"*%lld more* of `%s` since %s, for example:\n%s",
			(long long) counts->opening, mrkdwn_escape(incident->alert),
			slack_date(incident->opened_at), incident_first_line(incident));
	if (strcmp(incident->kind, "digest") == 0)
		return psprintf("*More than %d alerts in an hour:* %lld more since %s, "
						"counted here instead of sent: %s",
						guc_max_alerts_per_hour, (long long) counts->opening,
						slack_date(incident->opened_at),
						mrkdwn_escape(alerted_count_by_rule(incident->id)));
	return incident->text;
}

/*
 * The payload of the incident's own message, as it stands now.  "method" is
 * "update" for chat.update, whose arguments differ.
 */
Jsonb *
incident_payload(const Incident *incident, const char *method)
{
	IncidentCounts counts = alerted_count(incident->id);
	MessageParts parts = {.text = headline(incident, &counts),
						  .blocks = incident->blocks,
						  .severity = incident->severity,
						  .status = incident_status(incident, &counts),
						  .resolved = is_resolved(incident),
						  .is_update = strcmp(method, "update") == 0};

	return blocks_message(&parts);
}
