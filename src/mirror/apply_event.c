/*
 * apply_event.c
 *		Applies an event's snapshot to the mirror.
 *
 * Rows are locked and written in one order: (rank of the type, id).  The own
 * row comes before the children of its pages, and whether the event's snapshot
 * is the newest is decided while the own row is locked.  Usually the snapshot is
 * later than the row, and the row alone decides; otherwise the object's stored
 * events do (newest.c).  Objects fetched from the API are applied by fetched.c.
 *
 * All of it runs in a subtransaction of the caller's, in the engine's scope.  The
 * event is in the inbox already: a concurrent transaction with another event of
 * the object, which waits for the row's lock, finds it after that.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "base/base.h"
#include "base/subtransaction.h"
#include "inbox/event.h"
#include "mirror/mirror.h"
#include "tables/tables.h"
#include "types/object.h"
#include "types/types.h"
#include "mirror/internal.h"

typedef enum OwnVerdict
{
	OWN_NEWEST,	 /* written; its pages are the newest as well */
	OWN_SETTLED, /* decided by the stored events: children are late */
	OWN_STALE,	 /* likewise, and another snapshot is the newest */
	OWN_RACE	 /* another session has just inserted the row */
} OwnVerdict;

typedef struct OwnRow
{
	OpenTables *tables;
	Event *event;
	MirrorTable *table;
	const char *account;
	bool wants_data; /* the former snapshot is needed for a sweep */
	bool was_new;
	Jsonb *before;		   /* the former snapshot */
	EventHistory *history; /* NULL: it was not needed */
	char *detail;
} OwnRow;

/*
 * Insert the row of an object that has no other stored event.  A later page of
 * its parent may have left it out already.
 */
static bool
insert_own(OwnRow *own, MirrorRow *row)
{
	Event *event = own->event;
	MirrorContent content = precedence_content(event);

	if (!content.deleted)
		content.deleted = left_out_since(
			event->catalog, event->object_id, event->account, event->object,
			event->created, TABLE_WRITE, &content.deleted_at);
	return mirror_write(row, &content);
}

/* The object's state at Stripe replaces the guess of rule 3 of newest.c. */
static void
request_if_ambiguous(OwnRow *own, const Verdict *verdict)
{
	if (verdict->ambiguous)
		refetch_request_add_after(
			own->event->catalog, own->event->object_id, own->account,
			"the order of events within one second is ambiguous",
			verdict->newest->created);
}

/*
 * The history of the row's object, with the fetched object that the row may
 * hold.  For types without pages the content of the fetched object is not
 * needed.
 */
static EventHistory *
read_own_history(OwnRow *own, MirrorRow *row)
{
	const CatalogType *type = own->event->catalog;
	EventHistory *history = fetched_note_read_history(
		type, own->event->object_id, own->account);
	MirrorState ignored;

	if (!row->state.found || !mirror_state_is_fetched_alive(&row->state))
		return history;
	if (row->data == NULL && type->npages > 0)
		(void) mirror_peek(row->table, row->id, row->account, &ignored,
						   &row->data);
	event_history_add_row(history, &row->state, row->data);
	return history;
}

/*
 * Decide by the stored events which snapshot is the newest, and write it, which
 * may be that of another event: the new event can change the order of two others
 * of its second.
 */
static OwnVerdict
settle_own(OwnRow *own, MirrorRow *row)
{
	Event *event = own->event;
	Verdict verdict;

	own->history = read_own_history(own, row);
	if (own->history->versions == NIL)
		elog(ERROR, "event \"%s\" is not in the inbox", event->id);
	verdict = newest_find(own->history);
	if (row->state.found &&
		precedence_state_is_newer(&row->state, own->history, verdict.newest))
	{
		fetched_gone_settle(row, own->history, verdict.newest);
		own->detail = psprintf("the mirror holds a newer state of %s",
							   event->object_id);
		return OWN_STALE;
	}
	if (row->state.event_id == NULL ||
		strcmp(row->state.event_id, verdict.newest->event_id) != 0 ||
		strcmp(verdict.newest->event_id, event->id) == 0)
	{
		MirrorContent content = precedence_content(version_event(verdict.newest));

		precedence_find_tombstone(&row->state, own->history, event->account,
								  TABLE_WRITE, &content);
		fetched_note_replaced(row, &content);
		if (!mirror_write(row, &content))
			return OWN_RACE;
	}
	request_if_ambiguous(own, &verdict);
	if (strcmp(verdict.newest->event_id, event->id) == 0)
		return OWN_SETTLED;
	own->detail = psprintf("%s is newer: %s", verdict.newest->event_id,
						   verdict.rule);
	return OWN_STALE;
}

