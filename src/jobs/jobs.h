/*
 * jobs.h
 *		Jobs and their parts, for the files that implement kinds of parts.
 */
#ifndef STRIPE_SYNC_JOBS_H
#define STRIPE_SYNC_JOBS_H

#include "base/base.h"
#include "jobs/part.h"
#include "types/types.h"

/* ---- in job.c ---- */
extern int64 job_create(const char *kind);
extern void job_note_created(int64 job, const char *kind);

/* ---- in part_kind.c: the registry ---- */
extern void part_kinds_register(const PartKind *const *all, int count);

/* ---- in part.c: a claimed part ---- */
extern const CatalogType *part_type(const Part *part);
extern void part_set_parent(Part *part, const char *id);
extern void part_set_progress(Part *part, double progress);
extern void part_note(Part *part, const char *note);

/* ---- in cursor.c: the position of a part in its list ---- */
extern void part_set_cursor(Part *part, const char *cursor);
extern void part_restart(Part *part);
extern bool part_cursor_repeats(Part *part, const char *next);

/* A part's position, to go back to when a subtransaction fails */
typedef struct PartMark
{
	char *cursor;
	char *parent_id;
	TimestampTz until;
	double progress;
} PartMark;

extern PartMark part_mark(const Part *part);
extern void part_restore(Part *part, const PartMark *mark);

/* ---- in outcome.c: failures ---- */
extern bool outcome_guard(void (*body)(void *), void *arg,
						  bool (*excuse)(const ErrorData *), ErrorData **error);
extern bool part_is_last_try(const Part *part);

/* ---- runner.c ---- */

/* False when nothing is due before *next. */
extern bool runner_turn(TimestampTz *next, bool *stirs);
extern void runner_claim_soon(void);
extern bool runner_has_news(void);
extern bool runner_idle(void);
extern void runner_release_all(void);

/* ---- reclaim.c ---- */

extern void runner_reclaim(void);

/* ---- api_path.c ---- */

extern void api_path_append(StringInfo path, const char *text);
extern char *api_path_with_id(const char *pattern, const char *id);
extern void api_path_append_page(StringInfo path, const Part *part);

/* ---- unread.c ---- */

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

#endif /* STRIPE_SYNC_JOBS_H */
