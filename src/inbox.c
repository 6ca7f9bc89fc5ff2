/*
 * inbox.c
 *		Verify, store once, apply: in the caller's one transaction.
 *
 * The row of an event is inserted with the outcome it will have if nothing
 * fails, and written again only when the outcome is another.  Its key makes a
 * second delivery wait for the first: if that commits the second is a
 * duplicate, if it rolls back the second applies.
 */
#include "stripe_sync.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "account.h"
#include "refused.h"

/* ---- store ---- */

/*
 * Insert the event with the outcome that it has if nothing fails; "waiting" are
 * the steps for later.  False if it is stored already.
 */
static bool
store(const Event *event, const char *endpoint, const char *source,
	  const char *status, List *waiting)
{
	TimestampTz now = GetCurrentTimestamp();
	EventOutcome outcome = {.status = status,
							.mirrored = status,
							.todo = step_names(waiting),
							.applied = now,
							.attempts = 1};

	if (waiting != NIL)
	{
		outcome.tries = step_tries(waiting);
		outcome.due = now;
		worker_wake_at_commit();
	}
	return event_store(event, endpoint, source, &outcome);
}

/*
 * What a run of reconcile has brought waits for the run's end, which may be long
 * in coming when it fails.  Once it has come by webhook, too, it is due: Stripe
 * is told that we have it, and won't send it again.
 */
static void
stop_waiting(const char *id, const char *account)
{
	static EngineStatement update = {
		"WITH waiting AS (SELECT e.id, e.account FROM stripe_sync.event e"
		"  WHERE e.id OPERATOR(pg_catalog.=) $1"
		"   AND e.account OPERATOR(pg_catalog.=) $2"
		"   AND e.status OPERATOR(pg_catalog.=) 'pending'"
		"   AND e.next_attempt_at IS NULL"
		"   AND e.todo OPERATOR(pg_catalog.<>) '{}' FOR UPDATE SKIP LOCKED)"
		" UPDATE stripe_sync.event e SET next_attempt_at = pg_catalog.clock_timestamp()"
		"  FROM waiting w WHERE e.id OPERATOR(pg_catalog.=) w.id"
		"   AND e.account OPERATOR(pg_catalog.=) w.account",
		2,
		{TEXTOID, TEXTOID}};
	Datum values[] = {CStringGetTextDatum(id), CStringGetTextDatum(account)};

	SPI_connect();
	engine_run(&update, values, NULL, SPI_OK_UPDATE);
	if (SPI_processed > 0)
		worker_wake_at_commit();
	SPI_finish();
}

/* Is it stored already?  Then the receipt is filled in. */
static bool
known_delivery(const Delivery *delivery, Receipt *receipt)
{
	char *id = event_peek_id(delivery->payload, delivery->length);
	EventLookup *look = event_lookup_begin();
	StoredEventSummary gist = {0};
	bool known = event_lookup_find(look, id, delivery, &gist);

	event_lookup_end(look);
	if (known && gist.waits)
		stop_waiting(id, gist.account);
	if (known && gist.held)
		*receipt = replay_held(id, gist.account);
	else if (known)
		*receipt = (Receipt){id, "duplicate", NULL};
	return known;
}

/* ---- apply ---- */

static List *
first_steps(const Event *event, List *handlers, List **waiting)
{
	List *steps = NIL;
	ListCell *cell;

	if (event->catalog != NULL || event->holder != NULL)
		steps = lappend(steps, step_make(STEP_MIRROR, 1));
	foreach(cell, handlers)
	{
		Handler *handler = lfirst(cell);

		if (handler->deferred || handler->stopped)
			*waiting = lappend(*waiting, step_make(handler->name, 0));
		else
			steps = lappend(steps, step_make(handler->name, 1));
	}
	if (alert_wanted(event->type))
		steps = lappend(steps, step_make(STEP_ALERTS, 1));
	return steps;
}

/*
 * Store an event that has been verified, and apply it.
 */
static Receipt
store_and_apply(Event *event, const char *endpoint, const char *source)
{
	Receipt receipt = {event->id, "duplicate", NULL};
	const char *foreseen = event->catalog != NULL ? "applied" : "ignored";
	List *waiting = NIL;
	List *steps = first_steps(event, handler_matching(event->type), &waiting);
	StepRun run = {.event = event};

	if (!store(event, endpoint, source, foreseen, waiting))
	{
		stop_waiting(event->id, event->account);
		return receipt;
	}
	if (event->catalog == NULL)
	{
		run.mirrored = "ignored";
		run.detail = event->unmirrored;
	}
	run.todo = waiting;
	step_run(&run, steps);
	receipt.status = step_status(&run);
	receipt.detail = run.error != NULL ? run.error : run.detail;
	if (strcmp(receipt.status, foreseen) != 0 || run.error != NULL ||
		(run.mirrored == NULL || strcmp(run.mirrored, foreseen) != 0))
		step_settle(&run, receipt.status, 0);
	trouble_tell(&run);
	return receipt;
}

/* Every step is still to be run: when, whoever stores it says later. */
List *
inbox_all_steps(const Event *event)
{
	List *waiting = NIL;
	List *steps = first_steps(event, handler_matching(event->type), &waiting);
	ListCell *cell;

	steps = list_concat(steps, waiting);
	foreach(cell, steps)
		((Step *) lfirst(cell))->tries = 0;
	return steps;
}

/*
 * Store an event that was read from Stripe's list, to be applied when it is
 * made due.  False when it is there already.
 */
