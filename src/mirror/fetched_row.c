/*
 * fetched_row.c
 *		Applies an object fetched from Stripe's API to its row.
 *
 * A fetched object contains everything that happened up to its time.  Events up
 * to that time are older, later events are newer, and of two fetched objects
 * the later is newer, in whatever order they arrive.  So _as_of rises even if
 * nothing else changes.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "mirror/mirror.h"
#include "tables/tables.h"
#include "types/object.h"
#include "types/types.h"
#include "mirror/internal.h"

typedef enum RowVerdict
{
	ROW_WRITTEN,
	ROW_STALE,
	ROW_RACE
} RowVerdict;

/*
 * May a fetched object replace the row, if no event of the object is later?  Not
 * if a later fetch, or a later page of a parent, has written it.
 */
static bool
gives_way(const FetchedRow *fetched, const MirrorRow *row)
{
	const MirrorState *state = &row->state;
	bool known;

	if (!state->found || state->as_of <= fetched->content.as_of)
		return true;
	if (state->event_id == NULL)
		return false;
	/* an object embedded in another gives way to any fetched one, a page does not */
	if (strcmp(state->event_id, FILLED_BY_FETCHED) == 0)
		return true;
	return !event_history_is_own(state->event_id, row->account, fetched->type,
								 row->id, &known) &&
		   known &&
		   !precedence_listed_by(state->event_id, row->account, fetched->type,
								 row->id);
}

/* No stored event is later than the fetched object: write it. */
static RowVerdict
write_fetched(FetchedRow *fetched, MirrorRow *row, Version *newest)
{
	const MirrorState *state = &row->state;
	MirrorContent content = fetched->content;

	if (fetched->gone)
		content = fetched_gone_content(row, fetched->history, newest, NULL,
									   content.as_of, DT_NOEND);
	else
	{
		EventHistory empty = {fetched->type, row->id, row->account, NIL, NIL};

		precedence_find_tombstone(
			state, fetched->history != NULL ? fetched->history : &empty,
			fetched->account, TABLE_WRITE, &content);
		/* one response may have the same object several times */
		if (state->found && state->event_id == NULL &&
			state->as_of == content.as_of && state->deleted == content.deleted &&
			(!content.deleted || state->deleted_at == content.deleted_at) &&
			mirror_row_has_data(row, content.object))
			return ROW_WRITTEN;
	}
	fetched_note_replaced(row, &content);
	return mirror_write(row, &content) ? ROW_WRITTEN : ROW_RACE;
}

/* An event is later: the row gets its snapshot, unless it has it already. */
static RowVerdict
write_newest(FetchedRow *fetched, MirrorRow *row, Version *newest)
{
	const MirrorState *state = &row->state;
	MirrorContent content;

	fetched->detail = psprintf("%s is newer than the fetched object",
							   newest->event_id);
	if (state->found &&
		(precedence_state_is_newer(state, fetched->history, newest) ||
		 (state->event_id != NULL &&
		  strcmp(state->event_id, newest->event_id) == 0)))
		return ROW_STALE;
	content = precedence_content(version_event(newest));
	precedence_find_tombstone(state, fetched->history, fetched->account,
							  TABLE_WRITE, &content);
	fetched_note_replaced(row, &content);
	return mirror_write(row, &content) ? ROW_STALE : ROW_RACE;
}

/* The row holds a later fetched object. */
static RowVerdict
lose_to_fetched(FetchedRow *fetched, MirrorRow *row, Version *newest)
{
	TimestampTz as_of = fetched->content.as_of;
	bool last = !fetched->gone &&
				as_of == event_history_alive_at(fetched->history);

	fetched->detail = pstrdup(
		"the mirror holds an object that was fetched later");
	fetched_gone_settle_missed(row, fetched->history, newest,
							   last ? fetched->content.object : NULL,
							   fetched->gone ? as_of : DT_NOEND);
	return ROW_STALE;
}

