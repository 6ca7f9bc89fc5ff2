/*
 * story.c
 *		simulate_story(): a sequence of events as Stripe sends them, the last one
 *		with the current time.
 *
 * The stories are in src/simulate/fixtures/stories.json.  Their events are at least a
 * second apart, so they have one order.  Each has the fields that it changes;
 * simulate.c takes the others from the stored object.  All are received in the
 * caller's transaction.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "base/base.h"
#include "base/compat.h"
#include "engine/engine.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "inbox/event.h"
#include "inbox/inbox.h"
#include "types/object.h"
#include "types/types.h"
#include "simulate/internal.h"

#define MAX_CUSTOMER 255 /* bytes of an id */

typedef struct Story
{
	char *name;
	Jsonb *document;
	JsonbContainer *steps; /* an array */
	int nsteps;			   /* to run: the first ones */
	const Endpoint *endpoint;
	FixtureNames names;
	ReturnSetInfo *result;
} Story;

/* ---- read a story ---- */

/* An array that every story has; stories.json is wrong otherwise. */
static JsonbContainer *
get_array(JsonbContainer *object, const char *name)
{
	JsonbValue value;

	if (!json_get(object, name, &value) || value.type != jbvBinary)
		elog(ERROR, "a story lacks \"%s\"", name);
	return value.val.binary.data;
}

static JsonbContainer *
nth_object(JsonbContainer *array, int n)
{
	return getIthJsonbValueFromContainer(array, n)->val.binary.data;
}

/* 0 if it is absent. */
static int64
get_number(JsonbContainer *object, const char *name)
{
	JsonbValue value;
	int64 number = 0;

	if (json_get(object, name, &value))
		(void) json_to_int64(&value, &number);
	return number;
}

/* Their names, for a hint */
static char *
list_stories(void)
{
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; i < nfixture_stories; i++)
		appendStringInfo(&list, "%s\"%s\"", i > 0 ? ", " : "",
						 fixture_stories[i].name);
	return list.data;
}

static char *
list_steps(const Story *story)
{
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; i < JsonContainerSize(story->steps); i++)
		appendStringInfo(&list, "%s%s", i > 0 ? "," : "",
						 json_get_string(nth_object(story->steps, i), "name"));
	return list.data;
}

/* Raises 22023 if there is no such story. */
static void
story_read(Story *story, const char *name)
{
	story->name = pstrdup(name);
	story->document = fixture_find(fixture_stories, nfixture_stories, name);
	if (story->document == NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("there is no story \"%s\"", name),
						errhint("The stories are %s.", list_stories())));
	story->steps = get_array(&story->document->root, "steps");
	story->names.ids[1] = json_get_object(&story->document->root, "ids");
	story->names.parts = json_get_object(&story->document->root, "parts");
}

compat_noreturn static void
refuse_steps(const Story *story)
{
	ereport(
		ERROR,
		(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
		 errmsg("steps must be the first steps of the story, in its order"),
		 errhint("The steps of \"%s\" are '{%s}'; the last ones may be omitted.",
				 story->name, list_steps(story))));
}

/* NULL is all steps.  Raises 22023 unless they are the first ones. */
static void
choose_steps(Story *story, ArrayType *wanted)
{
	Datum *names;
	bool *nulls;

	story->nsteps = JsonContainerSize(story->steps);
	if (wanted == NULL)
		return;
	deconstruct_array(wanted, TEXTOID, -1, false, TYPALIGN_INT, &names, &nulls,
					  &story->nsteps);
	if (story->nsteps == 0 || story->nsteps > JsonContainerSize(story->steps))
		refuse_steps(story);
	for (int i = 0; i < story->nsteps; i++)
		if (nulls[i] ||
			strcmp(TextDatumGetCString(names[i]),
				   json_get_string(nth_object(story->steps, i), "name")) != 0)
			refuse_steps(story);
}

/* Seconds from the first event to the last one that is simulated. */
static int64
story_length(const Story *story)
{
	JsonbContainer *last = nth_object(story->steps, story->nsteps - 1);
	JsonbContainer *events = get_array(last, "events");

	return get_number(last, "after") +
		   get_number(nth_object(events, JsonContainerSize(events) - 1), "at");
}

/* ---- run it ---- */

/* Is there an event or a row of the object already? */
static bool
is_stored(const Story *story, JsonbContainer *object)
{
	char *name = json_get_string(object, "object");
	const CatalogType *type = catalog_find(name, strlen(name));

	return !predecessor_is_none(
		predecessor_find(type, object_key(type, object),
						 simulate_account(story->endpoint, ""), DT_NOEND));
}

