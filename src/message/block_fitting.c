/*
 * block_fitting.c
 *		A user's blocks, cut to what a message may have in all.
 *
 * Each block is cut to its own limits first (block_limits.c), and one of a newer kind
 * that Slack would reject as it is becomes its plain form (block_newer.c).  Then
 * blocks are appended until the message is full, and a note says how many are left
 * out.
 */
#include "postgres.h"

#include <limits.h>

#include "base/base.h"
#include "base/compat.h"
#include "message/message.h"
#include "message/internal.h"

#define NOTE_SIZE                                                              \
	(BLOCKS_CONTEXT_SIZE + 30) /* of "… 12 more blocks were cut" */
#define MIN_TEXT 100 /* a text that would be cut shorter is left out */

/*
 * 50 blocks; the characters are those of all blocks' JSON, of a table those of its
 * cells (msg_blocks_too_long).
 */
const BlocksRoom blocks_room = {
	.blocks = 50, .characters = 13200, .cells = 10000, .markdown = 12000};

/* What a message may have of newer kinds, besides their sizes */
typedef struct NewerRoom
{
	int tables;
	int charts;
} NewerRoom;

/* ---- the blocks of the user's ---- */

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

static bool
is_block(const JsonbValue *block)
{
	char *type = json_is_object(block)
					 ? json_get_string(block->val.binary.data, "type")
					 : NULL;

	return type != NULL && type[0] != '\0';
}

/* Raise 22023 unless it is an object with a type; positions begin with 1. */
static void
check_block(const JsonbValue *block, int position)
{
	if (!json_is_object(block))
		invalid_blocks(psprintf("Element %d is not an object.", position));
	if (!is_block(block))
		invalid_blocks(psprintf("Element %d has no string \"type\".", position));
}

/* ---- newer kinds ---- */

/* Tables in a container count too. */
static int
count_tables(JsonbContainer *block)
{
	JsonbContainer *children = block_array(block, "child_blocks");
	int n = children != NULL ? JsonContainerSize(children) : 0;
	int count = block_is(block, "table");

	for (int i = 0; i < n; i++)
	{
		JsonbContainer *child = block_element(children, i);

		count += child != NULL && block_is(child, "table");
	}
	return count;
}

/* Must the block be plain, because Slack would reject the message for it? */
static bool
must_be_plain(JsonbContainer *block, NewerRoom *room)
{
	int tables;
	bool is_valid;

	if (!block_is_newer(block, &is_valid))
		return false;
	tables = count_tables(block);
	if (!is_valid || tables > room->tables ||
		(block_is(block, "data_visualization") && room->charts == 0))
		return true;
	room->tables -= tables;
	room->charts -= block_is(block, "data_visualization");
	return false;
}

/* Append the plain form of a block, none if it has no content. */
static List *
append_plain(List *list, Jsonb *block)
{
	JsonbInState state = {0};
	JsonbValue value = {.type = jbvBinary};
	Jsonb *forms;
	int n;

	value.val.binary.data = &block->root;
	value.val.binary.len = VARSIZE(block) - VARHDRSZ;
	compat_push_jsonb(&state, WJB_BEGIN_ARRAY, NULL);
	block_push_plain(&state, &value);
	compat_push_jsonb(&state, WJB_END_ARRAY, NULL);
	forms = JsonbValueToJsonb(state.result);
	n = JB_ROOT_COUNT(forms);
	for (int i = 0; i < n; i++)
	{
		JsonbValue *form = getIthJsonbValueFromContainer(&forms->root, i);

		if (is_block(form) && !block_is_unusable(form))
			list = lappend(list, block_fit(form->val.binary.data, INT_MAX));
	}
	return list;
}

/*
 * The blocks with each cut to its own limits: a list of Jsonb *.  Raises 22023 if it
 * is no array of blocks.
 */
static List *
list_blocks(Jsonb *blocks)
{
	NewerRoom room = {.tables = 1, .charts = 2};
	List *list = NIL;
	int n;

	if (!JB_ROOT_IS_ARRAY(blocks) || JB_ROOT_IS_SCALAR(blocks))
		invalid_blocks("The value is not an array.");
	n = JB_ROOT_COUNT(blocks);
	for (int i = 0; i < n; i++)
	{
		JsonbValue *block = getIthJsonbValueFromContainer(&blocks->root, i);
		Jsonb *fitted;

		check_block(block, i + 1);
		if (block_is_unusable(block))
			continue;
		fitted = block_fit(block->val.binary.data, INT_MAX);
		if (must_be_plain(&fitted->root, &room))
			list = append_plain(list, fitted);
		else
			list = lappend(list, fitted);
	}
	return list;
}

/* ---- into the room that there is ---- */

/* Characters of the block's JSON, with a comma; Slack counts at most these. */
static int
block_size(Jsonb *block)
{
	if (block_is_table(&block->root))
		return table_characters(&block->root) + BLOCKS_CONTEXT_SIZE;
	return mrkdwn_length(JsonbToCString(NULL, &block->root, VARSIZE(block))) + 2;
}

/* The text that can be cut: a section's or Markdown; NULL if there is none. */
static char *
text_to_cut(Jsonb *block)
{
	if (block_is(&block->root, "markdown"))
		return json_get_string(&block->root, "text");
	if (block_is(&block->root, "section"))
		return json_get_string(json_get_object(&block->root, "text"), "text");
	return NULL;
}

/* The block with its text cut, so that it has so many characters; NULL: too few */
static Jsonb *
cut_to_size(Jsonb *block, int size)
{
	char *text = text_to_cut(block);
	int left;

	if (text == NULL)
		return NULL;
	/* an escape in JSON makes the text longer, so this may cut too much */
	left = mrkdwn_length(text) - (block_size(block) - size) - 1;
	if (left < MIN_TEXT)
		return NULL;
	block = block_fit(&block->root, left);
	return block_size(block) <= size ? block : NULL;
}

