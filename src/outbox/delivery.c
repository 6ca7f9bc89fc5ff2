/*
 * delivery.c
 *		The HTTP request of a message, and what its answer means.
 *
 * A webhook's request is a POST of the payload to its URL, which is the secret.  A
 * bot's is a POST to chat.postMessage or chat.update, with the token in a header.
 *
 * No transaction is open here, and no SQL is run.  A delivery is a memory context
 * of its own, which outlives transactions and errors.
 */
#include "postgres.h"

#include "utils/json.h"
#include "utils/memutils.h"

#include <openssl/crypto.h>

#include "base/base.h"
#include "base/text.h"
#include "http/http.h"
#include "outbox/slack.h"
#include "outbox/internal.h"

#define LEAST_TO_HIDE 8			   /* bytes: shorter strings are not secret */
#define MAX_ANSWER	  (256 * 1024) /* bytes; Slack's answers are far shorter */

/*
 * An empty delivery, in a child of the current memory context: that of the claim's
 * transaction, until claim.c has completed it.
 */
Delivery *
delivery_make(void)
{
	MemoryContext memory = AllocSetContextCreate(
		CurrentMemoryContext, "stripe_sync delivery", ALLOCSET_SMALL_SIZES);
	Delivery *delivery = MemoryContextAllocZero(memory, sizeof(Delivery));

	delivery->memory = memory;
	delivery->retry_after = -1;
	return delivery;
}

/* Wipes the secret. */
void
delivery_free(Delivery *delivery)
{
	if (delivery->secret != NULL)
		OPENSSL_cleanse(delivery->secret, strlen(delivery->secret));
	MemoryContextDelete(delivery->memory);
}

/* ---- what is sent ---- */

/* The method of Slack's Web API; a test checks the token first. */
static const char *
api_method(const Delivery *delivery)
{
	if (strcmp(delivery->method, "test") == 0 && !delivery->token_checked)
		return "auth.test";
	return strcmp(delivery->method, "update") == 0 ? "chat.update"
												   : "chat.postMessage";
}

/* Nothing for NULL */
static void
append_json_member(StringInfo body, const char *name, const char *value)
{
	if (value == NULL)
		return;
	appendStringInfo(body, "%s\"%s\":", body->len > 1 ? "," : "", name);
	escape_json(body, value);
}

/*
 * The payload, which for the Web API gets further members before its own.  It is an
 * object that is never empty, as it has a text.
 */
static void
build_body(const Delivery *delivery, StringInfo body)
{
	if (delivery->is_webhook)
	{
		appendStringInfoString(body, delivery->payload);
		return;
	}
	appendStringInfoChar(body, '{');
	if (strcmp(api_method(delivery), "auth.test") != 0)
	{
		append_json_member(body, "channel", delivery->channel);
		append_json_member(body, "ts", delivery->update_ts);
		append_json_member(body, "thread_ts", delivery->thread_ts);
		appendStringInfo(body, ",%s", delivery->payload + 1);
	}
	else
		appendStringInfoChar(body, '}');
}

/*
 * Make the request, in buffers of the caller's, who wipes "header".  Returns NULL,
 * or why its URL may not be called: the file that contains a webhook's URL, and the
 * settings that allow hosts, may have changed since it was set up.
 */
char *
delivery_request(const Delivery *delivery, HttpRequest *request,
				 StringInfo body, StringInfo header)
{
	request->method = "POST";
	request->headers[0] = "Content-Type: application/json; charset=utf-8";
	request->max_answer = MAX_ANSWER;
	request->owner = unconstify(Delivery *, delivery);
	build_body(delivery, body);
	request->body = body->data;
	request->body_length = body->len;
	if (delivery->is_webhook)
	{
		request->url = delivery->secret;
		return http_refusal(request->url, HTTP_SLACK_WEBHOOK);
	}
	request->url = psprintf("%s/%s", guc_slack_api_base, api_method(delivery));
	appendStringInfo(header, "Authorization: Bearer %s", delivery->secret);
	request->headers[1] = header->data;
	return http_refusal(request->url, HTTP_SLACK_API);
}

/* ---- what came back ---- */

/* Overwrite each occurrence of the secret. */
static void
hide_secret(char *response, size_t length, const char *secret)
{
	size_t size = strlen(secret);
	char *end = response + length;
	char *found;

	if (size < LEAST_TO_HIDE)
		return;
	while ((found = memmem(response, end - response, secret, size)) != NULL)
	{
		memset(found, '*', size);
		response = found + size;
	}
}

/* The part that must not be shown: of a webhook's URL its path */
static const char *
secret_to_hide(const Delivery *delivery)
{
	const char *path = delivery->is_webhook ? strstr(delivery->secret, "://")
											: NULL;

	path = path != NULL ? strchr(path + 3, '/') : NULL;
	return path != NULL ? path : delivery->secret;
}

/* Keep the beginning of the answer, as valid UTF-8, for stripe_sync.delivery. */
static void
keep_response(Delivery *delivery, HttpAnswer *answer)
{
	/* before the answer is cut off, which could leave a part of the secret */
	hide_secret(answer->body, answer->length, secret_to_hide(delivery));
	text_copy_utf8(delivery->response, sizeof(delivery->response), answer->body,
				   answer->length);
}

/*
 * Judge the answer of a request, or the fault in its place, and note it as the
 * delivery's result.  The time of the first request is kept.
 */
void
delivery_judge(Delivery *delivery, HttpAnswer *answer)
{
	if (delivery->started == 0)
		delivery->started = answer->started;
	delivery->finished = answer->finished;
	delivery->status = answer->status;
	delivery->retry_after = answer->retry_after;
	strlcpy(delivery->request_id, answer->request_id,
			sizeof(delivery->request_id));
	slack_judge_http(answer, delivery->is_webhook, &delivery->judgement);
	if (answer->fault == HTTP_DONE || answer->fault == HTTP_TOO_LARGE)
		keep_response(delivery, answer);
	else
		strlcpy(delivery->response, answer->trouble, sizeof(delivery->response));
}

/* Was the message that it replies to deleted in Slack? */
static bool
thread_was_deleted(const Delivery *delivery)
{
	const char *code = delivery->judgement.code;

	return delivery->thread_ts != NULL &&
		   delivery->judgement.verdict == SLACK_MESSAGE_BAD &&
		   (strcmp(code, "thread_not_found") == 0 ||
			strcmp(code, "cannot_reply_to_message") == 0);
}

/*
 * Is another request to be sent at once, as a part of the same attempt?  After
 * auth.test a test's message is sent; and a reply whose thread was deleted is sent
 * again, outside of the thread.
 */
bool
delivery_continue(Delivery *delivery)
{
	if (!delivery->is_webhook && strcmp(api_method(delivery), "auth.test") == 0 &&
		delivery->judgement.verdict == SLACK_SENT)
		delivery->token_checked = true;
	else if (thread_was_deleted(delivery))
		delivery->thread_ts = NULL;
	else
		return false;
	return true;
}
