/*
 * fixture.c
 *		Fixtures: complete objects, as Stripe would send them, for simulated
 *		events that give only a few fields.
 *
 * A fixture is JSON in which strings that begin with "$" are replaced:
 *
 *	$t					the event's time, in seconds of Unix time
 *	$start, $x			the story's first time, or one that its "times" name;
 *						followed by +60 or -60: so many seconds later
 *	$id, $x				the object's id, or one that the story's "ids" name;
 *						followed by :si_: the same id with that prefix
 *	$email, $name		of the story's customer
 *	$x					one of the story's "parts", filled in as well
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/numeric.h"

#include "base/base.h"
#include "base/compat.h"
#include "base/json_push.h"
#include "types/types.h"
#include "simulate/internal.h"

static void fill_container(const FixtureNames *names, JsonbInState *state,
						   JsonbContainer *container);

/* The fixture of that name, not filled in; NULL if there is none. */
Jsonb *
fixture_find(const Fixture *fixtures, int count, const char *name)
{
	for (int i = 0; i < count; i++)
		if (strcmp(fixtures[i].name, name) == 0)
			return json_parse(fixtures[i].json, strlen(fixtures[i].json));
	return NULL;
}

/* 16 random hexadecimal digits, for ids. */
char *
fixture_random(void)
{
	unsigned char bytes[8];
	char *text = palloc(2 * sizeof(bytes) + 1);

	if (!pg_strong_random(bytes, sizeof(bytes)))
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR),
						errmsg("could not generate random values")));
	for (int i = 0; i < sizeof(bytes); i++)
		snprintf(text + 2 * i, 3, "%02x", bytes[i]);
	return text;
}

/* ---- names ---- */

/* Sets *at if the name is one of a time. */
static bool
find_time(const FixtureNames *names, const char *name, int64 *at)
{
	JsonbValue value;
	int64 seconds;

	if (strcmp(name, "t") == 0)
		*at = names->at;
	else if (strcmp(name, "start") == 0)
		*at = names->start;
	else if (json_get(names->times, name, &value) &&
			 json_to_int64(&value, &seconds))
		*at = names->start + seconds;
	else
		return false;
	return true;
}

/* Replace the "*" of an id by what is unique to this run of the story. */
static char *
own_id(const FixtureNames *names, const char *id)
{
	const char *star = strchr(id, '*');

	if (star == NULL)
		return pstrdup(id);
	return psprintf("%.*ssim_%s%s", (int) (star - id), id, names->own, star + 1);
}

/* NULL if the name is not one of an id. */
static char *
find_name_id(const FixtureNames *names, const char *name)
{
	if (strcmp(name, "id") == 0 && names->id != NULL)
		return pstrdup(names->id);
	if (strcmp(name, "customer") == 0 && names->customer != NULL)
		return pstrdup(names->customer);
	for (int i = 0; i < lengthof(names->ids); i++)
	{
		char *id = names->ids[i] ? json_get_string(names->ids[i], name) : NULL;

		if (id != NULL)
			return own_id(names, id);
	}
	return NULL;
}

/* The id with another prefix: sub_1 and si_ make si_1. */
static char *
with_prefix(const char *id, const char *prefix)
{
	const char *line = strchr(id, '_');

	return psprintf("%s%s", prefix, line != NULL ? line + 1 : id);
}

/* A recognizable name, and an address of a reserved domain. */
static char *
find_person(const FixtureNames *names, const char *name)
{
	char *customer;

	if (strcmp(name, "name") == 0)
		return pstrdup("Ada Example");
	if (strcmp(name, "email") != 0)
		return NULL;
	customer = find_name_id(names, "customer");
	return psprintf("%s@example.com", customer);
}

static char *
find_text(const FixtureNames *names, const char *name)
{
	char *text = find_name_id(names, name);

	return text != NULL ? text : find_person(names, name);
}

/* ---- the values ---- */

static void
push_time(JsonbInState *state, JsonbIteratorToken token, int64 at)
{
	JsonbValue value;

	value.type = jbvNumeric;
	value.val.numeric = int64_to_numeric(at);
	compat_push_jsonb(state, token, &value);
}

