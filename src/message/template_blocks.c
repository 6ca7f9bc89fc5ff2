/*
 * template_blocks.c
 *		Renders the strings in a user's Block Kit blocks on an event.
 *
 * Keys and structure stay.  How a value is made safe depends on where it is: in
 * mrkdwn, in Markdown, in a plain_text object, or in an address.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "base/base.h"
#include "base/compat.h"
#include "inbox/event.h"
#include "message/message.h"
#include "message/internal.h"

static void render_container(Render *render, JsonbInState *state,
							 JsonbContainer *container);

/* Are its own strings shown as they are: cells, titles and labels of charts too? */
static bool
is_plain_text(JsonbContainer *object)
{
	static const char *const types[] = {"plain_text", "raw_text", "raw_number",
										"data_table", "data_visualization"};
	char *type = json_get_string(object, "type");

	for (int i = 0; type != NULL && i < lengthof(types); i++)
		if (strcmp(type, types[i]) == 0)
			return true;
	return type == NULL;
}

/*
 * Is it a text object with placeholders, without "verbatim"?  Then verbatim is
 * set, so that Slack makes no links or mentions of what is filled in.
 */
static bool
needs_verbatim(JsonbContainer *object)
{
	char *type = json_get_string(object, "type");
	char *text = json_get_string(object, "text");
	JsonbValue verbatim;

	return type != NULL && strcmp(type, "mrkdwn") == 0 && text != NULL &&
		   strstr(text, "{{") != NULL &&
		   !json_get(object, "verbatim", &verbatim);
}

/* How the string with that key is shown. */
static TemplateTarget
target_of(JsonbContainer *object, const JsonbValue *key)
{
	static const char *const urls[] = {"url", "image_url", "thumbnail_url",
									   "video_url"};

	for (int i = 0; i < lengthof(urls); i++)
		if (key->val.string.len == strlen(urls[i]) &&
			memcmp(key->val.string.val, urls[i], key->val.string.len) == 0)
			return TARGET_URL;
	if (block_is(object, "markdown"))
		return TARGET_MARKDOWN;
	return is_plain_text(object) ? TARGET_PLAIN : TARGET_MRKDWN;
}

static void
render_string(Render *render, JsonbValue *value, TemplateTarget target)
{
	render->target = target;
	value->val.string.val = template_render_in(
		render, pnstrdup(value->val.string.val, value->val.string.len));
	value->val.string.len = strlen(value->val.string.val);
}

/* Append a value or an element, rendered if it is a string. */
static void
render_value(Render *render, JsonbInState *state, JsonbIteratorToken token,
			 JsonbValue *value, TemplateTarget target)
{
	if (value->type == jbvBinary)
	{
		render_container(render, state, value->val.binary.data);
		return;
	}
	if (value->type == jbvString)
		render_string(render, value, target);
	compat_push_jsonb(state, token, value);
}

/* Append an object; its keys are not rendered. */
static void
render_object(Render *render, JsonbInState *state, JsonbContainer *object)
{
	JsonbIterator *iterator = JsonbIteratorInit(object);
	JsonbValue key;
	JsonbValue value;

	(void) JsonbIteratorNext(&iterator, &key, true);
	compat_push_jsonb(state, WJB_BEGIN_OBJECT, NULL);
	while (JsonbIteratorNext(&iterator, &key, true) == WJB_KEY)
	{
		(void) JsonbIteratorNext(&iterator, &value, true);
		compat_push_jsonb(state, WJB_KEY, &key);
		render_value(render, state, WJB_VALUE, &value, target_of(object, &key));
	}
	if (needs_verbatim(object))
		blocks_push_bool(state, "verbatim", true);
	compat_push_jsonb(state, WJB_END_OBJECT, NULL);
}

/* Append an array or object.  The depth is a user's, so the stack is checked. */
static void
render_container(Render *render, JsonbInState *state, JsonbContainer *container)
{
	JsonbIterator *iterator;
	JsonbValue value;

	check_stack_depth();
	if (JsonContainerIsObject(container))
	{
		render_object(render, state, container);
		return;
	}
	iterator = JsonbIteratorInit(container);
	(void) JsonbIteratorNext(&iterator, &value, true);
	compat_push_jsonb(state, WJB_BEGIN_ARRAY, NULL);
	while (JsonbIteratorNext(&iterator, &value, true) == WJB_ELEM)
		render_value(render, state, WJB_ELEM, &value, TARGET_MRKDWN);
	compat_push_jsonb(state, WJB_END_ARRAY, NULL);
}

/* All strings of the blocks, with one limit for all of them */
Jsonb *
template_render_blocks_in(Render *render, Jsonb *blocks)
{
	JsonbInState state = {0};

	render_container(render, &state, &blocks->root);
	return JsonbValueToJsonb(state.result);
}

/* Render every string of the blocks on an event. */
Jsonb *
template_render_blocks(Jsonb *blocks, Event *event, bool for_customer)
{
	Render render = {event, TARGET_MRKDWN, .for_customer = for_customer};

	return template_render_blocks_in(&render, blocks);
}
