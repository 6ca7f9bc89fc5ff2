/*
 * receive.h
 *		Webhooks in: verify, store, apply, try again.
 */
#ifndef STRIPE_SYNC_RECEIVE_H
#define STRIPE_SYNC_RECEIVE_H

#include "base/base.h"
#include "base/refusal.h"
#include "inbox/event.h"

/* ---- endpoint_setup.c ---- */

extern const char *endpoint_keep(const char *id, bool livemode, text *secret);

/* ---- refused_write.c ---- */

extern void refusals_write(void);

/* ---- refused_watch.c ---- */

/* Deliveries of Stripe's that an endpoint refuses */
typedef struct RefusedDeliveries
{
	char *endpoint; /* "": names that no endpoint has */
	char *code;
	char *detail; /* of the last one */
	TimestampTz last_at;
} RefusedDeliveries;

extern void refusals_judge(void);
extern List *refusals_present(void);

/* ---- receipt.c ---- */

extern Datum inbox_receipt_datum(FunctionCallInfo fcinfo,
								 const Receipt *receipt);

/* ---- failed_events.c ---- */

extern char *failure_group(const char *step, const char *sqlstate,
						   const char *event_type);

/* ---- recovered_events.c ---- */

extern void recovered_reading(const char *object_type);

/* ---- replay.c ---- */

typedef struct StoredEvent
{
	Event event;
	char *status;
	char *mirrored;
	char *endpoint; /* or NULL */
	List *todo;		/* of Step */
	char *error;
	int claimed; /* as in StepRun, like the next */
	TimestampTz received_at;
} StoredEvent;

/* ---- held.c ---- */

extern bool held_is(const StoredEvent *stored);
extern char *held_reason(StoredEvent *stored);
extern char *held_release(StoredEvent *stored, const char *listed,
						  const char *source);

/* ---- replay.c ---- */

extern StoredEvent *replay_lock(const char *id, const char *account);

typedef enum Retry
{
	RETRY_UNNEEDED, /* nothing of the event has failed */
	RETRY_QUEUED,	/* the worker does it */
	RETRY_DONE		/* there are no workers */
} Retry;

extern Retry replay_failed(const char *id, const char *account,
						   Receipt *receipt); /* raises SY005 */

/* ---- receive.c ---- */

extern bool inbox_store_pending(const Event *event, const char *endpoint,
								const char *source);
extern bool inbox_receive(const char *payload, int length, text *signature,
						  const char *endpoint, const char *source,
						  Receipt *receipt, Refusal *refusal);

/* ---- due_events.c ---- */

/* False when nothing is due; then *next is when something will be. */
extern bool due_events_turn(TimestampTz *next);

#endif /* STRIPE_SYNC_RECEIVE_H */