/* "reference" is the string without its "$". */
static void
push_named(const FixtureNames *names, JsonbInState *state,
		   JsonbIteratorToken token, const char *reference)
{
	char *name = pnstrdup(reference, strcspn(reference, "+-:"));
	const char *rest = reference + strlen(name);
	JsonbContainer *part;
	char *text;
	int64 at;

	if (find_time(names, name, &at))
		push_time(state, token, at + strtoll(rest, NULL, 10));
	else if ((text = find_text(names, name)) != NULL)
		json_push_string(state, token,
						 *rest == ':' ? with_prefix(text, rest + 1) : text);
	else if ((part = json_get_object(names->parts, name)) != NULL)
		fill_container(names, state, part);
	else
		elog(ERROR, "unknown name \"$%s\" in a fixture", reference);
}

static void
fill_value(const FixtureNames *names, JsonbInState *state,
		   JsonbIteratorToken token, JsonbValue *value)
{
	if (value->type == jbvBinary)
		fill_container(names, state, value->val.binary.data);
	else if (value->type == jbvString && value->val.string.len > 0 &&
			 value->val.string.val[0] == '$')
		push_named(
			names, state, token,
			pnstrdup(value->val.string.val + 1, value->val.string.len - 1));
	else
		compat_push_jsonb(state, token, value);
}

static void
fill_container(const FixtureNames *names, JsonbInState *state,
			   JsonbContainer *container)
{
	bool is_object = JsonContainerIsObject(container);
	JsonbIterator *iterator = JsonbIteratorInit(container);
	JsonbIteratorToken token;
	JsonbValue value;

	check_stack_depth();
	(void) JsonbIteratorNext(&iterator, &value, true);
	compat_push_jsonb(state, is_object ? WJB_BEGIN_OBJECT : WJB_BEGIN_ARRAY,
					  NULL);
	while ((token = JsonbIteratorNext(&iterator, &value, true)) == WJB_KEY ||
		   token == WJB_VALUE || token == WJB_ELEM)
	{
		if (token == WJB_KEY)
			compat_push_jsonb(state, token, &value);
		else
			fill_value(names, state, token, &value);
	}
	compat_push_jsonb(state, is_object ? WJB_END_OBJECT : WJB_END_ARRAY, NULL);
}

/* A copy of the fixture with all names replaced. */
Jsonb *
fixture_fill(const FixtureNames *names, JsonbContainer *fixture)
{
	JsonbInState state = {0};

	fill_container(names, &state, fixture);
	return JsonbValueToJsonb(state.result);
}

/* ---- objects ---- */

/* For a type without a fixture: the fields that nearly all objects have. */
static Jsonb *
plain_object(const CatalogType *type, const char *id)
{
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfoString(&json, "{\"object\": ");
	escape_json(&json, type->object);
	if (id != NULL && strcmp(type->key, "id") == 0)
		appendStringInfoString(&json, ", \"id\": \"$id\"");
	if (catalog_field(type, "created") != NULL)
		appendStringInfoString(&json, ", \"created\": \"$t\"");
	if (catalog_field(type, "livemode") != NULL)
		appendStringInfoString(&json, ", \"livemode\": false");
	if (catalog_field(type, "metadata") != NULL)
		appendStringInfoString(&json, ", \"metadata\": {}");
	appendStringInfoChar(&json, '}');
	return json_parse(json.data, json.len);
}

/* The fields of "upon", and those of "object", which take precedence. */
Jsonb *
fixture_lay_over(Jsonb *object, Jsonb *upon)
{
	return DatumGetJsonbP(DirectFunctionCall2(
		jsonb_concat, JsonbPGetDatum(upon), JsonbPGetDatum(object)));
}

/*
 * An object of this type as in an event of "event_type", by fixtures alone.
 * "id" is NULL if it has none; "at" is in seconds of Unix time.
 */
Jsonb *
fixture_object(const CatalogType *type, const char *event_type, const char *id,
			   int64 at)
{
	FixtureNames names = {.at = at, .start = at, .id = id};
	Jsonb *fixture = id == NULL ? NULL
								: fixture_find(fixture_objects,
											   nfixture_objects, type->object);
	Jsonb *then = fixture == NULL ? NULL
								  : fixture_find(fixture_objects,
												 nfixture_objects, event_type);

	if (fixture == NULL)
		fixture = plain_object(type, id);
	fixture = fixture_fill(&names, &fixture->root);
	return then == NULL
			   ? fixture
			   : fixture_lay_over(fixture_fill(&names, &then->root), fixture);
}
