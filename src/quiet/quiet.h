/*
 * quiet.h
 *		Quiet hours of destinations.  All functions run in the engine's scope.
 */
#ifndef STRIPE_SYNC_QUIET_H
#define STRIPE_SYNC_QUIET_H

#include "base/base.h"

/* ---- quiet_window.c ---- */

/* Is a message of that severity to this destination held at this time? */
extern bool quiet_holds(const char *destination, const char *severity,
						TimestampTz at);

/* The time zone of its quiet hours, or NULL if it has none */
extern char *quiet_zone(const char *destination);

/* ---- quiet_setup.c ---- */

/* Deletes its windows; returns how many it had. */
extern int64 quiet_forget(text *destination);

/* ---- quiet_end.c ---- */

/*
 * Posts what was held by windows that have ended.  False if nothing was due;
 * *next is when to call it again.  The worker calls it in a transaction of its
 * own.
 */
extern bool quiet_end_turn(TimestampTz *next);

#endif /* STRIPE_SYNC_QUIET_H */
