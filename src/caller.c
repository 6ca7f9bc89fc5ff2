/*
 * caller.c
 *		Requests to Stripe in the air: paced, sent, tried again, logged.
 *
 * A call is in one of three lists: queued, until it may go; flying; answered,
 * until who asked takes it.  The pace is a token bucket: stripe_sync.stripe_rate
 * a second, halved whenever Stripe says that it is too much, and growing back.
 * No transaction is open here; the log is written with what came of a call.
 */
#include "stripe_api.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include <openssl/crypto.h>

#define MAX_ANSWER		   (32 * 1024 * 1024) /* bytes of a page */
#define MAX_IN_AIR		   6 /* of the worker's connections: Slack needs some too */
#define MAX_TRIES		   6
#define LONGEST_WAIT	   60 /* seconds: for longer it isn't kept in hand */
#define CALL_BACKOFF_FIRST (USECS_PER_SEC / 2)
#define CALL_BACKOFF_MOST  (30 * USECS_PER_SEC)
#define BURST			   5 /* requests that may go at once after a pause */
#define LEAST_RATE		   0.2 /* requests a second, however often Stripe refuses */
#define GROWTH			   0.02 /* of the full rate, with each answer that is good */

/* An attempt, to be logged. */
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
static dlist_head flying = DLIST_STATIC_INIT(flying);
static dlist_head answered = DLIST_STATIC_INIT(answered);
static dlist_head log_entries = DLIST_STATIC_INIT(log_entries);
static int nflying = 0;
static bool has_news = false; /* since the last turn */

static double rate = 0; /* requests a second that Stripe seems to allow */
static double tokens = BURST;
static TimestampTz filled_at = 0;

static TimestampTz newest_as_of = 0; /* of all answers so far */

/* ---- calls ---- */

ApiCall *
call_make(const char *method, const char *path, const char *account,
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

/* It may hold a secret: that of an endpoint made at Stripe. */
static void
forget_answer(ApiCall *call)
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
call_free(ApiCall *call)
{
	OPENSSL_cleanse(call->key, strlen(call->key));
	forget_answer(call);
	MemoryContextDelete(call->memory);
}

void
caller_submit(ApiCall *call)
{
	dlist_push_tail(&queued, &call->node);
}

/* ---- the pace ---- */

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

/* When may the next one go? */
static TimestampTz
next_token(TimestampTz now)
{
	return tokens >= 1
			   ? now
			   : now + (TimestampTz) ((1 - tokens) / rate * USECS_PER_SEC) + 1;
}

static void
mind_the_pace(const ApiCall *call)
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
note_attempt(const ApiCall *call, const HttpAnswer *answer)
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

/* When to repeat the request: not before Retry-After, if Stripe sent it. */
static TimestampTz
again_at(const ApiCall *call, const HttpAnswer *answer)
{
	int64 delay = backoff_delay(call->attempt, CALL_BACKOFF_FIRST,
								CALL_BACKOFF_MOST);

	if (answer->retry_after > 0)
		delay = Max(delay, answer->retry_after * USECS_PER_SEC);
	return GetCurrentTimestamp() + delay;
}

/*
 * Of two requests, one after the other, the second knows all that the first
 * does, though Stripe's clock has whole seconds only and it may have taken
 * longer.  Unless Stripe's clock was set: by more than can be explained.
 */
static void
keep_order(ApiCall *call, const HttpAnswer *answer)
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

/* How often the same may be asked for, as far as this answer goes. */
static int
tries_of(const ApiCall *call)
{
	return call->spoilt && call->page_tries > 0 ? call->page_tries : MAX_TRIES;
}

static void
call_completed(HttpAnswer *answer)
{
	ApiCall *call = answer->owner;

	dlist_delete(&call->node);
	nflying--;
	has_news = true;
	call->length = answer->length;
	call->body = http_keep_body(answer);
	api_judge(call, answer);
	keep_order(call, answer);
	mind_the_pace(call);
	note_attempt(call, answer);
	call->retry_after = answer->retry_after;
	if (call->verdict == API_AGAIN && call->attempt < tries_of(call) &&
		answer->retry_after <= LONGEST_WAIT)
	{
		forget_answer(call);
		call->due = again_at(call, answer);
		dlist_push_tail(&queued, &call->node);
	}
	else
		dlist_push_tail(&answered, &call->node);
	http_free(answer);
}

ApiCall *
caller_take(void)
{
	return dlist_is_empty(&answered)
			   ? NULL
			   : dlist_container(ApiCall, node, dlist_pop_head_node(&answered));
}

/* ---- sending ---- */

/* It ends before it has begun. */
static void
refuse_call(ApiCall *call, ApiVerdict verdict, const char *code,
			const char *trouble)
{
	call->verdict = verdict;
	call->status = 0;
	strlcpy(call->code, code, sizeof(call->code));
	strlcpy(call->trouble, trouble, sizeof(call->trouble));
	dlist_push_tail(&answered, &call->node);
}

static void
dispatch(ApiCall *call)
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
	char *trouble = NULL;

	for (int i = 0; i < lengthof(buffers); i++)
		initStringInfo(&buffers[i]);
	request.url = url;
	request.body_length = call->form != NULL ? strlen(call->form) : 0;
	api_headers(call, &request, buffers, lengthof(buffers));
	call->attempt++;
	call->floor = newest_as_of;
	if (refusal != NULL)
		refuse_call(call, API_REFUSED, "url_refused", refusal);
	else if (http_start(&request, &trouble))
	{
		dlist_push_tail(&flying, &call->node);
		nflying++;
	}
	else
		refuse_call(call, API_AGAIN, "connection", trouble);
	OPENSSL_cleanse(buffers[0].data, buffers[0].maxlen);
}

