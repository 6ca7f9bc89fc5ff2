/*
 * internal.h
 *		The items, and how an item says what it found.
 */
#ifndef STRIPE_SYNC_DOCTOR_INTERNAL_H
#define STRIPE_SYNC_DOCTOR_INTERNAL_H

#include "base/base.h"
#include "doctor/doctor.h"
#include "engine/statement.h"

/* ---- in items.c: all items ---- */

#define DOCTOR_CRITICAL 0x01 /* a failure is critical */
#define DOCTOR_SERVER	0x02 /* the caller needs pg_read_all_stats */
#define DOCTOR_PRIMARY	0x04 /* unknown on a standby */
#define DOCTOR_NIGHTLY	0x08 /* heavy: the worker looks once a night, doctor() */
							 /* shows what it found */
#define DOCTOR_NOT_QUEUED 0x10 /* never a system.doctor event (Postgres) */

typedef struct DoctorItem
{
	const char *key;  /* stable: "slack.backlog" */
	const char *item; /* in words, for people: "waiting messages" */
	int flags;
	void (*look)(Finding *finding); /* in the engine's scope */
} DoctorItem;

/* ---- in stripe_items.c, slack_items.c, postgres_items.c: an area's items ---- */

typedef struct DoctorArea
{
	const char *name;
	const DoctorItem *items;
	int nitems;
} DoctorArea;

extern const DoctorArea doctor_stripe;
extern const DoctorArea doctor_slack;
extern const DoctorArea doctor_postgres;

/* ---- in finding.c: how an item says what it found ---- */

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

#endif /* STRIPE_SYNC_DOCTOR_INTERNAL_H */
