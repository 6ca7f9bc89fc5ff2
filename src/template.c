/*
 * template.c
 *		Renders templates: text with {{placeholders}}, alone or in blocks.
 *
 * Everything that a placeholder puts in is made safe: &, < and > escaped,
 * control characters turned into spaces, the length bounded.  What the author
 * of the template wrote is Slack's markup and stays as it is.
 */
#include "template.h"
#include "blocks.h"

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "text.h"

/* ---- one placeholder ---- */

/* In the rest of an address: what would end it, or isn't part of one, doesn't. */
static bool
stays_in_address(unsigned char c)
{
	return c > ' ' && c != 0x7F && strchr("<>\"|", c) == NULL;
}

static char *
value_safe(const Render *render, const TemplateValue *value)
{
	char *text = value->text;

	if (value->kind == VALUE_MARKUP)
		return text;
	if (value->kind == VALUE_MISSING)
		return pstrdup(render->target == TARGET_URL ? "" : TEMPLATE_NONE);
	if (value->kind == VALUE_JSON)
		text = template_text(&value->json);
	if (render->target == TARGET_URL)
		return text_percent_encode(text, stays_in_address);
	if (pg_mbstrlen(text) > TEMPLATE_VALUE_CHARS)
	{
		int kept = pg_mbcharcliplen(text, strlen(text),
									TEMPLATE_VALUE_CHARS - 1);

		text = psprintf("%.*s…", kept, text);
	}
	return blocks_escape(text);
}

static char *
render_placeholder(Render *render, const TemplatePlaceholder *placeholder)
{
	TemplateValue value = {VALUE_MISSING};
	ListCell *cell;

	foreach(cell, placeholder->paths)
	{
		template_find(render, lfirst(cell), &value);
		if (value.kind != VALUE_MISSING)
			break;
	}
	foreach(cell, placeholder->filters)
	{
		const TemplateFilter *filter = lfirst(cell);

		filter->kind->apply(render, filter, &value);
	}
	return value_safe(render, &value);
}

/* ---- text ---- */

static void
put(Render *render, StringInfo out, const char *text, int length)
{
	appendBinaryStringInfo(out, text, length);
	render->written += length;
}

/* Once a message has grown too large, placeholders put nothing more in. */
static char *
render_text(Render *render, const char *text)
{
	const char *at = text;
	const char *begin;
	const char *end;
	TemplatePlaceholder *placeholder;
	StringInfoData out;

	initStringInfo(&out);
	while ((placeholder = template_next(text, at, &begin, &end)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		put(render, &out, at, begin - at);
		if (render->written < TEMPLATE_MAX_RESULT)
		{
			char *value = render_placeholder(render, placeholder);

			put(render, &out, value, strlen(value));
		}
		at = end;
	}
	put(render, &out, at, strlen(at));
	return out.data;
}

/* Render a template on an event; mrkdwn.  The caller is in the engine's scope. */
char *
template_render(const char *text, Event *event)
{
	Render render = {event, TARGET_MRKDWN};

	return render_text(&render, text);
}

/* ---- blocks ---- */

static void render_container(Render *render, JsonbInState *state,
							 JsonbContainer *container);

static bool
is_plain_text(JsonbContainer *object)
{
	char *type = json_get_string(object, "type");

	return type != NULL && strcmp(type, "plain_text") == 0;
}

/* Markup with other people's text in it, of which the author says nothing? */
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

static TemplateTarget
target_of(JsonbContainer *object, const JsonbValue *key)
{
	static const char *const urls[] = {"url", "image_url", "thumbnail_url",
									   "video_url"};

	for (int i = 0; i < lengthof(urls); i++)
		if (key->val.string.len == strlen(urls[i]) &&
			memcmp(key->val.string.val, urls[i], key->val.string.len) == 0)
			return TARGET_URL;
	return is_plain_text(object) ? TARGET_PLAIN : TARGET_MRKDWN;
}

static void
render_string(Render *render, JsonbValue *value, TemplateTarget target)
{
	render->target = target;
	value->val.string.val = render_text(
		render, pnstrdup(value->val.string.val, value->val.string.len));
	value->val.string.len = strlen(value->val.string.val);
}

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

static Jsonb *
render_blocks(Render *render, Jsonb *blocks)
{
	JsonbInState state = {0};

	render_container(render, &state, &blocks->root);
	return JsonbValueToJsonb(state.result);
}

/* Render every string of blocks; keys and structure stay. */
Jsonb *
template_render_blocks(Jsonb *blocks, Event *event)
{
	Render render = {event, TARGET_MRKDWN};

	return render_blocks(&render, blocks);
}

/* ---- for the author of a template ---- */

static void
read_event(Jsonb *document, Event *event)
{
	char *text = JsonbToCString(NULL, &document->root, VARSIZE(document));
	Refusal refusal = {FAULT_NONE};

	if (!event_read(text, strlen(text), event, &refusal))
		refusal_raise(&refusal);
}

/* render_template(template, event) */
ENGINE_FUNCTION(stripe_sync_render_template)
{
	char *template = text_to_cstring(PG_GETARG_TEXT_PP(0));
	Event event;
	Render render = {&event, TARGET_MRKDWN, .reader = GetUserId()};
	RoleScope scope = role_enter_engine();
	char *result;

	template_check(template);
	read_event(PG_GETARG_JSONB_P(1), &event);
	result = render_text(&render, template);
	role_leave(&scope);
	PG_RETURN_TEXT_P(cstring_to_text(result));
}

static void
render_parts(MessageParts *parts, Jsonb *document, Oid reader)
{
	Event event;
	Render text = {&event, TARGET_MRKDWN, .reader = reader};
	Render blocks = text;

	template_check(parts->text);
	if (parts->blocks != NULL)
		template_check_blocks(parts->blocks);
	read_event(document, &event);
	parts->text = render_text(&text, parts->text);
	if (parts->blocks != NULL)
		parts->blocks = render_blocks(&blocks, parts->blocks);
}

static char *
read_severity(text *argument)
{
	char *severity = text_to_cstring(argument);

	if (strcmp(severity, "info") != 0 && strcmp(severity, "warning") != 0 &&
		strcmp(severity, "critical") != 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("unknown severity \"%s\"", severity),
						errhint("It is info, warning or critical.")));
	return severity;
}

/* preview_message(text, blocks, event, severity) */
ENGINE_FUNCTION(stripe_sync_preview_message)
{
	Oid reader = GetUserId();
	RoleScope scope = role_enter_engine();
	MessageParts parts = {""};
	Jsonb *result;

	if (!PG_ARGISNULL(0))
		parts.text = text_to_cstring(PG_GETARG_TEXT_PP(0));
	if (!PG_ARGISNULL(1))
		parts.blocks = PG_GETARG_JSONB_P(1);
	if (!PG_ARGISNULL(3))
		parts.severity = read_severity(PG_GETARG_TEXT_PP(3));
	if (!PG_ARGISNULL(2))
		render_parts(&parts, PG_GETARG_JSONB_P(2), reader);
	result = blocks_message(&parts);
	role_leave(&scope);
	PG_RETURN_JSONB_P(result);
}
