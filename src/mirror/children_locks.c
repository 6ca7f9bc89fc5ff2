/*
 * children_locks.c
 *		Locks on the name of a parent.
 *
 * A page that leaves a child out and an own event of that child must see each
 * other: both lock the parent's name before any row.  Events of an object whose
 * row is written by SQL lock its name as well.  Names share a fixed number of
 * locks, so that a transaction with many events does not exhaust the lock table.
 *
 * All locks of an event, or of a page of fetched objects, are taken at once and
 * in ascending order, so that two transactions cannot deadlock on them.  They
 * are released when the transaction ends.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "utils/builtins.h"

#include "base/base.h"
#include "engine/engine.h"
#include "inbox/event.h"
#include "tables/tables.h"
#include "types/object.h"
#include "types/types.h"
#include "mirror/internal.h"

#define LOCKS 1024 /* the most of them that one transaction holds */

typedef struct LockSet
{
	bool wanted[LOCKS];
} LockSet;

static void
add_lock(LockSet *set, const CatalogType *parent, const char *id,
		 const char *account)
{
	char *name = psprintf("%s/%s/%s", parent->object, id,
						  object_account(parent, account));

	set->wanted[hash_bytes((unsigned char *) name, strlen(name)) % LOCKS] = true;
	pfree(name);
}

/* May a page in this object sweep a child that has events of its own? */
static bool
sweeps_others(const CatalogType *type, JsonbContainer *object)
{
	for (int i = 0; i < type->npages; i++)
		if (type->pages[i].back != NULL && catalog_page_sweeps(&type->pages[i]) &&
			catalog_page_type(&type->pages[i])->nevent_types > 0 &&
			json_get_object(object, type->pages[i].field) != NULL)
			return true;
	return false;
}

static void
add_parents(LockSet *set, Event *event)
{
	for (int i = 0; i < catalog_ntypes; i++)
	{
		const CatalogType *parent = &catalog_types[i];

		for (int j = 0; j < parent->npages; j++)
		{
			const CatalogPage *page = &parent->pages[j];
			JsonbValue json;
			Datum value;

			if (page->back != NULL && catalog_page_sweeps(page) &&
				strcmp(page->child, event->catalog->object) == 0 &&
				json_get(event->object, page->back, &json) &&
				column_value_from_json(KIND_REFERENCE, &json, &value))
				add_lock(set, parent, TextDatumGetCString(value),
						 event->account);
		}
	}
}

/*
 * A table that is written by SQL may be on another server, where the lock of a
 * row ends before we commit.
 */
static bool
is_written_by_sql(const CatalogType *type)
{
	MirrorTable *table = table_cache_find(type, TABLE_WRITE);

	return table != NULL && !table->plain;
}

/* Take the locks of these events, in the order of their numbers. */
void
children_locks_take(List *events)
{
	LockSet *set = palloc0(sizeof(LockSet));
	ListCell *cell;

	foreach(cell, events)
	{
		Event *event = lfirst(cell);

		if (sweeps_others(event->catalog, event->object) ||
			is_written_by_sql(event->catalog))
			add_lock(set, event->catalog, event->object_id, event->account);
		if (event->catalog->nevent_types > 0)
			add_parents(set, event);
	}
	for (int i = 0; i < LOCKS; i++)
		if (set->wanted[i])
			advisory_lock(ADVISORY_CHILDREN, i);
	pfree(set);
}
