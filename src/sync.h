/*
 * sync.h
 *		The kinds of parts, and the functions that create jobs.
 */
#ifndef STRIPE_SYNC_SYNC_H
#define STRIPE_SYNC_SYNC_H

#include "mirror.h"

#include "jobs.h"

/* ---- in unread.c: objects that could not be read or written ---- */
extern void unread_part_ended(const Part *part, const Outcome *outcome);
extern void unread_rest_refused(const Part *part, const char *error);
extern void unread_note_object(Part *part, const char *what, const char *id,
							   const ApiCall *call);
extern void unread_skip(Part *part, const char *id, const ApiCall *call);
extern void unread_report_skipped(const Part *part, char *id);
extern void unread_report_skipped_rest(const Part *part, char *id);
extern void unread_object_read(const Part *part, TimestampTz as_of);
extern void unread_answer_too_early(const Part *part, TimestampTz as_of,
									TimestampTz due);
extern void unread_job_cancelled(int64 job);

/* ---- in backfill_order.c: parts that wait for another part ---- */
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

/* ---- in api_path.c: paths of requests ---- */
extern void api_path_append(StringInfo path, const char *text);
extern char *api_path_with_id(const char *pattern, const char *id);
extern void api_path_append_page(StringInfo path, const Part *part);

/* ---- in list.c ---- */
extern char *object_list_path(const Part *part);
extern bool object_list_write_page(Part *part, const ApiCall *call);
extern bool object_list_table_changed(Part *part);
extern TimestampTz object_created(JsonbContainer *object);
extern void object_list_add_rests(Part *part, const FetchedObject *fetched);
extern void object_list_retry_rows(const Part *part, List *objects);

/* ---- in vanished.c ---- */
extern MirrorTable *mirror_table_to_read(const CatalogType *type);

/* ---- in refetch.c ---- */
#define OWN_ACCOUNT "/v1/account" /* path of the key's own account */

extern bool object_of_answer(const ApiCall *call, FetchedObject *fetched);

/* ---- in reconcile.c: jobs that compare lists of events with the inbox ---- */
#define STRIPE_KEEPS	   (30 * USECS_PER_DAY)		 /* Stripe lists events */
#define RECONCILE_YOUNG	   (5 * 60 * USECS_PER_SEC)	 /* may be on its way */
#define RECONCILE_OVERLAP  (10 * 60 * USECS_PER_SEC) /* of successive jobs */
#define RECONCILE_AT_FIRST (3 * USECS_PER_DAY)		 /* without a watermark */

extern void reconcile_schedule_first(void);
extern void reconcile_run_soon(void);

/* ---- in gap.c: the end of a list of events ---- */
extern void missing_events_finish(Part *part, TimestampTz now);
extern void missing_events_release_job(int64 job);

/* ---- in event_types.c: which types of events an endpoint should have ---- */
extern bool event_type_is_known(const char *type);
extern List *event_types_to_subscribe(void);
extern List *event_types_needed(void);
extern Datum event_types_array(List *types);

/* ---- in watch.c: the webhook endpoints at Stripe ---- */
extern bool webhook_endpoint_is_valid(Jsonb *document);
extern bool webhook_endpoint_note(const Part *part, Jsonb *document);
extern const char *webhook_endpoint_name(const char *account, const char *id);
extern void webhook_endpoint_set_name(const Part *part, const char *id,
									  const char *name);
extern void endpoint_watch_soon(void);

/* ---- in watch_judge.c ---- */
extern void endpoint_watch_judge(const Part *part);

#endif /* STRIPE_SYNC_SYNC_H */
