/*
 * destination_link.c
 *		References to destinations: from another destination (fallback,
 *		escalation) and from a customer (route).
 *
 * All functions change rows in the caller's transaction.  The destination that is
 * referred to is locked FOR KEY SHARE, so that it can't be dropped meanwhile.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "engine/engine.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "outbox/internal.h"

/* ---- from a destination to another ---- */

/*
 * Arguments: name, and the other destination or NULL.  "what" is what the other one
 * is, "hint" a sentence that says what for.  Raises SY005, 22023.
 */
static void
set_other(FunctionCallInfo fcinfo, EngineStatement *update, const char *what,
		  const char *hint)
{
	text *name = destination_required_text(fcinfo, 0, "name");
	text *other = destination_optional_text(fcinfo, 1);
	RoleScope scope;

	if (other && strcmp(text_to_cstring(name), text_to_cstring(other)) == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("a destination cannot be its own %s", what),
						errhint("%s NULL removes it.", hint)));
	scope = role_enter_engine();
	if (other != NULL)
		destination_hold(other);
	destination_change(
		name, update,
		ARGS(arg_varlena(TEXTOID, name), arg_varlena(TEXTOID, other)));
	destination_setup_end(&scope);
}

/* set_fallback(name, fallback) */
ENGINE_FUNCTION(stripe_sync_set_fallback)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.destination SET fallback = $2 WHERE name = $1"};

	set_other(fcinfo, &update, "fallback",
			  "The fallback is notified when Slack rejects the destination.");
	PG_RETURN_VOID();
}

/* set_escalation(name, second) */
ENGINE_FUNCTION(stripe_sync_set_escalation)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.destination SET escalation = $2 WHERE name = $1"};

	set_other(fcinfo, &update, "escalation",
			  "Critical incidents that stay open are repeated there.");
	PG_RETURN_VOID();
}

/* ---- from a customer ---- */

/* Raises 22004, 22023. */
static text *
required_customer(FunctionCallInfo fcinfo)
{
	text *customer = destination_required_text(fcinfo, 0, "customer");

	if (!destination_is_plain_line(customer, DESTINATION_MAX_LINE))
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("a customer must have 1 to %d bytes and no control characters",
					DESTINATION_MAX_LINE),
			 errhint("Give the customer's id at Stripe (cus_...).")));
	return customer;
}

/* A customer's own id in an application is a likely mistake. */
static void
notice_unusual_id(const text *customer)
{
	if (!destination_text_begins_with(customer, "cus_"))
		ereport(
			NOTICE,
			(errmsg("Stripe's customer ids begin with \"cus_\""),
			 errhint(
				 "The route is used for events with exactly this customer id.")));
}

/* route_customer(customer, destination) */
ENGINE_FUNCTION(stripe_sync_route_customer)
{
	static EngineStatement upsert = {
		"INSERT INTO stripe_sync.customer_route (customer, destination) VALUES ($1, $2)"
		" ON CONFLICT (customer) DO UPDATE SET destination = excluded.destination"
		" WHERE customer_route.destination <> excluded.destination"};
	text *customer = required_customer(fcinfo);
	text *destination = destination_required_text(fcinfo, 1, "destination");
	RoleScope scope = role_enter_engine();

	destination_hold(destination);
	if (statement_exec(&upsert, ARGS(arg_varlena(TEXTOID, customer),
									 arg_varlena(TEXTOID, destination))) > 0)
		notice_unusual_id(customer);
	destination_setup_end(&scope);
	PG_RETURN_VOID();
}

/* unroute_customer(customer): no error if there is no route */
ENGINE_FUNCTION(stripe_sync_unroute_customer)
{
	static EngineStatement delete = {
		"DELETE FROM stripe_sync.customer_route WHERE customer = $1"};
	text *customer = required_customer(fcinfo);
	RoleScope scope = role_enter_engine();

	statement_exec(&delete, ARGS(arg_varlena(TEXTOID, customer)));
	destination_setup_end(&scope);
	PG_RETURN_VOID();
}
