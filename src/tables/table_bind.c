/*
 * table_bind.c
 *		Reads the definition of a mirror table in this database: which column
 *		holds what, who owns it, and whether its rows may be written directly.
 *
 * Users may alter the mirror's tables: add columns, indexes, triggers, policies;
 * partition or distribute them.  The definition says what of that a write must
 * respect.  A table is "plain" if a write runs no code of a user's and needs no
 * right that its owner could lack: its rows may be written without the executor
 * (mirror_direct.c).  Where this is in doubt a table is not plain.
 *
 * The caller holds a lock on the table, so that the definition stays valid.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "base/compat.h"
#include "engine/engine.h"
#include "engine/rights.h"
#include "tables/stored_index.h"
#include "tables/tables.h"
#include "types/types.h"
#include "tables/internal.h"

/* For a table that is not noted: no schema of a user's is searched. */
#define UNNOTED_PATH "pg_catalog, pg_temp"

static const struct
{
	const char *name;
	Oid type;
} meta_columns[] = {
	[META_DATA] = {"_data", JSONBOID},
	[META_ACCOUNT] = {"_account", TEXTOID},
	[META_DELETED_AT] = {"_deleted_at", TIMESTAMPTZOID},
	[META_EVENT_ID] = {"_event_id", TEXTOID},
	[META_AS_OF] = {"_as_of", TIMESTAMPTZOID},
	[META_SYNCED_AT] = {"_synced_at", TIMESTAMPTZOID},
};

/* The name of a column of the mirror's own state; the key's is the type's. */
const char *
table_meta_name(MetaColumn column)
{
	Assert(column < META_KEY);
	return meta_columns[column].name;
}

/* The type that a column of the mirror's own state must have. */
Oid
table_meta_type(MetaColumn column)
{
	return column == META_KEY ? TEXTOID : meta_columns[column].type;
}

/*
 * Does inserting into this index run no code of a user's?  Operator classes that
 * are not the server's own are a user's code.  A deferrable or exclusion
 * constraint needs the executor.
 */
static bool
index_is_plain(Oid indexid)
{
	Relation index = index_open(indexid, AccessShareLock);
	bool not_null;
	bool plain = stored_index_lower(indexid) >= 0 &&
				 stored_index_partial(indexid, &not_null) >= 0 &&
				 index->rd_index->indimmediate &&
				 !index->rd_index->indisexclusion;

	for (int i = 0; plain && i < index->rd_att->natts; i++)
		plain = i >= index->rd_index->indnkeyatts ||
				index->rd_opfamily[i] < FirstNormalObjectId;
	index_close(index, AccessShareLock);
	return plain;
}

/*
 * May code of the owner's run when a row is written: a trigger, rule, check,
 * default, policy, an index on an expression, or anything of a partition's?
 */
static bool
table_runs_code(Relation relation)
{
	TupleConstr *constr = relation->rd_att->constr;
	ListCell *cell;

	if (relation->rd_rel->relkind != RELKIND_RELATION ||
		relation->rd_rel->relispartition || relation->rd_rel->relhassubclass ||
		row_fires(relation) || relation->rd_rules != NULL ||
		relation->rd_rel->relrowsecurity ||
		relation->rd_tableam != GetHeapamTableAmRoutine())
		return true;
	if (constr != NULL && (constr->num_check > 0 || constr->num_defval > 0 ||
						   constr->has_generated_stored))
		return true;
	foreach(cell, RelationGetIndexList(relation))
		if (!index_is_plain(lfirst_oid(cell)))
			return true;
	return false;
}

/*
 * A column that was given up has its type again.  It lacks what was written
 * meanwhile, and must not be taken for complete.
 */
static void
refuse_returned(const MirrorTable *table, const char *column)
{
	ereport(
		ERROR,
		(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
		 errmsg(
			 "column \"%s\" of table %s.%s has not been filled since its type was changed back",
			 column, MIRROR_SCHEMA, table->type->table),
		 errhint("Run SELECT * FROM stripe_sync.create_tables(ARRAY[%s]).",
				 quote_literal_cstr(table->type->object))));
}

/*
 * Set what a column takes from the object; false if it is a user's column.  The
 * key is the mirror's even where the note does not list it.
 */
static bool
bind_column(MirrorTable *table, Form_pg_attribute attribute,
			const TableNote *note, TableColumn *column)
{
	const char *name = NameStr(attribute->attname);
	const CatalogField *field = catalog_field(table->type, name);

	if (!table_note_has(note, name) && !table_note_gave_up(note, name) &&
		strcmp(name, table->type->key) != 0)
		return false;
	column->attnum = attribute->attnum;
	column->derived = derived_find(table->type->table, name);
	if (column->derived != NULL)
		column->kind = column->derived->kind;
	else if (field != NULL)
		column->kind = field->kind;
	else
		return false;
	if (table_note_gave_up(note, name))
	{
		if (attribute->atttypid == column_value_type(column->kind))
			refuse_returned(table, name);
		return false;
	}
	column->name = MemoryContextStrdup(table->memory, name);
	return true;
}

