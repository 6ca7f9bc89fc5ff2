/*
 * table_note.c
 *		What create_tables() has noted of a mirror table: which one it is, whose,
 *		the search_path that it was made under, and which of its columns are the
 *		mirror's.
 *
 * A column that is not noted is the user's own, whatever its name: a later
 * catalog may have a field of that name.  A note that is written invalidates
 * the tables of all sessions (config_changed()).
 */
#include "mirror.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/rel.h"

/* Columns of stripe_sync.mirror_table, as src/install/30_mirror.sql makes it */
enum
{
	NOTE_NAME = 1,
	NOTE_PATH,
	NOTE_PATH_OWNERS,
	NOTE_RELID,
	NOTE_OWNER,
	NOTE_COLUMNS,
	NOTE_GIVEN_UP
};

static Oid notes = InvalidOid; /* stripe_sync.mirror_table, once read */

/* Is it the table of notes? */
bool
table_note_is(Oid relid)
{
	return relid == notes;
}

static List *
names_of(ArrayType *array)
{
	Datum *elements;
	bool *nulls;
	int count;
	List *names = NIL;

	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elements,
					  &nulls, &count);
	for (int i = 0; i < count; i++)
		if (!nulls[i])
			names = lappend(names, TextDatumGetCString(elements[i]));
	return names;
}

static void
read_note(HeapTuple tuple, TupleDesc desc, TableNote *note)
{
	bool isnull;
	Datum value;

	note->search_path = path_read(
		heap_getattr(tuple, NOTE_PATH, desc, &isnull),
		heap_getattr(tuple, NOTE_PATH_OWNERS, desc, &isnull));
	value = heap_getattr(tuple, NOTE_NAME, desc, &isnull);
	note->search_path->holder = psprintf(
		"table %s.%s", MIRROR_SCHEMA,
		quote_identifier(TextDatumGetCString(value)));
	note->search_path->renewal = "stripe_sync.create_tables()";
	value = heap_getattr(tuple, NOTE_RELID, desc, &isnull);
	note->relid = DatumGetObjectId(value);
	value = heap_getattr(tuple, NOTE_OWNER, desc, &isnull);
	note->owner = TextDatumGetCString(value);
	value = heap_getattr(tuple, NOTE_COLUMNS, desc, &isnull);
	note->lists_columns = !isnull;
	if (!isnull)
		note->columns = names_of(DatumGetArrayTypeP(value));
	value = heap_getattr(tuple, NOTE_GIVEN_UP, desc, &isnull);
	if (!isnull)
		note->given_up = names_of(DatumGetArrayTypeP(value));
}

/* False, and nothing is known, where there is no note. */
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
	notes = RelationGetRelid(relation);
	if (found)
		read_note(tuple, RelationGetDescr(relation), note);
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

/* Is a column of this name the mirror's, as far as is noted? */
bool
table_note_has(const TableNote *note, const char *column)
{
	return !note->lists_columns || is_in(note->columns, column);
}

/* Was it, until it got another type? */
bool
table_note_gave_up(const TableNote *note, const char *column)
{
	return is_in(note->given_up, column);
}

/* The names of CatalogField, as text[]. */
static Datum
names_array(List *columns)
{
	Datum *names = palloc((list_length(columns) + 1) * sizeof(Datum));
	int count = 0;
	ListCell *cell;

	foreach(cell, columns)
		names[count++] = CStringGetTextDatum(
			((CatalogField *) lfirst(cell))->name);
	return PointerGetDatum(
		construct_array(names, count, TEXTOID, -1, false, TYPALIGN_INT));
}

/* Of CatalogField.  Within an SPI connection of the caller's. */
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
		"  owner = excluded.owner",
		7,
		{TEXTOID, TEXTOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, OIDOID,
		 TEXTOID}};
	Oid relid = table_lookup(type);
	char *owner = GetUserNameFromId(own_table_owner(relid), false);
	Datum values[] = {CStringGetTextDatum(type->table),
					  CStringGetTextDatum(search_path->names),
					  path_owners(search_path),
					  names_array(columns),
					  names_array(given_up),
					  ObjectIdGetDatum(relid),
					  CStringGetTextDatum(owner)};
	RoleScope scope = role_enter_engine();

	engine_run(&write, values, NULL, SPI_OK_INSERT);
	role_leave(&scope);
}
