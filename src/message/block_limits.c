/*
 * block_limits.c
 *		A user's blocks, cut to Slack's limits.
 *
 * Slack rejects the whole message if one part is too long, and the author of a
 * template doesn't know what will be filled in.  So everything that has a limit
 * is cut, and an image without a valid address is left out.  All else is Slack's
 * to judge: an error there is reported like any other (delivery.c).
 */
#include "postgres.h"

#include <limits.h>

#include "mb/pg_wchar.h"
#include "miscadmin.h"

#include "base/base.h"
#include "base/compat.h"
#include "message/message.h"
#include "message/internal.h"

#define NOTE_SIZE                                                              \
	(BLOCKS_CONTEXT_SIZE + 30) /* of "… 12 more blocks were cut" */
#define MIN_TEXT 100 /* a text that would be cut shorter is left out */

/*
 * 50 blocks; the characters are those of all blocks' JSON
 * (msg_blocks_too_long).
 */
const BlocksRoom blocks_room = {50, 13200};

typedef enum SizeKind
{
	LIMIT_TEXT,		 /* cut, with "…" at its end */
	LIMIT_NAME,		 /* cut; Slack only returns it */
	LIMIT_URL,		 /* left out if too long: half an address leads elsewhere */
	LIMIT_NEEDED_URL /* left out with the object that it is a field of */
} SizeKind;

/*
 * The limit of a field, by the type of the object that has it (NULL: any).  If
 * the field is a text object the limit is that of its text, if it is an array
 * that of each text in it.  The first that fits counts.
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
	int section_text; /* limit of a section's text, in characters */
} Fit;

static void fit_object(Fit *fit, JsonbContainer *object, int characters);
static bool is_unusable(const JsonbValue *object);

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
		if (!is_unusable(getIthJsonbValueFromContainer(array, i)))
			return false;
	return true;
}

/*
 * Must the object be left out, because Slack would reject the message for it?
 * An image without a valid address, or an object whose elements are all left
 * out.
 */
static bool
is_unusable(const JsonbValue *object)
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

	return kind == LIMIT_TEXT ? cut_text(text, characters)
							  : cut_name(text, characters);
}

/* Rebuild an array, with at most limit->elements. */
static void
fit_array(Fit *fit, JsonbContainer *array, const SizeLimit *limit)
{
	JsonbIterator *iterator = JsonbIteratorInit(array);
	JsonbValue value;
	int characters = limit ? limit->characters : 0;
	int left = limit && limit->elements ? limit->elements : INT_MAX;

	(void) JsonbIteratorNext(&iterator, &value, true);
	compat_push_jsonb(&fit->state, WJB_BEGIN_ARRAY, NULL);
	while (JsonbIteratorNext(&iterator, &value, true) == WJB_ELEM && left-- > 0)
	{
		if (is_unusable(&value))
			left++;
		else if (json_is_object(&value))
			fit_object(fit, value.val.binary.data, characters);
		else if (value.type == jbvBinary)
			fit_array(fit, value.val.binary.data, NULL);
		else
			compat_push_jsonb(&fit->state, WJB_ELEM, &value);
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

/* The limit in characters; of a section's text also that of this rebuild */
static int
section_limit(const Fit *fit, const SizeLimit *limit)
{
	if (limit->type != NULL && strcmp(limit->type, "section") == 0 &&
		strcmp(limit->field, "text") == 0)
		return Min(limit->characters, fit->section_text);
	return limit->characters;
}

/* Append a field of an object of that type, unless it is left out. */
static void
fit_field(Fit *fit, const char *type, JsonbValue *key, JsonbValue *value,
		  int characters)
{
	const SizeLimit *limit = find_limit(type, key);
	bool is_text = is_text_object(type) && is_named(key, "text");

	if (is_invalid_url(limit, value) || is_unusable(value))
		return;
	compat_push_jsonb(&fit->state, WJB_KEY, key);
	if (json_is_object(value))
		fit_object(fit, value->val.binary.data,
				   limit ? section_limit(fit, limit) : 0);
	else if (value->type == jbvBinary)
		fit_array(fit, value->val.binary.data, limit);
	else if (value->type == jbvString && is_text)
		blocks_push_text(
			&fit->state, WJB_VALUE,
			cut_string(value, LIMIT_TEXT, characters ? characters : 3000));
	else if (value->type == jbvString && limit != NULL)
		blocks_push_text(&fit->state, WJB_VALUE,
						 cut_string(value, limit->kind, limit->characters));
	else
		compat_push_jsonb(&fit->state, WJB_VALUE, value);
}

/* Rebuild an object; the text of a text object is cut to "characters". */
static void
fit_object(Fit *fit, JsonbContainer *object, int characters)
{
	JsonbIterator *iterator = JsonbIteratorInit(object);
	char *type = json_get_string(object, "type");
	JsonbValue key;
	JsonbValue value;

	check_stack_depth();
	(void) JsonbIteratorNext(&iterator, &key, true);
	compat_push_jsonb(&fit->state, WJB_BEGIN_OBJECT, NULL);
	while (JsonbIteratorNext(&iterator, &key, true) == WJB_KEY)
	{
		(void) JsonbIteratorNext(&iterator, &value, true);
		fit_field(fit, type, &key, &value, characters);
	}
	compat_push_jsonb(&fit->state, WJB_END_OBJECT, NULL);
}

/* ---- the array ---- */

compat_noreturn static void invalid_blocks(const char *detail);

static void
invalid_blocks(const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("blocks must be an array of Block Kit blocks"),
			 errdetail("%s", detail),
			 errhint("Blocks look like [{\"type\": \"section\", \"text\": "
					 "{\"type\": \"mrkdwn\", \"text\": \"*Hello*\"}}].")));
}

