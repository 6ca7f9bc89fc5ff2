/*
 * work.c
 *		CALL work(): the worker's loop in the foreground, until nothing is due.
 *
 * SPI_commit() begins the next transaction at once.  While the procedure waits
 * for the network, that transaction is empty: it has no snapshot and no lock.
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "base/base.h"
#include "base/compat.h"
#include "engine/engine.h"
#include "engine/worker_transaction.h"
#include "http/http.h"
#include "server/server.h"
#include "worker/internal.h"

static void
owner_begin(void)
{
}

static void
owner_commit(void)
{
	SPI_commit();
}

static const TransactionOwner owner = {owner_begin, owner_commit, false};

static TimestampTz
deadline(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("max_time cannot be NULL"),
				 errhint("For example: CALL stripe_sync.work('1 minute').")));
	return engine_time_after(PG_GETARG_INTERVAL_P(0));
}

static bool
wait_for_more(TimestampTz until)
{
	TimestampTz wake;

	if (!loop_has_pending(&wake))
		return false;
	(void) http_wait(TimestampDifferenceMilliseconds(GetCurrentTimestamp(),
													 Min(wake, until)),
					 compat_wait_event("StripeSyncWork"));
	return true;
}

static void
work_until(TimestampTz until, MemoryContext memory)
{
	while (GetCurrentTimestamp() < until)
	{
		TimestampTz next;

		CHECK_FOR_INTERRUPTS();
		MemoryContextSwitchTo(memory);
		MemoryContextReset(memory);
		if (!loop_run_once(&next) && !wait_for_more(until))
			break;
	}
}

static void
check_interrupts(void)
{
	CHECK_FOR_INTERRUPTS();
}

/* Tell the caller why nothing is sent. */
static void
warn_if_inactive(void)
{
	worker_begin();
	outbound_warn(outbound_state());
	worker_commit();
}

/*
 * Release what this session has claimed, and raise the error again.  Messages
 * must not stay leased to a session that goes on.
 *
 * The error may come from nested SPI connections, of which only the outermost
 * can roll back.  If the library no longer matches the catalog, nothing can be
 * written: the leases then last until the session ends or calls work() again.
 */
static void
release_after_error(MemoryContext memory)
{
	ErrorData *error;

	MemoryContextSwitchTo(memory);
	error = CopyErrorData();
	FlushErrorState();
	while (!SPI_inside_nonatomic_context())
		if (SPI_finish() != SPI_OK_FINISH)
			ReThrowError(error);
	worker_abort();
	SPI_rollback();
	if (worker_catalog_fits())
		loop_release_all();
	ReThrowError(error);
}

/* ---- a session that is terminated ---- */

static const TransactionOwner exit_owner = {StartTransactionCommand,
											CommitTransactionCommand, false};

/* The leases end with the session; releasing them saves the worker the search. */
static void
release_at_exit(int code, Datum arg)
{
	if (loop_is_idle())
		return;
	AbortOutOfAnyTransaction();
	loop_setup(&exit_owner);
	if (worker_catalog_fits())
		loop_release_all();
}

static void
register_exit_callback(void)
{
	static bool registered = false;

	if (!registered)
		before_shmem_exit(release_at_exit, (Datum) 0);
	registered = true;
}

/*
 * CALL work(max_time): must be called outside a transaction block, because it
 * commits after each step.  Requests that are in progress at max_time are waited
 * for, at most stripe_sync.http_timeout: otherwise they would be sent again.
 */
ENGINE_FUNCTION(stripe_sync_work)
{
	CallContext *call = (CallContext *) fcinfo->context;
	TimestampTz until;
	MemoryContext memory = AllocSetContextCreate(
		PortalContext, "stripe_sync work", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old;

	if (call == NULL || !IsA(call, CallContext) || call->atomic)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
			 errmsg("stripe_sync.work() cannot run inside a transaction block"),
			 errhint("CALL it by itself: it commits after each event.")));
	until = deadline(fcinfo);
	register_exit_callback();
	old = MemoryContextSwitchTo(memory);
	SPI_connect_ext(SPI_OPT_NONATOMIC);
	PG_TRY();
	{
		loop_setup(&owner);
		warn_if_inactive();
		work_until(until, memory);
		loop_drain(guc_http_timeout, check_interrupts);
	}
	PG_CATCH();
	{
		release_after_error(PortalContext);
	}
	PG_END_TRY();
	SPI_finish();
	MemoryContextSwitchTo(old);
	PG_RETURN_VOID();
}
