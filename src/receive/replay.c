/*
 * replay.c
 *		Runs steps of a stored event again: replay(), and the retries of
 *		due_events.c.
 *
 * The event's row is locked first and until the transaction's end, so two
 * sessions never run steps of one event at a time.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "base/base.h"
#include "engine/engine.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "handler/handler.h"
#include "inbox/event.h"
#include "receive/receive.h"
#include "server/counters.h"
#include "server/worker_slots.h"
#include "receive/internal.h"

static StoredEvent *
read_stored_event(Rows *row)
{
	StoredEvent *stored = palloc0(sizeof(StoredEvent));
	ArrayType *todo;

	stored->status = rows_text(row);
	stored->mirrored = rows_text(row);
	todo = rows_varlena(row, TEXTARRAYOID);
	stored->todo = step_list_read(todo, rows_jsonb(row));
	stored->error = rows_text(row);
	stored->received_at = rows_time(row, 0);
	stored->endpoint = rows_text(row);
	return stored;
}

/*
 * Lock a stored event until the transaction's end, and read it.  Returns NULL if
 * there is none.
 */
StoredEvent *
replay_lock(const char *id, const char *account)
{
	static EngineStatement lock = {
		"SELECT status, mirrored, todo, tries, error, received_at, endpoint"
		" FROM stripe_sync.event WHERE id = $1 AND account = $2 FOR UPDATE"};
	StoredEvent *stored = NULL;
	Rows rows;

	rows_open(&rows, &lock, ARGS(arg_text(id), arg_text(account)));
	if (rows_next(&rows))
		stored = read_stored_event(&rows);
	rows_close(&rows);
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
 * Run "steps" of a locked event and update its row.  The caller has counted this
 * try in each of them; "rest" is left to do.  "attempts" is added to the event's
 * count: 0 if the claim has counted it.
 */
Receipt
replay_run(StoredEvent *stored, List *steps, List *rest, int attempts)
{
	StepRun run = {.event = &stored->event,
				   .mirrored = stored->mirrored,
				   .todo = rest,
				   .claimed = stored->claimed,
				   .failed_before = strcmp(stored->status, "failed") == 0 ||
									strcmp(stored->status, "dead") == 0,
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
		run.error = former; /* of a step that was not run now */
	step_settle(&run, receipt.status, attempts);
	failures_report(&run);
	counter_add(COUNT_RETRIES, "",
				run.failures == NIL					  ? "succeeded"
				: strcmp(receipt.status, "dead") == 0 ? "dead"
													  : "failed");
	return receipt;
}

/* Append a step with its first try, unless it is in the list. */
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
 * Replay an event as an administrator asks for it.  If steps have failed, all
 * steps left to do are run, with their tries counted from the beginning.  If
 * none has, the mirror is run, and with "handlers" all matching handlers.  An
 * event that is held because of its mode is released and applied if the mode
 * fits now, else the receipt says why not.
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
			append_step(&steps, ((Handler *) lfirst(cell))->registered.name);
	return replay_run(stored, steps, rest, 1);
}

/*
 * Have what has failed of an event run again.  The worker does it, with the tries
 * counted from the beginning, since handlers may take longer than the caller can
 * wait; where there are no workers it is done at once.  An event of another status
 * stays as it is.  Raises SY005 if there is none.
 */
Retry
replay_failed(const char *id, const char *account, Receipt *receipt)
{
	StoredEvent *stored = replay_lock(id, account);
	StepRun run;
	ListCell *cell;

	if (stored == NULL)
		event_missing(id);
	*receipt = (Receipt){stored->event.id, stored->status, NULL};
	if (strcmp(stored->status, "failed") != 0 &&
		strcmp(stored->status, "dead") != 0)
		return RETRY_UNNEEDED;
	if (!slots_ready())
	{
		*receipt = replay_by_hand(stored, false);
		return RETRY_DONE;
	}
	foreach(cell, stored->todo)
		((Step *) lfirst(cell))->tries = 0;
	run = (StepRun){.event = &stored->event,
					.mirrored = stored->mirrored,
					.todo = stored->todo,
					.error = stored->error,
					.received_at = stored->received_at};
	step_settle(&run, "failed", 0);
	return RETRY_QUEUED;
}

/*
 * A held event was delivered again: apply it if its mode fits now.  Otherwise
 * the receipt is "duplicate" and its detail says why it is still held.
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

/* The account of an event given by its id.  Raises SY005 if there is none. */
static char *
find_account(const char *id)
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
	stored = replay_lock(id, find_account(id));
	if (stored == NULL)
		event_missing(id);
	receipt = replay_by_hand(stored, handlers);
	role_leave(&scope);
	PG_RETURN_DATUM(inbox_receipt_datum(fcinfo, &receipt));
}

typedef struct EventKey
{
	char *id;
	char *account;
} EventKey;

/* Keys of the events to replay, oldest first.  No row is locked. */
static List *
select_events(FunctionCallInfo fcinfo)
{
	static EngineStatement select = {
		"SELECT id, account FROM stripe_sync.event"
		" WHERE received_at >= $1 AND received_at <= $2"
		"   AND ($3 IS NULL OR EXISTS (SELECT FROM pg_catalog.unnest($3) t (pattern)"
		"        WHERE stripe_sync.event_type_fits(type, t.pattern)))"
		"   AND ($4 IS NULL OR status = ANY ($4))"
		" ORDER BY created, id"};
	List *events = NIL;
	Rows rows;

	rows_open(&rows, &select,
			  ARGS(arg_of_call(fcinfo, 0, TIMESTAMPTZOID),
				   arg_of_call(fcinfo, 1, TIMESTAMPTZOID),
				   arg_of_call(fcinfo, 2, TEXTARRAYOID),
				   arg_of_call(fcinfo, 3, TEXTARRAYOID)));
	while (rows_next(&rows))
	{
		EventKey *key = palloc(sizeof(EventKey));

		key->id = rows_text(&rows);
		key->account = rows_text(&rows);
		events = lappend(events, key);
	}
	rows_close(&rows);
	return events;
}

static void
put_receipt(ReturnSetInfo *result, const Receipt *receipt)
{
	bool has_detail = receipt->detail != NULL;
	Datum values[] = {CStringGetTextDatum(receipt->event_id),
					  CStringGetTextDatum(receipt->status),
					  has_detail ? CStringGetTextDatum(receipt->detail)
								 : (Datum) 0};
	bool nulls[] = {false, false, !has_detail};

	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/*
 * replay(since, until, types, statuses), by received_at.  All in the caller's
 * transaction, with a lock on each event's row until its end; events deleted
 * meanwhile are skipped.
 */
ENGINE_FUNCTION(stripe_sync_replay_many)
{
	RoleScope scope;
	List *events;
	ListCell *cell;

	scope = role_enter_engine();
	InitMaterializedSRF(fcinfo, 0);
	events = select_events(fcinfo);
	foreach(cell, events)
	{
		EventKey *key = lfirst(cell);
		StoredEvent *stored = replay_lock(key->id, key->account);
		Receipt receipt;

		CHECK_FOR_INTERRUPTS();
		if (stored == NULL)
			continue;
		receipt = replay_by_hand(stored, false);
		put_receipt((ReturnSetInfo *) fcinfo->resultinfo, &receipt);
	}
	role_leave(&scope);
	PG_RETURN_NULL();
}
