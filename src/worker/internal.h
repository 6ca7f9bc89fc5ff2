/*
 * internal.h
 *		What the files of this folder share.
 */
#ifndef STRIPE_SYNC_WORKER_INTERNAL_H
#define STRIPE_SYNC_WORKER_INTERNAL_H

#include "base/base.h"
#include "engine/worker_transaction.h"

/* ---- loop.c ---- */

extern void loop_setup(const TransactionOwner *owner);
extern void loop_woken(void);
extern void loop_settings_changed(void);
extern bool loop_run_once(TimestampTz *next); /* false: nothing was due */
extern bool loop_has_pending(TimestampTz *until);
extern bool loop_is_idle(void);
extern void loop_drain(long milliseconds, void (*interrupts)(void));
extern void loop_release_all(void);

/* ---- prune.c ---- */

extern int64 prune_some(const Interval *before);

/* ---- prune_events.c ---- */

extern int64 prune_events(TimestampTz before, int64 most);

#endif /* STRIPE_SYNC_WORKER_INTERNAL_H */
