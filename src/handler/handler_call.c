/*
 * handler_call.c
 *		Runs a handler on an event.
 *
 * Each call is a subtransaction of the event's transaction.
 */
#include "postgres.h"

#include "access/xact.h"

#include "engine/engine.h"
#include "handler/handler.h"
#include "inbox/event.h"

typedef struct Call
{
	const Handler *handler;
	Event *event;
	void (*afterwards)(void *); /* in the same subtransaction, or NULL */
	void *arg;
} Call;

/*
 * Whether a handler can run.  While it is stopped, or its function or a schema
 * of its search_path belongs to another role, an event's tries are not counted.
 * A function that doesn't exist is an error of each try.
 */
HandlerHold
handler_hold(const char *name)
{
	Handler *handler = handler_find(name);

	if (handler == NULL)
		return HANDLER_RUNS;
	if (handler->registered.stopped)
		return HANDLER_STOPPED;
	if (registered_is_anothers(&handler->registered))
		return HANDLER_ANOTHERS;
	return HANDLER_RUNS;
}

/* Runs in the subtransaction of handler_attempt(). */
static void
call_body(void *arg)
{
	Call *call = arg;

	(void) registered_call(&call->handler->registered, call->event->document);
	if (call->afterwards != NULL)
		call->afterwards(call->arg);
}

/*
 * Run a handler on an event in a subtransaction, and then "afterwards", which
 * may be NULL, in the same one.  Returns false, with the error, if it failed and
 * is rolled back; exceeding stripe_sync.handler_timeout is such a failure.
 * Errors that say nothing about the event (subtransaction.c) are raised.
 */
bool
handler_attempt(const Handler *handler, Event *event,
				void (*afterwards)(void *), void *arg, ErrorData **error)
{
	Call call = {handler, event, afterwards, arg};

	CommandCounterIncrement(); /* it sees the steps before it */
	return timed_run(
		call_body, &call, "the handler",
		"Register it with deferred => true, let it do less, or increase the timeout.",
		error);
}
