/*
 * late_children.c
 *		Children of a parent whose event (or fetched object) came late, or shares its
 *		second with others: the pages of its stored events, and of the fetched objects
 *		that are known, are folded, in their order, from that second on.
 */
#include "mirror.h"

#include "utils/builtins.h"

/* A child, over the parent's events from some second on. */
typedef struct LateChild
{
	SnapshotRow *key;
	SnapshotRow *listing; /* in the last version that lists it, or NULL */
	int listed_at;		  /* index of that version, or -1 */
	SnapshotRow *read; /* in the last fetched object that lists it, or NULL */
	int read_at;
} LateChild;

struct LateChildren
{
	MirrorPass *pass;
	EventHistory *history;
	const char *account; /* of the children */
	List *versions;		 /* in their order */
	List *children;		 /* of FoldedChild */
};

static LateChild *
fold_find(LateChildren *fold, SnapshotRow *key)
{
	LateChild *child;
	ListCell *cell;

	foreach(cell, fold->children)
	{
		child = lfirst(cell);
		if (snapshot_compare(child->key, key) == 0)
			return child;
	}
	child = palloc0(sizeof(LateChild));
	child->key = key;
	child->listed_at = -1;
	fold->children = lappend(fold->children, child);
	return child;
}

static void
fold_version(LateChildren *fold, int i)
{
	Version *version = list_nth(fold->versions, i);
	Event *event = version_event(version);
	ListCell *cell;

	if (event_type_deletes(version->event_type) || event->object == NULL)
		return;
	foreach(cell, snapshot_rows(fold->history->type, fold->history->id,
								fold->account, event->object))
	{
		SnapshotRow *row = lfirst(cell);
		LateChild *child;

		if (row->part != PART_CHILD)
			continue;
		child = fold_find(fold, row);
		child->listing = row;
		child->listed_at = i;
		if (version->event_id == NULL)
		{
			child->read = row;
			child->read_at = i;
		}
	}
}

/* Rows that are there already may have to be swept as well. */
static void
fold_present(LateChildren *fold, TimestampTz since)
{
	EventHistory *history = fold->history;
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
			present = children_by_back(page, child, history->id, fold->account,
									   present);
		else
			present = children_listed_before(history, page, child,
											 fold->account, since, present);
	}
	foreach(cell, present)
		(void) fold_find(fold, lfirst(cell));
}

/* Does this version's page leave the child out, and mean it? */
static bool
leaves_out(LateChildren *fold, Version *version, const SnapshotRow *child)
{
	JsonbContainer *parent = version_event(version)->object;
	bool leaves = false;

	if (event_type_deletes(version->event_type))
		return false;
	for (int i = 0; i < fold->history->type->npages; i++)
	{
		const CatalogPage *page = &fold->history->type->pages[i];
		JsonbContainer *list;
		bool complete;

		if (strcmp(page->child, child->type->object) != 0 ||
			!catalog_page_sweeps(page) ||
			(list = object_page(parent, page->field, &complete)) == NULL)
			continue;
		if (child_is_listed(fold->history->id, list, child->type->object,
							child->id))
			return false;
		leaves = leaves || complete;
	}
	return leaves;
}

/*
 * When was the child left out for the first time, after what the row holds?
 * "after" is the index of the version that the content comes from, -1 when it
 * comes from elsewhere and is as of "as_of".
 */
static bool
first_left_out(LateChildren *fold, const SnapshotRow *child, int after,
			   TimestampTz as_of, bool own, TimestampTz *when)
{
	for (int i = after + 1; i < list_length(fold->versions); i++)
	{
		Version *version = list_nth(fold->versions, i);

		if (after < 0 &&
			(version->created < as_of || (version->created == as_of && own)))
			continue;
		if (leaves_out(fold, version, child))
		{
			*when = version->created;
			return true;
		}
	}
	return false;
}

/* Write what the version lists, swept by the first one after it that doesn't. */
static void
write_listing(LateChildren *fold, LateChild *child, SnapshotRow *listing, int at)
{
	Version *version = list_nth(fold->versions, at);
	MirrorContent content = {listing->object, version->created,
							 version->event_id, false, 0};

	content.deleted = first_left_out(fold, child->key, at, 0, false,
									 &content.deleted_at);
	children_write(fold->pass, child->key, &content);
}

/* Does the row still say that it is a child of this parent? */
static bool
names_parent(LateChildren *fold, const MirrorRow *row)
{
	for (int i = 0; i < fold->history->type->npages; i++)
	{
		const CatalogPage *page = &fold->history->type->pages[i];
		JsonbValue json;
		Datum value;

		if (strcmp(page->child, row->table->type->object) != 0)
			continue;
		if (page->back == NULL || row->data == NULL ||
			!json_get(&row->data->root, page->back, &json) ||
			!column_value_from_json(KIND_REFERENCE, &json, &value) ||
			strcmp(TextDatumGetCString(value), fold->history->id) == 0)
			return true;
	}
	return false;
}

static bool
is_from_listing(LateChildren *fold, const LateChild *child, const MirrorRow *row)
{
	Version *version;

	if (child->listing == NULL)
		return false;
	version = list_nth(fold->versions, child->listed_at);
	if (row->state.event_id == NULL || version->event_id == NULL)
		return row->state.event_id == version->event_id &&
			   row->state.as_of == version->created;
	return strcmp(row->state.event_id, version->event_id) == 0;
}

