/*
 * verify_mirror.c
 *		Rebuilds objects from the inbox and shows where the mirror differs.
 *
 * Of an object whose newest state is one of its own events, the whole row must
 * be what that event makes it.  Where something newer has written the row (a
 * page of its parent's, a fetched object of the API), or nothing but that is known, a
 * stored event that the row names must hold this object; and in any case the
 * typed columns must be what _data says.  Each child that a row's pages list has
 * a row (verify_lacking.c).  What the mirror wants read again, and could not be
 * read or not written, is shown as incomplete.
 *
 * Nothing is locked: a row that changes while it is looked at is looked at
 * again.  Tables are read with the rights of their owners.
 */
#include "mirror.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/typcache.h"

#define MAX_LOOKS 3 /* at a row that changes meanwhile */

/* One table that is looked through. */
typedef struct Inspection
{
	ReturnSetInfo *result;
	MirrorTable *table;
	TupleDesc desc;
	SPIPlanPtr fetch;
	SPIPlanPtr differences;
	List *children; /* types whose rows alone are asked for; NIL: all, too */
	Oid reader;		/* who is told */
	int hidden;		/* objects whose row the table's policies may hide */
} Inspection;

/* What is known of a row as it must be. */
typedef enum Knowledge
{
	KNOWS_OBJECT, /* or not even that */
	KNOWS_TOMBSTONE,
	KNOWS_ALL
} Knowledge;

/* A row as it is, and as it must be, by attribute. */
typedef struct RowValues
{
	Datum *values;
	bool *nulls;
} RowValues;

/* ---- the row as it is ---- */

static SPIPlanPtr
prepare(const char *sql, int nargs, Oid *types)
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

