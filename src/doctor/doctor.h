/*
 * doctor.h
 *		Looks for what is wrong, item by item.
 */
#ifndef STRIPE_SYNC_DOCTOR_H
#define STRIPE_SYNC_DOCTOR_H

#include "base/base.h"
#include "finding/finding.h"

/* ---- in doctor.c ---- */

/* A row of doctor() */
typedef struct DoctorRow
{
	const char *area; /* stripe, slack, postgres */
	const char *key;
	const char *item;
	const char *page; /* doc/runbook/slack-backlog.md */
	Finding finding;
	TimestampTz muted_until; /* 0: not muted */
	TimestampTz seen_at;	 /* when it was looked at: now, or by the worker */
} DoctorRow;

/* Looks at every item, as doctor() does; of DoctorRow, in the order of the items */
extern List *doctor_rows(void);

/*
 * The same, looking for about so many milliseconds: what the worker has found
 * lately is not looked at again.
 */
extern List *doctor_rows_within(int milliseconds);

/* ---- in mute.c ---- */

extern void finding_mute(const char *key, TimestampTz until); /* raises SY005 */

/* ---- in watch.c ---- */

/*
 * The worker's run: looks at one item, in a transaction of its own.  False: none
 * is due.  *raised: it reported a system event.
 */
extern bool doctor_turn(TimestampTz *next, bool *raised);
extern void doctor_watch_reset(void);

#endif /* STRIPE_SYNC_DOCTOR_H */
