/*
 * scope_leftover.c
 *		Cursors and large objects in a scope: the caller's are out of reach, and
 *		those that were opened inside end with it.
 *
 * A cursor that is open but not running is hidden by marking it as running: it
 * can then be neither read, moved nor closed, whichever way it is tried.  One
 * that isn't hidden when the scope ends was opened inside.
 *
 * A large object's descriptor is a small number that anybody may guess, and
 * nothing tells which are open.  So functions that open and use them are
 * watched: where the caller may have some open, they are refused inside;
 * elsewhere all that are open at a scope's end are its own.
 */
#include "scope.h"

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
 * Is there no portal but the one that runs, as mostly?  Their contexts have one
 * parent.  (ThereAreNoReadyPortals() doesn't end its scan when there are some.)
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
	/* should the transaction abort: it is not the one that failed */
	portal->cleanup = NULL;
	portal->activeSubid = InvalidSubTransactionId;
}

/* The frame on top takes the caller's cursors out of reach. */
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

/* Those that are in reach at a scope's end were opened in it. */
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
 * The same from the callback of an abort.  When the whole transaction aborts
 * its own cursors have failed with it, and are dropped next.
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

static bool opened_outside = false; /* by the session's own code, perhaps */
static bool used_inside = false;	/* in this transaction */

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
/* A query that calls this function is about to begin. */
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
 * Before a scope is entered.  A function that has used descriptors inside may
 * keep its expression for the rest of the transaction, and isn't seen again.
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
				 "Open large objects in a transaction of their own; what failed is tried again by itself.")));
}

/* All that are open are the scope's, which ends: else they had been refused. */
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
 * The library may be loaded in the middle of a transaction that has opened some:
 * the server keeps them in a memory context of this name from the first one on.
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
