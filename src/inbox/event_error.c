/*
 * event_error.c
 *		stripe_sync.event_error: what failed of an event, kept after the event
 *		has recovered.
 *
 * Rows are written after the steps and outside of their subtransactions, so
 * that the failure of a step that was rolled back is recorded.  The writer has
 * locked the event's row or inserted it in this transaction, so two sessions
 * never write rows of one event at a time.  A row's state:
 *
 *	failing		the step has not succeeded since
 *	recovered	it has; recovered_events.c has not considered it yet
 *	settled		it has, and system.event_recovered was raised or was not due
 */
#include "postgres.h"

#include "catalog/pg_type.h"

#include "base/text.h"
#include "engine/engine.h"
#include "engine/statement.h"
#include "inbox/event.h"
#include "inbox/inbox.h"
#include "server/server.h"

#define MAX_MESSAGE 1024 /* bytes */
#define MAX_CONTEXT 2048

/* The text cut to so many bytes; NULL for NULL. */
static char *
clipped(const char *text, int most)
{
	return text != NULL ? text_clip(text, most) : NULL;
}

/*
 * Record that a step of an event has failed.  Equal errors of a step are one
 * row with a count.  "step" is "" if the event's row could not be read, which
 * is not attributed to a step and so never recovers: the row is settled.
 */
void
record_failure(const Event *event, const char *step, const ErrorData *error)
{
	static EngineStatement upsert = {
		"INSERT INTO stripe_sync.event_error AS e (event_id, account, event_type,"
		" step, sqlstate, message, detail, hint, context, first_at, last_at, state)"
		" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10,"
		"  CASE $4 WHEN '' THEN 'settled' ELSE 'failing' END)"
		" ON CONFLICT (event_id, account, step, sqlstate,"
		"  pg_catalog.hashtextextended(message, 0)) DO UPDATE SET"
		" attempts = e.attempts + 1, last_at = excluded.last_at,"
		" detail = excluded.detail, hint = excluded.hint,"
		" context = excluded.context, state = excluded.state,"
		" recovered_at = NULL"};

	statement_exec(&upsert,
				   ARGS(arg_text(event->id), arg_text(event->account),
						arg_text(event->type), arg_text(step),
						arg_text(unpack_sql_state(error->sqlerrcode)),
						arg_text(clipped(error->message ? error->message : "",
										 MAX_MESSAGE)),
						arg_text(clipped(error->detail, MAX_MESSAGE)),
						arg_text(clipped(error->hint, MAX_MESSAGE)),
						arg_text(clipped(error->context, MAX_CONTEXT)),
						arg_time(GetCurrentTimestamp())));
}

/*
 * Record that a step that had failed has succeeded.  The worker is woken to see
 * whether that ends what an alert was raised for (recovered_events.c).
 */
void
record_recovery(const Event *event, const char *step)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.event_error SET state = 'recovered',"
		" recovered_at = pg_catalog.clock_timestamp()"
		" WHERE event_id = $1 AND account = $2 AND step = $3 AND state = 'failing'"};
	int nest = plan_for_indexes();

	if (statement_exec(&update,
					   ARGS(arg_text(event->id), arg_text(event->account),
							arg_text(step))) > 0)
		worker_wake_from_session();
	plan_settings_restore(nest);
}

/* A handler was dropped: its failures count as recovered. */
void
record_handler_dropped(text *handler)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.event_error SET state = 'recovered',"
		" recovered_at = pg_catalog.clock_timestamp()"
		" WHERE step = $1 AND state = 'failing'"};

	if (statement_exec(&update, ARGS(arg_varlena(TEXTOID, handler))) > 0)
		worker_wake_at_commit();
}

/*
 * Does a stored event still fail in this step?  Of all SQLSTATEs, types and
 * accounts if "sqlstate" is NULL, else of this SQLSTATE, type and account.
 */
bool
record_is_failing(const char *step, const char *sqlstate,
				  const char *event_type, const char *account)
{
	static EngineStatement of_group = {
		"SELECT true FROM stripe_sync.event_error f WHERE f.state = 'failing'"
		" AND f.step = $1 AND f.sqlstate = $2 AND f.event_type = $3"
		" AND f.account = $4 AND EXISTS (SELECT FROM stripe_sync.event e"
		"  WHERE e.id = f.event_id AND e.account = f.account) LIMIT 1"};
	static EngineStatement of_step = {
		"SELECT true FROM stripe_sync.event_error f WHERE f.state = 'failing'"
		" AND f.step = $1 AND EXISTS (SELECT FROM stripe_sync.event e"
		"  WHERE e.id = f.event_id AND e.account = f.account) LIMIT 1"};
	int nest = plan_for_indexes();
	bool found;

	if (sqlstate == NULL)
		found = statement_bool(false, &of_step, ARGS(arg_text(step)));
	else
		found = statement_bool(false, &of_group,
							   ARGS(arg_text(step), arg_text(sqlstate),
									arg_text(event_type), arg_text(account)));
	plan_settings_restore(nest);
	return found;
}
