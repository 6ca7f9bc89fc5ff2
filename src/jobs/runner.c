/*
 * runner.c
 *		The part of the worker's loop that runs parts of jobs.
 *
 * A turn writes the answers that have arrived, claims parts, and sends the next
 * request of each part.  A part has one request at a time.  Its answer is
 * written together with the part's cursor, so that after a crash at most one
 * page is read twice; no transaction is open while an answer is awaited.
 *
 * Up to six parts run at once, four of them parts of backfills, so that
 * refetch() and reconcile() never wait for whole lists.
 */
#include "postgres.h"

#include <limits.h>

#include "engine/engine.h"
#include "engine/worker_transaction.h"
#include "jobs/jobs.h"
#include "jobs/part.h"
#include "server/server.h"
#include "stripe/stripe.h"
#include "jobs/internal.h"

#define MAX_PARTS			   6
#define MAX_BACKFILL_PARTS	   4
#define DELAY_AFTER_ERROR	   (5 * USECS_PER_SEC)
#define LOCK_RETRY_DELAY	   (200 * 1000) /* microseconds */
#define PAUSE_CHECK_INTERVAL   USECS_PER_SEC
#define DELAY_AFTER_CONTENTION USECS_PER_SEC

/* The parts that this process has claimed */
static dlist_head parts = DLIST_STATIC_INIT(parts);
static int nparts = 0;

/* Answers that could not be written because a job's row was locked */
static dlist_head deferred = DLIST_STATIC_INIT(deferred);
static TimestampTz deferred_until = 0;
static ApiCall *being_written = NULL; /* in no list; freed after an error */

/* When to claim */
static TimestampTz next_due = DT_NOBEGIN;
static bool claim_requested = true;
static TimestampTz last_claim = 0;

static bool in_turn = false; /* still set after a turn that raised an error */
static bool wrote;			 /* this turn; see runner_turn() */

/* Forget a part that has ended. */
static void
remove_part(Part *part)
{
	dlist_delete(&part->node);
	nparts--;
	claim_requested = true; /* there is room, and it may be due again */
	part_free(part);
}

static Part *
find_part_here(int64 job, int number)
{
	dlist_iter iter;

	dlist_foreach(iter, &parts)
	{
		Part *part = dlist_container(Part, node, iter.cur);

		if (part->job == job && part->number == number && !part->superseded)
			return part;
	}
	return NULL;
}

/* Does this process run the part? */
bool
runner_has(int64 job, int number)
{
	return find_part_here(job, number) != NULL;
}

/* ---- claiming ---- */

/*
 * The same part may still be here, with its request sent, if its job was
 * cancelled and resumed: the old answer is then dropped.
 */
static void
add_claimed_part(Part *part)
{
	Part *before = find_part_here(part->job, part->number);

	if (before != NULL)
		before->superseded = true;
	dlist_push_tail(&parts, &part->node);
	nparts++;
}

static int
count_backfill_parts(void)
{
	dlist_iter iter;
	int count = 0;

	dlist_foreach(iter, &parts)
		count += dlist_container(Part, node, iter.cur)->priority >=
				 PRIORITY_BACKFILL;
	return count;
}

static void
claim_parts(void)
{
	int room;

	part_claim(0, PRIORITY_BACKFILL - 1, MAX_PARTS - nparts, add_claimed_part);
	room = Min(MAX_PARTS - nparts, MAX_BACKFILL_PARTS - count_backfill_parts());
	if (room > 0)
		part_claim(PRIORITY_BACKFILL, INT_MAX, room, add_claimed_part);
}

/* When the first of the parts is due that there is room for */
static TimestampTz
find_next_due(void)
{
	return part_next_due(count_backfill_parts() < MAX_BACKFILL_PARTS);
}

static void
load_keys(void)
{
	dlist_iter iter;

	dlist_foreach(iter, &parts)
	{
		Part *part = dlist_container(Part, node, iter.cur);

		if (part->key == NULL && part->key_error == NULL)
			part_load_key(part);
	}
}

/*
 * Claim what is due, in a transaction of its own.  Returns false if no request
 * may be sent to Stripe: the worker is paused, or the database is a copy.
 */
static bool
claim_due_parts(void)
{
	TimestampTz now = GetCurrentTimestamp();
	bool allowed;

	worker_begin();
	next_due = DT_NOEND;
	allowed = outbound_allowed("stripe");
	if (allowed && nparts < MAX_PARTS)
	{
		int nest = plan_for_indexes_with_lock_timeout();
		TimestampTz poll_due = part_kinds_poll();

		next_due = find_next_due();
		if (next_due <= now)
		{
			claim_parts();
			/* parts that are still due are locked by another session */
			next_due = Max(find_next_due(), now + DELAY_AFTER_CONTENTION);
		}
		next_due = Min(next_due, poll_due);
		plan_settings_restore(nest);
		load_keys();
	}
	worker_commit();
	claim_requested = false;
	last_claim = now;
	return allowed;
}

/* Something was committed that may have made parts due. */
void
runner_claim_soon(void)
{
	claim_requested = true;
}

/*
 * While parts are running the transaction is made once a second even if nothing
 * is due, because it also finds out whether the worker has been paused.
 */
