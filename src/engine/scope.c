/*
 * scope.c
 *		Scopes: with which role's rights, and under which search_path, code runs.
 *
 * Functions of the extension are called with the caller's rights.  They access
 * the extension's own tables as the owner of those tables, with a fixed
 * search_path, in an engine scope.  Code of users (handlers, and triggers, rules
 * and expressions of mirror tables) runs in a writing or a reading scope, as the
 * role that it belongs to.  The user is switched nowhere else.
 *
 * A writing scope fires the triggers that were deferred in it before it ends.  A
 * reading scope is a security-restricted operation, in which nothing can be
 * deferred.  In both,
 *
 *	- search_path is the noted one (noted_path.c), without "$user", for which a
 *	  schema could be created later, and with pg_temp last, so that no temporary
 *	  object hides another;
 *	- settings that change the meaning of SQL are fixed, the others are the
 *	  caller's, as in a SECURITY DEFINER function; settings made inside end with
 *	  the scope;
 *	- no temporary object can be created, SET ROLE is refused, and cursors and
 *	  large objects that were opened inside are closed at the end.
 *
 * Callbacks keep the stack of frames in step with the stack of subtransactions.
 * They allocate nothing and read no catalog.  After an error no scope has to be
 * left: the abort of the (sub)transaction restores the user, the security context
 * and the settings, and the callbacks drop the frames.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc_tables.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rls.h"
#include "utils/varlena.h"

#include "base/compat.h"
#include "engine/rights.h"
#include "engine/scope.h"
#include "engine/internal.h"

#define PINNED_PATH "pg_catalog, pg_temp"

static ScopeFrame *
push(ScopeKind kind)
{
	ScopeFrame *frame = scope_push(kind);

	frame->cursors = leftover_hidden();
	GetUserIdAndSecContext(&frame->user, &frame->security);
	return frame;
}

/*
 * The role that has called the extension, whatever scope is current: the user
 * outside of all engine scopes of the call.
 */
Oid
role_caller(void)
{
	ScopeFrame *called = scope_called_frame();

	return called != NULL ? called->user : GetUserId();
}

/* ---- paths ---- */

/*
 * The search_path of the session (frame is NULL) or of the code of a frame,
 * without that of functions which have a SET clause and are running now.
 * Deferred triggers would run under it at COMMIT.
 */
static char *
outer_path(const ScopeFrame *frame)
{
	int nest = frame != NULL ? frame->nest : 0;
	const char *path = namespace_search_path;

	for (GucStack *entry = compat_setting_stack("search_path"); entry != NULL;
		 entry = entry->prev)
		if (entry->state == GUC_SAVE && entry->nest_level > nest)
			path = entry->prior.val.stringval;
	return pstrdup(path);
}

/* ---- entering ---- */

static void
set_in_scope(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

/* Settings that change the meaning of SQL.  Usually none has to be changed. */
static void
fix_settings(void)
{
	if (!row_security)
		set_in_scope("row_security", "on");
	if (!compat_strings_conform())
		set_in_scope("standard_conforming_strings", "on");
	if (Transform_null_equals)
		set_in_scope("transform_null_equals", "off");
	if (!check_function_bodies)
		set_in_scope("check_function_bodies", "on");
}

static void
switch_user(ScopeFrame *frame, Oid role, int flags, const char *path)
{
	frame->role = role;
	SetUserIdAndSecContext(role, frame->security |
									 SECURITY_LOCAL_USERID_CHANGE | flags);
	frame->nest = NewGUCNestLevel();
	set_in_scope("search_path", path);
}

static RoleScope
enter_users(ScopeKind kind, Oid role, const NotedPath *noted)
{
	char *path = path_in_force(noted, role);

	leftover_check_descriptors();
	switch_user(push(kind), role,
				kind == SCOPE_READING ? SECURITY_RESTRICTED_OPERATION : 0, path);
	fix_settings();
	leftover_hide_cursors();
	pfree(path);
	return (RoleScope){scope_depth()};
}

/*
 * Enter a scope for a role's code that may write.  Triggers that the caller has
 * deferred are fired first, so that only the scope's own are fired at its end.
 */
RoleScope
role_enter_writing(Oid role, const NotedPath *search_path)
{
	deferred_fire_callers();
	return enter_users(SCOPE_WRITING, role, search_path);
}

/* Enter a scope for a role's code that only reads. */
RoleScope
role_enter_reading(Oid role, const NotedPath *search_path)
{
	return enter_users(SCOPE_READING, role, search_path);
}

/*
 * Enter a scope in which the caller's deferred triggers are fired.  As at COMMIT
 * that is the session's role, not the role of a SECURITY DEFINER function that
 * is running; or the role of the user's code that has called the extension.
 */
RoleScope
role_enter_caller(void)
{
	ScopeFrame *deferring = scope_deferring_frame();
	char *path = outer_path(deferring);
	Oid role = deferring != NULL ? deferring->role : GetOuterUserId();

	switch_user(push(SCOPE_CALLER), role, 0, path);
	return (RoleScope){scope_depth()};
}

/*
 * Enter a scope for the extension's own tables.  A nested one doesn't switch the
 * user again.
 */
RoleScope
role_enter_engine(void)
{
	Oid engine = own_table_owner(engine_relation("event"));
	ScopeFrame *frame = push(SCOPE_ENGINE);

	if (frame->user != engine || strcmp(namespace_search_path, PINNED_PATH) != 0)
		switch_user(frame, engine, 0, PINNED_PATH);
	return (RoleScope){scope_depth()};
}

/* ---- leaving ---- */

/*
 * Leave the innermost scope, which must be this one.  Deferred triggers of a
 * writing scope are fired, and may raise errors.
 */
void
role_leave(const RoleScope *scope)
{
	ScopeFrame *frame;

	if (scope->depth != scope_depth() || scope->depth == 0)
		elog(ERROR, "scope %d is left at depth %d", scope->depth, scope_depth());
	if (scope_top()->kind == SCOPE_WRITING)
		deferred_fire();
	if (scope_runs_users_code(scope_top()))
	{
		leftover_close_cursors();
		leftover_close_descriptors();
	}
	frame = scope_top(); /* the stack may have been reallocated */
	if (frame->nest >= 0)
		AtEOXact_GUC(false, frame->nest);
	SetUserIdAndSecContext(frame->user, frame->security);
	leftover_show_cursors(frame->cursors);
	scope_pop();
}

/* ---- (sub)transactions end ---- */

/* Drop the frames of an aborted subtransaction. */
static void
drop_frames(int level)
{
	while (scope_depth() > 0 && scope_top()->level >= level)
	{
		int cursors = scope_top()->cursors;

		scope_pop();
		leftover_abort_cursors(cursors, false);
	}
	scope_forget_fired(level);
}

static void
subtransaction_end(SubXactEvent event, SubTransactionId me,
				   SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		drop_frames(GetCurrentTransactionNestLevel());
	else if (event == SUBXACT_EVENT_COMMIT_SUB)
		scope_give_to_parent(GetCurrentTransactionNestLevel());
}

static void
transaction_end(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PARALLEL_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PARALLEL_ABORT:
		case XACT_EVENT_PREPARE:
			leftover_abort_cursors(0, true);
			leftover_transaction_end();
			scope_clear();
			break;
		default:
			break;
	}
}

void
role_init(void)
{
	RegisterXactCallback(transaction_end, NULL);
	RegisterSubXactCallback(subtransaction_end, NULL);
	deferred_init();
	leftover_init();
	scope_guard_init();
}
