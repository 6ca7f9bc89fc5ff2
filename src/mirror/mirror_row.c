/*
 * mirror_row.c
 *		Storage of one mirror row: locked, read and written.
 *
 * A row of a plain table (table_bind.c) is written directly (mirror_direct.c).
 * Rows of any other table are written by SQL (mirror_sql.c) with the rights of
 * the table's owner and under the search_path that is noted of the table, so that
 * a user's triggers, defaults, checks and row security take effect.  Under REPEATABLE READ and SERIALIZABLE all
 * rows are written by SQL: the server then raises 40001 where a row that the
 * transaction cannot see would be overwritten, and Stripe sends the event again.
 *
 * Callers decide what a row becomes, and lock rows in the order of snapshot.c.
 */
#include "postgres.h"

#include "access/toast_compression.h"
#include "access/toast_internals.h"
#include "access/xact.h"
#include "utils/builtins.h"
#include "utils/datum.h"

#include "base/base.h"
#include "engine/engine.h"
#include "mirror/mirror.h"
#include "tables/tables.h"
#include "types/types.h"
#include "mirror/internal.h"

#define MAX_TRIES 3 /* to insert or lock a row */

typedef struct OpenTable
{
	MirrorTable *table;
	RowTarget *target; /* NULL: written by SQL */
} OpenTable;

/* ---- tables opened for one event ---- */

static OpenTable *
open_to_write(OpenTables *tables, MirrorTable *table)
{
	OpenTable *open;
	ListCell *cell;

	table_cache_check(table);
	foreach(cell, tables->open)
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
	tables->open = lappend(tables->open, open);
	return open;
}

/*
 * Close the tables that were opened to write.  Their locks are kept.  After an
 * error it is not called: the resource owner closes the relations, and the pins
 * leak the memory of the definitions.
 */
void
mirror_close_tables(OpenTables *tables)
{
	ListCell *cell;

	foreach(cell, tables->open)
	{
		OpenTable *open = lfirst(cell);

		if (open->target != NULL)
			row_close(open->target);
		table_cache_unpin(open->table);
	}
	list_free_deep(tables->open);
	tables->open = NIL;
}

/* ---- one row ---- */

/* A row that probably does not exist yet: it is neither read nor locked. */
MirrorRow *
mirror_missing(OpenTables *tables, MirrorTable *table, const char *id,
			   const char *account)
{
	MirrorRow *row = palloc0(sizeof(MirrorRow));

	row->table = table;
	row->target = open_to_write(tables, table)->target;
	row->id = id;
	row->account = account;
	return row;
}

/*
 * Lock the row of an object, if there is one; waits for other writers of it.
 * "id" and "account" must outlive the row.
 */
MirrorRow *
mirror_lock(OpenTables *tables, MirrorTable *table, const char *id,
			const char *account, bool with_data)
{
	MirrorRow *row = mirror_missing(tables, table, id, account);

	if (row->target != NULL)
		mirror_direct_lock(row, with_data);
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

/* Does the locked row hold exactly this object? */
bool
mirror_row_has_data(const MirrorRow *row, JsonbContainer *object)
{
	Jsonb *data = json_standalone(object);
	bool same = row->data != NULL && VARSIZE(row->data) == VARSIZE(data) &&
				memcmp(row->data, data, VARSIZE(data)) == 0;

	pfree(data);
	return same;
}

/*
 * Keep the stored form of values that do not change, so that they are not
 * compressed and toasted again.
 */
static void
keep_stored(const MirrorRow *row, Datum *values, const bool *nulls)
{
	for (int i = 0; i < row->table->ncolumns; i++)
	{
		AttrNumber attnum = row->table->columns[i].attnum;
		bool isnull;
		Datum stored = row_get(row->target, attnum, &isnull);

		if (row->table->columns[i].kind >= KIND_EMBEDDED && !isnull &&
			!nulls[attnum - 1] &&
			datum_image_eq(stored, values[attnum - 1], false, -1))
			values[attnum - 1] = stored;
	}
}

/*
 * The whole object, to be written.  A fetched object is usually the same as the
 * stored one.
 */
static Datum
data_to_write(MirrorRow *row, const MirrorContent *content, Datum *values,
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
 * Update the row that mirror_lock() found, or insert the one that it did not
 * find.  Returns false when another session has inserted it since then, or a
 * user's trigger has prevented the insert: the caller locks it again.
 */
bool
mirror_write(MirrorRow *row, const MirrorContent *content)
{
	MirrorTable *table = row->table;
	Datum *values = palloc0(table->natts * sizeof(Datum));
	bool *nulls = palloc(table->natts * sizeof(bool));

	memset(nulls, true, table->natts * sizeof(bool));
	table_values(table, content->object, values, nulls);
	set_meta(table, META_DATA, data_to_write(row, content, values, nulls),
			 false, values, nulls);
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
		return mirror_direct_write(row, values, nulls);
	return mirror_sql_write(row, values, nulls);
}

/* Set or remove the tombstone of the locked row. */
void
mirror_set_deleted(MirrorRow *row, bool deleted, TimestampTz deleted_at)
{
	if (row->target != NULL)
		mirror_direct_set_deleted(row, deleted, deleted_at);
	else
		mirror_sql_set_deleted(row, deleted, deleted_at);
	row->state.deleted = deleted;
	row->state.deleted_at = deleted_at;
}

/*
 * Read a row without locking it, as it is committed now or written by this
 * transaction.  Returns whether there is one, and its _data if "data" is not
 * NULL.
 */
bool
mirror_peek(MirrorTable *table, const char *id, const char *account,
			MirrorState *state, Jsonb **data)
{
	memset(state, 0, sizeof(*state));
	if (data != NULL)
		*data = NULL;
	table_cache_check(table);
	if (table->plain)
		mirror_direct_peek(table, id, account, state, data);
	else
		mirror_sql_read(table, SQL_PEEK, id, account, state, data);
	return state->found;
}

/*
 * Is there another try at a row that another session keeps inserting first?  A
 * user's trigger that prevents the insert looks like a race that is always lost,
 * so that the number of tries is limited.
 */
bool
retry_race(int *tries)
{
	return (*tries)++ < MAX_TRIES;
}
