/*
 * block_newer.c
 *		Kinds of blocks that Slack added since 2025, which some workspaces, clients
 *		and methods don't accept yet.
 *
 * A message that has any is sent again with their plain form (block_plain.c) if
 * Slack rejects it for its blocks.  That is remembered for the destination, so a
 * block that is certain to be rejected must not be the cause: what a kind needs is
 * checked here, and a block that lacks it is plain from the beginning.
 *
 * What they need is in https://docs.slack.dev/reference/block-kit/blocks: of a
 * table 100 rows of 20 cells; of a data table 2 to 101 rows with the header, all of
 * the same length, without rich text in the header; slices above zero; series
 * with different names, each with one value for each category.  A message has 10,000
 * characters in all cells and 12,000 in all markdown there.  One table (code
 * only_one_table_allowed) and two charts for each message are not in it: they are
 * what Slack's answers told users.
 */
#include "postgres.h"

#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

#include "base/base.h"
#include "message/message.h"
#include "message/internal.h"

/* ---- parts of a block ---- */

bool
block_is(JsonbContainer *block, const char *type)
{
	char *own = json_get_string(block, "type");

	return own != NULL && strcmp(own, type) == 0;
}

/* The array in that field; NULL if there is none. */
JsonbContainer *
block_array(JsonbContainer *object, const char *field)
{
	JsonbValue value;

	if (!json_get(object, field, &value) || value.type != jbvBinary ||
		!JsonContainerIsArray(value.val.binary.data))
		return NULL;
	return value.val.binary.data;
}

/* The element of the array, if it is an object; else NULL. */
JsonbContainer *
block_element(JsonbContainer *array, int i)
{
	JsonbValue *value = getIthJsonbValueFromContainer(array, i);

	return value != NULL && json_is_object(value) ? value->val.binary.data
												  : NULL;
}

static bool
has_text(JsonbContainer *object, const char *field)
{
	char *text = json_get_string(object, field);

	return text != NULL && text[0] != '\0';
}

/* Is the field a text object? */
static bool
has_text_object(JsonbContainer *object, const char *field)
{
	JsonbContainer *text = json_get_object(object, field);

	return text != NULL && has_text(text, "text");
}

static bool
is_number(JsonbContainer *object, const char *field)
{
	JsonbValue value;

	return json_get(object, field, &value) && value.type == jbvNumeric;
}

/* ---- tables ---- */

/* The i-th row, NULL if it is no array */
JsonbContainer *
table_row(JsonbContainer *rows, int i)
{
	JsonbValue *row = getIthJsonbValueFromContainer(rows, i);

	if (row == NULL || row->type != jbvBinary ||
		!JsonContainerIsArray(row->val.binary.data))
		return NULL;
	return row->val.binary.data;
}

static bool
is_cell(JsonbContainer *cell, bool rich)
{
	if (cell == NULL)
		return false;
	if (block_is(cell, "rich_text"))
		return rich && block_array(cell, "elements") != NULL;
	return (block_is(cell, "raw_text") ||
			(block_is(cell, "raw_number") && is_number(cell, "value"))) &&
		   has_text(cell, "text");
}

static bool
is_row(JsonbContainer *row, bool rich)
{
	int n = row != NULL ? JsonContainerSize(row) : 0;

	for (int i = 0; i < n; i++)
		if (!is_cell(block_element(row, i), rich))
			return false;
	return n > 0;
}

static bool
is_table(JsonbContainer *block)
{
	JsonbContainer *rows = block_array(block, "rows");
	int n = rows != NULL ? JsonContainerSize(rows) : 0;

	for (int i = 0; i < n; i++)
		if (!is_row(table_row(rows, i), true))
			return false;
	return n > 0;
}

static bool
is_page_size(JsonbContainer *block)
{
	JsonbValue value;
	int64 size;

	return !json_get(block, "page_size", &value) ||
		   (json_to_int64(&value, &size) && size >= 1 && size <= 100);
}

static bool
is_data_table(JsonbContainer *block)
{
	JsonbContainer *rows = block_array(block, "rows");
	int n = rows != NULL ? JsonContainerSize(rows) : 0;

	if (n < 2 || !has_text(block, "caption") || !is_page_size(block))
		return false;
	for (int i = 0; i < n; i++)
	{
		JsonbContainer *row = table_row(rows, i);

		if (!is_row(row, i > 0) ||
			JsonContainerSize(row) != JsonContainerSize(table_row(rows, 0)))
			return false;
	}
	return true;
}

/* ---- charts ---- */

static bool
is_pie(JsonbContainer *chart)
{
	JsonbContainer *segments = block_array(chart, "segments");
	int n = segments != NULL ? JsonContainerSize(segments) : 0;

	for (int i = 0; i < n; i++)
	{
		JsonbContainer *segment = block_element(segments, i);
		JsonbValue value;

		if (segment == NULL || !has_text(segment, "label") ||
			!json_get(segment, "value", &value) || value.type != jbvNumeric ||
			DatumGetBool(DirectFunctionCall2(
				numeric_le, NumericGetDatum(value.val.numeric),
				DirectFunctionCall1(int4_numeric, 0))))
			return false;
	}
	return n > 0;
}

