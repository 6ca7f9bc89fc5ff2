/*
 * difference.c
 *		The fields in which two states of an object differ.
 *
 * Nested objects are compared field by field, arrays as a whole, as Stripe's
 * previous_attributes do.  A field's path has dots; a name that is not plain
 * (keys of metadata are free text) is quoted as in JSON.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/json.h"

#include "base/base.h"
#include "history/internal.h"

typedef struct Comparison
{
	bool exact; /* null is not absent */
	List *changes;
} Comparison;

/* ---- paths ---- */

static bool
is_plain(const char *name, int length)
{
	for (int i = 0; i < length; i++)
		if (!isalnum((unsigned char) name[i]) && name[i] != '_' && name[i] != '-')
			return false;
	return length > 0;
}

/* The path of a field of the object at the path "parent", "" for the root. */
static char *
field_path(const char *parent, const JsonbValue *key)
{
	StringInfoData path;
	int length = key->val.string.len;

	initStringInfo(&path);
	appendStringInfoString(&path, parent);
	if (path.len > 0)
		appendStringInfoChar(&path, '.');
	if (is_plain(key->val.string.val, length))
		appendBinaryStringInfo(&path, key->val.string.val, length);
	else
		escape_json(&path, pnstrdup(key->val.string.val, length));
	return path.data;
}

/* ---- comparing ---- */

static Jsonb *
to_jsonb(JsonbValue *value)
{
	return value == NULL ? NULL : JsonbValueToJsonb(value);
}

static void
add_change(Comparison *comparison, char *field, JsonbValue *before,
		   JsonbValue *after)
{
	FieldChange *change = palloc(sizeof(FieldChange));

	change->field = field;
	change->before = to_jsonb(before);
	change->after = to_jsonb(after);
	comparison->changes = lappend(comparison->changes, change);
}

static bool
is_nothing(const JsonbValue *value)
{
	return value == NULL || value->type == jbvNull;
}

static JsonbContainer *
object_of(const JsonbValue *value)
{
	return value != NULL && json_is_object(value) ? value->val.binary.data
												  : NULL;
}

static bool
same_value(const Comparison *comparison, const JsonbValue *before,
		   const JsonbValue *after)
{
	if (is_nothing(before) && is_nothing(after))
		return !comparison->exact || (before == NULL) == (after == NULL);
	if (before == NULL || after == NULL)
		return false;
	if (comparison->exact && before->type == jbvBinary &&
		after->type == jbvBinary)
		return compareJsonbContainers(before->val.binary.data,
									  after->val.binary.data) == 0;
	return json_value_same(before, after);
}

static void compare_objects(Comparison *comparison, const char *path,
							JsonbContainer *before, JsonbContainer *after);

/* The stack is checked: the depth of an object is up to its sender. */
static void
compare_values(Comparison *comparison, char *path, JsonbValue *before,
			   JsonbValue *after)
{
	check_stack_depth();
	if (same_value(comparison, before, after))
		return;
	if (object_of(before) != NULL && object_of(after) != NULL)
		compare_objects(comparison, path, object_of(before), object_of(after));
	else
		add_change(comparison, path, before, after);
}

/* Each field of either object, once: jsonb keeps them in one order. */
static void
compare_objects(Comparison *comparison, const char *path,
				JsonbContainer *before, JsonbContainer *after)
{
	JsonbContainer *sides[] = {before, after};
	JsonbValue key;
	JsonbValue value;
	JsonbValue other;

	for (int side = 0; side < 2; side++)
	{
		JsonbIterator *iterator = JsonbIteratorInit(sides[side]);

		(void) JsonbIteratorNext(&iterator, &key, true);
		while (JsonbIteratorNext(&iterator, &key, true) == WJB_KEY)
		{
			JsonbValue *found = getKeyJsonValueFromContainer(
				sides[1 - side], key.val.string.val, key.val.string.len, &other);

			(void) JsonbIteratorNext(&iterator, &value, true);
			if (side == 0)
				compare_values(comparison, field_path(path, &key), &value,
							   found);
			else if (found == NULL)
				compare_values(comparison, field_path(path, &key), NULL, &value);
		}
	}
}

static int
compare_fields(const ListCell *a, const ListCell *b)
{
	return strcmp(((FieldChange *) lfirst(a))->field,
				  ((FieldChange *) lfirst(b))->field);
}

/* Of FieldChange.  "exact": null and absent are not the same. */
List *
difference_between(JsonbContainer *before, JsonbContainer *after, bool exact)
{
	Comparison comparison = {exact, NIL};

	compare_objects(&comparison, "", before, after);
	list_sort(comparison.changes, compare_fields);
	return comparison.changes;
}

/* ---- previous_attributes ---- */

static void
describe_object(Comparison *comparison, const char *path,
				JsonbContainer *previous, JsonbContainer *after)
{
	JsonbIterator *iterator = JsonbIteratorInit(previous);
	JsonbValue key;
	JsonbValue value;
	JsonbValue other;

	check_stack_depth();
	(void) JsonbIteratorNext(&iterator, &key, true);
	while (JsonbIteratorNext(&iterator, &key, true) == WJB_KEY)
	{
		JsonbValue *found = getKeyJsonValueFromContainer(
			after, key.val.string.val, key.val.string.len, &other);
		char *field = field_path(path, &key);

		(void) JsonbIteratorNext(&iterator, &value, true);
		if (same_value(comparison, &value, found))
			continue;
		if (object_of(&value) != NULL && object_of(found) != NULL)
			describe_object(comparison, field, object_of(&value),
							object_of(found));
		else
			add_change(comparison, field, &value, found);
	}
}

/* What previous_attributes say was changed. */
List *
difference_described(JsonbContainer *previous, JsonbContainer *after)
{
	Comparison comparison = {false, NIL};

	describe_object(&comparison, "", previous, after);
	list_sort(comparison.changes, compare_fields);
	return comparison.changes;
}
