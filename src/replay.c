/*
 * replay.c
 *		An event that is stored already is applied again: what failed of it, or
 *		the mirror alone, by hand or when a retry is due.
 */
#include "stripe_sync.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "account.h"

static List *
read_steps(Datum todo, Jsonb *tries)
{
	Datum *names;
	int n;
	List *steps = NIL;

	deconstruct_array(DatumGetArrayTypeP(todo), TEXTOID, -1, false,
					  TYPALIGN_INT, &names, NULL, &n);
	for (int i = 0; i < n; i++)
	{
		char *name = TextDatumGetCString(names[i]);
		JsonbValue value;
		int64 count = 0;

		if (tries != NULL && json_get(&tries->root, name, &value))
			(void) json_to_int64(&value, &count);
		steps = lappend(steps, step_make(name, (int) count));
	}
	return steps;
}

static void
read_stored(StoredEvent *stored, HeapTuple tuple, TupleDesc desc)
{
	bool isnull;
	Datum value;

	stored->status = SPI_getvalue(tuple, desc, 1);
	stored->mirrored = SPI_getvalue(tuple, desc, 2);
	value = SPI_getbinval(tuple, desc, 4, &isnull);
	stored->todo = read_steps(SPI_getbinval(tuple, desc, 3, &(bool){false}),
							  isnull ? NULL : DatumGetJsonbP(value));
	stored->error = SPI_getvalue(tuple, desc, 5);
	stored->received_at = DatumGetTimestampTz(
		SPI_getbinval(tuple, desc, 6, &isnull));
	stored->endpoint = SPI_getvalue(tuple, desc, 7);
}

