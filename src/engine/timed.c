/*
 * timed.c
 *		A time limit for users' code (handlers, and the jsonpaths of alerts), and
 *		for what the doctor looks at.
 *
 * There is one timer.  Nested calls share the time of the outermost one.
 *
 * The timer cancels as pg_cancel_backend() does.  "fired" distinguishes its cancel
 * from the user's, and from statement_timeout and lock_timeout, which take
 * precedence.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/timeout.h"

#include "base/base.h"
#include "base/subtransaction.h"
#include "engine/engine.h"

static TimeoutId timer = MAX_TIMEOUTS;
static int depth = 0;
static volatile sig_atomic_t fired = false;

static void
expired(void)
{
	fired = true;
	InterruptPending = true;
	QueryCancelPending = true;
	SetLatch(MyLatch);
}

static void
timer_start(int milliseconds)
{
	if (depth++ > 0)
		return;
	fired = false;
	if (milliseconds == 0)
		return;
	if (timer == MAX_TIMEOUTS)
		timer = RegisterTimeout(USER_TIMEOUT, expired);
	/* repeatedly, because a handler may catch the first cancel */
	enable_timeout_every(
		timer, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), milliseconds),
		Min(milliseconds, 1000));
}

/*
 * Returns whether the time limit was exceeded.  A cancel that is still pending is
 * dropped if only this timer has requested it.
 */
static bool
timer_stop(void)
{
	if (--depth == 0 && timer != MAX_TIMEOUTS)
		disable_timeout(timer, false);
	if (fired && QueryCancelPending &&
		!get_timeout_indicator(STATEMENT_TIMEOUT, false) &&
		!get_timeout_indicator(LOCK_TIMEOUT, false))
		QueryCancelPending = false;
	return fired;
}

/* Is it the error of this timer's cancel? */
static bool
cancelled_by_timer(const ErrorData *error)
{
	return fired && error->sqlerrcode == ERRCODE_QUERY_CANCELED &&
		   error->message_id != NULL &&
		   strcmp(error->message_id,
				  "canceling statement due to user request") == 0;
}

/* Too large an allocation is the code's own failure, although of class XX. */
static bool
allocated_too_much(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_INTERNAL_ERROR &&
		   error->message_id != NULL &&
		   strncmp(error->message_id, "invalid memory alloc request size",
				   33) == 0;
}

static bool
is_its_own(const ErrorData *error)
{
	return cancelled_by_timer(error) || allocated_too_much(error);
}

/*
 * Raise an error if the time limit is exceeded, for code that may have caught the
 * cancel, or has ended just before it.
 */
void
timed_check(void)
{
	if (fired)
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED),
				 errmsg_internal("canceling statement due to user request")));
}

/* Replace the message of the cancel. */
static void
replace_message(ErrorData *error, const char *what, int limit, const char *hint)
{
	error->message =
		limit == guc_handler_timeout
			? psprintf("%s ran longer than stripe_sync.handler_timeout (%d ms)",
					   what, limit)
			: psprintf("%s ran longer than %d ms", what, limit);
	error->hint = pstrdup(hint);
}

static bool
run_within(const int limit, void (*body)(void *), void *arg, const char *what,
		   const char *hint, ErrorData **error)
{
	volatile bool done = false;

	*error = NULL;
	timer_start(limit);
	PG_TRY();
	{
		done = subtransaction_run(body, arg, is_its_own, error);
	}
	PG_FINALLY();
	{
		if (timer_stop() && *error != NULL && cancelled_by_timer(*error))
			replace_message(*error, what, limit, hint);
	}
	PG_END_TRY();
	return done;
}

/*
 * As subtransaction_run(), within stripe_sync.handler_timeout.  If that is exceeded,
 * the error says that "what" ran too long, with this hint.
 */
bool
timed_run(void (*body)(void *), void *arg, const char *what, const char *hint,
		  ErrorData **error)
{
	return run_within(guc_handler_timeout, body, arg, what, hint, error);
}

/* As timed_run(), and within so many milliseconds. */
bool
timed_run_at_most(int most, void (*body)(void *), void *arg, const char *what,
				  const char *hint, ErrorData **error)
{
	int limit = guc_handler_timeout;

	if (limit == 0 || limit > most)
		limit = most;
	return run_within(limit, body, arg, what, hint, error);
}

/* Every error but a cancel or shutdown that isn't of this timer */
static bool
is_of_a_look(const ErrorData *error)
{
	return subtransaction_excuse_all(error) ||
		   (depth == 1 && cancelled_by_timer(error));
}

/*
 * For the extension's own code: as subtransaction_run(), with a time limit.  All
 * errors are returned but cancellation and shutdown; that of the time limit has
 * the SQLSTATE of a cancel.
 */
bool
timed_run_within(int milliseconds, void (*body)(void *), void *arg,
				 ErrorData **error)
{
	volatile bool done = false;

	*error = NULL;
	timer_start(milliseconds);
	PG_TRY();
	{
		done = subtransaction_run(body, arg, is_of_a_look, error);
	}
	PG_FINALLY();
	{
		(void) timer_stop();
	}
	PG_END_TRY();
	return done;
}
