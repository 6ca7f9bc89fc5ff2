/*
 * field_rank.c
 *		Paths of changed fields: how they are shown, and how much each says.
 */
#include "postgres.h"

#include "base/base.h"
#include "wording/wording.h"

#define PATH_COLUMNS 48

/* ---- paths ---- */

/* The bytes of a name in quotation marks, as in JSON, with both of them */
static size_t
quoted_length(const char *field)
{
	const char *p = field + 1;

	while (*p != '\0' && *p != '"')
		p += *p == '\\' && p[1] != '\0' ? 2 : 1;
	return p - field + (*p == '"' ? 1 : 0);
}

/* The names of a path: "items", "data", "0", "price", "id" */
List *
path_parts(const char *field)
{
	List *parts = NIL;

	while (*field != '\0')
	{
		bool quoted = *field == '"';
		size_t length = quoted ? quoted_length(field) : strcspn(field, ".");

		if (length > (quoted ? 2 : 0))
			parts = lappend(parts, quoted ? pnstrdup(field + 1, length - 2)
										  : pnstrdup(field, length));
		field += length;
		field += strspn(field, ".");
	}
	return parts;
}

bool
path_is_number(const char *part)
{
	return part[strspn(part, "0123456789")] == '\0';
}

/*
 * Names that a person reads: without "data" and numbers of elements, and without
 * the "id" at the end, which is what its object is known by.
 */
static List *
names_of(List *parts)
{
	List *names = NIL;
	ListCell *cell;

	foreach(cell, parts)
		if (strcmp(lfirst(cell), "data") != 0 && !path_is_number(lfirst(cell)))
			names = lappend(names, lfirst(cell));
	if (list_length(names) > 1 && strcmp(llast(names), "id") == 0)
		names = list_delete_last(names);
	return names;
}

/* "price.unit_amount" for items.data.0.price.unit_amount */
char *
path_words(List *parts)
{
	List *names = names_of(parts);
	int n = list_length(names);

	if (n == 0)
		return words_plain(llast(parts), PATH_COLUMNS);
	if (n == 1)
		return words_plain(llast(names), PATH_COLUMNS);
	return words_plain(psprintf("%s.%s", (char *) list_nth(names, n - 2),
								(char *) list_nth(names, n - 1)),
					   PATH_COLUMNS);
}

/* ---- ranks ---- */

typedef struct RankedName
{
	const char *name;
	FieldRank rank;
} RankedName;

static const RankedName ranked[] = {
	{"status", RANK_STATUS},
	{"state", RANK_STATUS},
	{"active", RANK_HEADLINE},
	{"attempt_count", RANK_HEADLINE},
	{"cancel_at", RANK_HEADLINE},
	{"cancel_at_period_end", RANK_HEADLINE},
	{"captured", RANK_HEADLINE},
	{"customer", RANK_HEADLINE},
	{"deleted", RANK_HEADLINE},
	{"delinquent", RANK_HEADLINE},
	{"disputed", RANK_HEADLINE},
	{"email", RANK_HEADLINE},
	{"failure_code", RANK_HEADLINE},
	{"failure_message", RANK_HEADLINE},
	{"name", RANK_HEADLINE},
	{"next_payment_attempt", RANK_HEADLINE},
	{"paid", RANK_HEADLINE},
	{"plan", RANK_HEADLINE},
	{"price", RANK_HEADLINE},
	{"quantity", RANK_HEADLINE},
	{"reason", RANK_HEADLINE},
	{"refunded", RANK_HEADLINE},
	{"subscription", RANK_HEADLINE},
	{"attempted", RANK_DETAIL},
	{"auto_advance", RANK_DETAIL},
	{"automatic_tax", RANK_DETAIL},
	{"balance_transaction", RANK_DETAIL},
	{"effective_at", RANK_DETAIL},
	{"ending_balance", RANK_DETAIL},
	{"payment_settings", RANK_DETAIL},
	{"starting_balance", RANK_DETAIL},
	{"status_transitions", RANK_DETAIL},
	{"updated", RANK_DETAIL},
	{"webhooks_delivered_at", RANK_DETAIL},
	{"livemode", RANK_HIDDEN},
	{"object", RANK_HIDDEN},
};

static FieldRank
rank_of_name(const char *name)
{
	if (value_is_secret(name))
		return RANK_HIDDEN;
	for (int i = 0; i < lengthof(ranked); i++)
		if (strcmp(name, ranked[i].name) == 0)
			return ranked[i].rank;
	/* unit_amount_decimal is beside unit_amount */
	if (value_is_link(name) || strstr(name, "_decimal") != NULL)
		return RANK_DETAIL;
	return value_is_money(name) ? RANK_MONEY : RANK_OTHER;
}

/* Is this the price, its amount, or the quantity of a subscription's item? */
static bool
is_of_item(List *names)
{
	const char *name = llast(names);
	const char *holder = list_nth(names, list_length(names) - 2);

	if (strcmp(holder, "price") == 0 || strcmp(holder, "plan") == 0)
		return strcmp(name, "unit_amount") == 0 || strcmp(name, "amount") == 0;
	return strcmp(holder, "items") == 0 &&
		   (strcmp(name, "price") == 0 || strcmp(name, "plan") == 0 ||
			strcmp(name, "quantity") == 0);
}

/* Below a price or plan, whose id says it */
static bool
is_below_price(List *names)
{
	const char *holder = list_nth(names, list_length(names) - 2);

	return strcmp(holder, "price") == 0 || strcmp(holder, "plan") == 0 ||
		   strcmp(holder, "recurring") == 0;
}

/*
 * How much a field says.  One below another is told after the object's own, and
 * matters no more than what is above it.
 */
FieldRank
path_rank(List *parts)
{
	List *names = names_of(parts);
	FieldRank rank = RANK_STATUS;
	ListCell *cell;

	foreach(cell, parts)
		if (rank_of_name(lfirst(cell)) >= RANK_DETAIL)
			rank = Max(rank, rank_of_name(lfirst(cell)));
	/* keys of metadata are the user's own names */
	if (rank > RANK_STATUS || strcmp(linitial(parts), "metadata") == 0)
		return Max(rank, RANK_OTHER);
	if (list_length(names) < 2)
		return rank_of_name(names == NIL ? llast(parts) : llast(names));
	if (is_of_item(names))
		return RANK_HEADLINE;
	return is_below_price(names) ? RANK_DETAIL : RANK_OTHER;
}
