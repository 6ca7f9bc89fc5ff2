/*
 * simulate.c
 *		Builds an event, signs it with the endpoint's secret and receives it: for
 *		trying out what a delivery does.
 *
 * What is not told of the object is taken from what is stored of it, or from a
 * fixture (fixture.c).  previous_attributes are the difference to what is
 * stored; with them the events of one second have one order.
 */
#include "simulate.h"

#include "account.h"

#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/json.h"

#define MAX_WAIT (2 * USECS_PER_SEC) /* for the clock to pass what is stored */

/* An event while it is made. */
typedef struct Draft
{
	const Simulation *simulation;
	const CatalogType *type;  /* NULL: not in the catalog */
	char *object_id;		  /* of the object's key; NULL: none */
	Predecessor *predecessor; /* or NULL: of no object that is mirrored */
	char *id;
	int64 created;
	Jsonb *object;
	Jsonb *previous; /* or NULL */
	char *payload;
} Draft;

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

/* The value of the object's key, made up where it is an id that isn't told. */
static char *
find_id(const CatalogType *type, JsonbContainer *object)
{
	JsonbValue ignored;

	if (type == NULL || type->key == NULL)
		return NULL;
	if (strcmp(type->key, "id") != 0 || json_get(object, "id", &ignored))
		return object_key(type, object);
	return psprintf("%ssim_%s", type->id_prefix ? type->id_prefix : "",
					fixture_random());
}

/* Under which account an event of such an account is stored. */
const char *
simulate_account(const Endpoint *endpoint, const char *account)
{
	return account_join(endpoint->account, account);
}

/* What is told, laid over what is stored, or over a fixture. */
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

/* Later ones are greater: that is what decides when nothing else does. */
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
 * The first that is told of an object, unless that it was created, is a second
 * old: so whatever follows at once comes upon a state that is known.
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

/* Can the event only be the last when the clock has gone on? */
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

/* Until the clock shows another second than the one that is stored. */
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

/* ---- made, signed, received ---- */

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

/* Answers the object's id, or NULL where it has none. */
char *
simulate_receive(const Endpoint *endpoint, const Simulation *simulation,
				 Receipt *receipt)
{
	Draft draft = {.simulation = simulation, .type = find_type(simulation)};
	Refusal refusal;
	size_t length;

	draft.object_id = find_id(draft.type, &simulation->object->root);
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

/* Raises when there is none, or it takes live events. */
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
			 errmsg("endpoint \"%s\" takes live events, it cannot simulate",
					name),
			 errhint(
				 "Make a test endpoint: SELECT stripe_sync.add_endpoint('test', 'whsec_...', livemode => false).")));
}

/* ---- SQL ---- */

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

/* Whole seconds, as Stripe has them; never later than now. */
static int64
created_argument(FunctionCallInfo fcinfo)
{
	TimestampTz created = PG_GETARG_TIMESTAMPTZ(4);

	if (created > GetCurrentTimestamp())
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("an event cannot be created later than now"),
						errhint("Leave \"created\" out: it is now then.")));
	if (created < time_t_to_timestamptz(0))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("an event cannot be created before 1970")));
	return (int64) timestamptz_to_time_t(created);
}

/* NULL for JSON's null: the event is to have none. */
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
				 "For example '{\"status\": \"active\"}', or 'null' for none; left out, they are made from what is stored.")));
	return NULL;
}

static void
refuse_null(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(
			ERROR,
			(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
			 errmsg("an event has a type and an object"),
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

	refuse_null(fcinfo);
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
