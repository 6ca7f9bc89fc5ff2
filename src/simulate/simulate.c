/*
 * simulate.c
 *		simulate(): builds an event, signs it with the endpoint's secret and
 *		receives it like a delivery, in the caller's transaction.
 *
 * Fields of the object that the caller leaves out are taken from the stored
 * object, or from a fixture (fixture.c).  previous_attributes are the difference
 * from the stored object; with them, events of one second have one order.  If
 * that order is not certain the event is made anew in the next second; no row
 * is locked while it waits.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/json.h"

#include "base/base.h"
#include "base/compat.h"
#include "base/refusal.h"
#include "engine/engine.h"
#include "engine/rights.h"
#include "inbox/event.h"
#include "inbox/inbox.h"
#include "receive/receive.h"
#include "types/object.h"
#include "types/types.h"
#include "simulate/internal.h"

/* The longest wait for the clock to pass the time of what is stored */
#define MAX_WAIT (2 * USECS_PER_SEC)

/* An event that is being built */
typedef struct Draft
{
	const Simulation *simulation;
	const CatalogType *type;  /* NULL: not in the catalog */
	char *object_id;		  /* the object's key, or NULL */
	Predecessor *predecessor; /* NULL: the object is not mirrored */
	char *id;
	int64 created;
	Jsonb *object;
	Jsonb *previous; /* or NULL */
	char *payload;
} Draft;

/* Seconds of Unix time, by the clock of now() */
static int64
now_seconds(void)
{
	return (int64) timestamptz_to_time_t(GetCurrentTimestamp());
}

/* ---- the object ---- */

/* The only type of object that events of the type carry, or NULL. */
static const CatalogType *
type_carried_by(const char *event_type)
{
	const CatalogType *found = NULL;

	for (int i = 0; i < catalog_ntypes; i++)
		for (int j = 0; j < catalog_types[i].nevent_types; j++)
			if (strcmp(catalog_types[i].event_types[j], event_type) == 0)
			{
				if (found != NULL)
					return NULL;
				found = &catalog_types[i];
			}
	return found;
}

/* By the object's field "object", else by the event's type; may be NULL. */
static const CatalogType *
find_type(const Simulation *simulation)
{
	JsonbValue said;

	if (!json_get(&simulation->object->root, "object", &said))
		return type_carried_by(simulation->type);
	return said.type != jbvString
			   ? NULL
			   : catalog_find(said.val.string.val, said.val.string.len);
}

/* The value of the object's key; an id that is not given is generated. */
static char *
find_object_id(const CatalogType *type, JsonbContainer *object)
{
	JsonbValue ignored;

	if (type == NULL || type->key == NULL)
		return NULL;
	if (strcmp(type->key, "id") != 0 || json_get(object, "id", &ignored))
		return object_key(type, object);
	return psprintf("%ssim_%s", type->id_prefix ? type->id_prefix : "",
					fixture_random());
}

/* The account that the event will be stored with. */
const char *
simulate_account(const Endpoint *endpoint, const char *account)
{
	return account_join(endpoint->account, account);
}

/* The given fields, over the stored object or over a fixture. */
static Jsonb *
complete_object(const Draft *draft)
{
	const Simulation *simulation = draft->simulation;
	const Predecessor *former = draft->predecessor;
	JsonbContainer *known = NULL;

	if (draft->type == NULL)
		return simulation->object;
	if (former != NULL &&
		!(former->is_dead && event_type_creates(simulation->type)))
		known = former->before ? former->before : former->now;
	return fixture_lay_over(
		simulation->object,
		known ? json_standalone(known)
			  : fixture_object(draft->type, simulation->type, draft->object_id,
							   draft->created));
}

/* ---- the event ---- */

/* previous_attributes: as given, or the difference from the stored object. */
static Jsonb *
find_previous(const Draft *draft)
{
	const Simulation *simulation = draft->simulation;
	size_t length = strlen(simulation->type);
	size_t tail = strlen(".updated");
	bool updates = length > tail &&
				   strcmp(simulation->type + length - tail, ".updated") == 0;

	if (simulation->has_previous)
		return simulation->previous;
	if (draft->predecessor == NULL || draft->predecessor->before == NULL ||
		event_type_creates(simulation->type) ||
		event_type_deletes(simulation->type) ||
		(simulation->as_stripe_does && !updates))
		return NULL;
	return json_previous(draft->predecessor->before, &draft->object->root);
}

