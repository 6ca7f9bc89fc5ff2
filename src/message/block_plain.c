/*
 * block_plain.c
 *		Newer kinds of blocks as sections, which Slack accepts everywhere.
 *
 * The content is the same: a row of a table is a line, a chart is its numbers.
 * Text that isn't mrkdwn (cells, labels, Markdown) is escaped.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "miscadmin.h"

#include "base/base.h"
#include "base/compat.h"
#include "message/message.h"
#include "message/internal.h"

#define MAX_SECTION 3000
#define BETWEEN		" · "

/* ---- texts ---- */

/* Append sections with the lines, as few as hold them. */
static void
push_lines(JsonbInState *state, const char *text)
{
	StringInfoData section;

	initStringInfo(&section);
	while (*text != '\0')
	{
		int length = strcspn(text, "\n");
		char *line = mrkdwn_cut(pnstrdup(text, length), MAX_SECTION);

		if (section.len > 0 &&
			mrkdwn_length(section.data) + mrkdwn_length(line) >= MAX_SECTION)
		{
			blocks_push_section(state, section.data);
			initStringInfo(&section);
		}
		if (section.len > 0)
			appendStringInfoChar(&section, '\n');
		appendStringInfoString(&section, line);
		text += length + (text[length] == '\n');
	}
	if (!mrkdwn_is_blank(section.data))
		blocks_push_section(state, section.data);
}

static void
append_bold(StringInfo out, const char *text)
{
	if (text != NULL && !mrkdwn_is_blank(text))
		appendStringInfo(out, "*%s*\n", mrkdwn_escape_once(text));
}

/* A text object in mrkdwn; NULL if there is none. */
static char *
text_object(JsonbContainer *object, const char *field)
{
	JsonbContainer *value = json_get_object(object, field);
	char *text = value ? json_get_string(value, "text") : NULL;

	if (text == NULL || mrkdwn_is_blank(text))
		return NULL;
	return block_is(value, "plain_text") ? mrkdwn_escape_once(text) : text;
}

/* ---- tables ---- */

static void
append_row(StringInfo out, JsonbContainer *row, bool is_header)
{
	int n = row != NULL ? JsonContainerSize(row) : 0;
	const char *mark = is_header ? "*" : "";

	for (int i = 0; i < n; i++)
	{
		JsonbContainer *cell = block_element(row, i);
		StringInfoData text;

		initStringInfo(&text);
		if (cell != NULL)
			rich_text_append(&text, cell);
		appendStringInfoString(out, i > 0 ? BETWEEN : "");
		if (!mrkdwn_is_blank(text.data))
			appendStringInfo(out, "%s%s%s", mark, text.data, mark);
	}
	appendStringInfoChar(out, '\n');
}

static void
push_table(JsonbInState *state, JsonbContainer *block)
{
	JsonbContainer *rows = block_array(block, "rows");
	int n = rows != NULL ? JsonContainerSize(rows) : 0;
	StringInfoData out;

	initStringInfo(&out);
	append_bold(&out, json_get_string(block, "caption"));
	for (int i = 0; i < n; i++)
		append_row(&out, table_row(rows, i), i == 0);
	push_lines(state, out.data);
}

/* ---- charts ---- */

/* "label: value" of each point */
static void
append_points(StringInfo out, JsonbContainer *points, const char *between)
{
	int n = points != NULL ? JsonContainerSize(points) : 0;

	for (int i = 0; i < n; i++)
	{
		JsonbContainer *point = block_element(points, i);
		char *label = point ? json_get_string(point, "label") : NULL;
		JsonbValue value;

		appendStringInfo(out, "%s%s: ", i > 0 ? between : "",
						 label ? mrkdwn_escape_once(label) : "");
		if (point != NULL && json_get(point, "value", &value))
			appendStringInfoString(out,
								   mrkdwn_escape_once(template_text(&value)));
	}
	appendStringInfoChar(out, '\n');
}

static void
push_data_visualization(JsonbInState *state, JsonbContainer *block)
{
	JsonbContainer *chart = json_get_object(block, "chart");
	JsonbContainer *series = chart ? block_array(chart, "series") : NULL;
	int n = series != NULL ? JsonContainerSize(series) : 0;
	StringInfoData out;

	initStringInfo(&out);
	append_bold(&out, json_get_string(block, "title"));
	if (chart != NULL && block_array(chart, "segments") != NULL)
		append_points(&out, block_array(chart, "segments"), "\n");
	for (int i = 0; i < n; i++)
	{
		JsonbContainer *one = block_element(series, i);
		char *name = one ? json_get_string(one, "name") : NULL;

		if (name != NULL)
			appendStringInfo(&out, "_%s_ ", mrkdwn_escape_once(name));
		if (one != NULL)
			append_points(&out, block_array(one, "data"), BETWEEN);
	}
	push_lines(state, out.data);
}

/* ---- Markdown ---- */

/* A link "[label](https://…)" at "text", which ends there; NULL if it is none. */
static const char *
append_markdown_link(StringInfo out, const char *text)
{
	int label = strcspn(text + 1, "[]\n");
	const char *url = text + label + 2;
	int length;

	if (label == 0 || strncmp(text + label + 1, "](http", 6) != 0)
		return NULL;
	url++;
	length = strcspn(url, ")<>| \n");
	if (url[length] != ')')
		return NULL;
	appendStringInfo(out, "<%s|%s>", mrkdwn_escape_once(pnstrdup(url, length)),
					 mrkdwn_escape_once(pnstrdup(text + 1, label)));
	return url + length + 1;
}

