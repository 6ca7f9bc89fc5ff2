/*
 * json_compare.c
 *		Compares snapshots of an object, and applies previous_attributes to them.
 *
 * An update event has the previous values of what was changed in
 * previous_attributes: of nested objects only the changed fields, of arrays the
 * whole, and null for a field that was absent.  So null and absent are equal here.
 *
 * If "after" with the values of previous_attributes equals "before", then "after"
 * is the snapshot that directly follows "before".
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

#include "base/base.h"

typedef struct KeyWalk
{
	JsonbIterator *iterator;
	JsonbValue key;
	JsonbValue value;
} KeyWalk;

static void
walk_begin(KeyWalk *walk, JsonbContainer *object)
{
	walk->iterator = JsonbIteratorInit(object);
	(void) JsonbIteratorNext(&walk->iterator, &walk->key, true);
}

static bool
walk_next(KeyWalk *walk)
{
	if (JsonbIteratorNext(&walk->iterator, &walk->key, true) != WJB_KEY)
		return false;
	(void) JsonbIteratorNext(&walk->iterator, &walk->value, true);
	return true;
}

static JsonbValue *
walk_find(const KeyWalk *walk, JsonbContainer *other, JsonbValue *value)
{
	return getKeyJsonValueFromContainer(other, walk->key.val.string.val,
										walk->key.val.string.len, value);
}

/* Does b have the same value for every key of a? */
static bool
object_within(JsonbContainer *a, JsonbContainer *b)
{
	KeyWalk walk;
	JsonbValue other;

	walk_begin(&walk, a);
	while (walk_next(&walk))
	{
		if (walk.value.type == jbvNull)
		{
			if (walk_find(&walk, b, &other) && other.type != jbvNull)
				return false;
		}
		else if (!walk_find(&walk, b, &other) ||
				 !json_value_same(&walk.value, &other))
			return false;
	}
	return true;
}

static bool
array_same(JsonbContainer *a, JsonbContainer *b)
{
	uint32 count = JsonContainerSize(a);

	if (count != JsonContainerSize(b))
		return false;
	for (uint32 i = 0; i < count; i++)
		if (!json_value_same(getIthJsonbValueFromContainer(a, i),
							 getIthJsonbValueFromContainer(b, i)))
			return false;
	return true;
}

/* Does b have every key of a whose value is not null? */
static bool
keys_within(JsonbContainer *a, JsonbContainer *b)
{
	KeyWalk walk;
	JsonbValue ignored;

	walk_begin(&walk, a);
	while (walk_next(&walk))
		if (walk.value.type != jbvNull && !walk_find(&walk, b, &ignored))
			return false;
	return true;
}

/*
 * Are two objects or arrays equal?  Values are compared in one direction only:
 * both would double the time with each level of nesting.
 */
bool
json_same(JsonbContainer *a, JsonbContainer *b)
{
	check_stack_depth();
	if (a == b)
		return true;
	if (JsonContainerIsObject(a) != JsonContainerIsObject(b))
		return false;
	if (!JsonContainerIsObject(a))
		return array_same(a, b);
	return object_within(a, b) && keys_within(b, a);
}

bool
json_value_same(const JsonbValue *a, const JsonbValue *b)
{
	if (a->type != b->type)
		return false;
	switch (a->type)
	{
		case jbvNull:
			return true;
		case jbvString:
			return a->val.string.len == b->val.string.len &&
				   memcmp(a->val.string.val, b->val.string.val,
						  a->val.string.len) == 0;
		case jbvNumeric:
			return DatumGetBool(
				DirectFunctionCall2(numeric_eq, NumericGetDatum(a->val.numeric),
									NumericGetDatum(b->val.numeric)));
		case jbvBool:
			return a->val.boolean == b->val.boolean;
		case jbvBinary:
			return json_same(a->val.binary.data, b->val.binary.data);
		default:
			return false;
	}
}

/* Does "before" have the values of "previous"?  Other fields are ignored. */
bool
json_describes(JsonbContainer *previous, JsonbContainer *before)
{
	KeyWalk walk;
	JsonbValue other;

	check_stack_depth();
	walk_begin(&walk, previous);
	while (walk_next(&walk))
	{
		bool found = walk_find(&walk, before, &other) != NULL;

		if (walk.value.type == jbvNull)
		{
			if (found && other.type != jbvNull)
				return false;
		}
		else if (!found)
			return false;
		else if (json_is_object(&walk.value) && json_is_object(&other))
		{
			if (!json_describes(walk.value.val.binary.data,
								other.val.binary.data))
				return false;
		}
		else if (!json_value_same(&walk.value, &other))
			return false;
	}
	return true;
}

/* Is every field of "before" in "previous" or in "after"? */
static bool
nothing_lost(JsonbContainer *after, JsonbContainer *previous,
			 JsonbContainer *before)
{
	KeyWalk walk;
	JsonbValue ignored;

	walk_begin(&walk, before);
	while (walk_next(&walk))
		if (walk.value.type != jbvNull && !walk_find(&walk, previous, &ignored) &&
			!walk_find(&walk, after, &ignored))
			return false;
	return true;
}

/* Does "before" have the same values for fields of "after" not in "previous"? */
static bool
rest_same(JsonbContainer *after, JsonbContainer *previous,
		  JsonbContainer *before)
{
	KeyWalk walk;
	JsonbValue old;
	JsonbValue other;

	walk_begin(&walk, after);
	while (walk_next(&walk))
	{
		bool named = walk_find(&walk, previous, &old) != NULL;
		bool found = walk_find(&walk, before, &other) != NULL;

		if (named && !(json_is_object(&old) && json_is_object(&walk.value)))
			continue;
		if (walk.value.type == jbvNull && !found)
			continue;
		if (!found)
			return false;
		if (named)
		{
			if (!json_is_object(&other) ||
				!nothing_lost(walk.value.val.binary.data, old.val.binary.data,
							  other.val.binary.data) ||
				!rest_same(walk.value.val.binary.data, old.val.binary.data,
						   other.val.binary.data))
				return false;
		}
		else if (!json_value_same(&walk.value, &other))
			return false;
	}
	return true;
}

/* Is "before" equal to "after" with the values of "previous" set in it? */
bool
json_overlay_same(JsonbContainer *after, JsonbContainer *previous,
				  JsonbContainer *before)
{
	return json_describes(previous, before) &&
		   rest_same(after, previous, before) &&
		   nothing_lost(after, previous, before);
}
