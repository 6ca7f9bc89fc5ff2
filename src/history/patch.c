/*
 * patch.c
 *		A state with other values of some fields: as kept rows say, or as
 *		previous_attributes do.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "base/base.h"
#include "base/compat.h"
#include "history/internal.h"

/* ---- one field, by its path ---- */

/* Just past the part of a path that begins here. */
static const char *
part_end(const char *part)
{
	if (*part != '"')
		return part + strcspn(part, ".");
	for (part++; *part != '\0' && *part != '"'; part++)
		if (*part == '\\' && part[1] != '\0')
			part++;
	return *part == '"' ? part + 1 : part;
}

/* The name that a part of a path is; quoted ones are JSON strings. */
static char *
part_name(const char *part, const char *end)
{
	Jsonb *quoted;
	JsonbValue *name;

	if (*part != '"')
		return pnstrdup(part, end - part);
	quoted = json_parse(part, end - part);
	name = getIthJsonbValueFromContainer(&quoted->root, 0);
	return pnstrdup(name->val.string.val, name->val.string.len);
}

/* A path of difference.c as text[]. */
static Datum
path_names(const char *path)
{
	ArrayBuildState *names = NULL;

	while (*path != '\0')
	{
		const char *end = part_end(path);

		names = accumArrayResult(names,
								 CStringGetTextDatum(part_name(path, end)),
								 false, TEXTOID, CurrentMemoryContext);
		path = *end == '.' ? end + 1 : end;
	}
	return makeArrayResult(names, CurrentMemoryContext);
}

/* A copy of the object in which one field has this value; NULL removes it. */
JsonbContainer *
patch_field(JsonbContainer *object, const char *field, const Jsonb *value)
{
	Datum whole = JsonbPGetDatum(json_standalone(object));
	Datum path = path_names(field);
	Datum result = value == NULL
					   ? DirectFunctionCall2(jsonb_delete_path, whole, path)
					   : DirectFunctionCall4(jsonb_set, whole, path,
											 JsonbPGetDatum(value),
											 BoolGetDatum(true));

	return &DatumGetJsonbP(result)->root;
}

/* ---- previous_attributes ---- */

static void push_before(JsonbInState *state, JsonbContainer *object,
						JsonbContainer *previous);

static void
push_member(JsonbInState *state, JsonbValue *key, JsonbValue *value,
			JsonbValue *old)
{
	if (old != NULL && old->type == jbvNull && value->type != jbvNull)
		return; /* it was absent, or null, which is the same */
	compat_push_jsonb(state, WJB_KEY, key);
	if (old != NULL && json_is_object(old) && json_is_object(value))
		push_before(state, value->val.binary.data, old->val.binary.data);
	else
		compat_push_jsonb(state, WJB_VALUE, old != NULL ? old : value);
}

/* Fields of the object with their old values, then those that it lost. */
static void
push_before(JsonbInState *state, JsonbContainer *object,
			JsonbContainer *previous)
{
	JsonbIterator *iterator = JsonbIteratorInit(object);
	JsonbValue key;
	JsonbValue value;
	JsonbValue other;

	check_stack_depth();
	compat_push_jsonb(state, WJB_BEGIN_OBJECT, NULL);
	(void) JsonbIteratorNext(&iterator, &key, true);
	while (JsonbIteratorNext(&iterator, &key, true) == WJB_KEY)
	{
		(void) JsonbIteratorNext(&iterator, &value, true);
		push_member(state, &key, &value,
					getKeyJsonValueFromContainer(previous, key.val.string.val,
												 key.val.string.len, &other));
	}
	iterator = JsonbIteratorInit(previous);
	(void) JsonbIteratorNext(&iterator, &key, true);
	while (JsonbIteratorNext(&iterator, &key, true) == WJB_KEY)
	{
		(void) JsonbIteratorNext(&iterator, &value, true);
		if (value.type == jbvNull ||
			getKeyJsonValueFromContainer(object, key.val.string.val,
										 key.val.string.len, &other) != NULL)
			continue;
		compat_push_jsonb(state, WJB_KEY, &key);
		compat_push_jsonb(state, WJB_VALUE, &value);
	}
	compat_push_jsonb(state, WJB_END_OBJECT, NULL);
}

/* The object before an update with these previous_attributes. */
JsonbContainer *
patch_previous(JsonbContainer *object, JsonbContainer *previous)
{
	JsonbInState state = {0};

	push_before(&state, object, previous);
	return &JsonbValueToJsonb(state.result)->root;
}