/* The object's history, with the fetched objects of the row and of this fetch. */
static void
read_fetched_history(FetchedRow *fetched, MirrorRow *row)
{
	EventHistory *history = fetched_note_read_history(fetched->type, row->id,
													  row->account);

	event_history_add_row(history, &row->state, row->data);
	if (!fetched->gone)
		event_history_add_fetched(history, fetched->content.as_of,
								  fetched->content.object);
	fetched->history = history;
}

/*
 * Note a fetched object that is not written, unless the row holds a later one
 * with the same complete pages.
 */
static void
note_stale(const FetchedRow *fetched, const MirrorRow *row)
{
	JsonbContainer *object = fetched->content.object;

	former_reading_note(fetched->type, row->id, row->account,
						fetched->content.as_of, fetched->gone ? NULL : object,
						false);
	if (fetched->gone || !fetched_note_is_kept(fetched->type))
		return;
	if (row->state.found && mirror_state_is_fetched_alive(&row->state) &&
		!fetched_note_knows_more(fetched->type, object,
								 row->data != NULL ? &row->data->root : NULL))
		return;
	fetched_note_write(fetched->type, row->id, row->account,
					   fetched->content.as_of, object);
}

/* The row alone does not decide: read the object's history. */
static RowVerdict
settle_fetched(FetchedRow *fetched, MirrorRow *row)
{
	TimestampTz as_of = fetched->content.as_of;
	bool late = row->state.found && row->state.event_id == NULL &&
				row->state.as_of > as_of;
	Version *newest = NULL;
	RowVerdict verdict;

	read_fetched_history(fetched, row);
	if (fetched->history->versions != NIL)
		newest = newest_find(fetched->history).newest;
	if (newest != NULL && newest->created > (late ? row->state.as_of : as_of))
		verdict = write_newest(fetched, row, newest);
	else if (late)
		verdict = lose_to_fetched(fetched, row, newest);
	else if (gives_way(fetched, row))
		return write_fetched(fetched, row, newest);
	else
	{
		fetched->detail = pstrdup("the mirror holds a newer state");
		verdict = ROW_STALE;
	}
	if (verdict == ROW_STALE)
		note_stale(fetched, row);
	return verdict;
}

/* Decide and write while the row is locked. */
static RowVerdict
try_row(FetchedRow *fetched, MirrorTable *table)
{
	const CatalogType *type = fetched->type;
	const char *account = object_account(type, fetched->account);
	TimestampTz as_of = fetched->content.as_of;
	MirrorRow *row = mirror_lock(fetched->tables, table, fetched->id, account,
								 true);

	/* after the lock: a session that stores an event later sees this fetch */
	fetched->was_new = !row->state.found;
	fetched->before = row->data;
	if (!fetched->gone && gives_way(fetched, row) &&
		(type->nevent_types == 0 ||
		 !event_history_has_later(type, fetched->id, account, as_of)))
		return write_fetched(fetched, row, NULL);
	return settle_fetched(fetched, row);
}

/*
 * Apply a fetched object to its row.  Returns false when it is stale: the mirror
 * holds a newer state, or does so now.
 */
bool
fetched_row_apply(FetchedRow *fetched)
{
	MirrorTable *table = table_cache_find(fetched->type, TABLE_WRITE);
	RowVerdict verdict = ROW_RACE;
	int tries = 0;

	while (verdict == ROW_RACE && retry_race(&tries))
		verdict = try_row(fetched, table);
	/* not written after all tries: see retry_race() */
	return verdict != ROW_STALE;
}

/* The same for a child that a page of a fetched object lists. */
void
fetched_row_apply_child(OpenTables *tables, SnapshotRow *child,
						const MirrorContent *content)
{
	FetchedRow fetched = {.tables = tables,
						  .type = child->type,
						  .id = child->id,
						  .account = child->account,
						  .content = *content};

	if (table_cache_find(child->type, TABLE_WRITE) != NULL)
		(void) fetched_row_apply(&fetched);
}
