/*
 * table.c
 *		A mirror table as it stands in this database: which column takes what,
 *		who owns it, and whether it may be written straight.
 *
 * Read once a session and kept until the relation cache says that the table
 * has changed.  A table is locked as strongly as the step will need, then looked
 * at: what the cache says of a table that isn't locked may be over before it is
 * used.
 */
#include "mirror.h"

#include "access/genam.h"
#include "access/relation.h"
#include "access/xlog.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "nodes/primnodes.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/rls.h"
#include "utils/snapmgr.h"

/* Of a table that create_tables() has not noted: nothing of anybody's is found. */
#define UNNOTED_PATH "pg_catalog, pg_temp"

static MirrorTable **tables = NULL; /* by index of the type */

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

/* What a column that we write must be. */
Oid
table_meta_type(MetaColumn column)
{
	return column == META_KEY ? TEXTOID : meta_columns[column].type;
}

static void
table_drop(MirrorTable *table)
{
	for (int i = 0; i < NSQL; i++)
		if (table->plans[i] != NULL)
			SPI_freeplan(table->plans[i]);
	MemoryContextDelete(table->memory);
}

/*
 * A pinned table outlives its invalidation: a trigger of the user's may have
 * received another event while the outer one is being written.  A pin that an
 * error left behind costs the memory of one table.
 */
void
table_pin(MirrorTable *table)
{
	table->pins++;
}

void
table_unpin(MirrorTable *table)
{
	table->pins--;
}

static bool
is_not_null_test(List *predicate)
{
	NullTest *test;

	if (list_length(predicate) != 1 || !IsA(linitial(predicate), NullTest))
		return false;
	test = linitial(predicate);
	return IsA(test->arg, Var);
}

/* Can no code of a user's run when a row goes into this index? */
static bool
index_is_plain(Oid indexid)
{
	Relation index = index_open(indexid, AccessShareLock);
	List *predicate = RelationGetIndexPredicate(index);
	bool plain = RelationGetIndexExpressions(index) == NIL &&
				 (predicate == NIL || is_not_null_test(predicate)) &&
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

/* What was written while it had another type is not in it. */
static void
refuse_returned(const MirrorTable *table, const char *column)
{
	ereport(
		ERROR,
		(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
		 errmsg("column \"%s\" of table %s.%s was changed back, and not filled",
				column, MIRROR_SCHEMA, table->type->table),
		 errhint("SELECT * FROM stripe_sync.create_tables(ARRAY[%s]) fills it.",
				 quote_literal_cstr(table->type->object))));
}

/* What a column takes from the object, or false when it is a user's. */
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
		if (attribute->atttypid == value_type(column->kind))
			refuse_returned(table, name);
		return false;
	}
	column->name = MemoryContextStrdup(table->memory, name);
	return true;
}

/* A view or a foreign table, say, of the name of a mirror table. */
static const char *
kind_name(char relkind)
{
	switch (relkind)
	{
		case RELKIND_VIEW:
			return "a view";
		case RELKIND_MATVIEW:
			return "a materialized view";
		case RELKIND_FOREIGN_TABLE:
			return "a foreign table";
		case RELKIND_SEQUENCE:
			return "a sequence";
		case RELKIND_COMPOSITE_TYPE:
			return "a composite type";
		default:
			return "an index";
	}
}

bool
table_kind_fits(char relkind)
{
	return relkind == RELKIND_RELATION || relkind == RELKIND_PARTITIONED_TABLE;
}

/* Report, at this level, a relation of another kind in the place of a table. */
void
table_report_kind(int level, const CatalogType *type, char relkind)
{
	ereport(level,
			(errcode(ERRCODE_WRONG_OBJECT_TYPE),
			 errmsg("%s.%s is %s, the mirror needs a table", MIRROR_SCHEMA,
					type->table, kind_name(relkind)),
			 errhint("Rename it, then call stripe_sync.create_tables(ARRAY[%s]).",
					 quote_literal_cstr(type->object))));
}

static void
wrong_type(Relation relation, const char *column, Oid wanted)
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

static bool
bind_meta(MirrorTable *table, Relation relation, Form_pg_attribute attribute)
{
	const char *name = NameStr(attribute->attname);

	if (strcmp(name, "id") == 0 && table->type->key[0] == '\0')
		return false;
	for (int i = 0; i < lengthof(meta_columns); i++)
		if (strcmp(meta_columns[i].name, name) == 0)
		{
			if (attribute->atttypid != meta_columns[i].type)
				wrong_type(relation, name, meta_columns[i].type);
			table->meta[i] = attribute->attnum;
			if (i == META_DATA)
				table->data_compression = attribute->attcompression;
			return true;
		}
	return false;
}

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
			table->plain = false; /* the value is rounded, or refused */
		if (bind_meta(table, relation, attribute))
			continue;
		if (attribute->attgenerated != '\0' ||
			!bind_column(table, attribute, note, column))
		{
			table->runs_code = true; /* a domain may have a check */
			table->plain = false;
			continue;
		}
		if (attribute->atttypid != value_type(column->kind))
			wrong_type(relation, column->name, value_type(column->kind));
		if (strcmp(column->name, table->type->key) == 0)
			table->meta[META_KEY] = attribute->attnum;
		table->ncolumns++;
	}
}

/* Two ids must never be equal: prod_Aa and prod_aA are two products. */
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
				 errdetail("It takes different ids for the same."),
				 errhint("ALTER TABLE %s.%s ALTER %s TYPE text COLLATE \"C\".",
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

/* Fields in the order of jsonb's keys, then derived columns. */
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
				 "If it is another tool's, rename it; then call stripe_sync.create_tables().")));
}

