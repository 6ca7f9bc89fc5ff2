/*
 * handler_call.c
 *		Runs a handler on an event, with the rights of the role that registered
 *		it and the search_path of that time.
 *
 * Functions, roles and schemas are stored by name, because dump and restore
 * change OIDs, and resolved at each call.  A different function may have the
 * name by then.  It runs only if its owner is trusted: the owner that was noted,
 * a superuser, or a role that has the rights of the handler's role
 * (owner_is_trusted()).  The same holds for the schemas of the search_path.
 *
 * Each call is a subtransaction of the event's transaction, in a writing scope
 * (scope.c): the triggers that it defers fire as the same role before the
 * subtransaction ends.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "base/error_codes.h"
#include "engine/engine.h"
#include "engine/rights.h"
#include "handler/handler.h"
#include "inbox/event.h"

typedef struct Call
{
	const Handler *handler;
	Event *event;
	void (*afterwards)(void *); /* in the same subtransaction, or NULL */
	void *arg;
} Call;

/* Raise SY005: the handler's function or role ("what") does not exist. */
static void
handler_part_missing(const Handler *handler, const char *what, const char *name)
{
	ereport(
		ERROR,
		(errcode(ERRCODE_NO_SUCH_NAME),
		 errmsg("%s %s of handler \"%s\" does not exist", what, name,
				handler->name),
		 errhint(
			 "Create it again, or drop the handler: SELECT stripe_sync.drop_handler(%s).",
			 quote_literal_cstr(handler->name))));
}

/*
 * The function that has the handler's name and signature now, or InvalidOid.
 * No USAGE on its schema is needed: the current role may lack
 * it.
 */
static Oid
find_function(const Handler *handler)
{
	oidvector *arguments = buildoidvector((Oid[]){JSONBOID}, 1);
	char *schema;
	char *name;
	Oid function;

	DeconstructQualifiedName(compat_string_to_names(handler->function), &schema,
							 &name);
	if (schema == NULL)
		return InvalidOid;
	function = GetSysCacheOid3(
		PROCNAMEARGSNSP, Anum_pg_proc_oid, CStringGetDatum(name),
		PointerGetDatum(arguments),
		ObjectIdGetDatum(get_namespace_oid(schema, true)));
	if (!OidIsValid(function) || get_func_rettype(function) != VOIDOID)
		return InvalidOid;
	return function;
}

/* Is the function's owner one that the handler's role may trust? */
static bool
function_is_trusted(const Handler *handler, Oid function, Oid role)
{
	HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Oid owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for function %u", function);
	owner = ((Form_pg_proc) GETSTRUCT(tuple))->proowner;
	ReleaseSysCache(tuple);
	return owner_is_trusted(owner, handler->owner, role);
}

/*
 * Whether a handler can run.  While it is stopped, or its function or a schema
 * of its search_path belongs to another role, an event's tries are not counted.
 * A function that doesn't exist is an error of each try.
 */
HandlerHold
handler_hold(const char *name)
{
	Handler *handler = handler_find(name);
	Oid function;
	Oid role;

	if (handler == NULL)
		return HANDLER_RUNS;
	if (handler->stopped)
		return HANDLER_STOPPED;
	role = get_role_oid(handler->role, true);
	function = OidIsValid(role) ? find_function(handler) : InvalidOid;
	if (OidIsValid(function) && (!function_is_trusted(handler, function, role) ||
								 !path_holds(handler->search_path, role)))
		return HANDLER_ANOTHERS;
	return HANDLER_RUNS;
}

/* Raise SY005 if revoke_all() has stopped the handler. */
static void
check_stopped(const Handler *handler)
{
	if (handler->stopped)
		ereport(
			ERROR,
			(errcode(ERRCODE_NO_SUCH_NAME),
			 errmsg("handler \"%s\" is stopped", handler->name),
			 errdetail("stripe_sync.revoke_all() was called for its role, %s.",
					   quote_identifier(handler->role)),
			 errhint(
				 "Register it again with stripe_sync.add_handler(), or drop it.")));
}

/* The function to call.  Raises SY005, or 42501 without EXECUTE on it. */
static Oid
resolve_function(const Handler *handler, Oid role)
{
	Oid function = find_function(handler);

	if (!OidIsValid(function))
		handler_part_missing(handler, "function", handler->function);
	if (!function_is_trusted(handler, function, role))
		ereport(
			ERROR,
			(errcode(ERRCODE_NO_SUCH_NAME),
			 errmsg(
				 "function %s of handler \"%s\" belongs to another role now: register it again",
				 handler->function, handler->name),
			 errdetail("It belonged to %s, and handlers run as %s.",
					   quote_identifier(handler->owner),
					   quote_identifier(handler->role)),
			 errhint(
				 "Review the function; then call stripe_sync.add_handler(%s, ...) again.",
				 quote_literal_cstr(handler->name))));
	if (compat_function_aclcheck(function, role) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FUNCTION, handler->function);
	return function;
}

static void
run_function(Oid function, Jsonb *document)
{
	FmgrInfo info;
	LOCAL_FCINFO(fcinfo, 1);

	fmgr_info(function, &info);
	InitFunctionCallInfoData(*fcinfo, &info, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = JsonbPGetDatum(document);
	fcinfo->args[0].isnull = false;
	(void) FunctionCallInvoke(fcinfo);
}

/* Runs in the subtransaction of handler_attempt(). */
static void
call_body(void *arg)
{
	Call *call = arg;
	Oid role = get_role_oid(call->handler->role, true);
	Oid function;
	RoleScope scope;

	check_stopped(call->handler);
	if (!OidIsValid(role))
		handler_part_missing(call->handler, "role", call->handler->role);
	function = resolve_function(call->handler, role);
	scope = role_enter_writing(role, call->handler->search_path);
	run_function(function, call->event->document);
	role_leave(&scope);
	timed_check();
	if (call->afterwards != NULL)
		call->afterwards(call->arg);
}

/*
 * Run a handler on an event in a subtransaction, and then "afterwards", which
 * may be NULL, in the same one.  Returns false, with the error, if it failed and
 * is rolled back; exceeding stripe_sync.handler_timeout is such a failure.
 * Errors that say nothing about the event (subtransaction.c) are raised.
 */
bool
handler_attempt(const Handler *handler, Event *event,
				void (*afterwards)(void *), void *arg, ErrorData **error)
{
	Call call = {handler, event, afterwards, arg};

	CommandCounterIncrement(); /* it sees the steps before it */
	return timed_run(
		call_body, &call, "the handler",
		"Register it with deferred => true, let it do less, or increase the timeout.",
		error);
}
