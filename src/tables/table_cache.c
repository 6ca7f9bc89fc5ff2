/*
 * table_cache.c
 *		The definitions of mirror tables, cached for the session.
 *
 * A definition is read once and kept until the relation cache invalidates the
 * table or the notes (table_note.c).  Before it is used, the table is locked as
 * strongly as the step needs: the definition of a table that is not locked may
 * be out of date before it is used.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "executor/spi.h"
#include "utils/inval.h"
#include "utils/memutils.h"

#include "engine/rights.h"
#include "tables/tables.h"
#include "types/types.h"
#include "tables/internal.h"

static MirrorTable **tables = NULL; /* by index of the type */

static void
table_cache_free(MirrorTable *table)
{
	for (int i = 0; i < NSQL; i++)
		if (table->plans[i] != NULL)
			SPI_freeplan(table->plans[i]);
	MemoryContextDelete(table->memory);
}

/*
 * A pinned table is not freed when it is invalidated: a user's trigger may
 * receive another event while the outer one is being written.  A pin that an
 * error leaves behind leaks the memory of one table.
 */
void
table_cache_pin(MirrorTable *table)
{
	table->pins++;
}

void
table_cache_unpin(MirrorTable *table)
{
	table->pins--;
}

static LOCKMODE
lock_for(TableUse use)
{
	return use == TABLE_WRITE && !RecoveryInProgress() ? RowExclusiveLock
													   : AccessShareLock;
}

/*
 * The type's table, locked for its use; NULL when this database has none.  The
 * first call of a step must name the strongest use: a transaction that locks a
 * table weakly and then strongly deadlocks with DDL on it.
 */
MirrorTable *
table_cache_find(const CatalogType *type, TableUse use)
{
	int i = type - catalog_types;
	Oid relid;

	if (tables == NULL)
		tables = MemoryContextAllocZero(TopMemoryContext,
										catalog_ntypes * sizeof(MirrorTable *));
	relid = table_lock(type, lock_for(use));
	if (tables[i] != NULL && (!tables[i]->valid || tables[i]->relid != relid))
	{
		if (tables[i]->pins == 0)
			table_cache_free(tables[i]);
		tables[i] = NULL;
	}
	if (OidIsValid(relid) && tables[i] == NULL)
		tables[i] = table_bind(type, relid);
	return tables[i];
}

static bool
same_shape(const MirrorTable *a, const MirrorTable *b)
{
	if (a->owner != b->owner || a->runs_code != b->runs_code ||
		a->plain != b->plain || a->natts != b->natts ||
		a->ncolumns != b->ncolumns || a->key_index != b->key_index ||
		memcmp(a->meta, b->meta, sizeof(a->meta)) != 0)
		return false;
	for (int i = 0; i < a->ncolumns; i++)
		if (a->columns[i].attnum != b->columns[i].attnum ||
			a->columns[i].kind != b->columns[i].kind)
			return false;
	return true;
}

/*
 * Raise an error unless the table still has the definition that was found.
 * Other sessions cannot have changed it, because it is locked; a user's code
 * that this transaction runs can.
 */
void
table_cache_check(MirrorTable *table)
{
	MirrorTable *now;
	bool same;

	if (table->valid)
		return;
	now = table_bind(table->type, table->relid);
	same = same_shape(table, now);
	table_cache_free(now);
	if (!same)
		ereport(
			ERROR,
			(errcode(ERRCODE_OBJECT_IN_USE),
			 errmsg("table %s.%s was changed while an event was written to it",
					MIRROR_SCHEMA, table->type->table),
			 errhint("Do not alter mirror tables in their own triggers.")));
	table->valid = true;
}

static void
table_cache_invalidate(Datum arg, Oid relid)
{
	bool all = relid == InvalidOid || table_note_is(relid);

	for (int i = 0; tables != NULL && i < catalog_ntypes; i++)
		if (tables[i] != NULL && (all || tables[i]->relid == relid))
			tables[i]->valid = false;
}

void
table_cache_init(void)
{
	CacheRegisterRelcacheCallback(table_cache_invalidate, (Datum) 0);
}
