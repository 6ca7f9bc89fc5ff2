/*
 * held.c
 *		Events that are held because their mode was not their endpoint's
 *		(endpoint_mode.c), and their release.
 *
 * A held event has the status "ignored" and no verdict of the mirror, and its
 * object_id is NULL, so that it is not among the events that decide an object's
 * newest state.  It is released when it is replayed, delivered again or found by
 * a reconcile run, if its mode fits the endpoint's by then.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "base/refusal.h"
#include "engine/statement.h"
#include "inbox/event.h"
#include "inbox/inbox.h"
#include "receive/receive.h"
#include "receive/internal.h"

bool
held_is(const StoredEvent *stored)
{
	return strcmp(stored->status, "ignored") == 0 && stored->mirrored == NULL;
}

/*
 * The reason by the account's mode, for an event whose endpoint was dropped or
 * has no mode; NULL if there is none.
 */
static char *
reason_by_account(const Event *event, const char *account)
{
	bool live;

	if (!event->has_livemode || !account_mode(account, &live) ||
		live == event->livemode)
		return NULL;
	return psprintf("it is a %s event, and endpoints of %s take %s events",
					event->livemode ? "live" : "test", account_words(account),
					live ? "live" : "test");
}

/*
 * Why the event is still held; NULL if its mode fits now.  Sets *account to the
 * account that it belongs to by the endpoint's present set-up.  "listed" is the
 * account in whose list of events it was found, or NULL.
 */
static char *
find_reason(StoredEvent *stored, const char *listed, char **account)
{
	Event *event = &stored->event;
	Endpoint endpoint;
	Refusal refusal;

	if (stored->endpoint == NULL ||
		!endpoint_find(stored->endpoint, &endpoint, &refusal))
	{
		*account = listed != NULL ? pstrdup(listed) : event->account;
		return reason_by_account(event, *account);
	}
	*account = account_join(endpoint.account, event->named);
	if (!endpoint.has_livemode)
		return reason_by_account(event, endpoint.account);
	switch (endpoint_mode_judge(&endpoint, event))
	{
		case MODE_FITS:
			return NULL;
		case MODE_HELD:
			return endpoint_mode_reason(&endpoint, event);
		case MODE_REFUSED:
			endpoint_mode_refuse(&endpoint, event, &refusal);
			return pstrdup(refusal.message);
	}
	return NULL;
}

/* Why the event is still held; NULL if its mode fits now. */
char *
held_reason(StoredEvent *stored)
{
	char *account;

	return find_reason(stored, NULL, &account);
}

/*
 * Release an event whose row is locked: it gets its object_id, the status
 * "pending" and all steps to do, and "source" unless NULL.  Returns NULL, or why
 * it is still held, and then changes nothing.  Updates *stored.
 */
char *
held_release(StoredEvent *stored, const char *listed, const char *source)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.event SET account = $3, object_id = $4, status = 'pending',"
		" mirrored = $5, todo = $6, tries = $7, source = COALESCE($8, source)"
		" WHERE id = $1 AND account = $2"};
	Event *event = &stored->event;
	char *account;
	char *reason = find_reason(stored, listed, &account);

	if (reason != NULL)
		return reason;
	stored->todo = steps_all(event);
	stored->mirrored = event->catalog != NULL ? NULL : "ignored";
	stored->status = "pending";
	statement_exec(
		&update,
		ARGS(arg_text(event->id), arg_text(event->account), arg_text(account),
			 arg_text(event->object_id), arg_text(stored->mirrored),
			 arg_datum(TEXTARRAYOID, step_names(stored->todo)),
			 arg_datum(JSONBOID, step_tries(stored->todo)), arg_text(source)));
	event->account = account;
	return NULL;
}
