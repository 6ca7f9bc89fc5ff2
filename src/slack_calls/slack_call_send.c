/*
 * slack_call_send.c
 *		Sends claimed calls and settles them: the calls of this process.
 *
 * Each is in one of these lists:
 *
 *	uncommitted		its claim's transaction hasn't committed
 *	in_progress		its request was sent
 *	finished		its result is known, and not settled yet
 *	settled			its settlement hasn't committed
 *
 * No more are claimed than requests can be started.  Claiming and settling are
 * transactions of their own; none is open while requests are in progress.  If the
 * process is killed, slack_calls_reclaim() finds its calls.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include <openssl/crypto.h>

#include "base/subtransaction.h"
#include "engine/worker_transaction.h"
#include "server/server.h"
#include "slack_calls/internal.h"

#define SETTLE_AGAIN USECS_PER_SEC
#define ROOM_AGAIN	 (100 * 1000) /* microseconds */

static dlist_head uncommitted = DLIST_STATIC_INIT(uncommitted);
static dlist_head in_progress = DLIST_STATIC_INIT(in_progress);
static dlist_head finished = DLIST_STATIC_INIT(finished);
static dlist_head settled = DLIST_STATIC_INIT(settled);
static TimestampTz settle_again = 0; /* when to try again */

static SlackCall *
pop_call(dlist_head *head)
{
	return dlist_container(SlackCall, node, dlist_pop_head_node(head));
}

static void
free_all(dlist_head *head)
{
	while (!dlist_is_empty(head))
		call_free(pop_call(head));
}

/* ---- sending ---- */

static void
request_completed(HttpAnswer *answer)
{
	SlackCall *call = answer->owner;

	dlist_delete(&call->node);
	call_judge(call, answer);
	http_free(answer);
	dlist_push_tail(&finished, &call->node);
}

/* Wipe and free a buffer that contained a secret. */
static void
wipe_buffer(StringInfo buffer)
{
	OPENSSL_cleanse(buffer->data, buffer->maxlen);
	pfree(buffer->data);
}

/* Start its request, or judge it if there can be none. */
static void
start_request(SlackCall *call)
{
	HttpRequest request = {0};
	StringInfoData body;
	StringInfoData header;
	char *refusal;
	char *trouble = NULL;

	initStringInfo(&body);
	initStringInfo(&header);
	request.completed = request_completed;
	refusal = call_request(call, &request, &body, &header);
	if (refusal == NULL && http_start(&request, &trouble))
		dlist_push_tail(&in_progress, &call->node);
	else
	{
		if (refusal != NULL)
			call_judge_unsent(call, SLACK_MESSAGE_BAD, "url_refused");
		else
			call_judge_unsent(call, SLACK_RETRY, "connection");
		call->trouble = MemoryContextStrdup(call->memory,
											refusal ? refusal : trouble);
		dlist_push_tail(&finished, &call->node);
	}
	wipe_buffer(&header);
	wipe_buffer(&body);
}

/* The claim has committed: the calls are leased to this process. */
static void
send_claimed(void)
{
	while (!dlist_is_empty(&uncommitted))
	{
		SlackCall *call = pop_call(&uncommitted);

		if (call->secret == NULL && !call->unsent)
			call_judge_unsent(call, SLACK_MESSAGE_BAD, "no_token");
		if (call->unsent)
			dlist_push_tail(&finished, &call->node);
		else
			start_request(call);
	}
}

/* ---- settling ---- */

static void
settle_body(void *call)
{
	call_settle(call);
}

/*
 * Settle one in a subtransaction.  Returns false if that failed: its row may be
 * locked by a user, for example.
 */
static bool
settle_or_warn(SlackCall *call)
{
	ErrorData *error;

	if (subtransaction_run(settle_body, call, subtransaction_excuse_all, &error))
		return true;
	ereport(WARNING, (errmsg("call " INT64_FORMAT
							 " to Slack could not be settled yet: %s",
							 call->id, error->message)));
	return false;
}

