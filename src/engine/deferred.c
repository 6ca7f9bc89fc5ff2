/*
 * deferred.c
 *		Fires deferred triggers with the rights of the role that queued them.
 *
 * Before PostgreSQL 18 they fire at COMMIT as the user that is current then, so
 * code in a scope could use the rights of the session's user.  Therefore a
 * writing scope fires its deferred triggers before it ends, and those that the
 * caller has queued are fired before the first writing scope, as the caller.
 * Afterwards constraints are deferred or immediate as declared: an earlier SET
 * CONSTRAINTS of the caller is not kept.
 */
#include "postgres.h"

#include "commands/trigger.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "base/subtransaction.h"
#include "engine/rights.h"
#include "engine/scope.h"
#include "engine/statement.h"

/* Deferrable constraints of this database, read again when pg_constraint changes */
static MemoryContext constraint_memory = NULL;
static List *initially_deferred = NIL; /* of RangeVar */
static bool any_deferrable = false;
static bool constraints_known = false;

static void
constraints_forget(Datum arg, int cacheid, uint32 hash)
{
	constraints_known = false;
}

/* Read which constraints are deferrable.  Most databases have none or few. */
static void
constraints_load(void)
{
	static EngineStatement select = {
		/* SET CONSTRAINTS fails on a name that a non-deferrable one shares */
		"SELECT n.nspname, c.conname, c.condeferred AND NOT EXISTS"
		"   (SELECT FROM pg_catalog.pg_constraint o"
		"     WHERE o.connamespace = c.connamespace"
		"       AND o.conname = c.conname AND NOT o.condeferrable)"
		"  FROM pg_catalog.pg_constraint c"
		"  JOIN pg_catalog.pg_namespace n ON n.oid = c.connamespace"
		" WHERE c.condeferrable"};
	RoleScope scope = role_enter_engine();
	MemoryContext old;
	Rows rows;

	if (constraint_memory == NULL)
		constraint_memory = AllocSetContextCreate(
			TopMemoryContext, "stripe_sync constraints", ALLOCSET_SMALL_SIZES);
	constraints_known = true; /* an invalidation during the query resets it */
	initially_deferred = NIL;
	MemoryContextReset(constraint_memory);

	old = MemoryContextSwitchTo(constraint_memory);
	rows_open(&rows, &select, NO_ARGS);
	any_deferrable = rows.count > 0;
	while (rows_next(&rows))
	{
		char *schema = rows_text(&rows);
		char *name = rows_text(&rows);

		if (rows_bool(&rows, false))
			initially_deferred = lappend(initially_deferred,
										 makeRangeVar(schema, name, -1));
	}
	rows_close(&rows);
	MemoryContextSwitchTo(old);
	role_leave(&scope);
}

/* Does this database have any deferrable constraint? */
bool
deferred_possible(void)
{
	if (!constraints_known)
		constraints_load();
	return any_deferrable;
}

static void
set_constraints(List *constraints, bool deferred)
{
	ConstraintsSetStmt *stmt = makeNode(ConstraintsSetStmt);

	stmt->constraints = constraints;
	stmt->deferred = deferred;
	AfterTriggerSetState(stmt);
}

static void
defer_body(void *arg)
{
	/* the current role may not even see the schemas these are in */
	RoleScope scope = role_enter_engine();

	set_constraints(initially_deferred, true);
	role_leave(&scope);
}

/*
 * Constraints are set by name, and another session may rename one or its schema
 * at the same time: then all are read again, twice at most.  If that fails too,
 * they stay immediate in this transaction, which is no error.
 */
static void
defer_as_declared(void)
{
	ErrorData *error;

	for (int i = 0; i < 3 && deferred_possible(); i++)
	{
		if (initially_deferred == NIL ||
			subtransaction_run(defer_body, NULL, subtransaction_excuse_all,
							   &error))
			break;
		constraints_known = false;
	}
}

/*
 * Fire all queued deferred triggers as the current role.  scope_guard.c refuses
 * a trigger that defers again, so none is left afterwards.
 */
void
deferred_fire(void)
{
	if (!deferred_possible())
		return;
	scope_set_firing(true);
	set_constraints(NIL, false);
	scope_set_firing(false);
	defer_as_declared();
}

/*
 * A function that ANALYZE, REINDEX or REFRESH MATERIALIZED VIEW runs as the
 * table's owner must not fire triggers that the command's user has queued.
 */
static void
check_unrestricted(void)
{
	if (InSecurityRestrictedOperation())
		ereport(
			ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg(
				 "stripe_sync cannot fire deferred triggers within security-restricted operation"),
			 errhint(
				 "Functions of indexes, policies and materialized views cannot receive events.")));
}

/*
 * Fire the triggers that the caller has queued, as the caller, before another
 * role's code runs: otherwise the scope of that code would fire them with its
 * role's rights.  role_enter_writing() calls this.  A caller that catches
 * errors of the scope calls it first, because errors of these triggers are not
 * the event's.
 */
void
deferred_fire_callers(void)
{
	RoleScope scope;

	if (scope_callers_fired() || !deferred_possible())
		return;
	check_unrestricted();
	scope = role_enter_caller();
	deferred_fire();
	role_leave(&scope);
	scope_note_callers_fired();
}

void
deferred_init(void)
{
	CacheRegisterSyscacheCallback(CONSTROID, constraints_forget, (Datum) 0);
	CacheRegisterSyscacheCallback(NAMESPACEOID, constraints_forget, (Datum) 0);
}
