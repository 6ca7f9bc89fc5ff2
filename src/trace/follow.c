/*
 * follow.c
 *		References between objects, followed both ways: what an object names, the
 *		rows of the mirror that refer to it, and what the API requests that
 *		caused its events have done to others.
 */
#include "postgres.h"

#include "base/base.h"
#include "engine/engine.h"
#include "engine/statement.h"
#include "types/object.h"
#include "types/types.h"
#include "trace/internal.h"

#define MOST_LINKED	  50  /* objects that refer to one */
#define MOST_REQUESTS 100 /* events of the same requests */

bool
follow_is_type(const TraceObject *object, const char *name)
{
	return object->type != NULL && strcmp(object->type->object, name) == 0;
}

static bool
is_root(const TraceGather *gather, const TraceObject *object)
{
	return object == gather->subject.object;
}

static TraceObject *
find_object(List *objects, const CatalogType *type, const char *id)
{
	ListCell *cell;

	foreach(cell, objects)
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

	if (id == NULL || find_object(gather->subject.objects, type, id) != NULL ||
		find_object(gather->others, type, id) != NULL)
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

/* ---- what an object names ---- */

/* Is an object that a main object names a main object itself? */
static bool
is_main_link(const TraceGather *gather, const char *name)
{
	return strcmp(name, "customer") != 0 &&
		   (strcmp(name, "subscription") != 0 ||
			follow_is_type(gather->subject.object, "customer"));
}

/* Add what the object names, in one of its states. */
void
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

/* ---- what refers to an object ---- */

/* Add the rows that refer to the object, which a customer has many of. */
void
follow_referrers(TraceGather *gather, const TraceObject *object)
{
	bool many = follow_is_type(object, "customer") ||
				follow_is_type(object, "subscription");
	int most = many ? TRACE_MOST_RECENT : MOST_LINKED;
	List *referrers;
	ListCell *cell;

	if (object->type == NULL || !link_is_name(object->type->object) ||
		(many && !is_root(gather, object)))
		return;
	referrers = referrers_find(object->type, object->id, object->account, most);
	if (list_length(referrers) > most)
		record_cut(
			gather,
			"Only the %d newest objects of %s are shown: trace those that you look for.",
			most, object->id);
	foreach(cell, list_truncate(referrers, most))
	{
		Referrer *referrer = lfirst(cell);

		add_object(gather, referrer->type, referrer->row->id, true);
	}
}

/* Does the object name a main object of the story? */
static bool
names_main(const TraceGather *gather, const CatalogType *type,
		   JsonbContainer *state)
{
	for (int i = 0; i < nlink_names; i++)
	{
		const CatalogType *named = catalog_find(link_names[i],
												strlen(link_names[i]));
		char *id = link_get(type, state, link_names[i]);
		TraceObject *object = id == NULL ? NULL
										 : find_object(gather->subject.objects,
													   named, id);

		if (object != NULL && object->main)
			return true;
	}
	return false;
}

/* ---- the invoice that a payment is for ---- */

/* The payment intent or charge of a story that has no invoice, or NULL */
static const TraceObject *
find_payment(const TraceGather *gather)
{
	const TraceObject *payment = NULL;
	ListCell *cell;

	foreach(cell, gather->subject.objects)
	{
		TraceObject *object = lfirst(cell);

		if (follow_is_type(object, "invoice"))
			return NULL;
		if (object->main && object->data != NULL &&
			(follow_is_type(object, "payment_intent") ||
			 follow_is_type(object, "charge")))
			payment = object;
	}
	return payment;
}

/*
 * Since API version 2025-03-31 a payment does not name its invoice; an invoice
 * payment names both.  Look at those of the customer's invoices.  Returns whether
 * one was added.
 */
bool
follow_payment(TraceGather *gather)
{
	const TraceObject *payment = find_payment(gather);
	ListCell *cell;

	if (payment == NULL || gather->customer == NULL ||
		follow_is_type(gather->subject.object, "customer"))
		return false;
	foreach(cell, referrers_near_invoice_payments(
					  gather->customer, payment->account, &payment->data->root))
	{
		Referrer *referrer = lfirst(cell);

		if (names_main(gather, referrer->type, &referrer->data->root))
			add_object(gather, referrer->type, referrer->row->id, true);
	}
	return gather->queue != NIL;
}

/* ---- events of the same request ---- */

/* The requests that caused the story's main events, as rows of arguments */
static void
collect_requests(const TraceGather *gather, ArgColumns *requests)
{
	ListCell *cell;

	foreach(cell, gather->events)
	{
		TraceEvent *one = lfirst(cell);

		if (one->main && one->request_id != NULL)
			columns_add(requests, ARGS(arg_text(one->request_id)));
	}
}

/* Add the event's object if it belongs to the story. */
static void
follow_event(TraceGather *gather, const char *id)
{
	Event event;

	if (event_load(id, gather->subject.object->account, &event) &&
		event.catalog != NULL && event.object != NULL &&
		event.object_id != NULL &&
		find_object(gather->subject.objects, event.catalog, event.object_id) ==
			NULL &&
		names_main(gather, event.catalog, event.object))
		add_object(gather, event.catalog, event.object_id, true);
}

/*
 * Add objects that name a main object of the story, and that a request has
 * changed together with it: where there is no table of the mirror, nothing else
 * leads to them.  Returns whether there are any.
 */
bool
follow_requests(TraceGather *gather)
{
	static EngineStatement select = {
		"SELECT id FROM stripe_sync.event WHERE request_id = ANY ($1)"
		/* no index on the account is to be used */
		" AND account IS NOT DISTINCT FROM $2 LIMIT $3"};
	ArgColumns requests = {0};
	Rows rows;
	int nest;

	collect_requests(gather, &requests);
	if (requests.ncolumns == 0)
		return false;
	nest = plan_for_indexes();
	rows_open(&rows, &select,
			  ARGS(arg_column(&requests, 0),
				   arg_text(gather->subject.object->account),
				   arg_int4(MOST_REQUESTS)));
	plan_settings_restore(nest);
	while (rows_next(&rows))
		follow_event(gather, rows_text(&rows));
	rows_close(&rows);
	return gather->queue != NIL;
}
