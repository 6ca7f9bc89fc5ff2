/*
 * finding.h
 *		The doctor's items, and how an item says what it found.
 *
 * An item is a function that looks at one thing and calls one of finding_ok(),
 * finding_warn(), finding_fail() or finding_unknown().  It runs in the engine's
 * scope, in a subtransaction, with a time limit (20 ms in the worker) and a
 * lock_timeout of 10 ms.  An error that it raises becomes an unknown finding.
 * It only reads, works on a standby, and takes no lock but ACCESS SHARE.
 */
#ifndef STRIPE_SYNC_FINDING_H
#define STRIPE_SYNC_FINDING_H

#include "base/base.h"

typedef enum FindingStatus
{
	FINDING_OK,
	FINDING_WARN,
	FINDING_FAIL,
	FINDING_UNKNOWN
} FindingStatus;

typedef struct Finding
{
	FindingStatus status;
	const char *detail; /* a sentence, with the figure and the worst by name */
	const char *hint;	/* SQL or a setting to copy; NULL: the item's page */
	bool has_figure;
	double figure;
	const char *unit; /* s, %, events, bytes, ... */
	bool critical;	  /* as DOCTOR_CRITICAL says, unless the item changes it */
} Finding;

/* ---- items ---- */

#define DOCTOR_CRITICAL 0x01 /* a failure is critical */
#define DOCTOR_SERVER	0x02 /* the caller needs pg_read_all_stats */
#define DOCTOR_PRIMARY	0x04 /* not looked at on a standby */

typedef struct DoctorItem
{
	const char *key;  /* stable: "slack.backlog" */
	const char *item; /* in words, for people: "waiting messages" */
	int flags;
	void (*look)(Finding *finding);

	/*
	 * Instead of look(): a heavy item, at which the worker looks once a night;
	 * doctor() shows what it found.  Called again, in transactions of their own,
	 * until it returns true; each call may take 20 ms.  *progress is NULL at
	 * first, then what the last call has set it to.  Each call leaves what has
	 * been found so far: until the worker has looked, doctor() calls it for as
	 * long as an item may take, and shows that.
	 */
	bool (*slice)(Finding *finding, char **progress);

	/*
	 * A system event that reports the same fault.  The item is not raised while
	 * a rule matches that event.
	 */
	const char *own_event;
} DoctorItem;

/* The items of an area, in the order in which doctor() shows them */
typedef struct DoctorArea
{
	const char *name; /* stripe, slack, postgres */
	const DoctorItem *items;
	int nitems;
} DoctorArea;

/* ---- in finding.c ---- */

extern void finding_figure(Finding *finding, double figure, const char *unit);
extern void finding_ok(Finding *finding, const char *format, ...)
	pg_attribute_printf(2, 3);
extern void finding_warn(Finding *finding, const char *format, ...)
	pg_attribute_printf(2, 3);
extern void finding_fail(Finding *finding, const char *format, ...)
	pg_attribute_printf(2, 3);
extern void finding_unknown(Finding *finding, const char *format, ...)
	pg_attribute_printf(2, 3);
extern void finding_hint(Finding *finding, const char *format, ...)
	pg_attribute_printf(2, 3);
extern const char *finding_status_name(FindingStatus status);
extern FindingStatus finding_status_of(const char *name);

/* For details and hints */
extern char *words_count(int64 count, const char *one, const char *many);
extern char *words_age(double seconds); /* "40 s", "3 min", "2 h", "4 days" */
extern char *words_bytes(double bytes); /* "512 kB", "1.4 GB" */
extern char *hint_literal(const char *text); /* quoted, for SQL */

/*
 * A hint as one line that can be copied, "-- a comment" being a comment in it
 * still; NULL if it has more bytes.
 */
extern char *hint_line(const char *hint, int bytes);

#endif /* STRIPE_SYNC_FINDING_H */
