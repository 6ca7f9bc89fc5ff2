/*
 * object_words.c
 *		An object's fields, amount, status and name, in words.
 */
#include "postgres.h"

#include "base/base.h"
#include "base/money.h"
#include "message/message.h"
#include "tables/tables.h"
#include "wording/wording.h"

#define NAME_COLUMNS 40

/* ---- fields ---- */

static bool
is_type(const CatalogType *type, const char *name)
{
	return type != NULL && strcmp(type->object, name) == 0;
}

/*
 * A field, also one that API versions have moved; false if missing or null.  The
 * type may be NULL, here and below.
 */
bool
object_field(const CatalogType *type, JsonbContainer *object, const char *name,
			 JsonbValue *value)
{
	const DerivedColumn *derived = type != NULL && type->table != NULL
									   ? derived_find(type->table, name)
									   : NULL;

	return (derived != NULL ? derived->take(object, value)
							: json_get(object, name, value)) &&
		   value->type != jbvNull;
}

/* A string that isn't empty, or NULL */
char *
object_text(const CatalogType *type, JsonbContainer *object, const char *name)
{
	JsonbValue value;

	if (!object_field(type, object, name, &value) || value.type != jbvString ||
		value.val.string.len == 0)
		return NULL;
	return pnstrdup(value.val.string.val, value.val.string.len);
}

/* An id, or that of the object that stands in its place; NULL if none */
char *
object_reference(const CatalogType *type, JsonbContainer *object,
				 const char *name)
{
	JsonbValue value;

	if (!object_field(type, object, name, &value))
		return NULL;
	if (value.type == jbvString && value.val.string.len > 0)
		return pnstrdup(value.val.string.val, value.val.string.len);
	return json_is_object(&value) ? json_get_string(value.val.binary.data, "id")
								  : NULL;
}

/* ---- amounts ---- */

/* The amount in an object's own currency: "€29.00"; NULL if there is none */
static char *
amount_in(JsonbContainer *object, const char *name)
{
	char *currency = json_get_string(object, "currency");
	JsonbValue value;
	int64 amount;

	if (currency == NULL || !json_get(object, name, &value) ||
		!json_to_int64(&value, &amount))
		return NULL;
	return money_format(amount, words_plain(currency, 12));
}

/* "per month", "every 3 months"; NULL: not recurring */
static char *
interval_words(JsonbContainer *price)
{
	JsonbContainer *recurring = json_get_object(price, "recurring");
	JsonbContainer *holder = recurring != NULL ? recurring : price;
	char *unit = json_get_string(holder, "interval");
	JsonbValue value;
	int64 count = 1;

	if (unit == NULL)
		return NULL;
	if (json_get(holder, "interval_count", &value))
		(void) json_to_int64(&value, &count);
	unit = words_plain(unit, 12);
	return count == 1 ? psprintf("per %s", unit)
					  : psprintf("every " INT64_FORMAT " %ss", count, unit);
}

/* "€29.00 per month" of a price or plan; NULL: its amount is unknown */
static char *
price_words(JsonbContainer *price)
{
	char *amount = amount_in(price, "unit_amount");
	char *interval = interval_words(price);

	if (amount == NULL)
		amount = amount_in(price, "amount");
	if (amount == NULL || interval == NULL)
		return amount;
	return psprintf("%s %s", amount, interval);
}

/* "price price_1 €29.00 per month × 3" of an item of a subscription */
static char *
item_words(JsonbContainer *item)
{
	JsonbContainer *price = json_get_object(item, "price");
	JsonbValue value;
	int64 quantity = 1;
	char *words;
	char *id;

	if (price == NULL)
		price = json_get_object(item, "plan");
	id = price != NULL ? json_get_string(price, "id")
					   : json_get_string(item, "price");
	if (id == NULL)
		return NULL;
	words = price != NULL ? price_words(price) : NULL;
	if (json_get(item, "quantity", &value))
		(void) json_to_int64(&value, &quantity);
	return psprintf("price %s%s%s%s", words_plain(id, WORDS_ID),
					words != NULL ? " " : "", words != NULL ? words : "",
					quantity == 1 ? "" : psprintf(" × " INT64_FORMAT, quantity));
}

/* The price of a subscription's only item, or the number of its items */
static char *
plan_words(JsonbContainer *subscription)
{
	JsonbValue items;
	JsonbValue data;
	JsonbValue *item;

	if (!json_get(subscription, "items", &items) || !json_is_object(&items) ||
		!json_get(items.val.binary.data, "data", &data) ||
		data.type != jbvBinary || !JsonContainerIsArray(data.val.binary.data))
		return NULL;
	if (JsonContainerSize(data.val.binary.data) != 1)
		return psprintf("%u prices", JsonContainerSize(data.val.binary.data));
	item = getIthJsonbValueFromContainer(data.val.binary.data, 0);
	return json_is_object(item) ? item_words(item->val.binary.data) : NULL;
}

/* What the object costs or moves; NULL if it says no amount */
char *
object_amount(const CatalogType *type, JsonbContainer *object)
{
	static const char *const names[] = {"amount_total", "total", "amount",
										"amount_off", "amount_paid"};

	if (is_type(type, "subscription"))
		return plan_words(object);
	if (is_type(type, "subscription_item"))
		return item_words(object);
	if (is_type(type, "price") || is_type(type, "plan"))
		return price_words(object);
	for (int i = 0; i < lengthof(names); i++)
	{
		char *amount = amount_in(object, names[i]);

		if (amount != NULL)
			return amount;
	}
	return NULL;
}

/* "€10.00 refunded" of a charge that still has another status */
char *
object_refunded(JsonbContainer *object)
{
	char *amount = amount_in(object, "amount_refunded");
	JsonbValue value;
	int64 number;

	if (amount == NULL || !json_get(object, "amount_refunded", &value) ||
		!json_to_int64(&value, &number) || number == 0)
		return NULL;
	return psprintf("%s refunded", amount);
}

/* ---- status ---- */

/* The status as people say it; NULL if the object has none */
char *
object_status(JsonbContainer *object)
{
	char *status = json_get_string(object, "status");
	JsonbValue active;

	if (status == NULL)
		status = json_get_string(object, "state");
	if (status != NULL)
		return words_plain(status, NAME_COLUMNS);
	if (json_get(object, "active", &active) && active.type == jbvBool)
		return pstrdup(active.val.boolean ? "active" : "inactive");
	return NULL;
}

/* ---- names ---- */

/* "Ada Lovelace" in quotation marks, or NULL */
char *
object_name(const CatalogType *type, JsonbContainer *object)
{
	static const char *const names[] = {"name", "nickname", "display_name",
										"description"};

	for (int i = 0; i < lengthof(names); i++)
	{
		char *name = object_text(type, object, names[i]);

		if (name != NULL && (i < 3 || is_type(type, "customer")))
			return psprintf("\"%s\"", words_plain(name, NAME_COLUMNS));
	}
	return NULL;
}
