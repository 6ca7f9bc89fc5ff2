/*
 * template.c
 *		Renders a template on an event: text with {{placeholders}}.
 *
 * The value of a placeholder comes from Stripe or a user, so it is escaped (&,
 * < and >), control characters become spaces, and its length is limited.  The
 * rest of the template is Slack's markup and is left as it is.
 *
 * A value that is missing, or that a filter can't convert, is no error: an alert
 * must be sent whatever Stripe sends.  Templates are parsed when they are set up
 * (template_parse.c), so no syntax error can occur here.
 *
 * Rendering runs in the engine's scope and takes ACCESS SHARE locks on the
 * mirror's tables that a path leads to (template_path.c).
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"

#include "base/text.h"
#include "inbox/event.h"
#include "message/message.h"
#include "message/internal.h"

/* ---- one placeholder ---- */

/* In the rest of an address: what would end it, or isn't part of one, doesn't. */
static bool
stays_in_address(unsigned char c)
{
	return c > ' ' && c != 0x7F && strchr("<>\"|", c) == NULL;
}

/* In Markdown, a link's label is in square brackets: none may come with a value. */
char *
template_markdown(const char *text)
{
	char *safe = mrkdwn_escape(text);

	for (char *p = safe; *p != '\0'; p++)
		if (*p == '[')
			*p = '(';
		else if (*p == ']')
			*p = ')';
	return safe;
}

/* The value as text that is safe where it is put. */
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
	return render->target == TARGET_MARKDOWN ? template_markdown(text)
											 : mrkdwn_escape(text);
}

/* The first path that leads to a value, and that through the filters. */
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
append_counted(Render *render, StringInfo out, const char *text, int length)
{
	appendBinaryStringInfo(out, text, length);
	render->written += length;
}

/*
 * Render a template.  When the strings of a message have TEMPLATE_MAX_RESULT bytes
 * together, further placeholders are empty.
 */
char *
template_render_in(Render *render, const char *text)
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
		append_counted(render, &out, at, begin - at);
		if (render->written < TEMPLATE_MAX_RESULT)
		{
			char *value = render_placeholder(render, placeholder);

			append_counted(render, &out, value, strlen(value));
		}
		at = end;
	}
	append_counted(render, &out, at, strlen(at));
	return out.data;
}

/* Render a template on an event, as mrkdwn. */
char *
template_render(const char *text, Event *event, bool for_customer)
{
	Render render = {event, TARGET_MRKDWN, .for_customer = for_customer};

	return template_render_in(&render, text);
}
