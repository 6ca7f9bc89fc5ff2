/*
 * held.c
 *		Events that were stored and ignored, for their mode was not their
 *		account's (endpoint_mode.c): released when the endpoint is right.
 *
 * A held event is "ignored" without a verdict of the mirror's, and belongs to no
 * object: it doesn't count where the newest state of one is looked for.
 */
#include "account.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"

bool
held_is(const StoredEvent *stored)
{
	return strcmp(stored->status, "ignored") == 0 && stored->mirrored == NULL;
}

/* Its endpoint is gone: does the account take events of this mode? */
static char *
reason_by_account(const Event *event, const char *account)
{
	bool live;

	if (!event->has_livemode || !account_mode(account, &live) ||
		live == event->livemode)
		return NULL;
	return psprintf("a %s event, and endpoints of %s take %s ones",
					event->livemode ? "live" : "test", account_words(account),
					live ? "live" : "test");
}

/*
 * Why it is still held; NULL when it isn't any more, and then *account is whose
 * event it is.  "listed" is the account whose list it is in, or NULL.
 */
static char *
judge(StoredEvent *stored, const char *listed, char **account)
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

char *
held_reason(StoredEvent *stored)
{
	char *account;

	return judge(stored, NULL, &account);
}

/*
 * From now on it is an event as any other, of which everything is still to do.
 * Answers why not, or NULL.  The event's row is locked.
 */
char *
held_release(StoredEvent *stored, const char *listed, const char *source)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.event SET account = $3, object_id = $4, status = 'pending',"
		" mirrored = $5, todo = $6, tries = $7, source = COALESCE($8, source)"
		" WHERE id OPERATOR(pg_catalog.=) $1 AND account OPERATOR(pg_catalog.=) $2",
		8,
		{TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTARRAYOID, JSONBOID,
		 TEXTOID}};
	Event *event = &stored->event;
	char nulls[] = "        ";
	Datum values[8];
	char *account;
	char *reason = judge(stored, listed, &account);

	if (reason != NULL)
		return reason;
	stored->todo = inbox_all_steps(event);
	stored->mirrored = event->catalog != NULL ? NULL : "ignored";
	stored->status = "pending";
	values[0] = CStringGetTextDatum(event->id);
	values[1] = CStringGetTextDatum(event->account);
	values[2] = CStringGetTextDatum(account);
	values[3] = event->object_id ? CStringGetTextDatum(event->object_id)
								 : (Datum) 0;
	nulls[3] = event->object_id ? ' ' : 'n';
	values[4] = stored->mirrored ? CStringGetTextDatum(stored->mirrored)
								 : (Datum) 0;
	nulls[4] = stored->mirrored ? ' ' : 'n';
	values[5] = step_names(stored->todo);
	values[6] = step_tries(stored->todo);
	values[7] = source ? CStringGetTextDatum(source) : (Datum) 0;
	nulls[7] = source ? ' ' : 'n';
	SPI_connect();
	engine_run(&update, values, nulls, SPI_OK_UPDATE);
	SPI_finish();
	event->account = account;
	return NULL;
}
