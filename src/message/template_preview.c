/*
 * template_preview.c
 *		render_template(), preview_message(): what a template makes of an event,
 *		for its author.  Nothing is queued.
 *
 * Objects of the mirror are filled in only if the caller may select from their
 * table; a template of an alert reads all of them.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"

#include "base/refusal.h"
#include "engine/engine.h"
#include "engine/rights.h"
#include "inbox/event.h"
#include "message/message.h"
#include "message/internal.h"

/* Raises SY004 if the document is no event. */
static void
read_event(Jsonb *document, Event *event)
{
	char *text = JsonbToCString(NULL, &document->root, VARSIZE(document));
	Refusal refusal = {FAULT_NONE};

	if (!event_read(text, strlen(text), event, &refusal))
		refusal_raise(&refusal);
}

/* render_template(template, event): raises 22023 for an invalid template */
ENGINE_FUNCTION(stripe_sync_render_template)
{
	char *template = text_to_cstring(PG_GETARG_TEXT_PP(0));
	Event event;
	Render render = {&event, TARGET_MRKDWN, .reader = GetUserId()};
	RoleScope scope = role_enter_engine();
	char *result;

	template_check(template);
	read_event(PG_GETARG_JSONB_P(1), &event);
	result = template_render_in(&render, template);
	role_leave(&scope);
	PG_RETURN_TEXT_P(cstring_to_text(result));
}

/* Render text and blocks on the event, as the caller sees the mirror. */
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
	parts->text = template_render_in(&text, parts->text);
	if (parts->blocks != NULL)
		parts->blocks = template_render_blocks_in(&blocks, parts->blocks);
}

/* Raises 22023 if it is not one of the three. */
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

/* preview_message(text, blocks, event, severity): the payload for Slack */
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
