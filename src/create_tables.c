/*
 * create_tables.c
 *		The tables of the mirror: made, and extended when the catalog knows
 *		more columns.  Nothing is ever dropped.
 *
 * They are the user's own: made by the caller (or by the database's owner when
 * a superuser calls), not members of the extension, so that pg_dump carries
 * what people add to them and DROP EXTENSION leaves them.
 */
#include "mirror.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/rls.h"
#include "utils/syscache.h"

/* References that people join by have an index; each costs every event. */
static const char *const joined[] = {"account", "charge",		  "customer",
									 "invoice", "payment_intent", "price",
									 "product", "subscription"};

/* Our own columns, after those of the object. */
static const char *const meta_definitions[] = {
	"_account pg_catalog.text NOT NULL",
	"_deleted_at timestamp with time zone",
	"_event_id pg_catalog.text",
	"_as_of timestamp with time zone NOT NULL",
	"_synced_at timestamp with time zone NOT NULL",
};

typedef enum TableAction
{
	TABLE_CREATED,
	TABLE_EXTENDED,
	TABLE_UNCHANGED,
	TABLE_CONFLICT /* extended or not: a column of its user's is in the way */
} TableAction;

static const char *const action_names[] = {"created", "extended", "unchanged",
										   "conflict"};

/* Who is to own new tables, and whose search_path they remember. */
typedef struct Builder
{
	Oid role;
	NotedPath *search_path;
	bool by_superuser;
	bool lz4;
} Builder;

static void
run_ddl(const char *sql)
{
	if (SPI_execute(sql, false, 0) < 0)
		elog(ERROR, "could not run \"%s\"", sql);
}

static void pg_attribute_printf(1, 2) run_ddlf(const char *format, ...)
{
	StringInfoData sql;

	initStringInfo(&sql);
	for (;;)
	{
		va_list args;
		int needed;

		va_start(args, format);
		needed = appendStringInfoVA(&sql, format, args);
		va_end(args);
		if (needed == 0)
			break;
		enlargeStringInfo(&sql, needed);
	}
	run_ddl(sql.data);
	pfree(sql.data);
}

static bool
server_has_lz4(void)
{
	bool isnull;

	if (SPI_execute(
			"SELECT 'lz4' OPERATOR(pg_catalog.=) ANY (enumvals) FROM pg_catalog.pg_settings"
			" WHERE name OPERATOR(pg_catalog.=) 'default_toast_compression'",
			true, 1) != SPI_OK_SELECT ||
		SPI_processed == 0)
		return false;
	return DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0],
									  SPI_tuptable->tupdesc, 1, &isnull));
}

/* ---- columns ---- */

static void
append_column(StringInfo sql, const Builder *builder, const CatalogField *field)
{
	appendStringInfo(sql, "%s %s", quote_identifier(field->name),
					 catalog_kind_sqltype(field->kind));
	if (builder->lz4 && column_value_type(field->kind) == JSONBOID)
		appendStringInfoString(sql, " COMPRESSION lz4");
}

static bool
is_joined(const CatalogField *field)
{
	for (int i = 0; i < lengthof(joined); i++)
		if (strcmp(joined[i], field->name) == 0)
			return column_value_type(field->kind) == TEXTOID;
	return false;
}

static void
create_index(const CatalogType *type, const CatalogField *field)
{
	const char *column = quote_identifier(field->name);

	if (is_joined(field) && strcmp(field->name, type->key) != 0)
		run_ddlf("CREATE INDEX ON %s.%s (%s) WHERE %s IS NOT NULL",
				 MIRROR_SCHEMA, quote_identifier(type->table), column, column);
	else if (strcmp(field->name, "created") == 0 && field->kind == KIND_TIMESTAMP)
		run_ddlf("CREATE INDEX ON %s.%s (%s)", MIRROR_SCHEMA,
				 quote_identifier(type->table), column);
}

/*
 * Values are compressed and stay in their row: to move them out, as the default
 * is, would cost a row and an index entry more on every event.
 */
