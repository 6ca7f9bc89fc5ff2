/*
 * block_table.c
 *		Tables: their cells, their size, cut to what a message has room for, and made
 *		for digests.
 *
 * Cells of a digest are rich text, which is made of mrkdwn; a plain form makes mrkdwn
 * of it again.  Of mrkdwn these are known: <url|label>, <@U...>, <!date^...|...>,
 * :emoji:, *bold* and `code`.  All else is text.  A style ends with its line; what
 * doesn't end is text.
 *
 * A table counts by the characters of its cells, of which a message has 10,000.
 * What is cut are the last rows.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/numeric.h"

#include "base/base.h"
#include "base/compat.h"
#include "message/message.h"
#include "message/internal.h"

#define MAX_ROWS 100 /* without a data table's header */
#define LETTERS	 "abcdefghijklmnopqrstuvwxyz"
#define UPPER	 "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGITS	 "0123456789"

/* ---- rich text from mrkdwn ---- */

static void
push_element(JsonbInState *state, const char *type)
{
	compat_push_jsonb(state, WJB_BEGIN_OBJECT, NULL);
	blocks_push_string(state, "type", type);
}

/* Text that has no markup but entities; nothing for "" */
static void
push_text(JsonbInState *state, const char *mrkdwn, int length, const char *style)
{
	if (length == 0)
		return;
	push_element(state, "text");
	blocks_push_string(state, "text", mrkdwn_unescape(pnstrdup(mrkdwn, length)));
	if (style != NULL)
	{
		blocks_push_key(state, "style");
		compat_push_jsonb(state, WJB_BEGIN_OBJECT, NULL);
		blocks_push_bool(state, style, true);
		compat_push_jsonb(state, WJB_END_OBJECT, NULL);
	}
	compat_push_jsonb(state, WJB_END_OBJECT, NULL);
}

static void
push_number(JsonbInState *state, const char *key, int64 number)
{
	JsonbValue value = {.type = jbvNumeric};

	value.val.numeric = int64_to_numeric(number);
	blocks_push_key(state, key);
	compat_push_jsonb(state, WJB_VALUE, &value);
}

/* "!date^seconds^format" with its fallback; false if it is none */
static bool
push_date(JsonbInState *state, const char *target, const char *fallback)
{
	const char *digits = target + strlen("!date^");
	int length;

	if (strncmp(target, "!date^", 6) != 0)
		return false;
	length = strspn(digits, DIGITS);
	if (length == 0 || length > 12 || digits[length] != '^')
		return false;
	push_element(state, "date");
	push_number(state, "timestamp", strtoll(digits, NULL, 10));
	blocks_push_string(state, "format", digits + length + 1);
	blocks_push_string(state, "fallback", fallback);
	compat_push_jsonb(state, WJB_END_OBJECT, NULL);
	return true;
}

/* "<...>" at "mrkdwn".  Returns its bytes, 0 if it is none of those that are known. */
static int
push_angle(JsonbInState *state, const char *mrkdwn)
{
	const char *end = mrkdwn + strcspn(mrkdwn, ">\n");
	char *target = pnstrdup(mrkdwn + 1, end - mrkdwn - 1);
	char *label = strchr(target, '|');

	if (*end != '>')
		return 0;
	if (label != NULL)
		*label++ = '\0';
	if (strncmp(target, "http", 4) == 0)
	{
		push_element(state, "link");
		blocks_push_string(state, "url", mrkdwn_unescape(target));
		if (label != NULL && label[0] != '\0')
			blocks_push_string(state, "text", mrkdwn_unescape(label));
		compat_push_jsonb(state, WJB_END_OBJECT, NULL);
	}
	else if (target[0] == '@')
	{
		push_element(state, "user");
		blocks_push_string(state, "user_id", target + 1);
		compat_push_jsonb(state, WJB_END_OBJECT, NULL);
	}
	else if (!push_date(state, target, label != NULL ? label : ""))
		return 0;
	return end + 1 - mrkdwn;
}

/* ":name:" with a letter in it: 9:40:12 has none */
static int
push_emoji(JsonbInState *state, const char *mrkdwn)
{
	int length = strspn(mrkdwn + 1, LETTERS DIGITS "_+-");
	char *name = pnstrdup(mrkdwn + 1, length);

	if (mrkdwn[length + 1] != ':' || strpbrk(name, LETTERS) == NULL)
		return 0;
	push_element(state, "emoji");
	blocks_push_string(state, "name", name);
	compat_push_jsonb(state, WJB_END_OBJECT, NULL);
	return length + 2;
}

/* "*bold*" or "`code`" without other markup in it */
static int
push_styled(JsonbInState *state, const char *mrkdwn, const char *style)
{
	const char marks[] = {mrkdwn[0], '\n', '<', '\0'};
	int length = strcspn(mrkdwn + 1, marks);

	if (length == 0 || mrkdwn[length + 1] != mrkdwn[0] || mrkdwn[1] == ' ')
		return 0;
	push_text(state, mrkdwn + 1, length, style);
	return length + 2;
}