/* Lock a stored event and read it; NULL when there is none. */
StoredEvent *
replay_lock(const char *id, const char *account)
{
	static EngineStatement lock = {
		"SELECT status, mirrored, todo, tries, error, received_at, endpoint"
		" FROM stripe_sync.event"
		" WHERE id OPERATOR(pg_catalog.=) $1 AND account OPERATOR(pg_catalog.=) $2"
		" FOR UPDATE",
		2,
		{TEXTOID, TEXTOID}};
	Datum values[] = {CStringGetTextDatum(id), CStringGetTextDatum(account)};
	MemoryContext context = CurrentMemoryContext;
	StoredEvent *stored = NULL;

	SPI_connect();
	engine_run(&lock, values, NULL, SPI_OK_SELECT);
	if (SPI_processed > 0)
	{
		MemoryContext old = MemoryContextSwitchTo(context);

		stored = palloc0(sizeof(StoredEvent));
		read_stored(stored, SPI_tuptable->vals[0], SPI_tuptable->tupdesc);
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	if (stored != NULL && !event_load(id, account, &stored->event))
		elog(ERROR, "event \"%s\" is gone from the inbox", id);
	return stored;
}

static bool
has_failed_step(List *steps)
{
	ListCell *cell;

	foreach(cell, steps)
		if (((Step *) lfirst(cell))->tries > 0)
			return true;
	return false;
}

/*
 * Run "steps" of a locked event, whose tries count this one; "rest" stays to
 * be done.  "attempts" are those of the event to count now.
 */
Receipt
replay_run(StoredEvent *stored, List *steps, List *rest, int attempts)
{
	StepRun run = {.event = &stored->event,
				   .mirrored = stored->mirrored,
				   .todo = rest,
				   .claimed = stored->claimed,
				   .received_at = stored->received_at};
	Receipt receipt = {stored->event.id, NULL, NULL};
	char *former = stored->error;

	if (stored->event.catalog == NULL)
		run.detail = stored->event.unmirrored;
	step_run(&run, steps);
	receipt.detail = run.error != NULL ? run.error : run.detail;
	receipt.status = step_status(&run);
	if (run.error == NULL &&
		(has_failed_step(run.todo) || strcmp(receipt.status, "failed") == 0))
		run.error = former; /* of a step that had no turn */
	step_settle(&run, receipt.status, attempts);
	trouble_tell(&run);
	return receipt;
}

static void
append_step(List **steps, const char *name)
{
	ListCell *cell;

	foreach(cell, *steps)
		if (strcmp(((Step *) lfirst(cell))->name, name) == 0)
			return;
	*steps = lappend(*steps, step_make(name, 1));
}

/*
 * By hand: what failed is run again, with all its tries before it.  Of an
 * event of which nothing failed it is the mirror, and the handlers if asked; of
 * one that was held for its mode all of it, if that is right by now.
 */
static Receipt
replay_by_hand(StoredEvent *stored, bool handlers)
{
	List *steps = NIL;
	List *rest = NIL;
	char *reason = NULL;
	bool held = held_is(stored);
	bool failed;
	ListCell *cell;

	if (held && (reason = held_release(stored, NULL, NULL)) != NULL)
		return (Receipt){stored->event.id, "ignored", reason};
	failed = held || has_failed_step(stored->todo) ||
			 stored->mirrored == NULL || strcmp(stored->status, "failed") == 0;
	if (!failed &&
		(stored->event.catalog != NULL || stored->event.holder != NULL))
		append_step(&steps, STEP_MIRROR);
	foreach(cell, stored->todo)
	{
		Step *step = lfirst(cell);

		if (failed || handlers)
			append_step(&steps, step->name);
		else
			rest = lappend(rest, step);
	}
	if (handlers)
		foreach(cell, handler_matching(stored->event.type))
			append_step(&steps, ((Handler *) lfirst(cell))->name);
	return replay_run(stored, steps, rest, 1);
}

/*
 * A held event has come once more: all of it is done, if its mode is right by
 * now.  The detail of a duplicate says why it isn't.
 */
Receipt
replay_held(const char *id, const char *account)
{
	StoredEvent *stored = replay_lock(id, account);
	Receipt receipt = {unconstify(char *, id), "duplicate", NULL};

	if (stored == NULL || !held_is(stored))
		return receipt;
	if ((receipt.detail = held_reason(stored)) != NULL)
		return receipt;
	return replay_by_hand(stored, false);
}

/* An event's account, when the id alone was given. */
static char *
account_of(const char *id)
{
	Event event;

	if (!event_load(id, NULL, &event))
		event_missing(id);
	return event.account;
}

/* replay(event_id, handlers) */
ENGINE_FUNCTION(stripe_sync_replay)
{
	char *id;
	bool handlers = !PG_ARGISNULL(1) && PG_GETARG_BOOL(1);
	RoleScope scope;
	StoredEvent *stored;
	Receipt receipt;

	argument_required(fcinfo, 0, "an event's id");
	id = text_to_cstring(PG_GETARG_TEXT_PP(0));
	scope = role_enter_engine();
	stored = replay_lock(id, account_of(id));
	if (stored == NULL)
		event_missing(id);
	receipt = replay_by_hand(stored, handlers);
	role_leave(&scope);
	PG_RETURN_DATUM(inbox_receipt_datum(fcinfo, &receipt));
}

/* Ids and accounts of the events to replay, oldest first. */
static List *
select_events(FunctionCallInfo fcinfo)
{
	static EngineStatement select = {
		"SELECT id, account FROM stripe_sync.event"
		" WHERE received_at OPERATOR(pg_catalog.>=) $1"
		"   AND received_at OPERATOR(pg_catalog.<=) $2"
		"   AND ($3 IS NULL OR EXISTS (SELECT FROM pg_catalog.unnest($3) t (pattern)"
		"        WHERE stripe_sync.event_type_fits(type, t.pattern)))"
		"   AND ($4 IS NULL OR status OPERATOR(pg_catalog.=) ANY ($4))"
		" ORDER BY created, id",
		4,
		{TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTARRAYOID, TEXTARRAYOID}};
	Datum values[4];
	char nulls[] = "    ";
	MemoryContext context = CurrentMemoryContext;
	List *events = NIL;

	for (int i = 0; i < 4; i++)
	{
		values[i] = PG_ARGISNULL(i) ? (Datum) 0 : PG_GETARG_DATUM(i);
		nulls[i] = PG_ARGISNULL(i) ? 'n' : ' ';
	}
	SPI_connect();
	engine_run(&select, values, nulls, SPI_OK_SELECT);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(context);

		events = lappend(events, SPI_getvalue(SPI_tuptable->vals[i],
											  SPI_tuptable->tupdesc, 1));
		events = lappend(events, SPI_getvalue(SPI_tuptable->vals[i],
											  SPI_tuptable->tupdesc, 2));
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	return events;
}

/* replay(since, until, types, statuses): by the time of arrival */
ENGINE_FUNCTION(stripe_sync_replay_many)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	RoleScope scope;
	List *events;

	scope = role_enter_engine();
	InitMaterializedSRF(fcinfo, 0);
	events = select_events(fcinfo);
	for (int i = 0; i < list_length(events); i += 2)
	{
		StoredEvent *stored = replay_lock(list_nth(events, i),
										  list_nth(events, i + 1));
		Receipt receipt;
		Datum values[3];
		bool nulls[3] = {false, false, false};

		CHECK_FOR_INTERRUPTS();
		if (stored == NULL)
			continue;
		receipt = replay_by_hand(stored, false);
		values[0] = CStringGetTextDatum(receipt.event_id);
		values[1] = CStringGetTextDatum(receipt.status);
		nulls[2] = receipt.detail == NULL;
		values[2] = nulls[2] ? (Datum) 0 : CStringGetTextDatum(receipt.detail);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	role_leave(&scope);
	PG_RETURN_NULL();
}
