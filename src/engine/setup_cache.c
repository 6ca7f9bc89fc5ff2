/*
 * setup_cache.c
 *		A set-up table in memory: handlers, alerts.
 *
 * A table is read with the newest snapshot, so that a change of the set-up
 * takes effect as soon as it is committed.  An invalidation of any table of the
 * set-up makes the session read all of them again (engine_generation()).
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "engine/engine.h"
#include "engine/rights.h"
#include "engine/setup_cache.h"
#include "engine/statement.h"

static void
read_table(SetupCache *cache)
{
	Relation relation = table_open(engine_relation(cache->table),
								   AccessShareLock);
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	SysScanDesc scan = systable_beginscan(relation, InvalidOid, false, snapshot,
										  0, NULL);
	HeapTuple tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Rows row = rows_of_tuple(tuple, RelationGetDescr(relation));

		cache->entries = lappend(cache->entries, cache->read(&row));
	}
	engine_scan_end(scan, relation, snapshot);
}

/* An error on the way leaves the cache empty, to be read again. */
static void
reload(SetupCache *cache)
{
	uint64 generation = engine_generation();
	MemoryContext old;

	if (cache->memory == NULL)
		cache->memory = AllocSetContextCreate(
			TopMemoryContext, "stripe_sync set-up", ALLOCSET_SMALL_SIZES);
	cache->generation = 0;
	MemoryContextReset(cache->memory);
	cache->entries = NIL;
	old = MemoryContextSwitchTo(cache->memory);
	read_table(cache);
	list_sort(cache->entries, cache->compare);
	MemoryContextSwitchTo(old);
	cache->generation = generation;
}

List *
setup_cache_entries(SetupCache *cache)
{
	if (cache->generation != engine_generation())
		reload(cache);
	return cache->entries;
}
