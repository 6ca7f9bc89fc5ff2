/*
 * verify_row.c
 *		One mirror row as it is, and as the stored events say it must be.
 *
 * If the newest known state of an object is one of its own events, the whole row
 * must be what that event makes it.  If something newer has written the row (a
 * page of its parent, a fetched object), or the events are gone, a stored event
 * that the row names must contain the object.  The typed columns must always be
 * what _data says.
 *
 * Rows are read as composite values with the rights of the table's owner, and
 * compared column by column as stored; only those that differ are compared as
 * jsonb (verify_mirror.c), which may run code of the owner's types.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/datum.h"

#include "base/base.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "inbox/event.h"
#include "mirror/mirror.h"
#include "tables/tables.h"
#include "types/types.h"
#include "inspect/internal.h"

/* ---- the row as it is ---- */

/* Prepare a statement that is kept until SPI_freeplan(). */
SPIPlanPtr
verify_row_prepare(const char *sql, int nargs, Oid *types)
{
	SPIPlanPtr plan;

	SPI_connect();
	plan = SPI_prepare(sql, nargs, types);
	if (plan == NULL || SPI_keepplan(plan) != 0)
		elog(ERROR, "could not prepare \"%s\": %s", sql,
			 SPI_result_code_string(SPI_result));
	SPI_finish();
	return plan;
}

/* The statement of verify_row_fetch(); a singleton's id is always ''. */
SPIPlanPtr
verify_row_prepare_fetch(const MirrorTable *table)
{
	Oid types[] = {TEXTOID, TEXTOID};
	bool single = table->type->key[0] == '\0';
	RoleScope scope = role_enter_reading(table->owner, table->search_path);
	SPIPlanPtr plan = verify_row_prepare(
		psprintf("SELECT t FROM %s.%s t"
				 " WHERE %s OPERATOR(pg_catalog.=) $1"
				 " AND t._account OPERATOR(pg_catalog.=) $2",
				 MIRROR_SCHEMA, quote_identifier(table->type->table),
				 single ? "''"
						: psprintf("t.%s", quote_identifier(table->type->key))),
		2, types);

	role_leave(&scope);
	return plan;
}

/*
 * Read a row, into the current memory context; false if there is none.  Columns
 * of a user's are read, and ignored by what follows.
 */
