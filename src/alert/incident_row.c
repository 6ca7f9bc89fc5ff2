/*
 * incident_row.c
 *		Rows of stripe_sync.incident_record: found, read, made and changed.
 *
 * incident_open_idx lets a group have one open incident of kind "single".
 * Roll-ups and digests have no such index: transactions that open one at the
 * same time don't wait for each other, at the price of one too many.
 *
 * All functions run in the engine's scope.  Those that write a "single"
 * incident are called with the lock of its group (incident_key.c).
 */
#include "postgres.h"

#include "access/xact.h"

#include "base/base.h"
#include "engine/statement.h"
#include "server/counters.h"
#include "alert/internal.h"

/* ---- find ---- */

/*
 * The group's open incident, of kind "single"; 0 if there is none.  Its row is
 * locked, so that a person who resolves it at the same time does so before this
 * event, which then opens another, or after it.
 */
int64
incident_find_open(const Occurrence *occurrence)
{
	static EngineStatement select = {
		"SELECT id FROM stripe_sync.incident_record"
		" WHERE alert = $1 AND group_key = $2 AND account = $3 AND state = 'open'"
		" AND kind = 'single' FOR NO KEY UPDATE"};

	return statement_int8(0, &select,
						  ARGS(arg_text(occurrence->alert->name),
							   arg_text(occurrence->group),
							   arg_text(occurrence->event->account)));
}

/*
 * The open roll-up or digest ("kind") of this rule and group that has counted
 * an event within "window" microseconds; 0 if there is none.
 */
int64
incident_find_collecting(const char *kind, const char *alert, const char *group,
						 int64 window)
{
	static EngineStatement select = {
		"SELECT i.id FROM stripe_sync.incident_record i"
		" WHERE i.alert = $1 AND i.group_key = $2 AND i.account = ''"
		" AND i.kind = $3 AND i.state = 'open' AND (SELECT a.at"
		"   FROM stripe_sync.alerted a WHERE a.incident = i.id AND NOT a.closes"
		"   ORDER BY a.at DESC LIMIT 1)"
		"  > pg_catalog.clock_timestamp() - $4 * interval '1 microsecond'"
		" ORDER BY i.id LIMIT 1"};

	return statement_int8(0, &select,
						  ARGS(arg_text(alert), arg_text(group), arg_text(kind),
							   arg_int8(window)));
}

/* Returns false if there is no such incident. */
bool
incident_read(int64 id, Incident *incident)
{
	static EngineStatement select = {
		"SELECT kind, alert, account, destination, severity, state, text, footer, blocks,"
		" opened_at, window_until, closed_at, closed_by, event_id, message_id,"
		" escalated_at IS NOT NULL, escalations, acknowledged_at, acknowledged_by,"
		" CASE WHEN snoozed_until > pg_catalog.clock_timestamp() THEN snoozed_until END,"
		" snoozed_by, mention, livemode IS false, closing_text,"
		" closed_well IS false, refs"
		" FROM stripe_sync.incident_record WHERE id = $1"};
	Rows rows;
	bool found;

	memset(incident, 0, sizeof(*incident));
	incident->id = id;
	rows_open(&rows, &select, ARGS(arg_int8(id)));
	found = rows_next(&rows);
	if (found)
	{
		incident->kind = rows_text(&rows);
		incident->alert = rows_text(&rows);
		incident->account = rows_text(&rows);
		incident->destination = rows_text(&rows);
		incident->severity = rows_text(&rows);
		incident->state = rows_text(&rows);
		incident->text = rows_text(&rows);
		incident->footer = rows_text(&rows);
		incident->blocks = rows_jsonb(&rows);
		incident->opened_at = rows_time(&rows, DT_NOBEGIN);
		incident->window_until = rows_time(&rows, DT_NOBEGIN);
		incident->closed_at = rows_time(&rows, DT_NOBEGIN);
		incident->closed_by = rows_text(&rows);
		incident->event_id = rows_text(&rows);
		incident->message = rows_int8(&rows, 0);
		incident->escalated = rows_bool(&rows, false);
		incident->escalations = rows_int4(&rows, 0);
		incident->acknowledged_at = rows_time(&rows, 0);
		incident->acknowledged_by = rows_text(&rows);
		incident->snoozed_until = rows_time(&rows, 0);
		incident->snoozed_by = rows_text(&rows);
		incident->mention = rows_text(&rows);
		incident->is_test = rows_bool(&rows, false);
		incident->closing_text = rows_text(&rows);
		incident->closed_badly = rows_bool(&rows, false);
		incident->refs = rows_jsonb(&rows);
	}
	rows_close(&rows);
	return found;
}

/* ---- write ---- */

