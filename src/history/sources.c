/*
 * sources.c
 *		What is known of one object, in the order of time: kept rows, stored
 *		events, what fetches found, and what the mirror's row holds.
 *
 * The events are the object's own.  Objects of a type without events of its own
 * have those of their parents, whose pages list them.  Only names and times are
 * read here, of events.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "base/base.h"
#include "history/internal.h"
#include "types/types.h"

static Slot *
add_slot(Timeline *timeline, SlotKind kind, TimestampTz at)
{
	Slot *slot = palloc0(sizeof(Slot));

	slot->kind = kind;
	slot->at = at;
	slot->order = list_length(timeline->slots);
	timeline->slots = lappend(timeline->slots, slot);
	return slot;
}

static void
add_kept(Timeline *timeline)
{
	ListCell *cell;

	foreach(cell, kept_read(timeline->type, timeline->id, timeline->account))
	{
		KeptPoint *kept = lfirst(cell);

		add_slot(timeline, SLOT_KEPT, kept->at)->kept = kept;
	}
}

static void
add_events(Timeline *timeline, EventHistory *history, bool of_parent)
{
	ListCell *cell;

	foreach(cell, history->versions)
	{
		Version *version = lfirst(cell);
		Slot *slot = add_slot(timeline, SLOT_EVENT, version->created);

		slot->version = version;
		slot->parent = of_parent ? history : NULL;
	}
}

static Slot *
add_reading(Timeline *timeline, TimestampTz at, Jsonb *object)
{
	Slot *slot = add_slot(timeline, SLOT_READING, at);

	slot->object = object;
	slot->describes = true;
	return slot;
}

/* What earlier fetches found of the object, or of a parent. */
static void
add_readings(Timeline *timeline, const CatalogType *type, const char *id,
			 EventHistory *parent)
{
	ListCell *cell;

	foreach(cell, former_reading_list(type, id, timeline->account))
	{
		FormerReading *reading = lfirst(cell);

		if (reading->object != NULL || parent == NULL)
			add_reading(timeline, reading->as_of, reading->object)->parent =
				parent;
	}
}

/* ---- parents ---- */

static List *
add_parent(List *ids, const char *id)
{
	return id == NULL || id[0] == '\0'
			   ? ids
			   : list_append_unique(ids, makeString(pstrdup(id)));
}

/* The parent that the row names, by the field of one of the parent's pages. */
static List *
add_named(List *ids, const CatalogType *parent, const Timeline *timeline,
		  const RowFound *row)
{
	for (int i = 0; row->data != NULL && i < parent->npages; i++)
	{
		const CatalogPage *page = &parent->pages[i];
		JsonbValue value;

		if (page->back == NULL ||
			strcmp(page->child, timeline->type->object) != 0 ||
			!json_get(&row->data->root, page->back, &value))
			continue;
		if (value.type == jbvString)
			ids = add_parent(
				ids, pnstrdup(value.val.string.val, value.val.string.len));
		else if (json_is_object(&value))
			ids = add_parent(ids, json_get_string(value.val.binary.data, "id"));
	}
	return ids;
}

/* The parent whose event has written the row. */
static List *
add_writer(List *ids, const CatalogType *parent, const Timeline *timeline,
		   const RowFound *row)
{
	static EngineStatement select = {
		"SELECT object_id FROM stripe_sync.event"
		" WHERE id = $1 AND object_type = $2 ORDER BY account = $3 DESC LIMIT 1"};

	if (!row->found || row->state.event_id == NULL)
		return ids;
	return add_parent(
		ids, statement_text(&select, ARGS(arg_text(row->state.event_id),
										  arg_text(parent->object),
										  arg_text(timeline->account))));
}

static void
add_parents_sources(Timeline *timeline, const CatalogType *type, const char *id)
{
	EventHistory *history = event_history_read(type, id, timeline->account);

	add_events(timeline, history, true);
	add_readings(timeline, type, id, history);
}

