/*
 * prune_kept.c
 *		Prunes events that carry objects of kept types: object by object, what
 *		they say is written to stripe_sync.change, then they are deleted.
 *
 * One transaction at a time does this, by an advisory lock: two would continue
 * the same chain.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "base/base.h"
#include "engine/array_argument.h"
#include "engine/cursor.h"
#include "engine/engine.h"
#include "engine/statement.h"
#include "history/internal.h"
#include "types/object.h"
#include "types/types.h"

#define PAGE 200

/*
 * Events "e" that may be pruned, received before $1.  Not one whose object has
 * another of the same second that may not yet: their order is decided together.
 */
#define PRUNABLE                                                               \
	" e.received_at < $1 AND e.object_id IS NOT NULL"                          \
	" AND e.created IS NOT NULL"                                               \
	" AND e.status = ANY ('{applied,stale,ignored}')"                          \
	" AND e.todo = '{}' AND e.next_attempt_at IS NULL"                         \
	" AND NOT EXISTS (SELECT FROM stripe_sync.event u"                         \
	"   WHERE u.object_id = e.object_id"                                       \
	"     AND (u.status = ANY ('{pending,failed,dead}')"                       \
	"       OR u.created = e.created AND u.received_at >= $1))"

/* An object whose events are pruned */
typedef struct PrunedObject
{
	const CatalogType *type;
	char *id;
	char *account; /* of its events */
} PrunedObject;

static Datum
type_names(List *types)
{
	ArrayBuildState *names = initArrayResult(TEXTOID, CurrentMemoryContext,
											 false);
	ListCell *cell;

	foreach(cell, types)
		names = accumArrayResult(
			names, CStringGetTextDatum(((CatalogType *) lfirst(cell))->object),
			false, TEXTOID, CurrentMemoryContext);
	return makeArrayResult(names, CurrentMemoryContext);
}

/* The names of the types whose events history_prune() prunes, as text[]. */
Datum
history_carriers(void)
{
	return type_names(history_carrier_types());
}

/* The names of the types of which everything is kept, as text[]. */
Datum
history_kept(void)
{
	return type_names(
		list_concat_unique_ptr(history_carrier_types(), history_kept_types()));
}

/* ---- one object ---- */

/* Lock the object's events that may be pruned. */
static PrunedEvents
lock_events(const PrunedObject *object, TimestampTz before)
{
	static EngineStatement select = {
		"SELECT e.id, e.created FROM ONLY stripe_sync.event e"
		" WHERE e.object_id = $2 AND e.object_type = $3 AND e.account = $4"
		" AND" PRUNABLE " ORDER BY e.created FOR UPDATE SKIP LOCKED"};
	PrunedEvents events = {NIL, DT_NOEND};
	Rows rows;

	rows_open(&rows, &select,
			  ARGS(arg_time(before), arg_text(object->id),
				   arg_text(object->type->object), arg_text(object->account)));
	while (rows_next(&rows))
	{
		char *id = rows_text(&rows);
		TimestampTz created = rows_time(&rows, 0);

		events.ids = lappend(events.ids, id);
		events.first = Min(events.first, created);
	}
	rows_close(&rows);
	return events;
}

/* Children of the object of which something is kept. */
static List *
kept_children(const PrunedObject *object, const CatalogType *child, List *ids)
{
	static EngineStatement select = {
		"SELECT DISTINCT object_id FROM stripe_sync.change"
		" WHERE parent = $1 AND object_type = $2 AND account = $3"};
	Rows rows;

	rows_open(&rows, &select,
			  ARGS(arg_text(object->id), arg_text(child->object),
				   arg_text(object->account)));
	while (rows_next(&rows))
		ids = list_append_unique(ids, makeString(rows_text(&rows)));
	rows_close(&rows);
	return ids;
}

/* Keep what the events say of the object's children of one type. */
static void
keep_children(const PrunedObject *object, const CatalogType *child,
			  const PrunedEvents *events)
{
	EventHistory parent = {object->type, object->id, object->account, NIL, NIL};
	List *ids = kept_children(object, child, NIL);
	ListCell *cell;

	foreach(cell, events->ids)
	{
		Event event;

		if (event_load(lfirst(cell), object->account, &event))
			ids = child_ids(&parent, &event, child, ids);
	}
	foreach(cell, ids)
		keep_object(child, strVal(lfirst(cell)), object->account, events);
}

