/*
 * snapshot.c
 *		The rows of one snapshot of an object: the object itself, the children
 *		that its pages list, and whole objects embedded anywhere in it.
 *
 * The list is in lock order, (rank of the type, id), the one order in which rows
 * are locked.  Ranks put the parent of a page before its children, so that the
 * own row is decided before its children are written.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "base/base.h"
#include "mirror/mirror.h"
#include "tables/tables.h"
#include "types/object.h"
#include "types/types.h"
#include "mirror/internal.h"

typedef struct Collector
{
	const char *account;
	List *rows;
} Collector;

static void collect_value(Collector *into, const JsonbValue *value);

/* Is it more than a reference {"id", "object"}, and not a deleted object? */
static bool
is_whole(JsonbContainer *object)
{
	JsonbValue value;

	return JsonContainerSize(object) > 2 && !json_get(object, "deleted", &value);
}

/* Add a row; "id" and "object" are not copied. */
static void
collect_row(Collector *into, const CatalogType *type, char *id, RowPart part,
			JsonbContainer *object)
{
	SnapshotRow *row = palloc(sizeof(SnapshotRow));

	row->type = type;
	row->id = id;
	row->account = object_account(type, into->account);
	row->part = part;
	row->object = object;
	into->rows = lappend(into->rows, row);
}

static void collect_fields(Collector *into, const char *id,
						   JsonbContainer *object, RowPart listed);

/*
 * An element of a page, and what is embedded in it.  Pages of the element itself
 * list nothing for the mirror: only the object's own pages decide which children
 * it has, so that rows below a child are fills.
 */
static void
collect_listed(Collector *into, ChildKeys *keys, JsonbContainer *element,
			   RowPart part)
{
	PageChild child;
	bool taken = child_take(keys, element, &child);

	if (taken && is_whole(element))
		collect_row(into, child.type, child.id, part,
					child_content(child.type, element, keys->parent_id));
	collect_fields(into, taken ? child.id : "", element, PART_FILL);
}

/* All elements of a page, in their order, which decides their keys. */
static void
collect_page(Collector *into, const char *parent_id, JsonbContainer *page,
			 RowPart part)
{
	ChildKeys keys = {parent_id, NIL};
	JsonbValue data;

	(void) json_get(page, "data", &data);
	for (uint32 i = 0; i < JsonContainerSize(data.val.binary.data); i++)
	{
		JsonbValue *element = getIthJsonbValueFromContainer(
			data.val.binary.data, i);

		if (json_is_object(element))
			collect_listed(into, &keys, element->val.binary.data, part);
		else
			collect_value(into, element);
	}
}

/*
 * Collect what an object contains; "listed" is the part of its pages' elements.
 * Objects of Stripe are nested up to a few levels, but the depth is up to the
 * sender: the stack is checked.
 */
static void
collect_fields(Collector *into, const char *id, JsonbContainer *object,
			   RowPart listed)
{
	JsonbIterator *iterator = JsonbIteratorInit(object);
	JsonbValue value;

	check_stack_depth();
	(void) JsonbIteratorNext(&iterator, &value, true);
	while (JsonbIteratorNext(&iterator, &value, true) == WJB_KEY)
	{
		JsonbContainer *page;

		(void) JsonbIteratorNext(&iterator, &value, true);
		if ((page = object_page_of(&value)) != NULL)
			collect_page(into, id, page, listed);
		else
			collect_value(into, &value);
	}
}

/* An object that is embedded, or expanded. */
static void
collect_object(Collector *into, JsonbContainer *object)
{
	const CatalogType *type = child_type(object);
	char *id = type != NULL && type->table != NULL ? object_key(type, object)
												   : NULL;

	if (id != NULL && id[0] != '\0' && is_whole(object))
		collect_row(into, type, id, PART_FILL, object);
	collect_fields(into, id != NULL ? id : "", object, PART_FILL);
}

static void
collect_value(Collector *into, const JsonbValue *value)
{
	JsonbContainer *container;

	check_stack_depth();
	if (value->type != jbvBinary)
		return;
	container = value->val.binary.data;
	if (JsonContainerIsObject(container))
		collect_object(into, container);
	else
		for (uint32 i = 0; i < JsonContainerSize(container); i++)
			collect_value(into, getIthJsonbValueFromContainer(container, i));
}

/*
 * Compare rows in lock order.  The account is not compared: all rows of one
 * snapshot have the same, and fetched.c compares it afterwards.
 */
int
snapshot_compare(const SnapshotRow *a, const SnapshotRow *b)
{
	if (a->type->rank != b->type->rank)
		return a->type->rank < b->type->rank ? -1 : 1;
	return strcmp(a->id, b->id);
}

static int
compare_rows(const ListCell *a, const ListCell *b)
{
	const SnapshotRow *left = lfirst(a);
	const SnapshotRow *right = lfirst(b);
	int order = snapshot_compare(left, right);

	return order != 0 ? order : (int) left->part - (int) right->part;
}

/*
 * Of several occurrences of one row keep the first of: own, listed, embedded.
 */
static List *
sort_and_unite(List *rows)
{
	List *result = NIL;
	ListCell *cell;

	list_sort(rows, compare_rows);
	foreach(cell, rows)
	{
		if (result == NIL || snapshot_compare(llast(result), lfirst(cell)) != 0)
			result = lappend(result, lfirst(cell));
	}
	return result;
}

/*
 * All rows of an object, its own included, of SnapshotRow, in lock order and each
 * once.  "id" is "" for a singleton or an object without a row of its own, and
 * "account" the account whose event or response contains the object.
 */
List *
snapshot_rows(const CatalogType *type, const char *id, const char *account,
			  JsonbContainer *object)
{
	Collector into = {account, NIL};

	collect_row(&into, type, pstrdup(id), PART_OWN, object);
	collect_fields(&into, id, object, PART_CHILD);
	return sort_and_unite(into.rows);
}

static int
compare_places(const ListCell *a, const ListCell *b)
{
	return snapshot_compare(lfirst(a), lfirst(b));
}

/* Sort rows in lock order; the order of equal ones is undefined. */
void
snapshot_sort(List *rows)
{
	list_sort(rows, compare_places);
}