/*
 * All that are finished, in one transaction; those that fail stay.  If the commit
 * fails, slack_calls_reclaim() finds them.
 */
static void
settle_finished(void)
{
	dlist_mutable_iter iter;

	settle_again = GetCurrentTimestamp() + SETTLE_AGAIN;
	free_all(&settled);
	worker_begin();
	dlist_foreach_modify(iter, &finished)
	{
		SlackCall *call = dlist_container(SlackCall, node, iter.cur);

		if (!settle_or_warn(call))
			continue;
		dlist_delete(&call->node);
		dlist_push_tail(&settled, &call->node);
	}
	worker_commit();
	free_all(&settled);
}

/* ---- what the worker's loop calls ---- */

/* Called once by the worker, and by each CALL work(). */
void
slack_calls_setup(void)
{
	settle_again = 0;
}

bool
slack_calls_idle(void)
{
	return dlist_is_empty(&in_progress) && dlist_is_empty(&finished);
}

/* When to try again to settle what could not be settled. */
TimestampTz
slack_calls_next(void)
{
	return dlist_is_empty(&finished) ? DT_NOEND : settle_again;
}

/* Settle what has been answered.  Returns false if there was nothing to settle. */
bool
slack_calls_settle(void)
{
	if (dlist_is_empty(&finished) || GetCurrentTimestamp() < settle_again)
		return false;
	settle_finished();
	if (dlist_is_empty(&finished))
		settle_again = 0;
	return true;
}

/* Let them outlive the claim's transaction. */
static void
keep_claimed(const List *calls)
{
	ListCell *cell;

	foreach(cell, calls)
	{
		SlackCall *call = lfirst(cell);

		MemoryContextSetParent(call->memory, TopMemoryContext);
		dlist_push_tail(&uncommitted, &call->node);
	}
}

/*
 * Claim calls that are due, in a transaction of its own, and send them.  Returns
 * false if there were none.  Those left by a claim whose commit failed are freed:
 * they were not claimed.
 */
bool
slack_calls_turn(TimestampTz *next)
{
	int room = http_room();
	bool found;

	free_all(&uncommitted);
	*next = room > 0 ? DT_NOEND : GetCurrentTimestamp() + ROOM_AGAIN;
	if (room == 0)
		return false;
	worker_begin();
	if (outbound_allowed("slack")) /* else resume() and activate() wake */
		keep_claimed(calls_claim(room, next));
	worker_commit();
	found = !dlist_is_empty(&uncommitted);
	send_claimed();
	return found;
}

static bool
is_in(dlist_head *head, int64 id)
{
	dlist_iter iter;

	dlist_foreach(iter,
				  head) if (dlist_container(SlackCall, node, iter.cur)->id ==
							id) return true;
	return false;
}

static bool
is_mine(int64 id)
{
	return is_in(&in_progress, id) || is_in(&finished, id);
}

/*
 * Settle the calls of senders that are gone, and delete secrets that have
 * expired: at the start, and once a minute.
 */
void
slack_calls_reclaim(void)
{
	List *calls;
	ListCell *cell;

	worker_begin();
	calls = calls_of_dead_senders(is_mine);
	foreach(cell, calls)
		(void) settle_or_warn(lfirst(cell));
	worker_commit();
	worker_begin();
	call_secrets_expire();
	worker_commit();
}

/*
 * When the worker or CALL work() ends: settle everything.  Requests that are in
 * progress count as lost.
 */
void
slack_calls_release_all(void)
{
	if (slack_calls_idle())
		return;
	http_abandon(request_completed);
	while (!dlist_is_empty(&in_progress))
	{
		SlackCall *call = pop_call(&in_progress);

		call->judgement.verdict = SLACK_RETRY;
		strlcpy(call->judgement.code, "lost", sizeof(call->judgement.code));
		dlist_push_tail(&finished, &call->node);
	}
	settle_finished();
	free_all(&finished); /* if there are any, others release them */
}