/* Who has taken the right away from himself is refused by the executor. */
static bool
owner_may_write(Oid relid, Oid owner)
{
	AclMode wanted = ACL_SELECT | ACL_INSERT | ACL_UPDATE;

	return pg_class_aclmask(relid, owner, wanted, ACLMASK_ALL) == wanted;
}

/* Read the table, which is locked. */
static MirrorTable *
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
	/* a foreign key that points to it runs nothing, but wants the executor */
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
	MemoryContextSetParent(memory, CacheMemoryContext); /* no error any more */
	return table;
}

/* The relation that has the name of the type's table now. */
Oid
table_lookup(const CatalogType *type)
{
	Oid namespace = get_namespace_oid(MIRROR_SCHEMA, true);

	return OidIsValid(namespace) ? get_relname_relid(type->table, namespace)
								 : InvalidOid;
}

/*
 * Lock the type's table, and look its name up again: while the lock was waited
 * for another may have got it.  The lock lasts to the transaction's end.
 */
Oid
table_lock(const CatalogType *type, LOCKMODE mode)
{
	Oid relid = table_lookup(type);

	while (OidIsValid(relid))
	{
		Oid now;

		LockRelationOid(relid, mode);
		now = table_lookup(type);
		if (now == relid)
			break;
		UnlockRelationOid(relid, mode);
		relid = now;
	}
	return relid;
}

static LOCKMODE
lock_for(TableUse use)
{
	return use == TABLE_WRITE && !RecoveryInProgress() ? RowExclusiveLock
													   : AccessShareLock;
}

/*
 * The type's table, locked for what the step will do with it; NULL when this
 * database has none.  The first call of a step must name the strongest use: who
 * locks a table weakly first deadlocks with DDL on it.
 */
MirrorTable *
table_find(const CatalogType *type, TableUse use)
{
	int i = type - catalog_types;
	Oid relid;

	if (tables == NULL)
		tables = MemoryContextAllocZero(TopMemoryContext,
										catalog_ntypes * sizeof(MirrorTable *));
	relid = table_lock(type, lock_for(use));
	if (tables[i] != NULL && (!tables[i]->valid || tables[i]->relid != relid))
	{
		if (tables[i]->pins == 0)
			table_drop(tables[i]);
		tables[i] = NULL;
	}
	if (OidIsValid(relid) && tables[i] == NULL)
		tables[i] = table_bind(type, relid);
	return tables[i];
}

/* Could the role select every row of it? */
bool
table_shows_all(const MirrorTable *table, Oid role)
{
	return pg_class_aclcheck(table->relid, role, ACL_SELECT) == ACLCHECK_OK &&
		   check_enable_rls(table->relid, role, true) != RLS_ENABLED;
}

/* Does row security hold for its owner too, as whom we read and write it? */
bool
table_is_policed(const MirrorTable *table)
{
	return check_enable_rls(table->relid, table->owner, true) == RLS_ENABLED;
}

/* Has it a column of this name that is the mirror's? */
bool
table_has_column(const MirrorTable *table, const char *name)
{
	for (int i = 0; i < table->ncolumns; i++)
		if (strcmp(table->columns[i].name, name) == 0)
			return true;
	return false;
}

static bool
same_shape(const MirrorTable *a, const MirrorTable *b)
{
	if (a->owner != b->owner || a->runs_code != b->runs_code ||
		a->plain != b->plain || a->natts != b->natts ||
		a->ncolumns != b->ncolumns || a->key_index != b->key_index ||
		memcmp(a->meta, b->meta, sizeof(a->meta)) != 0)
		return false;
	for (int i = 0; i < a->ncolumns; i++)
		if (a->columns[i].attnum != b->columns[i].attnum ||
			a->columns[i].kind != b->columns[i].kind)
			return false;
	return true;
}

/*
 * Is the table still as it was found?  Others can't have changed its shape, for
 * it is locked; code of a user's that this transaction runs can.
 */
void
table_check(MirrorTable *table)
{
	MirrorTable *now;
	bool same;

	if (table->valid)
		return;
	now = table_bind(table->type, table->relid);
	same = same_shape(table, now);
	table_drop(now);
	if (!same)
		ereport(
			ERROR,
			(errcode(ERRCODE_OBJECT_IN_USE),
			 errmsg("table %s.%s was changed while an event was written to it",
					MIRROR_SCHEMA, table->type->table),
			 errhint("Do not alter mirror tables in their own triggers.")));
	table->valid = true;
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
 * The values of all columns that come from the object, by attribute number.
 * Columns and keys are in the same order: one walk over both does.
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
			nulls[column->attnum - 1] = !value_from_json(
				column->kind, &json, &values[column->attnum - 1]);
	}
	for (i = table->nfields; i < table->ncolumns; i++)
	{
		TableColumn *column = &table->columns[i];

		nulls[column->attnum - 1] = !value_take(column->derived, column->name,
												column->kind, object,
												&values[column->attnum - 1]);
	}
}

static void
table_forget(Datum arg, Oid relid)
{
	bool all = relid == InvalidOid || table_note_is(relid);

	for (int i = 0; tables != NULL && i < catalog_ntypes; i++)
		if (tables[i] != NULL && (all || tables[i]->relid == relid))
			tables[i]->valid = false;
}

void
table_init(void)
{
	CacheRegisterRelcacheCallback(table_forget, (Datum) 0);
}
