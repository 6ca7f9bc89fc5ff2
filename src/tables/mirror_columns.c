/*
 * mirror_columns.c
 *		The columns that a mirror table should have by the catalog, and those
 *		that it has.
 *
 * Columns are recognized by name and type.  A column that has a field's name and
 * is not noted as the mirror's (table_note.c) is a user's, and is left alone.
 * Types are read from the system catalogs: the caller holds a lock on the table,
 * or compares again once it does.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "engine/rights.h"
#include "tables/tables.h"
#include "types/types.h"
#include "tables/internal.h"

/*
 * The columns of a type that come from the object, of CatalogField: its fields,
 * and derived columns that are not fields of today's API version.
 */
List *
columns_of_type(const CatalogType *type)
{
	List *columns = NIL;

	for (int i = 0; i < type->nfields; i++)
		columns = lappend(columns, unconstify(CatalogField *, &type->fields[i]));
	for (int i = 0; i < nderived_columns; i++)
	{
		CatalogField *field;

		if (strcmp(derived_columns[i].table, type->table) != 0 ||
			catalog_field(type, derived_columns[i].name) != NULL)
			continue;
		field = palloc(sizeof(CatalogField));
		field->name = derived_columns[i].name;
		field->kind = derived_columns[i].kind;
		columns = lappend(columns, field);
	}
	return columns;
}

/*
 * Is it a table of the mirror?  It then has all columns of the mirror's own
 * state, with their types, and the key.
 */
bool
columns_look_ours(const CatalogType *type, Oid relid)
{
	AttrNumber key;

	for (MetaColumn column = META_DATA; column < META_KEY; column++)
	{
		AttrNumber attnum = get_attnum(relid, table_meta_name(column));

		if (attnum == InvalidAttrNumber ||
			get_atttype(relid, attnum) != table_meta_type(column))
			return false;
	}
	if (type->key[0] == '\0')
		return true;
	key = get_attnum(relid, type->key);
	return key != InvalidAttrNumber && get_atttype(relid, key) == TEXTOID;
}

/*
 * Put one field into the set.  A column that is the mirror's and has another type
 * is given up, and noted as such: it can be filled again once its type is back.
 */
static void
compare_column(ColumnSet *set, const CatalogType *type, Oid relid,
			   CatalogField *field, const TableNote *note)
{
	AttrNumber attnum = get_attnum(relid, field->name);
	bool fits;
	bool was_ours;
	bool is_ours;

	if (attnum == InvalidAttrNumber)
	{
		set->missing = lappend(set->missing, field);
		return;
	}
	fits = get_atttype(relid, attnum) == column_value_type(field->kind);
	was_ours = table_note_gave_up(note, field->name);
	is_ours = !was_ours && (table_note_has(note, field->name) ||
							strcmp(field->name, type->key) == 0);
	if (fits && was_ours)
		set->returned = lappend(set->returned, field);
	else if (fits && is_ours)
		set->ours = lappend(set->ours, field);
	else
		set->conflicts = lappend(set->conflicts, field);
	if (!fits && (was_ours || is_ours))
		set->given_up = lappend(set->given_up, field);
	set->lost |= !fits && is_ours;
}

/* The columns of a table, compared with the catalog and with its note. */
ColumnSet
columns_compare(const CatalogType *type, Oid relid, const TableNote *note)
{
	ColumnSet set = {0};
	ListCell *cell;

	foreach(cell, columns_of_type(type))
		compare_column(&set, type, relid, lfirst(cell), note);
	return set;
}

/* The names of columns, for a message. */
static char *
quoted_names(List *columns)
{
	StringInfoData names;
	ListCell *cell;

	initStringInfo(&names);
	foreach(cell, columns)
		appendStringInfo(&names, "%s\"%s\"", names.len > 0 ? ", " : "",
						 ((CatalogField *) lfirst(cell))->name);
	return names.data;
}

/* Report a user's columns that have the names of fields (CatalogField). */
void
columns_report_conflicts(const CatalogType *type, List *conflicts)
{
	CatalogField *first = linitial(conflicts);

	ereport(
		NOTICE,
		(errmsg_plural(
			 "column %s of %s.%s was not created by stripe_sync and is not written",
			 "columns %s of %s.%s were not created by stripe_sync and are not written",
			 list_length(conflicts), quoted_names(conflicts), MIRROR_SCHEMA,
			 type->table),
		 errdetail("Stripe's field of the same name is in _data -> %s.",
				   quote_literal_cstr(first->name)),
		 errhint(
			 "To have the field in a column, run ALTER TABLE %s.%s RENAME %s TO my_%s; and SELECT * FROM stripe_sync.create_tables(ARRAY[%s]);",
			 MIRROR_SCHEMA, quote_identifier(type->table),
			 quote_identifier(first->name), first->name,
			 quote_literal_cstr(type->object))));
}
