/*
 * webhook.c
 *		webhook(): receive() with an HTTP status and a body as its result.
 *
 * An HTTP front passes the request to it and answers with what it returns.  It
 * raises no error for anything a client sent.  Errors that receive() doesn't
 * catch (a serialization failure, a full disk) do reach the front, which answers
 * 500, and Stripe sends the event again.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/builtins.h"

#include "base/compat.h"
#include "base/json_push.h"
#include "base/error_codes.h"
#include "base/refusal.h"
#include "engine/engine.h"
#include "engine/rights.h"
#include "inbox/event.h"
#include "inbox/inbox.h"
#include "receive/receive.h"
#include "receive/internal.h"

PG_FUNCTION_INFO_V1(stripe_sync_webhook);

/* Push a member, unless "text" is NULL. */
static void
push_member(JsonbInState *state, const char *key, const char *text)
{
	if (text == NULL)
		return;
	json_push_string(state, WJB_KEY, key);
	json_push_string(state, WJB_VALUE, text);
}

/* SY006 is 200, client faults 400 or 413, faults of this side 500. */
static int
http_status(const Refusal *refusal)
{
	if (refusal->sqlstate == ERRCODE_WRONG_MODE)
		return 200; /* Stripe disables endpoints that keep answering 400 */
	if (refusal->fault == FAULT_TOO_LARGE)
		return 413;
	return refusal->fault == FAULT_CLIENT ? 400 : 500;
}

/* Details of a fault on this side are in the log, not in an answer to a client. */
static const char *
server_fault(const Refusal *refusal)
{
	if (refusal->sqlstate == ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
		return "could not store the event";
	return "the endpoint is not set up";
}

/* The body of a refusal: code, error and hint; no hint for faults of this side. */
static void
push_refusal(JsonbInState *state, const Refusal *refusal, const char *hint)
{
	int status = http_status(refusal);

	if (status == 200)
		push_member(state, "status", "ignored");
	push_member(state, "code", unpack_sql_state(refusal->sqlstate));
	push_member(state, "error",
				status == 500 ? server_fault(refusal) : refusal->message);
	push_member(state, "hint", status == 500 ? NULL : hint);
}

/* The row (http_status, body) for a receipt, or for a refusal if that is NULL. */
static Datum
answer_row(FunctionCallInfo fcinfo, const Receipt *receipt,
		   const Refusal *refusal, const char *hint)
{
	JsonbInState state = {0};
	TupleDesc desc;
	Datum values[2];
	bool nulls[2] = {false, false};

	compat_push_jsonb(&state, WJB_BEGIN_OBJECT, NULL);
	if (receipt != NULL)
	{
		push_member(&state, "event", receipt->event_id);
		push_member(&state, "status", receipt->status);
	}
	else
		push_refusal(&state, refusal, hint);
	compat_push_jsonb(&state, WJB_END_OBJECT, NULL);
	values[0] = Int32GetDatum(receipt ? 200 : http_status(refusal));
	values[1] = JsonbPGetDatum(JsonbValueToJsonb(state.result));
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	level_check_columns(desc, lengthof(values));
	return HeapTupleGetDatum(
		heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

/* Returns false with the refusal and a hint for the sender. */
static bool
receive_request(FunctionCallInfo fcinfo, Receipt *receipt, Refusal *refusal,
				const char **hint)
{
	struct varlena *payload = PG_ARGISNULL(0) ? NULL : PG_GETARG_VARLENA_PP(0);
	Jsonb *headers = PG_ARGISNULL(1) ? NULL : PG_GETARG_JSONB_P(1);
	DeliveryParts delivery = {
		payload ? VARDATA_ANY(payload) : "",
		payload ? VARSIZE_ANY_EXHDR(payload) : 0,
		request_header(headers, "stripe-signature"),
		PG_ARGISNULL(2) ? "default" : text_to_cstring(PG_GETARG_TEXT_PP(2))};
	RoleScope scope = role_enter_engine();
	bool stored = inbox_receive(delivery.payload, delivery.length,
								delivery.signature, delivery.endpoint,
								"webhook", receipt, refusal);

	if (stored)
		delivery_accepted(&delivery);
	else
		*hint = delivery_refused(&delivery, refusal);
	role_leave(&scope);
	return stored;
}

/*
 * webhook(payload, headers, endpoint), payload being bytea or text.  If the
 * library doesn't fit the catalog the arguments are not read and the answer is a
 * 500, like for any fault of this side, so that Stripe sends the event again.
 */
Datum
stripe_sync_webhook(PG_FUNCTION_ARGS)
{
	Receipt receipt;
	Refusal refusal = {0};
	const char *hint = NULL;
	bool stored = false;

	if (level_fits(CATALOG_LEVEL - 1, &refusal))
		stored = receive_request(fcinfo, &receipt, &refusal, &hint);
	else
		delivery_refused_unfit(&refusal);
	PG_RETURN_DATUM(answer_row(fcinfo, stored ? &receipt : NULL, &refusal, hint));
}