/* The event's object, or the one of the story's "parts" that it names. */
static Jsonb *
event_object(const Story *story, JsonbContainer *event)
{
	JsonbContainer *object = json_get_object(event, "object");
	char *part;

	if (object == NULL)
	{
		part = json_get_string(event, "object");
		object = part != NULL ? json_get_object(story->names.parts, part + 1)
							  : NULL;
	}
	if (object == NULL)
		elog(ERROR, "an event of story \"%s\" lacks an object", story->name);
	return fixture_fill(&story->names, object);
}

static void
put_row(const Story *story, const char *step, const char *type,
		const Receipt *receipt, const char *object_id)
{
	Datum values[] = {CStringGetTextDatum(step),
					  CStringGetTextDatum(receipt->event_id),
					  CStringGetTextDatum(type),
					  CStringGetTextDatum(object_id ? object_id : ""),
					  CStringGetTextDatum(receipt->status)};
	bool nulls[] = {false, false, false, object_id == NULL, false};

	tuplestore_putvalues(story->result->setResult, story->result->setDesc,
						 values, nulls);
}

/*
 * Simulate an event and return a row.  One marked "once" is left out if its
 * object is stored already, as the customer of an earlier story is.
 */
static void
simulate_event(Story *story, JsonbContainer *step, JsonbContainer *event)
{
	Simulation simulation = {.type = json_get_string(event, "type"),
							 .account = "",
							 .has_created = true,
							 .as_stripe_does = true};
	JsonbValue once;
	Receipt receipt;
	char *object_id;

	story->names.at = story->names.start + get_number(step, "after") +
					  get_number(event, "at");
	simulation.created = story->names.at;
	simulation.object = event_object(story, event);
	if (json_get(event, "once", &once) &&
		is_stored(story, &simulation.object->root))
		return;
	object_id = simulate_receive(story->endpoint, &simulation, &receipt);
	put_row(story, json_get_string(step, "name"), simulation.type, &receipt,
			object_id);
}

/* All events of a step; its "ids" and "times" take precedence over the story's. */
static void
simulate_step(Story *story, JsonbContainer *step)
{
	JsonbContainer *events = get_array(step, "events");

	story->names.ids[0] = json_get_object(step, "ids");
	story->names.times = json_get_object(step, "times");
	for (int i = 0; i < JsonContainerSize(events); i++)
	{
		CHECK_FOR_INTERRUPTS();
		simulate_event(story, step, nth_object(events, i));
	}
}

/* ---- SQL ---- */

/* Raises 22023 unless it is NULL or looks like a customer's id. */
static char *
customer_argument(FunctionCallInfo fcinfo)
{
	char *customer = PG_ARGISNULL(1) ? NULL
									 : text_to_cstring(PG_GETARG_TEXT_PP(1));

	if (customer != NULL &&
		(strncmp(customer, "cus_", 4) != 0 || customer[4] == '\0' ||
		 strlen(customer) > MAX_CUSTOMER))
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid customer id \"%s\"", customer),
			 errhint(
				 "It must begin with \"cus_\". Omit it for a new customer.")));
	return customer;
}

/* simulate_story(story, customer, steps, endpoint): a row for each event */
ENGINE_FUNCTION(stripe_sync_simulate_story)
{
	Story story = {.result = (ReturnSetInfo *) fcinfo->resultinfo};
	Endpoint endpoint;
	RoleScope scope;

	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("the name of a story cannot be null"),
						errhint("The stories are %s.", list_stories())));
	story_read(&story, text_to_cstring(PG_GETARG_TEXT_PP(0)));
	story.names.customer = customer_argument(fcinfo);
	choose_steps(&story, PG_ARGISNULL(2) ? NULL : PG_GETARG_ARRAYTYPE_P(2));
	scope = role_enter_engine();
	simulate_find_endpoint(
		PG_ARGISNULL(3) ? "default" : text_to_cstring(PG_GETARG_TEXT_PP(3)),
		&endpoint);
	InitMaterializedSRF(fcinfo, 0);
	story.endpoint = &endpoint;
	story.names.own = fixture_random();
	story.names.start = (int64) timestamptz_to_time_t(GetCurrentTimestamp()) -
						story_length(&story);
	for (int i = 0; i < story.nsteps; i++)
		simulate_step(&story, nth_object(story.steps, i));
	role_leave(&scope);
	PG_RETURN_NULL();
}
