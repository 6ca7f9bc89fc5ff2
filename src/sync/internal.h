/*
 * internal.h
 *		What the files of this folder share.
 */
#ifndef STRIPE_SYNC_SYNC_INTERNAL_H
#define STRIPE_SYNC_SYNC_INTERNAL_H

#include "base/base.h"
#include "jobs/part.h"
#include "mirror/mirror.h"
#include "stripe/stripe.h"
#include "sync/sync.h"
#include "tables/tables.h"
#include "types/types.h"

/* ---- backfill_types.c ---- */

extern bool *backfill_types_wanted(ArrayType *names);
extern bool backfill_type_is_single(const CatalogType *type);

/* ---- backfill_parts.c ---- */

typedef struct BackfillPlan
{
	int64 job;
	bool *wanted;
	bool optional;	   /* parts that Stripe refuses are skipped */
	TimestampTz since; /* DT_NOBEGIN: all objects */
	char *account;
	bool connected; /* to an endpoint's account */
	int nparts;
	int age;		/* the part that reads how old the account is */
	int *list_part; /* the part of each type's own list, 0: none */
	List *paths;	/* nested lists that have a part */
} BackfillPlan;

extern void backfill_add_parts(BackfillPlan *plan);

/* ---- backfill_order.c ---- */

extern void backfill_part_ended(const Part *part, const Outcome *outcome);

/* ---- object_list.c ---- */

extern const PartKind part_list;
extern const PartKind part_rest;
extern char *object_list_path(const Part *part);
extern bool object_list_write_page(Part *part, const ApiCall *call);
extern bool object_list_table_changed(Part *part);
extern TimestampTz object_created(JsonbContainer *object);
extern void object_list_add_rests(Part *part, const FetchedObject *fetched);
extern void object_list_retry_rows(const Part *part, List *objects);

/* ---- nested_list.c ---- */

extern const PartKind part_children;

/* ---- account_age.c ---- */

extern const PartKind part_age;

/* ---- vanished.c ---- */

extern const PartKind part_vanished;
extern MirrorTable *mirror_table_to_read(const CatalogType *type);

/* ---- refetch.c ---- */

extern const PartKind part_object;
extern const PartKind part_single;

#define OWN_ACCOUNT "/v1/account" /* path of the key's own account */

extern bool object_of_answer(const ApiCall *call, FetchedObject *fetched);

/* ---- reconcile.c ---- */

#define STRIPE_KEEPS	   (30 * USECS_PER_DAY)		 /* Stripe lists events */
#define RECONCILE_YOUNG	   (5 * 60 * USECS_PER_SEC)	 /* may be on its way */
#define RECONCILE_OVERLAP  (10 * 60 * USECS_PER_SEC) /* of successive jobs */
#define RECONCILE_AT_FIRST (3 * USECS_PER_DAY)		 /* without a watermark */

extern void reconcile_schedule_first(void);
extern void reconcile_run_soon(void);

/* ---- event_list.c ---- */

extern const PartKind part_events;

/* ---- missing_events.c ---- */

extern void missing_events_finish(Part *part, TimestampTz now);
extern void missing_events_release_job(int64 job);

#endif /* STRIPE_SYNC_SYNC_INTERNAL_H */
