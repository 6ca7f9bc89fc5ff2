/*
 * changes.c
 *		What an event changed, in words: "status draft → open, attempt_count 0 → 1".
 *
 * The fields that say most come first, and the rest is counted.
 */
#include "postgres.h"

#include "base/base.h"
#include "history/history.h"
#include "trace/internal.h"

#define MOST_CHANGES 5 /* fields that are named */
#define PATH_COLUMNS 48

/* How much a field says; within a rank the order is that of the changes. */
typedef enum ChangeRank
{
	RANK_STATUS,
	RANK_MONEY,
	RANK_HEADLINE, /* what a person would ask for next */
	RANK_OTHER,
	RANK_DETAIL, /* follows from the others, or is for programs */
	RANK_HIDDEN
} ChangeRank;

typedef struct ChangeWords
{
	ChangeRank rank;
	char *words;
} ChangeWords;

/* The object that changed */
typedef struct ChangedObject
{
	const CatalogType *type; /* or NULL */
	JsonbContainer *object;	 /* as it is since, or NULL */
	bool first;				 /* all of it is new */
} ChangedObject;

/* The parts of a path: "items", "data", "0", "price" */
static List *
path_parts(const char *field)
{
	List *parts = NIL;

	while (*field != '\0')
	{
		size_t length = strcspn(field, ".[]");

		if (length > 0)
			parts = lappend(parts, pnstrdup(field, length));
		field += length;
		field += strspn(field, ".[]");
	}
	return parts;
}

static bool
is_number(const char *part)
{
	return part[strspn(part, "0123456789")] == '\0';
}

/* The element of an array that a part of a path names: by number, or by id */
static bool
array_element(JsonbContainer *array, const char *part, JsonbValue *value)
{
	uint32 size = JsonContainerSize(array);

	for (uint32 i = 0; i < size; i++)
	{
		JsonbValue *element = getIthJsonbValueFromContainer(array, i);
		char *id = json_is_object(element)
					   ? json_get_string(element->val.binary.data, "id")
					   : NULL;

		if (id != NULL && strcmp(id, part) == 0)
		{
			*value = *element;
			return true;
		}
	}
	if (!is_number(part) || strlen(part) > 6 || atoi(part) >= size)
		return false;
	*value = *getIthJsonbValueFromContainer(array, atoi(part));
	return true;
}

/*
 * The currency of the object around a field: the nearest of those that enclose
 * it, as far as they still exist.  NULL if none says one.
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

/* A field and what is below it have the rank of its first name that has one. */
static ChangeRank
rank_of_name(const char *name)
{
	static const struct
	{
		const char *name;
		ChangeRank rank;
	} ranks[] = {
		{"status", RANK_STATUS},
		{"state", RANK_STATUS},
		{"paid", RANK_HEADLINE},
		{"refunded", RANK_HEADLINE},
		{"disputed", RANK_HEADLINE},
		{"deleted", RANK_HEADLINE},
		{"active", RANK_HEADLINE},
		{"captured", RANK_HEADLINE},
		{"price", RANK_HEADLINE},
		{"plan", RANK_HEADLINE},
		{"quantity", RANK_HEADLINE},
		{"customer", RANK_HEADLINE},
		{"subscription", RANK_HEADLINE},
		{"reason", RANK_HEADLINE},
		{"cancel_at", RANK_HEADLINE},
		{"cancel_at_period_end", RANK_HEADLINE},
		{"attempt_count", RANK_HEADLINE},
		{"next_payment_attempt", RANK_HEADLINE},
		{"failure_code", RANK_HEADLINE},
		{"failure_message", RANK_HEADLINE},
		{"name", RANK_HEADLINE},
		{"email", RANK_HEADLINE},
		{"object", RANK_HIDDEN},
		{"livemode", RANK_HIDDEN},
		{"status_transitions", RANK_DETAIL},
		{"automatic_tax", RANK_DETAIL},
		{"payment_settings", RANK_DETAIL},
		{"webhooks_delivered_at", RANK_DETAIL},
		{"effective_at", RANK_DETAIL},
		{"updated", RANK_DETAIL},
		{"attempted", RANK_DETAIL},
		{"auto_advance", RANK_DETAIL},
		{"starting_balance", RANK_DETAIL},
		{"ending_balance", RANK_DETAIL},
		{"balance_transaction", RANK_DETAIL},
	};

	if (value_is_secret(name))
		return RANK_HIDDEN;
	for (int i = 0; i < lengthof(ranks); i++)
		if (strcmp(name, ranks[i].name) == 0)
			return ranks[i].rank;
	if (value_is_link(name))
		return RANK_DETAIL;
	return value_is_money(name) ? RANK_MONEY : RANK_OTHER;
}

