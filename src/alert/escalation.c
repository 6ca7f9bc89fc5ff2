/*
 * escalation.c
 *		Incidents by the clock: open critical ones are repeated, and those that
 *		no event closes are closed when their window ends.
 *
 * The worker calls both, each in a transaction of its own and in the engine's
 * scope.  escalate_at is cleared in the transaction that queues the repetition:
 * after a crash before its commit the incident is due again.  Rows that another
 * session has locked are skipped; nothing here waits for a lock of an alert.
 */
#include "postgres.h"

#include "alert/alert.h"
#include "base/base.h"
#include "engine/engine.h"
#include "engine/statement.h"
#include "message/message.h"
#include "outbox/outbox.h"
#include "alert/internal.h"

#define BATCH_SIZE 100 /* incidents in one transaction */

/*
 * Clear escalate_at of incidents that are due, and return pointers to their
 * ids.  While stripe_sync.escalate_after is 0 they are cleared and not repeated.
 */
static List *
clear_due(void)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.incident_record i SET escalate_at = NULL,"
		" escalated_at = CASE WHEN $2 THEN pg_catalog.clock_timestamp() END"
		" FROM (SELECT id FROM stripe_sync.incident_record"
		"  WHERE escalate_at <= pg_catalog.clock_timestamp()"
		"  ORDER BY escalate_at LIMIT $1 FOR UPDATE SKIP LOCKED) d"
		" WHERE i.id = d.id RETURNING i.id"};
	List *ids = NIL;
	Rows rows;

	rows_open(&rows, &update,
			  ARGS(arg_int4(BATCH_SIZE), arg_bool(guc_escalate_after > 0)));
	while (rows_next(&rows))
	{
		int64 *id = palloc(sizeof(int64));

		*id = rows_int8(&rows, 0);
		ids = lappend(ids, id);
	}
	rows_close(&rows);
	return ids;
}

/* "90 seconds", "45 minutes": how long it has been open */
static char *
age_text(int seconds)
{
	if (seconds < 2 * SECS_PER_MINUTE)
		return psprintf("%d seconds", seconds);
	return psprintf("%d minutes", seconds / SECS_PER_MINUTE);
}

/*
 * Repeat it at the second destination of set_escalation(), or in its own thread
 * if there is none.
 */
static void
repeat_incident(int64 id)
{
	Incident incident;
	Destination destination;
	MessageParts parts = {.severity = "critical"};
	NewMessage message = {
		.method = "post", .due_at = GetCurrentTimestamp(), .incident = id};

	if (!incident_read(id, &incident) ||
		!destination_find(incident.destination, &destination))
		return;
	parts.text = psprintf(
		"Not resolved after %s: %s",
		age_text((GetCurrentTimestamp() - incident.opened_at) / USECS_PER_SEC),
		incident.text);
	message.payload = blocks_message(&parts);
	message.event_id = incident.event_id;
	if (destination.escalation != NULL)
	{
		message.destination = destination.escalation;
		message.thread = incident_escalation_thread(id);
	}
	else
	{
		message.destination = incident.destination;
		message.thread = incident_thread(id);
	}
	(void) incident_enqueue(&message, &incident);
}

/*
 * Close roll-ups and digests that have counted nothing for the rule's window (a
 * digest: an hour).  Intervals are compared instead of times, so that a day of
 * the window has 24 hours in any time zone.
 */
static void
close_idle_collectors(void)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.incident_record i SET state = 'closed',"
		" closed_at = pg_catalog.clock_timestamp()"
		" FROM (SELECT o.id FROM stripe_sync.incident_record o"
		"  WHERE o.state = 'open' AND o.kind <> 'single'"
		"   AND pg_catalog.clock_timestamp() - COALESCE("
		"     (SELECT a.at FROM stripe_sync.alerted a WHERE a.incident = o.id"
		"       AND NOT a.closes ORDER BY a.at DESC LIMIT 1), o.opened_at)"
		"   > COALESCE((SELECT r.coalesce_for"
		"     FROM stripe_sync.alert r WHERE r.name = o.alert), interval '1 hour')"
		"  LIMIT 1000 FOR UPDATE OF o SKIP LOCKED) d"
		" WHERE i.id = d.id RETURNING i.alert"};

	incident_close_counted(&update, NO_ARGS);
}

/* Close incidents whose window has ended, of rules that no event closes. */
void
escalate_end_windows(void)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.incident_record i SET state = 'closed',"
		" closed_at = i.window_until"
		" FROM (SELECT id FROM stripe_sync.incident_record o"
		"  WHERE o.state = 'open' AND o.kind = 'single'"
		"   AND o.window_until < pg_catalog.clock_timestamp()"
		"   AND NOT EXISTS (SELECT FROM stripe_sync.alert a"
		"     WHERE a.name = o.alert AND a.closed_by IS NOT NULL)"
		"  LIMIT 1000 FOR UPDATE SKIP LOCKED) d"
		" WHERE i.id = d.id RETURNING i.alert"};

	incident_close_counted(&update, NO_ARGS);
	close_idle_collectors();
}

/* When the next repetition is due; DT_NOEND if none is. */
static TimestampTz
next_escalation(void)
{
	static EngineStatement select = {
		"SELECT escalate_at FROM stripe_sync.incident_record"
		" WHERE escalate_at IS NOT NULL ORDER BY escalate_at LIMIT 1"};

	return statement_time(DT_NOEND, &select, NO_ARGS);
}

/*
 * Repeat critical incidents that are due.  Returns true if there were any, and
 * in *next when to call it again.
 */
bool
escalate_due(TimestampTz *next)
{
	int nest = plan_for_indexes();
	List *ids = clear_due();
	ListCell *cell;

	foreach(cell, guc_escalate_after > 0 ? ids : NIL)
		repeat_incident(*(int64 *) lfirst(cell));
	/* one that is due still is locked by another session */
	*next = Max(next_escalation(), GetCurrentTimestamp() + USECS_PER_SEC);
	plan_settings_restore(nest);
	return ids != NIL;
}
