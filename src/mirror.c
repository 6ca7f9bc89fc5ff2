/*
 * mirror.c
 *		An event's snapshot goes into the mirror.
 *
 * Rows are locked and written in one order: (rank of the type, id).  The own
 * row comes before its pages' children, and whether the event's snapshot is the
 * newest is decided while the own row is locked.  In the usual case, a snapshot
 * later than what the row holds, the row itself tells; in every other one the
 * set of stored events does (order.c).
 */
#include "stripe_sync.h"

#include "utils/builtins.h"

/* Losing the race for a new row over and over means something else is wrong. */
#define MAX_RACES 10

typedef enum OwnVerdict
{
	OWN_NEWEST,	 /* written; its pages are the newest too */
	OWN_SETTLED, /* decided from the set: pages must be folded */
	OWN_STALE	 /* likewise, and it isn't the newest */
} OwnVerdict;

typedef struct OwnPass
{
	MirrorPass *pass;
	Event *event;
	MirrorTable *table;
	const char *account;
	bool wants_data; /* the former snapshot is needed for a sweep */
	bool was_new;
	Jsonb *before;	  /* the former snapshot */
	History *history; /* when the set was asked */
	char *detail;
} OwnPass;

/* An object that says of itself that it is deleted, or whose event says so. */
static bool
tells_deletion(const char *event_type, JsonbContainer *object)
{
	JsonbValue value;

	return event_type_deletes(event_type) ||
		   (json_get(object, "deleted", &value) && value.type == jbvBool &&
			value.val.boolean);
}

static MirrorContent
content_of(Event *event)
{
	MirrorContent content = {
		.object = event->object,
		.as_of = event->created,
		.event_id = event->id,
		.deleted = tells_deletion(event->type, event->object),
		.deleted_at = event->created,
	};

	return content;
}

/* The first event of the object, as far as the mirror knows. */
static bool
insert_own(OwnPass *own, MirrorRow *row)
{
	Event *event = own->event;
	MirrorContent content = content_of(event);

	own->was_new = true;
	if (!content.deleted)
		content.deleted = children_swept(event->catalog, event->object_id,
										 own->account, event->object,
										 event->created, &content.deleted_at);
	return mirror_write(row, &content);
}

/* Does the page of another object's event list this one? */
static bool
listed_by_event(const char *event_id, const CatalogType *type, const char *id)
{
	Event event;

	if (!inbox_load(event_id, NULL, &event) || event.catalog == NULL)
		return false;
	for (int i = 0; i < event.catalog->npages; i++)
	{
		JsonbContainer *page = snapshot_page(
			event.object, event.catalog->pages[i].field, NULL);

		if (page != NULL && snapshot_page_lists(page, type->object, id))
			return true;
	}
	return false;
}

/*
 * Does the row hold something newer than the newest own event?  It may come
 * from a reading, from a parent's page, or from an own event since pruned.
 */
static bool
row_is_newer(const MirrorRow *row, const History *history, const Version *newest)
{
	const MirrorState *state = &row->state;
	bool known;

	if (state->event_id == NULL)
		return state->as_of > newest->created;
	if (history_find(history, state->event_id) != NULL)
		return false;
	(void) history_event_is_own(state->event_id, history->type, history->id,
								&known);
	if (!known)
		return state->as_of >= newest->created;
	return state->as_of > newest->created &&
		   listed_by_event(state->event_id, history->type, history->id);
}

/*
 * What becomes of a tombstone when the newest snapshot is alive?  One that a
 * later page put on it stays; the object's own deletion is over.
 */
static void
keep_sweep(const MirrorRow *row, const History *history, MirrorContent *content)
{
	const MirrorState *state = &row->state;
	Version *written = state->event_id ? history_find(history, state->event_id)
									   : NULL;
	bool own_deletion = written != NULL &&
						event_type_deletes(written->event_type);

	if (content->deleted || !state->deleted || own_deletion ||
		state->deleted_at <= content->as_of)
		return;
	content->deleted = true;
	content->deleted_at = state->deleted_at;
}

static void
ask_when_ambiguous(OwnPass *own, const Verdict *verdict)
{
	if (verdict->ambiguous)
		reread_ask(own->event->catalog, own->event->object_id, own->account,
				   "the order of events within one second is ambiguous",
				   verdict->newest->created + 3 * USECS_PER_SEC);
}

/* Decide from the set of stored events, and make the row what it says. */
static OwnVerdict
settle_own(OwnPass *own, MirrorRow *row)
{
	Event *event = own->event;
	Verdict verdict;

	own->history = history_read(event->catalog, event->object_id, own->account);
	if (own->history->versions == NIL)
		elog(ERROR, "event \"%s\" is not in the inbox", event->id);
	verdict = order_newest(own->history);
	if (row_is_newer(row, own->history, verdict.newest))
	{
		own->detail = psprintf("the mirror holds a newer state of %s",
							   event->object_id);
		return OWN_STALE;
	}
	if (row->state.event_id == NULL ||
		strcmp(row->state.event_id, verdict.newest->event_id) != 0 ||
		strcmp(verdict.newest->event_id, event->id) == 0)
	{
		MirrorContent content = content_of(history_event(verdict.newest));

		keep_sweep(row, own->history, &content);
		(void) mirror_write(row, &content);
	}
	ask_when_ambiguous(own, &verdict);
	if (strcmp(verdict.newest->event_id, event->id) == 0)
		return OWN_SETTLED;
	own->detail = psprintf("%s is newer: %s", verdict.newest->event_id,
						   verdict.rule);
	return OWN_STALE;
}

