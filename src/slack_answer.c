/*
 * slack_answer.c
 *		Reads the JSON object that Slack's Web API answers with.
 *
 * The body may be a proxy's page, cut short, or made to do harm.  What is wrong
 * with it makes it unreadable and never raises an error: json_parse() catches
 * those of jsonb's input function, and json_too_deep() keeps its recursion
 * short.
 */
#include "stripe_sync.h"

#include "mb/pg_wchar.h"
#include "utils/memutils.h"

#include "slack.h"
#include "text.h"

/* Slack's answers nest four levels; deeper ones than this are unreadable. */
#define MAX_DEPTH 256

/* A string member, "" where there is none; "_" for what isn't printable ASCII. */
static void
read_member(JsonbContainer *object, const char *key,
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

static void
read_object(SlackAnswer *answer, JsonbContainer *object)
{
	JsonbValue ok;

	answer->has_ok = json_get(object, "ok", &ok) && ok.type == jbvBool;
	answer->ok = answer->has_ok && ok.val.boolean;
	read_member(object, "error", answer->error);
	read_member(object, "ts", answer->ts);
	read_member(object, "channel", answer->channel);
	answer->readable = true;
}

/*
 * Bytes that aren't UTF-8 can stand in a string alone: there they don't make
 * the answer unreadable, lest a message be sent twice for them.
 */
static void
read_body(SlackAnswer *answer, const char *body, int length)
{
	char *text = palloc(length + 1);
	Jsonb *document;

	text_copy_utf8(text, length + 1, body, length);
	document = json_parse(text, length);
	if (document != NULL && JB_ROOT_IS_OBJECT(document))
		read_object(answer, &document->root);
}

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
	read_body(answer, body, (int) length);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(memory);
}
