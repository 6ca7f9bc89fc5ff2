/*
 * blocks_fit.c
 *		An author's blocks, cut to Slack's sizes.
 *
 * Slack refuses a message of which one part is too long, and what fills a
 * template isn't in its author's hands: so everything is cut that has a size.
 * An image without an address that Slack would take goes as a whole.  All else
 * about a block is left alone: Slack is the judge of it.
 */
#include "blocks.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"

#define NOTE_SIZE                                                              \
	(BLOCKS_CONTEXT_SIZE + 30) /* of "… 12 more blocks were cut" */
#define MIN_TEXT 100 /* a text that would be cut shorter goes as a whole */

const BlocksRoom blocks_room = {50, 13200};

typedef enum SizeKind
{
	LIMIT_TEXT, /* cut, with "…" at its end */
	LIMIT_NAME, /* cut; Slack only hands it back */
	LIMIT_URL,	/* left out: half an address leads elsewhere, none is refused */
	LIMIT_NEEDED_URL /* with all that it is of: it is nothing without */
} SizeKind;

/*
 * Sizes by the type of the object that a field is in, or of any.  Of a text
 * object it is the size of its text, of an array that of each text in it.
 */
typedef struct SizeLimit
{
	const char *type;
	const char *field;
	SizeKind kind;
	int characters; /* 0: none */
	int elements;	/* of an array, 0: none */
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

/* What is being rebuilt. */
typedef struct Fit
{
	JsonbInState state;
	int section_text; /* characters of a section's text, at most */
} Fit;

static void fit_object(Fit *fit, JsonbContainer *object, int characters);
static bool is_lost(const JsonbValue *object);

static bool
is_named(const JsonbValue *key, const char *name)
{
	return key->val.string.len == strlen(name) &&
		   memcmp(key->val.string.val, name, key->val.string.len) == 0;
}

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

static bool
is_left_out(const SizeLimit *limit, const JsonbValue *value)
{
	char *text;

	if (limit == NULL || value->type != jbvString ||
		(limit->kind != LIMIT_URL && limit->kind != LIMIT_NEEDED_URL))
		return false;
	text = pnstrdup(value->val.string.val, value->val.string.len);
	return blocks_is_blank(text) || blocks_length(text) > limit->characters;
}

/* Were there elements, and is none left?  (Of whole blocks: or never any.) */
static bool
has_lost_all(JsonbContainer *array)
{
	uint32 n = JsonContainerSize(array);

	for (uint32 i = 0; i < n; i++)
		if (!is_lost(getIthJsonbValueFromContainer(array, i)))
			return false;
	return true;
}

/*
 * An image without its address, or what has nothing but such: Slack would
 * refuse the message for it.
 */
static bool
is_lost(const JsonbValue *object)
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
			is_left_out(limit, &value))
			return true;
		if (is_named(&key, "elements") && value.type == jbvBinary &&
			JsonContainerIsArray(value.val.binary.data) &&
			JsonContainerSize(value.val.binary.data) > 0 &&
			has_lost_all(value.val.binary.data))
			return true;
	}
	return false;
}

/* ---- one value ---- */

static char *
cut_text(const char *text, int characters)
{
	if (blocks_is_blank(text))
		return pstrdup("(none)");
	return blocks_cut(text, characters);
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

static void
push_string(Fit *fit, JsonbIteratorToken token, char *text)
{
	JsonbValue value;

	value.type = jbvString;
	value.val.string.val = text;
	value.val.string.len = strlen(text);
	compat_push_jsonb(&fit->state, token, &value);
}

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
		if (is_lost(&value))
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

static bool
is_text_object(const char *type)
{
	return type != NULL &&
		   (strcmp(type, "mrkdwn") == 0 || strcmp(type, "plain_text") == 0);
}

static int
section_limit(const Fit *fit, const SizeLimit *limit)
{
	if (limit->type != NULL && strcmp(limit->type, "section") == 0 &&
		strcmp(limit->field, "text") == 0)
		return Min(limit->characters, fit->section_text);
	return limit->characters;
}

static void
fit_field(Fit *fit, const char *type, JsonbValue *key, JsonbValue *value,
		  int characters)
{
	const SizeLimit *limit = find_limit(type, key);
	bool is_text = is_text_object(type) && is_named(key, "text");

	if (is_left_out(limit, value) || is_lost(value))
		return;
	compat_push_jsonb(&fit->state, WJB_KEY, key);
	if (json_is_object(value))
		fit_object(fit, value->val.binary.data,
				   limit ? section_limit(fit, limit) : 0);
	else if (value->type == jbvBinary)
		fit_array(fit, value->val.binary.data, limit);
	else if (value->type == jbvString && is_text)
		push_string(
			fit, WJB_VALUE,
			cut_string(value, LIMIT_TEXT, characters ? characters : 3000));
	else if (value->type == jbvString && limit != NULL)
		push_string(fit, WJB_VALUE,
					cut_string(value, limit->kind, limit->characters));
	else
		compat_push_jsonb(&fit->state, WJB_VALUE, value);
}

/* Rebuild an object; a text object's text has at most "characters". */
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

compat_noreturn static void refuse_blocks(const char *detail);

static void
refuse_blocks(const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("blocks are no array of Block Kit blocks"),
			 errdetail("%s", detail),
			 errhint("Blocks look like [{\"type\": \"section\", \"text\": "
					 "{\"type\": \"mrkdwn\", \"text\": \"*Hello*\"}}].")));
}

