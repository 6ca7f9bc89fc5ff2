/*
 * jobs.h
 *		Jobs and their parts, for those who implement kinds of parts.
 */
#ifndef STRIPE_SYNC_JOBS_H
#define STRIPE_SYNC_JOBS_H

#include "part.h"

/* ---- in job.c ---- */
extern int64 job_create(const char *kind);
extern void job_note_made(int64 job, const char *kind);

/* ---- in part_kind.c: which kinds there are ---- */
extern void part_kinds_register(const PartKind *const *all, int count);

/* ---- in part.c: a part, as read and written ---- */
extern const CatalogType *part_type(const Part *part);
extern void part_set_parent(Part *part, const char *id);
extern void part_set_progress(Part *part, double progress);
extern void part_note(Part *part, const char *note);

/* ---- in cursor.c: where a part is in its list ---- */
extern void part_set_cursor(Part *part, const char *cursor);
extern void part_restart(Part *part);
extern bool part_goes_round(Part *part, const char *next);

/* Where a part was, should what follows fail. */
typedef struct PartMark
{
	char *cursor;
	char *parent_id;
	TimestampTz until;
	double progress;
} PartMark;

extern PartMark part_mark(const Part *part);
extern void part_restore(Part *part, const PartMark *mark);

/* ---- in outcome.c ---- */
extern bool outcome_guard(void (*body)(void *), void *arg,
						  bool (*excuse)(const ErrorData *), ErrorData **error);
extern bool part_is_tried_out(const Part *part);

#endif /* STRIPE_SYNC_JOBS_H */
