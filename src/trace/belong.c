/*
 * belong.c
 *		The objects of a story: what belongs to the one that it is about.
 *
 * Objects are followed from one to the next by the references between them, both
 * ways: an invoice, its payment intent, its charges, their refunds and disputes
 * are "main" objects, whose whole life is told.  A subscription and a customer
 * are shared by many of those: unless the story is theirs they are told only as
 * far as the story's time goes, and not followed.  Other shared objects (prices,
 * coupons) refer to nobody, so that their stories are their own events.
 *
 * A story is one customer's.  An object of another customer is left out, however
 * it was reached.
 */
#include "postgres.h"

#include "base/base.h"
#include "types/object.h"
#include "types/types.h"
#include "trace/gather.h"

#define CONTEXT_MARGIN USECS_PER_DAY /* before and after the story */
#define CONTEXT_EVENTS 30			 /* of a customer or subscription */
#define OBJECT_EVENTS  100			 /* of another object */
#define MOST_LINKED	   50			 /* objects that refer to one */

static bool
is_type(const TraceObject *object, const char *name)
{
	return object->type != NULL && strcmp(object->type->object, name) == 0;
}

static bool
is_root(const TraceGather *gather, const TraceObject *object)
{
	return object == gather->subject.object;
}

static TraceObject *
find_object(const TraceGather *gather, const CatalogType *type, const char *id)
{
	ListCell *cell;

	foreach(cell, gather->subject.objects)
	{
		TraceObject *object = lfirst(cell);

		if (object->type == type && strcmp(object->id, id) == 0)
			return object;
	}
	return NULL;
}

/* Add an object that is not there yet; it is visited later. */
static void
add_object(TraceGather *gather, const CatalogType *type, const char *id,
		   bool main)
{
	TraceObject *object;

	if (id == NULL || find_object(gather, type, id) != NULL)
		return;
	if (list_length(gather->subject.objects) >= TRACE_MOST_OBJECTS)
	{
		gather->too_many = true;
		return;
	}
	object = palloc0(sizeof(TraceObject));
	object->type = type;
	object->type_name = pstrdup(type->object);
	object->id = pstrdup(id);
	object->account = gather->subject.object->account;
	object->main = main;
	gather->subject.objects = lappend(gather->subject.objects, object);
	gather->queue = lappend(gather->queue, object);
}

/* ---- what is known of an object ---- */

static void
read_row(TraceObject *object)
{
	object->in_mirror = object->type != NULL && object->type->table != NULL &&
						mirror_rows_read(object->type, object->id,
										 object->account, &object->data,
										 &object->as_of, &object->from_event,
										 &object->deleted);
}

static void
take_newest(TraceObject *object, List *events)
{
	ListCell *cell;

	if (object->data != NULL)
		return;
	foreach(cell, events)
	{
		TraceEvent *one = lfirst(cell);

		if (one->event == NULL || one->event->object == NULL)
			continue;
		object->data = json_standalone(one->event->object);
		object->deleted = event_type_deletes(one->type);
		return;
	}
}

/* The customer that an object belongs to, or NULL */
static char *
customer_of(const TraceObject *object)
{
	if (is_type(object, "customer"))
		return object->id;
	return object->type != NULL && object->data != NULL
			   ? link_get(object->type, &object->data->root, "customer")
			   : NULL;
}

/* Is it another customer's?  The first customer that is met is the story's. */
static bool
is_others(TraceGather *gather, const TraceObject *object)
{
	char *customer = customer_of(object);

	if (customer == NULL)
		return false;
	if (gather->customer == NULL)
		gather->customer = customer;
	return strcmp(gather->customer, customer) != 0;
}

/* ---- links ---- */

/* Is an object that a main object names a main object itself? */
static bool
is_main_link(const TraceGather *gather, const char *name)
{
	return strcmp(name, "customer") != 0 &&
		   (strcmp(name, "subscription") != 0 ||
			is_type(gather->subject.object, "customer"));
}

