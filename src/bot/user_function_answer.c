/*
 * user_function_answer.c
 *		What a user's function returned for an interaction, given to Slack.
 *
 *	{"text": ..., "blocks": ...}	a message: the answer of a command, else sent
 *									through response_url; seen by the person alone,
 *									unless "response_type" is "in_channel"
 *	{"view": ...}					a modal, which the worker opens
 *	{"response_action": ...}		of a submitted view: returned to Slack at once
 *
 * Block Kit is cut to Slack's limits; other keys of a message are passed on as
 * they are.  The text is mrkdwn: to escape what it quotes is the function's part.
 */
#include "postgres.h"

#include "catalog/pg_type.h"

#include "base/base.h"
#include "engine/statement.h"
#include "message/message.h"
#include "slack_calls/slack_calls.h"
#include "bot/internal.h"

#define MOST_ANSWER (256 * 1024) /* bytes */
#define MOST_TEXT	40000		 /* characters; Slack cuts what is longer */

compat_noreturn static void invalid_answer(const char *reason);

static void
invalid_answer(const char *reason)
{
	ereport(
		ERROR,
		(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
		 errmsg("the function returned no answer for Slack: %s", reason),
		 errhint(
			 "Return NULL, a message such as {\"text\": \"Done.\"}, or {\"view\": {...}}.")));
}

static bool
has_key(JsonbContainer *object, const char *key)
{
	JsonbValue value;

	return json_get(object, key, &value) && value.type != jbvNull;
}

/* ---- messages ---- */

/* "ephemeral" or "in_channel", the first if it doesn't say */
static const char *
response_type(JsonbContainer *message)
{
	const char *type = json_get_string(message, "response_type");

	if (!has_key(message, "response_type"))
		return "ephemeral";
	if (type == NULL ||
		(strcmp(type, "ephemeral") != 0 && strcmp(type, "in_channel") != 0))
		invalid_answer(
			"\"response_type\" must be \"ephemeral\" or \"in_channel\"");
	return type;
}

static const char *
message_text(JsonbContainer *message)
{
	const char *text = json_get_string(message, "text");

	if (text == NULL && has_key(message, "text"))
		invalid_answer("\"text\" must be a string");
	return text != NULL ? mrkdwn_cut(text, MOST_TEXT) : NULL;
}

/* Raises 22023 if they are no array of blocks. */
static Jsonb *
message_blocks(JsonbContainer *message)
{
	JsonbValue value;

	if (!json_get(message, "blocks", &value) || value.type == jbvNull)
		return NULL;
	if (value.type != jbvBinary)
		invalid_answer("\"blocks\" must be an array of Block Kit blocks");
	return blocks_fit(json_standalone(value.val.binary.data));
}

static Jsonb *
make_message(Jsonb *answer)
{
	static EngineStatement build = {
		"SELECT $1 - 'view' || pg_catalog.jsonb_strip_nulls("
		"  pg_catalog.jsonb_build_object('response_type', $2, 'text', $3))"
		" || CASE WHEN $4 IS NULL THEN '{}'"
		"  ELSE pg_catalog.jsonb_build_object('blocks', $4) END"};
	JsonbContainer *message = &answer->root;

	return statement_jsonb(&build, ARGS(arg_jsonb(answer),
										arg_text(response_type(message)),
										arg_text(message_text(message)),
										arg_jsonb(message_blocks(message))));
}

static void
give_message(BotCall *call, Jsonb *answer)
{
	Jsonb *message = make_message(answer);

	if (call->request->kind == SLACK_COMMAND)
		call->reply.body = message;
	else if (!slack_call_respond(call->interaction, message))
		invalid_answer(
			"no message can answer this interaction, which has no response_url");
}

/* ---- views ---- */

static void
give_view(BotCall *call, JsonbContainer *answer, bool *too_late)
{
	JsonbContainer *view = json_get_object(answer, "view");

	if (view == NULL)
		invalid_answer("\"view\" must be an object");
	*too_late = !slack_call_open_view(call->interaction, json_standalone(view));
	if (*too_late)
		invalid_answer("Slack opens a view within 3 seconds only");
}

/* The answer of a submitted view, checked as far as Slack shows no error for it */
static void
give_response_action(BotCall *call, Jsonb *answer)
{
	JsonbContainer *object = &answer->root;
	const char *action = json_get_string(object, "response_action");

	if (call->request->kind != SLACK_VIEW_SUBMISSION)
		invalid_answer("\"response_action\" answers a submitted view only");
	if (action == NULL)
		invalid_answer("\"response_action\" must be a string");
	if (strcmp(action, "errors") == 0)
	{
		if (json_get_object(object, "errors") == NULL)
			invalid_answer("\"errors\" must be an object");
	}
	else if (strcmp(action, "update") == 0 || strcmp(action, "push") == 0)
	{
		if (json_get_object(object, "view") == NULL)
			invalid_answer("\"view\" must be an object");
	}
	else if (strcmp(action, "clear") != 0)
		invalid_answer(
			"\"response_action\" must be \"errors\", \"update\", \"push\" or \"clear\"");
	call->reply.body = answer;
}

/* ---- all ---- */

/*
 * Give the answer.  Raises 22023 if it is none, or cannot be given; 0A000 for a
 * view if there is no worker.  *too_late: for a view, with the error.
 */
void
user_answer(BotCall *call, Jsonb *answer, bool *too_late)
{
	JsonbContainer *object = &answer->root;
	bool has_message;
	JsonbValue scalar;

	if (JB_ROOT_IS_SCALAR(answer) &&
		JsonbExtractScalar(&answer->root, &scalar) && scalar.type == jbvNull)
		return;
	if (!JB_ROOT_IS_OBJECT(answer))
		invalid_answer("it is not an object");
	if (VARSIZE(answer) > MOST_ANSWER)
		invalid_answer(psprintf("it has more than %d bytes", MOST_ANSWER));
	if (has_key(object, "response_action"))
	{
		give_response_action(call, answer);
		return;
	}
	has_message = has_key(object, "text") || has_key(object, "blocks") ||
				  has_key(object, "delete_original");
	if (!has_message && !has_key(object, "view"))
		invalid_answer(
			"it has no \"text\", \"blocks\", \"view\" or \"response_action\"");
	if (has_key(object, "view"))
		give_view(call, object, too_late);
	if (has_message)
		give_message(call, answer);
}