static void
store_inline(const CatalogType *type, List *columns)
{
	StringInfoData sql;
	ListCell *cell;

	initStringInfo(&sql);
	appendStringInfo(
		&sql,
		"ALTER TABLE %s.%s ALTER _data SET STORAGE MAIN,"
		" ALTER _account SET STORAGE MAIN, ALTER _event_id SET STORAGE MAIN",
		MIRROR_SCHEMA, quote_identifier(type->table));
	foreach(cell, columns)
	{
		CatalogField *field = lfirst(cell);
		Oid type_oid = column_value_type(field->kind);

		if (type_oid == JSONBOID || type_oid == TEXTOID)
			appendStringInfo(&sql, ", ALTER %s SET STORAGE MAIN",
							 quote_identifier(field->name));
	}
	run_ddl(sql.data);
}

/* ---- a new table ---- */

static void
create_table(const CatalogType *type, const Builder *builder)
{
	List *columns = columns_of_type(type);
	StringInfoData sql;
	ListCell *cell;

	mirror_schema_check_create(builder->role);
	initStringInfo(&sql);
	appendStringInfo(&sql, "CREATE TABLE %s.%s (", MIRROR_SCHEMA,
					 quote_identifier(type->table));
	foreach(cell, columns)
	{
		append_column(&sql, builder, lfirst(cell));
		appendStringInfoString(&sql, ", ");
	}
	appendStringInfo(&sql, "_data pg_catalog.jsonb%s NOT NULL, ",
					 builder->lz4 ? " COMPRESSION lz4" : "");
	for (int i = 0; i < lengthof(meta_definitions); i++)
		appendStringInfo(&sql, "%s, ", meta_definitions[i]);
	if (type->key[0] != '\0')
		appendStringInfo(&sql, "PRIMARY KEY (%s, _account))",
						 quote_identifier(type->key));
	else
		appendStringInfoString(&sql, "PRIMARY KEY (_account))");
	run_ddl(sql.data);
	store_inline(type, columns);
	foreach(cell, columns)
		create_index(type, lfirst(cell));
	run_ddlf("COMMENT ON TABLE %s.%s IS %s", MIRROR_SCHEMA,
			 quote_identifier(type->table),
			 quote_literal_cstr(psprintf("Stripe's %s, mirrored by stripe_sync",
										 type->object)));
}

/* ---- a table that is there ---- */

static void
not_ours(const CatalogType *type)
{
	ereport(
		ERROR,
		(errcode(ERRCODE_DUPLICATE_TABLE),
		 errmsg("%s.%s is not a table of stripe_sync's", MIRROR_SCHEMA,
				type->table),
		 errdetail(
			 "It lacks the columns that the mirror keeps its own state in."),
		 errhint(
			 "Rename it, or the schema it is in: ALTER SCHEMA %s RENAME TO %s_other.",
			 MIRROR_SCHEMA, MIRROR_SCHEMA)));
}

/* Rows that row security hides from the table's owner are not filled. */
static void
warn_policed(const CatalogType *type, Oid relid)
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

/* Add the columns that the table, which is locked, lacks. */
static void
add_columns(const CatalogType *type, List *missing, const Builder *builder)
{
	ListCell *cell;
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "ALTER TABLE %s.%s ", MIRROR_SCHEMA,
					 quote_identifier(type->table));
	foreach(cell, missing)
	{
		appendStringInfoString(
			&sql, cell == list_head(missing) ? "ADD COLUMN " : ", ADD COLUMN ");
		append_column(&sql, builder, lfirst(cell));
	}
	run_ddl(sql.data);
	store_inline(type, missing);
	columns_fill(type, missing);
	foreach(cell, missing)
		create_index(type, lfirst(cell));
}

static TableAction
extend_table(const CatalogType *type, Oid relid, const ColumnSet *columns,
			 const Builder *builder)
{
	if (!columns_look_ours(type, relid))
		not_ours(type);
	if (columns->missing != NIL)
	{
		warn_policed(type, relid);
		add_columns(type, columns->missing, builder);
	}
	if (columns->returned != NIL)
		columns_fill(type, columns->returned);
	if (columns->conflicts != NIL)
		return TABLE_CONFLICT;
	return columns->missing != NIL || columns->returned != NIL ? TABLE_EXTENDED
															   : TABLE_UNCHANGED;
}

