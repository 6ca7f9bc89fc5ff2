/*
 * client.c
 *		The HTTP client for Stripe's API: rate limit, retries, log.
 *
 * A call is in one of three lists: queued, sent, or answered.  Answered calls
 * are taken by the runner of parts.  The rate limit is a token bucket of
 * stripe_sync.stripe_rate requests a second; the rate is halved at each 429 and
 * grows back with good answers.
 *
 * No transaction is open while a request is sent or awaited.  The log entries of
 * attempts are kept in memory and written in the transaction of the answer.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include <openssl/crypto.h>

#include "base/backoff.h"
#include "base/base.h"
#include "engine/statement.h"
#include "http/http.h"
#include "server/counters.h"
#include "stripe/stripe.h"

#define MAX_ANSWER		   (32 * 1024 * 1024) /* bytes of a page */
#define MAX_SENT		   6 /* of the worker's connections; Slack needs others */
#define MAX_TRIES		   6
#define LONGEST_WAIT	   60 /* seconds; a longer Retry-After ends the call */
#define CALL_BACKOFF_FIRST (USECS_PER_SEC / 2)
#define CALL_BACKOFF_MOST  (30 * USECS_PER_SEC)
#define BURST			   5 /* requests that may be sent at once after a pause */
#define LEAST_RATE		   0.2	/* requests a second */
#define GROWTH			   0.02 /* of the full rate, with each good answer */

/* An attempt, for stripe_sync.api_call */
typedef struct LogEntry
{
	dlist_node node;
	int64 job;
	const char *method;
	char path[512];
	char account[256];
	int attempt;
	TimestampTz started;
	TimestampTz finished;
	int status;
	char code[64];
	char request_id[128];
} LogEntry;

static dlist_head queued = DLIST_STATIC_INIT(queued);
static dlist_head sent_calls = DLIST_STATIC_INIT(sent_calls);
static dlist_head answered = DLIST_STATIC_INIT(answered);
static dlist_head log_entries = DLIST_STATIC_INIT(log_entries);
static int nsent = 0;
static bool has_news = false; /* an answer has arrived since the last turn */

static double rate = 0; /* requests a second; 0: not yet set */
static double tokens = BURST;
static TimestampTz filled_at = 0;

static TimestampTz newest_as_of = 0; /* of all answers so far */

/* As the counters name them */
static const char *const verdict_names[] = {[API_OK] = "ok",
											[API_AGAIN] = "again",
											[API_LATER] = "later",
											[API_REFUSED] = "refused",
											[API_GONE] = "gone",
											[API_KEY_BAD] = "key_bad",
											[API_FORBIDDEN] = "forbidden",
											[API_TOO_LARGE] = "too_large"};

/* ---- calls ---- */

/*
 * A new call, in a memory context of its own, to be freed by api_call_free().
 * "method" is not copied.
 */
ApiCall *
api_call_new(const char *method, const char *path, const char *account,
			 const char *key)
{
	MemoryContext memory = AllocSetContextCreate(
		TopMemoryContext, "stripe_sync call", ALLOCSET_SMALL_SIZES);
	ApiCall *call = MemoryContextAllocZero(memory, sizeof(ApiCall));

	call->memory = memory;
	call->method = method;
	call->path = MemoryContextStrdup(memory, path);
	call->account = MemoryContextStrdup(memory, account);
	call->key = MemoryContextStrdup(memory, key);
	return call;
}

/* The answer may hold a secret: that of an endpoint created at Stripe. */
static void
free_answer(ApiCall *call)
{
	if (call->body != NULL)
	{
		OPENSSL_cleanse(call->body, call->length);
		free(call->body);
	}
	call->body = NULL;
	call->length = 0;
}

void
api_call_free(ApiCall *call)
{
	OPENSSL_cleanse(call->key, strlen(call->key));
	free_answer(call);
	MemoryContextDelete(call->memory);
}

/* Queue a call.  The client owns it until client_take_answer() returns it. */
void
client_submit(ApiCall *call)
{
	dlist_push_tail(&queued, &call->node);
}

/* ---- the rate limit ---- */

static void
fill_bucket(TimestampTz now)
{
	if (rate <= 0 || rate > guc_stripe_rate)
		rate = guc_stripe_rate;
	if (filled_at == 0 || filled_at > now)
		filled_at = now;
	tokens = Min(BURST, tokens + rate * (now - filled_at) / USECS_PER_SEC);
	filled_at = now;
}

