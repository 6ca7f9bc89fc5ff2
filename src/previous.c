/*
 * previous.c
 *		previous_attributes of an update, as Stripe makes them: the old values
 *		of what has changed, partial in nested hashes, whole for arrays, null
 *		for what was absent.  describe.c reads them.
 */
#include "simulate.h"

static void push_difference(JsonbInState *state, JsonbContainer *before,
							JsonbContainer *after);

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

/* What was there: has it another value now? */
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

/* What was not there, and is something now. */
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

/* {} when nothing has. */
Jsonb *
json_previous(JsonbContainer *before, JsonbContainer *after)
{
	JsonbInState state = {0};

	push_difference(&state, before, after);
	return JsonbValueToJsonb(state.result);
}
