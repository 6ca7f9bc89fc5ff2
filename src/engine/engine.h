/*
 * engine.h
 *		The scope in which the extension runs SQL: rights, statements, locks.
 */
#ifndef STRIPE_SYNC_ENGINE_H
#define STRIPE_SYNC_ENGINE_H

#include "base/base.h"
#include "base/refusal.h"

/* ---- engine.c ---- */

extern TimestampTz engine_time_after(const Interval *interval);
extern int plan_for_indexes(void);
extern int plan_for_indexes_with_lock_timeout(void);
extern int plan_for_a_look(void);
extern int plan_for_brin(void);
extern void plan_settings_restore(int nest);
extern SysScanDesc engine_scan(const char *table, const char *index,
							   AttrNumber column, const char *value,
							   Relation *relation, Snapshot *snapshot);
extern void engine_scan_end(SysScanDesc scan, Relation relation,
							Snapshot snapshot);
extern void engine_init(void);
extern uint64 engine_generation(void);

/* ---- advisory.c ---- */

typedef enum AdvisoryKind
{
	ADVISORY_CHILDREN = 1, /* a parent's name, one of 1,024: children.c */
	ADVISORY_GROUP,		   /* an alert's group: incident_key.c */
	ADVISORY_DESTINATION,  /* messages to it are counted: incident_key.c */
	ADVISORY_CREATE_TABLES,
	ADVISORY_API_KEY,  /* an account's */
	ADVISORY_REFUSALS, /* who writes them down: refused_write.c */
	ADVISORY_ENDPOINT, /* set-up of endpoints, and their first events */
	ADVISORY_DOCTOR,   /* who looks: doctor/watch.c */
	ADVISORY_HISTORY,  /* who prunes events whose changes are kept */
	ADVISORY_SLACK_APP /* set-up of apps, and of channels */
} AdvisoryKind;

extern void advisory_lock(AdvisoryKind kind, uint32 key);
extern bool advisory_try_lock(AdvisoryKind kind, uint32 key);

/* ---- direct_row.c ---- */

typedef struct RowTarget RowTarget;

extern RowTarget *row_open(Oid relid, Oid key_index, int natts);
extern bool row_insert(RowTarget *target, const Datum *values,
					   const bool *nulls);
extern bool row_lock(RowTarget *target, int nkeys, const Datum *keys);
extern Datum row_get(RowTarget *target, AttrNumber attnum, bool *isnull);
extern void row_update(RowTarget *target, const Datum *values,
					   const bool *nulls);
extern void row_values(RowTarget *target, Datum *values, bool *nulls);
extern bool row_fires(Relation relation);
extern void row_close(RowTarget *target);

/* ---- level.c ---- */

/* The same as in src/install/header.sql; see level.c */
#define CATALOG_LEVEL 1

extern int level_found(void);
extern bool level_fits(int oldest, Refusal *refusal);
extern void level_check(int oldest); /* raises 55000 */
extern void level_check_table(TupleDesc desc, int columns, const char *table);
extern void level_check_columns(TupleDesc desc, int columns);

#define ENGINE_FUNCTION_FROM(name, oldest)                                     \
	PG_FUNCTION_INFO_V1(name);                                                 \
	static Datum name##_body(PG_FUNCTION_ARGS);                                \
	Datum name(PG_FUNCTION_ARGS)                                               \
	{                                                                          \
		level_check(oldest);                                                   \
		return name##_body(fcinfo);                                            \
	}                                                                          \
	static Datum name##_body(PG_FUNCTION_ARGS)

/*
 * Begins a function that is called from SQL and uses the extension's tables:
 * the catalog level is checked before an argument is read.
 *
 * A function with PG_FUNCTION_INFO_V1() alone works at any level, and receive()
 * also at the previous one.  Their arguments and result columns must never
 * change: a function with others must have another C name.  sql/engine_level.sql lists
 * them.
 */
#define ENGINE_FUNCTION(name) ENGINE_FUNCTION_FROM(name, CATALOG_LEVEL)

/* ---- timed.c ---- */

extern bool timed_run(void (*body)(void *), void *arg, const char *what,
					  const char *hint, ErrorData **error);
extern bool timed_run_at_most(int most, void (*body)(void *), void *arg,
							  const char *what, const char *hint,
							  ErrorData **error);
extern bool timed_run_within(int milliseconds, void (*body)(void *), void *arg,
							 ErrorData **error);
extern void timed_check(void);

#endif /* STRIPE_SYNC_ENGINE_H */
