/*
 * command_billing.c
 *		A customer's plans, payments and open invoices, for /stripe customer.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "lookup/lookup.h"
#include "base/money.h"
#include "message/message.h"
#include "wording/wording.h"
#include "bot/internal.h"

#define MOST_READ	  200 /* rows of one customer */
#define MOST_PLANS	  5
#define MOST_ITEMS	  3 /* of a plan */
#define MOST_PAYMENTS 5
#define MOST_INVOICES 5
#define MOST_NAME	  60 /* columns */
#define MOST_REASON	  100

static const CatalogType *
type_of(const char *name)
{
	return catalog_find(name, strlen(name));
}

/* ---- rows ---- */

typedef bool (*Wanted)(JsonbContainer *object);

/*
 * Objects of a type that are the customer's, the newest first, of Jsonb: those
 * that are wanted, one more than "most" if there are more.
 */
static List *
objects_of(const CustomerCard *card, const CatalogType *type, Wanted wanted,
		   int most)
{
	List *objects = NIL;
	ListCell *cell;

	foreach(cell, visible_rows_find(type, "customer", card->id, MOST_READ))
	{
		VisibleRow *row = lfirst(cell);
		VisibleState state;

		if (strcmp(row->account, card->account) != 0 ||
			!visible_row_read(type, row->id, row->account, &state) ||
			state.deleted || state.data == NULL ||
			!JB_ROOT_IS_OBJECT(state.data) || !wanted(&state.data->root))
			continue;
		objects = lappend(objects, state.data);
		if (list_length(objects) > most)
			break;
	}
	return objects;
}

/* ---- values ---- */

static bool
status_is(JsonbContainer *object, const char *status)
{
	char *own = json_get_string(object, "status");

	return own != NULL && strcmp(own, status) == 0;
}

static bool
is_true(JsonbContainer *object, const char *name)
{
	JsonbValue value;

	return json_get(object, name, &value) && value.type == jbvBool &&
		   value.val.boolean;
}

static int64
number_of(JsonbContainer *object, const char *name)
{
	JsonbValue value;
	int64 number = 0;

	if (json_get(object, name, &value))
		(void) json_to_int64(&value, &number);
	return number;
}

/* Seconds since 1970 as a time in mrkdwn; NULL if there is none */
static char *
time_of(const CatalogType *type, JsonbContainer *object, const char *name)
{
	JsonbValue value;
	int64 seconds;

	if (!object_field(type, object, name, &value) ||
		!json_to_int64(&value, &seconds) || seconds <= 0 ||
		seconds > INT64CONST(253402300799)) /* the year 9999 */
		return NULL;
	return mrkdwn_date(time_t_to_timestamptz(seconds));
}

static char *
money_of(JsonbContainer *object, const char *name)
{
	char *currency = json_get_string(object, "currency");

	return money_format(number_of(object, name), currency ? currency : "");
}

/* ---- plans ---- */

static bool
is_running(JsonbContainer *subscription)
{
	return !status_is(subscription, "canceled") &&
		   !status_is(subscription, "incomplete_expired");
}

/* The product's name, else the price's own, else its id */
static char *
price_name(const CustomerCard *card, JsonbContainer *price)
{
	char *product = object_reference(type_of("price"), price, "product");
	char *name = NULL;
	VisibleState state;

	if (product != NULL &&
		visible_row_read(type_of("product"), product, card->account, &state) &&
		state.data != NULL && JB_ROOT_IS_OBJECT(state.data))
		name = json_get_string(&state.data->root, "name");
	if (name == NULL)
		name = json_get_string(price, "nickname");
	if (name == NULL)
		name = json_get_string(price, "id");
	return words_plain(name != NULL ? name : "a plan", MOST_NAME);
}

