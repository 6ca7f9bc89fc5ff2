/*
 * role.c
 *		Whose rights, under which search_path.
 *
 * Functions of the extension are called with the caller's rights.  What they
 * do to the extension's own tables they do as the owner of those tables, with
 * search_path pinned; mirror tables are written as their owner, and handlers
 * run as the role that registered them.  Each of these is a RoleScope.  On an
 * error nobody needs to leave it: (sub)transaction abort restores the user,
 * the security context and the settings.
 *
 * SECURITY_LOCAL_USERID_CHANGE forbids SET ROLE and SET SESSION AUTHORIZATION
 * inside a scope, as in any SECURITY DEFINER function.
 */
#include "stripe_sync.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#define PINNED_PATH "pg_catalog, pg_temp"

static ProcessUtility_hook_type previous_utility = NULL;
static bool firing_deferred = false;

/* Deferrable constraints of this database; see role_fire_deferred() */
static MemoryContext constraint_memory = NULL;
static List *initially_deferred = NIL; /* of RangeVar */
static bool any_deferrable = false;
static bool constraints_known = false;

/* The role that owns the extension's tables. */
Oid
role_engine(void)
{
	Oid relid = engine_relation("event");
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", relid);
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

const char *
role_current_path(void)
{
	return namespace_search_path;
}

RoleScope
role_enter(Oid role, const char *search_path)
{
	RoleScope scope;

	GetUserIdAndSecContext(&scope.user, &scope.security);
	SetUserIdAndSecContext(role, scope.security | SECURITY_LOCAL_USERID_CHANGE);
	scope.nest = NewGUCNestLevel();
	(void) set_config_option("search_path", search_path, PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	return scope;
}

RoleScope
role_enter_engine(void)
{
	RoleScope scope;
	Oid engine = role_engine();

	/* Nested scopes of the engine's own cost nothing */
	if (GetUserId() == engine && strcmp(namespace_search_path, PINNED_PATH) == 0)
	{
		GetUserIdAndSecContext(&scope.user, &scope.security);
		scope.nest = -1;
		return scope;
	}
	return role_enter(engine, PINNED_PATH);
}

void
role_leave(const RoleScope *scope)
{
	if (scope->nest >= 0)
		AtEOXact_GUC(true, scope->nest);
	SetUserIdAndSecContext(scope->user, scope->security);
}

static void
constraints_forget(Datum arg, int cacheid, uint32 hash)
{
	constraints_known = false;
}

/*
 * Read which constraints can be deferred at all.  Most databases have few, so
 * that most events need not care.
 */
static void
constraints_load(void)
{
	static EngineStatement select = {
		"SELECT n.nspname, c.conname, c.condeferred"
		"  FROM pg_catalog.pg_constraint c"
		"  JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.connamespace"
		" WHERE c.condeferrable"};
	RoleScope scope = role_enter_engine();
	MemoryContext old;

	if (constraint_memory == NULL)
		constraint_memory = AllocSetContextCreate(
			TopMemoryContext, "stripe_sync constraints", ALLOCSET_SMALL_SIZES);
	constraints_known = true; /* an invalidation from here on counts */
	MemoryContextReset(constraint_memory);
	initially_deferred = NIL;

	SPI_connect();
	engine_run(&select, NULL, NULL, SPI_OK_SELECT);
	any_deferrable = SPI_processed > 0;
	old = MemoryContextSwitchTo(constraint_memory);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple row = SPI_tuptable->vals[i];
		TupleDesc desc = SPI_tuptable->tupdesc;

		if (strcmp(SPI_getvalue(row, desc, 3), "t") == 0)
			initially_deferred = lappend(
				initially_deferred,
				makeRangeVar(SPI_getvalue(row, desc, 1),
							 SPI_getvalue(row, desc, 2), -1));
	}
	MemoryContextSwitchTo(old);
	SPI_finish();
	role_leave(&scope);
}

static void
set_constraints(List *constraints, bool deferred)
{
	ConstraintsSetStmt *stmt = makeNode(ConstraintsSetStmt);

	stmt->constraints = constraints;
	stmt->deferred = deferred;
	AfterTriggerSetState(stmt);
}

/*
 * Fire what deferred triggers wait, as the role that is current now.
 *
 * Left alone they would fire at COMMIT as whoever is current then (before
 * PostgreSQL 18): a handler could so borrow the rights of the backend's user.
 * A trigger that defers again is refused (see below).  Afterwards constraints
 * are deferred or not as they were declared: what the caller itself had said
 * with SET CONSTRAINTS is not kept.
 */
void
role_fire_deferred(void)
{
	if (!constraints_known)
		constraints_load();
	if (!any_deferrable)
		return;

	firing_deferred = true;
	PG_TRY();
	{
		set_constraints(NIL, false);
	}
	PG_FINALLY();
	{
		firing_deferred = false;
	}
	PG_END_TRY();
	if (initially_deferred != NIL)
		set_constraints(initially_deferred, true);
}

/* Refuse SET CONSTRAINTS ... DEFERRED while deferred triggers are fired. */
static void
role_utility(PlannedStmt *stmt, const char *query, bool read_only_tree,
			 ProcessUtilityContext context, ParamListInfo params,
			 QueryEnvironment *environment, DestReceiver *dest,
			 QueryCompletion *completion)
{
	if (firing_deferred && IsA(stmt->utilityStmt, ConstraintsSetStmt) &&
		((ConstraintsSetStmt *) stmt->utilityStmt)->deferred)
		ereport(
			ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg(
				 "a deferred trigger cannot defer again while stripe_sync applies an event"),
			 errhint("Leave SET CONSTRAINTS out of the trigger's function.")));
	if (previous_utility)
		previous_utility(stmt, query, read_only_tree, context, params,
						 environment, dest, completion);
	else
		standard_ProcessUtility(stmt, query, read_only_tree, context, params,
								environment, dest, completion);
}

void
role_init(void)
{
	previous_utility = ProcessUtility_hook;
	ProcessUtility_hook = role_utility;
	CacheRegisterSyscacheCallback(CONSTROID, constraints_forget, (Datum) 0);
}
