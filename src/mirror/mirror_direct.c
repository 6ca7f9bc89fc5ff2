/*
 * mirror_direct.c
 *		One row of a plain mirror table (table_bind.c), read and written
 *		directly in the table and its indexes (direct_row.c).
 *
 * No right is needed, no trigger fires and no code of a user's runs.  The table
 * is locked and its definition was checked (table_cache_check()), so that
 * attribute numbers and the key's index are valid.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

#include "engine/engine.h"
#include "mirror/mirror.h"
#include "tables/tables.h"
#include "mirror/internal.h"

/*
 * Lock the row, if there is one, and read its state.  Waits for a transaction
 * that is writing it.  Only then may _data be read: it is detoasted from the
 * version that is locked.
 */
void
mirror_direct_lock(MirrorRow *row, bool with_data)
{
	AttrNumber attnums[2];
	Datum keys[2];
	int n = mirror_row_key(row->table, row->id, row->account, attnums, keys);
	MetaValues meta;

	if (!row_lock(row->target, n, keys))
		return;
	for (int i = 0; i < NSTATE_COLUMNS; i++)
	{
		MetaColumn column = mirror_state_columns[i];

		if (column != META_DATA || with_data)
			meta.values[column] = row_get(row->target, row->table->meta[column],
										  &meta.nulls[column]);
	}
	mirror_state_decode(&meta, &row->state, with_data ? &row->data : NULL);
}

/*
 * Insert or update the row with values by attribute number.  Returns false if
 * another transaction has inserted the row, after waiting for its end.
 */
bool
mirror_direct_write(MirrorRow *row, const Datum *values, const bool *nulls)
{
	if (!row->state.found)
		return row_insert(row->target, values, nulls);
	row_update(row->target, values, nulls);
	return true;
}

/* Update only the tombstone and _synced_at of the locked row. */
void
mirror_direct_set_deleted(MirrorRow *row, bool deleted, TimestampTz deleted_at)
{
	MirrorTable *table = row->table;
	Datum *values = palloc(table->natts * sizeof(Datum));
	bool *nulls = palloc(table->natts * sizeof(bool));
	int column = table->meta[META_DELETED_AT] - 1;

	row_values(row->target, values, nulls);
	values[column] = TimestampTzGetDatum(deleted_at);
	nulls[column] = !deleted;
	values[table->meta[META_SYNCED_AT] - 1] = TimestampTzGetDatum(
		GetCurrentTimestamp());
	row_update(row->target, values, nulls);
}

static void
read_tuple(const MirrorTable *table, HeapTuple tuple, TupleDesc desc,
		   MirrorState *state, Jsonb **data)
{
	MetaValues meta;

	for (int i = 0; i < NSTATE_COLUMNS; i++)
	{
		MetaColumn column = mirror_state_columns[i];

		meta.values[column] = heap_getattr(tuple, table->meta[column], desc,
										   &meta.nulls[column]);
	}
	mirror_state_decode(&meta, state, data);
}

/*
 * Read a row without locking it, as it is committed now or written by this
 * transaction: the newest snapshot is used, not that of the transaction.
 */
void
mirror_direct_peek(MirrorTable *table, const char *id, const char *account,
				   MirrorState *state, Jsonb **data)
{
	Relation relation = table_open(table->relid, NoLock);
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	AttrNumber attnums[2];
	Datum values[2];
	ScanKeyData keys[2];
	int n = mirror_row_key(table, id, account, attnums, values);
	SysScanDesc scan;
	HeapTuple tuple;

	for (int i = 0; i < n; i++)
	{
		ScanKeyInit(&keys[i], attnums[i], BTEqualStrategyNumber, F_TEXTEQ,
					values[i]);
		keys[i].sk_collation = TupleDescAttr(RelationGetDescr(relation),
											 attnums[i] - 1)
								   ->attcollation;
	}
	scan = systable_beginscan(relation, table->key_index, true, snapshot, n,
							  keys);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		read_tuple(table, tuple, RelationGetDescr(relation), state, data);
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(relation, NoLock);
}

/*
 * Is there a row that the table's policies hide from its owner?  The scan of the
 * key's index applies no policy.  False where the table cannot be scanned
 * without code of a user's.
 */
bool
mirror_hides(MirrorTable *table, const char *id, const char *account)
{
	MirrorState state = {0};

	if (!table_has_forced_policy(table) || !table->can_be_scanned)
		return false;
	mirror_direct_peek(table, id, account, &state, NULL);
	return state.found;
}