/* What begins at "mrkdwn" if it isn't text; 0 if it is. */
static int
push_markup(JsonbInState *state, const char *mrkdwn)
{
	switch (*mrkdwn)
	{
		case '<':
			return push_angle(state, mrkdwn);
		case ':':
			return push_emoji(state, mrkdwn);
		case '*':
			return push_styled(state, mrkdwn, "bold");
		case '`':
			return push_styled(state, mrkdwn, "code");
	}
	return 0;
}

/* Append a block of rich text with what the mrkdwn says; not for a blank one. */
static void
push_rich_text(JsonbInState *state, const char *mrkdwn)
{
	const char *text = mrkdwn;
	const char *at = mrkdwn;

	push_element(state, "rich_text");
	blocks_push_key(state, "elements");
	compat_push_jsonb(state, WJB_BEGIN_ARRAY, NULL);
	push_element(state, "rich_text_section");
	blocks_push_key(state, "elements");
	compat_push_jsonb(state, WJB_BEGIN_ARRAY, NULL);
	while (*at != '\0')
	{
		JsonbInState before = {0};
		int length;

		at += strcspn(at, "<:*`");
		/* what it is, is known before the text that stands before it is added */
		compat_push_jsonb(&before, WJB_BEGIN_ARRAY, NULL);
		length = *at != '\0' ? push_markup(&before, at) : 0;
		if (length > 0)
		{
			push_text(state, text, at - text, NULL);
			push_markup(state, at);
			at += length;
			text = at;
		}
		else if (*at != '\0')
			at++;
	}
	push_text(state, text, at - text, NULL);
	compat_push_jsonb(state, WJB_END_ARRAY, NULL);
	compat_push_jsonb(state, WJB_END_OBJECT, NULL);
	compat_push_jsonb(state, WJB_END_ARRAY, NULL);
	compat_push_jsonb(state, WJB_END_OBJECT, NULL);
}

/* ---- rich text to mrkdwn ---- */

static void
append_styled(StringInfo out, JsonbContainer *element, const char *text)
{
	JsonbContainer *style = json_get_object(element, "style");
	JsonbValue value;
	const char *mark = "";

	if (style != NULL && json_get(style, "bold", &value))
		mark = "*";
	else if (style != NULL && json_get(style, "code", &value))
		mark = "`";
	appendStringInfo(out, "%s%s%s", mark, mrkdwn_escape_once(text), mark);
}

static void
append_date(StringInfo out, JsonbContainer *element)
{
	char *format = json_get_string(element, "format");
	char *fallback = json_get_string(element, "fallback");
	JsonbValue seconds;

	if (format == NULL || !json_get(element, "timestamp", &seconds) ||
		seconds.type != jbvNumeric || strpbrk(format, "|<>") != NULL)
		return;
	appendStringInfo(out, "<!date^%s^%s|%s>", template_text(&seconds), format,
					 fallback ? mrkdwn_escape_once(fallback) : "");
}

static void
append_link(StringInfo out, const char *url, const char *text)
{
	if (strncmp(url, "http", 4) == 0 && strpbrk(url, "|<> ") == NULL)
		appendStringInfo(out, "<%s|%s>", mrkdwn_escape_once(url),
						 mrkdwn_escape_once(text ? text : url));
	else
		appendStringInfoString(out, mrkdwn_escape_once(text ? text : url));
}

/* A person, who is mentioned as the rich text would */
static void
append_user(StringInfo out, const char *user)
{
	if (user[0] != '\0' && user[strspn(user, UPPER DIGITS)] == '\0')
		appendStringInfo(out, "<@%s>", user);
}

/* Append an element of rich text, or a cell, in one line. */
void
rich_text_append(StringInfo out, JsonbContainer *element)
{
	JsonbContainer *inner = block_array(element, "elements");
	char *text = json_get_string(element, "text");
	char *url = json_get_string(element, "url");
	char *name = json_get_string(element, "name");
	char *user = json_get_string(element, "user_id");
	int n = inner != NULL ? JsonContainerSize(inner) : 0;

	check_stack_depth();
	if (block_is(element, "emoji") && name != NULL)
		appendStringInfo(out, ":%s:", mrkdwn_escape(name));
	else if (block_is(element, "date"))
		append_date(out, element);
	else if (block_is(element, "user") && user != NULL)
		append_user(out, user);
	else if (url != NULL)
		append_link(out, url, text);
	else if (text != NULL)
		append_styled(out, element, text);
	for (int i = 0; i < n; i++)
	{
		JsonbContainer *next = block_element(inner, i);

		if (next != NULL)
			rich_text_append(out, next);
	}
}

/* ---- size ---- */

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
		push_rich_text(state, mrkdwn);
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
