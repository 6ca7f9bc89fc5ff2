/*
 * secret_row.c
 *		Rows of the tables of secrets, written without SQL.
 *
 * No statement has a secret among its parameters, so modules that log
 * statements or plans (auto_explain, pgaudit) show none.  Rows are deleted and
 * inserted, never updated: logical decoding can be told to skip an insert
 * (TABLE_INSERT_NO_LOGICAL), but not an update.  Of a deleted row it shows the
 * key, which holds no secret.
 *
 * Triggers and check constraints that a superuser adds to these tables are not
 * run.
 */
#include "postgres.h"

#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#include "base/compat.h"
#include "engine/engine.h"
#include "engine/rights.h"
#include "inbox/secret.h"

/*
 * Raises 25006 in a read-only transaction, as the executor would, and 55000 if
 * logical decoding would show whole deleted rows.
 */
static Relation
open_table(const char *table, const char *command)
{
	Relation relation;

	PreventCommandIfReadOnly(command);
	relation = table_open(engine_relation(table), RowExclusiveLock);
	if (relation->rd_rel->relreplident == REPLICA_IDENTITY_FULL)
		ereport(
			ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("%s.%s has REPLICA IDENTITY FULL", ENGINE_SCHEMA, table),
			 errdetail(
				 "Logical decoding would show its secrets to every subscriber."),
			 errhint("Run ALTER TABLE %s.%s REPLICA IDENTITY DEFAULT.",
					 ENGINE_SCHEMA, table)));
	return relation;
}

/* Columns that a later version of the catalog has added are NULL. */
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
 * Insert a row that logical decoding skips.  A duplicate key raises 23505, as in
 * SQL, so the caller holds a lock on the name (the endpoint's or destination's
 * row, ADVISORY_ENDPOINT or ADVISORY_API_KEY).
 */
void
secret_insert(const char *table, int count, const Datum *values,
			  const bool *nulls)
{
	Relation relation = open_table(table, "INSERT");
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

/* Delete all rows whose first key column is "name".  Same lock as above. */
void
secret_delete(const char *table, text *name)
{
	Relation relation = open_table(table, "DELETE");
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
