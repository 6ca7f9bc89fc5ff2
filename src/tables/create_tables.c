/*
 * create_tables.c
 *		create_tables(): the tables of the mirror are created, and extended when
 *		the catalog has more columns.  Nothing is ever dropped.
 *
 * Tables belong to the caller, or to the database's owner if a superuser calls.
 * They are not members of the extension, so that pg_dump includes what users
 * add to them and DROP EXTENSION keeps them.
 *
 * All of it runs in the caller's transaction.  ADVISORY_CREATE_TABLES is taken
 * first and held until its end: of two concurrent callers the second waits, and
 * finds what the first has created.  A table that has to be extended is locked
 * ACCESS EXCLUSIVE before its definition is read for that; one that is complete
 * is not locked.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rls.h"

#include "base/compat.h"
#include "engine/engine.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "server/server.h"
#include "tables/tables.h"
#include "types/object.h"
#include "types/types.h"
#include "tables/internal.h"

typedef enum TableAction
{
	TABLE_CREATED,
	TABLE_EXTENDED,
	TABLE_UNCHANGED,
	TABLE_CONFLICT /* extended or not: a user's column has a field's name */
} TableAction;

static const char *const action_names[] = {"created", "extended", "unchanged",
										   "conflict"};

/* Of one call of create_tables() */
typedef struct TableMaker
{
	Oid role;				/* owns new tables */
	NotedPath *search_path; /* noted of new tables */
	bool by_superuser;
	bool lz4; /* the server can compress with it */
} TableMaker;

/* ---- an existing table ---- */

static void
refuse_other_table(const CatalogType *type)
{
	ereport(
		ERROR,
		(errcode(ERRCODE_DUPLICATE_TABLE),
		 errmsg("%s.%s is not a table of the mirror", MIRROR_SCHEMA, type->table),
		 errdetail("It lacks the columns in which the mirror keeps its state."),
		 errhint(
			 "Rename the table, or its schema: ALTER SCHEMA %s RENAME TO %s_other.",
			 MIRROR_SCHEMA, MIRROR_SCHEMA)));
}

/* Rows that row security hides from the table's owner are not filled. */
static void
warn_of_hidden_rows(const CatalogType *type, Oid relid)
{
	Oid owner = own_table_owner(relid);

	if (check_enable_rls(relid, owner, true) == RLS_ENABLED)
		ereport(
			WARNING,
			(errmsg(
				 "row security is forced on %s.%s: rows that it hides from the table's owner are NULL in new columns",
				 MIRROR_SCHEMA, type->table),
			 errhint("%s", table_policy_hint(type, owner))));
}

/* Extend the table, which is locked, in the scope of the role that may. */
static TableAction
extend_table(const CatalogType *type, Oid relid, const ColumnSet *columns,
			 bool lz4)
{
	bool lacks_index;

	if (!columns_look_ours(type, relid))
		refuse_other_table(type);
	lacks_index = address_index_lacks(type, relid, columns->ours);
	if (columns->missing != NIL)
	{
		warn_of_hidden_rows(type, relid);
		table_ddl_add_columns(type, columns->missing, lz4);
	}
	if (columns->returned != NIL)
		columns_fill(type, columns->returned);
	if (lacks_index)
		table_ddl_index_addresses(type);
	if (columns->conflicts != NIL)
		return TABLE_CONFLICT;
	return columns->missing != NIL || columns->returned != NIL || lacks_index
			   ? TABLE_EXTENDED
			   : TABLE_UNCHANGED;
}

/*
 * The role as which a table is altered.  For a superuser it is the table's
 * owner, so that no code of a user's (triggers, event triggers) runs with a
 * superuser's rights.
 */
static Oid
extending_role(Oid relid, const TableMaker *maker)
{
	return maker->by_superuser ? own_table_owner(relid) : maker->role;
}

/*
 * May the caller say that an existing table is the mirror's, and under which
 * search_path its triggers run?  This is asked of a table without a note (the
 * extension was dropped and created again) and of one whose note names another
 * table (the database was restored).
 */
static bool
may_note(const TableMaker *maker, Oid relid)
{
	return maker->by_superuser || own_table_owner(relid) == maker->role;
}

/* Before the table is locked: who may not alter it may not lock it either. */
static void
check_owner(const CatalogType *type, Oid relid, const TableMaker *maker)
{
	if (!compat_ownercheck(RelationRelationId, relid,
						   extending_role(relid, maker)))
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_TABLE, type->table);
}

