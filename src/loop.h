/*
 * loop.h
 *		Tasks that the loop of the worker and of CALL work() runs.
 */
#ifndef STRIPE_SYNC_LOOP_H
#define STRIPE_SYNC_LOOP_H

#include "stripe_sync.h"

/* ---- in due_events.c: the next step of events that are due ---- */

/* False when nothing is due; then *next is when something will be. */
extern bool due_events_turn(TimestampTz *next);

/* ---- in escalation.c: incidents by the clock ---- */

/* False when nothing is due; *next is when something will be. */
extern bool escalate_due(TimestampTz *next);
extern void escalate_end_windows(void);

/* ---- in runner.c: parts of jobs, claimed, asked for, written ---- */

/* False when nothing is due before *next. */
extern bool runner_turn(TimestampTz *next, bool *stirs);
extern void runner_look(void);
extern bool runner_is_called(void);
extern bool runner_idle(void);
extern void runner_drop(void);

/* ---- in reclaim.c ---- */
extern void runner_reclaim(void);

/* ---- in reconcile.c: by itself, every reconcile_interval ---- */
extern bool reconcile_schedule(TimestampTz *next);
extern bool watch_schedule(TimestampTz *next);

#endif /* STRIPE_SYNC_LOOP_H */