/* When may the next request be sent? */
static TimestampTz
next_token_at(TimestampTz now)
{
	return tokens >= 1
			   ? now
			   : now + (TimestampTz) ((1 - tokens) / rate * USECS_PER_SEC) + 1;
}

static void
adjust_rate(const ApiCall *call)
{
	if (call->status == 429)
	{
		rate = Max(LEAST_RATE, rate / 2);
		tokens = 0;
	}
	else if (call->verdict == API_OK)
		rate = Min(guc_stripe_rate, rate + GROWTH * guc_stripe_rate);
}

/* ---- answers ---- */

static void
log_attempt(const ApiCall *call, const HttpAnswer *answer)
{
	LogEntry *entry = MemoryContextAllocZero(TopMemoryContext, sizeof(LogEntry));

	entry->job = call->job;
	entry->method = call->method;
	strlcpy(entry->path, call->path, sizeof(entry->path));
	strlcpy(entry->account, call->account, sizeof(entry->account));
	entry->attempt = call->attempt;
	entry->started = answer->started;
	entry->finished = answer->finished;
	entry->status = answer->status;
	strlcpy(entry->code, call->code, sizeof(entry->code));
	strlcpy(entry->request_id, answer->request_id, sizeof(entry->request_id));
	dlist_push_tail(&log_entries, &entry->node);
}

/* When to repeat the request: not before Retry-After, if Stripe sent it */
static TimestampTz
retry_at(const ApiCall *call, const HttpAnswer *answer)
{
	int64 delay = backoff_delay(call->attempt, CALL_BACKOFF_FIRST,
								CALL_BACKOFF_MOST);

	if (answer->retry_after > 0)
		delay = Max(delay, answer->retry_after * USECS_PER_SEC);
	return GetCurrentTimestamp() + delay;
}

/*
 * A request that was sent after an answer arrived has a later as_of than that
 * answer, even if Stripe's clock, which has whole seconds, or a longer duration
 * says otherwise.  A difference that those can't explain means that Stripe's
 * clock was set back; the order begins anew then.
 */
static void
order_as_of(ApiCall *call, const HttpAnswer *answer)
{
	TimestampTz doubt = answer->finished - answer->started + 3 * USECS_PER_SEC;

	if (!api_is_dated(answer))
		return;
	if (call->as_of <= call->floor && call->floor - call->as_of < doubt)
		call->as_of = call->floor + 1;
	newest_as_of = Max(newest_as_of, call->as_of);
	if (newest_as_of - call->as_of > doubt)
		newest_as_of = call->as_of;
}

/* How often the request may be sent, given its last answer */
static int
most_tries(const ApiCall *call)
{
	return call->incomplete && call->page_tries > 0 ? call->page_tries
													: MAX_TRIES;
}

/* Called by the HTTP layer when a request has ended. */
static void
call_completed(HttpAnswer *answer)
{
	ApiCall *call = answer->owner;

	dlist_delete(&call->node);
	nsent--;
	has_news = true;
	call->length = answer->length;
	call->body = http_keep_body(answer);
	api_judge(call, answer);
	order_as_of(call, answer);
	adjust_rate(call);
	log_attempt(call, answer);
	counter_add_now(COUNT_API, "", verdict_names[call->verdict]);
	call->retry_after = answer->retry_after;
	if (call->verdict == API_AGAIN && call->attempt < most_tries(call) &&
		answer->retry_after <= LONGEST_WAIT)
	{
		free_answer(call);
		call->due = retry_at(call, answer);
		dlist_push_tail(&queued, &call->node);
	}
	else
		dlist_push_tail(&answered, &call->node);
	http_free(answer);
}

/* A call whose answer is final, now the caller's to free; NULL if there is none. */
ApiCall *
client_take_answer(void)
{
	return dlist_is_empty(&answered)
			   ? NULL
			   : dlist_container(ApiCall, node, dlist_pop_head_node(&answered));
}

/* ---- sending ---- */