bool
inbox_store_pending(const Event *event, const char *endpoint, const char *source)
{
	List *steps = inbox_all_steps(event);
	EventOutcome outcome = {
		.status = "pending",
		.mirrored = event->catalog == NULL ? "ignored" : NULL,
		.todo = step_names(steps),
		.tries = steps != NIL ? step_tries(steps) : (Datum) 0};
	Refusal refusal;

	if (!inbox_table_fits(&refusal))
		refusal_raise(&refusal);
	return event_store(event, endpoint, source, &outcome);
}

/*
 * Store an event that is held for its mode.  It isn't about any object of the
 * account's until it is released: its object_id is NULL.
 */
bool
inbox_store_held(const Event *event, const char *endpoint, const char *source)
{
	EventOutcome outcome = {
		.status = "ignored", .todo = step_names(NIL), .unassigned = true};

	return event_store(event, endpoint, source, &outcome);
}

static bool
check_size(int length, Refusal *refusal)
{
	if (length == 0)
		return refuse(refusal, FAULT_CLIENT, ERRCODE_NO_EVENT,
					  "the payload is no Stripe event", "It is empty.",
					  "Pass the request's body exactly as it came.");
	if (length > guc_max_payload)
		return refuse(
			refusal, FAULT_TOO_LARGE, ERRCODE_NO_EVENT,
			"the payload is too large",
			psprintf("It has %d bytes; stripe_sync.max_payload allows %d.",
					 length, guc_max_payload),
			"Raise stripe_sync.max_payload if Stripe really sends such events.");
	return true;
}

/* An event that has been read: false when it is refused for its mode. */
static bool
take(Event *event, Endpoint *endpoint, const char *source, Receipt *receipt,
	 Refusal *refusal)
{
	ModeVerdict verdict = endpoint_mode_judge(endpoint, event);

	if (endpoint_mode_is_anothers(endpoint, event, refusal))
		return false;
	if (verdict == MODE_REFUSED)
		return endpoint_mode_refuse(endpoint, event, refusal);
	if (verdict == MODE_FITS)
		*receipt = store_and_apply(event, endpoint->name, source);
	else if (inbox_store_held(event, endpoint->name, source))
	{
		char *reason = endpoint_mode_reason(endpoint, event);

		*receipt = (Receipt){event->id, "ignored", reason};
		delivery_of_other_mode(endpoint->name, event->livemode, reason);
	}
	else
		*receipt = (Receipt){event->id, "duplicate", NULL};
	return true;
}

/*
 * Receive a delivery: false, with the refusal filled in, when nothing is
 * stored.  Runs in the engine's RoleScope.
 *
 * The endpoint is looked at when the inbox is locked: move_account(), which
 * locks it as well, may have given it another account meanwhile.
 */
bool
inbox_receive(const char *payload, int length, text *signature,
			  const char *endpoint_name, const char *source, Receipt *receipt,
			  Refusal *refusal)
{
	Delivery delivery = {payload, length, endpoint_name, NULL, NULL};
	Endpoint endpoint;
	Event event;

	table_close(inbox_table_open(), NoLock);
	if (!endpoint_find(endpoint_name, &endpoint, refusal) ||
		!check_size(length, refusal) ||
		!endpoint_verify(&endpoint, payload, length, signature, refusal) ||
		!inbox_table_fits(refusal))
		return false;
	delivery.own = endpoint.account;
	if (known_delivery(&delivery, receipt))
		return true;
	if (!event_read(payload, length, &event, refusal))
		return false;
	event.account = account_join(endpoint.account, event.named);
	return take(&event, &endpoint, source, receipt, refusal);
}

/* ---- SQL ---- */

/* (event_id, status, detail); the row type is looked up once a query. */
Datum
inbox_receipt_datum(FunctionCallInfo fcinfo, const Receipt *receipt)
{
	TupleDesc desc = fcinfo->flinfo->fn_extra;
	Datum values[] = {CStringGetTextDatum(receipt->event_id),
					  CStringGetTextDatum(receipt->status),
					  receipt->detail ? CStringGetTextDatum(receipt->detail)
									  : (Datum) 0};
	bool nulls[] = {false, false, receipt->detail == NULL};

	if (desc == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);

		if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
			elog(ERROR, "return type must be a row type");
		level_check_columns(desc, lengthof(values));
		desc = BlessTupleDesc(desc);
		fcinfo->flinfo->fn_extra = desc;
		MemoryContextSwitchTo(old);
	}
	return HeapTupleGetDatum(heap_form_tuple(desc, values, nulls));
}

/* receive(payload, signature, endpoint), payload being bytea or text */
ENGINE_FUNCTION_FROM(stripe_sync_receive, CATALOG_LEVEL - 1)
{
	struct varlena *payload = PG_ARGISNULL(0) ? NULL : PG_GETARG_VARLENA_PP(0);
	text *signature = PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1);
	const char *endpoint = PG_ARGISNULL(2)
							   ? "default"
							   : text_to_cstring(PG_GETARG_TEXT_PP(2));
	DeliveryParts delivery = {payload ? VARDATA_ANY(payload) : "",
							  payload ? VARSIZE_ANY_EXHDR(payload) : 0,
							  signature, endpoint, true};
	RoleScope scope;
	Receipt receipt;
	Refusal refusal;

	scope = role_enter_engine();
	if (!inbox_receive(delivery.payload, delivery.length, signature, endpoint,
					   "webhook", &receipt, &refusal))
	{
		(void) delivery_refused(&delivery, &refusal);
		refusal_raise(&refusal);
	}
	delivery_accepted(&delivery);
	role_leave(&scope);
	PG_RETURN_DATUM(inbox_receipt_datum(fcinfo, &receipt));
}
