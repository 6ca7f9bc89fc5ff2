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
	Step *step; /* to run now */
} Claim;

/*
 * The step whose turn it is: the mirror before all handlers, else the one with
 * the fewest tries.  NULL when all are dead.
 */
static Step *
choose_step(List *todo)
{
	Step *chosen = NULL;
	ListCell *cell;

	foreach(cell, todo)
	{
		Step *step = lfirst(cell);

		if (step_is_dead(step))
			continue;
		if (strcmp(step->name, STEP_MIRROR) == 0)
			return step;
		if (chosen == NULL || step->tries < chosen->tries)
			chosen = step;
	}
	return chosen;
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

	claim->step = NULL;
	if (found)
	{
		stored = replay_lock(claim->id, claim->account);
		claim->step = choose_step(stored->todo);
		if (claim->step != NULL)
			claim->step->tries++;
		run.event = &stored->event;
		run.mirrored = stored->mirrored;
		run.error = stored->error;
		run.todo = stored->todo;
		run.claimed = claim->step ? claim->step->tries : 0;
		/* should this be the last try and never come back, it is dead */
		status = strcmp(step_status(&run), "dead") == 0 ? "dead"
														: stored->status;
		step_settle(&run, status, 1);
	}
	role_leave(&scope);
	return found;
}

/* Run the claimed step, unless somebody has run it meanwhile. */
static void
run_body(void *arg)
{
	Claim *claim = arg;
	StoredEvent *stored = replay_lock(claim->id, claim->account);
	List *steps = NIL;
	List *rest = NIL;
	ListCell *cell;

	foreach(cell, stored ? stored->todo : NIL)
	{
		Step *step = lfirst(cell);

		if (claim->step != NULL && step->tries == claim->step->tries &&
			strcmp(step->name, claim->step->name) == 0)
			steps = lappend(steps, step);
		else
			rest = lappend(rest, step);
	}
	if (steps == NIL)
		return;
	stored->claimed = claim->step->tries;
	(void) replay_run(stored, steps, rest, 0);
}

/* The attempt is counted already: what ends it must not end the others'. */
static bool
ends_this_event_only(const ErrorData *error)
{
	return ERRCODE_TO_CATEGORY(error->sqlerrcode) !=
		   ERRCODE_TO_CATEGORY(ERRCODE_OPERATOR_INTERVENTION);
}

/* Second transaction. */
static void
run_claim(Claim *claim)
{
	static EngineStatement note = {
		"UPDATE stripe_sync.event SET error = $3"
		" WHERE id OPERATOR(pg_catalog.=) $1 AND account OPERATOR(pg_catalog.=) $2",
		3,
		{TEXTOID, TEXTOID, TEXTOID}};
	RoleScope scope = role_enter_engine();
	ErrorData *error;

	if (!step_guard(run_body, claim, ends_this_event_only, &error))
	{
		Datum values[] = {
			CStringGetTextDatum(claim->id), CStringGetTextDatum(claim->account),
			CStringGetTextDatum(psprintf("%s: %s: %s", claim->step->name,
										 unpack_sql_state(error->sqlerrcode),
										 error->message))};

		SPI_connect();
		engine_run(&note, values, NULL, SPI_OK_UPDATE);
		SPI_finish();
	}
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
	TimestampTz until;
	MemoryContext memory = AllocSetContextCreate(
		PortalContext, "stripe_sync work", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(memory);

	if (call == NULL || !IsA(call, CallContext) || call->atomic)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
			 errmsg("stripe_sync.work() cannot run inside a transaction block"),
			 errhint("CALL it by itself: it commits after each event.")));
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("max_time cannot be NULL"),
				 errhint("For example: CALL stripe_sync.work('1 minute').")));
	until = DatumGetTimestampTz(DirectFunctionCall2(
		timestamptz_pl_interval, TimestampTzGetDatum(GetCurrentTimestamp()),
		PG_GETARG_DATUM(0)));
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
