/*
 * handler_trial.c
 *		test_handler(): runs a handler on a stored event and rolls it back.
 *
 * The handler runs in a subtransaction as in receive(), with the same rights.
 * An error that is raised after it rolls everything back.  The tables that it
 * wrote are found by the statistics of the transaction, so they include those
 * that its triggers wrote.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/builtins.h"

#include "base/base.h"
#include "engine/engine.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "handler/handler.h"
#include "inbox/event.h"
#include "handler/internal.h"

/* What report_and_roll_back() needs. */
typedef struct Trial
{
	StringInfo report;
	MemoryContext context; /* of the report: outlives the subtransaction */
	List *before; /* of TableWrites: what the transaction wrote until then */
	TimestampTz started;
} Trial;

/* Rows of a table that the current transaction has written. */
typedef struct TableWrites
{
	Oid relid;
	char *name;
	int64 counts[3]; /* inserted, updated, deleted */
} TableWrites;

/* Tables that the transaction has written, by name; a list of TableWrites */
static List *
read_writes(void)
{
	static EngineStatement select = {
		"SELECT relid, pg_catalog.format('%I.%I', schemaname, relname), n_tup_ins, n_tup_upd, n_tup_del"
		"  FROM pg_catalog.pg_stat_xact_user_tables"
		" WHERE n_tup_ins + n_tup_upd + n_tup_del > 0 ORDER BY schemaname, relname"};
	RoleScope scope = role_enter_engine();
	List *writes = NIL;
	Rows rows;

	rows_open(&rows, &select, NO_ARGS);
	while (rows_next(&rows))
	{
		TableWrites *table = palloc(sizeof(TableWrites));

		table->relid = rows_oid(&rows);
		table->name = rows_text(&rows);
		for (int i = 0; i < 3; i++)
			table->counts[i] = rows_int8(&rows, 0);
		writes = lappend(writes, table);
	}
	rows_close(&rows);
	role_leave(&scope);
	return writes;
}

/* Of one kind (inserted, updated, deleted) */
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

/*
 * Called in the handler's subtransaction, after it: describe what it did, then
 * raise an error, which rolls all of it back.
 */
static void
report_and_roll_back(void *arg)
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

/*
 * test_handler(name, event_id): what the handler raised, how long it took, which
 * tables it wrote.  Raises SY005 if there is no such handler or event.
 */
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
	deferred_fire_callers(); /* an error of these is not the handler's */
	initStringInfo(&report);
	trial.before = read_writes();
	trial.started = GetCurrentTimestamp();
	(void) handler_attempt(handler, &event, report_and_roll_back, &trial,
						   &error);
	if (report.len == 0)
		appendStringInfo(&report, "it raised %s: %s, after %.1f ms%s%s",
						 unpack_sql_state(error->sqlerrcode), error->message,
						 milliseconds_since(trial.started),
						 error->context ? "\n" : "",
						 error->context ? error->context : "");
	role_leave(&scope);
	PG_RETURN_TEXT_P(cstring_to_text(report.data));
}
