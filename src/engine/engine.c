/*
 * engine.c
 *		Scans and plans of the extension's own tables, and the generation of its
 *		set-up, by which caches of them are invalidated.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "catalog/pg_collation.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "engine/engine.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "engine/internal.h"

PG_FUNCTION_INFO_V1(stripe_sync_config_changed);

static uint64 generation = 1;

/*
 * The time that is "interval" after now.  A day has 24 hours, whatever the time
 * zone of the session.
 */
TimestampTz
engine_time_after(const Interval *interval)
{
	return DatumGetTimestamp(DirectFunctionCall2(
		timestamp_pl_interval, TimestampGetDatum(GetCurrentTimestamp()),
		IntervalPGetDatum(interval)));
}

/*
 * Plans are kept for the session, and a table that is empty when a statement is
 * planned may have a million rows later.  So the worker's statements are planned
 * for indexes, whatever the size of the tables.  Must not be in force while a
 * user's code runs.
 */
static int
plan_settings(bool with_lock_timeout)
{
	static const char *const settings[][2] = {
		{"enable_seqscan", "off"},	 {"enable_bitmapscan", "off"},
		{"enable_sort", "off"},		 {"enable_hashjoin", "off"},
		{"enable_mergejoin", "off"}, {"jit", "off"}};
	int nest = NewGUCNestLevel();

	for (int i = 0; i < lengthof(settings); i++)
		(void) set_config_option(settings[i][0], settings[i][1], PGC_USERSET,
								 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	if (with_lock_timeout)
		(void) set_config_option("lock_timeout", "200ms", PGC_USERSET,
								 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	return nest;
}

/*
 * Have statements planned for indexes until plan_settings_restore(), which takes
 * the number that is returned.  An error restores the settings, too.
 */
int
plan_for_indexes(void)
{
	return plan_settings(false);
}

/* The same, with a lock_timeout of 200 ms: users' transactions may hold locks. */
int
plan_for_indexes_with_lock_timeout(void)
{
	return plan_settings(true);
}

/*
 * For a look at tables and catalogs that must be short: no lock is waited for, no
 * time is spent on compiling, no process is started.
 */
int
plan_for_a_look(void)
{
	static const char *const settings[][2] = {
		{"lock_timeout", "10ms"},
		{"jit", "off"},
		{"max_parallel_workers_per_gather", "0"}};
	int nest = NewGUCNestLevel();

	for (int i = 0; i < lengthof(settings); i++)
		(void) set_config_option(settings[i][0], settings[i][1], PGC_USERSET,
								 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	return nest;
}

/* Have statements planned for BRIN indexes, which only bitmap scans read. */
int
plan_for_brin(void)
{
	int nest = NewGUCNestLevel();

	(void) set_config_option("enable_seqscan", "off", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("enable_bitmapscan", "on", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	return nest;
}

void
plan_settings_restore(int nest)
{
	AtEOXact_GUC(true, nest);
}

/*
 * Begin a scan for the rows of a table that have this value in the first column
 * of an index.  "column" is 1 for that.  It uses the newest snapshot, so a change
 * of the set-up takes effect as soon as it is committed.  engine_scan_end() ends
 * it.
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

/*
 * A number that is incremented whenever a set-up table may have changed.  What
 * was read of them is valid while it stays the same.
 */
uint64
engine_generation(void)
{
	return generation;
}

/* Invalidation callback: a relation has changed; InvalidOid: any may have. */
static void
relation_changed(Datum arg, Oid relid)
{
	generation++;
	own_forget(relid);
}

/* Invalidation callback: a schema or a role has changed. */
static void
name_changed(Datum arg, int cacheid, uint32 hash)
{
	generation++;
	own_forget(InvalidOid);
}

/*
 * config_changed(): statement trigger of the set-up tables.  It invalidates the
 * relation cache entry of the table, which reaches every session at commit, and
 * so also after COPY and a restore.  It works at any catalog level, because a
 * change of the level is announced by it.
 */
Datum
stripe_sync_config_changed(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("config_changed() must be called as trigger")));
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