/* How many strings of the array, or "field" of its objects, are this text */
static int
count_text(JsonbContainer *array, const char *field, const char *text)
{
	int count = 0;
	int n = JsonContainerSize(array);

	for (int i = 0; i < n; i++)
	{
		JsonbValue *value = getIthJsonbValueFromContainer(array, i);
		char *own = NULL;

		if (value->type == jbvString)
			own = pnstrdup(value->val.string.val, value->val.string.len);
		else if (json_is_object(value))
			own = json_get_string(value->val.binary.data, field);
		count += own != NULL && strcmp(own, text) == 0;
	}
	return count;
}

/* Has it one value for each category, and no other? */
static bool
is_series(JsonbContainer *series, JsonbContainer *categories)
{
	JsonbContainer *data = block_array(series, "data");
	int n = data != NULL ? JsonContainerSize(data) : 0;

	if (n == 0 || n != JsonContainerSize(categories))
		return false;
	for (int i = 0; i < n; i++)
	{
		JsonbContainer *point = block_element(data, i);
		char *label = point ? json_get_string(point, "label") : NULL;

		if (label == NULL || !is_number(point, "value") ||
			count_text(categories, NULL, label) != 1 ||
			count_text(data, "label", label) != 1)
			return false;
	}
	return true;
}

static bool
is_plot(JsonbContainer *chart)
{
	JsonbContainer *axes = json_get_object(chart, "axis_config");
	JsonbContainer *categories = axes ? block_array(axes, "categories") : NULL;
	JsonbContainer *all = block_array(chart, "series");
	int n = all != NULL && categories != NULL ? JsonContainerSize(all) : 0;

	for (int i = 0; i < n; i++)
	{
		JsonbContainer *series = block_element(all, i);
		char *name = series ? json_get_string(series, "name") : NULL;

		if (name == NULL || count_text(all, "name", name) != 1 ||
			!is_series(series, categories))
			return false;
	}
	return n > 0;
}

static bool
is_data_visualization(JsonbContainer *block)
{
	JsonbContainer *chart = json_get_object(block, "chart");

	if (chart == NULL || !has_text(block, "title"))
		return false;
	if (block_is(chart, "pie"))
		return is_pie(chart);
	return (block_is(chart, "bar") || block_is(chart, "area") ||
			block_is(chart, "line")) &&
		   is_plot(chart);
}

/* ---- the others ---- */

static bool
is_card(JsonbContainer *block)
{
	JsonbContainer *actions = block_array(block, "actions");
	JsonbContainer *image = json_get_object(block, "hero_image");

	return (image != NULL && (has_text(image, "image_url") ||
							  json_get_object(image, "slack_file") != NULL)) ||
		   has_text_object(block, "title") || has_text_object(block, "body") ||
		   (actions != NULL && JsonContainerSize(actions) > 0);
}

static bool
is_carousel(JsonbContainer *block)
{
	JsonbContainer *cards = block_array(block, "elements");
	int n = cards != NULL ? JsonContainerSize(cards) : 0;

	for (int i = 0; i < n; i++)
	{
		JsonbContainer *card = block_element(cards, i);

		if (card == NULL || !block_is(card, "card") || !is_card(card))
			return false;
	}
	return n > 0;
}

/* Blocks that Slack doesn't accept in a container make it plain. */
static bool
is_container(JsonbContainer *block)
{
	static const char *const inner[] = {"actions", "context", "divider",
										"header",  "image",	  "rich_text",
										"section", "table",	  "video"};
	JsonbContainer *children = block_array(block, "child_blocks");
	int n = children != NULL ? JsonContainerSize(children) : 0;

	if (!has_text_object(block, "title") &&
		json_get_object(block, "rich_text_title") == NULL)
		return false;
	for (int i = 0; i < n; i++)
	{
		JsonbContainer *child = block_element(children, i);
		bool known = false;

		for (int k = 0; child != NULL && k < lengthof(inner); k++)
			known = known || block_is(child, inner[k]);
		if (!known || (block_is(child, "table") && !is_table(child)))
			return false;
	}
	return n > 0;
}

static bool
is_markdown(JsonbContainer *block)
{
	return has_text(block, "text");
}

static bool
is_alert(JsonbContainer *block)
{
	return has_text_object(block, "text");
}

static const struct
{
	const char *type;
	bool (*is_valid)(JsonbContainer *block);
} newer[] = {
	{"table", is_table},
	{"data_table", is_data_table},
	{"data_visualization", is_data_visualization},
	{"markdown", is_markdown},
	{"card", is_card},
	{"carousel", is_carousel},
	{"container", is_container},
	{"alert", is_alert},
};

/* Is it of such a kind?  *is_valid: has it what Slack needs? */
bool
block_is_newer(JsonbContainer *block, bool *is_valid)
{
	for (int i = 0; i < lengthof(newer); i++)
		if (block_is(block, newer[i].type))
		{
			*is_valid = newer[i].is_valid(block);
			return true;
		}
	return false;
}
