/*
 * child.c
 *		What an event of a parent says of a child that its pages list.
 *
 * For types without events of their own (a subscription's items, an invoice's
 * lines).  A page that lists the child shows its state; a complete page that does
 * not says that it does not exist.
 */
#include "postgres.h"

#include "base/base.h"
#include "history/internal.h"
#include "tables/tables.h"
#include "types/object.h"
#include "types/types.h"

/* What the pages of one snapshot say of the child */
typedef enum Listing
{
	NOT_SAID,
	LISTED,
	LEFT_OUT
} Listing;

bool
child_is_only_listed(const CatalogType *type)
{
	return type->nevent_types == 0;
}

/* The types with pages of this type, of CatalogType. */
List *
child_parent_types(const CatalogType *type)
{
	List *types = NIL;

	for (int i = 0; i < catalog_ntypes; i++)
		for (int j = 0; j < catalog_types[i].npages; j++)
			if (strcmp(catalog_types[i].pages[j].child, type->object) == 0)
				types = list_append_unique_ptr(
					types, unconstify(CatalogType *, &catalog_types[i]));
	return types;
}

/* The child in one page of a snapshot. */
static Listing
find_in_page(JsonbContainer *page, bool complete, const char *parent_id,
			 const CatalogType *type, const char *id, JsonbContainer **child)
{
	ListCell *cell;

	foreach(cell, child_list(parent_id, page))
	{
		const PageChild *listed = lfirst(cell);

		if (listed->type != type || strcmp(listed->id, id) != 0)
			continue;
		*child = child_content(type, listed->object, parent_id);
		return LISTED;
	}
	return complete ? LEFT_OUT : NOT_SAID;
}

static Listing
find_child(const EventHistory *parent, JsonbContainer *snapshot,
		   const CatalogType *type, const char *id, JsonbContainer **child)
{
	Listing result = NOT_SAID;

	*child = NULL;
	for (int i = 0; i < parent->type->npages && result != LISTED; i++)
	{
		const CatalogPage *page = &parent->type->pages[i];
		bool complete;
		JsonbContainer *list;
		Listing here;

		if (strcmp(page->child, type->object) != 0 ||
			(list = object_page(snapshot, page->field, &complete)) == NULL)
			continue;
		here = find_in_page(list, complete && catalog_page_sweeps(page),
							parent->id, type, id, child);
		if (here != NOT_SAID)
			result = here;
	}
	return result;
}

/* What the event says of the child's state before it. */
static void
describe_before(const EventHistory *parent, Event *event,
				const CatalogType *type, const char *id, Point *point)
{
	JsonbContainer *child;
	Listing listing;

	if (event_type_creates(event->type))
		point->describes = true;
	else if (event->previous != NULL && JsonContainerSize(event->previous) > 0)
	{
		listing = find_child(parent,
							 patch_previous(event->object, event->previous),
							 type, id, &child);
		point->describes = listing != NOT_SAID;
		point->before = listing == LISTED ? child : NULL;
	}
}

/* False: the event says nothing of the child. */
bool
child_point(const EventHistory *parent, Event *event, const CatalogType *type,
			const char *id, Point *point)
{
	JsonbContainer *child;
	Listing listing;

	if (event->object == NULL || event_type_deletes(event->type))
		return false;
	listing = find_child(parent, event->object, type, id, &child);
	if (listing == NOT_SAID)
		return false;
	*point = (Point){.at = event->created,
					 .event_id = event->id,
					 .api_version = event->api_version,
					 .parent = parent->id,
					 .after = child};
	describe_before(parent, event, type, id, point);
	point->shown = child != NULL ? child : point->before;
	return true;
}

/* The same for a parent that was fetched. */
bool
child_reading(const EventHistory *parent, TimestampTz at,
			  JsonbContainer *snapshot, const CatalogType *type, const char *id,
			  Point *point)
{
	JsonbContainer *child;

	if (find_child(parent, snapshot, type, id, &child) == NOT_SAID)
		return false;
	*point = point_of_reading(at, child);
	point->parent = parent->id;
	return true;
}

static List *
add_listed(const EventHistory *parent, JsonbContainer *snapshot,
		   const CatalogType *type, List *ids)
{
	for (int i = 0; i < parent->type->npages; i++)
	{
		JsonbContainer *page = object_page(snapshot,
										   parent->type->pages[i].field, NULL);
		ListCell *cell;

		if (page == NULL)
			continue;
		foreach(cell, child_list(parent->id, page))
		{
			const PageChild *listed = lfirst(cell);

			if (listed->type == type)
				ids = list_append_unique(ids, makeString(listed->id));
		}
	}
	return ids;
}

/* Add the children of a type that the event lists, before or after it. */
List *
child_ids(const EventHistory *parent, Event *event, const CatalogType *type,
		  List *ids)
{
	if (event->object == NULL)
		return ids;
	ids = add_listed(parent, event->object, type, ids);
	if (event->previous != NULL)
		ids = add_listed(parent, patch_previous(event->object, event->previous),
						 type, ids);
	return ids;
}
