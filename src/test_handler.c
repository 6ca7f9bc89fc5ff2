/*
 * test_handler.c
 *		A handler is tried on a stored event, and all it did is rolled back.
 */
#include "stripe_sync.h"

#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"

/* A trial that is under way. */
typedef struct Trial
{
	StringInfo report;
	MemoryContext context;
	List *before; /* of TableWrites */
	TimestampTz started;
} Trial;

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

static double
milliseconds_since(TimestampTz started)
{
	return (GetCurrentTimestamp() - started) / 1000.0;
}

/* Tells what the handler did and then fails, so that all of it is undone. */
static void
tell_and_undo(void *arg)
{
	Trial *trial = arg;
	double took = milliseconds_since(trial->started);
	MemoryContext old = MemoryContextSwitchTo(trial->context);

	appendStringInfo(trial->report,
					 "it raised nothing, took %.1f ms and wrote ", took);
	append_writes(trial->report, trial->before);
	appendStringInfoString(trial->report, "; all of it is rolled back");
	MemoryContextSwitchTo(old);
	ereport(ERROR, (errcode(ERRCODE_SUCCESSFUL_COMPLETION),
					errmsg_internal("rolled back")));
}

/* test_handler(name, event_id): runs it on a stored event and rolls back */
ENGINE_FUNCTION(stripe_sync_test_handler)
{
	char *name;
	char *event_id;
	RoleScope scope;
	Handler *handler;
	StringInfoData report;
	Trial trial = {&report, CurrentMemoryContext, NIL, 0};
	ErrorData *error = NULL;
	Event event;

	argument_required(fcinfo, 0, "a handler's name");
	argument_required(fcinfo, 1, "an event's id");
	name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	event_id = text_to_cstring(PG_GETARG_TEXT_PP(1));
	scope = role_enter_engine();
	handler = handler_find(name);
	if (handler == NULL)
		handler_missing(name);
	if (!event_load(event_id, NULL, &event))
		event_missing(event_id);
	deferred_fire_callers(); /* what it raises is the caller's */
	initStringInfo(&report);
	trial.before = read_writes();
	trial.started = GetCurrentTimestamp();
	(void) handler_attempt(handler, &event, tell_and_undo, &trial, &error);
	if (report.len == 0)
		appendStringInfo(&report, "it raised %s: %s, after %.1f ms%s%s",
						 unpack_sql_state(error->sqlerrcode), error->message,
						 milliseconds_since(trial.started),
						 error->context ? "\n" : "",
						 error->context ? error->context : "");
	role_leave(&scope);
	PG_RETURN_TEXT_P(cstring_to_text(report.data));
}