/* ---- all of them ---- */

/* Extended as its owner when a superuser asks: nothing of a user's runs as us. */
static Oid
extending_role(Oid relid, const Builder *builder)
{
	return builder->by_superuser ? own_table_owner(relid) : builder->role;
}

/*
 * A table that is there already, without a note (the extension was dropped and
 * made again) or with another's (the database was restored): its owner or a
 * superuser may say what it is, and what its triggers' path is.
 */
static bool
owns(const Builder *builder, Oid relid)
{
	return builder->by_superuser || own_table_owner(relid) == builder->role;
}

/* May the caller alter it?  Who may not doesn't get to lock it either. */
static void
check_owner(const CatalogType *type, Oid relid, const Builder *builder)
{
	if (!compat_ownercheck(RelationRelationId, relid,
						   extending_role(relid, builder)))
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_TABLE, type->table);
}

/* Is there nothing to add to it, nor to its note? */
static bool
is_complete(const CatalogType *type, Oid relid, const TableNote *note)
{
	ColumnSet columns;

	if (!columns_look_ours(type, relid))
		return false;
	columns = columns_compare(type, relid, note);
	return columns.missing == NIL && columns.returned == NIL && !columns.lost;
}

/*
 * The table that is there, locked against everybody else if it has to be
 * altered; whether it must is looked at again then.
 */
static Oid
lock_to_extend(const CatalogType *type, const Builder *builder, TableNote *note)
{
	Oid relid = table_lookup(type);

	(void) table_note_read(type->table, note);
	if (!OidIsValid(relid) || is_complete(type, relid, note))
		return relid;
	if (!table_kind_fits(get_rel_relkind(relid)))
		table_report_kind(ERROR, type, get_rel_relkind(relid));
	check_owner(type, relid, builder);
	return table_lock(type, AccessExclusiveLock);
}

/* A new table is noted, and one whose columns are others, or that is not yet. */
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
				 "It was \"%s\", and a schema of that belongs to another role now.",
				 note->search_path->names)));
	table_note_write(
		type, search_path,
		list_concat(list_concat_copy(columns->ours, columns->missing),
					columns->returned),
		columns->given_up);
}

/*
 * What the triggers of a table that is there find: as was noted.  Where a schema
 * of that path is a stranger's now, who may note the table has it find what he
 * finds himself, as add_handler() does.
 */
static const NotedPath *
path_for(Oid relid, const TableNote *note, const Builder *builder)
{
	if (note->search_path == NULL ||
		(owns(builder, relid) &&
		 !path_holds(note->search_path, own_table_owner(relid))))
		return builder->search_path;
	return note->search_path;
}

static TableAction
make_new_table(const CatalogType *type, const Builder *builder)
{
	RoleScope scope = role_enter_writing(builder->role, builder->search_path);

	create_table(type, builder);
	role_leave(&scope);
	table_note_write(type, builder->search_path, columns_of_type(type), NIL);
	CommandCounterIncrement();
	return TABLE_CREATED;
}

static TableAction
make_table(const CatalogType *type, const Builder *builder)
{
	TableNote note;
	Oid relid = lock_to_extend(type, builder, &note);
	ColumnSet columns;
	TableAction action;
	const NotedPath *path;
	RoleScope scope;

	if (!OidIsValid(relid))
		return make_new_table(type, builder);
	mirror_schema_check(type, relid, &note);
	columns = columns_compare(type, relid, &note);
	/* triggers may run when new columns are filled */
	path = path_for(relid, &note, builder);
	scope = role_enter_writing(extending_role(relid, builder), path);
	action = extend_table(type, relid, &columns, builder);
	role_leave(&scope);
	if (columns.conflicts != NIL)
		columns_report_conflicts(type, columns.conflicts);
	if ((mirror_note_is_old(&note, relid) || columns.missing != NIL ||
		 columns.returned != NIL || columns.lost) &&
		owns(builder, relid))
		note_table(type, &columns, path, &note);
	CommandCounterIncrement();
	return action;
}

