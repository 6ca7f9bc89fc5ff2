/*
 * predecessor.c
 *		The state that a simulated event follows: the object as it is stored, and
 *		whether the new event will be the newest one in the order of events.
 *
 * "created" has whole seconds.  Events of one second are ordered by their
 * previous_attributes; if these allow several orders, the event has to wait for
 * the next second.  No row is locked: two sessions that simulate events of one
 * object at a time get an order, but not a particular one.
 */
#include "postgres.h"

#include "base/subtransaction.h"
#include "inbox/event.h"
#include "mirror/mirror.h"
#include "tables/tables.h"
#include "types/object.h"
#include "types/types.h"
#include "simulate/internal.h"

/* Arguments and result of read_row_body() */
typedef struct RowRead
{
	const CatalogType *type;
	const char *id;
	const char *account;
	MirrorState *row;
	Jsonb *data;
} RowRead;

static void
read_row_body(void *arg)
{
	RowRead *read = arg;
	MirrorTable *table = table_cache_find(read->type, TABLE_WRITE);

	if (table != NULL)
		(void) mirror_peek(table, read->id, read->account, read->row,
						   &read->data);
}

/*
 * The object's mirror row, if there is one.  An error is ignored: the mirror
 * step of the simulated event will meet it and report it.
 */
static Jsonb *
read_row(const EventHistory *history, MirrorState *row)
{
	RowRead read = {history->type, history->id, history->account, row, NULL};
	ErrorData *error;

	if (!subtransaction_run(read_row_body, &read, NULL, &error))
		memset(row, 0, sizeof(*row));
	return read.data;
}

static JsonbContainer *
content(Version *version)
{
	return version_event(version)->object;
}

/*
 * The object's present state: of the newest event, or of the row where that is
 * newer (fetched from Stripe, or embedded in another object).
 */
static void
find_now(Predecessor *found, Jsonb *data)
{
	Verdict verdict;

	found->is_dead = found->row.deleted;
	if (data != NULL)
		found->now = &data->root;
	if (found->history->versions == NIL)
		return;
	verdict = newest_find(found->history);
	if (found->row.found &&
		precedence_state_is_newer(&found->row, found->history, verdict.newest))
		return;
	found->now = content(verdict.newest);
	if (!found->row.found)
		found->is_dead = event_type_deletes(verdict.newest->event_type);
}

/* The versions created at that time or before */
static List *
until_then(List *versions, TimestampTz until)
{
	List *former = NIL;
	ListCell *cell;

	foreach(cell, versions)
		if (((Version *) lfirst(cell))->created <= until)
			former = lappend(former, lfirst(cell));
	return former;
}

/* The object's state at a time, by its events; NULL if there is none before. */
static JsonbContainer *
state_at(const EventHistory *history, TimestampTz until)
{
	EventHistory former = *history;

	former.versions = until_then(history->versions, until);
	former.fetched = until_then(history->fetched, until);
	return former.versions == NIL ? NULL : content(newest_find(&former).newest);
}

/*
 * Find what an event of the object follows.  "until" is the event's time,
 * DT_NOEND for now.
 */
Predecessor *
predecessor_find(const CatalogType *type, const char *id, const char *account,
				 TimestampTz until)
{
	Predecessor *found = palloc0(sizeof(Predecessor));
	Jsonb *data;

	found->history = fetched_note_read_history(type, id,
											   object_account(type, account));
	data = read_row(found->history, &found->row);
	event_history_add_row(found->history, &found->row, data);
	find_now(found, data);
	found->before = until == DT_NOEND ? found->now
									  : state_at(found->history, until);
	return found;
}

/* Is there neither an event nor a row of the object? */
bool
predecessor_is_none(const Predecessor *predecessor)
{
	return predecessor->history->versions == NIL && !predecessor->row.found;
}

/* The time of the last event or fetched state of the object. */
TimestampTz
predecessor_last(const Predecessor *predecessor)
{
	const EventHistory *history = predecessor->history;
	TimestampTz last = event_history_alive_at(history);

	if (history->versions != NIL)
		last = Max(last, ((Version *) llast(history->versions))->created);
	if (predecessor->row.found && predecessor->row.event_id == NULL)
		last = Max(last, predecessor->row.as_of);
	return last;
}

/* The versions with the event inserted, by created and id. */
static List *
with_event(const List *versions, Event *event)
{
	Version *version = palloc0(sizeof(Version));
	int i = 0;

	version->event_id = event->id;
	version->event_account = event->account;
	version->event_type = event->type;
	version->created = event->created;
	version->event = event;
	while (i < list_length(versions))
	{
		const Version *other = list_nth(versions, i);

		if (other->created > version->created ||
			(other->created == version->created &&
			 strcmp(other->event_id, version->event_id) > 0))
			break;
		i++;
	}
	return list_insert_nth(list_copy(versions), i, version);
}

/* Would the event, once stored, be the newest one without ambiguity? */
bool
predecessor_is_followed(const Predecessor *predecessor, Event *event)
{
	const MirrorState *row = &predecessor->row;
	EventHistory history = *predecessor->history;
	Verdict verdict;

	if (row->found && row->event_id == NULL && row->as_of >= event->created)
		return false;
	history.versions = with_event(history.versions, event);
	verdict = newest_find(&history);
	return !verdict.ambiguous &&
		   strcmp(verdict.newest->event_id, event->id) == 0;
}
