/*
 * direct_row.c
 *		Writes one row directly into a table and its indexes, without SQL.
 *
 * It is used for the inbox, and for mirror tables that are as the extension has
 * created them.  Tables with a user's triggers, rules, defaults, checks or
 * expressions are written by SQL instead.  No privilege is checked, and no code
 * of a user runs.
 *
 * An insert is speculative, as in ON CONFLICT DO NOTHING: it waits for a
 * transaction that is inserting the same key, and reports whether that one has
 * committed.  Every unique index on the key's columns is an arbiter, because
 * REINDEX CONCURRENTLY makes a second one.
 *
 * A row is locked in its last version: the one that the newest snapshot finds by
 * the key, and from there along its updates.  Two transactions that insert the
 * same key meet in the speculative insert; the loser locks the winner's row,
 * which waits for its commit, and decides anew.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/sysattr.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "executor/nodeModifyTable.h"
#include "miscadmin.h"
#include "rewrite/rewriteHandler.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "engine/engine.h"

struct RowTarget
{
	Relation relation;
	int natts; /* columns that the caller knows; users may have added more */
	Relation key;
	List *arbiters; /* OIDs of unique indexes on the key's columns */
	EState *estate;
	ResultRelInfo *info;
	TupleTableSlot *slot;  /* what is to be written */
	TupleTableSlot *found; /* what row_lock() locked */
};

/* Have all these indexes only columns of the primary key? */
static bool
are_on_key(Relation relation, List *indexes)
{
	Bitmapset *key = RelationGetIndexAttrBitmap(relation,
												INDEX_ATTR_BITMAP_PRIMARY_KEY);
	bool on_key = true;
	ListCell *cell;

	foreach(cell, indexes)
	{
		Relation index = index_open(lfirst_oid(cell), AccessShareLock);

		for (int i = 0; i < index->rd_index->indnkeyatts; i++)
			on_key = on_key &&
					 bms_is_member(index->rd_index->indkey.values[i] -
									   FirstLowInvalidHeapAttributeNumber,
								   key);
		index_close(index, AccessShareLock);
	}
	bms_free(key);
	return on_key;
}

/*
 * Does a write fire triggers, or defer checks?  Foreign keys that reference the
 * primary key do not, because a write never changes it.  Those that reference
 * other columns do.
 */
bool
row_fires(Relation relation)
{
	TriggerDesc *triggers = relation->trigdesc;
	List *referenced = NIL; /* the triggers may move when an index is opened */

	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		Trigger *trigger = &triggers->triggers[i];

		if (!trigger->tgisinternal ||
			RI_FKey_trigger_type(trigger->tgfoid) != RI_TRIGGER_PK)
			return true;
		referenced = list_append_unique_oid(referenced, trigger->tgconstrindid);
	}
	return referenced != NIL && !are_on_key(relation, referenced);
}

/* Is the index unique on the same columns as the key, with the same equality? */
static bool
is_arbiter(Relation index, const IndexInfo *info, Relation key)
{
	int n = key->rd_index->indnkeyatts;

	if (!info->ii_Unique || !index->rd_index->indimmediate ||
		info->ii_Expressions != NIL || info->ii_Predicate != NIL ||
		index->rd_index->indnkeyatts != n)
		return false;
	for (int i = 0; i < n; i++)
		if (index->rd_index->indkey.values[i] != key->rd_index->indkey.values[i] ||
			index->rd_indcollation[i] != key->rd_indcollation[i] ||
			index->rd_opfamily[i] != key->rd_opfamily[i])
			return false;
	return true;
}

static void
find_arbiters(RowTarget *target, Oid key_index)
{
	ResultRelInfo *info = target->info;

	for (int i = 0; i < info->ri_NumIndices; i++)
		if (RelationGetRelid(info->ri_IndexRelationDescs[i]) == key_index)
			target->key = info->ri_IndexRelationDescs[i];
	if (target->key == NULL)
		elog(ERROR, "index %u is not one of table \"%s\"", key_index,
			 RelationGetRelationName(target->relation));
	for (int i = 0; i < info->ri_NumIndices; i++)
	{
		Relation index = info->ri_IndexRelationDescs[i];

		if (is_arbiter(index, info->ri_IndexRelationInfo[i], target->key))
			target->arbiters = lappend_oid(target->arbiters,
										   RelationGetRelid(index));
	}
}

