/*
 * handler.c
 *		The user's functions that run on events.
 *
 * A handler runs as the role that registered it, with the search_path of that
 * moment, never with more rights: what it defers fires under that role too.
 * Functions and roles are kept by name and resolved at each call, as a dump
 * and a restore need.
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
#include "parser/parse_func.h"
#include "storage/latch.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/regproc.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timeout.h"

PG_FUNCTION_INFO_V1(stripe_sync_add_handler);
PG_FUNCTION_INFO_V1(stripe_sync_drop_handler);
PG_FUNCTION_INFO_V1(stripe_sync_test_handler);

/* All handlers, sorted by name; read again when set-up changed. */
static MemoryContext handlers_memory = NULL;
static List *handlers = NIL;
static uint64 handlers_generation = 0;

/* The timer of handler_timeout.  Nested handlers live under the outermost's. */
static TimeoutId timer = MAX_TIMEOUTS;
static int timer_depth = 0;
static volatile sig_atomic_t timer_fired = false;

/* ---- the list ---- */

static char *
column_text(HeapTuple tuple, TupleDesc desc, int column)
{
	bool isnull;
	Datum value = heap_getattr(tuple, column, desc, &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}

static Handler *
read_handler(HeapTuple tuple, TupleDesc desc)
{
	Handler *handler = palloc0(sizeof(Handler));
	bool isnull;

	handler->name = column_text(tuple, desc, 1);
	handler->event_type = column_text(tuple, desc, 2);
	handler->function = column_text(tuple, desc, 3);
	handler->role = column_text(tuple, desc, 4);
	handler->search_path = column_text(tuple, desc, 5);
	handler->deferred = DatumGetBool(heap_getattr(tuple, 6, desc, &isnull));
	return handler;
}

static int
compare_names(const ListCell *a, const ListCell *b)
{
	return strcmp(((Handler *) lfirst(a))->name, ((Handler *) lfirst(b))->name);
}

/* With the newest snapshot: set-up holds from the moment it is committed. */
static void
load_handlers(void)
{
	uint64 generation = engine_generation();
	Relation relation = table_open(engine_relation("handler"), AccessShareLock);
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	SysScanDesc scan = systable_beginscan(relation, InvalidOid, false, snapshot,
										  0, NULL);
	MemoryContext old;
	HeapTuple tuple;

	if (handlers_memory == NULL)
		handlers_memory = AllocSetContextCreate(
			TopMemoryContext, "stripe_sync handlers", ALLOCSET_SMALL_SIZES);
	handlers_generation = 0;
	MemoryContextReset(handlers_memory);
	handlers = NIL;
	old = MemoryContextSwitchTo(handlers_memory);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		handlers = lappend(handlers,
						   read_handler(tuple, RelationGetDescr(relation)));
	list_sort(handlers, compare_names);
	MemoryContextSwitchTo(old);
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(relation, AccessShareLock);
	handlers_generation = generation;
}

static Handler *
copy_handler(const Handler *handler)
{
	Handler *copy = palloc(sizeof(Handler));

	copy->name = pstrdup(handler->name);
	copy->event_type = pstrdup(handler->event_type);
	copy->function = pstrdup(handler->function);
	copy->role = pstrdup(handler->role);
	copy->search_path = pstrdup(handler->search_path);
	copy->deferred = handler->deferred;
	return copy;
}

/* Copies, by name, of the handlers that an event type is for. */
List *
handler_matching(const char *event_type)
{
	List *matching = NIL;
	ListCell *cell;

	if (handlers_generation != engine_generation())
		load_handlers();
	foreach(cell, handlers)
		if (event_type_fits(event_type, ((Handler *) lfirst(cell))->event_type))
			matching = lappend(matching, copy_handler(lfirst(cell)));
	return matching;
}

/* A copy, or NULL. */
Handler *
handler_find(const char *name)
{
	ListCell *cell;

	if (handlers_generation != engine_generation())
		load_handlers();
	foreach(cell, handlers)
		if (strcmp(((Handler *) lfirst(cell))->name, name) == 0)
			return copy_handler(lfirst(cell));
	return NULL;
}

/* ---- the timer ---- */

static void
timer_expired(void)
{
	timer_fired = true;
	InterruptPending = true;
	QueryCancelPending = true;
	SetLatch(MyLatch);
}

static void
timer_start(void)
{
	if (timer_depth++ > 0)
		return;
	timer_fired = false;
	if (guc_handler_timeout == 0)
		return;
	if (timer == MAX_TIMEOUTS)
		timer = RegisterTimeout(USER_TIMEOUT, timer_expired);
	enable_timeout_after(timer, guc_handler_timeout);
}

/* Has the time been exceeded?  An interrupt that only we asked for is dropped. */
static bool
timer_stop(void)
{
	if (--timer_depth == 0 && timer != MAX_TIMEOUTS)
		disable_timeout(timer, false);
	if (timer_fired && QueryCancelPending &&
		!get_timeout_indicator(STATEMENT_TIMEOUT, false) &&
		!get_timeout_indicator(LOCK_TIMEOUT, false))
		QueryCancelPending = false;
	return timer_fired;
}

/* Was it our timer that cancelled, and not the caller's? */
static bool
cancelled_by_timer(const ErrorData *error)
{
	return timer_fired && error->sqlerrcode == ERRCODE_QUERY_CANCELED &&
		   error->message_id != NULL &&
		   strcmp(error->message_id,
				  "canceling statement due to user request") == 0;
}

/* ---- a call ---- */

typedef struct Call
{
	const Handler *handler;
	Event *event;
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

static Oid
resolve_function(const Handler *handler, Oid role)
{
	Oid arguments[] = {JSONBOID};
	List *names = compat_string_to_names(handler->function);
	Oid function = LookupFuncName(names, 1, arguments, true);

	if (!OidIsValid(function) || get_func_rettype(function) != VOIDOID)
		gone(handler, "function", handler->function);
	if (compat_function_aclcheck(function, role) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FUNCTION, handler->function);
	return function;
}

static void
call_body(void *arg)
{
	Call *call = arg;
	Oid role = get_role_oid(call->handler->role, true);
	Oid function;
	FmgrInfo info;
	RoleScope scope;

	if (!OidIsValid(role))
		gone(call->handler, "role", call->handler->role);
	function = resolve_function(call->handler, role);
	scope = role_enter(role, call->handler->search_path);
	fmgr_info(function, &info);
	{
		LOCAL_FCINFO(fcinfo, 1);

		InitFunctionCallInfoData(*fcinfo, &info, 1, InvalidOid, NULL, NULL);
		fcinfo->args[0].value = JsonbPGetDatum(call->event->document);
		fcinfo->args[0].isnull = false;
		(void) FunctionCallInvoke(fcinfo);
	}
	role_fire_deferred();
	role_leave(&scope);
	if (timer_fired) /* it caught the cancel, or just made it */
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED),
				 errmsg_internal("canceling statement due to user request")));
}