/* "Pro €29.00 per month × 3" of an item of a subscription; plain text */
static char *
item_text(const CustomerCard *card, JsonbContainer *item)
{
	JsonbContainer *price = json_get_object(item, "price");
	int64 quantity = number_of(item, "quantity");
	char *amount;

	if (price == NULL)
		price = json_get_object(item, "plan");
	if (price == NULL)
		return NULL;
	amount = object_amount(type_of("price"), price);
	return psprintf("%s%s%s%s", price_name(card, price), amount ? " " : "",
					amount ? amount : "",
					quantity > 1 ? psprintf(" × " INT64_FORMAT, quantity) : "");
}

/* Its items, or the subscription's id if it shows none; plain text */
static char *
items_text(const CustomerCard *card, JsonbContainer *subscription)
{
	JsonbContainer *items = json_get_object(subscription, "items");
	char *id = json_get_string(subscription, "id");
	StringInfoData out;
	JsonbValue data;
	int n;

	initStringInfo(&out);
	if (items == NULL || !json_get(items, "data", &data) ||
		data.type != jbvBinary || !JsonContainerIsArray(data.val.binary.data))
		return id != NULL ? id : "a plan";
	n = JsonContainerSize(data.val.binary.data);
	for (int i = 0; i < Min(n, MOST_ITEMS); i++)
	{
		JsonbValue *item = getIthJsonbValueFromContainer(data.val.binary.data,
														 i);
		char *text = json_is_object(item)
						 ? item_text(card, item->val.binary.data)
						 : NULL;

		if (text != NULL)
			appendStringInfo(&out, "%s%s", out.len > 0 ? " + " : "", text);
	}
	if (n > MOST_ITEMS)
		appendStringInfo(&out, " + %d more", n - MOST_ITEMS);
	return out.len > 0 ? out.data : id != NULL ? id : "a plan";
}

/* ", renews ...", ", ends ...", ", on trial until ..." */
static char *
term_text(JsonbContainer *subscription)
{
	const CatalogType *type = type_of("subscription");
	char *at = time_of(type, subscription, "cancel_at");
	const char *what = "ends";

	if (at == NULL && is_true(subscription, "cancel_at_period_end"))
		at = time_of(type, subscription, "current_period_end");
	if (at == NULL && status_is(subscription, "trialing"))
	{
		what = "on trial until";
		at = time_of(type, subscription, "trial_end");
	}
	if (at == NULL)
	{
		what = "renews";
		at = time_of(type, subscription, "current_period_end");
	}
	return at != NULL ? psprintf(", %s %s", what, at) : "";
}

static char *
status_text(JsonbContainer *object)
{
	char *status = object_status(object);

	for (char *p = status; p != NULL && *p != '\0'; p++)
		if (*p == '_')
			*p = ' ';
	return mrkdwn_escape(status != NULL ? status : "unknown");
}

char *
billing_plans(const CustomerCard *card)
{
	List *plans = objects_of(card, type_of("subscription"), is_running,
							 MOST_PLANS);
	StringInfoData out;
	int n = 0;
	ListCell *cell;

	initStringInfo(&out);
	appendStringInfoString(&out, plans != NIL ? "*Plan*" : "*Plan*: none");
	foreach(cell, plans)
	{
		JsonbContainer *plan = &((Jsonb *) lfirst(cell))->root;
		char *id = json_get_string(plan, "id");

		if (n++ < MOST_PLANS)
			appendStringInfo(
				&out, "\n• %s, %s%s",
				customer_link(card, id ? id : card->id, items_text(card, plan)),
				status_text(plan), term_text(plan));
	}
	if (n > MOST_PLANS)
		appendStringInfoString(&out, "\n• and more");
	return out.data;
}

/* ---- payments ---- */

static bool
is_any(JsonbContainer *object)
{
	return true;
}

