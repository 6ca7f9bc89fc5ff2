/*
 * alert_rule.c
 *		Rules of alerts, cached from stripe_sync.alert, and whether an event
 *		matches them.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "alert/alert.h"
#include "engine/setup_cache.h"
#include "engine/statement.h"
#include "inbox/event.h"
#include "inbox/inbox.h"
#include "types/object.h"
#include "alert/internal.h"

/* Columns in the order of the table (alert/alert.sql) */
static void *
read_rule(Rows *row)
{
	Alert *alert = palloc0(sizeof(Alert));
	Interval *window;

	alert->name = rows_text(row);
	alert->event_type = rows_text(row);
	alert->destination = rows_text(row);
	alert->template = rows_text(row);
	alert->condition = rows_varlena(row, JSONPATHOID);
	alert->group_by = rows_varlena(row, JSONPATHOID);
	window = rows_interval(row);
	alert->window = endpoint_seconds(window) * USECS_PER_SEC +
					window->time % USECS_PER_SEC;
	alert->closed_by = rows_text(row);
	alert->severity = rows_text(row);
	alert->blocks = rows_jsonb(row);
	alert->closing_condition = rows_varlena(row, JSONPATHOID);
	alert->closing_template = rows_text(row);
	alert->mention = rows_text(row);
	alert->is_for_customer = strcmp(alert->destination, CUSTOMER_DESTINATION) ==
							 0;
	return alert;
}

static int
compare_rules(const ListCell *a, const ListCell *b)
{
	return strcmp(((Alert *) lfirst(a))->name, ((Alert *) lfirst(b))->name);
}

static SetupCache rules = {
	.table = "alert", .read = read_rule, .compare = compare_rules};

/* Is it an event of the extension itself, or of the application? */
bool
alert_event_is_own(const Event *event)
{
	return strncmp(event->type, "system.", 7) == 0 ||
		   strncmp(event->type, "app.", 4) == 0;
}

/* Does the type fit event_type?  Whether the event opens depends on more. */
bool
alert_opens(const Alert *alert, const char *event_type)
{
	return event_type_fits_any(event_type, alert->event_type);
}

/* Does the type fit closed_by?  Whether the event closes depends on more. */
bool
alert_closes(const Alert *alert, const char *event_type)
{
	return alert->closed_by != NULL &&
		   event_type_fits_any(event_type, alert->closed_by);
}

/* Does any rule match events of this type, to open or to close? */
bool
alert_wanted(const char *event_type)
{
	ListCell *cell;

	foreach(cell, setup_cache_entries(&rules))
	{
		Alert *alert = lfirst(cell);

		if (alert_opens(alert, event_type) || alert_closes(alert, event_type))
			return true;
	}
	return false;
}

static JsonPath *
copy_path(JsonPath *path)
{
	return path ? (JsonPath *) PG_DETOAST_DATUM_COPY(PointerGetDatum(path))
				: NULL;
}

static char *
copy_text(const char *text)
{
	return text ? pstrdup(text) : NULL;
}

/* A copy in the current context, which a change of the rules leaves alone. */
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
	copy->closed_by = copy_text(alert->closed_by);
	copy->closing_template = copy_text(alert->closing_template);
	copy->mention = copy_text(alert->mention);
	copy->condition = copy_path(alert->condition);
	copy->group_by = copy_path(alert->group_by);
	copy->closing_condition = copy_path(alert->closing_condition);
	if (alert->blocks != NULL)
		copy->blocks = (Jsonb *) PG_DETOAST_DATUM_COPY(
			PointerGetDatum(alert->blocks));
	return copy;
}

/*
 * The first item that the path selects from the whole event; NULL if there is
 * none.  Structural errors are suppressed, as by jsonb_path_query_first_tz(...,
 * silent => true); others are raised.
 */
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
	/* _tz: comparisons of times use the caller's TimeZone */
	result = jsonb_path_query_first_tz(fcinfo);
	return fcinfo->isnull ? NULL : DatumGetJsonbP(result);
}

static bool
scalar_of(Jsonb *json, JsonbValue *value)
{
	return json != NULL && JsonbExtractScalar(&json->root, value);
}

/*
 * Does the condition "path" hold, if there is one?  A predicate ($.amount > 100) must be true; any other
 * path must select an item other than null.
 */
bool
alert_path_holds(JsonPath *path, const Event *event)
{
	JsonbValue value;
	Jsonb *found;

	if (path == NULL)
		return true;
	found = alert_path_first(path, event);
	if (!scalar_of(found, &value))
		return found != NULL;
	if (value.type == jbvBool)
		return value.val.boolean;
	/* null is a predicate's "unknown" */
	return value.type != jbvNull;
}

/* Copies of the rules that match events of this type, in the order of names. */
List *
alert_rules_for(const Event *event)
{
	List *fitting = NIL;
	ListCell *cell;

	foreach(cell, setup_cache_entries(&rules))
	{
		Alert *alert = lfirst(cell);

		if (alert_opens(alert, event->type) || alert_closes(alert, event->type))
			fitting = lappend(fitting, copy_alert(alert));
	}
	return fitting;
}
