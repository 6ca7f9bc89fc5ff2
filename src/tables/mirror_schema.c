/*
 * mirror_schema.c
 *		Schema stripe: it is created, and the owners of the schema and of its
 *		tables are checked.
 *
 * The owner of the schema can drop the mirror's tables and create others of the
 * same names, and so read what is written there.  The schema may therefore
 * belong only to a role that has the rights of the extension's owner or of the
 * database's owner, or that may call create_tables(), or to the owner of the
 * tables that are noted (table_note.c).  This is checked each time that a table
 * is created or bound.
 *
 * The checks read the system catalogs and take no lock on the schema.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "types/types.h"
#include "tables/internal.h"

/* ---- who may own the schema ---- */

static bool
may_call_create_tables(Oid role)
{
	oidvector *arguments = buildoidvector((Oid[]){TEXTARRAYOID}, 1);
	Oid function = GetSysCacheOid3(
		PROCNAMEARGSNSP, Anum_pg_proc_oid, CStringGetDatum("create_tables"),
		PointerGetDatum(arguments), ObjectIdGetDatum(engine_schema()));

	return OidIsValid(function) &&
		   compat_function_aclcheck(function, role) == ACLCHECK_OK;
}

/* True for superusers, who have the privileges of every role. */
static bool
may_own_mirror(Oid owner)
{
	return has_privs_of_role(owner, engine_owner()) ||
		   has_privs_of_role(owner, own_database_owner()) ||
		   may_call_create_tables(owner);
}

static void
refuse_owner(Oid owner, Oid role)
{
	char *name = GetUserNameFromId(owner, false);

	ereport(
		ERROR,
		(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
		 errmsg("schema \"%s\" belongs to role \"%s\"", MIRROR_SCHEMA, name),
		 errdetail(
			 "The owner of the schema could replace the mirror's tables and read what is written to them."),
		 errhint(
			 "Run ALTER SCHEMA %s RENAME TO %s_other, or ALTER SCHEMA %s OWNER TO %s. To let \"%s\" own the mirror, run SELECT stripe_sync.grant_admin(%s).",
			 MIRROR_SCHEMA, MIRROR_SCHEMA, MIRROR_SCHEMA,
			 quote_identifier(GetUserNameFromId(role, false)), name,
			 quote_literal_cstr(quote_identifier(name)))));
}

static void
refuse_table_owner(const CatalogType *type, Oid owner)
{
	char *name = GetUserNameFromId(owner, false);

	ereport(
		ERROR,
		(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
		 errmsg("table %s.%s belongs to role \"%s\"", MIRROR_SCHEMA,
				type->table, name),
		 errdetail(
			 "The table was not created by stripe_sync.create_tables(), and its owner could read what is written to it."),
		 errhint(
			 "Run DROP TABLE %s.%s, or rename it; then call stripe_sync.create_tables(ARRAY[%s]). To let \"%s\" own the mirror, run SELECT stripe_sync.grant_admin(%s).",
			 MIRROR_SCHEMA, quote_identifier(type->table),
			 quote_literal_cstr(type->object), name,
			 quote_literal_cstr(quote_identifier(name)))));
}

static bool
names_owner(const TableNote *note, Oid owner)
{
	return note->owner != NULL &&
		   strcmp(note->owner, GetUserNameFromId(owner, false)) == 0;
}

/*
 * Must the note be written again: is it about another table, has the table
 * another owner, or does a schema in the noted search_path have one?
 */
bool
mirror_note_is_old(const TableNote *note, Oid relid)
{
	Oid owner = own_table_owner(relid);

	return note->relid != relid || !names_owner(note, owner) ||
		   !path_holds(note->search_path, owner);
}

/*
 * Raise 55000 unless the owners of a table, with this note, and of its schema
 * may own the mirror.
 *
 * The owner of noted tables may own their schema.  After a restore tables have
 * other OIDs, and are recognized by the owner that is noted.  A table without a
 * note may have been created by any role that has CREATE on the schema, before
 * create_tables() could create it, so its owner is checked as well.
 */
