/*
 * loop.c
 *		The loop of the worker and of CALL work(): runs each task when it is due.
 *
 * Responses are settled first, then the tasks run in the order of the table
 * below: calls that interactions owe and messages are claimed and sent, events
 * retried, jobs advanced, and maintenance done once a minute.  Each task begins
 * and commits its own transactions through a TransactionOwner: those of the
 * worker, or of the procedure that CALL work() runs in.  No transaction is open
 * while the loop waits.
 *
 * A task has the time when it is due next.  That is reset when something was
 * committed, when the settings have changed, and when a task did something that
 * may make others due.
 */
#include "postgres.h"

#include "alert/alert.h"
#include "base/compat.h"
#include "doctor/doctor.h"
#include "endpoints/endpoints.h"
#include "engine/worker_transaction.h"
#include "http/http.h"
#include "jobs/jobs.h"
#include "outbox/outbox.h"
#include "quiet/quiet.h"
#include "receive/receive.h"
#include "silence/silence.h"
#include "slack_calls/slack_calls.h"
#include "sync/sync.h"
#include "worker/internal.h"

#define MAINTENANCE_EVERY (60 * USECS_PER_SEC)
#define PRUNE_EVERY		  USECS_PER_HOUR

static bool waiting_for_pace; /* a due message waits for a destination's pace */
static bool draining;		  /* loop_drain(): tasks don't run any more */
static bool others_may_be_due; /* set by a task, see loop_run_once() */

/*
 * ---- tasks ----
 *
 * Each sets *next to the time when it is due again, and returns false if nothing
 * was due.
 */

static bool
claim_turn(TimestampTz *next)
{
	ClaimOutlook outlook = {.next = DT_NOEND};
	bool found = sender_claim_and_send(&outlook);

	*next = outlook.next;
	waiting_for_pace = outlook.paced;
	return found;
}

