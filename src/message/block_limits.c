/*
 * block_limits.c
 *		A block of a user's, with each of its parts cut to Slack's limit.
 *
 * Slack rejects the whole message if one part is too long, and the author of a
 * template doesn't know what will be filled in.  So everything that has a limit
 * is cut, and an image without a valid address is left out.  What a message may
 * have in all is block_fitting.c's.  All else is Slack's to judge: an error there
 * is reported like any other (delivery.c).
 *
 * The limits are those of https://docs.slack.dev/reference/block-kit/blocks and
 * of the declarations in @slack/types 3.2.0.  Two places differ, or say nothing,
 * and the smaller number counts here: slices of a pie and series of a chart (6 in
 * the reference, more were seen to pass), and the length of a cell and of a data
 * table's caption (none is documented).
 */
#include "postgres.h"

#include <limits.h>

#include "mb/pg_wchar.h"
#include "miscadmin.h"

#include "base/base.h"
#include "base/compat.h"
#include "base/json_push.h"
#include "message/message.h"
#include "message/internal.h"

#define MAX_CELL 1000 /* not documented: all cells have 10,000 together */

typedef enum SizeKind
{
	LIMIT_TEXT,		 /* cut, with "…" at its end */
	LIMIT_CELL,		 /* the same; a blank one stays blank */
	LIMIT_NAME,		 /* cut; Slack only returns it */
	LIMIT_URL,		 /* left out if too long: half an address leads elsewhere */
	LIMIT_NEEDED_URL /* left out with the object that it is a field of */
} SizeKind;

/*
 * The limit of a field, by the type of the object that has it (NULL: any).  An
 * object without a type has the name of the field that holds it: the elements of
 * "segments" are "segments".  If the field is a text object the limit is that of
 * its text, if it is an array that of each text in it.  The first that fits counts.
 */
typedef struct SizeLimit
{
	const char *type;
	const char *field;
	SizeKind kind;
	int characters; /* 0: no limit */
	int elements;	/* of an array, 0: no limit */
} SizeLimit;

static const SizeLimit limits[] = {
	{"section", "text", LIMIT_TEXT, 3000, 0},
	{"section", "fields", LIMIT_TEXT, 2000, 10},
	{"header", "text", LIMIT_TEXT, 150, 0},
	{"context", "elements", LIMIT_TEXT, 2000, 10},
	{"actions", "elements", LIMIT_TEXT, 0, 25},
	{"button", "text", LIMIT_TEXT, 75, 0},
	{"button", "value", LIMIT_NAME, 2000, 0},
	{"button", "accessibility_label", LIMIT_TEXT, 75, 0},
	{"image", "title", LIMIT_TEXT, 2000, 0},
	{"markdown", "text", LIMIT_TEXT, 12000, 0},
	{"raw_text", "text", LIMIT_CELL, MAX_CELL, 0},
	{"raw_number", "text", LIMIT_CELL, MAX_CELL, 0},
	{"table", "column_settings", LIMIT_TEXT, 0, 20},
	{"data_table", "caption", LIMIT_TEXT, 150, 0},
	{"data_visualization", "title", LIMIT_TEXT, 50, 0},
	{"pie", "segments", LIMIT_TEXT, 0, 6},
	{"segments", "label", LIMIT_TEXT, 20, 0},
	{NULL, "series", LIMIT_TEXT, 0, 6},
	{"series", "name", LIMIT_TEXT, 20, 0},
	{"series", "data", LIMIT_TEXT, 0, 20},
	{"data", "label", LIMIT_TEXT, 20, 0},
	{"axis_config", "categories", LIMIT_TEXT, 20, 20},
	{"axis_config", "x_label", LIMIT_TEXT, 50, 0},
	{"axis_config", "y_label", LIMIT_TEXT, 50, 0},
	{"card", "title", LIMIT_TEXT, 150, 0},
	{"card", "subtitle", LIMIT_TEXT, 150, 0},
	{"card", "body", LIMIT_TEXT, 200, 0},
	{"card", "subtext", LIMIT_TEXT, 200, 0},
	{"card", "actions", LIMIT_TEXT, 0, 3},
	{"carousel", "elements", LIMIT_TEXT, 0, 10},
	{"container", "title", LIMIT_TEXT, 150, 0},
	{"container", "subtitle", LIMIT_TEXT, 150, 0},
	{"container", "child_blocks", LIMIT_TEXT, 0, 10},
	{"alert", "text", LIMIT_TEXT, 200, 0},
	{NULL, "alt_text", LIMIT_TEXT, 2000, 0},
	{"link", "url", LIMIT_NEEDED_URL, 3000, 0},
	{NULL, "url", LIMIT_URL, 3000, 0},
	{NULL, "image_url", LIMIT_NEEDED_URL, 3000, 0},
	{NULL, "video_url", LIMIT_NEEDED_URL, 3000, 0},
	{NULL, "thumbnail_url", LIMIT_NEEDED_URL, 3000, 0},
	{NULL, "action_id", LIMIT_NAME, 255, 0},
	{NULL, "block_id", LIMIT_NAME, 255, 0},
	{NULL, "placeholder", LIMIT_TEXT, 150, 0},
	{NULL, "options", LIMIT_TEXT, 0, 100},
};