/*
 * Send what is due, as far as pace and connections allow.  False when nothing
 * was; then *next is when something may be, but for what is in the air.
 */
bool
caller_turn(TimestampTz *next)
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
		TimestampTz when = Max(call->due, next_token(now));

		if (when > now)
			*next = Min(*next, when);
		else if (nflying < MAX_IN_AIR && http_room() > 0)
		{
			dlist_delete(&call->node);
			tokens -= 1;
			dispatch(call);
			sent = true;
		}
	}
	return sent;
}

static void
drop_all(dlist_head *head)
{
	while (!dlist_is_empty(head))
		call_free(dlist_container(ApiCall, node, dlist_pop_head_node(head)));
}

/* Has something landed, whose outcome is known or that is to be tried again? */
bool
caller_has_news(void)
{
	return has_news;
}

/*
 * What is in the air isn't waited for: it only reads, or is known again by its
 * idempotency key.
 */
void
caller_drop(void)
{
	http_abandon(call_completed);
	drop_all(&queued);
	drop_all(&flying);
	drop_all(&answered);
	nflying = 0;
}

/* ---- the log ---- */

static void
write_entry(const LogEntry *entry)
{
	static EngineStatement insert = {
		"INSERT INTO stripe_sync.api_call (job, method, path, account, attempt,"
		" started_at, duration, status, code, request_id)"
		" VALUES (nullif($1, 0), $2, $3, $4, $5, $6, $7 - $6, nullif($8, 0),"
		"  nullif($9, ''), nullif($10, ''))",
		10,
		{INT8OID, TEXTOID, TEXTOID, TEXTOID, INT4OID, TIMESTAMPTZOID,
		 TIMESTAMPTZOID, INT4OID, TEXTOID, TEXTOID}};
	Datum values[] = {Int64GetDatum(entry->job),
					  CStringGetTextDatum(entry->method),
					  CStringGetTextDatum(entry->path),
					  CStringGetTextDatum(entry->account),
					  Int32GetDatum(entry->attempt),
					  TimestampTzGetDatum(entry->started),
					  TimestampTzGetDatum(entry->finished),
					  Int32GetDatum(entry->status),
					  CStringGetTextDatum(entry->code),
					  CStringGetTextDatum(entry->request_id)};

	engine_run(&insert, values, NULL, SPI_OK_INSERT);
}

/* Within the caller's transaction: what then fails to commit isn't logged. */
void
caller_write_log(void)
{
	SPI_connect();
	while (!dlist_is_empty(&log_entries))
	{
		LogEntry *entry = dlist_container(LogEntry, node,
										  dlist_pop_head_node(&log_entries));

		write_entry(entry);
		pfree(entry);
	}
	SPI_finish();
}