/* Add what the object names, in one of its states. */
static void
follow_names(TraceGather *gather, const TraceObject *object,
			 JsonbContainer *state)
{
	if (object->type == NULL)
		return;
	for (int i = 0; i < nlink_names; i++)
		add_object(gather, catalog_find(link_names[i], strlen(link_names[i])),
				   link_get(object->type, state, link_names[i]),
				   is_main_link(gather, link_names[i]));
}

/* A row that refers to an object */
typedef struct Referrer
{
	const CatalogType *type;
	MirrorHit *hit;
} Referrer;

static int
compare_referrers(const ListCell *a, const ListCell *b)
{
	TimestampTz left = ((Referrer *) lfirst(a))->hit->created;
	TimestampTz right = ((Referrer *) lfirst(b))->hit->created;

	return left > right ? -1 : left < right;
}

/* The rows that refer to the object, of Referrer, the newest first */
static List *
find_referrers(const TraceObject *object, int most)
{
	const char *name = object->type->object;
	const char *account = object->account;
	List *referrers = NIL;
	ListCell *cell;

	for (int i = 0; i < catalog_ntypes; i++)
	{
		const CatalogType *type = &catalog_types[i];

		if (!link_is_column(type, name))
			continue;
		foreach(cell, mirror_rows_find(type, name, object->id, most))
		{
			Referrer *referrer = palloc(sizeof(Referrer));

			referrer->type = type;
			referrer->hit = lfirst(cell);
			if (strcmp(referrer->hit->account, account) == 0)
				referrers = lappend(referrers, referrer);
		}
	}
	list_sort(referrers, compare_referrers);
	return referrers;
}

/* Add the rows that refer to the object, which a customer has many of. */
static void
follow_referrers(TraceGather *gather, const TraceObject *object)
{
	bool many = is_type(object, "customer") || is_type(object, "subscription");
	int most = many ? TRACE_MOST_RECENT : MOST_LINKED;
	List *referrers;
	ListCell *cell;

	if (object->type == NULL || (many && !is_root(gather, object)))
		return;
	referrers = find_referrers(object, most);
	if (list_length(referrers) > most)
		record_cut(gather,
				   "Only the %d newest objects of %s are shown: trace those that you look for.",
				   most, object->id);
	foreach(cell, list_truncate(referrers, most))
	{
		Referrer *referrer = lfirst(cell);

		add_object(gather, referrer->type, referrer->hit->id, true);
	}
}

/* ---- visiting ---- */

static void
add_events(TraceGather *gather, const TraceObject *object, List *events)
{
	ListCell *cell;

	foreach(cell, events)
	{
		TraceEvent *one = lfirst(cell);

		if (list_length(gather->events) >= TRACE_MOST_EVENTS)
		{
			gather->too_many = true;
			return;
		}
		one->main = object->main;
		gather->events = lappend(gather->events, one);
	}
}

static void
drop_object(TraceGather *gather, TraceObject *object)
{
	gather->subject.objects = list_delete_ptr(gather->subject.objects, object);
}

/* A customer or subscription: its events are added when the story's time is known. */
static void
visit_context(TraceGather *gather, TraceObject *object)
{
	read_row(object);
	if (object->data == NULL)
		take_newest(object, events_of_object(object, DT_NOBEGIN, DT_NOEND, 1));
	if (is_others(gather, object))
		drop_object(gather, object);
}

