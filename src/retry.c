/*
 * retry.c
 *		Events of which something is due: a step that has failed, or a deferred
 *		handler.
 *
 * Each takes two transactions.  The first counts the attempt and puts the next
 * one off, so that a crash can't repeat it at once for ever; the second runs
 * the step and says what became of it.
 */
#include "stripe_sync.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "loop.h"

/* An event of which something is due, with its attempt counted. */
typedef struct Claim
{
	char *id;
	char *account;
	Step *step; /* to run now; NULL: all are dead */
} Claim;

static MemoryContext claim_memory = NULL;

/*
 * The step whose turn it is: the mirror before all handlers, else the one with
 * the fewest tries; alerts wait for nobody.  A handler that is held comes after
 * those that can run.  NULL when all are dead.
 */
static Step *
choose_step(List *todo)
{
	bool blocked = step_blocks(todo);
	Step *chosen = NULL;
	Step *held = NULL;
	ListCell *cell;

	foreach(cell, todo)
	{
		Step *step = lfirst(cell);

		if (step_is_dead(step) || (blocked && step_waits(step)))
			continue;
		if (step_hold(step) != HANDLER_RUNS)
			held = step;
		else if (chosen == NULL || step->tries < chosen->tries)
			chosen = step;
	}
	return chosen != NULL ? chosen : held;
}

/* Find the event that is due the longest, and that nobody else is at. */
static bool
find_due(Claim *claim)
{
	static EngineStatement select = {
		"SELECT id, account FROM stripe_sync.event"
		" WHERE next_attempt_at OPERATOR(pg_catalog.<=) pg_catalog.clock_timestamp()"
		" ORDER BY next_attempt_at LIMIT 1 FOR UPDATE SKIP LOCKED"};
	int nest = plan_for_indexes();
	bool found;

	SPI_connect();
	engine_run(&select, NULL, NULL, SPI_OK_SELECT);
	found = SPI_processed > 0;
	if (found)
	{
		MemoryContext old = MemoryContextSwitchTo(claim_memory);

		claim->id = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc,
								 1);
		claim->account = SPI_getvalue(SPI_tuptable->vals[0],
									  SPI_tuptable->tupdesc, 2);
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	plan_settings_restore(nest);
	return found;
}

static void
count_attempt(Claim *claim)
{
	StoredEvent *stored = replay_lock(claim->id, claim->account);
	Step *step = choose_step(stored->todo);
	StepRun run = {.event = &stored->event,
				   .mirrored = stored->mirrored,
				   .error = stored->error,
				   .todo = stored->todo,
				   .received_at = stored->received_at};
	MemoryContext old = MemoryContextSwitchTo(claim_memory);

	if (step != NULL)
	{
		step->tries++;
		run.claimed = step->tries;
		claim->step = step_make(step->name, step->tries);
	}
	MemoryContextSwitchTo(old);
	/* should this be the last try and never come back, it is dead */
	step_settle(&run,
				strcmp(step_status(&run), "dead") == 0 ? "dead" : stored->status,
				1);
}