static bool
plainly_newer(const MirrorRow *row, const Event *event)
{
	return !row->state.deleted && row->state.event_id != NULL &&
		   row->state.as_of < event->created;
}

static OwnVerdict
apply_own(OwnPass *own)
{
	for (int race = 0; race < MAX_RACES; race++)
	{
		MirrorRow *row = mirror_lock(own->pass, own->table,
									 own->event->object_id, own->account,
									 own->wants_data);

		own->before = row->data;
		own->was_new = false;
		if (!row->state.found)
		{
			if (insert_own(own, row))
				return OWN_NEWEST;
		}
		else if (plainly_newer(row, own->event))
		{
			MirrorContent content = content_of(own->event);

			(void) mirror_write(row, &content);
			return OWN_NEWEST;
		}
		else
			return settle_own(own, row);
	}
	return OWN_NEWEST; /* a user's trigger keeps the row out */
}

/*
 * An object embedded in another's event fills a row that no event of its own
 * and no reading has written; one that is there already is not even locked.
 */
static void
fill(MirrorPass *pass, Event *event, SnapshotRow *fill)
{
	MirrorTable *table = table_find(fill->type);
	MirrorState state;
	Jsonb *data;
	MirrorRow *row;
	MirrorContent content = content_of(event);
	bool known;

	if (table == NULL)
		return;
	content.object = fill->object;
	content.deleted = false;
	if (mirror_peek(table, fill->id, fill->account, &state, &data) &&
		(state.event_id == NULL || state.as_of > event->created ||
		 (data != NULL && json_same(&data->root, fill->object)) ||
		 history_event_is_own(state.event_id, fill->type, fill->id, &known) ||
		 !known))
		return;
	row = mirror_lock(pass, table, fill->id, fill->account, false);
	if (row->state.found &&
		(row->state.event_id == NULL || row->state.deleted ||
		 row->state.as_of > event->created ||
		 (row->state.as_of == event->created &&
		  strcmp(row->state.event_id, event->id) > 0) ||
		 history_event_is_own(row->state.event_id, fill->type, fill->id, &known) ||
		 !known))
		return;
	(void) mirror_write(row, &content);
}

static bool
pages_need_before(const CatalogType *type)
{
	for (int i = 0; i < type->npages; i++)
		if (type->pages[i].back == NULL)
			return true;
	return false;
}

/* Ask for the rest of pages that were cut short. */
static void
ask_for_rest(OwnPass *own)
{
	Event *event = own->event;

	for (int i = 0; i < event->catalog->npages; i++)
	{
		bool complete;

		if (snapshot_page(event->object, event->catalog->pages[i].field,
						  &complete) != NULL &&
			!complete)
		{
			reread_ask(event->catalog, event->object_id, own->account,
					   "an embedded page was cut short", event->created);
			return;
		}
	}
}

/* After the own row: children, sweeps and fills, in the order of locks. */
static void
apply_rest(OwnPass *own, List *rows, OwnVerdict verdict)
{
	bool lists = verdict == OWN_NEWEST && !event_type_deletes(own->event->type);
	ListCell *cell;

	if (lists)
		rows = children_to_sweep(own->event, rows, own->was_new, own->before);
	else if (own->history != NULL)
		children_fold(own->pass, own->history, own->event->created);
	foreach(cell, rows)
	{
		SnapshotRow *row = lfirst(cell);

		if (row->part == PART_CHILD && lists)
			children_list(own->pass, own->event, row);
		else if (row->part == PART_SWEEP)
			children_sweep(own->pass, own->event, row);
		else if (row->part == PART_FILL)
			fill(own->pass, own->event, row);
	}
	if (verdict != OWN_STALE)
		ask_for_rest(own);
}

/* Fills that come before the own row; returns the rows after it. */
static List *
fill_before_own(MirrorPass *pass, Event *event, List *rows)
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
			fill(pass, event, row);
		else
			rest = lappend(rest, row);
	}
	return rest;
}

/*
 * Bring the event's object into the mirror.  Returns the event's status:
 * "applied", "stale" or "ignored"; *detail says why it isn't applied.
 */
const char *
mirror_apply(Event *event, char **detail)
{
	MirrorPass pass = {NIL};
	OwnPass own = {.pass = &pass, .event = event};
	OwnVerdict verdict;
	List *rest;

	own.table = table_find(event->catalog);
	if (own.table == NULL)
	{
		*detail = psprintf(
			"there is no table %s.%s: call stripe_sync.create_tables(ARRAY[%s]), then stripe_sync.replay(%s)",
			MIRROR_SCHEMA, event->catalog->table,
			quote_literal_cstr(event->catalog->object),
			quote_literal_cstr(event->id));
		return "ignored";
	}
	own.account = snapshot_account(event->catalog, event->account);
	own.wants_data = pages_need_before(event->catalog);
	rest = fill_before_own(&pass, event,
						   snapshot_rows(event->catalog, event->object_id,
										 event->account, event->object));
	verdict = apply_own(&own);
	apply_rest(&own, rest, verdict);
	mirror_pass_end(&pass);
	*detail = own.detail;
	return verdict == OWN_STALE ? "stale" : "applied";
}
