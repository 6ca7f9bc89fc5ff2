/*
 * mirror_schema.c
 *		Schema stripe: made, or somebody's who may have the mirror.
 *
 * Whoever owns the schema can drop the mirror's tables, put others in their place
 * and so read what is written to them.
 */
#include "tables_internal.h"

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

/* ---- whose may it be? ---- */

/* May the role call create_tables()? */
static bool
administers(Oid role)
{
	oidvector *arguments = buildoidvector((Oid[]){TEXTARRAYOID}, 1);
	Oid function = GetSysCacheOid3(
		PROCNAMEARGSNSP, Anum_pg_proc_oid, CStringGetDatum("create_tables"),
		PointerGetDatum(arguments), ObjectIdGetDatum(engine_schema()));

	return OidIsValid(function) &&
		   compat_function_aclcheck(function, role) == ACLCHECK_OK;
}

/* A superuser has everybody's privileges. */
static bool
may_have_mirror(Oid owner)
{
	return has_privs_of_role(owner, engine_owner()) ||
		   has_privs_of_role(owner, own_database_owner()) || administers(owner);
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
			 "The owner could put other tables in the place of the mirror's, and read what is written to them."),
		 errhint(
			 "Run ALTER SCHEMA %s RENAME TO %s_other, or ALTER SCHEMA %s OWNER TO %s. If \"%s\" may have the mirror: SELECT stripe_sync.grant_admin(%s).",
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
			 "stripe_sync.create_tables() has not made it, and its owner would read what is written to it."),
		 errhint(
			 "Run DROP TABLE %s.%s, or rename it; then call stripe_sync.create_tables(ARRAY[%s]). If \"%s\" may have the mirror: SELECT stripe_sync.grant_admin(%s).",
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

/* Does a note tell of another table, or of other owners? */
bool
mirror_note_is_old(const TableNote *note, Oid relid)
{
	Oid owner = own_table_owner(relid);

	return note->relid != relid || !names_owner(note, owner) ||
		   !path_holds(note->search_path, owner);
}

/*
 * A table of the schema is to be used.  Who owns the mirror's tables may own
 * their schema.  After a restore they have other OIDs, and their owner tells that
 * they are the mirror's.  Whoever may make tables in the schema could make one
 * before create_tables() does.
 */
void
mirror_schema_check(const CatalogType *type, Oid relid, const TableNote *note)
{
	Oid table_owner = own_table_owner(relid);
	Oid owner = own_schema_owner(get_rel_namespace(relid));
	bool noted = note->relid == relid || names_owner(note, table_owner);

	if (!(noted && owner == table_owner) && !may_have_mirror(owner))
		refuse_owner(owner, own_database_owner());
	if (!noted && table_owner != owner && !may_have_mirror(table_owner))
		refuse_table_owner(type, table_owner);
}

/* ---- made ---- */

/* Does the role own the tables that we know there already? */
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

/* It is made by the role that is to own it, which needs a right for that. */
static void
check_make(Oid role)
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
			 "Schema \"%s\" is to be made, for the mirror's tables, and role \"%s\" may not make schemas here.",
			 MIRROR_SCHEMA, name),
		 errhint(
			 "Run, as the database's owner: GRANT CREATE ON DATABASE %s TO %s; or, as a superuser: SELECT count(*) FROM stripe_sync.create_tables();",
			 quote_identifier(database), quote_identifier(name))));
}

/* For who is to make a table in it. */
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
			 "A table of the mirror's is to be made, and role \"%s\" may not make any in the schema, which belongs to role \"%s\".",
			 name, GetUserNameFromId(own_schema_owner(schema), false)),
		 errhint(
			 "Let that role call stripe_sync.create_tables(), or run as it: GRANT USAGE, CREATE ON SCHEMA %s TO %s;",
			 MIRROR_SCHEMA, quote_identifier(name))));
}

static void
make(Oid role)
{
	RoleScope scope;

	check_make(role);
	scope = role_enter_writing(role, path_make("pg_catalog, pg_temp"));
	if (SPI_execute("CREATE SCHEMA " MIRROR_SCHEMA, false, 0) != SPI_OK_UTILITY ||
		SPI_execute("COMMENT ON SCHEMA " MIRROR_SCHEMA
					" IS 'Stripe''s objects, mirrored by stripe_sync'",
					false, 0) != SPI_OK_UTILITY)
		elog(ERROR, "could not make schema \"%s\"", MIRROR_SCHEMA);
	role_leave(&scope);
	CommandCounterIncrement();
}

/*
 * There is a schema for the tables of "role", who is to make them.  The caller
 * is connected to SPI.
 */
void
mirror_schema_make(Oid role)
{
	Oid schema = get_namespace_oid(MIRROR_SCHEMA, true);
	Oid owner;

	if (!OidIsValid(schema))
	{
		make(role);
		return;
	}
	owner = own_schema_owner(schema);
	if (!has_privs_of_role(owner, role) && !may_have_mirror(owner) &&
		!owns_tables(owner, schema))
		refuse_owner(owner, role);
}
