/*
 * subscribed_types.c
 *		Which types of events an endpoint at Stripe should be subscribed to.
 *
 * There are two sets.  A new endpoint is subscribed to every type that fills a
 * mirror table or matches the pattern of a handler or an alert.  An existing
 * endpoint is reported if it lacks a type that is needed: one whose mirror table
 * has ever had a row, or that a handler or an alert names in full.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "storage/bufmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "endpoints/endpoints.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "types/object.h"
#include "types/types.h"
#include "endpoints/internal.h"

typedef struct EventTypeEntry
{
	const char *type;
	bool has_table; /* its events fill a mirror table */
	bool wanted;
} EventTypeEntry;

typedef struct EventTypeSet
{
	EventTypeEntry *entries; /* sorted by type */
	int count;
} EventTypeSet;

/*
 * Stripe waits for the endpoint's decision on this type, and declines the
 * authorization without one.  So it is never subscribed to unless it is named.
 */
static bool
is_only_by_name(const char *type)
{
	return strcmp(type, "issuing_authorization.request") == 0;
}

/*
 * Do events of that type fill the type's mirror table?  Events customer.source.*
 * can carry an account, which is not a reason to subscribe to them for accounts.
 */
static bool
event_fills_table(const char *event_type, const CatalogType *type)
{
	return type->table != NULL && !is_only_by_name(event_type) &&
		   (strcmp(type->object, "account") != 0 ||
			strncmp(event_type, "account.", strlen("account.")) == 0);
}

/* ---- all types ---- */

static int
compare_entries(const void *a, const void *b)
{
	return strcmp(((const EventTypeEntry *) a)->type,
				  ((const EventTypeEntry *) b)->type);
}

static EventTypeEntry *
find_entry(const EventTypeSet *set, const char *type)
{
	EventTypeEntry key = {.type = type};

	return bsearch(&key, set->entries, set->count, sizeof(EventTypeEntry),
				   compare_entries);
}

static int
count_types(void)
{
	int count = 0;

	for (int i = 0; i < catalog_ntypes; i++)
		count += catalog_types[i].nevent_types;
	return count;
}

static void
mark_types_with_table(EventTypeSet *set)
{
	for (int i = 0; i < catalog_ntypes; i++)
		for (int j = 0; j < catalog_types[i].nevent_types; j++)
		{
			const char *type = catalog_types[i].event_types[j];

			if (event_fills_table(type, &catalog_types[i]))
				find_entry(set, type)->has_table = true;
		}
}

/* All types of events, each once, none of them wanted. */
static void
init_set(EventTypeSet *set)
{
	int room = count_types();
	int count = 0;

	set->entries = palloc0(room * sizeof(EventTypeEntry));
	for (int i = 0; i < catalog_ntypes; i++)
		for (int j = 0; j < catalog_types[i].nevent_types; j++)
			set->entries[count++].type = catalog_types[i].event_types[j];
	qsort(set->entries, count, sizeof(EventTypeEntry), compare_entries);
	set->count = 0;
	for (int i = 0; i < count; i++)
		if (set->count == 0 || compare_entries(&set->entries[set->count - 1],
											   &set->entries[i]) != 0)
			set->entries[set->count++] = set->entries[i];
	mark_types_with_table(set);
}

bool
event_type_is_known(const char *type)
{
	for (int i = 0; i < catalog_ntypes; i++)
		for (int j = 0; j < catalog_types[i].nevent_types; j++)
			if (strcmp(catalog_types[i].event_types[j], type) == 0)
				return true;
	return false;
}

/* ---- wanted types ---- */

static void
want_events_of(EventTypeSet *set, const CatalogType *type)
{
	for (int i = 0; i < type->nevent_types; i++)
		if (event_fills_table(type->event_types[i], type))
			find_entry(set, type->event_types[i])->wanted = true;
}

/*
 * Has the table ever had a row?  Judged by its size, which needs no right to read
 * it; a relation of another kind is taken to have rows.
 */
