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
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
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

static bool
names_owner(const TableNote *note, Oid owner)
{
	return note->owner != NULL &&
		   strcmp(note->owner, GetUserNameFromId(owner, false)) == 0;
}

/* Does a note tell of another table, or of another owner? */
bool
mirror_note_is_old(const TableNote *note, Oid relid)
{
	return note->relid != relid || !names_owner(note, own_table_owner(relid));
}

/*
 * A table of the schema is to be used.  Who owns the mirror's tables may own
 * their schema.  After a restore they have other OIDs, and their owner tells that
 * they are the mirror's.
 */
void
mirror_schema_check(Oid schema, Oid relid, Oid table_owner,
					const TableNote *note)
{
	Oid owner = own_schema_owner(schema);

	bool owns = owner == table_owner &&
				(note->relid == relid || names_owner(note, owner));

	if (!owns && !may_have_mirror(owner))
		refuse_owner(owner, own_database_owner());
}

/* ---- made ---- */

/* Does the role own the tables that we know there already? */
static bool
owns_tables(Oid owner, Oid schema)
{
	static EngineStatement select = {
		"SELECT COALESCE((SELECT pg_catalog.bool_and(c.relowner = $1)"
		"  FROM stripe_sync.mirror_table m JOIN pg_catalog.pg_class c"
		"   ON c.relname = m.table_name AND c.relnamespace = $2"
		"  WHERE c.oid = m.relid OR m.owner = pg_catalog.pg_get_userbyid(c.relowner)), false)",
		2,
		{OIDOID, OIDOID}};
	Datum values[] = {ObjectIdGetDatum(owner), ObjectIdGetDatum(schema)};
	RoleScope scope = role_enter_engine();
	bool owns;

	engine_run(&select, values, NULL, SPI_OK_SELECT);
	owns = DatumGetBool(engine_value());
	role_leave(&scope);
	return owns;
}

static void
make(Oid role)
{
	RoleScope scope = role_enter_writing(role, "pg_catalog, pg_temp");

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
