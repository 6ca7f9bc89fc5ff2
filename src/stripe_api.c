/*
 * stripe_api.c
 *		Stripe's protocol, as a client: what is sent, what an answer means.
 *
 * Sources: Stripe's API reference (authentication, versioning, errors, rate
 * limits) and its official libraries, which retry as this does: what
 * Stripe-Should-Retry says, else 409, 429, 5xx and connections that failed.
 */
#include "stripe_api.h"

#include <ctype.h>

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"

#include "text.h"

/* What Stripe says of an object that the key's mode does not have. */
#define OTHER_MODE "a similar object exists in"

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
	if (call->target.below[0] != '\0')
	{
		appendStringInfo(&buffers[2], "%s: %s",
						 call->target.by_context ? "Stripe-Context"
												 : "Stripe-Account",
						 call->target.below);
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

static bool
is_text(const ApiCall *call)
{
	return call->length <= INT_MAX &&
		   pg_verify_mbstr(PG_UTF8, call->body, (int) call->length, true);
}

/* {"error": {"type", "code", "message"}}, as far as it is that. */
static void
read_error(ApiCall *call, bool *missing)
{
	Jsonb *document = is_text(call) ? json_parse(call->body, (int) call->length)
									: NULL;
	JsonbContainer *error = document != NULL && JB_ROOT_IS_OBJECT(document)
								? json_get_object(&document->root, "error")
								: NULL;
	char *code = error ? json_get_string(error, "code") : NULL;
	char *type = error ? json_get_string(error, "type") : NULL;
	char *message = error ? json_get_string(error, "message") : NULL;

	*missing = code != NULL && strcmp(code, RESOURCE_MISSING) == 0 &&
			   (message == NULL || strstr(message, OTHER_MODE) == NULL);
	if (code == NULL)
		code = type;
	text_clip_into(call->code, sizeof(call->code),
				   code ? code : psprintf("http_%d", call->status));
	text_clip_into(call->trouble, sizeof(call->trouble),
				   psprintf("Stripe answered %d (%s)%s%s", call->status,
							call->code, message ? ": " : "",
							message ? message : ""));
}

/*
 * That there is no such object only Stripe can say, in so many words: a proxy's
 * 404 is no deletion, nor is that of a key that opens the other mode.  "Don't
 * retry" of what is over by itself means not at once.
 */
static ApiVerdict
verdict_of(const ApiCall *call, int should_retry, bool missing)
{
	int status = call->status;

	if (status == 401)
		return API_KEY_BAD;
	if (should_retry == 1 || (should_retry < 0 && status == 409))
		return API_AGAIN;
	if (status == 429 || status >= 500)
		return should_retry == 0 ? API_LATER : API_AGAIN;
	if (status == 403)
		return API_FORBIDDEN;
	if (status == 404 && missing)
		return API_GONE;
	return API_REFUSED;
}

/*
 * Does it say when it was given?  A time that is more than a day from ours is
 * nobody's: an object that is as of the next century would never change again.
 */
bool
api_is_dated(const HttpAnswer *answer)
{
	TimestampTz then = time_t_to_timestamptz((pg_time_t) answer->date);
	int64 apart = then - answer->finished;

	return answer->date >= 0 && apart >= -USECS_PER_DAY &&
		   apart <= USECS_PER_DAY;
}

/* By Stripe's clock alone: ours may be an hour off. */
static TimestampTz
as_of(const HttpAnswer *answer)
{
	int64 took = Max(0, answer->finished - answer->started);

	return time_t_to_timestamptz((pg_time_t) answer->date) - took -
		   USECS_PER_SEC;
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
	/* an answer that has begun, or would have been long */
	call->spoilt = answer->fault == HTTP_TIMEOUT ||
				   answer->fault == HTTP_TOO_LARGE ||
				   (answer->fault == HTTP_CONNECTION && answer->status == 200);
	if (api_is_dated(answer))
		call->as_of = as_of(answer);
	strlcpy(call->code, codes[answer->fault], sizeof(call->code));
	text_clip_into(call->trouble, sizeof(call->trouble),
				   psprintf("%s: %s", call->code, answer->trouble));
}

/* Another try may bring something better. */
static void
be_unusable(ApiCall *call, const char *code, const char *trouble)
{
	call->verdict = API_AGAIN;
	strlcpy(call->code, code, sizeof(call->code));
	strlcpy(call->trouble, trouble, sizeof(call->trouble));
}

/* A page that ends before its end, though nothing was wrong on the way. */
static bool
is_cut_short(const ApiCall *call)
{
	const char *end = call->body + call->length;
	const char *p = call->body;

	while (p < end && isspace((unsigned char) *p))
		p++;
	return call->page_tries > 0 && p < end && *p == '{' &&
		   json_skip(p, end) == NULL;
}

/* The body is in the call by now. */
void
api_judge(ApiCall *call, const HttpAnswer *answer)
{
	bool missing = false;

	call->status = answer->status;
	call->code[0] = call->trouble[0] = '\0';
	call->spoilt = false;
	if (answer->fault != HTTP_DONE)
		judge_fault(call, answer);
	else if (answer->status != 200)
	{
		read_error(call, &missing);
		call->verdict = verdict_of(call, answer->should_retry, missing);
		/* what Stripe keeps for the key, its own failures too, stays as it is */
		if (answer->replayed && answer->should_retry != 1 &&
			(call->verdict == API_AGAIN || call->verdict == API_LATER))
			call->verdict = API_REFUSED;
		call->as_of = as_of(answer);
		if (call->verdict == API_GONE && !api_is_dated(answer))
			call->verdict = API_AGAIN; /* gone as of when? */
	}
	else if (answer->date < 0)
		be_unusable(call, "no_date", "the answer has no Date header");
	else if (!api_is_dated(answer))
		be_unusable(
			call, "wrong_date",
			"the answer's Date is more than a day from this server's clock");
	else if (call->body == NULL)
		be_unusable(call, "no_memory", "there was no memory for the answer");
	else if (is_cut_short(call))
	{
		be_unusable(call, CUT_SHORT, "the answer was cut short");
		call->spoilt = true;
		call->as_of = as_of(answer);
	}
	else if (!is_text(call))
		be_unusable(call, "not_utf8", "the answer is not UTF-8");
	else
	{
		call->verdict = API_OK;
		call->as_of = as_of(answer);
	}
}

/* ---- answers that raise an error ---- */

static bool useless = false;

/*
 * In an ereport(): the error is about the answer itself, and the same request
 * would be answered the same again.
 */
int
answer_is_useless(void)
{
	useless = true;
	return 0;
}

/* Was the last error about the answer itself?  Asked once: it is forgotten. */
bool
answer_was_useless(void)
{
	bool was = useless;

	useless = false;
	return was;
}
