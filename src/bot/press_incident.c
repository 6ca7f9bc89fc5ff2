/*
 * press_incident.c
 *		The buttons of every incident: Acknowledge, Snooze, Resolve, Show trace.
 *
 * Of two people who press at once, one waits for the other's transaction and is
 * then told who did it.
 */
#include "postgres.h"

#include "utils/guc.h"

#include "alert/incident.h"
#include "engine/statement.h"
#include "message/message.h"
#include "quiet/quiet.h"
#include "bot/internal.h"

/* ---- what people are told ---- */

void
press_tell_missing(BotCall *call)
{
	call->status = "ignored";
	call->error = "there is no such incident";
	bot_tell(call, "This incident is not stored any more.", NULL);
}

void
press_tell_closed(BotCall *call, const char *by, TimestampTz at)
{
	char *who = bot_who(by);

	call->status = "ignored";
	call->error = "the incident is closed";
	bot_tell(call,
			 who != NULL ? psprintf("This incident is closed: by %s, %s.", who,
									mrkdwn_date(at))
						 : psprintf("This incident is closed, since %s.",
									mrkdwn_date(at)),
			 NULL);
}

/*
 * A step that was done shows in the message itself.  "participle" tells what
 * somebody else did before.
 */
static void
tell_step(BotCall *call, const IncidentStep *step, const char *participle)
{
	switch (step->result)
	{
		case STEP_DONE:
			break;
		case STEP_DONE_BEFORE:
			call->status = "ignored";
			call->error = psprintf("%s already", participle);
			bot_tell(call,
					 psprintf("Already %s by %s, %s.", participle,
							  bot_who(step->by), mrkdwn_date(step->at)),
					 NULL);
			break;
		case STEP_CLOSED:
			press_tell_closed(call, step->by, step->at);
			break;
		case STEP_MISSING:
			press_tell_missing(call);
			break;
	}
}

/* ---- acknowledge, resolve ---- */

void
press_acknowledge(BotCall *call, const PressedIncident *incident)
{
	IncidentStep step = incident_acknowledge(incident->id, bot_person(call),
											 call->interaction);

	tell_step(call, &step, "acknowledged");
}

void
press_resolve(BotCall *call, const PressedIncident *incident)
{
	IncidentStep step = incident_resolve(incident->id, bot_person(call),
										 call->interaction);

	tell_step(call, &step, "resolved");
}

/* ---- snooze ---- */

/*
 * Tomorrow at 9:00 in the time zone of the destination's quiet hours, else in the
 * server's: the setting TimeZone without what this session has SET.
 */
static TimestampTz
tomorrow_morning(const char *destination)
{
	static EngineStatement select = {
		"SELECT (pg_catalog.date_trunc('day', pg_catalog.clock_timestamp() AT TIME ZONE $1)"
		" + interval '1 day 9 hours') AT TIME ZONE $1"};
	const char *zone = quiet_zone(destination);

	if (zone == NULL)
		zone = GetConfigOptionResetString("timezone");
	return statement_time(0, &select, ARGS(arg_text(zone)));
}

/* Until when; 0 if the option is none of the menu's */
static TimestampTz
snooze_until(const PressedIncident *incident)
{
	const char *option = incident->option != NULL ? incident->option : "";

	if (strcmp(option, "1h") == 0)
		return GetCurrentTimestamp() + USECS_PER_HOUR;
	if (strcmp(option, "1d") == 0)
		return GetCurrentTimestamp() + USECS_PER_DAY;
	if (strcmp(option, "morning") == 0)
		return tomorrow_morning(incident->destination);
	return 0;
}

void
press_snooze(BotCall *call, const PressedIncident *incident)
{
	TimestampTz until = snooze_until(incident);
	IncidentStep step;

	if (until == 0)
	{
		call->status = "ignored";
		call->error = "no such time of the menu";
		bot_tell(
			call,
			"An incident is snoozed for 1 hour, until tomorrow 9:00, or for 1 day.",
			NULL);
		return;
	}
	step = incident_snooze(incident->id, until, bot_person(call),
						   call->interaction);
	tell_step(call, &step, "snoozed");
	if (step.replaced_by != NULL &&
		strcmp(step.replaced_by, bot_person(call)) != 0)
		bot_tell(call,
				 psprintf("This replaces the snooze by %s, until %s.",
						  bot_who(step.replaced_by),
						  mrkdwn_date(step.replaced_until)),
				 NULL);
}

/* ---- show trace ---- */

/* The link of "Open in Stripe", or NULL */
static char *
stripe_link(const PressedIncident *incident)
{
	char *url = json_get_string(incident->refs, "url");

	if (url == NULL || strpbrk(url, "|<> ") != NULL)
		return NULL;
	return psprintf("<%s|Open in Stripe>", mrkdwn_escape(url));
}

/*
 * The incident's own story is told if it names no object.  Only its account is
 * looked at: another one may have an object of the same id.
 */
void
press_trace(BotCall *call, const PressedIncident *incident)
{
	char *ref = incident->refs != NULL ? json_get_string(incident->refs, "trace")
									   : NULL;

	if (ref == NULL)
		bot_tell_trace(call, psprintf("incident " INT64_FORMAT, incident->id),
					   NULL, NULL);
	else
		bot_tell_trace(call, ref, press_account(incident),
					   stripe_link(incident));
}