/* Raise 22023 unless it is an object with a type; positions begin with 1. */
static void
check_block(const JsonbValue *block, int position)
{
	char *type = json_is_object(block)
					 ? json_get_string(block->val.binary.data, "type")
					 : NULL;

	if (!json_is_object(block))
		invalid_blocks(psprintf("Element %d is not an object.", position));
	if (type == NULL || type[0] == '\0')
		invalid_blocks(psprintf("Element %d has no string \"type\".", position));
}

/* Rebuild a block; the text of a section is cut to "section_text". */
static Jsonb *
fit_block(JsonbContainer *block, int section_text)
{
	Fit fit = {.section_text = section_text};

	fit_object(&fit, block, 0);
	return JsonbValueToJsonb(fit.state.result);
}

/* Characters of the block's JSON, with a comma; Slack counts at most these. */
static int
block_size(Jsonb *block)
{
	return mrkdwn_length(JsonbToCString(NULL, &block->root, VARSIZE(block))) + 2;
}

/*
 * The block within "room" characters: as it is, or a section with its text cut.
 * NULL if it doesn't fit.
 */
static Jsonb *
fit_block_in(JsonbContainer *block, int room)
{
	Jsonb *fitted = fit_block(block, INT_MAX);
	int size = block_size(fitted);
	char *text = json_get_string(json_get_object(&fitted->root, "text"), "text");
	char *type = json_get_string(&fitted->root, "type");
	int left;

	if (size <= room)
		return fitted;
	if (text == NULL || strcmp(type, "section") != 0)
		return NULL;
	/* an escape in JSON makes the text longer, so this may cut too much */
	left = mrkdwn_length(text) - (size - room) - 1;
	if (left < MIN_TEXT)
		return NULL;
	fitted = fit_block(block, left);
	return block_size(fitted) <= room ? fitted : NULL;
}

/* Append a block as an element of the array. */
static void
push_block(JsonbInState *state, Jsonb *block)
{
	JsonbValue value;

	value.type = jbvBinary;
	value.val.binary.data = &block->root;
	value.val.binary.len = VARSIZE(block) - VARHDRSZ;
	compat_push_jsonb(state, WJB_ELEM, &value);
}

/*
 * Append the blocks that fit into "room"; if some don't, a context block at the
 * end says how many.  Raises 22023 if it is no array of blocks.
 */
void
blocks_push_fitting(JsonbInState *state, Jsonb *blocks, BlocksRoom room)
{
	int n;
	int pushed = 0;
	int unusable = 0;
	bool full = false;

	if (!JB_ROOT_IS_ARRAY(blocks) || JB_ROOT_IS_SCALAR(blocks))
		invalid_blocks("The value is not an array.");
	n = JB_ROOT_COUNT(blocks);
	for (int i = 0; i < n; i++)
	{
		JsonbValue *block = getIthJsonbValueFromContainer(&blocks->root, i);
		bool last = i == n - 1;
		Jsonb *fitted;

		check_block(block, i + 1);
		if (is_unusable(block))
		{
			unusable++;
			continue;
		}
		if (full || (room.blocks == 1 && !last))
		{
			full = true;
			continue;
		}
		fitted = fit_block_in(block->val.binary.data,
							  room.characters - (last ? 0 : NOTE_SIZE));
		full = fitted == NULL;
		if (full)
			continue;
		push_block(state, fitted);
		pushed++;
		room.blocks--;
		room.characters -= block_size(fitted);
	}
	n -= pushed + unusable;
	if (n > 0)
		blocks_push_context(state, psprintf("… %d more block%s cut", n,
											n == 1 ? " was" : "s were"));
}

/* Would blocks_push_fitting() append nothing?  Slack rejects an empty array. */
bool
blocks_are_none(Jsonb *blocks)
{
	return JB_ROOT_IS_ARRAY(blocks) && !JB_ROOT_IS_SCALAR(blocks) &&
		   keeps_no_element(&blocks->root);
}

/* The blocks, cut to Slack's limits.  Raises 22023 if it is no array of blocks. */
Jsonb *
blocks_fit(Jsonb *blocks)
{
	JsonbInState state = {0};

	compat_push_jsonb(&state, WJB_BEGIN_ARRAY, NULL);
	blocks_push_fitting(&state, blocks, blocks_room);
	compat_push_jsonb(&state, WJB_END_ARRAY, NULL);
	return JsonbValueToJsonb(state.result);
}
