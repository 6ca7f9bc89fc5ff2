/*
 * verify_mirror.c
 *		verify_mirror(): rebuilds objects from the inbox and reports where the
 *		mirror differs.
 *
 * Each row must be what verify_row.c expects, and each child that a row's pages
 * list must have a row (verify_lacking.c).  Objects that the mirror wants to
 * fetch again, and could not, are reported as incomplete.
 *
 * No row is locked: one that differs is read again, and compared once more if it
 * has changed meanwhile.  Tables are locked ACCESS SHARE, and read with the
 * rights of their owners.
 *
 * The caller must be allowed to see all rows of a table.  If types are named, an
 * error ends the call; else each type is verified in a subtransaction, and a
 * table that cannot be used is reported.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_authid.h"
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

#include "base/base.h"
#include "base/subtransaction.h"
#include "engine/engine.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "mirror/mirror.h"
#include "tables/tables.h"
#include "types/types.h"
#include "inspect/internal.h"

#define MAX_TRIES 3 /* to compare a row that changes meanwhile */

/* Report each field that differs between two values of the row. */
static void
report_differences(Inspection *in, const ObjectKey *key, const RowValues *is,
				   const RowValues *must)
{
	Datum params[] = {verify_row_datum(in, is), verify_row_datum(in, must)};
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
		Rows row = rows_of_tuple(SPI_tuptable->vals[i], SPI_tuptable->tupdesc);
		char *field = rows_text(&row);
		Jsonb *stored = rows_jsonb(&row);

		verify_report(in->result, in->table->type->object, key, field, stored,
					  rows_jsonb(&row));
	}
	SPI_finish();
	role_leave(&scope);
}

/* Report a missing row, with the object that it should hold. */
static void
report_missing(Inspection *in, const CatalogType *type, const ObjectKey *key,
			   JsonbContainer *object)
{
	verify_report(in->result, type->object, key, "(row)", NULL,
				  json_standalone(object));
}

/* ---- verifying ---- */

/* Is the row, or its absence, unchanged since it was read? */
static bool
row_is_unchanged(Inspection *in, const ObjectKey *key, bool found,
				 RowValues *row)
{
	RowValues now;
	bool found_now = verify_row_fetch(in, key, &now);

	return found_now == found && (!found || verify_row_same(in, row, &now));
}

/* Count a row that row security hides. */
static bool
count_if_hidden(Inspection *in, const ObjectKey *key)
{
	if (!verify_may_be_hidden(in->table, key->id, key->account))
		return false;
	in->hidden++;
	return true;
}

/* Report how many rows were not compared. */
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

/* Verify one row. Returns false if it has changed meanwhile. */
static bool
verify_object(Inspection *in, const ObjectKey *key)
{
	RowValues is;
	RowValues must;
	MirrorState state = {0};
	MirrorContent content = {0};
	bool found = verify_row_fetch(in, key, &is);
	Jsonb *data = found ? verify_row_data(in, &is) : NULL;
	Knowledge knowledge;

	if (found)
		state = verify_row_state(in, &is);
	else if (count_if_hidden(in, key))
		return true;
	knowledge = verify_row_expect_content(in, key, &state, data, &content);
	if (!found && knowledge < KNOWS_ALL)
		return true;
	if (found)
	{
		must = verify_row_expect(in, &is, data, &content, knowledge);
		if (verify_row_same(in, &is, &must))
			return true;
	}
	if (!row_is_unchanged(in, key, found, &is))
		return false;
	if (found)
		report_differences(in, key, &is, &must);
	else
		report_missing(in, in->table->type, key, content.object);
	return true;
}

/* Report children that the row's pages list and that have no row. */
static void
verify_children(Inspection *in, const ObjectKey *key)
{
	RowValues is;
	Jsonb *data;
	ListCell *cell;

	if (in->table->type->npages == 0 || !verify_row_fetch(in, key, &is) ||
		verify_row_state(in, &is).deleted ||
		(data = verify_row_data(in, &is)) == NULL || !JB_ROOT_IS_OBJECT(data))
		return;
	foreach(cell, verify_lost_children(in->table->type, key, data, in->children,
									   in->reader))
	{
		SnapshotRow *row = lfirst(cell);
		ObjectKey child = {row->id, unconstify(char *, row->account)};

		if (row_is_unchanged(in, key, true, &is))
			report_missing(in, row->type, &child, row->object);
	}
}

