/*
 * jobs_internal.h
 *		What the files that work at jobs share with each other.
 */
#ifndef STRIPE_SYNC_JOBS_INTERNAL_H
#define STRIPE_SYNC_JOBS_INTERNAL_H

#include "jobs.h"

/* ---- in job.c ---- */
extern bool job_lock(int64 job);
extern void job_fail_account(const Part *part, const char *error);
extern void job_finish(int64 job);

/* ---- in part_kind.c: which kinds there are ---- */
extern const PartKind *const *part_kinds(int *count);
extern const PartKind *part_kind_find(const char *name);
extern void part_kinds_cancelled(int64 job);
extern TimestampTz part_kinds_poll(void); /* when the next is due */

/* ---- in part.c: a part, as read and written ---- */
extern const char *const part_columns;
extern Part *part_read(HeapTuple row, TupleDesc desc);
extern void part_free(Part *part);
extern void part_set_string(Part *part, char **place, const char *value);

/* ---- in cursor.c: where a part is in its list ---- */
extern void part_keep_cursor(Part *part);
extern void part_return_to_cursor(Part *part);

/* ---- in part.c: a part as it stands in stripe_sync.job_part ---- */
extern bool part_write(Part *part, const Outcome *outcome);
extern bool part_is_ours(const Part *part);
extern void part_release_all(TimestampTz due);
extern void part_load_key(Part *part);
extern void part_forget(Part *part);

/* ---- in page_size.c: how many objects are asked for at a time ---- */
#define PAGE_LIMIT 100

extern int page_tries(const Part *part);
extern void page_came(Part *part);
extern bool page_get_smaller(Part *part, const ApiCall *call);

/* ---- in runner.c ---- */
extern bool runner_has(int64 job, int number);

/* ---- in outcome.c ---- */
extern bool outcome_is_restart(Part *part, const ApiCall *call);
extern Outcome outcome_of_failure(Part *part, const ApiCall *call);
extern Outcome outcome_of_error(Part *part, ErrorData *error);
extern Outcome outcome_without_key(const Part *part);

#endif /* STRIPE_SYNC_JOBS_INTERNAL_H */
