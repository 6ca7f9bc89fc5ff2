/*
 * block_table.c
 *		Tables: their size, cut to what a message has room for, and made for
 *		digests.
 *
 * A table counts by the characters of its cells, of which a message has 10,000.
 * What is cut are the last rows.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "base/base.h"
#include "base/compat.h"
#include "message/message.h"
#include "message/internal.h"

#define MAX_ROWS 100 /* without a data table's header */

bool
block_is_table(JsonbContainer *block)
{
	return block_is(block, "table") || block_is(block, "data_table");
}

/* Characters of all strings "text" in it */
static int
text_characters(JsonbContainer *container)
{
	JsonbIterator *iterator = JsonbIteratorInit(container);
	char *text = JsonContainerIsObject(container)
					 ? json_get_string(container, "text")
					 : NULL;
	int characters = text != NULL ? mrkdwn_length(text) : 0;
	JsonbIteratorToken token;
	JsonbValue value;

	check_stack_depth();
	(void) JsonbIteratorNext(&iterator, &value, true);
	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
		if ((token == WJB_VALUE || token == WJB_ELEM) && value.type == jbvBinary)
			characters += text_characters(value.val.binary.data);
	return characters;
}

/* Characters of all cells of a valid table, or of those in a valid container */
int
table_characters(JsonbContainer *block)
{
	JsonbContainer *children;
	int characters = 0;
	int n;

	if (block_is_table(block))
		return text_characters(block_array(block, "rows"));
	if (!block_is(block, "container"))
		return 0;
	children = block_array(block, "child_blocks");
	n = JsonContainerSize(children);
	for (int i = 0; i < n; i++)
	{
		JsonbContainer *child = block_element(children, i);

		if (block_is_table(child))
			characters += text_characters(block_array(child, "rows"));
	}
	return characters;
}

/* How many rows fit into so many characters */
static int
count_rows(JsonbContainer *table, int characters)
{
	JsonbContainer *rows = block_array(table, "rows");
	int most = MAX_ROWS + block_is(table, "data_table");
	int n = Min(JsonContainerSize(rows), most);

	for (int i = 0; i < n; i++)
	{
		characters -= text_characters(table_row(rows, i));
		if (characters < 0)
			return i;
	}
	return n;
}

static void
push_rows(JsonbInState *state, JsonbContainer *rows, int n)
{
	compat_push_jsonb(state, WJB_BEGIN_ARRAY, NULL);
	for (int i = 0; i < n; i++)
		compat_push_jsonb(state, WJB_ELEM,
						  getIthJsonbValueFromContainer(rows, i));
	compat_push_jsonb(state, WJB_END_ARRAY, NULL);
}

/*
 * A valid table with the rows that fit into so many characters; *cut is the number
 * of the others.  NULL if the header and a row don't fit.
 */
Jsonb *
table_cut(Jsonb *table, int characters, int *cut)
{
	JsonbContainer *rows = block_array(&table->root, "rows");
	int total = JsonContainerSize(rows);
	int kept = count_rows(&table->root, characters);
	JsonbIterator *iterator = JsonbIteratorInit(&table->root);
	JsonbInState state = {0};
	JsonbValue key;
	JsonbValue value;

	*cut = total - kept;
	if (kept == total)
		return table;
	if (kept < Min(2, total))
		return NULL;
	(void) JsonbIteratorNext(&iterator, &key, true);
	compat_push_jsonb(&state, WJB_BEGIN_OBJECT, NULL);
	while (JsonbIteratorNext(&iterator, &key, true) == WJB_KEY)
	{
		(void) JsonbIteratorNext(&iterator, &value, true);
		compat_push_jsonb(&state, WJB_KEY, &key);
		if (value.type == jbvBinary && value.val.binary.data == rows)
			push_rows(&state, rows, kept);
		else
			compat_push_jsonb(&state, WJB_VALUE, &value);
	}
	compat_push_jsonb(&state, WJB_END_OBJECT, NULL);
	return JsonbValueToJsonb(state.result);
}

/* ---- digests ---- */

/* A cell of mrkdwn, of plain text in the header; an empty one is a space. */
static void
push_cell(JsonbInState *state, const char *mrkdwn, bool is_header)
{
	if (!is_header && !mrkdwn_is_blank(mrkdwn))
	{
		blocks_push_rich_text(state, mrkdwn);
		return;
	}
	compat_push_jsonb(state, WJB_BEGIN_OBJECT, NULL);
	blocks_push_string(state, "type", "raw_text");
	blocks_push_string(state, "text", mrkdwn_is_blank(mrkdwn) ? " " : mrkdwn);
	compat_push_jsonb(state, WJB_END_OBJECT, NULL);
}

/*
 * Append a table: "rows" is a list of char **, each with so many columns of mrkdwn,
 * the first of them the header, of plain text.  As a user's blocks, it is to be
 * passed through blocks_message(); where Slack rejects it, the outbox sends its
 * plain form.
 */
void
blocks_push_table(JsonbInState *state, int columns, List *rows)
{
	ListCell *cell;

	compat_push_jsonb(state, WJB_BEGIN_OBJECT, NULL);
	blocks_push_string(state, "type", "table");
	blocks_push_key(state, "rows");
	compat_push_jsonb(state, WJB_BEGIN_ARRAY, NULL);
	foreach(cell, rows)
	{
		char **texts = lfirst(cell);

		compat_push_jsonb(state, WJB_BEGIN_ARRAY, NULL);
		for (int i = 0; i < columns; i++)
			push_cell(state, texts[i], cell == list_head(rows));
		compat_push_jsonb(state, WJB_END_ARRAY, NULL);
	}
	compat_push_jsonb(state, WJB_END_ARRAY, NULL);
	compat_push_jsonb(state, WJB_END_OBJECT, NULL);
}
