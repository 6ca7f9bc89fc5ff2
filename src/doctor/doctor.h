/*
 * doctor.h
 *		Looks for what is wrong, item by item.
 */
#ifndef STRIPE_SYNC_DOCTOR_H
#define STRIPE_SYNC_DOCTOR_H

#include "nodes/pg_list.h"
#include "utils/timestamp.h"

/* ---- in doctor.c ---- */

typedef enum FindingStatus
{
	FINDING_OK,
	FINDING_WARN,
	FINDING_FAIL,
	FINDING_UNKNOWN
} FindingStatus;

/* What was found at one item */
typedef struct Finding
{
	FindingStatus status;
	const char *detail; /* one sentence, with the figure and the worst by name */
	const char *hint;	/* SQL or a setting to copy; NULL: the item's page */
	bool has_figure;
	double figure;
	const char *unit; /* s, %, events, bytes, ... */
} Finding;

/* A row of doctor() */
typedef struct DoctorRow
{
	const char *area; /* stripe, slack, postgres */
	const char *key;
	const char *item;
	const char *page;
	Finding finding;
	TimestampTz muted_until; /* 0: not muted */
	TimestampTz seen_at;	 /* when it was looked at: now, or by the worker */
} DoctorRow;

/* Looks at every item, as doctor() does; of DoctorRow, in the order of the items */
extern List *doctor_rows(void);

extern const char *finding_status_name(FindingStatus status);

/* ---- in doctor_watch.c: the worker's runs ---- */

/* Looks at one item, in a transaction of its own.  False: none is due. */
extern bool doctor_turn(TimestampTz *next);

#endif /* STRIPE_SYNC_DOCTOR_H */