/* Most pages of a list make no other task due. */
static bool
job_turn(TimestampTz *next)
{
	bool may_be_due;
	bool busy = runner_turn(next, &may_be_due);

	others_may_be_due |= may_be_due;
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

static bool
quiet_turn(TimestampTz *next)
{
	bool ended;

	worker_begin();
	ended = quiet_end_turn(next);
	worker_commit();
	return ended;
}

/*
 * Maintenance, once a minute: what no commit announces.  Each step is a
 * transaction of its own, so an error leaves the earlier ones done.
 */
static bool
maintenance_turn(TimestampTz *next)
{
	*next = GetCurrentTimestamp() + MAINTENANCE_EVERY;
	sender_reclaim();
	slack_calls_reclaim();
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
	event_summarize();
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
	return true; /* it may have queued messages or freed leases */
}

/* One batch at a time, so that other tasks run in between. */
static bool
prune_turn(TimestampTz *next)
{
	bool pruned;

	*next = GetCurrentTimestamp() + PRUNE_EVERY; /* also after an error */
	worker_begin();
	pruned = prune_some(NULL) > 0;
	worker_commit();
	if (pruned)
		*next = DT_NOBEGIN;
	return pruned;
}

/* A look at an item makes other tasks due only if it reported something. */
static bool
doctor_task(TimestampTz *next)
{
	bool raised;
	bool looked = doctor_turn(next, &raised);

	others_may_be_due |= raised;
	return looked;
}

enum
{
	LOOP_CALLS,
	LOOP_CLAIM,
	LOOP_EVENT,
	LOOP_JOB,
	LOOP_RECONCILE,
	LOOP_WATCH,
	LOOP_ESCALATION,
	LOOP_QUIET,
	LOOP_GROUPS,
	LOOP_MAINTENANCE,
	LOOP_PRUNE,
	LOOP_DOCTOR
};

/* The most urgent first */
static struct
{
	bool (*turn)(TimestampTz *next);
	TimestampTz next; /* when it is due */
} tasks[] = {[LOOP_CALLS] = {slack_calls_turn, 0},
			 [LOOP_CLAIM] = {claim_turn, 0},
			 [LOOP_EVENT] = {due_events_turn, 0},
			 [LOOP_JOB] = {job_turn, 0},
			 [LOOP_RECONCILE] = {reconcile_schedule, 0},
			 [LOOP_WATCH] = {watch_schedule, 0},
			 [LOOP_ESCALATION] = {escalation_turn, 0},
			 [LOOP_QUIET] = {quiet_turn, 0},
			 [LOOP_GROUPS] = {slack_groups_turn, 0},
			 [LOOP_MAINTENANCE] = {maintenance_turn, 0},
			 [LOOP_PRUNE] = {prune_turn, 0},
			 [LOOP_DOCTOR] = {doctor_task, 0}};

static void
schedule_all(void)
{
	for (int i = 0; i < lengthof(tasks); i++)
		tasks[i].next = DT_NOBEGIN;
	runner_claim_soon();
	doctor_watch_reset();
}

/* When to settle again what could not be settled */
static TimestampTz
settle_next(void)
{
	return Min(sender_next(), slack_calls_next());
}

/* After the clock was set back, the noted times would be too late. */
static void
check_clock(TimestampTz now)
{
	static TimestampTz last = DT_NOBEGIN;

	if (now < last)
		schedule_all();
	last = now;
}

/* ---- public ---- */

/* Must be called before the others, by each process or call of work(). */
void
loop_setup(const TransactionOwner *owner)
{
	worker_transaction_setup(owner);
	draining = false;
	schedule_all();
	sender_setup();
	slack_calls_setup();
}

/* After a reload: settings may change what is due. */
void
loop_settings_changed(void)
{
	schedule_all();
}

/*
 * Something was committed: run the tasks that a commit can make due.  Those that
 * are never due at once, such as escalations, the end of quiet hours and
 * reconciliation, run a second later at the latest.
 */
void
loop_woken(void)
{
	static const int less_urgent[] = {LOOP_ESCALATION, LOOP_QUIET,
									  LOOP_RECONCILE, LOOP_WATCH, LOOP_GROUPS};
	TimestampTz soon = GetCurrentTimestamp() + USECS_PER_SEC;

	tasks[LOOP_CALLS].next = tasks[LOOP_CLAIM].next = DT_NOBEGIN;
	tasks[LOOP_EVENT].next = tasks[LOOP_JOB].next = DT_NOBEGIN;
	runner_claim_soon();
	for (int i = 0; i < lengthof(less_urgent); i++)
		tasks[less_urgent[i]].next = Min(tasks[less_urgent[i]].next, soon);
}

/*
 * Settle responses and run the tasks that are due, a batch of each.  Returns false
 * if nothing was due; *next is then the time when something will be.
 *
 * A task may have queued messages, taken back leases of an ended process, or
 * freed connections, so claims and jobs are then due again.
 */
bool
loop_run_once(TimestampTz *next)
{
	TimestampTz now = GetCurrentTimestamp();
	bool busy = sender_process_answers();
	bool jobs_may_be_due;

	busy |= slack_calls_settle();
	jobs_may_be_due = busy;
	*next = settle_next();
	if (draining)
		return busy;
	others_may_be_due = busy;
	check_clock(now);
	if (runner_has_news())
		tasks[LOOP_JOB].next = DT_NOBEGIN;
	if (slack_groups_have_news())
		tasks[LOOP_GROUPS].next = DT_NOBEGIN;
	for (int i = 0; i < lengthof(tasks); i++)
		if (now >= tasks[i].next && tasks[i].turn(&tasks[i].next))
		{
			busy = true;
			jobs_may_be_due |= i != LOOP_DOCTOR && i != LOOP_GROUPS;
			others_may_be_due |= i != LOOP_JOB && i != LOOP_DOCTOR &&
								 i != LOOP_GROUPS;
		}
	if (jobs_may_be_due || others_may_be_due)
		tasks[LOOP_JOB].next = DT_NOBEGIN;
	if (others_may_be_due)
	{
		tasks[LOOP_CALLS].next = tasks[LOOP_CLAIM].next = DT_NOBEGIN;
		runner_claim_soon();
	}
	*next = settle_next();
	for (int i = 0; i < lengthof(tasks); i++)
		*next = Min(*next, tasks[i].next);
	return busy;
}

/* Is nothing claimed or in progress? */
bool
loop_is_idle(void)
{
	return sender_idle() && slack_calls_idle() && runner_idle();
}

/*
 * Must CALL work() wait: for a response, or for the pace of a destination that
 * has due messages?  At most until *until.
 */
bool
loop_has_pending(TimestampTz *until)
{
	*until = settle_next();
	if (waiting_for_pace)
		*until = Min(*until, tasks[LOOP_CLAIM].next);
	if (!runner_idle())
		*until = Min(*until, tasks[LOOP_JOB].next);
	return waiting_for_pace || !loop_is_idle() || !slack_groups_idle();
}

/*
 * Run no more tasks, wait at most so long for responses and settle them, then
 * release the rest.  interrupts() is called before each wait.
 */
void
loop_drain(long milliseconds, void (*interrupts)(void))
{
	TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
													milliseconds);
	TimestampTz next;

	draining = true;
	runner_release_all();
	slack_groups_abandon();
	sender_close();
	while (!(sender_idle() && slack_calls_idle()) &&
		   GetCurrentTimestamp() < until)
	{
		interrupts();
		if (!loop_run_once(&next))
			(void) http_wait(TimestampDifferenceMilliseconds(
								 GetCurrentTimestamp(), Min(next, until)),
							 compat_wait_event("StripeSyncLand"));
	}
	loop_release_all();
}

/* Release everything that is claimed, without waiting for responses. */
void
loop_release_all(void)
{
	runner_release_all();
	slack_groups_abandon();
	slack_calls_release_all();
	sender_release_all();
}
