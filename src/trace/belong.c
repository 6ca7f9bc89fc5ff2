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

#include "utils/fmgrprotos.h"

#include "base/base.h"
#include "inbox/inbox.h"
#include "types/object.h"
#include "types/types.h"
#include "trace/internal.h"

#define CONTEXT_MARGIN USECS_PER_DAY /* before and after the story */
#define CONTEXT_EVENTS 30			 /* of a customer or subscription */
#define OBJECT_EVENTS  100			 /* of another object */
#define LONGEST_SPAN                                                           \
	(100 * INT64CONST(366) * SECS_PER_DAY) /* more is no limit */

/* ---- what is known of an object ---- */

static void
read_row(TraceObject *object)
{
	VisibleState state;

	if (object->type == NULL ||
		!visible_row_read(object->type, object->id, object->account, &state))
		return;
	object->data = state.data;
	object->as_of = state.as_of;
	object->from_event = state.event_id;
	object->deleted = state.deleted;
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
	if (follow_is_type(object, "customer"))
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
	gather->others = lappend(gather->others, object);
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

static TimestampTz
shift(TimestampTz at, const Interval *span, PGFunction by)
{
	return DatumGetTimestamp(DirectFunctionCall2(by, TimestampGetDatum(at),
												 IntervalPGetDatum(span)));
}

/* Limit the story to the span around the reference's moment. */
static void
limit_time(TraceGather *gather)
{
	const Interval *span = gather->span;
	TimestampTz at = gather->referent->at;
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
	if (endpoint_seconds(span) > LONGEST_SPAN)
		return;
	gather->from = shift(at, span, timestamp_mi_interval);
	gather->until = shift(at, span, timestamp_pl_interval);
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
	while (follow_payment(gather) || follow_requests(gather))
		visit_queue(gather);
	add_context(gather);
	note_ends(gather);
	if (gather->too_many)
		record_cut(
			gather,
			"There is more than can be shown: trace a single object, or give a span.");
}