/* Is there nothing to add to the table or to its note? */
static bool
is_complete(const CatalogType *type, Oid relid, const TableNote *note)
{
	ColumnSet columns;

	if (!columns_look_ours(type, relid))
		return false;
	columns = columns_compare(type, relid, note);
	return columns.missing == NIL && columns.returned == NIL && !columns.lost &&
		   !address_index_lacks(type, relid, columns.ours);
}

/*
 * Find the type's table and read its note; InvalidOid if there is no table.  A
 * table that has to be altered is locked ACCESS EXCLUSIVE; its columns may have
 * changed before that, so that the caller compares them again.
 */
static Oid
lock_to_extend(const CatalogType *type, const TableMaker *maker, TableNote *note)
{
	Oid relid = table_lookup(type);

	(void) table_note_read(type->table, note);
	if (!OidIsValid(relid) || is_complete(type, relid, note))
		return relid;
	if (!table_kind_fits(get_rel_relkind(relid)))
		table_report_kind(ERROR, type, get_rel_relkind(relid));
	check_owner(type, relid, maker);
	return table_lock(type, AccessExclusiveLock);
}

/* Write the note of an existing table. */
static void
note_table(const CatalogType *type, const ColumnSet *columns,
		   const NotedPath *search_path, const TableNote *note)
{
	if (note->search_path != NULL && note->search_path != search_path)
		ereport(
			NOTICE,
			(errmsg("the search_path of table %s.%s is \"%s\" now",
					MIRROR_SCHEMA, type->table, search_path->names),
			 errdetail(
				 "It was \"%s\", and a schema in it now belongs to another role.",
				 note->search_path->names)));
	table_note_write(
		type, search_path,
		list_concat(list_concat_copy(columns->ours, columns->missing),
					columns->returned),
		columns->given_up);
}

/*
 * The search_path under which the triggers of an existing table run: the noted
 * one.  If a schema in it belongs to another role now (path_holds()) and the
 * caller may note the table, it is replaced by the caller's, as by
 * add_handler().
 */
static const NotedPath *
path_of_table(Oid relid, const TableNote *note, const TableMaker *maker)
{
	if (note->search_path == NULL ||
		(may_note(maker, relid) &&
		 !path_holds(note->search_path, own_table_owner(relid))))
		return maker->search_path;
	return note->search_path;
}

/* ---- one table ---- */

static TableAction
make_new_table(const CatalogType *type, const TableMaker *maker)
{
	List *columns = columns_of_type(type);
	RoleScope scope = role_enter_writing(maker->role, maker->search_path);

	mirror_schema_check_create(maker->role);
	table_ddl_create(type, columns, maker->lz4);
	role_leave(&scope);
	table_note_write(type, maker->search_path, columns, NIL);
	CommandCounterIncrement();
	return TABLE_CREATED;
}

/* Create or extend the type's table. */
static TableAction
make_table(const CatalogType *type, const TableMaker *maker)
{
	TableNote note;
	Oid relid = lock_to_extend(type, maker, &note);
	ColumnSet columns;
	TableAction action;
	const NotedPath *path;
	RoleScope scope;

	if (!OidIsValid(relid))
		return make_new_table(type, maker);
	mirror_schema_check(type, relid, &note);
	columns = columns_compare(type, relid, &note);
	/* a user's triggers may run when new columns are filled */
	path = path_of_table(relid, &note, maker);
	scope = role_enter_writing(extending_role(relid, maker), path);
	action = extend_table(type, relid, &columns, maker->lz4);
	role_leave(&scope);
	if (columns.conflicts != NIL)
		columns_report_conflicts(type, columns.conflicts);
	if ((mirror_note_is_old(&note, relid) || columns.missing != NIL ||
		 columns.returned != NIL || columns.lost) &&
		may_note(maker, relid))
		note_table(type, &columns, path, &note);
	CommandCounterIncrement();
	return action;
}

/* ---- all of them ---- */

/*
 * Warn of a relation of another kind that has the name of the type's table.
 * When all tables are made, it is left out; when it is named, it is an error.
 */
static bool
warn_of_other_kind(const CatalogType *type)
{
	Oid relid = table_lookup(type);

	if (!OidIsValid(relid) || table_kind_fits(get_rel_relkind(relid)))
		return false;
	table_report_kind(WARNING, type, get_rel_relkind(relid));
	return true;
}

static bool
server_has_lz4(void)
{
	static EngineStatement select = {
		"SELECT 'lz4' = ANY (enumvals) FROM pg_catalog.pg_settings"
		" WHERE name = 'default_toast_compression'"};
	RoleScope scope = role_enter_engine();
	bool has = statement_bool(false, &select, NO_ARGS);

	role_leave(&scope);
	return has;
}