/* Say what it was, not how it was done. */
static void
explain_timeout(ErrorData *error)
{
	error->message = psprintf(
		"the handler ran longer than stripe_sync.handler_timeout (%d ms)",
		guc_handler_timeout);
	error->hint = pstrdup(
		"Register it with deferred => true and let it do less, or raise the time-out.");
}

/*
 * Run a handler on an event, in a subtransaction.  False, with the error, when
 * it failed and is undone.
 */
bool
handler_attempt(const Handler *handler, Event *event, ErrorData **error)
{
	Call call = {handler, event};
	volatile bool done = false;

	CommandCounterIncrement(); /* it sees what was done before it */
	timer_start();
	PG_TRY();
	{
		done = step_guard(call_body, &call, cancelled_by_timer, error);
	}
	PG_FINALLY();
	{
		if (timer_stop() && *error != NULL && cancelled_by_timer(*error))
			explain_timeout(*error);
	}
	PG_END_TRY();
	return done;
}

/* ---- set-up ---- */

static void
check_names(const char *name, const char *event_type)
{
	if (name[0] == '\0' || strlen(name) > 63)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("a handler must have a name of 1 to 63 bytes")));
	if (strcmp(name, STEP_MIRROR) == 0 || strcmp(name, "alerts") == 0)
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