bool
verify_row_fetch(Inspection *in, const ObjectKey *key, RowValues *row)
{
	Datum params[] = {CStringGetTextDatum(key->id),
					  CStringGetTextDatum(key->account)};
	MemoryContext context = CurrentMemoryContext;
	RoleScope scope = role_enter_reading(in->table->owner,
										 in->table->search_path);
	bool found;

	SPI_connect();
	if (SPI_execute_plan(in->fetch, params, NULL, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read %s.%s", MIRROR_SCHEMA,
			 in->table->type->table);
	found = SPI_processed > 0;
	if (found)
	{
		MemoryContext old = MemoryContextSwitchTo(context);
		bool isnull;
		Rows selected = rows_of_tuple(SPI_tuptable->vals[0],
									  SPI_tuptable->tupdesc);
		HeapTupleHeader header = DatumGetHeapTupleHeaderCopy(
			rows_datum(&selected, in->desc->tdtypeid, &isnull));
		HeapTupleData tuple = {.t_len = HeapTupleHeaderGetDatumLength(header),
							   .t_data = header};

		row->values = palloc(in->desc->natts * sizeof(Datum));
		row->nulls = palloc(in->desc->natts * sizeof(bool));
		heap_deform_tuple(&tuple, in->desc, row->values, row->nulls);
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	role_leave(&scope);
	return found;
}

static bool
meta_is_null(const Inspection *in, const RowValues *row, MetaColumn column)
{
	return row->nulls[in->table->meta[column] - 1];
}

static Datum
meta_get(const Inspection *in, const RowValues *row, MetaColumn column)
{
	return row->values[in->table->meta[column] - 1];
}

static void
meta_set(const Inspection *in, RowValues *row, MetaColumn column, Datum value,
		 bool isnull)
{
	row->values[in->table->meta[column] - 1] = value;
	row->nulls[in->table->meta[column] - 1] = isnull;
}

MirrorState
verify_row_state(const Inspection *in, const RowValues *row)
{
	return mirror_state_of(in->table, row->values, row->nulls);
}

/* The row's _data; NULL if it is null. */
Jsonb *
verify_row_data(const Inspection *in, const RowValues *row)
{
	return meta_is_null(in, row, META_DATA)
			   ? NULL
			   : DatumGetJsonbP(meta_get(in, row, META_DATA));
}

/* ---- the row as it must be ---- */

/*
 * The object as another object's event contains it, in a page or embedded.  A
 * child of a page has a tombstone from the first later page that leaves it out.
 * If the event is pruned nothing is known, and "content" stays empty.
 */
static Knowledge
expect_from_holder(const char *event_id, const CatalogType *type,
				   const ObjectKey *key, MirrorContent *content)
{
	Event event;
	ListCell *cell;

	if (event_id == NULL || !event_load(event_id, key->account, &event) ||
		event.catalog == NULL)
		return KNOWS_OBJECT;
	foreach(cell, snapshot_rows(event.catalog, event.object_id, event.account,
								event.object))
	{
		SnapshotRow *row = lfirst(cell);

		if (row->type != type || strcmp(row->id, key->id) != 0)
			continue;
		content->object = row->object;
		return row->part == PART_CHILD && left_out_after(&event, row, content)
				   ? KNOWS_TOMBSTONE
				   : KNOWS_OBJECT;
	}
	return KNOWS_OBJECT;
}

/*
 * The content that the row must have, as far as the stored events determine it.
 * "state" and "data" are those of the row, or empty if there is none.
 */
Knowledge
verify_row_expect_content(const Inspection *in, const ObjectKey *key,
						  const MirrorState *state, Jsonb *data,
						  MirrorContent *content)
{
	const CatalogType *type = in->table->type;
	EventHistory *history = fetched_note_read_history(type, key->id,
													  key->account);
	Version *newest;

	event_history_add_row(history, state, data);
	newest = history->versions != NIL ? newest_find(history).newest : NULL;
	if (newest == NULL || version_event(newest)->catalog == NULL ||
		(state->found && precedence_state_is_newer(state, history, newest)))
		return expect_from_holder(state->event_id, type, key, content);
	*content = precedence_content(version_event(newest));
	precedence_find_tombstone(state, history, key->account, TABLE_READ, content);
	return KNOWS_ALL;
}

/* The row as it must be.  Typed columns follow from the row's own _data, if any. */
RowValues
verify_row_expect(const Inspection *in, const RowValues *row, Jsonb *data,
				  const MirrorContent *content, Knowledge knowledge)
{
	int natts = in->desc->natts;
	RowValues must = {palloc(natts * sizeof(Datum)),
					  palloc(natts * sizeof(bool))};
	JsonbContainer *source = data != NULL ? &data->root : content->object;

	memcpy(must.values, row->values, natts * sizeof(Datum));
	memcpy(must.nulls, row->nulls, natts * sizeof(bool));
	if (source != NULL && JsonContainerIsObject(source))
		table_values(in->table, source, must.values, must.nulls);
	/* the row was found by its key, whatever _data says */
	if (in->table->meta[META_KEY] != InvalidAttrNumber)
		meta_set(in, &must, META_KEY, meta_get(in, row, META_KEY), false);
	if (content->object != NULL)
		meta_set(in, &must, META_DATA,
				 JsonbPGetDatum(json_standalone(content->object)), false);
	if (knowledge >= KNOWS_TOMBSTONE)
		meta_set(in, &must, META_DELETED_AT,
				 TimestampTzGetDatum(content->deleted_at), !content->deleted);
	if (knowledge < KNOWS_ALL)
		return must;
	meta_set(in, &must, META_AS_OF, TimestampTzGetDatum(content->as_of), false);
	meta_set(in, &must, META_EVENT_ID, CStringGetTextDatum(content->event_id),
			 false);
	return must;
}

/* ---- what differs ---- */

/* Is it a column of the mirror's? */
static bool
is_ours(const MirrorTable *table, AttrNumber attnum)
{
	for (int i = 0; i < NMETA; i++)
		if (table->meta[i] == attnum)
			return true;
	for (int i = 0; i < table->ncolumns; i++)
		if (table->columns[i].attnum == attnum)
			return true;
	return false;
}

/* Are the mirror's columns of both rows equal to the bit?  They usually are. */
bool
verify_row_same(const Inspection *in, const RowValues *a, const RowValues *b)
{
	for (int i = 0; i < in->desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(in->desc, i);

		if (attribute->attisdropped || !is_ours(in->table, i + 1))
			continue;
		if (a->nulls[i] != b->nulls[i] ||
			(!a->nulls[i] &&
			 !datum_image_eq(a->values[i], b->values[i], attribute->attbyval,
							 attribute->attlen)))
			return false;
	}
	return true;
}

/* The row as a composite value, with columns of the user's own set to NULL. */
Datum
verify_row_datum(const Inspection *in, const RowValues *row)
{
	int natts = in->desc->natts;
	bool *nulls = palloc(natts * sizeof(bool));
	HeapTuple tuple;

	for (int i = 0; i < natts; i++)
		nulls[i] = row->nulls[i] || !is_ours(in->table, i + 1);
	tuple = heap_form_tuple(in->desc, row->values, nulls);
	return heap_copy_tuple_as_datum(tuple, in->desc);
}