/* End a call without sending it. */
static void
fail_call(ApiCall *call, ApiVerdict verdict, const char *code, const char *error)
{
	call->verdict = verdict;
	call->status = 0;
	strlcpy(call->code, code, sizeof(call->code));
	strlcpy(call->error, error, sizeof(call->error));
	dlist_push_tail(&answered, &call->node);
}

/* libcurl copies the headers, so the buffer with the key is wiped here. */
static void
send_call(ApiCall *call)
{
	HttpRequest request = {.method = call->method,
						   .body = call->form,
						   .max_answer = MAX_ANSWER,
						   .timeout = guc_stripe_timeout,
						   .completed = call_completed,
						   .owner = call};
	StringInfoData buffers[API_HEADERS];
	char *url = psprintf("%s%s", guc_stripe_api_base, call->path);
	char *refusal = http_refusal(url, HTTP_STRIPE_API);
	char *error = NULL;

	for (int i = 0; i < lengthof(buffers); i++)
		initStringInfo(&buffers[i]);
	request.url = url;
	request.body_length = call->form != NULL ? strlen(call->form) : 0;
	api_headers(call, &request, buffers, lengthof(buffers));
	call->attempt++;
	call->floor = newest_as_of;
	if (refusal != NULL)
		fail_call(call, API_REFUSED, "url_refused", refusal);
	else if (http_start(&request, &error))
	{
		dlist_push_tail(&sent_calls, &call->node);
		nsent++;
	}
	else
		fail_call(call, API_AGAIN, "connection", error);
	OPENSSL_cleanse(buffers[0].data, buffers[0].maxlen);
}

/*
 * Send the queued calls that are due, as far as the rate limit and the number of
 * connections allow.  Returns whether any was sent.  *next is set to the time at
 * which the next may be, DT_NOEND if that depends on an answer.
 */
bool
client_send_due(TimestampTz *next)
{
	TimestampTz now = GetCurrentTimestamp();
	dlist_mutable_iter iter;
	bool sent = false;

	*next = DT_NOEND;
	has_news = false;
	if (dlist_is_empty(&queued))
		return false;
	fill_bucket(now);
	dlist_foreach_modify(iter, &queued)
	{
		ApiCall *call = dlist_container(ApiCall, node, iter.cur);
		TimestampTz when = Max(call->due, next_token_at(now));

		if (when > now)
			*next = Min(*next, when);
		else if (nsent < MAX_SENT && http_room() > 0)
		{
			dlist_delete(&call->node);
			tokens -= 1;
			send_call(call);
			sent = true;
		}
	}
	return sent;
}

static void
free_call_list(dlist_head *head)
{
	while (!dlist_is_empty(head))
		api_call_free(dlist_container(ApiCall, node, dlist_pop_head_node(head)));
}

/* Has a request ended since the last client_send_due()? */
bool
client_has_news(void)
{
	return has_news;
}

/*
 * Free all calls without waiting for answers.  That is safe because requests
 * only read, or have an idempotency key with which Stripe repeats its answer.
 */
void
client_abandon(void)
{
	http_abandon(call_completed);
	free_call_list(&queued);
	free_call_list(&sent_calls);
	free_call_list(&answered);
	nsent = 0;
}

/* ---- the log ---- */

static void
write_log_entry(const LogEntry *entry)
{
	static EngineStatement insert = {
		"INSERT INTO stripe_sync.api_call (job, method, path, account, attempt,"
		" started_at, duration, status, code, request_id)"
		" VALUES (nullif($1, 0), $2, $3, $4, $5, $6, $7 - $6, nullif($8, 0),"
		"  nullif($9, ''), nullif($10, ''))"};

	(void) statement_exec(
		&insert, ARGS(arg_int8(entry->job), arg_text(entry->method),
					  arg_text(entry->path), arg_text(entry->account),
					  arg_int4(entry->attempt), arg_time(entry->started),
					  arg_time(entry->finished), arg_int4(entry->status),
					  arg_text(entry->code), arg_text(entry->request_id)));
}

/*
 * Write the log of all attempts since the last call, in the caller's
 * transaction.  If that is rolled back, those attempts are missing in the log.
 */
void
client_write_log(void)
{
	while (!dlist_is_empty(&log_entries))
	{
		LogEntry *entry = dlist_container(LogEntry, node,
										  dlist_pop_head_node(&log_entries));

		write_log_entry(entry);
		pfree(entry);
	}
}