/*
 * The block within the room, as it is or cut; NULL if it doesn't fit.  *rows is the
 * number of a table's rows that were cut.
 */
static Jsonb *
fit_block_in(Jsonb *block, const BlocksRoom *room, int *rows)
{
	int size = room->characters;

	*rows = 0;
	if (block_is_table(&block->root))
		return table_cut(
			block, Min(room->cells, size - BLOCKS_CONTEXT_SIZE - NOTE_SIZE),
			rows);
	if (table_characters(&block->root) > room->cells)
		return NULL; /* of a table in a container */
	if (block_is(&block->root, "markdown"))
		size = Min(size, room->markdown);
	return block_size(block) <= size ? block : cut_to_size(block, size);
}

/* Append a block as an element of the array. */
static void
push_block(JsonbInState *state, BlocksRoom *room, Jsonb *block)
{
	int size = block_size(block);
	JsonbValue value;

	value.type = jbvBinary;
	value.val.binary.data = &block->root;
	value.val.binary.len = VARSIZE(block) - VARHDRSZ;
	compat_push_jsonb(state, WJB_ELEM, &value);
	room->blocks--;
	room->characters -= size;
	room->cells -= table_characters(&block->root);
	if (block_is(&block->root, "markdown"))
		room->markdown -= size;
}

/* A note of what is left out */
static void
push_note(JsonbInState *state, BlocksRoom *room, int n, const char *what)
{
	blocks_push_context(state, psprintf("… %d more %s%s cut", n, what,
										n == 1 ? " was" : "s were"));
	room->blocks--;
	room->characters -= NOTE_SIZE;
}

/*
 * Append the blocks that fit into "room"; if some don't, a context block at the
 * end says how many.  Raises 22023 if it is no array of blocks.
 */
void
blocks_push_fitting(JsonbInState *state, Jsonb *blocks, BlocksRoom room)
{
	List *list = list_blocks(blocks);
	int n = list_length(list);
	int pushed = 0;

	for (; pushed < n; pushed++)
	{
		bool last = pushed == n - 1;
		BlocksRoom left = room;
		Jsonb *fitted;
		int rows;

		if (room.blocks == 1 && !last)
			break;
		left.characters -= last ? 0 : NOTE_SIZE;
		fitted = fit_block_in(list_nth(list, pushed), &left, &rows);
		if (fitted == NULL)
			break;
		push_block(state, &room, fitted);
		if (rows > 0 && room.blocks > (last ? 0 : 1))
			push_note(state, &room, rows, "row");
	}
	if (pushed < n)
		push_note(state, &room, n - pushed, "block");
}

/*
 * Would blocks_push_fitting() append nothing?  Slack rejects an empty array.  Raises
 * 22023 if it is no array of blocks.
 */
bool
blocks_are_none(Jsonb *blocks)
{
	return list_blocks(blocks) == NIL;
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

/* ---- a payload's ---- */

/* Has the payload blocks of newer kinds? */
bool
blocks_are_newer(Jsonb *payload)
{
	JsonbContainer *blocks = block_array(&payload->root, "blocks");
	int n = blocks != NULL ? JsonContainerSize(blocks) : 0;
	bool is_valid;

	for (int i = 0; i < n; i++)
	{
		JsonbContainer *block = block_element(blocks, i);

		if (block != NULL && block_is_newer(block, &is_valid))
			return true;
	}
	return false;
}

/* An array of the plain forms of all blocks */
static Jsonb *
plain_array(JsonbContainer *blocks)
{
	JsonbInState state = {0};
	int n = JsonContainerSize(blocks);

	compat_push_jsonb(&state, WJB_BEGIN_ARRAY, NULL);
	for (int i = 0; i < n; i++)
		block_push_plain(&state, getIthJsonbValueFromContainer(blocks, i));
	compat_push_jsonb(&state, WJB_END_ARRAY, NULL);
	return JsonbValueToJsonb(state.result);
}

/*
 * The payload with plain forms in the place of newer blocks.  If they have no
 * content it has no blocks, and Slack shows its text.
 */
Jsonb *
blocks_make_plain(Jsonb *payload)
{
	JsonbContainer *blocks = block_array(&payload->root, "blocks");
	Jsonb *plain = plain_array(blocks);
	bool is_empty = blocks_are_none(plain);
	JsonbIterator *iterator = JsonbIteratorInit(&payload->root);
	JsonbInState state = {0};
	JsonbValue key;
	JsonbValue value;

	(void) JsonbIteratorNext(&iterator, &key, true);
	compat_push_jsonb(&state, WJB_BEGIN_OBJECT, NULL);
	while (JsonbIteratorNext(&iterator, &key, true) == WJB_KEY)
	{
		bool is_blocks;

		(void) JsonbIteratorNext(&iterator, &value, true);
		is_blocks = value.type == jbvBinary && value.val.binary.data == blocks;
		if (is_blocks && is_empty)
			continue;
		compat_push_jsonb(&state, WJB_KEY, &key);
		if (!is_blocks)
		{
			compat_push_jsonb(&state, WJB_VALUE, &value);
			continue;
		}
		compat_push_jsonb(&state, WJB_BEGIN_ARRAY, NULL);
		blocks_push_fitting(&state, plain, blocks_room);
		compat_push_jsonb(&state, WJB_END_ARRAY, NULL);
	}
	compat_push_jsonb(&state, WJB_END_OBJECT, NULL);
	return JsonbValueToJsonb(state.result);
}
