/*
 * column_value.c
 *		A column's value, taken from an object.
 *
 * A field whose kind has changed, or a number too large for its column, is not
 * an error: the column is NULL, and _data has what Stripe sent.  So no function
 * here raises an error for anything that an object may contain.
 *
 * A column is the field of its name, or derived: fields that API versions have
 * moved to other places are looked up in each of these places, the oldest first.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

#include <ctype.h>

#include "base/base.h"
#include "tables/tables.h"
#include "types/object.h"
#include "types/types.h"
#include "tables/internal.h"

/* 4713-01-01 BC and 294276-12-31 AD in seconds since the Unix epoch */
#define FIRST_TIMESTAMP INT64CONST(-210866803200)
#define LAST_TIMESTAMP	INT64CONST(9224318015999)

/* The type of the column that holds a field of this kind. */
Oid
column_value_type(FieldKind kind)
{
	switch (kind)
	{
		case KIND_STRING:
		case KIND_REFERENCE:
			return TEXTOID;
		case KIND_INTEGER:
			return INT8OID;
		case KIND_NUMBER:
		case KIND_DECIMAL:
			return NUMERICOID;
		case KIND_BOOLEAN:
			return BOOLOID;
		case KIND_TIMESTAMP:
			return TIMESTAMPTZOID;
		default:
			return JSONBOID;
	}
}

/*
 * Does numeric_in() accept this?  Stripe sends decimals as "12.5"; anything else
 * that numeric_in() accepts (an exponent, "NaN", spaces) is refused, as is a
 * text so long that converting it would take time.
 */
static bool
is_plain_decimal(const char *text)
{
	int digits = 0;

	if (*text == '-' || *text == '+')
		text++;
	for (; isdigit((unsigned char) *text); text++)
		digits++;
	if (*text == '.')
		for (text++; isdigit((unsigned char) *text); text++)
			digits++;
	return *text == '\0' && digits > 0 && digits < 1000;
}

/* A number, or a decimal that is sent as a string. */
static bool
take_numeric(const JsonbValue *json, Datum *value)
{
	char *text;
	bool plain;

	if (json->type == jbvNumeric)
	{
		*value = datumCopy(NumericGetDatum(json->val.numeric), false, -1);
		return true;
	}
	if (json->type != jbvString)
		return false;
	text = pnstrdup(json->val.string.val, json->val.string.len);
	plain = is_plain_decimal(text);
	if (plain)
		*value = DirectFunctionCall3(numeric_in, CStringGetDatum(text),
									 ObjectIdGetDatum(InvalidOid),
									 Int32GetDatum(-1));
	pfree(text);
	return plain;
}

/* Stripe's timestamps are seconds since the Unix epoch. */
static bool
take_timestamp(const JsonbValue *json, Datum *value)
{
	int64 seconds;

	if (!json_to_int64(json, &seconds) || seconds < FIRST_TIMESTAMP ||
		seconds > LAST_TIMESTAMP)
		return false;
	*value = TimestampTzGetDatum(time_t_to_timestamptz((pg_time_t) seconds));
	return true;
}

static bool
take_string(const JsonbValue *json, Datum *value)
{
	if (json->type != jbvString)
		return false;
	*value = PointerGetDatum(
		cstring_to_text_with_len(json->val.string.val, json->val.string.len));
	return true;
}

/* An id, or the id of the object that stands in its place. */
static bool
take_reference(const JsonbValue *json, Datum *value)
{
	JsonbValue id;

	if (json_is_object(json))
		return json_get(json->val.binary.data, "id", &id) &&
			   take_string(&id, value);
	return take_string(json, value);
}

/*
 * Convert a JSON value to a column's type, in the current memory context.
 * Returns false if the column is NULL.
 */
bool
column_value_from_json(FieldKind kind, const JsonbValue *json, Datum *value)
{
	int64 number;

	if (json->type == jbvNull)
		return false;
	switch (kind)
	{
		case KIND_STRING:
			return take_string(json, value);
		case KIND_REFERENCE:
			return take_reference(json, value);
		case KIND_INTEGER:
			if (!json_to_int64(json, &number))
				return false;
			*value = Int64GetDatum(number);
			return true;
		case KIND_NUMBER:
		case KIND_DECIMAL:
			return take_numeric(json, value);
		case KIND_BOOLEAN:
			if (json->type != jbvBool)
				return false;
			*value = BoolGetDatum(json->val.boolean);
			return true;
		case KIND_TIMESTAMP:
			return take_timestamp(json, value);
		default:
			*value = JsonbPGetDatum(
				JsonbValueToJsonb(unconstify(JsonbValue *, json)));
			return true;
	}
}

/* ---- columns whose fields moved between API versions ---- */

/* The value at a path of keys; false if it is missing or null. */
static bool
at_path(JsonbContainer *object, const char *const *path, JsonbValue *value)
{
	for (; path[1] != NULL; path++)
		if ((object = json_get_object(object, path[0])) == NULL)
			return false;
	return json_get(object, path[0], value) && value->type != jbvNull;
}

#define AT(object, value, ...)                                                 \
	at_path(object, (const char *const[]){__VA_ARGS__, NULL}, value)

/* The array of a list that is embedded in the object, or NULL. */
static JsonbContainer *
page_data(JsonbContainer *object, const char *field)
{
	JsonbContainer *page = object_page(object, field, NULL);
	JsonbValue data;

	if (page == NULL || !json_get(page, "data", &data))
		return NULL;
	return data.val.binary.data;
}

