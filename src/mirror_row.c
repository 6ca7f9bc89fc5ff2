/*
 * mirror_row.c
 *		One row of the mirror: locked, read and written.
 *
 * A plain table (table_cache.c) is written straight.  Any other is written by SQL,
 * with the rights of its owner and the search_path it was made under, so that
 * a user's triggers, defaults, checks and row security do what they do; what
 * they defer fires before we go on.  Under REPEATABLE READ and SERIALIZABLE it
 * is SQL too: the server then raises 40001 where we would overwrite what the
 * transaction can't see, and Stripe sends again.
 */
#include "mirror.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/toast_compression.h"
#include "access/toast_internals.h"
#include "access/xact.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

typedef struct OpenTable
{
	MirrorTable *table;
	RowTarget *target; /* NULL: written by SQL */
} OpenTable;

/* ---- tables of a pass ---- */

static OpenTable *
pass_open(MirrorPass *pass, MirrorTable *table)
{
	OpenTable *open;
	ListCell *cell;

	table_cache_check(table);
	foreach(cell, pass->tables)
	{
		open = lfirst(cell);
		if (open->table == table)
			return open;
	}
	open = palloc0(sizeof(OpenTable));
	open->table = table;
	table_cache_pin(table);
	if (table->plain && !IsolationUsesXactSnapshot())
		open->target = row_open(table->relid, table->key_index, table->natts);
	pass->tables = lappend(pass->tables, open);
	return open;
}

void
mirror_pass_end(MirrorPass *pass)
{
	ListCell *cell;

	foreach(cell, pass->tables)
	{
		OpenTable *open = lfirst(cell);

		if (open->target != NULL)
			row_close(open->target);
		table_cache_unpin(open->table);
	}
	list_free_deep(pass->tables);
	pass->tables = NIL;
}

/* ---- the key of a row ---- */

/* Columns of the primary key, and this row's values; returns how many. */
int
mirror_row_key(const MirrorTable *table, const char *id, const char *account,
			   AttrNumber *attnums, Datum *values)
{
	int n = 0;

	if (table->meta[META_KEY] != InvalidAttrNumber)
	{
		attnums[n] = table->meta[META_KEY];
		values[n++] = CStringGetTextDatum(id);
	}
	attnums[n] = table->meta[META_ACCOUNT];
	values[n++] = CStringGetTextDatum(account);
	return n;
}

/* ---- straight ---- */

static void
straight_lock(MirrorRow *row, bool with_data)
{
	MirrorTable *table = row->table;
	AttrNumber attnums[2];
	Datum keys[2];
	int n = mirror_row_key(table, row->id, row->account, attnums, keys);
	bool isnull;
	Datum value;

	row->state.found = row_lock(row->target, n, keys);
	if (!row->state.found)
		return;
	row->state.as_of = DatumGetTimestampTz(
		row_get(row->target, table->meta[META_AS_OF], &isnull));
	value = row_get(row->target, table->meta[META_EVENT_ID], &isnull);
	row->state.event_id = isnull ? NULL : TextDatumGetCString(value);
	value = row_get(row->target, table->meta[META_DELETED_AT], &isnull);
	row->state.deleted = !isnull;
	row->state.deleted_at = isnull ? 0 : DatumGetTimestampTz(value);
	if (with_data)
	{
		value = row_get(row->target, table->meta[META_DATA], &isnull);
		row->data = isnull ? NULL : DatumGetJsonbPCopy(value);
	}
}

static bool
straight_write(MirrorRow *row, const Datum *values, const bool *nulls)
{
	if (!row->state.found)
		return row_insert(row->target, values, nulls);
	row_update(row->target, values, nulls);
	return true;
}

static void
straight_set_deleted(MirrorRow *row, bool deleted, TimestampTz deleted_at)
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

/* ---- either way ---- */

/* A row that most likely isn't there, neither looked for nor locked. */
MirrorRow *
mirror_missing(MirrorPass *pass, MirrorTable *table, const char *id,
			   const char *account)
{
	MirrorRow *row = palloc0(sizeof(MirrorRow));

	row->table = table;
	row->target = pass_open(pass, table)->target;
	row->id = id;
	row->account = account;
	return row;
}

/*
 * Lock the row of an object, if there is one; waits for whoever writes it.
 * "id" and "account" must outlive the row.
 */
MirrorRow *
mirror_lock(MirrorPass *pass, MirrorTable *table, const char *id,
			const char *account, bool with_data)
{
	MirrorRow *row = mirror_missing(pass, table, id, account);

	if (row->target != NULL)
		straight_lock(row, with_data);
	else
		mirror_sql_lock(row, with_data);
	return row;
}

static void
set_meta(const MirrorTable *table, MetaColumn column, Datum value, bool isnull,
		 Datum *values, bool *nulls)
{
	values[table->meta[column] - 1] = value;
	nulls[table->meta[column] - 1] = isnull;
}

/*
 * The whole object, compressed as its column says.  The server compresses only
 * in rows over 2 kB; most children are smaller, and half of each is this.
 */
