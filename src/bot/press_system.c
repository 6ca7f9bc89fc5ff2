/*
 * press_system.c
 *		The buttons of the system's own alerts: Retry event, Retry message, Switch
 *		on again, Reconcile now, Mute this finding.
 *
 * Each is what an administrator's function does, and is entered in the journal as
 * done by the person.  What takes longer than Slack waits is left to the worker.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "base/error_codes.h"
#include "base/subtransaction.h"
#include "doctor/doctor.h"
#include "message/message.h"
#include "outbox/outbox.h"
#include "receive/receive.h"
#include "server/server.h"
#include "sync/sync.h"
#include "bot/internal.h"

#define RECONCILE_SECONDS (3 * SECS_PER_DAY)

/* ---- an act ---- */

/* What a button does, and what the person is told: mrkdwn */
typedef struct Act
{
	const PressedIncident *incident;
	void (*run)(struct Act *act);
	const char *by;
	char *told;
	const char *unchanged; /* why there was nothing to do, or NULL */
} Act;

static void
run_as_person(void *arg)
{
	Act *act = arg;

	act->run(act);
}

static void
act_body(void *arg)
{
	Act *act = arg;

	journal_run_as(act->by, run_as_person, act);
}

/* Errors that say what is missing or in the way, in words for an administrator */
static bool
is_explanation(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_NO_SUCH_NAME ||
		   error->sqlerrcode == ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE ||
		   error->sqlerrcode == ERRCODE_INVALID_PARAMETER_VALUE;
}

static void
tell_explanation(BotCall *call, const ErrorData *error)
{
	call->status = "ignored";
	call->error = psprintf("%s: %s", unpack_sql_state(error->sqlerrcode),
						   error->message);
	bot_tell(call,
			 psprintf("That was not done: %s.%s%s", mrkdwn_escape(error->message),
					  error->hint != NULL ? " " : "",
					  error->hint != NULL ? mrkdwn_escape(error->hint) : ""),
			 NULL);
}

static void
do_act(BotCall *call, const PressedIncident *incident, void (*run)(Act *act))
{
	Act act = {.incident = incident, .run = run, .by = bot_person(call)};
	ErrorData *error;

	if (subtransaction_run(act_body, &act, NULL, &error))
	{
		if (act.unchanged != NULL)
			call->status = "ignored";
		call->error = act.unchanged;
		bot_tell(call, act.told, NULL);
	}
	else if (is_explanation(error))
		tell_explanation(call, error);
	else
		ReThrowError(error);
}

/* ---- what the incident names ---- */

compat_noreturn static void
raise_unnamed(const PressedIncident *incident)
{
	ereport(ERROR, (errcode(ERRCODE_NO_SUCH_NAME),
					errmsg("incident " INT64_FORMAT " is about something else",
						   incident->id)));
	pg_unreachable();
}

static char *
named_text(const PressedIncident *incident, const char *key)
{
	char *name = incident->refs != NULL ? json_get_string(incident->refs, key)
										: NULL;

	if (name == NULL)
		raise_unnamed(incident);
	return name;
}

static int64
named_number(const PressedIncident *incident, const char *key)
{
	JsonbValue value;
	int64 number;

	if (incident->refs == NULL || !json_get(incident->refs, key, &value) ||
		!json_to_int64(&value, &number))
		raise_unnamed(incident);
	return number;
}

static char *
about_incident(const PressedIncident *incident)
{
	return psprintf("incident " INT64_FORMAT, incident->id);
}

/* "told", and why nothing is sent to "slack" or requested of "stripe", if so */
static char *
with_standstill(const char *what, char *told)
{
	Standstill standstill;

	if (!standstill_find(what, &standstill))
		return told;
	return psprintf("%s But %s.%s%s", told, mrkdwn_escape(standstill.reason),
					standstill.hint != NULL ? " " : "",
					standstill.hint != NULL ? mrkdwn_escape(standstill.hint)
											: "");
}

/* ---- the buttons ---- */

/* " 23505: duplicate ...", without the context, which may hold statements */
static char *
first_line(const char *detail)
{
	if (detail == NULL)
		return pstrdup("");
	return psprintf(" %s",
					mrkdwn_escape(pnstrdup(detail, strcspn(detail, "\n"))));
}

static void
retry_event(Act *act)
{
	char *id = named_text(act->incident, "event");
	Receipt receipt;
	Retry retry = replay_failed(id, press_account(act->incident), &receipt);

	if (retry == RETRY_QUEUED)
		act->told = psprintf("What has failed of `%s` is run again now.",
							 mrkdwn_escape(id));
	else
		act->told = psprintf("`%s` is %s.%s", mrkdwn_escape(id), receipt.status,
							 first_line(receipt.detail));
	if (retry == RETRY_UNNEEDED)
		act->unchanged = psprintf("the event is %s", receipt.status);
	else
		journal_note("event.retried", id, about_incident(act->incident));
}

void
press_retry_event(BotCall *call, const PressedIncident *incident)
{
	do_act(call, incident, retry_event);
}

static void
retry_message(Act *act)
{
	int64 id = named_number(act->incident, "message");

	message_retry(id);
	journal_note("message.retried", psprintf(INT64_FORMAT, id),
				 about_incident(act->incident));
	act->told = with_standstill(
		"slack", psprintf("Message " INT64_FORMAT " is sent again now.", id));
}

void
press_retry_message(BotCall *call, const PressedIncident *incident)
{
	do_act(call, incident, retry_message);
}

static void
enable(Act *act)
{
	char *name = named_text(act->incident, "destination");

	destination_enable(cstring_to_text(name));
	act->told = with_standstill(
		"slack",
		psprintf("Destination `%s` is switched on again.", mrkdwn_escape(name)));
}

void
press_enable(BotCall *call, const PressedIncident *incident)
{
	do_act(call, incident, enable);
}

static void
reconcile(Act *act)
{
	int64 job = reconcile_start(RECONCILE_SECONDS);

	act->told = with_standstill(
		"stripe",
		psprintf("Job " INT64_FORMAT
				 " compares Stripe's events of the last 3 days with the inbox.",
				 job));
}

void
press_reconcile(BotCall *call, const PressedIncident *incident)
{
	do_act(call, incident, reconcile);
}

static void
mute_finding(Act *act)
{
	char *key = named_text(act->incident, "finding");
	TimestampTz until = GetCurrentTimestamp() + USECS_PER_DAY;

	finding_mute(key, until);
	act->told = psprintf("`%s` is not reported until %s.", mrkdwn_escape(key),
						 mrkdwn_date(until));
}

void
press_mute_finding(BotCall *call, const PressedIncident *incident)
{
	do_act(call, incident, mute_finding);
}
