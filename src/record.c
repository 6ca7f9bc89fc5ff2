/*
 * record.c
 *		What failed of an event, and which handlers ran on it: kept when it is
 *		over (stripe_sync.event_error, stripe_sync.handler_run).
 *
 * Written after the steps, outside of their subtransactions, so that a step
 * that is undone is recorded all the same.  Whoever writes holds the event's
 * row, or has just inserted it: two never write of one event at a time.
 */
#include "stripe_sync.h"

#include "access/genam.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#define MAX_MESSAGE 1024 /* bytes */
#define MAX_CONTEXT 2048

/* Columns of stripe_sync.handler_run, as src/install/45_record.sql makes it */
enum
{
	RUN_EVENT_ID = 1,
	RUN_ACCOUNT,
	RUN_AT,
	RUN_RUNS
};

#define RUN_NATTS RUN_RUNS

/* ---- what failed ---- */

/* As text of so many bytes at most; 0 for NULL. */
static Datum
clipped(const char *text, int most)
{
	return text != NULL ? CStringGetTextDatum(engine_clip(text, most))
						: (Datum) 0;
}

/*
 * A step of an event has failed.  "step" is empty where the event could not be
 * read at all: then it isn't said which step would recover.
 */
void
record_failure(const Event *event, const char *step, const ErrorData *error)
{
	static EngineStatement upsert = {
		"INSERT INTO stripe_sync.event_error AS e (event_id, account, event_type,"
		" step, sqlstate, message, detail, hint, context, first_at, last_at, state)"
		" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10,"
		"  CASE $4 WHEN '' THEN 'settled' ELSE 'failing' END)"
		" ON CONFLICT (event_id, account, step, sqlstate,"
		"  pg_catalog.hashtextextended(message, 0)) DO UPDATE SET"
		" attempts = e.attempts + 1, last_at = excluded.last_at,"
		" detail = excluded.detail, hint = excluded.hint,"
		" context = excluded.context, state = excluded.state,"
		" recovered_at = NULL",
		10,
		{TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID,
		 TEXTOID, TIMESTAMPTZOID}};
	Datum values[] = {CStringGetTextDatum(event->id),
					  CStringGetTextDatum(event->account),
					  CStringGetTextDatum(event->type),
					  CStringGetTextDatum(step),
					  CStringGetTextDatum(unpack_sql_state(error->sqlerrcode)),
					  clipped(error->message ? error->message : "", MAX_MESSAGE),
					  clipped(error->detail, MAX_MESSAGE),
					  clipped(error->hint, MAX_MESSAGE),
					  clipped(error->context, MAX_CONTEXT),
					  TimestampTzGetDatum(GetCurrentTimestamp())};
	char nulls[] = "          ";

	for (int i = 6; i < 9; i++)
		nulls[i] = values[i] == (Datum) 0 ? 'n' : ' ';
	SPI_connect();
	engine_run(&upsert, values, nulls, SPI_OK_INSERT);
	SPI_finish();
}

/* A step that had failed has gone through; recovered.c sees what that ends. */
void
record_recovery(const Event *event, const char *step)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.event_error SET state = 'recovered',"
		" recovered_at = pg_catalog.clock_timestamp()"
		" WHERE event_id = $1 AND account = $2 AND step = $3 AND state = 'failing'",
		3,
		{TEXTOID, TEXTOID, TEXTOID}};
	Datum values[] = {CStringGetTextDatum(event->id),
					  CStringGetTextDatum(event->account),
					  CStringGetTextDatum(step)};
	int nest = plan_for_indexes();

	SPI_connect();
	engine_run(&update, values, NULL, SPI_OK_UPDATE);
	if (SPI_processed > 0)
		worker_wake_from_session();
	SPI_finish();
	plan_settings_restore(nest);
}

/* A handler is dropped: nothing of it fails any more.  Within SPI. */
void
record_handler_dropped(text *handler)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.event_error SET state = 'recovered',"
		" recovered_at = pg_catalog.clock_timestamp()"
		" WHERE step = $1 AND state = 'failing'",
		1,
		{TEXTOID}};
	Datum values[] = {PointerGetDatum(handler)};

	engine_run(&update, values, NULL, SPI_OK_UPDATE);
	if (SPI_processed > 0)
		worker_wake_at_commit();
}

/*
 * Does an event still fail in this step, with this SQLSTATE and of this type
 * and account (NULL: any)?
 */
bool
record_is_failing(const char *step, const char *sqlstate,
				  const char *event_type, const char *account)
{
	static EngineStatement of_group = {
		"SELECT FROM stripe_sync.event_error f WHERE f.state = 'failing'"
		" AND f.step = $1 AND f.sqlstate = $2 AND f.event_type = $3"
		" AND f.account = $4 AND EXISTS (SELECT FROM stripe_sync.event e"
		"  WHERE e.id = f.event_id AND e.account = f.account) LIMIT 1",
		4,
		{TEXTOID, TEXTOID, TEXTOID, TEXTOID}};
	static EngineStatement of_step = {
		"SELECT FROM stripe_sync.event_error f WHERE f.state = 'failing'"
		" AND f.step = $1 AND EXISTS (SELECT FROM stripe_sync.event e"
		"  WHERE e.id = f.event_id AND e.account = f.account) LIMIT 1",
		1,
		{TEXTOID}};
	const char *texts[] = {step, sqlstate, event_type, account};
	Datum values[lengthof(texts)];
	int nest = plan_for_indexes();
	bool found;

	for (int i = 0; i < (sqlstate ? lengthof(texts) : 1); i++)
		values[i] = CStringGetTextDatum(texts[i]);
	SPI_connect();
	engine_run(sqlstate ? &of_group : &of_step, values, NULL, SPI_OK_SELECT);
	found = SPI_processed > 0;
	SPI_finish();
	plan_settings_restore(nest);
	return found;
}

/* ---- which handlers ran ---- */

/* A handler has run, and this has come of it; record_runs() writes it down. */
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

/* Is the table as src/install/45_record.sql makes it, with the key alone? */
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

/* The key's entry; false when there is another of this key. */
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

static void
take_back(Relation relation, ItemPointer tid)
{
	Snapshot snapshot;

	CommandCounterIncrement();
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	simple_table_tuple_delete(relation, tid, snapshot);
	UnregisterSnapshot(snapshot);
}

/*
 * The usual case, of an event that has just come: its first row, written
 * straight, for it is paid with every event.  Nobody else inserts this key, as
 * the event's own has been inserted.  False when nothing is written: a row was
 * left behind by an event that somebody has deleted, or the table isn't as it
 * was made.
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
			take_back(relation, &slot->tts_tid);
		ExecDropSingleTupleTableSlot(slot);
	}
	table_close(relation, NoLock); /* until the transaction's end */
	CommandCounterIncrement();
	return inserted;
}

static void
append_runs(Datum *values)
{
	static EngineStatement upsert = {
		"INSERT INTO stripe_sync.handler_run AS h (event_id, account, at, runs)"
		" VALUES ($1, $2, $3, $4) ON CONFLICT (event_id, account) DO UPDATE"
		" SET at = excluded.at, runs = pg_catalog.jsonb_path_query_array("
		"  h.runs || excluded.runs, '$[last - 49 to last]')",
		4,
		{TEXTOID, TEXTOID, TIMESTAMPTZOID, JSONBOID}};

	SPI_connect();
	engine_run(&upsert, values, NULL, SPI_OK_INSERT);
	SPI_finish();
}

/* All handlers that ran now; "is_new": the event has just come. */
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
