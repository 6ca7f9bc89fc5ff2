/*
 * scope_stack.c
 *		The stack of scopes.
 *
 * It lives as long as the session.  A frame belongs to the (sub)transaction in
 * which it was pushed.  Callbacks of scope.c drop it when that aborts; they
 * allocate nothing and read no catalog.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/memutils.h"

#include "engine/scope.h"

#define FIRST_ROOM 16

static ScopeFrame *frames = NULL;
static int depth = 0;
static int room = 0;

int
scope_depth(void)
{
	return depth;
}

/* The innermost frame.  The pointer is valid until the next scope_push(). */
ScopeFrame *
scope_top(void)
{
	return &frames[depth - 1];
}

ScopeFrame *
scope_push(ScopeKind kind)
{
	if (depth == room)
	{
		int more = room == 0 ? FIRST_ROOM : room * 2;

		if (frames == NULL)
			frames = MemoryContextAlloc(TopMemoryContext,
										more * sizeof(ScopeFrame));
		else
			frames = repalloc(frames, more * sizeof(ScopeFrame));
		room = more;
	}
	frames[depth++] = (ScopeFrame){
		.kind = kind, .level = GetCurrentTransactionNestLevel(), .nest = -1};
	return scope_top();
}

void
scope_pop(void)
{
	depth--;
}

void
scope_clear(void)
{
	depth = 0;
}

/* A committed subtransaction's frames belong to its parent from now on. */
void
scope_give_to_parent(int level)
{
	for (int i = 0; i < depth; i++)
	{
		frames[i].level = Min(frames[i].level, level - 1);
		frames[i].fired_level = Min(frames[i].fired_level, level - 1);
	}
}

/* Triggers that an aborted subtransaction has fired are pending again. */
void
scope_forget_fired(int level)
{
	for (int i = 0; i < depth; i++)
		if (frames[i].fired_level >= level)
			frames[i].fired_level = 0;
}

/* ---- which frame? ---- */

bool
scope_runs_users_code(const ScopeFrame *frame)
{
	return frame->kind == SCOPE_WRITING || frame->kind == SCOPE_READING;
}

/* The innermost frame that runs a role's code, or NULL. */
ScopeFrame *
scope_user_frame(void)
{
	for (int i = depth - 1; i >= 0; i--)
		if (scope_runs_users_code(&frames[i]))
			return &frames[i];
	return NULL;
}

/*
 * The frame whose code has deferred the pending triggers, or NULL if the
 * session itself has.  A reading scope can't defer any.
 */
ScopeFrame *
scope_deferring_frame(void)
{
	for (int i = depth - 1; i >= 0; i--)
		if (frames[i].kind == SCOPE_WRITING || frames[i].kind == SCOPE_CALLER)
			return &frames[i];
	return NULL;
}

/* The engine's frame that the deferring code has called, or NULL. */
ScopeFrame *
scope_called_frame(void)
{
	ScopeFrame *deferring = scope_deferring_frame();
	int first = deferring != NULL ? (int) (deferring - frames) + 1 : 0;

	for (int i = first; i < depth; i++)
		if (frames[i].kind == SCOPE_ENGINE)
			return &frames[i];
	return NULL;
}

/* May large objects be open that a frame below "user" (NULL: any) has opened? */
bool
scope_has_descriptors_below(const ScopeFrame *user)
{
	int last = user != NULL ? (int) (user - frames) : depth;

	for (int i = 0; i < last; i++)
		if (frames[i].descriptors)
			return true;
	return false;
}

/* ---- deferred triggers ---- */

/* Is the innermost foreign code a deferred trigger that the engine fires? */
bool
scope_is_firing(void)
{
	for (int i = depth - 1; i >= 0; i--)
		if (frames[i].kind != SCOPE_ENGINE)
			return frames[i].firing;
	return false;
}

void
scope_set_firing(bool firing)
{
	scope_top()->firing = firing;
}

/* Have the triggers been fired that the caller had deferred before its call? */
bool
scope_callers_fired(void)
{
	ScopeFrame *called = scope_called_frame();

	return called != NULL && called->fired_level > 0;
}

void
scope_note_callers_fired(void)
{
	ScopeFrame *called = scope_called_frame();

	if (called != NULL)
		called->fired_level = GetCurrentTransactionNestLevel();
}
