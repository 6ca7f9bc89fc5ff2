/*
 * grant.c
 *		Who may do what: the grades of roles, granted and taken back.
 *
 * GRANT is text that names what it grants.  That text is in functions that only
 * the extension's owner may call (src/install/90_grants.sql); these here call
 * them, in the engine's scope, once ENGINE_FUNCTION() has found that schema
 * stripe_sync is the extension's own.
 */
#include "mirror.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/syscache.h"

/* The role that is given, which must be there. */
static Oid
grantee(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("the role cannot be NULL")));
	if (!SearchSysCacheExists1(AUTHOID, PG_GETARG_DATUM(0)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("role with OID %u does not exist", PG_GETARG_OID(0)),
				 errhint("CREATE ROLE it first.")));
	return PG_GETARG_OID(0);
}

static Datum
quoted_name(Oid role)
{
	return CStringGetTextDatum(quote_identifier(GetUserNameFromId(role, false)));
}

static void
grant_grade(const char *grade, Oid role)
{
	static EngineStatement grant = {
		"SELECT stripe_sync.grant_grade($1, $2)", 2, {TEXTOID, TEXTOID}};
	Datum values[] = {CStringGetTextDatum(grade), quoted_name(role)};

	engine_run(&grant, values, NULL, SPI_OK_SELECT);
}

/* The mark by which stripe_sync.mirror_reader knows the role. */
static void
mark_reader(Oid role)
{
	static EngineStatement mark = {
		"SELECT stripe_sync.mark_mirror_reader($1)", 1, {TEXTOID}};
	Datum values[] = {quoted_name(role)};

	engine_run(&mark, values, NULL, SPI_OK_SELECT);
}

/* Within an SPI connection of the caller's. */
static void
grant_tables(void)
{
	static EngineStatement grant = {"SELECT stripe_sync.grant_mirror_tables()"};

	engine_run(&grant, NULL, NULL, SPI_OK_SELECT);
}

/* Who may read the mirror may read the tables that were just made. */
void
mirror_grant_tables(void)
{
	RoleScope scope = role_enter_engine();

	SPI_connect();
	grant_tables();
	SPI_finish();
	role_leave(&scope);
}

/* All grades that are named, up to NULL, and the mirror where one of them reads. */
static void
grant_grades(FunctionCallInfo fcinfo, const char *const *grades)
{
	Oid role = grantee(fcinfo);
	RoleScope scope = role_enter_engine();

	SPI_connect();
	for (; *grades != NULL; grades++)
	{
		grant_grade(*grades, role);
		if (strcmp(*grades, "read") == 0)
			grant_tables();
	}
	SPI_finish();
	role_leave(&scope);
}

/* grant_ingest(role) */
ENGINE_FUNCTION(stripe_sync_grant_ingest)
{
	grant_grades(fcinfo, (const char *const[]){"ingest", NULL});
	PG_RETURN_VOID();
}

/* grant_read(role) */
ENGINE_FUNCTION(stripe_sync_grant_read)
{
	grant_grades(fcinfo, (const char *const[]){"read", NULL});
	PG_RETURN_VOID();
}

/* grant_admin(role): whoever may add a handler sees every event anyway */
ENGINE_FUNCTION(stripe_sync_grant_admin)
{
	grant_grades(fcinfo, (const char *const[]){"admin", "read", NULL});
	PG_RETURN_VOID();
}

/* grant_mirror(role): its tables, whenever they are made, and nothing else */
ENGINE_FUNCTION(stripe_sync_grant_mirror)
{
	Oid role = grantee(fcinfo);
	RoleScope scope = role_enter_engine();

	SPI_connect();
	mark_reader(role);
	grant_tables();
	SPI_finish();
	role_leave(&scope);
	PG_RETURN_VOID();
}

/* ---- revoke_all ---- */

static void
stop_handlers(Oid role)
{
	static EngineStatement stop = {
		"UPDATE stripe_sync.handler SET stopped_at = pg_catalog.now()"
		" WHERE role OPERATOR(pg_catalog.=) $1 AND stopped_at IS NULL"
		" RETURNING name",
		1,
		{TEXTOID}};
	char *name = GetUserNameFromId(role, false);
	Datum value = CStringGetTextDatum(name);

	engine_run(&stop, &value, NULL, SPI_OK_UPDATE_RETURNING);
	for (uint64 i = 0; i < SPI_processed; i++)
		ereport(
			NOTICE,
			(errmsg("handler \"%s\" ran as role \"%s\" and is stopped",
					SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1),
					name),
			 errhint(
				 "Events wait for it. Let a role register it again with stripe_sync.add_handler(), or forget it with stripe_sync.drop_handler().")));
}

/* revoke_all(role): and its handlers are stopped */
ENGINE_FUNCTION(stripe_sync_revoke_all)
{
	static EngineStatement revoke = {
		"SELECT stripe_sync.revoke_grades($1)", 1, {REGROLEOID}};
	Oid role = grantee(fcinfo);
	Datum value = ObjectIdGetDatum(role);
	RoleScope scope = role_enter_engine();

	SPI_connect();
	engine_run(&revoke, &value, NULL, SPI_OK_SELECT);
	stop_handlers(role);
	SPI_finish();
	role_leave(&scope);
	PG_RETURN_VOID();
}