static void
visit_main(TraceGather *gather, TraceObject *object)
{
	List *events;
	ListCell *cell;

	read_row(object);
	events = events_of_object(object, gather->from, gather->until,
							  OBJECT_EVENTS + 1);
	if (list_length(events) > OBJECT_EVENTS)
		record_cut(gather, "Only the %d newest events of %s are shown.",
				   OBJECT_EVENTS, object->id);
	events = list_truncate(events, OBJECT_EVENTS);
	take_newest(object, events);
	if (object->data == NULL)
		take_newest(object, events_of_object(object, DT_NOBEGIN, DT_NOEND, 1));
	if (is_others(gather, object))
	{
		drop_object(gather, object);
		return;
	}
	add_events(gather, object, events);
	if (object->data != NULL)
		follow_names(gather, object, &object->data->root);
	foreach(cell, events)
	{
		Event *event = ((TraceEvent *) lfirst(cell))->event;

		if (event != NULL && event->object != NULL)
			follow_names(gather, object, event->object);
	}
	follow_referrers(gather, object);
}

static void
visit_queue(TraceGather *gather)
{
	while (gather->queue != NIL)
	{
		TraceObject *object = linitial(gather->queue);

		CHECK_FOR_INTERRUPTS();
		gather->queue = list_delete_first(gather->queue);
		if (object->main)
			visit_main(gather, object);
		else
			visit_context(gather, object);
	}
}

/* ---- time ---- */

/* Limit the story to the span around the reference's moment. */
static void
limit_time(TraceGather *gather)
{
	const Interval *span = gather->query->span;
	TimestampTz at = gather->seed->at;
	List *newest;

	gather->from = DT_NOBEGIN;
	gather->until = DT_NOEND;
	if (span == NULL)
		return;
	newest = at == 0 ? events_of_object(gather->subject.object, DT_NOBEGIN,
										DT_NOEND, 1)
					 : NIL;
	if (newest != NIL)
		at = ((TraceEvent *) linitial(newest))->created;
	else if (at == 0)
		return;
	gather->from = time_before(at, span);
	gather->until = time_after(at, span);
}

/* The time between the story's first and last event */
static bool
story_time(const TraceGather *gather, TimestampTz *from, TimestampTz *until)
{
	ListCell *cell;

	*from = DT_NOEND;
	*until = DT_NOBEGIN;
	foreach(cell, gather->events)
	{
		*from = Min(*from, ((TraceEvent *) lfirst(cell))->created);
		*until = Max(*until, ((TraceEvent *) lfirst(cell))->created);
	}
	return gather->events != NIL;
}

/* The events of customer and subscription in the story's time */
static void
add_context(TraceGather *gather)
{
	TimestampTz from;
	TimestampTz until;
	ListCell *cell;

	if (!story_time(gather, &from, &until))
		return;
	from = Max(from - CONTEXT_MARGIN, gather->from);
	until = Min(until + CONTEXT_MARGIN, gather->until);
	foreach(cell, gather->subject.objects)
	{
		TraceObject *object = lfirst(cell);

		if (!object->main)
			add_events(gather, object,
					   events_of_object(object, from, until, CONTEXT_EVENTS));
	}
}

/* ---- the story ---- */

static void
note_ends(TraceGather *gather)
{
	TraceSubject *subject = &gather->subject;
	TimestampTz first = DT_NOEND;
	TimestampTz newest = DT_NOBEGIN;
	ListCell *cell;

	foreach(cell, gather->events)
	{
		TraceEvent *one = lfirst(cell);

		if (one->event == NULL || one->object_id == NULL ||
			strcmp(one->object_id, subject->object->id) != 0)
			continue;
		if (one->created < first)
			subject->first = one->event;
		if (one->created > newest)
			subject->newest = one->event;
		first = Min(first, one->created);
		newest = Max(newest, one->created);
	}
}

/* Gather the objects of the story, and their events. */
void
belong_gather(TraceGather *gather)
{
	gather->subject.objects = list_make1(gather->subject.object);
	gather->queue = list_make1(gather->subject.object);
	limit_time(gather);
	visit_queue(gather);
	while (requests_follow(gather))
		visit_queue(gather);
	add_context(gather);
	note_ends(gather);
	if (gather->too_many)
		record_cut(gather,
				   "There is more than can be shown: trace a single object, or give a span.");
}
