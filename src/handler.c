/*
 * handler.c
 *		The user's functions that run on events.
 *
 * A handler runs as the role that registered it, with the search_path of that
 * moment, never with more rights: what it defers fires under that role too.
 * Functions and roles are kept by name and resolved at each call, as a dump
 * and a restore need.  So another function may bear the name by then: it runs
 * only when its owner is the one that was noted, or could do as much anyway.  The
 * same goes for the schemas of the path.
 */
#include "stripe_sync.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/regproc.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "setup_cache.h"

static void *
read_handler(Rows *row)
{
	Handler *handler = palloc0(sizeof(Handler));
	Datum names;
	Datum owners;
	bool isnull;

	level_check_table(row->desc, 9, "handler");
	handler->name = rows_text(row);
	handler->event_type = rows_text(row);
	handler->function = rows_text(row);
	handler->owner = rows_text(row);
	handler->role = rows_text(row);
	names = rows_datum(row, TEXTOID, &isnull);
	owners = rows_datum(row, TEXTARRAYOID, &isnull);
	handler->search_path = path_read(names, owners);
	handler->search_path->holder = psprintf("handler \"%s\"", handler->name);
	handler->search_path->renewal = psprintf("stripe_sync.add_handler(%s, ...)",
											 quote_literal_cstr(handler->name));
	handler->search_path->sqlstate = ERRCODE_NO_SUCH_NAME;
	handler->deferred = rows_bool(row, false);
	(void) rows_datum(row, TIMESTAMPTZOID, &isnull);
	handler->stopped = !isnull;
	return handler;
}

static int
compare_names(const ListCell *a, const ListCell *b)
{
	return strcmp(((Handler *) lfirst(a))->name, ((Handler *) lfirst(b))->name);
}

static SetupCache handlers = {
	.table = "handler", .read = read_handler, .compare = compare_names};

static Handler *
copy_handler(const Handler *handler)
{
	Handler *copy = palloc(sizeof(Handler));

	copy->name = pstrdup(handler->name);
	copy->event_type = pstrdup(handler->event_type);
	copy->function = pstrdup(handler->function);
	copy->owner = pstrdup(handler->owner);
	copy->role = pstrdup(handler->role);
	copy->search_path = path_copy(handler->search_path, CurrentMemoryContext);
	copy->deferred = handler->deferred;
	copy->stopped = handler->stopped;
	return copy;
}

/* Copies, by name, of the handlers that an event type is for. */
List *
handler_matching(const char *event_type)
{
	List *matching = NIL;
	ListCell *cell;

	foreach(cell, setup_cache_entries(&handlers))
		if (event_type_fits(event_type, ((Handler *) lfirst(cell))->event_type))
			matching = lappend(matching, copy_handler(lfirst(cell)));
	return matching;
}

/* A copy, or NULL. */
Handler *
handler_find(const char *name)
{
	ListCell *cell;

	foreach(cell, setup_cache_entries(&handlers))
		if (strcmp(((Handler *) lfirst(cell))->name, name) == 0)
			return copy_handler(lfirst(cell));
	return NULL;
}

/* ---- a call ---- */

typedef struct Call
{
	const Handler *handler;
	Event *event;
	void (*afterwards)(void *); /* in the same subtransaction, or NULL */
	void *arg;
} Call;

static void
gone(const Handler *handler, const char *what, const char *name)
{
	ereport(
		ERROR,
		(errcode(ERRCODE_NO_SUCH_NAME),
		 errmsg("%s %s of handler \"%s\" does not exist", what, name,
				handler->name),
		 errhint(
			 "Make it again, or drop the handler: SELECT stripe_sync.drop_handler(%s).",
			 quote_literal_cstr(handler->name))));
}

/*
 * The function that bears the name now, or InvalidOid.  Its schema need not be
 * ours to use.
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
 * What keeps a handler from running until somebody registers it again?  It
 * spends no tries meanwhile.
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

static Oid
resolve_function(const Handler *handler, Oid role)
{
	Oid function = find_function(handler);

	if (!OidIsValid(function))
		gone(handler, "function", handler->function);
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
				 "Look at the function; then call stripe_sync.add_handler(%s, ...) again.",
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

static void
call_body(void *arg)
{
	Call *call = arg;
	Oid role = get_role_oid(call->handler->role, true);
	Oid function;
	RoleScope scope;

	check_stopped(call->handler);
	if (!OidIsValid(role))
		gone(call->handler, "role", call->handler->role);
	function = resolve_function(call->handler, role);
	scope = role_enter_writing(role, call->handler->search_path);
	run_function(function, call->event->document);
	role_leave(&scope);
	timed_check();
	if (call->afterwards != NULL)
		call->afterwards(call->arg);
}

/*
 * Run a handler on an event, in a subtransaction, and what comes "afterwards"
 * in the same.  False, with the error, when it failed and is undone.
 */
bool
handler_attempt(const Handler *handler, Event *event,
				void (*afterwards)(void *), void *arg, ErrorData **error)
{
	Call call = {handler, event, afterwards, arg};

	CommandCounterIncrement(); /* it sees what was done before it */
	return timed_run(
		call_body, &call, "the handler",
		"Register it with deferred => true and let it do less, or raise the time-out.",
		error);
}
