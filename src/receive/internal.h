/*
 * internal.h
 *		What the files of this folder share.
 */
#ifndef STRIPE_SYNC_RECEIVE_INTERNAL_H
#define STRIPE_SYNC_RECEIVE_INTERNAL_H

#include "base/base.h"
#include "base/refusal.h"
#include "handler/handler.h"
#include "inbox/event.h"
#include "receive/receive.h"
#include "server/server.h"

/* ---- refused_delivery.c ---- */

/* A delivery as it was received */
typedef struct DeliveryParts
{
	const char *payload;
	int length;
	text *signature; /* the header, or NULL */
	const char *endpoint;
	bool raises; /* a refusal raises an error, which rolls back what it wrote */
} DeliveryParts;

/* Returns a hint for its sender, or NULL. */
extern const char *delivery_refused(const DeliveryParts *delivery,
									const Refusal *refusal);
extern void delivery_refused_unfit(const Refusal *refusal);
extern void delivery_accepted(const DeliveryParts *delivery);

/*
 * Counts an event as SY006 that was held because of its mode, not refused.
 */
extern void delivery_of_other_mode(const char *endpoint, bool live,
								   const char *detail);

/* ---- matching_secret.c ---- */

typedef enum Misfit
{
	MISFIT_NONE,	/* none of this database */
	MISFIT_LAPSED,	/* one of this endpoint that has lapsed */
	MISFIT_ANOTHERS /* one of another endpoint */
} Misfit;

/* Bodies over this many bytes are not tried */
#define MISFIT_MOST 65536

extern Misfit misfit_find(const DeliveryParts *delivery, char **detail);

/* ---- refused_write.c ---- */

extern bool refusal_write_now(const RefusalNote *note);

/* ---- step_list.c ---- */

typedef struct Step
{
	char *name; /* STEP_MIRROR, STEP_ALERTS or a handler's name */
	int tries;	/* made so far; 0: it has not run yet */
} Step;

extern Step *step_make(const char *name, int tries);
extern bool step_is_dead(const Step *step);
extern bool step_waits(const Step *step);
extern bool step_blocks(List *todo);
extern HandlerHold step_hold(const Step *step);
extern List *steps_first(const Event *event, List **waiting);
extern List *steps_all(const Event *event);
extern Datum step_names(List *steps);
extern Datum step_tries(List *steps);
extern List *step_list_read(ArrayType *todo, Jsonb *tries);

/* ---- steps.c ---- */

typedef struct StepRun
{
	Event *event;
	const char *mirrored; /* the mirror's verdict, NULL until it has run */
	char *detail;
	List *todo;				 /* of Step: what is left */
	char *error;			 /* event.error: of this run or an earlier one */
	List *failures;			 /* of StepFailure: what failed in this run */
	int claimed;			 /* tries of the one step that was claimed, or 0 */
	bool failed_before;		 /* a step of the event had failed, and was to do */
	TimestampTz received_at; /* 0: stored in this transaction */
} StepRun;

typedef struct StepFailure
{
	const char *step;
	int tries; /* this one included */
	ErrorData *error;
} StepFailure;

extern void step_run(StepRun *run, List *steps);
extern void step_failed(StepRun *run, const Step *step, ErrorData *error);

/* ---- step_outcome.c ---- */

extern const char *step_status(const StepRun *run);
extern void step_settle(const StepRun *run, const char *status, int attempts);

/* ---- failed_events.c ---- */

extern void failures_report(const StepRun *run);

/* ---- recovered_events.c ---- */

extern bool recoveries_report(void);

/* ---- replay.c ---- */

extern Receipt replay_held(const char *id, const char *account);
extern Receipt replay_run(StoredEvent *stored, List *steps, List *rest,
						  int attempts);

/* ---- receive.c ---- */

#endif /* STRIPE_SYNC_RECEIVE_INTERNAL_H */