static SPIPlanPtr
prepare_fetch(const MirrorTable *table)
{
	Oid types[] = {TEXTOID, TEXTOID};
	bool single = table->type->key[0] == '\0';
	RoleScope scope = role_enter_reading(table->owner, table->search_path);
	SPIPlanPtr plan = prepare(
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

/* The columns that are ours; a user's own are nobody's business here. */
static bool
fetch_row(Inspection *in, const ObjectKey *key, RowValues *row)
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
		HeapTupleHeader header = DatumGetHeapTupleHeaderCopy(
			engine_column(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1,
						  in->desc->tdtypeid, &isnull));
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

static MirrorState
state_of(const Inspection *in, const RowValues *row)
{
	MirrorState state = {.found = true};

	if (!meta_is_null(in, row, META_AS_OF))
		state.as_of = DatumGetTimestampTz(meta_get(in, row, META_AS_OF));
	if (!meta_is_null(in, row, META_EVENT_ID))
		state.event_id = TextDatumGetCString(meta_get(in, row, META_EVENT_ID));
	state.deleted = !meta_is_null(in, row, META_DELETED_AT);
	if (state.deleted)
		state.deleted_at = DatumGetTimestampTz(
			meta_get(in, row, META_DELETED_AT));
	return state;
}

static Jsonb *
data_of(const Inspection *in, const RowValues *row)
{
	return meta_is_null(in, row, META_DATA)
			   ? NULL
			   : DatumGetJsonbP(meta_get(in, row, META_DATA));
}

/* ---- the row as it must be ---- */

/*
 * The object as another object's event holds it, in a page or embedded; what a
 * page lists has a tombstone from the first later one that leaves it out.
 */
static Knowledge
held_by(const char *event_id, const CatalogType *type, const ObjectKey *key,
		MirrorContent *content)
{
	Event event;
	ListCell *cell;

	if (event_id == NULL || !inbox_load(event_id, key->account, &event) ||
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

/* What must stand in the row, as far as the inbox tells. */
static Knowledge
expected_content(const Inspection *in, const ObjectKey *key,
				 const MirrorState *state, Jsonb *data, MirrorContent *content)
{
	const CatalogType *type = in->table->type;
	EventHistory *history = fetched_note_read_history(type, key->id,
													  key->account);
	Version *newest;

	event_history_add_row(history, state, data);
	newest = history->versions != NIL ? newest_find(history).newest : NULL;
	if (newest == NULL || version_event(newest)->catalog == NULL ||
		(state->found && precedence_state_is_newer(state, history, newest)))
		return held_by(state->event_id, type, key, content);
	*content = precedence_content(version_event(newest));
	precedence_find_tombstone(state, history, key->account, TABLE_READ, content);
	return KNOWS_ALL;
}

/* Typed columns follow from the row's own _data, where it has any. */
static RowValues
expected_values(const Inspection *in, const RowValues *row, Jsonb *data,
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
	/* the key is what the row was found by, not what _data may say */
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

/* Are they the same to the bit?  In a healthy mirror, as good as always. */
static bool
same_values(const Inspection *in, const RowValues *a, const RowValues *b)
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

/* As a composite value, in which what isn't ours is NULL. */
static Datum
row_datum(const Inspection *in, const RowValues *row)
{
	int natts = in->desc->natts;
	bool *nulls = palloc(natts * sizeof(bool));
	HeapTuple tuple;

	for (int i = 0; i < natts; i++)
		nulls[i] = row->nulls[i] || !is_ours(in->table, i + 1);
	tuple = heap_form_tuple(in->desc, row->values, nulls);
	return heap_copy_tuple_as_datum(tuple, in->desc);
}

static void
report(Inspection *in, const CatalogType *type, const ObjectKey *key,
	   Datum field, Datum is, bool is_null, Datum must, bool must_null)
{
	Datum values[] = {CStringGetTextDatum(type->object),
					  CStringGetTextDatum(key->id),
					  CStringGetTextDatum(key->account),
					  field,
					  is,
					  must};
	bool nulls[] = {false, false, false, false, is_null, must_null};

	tuplestore_putvalues(in->result->setResult, in->result->setDesc, values,
						 nulls);
}

static void
report_differences(Inspection *in, const ObjectKey *key, const RowValues *is,
				   const RowValues *must)
{
	Datum params[] = {row_datum(in, is), row_datum(in, must)};
	/* a column may be of a type of the owner's, with a cast of his to json */
	RoleScope scope = role_enter_reading(in->table->owner,
										 in->table->search_path);

	SPI_connect();
	if (SPI_execute_plan(in->differences, params, NULL, false, 0) !=
		SPI_OK_SELECT)
		elog(ERROR, "could not compare rows of %s.%s", MIRROR_SCHEMA,
			 in->table->type->table);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple tuple = SPI_tuptable->vals[i];
		TupleDesc desc = SPI_tuptable->tupdesc;
		Datum values[3];
		bool nulls[3];

		for (int j = 0; j < 3; j++)
			values[j] = SPI_getbinval(tuple, desc, j + 1, &nulls[j]);
		report(in, in->table->type, key, values[0], values[1], nulls[1],
			   values[2], nulls[2]);
	}
	SPI_finish();
	role_leave(&scope);
}

/* A row that should be there and isn't. */
static void
report_missing(Inspection *in, const CatalogType *type, const ObjectKey *key,
			   JsonbContainer *object)
{
	report(in, type, key, CStringGetTextDatum("(row)"), (Datum) 0, true,
		   JsonbPGetDatum(json_standalone(object)), false);
}

/* ---- looking ---- */

/* Is the row still the one that was looked at? */
static bool
still_there(Inspection *in, const ObjectKey *key, bool found, RowValues *row)
{
	RowValues now;
	bool found_now = fetch_row(in, key, &now);

	return found_now == found && (!found || same_values(in, row, &now));
}

static bool
may_be_hidden(Inspection *in, const ObjectKey *key)
{
	if (!verify_may_be_hidden(in->table, key->id, key->account))
		return false;
	in->hidden++;
	return true;
}

static void
report_hidden(const Inspection *in)
{
	ereport(
		NOTICE,
		(errmsg_plural(
			 "row security of %s.%s hides %d row from the table's owner: it was not compared",
			 "row security of %s.%s hides %d rows from the table's owner: they were not compared",
			 in->hidden, MIRROR_SCHEMA, in->table->type->table, in->hidden),
		 errhint("%s", table_policy_hint(in->table->type, in->table->owner))));
}

/* False when it has changed meanwhile. */
static bool
look_at(Inspection *in, const ObjectKey *key)
{
	RowValues is;
	RowValues must;
	MirrorState state = {0};
	MirrorContent content = {0};
	bool found = fetch_row(in, key, &is);
	Jsonb *data = found ? data_of(in, &is) : NULL;
	Knowledge knowledge;

	if (found)
		state = state_of(in, &is);
	else if (may_be_hidden(in, key))
		return true;
	knowledge = expected_content(in, key, &state, data, &content);
	if (!found && knowledge < KNOWS_ALL)
		return true;
	if (found)
	{
		must = expected_values(in, &is, data, &content, knowledge);
		if (same_values(in, &is, &must))
			return true;
	}
	if (!still_there(in, key, found, &is))
		return false;
	if (found)
		report_differences(in, key, &is, &must);
	else
		report_missing(in, in->table->type, key, content.object);
	return true;
}

static void
look_at_children(Inspection *in, const ObjectKey *key)
{
	RowValues is;
	Jsonb *data;
	ListCell *cell;

	if (in->table->type->npages == 0 || !fetch_row(in, key, &is) ||
		!meta_is_null(in, &is, META_DELETED_AT) ||
		(data = data_of(in, &is)) == NULL || !JB_ROOT_IS_OBJECT(data))
		return;
	foreach(cell, verify_lost_children(in->table->type, key, data, in->children,
									   in->reader))
	{
		SnapshotRow *row = lfirst(cell);
		ObjectKey child = {row->id, unconstify(char *, row->account)};

		if (still_there(in, key, true, &is))
			report_missing(in, row->type, &child, row->object);
	}
}

static void
inspect(Inspection *in, List *keys)
{
	MemoryContext memory = AllocSetContextCreate(CurrentMemoryContext,
												 "stripe_sync verification",
												 ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(memory);
	ListCell *cell;

	foreach(cell, keys)
	{
		for (int look = 0; in->children == NIL && look < MAX_LOOKS &&
						   !look_at(in, lfirst(cell));
			 look++)
			;
		look_at_children(in, lfirst(cell));
		MemoryContextReset(memory);
		CHECK_FOR_INTERRUPTS();
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(memory);
}

/* One of all types, none of which keeps the others from being looked at. */
typedef struct TypeCheck
{
	ReturnSetInfo *result;
	const CatalogType *type;
	List *keys;
	int sample;
	Oid reader;		/* who is told */
	List *children; /* as in Inspection */
	bool found;
} TypeCheck;

static void
verify_table(const TypeCheck *check, MirrorTable *table)
{
	Inspection in = {.result = check->result,
					 .table = table,
					 .children = check->children,
					 .reader = check->reader};
	Oid row_type = get_rel_type_id(table->relid);
	Oid types[] = {row_type, row_type};
	/* while it is open no code of its owner's that we run can alter it */
	Relation relation = table_open(table->relid, NoLock);

	table_cache_pin(table);
	in.desc = lookup_rowtype_tupdesc_copy(row_type, -1);
	in.fetch = prepare_fetch(table);
	in.differences = prepare(
		"SELECT COALESCE(a.key, b.key),"
		"   NULLIF(a.value, 'null'), NULLIF(b.value, 'null')"
		" FROM pg_catalog.jsonb_each(pg_catalog.to_jsonb($1)) a"
		" FULL JOIN pg_catalog.jsonb_each(pg_catalog.to_jsonb($2)) b"
		"   ON a.key OPERATOR(pg_catalog.=) b.key"
		" WHERE a.value IS DISTINCT FROM b.value"
		" ORDER BY COALESCE(a.key, b.key) COLLATE \"C\"",
		2, types);
	inspect(&in, verify_sample(table, check->keys, check->sample));
	if (in.hidden > 0)
		report_hidden(&in);
	SPI_freeplan(in.fetch);
	SPI_freeplan(in.differences);
	table_cache_unpin(table);
	table_close(relation, NoLock);
}

static void
verify_type(void *arg)
{
	TypeCheck *check = arg;
	MirrorTable *table = table_cache_find(check->type, TABLE_READ);

	check->found = table != NULL;
	if (check->found && !table_shows_all(table, check->reader))
		ereport(
			ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("role \"%s\" may not see all rows of %s.%s",
					GetUserNameFromId(check->reader, false), MIRROR_SCHEMA,
					check->type->table),
			 errhint(
				 "It needs stripe_sync.grant_read(), and BYPASSRLS where row security is on.")));
	if (check->found)
		verify_table(check, table);
}

/* Of a type that isn't asked for itself; whoever may not see it, sees nothing. */
static void
verify_children_of(void *arg)
{
	TypeCheck *check = arg;
	MirrorTable *table = table_cache_find(check->type, TABLE_READ);

	if (table != NULL && table_shows_all(table, check->reader))
		verify_table(check, table);
}

/* What can't be looked at is said of who asks for it. */
static void
verify_parents_of(const TypeCheck *wanted, List *types)
{
	ListCell *cell;

	foreach(cell, verify_parents(types))
	{
		TypeCheck check = *wanted;
		ErrorData *error;

		check.type = lfirst(cell);
		check.children = types;
		(void) step_guard(verify_children_of, &check, NULL, &error);
	}
}

/* The table can't be used at all. */
static void
report_table(const TypeCheck *check, const ErrorData *error)
{
	StringInfoData json;
	Datum values[] = {CStringGetTextDatum(check->type->object),
					  CStringGetTextDatum(""),
					  CStringGetTextDatum(""),
					  CStringGetTextDatum("(table)"),
					  (Datum) 0,
					  (Datum) 0};
	bool nulls[] = {false, false, false, false, false, true};

	initStringInfo(&json);
	escape_json(&json, error->message);
	values[4] = DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data));
	tuplestore_putvalues(check->result->setResult, check->result->setDesc,
						 values, nulls);
}

/* verify_mirror(object_types, sample) */
ENGINE_FUNCTION(stripe_sync_verify_mirror)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	List *types = tables_wanted(PG_ARGISNULL(0) ? NULL
												: PG_GETARG_ARRAYTYPE_P(0));
	int sample = PG_ARGISNULL(1) ? 1000 : PG_GETARG_INT32(1);
	List **keys = palloc0(catalog_ntypes * sizeof(List *));
	Oid reader = GetUserId();
	TypeCheck wanted = {.result = result, .sample = sample, .reader = reader};
	RoleScope scope;
	ListCell *cell;

	if (sample < 1)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the sample must be of one object or more")));
	InitMaterializedSRF(fcinfo, 0);
	scope = role_enter_engine();
	verify_keys_in_inbox(types, sample, keys);
	foreach(cell, types)
	{
		const CatalogType *type = lfirst(cell);
		TypeCheck check = wanted;
		ErrorData *error;

		check.type = type;
		check.keys = keys[type - catalog_types];

		if (PG_ARGISNULL(0))
		{
			if (!step_guard(verify_type, &check, NULL, &error))
				report_table(&check, error);
			continue;
		}
		verify_type(&check);
		if (!check.found)
			ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE),
							errmsg("%s", table_lacking(type))));
	}
	verify_parents_of(&wanted, types);
	verify_incomplete(result, types);
	role_leave(&scope);
	PG_RETURN_NULL();
}