static Datum
compressed_data(const MirrorTable *table, JsonbContainer *object)
{
	Datum data = JsonbPGetDatum(json_standalone(object));
	Datum smaller = (Datum) 0;

	if (table->data_compression == TOAST_LZ4_COMPRESSION)
		smaller = toast_compress_datum(data, TOAST_LZ4_COMPRESSION);
	return DatumGetPointer(smaller) != NULL ? smaller : data;
}

/*
 * The whole object, to be written.  What a fetched object brings is what is there
 * already, as a rule.
 */
static Datum
data_of(MirrorRow *row, const MirrorContent *content, Datum *values,
		const bool *nulls)
{
	bool isnull;

	if (content->event_id != NULL || row->target == NULL || row->data == NULL ||
		!mirror_row_has_data(row, content->object))
		return compressed_data(row->table, content->object);
	keep_stored(row, values, nulls);
	return row_get(row->target, row->table->meta[META_DATA], &isnull);
}

/*
 * Write the row that mirror_lock() locked, or insert the one it missed.
 * False when somebody else has inserted it meanwhile (or a user's trigger has
 * kept it out): lock again.
 */
bool
mirror_write(MirrorRow *row, const MirrorContent *content)
{
	MirrorTable *table = row->table;
	Datum *values = palloc0(table->natts * sizeof(Datum));
	bool *nulls = palloc(table->natts * sizeof(bool));

	fetched_note_replaced(row, content);
	memset(nulls, true, table->natts * sizeof(bool));
	table_values(table, content->object, values, nulls);
	set_meta(table, META_DATA, data_of(row, content, values, nulls), false,
			 values, nulls);
	set_meta(table, META_ACCOUNT, CStringGetTextDatum(row->account), false,
			 values, nulls);
	set_meta(table, META_DELETED_AT, TimestampTzGetDatum(content->deleted_at),
			 !content->deleted, values, nulls);
	set_meta(table, META_EVENT_ID,
			 content->event_id ? CStringGetTextDatum(content->event_id)
							   : (Datum) 0,
			 content->event_id == NULL, values, nulls);
	set_meta(table, META_AS_OF, TimestampTzGetDatum(content->as_of), false,
			 values, nulls);
	set_meta(table, META_SYNCED_AT, TimestampTzGetDatum(GetCurrentTimestamp()),
			 false, values, nulls);
	if (table->meta[META_KEY] != InvalidAttrNumber)
		set_meta(table, META_KEY, CStringGetTextDatum(row->id), false, values,
				 nulls);
	if (row->target != NULL)
		return straight_write(row, values, nulls);
	return mirror_sql_write(row, values, nulls);
}

/* Put a tombstone on the locked row, or take it away. */
void
mirror_set_deleted(MirrorRow *row, bool deleted, TimestampTz deleted_at)
{
	if (row->target != NULL)
		straight_set_deleted(row, deleted, deleted_at);
	else
		mirror_sql_set_deleted(row, deleted, deleted_at);
	row->state.deleted = deleted;
	row->state.deleted_at = deleted_at;
}

static void
read_tuple(const MirrorTable *table, HeapTuple tuple, TupleDesc desc,
		   MirrorState *state, Jsonb **data)
{
	bool isnull;
	Datum value;

	state->as_of = DatumGetTimestampTz(
		heap_getattr(tuple, table->meta[META_AS_OF], desc, &isnull));
	value = heap_getattr(tuple, table->meta[META_EVENT_ID], desc, &isnull);
	state->event_id = isnull ? NULL : TextDatumGetCString(value);
	value = heap_getattr(tuple, table->meta[META_DELETED_AT], desc, &isnull);
	state->deleted = !isnull;
	state->deleted_at = isnull ? 0 : DatumGetTimestampTz(value);
	value = heap_getattr(tuple, table->meta[META_DATA], desc, &isnull);
	if (data != NULL)
		*data = isnull ? NULL : DatumGetJsonbPCopy(value);
}

static void
straight_peek(MirrorTable *table, const char *id, const char *account,
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
	state->found = HeapTupleIsValid(tuple);
	if (state->found)
		read_tuple(table, tuple, RelationGetDescr(relation), state, data);
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(relation, NoLock);
}

/* Is there a row that the policies of a table hide from its owner? */
bool
mirror_hides(MirrorTable *table, const char *id, const char *account)
{
	MirrorState state = {0};

	if (!table_has_forced_policy(table) || !table->can_be_scanned)
		return false;
	straight_peek(table, id, account, &state, NULL);
	return state.found;
}

/* Look at a row without locking it, as committed now (or written by us). */
bool
mirror_peek(MirrorTable *table, const char *id, const char *account,
			MirrorState *state, Jsonb **data)
{
	memset(state, 0, sizeof(*state));
	if (data != NULL)
		*data = NULL;
	table_cache_check(table);
	if (table->plain)
		straight_peek(table, id, account, state, data);
	else
		mirror_sql_read(table, SQL_PEEK, id, account, state, data);
	return state->found;
}
