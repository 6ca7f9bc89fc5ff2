/*
 * backfill.h
 *		What the files that create a backfill share.
 */
#ifndef STRIPE_SYNC_BACKFILL_H
#define STRIPE_SYNC_BACKFILL_H

#include "sync.h"

#include "utils/array.h"

/* ---- in backfill_types.c: which types are read ---- */
extern bool *backfill_types_wanted(ArrayType *names);
extern bool backfill_type_is_single(const CatalogType *type);

/* ---- in backfill_parts.c: the parts of the job ---- */
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

#endif /* STRIPE_SYNC_BACKFILL_H */
