/*
 * handler_run.c
 *		stripe_sync.handler_run: which handlers ran on an event, when, for how
 *		long, and how that ended.
 *
 * A row for each event, written after the steps and outside of their
 * subtransactions, so that a handler that was rolled back is recorded.  The
 * writer has locked the event's row or inserted it in this transaction.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "engine/rights.h"
#include "engine/statement.h"
#include "inbox/event.h"
#include "inbox/inbox.h"

/* Columns of stripe_sync.handler_run, as src/inbox/record.sql makes it */
enum HandlerRunColumn
{
	RUN_EVENT_ID = 1,
	RUN_ACCOUNT,
	RUN_AT,
	RUN_RUNS
};

#define RUN_NATTS RUN_RUNS

/*
 * Append an element for one run of a handler to the JSON array that is being
 * built in "runs"; record_runs() stores it.
 */
void
record_run(StringInfo runs, const char *handler, TimestampTz started,
		   double milliseconds, const ErrorData *error)
{
	char at[MAXDATELEN + 1];

	appendStringInfoString(runs, runs->len == 0 ? "[" : ",");
	appendStringInfoString(runs, "{\"handler\":");
	escape_json(runs, handler);
	JsonEncodeDateTime(at, TimestampTzGetDatum(started), TIMESTAMPTZOID, NULL);
	appendStringInfo(runs, ",\"at\":\"%s\",\"ms\":%.3f,\"ok\":%s", at,
					 milliseconds, error == NULL ? "true" : "false");
	if (error != NULL)
		appendStringInfo(runs, ",\"sqlstate\":\"%s\"",
						 unpack_sql_state(error->sqlerrcode));
	appendStringInfoChar(runs, '}');
}

/* Is the table as src/inbox/record.sql makes it, with no other index? */
static bool
is_plain(Relation relation)
{
	TupleConstr *constr = RelationGetDescr(relation)->constr;

	return RelationGetNumberOfAttributes(relation) == RUN_NATTS &&
		   relation->rd_rel->relkind == RELKIND_RELATION &&
		   relation->trigdesc == NULL && relation->rd_rules == NULL &&
		   !relation->rd_rel->relrowsecurity &&
		   (constr == NULL || constr->num_check == 0) &&
		   list_length(RelationGetIndexList(relation)) == 1;
}

/* Insert the key's index entry.  Returns false if the key is not unique. */
static bool
insert_key(Relation relation, TupleTableSlot *slot, Datum *values)
{
	Relation key = index_open(engine_relation("handler_run_pkey"),
							  RowExclusiveLock);
	bool nulls[RUN_ACCOUNT] = {0};
	bool unique = index_insert(key, values, nulls, &slot->tts_tid, relation,
							   UNIQUE_CHECK_PARTIAL, false, BuildIndexInfo(key));

	index_close(key, NoLock);
	return unique;
}

/* Delete the row that this transaction has just inserted. */
static void
delete_inserted(Relation relation, ItemPointer tid)
{
	Snapshot snapshot;

	CommandCounterIncrement();
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	simple_table_tuple_delete(relation, tid, snapshot);
	UnregisterSnapshot(snapshot);
}

/*
 * Insert the first row of an event without SQL: every event pays for it.  No
 * other session inserts this key, as the event's row was inserted by this
 * transaction, so UNIQUE_CHECK_PARTIAL is enough.  Returns false if nothing was
 * written: there is a row of an event that was deleted, or the table was
 * altered.
 */
static bool
insert_runs(Datum *values)
{
	Relation relation = table_open(engine_relation("handler_run"),
								   RowExclusiveLock);
	bool inserted = is_plain(relation);
	TupleTableSlot *slot;

	if (inserted)
	{
		slot = table_slot_create(relation, NULL);
		memcpy(slot->tts_values, values, RUN_NATTS * sizeof(Datum));
		memset(slot->tts_isnull, false, RUN_NATTS * sizeof(bool));
		ExecStoreVirtualTuple(slot);
		table_tuple_insert(relation, slot, GetCurrentCommandId(true), 0, NULL);
		inserted = insert_key(relation, slot, values);
		if (!inserted)
			delete_inserted(relation, &slot->tts_tid);
		ExecDropSingleTupleTableSlot(slot);
	}
	table_close(relation, NoLock); /* locked until the transaction's end */
	CommandCounterIncrement();
	return inserted;
}

/* Append to the event's row, which keeps the last 50 runs. */
static void
append_runs(const Datum *values)
{
	static EngineStatement upsert = {
		"INSERT INTO stripe_sync.handler_run AS h (event_id, account, at, runs)"
		" VALUES ($1, $2, $3, $4) ON CONFLICT (event_id, account) DO UPDATE"
		" SET at = excluded.at, runs = pg_catalog.jsonb_path_query_array("
		"  h.runs || excluded.runs, '$[last - 49 to last]')"};

	statement_exec(&upsert, ARGS(arg_datum(TEXTOID, values[RUN_EVENT_ID - 1]),
								 arg_datum(TEXTOID, values[RUN_ACCOUNT - 1]),
								 arg_datum(TIMESTAMPTZOID, values[RUN_AT - 1]),
								 arg_datum(JSONBOID, values[RUN_RUNS - 1])));
}

/*
 * Store the runs that record_run() has collected, if any.  "is_new": the event's
 * row was inserted in this transaction.
 */
void
record_runs(const Event *event, StringInfo runs, bool is_new)
{
	Datum values[RUN_NATTS];

	if (runs->len == 0)
		return;
	appendStringInfoChar(runs, ']');
	values[RUN_EVENT_ID - 1] = CStringGetTextDatum(event->id);
	values[RUN_ACCOUNT - 1] = CStringGetTextDatum(event->account);
	values[RUN_AT - 1] = TimestampTzGetDatum(GetCurrentTimestamp());
	values[RUN_RUNS - 1] = DirectFunctionCall1(jsonb_in,
											   CStringGetDatum(runs->data));
	if (!is_new || !insert_runs(values))
		append_runs(values);
}
