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

/* Where the context of an error changes from ours to the caller's */
#define CALLER_MARK "in a subtransaction of stripe_sync"

static void
mark_caller(void *arg)
{
	errcontext("%s", CALLER_MARK);
}

/*
 * Cut the caller's lines off: the error is stored, and a statement of the
 * caller's may hold a secret, such as that given to sign().
 */
static void
cut_context(ErrorData *error)
{
	char *mark = error->context != NULL ? strstr(error->context, CALLER_MARK)
										: NULL;

	if (mark == NULL)
		return;
	if (mark == error->context)
		error->context = NULL;
	else
		mark[-1] = '\0'; /* the line break before it */
}

/*
 * Run body(arg) in a subtransaction.  Returns false if it raised an error, which
 * *error then is, with the context that lies within the body; raises it again
 * if it is one of the above and not excused.
 */
bool
subtransaction_run(void (*body)(void *), void *arg,
				   bool (*excuse)(const ErrorData *), ErrorData **error)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorContextCallback mark = {error_context_stack, mark_caller, NULL};
	volatile bool done = false;

	*error = NULL;
	error_context_stack = &mark;
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
	error_context_stack = mark.previous;
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	if (!done && is_uncatchable((*error)->sqlerrcode) &&
		!(excuse != NULL && excuse(*error)))
		ReThrowError(*error);
	if (!done)
		cut_context(*error);
	return done;
}

bool
subtransaction_excuse_all(const ErrorData *error)
{
	return ERRCODE_TO_CATEGORY(error->sqlerrcode) !=
		   ERRCODE_TO_CATEGORY(ERRCODE_OPERATOR_INTERVENTION);
}
