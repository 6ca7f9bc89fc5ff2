/*
 * receive.c
 *		receive(): verify, store once and apply an event, in the caller's
 *		transaction.
 *
 * The event's row is inserted with the outcome that it has if no step fails, and
 * updated only if the outcome differs, so an ordinary event costs one row
 * version.  The primary key makes a second delivery of an event wait for the
 * transaction of the first: if that commits the second is a duplicate, if it
 * rolls back the second is stored and applied.
 *
 * Everything here runs in the engine's scope; each step enters the scope that it
 * needs.  An error that no step catches rolls back the event too, and Stripe
 * sends it again.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "base/base.h"
#include "base/error_codes.h"
#include "base/refusal.h"
#include "engine/engine.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "inbox/event.h"
#include "inbox/inbox.h"
#include "receive/receive.h"
#include "server/counters.h"
#include "server/server.h"
#include "receive/internal.h"

/* ---- store ---- */

/*
 * Insert the event with the outcome that it has if no step fails; "waiting" are
 * the steps left to the worker.  Returns false if it is stored already.
 */
static bool
store_foreseen(const Event *event, const char *endpoint, const char *source,
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
 * Make an event due that a reconcile run has stored.  It would be applied when
 * the run ends, which can take long if the run fails; but now it was delivered
 * too, and as Stripe gets a 200 it won't send it again.  SKIP LOCKED: the end of
 * the run, which holds the row, makes it due as well.
 */
static void
make_due(const char *id, const char *account)
{
	static EngineStatement update = {
		"WITH waiting AS (SELECT e.id, e.account FROM stripe_sync.event e"
		"  WHERE e.id = $1 AND e.account = $2 AND e.status = 'pending'"
		"   AND e.next_attempt_at IS NULL AND e.todo <> '{}'"
		"  FOR UPDATE SKIP LOCKED)"
		" UPDATE stripe_sync.event e SET next_attempt_at = pg_catalog.clock_timestamp()"
		"  FROM waiting w WHERE e.id = w.id AND e.account = w.account"};

	if (statement_exec(&update, ARGS(arg_text(id), arg_text(account))) > 0)
		worker_wake_at_commit();
}

/*
 * Is the delivery stored already?  Then fills in the receipt.  Also does what a
 * second delivery means for the stored event: one that waits is made due, one
 * that is held is applied if its endpoint's mode has been corrected.
 */
static bool
receive_known(const WebhookDelivery *delivery, Receipt *receipt)
{
	char *id = event_peek_id(delivery->payload, delivery->length);
	EventLookup *lookup = event_lookup_begin();
	StoredEventSummary stored = {0};
	bool known = event_lookup_find(lookup, id, delivery, &stored);

	event_lookup_end(lookup);
	if (known && stored.waits)
		make_due(id, stored.account);
	if (known && stored.held)
		*receipt = replay_held(id, stored.account);
	else if (known)
		*receipt = (Receipt){id, "duplicate", NULL};
	return known;
}

/* ---- apply ---- */

/*
 * Store an event that has been verified, and apply it.  The receipt's status is
 * "duplicate" if another session has stored it meanwhile.
 */
static Receipt
store_and_apply(Event *event, const char *endpoint, const char *source)
{
	Receipt receipt = {event->id, "duplicate", NULL};
	const char *foreseen = event->catalog != NULL ? "applied" : "ignored";
	List *waiting = NIL;
	List *steps = steps_first(event, &waiting);
	StepRun run = {.event = event};

	if (!store_foreseen(event, endpoint, source, foreseen, waiting))
	{
		make_due(event->id, event->account);
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
	failures_report(&run);
	return receipt;
}

/*
 * Store an event that was read from Stripe's list; it is applied when the
 * reconcile run makes it due.  Returns false if it is stored already.  Raises
 * 55000 if the inbox can't be written.
 */
bool
inbox_store_pending(const Event *event, const char *endpoint, const char *source)
{
	List *steps = steps_all(event);
	EventOutcome outcome = {
		.status = "pending",
		.mirrored = event->catalog == NULL ? "ignored" : NULL,
		.todo = step_names(steps),
		.tries = steps != NIL ? step_tries(steps) : (Datum) 0};
	Refusal refusal;

	if (!inbox_table_fits(&refusal))
		refusal_raise(&refusal);
	if (!event_store(event, endpoint, source, &outcome))
		return false;
	counter_add(COUNT_EVENTS, endpoint != NULL ? endpoint : "", "reconciled");
	return true;
}

/*
 * Store an event that is held because of its mode (endpoint_mode.c).  Its
 * object_id is NULL until it is released, so that it is not among the events
 * that decide an object's newest state.  Returns false if it is stored already.
 */
static bool
inbox_store_held(const Event *event, const char *endpoint, const char *source)
{
	EventOutcome outcome = {
		.status = "ignored", .todo = step_names(NIL), .unassigned = true};

	return event_store(event, endpoint, source, &outcome);
}

/* Checked before the signature: the HMAC of a huge body is not for free. */
static bool
check_size(int length, Refusal *refusal)
{
	if (length == 0)
		return refuse(refusal, FAULT_CLIENT, ERRCODE_NO_EVENT,
					  "the payload is not a Stripe event", "It is empty.",
					  "Pass the request's body unchanged.");
	if (length > guc_max_payload)
		return refuse(
			refusal, FAULT_TOO_LARGE, ERRCODE_NO_EVENT,
			"the payload is too large",
			psprintf("It has %d bytes; stripe_sync.max_payload allows %d.",
					 length, guc_max_payload),
			"Increase stripe_sync.max_payload if Stripe sends such events.");
	return true;
}

/*
 * Apply or hold a verified event, by its mode.  Returns false with the refusal
 * (SY006) if the endpoint doesn't take that mode.
 */
static bool
receive_new(Event *event, Endpoint *endpoint, const char *source,
			Receipt *receipt, Refusal *refusal)
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
 * Verify a delivery, and store and apply the event unless it is stored already.
 *
 * The inbox is locked before the endpoint is read: move_account(), which locks
 * the inbox as well, may be giving it another account.
 */
static bool
verify_and_store(const char *payload, int length, text *signature,
				 const char *endpoint_name, const char *source,
				 Receipt *receipt, Refusal *refusal)
{
	WebhookDelivery delivery = {payload, length, endpoint_name, NULL, NULL};
	Endpoint endpoint;
	Event event;

	table_close(inbox_table_open(), NoLock);
	if (!endpoint_find(endpoint_name, &endpoint, refusal))
		return false;
	receive_count_endpoint(endpoint_name);
	if (!check_size(length, refusal) ||
		!endpoint_verify(&endpoint, payload, length, signature, refusal) ||
		!inbox_table_fits(refusal))
		return false;
	delivery.own = endpoint.account;
	if (receive_known(&delivery, receipt))
		return true;
	if (!event_read(payload, length, &event, refusal))
		return false;
	event.account = account_join(endpoint.account, event.named);
	return receive_new(&event, &endpoint, source, receipt, refusal);
}

/*
 * Receive a delivery.  "source" is webhook or simulate.  Returns false with the
 * refusal (SY001 to SY007, 55000) if nothing was stored.  Runs in the engine's
 * scope.
 */
bool
inbox_receive(const char *payload, int length, text *signature,
			  const char *endpoint, const char *source, Receipt *receipt,
			  Refusal *refusal)
{
	bool stored;

	receive_count_begin();
	stored = verify_and_store(payload, length, signature, endpoint, source,
							  receipt, refusal);
	receive_count_end(stored ? receipt->status : NULL);
	return stored;
}

/* ---- SQL ---- */

/*
 * receive(payload, signature, endpoint), payload being bytea or text: the same
 * bytes in a UTF8 database.  Callable at the catalog level before this
 * library's, so that deliveries are stored between a restart and ALTER EXTENSION
 * UPDATE.
 */
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
