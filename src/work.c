/*
 * work.c
 *		CALL work(): a pass of the worker in the foreground, until nothing is
 *		due.
 *
 * Each commit begins another transaction, as a procedure's must: while it
 * waits for the network that one is empty, without a snapshot or a lock.
 */
#include "stripe_sync.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "http.h"
#include "pass.h"

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

	if (!pass_awaits(&wake))
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
		if (!pass_turn(&next) && !wait_for_more(until))
			break;
	}
}

static void
mind_interrupts(void)
{
	CHECK_FOR_INTERRUPTS();
}

/* Who calls it by hand is told why nothing is sent. */
static void
warn_if_inactive(void)
{
	worker_begin();
	guard_warn(guard_state());
	worker_commit();
}

/*
 * An error must not leave messages leased to a session that lives on.  It may
 * have come from deeper levels of SPI, of which only ours can roll back.  Where
 * the library no longer fits the catalog nothing can be written: they stay
 * leased until the session ends or its next work() settles them.
 */
static void
let_go(MemoryContext memory)
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
		pass_finish();
	ReThrowError(error);
}

/* ---- a session that is told to end ---- */

static const TransactionOwner exit_owner = {StartTransactionCommand,
											CommitTransactionCommand, false};

/* Its leases lapse with it; this spares the worker to find out. */
static void
let_go_at_exit(int code, Datum arg)
{
	if (pass_idle())
		return;
	AbortOutOfAnyTransaction();
	pass_setup(&exit_owner);
	if (worker_catalog_fits())
		pass_finish();
}

static void
let_go_when_told_to_end(void)
{
	static bool registered = false;

	if (!registered)
		before_shmem_exit(let_go_at_exit, (Datum) 0);
	registered = true;
}

/*
 * CALL work(max_time): must be called outside a transaction block, for it
 * commits after each thing.  What is in the air at max_time may still land, or
 * it would be sent twice: that takes http_timeout at most.
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
	let_go_when_told_to_end();
	old = MemoryContextSwitchTo(memory);
	SPI_connect_ext(SPI_OPT_NONATOMIC);
	PG_TRY();
	{
		pass_setup(&owner);
		warn_if_inactive();
		work_until(until, memory);
		pass_land(guc_http_timeout, mind_interrupts);
	}
	PG_CATCH();
	{
		let_go(PortalContext);
	}
	PG_END_TRY();
	SPI_finish();
	MemoryContextSwitchTo(old);
	PG_RETURN_VOID();
}
