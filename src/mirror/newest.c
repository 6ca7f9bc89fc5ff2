/*
 * newest.c
 *		Which snapshot of an object is the newest.
 *
 * This is decided by the set of its stored events alone, so that the order of
 * arrival does not matter:
 *
 * 1. A later "created" is newer.  A deletion ends a life of the object; only a
 *	  creation in a later second, or a later fetch that finds the object, begins
 *	  another.
 * 2. Within one second creations are first and deletions last.  The others are
 *	  in the order in which each event's previous_attributes describe the object
 *	  before it, beginning with the last state before that second.  An event
 *	  without previous_attributes does not say what it changed: of several orders
 *	  those with the fewest unexplained changes count.
 * 3. If there is no such order, or several that end differently: the later step
 *	  of the object's life cycle, then the greatest event id.
 *
 * An invoice that is paid at once has created, finalized, updated and paid in
 * one second, and only updated has previous_attributes: so all orders of a
 * second are compared, not neighbouring events.
 */
#include "postgres.h"

#include "base/base.h"
#include "inbox/event.h"
#include "mirror/mirror.h"
#include "types/types.h"
#include "mirror/internal.h"

#define MAX_EVENTS	16 /* of one second that are put in order */
#define MAX_SECONDS 16 /* before it that are read to find its start */
#define NO_ORDER	1000

/* The events of one second, of one life of the object. */
typedef struct Second
{
	const CatalogType *type;
	int count;
	Version **versions;
	JsonbContainer *start; /* the state before the second, or NULL */
	bool strict;		   /* previous_attributes must explain all changes */
	int cost[MAX_EVENTS + 1][MAX_EVENTS]; /* row MAX_EVENTS: the start */
	int16 *best; /* [mask * count + last]: least cost so far */
	const char *rule;
	bool ambiguous;
} Second;

/*
 * order_second() needs the state before the second, which is the last of the
 * second before: they call each other, MAX_SECONDS deep at most.
 */
static List *order_second(const CatalogType *type, List *versions, List *before,
						  int depth, Verdict *verdict);

static JsonbContainer *
version_object(Version *version)
{
	return version_event(version)->object;
}

static bool
same_content(Version *a, Version *b)
{
	return json_same(version_object(a), version_object(b));
}

/* Creations come first in their second, deletions last. */
static int
phase(const Version *version)
{
	if (event_type_creates(version->event_type))
		return 0;
	return event_type_deletes(version->event_type) ? 2 : 1;
}

/*
 * How many changes are unexplained if "next" follows the state "before"?  An
 * event with previous_attributes can follow only a state that they describe, or
 * its own (Stripe sends the same change in two events); one without them can
 * follow any state.
 */
static int
step_cost(const Second *second, JsonbContainer *before, Version *next)
{
	JsonbContainer *previous = version_event(next)->previous;
	bool same = json_same(version_object(next), before);

	if (previous == NULL || JsonContainerSize(previous) == 0)
		return same ? 0 : 1;
	if (second->strict
			? json_overlay_same(version_object(next), previous, before)
			: json_describes(previous, before))
		return 0;
	return same ? 2 : NO_ORDER; /* the same change once more */
}

/*
 * cost[a][b] is that of event b directly after event a; row MAX_EVENTS is that of
 * b as the first.  A later phase cannot precede an earlier one.  A deletion has no
 * previous_attributes and explains itself.
 */
static void
fill_costs(Second *second)
{
	int n = second->count;
	int first = 2;

	for (int i = 0; i < n; i++)
		first = Min(first, phase(second->versions[i]));
	for (int next = 0; next < n; next++)
	{
		Version *version = second->versions[next];

		for (int last = 0; last < n; last++)
			second->cost[last][next] =
				phase(second->versions[last]) > phase(version) ? NO_ORDER
				: phase(version) == 2
					? 0
					: step_cost(second, version_object(second->versions[last]),
								version);
		if (phase(version) > first)
			second->cost[MAX_EVENTS][next] = NO_ORDER;
		else if (first == 0 || second->start == NULL)
			second->cost[MAX_EVENTS][next] = 0;
		else
			second->cost[MAX_EVENTS][next] = step_cost(second, second->start,
													   version);
	}
}

/*
 * The least cost of an order of each subset of the events, by its last event:
 * dynamic programming over subsets, 2^n * n^2 steps for n events.  Subsets are
 * masks, so that each is computed before those that contain it.
 */
static void
find_ways(Second *second)
{
	int n = second->count;
	int all = 1 << n;

	second->best = palloc(sizeof(int16) * all * n);
	for (int i = 0; i < all * n; i++)
		second->best[i] = NO_ORDER;
	for (int i = 0; i < n; i++)
		second->best[(1 << i) * n + i] = second->cost[MAX_EVENTS][i];
	for (int mask = 1; mask < all; mask++)
		for (int last = 0; last < n; last++)
		{
			int so_far = second->best[mask * n + last];

			if (!(mask & (1 << last)) || so_far >= NO_ORDER)
				continue;
			for (int next = 0; next < n; next++)
			{
				int there = (mask | (1 << next)) * n + next;
				int cost = Min(so_far + second->cost[last][next], NO_ORDER);

				if (!(mask & (1 << next)) && cost < second->best[there])
					second->best[there] = cost;
			}
		}
}

