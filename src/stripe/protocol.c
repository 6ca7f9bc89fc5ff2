/*
 * protocol.c
 *		Stripe's protocol as a client: request headers, and what an answer means.
 *
 * Sources: Stripe's API reference (authentication, versioning, errors, rate
 * limits) and its official libraries, which retry as this does: what
 * Stripe-Should-Retry says, else 409, 429, 5xx and connections that failed.
 */
#include "postgres.h"

#include <limits.h>

#include <ctype.h>

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"

#include "base/base.h"
#include "base/text.h"
#include "http/http.h"
#include "stripe/stripe.h"
#include "types/types.h"

/* In Stripe's message if an object exists only in the key's other mode */
#define OTHER_MODE "a similar object exists in"

/* The API version of all requests, for which the mirror's tables are made */
static const char *
api_version(void)
{
	return guc_api_version[0] != '\0' ? guc_api_version : catalog_api_version;
}

/* The version without preview features after it, as Stripe shows an endpoint's */
char *
api_version_name(void)
{
	return pnstrdup(api_version(), strcspn(api_version(), "; "));
}

/*
 * Make the headers of a request, in buffers of the caller, who wipes the first:
 * it holds the key.
 */
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

/*
 * Read {"error": {"type", "code", "message"}}; any of it may be missing.  Sets
 * *missing if Stripe says that there is no such object.
 */
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
	text_clip_into(call->error, sizeof(call->error),
				   psprintf("Stripe answered %d (%s)%s%s", call->status,
							call->code, message ? ": " : "",
							message ? message : ""));
}

/*
 * Only an answer with Stripe's code resource_missing means that an object does
 * not exist: a proxy's 404 is not a deletion, nor is that of a key of the other
 * mode.  If Stripe-Should-Retry is false for a status that is temporary, the
 * request is retried, but not soon.
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
 * Does the answer have a plausible Date header?  A time more than a day from
 * this server's clock is not believed: an object with an _as_of in the next
 * century would never be updated again.
 */
bool
api_is_dated(const HttpAnswer *answer)
{
	TimestampTz then = time_t_to_timestamptz((pg_time_t) answer->date);
	int64 apart = then - answer->finished;

	return answer->date >= 0 && apart >= -USECS_PER_DAY &&
		   apart <= USECS_PER_DAY;
}

/*
 * The time up to which everything that happened at Stripe is in the answer, by
 * Stripe's clock alone: ours may be wrong.  The Date header has whole seconds
 * and is of the end of the request, so its duration and a second are taken off.
 */
static TimestampTz
answer_as_of(const HttpAnswer *answer)
{
	int64 took = Max(0, answer->finished - answer->started);

	return time_t_to_timestamptz((pg_time_t) answer->date) - took -
		   USECS_PER_SEC;
}

static void
judge_call_fault(ApiCall *call, const HttpAnswer *answer)
{
	static const char *const codes[] = {[HTTP_CONNECTION] = "connection",
										[HTTP_TIMEOUT] = "timeout",
										[HTTP_TLS] = "tls",
										[HTTP_TOO_LARGE] = "answer_too_large",
										[HTTP_REFUSED] = "url_refused"};

	call->verdict = answer->fault == HTTP_TOO_LARGE ? API_TOO_LARGE
					: answer->fault == HTTP_REFUSED ? API_REFUSED
													: API_AGAIN;
	/* the answer had begun, or may have been too long */
	call->incomplete = answer->fault == HTTP_TIMEOUT ||
					   answer->fault == HTTP_TOO_LARGE ||
					   (answer->fault == HTTP_CONNECTION &&
						answer->status == 200);
	if (api_is_dated(answer))
		call->as_of = answer_as_of(answer);
	strlcpy(call->code, codes[answer->fault], sizeof(call->code));
	text_clip_into(call->error, sizeof(call->error),
				   psprintf("%s: %s", call->code, answer->trouble));
}

/* The answer can't be used; the request is repeated. */
static void
reject_answer(ApiCall *call, const char *code, const char *error)
{
	call->verdict = API_AGAIN;
	strlcpy(call->code, code, sizeof(call->code));
	strlcpy(call->error, error, sizeof(call->error));
}

/* Does the page's JSON end early, though the transfer was complete? */
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

/*
 * Set the call's verdict, code, error and as_of from an answer.  The body is
 * already in the call.
 */
void
api_judge(ApiCall *call, const HttpAnswer *answer)
{
	bool missing = false;

	call->status = answer->status;
	call->code[0] = call->error[0] = '\0';
	call->incomplete = false;
	if (answer->fault != HTTP_DONE)
		judge_call_fault(call, answer);
	else if (answer->status != 200)
	{
		read_error(call, &missing);
		call->verdict = verdict_of(call, answer->should_retry, missing);
		/* Stripe repeats the answer that it keeps for an idempotency key */
		if (answer->replayed && answer->should_retry != 1 &&
			(call->verdict == API_AGAIN || call->verdict == API_LATER))
			call->verdict = API_REFUSED;
		call->as_of = answer_as_of(answer);
		if (call->verdict == API_GONE && !api_is_dated(answer))
			call->verdict = API_AGAIN; /* the time of the deletion is unknown */
	}
	else if (answer->date < 0)
		reject_answer(call, "no_date", "the answer has no Date header");
	else if (!api_is_dated(answer))
		reject_answer(
			call, "wrong_date",
			"the answer's Date is more than a day from this server's clock");
	else if (call->body == NULL)
		reject_answer(call, "no_memory", "out of memory for the answer");
	else if (is_cut_short(call))
	{
		reject_answer(call, CUT_SHORT, "the answer was cut short");
		call->incomplete = true;
		call->as_of = answer_as_of(answer);
	}
	else if (!is_text(call))
		reject_answer(call, "not_utf8", "the answer is not UTF-8");
	else
	{
		call->verdict = API_OK;
		call->as_of = answer_as_of(answer);
	}
}

/* ---- answers that raise an error ---- */

static bool invalid = false;

/*
 * For use in ereport(): marks the error as one about the answer itself, which
 * the same request is likely to get again.
 */
int
answer_is_invalid(void)
{
	invalid = true;
	return 0;
}

/* Was the last error marked by answer_is_invalid()?  Resets the mark. */
bool
answer_was_invalid(void)
{
	bool was = invalid;

	invalid = false;
	return was;
}
