/*
 * slack_answer.c
 *		Reads the JSON object that Slack's Web API answers with, and judges
 *		the outcome of a request.
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
#include "http/http.h"
#include "outbox/outbox.h"
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

/* There is no complete answer. */
static void
judge_fault(HttpFault fault, SlackJudgement *judgement)
{
	static const struct
	{
		SlackVerdict verdict;
		const char *code;
	} faults[] = {[HTTP_CONNECTION] = {SLACK_RETRY, "connection"},
				  [HTTP_TIMEOUT] = {SLACK_RETRY, "timeout"},
				  [HTTP_TLS] = {SLACK_RETRY, "tls"},
				  /* the next answer would be as large */
				  [HTTP_TOO_LARGE] = {SLACK_MESSAGE_BAD, "answer_too_large"},
				  [HTTP_REFUSED] = {SLACK_DESTINATION_DEAD, "url_refused"}};

	memset(judgement, 0, sizeof(*judgement));
	judgement->verdict = faults[fault].verdict;
	strlcpy(judgement->code, faults[fault].code, sizeof(judgement->code));
}

/*
 * What the answer means, or the fault in its place; "plain": not of the Web API,
 * but of a webhook's URL.  A long error page is judged by its status.
 */
void
slack_judge_http(const HttpAnswer *answer, bool plain, SlackJudgement *judgement)
{
	SlackAnswer object;

	if (answer->fault != HTTP_DONE &&
		(answer->fault != HTTP_TOO_LARGE || answer->status < 300))
		judge_fault(answer->fault, judgement);
	else if (plain)
		slack_judge_webhook(answer->status, answer->body, answer->length,
							judgement);
	else
	{
		slack_answer_read(&object, answer->body, answer->length);
		slack_judge_api(answer->status, &object, judgement);
	}
}
