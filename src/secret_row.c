/*
 * secret_row.c
 *		Rows of the tables of secrets, written straight.
 *
 * No statement has a secret among its parameters, so what logs statements or
 * their plans, as auto_explain and pgaudit do, shows none.  Rows are deleted and
 * inserted, never updated: an insert can be kept from logical decoding, an update
 * can't.  What is decoded of a deletion is the key, which holds no secret.
 *
 * Triggers and checks that somebody puts on these tables are not run.
 */
#include "stripe_sync.h"

#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#include "secret.h"

static Relation
open_table(const char *table)
{
	Relation relation;

	PreventCommandIfReadOnly("stripe_sync's writing"); /* as the executor would */
	relation = table_open(engine_relation(table), RowExclusiveLock);
	if (relation->rd_rel->relreplident == REPLICA_IDENTITY_FULL)
		ereport(
			ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("%s.%s has REPLICA IDENTITY FULL", ENGINE_SCHEMA, table),
			 errdetail(
				 "Its secrets would go to everybody who replicates the database."),
			 errhint("Run ALTER TABLE %s.%s REPLICA IDENTITY DEFAULT.",
					 ENGINE_SCHEMA, table)));
	return relation;
}

/* Columns that a later version has added are NULL. */
static void
fill_slot(TupleTableSlot *slot, int count, const Datum *values,
		  const bool *nulls)
{
	int natts = slot->tts_tupleDescriptor->natts;

	if (natts < count)
		elog(ERROR, "a table of secrets has %d columns, not %d", natts, count);
	ExecClearTuple(slot);
	memset(slot->tts_isnull, true, natts * sizeof(bool));
	memcpy(slot->tts_values, values, count * sizeof(Datum));
	memcpy(slot->tts_isnull, nulls, count * sizeof(bool));
	ExecStoreVirtualTuple(slot);
}

/*
 * Insert a row such that logical decoding skips it.  A key that is there raises,
 * as by SQL, so the caller holds the lock that all who write its name take.
 */
void
secret_insert(const char *table, int count, const Datum *values,
			  const bool *nulls)
{
	Relation relation = open_table(table);
	EState *estate = CreateExecutorState();
	ResultRelInfo *info = makeNode(ResultRelInfo);
	TupleTableSlot *slot = table_slot_create(relation, &estate->es_tupleTable);

	InitResultRelInfo(info, relation, 0, NULL, 0);
	ExecOpenIndices(info, false);
	fill_slot(slot, count, values, nulls);
	slot->tts_tableOid = RelationGetRelid(relation);
	table_tuple_insert(relation, slot, GetCurrentCommandId(true),
					   TABLE_INSERT_NO_LOGICAL, NULL);
	compat_insert_index_entries(info, slot, estate);
	ExecCloseIndices(info);
	ExecResetTupleTable(estate->es_tupleTable, false);
	FreeExecutorState(estate);
	table_close(relation, NoLock); /* until the transaction's end */
	CommandCounterIncrement();
}

/* Delete all rows of a name, the first column of the key. */
void
secret_delete(const char *table, text *name)
{
	Relation relation = open_table(table);
	Relation scanned;
	Snapshot snapshot;
	SysScanDesc scan = engine_scan(table, psprintf("%s_pkey", table), 1,
								   text_to_cstring(name), &scanned, &snapshot);
	HeapTuple tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		simple_table_tuple_delete(relation, &tuple->t_self, snapshot);
	engine_scan_end(scan, scanned, snapshot);
	table_close(relation, NoLock); /* until the transaction's end */
	CommandCounterIncrement();
}