static void
report_wrong_type(Relation relation, const char *column, Oid wanted)
{
	ereport(
		ERROR,
		(errcode(ERRCODE_DATATYPE_MISMATCH),
		 errmsg("column \"%s\" of table %s.%s is no longer of type %s", column,
				MIRROR_SCHEMA, RelationGetRelationName(relation),
				format_type_be(wanted)),
		 errhint(
			 "Change it back, or rename it and call stripe_sync.create_tables().")));
}

/*
 * Is it a column of the mirror's own state?  The key is not one of them: it is a
 * field as well, and is set by bind_columns().
 */
static bool
bind_meta(MirrorTable *table, Relation relation, Form_pg_attribute attribute)
{
	const char *name = NameStr(attribute->attname);

	for (int i = 0; i < lengthof(meta_columns); i++)
		if (strcmp(meta_columns[i].name, name) == 0)
		{
			if (attribute->atttypid != meta_columns[i].type)
				report_wrong_type(relation, name, meta_columns[i].type);
			table->meta[i] = attribute->attnum;
			if (i == META_DATA)
				table->data_compression = attribute->attcompression;
			return true;
		}
	return false;
}

/*
 * Bind all columns.  One that is not the mirror's makes the table not plain: its
 * default would be missing from a row that is written without the executor.
 */
static void
bind_columns(MirrorTable *table, Relation relation, const TableNote *note)
{
	TupleDesc desc = RelationGetDescr(relation);

	table->natts = desc->natts;
	table->columns = MemoryContextAlloc(table->memory,
										desc->natts * sizeof(TableColumn));
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);
		TableColumn *column = &table->columns[table->ncolumns];

		if (attribute->attisdropped)
			continue;
		if (attribute->atttypmod >= 0)
			table->plain = false; /* varchar(10), say: checked when assigned */
		if (bind_meta(table, relation, attribute))
			continue;
		if (attribute->attgenerated != '\0' ||
			!bind_column(table, attribute, note, column))
		{
			table->runs_code = true; /* a domain may have a check */
			table->plain = false;
			continue;
		}
		if (attribute->atttypid != column_value_type(column->kind))
			report_wrong_type(relation, column->name,
							  column_value_type(column->kind));
		if (strcmp(column->name, table->type->key) == 0)
			table->meta[META_KEY] = attribute->attnum;
		table->ncolumns++;
	}
}

/*
 * Ids must be compared byte by byte: prod_Aa and prod_aA are two products.  A
 * nondeterministic collation may call them equal.
 */
static void
check_collations(const MirrorTable *table, Relation index)
{
	for (int i = 0; i < index->rd_index->indnkeyatts; i++)
		if (OidIsValid(index->rd_indcollation[i]) &&
			!get_collation_isdeterministic(index->rd_indcollation[i]))
			ereport(
				ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg(
					 "the primary key of table %s.%s has a nondeterministic collation",
					 MIRROR_SCHEMA, table->type->table),
				 errdetail("Different ids could be equal in it."),
				 errhint("Run ALTER TABLE %s.%s ALTER %s TYPE text COLLATE \"C\".",
						 MIRROR_SCHEMA, quote_identifier(table->type->table),
						 quote_identifier(get_attname(
							 table->relid, index->rd_index->indkey.values[i],
							 false)))));
}

/* The primary key must be the object's key and _account, in that order. */
static bool
key_is_ours(const MirrorTable *table)
{
	Relation index = index_open(table->key_index, AccessShareLock);
	Form_pg_index form = index->rd_index;
	bool single = table->meta[META_KEY] == InvalidAttrNumber;
	bool ours;

	ours = form->indnkeyatts == (single ? 1 : 2) &&
		   (single || form->indkey.values[0] == table->meta[META_KEY]) &&
		   form->indkey.values[single ? 0 : 1] == table->meta[META_ACCOUNT];
	if (ours)
		check_collations(table, index);
	index_close(index, AccessShareLock);
	return ours;
}

/* Fields in the order of jsonb's keys (length, then bytes), then derived columns. */
static int
compare_columns(const void *a, const void *b)
{
	const TableColumn *left = a;
	const TableColumn *right = b;
	int difference = (left->derived != NULL) - (right->derived != NULL);

	if (difference == 0)
		difference = (int) strlen(left->name) - (int) strlen(right->name);
	return difference != 0 ? difference : strcmp(left->name, right->name);
}

static void
sort_columns(MirrorTable *table)
{
	qsort(table->columns, table->ncolumns, sizeof(TableColumn), compare_columns);
	while (table->nfields < table->ncolumns &&
		   table->columns[table->nfields].derived == NULL)
		table->nfields++;
}

/*
 * Find the primary key.  Raise 55000 if it or a column that the mirror needs is
 * missing.
 */
