/*
 * handler.h
 *		The user's functions that run on events.
 */
#ifndef STRIPE_SYNC_HANDLER_H
#define STRIPE_SYNC_HANDLER_H

#include "base/base.h"
#include "handler/registered.h"
#include "inbox/event.h"

/* ---- handler.c ---- */

/* Why a handler does not run until it is registered again */
typedef enum HandlerHold
{
	HANDLER_RUNS,
	HANDLER_STOPPED, /* by revoke_all(): it waits */
	HANDLER_ANOTHERS /* its function or a schema is another role's: it fails */
} HandlerHold;

typedef struct Handler
{
	Registered registered;
	char *event_type;
	bool deferred;
} Handler;

extern const RegisteredKind handler_kind;

extern List *handler_matching(const char *event_type);
extern Handler *handler_find(const char *name);

/* ---- handler_call.c ---- */

extern HandlerHold handler_hold(const char *name);
extern bool handler_attempt(const Handler *handler, Event *event,
							void (*afterwards)(void *), void *arg,
							ErrorData **error);

#endif /* STRIPE_SYNC_HANDLER_H */
