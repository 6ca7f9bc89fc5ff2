/*
 * scope.h
 *		Functions that implement scopes: scope.c enters and leaves them,
 *		scope_stack.c keeps their frames, deferred.c fires deferred triggers,
 *		scope_guard.c refuses statements whose effects would outlast a scope,
 *		and scope_leftover.c closes what was opened in it.
 */
#ifndef STRIPE_SYNC_SCOPE_H
#define STRIPE_SYNC_SCOPE_H

#include "base/base.h"
#include "engine/rights.h"

typedef enum ScopeKind
{
	SCOPE_ENGINE,  /* statements on the extension's own tables */
	SCOPE_WRITING, /* a role's code, which may write and defer */
	SCOPE_READING, /* a role's code, security-restricted */
	SCOPE_CALLER   /* deferred triggers of the caller are fired */
} ScopeKind;

typedef struct ScopeFrame
{
	ScopeKind kind;
	int level; /* of the (sub)transaction that it belongs to */

	/* restored at the end */
	Oid user;
	int security;
	int nest; /* of settings, or -1 */

	Oid role; /* whose code runs: all kinds but SCOPE_ENGINE */

	bool firing;	 /* deferred triggers are being fired */
	int fired_level; /* SCOPE_ENGINE: in which (sub)transaction the caller's
					  * deferred triggers were fired; 0: they were not */
	int cursors;	 /* hidden cursors from here on were hidden by this frame */
	bool descriptors; /* large objects may have been opened in it */
} ScopeFrame;

/* ---- in scope_stack.c ---- */
extern int scope_depth(void);
extern ScopeFrame *scope_top(void);
extern ScopeFrame *scope_push(ScopeKind kind);
extern void scope_pop(void);
extern void scope_clear(void);
extern void scope_give_to_parent(int level);
extern void scope_forget_fired(int level);
extern bool scope_runs_users_code(const ScopeFrame *frame);
extern ScopeFrame *scope_user_frame(void);
extern ScopeFrame *scope_deferring_frame(void);
extern ScopeFrame *scope_called_frame(void);
extern bool scope_has_descriptors_below(const ScopeFrame *user);
extern bool scope_is_firing(void);
extern void scope_set_firing(bool firing);
extern bool scope_callers_fired(void);
extern void scope_note_callers_fired(void);

/* ---- in scope.c ---- */
extern RoleScope role_enter_caller(void);

/* ---- in deferred.c ---- */
extern void deferred_fire(void);
extern void deferred_init(void);

/* ---- in scope_guard.c ---- */
extern void scope_guard_init(void);

/* ---- in scope_leftover.c ---- */
extern void leftover_hide_cursors(void);
extern void leftover_close_cursors(void);
extern int leftover_hidden(void);
extern void leftover_show_cursors(int first);
extern void leftover_abort_cursors(int first, bool whole);
extern void leftover_check_descriptors(void);
extern void leftover_close_descriptors(void);
extern void leftover_on_function(Oid function);
extern void leftover_init(void);
extern void leftover_transaction_end(void);

#endif /* STRIPE_SYNC_SCOPE_H */