/* The parents' events and fetches, of an object that is only listed. */
static void
add_parents(Timeline *timeline, const RowFound *row)
{
	List *kept = timeline->slots;
	ListCell *type;
	ListCell *cell;

	foreach(type, child_parent_types(timeline->type))
	{
		const CatalogType *parent = lfirst(type);
		List *ids = NIL;

		foreach(cell, kept)
			if (((Slot *) lfirst(cell))->kind == SLOT_KEPT)
				ids = add_parent(ids, ((Slot *) lfirst(cell))->kept->parent);
		ids = add_named(ids, parent, timeline, row);
		ids = add_writer(ids, parent, timeline, row);
		foreach(cell, ids)
			add_parents_sources(timeline, parent, strVal(lfirst(cell)));
	}
}

/* ---- the mirror's row ---- */

static bool
has_event(const Timeline *timeline, const char *event_id)
{
	ListCell *cell;

	foreach(cell, timeline->slots)
	{
		const Slot *slot = lfirst(cell);
		const char *id = slot->kind == SLOT_EVENT  ? slot->version->event_id
						 : slot->kind == SLOT_KEPT ? slot->kept->event_id
												   : NULL;

		if (id != NULL && strcmp(id, event_id) == 0)
			return true;
	}
	return false;
}

static bool
has_time(const Timeline *timeline, TimestampTz at)
{
	ListCell *cell;

	foreach(cell, timeline->slots)
		if (((Slot *) lfirst(cell))->at == at)
			return true;
	return false;
}

/*
 * What the row holds counts as a fetched object, if no event that is known has
 * written it: it was fetched, or is embedded in another object, or its event was
 * pruned.
 */
static void
add_row(Timeline *timeline, const RowFound *row)
{
	const MirrorState *state = &row->state;
	bool swept = state->deleted && state->deleted_at > state->as_of;
	Slot *slot;

	if (!row->found)
		return;
	if ((state->event_id == NULL || !has_event(timeline, state->event_id)) &&
		(swept || !state->deleted))
		add_reading(timeline, state->as_of, row->data);
	if (!state->deleted || has_time(timeline, state->deleted_at))
		return;
	slot = add_reading(timeline, state->deleted_at, NULL);
	slot->ends_life = state->event_id != NULL && !swept;
	/* the page of an event, that left out an object with own events */
	slot->describes = !swept || child_is_only_listed(timeline->type);
}

/* ---- order ---- */

static int
compare_slots(const ListCell *a, const ListCell *b)
{
	const Slot *left = lfirst(a);
	const Slot *right = lfirst(b);

	if (left->at != right->at)
		return left->at < right->at ? -1 : 1;
	if (left->kind != right->kind)
		return (int) left->kind - (int) right->kind;
	return left->order - right->order;
}

/* All that is known of an object; "row" is that of the mirror. */
Timeline *
timeline_read(const CatalogType *type, const char *id, const char *account,
			  const RowFound *row)
{
	Timeline *timeline = palloc0(sizeof(Timeline));

	timeline->type = type;
	timeline->id = id;
	timeline->account = account;
	add_kept(timeline);
	if (child_is_only_listed(type))
		add_parents(timeline, row);
	else
		add_events(timeline, event_history_read(type, id, account), false);
	add_readings(timeline, type, id, NULL);
	timeline->sources = list_length(timeline->slots);
	timeline->has_row = row->found;
	add_row(timeline, row);
	list_sort(timeline->slots, compare_slots);
	timeline->former.is_none = true;
	state_copy_init(&timeline->former.state);
	state_copy_init(&timeline->kept);
	timeline->second = AllocSetContextCreate(
		CurrentMemoryContext, "stripe_sync second", ALLOCSET_DEFAULT_SIZES);
	return timeline;
}

/* Is anything known beside the mirror's row? */
bool
timeline_has_sources(const Timeline *timeline)
{
	return timeline->sources > 0;
}

/* The time of the last kept point; DT_NOBEGIN: there is none. */
TimestampTz
timeline_last_kept(const Timeline *timeline)
{
	TimestampTz last = DT_NOBEGIN;
	ListCell *cell;

	foreach(cell, timeline->slots)
	{
		const Slot *slot = lfirst(cell);

		if (slot->kind == SLOT_KEPT)
			last = Max(last, slot->at);
	}
	return last;
}
