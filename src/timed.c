/*
 * timed.c
 *		A bound of time for what users have written: handlers, and the
 *		jsonpaths of alerts.
 *
 * One timer, of stripe_sync.handler_timeout: what runs within something timed
 * has the time of the outermost.
 */
#include "stripe_sync.h"

#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/timeout.h"

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
start(void)
{
	if (depth++ > 0)
		return;
	fired = false;
	if (guc_handler_timeout == 0)
		return;
	if (timer == MAX_TIMEOUTS)
		timer = RegisterTimeout(USER_TIMEOUT, expired);
	/* again and again: a handler may catch the first */
	enable_timeout_every(
		timer,
		TimestampTzPlusMilliseconds(GetCurrentTimestamp(), guc_handler_timeout),
		Min(guc_handler_timeout, 1000));
}

/* Has the time been exceeded?  An interrupt that only we asked for is dropped. */
static bool
stop(void)
{
	if (--depth == 0 && timer != MAX_TIMEOUTS)
		disable_timeout(timer, false);
	if (fired && QueryCancelPending &&
		!get_timeout_indicator(STATEMENT_TIMEOUT, false) &&
		!get_timeout_indicator(LOCK_TIMEOUT, false))
		QueryCancelPending = false;
	return fired;
}

/* Was it our timer that cancelled, and not the caller's? */
static bool
cancelled_by_timer(const ErrorData *error)
{
	return fired && error->sqlerrcode == ERRCODE_QUERY_CANCELED &&
		   error->message_id != NULL &&
		   strcmp(error->message_id,
				  "canceling statement due to user request") == 0;
}

/* Memory that it asked for in one piece is its own failure, like running out. */
static bool
asked_too_much(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_INTERNAL_ERROR &&
		   error->message_id != NULL &&
		   strncmp(error->message_id, "invalid memory alloc request size",
				   33) == 0;
}

static bool
is_its_own(const ErrorData *error)
{
	return cancelled_by_timer(error) || asked_too_much(error);
}

/* Raise when the time is over: it may have caught the cancel, or just made it. */
void
timed_check(void)
{
	if (fired)
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED),
				 errmsg_internal("canceling statement due to user request")));
}

/* Say what it was, not how it was done. */
static void
explain(ErrorData *error, const char *what, const char *hint)
{
	error->message = psprintf(
		"%s ran longer than stripe_sync.handler_timeout (%d ms)", what,
		guc_handler_timeout);
	error->hint = pstrdup(hint);
}

/*
 * As subtransaction_run(), within handler_timeout.  "what" and "hint" are for the error
 * of what takes longer.
 */
bool
timed_run(void (*body)(void *), void *arg, const char *what, const char *hint,
		  ErrorData **error)
{
	volatile bool done = false;

	*error = NULL;
	start();
	PG_TRY();
	{
		done = subtransaction_run(body, arg, is_its_own, error);
	}
	PG_FINALLY();
	{
		if (stop() && *error != NULL && cancelled_by_timer(*error))
			explain(*error, what, hint);
	}
	PG_END_TRY();
	return done;
}
