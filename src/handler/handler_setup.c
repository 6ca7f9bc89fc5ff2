/*
 * handler_setup.c
 *		add_handler(), drop_handler(): handlers are registered and dropped, in
 *		the caller's transaction.
 *
 * registered.c says what is stored of its function.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "base/error_codes.h"
#include "engine/engine.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "inbox/event.h"
#include "inbox/inbox.h"
#include "server/server.h"
#include "types/object.h"
#include "handler/internal.h"

/* Argument "number" as text.  Raises 22004 if it is NULL. */
static char *
handler_required_text(FunctionCallInfo fcinfo, int number, const char *what)
{
	if (PG_ARGISNULL(number))
		ereport(
			ERROR,
			(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
			 errmsg("the %s of a handler cannot be NULL", what),
			 errhint(
				 "For example: SELECT stripe_sync.add_handler('welcome', 'customer.created', 'app.welcome');")));
	return text_to_cstring(PG_GETARG_TEXT_PP(number));
}

/* Raise 22023 for a name that a step of every event has, or an empty one. */
static void
check_handler_names(const char *name, const char *event_type)
{
	if (name[0] == '\0' || strlen(name) > 63)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("a handler must have a name of 1 to 63 bytes")));
	if (strcmp(name, STEP_MIRROR) == 0 || strcmp(name, STEP_ALERTS) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a handler cannot be named \"%s\"", name),
				 errdetail("That is the name of a step of every event.")));
	if (event_type[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("an event type cannot be empty"),
				 errhint("For example 'invoice.paid', 'invoice.*', or '*'.")));
}

/*
 * Let events retry this handler now, if they wait for it: it may have been
 * stopped, or untrusted, until now.
 */
static void
retry_waiting(const char *name)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.event SET next_attempt_at = pg_catalog.clock_timestamp()"
		" WHERE next_attempt_at > pg_catalog.clock_timestamp()"
		" AND $1 = ANY (todo)"};

	if (statement_exec(&update, ARGS(arg_text(name))) > 0)
		worker_wake_at_commit();
}

/* Is there a handler of this name for the same event type? */
static bool
is_registered(const char *name, const char *event_type)
{
	static EngineStatement select = {
		"SELECT FROM stripe_sync.handler WHERE name = $1 AND event_type = $2"};

	return statement_exec(&select, ARGS(arg_text(name), arg_text(event_type))) >
		   0;
}

/*
 * add_handler(name, event_type, handler, deferred)
 *
 * Makes the handler, or replaces the one of its name; its role is the current one.
 */
ENGINE_FUNCTION(stripe_sync_add_handler)
{
	static EngineStatement upsert = {
		"INSERT INTO stripe_sync.handler"
		" (name, event_type, deferred, " REGISTERED_COLUMNS ")"
		" VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
		" ON CONFLICT (name) DO UPDATE SET event_type = excluded.event_type,"
		" deferred = excluded.deferred, " REGISTERED_REPLACE};
	char *name = handler_required_text(fcinfo, 0, "name");
	char *event_type = handler_required_text(fcinfo, 1, "event type");
	Registered *registered = registered_note(
		&handler_kind, name, PG_ARGISNULL(2) ? InvalidOid : PG_GETARG_OID(2));
	bool deferred = !PG_ARGISNULL(3) && PG_GETARG_BOOL(3);
	RoleScope scope;

	check_handler_names(name, event_type);
	scope = role_enter_engine();
	if (!is_registered(name, event_type))
		event_type_remark(event_type, false);
	statement_exec(&upsert,
				   ARGS(arg_text(name), arg_text(event_type),
						arg_bool(deferred), REGISTERED_ARGS(registered)));
	retry_waiting(name);
	outbound_note_identity();
	role_leave(&scope);
	PG_RETURN_VOID();
}

/* Raise SY005: there is no handler of that name. */
void
handler_missing(const char *name)
{
	ereport(ERROR, (errcode(ERRCODE_NO_SUCH_NAME),
					errmsg("there is no handler \"%s\"", name),
					errhint("SELECT name FROM stripe_sync.handler shows all.")));
}

/* drop_handler(name): events no longer wait for it.  Raises SY005. */
ENGINE_FUNCTION(stripe_sync_drop_handler)
{
	static EngineStatement delete = {
		"DELETE FROM stripe_sync.handler WHERE name = $1"};
	char *name = handler_required_text(fcinfo, 0, "name");
	RoleScope scope = role_enter_engine();

	if (statement_exec(&delete, ARGS(arg_text(name))) == 0)
		handler_missing(name);
	record_handler_dropped(cstring_to_text(name));
	outbound_note_identity();
	role_leave(&scope);
	PG_RETURN_VOID();
}
