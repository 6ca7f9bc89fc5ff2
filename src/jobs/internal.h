/*
 * internal.h
 *		What the files that process jobs share with each other.
 */
#ifndef STRIPE_SYNC_JOBS_INTERNAL_H
#define STRIPE_SYNC_JOBS_INTERNAL_H

#include "base/base.h"
#include "base/compat.h"
#include "engine/statement.h"
#include "jobs/part.h"
#include "stripe/stripe.h"

/* ---- in job.c ---- */
extern bool job_lock(int64 job);
extern void job_fail_account(const Part *part, const char *error);
extern void job_finish(int64 job);
compat_noreturn extern void job_raise_missing(int64 job);

/* ---- in part_kind.c: the registry ---- */
extern const PartKind *const *part_kinds(int *count);
extern const PartKind *part_kind_find(const char *name);
extern void part_kinds_cancelled(int64 job);
extern TimestampTz part_kinds_poll(void);

/* ---- in part.c: a claimed part, in memory and in stripe_sync.job_part ---- */
extern const char *const part_columns;
extern Part *part_read(Rows *rows);
extern void part_free(Part *part);
extern void part_set_string(Part *part, char **place, const char *value);
extern void part_load_key(Part *part);
extern void part_reset_results(Part *part);
extern bool part_write(Part *part, const Outcome *outcome);
extern bool part_is_ours(const Part *part);
extern void part_release_all(TimestampTz due);

/* ---- in cursor.c: the position of a part in its list ---- */
extern void part_save_cursor(Part *part);
extern void part_return_to_cursor(Part *part);

/* ---- in page_size.c: how many objects a page has ---- */
#define PAGE_LIMIT 100

extern int page_tries(const Part *part);
extern void page_written(Part *part);
extern bool page_shrink_or_skip(Part *part, const ApiCall *call);

/* ---- in outcome.c: failures ---- */
extern bool part_restart_if_cursor_refused(Part *part, const ApiCall *call);
extern Outcome outcome_of_failure(Part *part, const ApiCall *call);
extern Outcome outcome_of_error(Part *part, ErrorData *error);
extern Outcome outcome_without_key(const Part *part);

/* ---- in part_claim.c ---- */
extern void part_claim(int first, int last, int most, void (*add)(Part *part));
extern TimestampTz part_next_due(bool backfills);

/* ---- in part_advance.c: the transactions of a claimed part ---- */
typedef enum PartProgress
{
	PART_GOES_ON,
	PART_ENDED,			 /* done, failed, put off, or no longer ours */
	PART_BLOCKED_BY_LOCK /* nothing was written: try again */
} PartProgress;

extern PartProgress part_write_answer(Part *part, ApiCall *call, bool *wrote);
extern PartProgress part_find_next_request(Part *part);

/* ---- in runner.c ---- */
extern bool runner_has(int64 job, int number);

#endif /* STRIPE_SYNC_JOBS_INTERNAL_H */
