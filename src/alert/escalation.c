/*
 * escalation.c
 *		Incidents by the clock: critical ones that nobody takes up are repeated,
 *		snoozed ones come back, and those that no event closes are closed when
 *		their window ends.
 *
 * The worker calls both, each in a transaction of its own and in the engine's
 * scope.  A row says when it is due, and no longer does so in the transaction
 * that queues the message: after a crash before its commit the incident is due
 * again.  Rows that another session has locked are skipped; nothing here waits
 * for a lock of an alert.
 */
#include "postgres.h"

#include "access/xact.h"

#include "alert/alert.h"
#include "base/base.h"
#include "engine/engine.h"
#include "engine/statement.h"
#include "alert/internal.h"

#define BATCH_SIZE 100 /* incidents in one transaction */

/* Pointers to the ids that a statement selects */
static List *
due_ids(EngineStatement *select)
{
	List *ids = NIL;
	Rows rows;

	rows_open(&rows, select, ARGS(arg_int4(BATCH_SIZE)));
	while (rows_next(&rows))
	{
		int64 *id = palloc(sizeof(int64));

		*id = rows_int8(&rows, 0);
		ids = lappend(ids, id);
	}
	rows_close(&rows);
	return ids;
}

/* ---- repetitions ---- */

/*
 * May an incident i be repeated once more?  Where people have pressed a button
 * before, three times since a snooze of it ended, or since it was opened.
 * Elsewhere nobody can acknowledge it, so one repetition is enough.
 */
#define IS_REPEATED_AGAIN                                                      \
	"EXISTS (SELECT FROM stripe_sync.destination d"                            \
	"  JOIN stripe_sync.slack_app p ON p.name = d.app"                         \
	"  WHERE p.first_press_at IS NOT NULL AND i.footer IS DISTINCT FROM ''"    \
	"   AND (d.name = i.destination OR d.name = (SELECT e.escalation"          \
	"     FROM stripe_sync.destination e WHERE e.name = i.destination)))"      \
	" AND (SELECT pg_catalog.count(*) FROM stripe_sync.incident_step s"        \
	"  WHERE s.incident = i.id AND s.step = 'repeated' AND s.id > COALESCE("   \
	"   (SELECT pg_catalog.max(w.id) FROM stripe_sync.incident_step w"         \
	"     WHERE w.incident = i.id AND w.step = 'woken'), 0)) < 3"

/* Note the repetition, and when the next one is due. */
static void
set_repeated(int64 id)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.incident_record i SET"
		" escalated_at = pg_catalog.clock_timestamp(),"
		" escalations = i.escalations + 1,"
		" escalate_at = CASE WHEN " IS_REPEATED_AGAIN
		"  THEN pg_catalog.clock_timestamp() + $2 * interval '1 second' END"
		" WHERE i.id = $1"};

	(void) incident_step_insert(id, "repeated", NULL, 0, 0);
	CommandCounterIncrement(); /* the statement counts that row */
	statement_exec(&update, ARGS(arg_int8(id), arg_int4(guc_escalate_after)));
}

/* Not repeated now: again after so many seconds, or with 0 never. */
static void
put_off(int64 id, int seconds)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.incident_record SET escalate_at = CASE WHEN $2 > 0"
		" THEN pg_catalog.clock_timestamp() + $2 * interval '1 second' END"
		" WHERE id = $1"};

	statement_exec(&update, ARGS(arg_int8(id), arg_int4(seconds)));
}

static void
repeat_incident(int64 id)
{
	Destination destination;
	Incident incident;

	if (guc_escalate_after == 0 || !incident_read(id, &incident) ||
		!destination_find(incident.destination, &destination))
		put_off(id, 0);
	else if (incident_post_repetition(
				 &incident, psprintf("Not resolved after %s: %s",
									 incident_duration(incident.opened_at,
													   GetCurrentTimestamp()),
									 incident.text)))
		set_repeated(id);
	else /* its rule is muted */
		put_off(id, guc_escalate_after);
}

/* While stripe_sync.escalate_after is 0, what is due is not repeated later. */
static bool
repeat_due(void)
{
	static EngineStatement select = {
		"SELECT id FROM stripe_sync.incident_record"
		" WHERE escalate_at <= pg_catalog.clock_timestamp()"
		" ORDER BY escalate_at LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED"};
	List *ids = due_ids(&select);
	ListCell *cell;

	foreach(cell, ids)
		repeat_incident(*(int64 *) lfirst(cell));
	return ids != NIL;
}

/* ---- snoozes that are over ---- */

/*
 * It is as if nobody had taken it up: a critical one is due for repetition after
 * stripe_sync.escalate_after.
 */
static void
set_woken(int64 id)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.incident_record SET snoozed_until = NULL,"
		" snoozed_by = NULL, acknowledged_at = NULL, acknowledged_by = NULL,"
		" escalate_at = CASE WHEN $2 > 0 AND kind = 'single'"
		"   AND severity = 'critical' THEN pg_catalog.clock_timestamp()"
		"   + $2 * interval '1 second' END WHERE id = $1"};

	statement_exec(&update, ARGS(arg_int8(id), arg_int4(guc_escalate_after)));
}

/* Say that it is back, and mention who has snoozed it. */
static void
wake_incident(int64 id, const char *snoozed_by)
{
	int64 step = incident_step_insert(id, "woken", NULL, 0, 0);
	Incident incident;

	set_woken(id);
	CommandCounterIncrement();
	if (!incident_read(id, &incident) || incident_is_resolved(&incident))
		return;
	incident_show(&incident, psprintf("step/" INT64_FORMAT, step), NULL);
	incident_post_answer(
		&incident,
		psprintf(
			":alarm_clock: The snooze by %s is over, not resolved after %s: %s",
			incident_person(snoozed_by),
			incident_duration(incident.opened_at, GetCurrentTimestamp()),
			incident_first_line(&incident)),
		NULL);
}

static bool
wake_due(void)
{
	static EngineStatement select = {
		"SELECT id FROM stripe_sync.incident_record"
		" WHERE snoozed_until <= pg_catalog.clock_timestamp()"
		" ORDER BY snoozed_until LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED"};
	static EngineStatement select_by = {
		"SELECT snoozed_by FROM stripe_sync.incident_record WHERE id = $1"};
	List *ids = due_ids(&select);
	ListCell *cell;

	foreach(cell, ids)
	{
		int64 id = *(int64 *) lfirst(cell);

		wake_incident(id, statement_text(&select_by, ARGS(arg_int8(id))));
	}
	return ids != NIL;
}

/* ---- windows that end ---- */

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

/* ---- the worker's turn ---- */

/* When the next one is due; DT_NOEND if none is. */
static TimestampTz
next_due(void)
{
	static EngineStatement select = {
		"SELECT LEAST((SELECT escalate_at FROM stripe_sync.incident_record"
		"  WHERE escalate_at IS NOT NULL ORDER BY escalate_at LIMIT 1),"
		" (SELECT snoozed_until FROM stripe_sync.incident_record"
		"  WHERE snoozed_until IS NOT NULL ORDER BY snoozed_until LIMIT 1))"};

	return statement_time(DT_NOEND, &select, NO_ARGS);
}

/*
 * Repeat critical incidents that are due, and wake those whose snooze is over.
 * Returns true if there were any, and in *next when to call it again.
 */
bool
escalate_due(TimestampTz *next)
{
	int nest = plan_for_indexes();
	bool found = repeat_due();

	found |= wake_due();
	/* one that is due still is locked by another session */
	*next = Max(next_due(), GetCurrentTimestamp() + USECS_PER_SEC);
	plan_settings_restore(nest);
	return found;
}
