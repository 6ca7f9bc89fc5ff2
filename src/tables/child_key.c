/*
 * child_key.c
 *		Unique keys of the children of one page.
 *
 * A child's row is found by its id.  Two kinds of ids are not unique:
 *
 * - Ids of an invoice's lines in older API versions.  Before 2018-05-21 a
 *	 subscription's line had the subscription's id, on each of its invoices, and
 *	 an invoice item's line the item's; until 2019-12-03 two lines of one invoice
 *	 could have the same "sli_...".  Later responses of those versions have a
 *	 "unique_id", which is the id in today's versions: it is used.  Without it
 *	 the id is made unique with the invoice's: "in_1/sub_1".
 * - An id that a page has twice, whatever the type: the second becomes
 *	 "<parent>/<id>/2".  Two elements of a page are never one row.
 *
 * Such lines do not name their invoice either: it is added to what the mirror
 * stores, so that they are swept when a later page leaves them out.
 */
#include "postgres.h"

#include "base/base.h"
#include "base/compat.h"
#include "base/json_push.h"
#include "tables/tables.h"
#include "types/object.h"
#include "types/types.h"

#define LINE "line_item"

/* The type of an object; NULL if it is not in the catalog. */
const CatalogType *
child_type(JsonbContainer *object)
{
	JsonbValue value;

	if (!json_get(object, "object", &value) || value.type != jbvString)
		return NULL;
	return catalog_find(value.val.string.val, value.val.string.len);
}

/* ---- ids ---- */

static bool
starts_with(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* Is it the id of a line that belongs to another object, or is not unique? */
static bool
is_old_line_id(const char *id)
{
	static const char *const prefixes[] = {"sub_", "su_", "ii_", "sli_"};

	for (int i = 0; i < lengthof(prefixes); i++)
		if (starts_with(id, prefixes[i]))
			return true;
	return false;
}

/* The id made unique with its parent's id, if it is not already. */
static char *
below(const char *parent_id, const char *id)
{
	char *prefix = psprintf("%s/", parent_id);

	if (parent_id[0] == '\0' || starts_with(id, prefix))
		return pstrdup(id);
	return psprintf("%s%s", prefix, id);
}

/* The key of an invoice's line; NULL if it has none. */
static char *
line_key(JsonbContainer *line, const char *parent_id)
{
	char *unique = json_get_string(line, "unique_id");
	char *id = json_get_string(line, "id");

	if (unique != NULL && unique[0] != '\0')
		return unique;
	if (id == NULL || !is_old_line_id(id))
		return id;
	return parent_id[0] == '\0' ? NULL : below(parent_id, id);
}

static bool
is_taken(const ChildKeys *keys, const CatalogType *type, const char *id)
{
	ListCell *cell;

	foreach(cell, keys->taken)
	{
		const PageChild *child = lfirst(cell);

		if (child->type == type && strcmp(child->id, id) == 0)
			return true;
	}
	return false;
}

/*
 * The id itself, or the first that is not taken among those made with the
 * parent's id.
 */
static char *
free_key(const ChildKeys *keys, const CatalogType *type, char *id)
{
	char *base = id;

	for (int n = 2; is_taken(keys, type, id); n++)
		id = psprintf("%s/%d", below(keys->parent_id, base), n);
	return id;
}

/* ---- stored content ---- */

static bool
says(JsonbContainer *object, const char *field)
{
	JsonbValue value;

	return json_get(object, field, &value) && value.type != jbvNull;
}

/* A copy of an object with one more field, or another value of it. */
static JsonbContainer *
with_field(JsonbContainer *object, const char *field, const char *text)
{
	JsonbInState state = {0};
	JsonbIterator *iterator = JsonbIteratorInit(object);
	JsonbValue value;

	(void) JsonbIteratorNext(&iterator, &value, true);
	compat_push_jsonb(&state, WJB_BEGIN_OBJECT, NULL);
	while (JsonbIteratorNext(&iterator, &value, true) == WJB_KEY)
	{
		compat_push_jsonb(&state, WJB_KEY, &value);
		(void) JsonbIteratorNext(&iterator, &value, true);
		compat_push_jsonb(&state, WJB_VALUE, &value);
	}
	json_push_string(&state, WJB_KEY, field);
	json_push_string(&state, WJB_VALUE, text);
	compat_push_jsonb(&state, WJB_END_OBJECT, NULL);
	return &JsonbValueToJsonb(state.result)->root;
}

/*
 * The content that the mirror stores for a child: a line with its invoice, and
 * with the subscription whose id it has.
 */
JsonbContainer *
child_content(const CatalogType *type, JsonbContainer *line,
			  const char *parent_id)
{
	char *id;

	if (strcmp(type->object, LINE) != 0)
		return line;
	id = json_get_string(line, "id");
	if (parent_id[0] != '\0' && !says(line, "invoice"))
		line = with_field(line, "invoice", parent_id);
	if (id != NULL && starts_with(id, "sub_") && strchr(id, '/') == NULL &&
		!says(line, "subscription"))
		line = with_field(line, "subscription", id);
	return line;
}

/*
 * Take the next element of a page; all elements must be taken, in their order.
 * Returns false for an element that has no row.
 */
bool
child_take(ChildKeys *keys, JsonbContainer *element, PageChild *child)
{
	const CatalogType *type = child_type(element);
	PageChild *taken;
	char *id;

	if (type == NULL || type->table == NULL)
		return false;
	id = strcmp(type->object, LINE) == 0 ? line_key(element, keys->parent_id)
										 : object_key(type, element);
	if (id == NULL || id[0] == '\0')
		return false;
	taken = palloc(sizeof(PageChild));
	taken->type = type;
	taken->id = free_key(keys, type, id);
	taken->object = element;
	keys->taken = lappend(keys->taken, taken);
	*child = *taken;
	return true;
}

/* All children of a page that object_page() has found, of PageChild. */
List *
child_list(const char *parent_id, JsonbContainer *page)
{
	ChildKeys keys = {parent_id, NIL};
	PageChild child;
	JsonbValue data;

	if (!json_get(page, "data", &data) || data.type != jbvBinary)
		return NIL;
	for (uint32 i = 0; i < JsonContainerSize(data.val.binary.data); i++)
	{
		JsonbValue *element = getIthJsonbValueFromContainer(
			data.val.binary.data, i);

		if (json_is_object(element))
			(void) child_take(&keys, element->val.binary.data, &child);
	}
	return keys.taken;
}

/* Does a page list the child? */
bool
child_is_listed(const char *parent_id, JsonbContainer *page, const char *type,
				const char *id)
{
	ListCell *cell;

	foreach(cell, child_list(parent_id, page))
	{
		const PageChild *child = lfirst(cell);

		if (strcmp(child->type->object, type) == 0 && strcmp(child->id, id) == 0)
			return true;
	}
	return false;
}
