/*
 * slack_payload.c
 *		The body of a request from Slack, by its form.
 *
 *	{"type": ...}				Events API, url_verification
 *	payload=<JSON>				buttons, views, shortcuts
 *	command=%2F...&text=...		slash commands
 *	ssl_check=1					the check of a URL's certificate
 *
 * Which one it is follows from the body alone: the signature does not cover
 * Content-Type.  A body whose first character is "{" is JSON, any other one is a
 * form.
 *
 * The body comes from outside, though it is signed: sizes are bounded, and what
 * can't be read is returned as a Refusal (SY004), never raised.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "base/compat.h"
#include "base/json_push.h"
#include "slack_in/form.h"
#include "slack_in/internal.h"

#define MAX_NAME	  1024 /* bytes of a name, an id, a URL */
#define MAX_SSL_CHECK 1024 /* bytes of such a request */

/* ---- forms ---- */

static Jsonb *
form_document(const Form *form)
{
	JsonbInState state = {0};

	compat_push_jsonb(&state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < form->count; i++)
	{
		json_push_string(&state, WJB_KEY, form->fields[i].name);
		json_push_string(&state, WJB_VALUE, form->fields[i].value);
	}
	compat_push_jsonb(&state, WJB_END_OBJECT, NULL);
	return slack_without_credentials(JsonbValueToJsonb(state.result));
}

static bool
is_ssl_check(const Form *form)
{
	const char *value = form_value(form, "ssl_check");

	return value != NULL && strcmp(value, "1") == 0;
}

static char *
form_string(const Form *form, const char *name)
{
	const char *value = form_value(form, name);

	return value != NULL && value[0] != '\0' ? pstrdup(value) : NULL;
}

static void
read_command(const Form *form, SlackRequest *request)
{
	const char *text = form_value(form, "text");

	request->kind = SLACK_COMMAND;
	request->name = form_string(form, "command");
	request->value = pstrdup(text != NULL ? text : "");
	request->team = form_string(form, "team_id");
	request->user = form_string(form, "user_id");
	request->user_name = form_string(form, "user_name");
	request->channel = form_string(form, "channel_id");
	request->response_url = form_string(form, "response_url");
	request->trigger_id = form_string(form, "trigger_id");
	request->body = form_document(form);
}

static bool
form_is_utf8(const Form *form)
{
	for (int i = 0; i < form->count; i++)
	{
		const FormField *field = &form->fields[i];

		if (!slack_is_utf8(field->name, strlen(field->name)) ||
			!slack_is_utf8(field->value, strlen(field->value)))
			return false;
	}
	return true;
}

static bool
read_form(const char *body, int length, SlackRequest *request, Refusal *refusal)
{
	char *copy = pnstrdup(body, length);
	Form form;

	/* pnstrdup() stops at a NUL */
	if (memchr(body, '\0', length) != NULL || !form_read(copy, length, &form))
		return slack_unreadable(
			refusal,
			"It is no form: a wrong escape, a NUL, a name that occurs twice, or too many fields.");
	if (!form_is_utf8(&form))
		return slack_unreadable(refusal, "It is not UTF-8.");
	if (is_ssl_check(&form))
	{
		request->kind = SLACK_SSL_CHECK;
		return true;
	}
	if (form_value(&form, "payload") != NULL)
		return slack_json_interaction(form_value(&form, "payload"), request,
									  refusal);
	if (form_string(&form, "command") == NULL)
		return slack_unreadable(refusal,
								"It has neither \"payload\" nor \"command\".");
	read_command(&form, request);
	return true;
}

/* See internal.h. */
bool
slack_payload_is_ssl_check(const char *body, int length)
{
	char copy[MAX_SSL_CHECK + 1];
	Form form;

	if (length > MAX_SSL_CHECK)
		return false;
	memcpy(copy, body, length);
	return form_read(copy, length, &form) && is_ssl_check(&form);
}

/* ---- all ---- */

static char *
body_key(const char *body, int length)
{
	static const char prefix[] = "body:";
	text *bytes = cstring_to_text_with_len(body, length);
	bytea *digest = DatumGetByteaPP(
		DirectFunctionCall1(sha256_bytea, PointerGetDatum(bytes)));
	int size = VARSIZE_ANY_EXHDR(digest);
	char *key = palloc0(sizeof(prefix) + 2 * size);

	strcpy(key, prefix);
	(void) hex_encode(VARDATA_ANY(digest), size, key + strlen(prefix));
	pfree(bytes);
	return key;
}

/* The value of a button and the text of a command are as long as the body is. */
static bool
fits_bounds(const SlackRequest *request)
{
	const char *const names[] = {
		request->name,		request->team,		 request->user,
		request->user_name, request->channel,	 request->message_ts,
		request->challenge, request->trigger_id, request->response_url};

	for (int i = 0; i < lengthof(names); i++)
		if (names[i] != NULL && strlen(names[i]) > MAX_NAME)
			return false;
	return true;
}

/* See internal.h. */
bool
slack_payload_read(const char *body, int length, SlackRequest *request,
				   Refusal *refusal)
{
	int start = 0;
	bool done;

	while (start < length && strchr(" \t\r\n", body[start]) != NULL &&
		   body[start] != '\0')
		start++;
	if (start < length && body[start] == '{')
		done = slack_json_read(body, length, request, refusal);
	else
		done = read_form(body, length, request, refusal);
	if (!done)
		return false;
	if (!fits_bounds(request))
		return slack_unreadable(
			refusal, "A name or an id in it is longer than 1024 bytes.");
	if (request->key == NULL)
		request->key = body_key(body, length);
	return true;
}
