/*
 * mirror_schema.c
 *		Schema stripe: made, or somebody's who may have the mirror.
 *
 * Whoever owns the schema can drop the mirror's tables, put others in their place
 * and so read what is written to them.
 */
#include "mirror.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/syscache.h"

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
	scope = role_enter_writing(role, "pg_catalog, pg_temp");
	if (SPI_execute("CREATE SCHEMA " MIRROR_SCHEMA, false, 0) != SPI_OK_UTILITY ||
		SPI_execute("COMMENT ON SCHEMA " MIRROR_SCHEMA
					" IS 'Stripe''s objects, mirrored by stripe_sync'",
					false, 0) != SPI_OK_UTILITY)
		elog(ERROR, "could not make schema \"%s\"", MIRROR_SCHEMA);
	role_leave(&scope);
	CommandCounterIncrement();
}

/* An administrator, or the owner of the tables that we know there already? */
static bool
has_mirror(Oid owner, Oid schema)
{
	static EngineStatement select = {
		"SELECT pg_catalog.has_function_privilege($1,"
		"  'stripe_sync.create_tables(text[])', 'EXECUTE')"
		" OR COALESCE((SELECT pg_catalog.bool_and(c.relowner = $1)"
		"  FROM stripe_sync.mirror_table m JOIN pg_catalog.pg_class c"
		"   ON c.relname = m.table_name AND c.relnamespace = $2), false)",
		2,
		{OIDOID, OIDOID}};
	Datum values[] = {ObjectIdGetDatum(owner), ObjectIdGetDatum(schema)};
	RoleScope scope = role_enter_engine();
	bool has;

	engine_run(&select, values, NULL, SPI_OK_SELECT);
	has = DatumGetBool(engine_value());
	role_leave(&scope);
	return has;
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
	char *name;

	if (!OidIsValid(schema))
	{
		make(role);
		return;
	}
	owner = own_schema_owner(schema);
	/* a superuser has everybody's */
	if (has_privs_of_role(owner, role) || has_mirror(owner, schema))
		return;
	name = GetUserNameFromId(owner, false);
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
