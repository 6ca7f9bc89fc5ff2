/*
 * rights.h
 *		Scopes: whose rights and which search_path; the extension's own objects.
 */
#ifndef STRIPE_SYNC_ENGINE_RIGHTS_H
#define STRIPE_SYNC_ENGINE_RIGHTS_H

#include "base/base.h"
#include "base/refusal.h"

/* ---- scope.c ---- */

typedef struct RoleScope
{
	int depth; /* its place in the stack */
} RoleScope;

extern RoleScope role_enter_engine(void);

/* ---- noted_path.c ---- */

typedef struct NotedPath
{
	char *names;   /* in the syntax of search_path */
	List *owners;  /* of char *, one for each name; NULL: unknown */
	char *holder;  /* the object that it belongs to, for messages */
	char *renewal; /* the function that stores it again, for hints */
	int sqlstate;  /* of the error if the owner of a schema isn't trusted */
} NotedPath;

/* ---- scope.c ---- */

extern RoleScope role_enter_writing(Oid role, const NotedPath *search_path);
extern RoleScope role_enter_reading(Oid role, const NotedPath *search_path);
extern void role_leave(const RoleScope *scope);
extern Oid role_caller(void); /* the role that has called the extension */
extern void role_init(void);

/* ---- deferred.c ---- */

extern bool deferred_possible(void);
extern void deferred_fire_callers(void);

/* ---- noted_path.c ---- */

extern bool owner_is_trusted(Oid owner, const char *noted, Oid role);
extern NotedPath *path_make(const char *names);
extern NotedPath *path_read(Datum names, Datum owners);
extern NotedPath *path_copy(const NotedPath *path, MemoryContext memory);
extern NotedPath *path_resolved(void);
extern Datum path_owners(const NotedPath *path);
extern bool path_holds(const NotedPath *path, Oid role);

/* ---- own.c ---- */

#define ENGINE_SCHEMA "stripe_sync"
#define MIRROR_SCHEMA "stripe"

extern Oid engine_relation(const char *name); /* a table, or an index of one */
extern Oid engine_owner(void);
extern Oid engine_schema(void);
extern bool own_fits(struct Refusal *refusal);
extern Oid own_table_owner(Oid relid);
extern Oid own_schema_owner(Oid schema);
extern Oid own_database_owner(void);

#endif /* STRIPE_SYNC_ENGINE_RIGHTS_H */
