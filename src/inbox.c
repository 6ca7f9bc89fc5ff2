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
#include "refusal.h"

#define EVENT_KEY_ID 1 /* of event_pkey */

typedef struct Row
{
	Datum values[EVENT_NATTS];
	bool nulls[EVENT_NATTS];
} Row;

static void
put(Row *row, int column, Datum value)
{
	row->values[column - 1] = value;
	row->nulls[column - 1] = false;
}

static void
put_text(Row *row, int column, const char *text)
{
	if (text != NULL)
		put(row, column, CStringGetTextDatum(text));
}

/* ---- store ---- */

static void
put_envelope(Row *row, const Event *event)
{
	put_text(row, EVENT_ID, event->id);
	put_text(row, EVENT_ACCOUNT, event->account);
	put_text(row, EVENT_TYPE, event->type);
	put_text(row, EVENT_API_VERSION, event->api_version);
	put_text(row, EVENT_OBJECT_TYPE, event->object_type);
	put_text(row, EVENT_OBJECT_ID, event->object_id);
	put_text(row, EVENT_REQUEST_ID, event->request_id);
	put_text(row, EVENT_IDEMPOTENCY_KEY, event->idempotency_key);
	if (event->has_livemode)
		put(row, EVENT_LIVEMODE, BoolGetDatum(event->livemode));
	if (event->has_created)
		put(row, EVENT_CREATED, TimestampTzGetDatum(event->created));
	put(row, EVENT_PAYLOAD,
		PointerGetDatum(cstring_to_text_with_len(event->payload, event->length)));
}

/* A row of the event without a status, received now. */
static Row *
new_row(const Event *event, const char *endpoint, const char *source,
		TimestampTz now)
{
	Row *row = palloc0(sizeof(Row));

	memset(row->nulls, true, sizeof(row->nulls));
	put_envelope(row, event);
	put_text(row, EVENT_ENDPOINT, endpoint);
	put(row, EVENT_RECEIVED_AT, TimestampTzGetDatum(now));
	put_text(row, EVENT_SOURCE, source);
	return row;
}

/* False when it is there already.  The inbox fits, and is locked since then. */
static bool
insert_row(const Row *row)
{
	RowTarget *target = row_open(engine_relation("event"),
								 engine_relation("event_pkey"), EVENT_NATTS);
	bool inserted = row_insert(target, row->values, row->nulls);

	row_close(target);
	return inserted;
}

/*
 * Insert the event as it will be if all goes well; "waiting" are the steps for
 * later.  False when it is there already.
 */
static bool
store(const Event *event, const char *endpoint, const char *source,
	  const char *status, List *waiting)
{
	TimestampTz now = GetCurrentTimestamp();
	Row *row = new_row(event, endpoint, source, now);

	put_text(row, EVENT_STATUS, status);
	put_text(row, EVENT_MIRRORED, status);
	put(row, EVENT_TODO, step_names(waiting));
	if (waiting != NIL)
	{
		put(row, EVENT_TRIES, step_tries(waiting));
		put(row, EVENT_NEXT_ATTEMPT_AT, TimestampTzGetDatum(now));
		slots_wake();
	}
	put(row, EVENT_ATTEMPTS, Int32GetDatum(1));
	put(row, EVENT_APPLIED_AT, TimestampTzGetDatum(now));
	return insert_row(row);
}

/* Looking for many: the inbox and its key are opened once. */
struct InboxLook
{
	Relation relation;
	Relation key;
	Snapshot snapshot;
	IndexScanDesc scan;
	TupleTableSlot *slot;
};

/* With the newest snapshot. */
InboxLook *
inbox_look(void)
{
	InboxLook *look = palloc(sizeof(InboxLook));

	look->relation = inbox_table_open();
	look->key = index_open(engine_relation("event_pkey"), AccessShareLock);
	look->snapshot = RegisterSnapshot(GetLatestSnapshot());
	look->scan = compat_index_beginscan(look->relation, look->key,
										look->snapshot, 1);
	look->slot = table_slot_create(look->relation, NULL);
	return look;
}

void
inbox_look_end(InboxLook *look)
{
	ExecDropSingleTupleTableSlot(look->slot);
	index_endscan(look->scan);
	UnregisterSnapshot(look->snapshot);
	index_close(look->key, AccessShareLock);
	table_close(look->relation, NoLock);
	pfree(look);
}

/* The next row with the id that can be seen. */
static bool
next_row(InboxLook *look)
{
	while (index_getnext_tid(look->scan, ForwardScanDirection) != NULL)
		if (index_fetch_heap(look->scan, look->slot))
			return true;
	return false;
}