/* Ids grow with time: the greatest id decides where nothing else does. */
static char *
next_event_id(void)
{
	static TimestampTz last = 0;

	last = Max(last + 1, GetCurrentTimestamp());
	return psprintf("evt_sim_%013llx%.8s", (unsigned long long) last,
					fixture_random());
}

static void
append_member(StringInfo out, const char *name, Jsonb *value)
{
	appendStringInfo(out, "\"%s\": ", name);
	(void) JsonbToCString(out, &value->root, VARSIZE(value));
}

/* The event as Stripe serializes one, in the catalog's API version. */
static char *
build_payload(const Draft *draft)
{
	const Simulation *simulation = draft->simulation;
	StringInfoData out;

	initStringInfo(&out);
	appendStringInfo(&out, "{\"id\": \"%s\", \"object\": \"event\", ",
					 draft->id);
	if (simulation->account[0] != '\0')
	{
		appendStringInfoString(&out, "\"account\": ");
		escape_json(&out, simulation->account);
		appendStringInfoString(&out, ", ");
	}
	appendStringInfo(&out,
					 "\"api_version\": \"%s\", \"created\": " INT64_FORMAT
					 ", \"data\": {",
					 catalog_api_version, draft->created);
	append_member(&out, "object", draft->object);
	if (draft->previous != NULL)
	{
		appendStringInfoString(&out, ", ");
		append_member(&out, "previous_attributes", draft->previous);
	}
	appendStringInfoString(
		&out,
		"}, \"livemode\": false, \"pending_webhooks\": 1, \"request\": {\"id\": null, \"idempotency_key\": null}, \"type\": ");
	escape_json(&out, simulation->type);
	appendStringInfoChar(&out, '}');
	return out.data;
}

/* ---- the time ---- */

/*
 * The event's time, in seconds of Unix time.  The first event of an object,
 * unless it is a *.created, is a second old, so that the next one can follow at
 * once with a time of its own.
 */
static int64
choose_time(const Draft *draft)
{
	const Simulation *simulation = draft->simulation;

	if (simulation->has_created)
		return simulation->created;
	return now_seconds() - (draft->predecessor != NULL &&
							predecessor_is_none(draft->predecessor) &&
							!event_type_creates(simulation->type));
}

/* Is the event certain to be the newest only in a later second? */
static bool
must_wait(const Draft *draft)
{
	const Simulation *simulation = draft->simulation;
	const Predecessor *former = draft->predecessor;
	TimestampTz last;
	Refusal refusal;
	Event event;

	if (simulation->has_created || former == NULL ||
		(former->is_dead && !event_type_creates(simulation->type)))
		return false;
	last = predecessor_last(former);
	if (last < time_t_to_timestamptz((pg_time_t) draft->created) ||
		last > GetCurrentTimestamp() + MAX_WAIT)
		return false;
	return event_read(draft->payload, strlen(draft->payload), &event, &refusal) &&
		   event.catalog != NULL && !predecessor_is_followed(former, &event);
}

/* Wait until the clock has passed this second. */
static void
wait_for_clock(int64 seconds)
{
	while (now_seconds() <= seconds)
	{
		TimestampTz next = time_t_to_timestamptz((pg_time_t) seconds + 1);
		long wait = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), next);

		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 Max(wait, 1), compat_wait_event("StripeSyncSimulate"));
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/* ---- build, sign, receive ---- */

/*
 * Build the event by what is stored now.  The order of the calls matters: the
 * time needs the predecessor, the object the time, previous_attributes the
 * object.
 */
static void
draft_event(Draft *draft, const Endpoint *endpoint)
{
	const Simulation *simulation = draft->simulation;
	TimestampTz until = simulation->has_created
							? time_t_to_timestamptz(
								  (pg_time_t) simulation->created)
							: DT_NOEND;

	if (draft->type != NULL && draft->type->table != NULL &&
		draft->object_id != NULL)
		draft->predecessor = predecessor_find(
			draft->type, draft->object_id,
			simulate_account(endpoint, simulation->account), until);
	draft->id = next_event_id();
	draft->created = choose_time(draft);
	draft->object = complete_object(draft);
	draft->previous = find_previous(draft);
	draft->payload = build_payload(draft);
}

/*
 * Build, sign and receive an event.  Returns the object's id, or NULL if it has
 * none.  Raises what receive() would.  Runs in the engine's scope.
 */