/* Is "a" newer by rule 3? */
static bool
beats(const Second *second, Version *a, Version *b)
{
	int step_a = life_cycle_rank(second->type, version_object(a));
	int step_b = life_cycle_rank(second->type, version_object(b));

	if (step_a != step_b)
		return step_a > step_b;
	return strcmp(a->event_id, b->event_id) > 0;
}

/*
 * Choose the last event of the cheapest order of all events; -1 if there is no
 * order.  Sets *several if orders of that cost end in different states.
 */
static int
choose_end(const Second *second, bool *several)
{
	int n = second->count;
	const int16 *ends = &second->best[((1 << n) - 1) * n];
	int least = NO_ORDER;
	int chosen = -1;

	*several = false;
	for (int i = 0; i < n; i++)
		least = Min(least, ends[i]);
	if (least >= NO_ORDER)
		return -1;
	for (int i = 0; i < n; i++)
	{
		if (ends[i] != least)
			continue;
		if (chosen >= 0 &&
			!same_content(second->versions[chosen], second->versions[i]))
			*several = true;
		if (chosen < 0 ||
			beats(second, second->versions[i], second->versions[chosen]))
			chosen = i;
	}
	return chosen;
}

/* The cheapest order that ends with this event. */
static List *
trace_back(const Second *second, int end)
{
	int n = second->count;
	int mask = (1 << n) - 1;
	List *way = NIL;

	for (;;)
	{
		int rest = mask & ~(1 << end);
		int before = -1;

		way = lcons(second->versions[end], way);
		if (rest == 0)
			return way;
		for (int i = 0; i < n; i++)
			if ((rest & (1 << i)) &&
				second->best[rest * n + i] + second->cost[i][end] ==
					second->best[mask * n + end] &&
				(before < 0 ||
				 beats(second, second->versions[i], second->versions[before])))
				before = i;
		mask = rest;
		end = before;
	}
}

/* Ascending: the newest is the last. */
static int
compare_by_life(const void *a, const void *b, void *second)
{
	Version *left = *(Version *const *) a;
	Version *right = *(Version *const *) b;

	if (phase(left) != phase(right))
		return phase(left) - phase(right);
	return beats(second, left, right) ? 1 : -1;
}

/* Rule 3 alone. */
static List *
by_life(Second *second)
{
	List *way = NIL;

	qsort_arg(second->versions, second->count, sizeof(Version *),
			  compare_by_life, second);
	for (int i = 0; i < second->count; i++)
		way = lappend(way, second->versions[i]);
	second->rule =
		"the later step of the object's life, then the greatest event id";
	second->ambiguous = true;
	return way;
}

/*
 * Rule 2, by previous_attributes.  "strict": they must explain all that differs
 * between two states.  Otherwise it is enough that they agree with the state
 * before.  Returns NIL if there is no order.
 */
static List *
by_description(Second *second, bool strict)
{
	bool several;
	int end;

	second->strict = strict;
	fill_costs(second);
	find_ways(second);
	end = choose_end(second, &several);
	if (end < 0)
		return NIL;
	second->ambiguous = several;
	second->rule =
		several
			? "previous_attributes allow several orders: the later step of the object's life, then the greatest event id"
			: "previous_attributes tell the order within the second";
	return trace_back(second, end);
}

/* Split the versions of the last second off a list sorted by "created". */
static List *
split_last_second(List *versions, List **before)
{
	TimestampTz when = ((Version *) llast(versions))->created;
	List *second = NIL;

	*before = list_copy(versions);
	while (*before != NIL && ((Version *) llast(*before))->created == when)
	{
		second = lcons(llast(*before), second);
		*before = list_delete_last(*before);
	}
	return second;
}

/*
 * The last state of a list of versions sorted by "created".  "depth" is the
 * number of later seconds for which it is computed.
 */
static JsonbContainer *
last_state(const CatalogType *type, List *versions, int depth)
{
	List *second;
	List *before;
	Verdict ignored;

	if (versions == NIL || depth > MAX_SECONDS)
		return NULL;
	second = split_last_second(versions, &before);
	return version_object(
		llast(order_second(type, second, before, depth, &ignored)));
}

static bool
all_same(List *versions)
{
	ListCell *cell;

	foreach(cell, versions)
		if (!same_content(linitial(versions), lfirst(cell)))
			return false;
	return true;
}

/*
 * Put the events of one second in order.  "before" are the versions of the
 * same life in earlier seconds.
 */
