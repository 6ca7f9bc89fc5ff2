/*
 * stripe_api.c
 *		Stripe's protocol, as a client: what is sent, what an answer means.
 *
 * Sources: Stripe's API reference (authentication, versioning, errors, rate
 * limits) and its official libraries, which retry as this does: what
 * Stripe-Should-Retry says, else 409, 429, 5xx and connections that failed.
 */
#include "stripe_api.h"

#include "lib/stringinfo.h"
#include "utils/builtins.h"

static bool
is_one_of(const char *account)
{
	return account[0] != '\0';
}

/* That of all requests, and of what the mirror is made for. */
const char *
api_version(void)
{
	return guc_api_version[0] != '\0' ? guc_api_version : catalog_api_version;
}

/* The same without a preview's features behind it, as an endpoint has it. */
char *
api_version_name(void)
{
	return pnstrdup(api_version(), strcspn(api_version(), "; "));
}

/* Into buffers of the caller's, who wipes them: the first holds the key. */
void
api_headers(const ApiCall *call, HttpRequest *request, StringInfo buffers,
			int nbuffers)
{
	int n = 0;

	Assert(nbuffers >= API_HEADERS);
	appendStringInfo(&buffers[0], "Authorization: Bearer %s", call->key);
	request->headers[n++] = buffers[0].data;
	appendStringInfo(&buffers[1], "Stripe-Version: %s", api_version());
	request->headers[n++] = buffers[1].data;
	if (is_one_of(call->account))
	{
		appendStringInfo(&buffers[2], "Stripe-Account: %s", call->account);
		request->headers[n++] = buffers[2].data;
	}
	if (call->form != NULL)
	{
		request->headers[n++] = "Content-Type: application/x-www-form-urlencoded";
		appendStringInfo(&buffers[3], "Idempotency-Key: %s",
						 call->idempotency_key);
		request->headers[n++] = buffers[3].data;
	}
}

/* {"error": {"type", "code", "message"}}, as far as it is that. */
static void
read_error(ApiCall *call)
{
	Jsonb *document = json_parse(call->body, (int) call->length);
	JsonbContainer *error = document != NULL && JB_ROOT_IS_OBJECT(document)
								? json_get_object(&document->root, "error")
								: NULL;
	char *code = error ? json_get_string(error, "code") : NULL;
	char *type = error ? json_get_string(error, "type") : NULL;
	char *message = error ? json_get_string(error, "message") : NULL;

	if (code == NULL)
		code = type;
	snprintf(call->code, sizeof(call->code), "http_%d", call->status);
	if (code != NULL)
		strlcpy(call->code, code, sizeof(call->code));
	snprintf(call->trouble, sizeof(call->trouble),
			 "Stripe answered %d (%s)%s%s", call->status, call->code,
			 message ? ": " : "", message ? message : "");
}

static ApiVerdict
verdict_of(const ApiCall *call, int should_retry)
{
	int status = call->status;

	if (status == 401)
		return API_KEY_BAD;
	if (should_retry >= 0)
	{
		if (should_retry == 1)
			return API_AGAIN;
	}
	else if (status == 409 || status == 429 || status >= 500)
		return API_AGAIN;
	if (status == 403)
		return API_FORBIDDEN;
	if (status == 404)
		return API_GONE;
	return API_REFUSED;
}

static void
judge_fault(ApiCall *call, const HttpAnswer *answer)
{
	static const char *const codes[] = {[HTTP_CONNECTION] = "connection",
										[HTTP_TIMEOUT] = "timeout",
										[HTTP_TLS] = "tls",
										[HTTP_TOO_LARGE] = "answer_too_large",
										[HTTP_REFUSED] = "url_refused"};

	call->verdict = answer->fault == HTTP_TOO_LARGE ? API_TOO_LARGE
					: answer->fault == HTTP_REFUSED ? API_REFUSED
													: API_AGAIN;
	strlcpy(call->code, codes[answer->fault], sizeof(call->code));
	snprintf(call->trouble, sizeof(call->trouble), "%s: %s", call->code,
			 answer->trouble);
}

/* By Stripe's clock alone: ours may be an hour off. */
static TimestampTz
as_of(const HttpAnswer *answer)
{
	return time_t_to_timestamptz((pg_time_t) answer->date) -
		   (answer->finished - answer->started) - USECS_PER_SEC;
}

/* The body is in the call by now. */
void
api_judge(ApiCall *call, const HttpAnswer *answer)
{
	call->status = answer->status;
	call->code[0] = call->trouble[0] = '\0';
	if (answer->fault != HTTP_DONE)
		judge_fault(call, answer);
	else if (answer->status != 200)
	{
		read_error(call);
		call->verdict = verdict_of(call, answer->should_retry);
		/* what Stripe keeps for the key, its own failures too, stays as it is */
		if (answer->replayed && answer->should_retry != 1 &&
			call->verdict == API_AGAIN)
			call->verdict = API_REFUSED;
		call->as_of = as_of(answer);
		if (call->verdict == API_GONE && answer->date < 0)
			call->verdict = API_AGAIN; /* gone as of when? */
	}
	else if (answer->date < 0)
	{
		call->verdict = API_AGAIN;
		strlcpy(call->code, "no_date", sizeof(call->code));
		strlcpy(call->trouble, "the answer has no Date header",
				sizeof(call->trouble));
	}
	else
	{
		call->verdict = API_OK;
		call->as_of = as_of(answer);
	}
}