char *
simulate_receive(const Endpoint *endpoint, const Simulation *simulation,
				 Receipt *receipt)
{
	Draft draft = {.simulation = simulation, .type = find_type(simulation)};
	Refusal refusal;
	size_t length;

	draft.object_id = find_object_id(draft.type, &simulation->object->root);
	draft_event(&draft, endpoint);
	while (must_wait(&draft))
	{
		TimestampTz last = predecessor_last(draft.predecessor);

		wait_for_clock((int64) timestamptz_to_time_t(last));
		draft_event(&draft, endpoint);
	}
	length = strlen(draft.payload);
	if (!inbox_receive(draft.payload, length,
					   cstring_to_text(endpoint_sign(endpoint, draft.payload,
													 length, now_seconds())),
					   endpoint->name, "simulate", receipt, &refusal))
		refusal_raise(&refusal);
	return draft.object_id;
}

/* Raises SY005 if there is no such endpoint, 55000 if it takes live events. */
void
simulate_find_endpoint(const char *name, Endpoint *endpoint)
{
	Refusal refusal;

	if (!endpoint_find(name, endpoint, &refusal))
		refusal_raise(&refusal);
	if (endpoint->has_livemode && endpoint->livemode)
		ereport(
			ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg(
				 "cannot simulate an event for endpoint \"%s\", which takes live events",
				 name),
			 errhint(
				 "Add a test endpoint: SELECT stripe_sync.add_endpoint('test', 'whsec_...', livemode => false).")));
}

/* ---- SQL ---- */

/* Raises 22023 unless it is an object. */
static Jsonb *
object_argument(FunctionCallInfo fcinfo)
{
	Jsonb *object = PG_GETARG_JSONB_P(1);

	if (!JB_ROOT_IS_OBJECT(object))
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("the object of an event must be a JSON object"),
			 errhint(
				 "For example '{\"id\": \"cus_1\", \"object\": \"customer\"}'.")));
	return object;
}

/* Seconds of Unix time.  Raises 22023 for a time in the future or before 1970. */
static int64
created_argument(FunctionCallInfo fcinfo)
{
	TimestampTz created = PG_GETARG_TIMESTAMPTZ(4);

	if (created > GetCurrentTimestamp())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"created\" of an event cannot be in the future"),
				 errhint("Omit it to use the current time.")));
	if (created < time_t_to_timestamptz(0))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"created\" of an event cannot be before 1970")));
	return (int64) timestamptz_to_time_t(created);
}

/* NULL for JSON's null: an event without previous_attributes. */
static Jsonb *
previous_argument(FunctionCallInfo fcinfo)
{
	Jsonb *previous = PG_GETARG_JSONB_P(5);
	JsonbValue value;

	if (JB_ROOT_IS_OBJECT(previous))
		return previous;
	if (!JB_ROOT_IS_SCALAR(previous) ||
		!JsonbExtractScalar(&previous->root, &value) || value.type != jbvNull)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("previous_attributes must be a JSON object"),
			 errhint(
				 "For example '{\"status\": \"active\"}', or 'null' for none. If omitted, they are computed from the stored object.")));
	return NULL;
}

/* Raises 22004. */
static void
check_not_null(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(
			ERROR,
			(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
			 errmsg("an event must have a type and an object"),
			 errhint(
				 "For example: SELECT * FROM stripe_sync.simulate('customer.created', '{\"id\": \"cus_1\"}').")));
}

/* simulate(event_type, object, endpoint, account, created, previous) */
ENGINE_FUNCTION(stripe_sync_simulate)
{
	Simulation simulation = {.account = ""};
	const char *name = PG_ARGISNULL(2) ? "default"
									   : text_to_cstring(PG_GETARG_TEXT_PP(2));
	Endpoint endpoint;
	RoleScope scope;
	Receipt receipt;

	check_not_null(fcinfo);
	scope = role_enter_engine();
	simulate_find_endpoint(name, &endpoint);
	simulation.type = text_to_cstring(PG_GETARG_TEXT_PP(0));
	simulation.object = object_argument(fcinfo);
	if (!PG_ARGISNULL(3))
		simulation.account = text_to_cstring(PG_GETARG_TEXT_PP(3));
	account_check(simulation.account);
	simulation.has_created = !PG_ARGISNULL(4);
	if (simulation.has_created)
		simulation.created = created_argument(fcinfo);
	simulation.has_previous = !PG_ARGISNULL(5);
	if (simulation.has_previous)
		simulation.previous = previous_argument(fcinfo);
	event_type_remark(simulation.type, false);
	(void) simulate_receive(&endpoint, &simulation, &receipt);
	role_leave(&scope);
	PG_RETURN_DATUM(inbox_receipt_datum(fcinfo, &receipt));
}