/* A line: its heading, bold text and links; all else is shown as it is. */
static void
append_markdown(StringInfo out, const char *line)
{
	int heading = strspn(line, "#");
	bool is_heading = heading > 0 && line[heading] == ' ';

	if (is_heading)
	{
		line += heading + 1;
		appendStringInfoChar(out, '*');
	}
	while (*line != '\0')
	{
		int length = 1 + strcspn(line + 1, "*[");
		const char *end = *line == '[' ? append_markdown_link(out, line) : NULL;

		if (end != NULL)
			line = end;
		else if (strncmp(line, "**", 2) == 0)
		{
			appendStringInfoString(out, is_heading ? "" : "*");
			line += 2;
		}
		else
		{
			appendStringInfoString(out,
								   mrkdwn_escape_once(pnstrdup(line, length)));
			line += length;
		}
	}
	appendStringInfoString(out, is_heading ? "*\n" : "\n");
}

static void
push_markdown(JsonbInState *state, JsonbContainer *block)
{
	char *text = json_get_string(block, "text");
	StringInfoData out;

	initStringInfo(&out);
	while (text != NULL && *text != '\0')
	{
		int length = strcspn(text, "\n");

		append_markdown(&out, pnstrdup(text, length));
		text += length + (text[length] == '\n');
	}
	push_lines(state, out.data);
}

/* ---- cards and containers ---- */

/* Append the block's field as it is. */
static void
push_field(JsonbInState *state, JsonbContainer *block, const char *field,
		   const char *as)
{
	JsonbValue value;

	if (!json_get(block, field, &value))
		return;
	blocks_push_key(state, as);
	compat_push_jsonb(state, WJB_VALUE, &value);
}

/* A card's image and buttons as the blocks that they are elsewhere */
static void
push_hero_image(JsonbInState *state, JsonbContainer *block)
{
	JsonbContainer *image = json_get_object(block, "hero_image");

	if (image == NULL)
		return;
	compat_push_jsonb(state, WJB_BEGIN_OBJECT, NULL);
	blocks_push_string(state, "type", "image");
	push_field(state, image, "image_url", "image_url");
	push_field(state, image, "slack_file", "slack_file");
	push_field(state, image, "alt_text", "alt_text");
	compat_push_jsonb(state, WJB_END_OBJECT, NULL);
}

static void
push_actions(JsonbInState *state, JsonbContainer *block)
{
	JsonbContainer *actions = block_array(block, "actions");

	if (actions == NULL || JsonContainerSize(actions) == 0)
		return;
	compat_push_jsonb(state, WJB_BEGIN_OBJECT, NULL);
	blocks_push_string(state, "type", "actions");
	push_field(state, block, "actions", "elements");
	compat_push_jsonb(state, WJB_END_OBJECT, NULL);
}

/* The first in bold, each in a line of its own */
static void
append_text_objects(StringInfo out, JsonbContainer *block,
					const char *const fields[], int n)
{
	for (int i = 0; i < n; i++)
	{
		char *text = text_object(block, fields[i]);

		if (text != NULL)
			appendStringInfo(out, i == 0 ? "*%s*\n" : "%s\n", text);
	}
}

static void
push_card(JsonbInState *state, JsonbContainer *block)
{
	static const char *const fields[] = {"title", "subtitle", "body", "subtext"};
	StringInfoData out;

	initStringInfo(&out);
	append_text_objects(&out, block, fields, lengthof(fields));
	push_hero_image(state, block);
	push_lines(state, out.data);
	push_actions(state, block);
}

static void
push_carousel(JsonbInState *state, JsonbContainer *block)
{
	JsonbContainer *cards = block_array(block, "elements");
	int n = cards != NULL ? JsonContainerSize(cards) : 0;

	for (int i = 0; i < n; i++)
	{
		JsonbContainer *card = block_element(cards, i);

		if (card != NULL)
			push_card(state, card);
	}
}

static void
push_container(JsonbInState *state, JsonbContainer *block)
{
	static const char *const title[] = {"title"};
	JsonbContainer *rich_title = json_get_object(block, "rich_text_title");
	JsonbContainer *children = block_array(block, "child_blocks");
	char *subtitle = text_object(block, "subtitle");
	int n = children != NULL ? JsonContainerSize(children) : 0;
	StringInfoData out;

	initStringInfo(&out);
	if (rich_title != NULL)
	{
		appendStringInfoChar(&out, '*');
		rich_text_append(&out, rich_title);
		appendStringInfoString(&out, "*\n");
	}
	else
		append_text_objects(&out, block, title, lengthof(title));
	if (subtitle != NULL)
		appendStringInfoString(&out, subtitle);
	push_lines(state, out.data);
	for (int i = 0; i < n; i++)
		block_push_plain(state, getIthJsonbValueFromContainer(children, i));
}

static void
push_alert(JsonbInState *state, JsonbContainer *block)
{
	char *text = text_object(block, "text");

	if (text != NULL)
		push_lines(state, text);
}

static const struct
{
	const char *type;
	void (*push)(JsonbInState *state, JsonbContainer *block);
} plain_forms[] = {
	{"table", push_table},
	{"data_table", push_table},
	{"data_visualization", push_data_visualization},
	{"markdown", push_markdown},
	{"card", push_card},
	{"carousel", push_carousel},
	{"container", push_container},
	{"alert", push_alert},
};

/*
 * Append a block, if it is of a newer kind its plain form: none, one or more
 * blocks.
 */
void
block_push_plain(JsonbInState *state, JsonbValue *block)
{
	check_stack_depth();
	for (int i = 0; json_is_object(block) && i < lengthof(plain_forms); i++)
		if (block_is(block->val.binary.data, plain_forms[i].type))
		{
			plain_forms[i].push(state, block->val.binary.data);
			return;
		}
	compat_push_jsonb(state, WJB_ELEM, block);
}