static List *
order_second(const CatalogType *type, List *versions, List *before, int depth,
			 Verdict *verdict)
{
	Second second = {0};
	List *way = NIL;
	ListCell *cell;

	verdict->ambiguous = false;
	verdict->rule = "the later \"created\" is newer";
	if (list_length(versions) == 1)
		return versions;
	second.type = type;
	second.versions = palloc(list_length(versions) * sizeof(Version *));
	foreach(cell, versions)
		second.versions[second.count++] = lfirst(cell);
	if (all_same(versions))
	{
		way = by_life(&second);
		verdict->rule = "snapshots of one second that are equal are no conflict";
		return way;
	}
	if (second.count <= MAX_EVENTS)
	{
		second.start = last_state(type, before, depth + 1);
		way = by_description(&second, true);
		if (way == NIL)
			way = by_description(&second, false);
	}
	if (way == NIL)
		way = by_life(&second);
	verdict->rule = second.rule;
	verdict->ambiguous = second.ambiguous;
	return way;
}

/*
 * The events that decide: those since the object was last fetched alive, if
 * there are any.  A deletion before that no longer counts.
 */
static List *
deciding(const EventHistory *history)
{
	TimestampTz alive_at = event_history_alive_at(history);
	List *since = NIL;
	ListCell *cell;

	if (history->fetched == NIL)
		return history->versions;
	foreach(cell, history->versions)
		if (((Version *) lfirst(cell))->created > alive_at)
			since = lappend(since, lfirst(cell));
	return since != NIL ? since : history->versions;
}

/* The last deletion of the object, or NULL. */
static Version *
last_deletion(List *versions)
{
	Version *found = NULL;
	ListCell *cell;

	foreach(cell, versions)
		if (event_type_deletes(((Version *) lfirst(cell))->event_type))
			found = lfirst(cell);
	return found;
}

/* The versions of the object's present life; NIL if it is deleted. */
static List *
living(List *versions, const Version *deletion)
{
	List *life = NIL;
	ListCell *cell;

	foreach(cell, versions)
	{
		Version *version = lfirst(cell);

		if (deletion != NULL && life == NIL &&
			(version->created <= deletion->created ||
			 !event_type_creates(version->event_type)))
			continue;
		life = lappend(life, version);
	}
	/* all events of the first second of a new life belong to it */
	if (deletion != NULL && life != NIL)
	{
		TimestampTz begin = ((Version *) linitial(life))->created;

		life = NIL;
		foreach(cell, versions)
			if (((Version *) lfirst(cell))->created >= begin)
				life = lappend(life, lfirst(cell));
	}
	return life;
}

/*
 * The newest snapshot of an object that has at least one stored event.  Fetched
 * versions are never the result: the caller compares their time with it.
 */
Verdict
newest_find(EventHistory *history)
{
	Verdict verdict = {0};
	List *versions = deciding(history);
	Version *deletion = last_deletion(versions);
	List *life = living(versions, deletion);
	List *second;
	List *before;

	if (life == NIL)
	{
		verdict.newest = deletion;
		verdict.rule =
			"a deletion ends the object's life; only a later creation begins another";
		return verdict;
	}
	second = split_last_second(life, &before);
	verdict.newest = llast(
		order_second(history->type, second, before, 0, &verdict));
	return verdict;
}

/* Could another version of the second be the last, but for its event id? */
static bool
is_guess(const CatalogType *type, List *order)
{
	Version *last = llast(order);
	ListCell *cell;

	foreach(cell, order)
	{
		Version *version = lfirst(cell);

		if (phase(version) == phase(last) && !same_content(version, last) &&
			life_cycle_rank(type, version_object(version)) ==
				life_cycle_rank(type, version_object(last)))
			return true;
	}
	return false;
}

/*
 * Put versions of one second in order, when "start" is the state before it, or
 * NULL.  *guessed: which is the last was decided by event ids only.
 */
List *
newest_order_second(const CatalogType *type, List *versions,
					JsonbContainer *start, bool *guessed)
{
	Event event = {.object = start};
	Version version = {.event_type = "", .event = &event};
	Verdict verdict;
	List *order;

	order = order_second(
		type, versions, start != NULL ? list_make1(&version) : NIL, 0, &verdict);
	*guessed = verdict.ambiguous && is_guess(type, order);
	return order;
}

/* Insert a fetched version after the events that it contains. */
static List *
insert_fetched(List *versions, Version *fetched)
{
	int i = 0;

	while (i < list_length(versions) &&
		   ((Version *) list_nth(versions, i))->created <= fetched->created)
		i++;
	return list_insert_nth(versions, i, fetched);
}

/*
 * All versions from a time on, fetched ones included, in their order; also
 * those of a deleted object and of former lives, because of the pages that they
 * contain.
 */
List *
newest_order_since(EventHistory *history, TimestampTz since)
{
	List *rest = list_copy(history->versions);
	List *result = NIL;
	ListCell *cell;

	while (rest != NIL && ((Version *) llast(rest))->created >= since)
	{
		Verdict ignored;
		List *second = split_last_second(rest, &rest);

		result = list_concat(
			list_copy(order_second(history->type, second, rest, 0, &ignored)),
			result);
	}
	foreach(cell, history->fetched)
		if (((Version *) lfirst(cell))->created >= since)
			result = insert_fetched(result, lfirst(cell));
	return result;
}