static bool
claim_is_due(void)
{
	TimestampTz now = GetCurrentTimestamp();

	return claim_requested || (nparts < MAX_PARTS && next_due <= now) ||
		   (nparts > 0 && now - last_claim > PAUSE_CHECK_INTERVAL);
}

/* ---- releasing ---- */

static void
free_calls(void)
{
	client_abandon();
	while (!dlist_is_empty(&deferred))
		api_call_free(
			dlist_container(ApiCall, node, dlist_pop_head_node(&deferred)));
	if (being_written != NULL)
		api_call_free(being_written);
	being_written = NULL;
}

/*
 * Release all parts, so that they are due after "delay" microseconds.  After an
 * error it is not known which part raised it, or which state in memory is still
 * right, so all of them are read again.
 */
static void
release_all_parts(int64 delay)
{
	free_calls();
	if (nparts == 0)
		return;
	worker_begin();
	client_write_log();
	part_release_all(GetCurrentTimestamp() + delay);
	worker_commit();
	while (!dlist_is_empty(&parts))
		remove_part(dlist_head_element(Part, node, &parts));
}

/* ---- answers ---- */

/* The next answer to write; deferred ones once their delay is over */
static ApiCall *
next_answer(TimestampTz now)
{
	ApiCall *call = client_take_answer();

	if (call == NULL && !dlist_is_empty(&deferred) && now >= deferred_until)
		call = dlist_container(ApiCall, node, dlist_pop_head_node(&deferred));
	return call;
}

/* Returns false if the answer is to be written later. */
static bool
write_one_answer(Part *part, ApiCall *call)
{
	PartProgress progress = part_write_answer(part, call, &wrote);

	if (progress == PART_BLOCKED_BY_LOCK)
		return false;
	part->request_sent = false;
	if (progress == PART_ENDED)
		remove_part(part);
	return true;
}

static bool
write_answers(void)
{
	TimestampTz now = GetCurrentTimestamp();
	ApiCall *call;
	bool any = false;

	while ((call = being_written = next_answer(now)) != NULL)
	{
		bool written = write_one_answer(call->owner, call);

		being_written = NULL;
		if (written)
			api_call_free(call);
		else
		{
			dlist_push_tail(&deferred, &call->node);
			deferred_until = now + LOCK_RETRY_DELAY;
		}
		any |= written;
	}
	return any;
}

/* ---- requests ---- */

static void
send_request(Part *part)
{
	char *path = part->kind->path(part);
	ApiCall *call = api_call_new("GET", path, part->account, part->key);

	call->owner = part;
	call->target = part->target;
	if (part->kind->post != NULL)
	{
		call->method = "POST";
		part->kind->post(part, call);
	}
	call->job = part->job;
	call->page_tries = page_tries(part);
	client_submit(call);
	part->request_sent = true;
}

/* Returns false if the part has ended, or must be tried again later. */
static bool
find_next_request(Part *part)
{
	PartProgress progress = part_find_next_request(part);

	wrote = true;
	part->job_locked = progress == PART_BLOCKED_BY_LOCK;
	if (part->job_locked)
		deferred_until = GetCurrentTimestamp() + LOCK_RETRY_DELAY;
	else if (progress == PART_ENDED)
		remove_part(part);
	return progress == PART_GOES_ON;
}

static void
advance(Part *part)
{
	const PartKind *kind = part->kind;

	if ((part->key == NULL || kind->find_next != NULL) &&
		!find_next_request(part))
		return;
	if (kind->find_next != NULL && !part->ready)
		return; /* continued in the next turn */
	send_request(part);
}

static bool
advance_all(void)
{
	TimestampTz now = GetCurrentTimestamp();
	dlist_mutable_iter iter;
	bool any = false;

	dlist_foreach_modify(iter, &parts)
	{
		Part *part = dlist_container(Part, node, iter.cur);

		if (part->request_sent || (part->job_locked && now < deferred_until))
			continue;
		advance(part);
		any = true;
	}
	return any;
}

/* ---- called by the worker's loop ---- */

/*
 * One turn.  Returns false if there is nothing to do before *next.  Sets *stirs
 * if something was written that may have queued messages or made other parts
 * due.  Runs in no transaction, and makes its own.
 */
bool
runner_turn(TimestampTz *next, bool *stirs)
{
	bool busy;

	if (in_turn)
		release_all_parts(DELAY_AFTER_ERROR);
	in_turn = true;
	wrote = false;
	busy = write_answers();
	claim_requested |= wrote;
	if (claim_is_due() && !claim_due_parts())
		release_all_parts(0);
	busy |= advance_all();
	busy |= client_send_due(next);
	if (nparts < MAX_PARTS)
		*next = Min(*next, next_due);
	if (!dlist_is_empty(&deferred) || deferred_until > GetCurrentTimestamp())
		*next = Min(*next, deferred_until);
	*stirs = wrote;
	in_turn = false;
	return busy;
}

/* Has an answer arrived that is to be written? */
bool
runner_has_news(void)
{
	return client_has_news();
}

bool
runner_idle(void)
{
	return nparts == 0;
}

/* Release all parts; requests whose answers are missing are made again. */
void
runner_release_all(void)
{
	release_all_parts(0);
}