static char *
slot_text(TupleTableSlot *row, int column)
{
	bool isnull;
	Datum value = slot_getattr(row, column, &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}

static void
read_gist(TupleTableSlot *row, StoredGist *gist)
{
	char *status = slot_text(row, EVENT_STATUS);
	bool isnull;
	Datum created = slot_getattr(row, EVENT_CREATED, &isnull);

	gist->has_created = !isnull;
	gist->created = isnull ? 0 : DatumGetTimestampTz(created);
	gist->type = slot_text(row, EVENT_TYPE);
	gist->account = slot_text(row, EVENT_ACCOUNT);
	gist->by_webhook = strcmp(slot_text(row, EVENT_SOURCE), "webhook") == 0;
	gist->waits = strcmp(status, "pending") == 0 &&
				  slot_attisnull(row, EVENT_NEXT_ATTEMPT_AT);
	gist->held = strcmp(status, "ignored") == 0 &&
				 slot_attisnull(row, EVENT_MIRRORED);
}

/*
 * Has the same endpoint stored it, when its account was another, or what the
 * payload names wasn't read?  Then the payload names the same as it does now.
 */
static bool
is_same_delivery(TupleTableSlot *row, const Delivery *delivery,
				 const char *named)
{
	char *endpoint = slot_text(row, EVENT_ENDPOINT);
	char *payload;
	char *stored;

	if (delivery->endpoint == NULL || endpoint == NULL ||
		strcmp(endpoint, delivery->endpoint) != 0)
		return false;
	payload = slot_text(row, EVENT_PAYLOAD);
	stored = event_peek_account(payload, strlen(payload));
	return stored != NULL && strcmp(stored, named) == 0;
}

/*
 * Is a delivery stored already, of its account or by its endpoint?  Seen without
 * parsing it, with one probe of the key; "id" is event_peek_id()'s, which may be
 * NULL: then that isn't known.  The gist of the stored one is filled in.
 */
bool
inbox_knows(InboxLook *look, const char *id, const Delivery *delivery,
			StoredGist *gist)
{
	char *named = NULL; /* by the payload */
	const char *account = delivery->account;
	bool same = false;
	bool found = false;
	ScanKeyData key;

	if (id == NULL)
		return false;
	ScanKeyInit(&key, EVENT_KEY_ID, BTEqualStrategyNumber, F_TEXTEQ,
				CStringGetTextDatum(id));
	key.sk_collation = DEFAULT_COLLATION_OID;
	index_rescan(look->scan, &key, 1, NULL, 0);
	while (!same && next_row(look))
	{
		if (named == NULL && (named = event_peek_account(
								  delivery->payload, delivery->length)) == NULL)
			break;
		if (account == NULL)
			account = account_join(delivery->own, named);
		same = strcmp(slot_text(look->slot, EVENT_ACCOUNT), account) == 0;
		if (same || (!found && is_same_delivery(look->slot, delivery, named)))
		{
			read_gist(look->slot, gist);
			found = true;
		}
	}
	ExecClearTuple(look->slot);
	return found;
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
		slots_wake();
	SPI_finish();
}

/* Is it stored already?  Then the receipt is filled in. */
static bool
known_delivery(const Delivery *delivery, Receipt *receipt)
{
	char *id = event_peek_id(delivery->payload, delivery->length);
	InboxLook *look = inbox_look();
	StoredGist gist = {0};
	bool known = inbox_knows(look, id, delivery, &gist);

	inbox_look_end(look);
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
	Row *row = new_row(event, endpoint, source, GetCurrentTimestamp());
	Refusal refusal;

	if (!inbox_table_fits(&refusal))
		refusal_raise(&refusal);
	put_text(row, EVENT_STATUS, "pending");
	if (event->catalog == NULL)
		put_text(row, EVENT_MIRRORED, "ignored");
	put(row, EVENT_TODO, step_names(steps));
	if (steps != NIL)
		put(row, EVENT_TRIES, step_tries(steps));
	put(row, EVENT_ATTEMPTS, Int32GetDatum(0));
	return insert_row(row);
}

/*
 * Store an event that is held for its mode.  It isn't about any object of the
 * account's until it is released: its object_id is NULL.
 */
bool
inbox_store_held(const Event *event, const char *endpoint, const char *source)
{
	Row *row = new_row(event, endpoint, source, GetCurrentTimestamp());

	row->nulls[EVENT_OBJECT_ID - 1] = true;
	put_text(row, EVENT_STATUS, "ignored");
	put(row, EVENT_TODO, step_names(NIL));
	put(row, EVENT_ATTEMPTS, Int32GetDatum(0));
	return insert_row(row);
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

/* ---- read ---- */

/*
 * Read a stored event, that of "account" if it came in several (NULL: one's
 * own).  False when there is none.
 */
bool
inbox_load(const char *id, const char *account, Event *event)
{
	static EngineStatement select = {
		"SELECT payload::pg_catalog.text, account FROM stripe_sync.event"
		" WHERE id OPERATOR(pg_catalog.=) $1"
		" ORDER BY account OPERATOR(pg_catalog.=) COALESCE($2, '') DESC, account LIMIT 1",
		2,
		{TEXTOID, TEXTOID}};
	Datum values[] = {CStringGetTextDatum(id),
					  account ? CStringGetTextDatum(account) : (Datum) 0};
	char nulls[] = {' ', account ? ' ' : 'n', '\0'};
	MemoryContext context = CurrentMemoryContext;
	text *payload = NULL;
	char *stored = NULL;
	Refusal refusal;

	SPI_connect();
	engine_run(&select, values, nulls, SPI_OK_SELECT);
	if (SPI_processed > 0)
	{
		bool isnull;
		Datum value = SPI_getbinval(SPI_tuptable->vals[0],
									SPI_tuptable->tupdesc, 1, &isnull);
		MemoryContext old = MemoryContextSwitchTo(context);

		payload = DatumGetTextPCopy(value);
		stored = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2);
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	if (payload == NULL)
		return false;
	if (!event_read(VARDATA_ANY(payload), VARSIZE_ANY_EXHDR(payload), event,
					&refusal))
		refusal_raise(&refusal);
	/* the endpoint's account is in it, which the payload doesn't name */
	event->account = stored;
	return true;
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
