/*
 * alert.c
 *		Applies the rules of alerts to an event.
 *
 * It runs in the event's transaction, as the step "alerts" (steps.c), and for
 * events of the extension itself (own_event.c).  Each rule is applied in a
 * subtransaction of its own, so that an error in one rule doesn't affect the
 * others.  If one fails the step fails and is run again; the rules that
 * succeeded count the event once (alerted.c).
 *
 * The jsonpaths of a rule are evaluated under a time limit (timed.c) and run no
 * SQL; all else runs in the engine's scope.
 */
#include "postgres.h"

#include "access/xact.h"

#include "alert/alert.h"
#include "base/base.h"
#include "base/subtransaction.h"
#include "engine/engine.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "inbox/event.h"
#include "alert/internal.h"

/*
 * The destination of the rule's messages for this event; NULL if it is
 * "@customer" and the event has no customer or the customer no route.
 */
static char *
find_destination(const Alert *alert, const Event *event)
{
	static EngineStatement select = {
		"SELECT destination FROM stripe_sync.customer_route WHERE customer = $1"};
	char *customer = event_customer(event);

	if (!alert->is_for_customer)
		return pstrdup(alert->destination);
	if (customer == NULL)
		return NULL;
	return statement_text(&select, ARGS(arg_text(customer)));
}

/* A rule on its way through alert_attempt() */
typedef struct Application
{
	Alert *alert;
	Event *event;
	bool wait;
	bool locked; /* its group; false if that was not waited for */
} Application;

/* A destination that is disabled can't post that it is. */
static bool
is_about_its_destination(const Alert *alert, const Event *event)
{
	char *destination;

	if (strcmp(event->type, "system.destination_disabled") != 0 ||
		alert->destination == NULL)
		return false;
	destination = json_get_string(event->object, "destination");
	return destination != NULL && strcmp(destination, alert->destination) == 0;
}

static void
opens_body(void *arg)
{
	Application *application = arg;

	application->alert->opens = alert_path_holds(application->alert->condition,
												 application->event);
}

static void
closes_body(void *arg)
{
	Application *application = arg;
	Alert *alert = application->alert;

	alert->closes = alert_path_holds(alert->closing_condition,
									 application->event);
}

static void
group_body(void *arg)
{
	Application *application = arg;

	application->alert->group = alert_group(application->alert,
											application->event);
}

static bool
evaluate_path(void (*body)(void *), Application *application, ErrorData **error)
{
	return timed_run(body, application, "its jsonpath",
					 "Use a simpler condition, closing_condition or group_by.",
					 error);
}

/*
 * Evaluate a condition that sets *holds.  One that raises an error isn't met;
 * one that exceeds the time limit may or may not be: returns false, with the
 * error.
 */
static bool
evaluate_condition(void (*body)(void *), Application *application, bool *holds,
				   ErrorData **error)
{
	if (evaluate_path(body, application, error))
		return true;
	*holds = false;
	return (*error)->sqlerrcode != ERRCODE_QUERY_CANCELED;
}

/*
 * Decide whether the event opens or closes for this rule, and evaluate its
 * group_by.  An event that closes doesn't open; one that fits closed_by and does
 * not meet closing_condition may open.  Returns false, with the error, if the
 * rule fails.
 */
static bool
evaluate_rule(Application *application, ErrorData **error)
{
	Alert *alert = application->alert;

	alert->closes = alert_closes(alert, application->event->type);
	if (alert->closes && alert->closing_condition != NULL &&
		!evaluate_condition(closes_body, application, &alert->closes, error))
		return false;
	alert->opens = !alert->closes &&
				   alert_opens(alert, application->event->type);
	if (alert->opens && alert->condition != NULL &&
		!evaluate_condition(opens_body, application, &alert->opens, error))
		return false;
	if (!(alert->opens || alert->closes) || alert->group_by == NULL)
		return true;
	return evaluate_path(group_body, application, error);
}

/* Resolve the destination and lock the group of a rule that opens or closes. */
static void
lock_body(void *arg)
{
	Application *application = arg;
	Alert *alert = application->alert;
	Event *event = application->event;
	RoleScope scope = role_enter_engine();

	alert->destination = find_destination(alert, event);
	if (!alert->closes &&
		(alert->destination == NULL || is_about_its_destination(alert, event)))
		alert->opens = false;
	if (alert->group == NULL)
		alert->group = alert_group(alert, event);
	application->locked = (alert->opens || alert->closes) &&
						  alert_group_lock(alert, alert->group, event->account,
										   application->wait);
	role_leave(&scope);
}

/* The event as the rule sees it.  One without "created" happens now. */
static Occurrence
occurrence_of(const Alert *alert, Event *event)
{
	return (Occurrence){.alert = alert,
						.event = event,
						.group = alert->group,
						.destination = alert->destination,
						.class = burst_class(alert, event),
						.created = event->has_created ? event->created
													  : GetCurrentTimestamp()};
}

/*
 * Open, count or close.  The statements are planned for indexes, because their
 * plans are kept and may be made while the tables are empty.
 */
static void
apply_body(void *arg)
{
	Application *application = arg;
	RoleScope scope = role_enter_engine();
	int nest = plan_for_indexes();
	Occurrence occurrence = occurrence_of(application->alert,
										  application->event);

	if (occurrence.alert->closes)
		incident_closing(&occurrence);
	else
		incident_opening(&occurrence);
	plan_settings_restore(nest);
	role_leave(&scope);
}

/* Prefix the error with the rule's name; the first error is kept. */
static void
note_error(const Alert *alert, ErrorData *one, ErrorData **error)
{
	one->message = psprintf("alert \"%s\": %s", alert->name, one->message);
	if (*error == NULL)
		*error = one;
}

/*
 * Apply all rules that match the event.  Returns false, with the first error,
 * if a rule has failed; the others have been applied.
 *
 * Lock order: the groups of all rules, in the order of the rules' names, before
 * anything is written.  Otherwise two events that match several rules could
 * deadlock.  A caller that holds locks of groups already passes "wait" false;
 * rules whose group another session has locked are then left out.
 */
bool
alert_attempt(Event *event, bool wait, ErrorData **error)
{
	List *locked = NIL;
	List *fitting = alert_rules_for(event);
	ErrorData *one;
	ListCell *cell;

	*error = NULL;
	foreach(cell, fitting)
	{
		Application *application = palloc0(sizeof(Application));

		*application = (Application){lfirst(cell), event, wait, false};
		if (!evaluate_rule(application, &one))
		{
			note_error(application->alert, one, error);
			continue;
		}
		if (!application->alert->opens && !application->alert->closes)
			continue;
		if (!subtransaction_run(lock_body, application, NULL, &one))
			note_error(application->alert, one, error);
		else if (application->locked)
			locked = lappend(locked, application);
	}
	foreach(cell, locked)
	{
		CommandCounterIncrement(); /* it sees what the rule before wrote */
		if (!subtransaction_run(apply_body, lfirst(cell), NULL, &one))
			note_error(((Application *) lfirst(cell))->alert, one, error);
	}
	return *error == NULL;
}
