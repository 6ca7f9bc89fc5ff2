/*
 * slack_answer.c
 *		Reads the JSON object that Slack's Web API answers with.
 *
 * The body may be a proxy's page, incomplete, or malicious.  Whatever is wrong
 * with it makes it unreadable and never raises an error: json_parse() catches the
 * errors of jsonb's input function, and json_too_deep() limits its recursion.
 */
#include "postgres.h"

#include <limits.h>

#include "mb/pg_wchar.h"
#include "utils/memutils.h"

#include "base/base.h"
#include "base/text.h"
#include "outbox/slack.h"

/* Slack's answers nest four levels; deeper ones than this are unreadable. */
#define MAX_DEPTH 256

/*
 * A string member of the object, or "".  Each character that isn't printable ASCII
 * becomes one "_".
 */
static void
read_string_member(JsonbContainer *object, const char *key,
				   char value[SLACK_VALUE_SIZE])
{
	JsonbValue member;
	const char *at;
	const char *end;
	int length = 0;

	if (json_get(object, key, &member) && member.type == jbvString)
	{
		at = member.val.string.val;
		end = at + member.val.string.len;
		for (; at < end && length < SLACK_VALUE_SIZE - 1;
			 at += pg_utf_mblen((const unsigned char *) at))
			value[length++] = *at >= ' ' && *at <= '~' ? *at : '_';
	}
	value[length] = '\0';
}

/* Members of another type than expected count as missing. */
static void
read_answer_object(SlackAnswer *answer, JsonbContainer *object)
{
	JsonbValue ok;

	answer->has_ok = json_get(object, "ok", &ok) && ok.type == jbvBool;
	answer->ok = answer->has_ok && ok.val.boolean;
	read_string_member(object, "error", answer->error);
	read_string_member(object, "ts", answer->ts);
	read_string_member(object, "channel", answer->channel);
	answer->readable = true;
}

/*
 * Invalid UTF-8 inside a JSON string is replaced before parsing.  If it made the
 * answer unreadable, a message that Slack has posted would be sent again.
 */
static void
read_answer_body(SlackAnswer *answer, const char *body, int length)
{
	char *text = palloc(length + 1);
	Jsonb *document;

	text_copy_utf8(text, length + 1, body, length);
	document = json_parse(text, length);
	if (document != NULL && JB_ROOT_IS_OBJECT(document))
		read_answer_object(answer, &document->root);
}

/*
 * Fill in *answer from a complete body.  Uses a memory context of its own, as a
 * worker reads many answers in one transaction or none.
 */
void
slack_answer_read(SlackAnswer *answer, const char *body, size_t length)
{
	MemoryContext memory;
	MemoryContext old;

	memset(answer, 0, sizeof(*answer));
	if (length == 0 || length > INT_MAX / 2 ||
		memchr(body, '\0', length) != NULL ||
		json_too_deep(body, (int) length, MAX_DEPTH))
		return;
	memory = AllocSetContextCreate(CurrentMemoryContext,
								   "stripe_sync answer of Slack",
								   ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(memory);
	read_answer_body(answer, body, (int) length);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(memory);
}