/*
 * Insert an open incident and return its id.  A critical one of kind "single"
 * is repeated after stripe_sync.escalate_after unless it is closed before.  One
 * that an event of the extension itself opens has no mode: events of both may
 * have the same cause.
 */
int64
incident_insert(const Occurrence *occurrence, const NewIncident *incident)
{
	static EngineStatement insert = {
		"INSERT INTO stripe_sync.incident_record (kind, alert, group_key, account,"
		" destination, severity, text, footer, blocks, event_id, window_until,"
		" escalate_at, class, refs, mention, livemode)"
		" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10,"
		"  pg_catalog.clock_timestamp() + $11 * interval '1 microsecond',"
		"  CASE WHEN $12 > 0 THEN pg_catalog.clock_timestamp()"
		"    + $12 * interval '1 second' END, $13, $14, $15, $16) RETURNING id"};
	const Event *event = occurrence->event;
	bool single = strcmp(incident->kind, "single") == 0;
	bool escalates = single &&
					 strcmp(occurrence->alert->severity, "critical") == 0;
	bool has_mode = event->has_livemode && !alert_event_is_own(event);

	counter_add(COUNT_ALERTS, incident->alert, "opened");
	return statement_int8(
		0, &insert,
		ARGS(arg_text(incident->kind), arg_text(incident->alert),
			 arg_text(incident->group), arg_text(incident->account),
			 arg_text(occurrence->destination),
			 arg_text(occurrence->alert->severity), arg_text(incident->text),
			 arg_text(incident->footer), arg_jsonb(incident->blocks),
			 arg_text(event->id), arg_int8(incident->window),
			 arg_int4(escalates ? guc_escalate_after : 0),
			 arg_text(occurrence->class), arg_jsonb(incident->refs),
			 arg_text(single ? occurrence->alert->mention : NULL),
			 arg_if(has_mode, arg_bool(event->livemode))));
}

/*
 * Close the group's open incident if its window has ended, for a rule that no
 * event closes.  It keeps escalate_at: the end of a window doesn't mean that
 * the problem is solved, so a critical incident is still repeated.
 */
void
incident_close_expired(const Occurrence *occurrence)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.incident_record SET state = 'closed',"
		" closed_at = window_until"
		" WHERE alert = $1 AND group_key = $2 AND account = $3 AND state = 'open'"
		" AND kind = 'single' AND window_until < pg_catalog.clock_timestamp()"};

	if (occurrence->alert->closed_by == NULL &&
		statement_exec(&update, ARGS(arg_text(occurrence->alert->name),
									 arg_text(occurrence->group),
									 arg_text(occurrence->event->account))) > 0)
		counter_add(COUNT_ALERTS, occurrence->alert->name, "closed");
}

/*
 * Run an UPDATE that closes incidents and returns each one's alert, and count
 * them.
 */
void
incident_close_counted(EngineStatement *update, const StatementArg *args,
					   int nargs)
{
	Rows rows;

	rows_open(&rows, update, args, nargs);
	while (rows_next(&rows))
		counter_add(COUNT_ALERTS, rows_text(&rows), "closed");
	rows_close(&rows);
}

/* Let the window end "window" microseconds from now. */
void
incident_extend_window(int64 id, int64 window)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.incident_record SET window_until ="
		" pg_catalog.clock_timestamp() + $2 * interval '1 microsecond'"
		" WHERE id = $1"};

	statement_exec(&update, ARGS(arg_int8(id), arg_int8(window)));
}

/*
 * Close an incident; "by" is the id of the event, or the person, that resolves
 * it.  Returns false if it is resolved already.  One whose window has ended can
 * be resolved by a person.
 */
bool
incident_set_closed(int64 id, const char *by)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.incident_record i SET state = 'closed',"
		" closed_at = pg_catalog.clock_timestamp(), closed_by = $2,"
		" escalate_at = NULL, snoozed_until = NULL, snoozed_by = NULL"
		" FROM (SELECT id, state FROM stripe_sync.incident_record WHERE id = $1) o"
		" WHERE i.id = o.id AND i.closed_by IS NULL"
		" RETURNING i.alert, o.state = 'open'"};
	bool found;
	Rows rows;

	rows_open(&rows, &update, ARGS(arg_int8(id), arg_text(by)));
	found = rows_next(&rows);
	if (found)
	{
		char *alert = rows_text(&rows);

		if (rows_bool(&rows, false))
			counter_add(COUNT_ALERTS, alert, "closed");
	}
	rows_close(&rows);
	return found;
}

/* Note the incident's own message, which later messages update. */
void
incident_set_message(int64 id, int64 message)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.incident_record SET message_id = $2 WHERE id = $1"};

	statement_exec(&update, ARGS(arg_int8(id), arg_int8(message)));
}