/*
 * Children first: the order of their parent's events is found with what is kept of
 * it, in which these events must not be yet.
 */
static void
keep_all(const PrunedObject *object, const PrunedEvents *events)
{
	List *done = NIL;

	for (int i = 0; i < object->type->npages; i++)
	{
		const CatalogType *child = catalog_page_type(&object->type->pages[i]);

		if (list_member_ptr(done, child) || !child_is_only_listed(child) ||
			!history_type_is_kept(child))
			continue;
		done = lappend(done, unconstify(CatalogType *, child));
		keep_children(object, child, events);
	}
	if (history_type_is_kept(object->type) && !child_is_only_listed(object->type))
		keep_object(object->type, object->id,
					object_account(object->type, object->account), events);
}

static int64
prune_object(const PrunedObject *object, TimestampTz before,
			 EventDeleter delete_events)
{
	PrunedEvents events = lock_events(object, before);
	ArgColumns keys = {0};
	ListCell *cell;

	if (events.ids == NIL)
		return 0;
	keep_all(object, &events);
	foreach(cell, events.ids)
		columns_add(&keys,
					ARGS(arg_text(lfirst(cell)), arg_text(object->account)));
	return delete_events(&keys);
}

/* ---- all objects ---- */

static PrunedObject *
read_object(Rows *rows)
{
	PrunedObject *object = palloc(sizeof(PrunedObject));
	char *type = rows_text(rows);

	object->type = catalog_find(type, strlen(type));
	object->id = rows_text(rows);
	object->account = rows_text(rows);
	return object;
}

/* The next objects, of PrunedObject; NIL: there are none. */
static List *
next_objects(const char *cursor)
{
	List *objects = NIL;
	Rows rows;

	if (!cursor_fetch(cursor, PAGE, &rows))
		return NIL;
	while (rows_next(&rows))
		objects = lappend(objects, read_object(&rows));
	rows_close(&rows);
	return objects;
}

/* Prune these objects, each in memory that is freed after it. */
static int64
prune_objects(List *objects, TimestampTz before, EventDeleter delete_events)
{
	MemoryContext memory = AllocSetContextCreate(CurrentMemoryContext,
												 "stripe_sync pruned object",
												 ALLOCSET_DEFAULT_SIZES);
	int64 events = 0;
	ListCell *cell;

	foreach(cell, objects)
	{
		MemoryContext old = MemoryContextSwitchTo(memory);

		events += prune_object(lfirst(cell), before, delete_events);
		MemoryContextSwitchTo(old);
		MemoryContextReset(memory);
		CHECK_FOR_INTERRUPTS();
	}
	MemoryContextDelete(memory);
	return events;
}

/*
 * Called before events are pruned.  False: another session prunes some.  "wait":
 * until that has ended.
 */
bool
history_prune_begin(bool wait)
{
	if (!wait)
		return advisory_try_lock(ADVISORY_HISTORY, 0);
	advisory_lock(ADVISORY_HISTORY, 0);
	return true;
}

/*
 * Prune the events of at most this many objects, of those that carry kept types.
 * Returns the number of events.
 */
int64
history_prune(TimestampTz before, int64 objects, EventDeleter delete_events)
{
	/* planned with the values: a generic plan doesn't know how many are that old */
	static const char *const sql =
		"SELECT DISTINCT e.object_type, e.object_id, e.account"
		" FROM ONLY stripe_sync.event e WHERE e.object_type = ANY ($2)"
		" AND" PRUNABLE " LIMIT $3";
	int64 events = 0;
	MemoryContext memory;
	MemoryContext old;
	char *cursor;
	List *page;

	if (history_carrier_types() == NIL)
		return 0;
	cursor = cursor_open(sql, ARGS(arg_time(before),
								   arg_datum(TEXTARRAYOID, history_carriers()),
								   arg_int8(objects)));
	memory = AllocSetContextCreate(CurrentMemoryContext,
								   "stripe_sync pruned objects",
								   ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(memory);
	while ((page = next_objects(cursor)) != NIL)
	{
		events += prune_objects(page, before, delete_events);
		MemoryContextReset(memory);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(memory);
	return events;
}
