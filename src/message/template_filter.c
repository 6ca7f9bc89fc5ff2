/*
 * template_filter.c
 *		Filters, which convert a value before it is put into a message.
 *
 * A filter leaves a value that it can't convert unchanged, and a missing one
 * missing: an alert must be sent whatever Stripe sends.
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/formatting.h"

#include "base/base.h"
#include "base/money.h"
#include "message/message.h"
#include "message/internal.h"

/* Of the year 9999: a greater number is no time, and is left as it is. */
#define LAST_SECOND INT64CONST(253402300799)

/* 10:30 in UTC, see apply_day() */
#define SAME_DATE (10 * SECS_PER_HOUR + 30 * SECS_PER_MINUTE)

/* An integer, or a string with one: Stripe sends decimals as strings. */
static bool
integer_of(const TemplateValue *value, int64 *number)
{
	const char *text;
	char *end;

	if (value->kind != VALUE_JSON)
		return false;
	if (json_to_int64(&value->json, number))
		return true;
	if (value->json.type != jbvString)
		return false;
	text = template_text(&value->json);
	if (text[strspn(text, "-0123456789")] != '\0')
		return false;
	errno = 0;
	*number = strtoll(text, &end, 10);
	return errno == 0 && end != text && *end == '\0';
}

/* A number, or a string with one */
static bool
is_number(const TemplateValue *value)
{
	const char *text;

	if (value->kind != VALUE_JSON || value->json.type != jbvString)
		return value->kind == VALUE_JSON && value->json.type == jbvNumeric;
	text = template_text(&value->json);
	return text[strspn(text, "-.0123456789")] == '\0';
}

/* ---- money ---- */

static bool
is_currency_code(const char *text)
{
	return strlen(text) == 3 &&
		   strspn(text,
				  "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") == 3;
}

/*
 * The currency of an amount: a code (money:eur), the value of a path
 * (money:presentment_currency), or that of the enclosing object; NULL if unknown.
 */
static char *
currency_of(Render *render, const TemplateFilter *filter,
			const TemplateValue *value)
{
	TemplateValue named;

	if (filter->argument == NULL)
		return value->currency;
	if (is_currency_code(filter->argument))
		return filter->argument;
	template_find(render, filter->path, &named);
	return named.kind == VALUE_JSON && named.json.type == jbvString
			   ? template_text(&named.json)
			   : NULL;
}

/*
 * money, money:CURRENCY.  An amount of unknown currency, or with a fraction of a
 * minor unit (a price's unit_amount_decimal), is shown in minor units and says
 * so.
 */
static void
apply_money(Render *render, const TemplateFilter *filter, TemplateValue *value)
{
	char *currency = currency_of(render, filter, value);
	int64 amount;

	if (!is_number(value))
		return;
	if (currency != NULL && integer_of(value, &amount))
		template_value_set(value, money_format(amount, currency));
	else if (currency == NULL)
		template_value_set(
			value, psprintf("%s (minor units)", template_value_text(value)));
	else
		template_value_set(
			value, psprintf("%s (minor units of %s)", template_value_text(value),
							asc_toupper(currency, strlen(currency))));
}

/* ---- times ---- */

/* A time in seconds since 1970; false if it is none. */
static bool
time_of(const TemplateValue *value, int64 *seconds)
{
	return integer_of(value, seconds) && *seconds >= 0 &&
		   *seconds <= LAST_SECOND;
}

/*
 * Slack shows it in the reader's time zone; where there is no markup it is text,
 * in UTC.
 */
static void
set_time(Render *render, TemplateValue *value, int64 seconds,
		 const char *slack_format, const char *format)
{
	pg_time_t at = (pg_time_t) seconds;
	char text[64];

	pg_strftime(text, sizeof(text), format, pg_gmtime(&at));
	if (render->target != TARGET_MRKDWN)
	{
		template_value_set(value, pstrdup(text));
		return;
	}
	value->kind = VALUE_MARKUP;
	value->text = psprintf("<!date^" INT64_FORMAT "^%s|%s>", seconds,
						   slack_format, text);
}

/* date: with hours and minutes */
static void
apply_date(Render *render, const TemplateFilter *filter, TemplateValue *value)
{
	int64 seconds;

	if (time_of(value, &seconds))
		set_time(render, value, seconds, "{date_short_pretty} {time}",
				 "%Y-%m-%d %H:%M UTC");
}

/*
 * day: the date alone.  Stripe gives a date without a time (arrival_date) as
 * midnight in UTC, which is the evening before in America: it is taken at an
 * hour at which the date is the same from Hawaii to New Zealand.
 */
static void
apply_day(Render *render, const TemplateFilter *filter, TemplateValue *value)
{
	int64 seconds;

	if (!time_of(value, &seconds))
		return;
	if (seconds % SECS_PER_DAY == 0)
		seconds += SAME_DATE;
	set_time(render, value, seconds, "{date_short_pretty}", "%Y-%m-%d");
}

