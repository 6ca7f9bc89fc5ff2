/*
 * internal.h
 *		What the files of this folder share.
 */
#ifndef STRIPE_SYNC_DOCTOR_INTERNAL_H
#define STRIPE_SYNC_DOCTOR_INTERNAL_H

#include "doctor/doctor.h"

/* ---- in items.c ---- */

extern int doctor_count(void);
extern const DoctorItem *doctor_item(int number);
extern const char *doctor_area(int number);
extern int doctor_number(const char *key); /* -1: there is none of that key */
extern char *doctor_page(const char *key);

/* ---- in look.c ---- */

#define LOOK_LIMIT 20 /* milliseconds, in the worker */

/* What a look has cost */
typedef struct LookCost
{
	double milliseconds;
	bool timed_out;
} LookCost;

extern void look_at_item(const DoctorItem *item, int limit, Finding *finding,
						 LookCost *cost);

/* The same, of an item with slice().  Returns whether it has finished. */
extern bool look_at_slice(const DoctorItem *item, int limit, char **progress,
						  Finding *finding, LookCost *cost);
extern void look_at_first_slices(const DoctorItem *item, int limit,
								 Finding *finding);

/* ---- in record.c: the rows of stripe_sync.finding ---- */

typedef struct RecordedFinding
{
	char *key;
	Finding finding;
	TimestampTz seen_at;
	char *progress;			 /* of a heavy item that is being looked at */
	int fails;				 /* runs in a row, unknown ones not counted */
	int wells;				 /* ... that were ok or warn */
	char *told;				 /* "fail", "critical": a system event is open */
	TimestampTz muted_until; /* 0: not muted */
} RecordedFinding;

extern List *record_read_all(void); /* mutes without a finding, too */
extern bool record_read(const char *key, RecordedFinding *record);
extern void record_write(const char *key, const Finding *finding,
						 const LookCost *cost);
extern void record_progress(const char *key, const char *progress,
							const LookCost *cost);
extern void record_slow(const char *key, const LookCost *cost);
extern void record_told(const char *key, const char *told);

/* ---- in raise.c ---- */

extern bool raise_finding(int number, bool critical);

#endif /* STRIPE_SYNC_DOCTOR_INTERNAL_H */