/*
 * Open a table for writing, in ROW EXCLUSIVE mode until the transaction ends.
 * key_index is the index of its key.  The caller knows the first "natts" columns;
 * the others get the values that INSERT would give them.  Raises 25006 in a
 * read-only transaction and during recovery.
 */
RowTarget *
row_open(Oid relid, Oid key_index, int natts)
{
	RowTarget *target = palloc0(sizeof(RowTarget));

	PreventCommandIfReadOnly("INSERT"); /* as the executor would */
	target->relation = table_open(relid, RowExclusiveLock);
	target->natts = natts;
	target->estate = CreateExecutorState();
	compat_init_range_table(target->estate, target->relation);
	target->info = makeNode(ResultRelInfo);
	InitResultRelInfo(target->info, target->relation, 1, NULL, 0);
	ExecOpenIndices(target->info, true);
	find_arbiters(target, key_index);
	target->slot = table_slot_create(target->relation,
									 &target->estate->es_tupleTable);
	target->found = table_slot_create(target->relation,
									  &target->estate->es_tupleTable);
	return target;
}

void
row_close(RowTarget *target)
{
	ExecCloseIndices(target->info);
	ExecResetTupleTable(target->estate->es_tupleTable, false);
	FreeExecutorState(target->estate);
	table_close(target->relation, NoLock); /* until the transaction's end */
	pfree(target);
}

/* The value that INSERT gives to a column that the caller doesn't know */
static void
fill_default(RowTarget *target, int i)
{
	TupleTableSlot *slot = target->slot;
	Form_pg_attribute attribute = TupleDescAttr(slot->tts_tupleDescriptor, i);
	Expr *expression = NULL;

	if (!attribute->attisdropped && !attribute->attgenerated)
		expression = (Expr *) build_column_default(target->relation, i + 1);
	slot->tts_isnull[i] = true;
	if (expression != NULL)
		slot->tts_values[i] = ExecEvalExprSwitchContext(
			ExecPrepareExpr(expression, target->estate),
			GetPerTupleExprContext(target->estate), &slot->tts_isnull[i]);
}

/* Fill in the columns that the caller knows.  Returns the number of all columns. */
static int
fill_known(RowTarget *target, const Datum *values, const bool *nulls)
{
	TupleTableSlot *slot = target->slot;
	int natts = slot->tts_tupleDescriptor->natts;

	if (natts < target->natts)
		elog(ERROR, "table \"%s\" has %d columns instead of %d",
			 RelationGetRelationName(target->relation), natts, target->natts);
	ExecClearTuple(slot);
	memcpy(slot->tts_values, values, target->natts * sizeof(Datum));
	memcpy(slot->tts_isnull, nulls, target->natts * sizeof(bool));
	slot->tts_tableOid = RelationGetRelid(target->relation);
	return natts;
}

static void
fill_new(RowTarget *target, const Datum *values, const bool *nulls)
{
	TupleConstr *constr = target->relation->rd_att->constr;
	int natts = fill_known(target, values, nulls);

	for (int i = target->natts; i < natts; i++)
		fill_default(target, i);
	ExecStoreVirtualTuple(target->slot);
	if (constr == NULL)
		return;
	if (constr->has_generated_stored)
		ExecComputeStoredGenerated(target->info, target->estate, target->slot,
								   CMD_INSERT);
	ExecConstraints(target->info, target->slot, target->estate);
}

/* Columns that the caller doesn't know keep their values. */
static void
fill_changed(RowTarget *target, const Datum *values, const bool *nulls)
{
	TupleTableSlot *slot = target->slot;
	int natts = fill_known(target, values, nulls);

	for (int i = target->natts; i < natts; i++)
		slot->tts_values[i] = slot_getattr(target->found, i + 1,
										   &slot->tts_isnull[i]);
	ExecStoreVirtualTuple(slot);
}

static bool
insert_speculatively(RowTarget *target)
{
	uint32 token = SpeculativeInsertionLockAcquire(GetCurrentTransactionId());
	bool conflict = false;

	table_tuple_insert_speculative(target->relation, target->slot,
								   GetCurrentCommandId(true), 0, NULL, token);
	(void) compat_insert_index_tuples(target->info, target->slot, target->estate,
									  &conflict, target->arbiters);
	table_tuple_complete_speculative(target->relation, target->slot, token,
									 !conflict);
	SpeculativeInsertionLockRelease(GetCurrentTransactionId());
	return !conflict;
}