static void
check_bound(MirrorTable *table, Relation relation)
{
	bool whole = table->type->key[0] == '\0' || table->meta[META_KEY] != 0;

	for (int i = 0; i < lengthof(meta_columns); i++)
		whole = whole && table->meta[i] != 0;
	table->key_index = compat_primary_key(relation);
	whole = whole && OidIsValid(table->key_index) && key_is_ours(table);
	if (!whole)
		ereport(
			ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg(
				 "table %s.%s lacks a column or the primary key that the mirror needs",
				 MIRROR_SCHEMA, RelationGetRelationName(relation)),
			 errhint(
				 "If the table belongs to another tool, rename it; then call stripe_sync.create_tables().")));
}

/*
 * An owner can revoke rights from himself.  The table is then written by the
 * executor, which raises the error.
 */
static bool
owner_may_write(Oid relid, Oid owner)
{
	AclMode wanted = ACL_SELECT | ACL_INSERT | ACL_UPDATE;

	return pg_class_aclmask(relid, owner, wanted, ACLMASK_ALL) == wanted;
}

/*
 * Read the definition of the type's table, which is locked, into a memory
 * context of its own that lives until table_cache.c deletes it.  Raises an error
 * if it cannot be used as a mirror table, or belongs to a role that may not own
 * the mirror.  On error the memory goes with the caller's context.
 */
MirrorTable *
table_bind(const CatalogType *type, Oid relid)
{
	MemoryContext memory = AllocSetContextCreate(
		CurrentMemoryContext, "stripe_sync mirror table", ALLOCSET_SMALL_SIZES);
	MirrorTable *table = MemoryContextAllocZero(memory, sizeof(MirrorTable));
	TableNote note;
	Relation relation;

	table->memory = memory;
	table->type = type;
	table->relid = relid;
	table->valid = true;
	relation = relation_open(relid, NoLock);
	if (!table_kind_fits(relation->rd_rel->relkind))
		table_report_kind(ERROR, type, relation->rd_rel->relkind);
	table->owner = relation->rd_rel->relowner;
	table->runs_code = table_runs_code(relation);
	/* triggers of foreign keys that point to it need the executor, but run no code */
	table->plain = !table->runs_code && relation->trigdesc == NULL &&
				   owner_may_write(relid, table->owner);
	(void) table_note_read(RelationGetRelationName(relation), &note);
	mirror_schema_check(type, relid, &note);
	bind_columns(table, relation, &note);
	sort_columns(table);
	check_bound(table, relation);
	table->can_be_scanned = relation->rd_rel->relkind == RELKIND_RELATION &&
							relation->rd_tableam == GetHeapamTableAmRoutine() &&
							index_is_plain(table->key_index);
	table->search_path = path_copy(
		note.search_path ? note.search_path : path_make(UNNOTED_PATH), memory);
	relation_close(relation, NoLock);
	/* from here on nothing raises an error */
	MemoryContextSetParent(memory, CacheMemoryContext);
	return table;
}

/* Does the table have a column of this name that belongs to the mirror? */
bool
table_has_column(const MirrorTable *table, const char *name)
{
	for (int i = 0; i < table->ncolumns; i++)
		if (strcmp(table->columns[i].name, name) == 0)
			return true;
	return false;
}

/* jsonb keeps keys by length, then by bytes. */
static int
compare_to_key(const char *name, const JsonbValue *key)
{
	int length = (int) strlen(name);

	if (length != key->val.string.len)
		return length - key->val.string.len;
	return memcmp(name, key->val.string.val, length);
}

/*
 * Set the values of all columns that come from the object, by attribute number;
 * those of other columns are left alone.  Columns and keys of a jsonb object are
 * in the same order, so one walk over both finds them.
 */
void
table_values(MirrorTable *table, JsonbContainer *object, Datum *values,
			 bool *nulls)
{
	JsonbIterator *iterator = JsonbIteratorInit(object);
	JsonbValue key;
	JsonbValue json;
	int i = 0;

	for (int j = 0; j < table->ncolumns; j++)
		nulls[table->columns[j].attnum - 1] = true;
	(void) JsonbIteratorNext(&iterator, &key, true);
	while (JsonbIteratorNext(&iterator, &key, true) == WJB_KEY)
	{
		TableColumn *column;

		(void) JsonbIteratorNext(&iterator, &json, true);
		while (i < table->nfields &&
			   compare_to_key(table->columns[i].name, &key) < 0)
			i++;
		if (i == table->nfields)
			break;
		column = &table->columns[i];
		if (compare_to_key(column->name, &key) == 0)
			nulls[column->attnum - 1] = !column_value_from_json(
				column->kind, &json, &values[column->attnum - 1]);
	}
	for (i = table->nfields; i < table->ncolumns; i++)
	{
		TableColumn *column = &table->columns[i];

		nulls[column->attnum - 1] = !column_value_take(
			column->derived, column->name, column->kind, object,
			&values[column->attnum - 1]);
	}
}
