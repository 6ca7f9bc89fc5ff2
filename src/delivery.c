/*
 * delivery.c
 *		A message as it is sent to Slack, and what its answer means.
 *
 * A delivery is a memory context of its own, which outlives transactions and
 * errors.
 */
#include "stripe_sync.h"

#include "lib/stringinfo.h"
#include "utils/json.h"
#include "utils/memutils.h"

#include <openssl/crypto.h>

#include "delivery.h"
#include "text.h"

#define LEAST_TO_HIDE 8			   /* bytes: shorter ones are no secret */
#define MAX_ANSWER	  (256 * 1024) /* bytes: Slack says far less */

Delivery *
delivery_make(void)
{
	/* in the transaction's context until the claim is complete */
	MemoryContext memory = AllocSetContextCreate(
		CurrentMemoryContext, "stripe_sync delivery", ALLOCSET_SMALL_SIZES);
	Delivery *delivery = MemoryContextAllocZero(memory, sizeof(Delivery));

	delivery->memory = memory;
	delivery->retry_after = -1;
	return delivery;
}

void
delivery_free(Delivery *delivery)
{
	if (delivery->secret != NULL)
		OPENSSL_cleanse(delivery->secret, strlen(delivery->secret));
	MemoryContextDelete(delivery->memory);
}

/* ---- what is sent ---- */

static const char *
api_method(const Delivery *delivery)
{
	if (strcmp(delivery->method, "test") == 0 && !delivery->token_checked)
		return "auth.test";
	return strcmp(delivery->method, "update") == 0 ? "chat.update"
												   : "chat.postMessage";
}

static void
add_member(StringInfo body, const char *name, const char *value)
{
	if (value == NULL)
		return;
	appendStringInfo(body, "%s\"%s\":", body->len > 1 ? "," : "", name);
	escape_json(body, value);
}

/* The payload, with its channel and thread. */
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
		add_member(body, "channel", delivery->channel);
		add_member(body, "ts", delivery->update_ts);
		add_member(body, "thread_ts", delivery->thread_ts);
		/* an object, never empty: it has a text */
		appendStringInfo(body, ",%s", delivery->payload + 1);
	}
	else
		appendStringInfoChar(body, '}');
}

/*
 * Make the request, in buffers of the caller's.  Returns why its URL may not be
 * called, or NULL.
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

/* Overwrite a secret that an answer repeats. */
static void
hide(char *response, size_t length, const char *secret)
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

/* The path of a webhook's URL is its secret. */
static const char *
secret_part(const Delivery *delivery)
{
	const char *path = delivery->is_webhook ? strstr(delivery->secret, "://")
											: NULL;

	path = path != NULL ? strchr(path + 3, '/') : NULL;
	return path != NULL ? path : delivery->secret;
}

/* The answer's beginning as text: whatever came, it is valid UTF-8. */
static void
keep_response(Delivery *delivery, HttpAnswer *answer)
{
	/* before it is cut off, lest half a secret stays */
	hide(answer->body, answer->length, secret_part(delivery));
	text_copy_utf8(delivery->response, sizeof(delivery->response), answer->body,
				   answer->length);
}

static void
judge_fault(Delivery *delivery, HttpFault fault)
{
	static const struct
	{
		SlackVerdict verdict;
		const char *code;
	} faults[] = {[HTTP_CONNECTION] = {SLACK_RETRY, "connection"},
				  [HTTP_TIMEOUT] = {SLACK_RETRY, "timeout"},
				  [HTTP_TLS] = {SLACK_RETRY, "tls"},
				  /* sending it again would only bring as much again */
				  [HTTP_TOO_LARGE] = {SLACK_MESSAGE_BAD, "answer_too_large"},
				  [HTTP_REFUSED] = {SLACK_DESTINATION_DEAD, "url_refused"}};

	delivery->judgement.verdict = faults[fault].verdict;
	strlcpy(delivery->judgement.code, faults[fault].code,
			sizeof(delivery->judgement.code));
}

/* An answer that came whole. */
static void
judge_answer(Delivery *delivery, const HttpAnswer *answer)
{
	SlackAnswer said;

	if (delivery->is_webhook)
	{
		slack_judge_webhook(answer->status, answer->body, answer->length,
							&delivery->judgement);
		return;
	}
	slack_answer_read(&said, answer->body, answer->length);
	slack_judge_api(answer->status, &said, &delivery->judgement);
}

/* What an answer means for the message. */
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
	/* what isn't 200 is judged by its status, however long the page */
	if (answer->fault == HTTP_DONE ||
		(answer->fault == HTTP_TOO_LARGE && answer->status >= 300))
		judge_answer(delivery, answer);
	else
		judge_fault(delivery, answer->fault);
	if (answer->fault == HTTP_DONE || answer->fault == HTTP_TOO_LARGE)
		keep_response(delivery, answer);
	else
		strlcpy(delivery->response, answer->trouble, sizeof(delivery->response));
}

/* The message that it replies to was deleted. */
static bool
has_lost_its_thread(const Delivery *delivery)
{
	const char *code = delivery->judgement.code;

	return delivery->thread_ts != NULL &&
		   delivery->judgement.verdict == SLACK_MESSAGE_BAD &&
		   (strcmp(code, "thread_not_found") == 0 ||
			strcmp(code, "cannot_reply_to_message") == 0);
}

/*
 * After a test's auth.test comes its message; a reply without its thread is sent
 * as a message of its own.
 */
bool
delivery_goes_on(Delivery *delivery)
{
	if (!delivery->is_webhook && strcmp(api_method(delivery), "auth.test") == 0 &&
		delivery->judgement.verdict == SLACK_SENT)
		delivery->token_checked = true;
	else if (has_lost_its_thread(delivery))
		delivery->thread_ts = NULL;
	else
		return false;
	return true;
}
