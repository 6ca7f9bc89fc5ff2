/*
 * find_event.c
 *		References to events: their ids, and the API requests that caused them.
 *
 * An event that is about an object refers to the object.
 */
#include "postgres.h"

#include "engine/engine.h"
#include "engine/statement.h"
#include "types/types.h"
#include "lookup/internal.h"

#define MOST_EVENTS 100 /* of one request */

#define EVENT_COLUMNS                                                          \
	" id, account, object_type, object_id, COALESCE(created, received_at)"

/* Add a referent that is not there yet. */
void
find_add(Reference *reference, Referent *referent)
{
	ListCell *cell;

	foreach(cell, reference->referents)
	{
		Referent *other = lfirst(cell);

		if (other->kind == referent->kind &&
			other->number == referent->number && other->id != NULL &&
			referent->id != NULL && strcmp(other->id, referent->id) == 0 &&
			strcmp(other->account, referent->account) == 0)
			return;
	}
	reference->referents = lappend(reference->referents, referent);
}

static Referent *
read_event(Rows *rows)
{
	Referent *referent = palloc0(sizeof(Referent));

	referent->event_id = rows_text(rows);
	referent->account = rows_text(rows);
	referent->object_type = rows_text(rows);
	referent->id = rows_text(rows);
	referent->at = rows_time(rows, 0);
	referent->kind = referent->id != NULL && referent->object_type != NULL
						 ? REFERENT_OBJECT
						 : REFERENT_EVENT;
	if (referent->kind == REFERENT_EVENT)
		referent->id = referent->event_id;
	return referent;
}

static bool
add_events(Reference *reference, EngineStatement *select, int most)
{
	Rows rows;

	rows_open(&rows, select,
			  ARGS(arg_text(reference->ref), arg_text(reference->account),
				   arg_int4(most)));
	while (rows_next(&rows))
		find_add(reference, read_event(&rows));
	rows_close(&rows);
	return reference->referents != NIL;
}

bool
find_event(Reference *reference)
{
	static EngineStatement select = {
		"SELECT" EVENT_COLUMNS " FROM stripe_sync.event"
		" WHERE id = $1 AND account = COALESCE($2, account) LIMIT $3"};

	return add_events(reference, &select, MOST_EVENTS);
}

/* The event of that id and account, or NULL */
Referent *
find_event_by_id(const char *id, const char *account)
{
	static EngineStatement select = {
		"SELECT" EVENT_COLUMNS " FROM stripe_sync.event"
		" WHERE id = $1 AND account = COALESCE($2, account) LIMIT 1"};
	Referent *referent = NULL;
	Rows rows;

	rows_open(&rows, &select, ARGS(arg_text(id), arg_text(account)));
	if (rows_next(&rows))
		referent = read_event(&rows);
	rows_close(&rows);
	return referent;
}

/* ---- API requests ---- */

/* How much an object tells of what a request did: the least is best. */
static int
rank(const Referent *referent)
{
	static const char *const order[] = {"invoice", "payment_intent", "charge",
										"checkout.session", "subscription"};
	int n = lengthof(order);

	if (referent->kind != REFERENT_OBJECT)
		return n + 3;
	for (int i = 0; i < n; i++)
		if (strcmp(referent->object_type, order[i]) == 0)
			return i;
	if (strcmp(referent->object_type, "customer") == 0)
		return n + 1;
	return link_has_any(catalog_find(referent->object_type,
									 strlen(referent->object_type)))
			   ? n
			   : n + 2;
}

static int
compare_ranks(const ListCell *a, const ListCell *b)
{
	return rank(lfirst(a)) - rank(lfirst(b));
}

static bool
add_request(Reference *reference, EngineStatement *select)
{
	bool found = add_events(reference, select, MOST_EVENTS);

	list_sort(reference->referents, compare_ranks);
	return found;
}

/* Requests to Stripe's API that caused events, and those of the worker's jobs */
bool
find_request(Reference *reference)
{
	static EngineStatement select = {
		"SELECT" EVENT_COLUMNS " FROM stripe_sync.event"
		" WHERE request_id = $1 AND account = COALESCE($2, account)"
		" ORDER BY created LIMIT $3"};
	static EngineStatement select_job = {
		"SELECT job FROM stripe_sync.api_call WHERE request_id = $1"
		" AND job IS NOT NULL LIMIT 1"};
	int64 job;

	if (add_request(reference, &select))
		return true;
	job = statement_int8(0, &select_job, ARGS(arg_text(reference->ref)));
	return job != 0 && find_job(reference, job);
}

bool
find_idempotency_key(Reference *reference)
{
	static EngineStatement select = {
		"SELECT" EVENT_COLUMNS " FROM stripe_sync.event"
		" WHERE idempotency_key = $1 AND account = COALESCE($2, account)"
		" LIMIT $3"};
	int nest = plan_for_brin();
	bool found = add_request(reference, &select);

	plan_settings_restore(nest);
	return found;
}