/*
 * Insert a row.  False if a row with its key exists; it may be invisible to the
 * transaction's snapshot.  Waits for a transaction that is inserting the key.
 */
bool
row_insert(RowTarget *target, const Datum *values, const bool *nulls)
{
	ItemPointerData conflict;

	fill_new(target, values, nulls);
	/* usually the key is new, so it is looked up only after a conflict */
	while (!insert_speculatively(target))
	{
		CHECK_FOR_INTERRUPTS();
		if (!compat_check_index_constraints(target->info, target->slot,
											target->estate, &conflict,
											target->arbiters))
			return false;
	}
	CommandCounterIncrement();
	return true;
}

/* Find the row with this key that is committed, or of this transaction. */
static bool
row_find_visible(RowTarget *target, Snapshot snapshot, int nkeys,
				 const Datum *keys)
{
	IndexScanDesc scan = compat_index_beginscan(target->relation, target->key,
												snapshot, nkeys);
	ScanKeyData conditions[INDEX_MAX_KEYS];
	bool found;

	for (int i = 0; i < nkeys; i++)
	{
		ScanKeyInit(&conditions[i], i + 1, BTEqualStrategyNumber, F_TEXTEQ,
					keys[i]);
		conditions[i].sk_collation = target->key->rd_indcollation[i];
	}
	index_rescan(scan, conditions, nkeys, NULL, 0);
	found = index_getnext_slot(scan, ForwardScanDirection, target->found);
	index_endscan(scan);
	return found;
}

/* Does the locked version still have this key? */
static bool
has_key(RowTarget *target, int nkeys, const Datum *keys)
{
	for (int i = 0; i < nkeys; i++)
	{
		bool isnull;
		Datum value = slot_getattr(
			target->found, target->key->rd_index->indkey.values[i], &isnull);

		if (isnull ||
			!DatumGetBool(DirectFunctionCall2Coll(
				texteq, target->key->rd_indcollation[i], value, keys[i])))
			return false;
	}
	return true;
}

/*
 * Lock the last version of the row that was found, waiting for other writers.
 * False if it was deleted meanwhile.
 */
static bool
row_lock_found(RowTarget *target, Snapshot snapshot, int nkeys,
			   const Datum *keys)
{
	ItemPointerData tid = target->found->tts_tid;
	TM_FailureData failure;
	TM_Result result = table_tuple_lock(
		target->relation, &tid, snapshot, target->found,
		GetCurrentCommandId(false), LockTupleNoKeyExclusive, LockWaitBlock,
		TUPLE_LOCK_FLAG_FIND_LAST_VERSION, &failure);

	if (result == TM_Ok)
		return has_key(target, nkeys, keys);
	if (result != TM_Deleted && result != TM_Updated)
		elog(ERROR, "could not lock a row of \"%s\": result %d",
			 RelationGetRelationName(target->relation), (int) result);
	return false;
}

/*
 * Lock the last version of the row with this key ("keys" are the values of the
 * key index's columns), waiting for other writers.  False if there is none.  An
 * insert in another transaction is waited for by row_insert() only.
 */
bool
row_lock(RowTarget *target, int nkeys, const Datum *keys)
{
	for (;;)
	{
		Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
		bool found = row_find_visible(target, snapshot, nkeys, keys);
		bool locked = found && row_lock_found(target, snapshot, nkeys, keys);

		UnregisterSnapshot(snapshot);
		if (locked || !found)
			return locked;
		CHECK_FOR_INTERRUPTS();
	}
}

/* A column of the locked row. */
Datum
row_get(RowTarget *target, AttrNumber attnum, bool *isnull)
{
	return slot_getattr(target->found, attnum, isnull);
}

/* Write the row that row_lock() locked. */
void
row_update(RowTarget *target, const Datum *values, const bool *nulls)
{
	EPQState epq;

	fill_changed(target, values, nulls);
	compat_epq_init(&epq, target->estate);
	ExecSimpleRelationUpdate(target->info, target->estate, &epq, target->found,
							 target->slot);
	EvalPlanQualEnd(&epq);
	CommandCounterIncrement();
}

/* All columns of the locked row that the caller knows. */
void
row_values(RowTarget *target, Datum *values, bool *nulls)
{
	TupleTableSlot *slot = target->found;

	slot_getallattrs(slot);
	memcpy(values, slot->tts_values, target->natts * sizeof(Datum));
	memcpy(nulls, slot->tts_isnull, target->natts * sizeof(bool));
}
