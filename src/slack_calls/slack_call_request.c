/*
 * slack_call_request.c
 *		The HTTP request of a call, and what its answer means.
 *
 * No transaction is open here, and no SQL is run.
 */
#include "postgres.h"

#include "utils/json.h"

#include "outbox/outbox.h"
#include "slack_calls/internal.h"

#define MAX_ANSWER (1024 * 1024) /* bytes; Slack answers with the view */

/*
 * Make the request, in buffers of the caller's, who wipes both.  Returns NULL, or
 * why its URL may not be called: response_url comes from outside, and only hosts
 * in stripe_sync.slack_hosts are called.
 */
char *
call_request(const SlackCall *call, HttpRequest *request, StringInfo body,
			 StringInfo header)
{
	request->method = "POST";
	request->headers[0] = "Content-Type: application/json; charset=utf-8";
	request->max_answer = MAX_ANSWER;
	request->owner = unconstify(SlackCall *, call);
	if (!call->is_view)
	{
		appendStringInfoString(body, call->payload);
		request->url = call->secret;
	}
	else
	{
		appendStringInfoString(body, "{\"trigger_id\":");
		escape_json(body, call->trigger);
		appendStringInfo(body, ",\"view\":%s}", call->payload);
		appendStringInfo(header, "Authorization: Bearer %s", call->secret);
		request->headers[1] = header->data;
		request->url = psprintf("%s/views.open", guc_slack_api_base);
	}
	request->body = body->data;
	request->body_length = body->len;
	return http_refusal(request->url,
						call->is_view ? HTTP_SLACK_API : HTTP_SLACK_WEBHOOK);
}

/*
 * A response_url answers in JSON or in one word, depending on what it was given
 * for.  An empty answer of status 200 is a success, too.
 */
static void
judge_response(SlackCall *call, const HttpAnswer *answer)
{
	SlackAnswer object = {0};
	HttpAnswer ok = {.status = 200, .body = "ok", .length = strlen("ok")};

	if (answer->fault == HTTP_DONE && answer->status == 200 &&
		answer->length == 0)
		answer = &ok;
	if (answer->fault == HTTP_DONE)
		slack_answer_read(&object, answer->body, answer->length);
	if (object.readable && object.has_ok)
		slack_judge_api(answer->status, &object, &call->judgement);
	else
		slack_judge_http(answer, true, &call->judgement);
}

/* Judge the answer, or the fault in its place, and note it as the call's result. */
void
call_judge(SlackCall *call, const HttpAnswer *answer)
{
	call->status = answer->status;
	call->retry_after = answer->retry_after;
	if (call->is_view)
		slack_judge_http(answer, false, &call->judgement);
	else
		judge_response(call, answer);
}
