/*
 * template_monthly.c
 *		The filter monthly: what the items of a subscription cost in a month.
 *
 * A year has 12 months and 365 days.  Discounts and taxes are left out.  Where
 * the items don't say an amount (tiers, metered usage, several currencies, a list
 * that Stripe has cut off) the value is missing.
 */
#include "postgres.h"

#include <math.h>

#include "base/base.h"
#include "base/money.h"
#include "message/message.h"
#include "message/internal.h"

#define MOST_MINOR_UNITS 1e15

/* ---- one item ---- */

/* A field as a number, also from a string; false if it is none. */
static bool
number_of(JsonbContainer *object, const char *key, double *number)
{
	JsonbValue value;
	char *text;
	char *end;

	if (!json_get(object, key, &value) ||
		(value.type != jbvNumeric && value.type != jbvString))
		return false;
	text = template_text(&value);
	*number = strtod(text, &end);
	return end != text && *end == '\0' && isfinite(*number);
}

static bool
is_set(JsonbContainer *object, const char *key)
{
	JsonbValue value;

	return json_get(object, key, &value) && value.type != jbvNull;
}

static bool
has_string(JsonbContainer *object, const char *key, const char *text)
{
	char *value = json_get_string(object, key);

	return value != NULL && strcmp(value, text) == 0;
}

/* How many times in a month it is paid; 0 if that is unknown. */
static double
times_a_month(JsonbContainer *recurring)
{
	static const struct
	{
		const char *interval;
		double times;
	} intervals[] = {{"day", 365.0 / 12},
					 {"week", 365.0 / 84},
					 {"month", 1},
					 {"year", 1.0 / 12}};
	double count = 1;

	if (is_set(recurring, "interval_count") &&
		(!number_of(recurring, "interval_count", &count) || count < 1))
		return 0;
	for (int i = 0; i < lengthof(intervals); i++)
		if (has_string(recurring, "interval", intervals[i].interval))
			return intervals[i].times / count;
	return 0;
}

/*
 * A price, or the plan of an older API version, in which the fields of
 * "recurring" are its own.  False if it doesn't say an amount.
 */
static bool
price_a_month(JsonbContainer *price, double *amount)
{
	bool is_plan = has_string(price, "object", "plan");
	JsonbContainer *recurring = is_plan ? price
										: json_get_object(price, "recurring");

	if (recurring == NULL || has_string(price, "billing_scheme", "tiered") ||
		has_string(recurring, "usage_type", "metered") ||
		is_set(price, is_plan ? "transform_usage" : "transform_quantity"))
		return false;
	if (!number_of(price, is_plan ? "amount_decimal" : "unit_amount_decimal",
				   amount) &&
		!number_of(price, is_plan ? "amount" : "unit_amount", amount))
		return false;
	*amount *= times_a_month(recurring);
	return times_a_month(recurring) > 0;
}

/* The item's price, which an item of an older API version has as "plan" only */
static JsonbContainer *
price_of(Render *render, JsonbContainer *item)
{
	char *id = json_get_string(item, "price");
	JsonbContainer *price = json_get_object(item, "price");

	if (price == NULL && id != NULL)
		price = template_mirrored(render, "price", id);
	return price ? price : json_get_object(item, "plan");
}

/* Add the item's amount.  False if it is unknown, or of another currency. */
static bool
add_item(Render *render, JsonbContainer *item, double *sum, char **currency)
{
	JsonbContainer *price = price_of(render, item);
	double quantity = 1;
	double amount;
	char *own;

	if (price == NULL || !price_a_month(price, &amount) ||
		(own = json_get_string(price, "currency")) == NULL ||
		(*currency != NULL && strcmp(*currency, own) != 0))
		return false;
	if (is_set(item, "quantity") && !number_of(item, "quantity", &quantity))
		return false;
	*currency = own;
	*sum += quantity * amount;
	return true;
}

/* ---- all items ---- */

/* The array of a list that Stripe has not cut off; NULL if it is none. */
static JsonbContainer *
items_of(const TemplateValue *value)
{
	JsonbContainer *list;
	JsonbValue data;
	JsonbValue more;

	if (value->kind != VALUE_JSON || value->json.type != jbvBinary)
		return NULL;
	list = value->json.val.binary.data;
	if (!JsonContainerIsArray(list))
	{
		if (json_get(list, "has_more", &more) && more.type == jbvBool &&
			more.val.boolean)
			return NULL;
		if (!json_get(list, "data", &data) || data.type != jbvBinary)
			return NULL;
		list = data.val.binary.data;
	}
	return JsonContainerIsArray(list) && JsonContainerSize(list) > 0 ? list
																	 : NULL;
}

void
template_monthly_apply(Render *render, const TemplateFilter *filter,
					   TemplateValue *value)
{
	JsonbContainer *items = items_of(value);
	char *currency = NULL;
	double sum = 0;
	bool known = items != NULL;

	for (uint32 i = 0; known && i < JsonContainerSize(items); i++)
	{
		JsonbValue *item = getIthJsonbValueFromContainer(items, i);

		known = json_is_object(item) &&
				add_item(render, item->val.binary.data, &sum, &currency);
	}
	if (known && fabs(sum) < MOST_MINOR_UNITS)
		template_value_set(value, money_format((int64) rint(sum), currency));
	else
		value->kind = VALUE_MISSING;
}
