/*
 * changes.c
 *		Changes in words: "status draft → open, attempt_count 0 → 1".
 *
 * The fields that say most come first, and the rest is counted.
 */
#include "postgres.h"

#include "base/base.h"
#include "history/history.h"
#include "wording/wording.h"

#define MOST_CHANGES 5 /* fields that are named */

typedef struct ChangeWords
{
	FieldRank rank;
	char *words;
} ChangeWords;

/* The object that changed */
typedef struct ChangedObject
{
	const CatalogType *type; /* or NULL */
	JsonbContainer *object;	 /* as it is since, or NULL */
	bool is_new;
	bool has_price; /* a price changed, of which a plan is the older form */
	List *amounts;	/* of a new object, those that are told */
} ChangedObject;

/* ---- the currency around a field ---- */

/* The element of an array that a part of a path names by its number */
static bool
array_element(JsonbContainer *array, const char *part, JsonbValue *value)
{
	if (!path_is_number(part) || strlen(part) > 6 ||
		atoi(part) >= JsonContainerSize(array))
		return false;
	*value = *getIthJsonbValueFromContainer(array, atoi(part));
	return true;
}

/*
 * The currency of the nearest object around a field that has one, as far as they
 * still exist; NULL if none has.
 */
static char *
currency_of(JsonbContainer *object, List *parts)
{
	char *currency = NULL;
	ListCell *cell;

	foreach(cell, parts)
	{
		JsonbValue value;
		char *own;

		if (object == NULL)
			break;
		own = JsonContainerIsObject(object) ? json_get_string(object, "currency")
											: NULL;
		if (own != NULL)
			currency = own;
		if (JsonContainerIsArray(object)
				? !array_element(object, lfirst(cell), &value)
				: !json_get(object, lfirst(cell), &value))
			break;
		object = value.type == jbvBinary ? value.val.binary.data : NULL;
	}
	return currency;
}

/* ---- words ---- */

static JsonbValue *
root_of(Jsonb *jsonb)
{
	JsonbValue *value;

	if (jsonb == NULL)
		return NULL;
	if (JB_ROOT_IS_SCALAR(jsonb))
		return getIthJsonbValueFromContainer(&jsonb->root, 0);
	value = palloc0(sizeof(JsonbValue));
	value->type = jbvBinary;
	value->val.binary.data = &jsonb->root;
	value->val.binary.len = VARSIZE(jsonb) - VARHDRSZ;
	return value;
}

/* "attempt_count 0 → 1", "payment_intent pi_1", "discounts changed" */
static char *
change_words(ChangedObject *changed, List *parts, FieldChange *change)
{
	const CatalogField *field = changed->type != NULL && list_length(parts) == 1
									? catalog_field(changed->type,
													linitial(parts))
									: NULL;
	const char *name = llast(parts);
	char *currency = currency_of(changed->object, parts);
	char *after = value_words(name, field, currency, root_of(change->after));
	char *before;

	if (change->before == NULL)
		return psprintf("%s %s", path_words(parts), after);
	before = value_words(name, field, currency, root_of(change->before));
	if (strcmp(before, after) == 0)
		return psprintf("%s changed", path_words(parts));
	return psprintf("%s %s → %s", path_words(parts), before, after);
}

static bool
has_text(List *texts, const char *text)
{
	ListCell *cell;

	foreach(cell, texts)
		if (strcmp(lfirst(cell), text) == 0)
			return true;
	return false;
}

/*
 * Of a new object what matters is told, but its customer, and of its amounts those
 * that differ: the same one is often subtotal, total, due, and remaining.
 */
static bool
is_told_of_new(ChangedObject *changed, List *parts, const JsonbValue *value)
{
	FieldRank rank = path_rank(parts);
	int64 amount;
	char *told;

	if (rank > RANK_HEADLINE || value_is_empty(value) ||
		value->type == jbvBinary || strcmp(llast(parts), "customer") == 0)
		return false;
	if (rank != RANK_MONEY || !json_to_int64(value, &amount))
		return true;
	told = psprintf(INT64_FORMAT, amount);
	if (has_text(changed->amounts, told))
		return false;
	changed->amounts = lappend(changed->amounts, told);
	return true;
}

/* NULL: it must not be shown, or says nothing. */
static ChangeWords *
read_change(ChangedObject *changed, FieldChange *change)
{
	List *parts = path_parts(change->field);
	ChangeWords *result;
	FieldRank rank;

	if (parts == NIL || (rank = path_rank(parts)) == RANK_HIDDEN)
		return NULL;
	if (changed->is_new &&
		!is_told_of_new(changed, parts, root_of(change->after)))
		return NULL;
	if (changed->has_price && has_text(parts, "plan"))
		rank = RANK_DETAIL;
	result = palloc(sizeof(ChangeWords));
	result->rank = rank;
	result->words = change_words(changed, parts, change);
	return result;
}

/* By rank, and within a rank in the order of the list */
static List *
by_rank(List *changes)
{
	List *sorted = NIL;
	ListCell *cell;

	for (int rank = RANK_STATUS; rank < RANK_HIDDEN; rank++)
		foreach(cell, changes)
			if (((ChangeWords *) lfirst(cell))->rank == rank)
				sorted = lappend(sorted, lfirst(cell));
	return sorted;
}

/*
 * The first of them, and the number of the rest, which is "and 7 more".  Details
 * are only told if nothing else changed.
 */
static char *
join(List *changes, bool counts_rest)
{
	FieldRank last = RANK_OTHER;
	StringInfoData out;
	ListCell *cell;
	int told = 0;

	initStringInfo(&out);
	foreach(cell, changes)
	{
		ChangeWords *change = lfirst(cell);

		if (told == 0)
			last = Max(last, change->rank);
		if (told == MOST_CHANGES || change->rank > last)
			break;
		appendStringInfo(&out, "%s%s", told++ == 0 ? "" : ", ", change->words);
	}
	if (counts_rest && list_length(changes) > told)
		appendStringInfo(&out, ", and %d more", list_length(changes) - told);
	return out.data;
}

/* Does a price other than a plan change? */
static bool
names_price(List *changes)
{
	ListCell *cell;

	foreach(cell, changes)
		if (has_text(path_parts(((FieldChange *) lfirst(cell))->field), "price"))
			return true;
	return false;
}

/*
 * The changes, of FieldChange, of an object.  Of a new one only what matters is
 * told; "object" is its state since, "type" may be NULL.
 */
char *
changes_words(List *changes, const CatalogType *type, JsonbContainer *object,
			  bool is_new)
{
	ChangedObject changed = {.type = type,
							 .object = object,
							 .is_new = is_new,
							 .has_price = names_price(changes)};
	List *read = NIL;
	ListCell *cell;

	foreach(cell, changes)
	{
		ChangeWords *words = read_change(&changed, lfirst(cell));

		if (words != NULL)
			read = lappend(read, words);
	}
	return join(by_rank(read), !is_new);
}
