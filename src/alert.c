/*
 * alert.c
 *		Rules: which events make which message.
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

/* All rules, by name; read again when set-up changed. */
static MemoryContext alerts_memory = NULL;
static List *alerts = NIL;
static uint64 alerts_generation = 0;

/* ---- the list ---- */

static Datum
column(HeapTuple tuple, TupleDesc desc, int number, bool *isnull)
{
	return heap_getattr(tuple, number, desc, isnull);
}

static char *
column_text(HeapTuple tuple, TupleDesc desc, int number)
{
	bool isnull;
	Datum value = column(tuple, desc, number, &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}

static void *
column_varlena(HeapTuple tuple, TupleDesc desc, int number)
{
	bool isnull;
	Datum value = column(tuple, desc, number, &isnull);

	return isnull ? NULL : PG_DETOAST_DATUM_COPY(value);
}

static Alert *
read_alert(HeapTuple tuple, TupleDesc desc)
{
	Alert *alert = palloc0(sizeof(Alert));
	bool isnull;
	Interval *window = DatumGetIntervalP(column(tuple, desc, 7, &isnull));

	alert->name = column_text(tuple, desc, 1);
	alert->event_type = column_text(tuple, desc, 2);
	alert->destination = column_text(tuple, desc, 3);
	alert->template = column_text(tuple, desc, 4);
	alert->condition = column_varlena(tuple, desc, 5);
	alert->group_by = column_varlena(tuple, desc, 6);
	alert->window = endpoint_seconds(window) * USECS_PER_SEC +
					window->time % USECS_PER_SEC;
	alert->closed_by = column_text(tuple, desc, 8);
	alert->severity = column_text(tuple, desc, 9);
	alert->blocks = column_varlena(tuple, desc, 10);
	alert->is_for_customer = strcmp(alert->destination, CUSTOMER_DESTINATION) ==
							 0;
	return alert;
}

static int
compare_names(const ListCell *a, const ListCell *b)
{
	return strcmp(((Alert *) lfirst(a))->name, ((Alert *) lfirst(b))->name);
}

/* With the newest snapshot: set-up holds from the moment it is committed. */
static void
load_alerts(void)
{
	uint64 generation = engine_generation();
	Relation relation = table_open(engine_relation("alert"), AccessShareLock);
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	SysScanDesc scan = systable_beginscan(relation, InvalidOid, false, snapshot,
										  0, NULL);
	MemoryContext old;
	HeapTuple tuple;

	if (alerts_memory == NULL)
		alerts_memory = AllocSetContextCreate(
			TopMemoryContext, "stripe_sync alerts", ALLOCSET_SMALL_SIZES);
	alerts_generation = 0;
	MemoryContextReset(alerts_memory);
	alerts = NIL;
	old = MemoryContextSwitchTo(alerts_memory);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		alerts = lappend(alerts, read_alert(tuple, RelationGetDescr(relation)));
	list_sort(alerts, compare_names);
	MemoryContextSwitchTo(old);
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(relation, AccessShareLock);
	alerts_generation = generation;
}

static List *
current_alerts(void)
{
	if (alerts_generation != engine_generation())
		load_alerts();
	return alerts;
}

static bool
closes(const Alert *alert, const char *event_type)
{
	return alert->closed_by != NULL &&
		   event_type_fits(event_type, alert->closed_by);
}

/* Does any rule look at events of this type? */
bool
alert_wanted(const char *event_type)
{
	ListCell *cell;

	foreach(cell, current_alerts())
	{
		Alert *alert = lfirst(cell);

		if (event_type_fits(event_type, alert->event_type) ||
			closes(alert, event_type))
			return true;
	}
	return false;
}

/* A copy that outlives a change of the rules; NULL when there is none. */
static Alert *
copy_alert(const Alert *alert)
{
	Alert *copy = palloc(sizeof(Alert));

	*copy = *alert;
	copy->name = pstrdup(alert->name);
	copy->event_type = pstrdup(alert->event_type);
	copy->destination = pstrdup(alert->destination);
	copy->template = pstrdup(alert->template);
	copy->severity = pstrdup(alert->severity);
	if (alert->closed_by != NULL)
		copy->closed_by = pstrdup(alert->closed_by);
	if (alert->condition != NULL)
		copy->condition = (JsonPath *) PG_DETOAST_DATUM_COPY(
			PointerGetDatum(alert->condition));
	if (alert->group_by != NULL)
		copy->group_by = (JsonPath *) PG_DETOAST_DATUM_COPY(
			PointerGetDatum(alert->group_by));
	if (alert->blocks != NULL)
		copy->blocks = (Jsonb *) PG_DETOAST_DATUM_COPY(
			PointerGetDatum(alert->blocks));
	return copy;
}

/* ---- jsonpath over the event ---- */

/* The first thing that the path finds; NULL when it finds none. */
Jsonb *
alert_path_first(JsonPath *path, const Event *event)
{
	LOCAL_FCINFO(fcinfo, 4);
	Datum result;

	InitFunctionCallInfoData(*fcinfo, NULL, 4, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = JsonbPGetDatum(event->document);
	fcinfo->args[1].value = PointerGetDatum(path);
	fcinfo->args[2].value = DirectFunctionCall1(jsonb_in, CStringGetDatum("{}"));
	fcinfo->args[3].value = BoolGetDatum(true); /* silent */
	for (int i = 0; i < 4; i++)
		fcinfo->args[i].isnull = false;
	/* with time zones: those of the caller count, as in its own queries */
	result = jsonb_path_query_first_tz(fcinfo);
	return fcinfo->isnull ? NULL : DatumGetJsonbP(result);
}

static bool
scalar_of(Jsonb *json, JsonbValue *value)
{
	return json != NULL && JsonbExtractScalar(&json->root, value);
}

/* A predicate's answer, or whether a filter lets anything through. */
static bool
condition_holds(const Alert *alert, const Event *event)
{
	JsonbValue value;
	Jsonb *found;

	if (alert->condition == NULL)
		return true;
	found = alert_path_first(alert->condition, event);
	if (!scalar_of(found, &value))
		return found != NULL;
	if (value.type == jbvBool)
		return value.val.boolean;
	/* a predicate's "unknown" is null */
	return value.type != jbvNull;
}

/* ---- applying ---- */

/* Where messages of this rule go, for this event; NULL: nowhere. */
static char *
find_destination(const Alert *alert, const Event *event)
{
	static EngineStatement select = {
		"SELECT destination FROM stripe_sync.customer_route WHERE customer = $1",
		1,
		{TEXTOID}};
	MemoryContext context = CurrentMemoryContext;
	char *destination = NULL;
	char *customer = event_customer(event);
	Datum value;

	if (!alert->is_for_customer)
		return pstrdup(alert->destination);
	if (customer == NULL)
		return NULL;
	value = CStringGetTextDatum(customer);
	SPI_connect();
	engine_run(&select, &value, NULL, SPI_OK_SELECT);
	if (SPI_processed > 0)
		destination = MemoryContextStrdup(
			context,
			SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1));
	SPI_finish();
	return destination;
}

/* Copies of the rules that are for events of this type, by name. */
static List *
fitting_alerts(const Event *event)
{
	List *fitting = NIL;
	ListCell *cell;

	foreach(cell, current_alerts())
	{
		Alert *alert = lfirst(cell);

		if (event_type_fits(event->type, alert->event_type) ||
			closes(alert, event->type))
			fitting = lappend(fitting, copy_alert(alert));
	}
	return fitting;
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

	application->alert->opens = condition_holds(application->alert,
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
	return timed_guard(body, application, "its jsonpath",
					   "Write a condition or group_by that looks at less.",
					   error);
}

/*
 * What closes doesn't open.  What can't be evaluated doesn't hold; of what takes
 * too long nobody knows, so that it fails.
 */
static bool
decide(Application *application, ErrorData **error)
{
	Alert *alert = application->alert;

	alert->closes = closes(alert, application->event->type);
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
	int nest = engine_plan_for_indexes();

	if (application->alert->closes)
		incident_closing(application->alert, application->event);
	else
		incident_opening(application->alert, application->event);
	engine_plan_as_before(nest);
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
	List *fitting = fitting_alerts(event);
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
