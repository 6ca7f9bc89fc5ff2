/*
 * block_json.c
 *		Pieces of Block Kit, appended to a jsonb value that is being built.
 *
 * Texts are not copied until the value is complete, so they must stay until
 * then.  None is checked against Slack's limits here.
 */
#include "postgres.h"

#include "base/compat.h"
#include "base/json_push.h"
#include "message/internal.h"

/* A key; its value follows. */
void
blocks_push_key(JsonbInState *state, const char *key)
{
	json_push_string(state, WJB_KEY, key);
}

void
blocks_push_string(JsonbInState *state, const char *key, const char *text)
{
	blocks_push_key(state, key);
	json_push_string(state, WJB_VALUE, text);
}

void
blocks_push_bool(JsonbInState *state, const char *key, bool boolean)
{
	JsonbValue value;

	blocks_push_key(state, key);
	value.type = jbvBool;
	value.val.boolean = boolean;
	compat_push_jsonb(state, WJB_VALUE, &value);
}

/*
 * A text object.  "verbatim" keeps Slack from making links and mentions of text
 * that looks like one: most of it comes from Stripe's customers.
 */
static void
push_mrkdwn(JsonbInState *state, const char *text)
{
	compat_push_jsonb(state, WJB_BEGIN_OBJECT, NULL);
	blocks_push_string(state, "type", "mrkdwn");
	blocks_push_string(state, "text", text);
	blocks_push_bool(state, "verbatim", true);
	compat_push_jsonb(state, WJB_END_OBJECT, NULL);
}

/* A field that is a plain text object */
void
blocks_push_plain(JsonbInState *state, const char *key, const char *text)
{
	blocks_push_key(state, key);
	compat_push_jsonb(state, WJB_BEGIN_OBJECT, NULL);
	blocks_push_string(state, "type", "plain_text");
	blocks_push_string(state, "text", text);
	compat_push_jsonb(state, WJB_END_OBJECT, NULL);
}

/* A block with a text of its own */
void
blocks_push_section(JsonbInState *state, const char *text)
{
	compat_push_jsonb(state, WJB_BEGIN_OBJECT, NULL);
	blocks_push_string(state, "type", "section");
	blocks_push_key(state, "text");
	push_mrkdwn(state, text);
	compat_push_jsonb(state, WJB_END_OBJECT, NULL);
}

/* A block with one line of small text */
void
blocks_push_context(JsonbInState *state, const char *text)
{
	compat_push_jsonb(state, WJB_BEGIN_OBJECT, NULL);
	blocks_push_string(state, "type", "context");
	blocks_push_key(state, "elements");
	compat_push_jsonb(state, WJB_BEGIN_ARRAY, NULL);
	push_mrkdwn(state, text);
	compat_push_jsonb(state, WJB_END_ARRAY, NULL);
	compat_push_jsonb(state, WJB_END_OBJECT, NULL);
}
