/*
 * snapshot.c
 *		The rows that one snapshot of an object holds: the object itself, the
 *		children that its pages list, and whole objects embedded anywhere.
 *
 * The list is sorted by (rank of the type, id): the one order in which rows
 * are locked.  Ranks put the parent of a page before its children, so that the
 * own object is decided on before its children are touched.
 */
#include "mirror.h"

#include "miscadmin.h"

typedef struct Collector
{
	const char *account;
	List *rows;
} Collector;

static void collect_value(Collector *into, const JsonbValue *value,
						  RowPart part);

/*
 * The value of a type's key in an object: NULL when it has none.  Types with
 * one object an account have the key "".
 */
char *
snapshot_key(const CatalogType *type, JsonbContainer *object)
{
	JsonbValue value;

	if (type->key == NULL)
		return NULL;
	if (type->key[0] == '\0')
		return pstrdup("");
	if (!json_get(object, type->key, &value))
		return NULL;
	if (json_is_object(&value))
		return json_get_string(value.val.binary.data, "id");
	if (value.type != jbvString)
		return NULL;
	return pnstrdup(value.val.string.val, value.val.string.len);
}

/* Accounts have no account of their own, however they came. */
const char *
snapshot_account(const CatalogType *type, const char *account)
{
	return strcmp(type->object, "account") == 0 ? "" : account;
}

static const CatalogType *
object_type(JsonbContainer *object)
{
	JsonbValue value;

	if (!json_get(object, "object", &value) || value.type != jbvString)
		return NULL;
	return catalog_find(value.val.string.val, value.val.string.len);
}

/* {"id", "object"} is only a pointer, and a deleted one tells nothing. */
static bool
is_whole(JsonbContainer *object)
{
	JsonbValue value;

	return JsonContainerSize(object) > 2 && !json_get(object, "deleted", &value);
}

static void
collect_row(Collector *into, const CatalogType *type, char *id, RowPart part,
			JsonbContainer *object)
{
	SnapshotRow *row = palloc(sizeof(SnapshotRow));

	row->type = type;
	row->id = id;
	row->account = snapshot_account(type, into->account);
	row->part = part;
	row->object = object;
	into->rows = lappend(into->rows, row);
}

static void
collect_object(Collector *into, JsonbContainer *object, RowPart part)
{
	const CatalogType *type = object_type(object);
	JsonbIterator *iterator;
	JsonbValue value;

	if (type != NULL && type->table != NULL && is_whole(object))
	{
		char *id = snapshot_key(type, object);

		if (id != NULL && id[0] != '\0')
			collect_row(into, type, id, part, object);
	}
	iterator = JsonbIteratorInit(object);
	(void) JsonbIteratorNext(&iterator, &value, true);
	while (JsonbIteratorNext(&iterator, &value, true) == WJB_KEY)
	{
		(void) JsonbIteratorNext(&iterator, &value, true);
		collect_value(into, &value, PART_FILL);
	}
}

static void
collect_value(Collector *into, const JsonbValue *value, RowPart part)
{
	JsonbContainer *container;

	check_stack_depth();
	if (value->type != jbvBinary)
		return;
	container = value->val.binary.data;
	if (JsonContainerIsObject(container))
		collect_object(into, container, part);
	else
		for (uint32 i = 0; i < JsonContainerSize(container); i++)
			collect_value(into, getIthJsonbValueFromContainer(container, i),
						  part);
}

/* The elements of a page in the own object are its children. */
static void
collect_field(Collector *into, const JsonbValue *key, const JsonbValue *value,
			  JsonbContainer *object)
{
	char *field = pnstrdup(key->val.string.val, key->val.string.len);
	JsonbContainer *page = snapshot_page(object, field, NULL);
	JsonbValue data;

	if (page != NULL && json_get(page, "data", &data))
		collect_value(into, &data, PART_CHILD);
	else
		collect_value(into, value, PART_FILL);
	pfree(field);
}

/* The order of locks. */
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

/* Of several mentions of one row the weightiest: own, listed, embedded. */
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

/* All rows of an object, the own one included, in the order of locks. */
List *
snapshot_rows(const CatalogType *type, const char *id, const char *account,
			  JsonbContainer *object)
{
	Collector into = {account, NIL};
	JsonbIterator *iterator = JsonbIteratorInit(object);
	JsonbValue key;
	JsonbValue value;

	collect_row(&into, type, pstrdup(id), PART_OWN, object);
	(void) JsonbIteratorNext(&iterator, &key, true);
	while (JsonbIteratorNext(&iterator, &key, true) == WJB_KEY)
	{
		(void) JsonbIteratorNext(&iterator, &value, true);
		if (value.type == jbvBinary)
			collect_field(&into, &key, &value, object);
	}
	return sort_and_unite(into.rows);
}

/*
 * The page in a field of an object, or NULL.  It is complete unless it
 * says that there is more.
 */
JsonbContainer *
snapshot_page(JsonbContainer *object, const char *field, bool *complete)
{
	JsonbContainer *page = json_get_object(object, field);
	JsonbValue value;

	if (page == NULL || !json_get(page, "object", &value) ||
		value.type != jbvString || value.val.string.len != 4 ||
		memcmp(value.val.string.val, "list", 4) != 0 ||
		!json_get(page, "data", &value) || value.type != jbvBinary ||
		!JsonContainerIsArray(value.val.binary.data))
		return NULL;
	if (complete != NULL)
		*complete = !json_get(page, "has_more", &value) ||
					(value.type == jbvBool && !value.val.boolean);
	return page;
}

/* Does a page list the child? */
bool
snapshot_page_lists(JsonbContainer *page, const char *child_type, const char *id)
{
	JsonbValue data;
	JsonbContainer *array;

	if (!json_get(page, "data", &data) || data.type != jbvBinary)
		return false;
	array = data.val.binary.data;
	for (uint32 i = 0; i < JsonContainerSize(array); i++)
	{
		JsonbValue *element = getIthJsonbValueFromContainer(array, i);
		const CatalogType *type;
		char *key;

		if (!json_is_object(element))
			continue;
		type = object_type(element->val.binary.data);
		if (type == NULL || strcmp(type->object, child_type) != 0)
			continue;
		key = snapshot_key(type, element->val.binary.data);
		if (key != NULL && strcmp(key, id) == 0)
			return true;
	}
	return false;
}

static int
compare_places(const ListCell *a, const ListCell *b)
{
	return snapshot_compare(lfirst(a), lfirst(b));
}

/* Put rows in the order of locks. */
void
snapshot_sort(List *rows)
{
	list_sort(rows, compare_places);
}