/* Put the tombstone where it belongs on a row that no listing has written. */
static void
sweep_folded(LateChildren *fold, LateChild *child, MirrorTable *table)
{
	MirrorRow *row = mirror_lock(fold->pass, table, child->key->id,
								 child->key->account, true);
	TimestampTz when;

	if (!row->state.found || children_row_is_dead(row, child->key->type) ||
		is_from_listing(fold, child, row) || !names_parent(fold, row))
		return;
	if (first_left_out(fold, child->key, -1, row->state.as_of,
					   children_row_is_own(row, child->key->type), &when) &&
		(!row->state.deleted || when < row->state.deleted_at))
		mirror_set_deleted(row, true, when);
}

/* Make the row of one child what the fold says. */
void
late_children_write(LateChildren *fold, const SnapshotRow *key)
{
	MirrorTable *table = table_cache_find(key->type, TABLE_WRITE);
	LateChild *child = fold_find(fold, unconstify(SnapshotRow *, key));

	if (table == NULL)
		return;
	/* a fetched object ends the child's deletion, which no event's page does */
	if (child->read != NULL && child->read != child->listing)
		write_listing(fold, child, child->read, child->read_at);
	if (child->listing != NULL)
		write_listing(fold, child, child->listing, child->listed_at);
	sweep_folded(fold, child, table);
}

/*
 * LateChildren the pages of all stored events from a second on.  "account" is that of
 * the children.
 */
LateChildren *
late_children_begin(MirrorPass *pass, EventHistory *history,
					const char *account, TimestampTz since)
{
	LateChildren *fold = palloc0(sizeof(LateChildren));

	fold->pass = pass;
	fold->history = history;
	fold->account = account;
	if (history->type->npages == 0)
		return fold;
	fold->versions = newest_order_since(history, since);
	for (int i = 0; i < list_length(fold->versions); i++)
		fold_version(fold, i);
	fold_present(fold, since);
	return fold;
}

/*
 * The rows of a snapshot with the folded children in place of the listed ones,
 * in the order of locks.
 */
List *
late_children_rows(LateChildren *fold, List *rows)
{
	List *result = NIL;
	ListCell *cell;

	foreach(cell, fold->children)
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

/* ---- an own event of a child, while the parent is further on ---- */

/* The parent's history, with the fetched object that its row may hold. */
static EventHistory *
parent_history(MirrorTable *table, const CatalogType *parent, const char *id,
			   const char *account)
{
	EventHistory *history = event_history_read(parent, id, account);
	MirrorState state;
	Jsonb *data;

	if (mirror_peek(table, id, account, &state, &data) &&
		mirror_state_is_fetched_alive(&state) && data != NULL)
		event_history_add_fetched(history, state.as_of, &data->root);
	return history;
}

static bool
swept_by(const CatalogType *parent, const CatalogPage *page,
		 const SnapshotRow *child, JsonbContainer *object, TimestampTz created,
		 TableUse use, TimestampTz *swept_at)
{
	MirrorTable *table = table_cache_find(parent, use);
	LateChildren fold = {0};
	MirrorState state;
	JsonbValue json;
	Datum value;
	char *parent_id;
	const char *account = object_account(parent, child->account);

	if (table == NULL || !json_get(object, page->back, &json) ||
		!column_value_from_json(KIND_REFERENCE, &json, &value))
		return false;
	parent_id = TextDatumGetCString(value);
	if (!mirror_peek(table, parent_id, account, &state, NULL) ||
		state.as_of <= created)
		return false;
	fold.account = child->account;
	fold.history = parent_history(table, parent, parent_id, account);
	fold.versions = newest_order_since(fold.history, created + 1);
	return first_left_out(&fold, child, -1, created, true, swept_at);
}

/*
 * Has a later page of the parent left out a child that a page of this event
 * lists?  False when that isn't known: a fetched object may have told since.
 */
bool
left_out_after(Event *listing, const SnapshotRow *child, MirrorContent *content)
{
	const char *account = object_account(listing->catalog, listing->account);
	MirrorTable *table = table_cache_find(listing->catalog, TABLE_READ);
	LateChildren fold = {.account = child->account};
	int at = -1;

	if (table == NULL)
		return false;
	fold.history = parent_history(table, listing->catalog, listing->object_id,
								  account);
	fold.versions = newest_order_since(fold.history, listing->created);
	for (int i = 0; i < list_length(fold.versions); i++)
	{
		Version *version = list_nth(fold.versions, i);

		if (version->event_id != NULL &&
			strcmp(version->event_id, listing->id) == 0)
			at = i;
	}
	if (at < 0 || fold.history->fetched != NIL)
		return false;
	content->deleted = first_left_out(&fold, child, at, 0, false,
									  &content->deleted_at);
	return true;
}

/*
 * An own event brings a child that the mirror hasn't got: has a later page of
 * its parent left it out already?
 */
bool
left_out_since(const CatalogType *type, const char *id, const char *account,
			   JsonbContainer *object, TimestampTz created, TableUse use,
			   TimestampTz *swept_at)
{
	SnapshotRow child = {.type = type,
						 .id = unconstify(char *, id),
						 .account = account,
						 .part = PART_OWN};

	for (int i = 0; i < catalog_ntypes; i++)
	{
		const CatalogType *parent = &catalog_types[i];

		for (int j = 0; j < parent->npages; j++)
			if (parent->pages[j].back != NULL &&
				catalog_page_sweeps(&parent->pages[j]) &&
				strcmp(parent->pages[j].child, type->object) == 0 &&
				swept_by(parent, &parent->pages[j], &child, object, created,
						 use, swept_at))
				return true;
	}
	return false;
}