/* The block that is being rebuilt */
typedef struct Fit
{
	JsonbInState state;
	int longest; /* characters of a section's text, or of markdown */
} Fit;

static void fit_object(Fit *fit, JsonbContainer *object, const char *holder,
					   int characters);
static void fit_array(Fit *fit, JsonbContainer *array, const char *name,
					  const SizeLimit *limit);

static bool
is_named(const JsonbValue *key, const char *name)
{
	return key->val.string.len == strlen(name) &&
		   memcmp(key->val.string.val, name, key->val.string.len) == 0;
}

/* The limit of a field of an object of that type; NULL if there is none. */
static const SizeLimit *
find_limit(const char *type, const JsonbValue *key)
{
	for (int i = 0; i < lengthof(limits); i++)
	{
		const SizeLimit *limit = &limits[i];

		if (is_named(key, limit->field) &&
			(limit->type == NULL ||
			 (type != NULL && strcmp(type, limit->type) == 0)))
			return limit;
	}
	return NULL;
}

/* ---- what is left out ---- */

/* Is it an address that is blank or too long? */
static bool
is_invalid_url(const SizeLimit *limit, const JsonbValue *value)
{
	char *text;

	if (limit == NULL || value->type != jbvString ||
		(limit->kind != LIMIT_URL && limit->kind != LIMIT_NEEDED_URL))
		return false;
	text = pnstrdup(value->val.string.val, value->val.string.len);
	return mrkdwn_is_blank(text) || mrkdwn_length(text) > limit->characters;
}

/* Is no element of the array kept?  True for an empty one. */
static bool
keeps_no_element(JsonbContainer *array)
{
	uint32 n = JsonContainerSize(array);

	for (uint32 i = 0; i < n; i++)
		if (!block_is_unusable(getIthJsonbValueFromContainer(array, i)))
			return false;
	return true;
}

/*
 * Must the object be left out, because Slack would reject the message for it?
 * An image without a valid address, or an object whose elements are all left
 * out.
 */
bool
block_is_unusable(const JsonbValue *object)
{
	JsonbIterator *iterator;
	char *type;
	JsonbValue key;
	JsonbValue value;

	check_stack_depth();
	if (!json_is_object(object))
		return false;
	iterator = JsonbIteratorInit(object->val.binary.data);
	type = json_get_string(object->val.binary.data, "type");
	(void) JsonbIteratorNext(&iterator, &key, true);
	while (JsonbIteratorNext(&iterator, &key, true) == WJB_KEY)
	{
		const SizeLimit *limit = find_limit(type, &key);

		(void) JsonbIteratorNext(&iterator, &value, true);
		if (limit != NULL && limit->kind == LIMIT_NEEDED_URL &&
			is_invalid_url(limit, &value))
			return true;
		if (is_named(&key, "elements") && value.type == jbvBinary &&
			JsonContainerIsArray(value.val.binary.data) &&
			JsonContainerSize(value.val.binary.data) > 0 &&
			keeps_no_element(value.val.binary.data))
			return true;
	}
	return false;
}

/* ---- one value ---- */

/* Slack rejects an empty text. */
static char *
cut_text(const char *text, int characters)
{
	if (mrkdwn_is_blank(text))
		return pstrdup("(none)");
	return mrkdwn_cut(text, characters);
}

static char *
cut_name(char *text, int characters)
{
	text[pg_mbcharcliplen(text, strlen(text), characters)] = '\0';
	return text;
}

static char *
cut_string(const JsonbValue *value, SizeKind kind, int characters)
{
	char *text = pnstrdup(value->val.string.val, value->val.string.len);

	if (kind == LIMIT_CELL && mrkdwn_is_blank(text))
		return pstrdup(" "); /* Slack rejects an empty one */
	if (kind == LIMIT_TEXT || kind == LIMIT_CELL)
		return cut_text(text, characters);
	return cut_name(text, characters);
}

/* A string in an array of that limit, such as a chart's category */
static void
fit_element(Fit *fit, JsonbValue *value, int characters)
{
	if (value->type == jbvString && characters > 0)
		json_push_string(&fit->state, WJB_ELEM,
						 cut_string(value, LIMIT_TEXT, characters));
	else
		compat_push_jsonb(&fit->state, WJB_ELEM, value);
}

/* A cell of which nothing is left keeps its place in the row. */
static void
push_empty_cell(Fit *fit)
{
	compat_push_jsonb(&fit->state, WJB_BEGIN_OBJECT, NULL);
	blocks_push_string(&fit->state, "type", "raw_text");
	blocks_push_string(&fit->state, "text", " ");
	compat_push_jsonb(&fit->state, WJB_END_OBJECT, NULL);
}