/* Is the event later than a row that an event has written and nothing deleted? */
static bool
is_plainly_newer(const MirrorRow *row, const Event *event)
{
	return !row->state.deleted && row->state.event_id != NULL &&
		   row->state.as_of < event->created;
}

/*
 * Decide and write the own row once.  OWN_RACE: another transaction has inserted
 * it meanwhile, and is over; its event is in the history now.
 */
static OwnVerdict
try_own(OwnRow *own)
{
	Event *event = own->event;
	bool first = !event_history_has_other(event->catalog, event->object_id,
										  own->account, event->id);
	MirrorRow *row;

	/*
	 * an object without other events probably has no row: try to insert first
	 */
	own->was_new = true;
	if (first && insert_own(own, mirror_missing(own->tables, own->table,
												event->object_id, own->account)))
		return OWN_NEWEST;
	row = mirror_lock(own->tables, own->table, event->object_id, own->account,
					  own->wants_data);
	own->before = row->data;
	own->was_new = !row->state.found;
	if (own->was_new)
		return first ? OWN_RACE : settle_own(own, row);
	if (is_plainly_newer(row, event))
	{
		MirrorContent content = precedence_content(event);

		(void) mirror_write(row, &content);
		return OWN_NEWEST;
	}
	return settle_own(own, row);
}

static OwnVerdict
apply_own(OwnRow *own)
{
	OwnVerdict verdict = OWN_RACE;
	int tries = 0;

	while (verdict == OWN_RACE && retry_race(&tries))
		verdict = try_own(own);
	/* not written after all tries: see retry_race() */
	return verdict == OWN_RACE ? OWN_NEWEST : verdict;
}

/*
 * Does the row hold something newer, or the object's own event, a fetched
 * object or a page?
 */
static bool
keeps_out_fill(const MirrorState *state, const SnapshotRow *fill,
			   const Event *event)
{
	if (state->event_id == NULL || state->deleted ||
		state->as_of > event->created ||
		(state->as_of == event->created &&
		 strcmp(state->event_id, event->id) > 0))
		return true;
	return event_history_has_other(fill->type, fill->id, fill->account, "") ||
		   precedence_listed_by(state->event_id, fill->account, fill->type,
								fill->id);
}

/*
 * Write an object that is embedded in another object's event.  It replaces only
 * a row that no own event, no page and no fetched object has written; a row
 * with the same content is not even locked.
 */
void
mirror_fill(OpenTables *tables, Event *event, SnapshotRow *fill)
{
	MirrorTable *table = table_cache_find(fill->type, TABLE_WRITE);
	MirrorContent content = precedence_content(event);
	MirrorState state;
	Jsonb *data;
	int tries = 0;

	if (table == NULL)
		return;
	content.object = fill->object;
	content.deleted = false;
	if (mirror_peek(table, fill->id, fill->account, &state, &data) &&
		((data != NULL && json_same(&data->root, fill->object)) ||
		 keeps_out_fill(&state, fill, event)))
		return;
	while (retry_race(&tries))
	{
		MirrorRow *row = mirror_lock(tables, table, fill->id, fill->account,
									 false);

		if ((row->state.found && keeps_out_fill(&row->state, fill, event)) ||
			mirror_write(row, &content))
			return;
	}
}

/*
 * Does the object have a page of children that do not name their parent?  They
 * are found in the parent's former snapshot, which is read with its lock.
 */
static bool
pages_need_before(const Event *event)
{
	for (int i = 0; i < event->catalog->npages; i++)
	{
		const CatalogPage *page = &event->catalog->pages[i];
		MirrorTable *table;

		if (object_page(event->object, page->field, NULL) == NULL)
			continue;
		table = table_cache_find(catalog_page_type(page), TABLE_WRITE);
		if (table != NULL && children_back(page, table) == NULL)
			return true;
	}
	return false;
}

/*
 * Request the object again if one of its pages is cut short: the rest of the page
 * is then fetched (refetch.c).
 */
void
mirror_ask_for_rest(Event *event)
{
	for (int i = 0; i < event->catalog->npages; i++)
	{
		bool complete;

		if (object_page(event->object, event->catalog->pages[i].field,
						&complete) != NULL &&
			!complete)
		{
			refetch_request_add_after(
				event->catalog, event->object_id,
				object_account(event->catalog, event->account),
				"an embedded page was cut short", event->created);
			return;
		}
	}
}

/*
 * Write the rows after the own one: children, sweeps and fills, in lock order.
 */
