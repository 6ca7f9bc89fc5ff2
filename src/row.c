/*
 * row.c
 *		One row of one table, written straight into the table and its indexes.
 *
 * For tables of which we know everything that has to happen: the inbox, and
 * mirror tables as we made them.  Tables with a user's triggers, rules,
 * defaults, checks or expressions are written by SQL instead (mirror.c).  An
 * insert is the speculative one of ON CONFLICT DO NOTHING: it waits for a
 * transaction that is inserting the same key, and says whether it lost.
 */
#include "stripe_sync.h"

#include "access/tableam.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/snapmgr.h"

struct RowTarget
{
	Relation relation;
	Oid key_index;
	List *arbiters;
	EState *estate;
	ResultRelInfo *info;
	TupleTableSlot *slot;  /* what is to be written */
	TupleTableSlot *found; /* what row_lock() locked */
};

RowTarget *
row_open(Oid relid, Oid key_index)
{
	RowTarget *target = palloc0(sizeof(RowTarget));

	PreventCommandIfReadOnly("stripe_sync's writing"); /* as the executor would */
	target->relation = table_open(relid, RowExclusiveLock);
	target->key_index = key_index;
	target->arbiters = list_make1_oid(key_index);
	target->estate = CreateExecutorState();
	compat_init_range_table(target->estate, target->relation);
	target->info = makeNode(ResultRelInfo);
	InitResultRelInfo(target->info, target->relation, 1, NULL, 0);
	ExecOpenIndices(target->info, true);
	target->slot = table_slot_create(target->relation,
									 &target->estate->es_tupleTable);
	target->found = table_slot_create(target->relation,
									  &target->estate->es_tupleTable);
	return target;
}

int
row_columns(const RowTarget *target)
{
	return target->slot->tts_tupleDescriptor->natts;
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

static void
fill_slot(RowTarget *target, const Datum *values, const bool *nulls)
{
	TupleTableSlot *slot = target->slot;
	int natts = slot->tts_tupleDescriptor->natts;

	ExecClearTuple(slot);
	memcpy(slot->tts_values, values, natts * sizeof(Datum));
	memcpy(slot->tts_isnull, nulls, natts * sizeof(bool));
	ExecStoreVirtualTuple(slot);
	slot->tts_tableOid = RelationGetRelid(target->relation);
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

/* Insert a row; false when its key is there already. */
bool
row_insert(RowTarget *target, const Datum *values, const bool *nulls)
{
	ItemPointerData conflict;

	fill_slot(target, values, nulls);
	if (target->relation->rd_att->constr)
		ExecConstraints(target->info, target->slot, target->estate);
	/* most likely the key is new: look for it only after a conflict */
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

/*
 * Lock the newest version of the row with this key, waiting for whoever is
 * writing it.  "keys" belong to "attnums", the columns of the key index.
 */
bool
row_lock(RowTarget *target, int nkeys, const AttrNumber *attnums,
		 const Datum *keys)
{
	TupleTableSlot *slot = target->slot;

	ExecClearTuple(slot);
	memset(slot->tts_isnull, true,
		   slot->tts_tupleDescriptor->natts * sizeof(bool));
	for (int i = 0; i < nkeys; i++)
	{
		slot->tts_values[attnums[i] - 1] = keys[i];
		slot->tts_isnull[attnums[i] - 1] = false;
	}
	ExecStoreVirtualTuple(slot);
	return compat_find_by_index(target->relation, target->key_index,
								LockTupleNoKeyExclusive, slot, target->found);
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

	fill_slot(target, values, nulls);
	compat_epq_init(&epq, target->estate);
	ExecSimpleRelationUpdate(target->info, target->estate, &epq, target->found,
							 target->slot);
	EvalPlanQualEnd(&epq);
	CommandCounterIncrement();
}

/* All columns of the locked row. */
void
row_values(RowTarget *target, Datum *values, bool *nulls)
{
	TupleTableSlot *slot = target->found;
	int natts = slot->tts_tupleDescriptor->natts;

	slot_getallattrs(slot);
	memcpy(values, slot->tts_values, natts * sizeof(Datum));
	memcpy(nulls, slot->tts_isnull, natts * sizeof(bool));
}
