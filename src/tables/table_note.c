/*
 * table_note.c
 *		What create_tables() has noted of a mirror table: its OID, its owner, the
 *		search_path under which its triggers run, and which of its columns are
 *		the mirror's.
 *
 * A column that is not noted is a user's, whatever its name: a later catalog may
 * have a field of that name.  Notes are read with the newest snapshot and the
 * rights of the extension.  Writing one invalidates the definitions of tables
 * that other sessions have cached, when it is committed (the statement trigger
 * config_changed() of stripe_sync.mirror_table).
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#include "engine/engine.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "tables/tables.h"
#include "types/types.h"
#include "tables/internal.h"

#define NOTE_NAME 1 /* the number of mirror_table.table_name */

static Oid note_relid = InvalidOid; /* of stripe_sync.mirror_table, once read */

/* Is it stripe_sync.mirror_table?  False in a session that has not read it. */
bool
table_note_is(Oid relid)
{
	return relid == note_relid;
}

static List *
names_of(ArrayType *array)
{
	Datum *elements;
	bool *nulls;
	int count;
	List *names = NIL;

	if (array == NULL)
		return NIL;
	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elements,
					  &nulls, &count);
	for (int i = 0; i < count; i++)
		if (!nulls[i])
			names = lappend(names, TextDatumGetCString(elements[i]));
	return names;
}

/* In the order of the columns in src/tables/tables.sql. */
static void
read_note(Rows *row, TableNote *note)
{
	char *table = rows_text(row);
	bool isnull;
	Datum path = rows_datum(row, TEXTOID, &isnull);
	Datum owners = rows_datum(row, TEXTARRAYOID, &isnull);
	ArrayType *columns;

	note->search_path = path_read(path, owners);
	note->search_path->holder = psprintf("table %s.%s", MIRROR_SCHEMA,
										 quote_identifier(table));
	note->search_path->renewal = "stripe_sync.create_tables()";
	note->relid = rows_oid(row);
	note->owner = rows_text(row);
	columns = rows_varlena(row, TEXTARRAYOID);
	note->lists_columns = columns != NULL;
	note->columns = names_of(columns);
	note->given_up = names_of(rows_varlena(row, TEXTARRAYOID));
}

/*
 * Read the note of a table of this name; false, and an empty note, if there is
 * none.  It is allocated in the current memory context.
 */
bool
table_note_read(const char *table, TableNote *note)
{
	Relation relation;
	Snapshot snapshot;
	SysScanDesc scan = engine_scan("mirror_table", "mirror_table_pkey",
								   NOTE_NAME, table, &relation, &snapshot);
	HeapTuple tuple = systable_getnext(scan);
	bool found = HeapTupleIsValid(tuple);

	*note = (TableNote){0};
	note_relid = RelationGetRelid(relation);
	if (found)
	{
		Rows row = rows_of_tuple(tuple, RelationGetDescr(relation));

		read_note(&row, note);
	}
	engine_scan_end(scan, relation, snapshot);
	return found;
}

static bool
is_in(List *names, const char *name)
{
	ListCell *cell;

	foreach(cell, names)
		if (strcmp(lfirst(cell), name) == 0)
			return true;
	return false;
}

/* Is a column of this name the mirror's, by the note? */
bool
table_note_has(const TableNote *note, const char *column)
{
	return !note->lists_columns || is_in(note->columns, column);
}

/* Was the column the mirror's, until it got another type? */
bool
table_note_gave_up(const TableNote *note, const char *column)
{
	return is_in(note->given_up, column);
}

/* The names of CatalogField, as text[]. */
static StatementArg
arg_names(List *columns)
{
	Datum *names = palloc((list_length(columns) + 1) * sizeof(Datum));
	int count = 0;
	ListCell *cell;

	foreach(cell, columns)
		names[count++] = CStringGetTextDatum(
			((CatalogField *) lfirst(cell))->name);
	return arg_varlena(TEXTARRAYOID, construct_array(names, count, TEXTOID, -1,
													 false, TYPALIGN_INT));
}

/*
 * Note the type's table as it is now, with these columns of the mirror's and
 * those that it has given up; both are lists of CatalogField.  The note that
 * was there is replaced.
 */
void
table_note_write(const CatalogType *type, const NotedPath *search_path,
				 List *columns, List *given_up)
{
	static EngineStatement write = {
		"INSERT INTO stripe_sync.mirror_table"
		" (table_name, search_path, path_owners, columns, given_up, relid, owner)"
		" VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (table_name) DO UPDATE"
		" SET search_path = excluded.search_path,"
		"  path_owners = excluded.path_owners, columns = excluded.columns,"
		"  given_up = excluded.given_up, relid = excluded.relid,"
		"  owner = excluded.owner"};
	Oid relid = table_lookup(type);
	char *owner = GetUserNameFromId(own_table_owner(relid), false);
	RoleScope scope = role_enter_engine();

	statement_exec(&write,
				   ARGS(arg_text(type->table), arg_text(search_path->names),
						arg_datum(TEXTARRAYOID, path_owners(search_path)),
						arg_names(columns), arg_names(given_up), arg_oid(relid),
						arg_text(owner)));
	role_leave(&scope);
}
