/*
 * part_advance.c
 *		The transactions that advance a claimed part: one that writes an answer,
 *		and one that determines the next request.
 *
 * Both lock the job's row first, without waiting.  cancel_job() and a resumed
 * job lock it too, so with the lock held the part's state doesn't change.  If
 * another transaction has it, the caller keeps the answer and tries again.
 *
 * An answer is processed in a subtransaction.  If that fails, the part's
 * position in memory is restored, and the outcome of the error is written
 * instead.
 */
#include "postgres.h"

#include "base/subtransaction.h"
#include "engine/worker_transaction.h"
#include "jobs/jobs.h"
#include "jobs/part.h"
#include "stripe/stripe.h"
#include "jobs/internal.h"

typedef struct ProcessCall
{
	Part *part;
	ApiCall *call;
} ProcessCall;

static void
process_body(void *arg)
{
	ProcessCall *process = arg;

	process->part->kind->process(process->part, process->call);
}

static Outcome
current_outcome(const Part *part)
{
	return (Outcome){part->finished ? "done" : "running", GetCurrentTimestamp(),
					 NULL};
}

static Outcome
process_answer(Part *part, ApiCall *call)
{
	ProcessCall process = {part, call};
	PartMark mark = part_mark(part);
	ErrorData *error;

	if (outcome_guard(process_body, &process, subtransaction_excuse_all, &error))
	{
		if (call->verdict == API_OK)
			page_written(part);
		return current_outcome(part);
	}
	part_restore(part, &mark);
	return outcome_of_error(part, error);
}

static bool
kind_accepts(const Part *part, const ApiCall *call)
{
	return call->verdict == API_OK ||
		   (part->kind->accepts & API_BIT(call->verdict)) != 0;
}

static Outcome
outcome_of_answer(Part *part, ApiCall *call)
{
	if (part_restart_if_cursor_refused(part, call))
		return current_outcome(part);
	return kind_accepts(part, call) ? process_answer(part, call)
									: outcome_of_failure(part, call);
}

/*
 * Write the outcome, and what follows from it: the kind's own bookkeeping, and
 * the end of the job.  Returns true if the part goes on.
 */
static bool
write_outcome(Part *part, const Outcome *outcome)
{
	bool goes_on = strcmp(outcome->state, "running") == 0;

	if (goes_on)
		part->tries = 0;
	if (!part_write(part, outcome))
		return false;
	if (goes_on)
	{
		part_load_key(part); /* it may have been replaced */
		return true;
	}
	if (part->kind->ended != NULL)
		part->kind->ended(part, outcome);
	job_finish(part->job);
	return false;
}

typedef enum PartLock
{
	PART_OURS,
	PART_LOST,	   /* the job was cancelled, and perhaps resumed */
	PART_CONTENDED /* another transaction holds the job's row */
} PartLock;

static PartLock
lock_part(const Part *part)
{
	bool locked = job_lock(part->job);

	if (part->superseded || !part_is_ours(part))
		return PART_LOST;
	return locked ? PART_OURS : PART_CONTENDED;
}

/*
 * Write an answer, in a transaction of its own.  Sets *wrote unless nothing was
 * written that another part of the worker waits for: most pages of a list of
 * events have nothing new.
 *
 * The answer to a request that has created something at Stripe is processed even
 * if the job was cancelled: its secret is in no other answer.
 */
PartProgress
part_write_answer(Part *part, ApiCall *call, bool *wrote)
{
	bool goes_on = false;
	bool is_minor = false;
	PartLock lock;

	worker_begin();
	lock = lock_part(part);
	if (lock == PART_OURS)
	{
		Outcome outcome = outcome_of_answer(part, call);

		is_minor = part->kind->lazy_commit && part->missing == 0;
		goes_on = write_outcome(part, &outcome);
	}
	else if (lock == PART_LOST && part->kind->post != NULL &&
			 kind_accepts(part, call))
		(void) process_answer(part, call);
	client_write_log();
	if (is_minor && goes_on)
		worker_commit_unflushed();
	else
		worker_commit();
	if (lock == PART_CONTENDED)
		return PART_BLOCKED_BY_LOCK;
	*wrote |= !is_minor || !goes_on;
	return goes_on ? PART_GOES_ON : PART_ENDED;
}

static void
find_next_body(void *arg)
{
	Part *part = arg;

	part->ready = false;
	part->kind->find_next(part);
}

static Outcome
outcome_of_find_next(Part *part)
{
	PartMark mark = part_mark(part);
	ErrorData *error;

	if (part->key == NULL)
		return outcome_without_key(part);
	if (outcome_guard(find_next_body, part, subtransaction_excuse_all, &error))
		return current_outcome(part);
	part_restore(part, &mark);
	return outcome_of_error(part, error);
}

/*
 * Determine the part's next request, in a transaction of its own.  A part
 * without a key fails here, so that the job says so.
 */
PartProgress
part_find_next_request(Part *part)
{
	bool goes_on = false;
	PartLock lock;

	worker_begin();
	lock = lock_part(part);
	if (lock == PART_OURS)
	{
		Outcome outcome = outcome_of_find_next(part);

		goes_on = write_outcome(part, &outcome);
	}
	worker_commit();
	if (lock == PART_CONTENDED)
		return PART_BLOCKED_BY_LOCK;
	return goes_on ? PART_GOES_ON : PART_ENDED;
}
