/*
 * sync.h
 *		The kinds of job parts: backfill, reconcile, refetch, endpoints.
 */
#ifndef STRIPE_SYNC_SYNC_H
#define STRIPE_SYNC_SYNC_H

#include "base/base.h"

/* ---- reconcile.c ---- */

extern bool reconcile_schedule(TimestampTz *next);
extern int64 reconcile_start(int64 seconds); /* raises 55000 without a key */

/* ---- kinds.c ---- */

extern void kinds_init(void); /* registers all of them */

#endif /* STRIPE_SYNC_SYNC_H */
