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

/* Where we are; errors and the transaction's end put it back */
static ScopeState state = {InvalidOid, NULL};

/* Deferrable constraints of this database; see role_fire_deferred() */
static MemoryContext constraint_memory = NULL;
static List *initially_deferred = NIL; /* of RangeVar */
static bool any_deferrable = false;
static bool constraints_known = false;

/* The role that owns the extension's tables. */
static Oid
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

static RoleScope
enter(Oid role, const char *search_path)
{
	RoleScope scope;

	GetUserIdAndSecContext(&scope.user, &scope.security);
	scope.state = state;
	SetUserIdAndSecContext(role, scope.security | SECURITY_LOCAL_USERID_CHANGE);
	scope.nest = NewGUCNestLevel();
	(void) set_config_option("search_path", search_path, PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	return scope;
}

/* For code of a user's: as that role, under that search_path. */
RoleScope
role_enter(Oid role, const char *search_path)
{
	RoleScope scope = enter(role, search_path);

	state.user = role;
	state.caller_path = NULL;
	return scope;
}

RoleScope
role_enter_engine(void)
{
	RoleScope scope;
	Oid engine = role_engine();
	const char *path = namespace_search_path;

	/* Nested scopes of the engine's own cost nothing */
	if (GetUserId() != engine || strcmp(path, PINNED_PATH) != 0)
	{
		char *caller_path = pstrdup(path);

		scope = enter(engine, PINNED_PATH);
		if (state.caller_path == NULL)
			state.caller_path = caller_path;
		return scope;
	}
	GetUserIdAndSecContext(&scope.user, &scope.security);
	scope.state = state;
	scope.nest = -1;
	return scope;
}

/* Settings that were made inside the scope end with it. */
void
role_leave(const RoleScope *scope)
{
	if (scope->nest >= 0)
		AtEOXact_GUC(false, scope->nest);
	SetUserIdAndSecContext(scope->user, scope->security);
	state = scope->state;
}

/* For who catches an error that left scopes behind. */
ScopeState
role_state(void)
{
	return state;
}

void
role_restore(ScopeState former)
{
	state = former;
}

static void
role_transaction_end(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT)
		state = (ScopeState){InvalidOid, NULL};
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
		/* a name that is shared with one that isn't can't be set by name */
		"SELECT n.nspname, c.conname, c.condeferred AND NOT EXISTS"
		"   (SELECT FROM pg_catalog.pg_constraint o"
		"     WHERE o.connamespace OPERATOR(pg_catalog.=) c.connamespace"
		"       AND o.conname OPERATOR(pg_catalog.=) c.conname AND NOT o.condeferrable)"
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
 * Fire what deferred triggers wait, as the role that is current now.  Called at
 * the end of a scope of user code; what was deferred before it has been fired
 * by role_fire_callers().
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
	{
		/* the current role may not even see the schemas these are in */
		RoleScope scope = role_enter_engine();

		set_constraints(initially_deferred, true);
		role_leave(&scope);
	}
}

/*
 * Fire what the caller had deferred, before code of others runs: else that
 * code's scope would fire it with rights that are not the caller's.  As at
 * COMMIT it is the session's role that fires, not a SECURITY DEFINER
 * function's in between.
 */
void
role_fire_callers(void)
{
	RoleScope scope;

	if (!constraints_known)
		constraints_load();
	if (!any_deferrable)
		return;
	scope = role_enter(
		OidIsValid(state.user) ? state.user : GetOuterUserId(),
		pstrdup(state.caller_path ? state.caller_path : namespace_search_path));
	role_fire_deferred();
	role_leave(&scope);
}

static bool
is_temporary(const RangeVar *relation)
{
	return relation != NULL && (relation->relpersistence == RELPERSISTENCE_TEMP ||
								(relation->schemaname != NULL &&
								 strcmp(relation->schemaname, "pg_temp") == 0));
}

/*
 * Would the statement leave something in the session that runs, or is found,
 * when nobody is in the scope any more?  Or take away what is the caller's?
 */
static bool
outlives_scope(Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_DeclareCursorStmt:
		case T_ClosePortalStmt:
		case T_PrepareStmt:
		case T_DeallocateStmt:
		case T_DiscardStmt:
		case T_ListenStmt:
		case T_UnlistenStmt:
			return true;
		case T_CreateStmt:
			return is_temporary(((CreateStmt *) statement)->relation);
		case T_CreateTableAsStmt:
			return is_temporary(((CreateTableAsStmt *) statement)->into->rel);
		case T_CreateSeqStmt:
			return is_temporary(((CreateSeqStmt *) statement)->sequence);
		case T_ViewStmt:
			return is_temporary(((ViewStmt *) statement)->view);
		case T_CompositeTypeStmt:
			return is_temporary(((CompositeTypeStmt *) statement)->typevar);
		default:
			return false;
	}
}

/* Refuse what would carry code out of its scope. */
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
	if (OidIsValid(state.user) && outlives_scope(stmt->utilityStmt))
		ereport(
			ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("a handler or a trigger on a mirror table cannot execute %s",
					GetCommandTagName(CreateCommandTag(stmt->utilityStmt))),
			 errdetail("It would outlive the role that the handler runs as."),
			 errhint(
				 "Use ordinary tables, or none; cursors of PL/pgSQL are fine.")));
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
	RegisterXactCallback(role_transaction_end, NULL);
	CacheRegisterSyscacheCallback(CONSTROID, constraints_forget, (Datum) 0);
}
