/*
 * alert.c
 *		Applies the rules of alerts to an event.
 *
 * Each rule that fits an event is applied in a subtransaction of its own, so
 * that a broken one silences no other.  An event counts once for each rule
 * (stripe_sync.alerted), however often the step is run.
 */
#include "stripe_sync.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "alert.h"

/* ---- applying ---- */

/* Where messages of this rule go, for this event; NULL: nowhere. */
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

typedef struct Application
{
	Alert *alert;
	Event *event;
	bool wait;
	bool locked;
} Application;

/* A destination that is off can't be told so. */
static bool
is_about_itself(const Alert *alert, const Event *event)
{
	char *destination;

	if (strcmp(event->type, "system.destination_disabled") != 0 ||
		alert->destination == NULL)
		return false;
	destination = json_get_string(event->object, "destination");
	return destination != NULL && strcmp(destination, alert->destination) == 0;
}

static void
condition_body(void *arg)
{
	Application *application = arg;

	application->alert->opens = alert_condition_holds(application->alert,
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
look_by_path(void (*body)(void *), Application *application, ErrorData **error)
{
	return timed_run(body, application, "its jsonpath",
					 "Write a condition or group_by that looks at less.", error);
}

/*
 * What closes doesn't open.  What can't be evaluated doesn't hold; of what takes
 * too long nobody knows, so that it fails.
 */
static bool
decide(Application *application, ErrorData **error)
{
	Alert *alert = application->alert;

	alert->closes = alert_closes(alert, application->event->type);
	alert->opens = !alert->closes;
	if (alert->opens && alert->condition != NULL &&
		!look_by_path(condition_body, application, error))
	{
		alert->opens = false;
		return (*error)->sqlerrcode != ERRCODE_QUERY_CANCELED;
	}
	if (!(alert->opens || alert->closes) || alert->group_by == NULL)
		return true;
	return look_by_path(group_body, application, error);
}

static void
lock_body(void *arg)
{
	Application *application = arg;
	Alert *alert = application->alert;
	Event *event = application->event;
	RoleScope scope = role_enter_engine();

	alert->destination = find_destination(alert, event);
	if (!alert->closes &&
		(alert->destination == NULL || is_about_itself(alert, event)))
		alert->opens = false;
	if (alert->group == NULL)
		alert->group = alert_group(alert, event);
	application->locked = (alert->opens || alert->closes) &&
						  group_lock(alert, alert->group, event->account,
									 application->wait);
	role_leave(&scope);
}

static void
apply_body(void *arg)
{
	Application *application = arg;
	RoleScope scope = role_enter_engine();
	int nest = plan_for_indexes();

	if (application->alert->closes)
		incident_closing(application->alert, application->event);
	else
		incident_opening(application->alert, application->event);
	plan_settings_restore(nest);
	role_leave(&scope);
}

/* The first error is the one that is told. */
static void
note_error(const Alert *alert, ErrorData *one, ErrorData **error)
{
	one->message = psprintf("alert \"%s\": %s", alert->name, one->message);
	if (*error == NULL)
		*error = one;
}

/*
 * Apply all rules that look at the event.  False, with the first error, when
 * one has failed; the others have been applied all the same.
 *
 * All groups are locked before anything is written, in the order of the rules'
 * names: two events that fit several rules would else wait for each other.  Who
 * comes with locks of that kind already must not wait: what is somebody else's
 * at the moment is then left out.
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
		if (!decide(application, &one))
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
		CommandCounterIncrement(); /* it sees what was done before it */
		if (!subtransaction_run(apply_body, lfirst(cell), NULL, &one))
			note_error(((Application *) lfirst(cell))->alert, one, error);
	}
	return *error == NULL;
}
