/*
 * grant.c
 *		SQL functions that grant and revoke the grades of roles.
 *
 * The GRANT statements name their objects, so they are in SQL functions that
 * only the extension's owner may call (src/install/grants.sql).  The functions
 * here call those in the engine's scope, after ENGINE_FUNCTION() has checked
 * that schema stripe_sync is the extension's own.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/syscache.h"

#include "engine/engine.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "types/types.h"

/* The role in the first argument; an error if there is none. */
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
				 errhint("Create it with CREATE ROLE.")));
	return PG_GETARG_OID(0);
}

static StatementArg
quoted_name(Oid role)
{
	return arg_text(quote_identifier(GetUserNameFromId(role, false)));
}

static void
grant_grade(const char *grade, Oid role)
{
	static EngineStatement grant = {"SELECT stripe_sync.grant_grade($1, $2)"};

	(void) statement_exec(&grant, ARGS(arg_text(grade), quoted_name(role)));
}

/* Let the view stripe_sync.mirror_reader show the role. */
static void
mark_reader(Oid role)
{
	static EngineStatement mark = {"SELECT stripe_sync.mark_mirror_reader($1)"};

	(void) statement_exec(&mark, ARGS(quoted_name(role)));
}

static void
grant_tables(void)
{
	static EngineStatement grant = {"SELECT stripe_sync.grant_mirror_tables()"};

	(void) statement_exec(&grant, NO_ARGS);
}

/* Grant the readers of the mirror SELECT on tables that were just made. */
void
mirror_grant_tables(void)
{
	RoleScope scope = role_enter_engine();

	grant_tables();
	role_leave(&scope);
}

/* Grant the grades, a list that ends with NULL; "read" includes the mirror. */
static void
grant_grades(FunctionCallInfo fcinfo, const char *const *grades)
{
	Oid role = grantee(fcinfo);
	RoleScope scope = role_enter_engine();

	for (; *grades != NULL; grades++)
	{
		grant_grade(*grades, role);
		if (strcmp(*grades, "read") == 0)
			grant_tables();
	}
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

/* grant_admin(role): includes read, because a handler sees every event anyway */
ENGINE_FUNCTION(stripe_sync_grant_admin)
{
	grant_grades(fcinfo, (const char *const[]){"admin", "read", NULL});
	PG_RETURN_VOID();
}

/* grant_mirror(role): the tables of the mirror, also later ones, and no more */
ENGINE_FUNCTION(stripe_sync_grant_mirror)
{
	Oid role = grantee(fcinfo);
	RoleScope scope = role_enter_engine();

	mark_reader(role);
	grant_tables();
	role_leave(&scope);
	PG_RETURN_VOID();
}

/* ---- revoke_all ---- */

/*
 * Stop the functions that the role has registered in a table: "noun" is what
 * stripe_sync.add_<suffix>() registers.
 */
static void
stop_functions(Oid role, EngineStatement *stop, const char *noun,
			   const char *suffix, const char *meanwhile)
{
	char *name = GetUserNameFromId(role, false);
	Rows rows;

	rows_open(&rows, stop, ARGS(arg_text(name)));
	while (rows_next(&rows))
		ereport(
			NOTICE,
			(errmsg("%s \"%s\" ran as role \"%s\" and is stopped", noun,
					rows_text(&rows), name),
			 errhint(
				 "%s until stripe_sync.add_%s() registers it again or stripe_sync.drop_%s() drops it.",
				 meanwhile, suffix, suffix)));
	rows_close(&rows);
}

#define STOP(table, key)                                                       \
	"UPDATE stripe_sync." table " SET stopped_at = pg_catalog.now()"           \
	" WHERE role = $1 AND stopped_at IS NULL RETURNING " key

static void
stop_all_functions(Oid role)
{
	static EngineStatement handlers = {STOP("handler", "name")};
	static EngineStatement actions = {STOP("slack_action", "action_id")};
	static EngineStatement commands = {STOP("slack_command", "command")};

	stop_functions(role, &handlers, "handler", "handler",
				   "Its events stay pending");
	stop_functions(role, &actions, "action", "slack_action",
				   "Who uses it is told that it did not work");
	stop_functions(role, &commands, "command", "slack_command",
				   "Who uses it is told that it did not work");
}

/* revoke_all(role): also stops the functions that the role has registered */
ENGINE_FUNCTION(stripe_sync_revoke_all)
{
	static EngineStatement revoke = {"SELECT stripe_sync.revoke_grades($1)"};
	Oid role = grantee(fcinfo);
	RoleScope scope = role_enter_engine();

	(void) statement_exec(&revoke,
						  ARGS(arg_datum(REGROLEOID, ObjectIdGetDatum(role))));
	stop_all_functions(role);
	role_leave(&scope);
	PG_RETURN_VOID();
}