/* Takes ADVISORY_CREATE_TABLES, and creates the schema if there is none. */
static TableMaker
maker_begin(void)
{
	TableMaker maker = {0};

	maker.by_superuser = superuser();
	maker.role = maker.by_superuser ? own_database_owner() : GetUserId();
	maker.search_path = path_resolved();
	maker.lz4 = server_has_lz4();
	advisory_lock(ADVISORY_CREATE_TABLES, 0);
	mirror_schema_make(maker.role);
	return maker;
}

static const CatalogType *
wanted_type(Datum name)
{
	char *object = TextDatumGetCString(name);
	const CatalogType *type = catalog_find(object, strlen(object));

	if (type == NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("there is no object type \"%s\"", object),
						errhint("%s", object_type_hint(object))));
	if (type->table == NULL)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg(
				 "object type \"%s\" is carried by events only, it has no table",
				 object)));
	return type;
}

/*
 * The types with these names (text[], nulls are ignored), each once; all that
 * have a table if "names" is NULL.  Raises 22023 for a type that has none.
 */
List *
tables_wanted(ArrayType *names)
{
	List *types = NIL;
	Datum *elements;
	bool *nulls;
	int n;

	if (names == NULL)
	{
		for (int i = 0; i < catalog_ntypes; i++)
			if (catalog_types[i].table != NULL)
				types = lappend(types,
								unconstify(CatalogType *, &catalog_types[i]));
		return types;
	}
	deconstruct_array(names, TEXTOID, -1, false, TYPALIGN_INT, &elements,
					  &nulls, &n);
	for (int i = 0; i < n; i++)
		if (!nulls[i])
			types = list_append_unique_ptr(
				types, unconstify(CatalogType *, wanted_type(elements[i])));
	return types;
}

/* create_tables(object_types): one row for each table */
ENGINE_FUNCTION(stripe_sync_create_tables)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	List *types = tables_wanted(PG_ARGISNULL(0) ? NULL
												: PG_GETARG_ARRAYTYPE_P(0));
	TableMaker maker;
	RoleScope scope;
	ListCell *cell;

	InitMaterializedSRF(fcinfo, 0);
	maker = maker_begin();
	foreach(cell, types)
	{
		const CatalogType *type = lfirst(cell);

		CHECK_FOR_INTERRUPTS();
		if (PG_ARGISNULL(0) && warn_of_other_kind(type))
			continue;
		result_add_row(result,
					   ARGS(arg_text(type->object), arg_text(type->table),
							arg_text(action_names[make_table(type, &maker)])));
	}
	mirror_grant_tables();
	scope = role_enter_engine();
	outbound_note_identity();
	role_leave(&scope);
	PG_RETURN_NULL();
}

/* ---- for add_endpoint() ---- */

/* Note a table that has no note, if the caller may. */
static void
adopt_table(const CatalogType *type, Oid relid, const TableMaker *maker)
{
	TableNote note;
	ColumnSet columns;

	if (table_note_read(type->table, &note) || !may_note(maker, relid))
		return;
	mirror_schema_check(type, relid, &note);
	columns = columns_compare(type, relid, &note);
	table_note_write(type, maker->search_path, columns.ours, NIL);
}

/*
 * Note the tables of the mirror that exist without a note, as after DROP
 * EXTENSION and CREATE EXTENSION.  Returns whether any table of the mirror
 * exists.  Another table of such a name is an error, as in create_tables().
 */
static bool
adopt_tables(const TableMaker *maker)
{
	bool any = false;

	for (int i = 0; i < catalog_ntypes; i++)
	{
		const CatalogType *type = &catalog_types[i];
		Oid relid = type->table != NULL ? table_lookup(type) : InvalidOid;

		if (!OidIsValid(relid) || !table_kind_fits(get_rel_relkind(relid)))
			continue;
		if (!columns_look_ours(type, relid))
			refuse_other_table(type);
		adopt_table(type, relid, maker);
		any = true;
	}
	return any;
}

static void
create_all(const TableMaker *maker)
{
	for (int i = 0; i < catalog_ntypes; i++)
		if (catalog_types[i].table != NULL &&
			!warn_of_other_kind(&catalog_types[i]))
		{
			CHECK_FOR_INTERRUPTS();
			make_table(&catalog_types[i], maker);
		}
}

/* Create all tables if there is none yet. */
void
tables_create_if_none(void)
{
	TableMaker maker = maker_begin();

	if (!adopt_tables(&maker))
		create_all(&maker);
	mirror_grant_tables();
}
