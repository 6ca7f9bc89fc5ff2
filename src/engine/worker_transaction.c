/*
 * worker_transaction.c
 *		Transactions of the worker's work, in the worker and in CALL work().
 *
 * The worker begins and commits transactions itself; CALL work() does so with
 * those of its procedure.  A TransactionOwner says how.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "storage/lock.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"

#include "base/refusal.h"
#include "engine/engine.h"
#include "engine/rights.h"
#include "engine/worker_transaction.h"

static TransactionOwner owner;
static RoleScope scope;
static Snapshot snapshot; /* of the open transaction, or NULL */

void
worker_transaction_setup(const TransactionOwner *new_owner)
{
	owner = *new_owner;
	snapshot = NULL;
}

void
worker_begin(void)
{
	owner.begin();
	level_check(CATALOG_LEVEL); /* may have changed since the last one */
	PushActiveSnapshot(GetTransactionSnapshot());
	snapshot = GetActiveSnapshot();
	scope = role_enter_engine();
}

static void
leave_scope(void)
{
	role_leave(&scope);
	PopActiveSnapshot();
	snapshot = NULL;
}

/*
 * Users' code has run in the worker's session.  Temporary tables and advisory
 * locks that it left there must not be visible to other users' code, so they
 * are dropped at each commit.  A session that calls work() keeps its own.
 */
static void
commit_and_clean(void)
{
	Oid temporary;
	Oid toast;

	if (!owner.own_session)
	{
		owner.commit();
		return;
	}
	GetTempNamespaceState(&temporary, &toast);
	if (OidIsValid(temporary))
		ResetTempTableNamespace();
	owner.commit();
	LockReleaseAll(USER_LOCKMETHOD, true); /* advisory locks */
}

void
worker_commit(void)
{
	leave_scope();
	commit_and_clean();
}

void
worker_commit_unflushed(void)
{
	leave_scope();
	(void) set_config_option("synchronous_commit", "off", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
	commit_and_clean();
}

bool
worker_catalog_fits(void)
{
	Refusal refusal;
	bool fits;

	owner.begin();
	fits = level_fits(CATALOG_LEVEL, &refusal);
	owner.commit();
	return fits;
}

void
worker_abort(void)
{
	while (snapshot != NULL)
	{
		if (GetActiveSnapshot() == snapshot)
			snapshot = NULL;
		PopActiveSnapshot();
	}
}
