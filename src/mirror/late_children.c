/*
 * late_children.c
 *		Children of a parent whose event or fetched object arrives late, or in
 *		the same second as others.
 *
 * The pages of the parent's stored events and known fetched versions are applied
 * in their order, from that second on.  Two passes: late_children_begin() and
 * late_children_rows() find the children, so that their rows can be locked in
 * order with others; late_children_write() then writes them one by one.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "base/base.h"
#include "inbox/event.h"
#include "mirror/mirror.h"
#include "tables/tables.h"
#include "types/types.h"
#include "mirror/internal.h"

/* A child, by the parent's versions from that second on. */
typedef struct LateChild
{
	SnapshotRow *key;
	SnapshotRow *listing; /* in the last version that lists it, or NULL */
	int listed_at;		  /* index of that version, or -1 */
	SnapshotRow *fetched; /* in the last fetched object that lists it, or NULL */
	int fetched_at;
} LateChild;

struct LateChildren
{
	OpenTables *tables;
	EventHistory *history;
	const char *account; /* of the children */
	List *versions;		 /* in their order */
	List *children;		 /* of LateChild */
};

/* Find a child by its key, or add it. */
static LateChild *
find_or_add_child(LateChildren *late, SnapshotRow *key)
{
	LateChild *child;
	ListCell *cell;

	foreach(cell, late->children)
	{
		child = lfirst(cell);
		if (snapshot_compare(child->key, key) == 0)
			return child;
	}
	child = palloc0(sizeof(LateChild));
	child->key = key;
	child->listed_at = -1;
	late->children = lappend(late->children, child);
	return child;
}

/* Note the children that a version's own pages list. */
static void
add_version(LateChildren *late, int i)
{
	Version *version = list_nth(late->versions, i);
	Event *event = version_event(version);
	ListCell *cell;

	if (event_type_deletes(version->event_type) || event->object == NULL)
		return;
	foreach(cell, snapshot_rows(late->history->type, late->history->id,
								late->account, event->object))
	{
		SnapshotRow *row = lfirst(cell);
		LateChild *child;

		if (row->part != PART_CHILD)
			continue;
		child = find_or_add_child(late, row);
		child->listing = row;
		child->listed_at = i;
		if (version->event_id == NULL)
		{
			child->fetched = row;
			child->fetched_at = i;
		}
	}
}

/*
 * Add children that have a row already, or that former versions list: they may
 * have to be swept.
 */
static void
add_present(LateChildren *late, TimestampTz since)
{
	EventHistory *history = late->history;
	List *present = NIL;
	ListCell *cell;

	for (int i = 0; i < history->type->npages; i++)
	{
		const CatalogPage *page = &history->type->pages[i];
		const CatalogType *child = catalog_page_type(page);
		MirrorTable *table = table_cache_find(child, TABLE_WRITE);

		if (!catalog_page_sweeps(page) || table == NULL)
			continue;
		if (children_back(page, table) != NULL)
			present = children_by_back(page, child, history->id, late->account,
									   present);
		else
			present = children_listed_before(history, page, child,
											 late->account, since, present);
	}
	foreach(cell, present)
		(void) find_or_add_child(late, lfirst(cell));
}

/*
 * Write the content that a version lists, with a tombstone from the first later
 * version that leaves the child out.
 */
static void
write_listing(LateChildren *late, LateChild *child, SnapshotRow *listing, int at)
{
	Version *version = list_nth(late->versions, at);
	MirrorContent content = {listing->object, version->created,
							 version->event_id, false, 0};

	content.deleted = left_out_first(late->history, late->versions, child->key,
									 at, 0, false, &content.deleted_at);
	if (version->event_id == NULL)
		fetched_row_apply_child(late->tables, child->key, &content);
	else
		children_write(late->tables, child->key, &content);
}

/*
 * Does the row still name this parent?  A child can be moved to another one, whose
 * pages then decide.  True if it names none.
 */
static bool
names_parent(LateChildren *late, const MirrorRow *row)
{
	for (int i = 0; i < late->history->type->npages; i++)
	{
		const CatalogPage *page = &late->history->type->pages[i];
		JsonbValue json;
		Datum value;

		if (strcmp(page->child, row->table->type->object) != 0)
			continue;
		if (page->back == NULL || row->data == NULL ||
			!json_get(&row->data->root, page->back, &json) ||
			!column_value_from_json(KIND_REFERENCE, &json, &value) ||
			strcmp(TextDatumGetCString(value), late->history->id) == 0)
			return true;
	}
	return false;
}

/* Does the row hold what write_listing() writes for the last listing? */
static bool
is_from_listing(LateChildren *late, const LateChild *child, const MirrorRow *row)
{
	Version *version;

	if (child->listing == NULL)
		return false;
	version = list_nth(late->versions, child->listed_at);
	if (row->state.event_id == NULL || version->event_id == NULL)
		return row->state.event_id == version->event_id &&
			   row->state.as_of == version->created;
	return strcmp(row->state.event_id, version->event_id) == 0;
}

/* Set the tombstone of a row whose content no listing has written. */
static void
sweep_child(LateChildren *late, LateChild *child, MirrorTable *table)
{
	MirrorRow *row = mirror_lock(late->tables, table, child->key->id,
								 child->key->account, true);
	TimestampTz when;

	if (!row->state.found || children_row_is_dead(row, child->key->type) ||
		is_from_listing(late, child, row) || !names_parent(late, row))
		return;
	if (left_out_first(late->history, late->versions, child->key, -1,
					   row->state.as_of,
					   children_row_is_own(row, child->key->type), &when) &&
		(!row->state.deleted || when < row->state.deleted_at))
		mirror_set_deleted(row, true, when);
}

/* Write the row of one child of those that late_children_rows() has returned. */
void
late_children_write(LateChildren *late, const SnapshotRow *key)
{
	MirrorTable *table = table_cache_find(key->type, TABLE_WRITE);
	LateChild *child = find_or_add_child(late, unconstify(SnapshotRow *, key));

	if (table == NULL)
		return;
	/* a fetched object ends the child's deletion; the page of an event does not */
	if (child->fetched != NULL && child->fetched != child->listing)
		write_listing(late, child, child->fetched, child->fetched_at);
	if (child->listing != NULL)
		write_listing(late, child, child->listing, child->listed_at);
	sweep_child(late, child, table);
}

/*
 * Collect the children that the parent's versions list from a second on.
 * "account" is that of the children.
 */
LateChildren *
late_children_begin(OpenTables *tables, EventHistory *history,
					const char *account, TimestampTz since)
{
	LateChildren *late = palloc0(sizeof(LateChildren));

	late->tables = tables;
	late->history = history;
	late->account = account;
	if (history->type->npages == 0)
		return late;
	late->versions = newest_order_since(history, since);
	for (int i = 0; i < list_length(late->versions); i++)
		add_version(late, i);
	add_present(late, since);
	return late;
}

/*
 * The rows of a snapshot with the collected children in place of the listed
 * ones, in lock order.
 */
List *
late_children_rows(LateChildren *late, List *rows)
{
	List *result = NIL;
	ListCell *cell;

	foreach(cell, late->children)
	{
		SnapshotRow *row = palloc(sizeof(SnapshotRow));

		*row = *((LateChild *) lfirst(cell))->key;
		row->part = PART_LATE;
		result = lappend(result, row);
	}
	foreach(cell, rows)
		if (((SnapshotRow *) lfirst(cell))->part == PART_FILL)
			result = lappend(result, lfirst(cell));
	snapshot_sort(result);
	return result;
}
