/*
 * scope_leftover.c
 *		Cursors and large objects in a scope: those of the caller can't be used,
 *		and those that were opened inside are closed at its end.
 *
 * The caller's open cursors are hidden by marking them as running: the server
 * then refuses to fetch from, move or close them.  A cursor that isn't hidden
 * when the scope ends was opened inside.
 *
 * The descriptor of a large object is a small number that can be guessed, and
 * the server has no list of the open ones.  So calls of the functions that use
 * descriptors are noted.  Inside a scope they are refused if the caller may have
 * opened some; if they are allowed, all that are open at the end of the scope
 * were opened inside.
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "executor/tuptable.h"
#include "funcapi.h"
#include "libpq/be-fsstubs.h"
#include "nodes/execnodes.h"
#include "nodes/memnodes.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/portal.h"

#include "engine/scope.h"
#include "engine/statement.h"

/* ---- cursors ---- */

typedef struct HiddenCursor
{
	Portal portal;
	void (*cleanup)(Portal portal);
	SubTransactionId active;
} HiddenCursor;

static HiddenCursor *hidden = NULL;
static int nhidden = 0;
static int room = 0;

/* Cursors (Portal) of a tuplestore that pg_cursor() has filled. */
static List *
ready_cursors_in(Tuplestorestate *rows, TupleDesc desc)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	List *cursors = NIL;

	while (tuplestore_gettupleslot(rows, true, false, slot))
	{
		bool isnull;
		Portal portal = GetPortalByName(
			TextDatumGetCString(slot_getattr(slot, 1, &isnull)));

		if (PortalIsValid(portal) && portal->status == PORTAL_READY)
			cursors = lappend(cursors, portal);
	}
	ExecDropSingleTupleTableSlot(slot);
	return cursors;
}

/*
 * Is there no portal but the running one, as is usual?  All portals' contexts are
 * siblings.  (ThereAreNoReadyPortals() doesn't end its scan if there are some.)
 */
static bool
none_but_running(void)
{
	return PortalContext != NULL && PortalContext->prevchild == NULL &&
		   PortalContext->nextchild == NULL;
}

/* Cursors (Portal) that could be fetched from now. */
static List *
ready_cursors(void)
{
	LOCAL_FCINFO(fcinfo, 0);
	ReturnSetInfo result = {.type = T_ReturnSetInfo,
							.allowedModes = SFRM_Materialize};
	FmgrInfo function;
	List *cursors;

	if (none_but_running())
		return NIL;
	fmgr_info(F_PG_CURSOR, &function);
	result.econtext = CreateStandaloneExprContext();
	InitFunctionCallInfoData(*fcinfo, &function, 0, InvalidOid, NULL,
							 (Node *) &result);
	(void) FunctionCallInvoke(fcinfo);
	cursors = ready_cursors_in(result.setResult, result.setDesc);
	tuplestore_end(result.setResult);
	FreeExprContext(result.econtext, true);
	return cursors;
}

static void
hide_cursor(Portal portal)
{
	hidden[nhidden++] = (HiddenCursor){portal, portal->cleanup,
									   portal->activeSubid};
	portal->status = PORTAL_ACTIVE;
	portal->visible = false;
	/* if the transaction aborts, this cursor isn't the one that failed */
	portal->cleanup = NULL;
	portal->activeSubid = InvalidSubTransactionId;
}

/* Hide the caller's cursors while the innermost frame is there. */
void
leftover_hide_cursors(void)
{
	List *cursors = ready_cursors();
	int wanted = nhidden + list_length(cursors);
	ListCell *cell;

	if (wanted > room)
	{
		hidden = hidden == NULL
					 ? MemoryContextAlloc(TopMemoryContext,
										  wanted * sizeof(HiddenCursor))
					 : repalloc(hidden, wanted * sizeof(HiddenCursor));
		room = wanted;
	}
	foreach(cell, cursors)
		hide_cursor(lfirst(cell));
}