/* An array in the array of that name: a table's rows are arrays of cells. */
static void
fit_inner_array(Fit *fit, JsonbContainer *array, const char *name)
{
	static const SizeLimit row = {NULL, "row", LIMIT_TEXT, 0, 20};
	bool is_row = strcmp(name, "rows") == 0;

	fit_array(fit, array, is_row ? row.field : name, is_row ? &row : NULL);
}

/* Rebuild an array of that name, with at most limit->elements. */
static void
fit_array(Fit *fit, JsonbContainer *array, const char *name,
		  const SizeLimit *limit)
{
	JsonbIterator *iterator = JsonbIteratorInit(array);
	JsonbValue value;
	int characters = limit ? limit->characters : 0;
	int left = limit && limit->elements ? limit->elements : INT_MAX;

	(void) JsonbIteratorNext(&iterator, &value, true);
	compat_push_jsonb(&fit->state, WJB_BEGIN_ARRAY, NULL);
	while (JsonbIteratorNext(&iterator, &value, true) == WJB_ELEM && left-- > 0)
	{
		if (block_is_unusable(&value) && strcmp(name, "row") == 0)
			push_empty_cell(fit);
		else if (block_is_unusable(&value))
			left++;
		else if (json_is_object(&value))
			fit_object(fit, value.val.binary.data, name, characters);
		else if (value.type == jbvBinary)
			fit_inner_array(fit, value.val.binary.data, name);
		else
			fit_element(fit, &value, characters);
	}
	compat_push_jsonb(&fit->state, WJB_END_ARRAY, NULL);
}

/* ---- objects ---- */

/* Does an object of that type have a "text" that is shown? */
static bool
is_text_object(const char *type)
{
	return type != NULL &&
		   (strcmp(type, "mrkdwn") == 0 || strcmp(type, "plain_text") == 0);
}

/*
 * The limit in characters; of the text of a section or of markdown also that of
 * this rebuild
 */
static int
characters_of(const Fit *fit, const SizeLimit *limit)
{
	if (limit->type != NULL && strcmp(limit->field, "text") == 0 &&
		(strcmp(limit->type, "section") == 0 ||
		 strcmp(limit->type, "markdown") == 0))
		return Min(limit->characters, fit->longest);
	return limit->characters;
}

/* Append a field of an object of that type, unless it is left out. */
static void
fit_field(Fit *fit, const char *type, JsonbValue *key, JsonbValue *value,
		  int characters)
{
	const SizeLimit *limit = find_limit(type, key);
	bool is_text = is_text_object(type) && is_named(key, "text");
	char *name = pnstrdup(key->val.string.val, key->val.string.len);

	if (is_invalid_url(limit, value) || block_is_unusable(value))
		return;
	compat_push_jsonb(&fit->state, WJB_KEY, key);
	if (json_is_object(value))
		fit_object(fit, value->val.binary.data, name,
				   limit ? characters_of(fit, limit) : 0);
	else if (value->type == jbvBinary)
		fit_array(fit, value->val.binary.data, name, limit);
	else if (value->type == jbvString && is_text)
		json_push_string(
			&fit->state, WJB_VALUE,
			cut_string(value, LIMIT_TEXT, characters ? characters : 3000));
	else if (value->type == jbvString && limit != NULL)
		json_push_string(
			&fit->state, WJB_VALUE,
			cut_string(value, limit->kind, characters_of(fit, limit)));
	else
		compat_push_jsonb(&fit->state, WJB_VALUE, value);
}

/*
 * Rebuild an object, which the field "holder" has; the text of a text object is cut
 * to "characters".
 */
static void
fit_object(Fit *fit, JsonbContainer *object, const char *holder, int characters)
{
	JsonbIterator *iterator = JsonbIteratorInit(object);
	const char *type = json_get_string(object, "type");
	JsonbValue key;
	JsonbValue value;

	check_stack_depth();
	if (type == NULL)
		type = holder;
	(void) JsonbIteratorNext(&iterator, &key, true);
	compat_push_jsonb(&fit->state, WJB_BEGIN_OBJECT, NULL);
	while (JsonbIteratorNext(&iterator, &key, true) == WJB_KEY)
	{
		(void) JsonbIteratorNext(&iterator, &value, true);
		fit_field(fit, type, &key, &value, characters);
	}
	compat_push_jsonb(&fit->state, WJB_END_OBJECT, NULL);
}

/* ---- a block ---- */

/* Rebuild a block; the text of a section, or of markdown, is cut to "longest". */
Jsonb *
block_fit(JsonbContainer *block, int longest)
{
	Fit fit = {.longest = longest};

	fit_object(&fit, block, NULL, 0);
	return JsonbValueToJsonb(fit.state.result);
}