/* Verify these objects of the table, each in memory that is freed after it. */
static void
verify_keys(Inspection *in, List *keys)
{
	MemoryContext memory = AllocSetContextCreate(CurrentMemoryContext,
												 "stripe_sync verification",
												 ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(memory);
	ListCell *cell;

	foreach(cell, keys)
	{
		for (int tries = 0; in->children == NIL && tries < MAX_TRIES &&
							!verify_object(in, lfirst(cell));
			 tries++)
			;
		verify_children(in, lfirst(cell));
		MemoryContextReset(memory);
		CHECK_FOR_INTERRUPTS();
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(memory);
}

/* The verification of one type; an error in it does not stop the others. */
typedef struct TypeCheck
{
	ReturnSetInfo *result;
	const CatalogType *type;
	List *keys;
	int sample;
	Oid reader;		/* the caller */
	List *children; /* as in Inspection */
	bool only_keys; /* verify these keys, not a sample */
	bool found;
} TypeCheck;

/*
 * Verify the type's table, which is locked.  The values of two rows are compared
 * as jsonb by a statement, because columns may have any type.
 */
static void
verify_table(const TypeCheck *check, MirrorTable *table)
{
	Inspection in = {.result = check->result,
					 .table = table,
					 .children = check->children,
					 .reader = check->reader};
	Oid row_type = get_rel_type_id(table->relid);
	Oid types[] = {row_type, row_type};
	/* while it is open, code of its owner that we run cannot alter it */
	Relation relation = table_open(table->relid, NoLock);

	table_cache_pin(table);
	in.desc = lookup_rowtype_tupdesc_copy(row_type, -1);
	in.fetch = verify_row_prepare_fetch(table);
	in.differences = verify_row_prepare(
		"SELECT COALESCE(a.key, b.key),"
		"   NULLIF(a.value, 'null'), NULLIF(b.value, 'null')"
		" FROM pg_catalog.jsonb_each(pg_catalog.to_jsonb($1)) a"
		" FULL JOIN pg_catalog.jsonb_each(pg_catalog.to_jsonb($2)) b"
		"   ON a.key OPERATOR(pg_catalog.=) b.key"
		" WHERE a.value IS DISTINCT FROM b.value"
		" ORDER BY COALESCE(a.key, b.key) COLLATE \"C\"",
		2, types);
	verify_keys(&in, check->only_keys
						 ? check->keys
						 : verify_sample(table, check->keys, check->sample));
	if (in.hidden > 0)
		report_hidden(&in);
	SPI_freeplan(in.fetch);
	SPI_freeplan(in.differences);
	table_cache_unpin(table);
	table_close(relation, NoLock);
}

/* Verify one type; it may be called in a subtransaction. */
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

/*
 * Verify these objects of a type, of ObjectKey, without regard to what the
 * caller may read.  Returns false if the type has no table, or one that cannot
 * be used.
 */
bool
verify_objects(const CatalogType *type, List *keys, ReturnSetInfo *result)
{
	TypeCheck check = {.result = result,
					   .type = type,
					   .keys = keys,
					   .only_keys = true,
					   .reader = BOOTSTRAP_SUPERUSERID};
	ErrorData *error;

	return subtransaction_run(verify_type, &check, NULL, &error) && check.found;
}

/*
 * Verify the children of a type that is not requested itself; without effect if
 * the caller may not read its table.
 */
static void
verify_children_of(void *arg)
{
	TypeCheck *check = arg;
	MirrorTable *table = table_cache_find(check->type, TABLE_READ);

	if (table != NULL && table_shows_all(table, check->reader))
		verify_table(check, table);
}

/*
 * Verify missing children of the named types below parents whose types are not
 * named.  Errors of these tables are ignored: they are reported when the type
 * itself is verified.
 */
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
		(void) subtransaction_run(verify_children_of, &check, NULL, &error);
	}
}

/* Report that a table cannot be used, with the message of the error. */
static void
report_table(const TypeCheck *check, const ErrorData *error)
{
	ObjectKey none = {"", ""};
	StringInfoData json;

	initStringInfo(&json);
	escape_json(&json, error->message);
	verify_report(check->result, check->type->object, &none, "(table)",
				  DatumGetJsonbP(
					  DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data))),
				  NULL);
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
						errmsg("sample must be at least 1")));
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
			if (!subtransaction_run(verify_type, &check, NULL, &error))
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
