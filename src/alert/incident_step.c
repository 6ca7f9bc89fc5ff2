/*
 * incident_step.c
 *		What people do with an incident: acknowledge, snooze, resolve.
 *
 * Each locks the incident's row, then looks, so that of two people the second
 * one is told who was first.  After the row nothing is waited for (show_at() in
 * incident_message.c), so a press can't be part of a deadlock.
 *
 * The end of a window closes an incident without resolving it: people can still
 * act on it, until an event or a person has resolved it.
 */
#include "postgres.h"

#include "access/xact.h"

#include "engine/statement.h"
#include "outbox/outbox.h"
#include "alert/incident.h"
#include "alert/internal.h"

/* ---- rows ---- */

/*
 * Record a step and return its number.  by is NULL for the clock, until is that
 * of a snooze or 0, interaction 0 if there is none.
 */
int64
incident_step_insert(int64 incident, const char *step, const char *by,
					 TimestampTz until, int64 interaction)
{
	static EngineStatement insert = {
		"INSERT INTO stripe_sync.incident_step (incident, step, by, until,"
		" interaction) VALUES ($1, $2, $3, $4, $5) RETURNING id"};

	return statement_int8(0, &insert,
						  ARGS(arg_int8(incident), arg_text(step), arg_text(by),
							   arg_if(until != 0, arg_time(until)),
							   arg_if(interaction != 0, arg_int8(interaction))));
}

/* Lock its row until the transaction ends, and read it.  False: it is gone. */
static bool
lock_incident(int64 id, Incident *incident)
{
	static EngineStatement lock = {
		"SELECT FROM stripe_sync.incident_record WHERE id = $1"
		" FOR NO KEY UPDATE"};

	return statement_exec(&lock, ARGS(arg_int8(id))) > 0 &&
		   incident_read(id, incident);
}

/*
 * Lock it and fill in what the person is told.  Returns false if nothing can be
 * done with it.
 */
static bool
begin_step(int64 id, Incident *incident, IncidentStep *step)
{
	*step = (IncidentStep){STEP_MISSING};
	if (!lock_incident(id, incident))
		return false;
	step->alert = incident->alert;
	step->result = STEP_CLOSED;
	step->by = incident->closed_by;
	step->at = incident->closed_at;
	return !incident_is_resolved(incident);
}

/* Record the step, and return the incident as it is now. */
static char *
record_step(int64 id, const char *name, IncidentStep *step, int64 interaction,
			Incident *incident)
{
	int64 number = incident_step_insert(id, name, step->by, step->until,
										interaction);

	CommandCounterIncrement();
	if (!incident_read(id, incident))
		elog(ERROR, "incident " INT64_FORMAT " is gone", id);
	return psprintf("step/" INT64_FORMAT, number);
}

static IncidentStep
done_by(const Incident *incident, const char *by, TimestampTz until)
{
	return (IncidentStep){.result = STEP_DONE,
						  .alert = incident->alert,
						  .by = pstrdup(by),
						  .at = GetCurrentTimestamp(),
						  .until = until};
}

/* ---- steps ---- */

/* No more repetitions.  It ends a snooze. */
IncidentStep
incident_acknowledge(int64 id, const char *by, int64 interaction)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.incident_record SET acknowledged_at = $3,"
		" acknowledged_by = $2, snoozed_until = NULL, snoozed_by = NULL,"
		" escalate_at = NULL WHERE id = $1"};
	Incident incident;
	IncidentStep step;
	char *change;

	if (!begin_step(id, &incident, &step))
		return step;
	if (incident.acknowledged_at != 0 && incident.snoozed_until == 0)
		return (IncidentStep){.result = STEP_DONE_BEFORE,
							  .alert = incident.alert,
							  .by = incident.acknowledged_by,
							  .at = incident.acknowledged_at};
	step = done_by(&incident, by, 0);
	statement_exec(&update, ARGS(arg_int8(id), arg_text(by), arg_time(step.at)));
	change = record_step(id, "acknowledged", &step, interaction, &incident);
	incident_show(&incident, change, NULL);
	return step;
}

/*
 * Nothing is said about it until then, unless it ends (escalation.c wakes it).
 * A snooze replaces an earlier one.
 */
IncidentStep
incident_snooze(int64 id, TimestampTz until, const char *by, int64 interaction)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.incident_record SET snoozed_until = $3,"
		" snoozed_by = $2, escalate_at = NULL WHERE id = $1"};
	Incident incident;
	IncidentStep step;
	char *change;

	if (!begin_step(id, &incident, &step))
		return step;
	step = done_by(&incident, by, until);
	if (incident.snoozed_until != 0)
	{
		step.replaced_by = incident.snoozed_by;
		step.replaced_until = incident.snoozed_until;
	}
	statement_exec(&update, ARGS(arg_int8(id), arg_text(by), arg_time(until)));
	change = record_step(id, "snoozed", &step, interaction, &incident);
	incident_show(&incident, change, NULL);
	return step;
}

/* It is over: the next event of its group opens another. */
IncidentStep
incident_resolve(int64 id, const char *by, int64 interaction)
{
	Incident incident;
	IncidentStep step;

	if (!begin_step(id, &incident, &step))
		return step;
	step = done_by(&incident, by, 0);
	(void) incident_set_closed(id, by);
	(void) record_step(id, "resolved", &step, interaction, &incident);
	incident_queue_closed(&incident, NULL);
	return step;
}
