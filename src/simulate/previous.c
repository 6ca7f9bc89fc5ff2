/*
 * previous.c
 *		Computes previous_attributes of a simulated update, as Stripe does.
 *
 * They are the old values of the fields that have changed: of a nested object
 * its changed fields only, of an array all of it, null for a field that was
 * absent.  json_compare.c applies them in the other direction.
 */
#include "postgres.h"

#include "base/base.h"
#include "base/compat.h"
#include "simulate/internal.h"

static void push_difference(JsonbInState *state, JsonbContainer *before,
							JsonbContainer *after);

/* The next key and value; nested values are not descended into. */
static bool
next_member(JsonbIterator **iterator, JsonbValue *key, JsonbValue *value)
{
	if (JsonbIteratorNext(iterator, key, true) != WJB_KEY)
		return false;
	(void) JsonbIteratorNext(iterator, value, true);
	return true;
}

static JsonbIterator *
begin_members(JsonbContainer *object)
{
	JsonbIterator *iterator = JsonbIteratorInit(object);
	JsonbValue ignored;

	(void) JsonbIteratorNext(&iterator, &ignored, true);
	return iterator;
}

static JsonbValue *
find_member(JsonbContainer *object, const JsonbValue *key, JsonbValue *value)
{
	return getKeyJsonValueFromContainer(object, key->val.string.val,
										key->val.string.len, value);
}

/* A field that was there: push its old value if it has another one now. */
static void
push_former(JsonbInState *state, JsonbValue *key, JsonbValue *was,
			JsonbContainer *after)
{
	JsonbValue is;

	if (find_member(after, key, &is) == NULL)
		is.type = jbvNull;
	if (json_value_same(was, &is))
		return;
	compat_push_jsonb(state, WJB_KEY, key);
	if (json_is_object(was) && json_is_object(&is))
		push_difference(state, was->val.binary.data, is.val.binary.data);
	else
		compat_push_jsonb(state, WJB_VALUE, was);
}

/* A field that was absent: push null if it has a value now. */
static void
push_absent(JsonbInState *state, JsonbValue *key, const JsonbValue *is,
			JsonbContainer *before)
{
	JsonbValue was;

	if (is->type == jbvNull || find_member(before, key, &was) != NULL)
		return;
	was.type = jbvNull;
	compat_push_jsonb(state, WJB_KEY, key);
	compat_push_jsonb(state, WJB_VALUE, &was);
}

/* The recursion is as deep as the shallower object, at most event.c's limit. */
static void
push_difference(JsonbInState *state, JsonbContainer *before,
				JsonbContainer *after)
{
	JsonbIterator *iterator = begin_members(before);
	JsonbValue key;
	JsonbValue value;

	compat_push_jsonb(state, WJB_BEGIN_OBJECT, NULL);
	while (next_member(&iterator, &key, &value))
		push_former(state, &key, &value, after);
	iterator = begin_members(after);
	while (next_member(&iterator, &key, &value))
		push_absent(state, &key, &value, before);
	compat_push_jsonb(state, WJB_END_OBJECT, NULL);
}

/* previous_attributes for an update of "before" to "after"; {} if equal. */
Jsonb *
json_previous(JsonbContainer *before, JsonbContainer *after)
{
	JsonbInState state = {0};

	push_difference(&state, before, after);
	return JsonbValueToJsonb(state.result);
}
