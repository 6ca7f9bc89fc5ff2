/*
 * value.c
 *		Values of fields as people write them: money, times, references.
 *
 * Objects and long arrays are only named or counted, so that nothing below them
 * (a client secret in an expanded object) gets into a line.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

#include "base/base.h"
#include "base/money.h"
#include "message/message.h"
#include "wording/wording.h"

#define VALUE_COLUMNS 40 /* of one value */

/* Times lie between 2001 and the year 9999; a smaller number is something else. */
#define FIRST_SECOND INT64CONST(978307200)
#define LAST_SECOND	 INT64CONST(253402300799)

static bool
ends_with(const char *text, const char *end)
{
	size_t length = strlen(text);
	size_t tail = strlen(end);

	return length >= tail && strcmp(text + length - tail, end) == 0;
}

static bool
is_one_of(const char *name, const char *const *names, int n)
{
	for (int i = 0; i < n; i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return false;
}

/* ---- kinds of fields, by their names ---- */

/* A field that holds, or leads to, what must not be shown */
bool
value_is_secret(const char *name)
{
	static const char *const secrets[] = {"cvc",
										  "pin",
										  "token",
										  "api_key",
										  "number_encrypted",
										  "account_numbers",
										  "id_number",
										  "id_numbers",
										  "password"};

	return strstr(name, "secret") != NULL ||
		   is_one_of(name, secrets, lengthof(secrets));
}

/* An address; that of a checkout, invoice or portal admits whoever has it. */
bool
value_is_link(const char *name)
{
	return strcmp(name, "url") == 0 || strcmp(name, "pdf") == 0 ||
		   ends_with(name, "_url") || ends_with(name, "_pdf");
}

/* An amount in minor units */
bool
value_is_money(const char *name)
{
	static const char *const amounts[] = {"amount",
										  "balance",
										  "fee",
										  "net",
										  "subtotal",
										  "tax",
										  "total",
										  "starting_balance",
										  "ending_balance",
										  "unit_cost",
										  "subtotal_excluding_tax",
										  "total_excluding_tax"};

	return strncmp(name, "amount_", 7) == 0 || ends_with(name, "_amount") ||
		   ends_with(name, "amount_decimal") ||
		   is_one_of(name, amounts, lengthof(amounts));
}

/* A time in seconds; the catalog knows only an object's own fields. */
static bool
is_time(const char *name, const CatalogField *field)
{
	static const char *const times[] = {"billed_until",
										"billing_cycle_anchor",
										"cancel_at",
										"created",
										"date",
										"due_by",
										"end",
										"frozen_time",
										"next_payment_attempt",
										"next_pending_invoice_item_invoice",
										"redeem_by",
										"start",
										"updated",
										"available_on",
										"active_from"};

	if (field != NULL)
		return field->kind == KIND_TIMESTAMP;
	return ends_with(name, "_at") || ends_with(name, "_date") ||
		   ends_with(name, "_start") || ends_with(name, "_end") ||
		   ends_with(name, "_time") || is_one_of(name, times, lengthof(times));
}

/* ---- values ---- */

/* Seconds since 1970 as a time of the session's zone */
char *
value_time(int64 seconds)
{
	return words_time(time_t_to_timestamptz((pg_time_t) seconds), false);
}

static char *
numeric_words(const JsonbValue *value)
{
	return DatumGetCString(
		DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric)));
}

/* A number, or a decimal that Stripe sends as a string, as an integer */
static bool
read_integer(const JsonbValue *value, int64 *number)
{
	char *text;
	char *end;

	if (value->type != jbvString)
		return json_to_int64(value, number);
	if (value->val.string.len == 0 || value->val.string.len > 18)
		return false;
	text = pnstrdup(value->val.string.val, value->val.string.len);
	*number = strtoll(text, &end, 10);
	return *end == '\0' && text[0] != ' ';
}

static char *
string_words(const JsonbValue *value)
{
	char *text = pnstrdup(value->val.string.val, value->val.string.len);

	return words_quoted(text, VALUE_COLUMNS);
}

static char *
count_words(uint32 count)
{
	return psprintf("%u %s", count, count == 1 ? "item" : "items");
}

/* "[card, link]"; NULL if an element isn't a short word or number */
static char *
array_words(JsonbContainer *array)
{
	StringInfoData out;

	initStringInfo(&out);
	for (uint32 i = 0; i < JsonContainerSize(array); i++)
	{
		JsonbValue *element = getIthJsonbValueFromContainer(array, i);

		if (element->type != jbvString && element->type != jbvNumeric)
			return NULL;
		appendStringInfo(&out, "%s%s", i == 0 ? "" : ", ",
						 element->type == jbvString ? string_words(element)
													: numeric_words(element));
		if (words_width(out.data) > VALUE_COLUMNS)
			return NULL;
	}
	return psprintf("[%s]", out.data);
}

/* An array or object: its elements, their number, or its id; of an error its code */
static char *
container_words(JsonbContainer *container)
{
	JsonbContainer *page;
	char *id;

	if (JsonContainerIsArray(container))
	{
		char *elements = array_words(container);

		return elements != NULL ? elements
								: count_words(JsonContainerSize(container));
	}
	page = json_get_object(container, "data");
	if (page != NULL && JsonContainerIsArray(page))
		return count_words(JsonContainerSize(page));
	id = json_get_string(container, "id");
	if (id == NULL)
		id = json_get_string(container, "code");
	return id != NULL ? words_quoted(id, VALUE_COLUMNS) : pstrdup("{…}");
}

/* Null, false, 0, "" and what has no elements */
bool
value_is_empty(const JsonbValue *value)
{
	int64 number;

	if (value == NULL || value->type == jbvNull)
		return true;
	if (value->type == jbvBinary)
		return JsonContainerSize(value->val.binary.data) == 0;
	if (value->type == jbvBool)
		return !value->val.boolean;
	if (value->type == jbvString)
		return value->val.string.len == 0;
	return read_integer(value, &number) && number == 0;
}

/*
 * The value of a field.  "name" is the field's own name, without the path to it;
 * "field" is its description or NULL, "currency" that of the object around it or
 * NULL.
 */
char *
value_words(const char *name, const CatalogField *field, const char *currency,
			const JsonbValue *value)
{
	int64 number;

	if (value == NULL || value->type == jbvNull)
		return pstrdup("none");
	if (value_is_link(name))
		return pstrdup("(link)");
	if (value->type == jbvBool)
		return pstrdup(value->val.boolean ? "true" : "false");
	if (value->type == jbvBinary)
		return container_words(value->val.binary.data);
	if (read_integer(value, &number))
	{
		if (currency != NULL && value_is_money(name))
			return money_format(number, words_plain(currency, 12));
		if (value->type == jbvNumeric && is_time(name, field) &&
			number >= FIRST_SECOND && number <= LAST_SECOND)
			return value_time(number);
	}
	return value->type == jbvNumeric
			   ? words_plain(numeric_words(value), VALUE_COLUMNS)
			   : string_words(value);
}