static bool
has_had_rows(Oid relid)
{
	Relation relation = try_relation_open(relid, AccessShareLock);
	bool has;

	if (relation == NULL)
		return false;
	has = relation->rd_rel->relkind != RELKIND_RELATION ||
		  RelationGetNumberOfBlocks(relation) > 0;
	relation_close(relation, AccessShareLock);
	return has;
}

static void
want_mirror_tables(EventTypeSet *set, bool only_with_rows)
{
	static EngineStatement select = {
		"SELECT table_name::text FROM stripe_sync.mirror_table"};
	Oid namespace = get_namespace_oid(MIRROR_SCHEMA, true);
	Rows rows;

	rows_open(&rows, &select, NO_ARGS);
	while (OidIsValid(namespace) && rows_next(&rows))
	{
		char *name = rows_text(&rows);
		const CatalogType *type = catalog_find_table(name);
		Oid relid = get_relname_relid(name, namespace);

		if (type != NULL && OidIsValid(relid) &&
			(!only_with_rows || has_had_rows(relid)))
			want_events_of(set, type);
	}
	rows_close(&rows);
}

static void
want_pattern(EventTypeSet *set, const char *pattern, bool names_only)
{
	EventTypeEntry *named = find_entry(set, pattern);

	if (named != NULL)
		named->wanted = true;
	for (int i = 0; !names_only && i < set->count; i++)
		if (!is_only_by_name(set->entries[i].type) &&
			event_type_fits(set->entries[i].type, pattern))
			set->entries[i].wanted = true;
}

static void
want_patterns(EventTypeSet *set, bool names_only)
{
	static EngineStatement select = {
		"SELECT event_type FROM stripe_sync.handler"
		" UNION SELECT event_type FROM stripe_sync.alert"
		" UNION SELECT closed_by FROM stripe_sync.alert"
		"  WHERE closed_by IS NOT NULL"};
	Rows rows;

	rows_open(&rows, &select, NO_ARGS);
	while (rows_next(&rows))
	{
		ListCell *cell;

		foreach(cell, event_types_split(rows_text(&rows)))
			want_pattern(set, lfirst(cell), names_only);
	}
	rows_close(&rows);
}

/*
 * The types to subscribe a new endpoint to, as a list of char *.  It is the one
 * name "*" if there is a table for everything, so that types are included which
 * Stripe adds later.  Runs in the engine's scope.
 */
List *
event_types_to_subscribe(void)
{
	bool everything = true;
	List *types = NIL;
	EventTypeSet set;

	init_set(&set);
	want_mirror_tables(&set, false);
	want_patterns(&set, false);
	for (int i = 0; i < set.count; i++)
	{
		const EventTypeEntry *entry = &set.entries[i];

		if (entry->wanted)
			types = lappend(types, pstrdup(entry->type));
		if (is_only_by_name(entry->type) ? entry->wanted
										 : entry->has_table && !entry->wanted)
			everything = false;
	}
	return everything ? list_make1(pstrdup("*")) : types;
}

/* The types that an endpoint must not lack, as a list of char *; likewise. */
List *
event_types_needed(void)
{
	List *types = NIL;
	EventTypeSet set;

	init_set(&set);
	want_mirror_tables(&set, true);
	want_patterns(&set, true);
	for (int i = 0; i < set.count; i++)
		if (set.entries[i].wanted)
			types = lappend(types, pstrdup(set.entries[i].type));
	return types;
}

/* A list of char * as a text[] */
Datum
event_types_array(List *types)
{
	Datum *elements = palloc(sizeof(Datum) * Max(list_length(types), 1));
	ListCell *cell;
	int count = 0;

	foreach(cell, types)
		elements[count++] = CStringGetTextDatum(lfirst(cell));
	return PointerGetDatum(
		construct_array(elements, count, TEXTOID, -1, false, TYPALIGN_INT));
}
