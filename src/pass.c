/*
 * pass.c
 *		The worker's work, one thing after the other: answers are settled,
 *		messages claimed and sent, events retried, and what the clock asks for.
 *
 * The worker runs it in transactions of its own, CALL work() in those of its
 * procedure: a PassOwner begins and ends them.  No transaction is open while
 * anything is waited for.
 */
#include "stripe_sync.h"

#include "executor/spi.h"
#include "utils/snapmgr.h"

#include "flight.h"
#include "pass.h"

#define CHORES_EVERY (60 * USECS_PER_SEC)
#define PRUNE_EVERY	 USECS_PER_HOUR

static PassOwner owner;
static RoleScope scope;
static Snapshot snapshot; /* of the transaction that is open, or NULL */

/* When each part of the work is to be looked at next */
static TimestampTz next_claim;
static TimestampTz next_event;
static TimestampTz next_escalation;
static TimestampTz next_chores;
static TimestampTz next_prune;
static bool paced;
static bool closed; /* nothing more is begun */

void
pass_begin(void)
{
	owner.begin();
	PushActiveSnapshot(GetTransactionSnapshot());
	snapshot = GetActiveSnapshot();
	scope = role_enter_engine();
}

void
pass_commit(void)
{
	role_leave(&scope);
	PopActiveSnapshot();
	snapshot = NULL;
	owner.commit();
}

/* For an owner who goes on after an error: its snapshots are its own again. */
void
pass_abort(void)
{
	while (snapshot != NULL)
	{
		if (GetActiveSnapshot() == snapshot)
			snapshot = NULL;
		PopActiveSnapshot();
	}
}

/* ---- parts ---- */

static bool
claim_turn(void)
{
	ClaimOutlook outlook = {.next = DT_NOEND};
	bool found = sender_claim(&outlook);

	next_claim = outlook.next;
	paced = outlook.paced;
	return found;
}

/* What was done may have queued some, or freed them of a dead holder. */
static bool
look_for_messages(void)
{
	next_claim = DT_NOBEGIN;
	return true;
}

static bool
escalation_turn(void)
{
	bool found;

	pass_begin();
	found = escalate_due(&next_escalation);
	pass_commit();
	return found;
}

/* What nobody wakes us for. */
static void
do_chores(TimestampTz now)
{
	next_chores = now + CHORES_EVERY;
	sender_reclaim();
	pass_begin();
	escalate_end_windows();
	pass_commit();
	pass_begin();
	silence_check();
	pass_commit();
	if (now < next_prune)
		return;
	next_prune = now + PRUNE_EVERY;
	for (int64 pruned = 1; pruned > 0;)
	{
		pass_begin();
		pruned = prune_some(NULL);
		pass_commit();
	}
}

/* ---- what the worker and work() call ---- */

void
pass_setup(const PassOwner *new_owner)
{
	owner = *new_owner;
	snapshot = NULL;
	closed = false;
	next_claim = next_event = next_escalation = next_chores = DT_NOBEGIN;
	sender_setup();
}

/*
 * Something was committed: everything is to be looked at again.  What is to be
 * escalated falls due a while after it was committed, so that can wait.
 */
void
pass_woken(void)
{
	next_claim = next_event = DT_NOBEGIN;
	next_escalation = Min(next_escalation,
						  GetCurrentTimestamp() + USECS_PER_SEC);
}

/*
 * Do what is due, a part of it at a time.  False when nothing is left to do
 * before *next.
 */
bool
pass_turn(TimestampTz *next)
{
	TimestampTz now = GetCurrentTimestamp();
	bool busy = sender_settle();

	if (busy)
		next_claim = DT_NOBEGIN; /* room, a thread's next, another due time */
	if (closed)
	{
		*next = DT_NOEND;
		return busy;
	}
	if (now >= next_claim)
		busy = claim_turn() || busy;
	if (now >= next_event && retry_turn(&next_event))
		busy = look_for_messages();
	if (now >= next_escalation && escalation_turn())
		busy = look_for_messages();
	if (now >= next_chores)
	{
		do_chores(now);
		busy = look_for_messages();
	}
	*next = Min(Min(next_claim, next_event), Min(next_escalation, next_chores));
	return busy;
}

/* Begin nothing more; what is in the air is settled by further turns. */
void
pass_close(void)
{
	closed = true;
}

/* Nothing is claimed or in the air. */
bool
pass_idle(void)
{
	return sender_idle();
}

/* Is something due that waits for nothing but its destination's pace? */
bool
pass_paced(TimestampTz *until)
{
	*until = next_claim;
	return paced;
}

void
pass_finish(void)
{
	sender_drop();
}
