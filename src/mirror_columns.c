/*
 * mirror_columns.c
 *		The columns that a mirror table should have, and those that it has.
 */
#include "tables_internal.h"

#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

/* The columns of a type that come from the object, derived ones included. */
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

/* Ours have all our own columns, with our types, and the key that we give. */
bool
columns_look_ours(const CatalogType *type, Oid relid)
{
	AttrNumber key;
	static const Oid types[] = {JSONBOID, TEXTOID,		  TIMESTAMPTZOID,
								TEXTOID,  TIMESTAMPTZOID, TIMESTAMPTZOID};
	static const char *const names[] = {"_data",	 "_account", "_deleted_at",
										"_event_id", "_as_of",	 "_synced_at"};

	for (int i = 0; i < lengthof(names); i++)
	{
		AttrNumber attnum = get_attnum(relid, names[i]);

		if (attnum == InvalidAttrNumber ||
			get_atttype(relid, attnum) != types[i])
			return false;
	}
	if (type->key[0] == '\0')
		return true;
	key = get_attnum(relid, type->key);
	return key != InvalidAttrNumber && get_atttype(relid, key) == TEXTOID;
}

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

/* The columns of a table, by what is noted of it. */
ColumnSet
columns_compare(const CatalogType *type, Oid relid, const TableNote *note)
{
	ColumnSet set = {0};
	ListCell *cell;

	foreach(cell, columns_of_type(type))
		compare_column(&set, type, relid, lfirst(cell), note);
	return set;
}

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

/* What stays the user's own, and how to have what Stripe sends. */
void
columns_report_conflicts(const CatalogType *type, List *conflicts)
{
	CatalogField *first = linitial(conflicts);

	ereport(
		NOTICE,
		(errmsg_plural(
			 "column %s of %s.%s is your own: the mirror does not write it",
			 "columns %s of %s.%s are your own: the mirror does not write them",
			 list_length(conflicts), quoted_names(conflicts), MIRROR_SCHEMA,
			 type->table),
		 errdetail(
			 "Stripe's field of the same name is in _data -> %s, as all fields are.",
			 quote_literal_cstr(first->name)),
		 errhint(
			 "To have it in a column: ALTER TABLE %s.%s RENAME %s TO my_%s; and SELECT * FROM stripe_sync.create_tables(ARRAY[%s]);",
			 MIRROR_SCHEMA, quote_identifier(type->table),
			 quote_identifier(first->name), first->name,
			 quote_literal_cstr(type->object))));
}