/* Why it failed, in Stripe's words; NULL: it did not, or it isn't said */
static char *
failure_text(JsonbContainer *payment)
{
	JsonbContainer *outcome = json_get_object(payment, "outcome");
	JsonbContainer *last = json_get_object(payment, "last_payment_error");
	char *text = NULL;

	if (status_is(payment, "succeeded"))
		return NULL;
	text = json_get_string(payment, "failure_message");
	if (text == NULL && outcome != NULL)
		text = json_get_string(outcome, "seller_message");
	if (text == NULL && last != NULL)
		text = json_get_string(last, "message");
	return text != NULL ? mrkdwn_escape(words_plain(text, MOST_REASON)) : NULL;
}

static char *
payment_line(const CustomerCard *card, const CatalogType *type,
			 JsonbContainer *payment)
{
	char *id = json_get_string(payment, "id");
	char *at = time_of(type, payment, "created");
	char *why = failure_text(payment);
	char *refunded = object_refunded(payment);

	return psprintf(
		"\n• %s %s%s%s%s%s%s%s",
		customer_link(card, id ? id : card->id, money_of(payment, "amount")),
		status_text(payment), at ? " " : "", at ? at : "", refunded ? ", " : "",
		refunded ? mrkdwn_escape(refunded) : "", why ? ": " : "",
		why ? why : "");
}

/* Charges; where the mirror has none, payment intents */
char *
billing_payments(const CustomerCard *card)
{
	const CatalogType *type = type_of("charge");
	List *payments = objects_of(card, type, is_any, MOST_PAYMENTS);
	StringInfoData out;
	int n = 0;
	ListCell *cell;

	if (payments == NIL)
	{
		type = type_of("payment_intent");
		payments = objects_of(card, type, is_any, MOST_PAYMENTS);
	}
	initStringInfo(&out);
	appendStringInfoString(&out, payments != NIL ? "*Last payments*"
												 : "*Last payments*: none");
	foreach(cell, payments)
		if (n++ < MOST_PAYMENTS)
			appendStringInfoString(
				&out, payment_line(card, type, &((Jsonb *) lfirst(cell))->root));
	return out.data;
}

/* ---- invoices ---- */

static bool
is_open(JsonbContainer *invoice)
{
	return status_is(invoice, "open");
}

static char *
invoice_line(const CustomerCard *card, JsonbContainer *invoice)
{
	const CatalogType *type = type_of("invoice");
	char *id = json_get_string(invoice, "id");
	char *number = json_get_string(invoice, "number");
	char *due = time_of(type, invoice, "due_date");
	char *next = time_of(type, invoice, "next_payment_attempt");
	int64 attempts = number_of(invoice, "attempt_count");
	StringInfoData out;

	initStringInfo(&out);
	appendStringInfo(&out, "\n• %s %s",
					 customer_link(card, id ? id : card->id,
								   words_plain(number ? number
											   : id	  ? id
													  : "an invoice",
											   MOST_NAME)),
					 mrkdwn_escape(money_of(invoice, "amount_remaining")));
	if (due != NULL)
		appendStringInfo(&out, ", due %s", due);
	if (attempts > 0)
		appendStringInfo(&out, ", tried " INT64_FORMAT " time%s", attempts,
						 attempts == 1 ? "" : "s");
	if (next != NULL)
		appendStringInfo(&out, ", next attempt %s", next);
	return out.data;
}

char *
billing_invoices(const CustomerCard *card)
{
	List *invoices = objects_of(card, type_of("invoice"), is_open,
								MOST_INVOICES);
	StringInfoData out;
	int n = 0;
	ListCell *cell;

	initStringInfo(&out);
	appendStringInfoString(&out, invoices != NIL ? "*Open invoices*"
												 : "*Open invoices*: none");
	foreach(cell, invoices)
		if (n++ < MOST_INVOICES)
			appendStringInfoString(
				&out, invoice_line(card, &((Jsonb *) lfirst(cell))->root));
	if (n > MOST_INVOICES)
		appendStringInfoString(&out, "\n• and more");
	return out.data;
}
