/*
 * sync.h
 *		The kinds of parts, and what makes jobs of them.
 */
#ifndef STRIPE_SYNC_SYNC_H
#define STRIPE_SYNC_SYNC_H

#include "mirror.h"

#include "jobs.h"

/* ---- in unread.c: what is known not to have been read or written ---- */
extern void unread_over(const Part *part, const Outcome *outcome);
extern void unread_refused(const Part *part, const char *error);
extern void unread_note(Part *part, const char *what, const char *id,
						const ApiCall *call);
extern void unread_pass_over(Part *part, const char *id, const ApiCall *call);
extern void unread_passed_over(const Part *part, char *id);
extern void unread_passed_over_rest(const Part *part, char *id);
extern void unread_done(const Part *part, TimestampTz as_of);
extern void unread_too_early(const Part *part, TimestampTz as_of,
							 TimestampTz due);
extern void unread_cancelled(int64 job);

/* ---- in backfill_order.c: parts that wait for another to be over ---- */
extern void backfill_part_ended(const Part *part, const Outcome *outcome);

/* ---- the kinds of parts: in account_age.c, list.c, ..., webhook_endpoint.c ---- */
extern const PartKind part_age;
extern const PartKind part_list;
extern const PartKind part_rest;
extern const PartKind part_children;
extern const PartKind part_vanished;
extern const PartKind part_events;
extern const PartKind part_object;
extern const PartKind part_single;
extern const PartKind part_endpoints;
extern const PartKind part_new_endpoint;

/* ---- in kinds.c ---- */
extern void kinds_init(void); /* registers all of them */

/* ---- in list.c ---- */
extern void path_append(StringInfo path, const char *text);
extern char *path_fill(const char *pattern, const char *id);
extern void path_append_page(StringInfo path, const Part *part);
extern char *list_path(const Part *part);
extern bool list_take_page(Part *part, const ApiCall *call);
extern bool list_has_new_table(Part *part);
extern TimestampTz list_created(JsonbContainer *object);
extern void list_add_rests(Part *part, const FetchedObject *fetched);
extern void list_put_off_rows(const Part *part, List *readings);

/* ---- in vanished.c ---- */
extern MirrorTable *mirror_table_to_read(const CatalogType *type);

/* ---- in refetch.c ---- */
#define OWN_ACCOUNT "/v1/account" /* the account whose key it is */

extern bool object_from(const ApiCall *call, FetchedObject *fetched);

/* ---- in reconcile.c: runs through lists of events ---- */
#define STRIPE_KEEPS	(30 * USECS_PER_DAY)	 /* events, in its lists */
#define RECONCILE_YOUNG (5 * 60 * USECS_PER_SEC) /* in flight, maybe */
#define RECONCILE_OVERLAP                                                      \
	(10 * 60 * USECS_PER_SEC)				   /* of one run and the next */
#define RECONCILE_AT_FIRST (3 * USECS_PER_DAY) /* without a watermark */

extern void reconcile_begin(void);
extern void reconcile_hurry(void);

/* ---- in gap.c: the end of such a run ---- */
extern void gap_close(Part *part, TimestampTz now);
extern void gap_release(int64 job);

/* ---- in event_types.c: which types of events are asked for ---- */
extern bool event_type_known(const char *type);
extern List *event_types_to_subscribe(void);
extern List *event_types_needed(void);
extern Datum event_types_array(List *types);

/* ---- in watch.c: the endpoints that there are at Stripe ---- */
extern bool endpoint_is_sound(Jsonb *document);
extern void endpoint_note(const Part *part, Jsonb *document);
extern const char *endpoint_known_as(const char *account, const char *id);
extern void endpoint_is_ours(const Part *part, const char *id, const char *name);
extern void watch_soon(void);

/* ---- in watch_judge.c ---- */
extern void watch_judge(const Part *part);

#endif /* STRIPE_SYNC_SYNC_H */