/* Since 2025-03-31 the subscription is in the invoice's "parent". */
static bool
take_invoice_subscription(JsonbContainer *object, JsonbValue *value)
{
	return AT(object, value, "subscription") ||
		   AT(object, value, "parent", "subscription_details", "subscription");
}

/*
 * A field of an invoice's default payment, or of its first payment.  Since
 * 2025-03-31 an invoice can have several payments, and has no charge or
 * payment_intent of its own.
 */
static bool
take_invoice_payment(JsonbContainer *object, const char *field,
					 JsonbValue *value)
{
	JsonbContainer *payments = page_data(object, "payments");
	bool found = false;

	for (uint32 i = 0; payments != NULL && i < JsonContainerSize(payments); i++)
	{
		JsonbValue *payment = getIthJsonbValueFromContainer(payments, i);
		JsonbValue candidate;
		JsonbValue is_default;

		if (!json_is_object(payment) ||
			!AT(payment->val.binary.data, &candidate, "payment", field))
			continue;
		if (!found)
			*value = candidate;
		found = true;
		if (json_get(payment->val.binary.data, "is_default", &is_default) &&
			is_default.type == jbvBool && is_default.val.boolean)
		{
			*value = candidate;
			return true;
		}
	}
	return found;
}

static bool
take_invoice_charge(JsonbContainer *object, JsonbValue *value)
{
	return AT(object, value, "charge") ||
		   take_invoice_payment(object, "charge", value);
}

static bool
take_invoice_payment_intent(JsonbContainer *object, JsonbValue *value)
{
	return AT(object, value, "payment_intent") ||
		   take_invoice_payment(object, "payment_intent", value);
}

static bool
take_charge_invoice(JsonbContainer *object, JsonbValue *value)
{
	return AT(object, value, "invoice");
}

/*
 * The earliest or latest of the items' values.  Since 2025-03-31 billing periods
 * belong to a subscription's items, which may have different ones.
 */
static bool
take_item_bound(JsonbContainer *object, const char *field, bool latest,
				JsonbValue *value)
{
	JsonbContainer *items = page_data(object, "items");
	bool found = false;
	int64 best = 0;

	for (uint32 i = 0; items != NULL && i < JsonContainerSize(items); i++)
	{
		JsonbValue *item = getIthJsonbValueFromContainer(items, i);
		JsonbValue candidate;
		int64 number;

		if (!json_is_object(item) ||
			!json_get(item->val.binary.data, field, &candidate) ||
			!json_to_int64(&candidate, &number))
			continue;
		if (!found || (latest ? number > best : number < best))
		{
			best = number;
			*value = candidate;
		}
		found = true;
	}
	return found;
}

static bool
take_period_start(JsonbContainer *object, JsonbValue *value)
{
	return AT(object, value, "current_period_start") ||
		   take_item_bound(object, "current_period_start", false, value);
}

static bool
take_period_end(JsonbContainer *object, JsonbValue *value)
{
	return AT(object, value, "current_period_end") ||
		   take_item_bound(object, "current_period_end", true, value);
}

/*
 * A field of the only item of a subscription; false if it has several, or the
 * page of items is cut short.
 */
static bool
take_only_item(JsonbContainer *object, const char *field, JsonbValue *value)
{
	JsonbContainer *items = page_data(object, "items");
	bool complete;
	JsonbValue *item;

	if (items == NULL || JsonContainerSize(items) != 1 ||
		object_page(object, "items", &complete) == NULL || !complete)
		return false;
	item = getIthJsonbValueFromContainer(items, 0);
	return json_is_object(item) && AT(item->val.binary.data, value, field);
}

/* The item's price, or its plan in API versions before prices. */
static bool
take_subscription_price(JsonbContainer *object, JsonbValue *value)
{
	return take_only_item(object, "price", value) ||
		   take_only_item(object, "plan", value) || AT(object, value, "plan");
}

static bool
take_subscription_quantity(JsonbContainer *object, JsonbValue *value)
{
	return AT(object, value, "quantity") ||
		   take_only_item(object, "quantity", value);
}

/* Sorted by table and name, for readers. */
const DerivedColumn derived_columns[] = {
	{"charges", "invoice", KIND_REFERENCE, take_charge_invoice},
	{"invoices", "charge", KIND_REFERENCE, take_invoice_charge},
	{"invoices", "payment_intent", KIND_REFERENCE, take_invoice_payment_intent},
	{"invoices", "subscription", KIND_REFERENCE, take_invoice_subscription},
	{"subscriptions", "current_period_end", KIND_TIMESTAMP, take_period_end},
	{"subscriptions", "current_period_start", KIND_TIMESTAMP, take_period_start},
	{"subscriptions", "price", KIND_REFERENCE, take_subscription_price},
	{"subscriptions", "quantity", KIND_INTEGER, take_subscription_quantity},
};
const int nderived_columns = lengthof(derived_columns);

/* The rule for a column whose field has moved, or NULL: a field of its name. */
const DerivedColumn *
derived_find(const char *table, const char *name)
{
	for (int i = 0; i < nderived_columns; i++)
		if (strcmp(derived_columns[i].table, table) == 0 &&
			strcmp(derived_columns[i].name, name) == 0)
			return &derived_columns[i];
	return NULL;
}

/* The value of a column. Returns false if it is NULL. */
bool
column_value_take(const DerivedColumn *derived, const char *name,
				  FieldKind kind, JsonbContainer *object, Datum *value)
{
	JsonbValue json;
	bool found = derived != NULL ? derived->take(object, &json)
								 : json_get(object, name, &json);

	return found && column_value_from_json(kind, &json, value);
}
