/*
 * subtransaction.c
 *		Runs a function in a subtransaction and returns its error.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "base/subtransaction.h"

/*
 * Errors that are not caused by the work itself: cancellation, time-outs of
 * the caller, shutdown, serialization failure, disk full, internal errors.
 * They abort the caller's transaction; for a webhook, Stripe delivers the
 * event again.
 */
static bool
is_uncatchable(int sqlstate)
{
	int category = ERRCODE_TO_CATEGORY(sqlstate);

	return category == ERRCODE_TO_CATEGORY(ERRCODE_OPERATOR_INTERVENTION) ||
		   category == ERRCODE_TO_CATEGORY(ERRCODE_TRANSACTION_ROLLBACK) ||
		   category == ERRCODE_TO_CATEGORY(ERRCODE_INTERNAL_ERROR) ||
		   sqlstate == ERRCODE_LOCK_NOT_AVAILABLE ||
		   sqlstate == ERRCODE_IDLE_IN_TRANSACTION_SESSION_TIMEOUT ||
		   sqlstate == ERRCODE_DISK_FULL;
}

bool
subtransaction_run(void (*body)(void *), void *arg,
				   bool (*excuse)(const ErrorData *), ErrorData **error)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool done = false;

	*error = NULL;
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		body(arg);
		ReleaseCurrentSubTransaction();
		done = true;
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		*error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	if (!done && is_uncatchable((*error)->sqlerrcode) &&
		!(excuse != NULL && excuse(*error)))
		ReThrowError(*error);
	return done;
}

bool
subtransaction_excuse_all(const ErrorData *error)
{
	return ERRCODE_TO_CATEGORY(error->sqlerrcode) !=
		   ERRCODE_TO_CATEGORY(ERRCODE_OPERATOR_INTERVENTION);
}
