/*
 * timeline.c
 *		All points of one object, in their order.
 *
 * Events are in the order that the mirror uses (newest.c), second by second.  The
 * memory of a second is freed when it is done.
 *
 * A deletion ends a life of the object.  Later events count again from a creation
 * in a later second on, or from a fetch that finds the object.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "base/base.h"
#include "history/internal.h"
#include "types/types.h"

typedef struct Walk
{
	Timeline *timeline;
	PointVisitor visit;
	void *arg;
	bool stopped;
} Walk;

/* The end of the group that begins at a slot: events of one second. */
static int
group_end(const Timeline *timeline, int begin)
{
	const Slot *first = list_nth(timeline->slots, begin);
	int end = begin + 1;

	while (first->kind == SLOT_EVENT && end < list_length(timeline->slots))
	{
		const Slot *slot = list_nth(timeline->slots, end);

		if (slot->kind != SLOT_EVENT || slot->at != first->at ||
			slot->parent != first->parent)
			break;
		end++;
	}
	return end;
}

/* The versions of a group that count; NIL while the object is dead. */
static List *
versions_of(Timeline *timeline, int begin, int end)
{
	List *versions = NIL;
	bool creates = false;

	for (int i = begin; i < end; i++)
	{
		Slot *slot = list_nth(timeline->slots, i);

		creates |= event_type_creates(slot->version->event_type);
		versions = lappend(versions, slot->version);
	}
	if (timeline->dead && !creates)
		return NIL;
	return versions;
}

/* Give a point to the visitor; it is the former one then. */
static void
visit_point(Walk *walk, const Point *point)
{
	Timeline *timeline = walk->timeline;
	Former *former = &timeline->former;
	char *version = former->api_version;

	walk->stopped = !walk->visit(former, point, point_follows(former, point),
								 walk->arg);
	if (walk->stopped)
		return;
	former->is_none = false;
	former->lost = point->lost;
	former->guessed = point->guessed;
	former->at = point->at;
	state_copy_set(&former->state, point->after);
	former->api_version = NULL;
	if (point->api_version != NULL)
		former->api_version = MemoryContextStrdup(
			GetMemoryChunkContext(timeline), point->api_version);
	if (version != NULL)
		pfree(version);
	timeline->dead = point->ends_life;
}

static void
visit_event(Walk *walk, const Slot *first, Version *version, bool guessed)
{
	Timeline *timeline = walk->timeline;
	Event *event = version_event(version);
	Point point;

	if (first->parent == NULL)
		point = point_of_event(event);
	else if (!child_point(first->parent, event, timeline->type, timeline->id,
						  &point))
		return;
	point.guessed = guessed;
	visit_point(walk, &point);
}

/* PointVisitor: stops at a time. */
static bool
is_before(const Former *former, const Point *point, bool follows, void *arg)
{
	return point->at < *(TimestampTz *) arg;
}

/* The parent's state before a time; NULL: it is not known. */
static JsonbContainer *
parent_before(const EventHistory *parent, TimestampTz at)
{
	RowFound none = {0};
	Timeline *timeline = timeline_read(parent->type, parent->id,
									   parent->account, &none);

	return timeline_walk(timeline, at - 1, is_before, &at)->state.object;
}

/* The versions of one second, in their order. */
static List *
order_versions(const Timeline *timeline, const Slot *first, List *versions,
			   bool *guessed)
{
	if (first->parent == NULL)
		return newest_order_second(timeline->type, versions,
								   timeline->former.state.object, guessed);
	return newest_order_second(first->parent->type, versions,
							   parent_before(first->parent, first->at), guessed);
}

/* The events of one second, in their order. */
static void
visit_events(Walk *walk, int begin, int end)
{
	Timeline *timeline = walk->timeline;
	const Slot *first = list_nth(timeline->slots, begin);
	List *versions = versions_of(timeline, begin, end);
	bool guessed = false;
	ListCell *cell;

	if (list_length(versions) > 1)
		versions = order_versions(timeline, first, versions, &guessed);
	foreach(cell, versions)
	{
		visit_event(walk, first, lfirst(cell),
					guessed && lfirst(cell) == llast(versions));
		if (walk->stopped)
			break;
	}
}

static void
visit_reading(Walk *walk, const Slot *slot)
{
	const Timeline *timeline = walk->timeline;
	JsonbContainer *object = slot->object != NULL ? &slot->object->root : NULL;
	Point point = point_of_reading(slot->at, object);

	if (slot->parent != NULL &&
		!child_reading(slot->parent, slot->at, object, timeline->type,
					   timeline->id, &point))
		return;
	point.describes = slot->describes;
	point.ends_life = slot->ends_life;
	visit_point(walk, &point);
}

/* What is read in one group is freed, events included. */
static void
visit_group(Walk *walk, int begin, int end)
{
	Timeline *timeline = walk->timeline;
	const Slot *first = list_nth(timeline->slots, begin);
	MemoryContext old = MemoryContextSwitchTo(timeline->second);

	if (first->kind == SLOT_EVENT)
		visit_events(walk, begin, end);
	else if (first->kind == SLOT_READING)
		visit_reading(walk, first);
	else
	{
		Point point = kept_point(first->kept, &timeline->kept);

		visit_point(walk, &point);
		state_copy_set(&timeline->kept, point.after);
	}
	for (int i = begin; i < end; i++)
	{
		Slot *slot = list_nth(timeline->slots, i);

		if (slot->version != NULL)
			slot->version->event = NULL;
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(timeline->second);
}

/*
 * The group at which a walk may begin that wants the state at a time: the last
 * one until then whose state does not depend on those before it.  Those of parents
 * may say nothing of the object, so that all are read.
 */
static int
first_needed(Timeline *timeline, TimestampTz until)
{
	int needed = 0;
	bool dead = false;

	for (int begin = 0, end; begin < list_length(timeline->slots); begin = end)
	{
		const Slot *slot = list_nth(timeline->slots, begin);

		end = group_end(timeline, begin);
		if (slot->at > until || slot->kind == SLOT_KEPT || slot->parent != NULL)
			break;
		timeline->dead = dead;
		if (slot->kind == SLOT_READING)
			dead = slot->ends_life;
		else if (versions_of(timeline, begin, end) == NIL)
			continue;
		else
			dead = false;
		for (int i = begin; slot->kind == SLOT_EVENT && i < end; i++)
			dead |= event_type_deletes(
				((Slot *) list_nth(timeline->slots, i))->version->event_type);
		if (end == begin + 1)
			needed = begin;
	}
	timeline->dead = false;
	return needed;
}

/*
 * Visit all points, or those that decide the state at "from" and later.  Returns
 * the point that was visited last without a stop.
 */
const Former *
timeline_walk(Timeline *timeline, TimestampTz from, PointVisitor visit,
			  void *arg)
{
	Walk walk = {timeline, visit, arg, false};
	int begin = from == DT_NOBEGIN ? 0 : first_needed(timeline, from);

	while (!walk.stopped && begin < list_length(timeline->slots))
	{
		int end = group_end(timeline, begin);

		visit_group(&walk, begin, end);
		begin = end;
		CHECK_FOR_INTERRUPTS();
	}
	return &timeline->former;
}