/* When the next event falls due. */
static TimestampTz
find_next(void)
{
	static EngineStatement select = {
		"SELECT next_attempt_at FROM stripe_sync.event"
		" WHERE next_attempt_at IS NOT NULL ORDER BY next_attempt_at LIMIT 1"};
	TimestampTz next = DT_NOEND;
	int nest = plan_for_indexes();

	SPI_connect();
	engine_run(&select, NULL, NULL, SPI_OK_SELECT);
	if (SPI_processed > 0)
		next = DatumGetTimestampTz(SPI_getbinval(
			SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &(bool){false}));
	SPI_finish();
	plan_settings_restore(nest);
	return next;
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

/* What the step of a claim has come to, when it is undone with all of its turn. */
typedef struct Undone
{
	Claim *claim;
	ErrorData *error;
} Undone;

/* As after a step that fails by itself: the event, event_error, alerts. */
static void
tell_undone(void *arg)
{
	Undone *undone = arg;
	StoredEvent *stored = replay_lock(undone->claim->id, undone->claim->account);
	StepRun run = {0};

	if (stored == NULL)
		return;
	run.event = &stored->event;
	step_failed(&run, undone->claim->step, undone->error);
	trouble_tell(&run);
}

static void
run_claim(Claim *claim)
{
	static EngineStatement note = {
		"UPDATE stripe_sync.event SET error = $3"
		" WHERE id OPERATOR(pg_catalog.=) $1 AND account OPERATOR(pg_catalog.=) $2",
		3,
		{TEXTOID, TEXTOID, TEXTOID}};
	Undone undone = {claim, NULL};
	ErrorData *ignored;

	/* the attempt is counted already: what ends it must not end the others' */
	if (!subtransaction_run(run_body, claim, subtransaction_excuse_all,
							&undone.error))
	{
		Datum values[] = {CStringGetTextDatum(claim->id),
						  CStringGetTextDatum(claim->account),
						  CStringGetTextDatum(psprintf(
							  "%s: %s: %s", claim->step->name,
							  unpack_sql_state(undone.error->sqlerrcode),
							  undone.error->message))};

		SPI_connect();
		engine_run(&note, values, NULL, SPI_OK_UPDATE);
		SPI_finish();
		(void) subtransaction_run(tell_undone, &undone,
								  subtransaction_excuse_all, &ignored);
	}
}

/* An event that can't even be read: which step fails, nobody knows. */
static void
record_put_off(void *arg)
{
	Undone *undone = arg;
	Event event = {
		.id = undone->claim->id, .account = undone->claim->account, .type = ""};

	record_failure(&event, "", undone->error);
}

/* Whatever is wrong with it, it must not hold up those behind it. */
static void
put_off(Claim *claim, ErrorData *error)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.event SET error = $3,"
		" next_attempt_at = pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) interval '1 hour'"
		" WHERE id OPERATOR(pg_catalog.=) $1 AND account OPERATOR(pg_catalog.=) $2",
		3,
		{TEXTOID, TEXTOID, TEXTOID}};
	Datum values[] = {
		CStringGetTextDatum(claim->id), CStringGetTextDatum(claim->account),
		CStringGetTextDatum(psprintf(
			"%s: %s", unpack_sql_state(error->sqlerrcode), error->message))};
	Undone undone = {claim, error};
	ErrorData *ignored;

	SPI_connect();
	engine_run(&update, values, NULL, SPI_OK_UPDATE);
	SPI_finish();
	(void) subtransaction_run(record_put_off, &undone,
							  subtransaction_excuse_all, &ignored);
}

static void
count_body(void *arg)
{
	count_attempt(arg);
}

/* True when there is one to run. */
static bool
take_due(Claim *claim)
{
	ErrorData *error;

	if (!find_due(claim))
		return false;
	if (!subtransaction_run(count_body, claim, subtransaction_excuse_all, &error))
	{
		claim->step = NULL;
		put_off(claim, error);
	}
	return true;
}

bool
retry_turn(TimestampTz *next)
{
	Claim claim = {0};
	bool told = false;

	if (claim_memory == NULL)
		claim_memory = AllocSetContextCreate(
			TopMemoryContext, "stripe_sync retry", ALLOCSET_SMALL_SIZES);
	MemoryContextReset(claim_memory);
	worker_begin();
	if (!take_due(&claim))
	{
		/* what is due and not found is somebody else's at the moment */
		*next = Max(find_next(), GetCurrentTimestamp() + USECS_PER_SEC);
		told = recovered_tell();
	}
	worker_commit();
	if (claim.id == NULL)
		return told;
	if (claim.step != NULL)
	{
		worker_begin();
		run_claim(&claim);
		worker_commit();
	}
	return true;
}
