/*
 * work.c
 *		One pass of the worker in the foreground: events of which something is
 *		due, until nothing is.
 *
 * Each event takes two transactions.  The first counts the attempt and puts
 * the next one off, so that a crash can't repeat it at once for ever; the
 * second runs the steps and says what became of them.
 */
#include "stripe_sync.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(stripe_sync_work);

/* An event of which something is due, with its attempt counted. */
typedef struct Claim
{
	char *id;
	char *account;
	List *steps; /* of Step: to run now */
} Claim;

/*
 * Steps that merely waited go first; what failed before waits for its time.
 * Counts the try of those chosen, and returns the others.
 */
static List *
choose_steps(Claim *claim, List *todo)
{
	List *rest = NIL;
	bool fresh = false;
	bool mirror = false;
	ListCell *cell;

	foreach(cell, todo)
	{
		Step *step = lfirst(cell);

		if (strcmp(step->name, STEP_MIRROR) == 0 && !step_is_dead(step))
			mirror = true;
		fresh = fresh || step->tries == 0;
	}
	foreach(cell, todo)
	{
		Step *step = lfirst(cell);

		if (step_is_dead(step) || (fresh && !mirror && step->tries > 0))
			rest = lappend(rest, step);
		else
		{
			step->tries++;
			claim->steps = lappend(claim->steps, step);
		}
	}
	return rest;
}

/* Find the event that is due the longest, and that nobody else is at. */
static bool
find_due(char **id, char **account)
{
	static EngineStatement select = {
		"SELECT id, account FROM stripe_sync.event"
		" WHERE next_attempt_at OPERATOR(pg_catalog.<=) pg_catalog.clock_timestamp()"
		" ORDER BY next_attempt_at LIMIT 1 FOR UPDATE SKIP LOCKED"};
	MemoryContext context = CurrentMemoryContext;
	bool found;

	SPI_connect();
	engine_run(&select, NULL, NULL, SPI_OK_SELECT);
	found = SPI_processed > 0;
	if (found)
	{
		MemoryContext old = MemoryContextSwitchTo(context);

		*id = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
		*account = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2);
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	return found;
}

/* First transaction: the attempt is counted before it is made. */
static bool
claim_next(Claim *claim)
{
	RoleScope scope = role_enter_engine();
	StoredEvent *stored;
	StepRun run = {0};
	const char *status;
	bool found = find_due(&claim->id, &claim->account);

	claim->steps = NIL;
	if (found)
	{
		stored = replay_lock(claim->id, claim->account, false);
		run.todo = choose_steps(claim, stored->todo);
		run.event = &stored->event;
		run.mirrored = stored->mirrored;
		run.error = stored->error;
		run.todo = list_concat(list_copy(claim->steps), run.todo);
		/* should this be the last try and never come back, it is dead */
		status = strcmp(step_status(&run), "dead") == 0 ? "dead"
														: stored->status;
		step_settle(&run, status, 1);
	}
	role_leave(&scope);
	return found;
}

static bool
is_claimed(const Claim *claim, const Step *step)
{
	ListCell *cell;

	foreach(cell, claim->steps)
	{
		Step *claimed = lfirst(cell);

		if (strcmp(claimed->name, step->name) == 0 &&
			claimed->tries == step->tries)
			return true;
	}
	return false;
}

/*
 * Second transaction: run the steps, those that nobody has run meanwhile, and
 * unless somebody is at it.
 */
static void
run_claim(Claim *claim)
{
	RoleScope scope = role_enter_engine();
	StoredEvent *stored = replay_lock(claim->id, claim->account, true);
	List *steps = NIL;
	List *rest = NIL;
	ListCell *cell;

	foreach(cell, stored ? stored->todo : NIL)
	{
		Step *step = lfirst(cell);

		if (is_claimed(claim, step))
			steps = lappend(steps, step);
		else
			rest = lappend(rest, step);
	}
	if (steps != NIL)
		(void) replay_run(stored, steps, rest, 0);
	role_leave(&scope);
}

/*
 * CALL work(max_time): must be called outside a transaction block, for it
 * commits after each step.
 */
Datum
stripe_sync_work(PG_FUNCTION_ARGS)
{
	CallContext *call = (CallContext *) fcinfo->context;
	Interval *most = PG_GETARG_INTERVAL_P(0);
	TimestampTz until = DatumGetTimestampTz(DirectFunctionCall2(
		timestamptz_pl_interval, TimestampTzGetDatum(GetCurrentTimestamp()),
		IntervalPGetDatum(most)));
	MemoryContext memory = AllocSetContextCreate(
		PortalContext, "stripe_sync work", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(memory);

	if (call == NULL || !IsA(call, CallContext) || call->atomic)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
			 errmsg("stripe_sync.work() cannot run inside a transaction block"),
			 errhint("CALL it by itself: it commits after each event.")));
	SPI_connect_ext(SPI_OPT_NONATOMIC);
	while (GetCurrentTimestamp() < until)
	{
		Claim claim;
		bool found;

		CHECK_FOR_INTERRUPTS();
		MemoryContextSwitchTo(memory);
		found = claim_next(&claim);
		SPI_commit();
		if (!found)
			break;
		MemoryContextSwitchTo(memory);
		run_claim(&claim);
		SPI_commit();
		MemoryContextReset(memory);
	}
	SPI_finish();
	MemoryContextSwitchTo(old);
	PG_RETURN_VOID();
}