/* The rank of the last name, unless one before it says that it matters less. */
static ChangeRank
rank_of_path(List *parts)
{
	ChangeRank rank = rank_of_name(llast(parts));
	ListCell *cell;

	/* metadata are the user's own names */
	if (strcmp(linitial(parts), "metadata") == 0)
		return rank == RANK_HIDDEN ? rank : RANK_OTHER;
	foreach(cell, parts)
		if (rank_of_name(lfirst(cell)) >= RANK_DETAIL)
			rank = Max(rank, rank_of_name(lfirst(cell)));
	if (list_length(parts) > 1 && rank < RANK_OTHER)
		rank = RANK_OTHER;
	return rank;
}

/* "price.unit_amount" for items.data.0.price.unit_amount */
static char *
path_words(List *parts)
{
	List *shown = NIL;
	ListCell *cell;
	char *name;

	foreach(cell, parts)
		if (strcmp(lfirst(cell), "data") != 0 && !is_number(lfirst(cell)))
			shown = lappend(shown, lfirst(cell));
	if (shown == NIL)
		return words_plain(llast(parts), PATH_COLUMNS);
	name = llast(shown);
	if (list_length(shown) > 1)
		name = psprintf("%s.%s",
						(char *) list_nth(shown, list_length(shown) - 2), name);
	return words_plain(name, PATH_COLUMNS);
}

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
change_words(const ChangedObject *changed, List *parts, FieldChange *change)
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

/* NULL: it must not be shown, or says nothing. */
static ChangeWords *
read_change(const ChangedObject *changed, FieldChange *change)
{
	List *parts = path_parts(change->field);
	ChangeWords *result;
	ChangeRank rank;

	if (parts == NIL)
		return NULL;
	rank = rank_of_path(parts);
	if (rank == RANK_HIDDEN ||
		(changed->first &&
		 (rank > RANK_HEADLINE || value_is_empty(root_of(change->after)))))
		return NULL;
	result = palloc(sizeof(ChangeWords));
	result->rank = rank;
	result->words = change_words(changed, parts, change);
	return result;
}

/* list_sort() isn't stable; the number of a change is its place in the list. */
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
 * The changes (of FieldChange) of an object of that type, which may be NULL.  Of
 * an object that is new only what matters most is told.  "" if nothing is.
 */
char *
changes_words(List *changes, const CatalogType *type, JsonbContainer *object,
			  bool first)
{
	ChangedObject changed = {type, object, first};
	List *read = NIL;
	StringInfoData out;
	ListCell *cell;
	int told = 0;

	foreach(cell, changes)
	{
		ChangeWords *words = read_change(&changed, lfirst(cell));

		if (words != NULL)
			read = lappend(read, words);
	}
	initStringInfo(&out);
	foreach(cell, by_rank(read))
	{
		if (told == MOST_CHANGES)
			break;
		appendStringInfo(&out, "%s%s", told++ == 0 ? "" : ", ",
						 ((ChangeWords *) lfirst(cell))->words);
	}
	if (list_length(read) > told && !first)
		appendStringInfo(&out, ", and %d more", list_length(read) - told);
	return out.data;
}

/* ---- of an event ---- */

/* The fields that the event's previous_attributes name */
static List *
previous_changes(Event *event)
{
	JsonbIterator *iterator = JsonbIteratorInit(event->previous);
	JsonbIteratorToken token;
	JsonbValue key;
	List *changes = NIL;

	while ((token = JsonbIteratorNext(&iterator, &key, true)) != WJB_DONE)
	{
		FieldChange *change;
		JsonbValue before;
		JsonbValue after;

		if (token != WJB_KEY)
			continue;
		change = palloc0(sizeof(FieldChange));
		change->field = pnstrdup(key.val.string.val, key.val.string.len);
		if (json_get(event->previous, change->field, &before))
			change->before = JsonbValueToJsonb(&before);
		if (json_get(event->object, change->field, &after))
			change->after = JsonbValueToJsonb(&after);
		changes = lappend(changes, change);
	}
	return changes;
}

char *
trace_change_words(Event *event)
{
	if (event->object == NULL || event->previous == NULL)
		return pstrdup("");
	return changes_words(previous_changes(event), event->catalog, event->object,
						 false);
}