static void
check_block(const JsonbValue *block, int position)
{
	char *type = json_is_object(block)
					 ? json_get_string(block->val.binary.data, "type")
					 : NULL;

	if (!json_is_object(block))
		refuse_blocks(psprintf("Element %d is no object.", position));
	if (type == NULL || type[0] == '\0')
		refuse_blocks(psprintf("Element %d has no string \"type\".", position));
}

static Jsonb *
fit_block(JsonbContainer *block, int section_text)
{
	Fit fit = {.section_text = section_text};

	fit_object(&fit, block, 0);
	return JsonbValueToJsonb(fit.state.result);
}

/* Characters of the block's JSON: what Slack counts is no more than that. */
static int
block_size(Jsonb *block)
{
	return blocks_length(JsonbToCString(NULL, &block->root, VARSIZE(block))) + 2;
}

/*
 * A block in what room there is: as it is, with its section's text cut, or
 * NULL.
 */
static Jsonb *
squeeze(JsonbContainer *block, int room)
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
	/* JSON may write a character as two: that many are taken off in any case */
	left = blocks_length(text) - (size - room) - 1;
	if (left < MIN_TEXT)
		return NULL;
	fitted = fit_block(block, left);
	return block_size(fitted) <= room ? fitted : NULL;
}

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
 * Push the blocks that fit; what is left out at the end is counted in a block
 * of its own.  Raises 22023 when they are no blocks.
 */
void
blocks_push_fitting(JsonbInState *state, Jsonb *blocks, BlocksRoom room)
{
	int n;
	int pushed = 0;
	int lost = 0;
	bool full = false;

	if (!JB_ROOT_IS_ARRAY(blocks) || JB_ROOT_IS_SCALAR(blocks))
		refuse_blocks("It is no array.");
	n = JB_ROOT_COUNT(blocks);
	for (int i = 0; i < n; i++)
	{
		JsonbValue *block = getIthJsonbValueFromContainer(&blocks->root, i);
		bool last = i == n - 1;
		Jsonb *fitted;

		check_block(block, i + 1);
		if (is_lost(block))
		{
			lost++;
			continue;
		}
		if (full || (room.blocks == 1 && !last))
		{
			full = true;
			continue;
		}
		fitted = squeeze(block->val.binary.data,
						 room.characters - (last ? 0 : NOTE_SIZE));
		full = fitted == NULL;
		if (full)
			continue;
		push_block(state, fitted);
		pushed++;
		room.blocks--;
		room.characters -= block_size(fitted);
	}
	n -= pushed + lost;
	if (n > 0)
		blocks_push_context(state, psprintf("… %d more block%s cut", n,
											n == 1 ? " was" : "s were"));
}

/* Nothing to push?  Slack is sent no empty array. */
bool
blocks_are_none(Jsonb *blocks)
{
	return JB_ROOT_IS_ARRAY(blocks) && !JB_ROOT_IS_SCALAR(blocks) &&
		   has_lost_all(&blocks->root);
}

/* The same as an array of its own. */
Jsonb *
blocks_fit(Jsonb *blocks)
{
	JsonbInState state = {0};

	compat_push_jsonb(&state, WJB_BEGIN_ARRAY, NULL);
	blocks_push_fitting(&state, blocks, blocks_room);
	compat_push_jsonb(&state, WJB_END_ARRAY, NULL);
	return JsonbValueToJsonb(state.result);
}
