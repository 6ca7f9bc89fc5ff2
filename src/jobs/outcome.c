/*
 * outcome.c
 *		What a failed request, or an error while an answer was written, makes of
 *		a part.
 *
 * Three causes are distinguished.  Stripe's answer (an error, or none): tried
 * again after 15 seconds to 15 minutes, up to 30 claims, unless Stripe says that
 * the request itself is wrong.  The key: the account's parts of the job fail.
 * The database, when an answer can't be written: tried again like a failing
 * event, stripe_sync.max_attempts times.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/builtins.h"

#include "base/backoff.h"
#include "base/base.h"
#include "base/subtransaction.h"
#include "jobs/jobs.h"
#include "jobs/part.h"
#include "stripe/stripe.h"
#include "jobs/internal.h"

#define MAX_CLAIMS	30
#define RETRY_FIRST (15 * USECS_PER_SEC)
#define RETRY_MOST	(15 * 60 * USECS_PER_SEC)

/* An error with the list or object that it is about before it */
static char *
part_error(const Part *part, const char *text)
{
	StringInfoData error;

	initStringInfo(&error);
	if (part->list_path != NULL)
		appendStringInfoString(&error, part->list_path);
	else if (part->object_type != NULL)
		appendStringInfo(&error, "%s %s", part->object_type,
						 part->object_id   ? part->object_id
						 : part->parent_id ? part->parent_id
										   : "");
	else
		appendStringInfoString(&error, part->kind->name);
	if (part->account[0] != '\0')
		appendStringInfo(&error, " of %s", part->account);
	appendStringInfo(&error, ": %s", text);
	return error.data;
}

/* Stripe did not answer, or the answer was incomplete. */
static Outcome
retry_request(const Part *part, const char *error)
{
	int64 delay = Min(RETRY_MOST, RETRY_FIRST << Min(part->attempts - 1, 10));
	bool is_last = part->attempts >= MAX_CLAIMS;

	return (Outcome){is_last ? "failed" : "waiting",
					 GetCurrentTimestamp() + delay, part_error(part, error),
					 CAUSE_ANSWER};
}

/* Will the part fail if its answer can't be written once more? */
bool
part_is_last_try(const Part *part)
{
	return part->tries + 1 >= guc_max_attempts;
}

/* The answer could not be written: the same backoff as for an event's step. */
static Outcome
retry_write(Part *part, const char *error)
{
	bool is_last = part_is_last_try(part);

	part->tries++;
	return (Outcome){is_last ? "failed" : "waiting",
					 GetCurrentTimestamp() +
						 backoff_delay(part->tries, BACKOFF_FIRST, BACKOFF_MOST),
					 part_error(part, error), CAUSE_DATABASE};
}

/* Has another key been set since the request was made? */
static bool
key_has_changed(Part *part, const ApiCall *call)
{
	part_load_key(part);
	return part->key != NULL && strcmp(part->key, call->key) != 0;
}

/*
 * If Stripe refused a request with a cursor, the object that the cursor names
 * may have been deleted: begin the list again from the top, once.  Returns true
 * if the list has been begun again.
 */
bool
part_restart_if_cursor_refused(Part *part, const ApiCall *call)
{
	CursorRefusal refusal = strcmp(call->code, RESOURCE_MISSING) == 0
								? CURSOR_MISSING
								: CURSOR_REFUSED;

	if ((call->verdict != API_REFUSED && call->verdict != API_GONE) ||
		part->kind->restart_on < refusal || part->cursor == NULL ||
		part->restarted)
		return false;
	part_restart(part);
	return part->restarted = true;
}

/*
 * The outcome of an answer that the part's kind does not accept.  Runs within
 * the transaction of the answer, with the job's row locked.
 */
Outcome
outcome_of_failure(Part *part, const ApiCall *call)
{
	Outcome goes_on = {"running", GetCurrentTimestamp(), NULL};
	bool is_skipped = part->optional && call->verdict != API_TOO_LARGE;

	if (call->incomplete && page_shrink_or_skip(part, call))
		return goes_on;
	if (strcmp(call->code, CUT_SHORT) == 0)
		return (Outcome){
			"failed", goes_on.due,
			part_error(
				part,
				psprintf("%s: could not parse list page: it is truncated",
						 unpack_sql_state(ERRCODE_INVALID_TEXT_REPRESENTATION))),
			CAUSE_ANSWER};
	if (call->verdict == API_AGAIN || call->verdict == API_LATER)
	{
		Outcome later = retry_request(part, call->error);

		later.due = Max(later.due, GetCurrentTimestamp() +
									   call->retry_after * USECS_PER_SEC);
		return later;
	}
	if (call->verdict == API_KEY_BAD && key_has_changed(part, call))
		return goes_on;
	if (call->verdict == API_KEY_BAD)
	{
		job_fail_account(part, call->error);
		return (Outcome){"failed", GetCurrentTimestamp(), call->error,
						 CAUSE_KEY};
	}
	return (Outcome){is_skipped ? "skipped" : "failed", GetCurrentTimestamp(),
					 part_error(part, call->error), CAUSE_ANSWER};
}

Outcome
outcome_without_key(const Part *part)
{
	return (Outcome){"failed", GetCurrentTimestamp(), part->key_error,
					 CAUSE_KEY};
}

/* ---- errors ---- */

/*
 * As subtransaction_run().  Afterwards outcome_of_error() can tell whether the
 * error was about the answer itself.
 */
bool
outcome_guard(void (*body)(void *), void *arg,
			  bool (*excuse)(const ErrorData *), ErrorData **error)
{
	(void) answer_was_invalid(); /* resets the flag */
	return subtransaction_run(body, arg, excuse, error);
}

/*
 * The outcome of an error whose subtransaction was rolled back.  What stops the
 * database from writing an answer (a trigger, a constraint, a lock) may be gone
 * at the next try; an invalid answer is likely to be the same again, so the part
 * fails.
 */
Outcome
outcome_of_error(Part *part, ErrorData *error)
{
	char *text = psprintf("%s: %s", unpack_sql_state(error->sqlerrcode),
						  error->message);

	if (answer_was_invalid())
		return (Outcome){"failed", GetCurrentTimestamp(),
						 part_error(part, text), CAUSE_ANSWER};
	if (error->sqlerrcode == ERRCODE_PROTOCOL_VIOLATION)
		return retry_request(part, error->message);
	return retry_write(part, text);
}
