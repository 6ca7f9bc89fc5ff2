/*
 * deferred.c
 *		Deferred triggers are fired by whom they belong to.
 *
 * Left alone they would fire at COMMIT as whoever is current then (before
 * PostgreSQL 18): code in a scope could so borrow the rights of the session's
 * user.  So a writing scope fires them before it ends, and what the caller had
 * deferred is fired before the first writing scope, as the caller.  Afterwards
 * constraints are deferred or not as they were declared: what the caller itself
 * had said with SET CONSTRAINTS is not kept.
 */
#include "scope.h"

#include "commands/trigger.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

/* Deferrable constraints of this database, until pg_constraint changes. */
static MemoryContext constraint_memory = NULL;
static List *initially_deferred = NIL; /* of RangeVar */
static bool any_deferrable = false;
static bool constraints_known = false;

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
	initially_deferred = NIL;
	MemoryContextReset(constraint_memory);

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

/* Can anything be deferred in this database? */
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
 * Constraints are set by name, and somebody may just be renaming one or its
 * schema: then all are read again.  Whoever renames on and on leaves them
 * immediate in this transaction, which is no reason to fail.
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
 * Fire what deferred triggers wait, as the role that is current now.  A trigger
 * that defers again is refused (scope_guard.c), so nothing is left.
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
 * In a function that ANALYZE, REINDEX or REFRESH MATERIALIZED VIEW runs as a
 * table's owner, say: what waits is of whoever gave the command, and nothing of
 * the owner's is to fire that.
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
 * Fire what the caller had deferred, before code of others runs: else that
 * code's scope would fire it with rights that are not the caller's.  Whoever
 * enters a writing scope sees to it; what must not catch the caller's errors
 * calls it before.
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