/* The function's qualified name, when it may be a handler of this role's. */
static char *
check_function(Oid function)
{
	HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Form_pg_proc form;
	char *name;

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
	ReleaseSysCache(tuple);
	if (compat_function_aclcheck(function, GetUserId()) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FUNCTION, name);
	return name;
}

/* add_handler(name, event_type, handler, deferred) */
Datum
stripe_sync_add_handler(PG_FUNCTION_ARGS)
{
	static EngineStatement upsert = {
		"INSERT INTO stripe_sync.handler"
		" (name, event_type, function, role, search_path, deferred)"
		" VALUES ($1, $2, $3, $4, $5, $6)"
		" ON CONFLICT (name) DO UPDATE SET event_type = excluded.event_type,"
		" function = excluded.function, role = excluded.role,"
		" search_path = excluded.search_path, deferred = excluded.deferred",
		6,
		{TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, BOOLOID}};
	char *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char *event_type = text_to_cstring(PG_GETARG_TEXT_PP(1));
	char *function = check_function(PG_GETARG_OID(2));
	Datum values[] = {CStringGetTextDatum(name),
					  CStringGetTextDatum(event_type),
					  CStringGetTextDatum(function),
					  CStringGetTextDatum(GetUserNameFromId(GetUserId(), false)),
					  CStringGetTextDatum(role_current_path()),
					  PG_GETARG_DATUM(3)};
	RoleScope scope;

	check_names(name, event_type);
	scope = role_enter_engine();
	SPI_connect();
	engine_run(&upsert, values, NULL, SPI_OK_INSERT);
	SPI_finish();
	role_leave(&scope);
	PG_RETURN_VOID();
}

static void
no_such_handler(const char *name)
{
	ereport(ERROR, (errcode(ERRCODE_NO_SUCH_NAME),
					errmsg("there is no handler \"%s\"", name),
					errhint("SELECT name FROM stripe_sync.handler shows all.")));
}

/* drop_handler(name) */
Datum
stripe_sync_drop_handler(PG_FUNCTION_ARGS)
{
	static EngineStatement drop = {
		"DELETE FROM stripe_sync.handler WHERE name OPERATOR(pg_catalog.=) $1",
		1,
		{TEXTOID}};
	Datum values[] = {PG_GETARG_DATUM(0)};
	RoleScope scope = role_enter_engine();

	SPI_connect();
	engine_run(&drop, values, NULL, SPI_OK_DELETE);
	if (SPI_processed == 0)
		no_such_handler(TextDatumGetCString(values[0]));
	SPI_finish();
	role_leave(&scope);
	PG_RETURN_VOID();
}

/* ---- test_handler ---- */

typedef struct TestCall
{
	Call call;
	StringInfo report;
	MemoryContext context;
	List *before; /* of TableWrites */
	TimestampTz started;
} TestCall;

/* Rows of a table that this session has written and not yet reported. */
typedef struct TableWrites
{
	Oid relid;
	char *name;
	int64 counts[3]; /* inserted, updated, deleted */
} TableWrites;

