/*
 * flight.c
 *		A message as it is sent to Slack, and what its answer means.
 *
 * A flight is a memory context of its own: it outlives transactions and errors.
 */
#include "stripe_sync.h"

#include "lib/stringinfo.h"
#include "utils/json.h"
#include "utils/memutils.h"

#include <openssl/crypto.h>

#include "flight.h"
#include "text.h"

#define LEAST_TO_HIDE 8			   /* bytes: shorter ones are no secret */
#define MAX_ANSWER	  (256 * 1024) /* bytes: Slack says far less */

Flight *
flight_make(void)
{
	/* the transaction's, until the claim has succeeded */
	MemoryContext memory = AllocSetContextCreate(
		CurrentMemoryContext, "stripe_sync flight", ALLOCSET_SMALL_SIZES);
	Flight *flight = MemoryContextAllocZero(memory, sizeof(Flight));

	flight->memory = memory;
	flight->retry_after = -1;
	return flight;
}

void
flight_free(Flight *flight)
{
	if (flight->secret != NULL)
		OPENSSL_cleanse(flight->secret, strlen(flight->secret));
	MemoryContextDelete(flight->memory);
}

/* ---- what is sent ---- */

static const char *
api_method(const Flight *flight)
{
	if (strcmp(flight->method, "test") == 0 && !flight->token_checked)
		return "auth.test";
	return strcmp(flight->method, "update") == 0 ? "chat.update"
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

/* The payload with what tells Slack where it goes. */
static void
build_body(const Flight *flight, StringInfo body)
{
	if (flight->is_webhook)
	{
		appendStringInfoString(body, flight->payload);
		return;
	}
	appendStringInfoChar(body, '{');
	if (strcmp(api_method(flight), "auth.test") != 0)
	{
		add_member(body, "channel", flight->channel);
		add_member(body, "ts", flight->update_ts);
		add_member(body, "thread_ts", flight->thread_ts);
		/* an object, never empty: it has a text */
		appendStringInfo(body, ",%s", flight->payload + 1);
	}
	else
		appendStringInfoChar(body, '}');
}

/*
 * What is to be sent, in buffers of the caller's.  Why it may not be sent to
 * where it should go; NULL: it may.
 */
char *
flight_request(const Flight *flight, HttpRequest *request, StringInfo body,
			   StringInfo header)
{
	request->method = "POST";
	request->headers[0] = "Content-Type: application/json; charset=utf-8";
	request->max_answer = MAX_ANSWER;
	request->owner = unconstify(Flight *, flight);
	build_body(flight, body);
	request->body = body->data;
	request->body_length = body->len;
	if (flight->is_webhook)
	{
		request->url = flight->secret;
		return http_refusal(request->url, HTTP_SLACK_WEBHOOK);
	}
	request->url = psprintf("%s/%s", guc_slack_api_base, api_method(flight));
	appendStringInfo(header, "Authorization: Bearer %s", flight->secret);
	request->headers[1] = header->data;
	return http_refusal(request->url, HTTP_SLACK_API);
}

/* ---- what came back ---- */

/* Blot out a secret that an answer repeats. */
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

/* The path of a webhook's URL is what must not be known. */
static const char *
secret_part(const Flight *flight)
{
	const char *path = flight->is_webhook ? strstr(flight->secret, "://") : NULL;

	path = path != NULL ? strchr(path + 3, '/') : NULL;
	return path != NULL ? path : flight->secret;
}

/* The answer's beginning as text: whatever came, it is valid UTF-8. */
static void
keep_response(Flight *flight, HttpAnswer *answer)
{
	/* before it is cut off, lest half a secret stays */
	hide(answer->body, answer->length, secret_part(flight));
	text_copy_utf8(flight->response, sizeof(flight->response), answer->body,
				   answer->length);
}

static void
judge_fault(Flight *flight, HttpFault fault)
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

	flight->judgement.verdict = faults[fault].verdict;
	strlcpy(flight->judgement.code, faults[fault].code,
			sizeof(flight->judgement.code));
}

/* An answer that came whole. */
static void
judge_answer(Flight *flight, const HttpAnswer *answer)
{
	SlackAnswer said;

	if (flight->is_webhook)
	{
		slack_judge_webhook(answer->status, answer->body, answer->length,
							&flight->judgement);
		return;
	}
	slack_answer_read(&said, answer->body, answer->length);
	slack_judge_api(answer->status, &said, &flight->judgement);
}

/* What an answer means for the message. */
void
flight_judge(Flight *flight, HttpAnswer *answer)
{
	if (flight->started == 0)
		flight->started = answer->started;
	flight->finished = answer->finished;
	flight->status = answer->status;
	flight->retry_after = answer->retry_after;
	strlcpy(flight->request_id, answer->request_id, sizeof(flight->request_id));
	/* what isn't 200 is judged by its status, however long the page */
	if (answer->fault == HTTP_DONE ||
		(answer->fault == HTTP_TOO_LARGE && answer->status >= 300))
		judge_answer(flight, answer);
	else
		judge_fault(flight, answer->fault);
	if (answer->fault == HTTP_DONE || answer->fault == HTTP_TOO_LARGE)
		keep_response(flight, answer);
	else
		strlcpy(flight->response, answer->trouble, sizeof(flight->response));
}

/* Somebody has deleted what it would be an answer to. */
static bool
has_lost_its_thread(const Flight *flight)
{
	const char *code = flight->judgement.code;

	return flight->thread_ts != NULL &&
		   flight->judgement.verdict == SLACK_MESSAGE_BAD &&
		   (strcmp(code, "thread_not_found") == 0 ||
			strcmp(code, "cannot_reply_to_message") == 0);
}

/* The token of a test is good, or the news stands by itself: now, once more. */
bool
flight_goes_on(Flight *flight)
{
	if (!flight->is_webhook && strcmp(api_method(flight), "auth.test") == 0 &&
		flight->judgement.verdict == SLACK_SENT)
		flight->token_checked = true;
	else if (has_lost_its_thread(flight))
		flight->thread_ts = NULL;
	else
		return false;
	return true;
}
