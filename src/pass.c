/*
 * pass.c
 *		The worker's work, one thing after the other: answers are settled,
 *		messages claimed and sent, events retried, and what the clock asks for.
 *
 * The worker runs it in transactions of its own, CALL work() in those of its
 * procedure: a TransactionOwner begins and ends them.  No transaction is open while
 * anything is waited for.
 */
#include "stripe_sync.h"

#include "delivery.h"
#include "pass.h"
#include "refused.h"

#define CHORES_EVERY (60 * USECS_PER_SEC)
#define PRUNE_EVERY	 USECS_PER_HOUR

static bool paced;
static bool closed; /* nothing more is begun */
static bool stirs;	/* this turn did what others may have waited for */

/* ---- parts: false when nothing is due before *next ---- */

static bool
claim_turn(TimestampTz *next)
{
	ClaimOutlook outlook = {.next = DT_NOEND};
	bool found = sender_claim_and_send(&outlook);

	*next = outlook.next;
	paced = outlook.paced;
	return found;
}

/* Reading a list mostly tells nobody anything. */
static bool
job_turn(TimestampTz *next)
{
	bool stirred;
	bool busy = runner_turn(next, &stirred);

	stirs |= stirred;
	return busy;
}

static bool
escalation_turn(TimestampTz *next)
{
	bool found;

	worker_begin();
	found = escalate_due(next);
	worker_commit();
	return found;
}

/* What nobody wakes us for. */
static bool
chores_turn(TimestampTz *next)
{
	*next = GetCurrentTimestamp() + CHORES_EVERY;
	sender_reclaim();
	runner_reclaim();
	worker_begin();
	outbox_unblock_orphans();
	worker_commit();
	worker_begin();
	escalate_end_windows();
	worker_commit();
	worker_begin();
	secret_rotation_check();
	worker_commit();
	worker_begin();
	silence_check();
	worker_commit();
	worker_begin();
	refusals_write();
	worker_commit();
	worker_begin();
	refusals_judge();
	worker_commit();
	return true; /* some may be owed now */
}

/* A batch at a time: others have their turn between them. */
static bool
prune_turn(TimestampTz *next)
{
	bool pruned;

	*next = GetCurrentTimestamp() + PRUNE_EVERY; /* should it fail */
	worker_begin();
	pruned = prune_some(NULL) > 0;
	worker_commit();
	if (pruned)
		*next = DT_NOBEGIN;
	return pruned;
}

enum
{
	PART_CLAIM,
	PART_EVENT,
	PART_JOB,
	PART_RECONCILE,
	PART_WATCH,
	PART_ESCALATION,
	PART_CHORES,
	PART_PRUNE
};

/* In the order of how soon somebody waits for it. */
static struct
{
	bool (*turn)(TimestampTz *next);
	TimestampTz next; /* when it is to be looked at */
} parts[] = {[PART_CLAIM] = {claim_turn, 0},
			 [PART_EVENT] = {due_events_turn, 0},
			 [PART_JOB] = {job_turn, 0},
			 [PART_RECONCILE] = {reconcile_schedule, 0},
			 [PART_WATCH] = {watch_schedule, 0},
			 [PART_ESCALATION] = {escalation_turn, 0},
			 [PART_CHORES] = {chores_turn, 0},
			 [PART_PRUNE] = {prune_turn, 0}};

static void
look_at_all(void)
{
	for (int i = 0; i < lengthof(parts); i++)
		parts[i].next = DT_NOBEGIN;
	runner_look();
}

/* A clock that was set back would have us wait for what is long over. */
static void
mind_the_clock(TimestampTz now)
{
	static TimestampTz last = DT_NOBEGIN;

	if (now < last)
		look_at_all();
	last = now;
}

/* ---- what the worker and work() call ---- */

void
pass_setup(const TransactionOwner *owner)
{
	worker_transaction_setup(owner);
	closed = false;
	look_at_all();
	sender_setup();
}

/* What is due, and when, may be another. */
void
pass_reloaded(void)
{
	look_at_all();
}

/*
 * Something was committed: everything is to be looked at again.  What is to be
 * escalated falls due a while after it was committed, and what is to be read
 * from Stripe after its key was, so that can wait.
 */
void
pass_woken(void)
{
	static const int unhurried[] = {PART_ESCALATION, PART_RECONCILE, PART_WATCH};
	TimestampTz soon = GetCurrentTimestamp() + USECS_PER_SEC;

	parts[PART_CLAIM].next = parts[PART_EVENT].next = DT_NOBEGIN;
	parts[PART_JOB].next = DT_NOBEGIN;
	runner_look();
	for (int i = 0; i < lengthof(unhurried); i++)
		parts[unhurried[i]].next = Min(parts[unhurried[i]].next, soon);
}

/*
 * Do what is due, a part of it at a time.  False when nothing is left to do
 * before *next.  Whatever was done may have queued messages, freed some of a
 * dead holder, or made room for more: those are looked for again.
 */
bool
pass_turn(TimestampTz *next)
{
	TimestampTz now = GetCurrentTimestamp();
	bool busy = sender_process_answers();

	*next = sender_next();
	if (closed)
		return busy;
	stirs = busy;
	mind_the_clock(now);
	if (runner_is_called())
		parts[PART_JOB].next = DT_NOBEGIN;
	for (int i = 0; i < lengthof(parts); i++)
		if (now >= parts[i].next && parts[i].turn(&parts[i].next))
		{
			busy = true;
			stirs |= i != PART_JOB;
		}
	if (busy)
		parts[PART_JOB].next = DT_NOBEGIN;
	if (stirs)
	{
		parts[PART_CLAIM].next = DT_NOBEGIN;
		runner_look();
	}
	*next = sender_next();
	for (int i = 0; i < lengthof(parts); i++)
		*next = Min(*next, parts[i].next);
	return busy;
}

/* Nothing is claimed or in progress. */
bool
pass_idle(void)
{
	return sender_idle() && runner_idle();
}

/*
 * Is there anything that must be waited for: an answer, or the pace of a
 * destination that has something due?  Not beyond *until.
 */
bool
pass_awaits(TimestampTz *until)
{
	*until = sender_next();
	if (paced)
		*until = Min(*until, parts[PART_CLAIM].next);
	if (!runner_idle())
		*until = Min(*until, parts[PART_JOB].next);
	return paced || !pass_idle();
}

/* Begin nothing more, wait so long for requests in progress, and release the rest. */
void
pass_land(long milliseconds, void (*interrupts)(void))
{
	TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
													milliseconds);
	TimestampTz next;

	closed = true;
	runner_drop();
	sender_close();
	while (!sender_idle() && GetCurrentTimestamp() < until)
	{
		interrupts();
		if (!pass_turn(&next))
			(void) http_wait(TimestampDifferenceMilliseconds(
								 GetCurrentTimestamp(), Min(next, until)),
							 compat_wait_event("StripeSyncLand"));
	}
	pass_finish();
}

/* Let go of everything, at once. */
void
pass_finish(void)
{
	runner_drop();
	sender_release_all();
}