void
mirror_schema_check(const CatalogType *type, Oid relid, const TableNote *note)
{
	Oid table_owner = own_table_owner(relid);
	Oid owner = own_schema_owner(get_rel_namespace(relid));
	bool noted = note->relid == relid || names_owner(note, table_owner);

	if (!(noted && owner == table_owner) && !may_own_mirror(owner))
		refuse_owner(owner, own_database_owner());
	if (!noted && table_owner != owner && !may_own_mirror(table_owner))
		refuse_table_owner(type, table_owner);
}

/* ---- the schema is created ---- */

/* Does the role own all noted tables that exist in the schema, and are there any? */
static bool
owns_tables(Oid owner, Oid schema)
{
	static EngineStatement select = {
		"SELECT pg_catalog.bool_and(c.relowner = $1)"
		" FROM stripe_sync.mirror_table m JOIN pg_catalog.pg_class c"
		"   ON c.relname = m.table_name AND c.relnamespace = $2"
		" WHERE c.oid = m.relid OR m.owner = pg_catalog.pg_get_userbyid(c.relowner)"};
	RoleScope scope = role_enter_engine();
	bool owns;

	owns = statement_bool(false, &select, ARGS(arg_oid(owner), arg_oid(schema)));
	role_leave(&scope);
	return owns;
}

/*
 * The schema is created by the role that is to own it, with its rights.  The
 * server's own message would not say which role that is, or what to do.
 */
static void
check_may_create_schema(Oid role)
{
	const char *database = get_database_name(MyDatabaseId);
	const char *name = GetUserNameFromId(role, false);

	if (compat_may_create_in_database(role))
		return;
	ereport(
		ERROR,
		(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
		 errmsg("permission denied for database %s", database),
		 errdetail(
			 "Role \"%s\" may not create schema \"%s\" for the mirror's tables.",
			 name, MIRROR_SCHEMA),
		 errhint(
			 "Run, as the database's owner: GRANT CREATE ON DATABASE %s TO %s; or, as a superuser: SELECT count(*) FROM stripe_sync.create_tables();",
			 quote_identifier(database), quote_identifier(name))));
}

/* Raise 42501 unless the role, which is to own a new table, may create one. */
void
mirror_schema_check_create(Oid role)
{
	Oid schema = get_namespace_oid(MIRROR_SCHEMA, false);
	const char *name = GetUserNameFromId(role, false);

	if (compat_may_in_schema(schema, role, ACL_USAGE) &&
		compat_may_in_schema(schema, role, ACL_CREATE))
		return;
	ereport(
		ERROR,
		(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
		 errmsg("permission denied for schema %s", MIRROR_SCHEMA),
		 errdetail(
			 "Role \"%s\" may not create tables in the schema, which belongs to role \"%s\".",
			 name, GetUserNameFromId(own_schema_owner(schema), false)),
		 errhint(
			 "Let the owner call stripe_sync.create_tables(), or run as the owner: GRANT USAGE, CREATE ON SCHEMA %s TO %s;",
			 MIRROR_SCHEMA, quote_identifier(name))));
}

static void
create_schema(Oid role)
{
	RoleScope scope;

	check_may_create_schema(role);
	scope = role_enter_writing(role, path_make("pg_catalog, pg_temp"));
	SPI_connect();
	if (SPI_execute("CREATE SCHEMA " MIRROR_SCHEMA, false, 0) != SPI_OK_UTILITY ||
		SPI_execute("COMMENT ON SCHEMA " MIRROR_SCHEMA
					" IS 'Stripe''s objects, mirrored by stripe_sync'",
					false, 0) != SPI_OK_UTILITY)
		elog(ERROR, "could not create schema \"%s\"", MIRROR_SCHEMA);
	SPI_finish();
	role_leave(&scope);
	CommandCounterIncrement();
}

/*
 * Create the schema if there is none, for tables of this role; else raise 55000
 * if its owner may not own the mirror.  Called under ADVISORY_CREATE_TABLES, so
 * that two callers do not both create it.
 */
void
mirror_schema_make(Oid role)
{
	Oid schema = get_namespace_oid(MIRROR_SCHEMA, true);
	Oid owner;

	if (!OidIsValid(schema))
	{
		create_schema(role);
		return;
	}
	owner = own_schema_owner(schema);
	if (!has_privs_of_role(owner, role) && !may_own_mirror(owner) &&
		!owns_tables(owner, schema))
		refuse_owner(owner, role);
}