static List *
read_writes(void)
{
	static EngineStatement select = {
		"SELECT relid, pg_catalog.format('%I.%I', schemaname, relname), n_tup_ins, n_tup_upd, n_tup_del"
		"  FROM pg_catalog.pg_stat_xact_user_tables"
		" WHERE n_tup_ins OPERATOR(pg_catalog.+) n_tup_upd OPERATOR(pg_catalog.+) n_tup_del"
		" OPERATOR(pg_catalog.>) 0 ORDER BY schemaname, relname"};
	MemoryContext context = CurrentMemoryContext;
	RoleScope scope = role_enter_engine();
	List *writes = NIL;

	SPI_connect();
	engine_run(&select, NULL, NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple tuple = SPI_tuptable->vals[i];
		TupleDesc desc = SPI_tuptable->tupdesc;
		MemoryContext old = MemoryContextSwitchTo(context);
		TableWrites *table = palloc(sizeof(TableWrites));
		bool isnull;

		table->relid = DatumGetObjectId(SPI_getbinval(tuple, desc, 1, &isnull));
		table->name = SPI_getvalue(tuple, desc, 2);
		for (int j = 0; j < 3; j++)
			table->counts[j] = DatumGetInt64(
				SPI_getbinval(tuple, desc, 3 + j, &isnull));
		writes = lappend(writes, table);
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	role_leave(&scope);
	return writes;
}

static int64
writes_before(List *before, Oid relid, int kind)
{
	ListCell *cell;

	foreach(cell, before)
		if (((TableWrites *) lfirst(cell))->relid == relid)
			return ((TableWrites *) lfirst(cell))->counts[kind];
	return 0;
}

/* "a.b (2 inserted), c.d (1 updated)", of what was written since "before" */
static void
append_writes(StringInfo report, List *before)
{
	static const char *const kinds[] = {"inserted", "updated", "deleted"};
	int tables = 0;
	ListCell *cell;

	foreach(cell, read_writes())
	{
		TableWrites *table = lfirst(cell);
		int named = 0;

		for (int i = 0; i < 3; i++)
		{
			int64 rows = table->counts[i] -
						 writes_before(before, table->relid, i);

			if (rows == 0)
				continue;
			if (named++ == 0)
				appendStringInfo(report, "%s%s (", tables++ ? ", " : "",
								 table->name);
			else
				appendStringInfoString(report, ", ");
			appendStringInfo(report, INT64_FORMAT " %s", rows, kinds[i]);
		}
		if (named > 0)
			appendStringInfoChar(report, ')');
	}
	if (tables == 0)
		appendStringInfoString(report, "no table");
}

/* Tells what the handler did and then fails, so that all of it is undone. */
static void
test_body(void *arg)
{
	TestCall *test = arg;
	MemoryContext old;

	call_body(&test->call);
	old = MemoryContextSwitchTo(test->context);
	appendStringInfo(test->report, "it raised nothing, took %.1f ms and wrote ",
					 (GetCurrentTimestamp() - test->started) / 1000.0);
	append_writes(test->report, test->before);
	appendStringInfoString(test->report, "; all of it is rolled back");
	MemoryContextSwitchTo(old);
	ereport(ERROR, (errcode(ERRCODE_SUCCESSFUL_COMPLETION),
					errmsg_internal("rolled back")));
}

/* test_handler(name, event_id): runs it on a stored event and rolls back */
Datum
stripe_sync_test_handler(PG_FUNCTION_ARGS)
{
	char *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char *event_id = text_to_cstring(PG_GETARG_TEXT_PP(1));
	RoleScope scope = role_enter_engine();
	Handler *handler = handler_find(name);
	StringInfoData report;
	TestCall test;
	Event event;
	ErrorData *volatile error = NULL;
	ErrorData *caught = NULL;

	if (handler == NULL)
		no_such_handler(name);
	if (!inbox_load(event_id, NULL, &event))
		ereport(ERROR, (errcode(ERRCODE_NO_SUCH_NAME),
						errmsg("there is no event \"%s\"", event_id)));
	initStringInfo(&report);
	test.call = (Call){handler, &event};
	test.report = &report;
	test.context = CurrentMemoryContext;
	test.before = read_writes();
	test.started = GetCurrentTimestamp();
	timer_start();
	PG_TRY();
	{
		(void) step_guard(test_body, &test, cancelled_by_timer, &caught);
		error = caught;
	}
	PG_FINALLY();
	{
		if (timer_stop() && error != NULL && cancelled_by_timer(error))
			explain_timeout(error);
	}
	PG_END_TRY();
	if (report.len == 0)
		appendStringInfo(&report, "it raised %s: %s, after %.1f ms%s%s",
						 unpack_sql_state(error->sqlerrcode), error->message,
						 (GetCurrentTimestamp() - test.started) / 1000.0,
						 error->context ? "\n" : "",
						 error->context ? error->context : "");
	role_leave(&scope);
	PG_RETURN_TEXT_P(cstring_to_text(report.data));
}