/* Close the cursors that are not hidden: they were opened in this scope. */
void
leftover_close_cursors(void)
{
	ListCell *cell;

	foreach(cell, ready_cursors())
	{
		Portal portal = lfirst(cell);

		if (portal->portalPinned)
			UnpinPortal(portal);
		PortalDrop(portal, false);
	}
}

int
leftover_hidden(void)
{
	return nhidden;
}

static void
show_cursor(const HiddenCursor *cursor, SubTransactionId active)
{
	cursor->portal->visible = true;
	cursor->portal->activeSubid = active;
	if (cursor->portal->status != PORTAL_ACTIVE)
		return; /* its own subtransaction has aborted */
	cursor->portal->status = PORTAL_READY;
	cursor->portal->cleanup = cursor->cleanup;
}

void
leftover_show_cursors(int first)
{
	while (nhidden > first)
	{
		nhidden--;
		show_cursor(&hidden[nhidden], hidden[nhidden].active);
	}
}

/*
 * The same in an abort callback.  If the whole transaction aborts, cursors that
 * it has created are marked as failed, and the server drops them next.
 */
void
leftover_abort_cursors(int first, bool whole)
{
	while (nhidden > first)
	{
		HiddenCursor *cursor = &hidden[--nhidden];
		Portal portal = cursor->portal;

		if (whole && portal->createSubid != InvalidSubTransactionId &&
			!portal->autoHeld && portal->status == PORTAL_ACTIVE)
			portal->status = PORTAL_FAILED;
		show_cursor(cursor, portal->createSubid);
	}
}

/* ---- large objects ---- */

/* In this transaction */
static bool opened_outside = false; /* the session's own code may have opened some */
static bool used_inside = false; /* code in a scope has used descriptors */

static bool
uses_descriptor(Oid function)
{
	switch (function)
	{
		case F_LO_OPEN:
		case F_LO_CLOSE:
		case F_LOREAD:
		case F_LOWRITE:
		case F_LO_LSEEK:
		case F_LO_LSEEK64:
		case F_LO_TELL:
		case F_LO_TELL64:
		case F_LO_TRUNCATE:
		case F_LO_TRUNCATE64:
			return true;
		default:
			return false;
	}
}

/* Called before the first execution of each function call in a query. */
void
leftover_on_function(Oid function)
{
	ScopeFrame *frame;

	if (!uses_descriptor(function))
		return;
	frame = scope_user_frame();
	if (frame == NULL)
	{
		opened_outside = true;
		return;
	}
	if (opened_outside || scope_has_descriptors_below(frame))
		ereport(
			ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg(
				 "a handler or a trigger on a mirror table cannot use descriptors of large objects in a transaction that has opened some"),
			 errhint("Use lo_get() and lo_put().")));
	frame->descriptors = true;
	used_inside = true;
}

/*
 * Called before a scope is entered.  A function that has used descriptors in a
 * scope may keep its compiled expression for the rest of the transaction, and
 * then the hook isn't called again.
 */
void
leftover_check_descriptors(void)
{
	if (used_inside && opened_outside)
		ereport(
			ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg(
				 "code that uses large objects has run in this transaction, which has opened some itself"),
			 errhint(
				 "Open large objects in a separate transaction. The failed step is tried again automatically.")));
}

/* Close all: outside the scope none is open, or its use would have been refused. */
void
leftover_close_descriptors(void)
{
	ScopeFrame *frame = scope_user_frame();

	if (!frame->descriptors)
		return;
	AtEOSubXact_LargeObject(false, GetCurrentSubTransactionId(),
							InvalidSubTransactionId);
	frame->descriptors = false;
}

/*
 * The library may be loaded in a transaction that has already opened large
 * objects: the server then has a memory context of this name.
 */
void
leftover_init(void)
{
	for (MemoryContext child = TopMemoryContext->firstchild; child != NULL;
		 child = child->nextchild)
		if (child->name != NULL && strcmp(child->name, "Filesystem") == 0)
			opened_outside = true;
}

void
leftover_transaction_end(void)
{
	opened_outside = false;
	used_inside = false;
}
