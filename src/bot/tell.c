/*
 * tell.c
 *		What people are told, privately, and how people and times are written in
 *		messages and in what is stored.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "engine/array_argument.h"
#include "engine/statement.h"
#include "message/message.h"
#include "slack_calls/slack_calls.h"
#include "wording/wording.h"
#include "bot/internal.h"

#define MOST_TEXT 3000 /* characters */

/* The answer of a submitted view: another one in its place, with the text */
static Jsonb *
view_with(const char *text)
{
	static EngineStatement build = {
		"SELECT pg_catalog.jsonb_build_object('response_action', 'update', 'view',"
		" pg_catalog.jsonb_build_object('type', 'modal',"
		"  'title', pg_catalog.jsonb_build_object('type', 'plain_text', 'text', 'Sorry'),"
		"  'blocks', $1))"};

	return statement_jsonb(
		&build,
		ARGS(arg_jsonb(bot_sections(list_make1(mrkdwn_cut(text, MOST_TEXT))))));
}

/*
 * Tell the person, privately: by the answer of a command or of a submitted view,
 * else through response_url, which a request may not have: then nobody is told.
 */
void
bot_tell(BotCall *call, const char *text, Jsonb *blocks)
{
	static EngineStatement build = {
		"SELECT pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object("
		" 'response_type', 'ephemeral', 'text', $1, 'blocks', $2,"
		" 'replace_original', CASE WHEN $3 THEN false END))"};
	bool at_once = call->request->kind == SLACK_COMMAND;
	Jsonb *message = statement_jsonb(
		&build, ARGS(arg_text(mrkdwn_cut(text, MOST_TEXT)), arg_jsonb(blocks),
					 arg_bool(!at_once)));

	if (at_once)
		call->reply.body = message;
	else if (call->request->kind == SLACK_VIEW_SUBMISSION)
		call->reply.body = view_with(text);
	else
		(void) slack_call_respond(call->interaction, message);
}

/* ---- people ---- */

/* What an administrator has to pass to set_slack_user() */
const char *
bot_may_name(SlackMay may)
{
	static const char *const names[] = {"nothing", "see", "act", "administer"};

	return names[may];
}

/*
 * Refuse.  Nothing that the person may not see is told: neither the incident nor
 * whether there is one.
 */
void
bot_refuse(BotCall *call, SlackMay needed)
{
	static const char *const needs[] = {"", "see this", "do this", "do this"};
	const char *key = permission_key(call->request);

	call->status = "refused";
	call->error = psprintf("it needs %s, and this person may %s",
						   bot_may_name(needed), bot_may_name(call->may));
	bot_tell(
		call,
		key == NULL
			? psprintf("You may not %s.", needs[needed])
			: psprintf(
				  "You may not %s. An administrator of the database can allow it: `SELECT stripe_sync.set_slack_user('%s', '%s');`",
				  needs[needed], key, bot_may_name(needed)),
		NULL);
}

/* "slack:U...", of another workspace "slack:T.../U...", for what is stored */
char *
bot_person(const BotCall *call)
{
	const char *key = permission_key(call->request);

	return psprintf("slack:%s", key != NULL ? key : "unknown");
}

/*
 * Who did it, of incident_step.by or incident_record.closed_by: a person, an event,
 * or NULL, for which it is NULL.
 */
char *
bot_who(const char *by)
{
	const char *slash;

	if (by == NULL)
		return NULL;
	if (strncmp(by, "slack:", 6) != 0)
		return psprintf("`%s`", mrkdwn_escape(by));
	slash = strchr(by, '/');
	return psprintf("<@%s>", mrkdwn_escape(slash != NULL ? slash + 1 : by + 6));
}

/* ---- blocks ---- */

/* Sections of these texts (of char *, mrkdwn), each within Slack's 3,000 */
Jsonb *
bot_sections(List *texts)
{
	static EngineStatement build = {
		"SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object("
		" 'type', 'section', 'text', pg_catalog.jsonb_build_object("
		"  'type', 'mrkdwn', 'text', t.text, 'verbatim', true)) ORDER BY t.n)"
		" FROM pg_catalog.unnest($1) WITH ORDINALITY AS t (text, n)"};

	ArgColumns columns = {0};
	ListCell *cell;

	foreach(cell, texts)
		columns_add(&columns, ARGS(arg_text(lfirst(cell))));
	return columns.nrows > 0 ? statement_jsonb(&build, COLUMN_ARGS(&columns))
							 : NULL;
}
