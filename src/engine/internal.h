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

extern char *path_in_force(const NotedPath *path, Oid role);

/* ---- own.c ---- */

#define ENGINE_EXTENSION "stripe_sync"

extern Oid engine_extension(void);
extern Oid own_find(const char *name);
extern void own_forget(Oid relid);

#endif /* STRIPE_SYNC_ENGINE_INTERNAL_H */