static void
apply_rest(OwnRow *own, List *rows, OwnVerdict verdict)
{
	bool lists = verdict == OWN_NEWEST && !event_type_deletes(own->event->type);
	LateChildren *late = NULL;
	ListCell *cell;

	if (lists)
		rows = children_to_sweep(own->event, rows, own->was_new, own->before);
	else if (own->history != NULL)
	{
		late = late_children_begin(own->tables, own->history,
								   own->event->account, own->event->created);
		rows = late_children_rows(late, rows);
	}
	foreach(cell, rows)
	{
		SnapshotRow *row = lfirst(cell);

		if (row->part == PART_CHILD && lists)
			children_list(own->tables, own->event, row, own->was_new);
		else if (row->part == PART_SWEEP)
			children_sweep(own->tables, own->event, row);
		else if (row->part == PART_LATE)
			late_children_write(late, row);
		else if (row->part == PART_FILL)
			mirror_fill(own->tables, own->event, row);
	}
	if (verdict != OWN_STALE)
		mirror_ask_for_rest(own->event);
}

/* Write the fills before the own row, in lock order; returns the other rows. */
static List *
fill_before_own(OpenTables *tables, Event *event, List *rows)
{
	List *rest = NIL;
	bool before = true;
	ListCell *cell;

	foreach(cell, rows)
	{
		SnapshotRow *row = lfirst(cell);

		if (row->part == PART_OWN)
			before = false;
		else if (before && row->part == PART_FILL)
			mirror_fill(tables, event, row);
		else
			rest = lappend(rest, row);
	}
	return rest;
}

/* Write what is embedded in an object that has no row of its own. */
static const char *
fill_embedded(Event *event, char **detail)
{
	OpenTables tables = {NIL};
	ListCell *cell;

	foreach(cell,
			snapshot_rows(event->holder, "", event->account, event->object))
		if (((SnapshotRow *) lfirst(cell))->part == PART_FILL)
			mirror_fill(&tables, event, lfirst(cell));
	mirror_close_tables(&tables);
	*detail = event->unmirrored;
	return "ignored";
}

/*
 * Apply the event's object to the mirror.  Returns the event's status:
 * "applied", "stale" or "ignored"; *detail says why it is not applied.
 */
const char *
mirror_apply(Event *event, char **detail)
{
	OpenTables tables = {NIL};
	OwnRow own = {.tables = &tables, .event = event};
	OwnVerdict verdict;
	List *rest;

	if (event->catalog == NULL)
		return fill_embedded(event, detail);
	own.table = table_cache_find(event->catalog, TABLE_WRITE);
	if (own.table == NULL)
	{
		*detail = psprintf("%s, then stripe_sync.replay(%s)",
						   table_lacking(event->catalog),
						   quote_literal_cstr(event->id));
		return "ignored";
	}
	table_cache_pin(own.table);
	children_locks_take(list_make1(event));
	own.account = object_account(event->catalog, event->account);
	own.wants_data = pages_need_before(event);
	rest = fill_before_own(&tables, event,
						   snapshot_rows(event->catalog, event->object_id,
										 event->account, event->object));
	verdict = apply_own(&own);
	apply_rest(&own, rest, verdict);
	mirror_close_tables(&tables);
	table_cache_unpin(own.table);
	*detail = own.detail;
	return verdict == OWN_STALE ? "stale" : "applied";
}

/* ---- code of table owners ---- */

typedef struct OwnersCode
{
	Event *event;
	bool may_run;
} OwnersCode;

static bool
runs_owners_code(const CatalogType *type)
{
	MirrorTable *table = type->table != NULL
							 ? table_cache_find(type, TABLE_WRITE)
							 : NULL;

	return table != NULL && table->runs_code;
}

/* A type's table, or one of those of its children. */
static bool
may_run_owners_code(const CatalogType *type)
{
	bool may = runs_owners_code(type);

	for (int i = 0; !may && i < type->npages; i++)
		may = runs_owners_code(catalog_page_type(&type->pages[i]));
	return may;
}

static void
find_owners_code(void *arg)
{
	OwnersCode *code = arg;
	Event *event = code->event;
	const CatalogType *type = event->catalog ? event->catalog : event->holder;
	ListCell *cell;

	code->may_run = may_run_owners_code(type);
	foreach(cell, snapshot_rows(type, event->catalog ? event->object_id : "",
								event->account, event->object))
	{
		if (code->may_run)
			break;
		code->may_run = runs_owners_code(((SnapshotRow *) lfirst(cell))->type);
	}
}

/*
 * May code of a table's owner run when this event is applied?  True if this
 * cannot be determined, because a table cannot be used.  If not, the caller's
 * deferred triggers need not be fired before.  The tables are locked by this.
 */
bool
mirror_enters_scope(Event *event)
{
	OwnersCode code = {event, false};
	ErrorData *error;

	if (event->catalog == NULL && event->holder == NULL)
		return false;
	if (!subtransaction_run(find_owners_code, &code, NULL, &error))
		return true;
	return code.may_run;
}