/* ---- links ---- */

/* The label: the id, or the value of the path (link:number). */
static char *
link_text(Render *render, const TemplateFilter *filter, const char *id)
{
	TemplateValue named;

	if (filter->path == NULL)
		return pstrdup(id);
	template_find(render, filter->path, &named);
	return named.kind == VALUE_JSON ? template_text(&named.json) : pstrdup(id);
}

/* link, link:LABEL: without markup the label alone, in an address the URL. */
static void
apply_link(Render *render, const TemplateFilter *filter, TemplateValue *value)
{
	char *id = template_value_text(value);
	char *text;
	char *url;

	if (id == NULL)
		return;
	text = link_text(render, filter, id);
	url = template_link(render, id,
						json_is_object(&value->json) ? value->json.val.binary.data
													 : value->holder);
	if (render->target == TARGET_PLAIN)
		template_value_set(value, text);
	else if (render->target == TARGET_URL)
		template_value_set(value, url);
	else
	{
		value->kind = VALUE_MARKUP;
		text = mrkdwn_cut(text, TEMPLATE_VALUE_CHARS);
		value->text = render->target == TARGET_MARKDOWN
						  ? psprintf("[%s](%s)", template_markdown(text), url)
						  : psprintf("<%s|%s>", url, mrkdwn_escape(text));
	}
}

/* ---- text ---- */

/* upper, lower: by the rules of the database's collation */
static void
apply_upper(Render *render, const TemplateFilter *filter, TemplateValue *value)
{
	char *text = template_value_text(value);

	if (text != NULL)
		template_value_set(
			value, str_toupper(text, strlen(text), DEFAULT_COLLATION_OID));
}

static void
apply_lower(Render *render, const TemplateFilter *filter, TemplateValue *value)
{
	char *text = template_value_text(value);

	if (text != NULL)
		template_value_set(
			value, str_tolower(text, strlen(text), DEFAULT_COLLATION_OID));
}

/* words: made_with_stolen_card as "made with stolen card" */
static void
apply_words(Render *render, const TemplateFilter *filter, TemplateValue *value)
{
	char *text = template_value_text(value);

	if (text == NULL)
		return;
	text = pstrdup(text);
	for (char *p = text; *p != '\0'; p++)
		if (*p == '_')
			*p = ' ';
	template_value_set(value, text);
}

/* default:TEXT replaces a missing value, by the rest after the colon. */
static void
apply_default(Render *render, const TemplateFilter *filter, TemplateValue *value)
{
	if (value->kind == VALUE_MISSING)
		template_value_set(value, filter->argument);
}

/* Elements of an array or of a list of Stripe's; "10+" if has_more is set. */
static void
apply_count(Render *render, const TemplateFilter *filter, TemplateValue *value)
{
	JsonbContainer *container;
	JsonbValue data;
	JsonbValue more;
	bool has_more = false;

	if (value->kind != VALUE_JSON || value->json.type != jbvBinary)
		return;
	container = value->json.val.binary.data;
	if (json_get(container, "data", &data) && data.type == jbvBinary)
	{
		has_more = json_get(container, "has_more", &more) &&
				   more.type == jbvBool && more.val.boolean;
		container = data.val.binary.data;
	}
	if (JsonContainerIsArray(container))
		template_value_set(value, psprintf("%u%s", JsonContainerSize(container),
										   has_more ? "+" : ""));
}

/* ---- the filters ---- */

static const TemplateFilterKind kinds[] = {
	{"money", ARGUMENT_PATH, apply_money},
	{"date", ARGUMENT_NONE, apply_date},
	{"day", ARGUMENT_NONE, apply_day},
	{"link", ARGUMENT_PATH, apply_link},
	{"upper", ARGUMENT_NONE, apply_upper},
	{"lower", ARGUMENT_NONE, apply_lower},
	{"words", ARGUMENT_NONE, apply_words},
	{"map", ARGUMENT_MAP, template_map_apply},
	{"who", ARGUMENT_NONE, template_who_apply},
	{"monthly", ARGUMENT_NONE, template_monthly_apply},
	{"count", ARGUMENT_NONE, apply_count},
	{"default", ARGUMENT_TEXT, apply_default},
};

/* NULL if there is no such filter. */
const TemplateFilterKind *
template_filter_kind(const char *name)
{
	for (int i = 0; i < lengthof(kinds); i++)
		if (strcmp(kinds[i].name, name) == 0)
			return &kinds[i];
	return NULL;
}

/* The names of all filters, for a hint */
const char *
template_filter_names(void)
{
	StringInfoData names;

	initStringInfo(&names);
	for (int i = 0; i < lengthof(kinds); i++)
		appendStringInfo(&names, "%s%s", i == 0 ? "" : ", ", kinds[i].name);
	return names.data;
}
