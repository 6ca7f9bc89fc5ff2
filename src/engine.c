/*
 * engine.c
 *		Statements on the extension's own tables, and when what was cached of
 *		them must be read again.
 */
#include "stripe_sync.h"

#include "access/genam.h"
#include "access/table.h"
#include "catalog/pg_collation.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

PG_FUNCTION_INFO_V1(stripe_sync_config_changed);

static uint64 generation = 1;

/*
 * Run one of our statements; it is prepared once in a session and kept.  The
 * caller is connected to SPI and in the engine's RoleScope.
 */
void
engine_run(EngineStatement *statement, Datum *values, const char *nulls,
		   int expected)
{
	int code;

	if (statement->plan == NULL)
	{
		SPIPlanPtr plan = SPI_prepare(statement->sql, statement->nargs,
									  statement->types);

		if (plan == NULL || SPI_keepplan(plan) != 0)
			elog(ERROR, "could not prepare \"%s\": %s", statement->sql,
				 SPI_result_code_string(SPI_result));
		statement->plan = plan;
	}
	code = SPI_execute_plan(statement->plan, values, nulls, false, 0);
	if (code != expected)
		elog(ERROR, "\"%s\" ended with %s", statement->sql,
			 SPI_result_code_string(code));
}

/*
 * A column of a row that SPI has read.  What a statement selects from a user's
 * table is of another type once that is altered.
 */
Datum
engine_column(HeapTuple tuple, TupleDesc desc, int column, Oid type,
			  bool *isnull)
{
	if (SPI_gettypeid(desc, column) != type)
		ereport(
			ERROR,
			(errcode(ERRCODE_DATATYPE_MISMATCH),
			 errmsg("column \"%s\" is of type %s instead of %s",
					SPI_fname(desc, column),
					format_type_be(SPI_gettypeid(desc, column)),
					format_type_be(type)),
			 errhint(
				 "Change it back, or rename it and call stripe_sync.create_tables().")));
	return SPI_getbinval(tuple, desc, column, isnull);
}

/* The first value of the first row of what engine_run() has selected. */
Datum
engine_value(void)
{
	return SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1,
						 &(bool){false});
}

/*
 * The jsonb that a statement selects, in the memory of the caller's; NULL when it
 * selects no row.
 */
Jsonb *
engine_jsonb(EngineStatement *select, Datum *values, const char *nulls)
{
	MemoryContext context = CurrentMemoryContext;
	Jsonb *selected = NULL;

	SPI_connect();
	engine_run(select, values, nulls, SPI_OK_SELECT);
	if (SPI_processed > 0)
	{
		MemoryContext old = MemoryContextSwitchTo(context);

		selected = DatumGetJsonbPCopy(engine_value());
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	return selected;
}

/* What such a statement says, DT_NOEND for NULL: when something is due. */
TimestampTz
engine_first_time(EngineStatement *select)
{
	bool isnull;
	Datum due;

	engine_run(select, NULL, NULL, SPI_OK_SELECT);
	due = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1,
						&isnull);
	return isnull ? DT_NOEND : DatumGetTimestampTz(due);
}

/*
 * The time that is "interval" after now.  A day has 24 hours, as in UTC; in the
 * session's time zone it may have 23 or 25.
 */
TimestampTz
engine_time_after(const Interval *interval)
{
	return DatumGetTimestamp(DirectFunctionCall2(
		timestamp_pl_interval, TimestampGetDatum(GetCurrentTimestamp()),
		IntervalPGetDatum(interval)));
}

/*
 * Tables that are empty today hold a million rows tomorrow, and plans are kept:
 * the worker's statements are planned for their indexes whatever the tables
 * hold.  Never around code of a user's.
 */
static int
engine_settings(bool haste)
{
	static const char *const settings[][2] = {
		{"enable_seqscan", "off"},	 {"enable_bitmapscan", "off"},
		{"enable_sort", "off"},		 {"enable_hashjoin", "off"},
		{"enable_mergejoin", "off"}, {"jit", "off"}};
	int nest = NewGUCNestLevel();

	for (int i = 0; i < lengthof(settings); i++)
		(void) set_config_option(settings[i][0], settings[i][1], PGC_USERSET,
								 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	if (haste)
		(void) set_config_option("lock_timeout", "200ms", PGC_USERSET,
								 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	return nest;
}

int
engine_plan_for_indexes(void)
{
	return engine_settings(false);
}

/* The same, and no lock of a user's transaction is waited for very long. */
int
engine_plan_in_haste(void)
{
	return engine_settings(true);
}

void
engine_plan_as_before(int nest)
{
	AtEOXact_GUC(true, nest);
}

/*
 * All rows of one of our tables with this value in the first column of an index.
 * With the newest snapshot: set-up holds from the moment it is committed.
 */
SysScanDesc
engine_scan(const char *table, const char *index, AttrNumber column,
			const char *value, Relation *relation, Snapshot *snapshot)
{
	ScanKeyData key;

	*relation = table_open(engine_relation(table), AccessShareLock);
	ScanKeyInit(&key, column, BTEqualStrategyNumber, F_TEXTEQ,
				CStringGetTextDatum(value));
	key.sk_collation = DEFAULT_COLLATION_OID;
	*snapshot = RegisterSnapshot(GetLatestSnapshot());
	return systable_beginscan(*relation, engine_relation(index), true,
							  *snapshot, 1, &key);
}

void
engine_scan_end(SysScanDesc scan, Relation relation, Snapshot snapshot)
{
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(relation, AccessShareLock);
}

/* A number that rises whenever a table of our set-up may have changed. */
uint64
engine_generation(void)
{
	return generation;
}

/* Some relation has changed; InvalidOid: maybe all of them. */
static void
relation_changed(Datum arg, Oid relid)
{
	generation++;
	own_forget(relid);
}

/* A schema has another name or owner, a role is a superuser no more. */
static void
name_changed(Datum arg, int cacheid, uint32 hash)
{
	generation++;
	own_forget(InvalidOid);
}

/*
 * Statement trigger of the tables that hold set-up: tells every session, at
 * commit, to read it again.  It serves COPY and a restore as well, and is how
 * the catalog's level is told, so it works at any.
 */
Datum
stripe_sync_config_changed(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("config_changed can be called as a trigger only")));
	CacheInvalidateRelcache(((TriggerData *) fcinfo->context)->tg_relation);
	PG_RETURN_POINTER(NULL);
}

void
engine_init(void)
{
	CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(NAMESPACEOID, name_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHOID, name_changed, (Datum) 0);
}
