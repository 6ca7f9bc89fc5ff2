/*
 * left_out.c
 *		Since when a child is deleted because its parent's pages no longer list
 *		it: the first complete page that leaves it out, by the parent's history.
 *
 * Only reads.  The parent's row is not locked.  Writers hold the lock of its name
 * (children_locks.c), so that no page of it is applied at the same time.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "base/base.h"
#include "inbox/event.h"
#include "mirror/mirror.h"
#include "tables/tables.h"
#include "types/object.h"
#include "types/types.h"
#include "mirror/internal.h"

/* Does a complete page of this version of the parent leave the child out? */
static bool
leaves_out(const EventHistory *history, Version *version,
		   const SnapshotRow *child)
{
	JsonbContainer *parent = version_event(version)->object;
	bool leaves = false;

	if (event_type_deletes(version->event_type))
		return false;
	for (int i = 0; i < history->type->npages; i++)
	{
		const CatalogPage *page = &history->type->pages[i];
		JsonbContainer *list;
		bool complete;

		if (strcmp(page->child, child->type->object) != 0 ||
			!catalog_page_sweeps(page) ||
			(list = object_page(parent, page->field, &complete)) == NULL)
			continue;
		if (child_is_listed(history->id, list, child->type->object, child->id))
			return false;
		leaves = leaves || complete;
	}
	return leaves;
}

/*
 * Find the first of the parent's versions that leaves a child out, after the
 * content that the child's row has.  "after" is the index of the version that
 * lists that content, -1 if no version does; it is as of "as_of" then, and
 * "own" says that it comes from the child's own event.
 */
bool
left_out_first(const EventHistory *history, List *versions,
			   const SnapshotRow *child, int after, TimestampTz as_of, bool own,
			   TimestampTz *when)
{
	for (int i = after + 1; i < list_length(versions); i++)
	{
		Version *version = list_nth(versions, i);

		if (after < 0 &&
			(version->created < as_of || (version->created == as_of && own)))
			continue;
		if (leaves_out(history, version, child))
		{
			*when = version->created;
			return true;
		}
	}
	return false;
}

/* The parent's history, with the fetched object that its row may hold. */
static EventHistory *
parent_history(MirrorTable *table, const CatalogType *parent, const char *id,
			   const char *account)
{
	EventHistory *history = fetched_note_read_history(parent, id, account);
	MirrorState state;
	Jsonb *data;

	if (mirror_peek(table, id, account, &state, &data) && data != NULL)
		event_history_add_row(history, &state, data);
	return history;
}

/* The same as left_out_since(), for the pages of one parent. */
static bool
left_out_by(const CatalogType *parent, const CatalogPage *page,
			const SnapshotRow *child, JsonbContainer *object,
			TimestampTz created, TableUse use, TimestampTz *left_out_at)
{
	MirrorTable *table = table_cache_find(parent, use);
	EventHistory *history;
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
	history = parent_history(table, parent, parent_id, account);
	return left_out_first(history, newest_order_since(history, created + 1),
						  child, -1, created, true, left_out_at);
}

/*
 * Set the tombstone of a child that a page of this event lists, if a later page
 * of the parent leaves it out.  Returns false when this is not known, because
 * the event is not stored or a later fetched object may have listed the child.
 */
bool
left_out_after(Event *listing, const SnapshotRow *child, MirrorContent *content)
{
	const char *account = object_account(listing->catalog, listing->account);
	MirrorTable *table = table_cache_find(listing->catalog, TABLE_READ);
	EventHistory *history;
	List *versions;
	int at = -1;

	if (table == NULL)
		return false;
	history = parent_history(table, listing->catalog, listing->object_id,
							 account);
	versions = newest_order_since(history, listing->created);
	for (int i = 0; i < list_length(versions); i++)
	{
		Version *version = list_nth(versions, i);

		if (version->event_id != NULL &&
			strcmp(version->event_id, listing->id) == 0)
			at = i;
	}
	if (at < 0 || history->fetched != NIL)
		return false;
	content->deleted = left_out_first(history, versions, child, at, 0, false,
									  &content->deleted_at);
	return true;
}

/*
 * Does a page of a parent that is later than "created" leave out the child,
 * whose own event or fetched object has this content?
 */
bool
left_out_since(const CatalogType *type, const char *id, const char *account,
			   JsonbContainer *object, TimestampTz created, TableUse use,
			   TimestampTz *left_out_at)
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
				left_out_by(parent, &parent->pages[j], &child, object, created,
							use, left_out_at))
				return true;
	}
	return false;
}
