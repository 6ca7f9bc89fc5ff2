/*
 * internal.h
 *		What the files of this folder share.
 */
#ifndef STRIPE_SYNC_ENGINE_INTERNAL_H
#define STRIPE_SYNC_ENGINE_INTERNAL_H

#include "base/base.h"
#include "engine/engine.h"
#include "engine/rights.h"
#include "engine/statement.h"

/* ---- noted_path.c ---- */

extern void path_check(const NotedPath *path, Oid role);
extern char *path_in_force(const NotedPath *path, Oid role);

/* ---- own.c ---- */

#define ENGINE_EXTENSION "stripe_sync"

extern Oid engine_extension(void);
extern Oid own_find(const char *name);
extern void own_forget(Oid relid);

/* ---- engine.c ---- */

extern void engine_run(EngineStatement *statement, Datum *values,
					   const char *nulls, int expected);
extern Datum engine_column(HeapTuple tuple, TupleDesc desc, int column,
						   Oid type, bool *isnull);
extern Datum engine_value(void);
extern Jsonb *engine_jsonb(EngineStatement *select, Datum *values,
						   const char *nulls);
extern TimestampTz engine_first_time(EngineStatement *select);

#endif /* STRIPE_SYNC_ENGINE_INTERNAL_H */