/*
 * When all tables are asked for: another kind of relation in the place of one
 * is reported, and passed over.
 */
static bool
is_another_kind(const CatalogType *type)
{
	Oid relid = table_lookup(type);

	if (!OidIsValid(relid) || table_kind_fits(get_rel_relkind(relid)))
		return false;
	table_report_kind(WARNING, type, get_rel_relkind(relid));
	return true;
}

static Builder
builder_begin(void)
{
	Builder builder = {0};

	builder.by_superuser = superuser();
	builder.role = builder.by_superuser ? own_database_owner() : GetUserId();
	builder.search_path = path_resolved();
	builder.lz4 = server_has_lz4();
	/* two callers at once: the second waits, and finds what the first made */
	advisory_lock(ADVISORY_CREATE_TABLES, 0);
	mirror_schema_make(builder.role);
	return builder;
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

/* The types asked for; all that have a table when none are named. */
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

static void
put_action(ReturnSetInfo *result, const CatalogType *type, TableAction action)
{
	Datum values[] = {CStringGetTextDatum(type->object),
					  CStringGetTextDatum(type->table),
					  CStringGetTextDatum(action_names[action])};
	bool nulls[] = {false, false, false};

	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* create_tables(object_types): one row a table */
ENGINE_FUNCTION(stripe_sync_create_tables)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	List *types = tables_wanted(PG_ARGISNULL(0) ? NULL
												: PG_GETARG_ARRAYTYPE_P(0));
	Builder builder;
	RoleScope scope;
	ListCell *cell;

	InitMaterializedSRF(fcinfo, 0);
	SPI_connect();
	builder = builder_begin();
	foreach(cell, types)
	{
		const CatalogType *type = lfirst(cell);

		CHECK_FOR_INTERRUPTS();
		if (!PG_ARGISNULL(0) || !is_another_kind(type))
			put_action(result, type, make_table(type, &builder));
	}
	mirror_grant_tables();
	SPI_finish();
	scope = role_enter_engine();
	outbound_note_identity();
	role_leave(&scope);
	PG_RETURN_NULL();
}

/* A table without a note is noted, if the caller may say so. */
static void
adopt_table(const CatalogType *type, Oid relid, const Builder *builder)
{
	TableNote note;
	ColumnSet columns;

	if (table_note_read(type->table, &note) || !owns(builder, relid))
		return;
	mirror_schema_check(type, relid, &note);
	columns = columns_compare(type, relid, &note);
	table_note_write(type, builder->search_path, columns.ours, NIL);
}

/*
 * Are there tables of ours?  Those without a note, as after DROP EXTENSION and
 * CREATE EXTENSION, are noted if the caller may say so.  Another tool's in the
 * place of one is refused, as by create_tables().
 */
static bool
adopt_tables(const Builder *builder)
{
	bool any = false;

	for (int i = 0; i < catalog_ntypes; i++)
	{
		const CatalogType *type = &catalog_types[i];
		Oid relid = type->table != NULL ? table_lookup(type) : InvalidOid;
		if (!OidIsValid(relid) || !table_kind_fits(get_rel_relkind(relid)))
			continue;
		if (!columns_look_ours(type, relid))
			not_ours(type);
		adopt_table(type, relid, builder);
		any = true;
	}
	return any;
}

static void
create_all(const Builder *builder)
{
	for (int i = 0; i < catalog_ntypes; i++)
		if (catalog_types[i].table != NULL && !is_another_kind(&catalog_types[i]))
		{
			CHECK_FOR_INTERRUPTS();
			make_table(&catalog_types[i], builder);
		}
}

/* For add_endpoint(): all tables, when there isn't one yet. */
void
tables_create_if_none(void)
{
	Builder builder;

	SPI_connect();
	builder = builder_begin();
	if (!adopt_tables(&builder))
		create_all(&builder);
	mirror_grant_tables();
	SPI_finish();
}
