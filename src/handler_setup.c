/*
 * handler_setup.c
 *		Handlers are registered and forgotten.
 */
#include "stripe_sync.h"

#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

static char *
required(FunctionCallInfo fcinfo, int number, const char *what)
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

static void
check_names(const char *name, const char *event_type)
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
 * The function's qualified name and its owner's, when it may be a handler of
 * this role's.
 */
static char *
check_function(Oid function, char **owner)
{
	HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Form_pg_proc form;
	char *name;

	if (!OidIsValid(function))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("the function of a handler cannot be NULL")));
	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function with OID %u does not exist", function)));
	form = (Form_pg_proc) GETSTRUCT(tuple);
	name = quote_qualified_identifier(get_namespace_name(form->pronamespace),
									  NameStr(form->proname));
	if (form->prokind != PROKIND_FUNCTION || form->proretset ||
		form->pronargs != 1 || form->proargtypes.values[0] != JSONBOID ||
		form->prorettype != VOIDOID)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_FUNCTION_DEFINITION),
			 errmsg("function %s cannot be a handler", name),
			 errdetail("A handler takes the event (jsonb) and returns void.")));
	*owner = GetUserNameFromId(form->proowner, false);
	ReleaseSysCache(tuple);
	if (compat_function_aclcheck(function, GetUserId()) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FUNCTION, name);
	return name;
}

/*
 * What waits for a handler that was stopped, or whose function or a schema of
 * whose path was another role's, need not wait on.  The caller is connected to SPI.
 */
static void
hasten_waiting(Datum name)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.event SET next_attempt_at = pg_catalog.clock_timestamp()"
		" WHERE next_attempt_at OPERATOR(pg_catalog.>) pg_catalog.clock_timestamp()"
		" AND $1 OPERATOR(pg_catalog.=) ANY (todo)",
		1,
		{TEXTOID}};

	engine_run(&update, &name, NULL, SPI_OK_UPDATE);
	if (SPI_processed > 0)
		worker_wake_at_commit();
}

/* Is it registered for these events already?  Within an SPI connection. */
static bool
is_registered(Datum name, Datum event_type)
{
	static EngineStatement select = {
		"SELECT FROM stripe_sync.handler WHERE name OPERATOR(pg_catalog.=) $1"
		" AND event_type OPERATOR(pg_catalog.=) $2",
		2,
		{TEXTOID, TEXTOID}};
	Datum values[] = {name, event_type};

	engine_run(&select, values, NULL, SPI_OK_SELECT);
	return SPI_processed > 0;
}

/* add_handler(name, event_type, handler, deferred) */
ENGINE_FUNCTION(stripe_sync_add_handler)
{
	static EngineStatement upsert = {
		"INSERT INTO stripe_sync.handler"
		" (name, event_type, function, function_owner, role, search_path,"
		"  path_owners, deferred)"
		" VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
		" ON CONFLICT (name) DO UPDATE SET event_type = excluded.event_type,"
		" function = excluded.function, function_owner = excluded.function_owner,"
		" role = excluded.role, search_path = excluded.search_path,"
		" path_owners = excluded.path_owners, deferred = excluded.deferred,"
		" stopped_at = NULL",
		8,
		{TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTARRAYOID,
		 BOOLOID}};
	char *name = required(fcinfo, 0, "name");
	char *event_type = required(fcinfo, 1, "event type");
	char *owner;
	char *function = check_function(
		PG_ARGISNULL(2) ? InvalidOid : PG_GETARG_OID(2), &owner);
	NotedPath *path = path_resolved();
	Datum values[] = {CStringGetTextDatum(name),
					  CStringGetTextDatum(event_type),
					  CStringGetTextDatum(function),
					  CStringGetTextDatum(owner),
					  CStringGetTextDatum(GetUserNameFromId(GetUserId(), false)),
					  CStringGetTextDatum(path->names),
					  path_owners(path),
					  BoolGetDatum(!PG_ARGISNULL(3) && PG_GETARG_BOOL(3))};
	RoleScope scope;

	check_names(name, event_type);
	scope = role_enter_engine();
	SPI_connect();
	if (!is_registered(values[0], values[1]))
		event_type_remark(event_type, false);
	engine_run(&upsert, values, NULL, SPI_OK_INSERT);
	hasten_waiting(values[0]);
	SPI_finish();
	outbound_note_identity();
	role_leave(&scope);
	PG_RETURN_VOID();
}

void
handler_missing(const char *name)
{
	ereport(ERROR, (errcode(ERRCODE_NO_SUCH_NAME),
					errmsg("there is no handler \"%s\"", name),
					errhint("SELECT name FROM stripe_sync.handler shows all.")));
}

/* drop_handler(name) */
ENGINE_FUNCTION(stripe_sync_drop_handler)
{
	static EngineStatement drop = {
		"DELETE FROM stripe_sync.handler WHERE name OPERATOR(pg_catalog.=) $1",
		1,
		{TEXTOID}};
	Datum values[] = {CStringGetTextDatum(required(fcinfo, 0, "name"))};
	RoleScope scope = role_enter_engine();

	SPI_connect();
	engine_run(&drop, values, NULL, SPI_OK_DELETE);
	if (SPI_processed == 0)
		handler_missing(TextDatumGetCString(values[0]));
	record_handler_dropped(DatumGetTextPP(values[0]));
	SPI_finish();
	outbound_note_identity();
	role_leave(&scope);
	PG_RETURN_VOID();
}
