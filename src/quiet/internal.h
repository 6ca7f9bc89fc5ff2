/*
 * internal.h
 *		What the files of this folder share.
 */
#ifndef STRIPE_SYNC_QUIET_INTERNAL_H
#define STRIPE_SYNC_QUIET_INTERNAL_H

#include "nodes/pg_list.h"
#include "utils/jsonb.h"

#include "base/base.h"
#include "quiet/quiet.h"

/* ---- quiet_days.c ---- */

/* Days of the week, bit 0 is Monday.  0: not understood */
extern int quiet_days_parse(const char *text);
extern char *quiet_days_text(int days);

/* ---- quiet_window.c ---- */

/*
 * Until when messages of that severity are held that are queued at "at".
 * DT_NOBEGIN: they are not held.  DT_NOEND: it is always quiet.
 */
extern TimestampTz quiet_until(const char *destination, const char *severity,
							   TimestampTz at);

/* ---- quiet_digest.c ---- */

/* An incident, and what quiet hours hold of it at one destination */
typedef struct HeldIncident
{
	int64 id;
	bool is_new; /* its own message is held */
	bool told;	 /* anything but an update is held */
	bool here;	 /* it is this destination's, not one that is repeated here */
	int64 post;	 /* the held message that tells of it, 0: none does */
	bool open;
	bool silent; /* acknowledged, snoozed or muted: not posted though open */

	char *kind; /* single, rollup, digest */
	char *alert;
	char *text;
	char *footer; /* link to the event, or NULL; "": for a customer */
	char *event_id;
	int64 count;
	bool is_test;
	TimestampTz opened_at;
	TimestampTz closed_at;
	char *closed_by;	/* NULL: its time was over */
	char *closing_type; /* of the event that has closed it, or NULL */
	char *closing_text;
	bool closed_badly;
} HeldIncident;

extern Jsonb *quiet_digest(const List *incidents, TimestampTz since);
extern Jsonb *quiet_still_open(const HeldIncident *incident);

#endif /* STRIPE_SYNC_QUIET_INTERNAL_H */
