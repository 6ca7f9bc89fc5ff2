/*
 * incident_close.c
 *		An event that resolves what its rule has opened.
 *
 * The caller holds the lock of the group.  Nothing is written where no
 * incident is open, except for rules with group_by or closing_condition: there
 * the closing event is noted, because the inbox can't be searched for it by the
 * object and type when an earlier opening event arrives later
 * (alerted_closed_since()).
 */
#include "postgres.h"

#include "access/xact.h"

#include "alert/alert.h"
#include "base/base.h"
#include "inbox/event.h"
#include "inbox/inbox.h"
#include "message/message.h"
#include "alert/internal.h"

/*
 * Note how it ended: closing_template, filled with the closing event.  A text that
 * begins with an emoji of its own says itself whether that is good: it gets no
 * check mark.
 */
static void
set_ending(const Occurrence *occurrence, int64 id)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.incident_record SET closing_text = $2, closed_well = $3"
		" WHERE id = $1 AND kind = 'single'"};
	const Alert *alert = occurrence->alert;
	char *text;

	if (alert->closing_template == NULL)
		return;
	text = template_render(alert->closing_template, occurrence->event,
						   alert->is_for_customer);
	if (!mrkdwn_is_blank(text))
		statement_exec(&update, ARGS(arg_int8(id), arg_text(text),
									 arg_bool(!mrkdwn_begins_with_emoji(text))));
}

static void
close_incident(const Occurrence *occurrence, int64 id)
{
	Incident incident;

	if (!incident_set_closed(id, occurrence->event->id))
		return; /* a person has resolved it */
	CommandCounterIncrement();
	set_ending(occurrence, id);
	CommandCounterIncrement();
	if (incident_read(id, &incident))
		incident_queue_closed(&incident, occurrence->event);
}

/*
 * For system.event_recovered: does an event of the same failure fail again?
 * The event was made without the group's lock (recovered_events.c); a failure since
 * then has been counted under that lock, and is committed.  With "whole_step"
 * any failure of the step counts, whatever its SQLSTATE.
 */
static bool
fails_again(const Event *event, bool whole_step)
{
	char *step;

	if (strcmp(event->type, EVENT_RECOVERED) != 0 || event->object == NULL)
		return false;
	step = json_get_string(event->object, "step");
	return step != NULL &&
		   record_is_failing(
			   step,
			   whole_step ? NULL : json_get_string(event->object, "sqlstate"),
			   json_get_string(event->object, "event_type"), event->account);
}

/*
 * The group is one of several that a roll-up or digest counts.  That goes on,
 * and shows how many are resolved; only the roll-up of a failing step is
 * closed, when nothing fails in that step any more.
 */
static void
close_in_collector(const Occurrence *occurrence, int64 id)
{
	Incident incident;

	CommandCounterIncrement();
	if (!incident_read(id, &incident))
		return;
	if (strcmp(incident.kind, "rollup") == 0 && occurrence->class[0] != '\0' &&
		!fails_again(occurrence->event, true))
		close_incident(occurrence, id);
	else
		incident_queue_repeated(&incident, false, occurrence->event);
}

/* Apply a rule to an event whose type fits closed_by. */
void
incident_closing(const Occurrence *occurrence)
{
	int64 open;
	int64 collector;

	if (alerted_before(occurrence) || fails_again(occurrence->event, false))
		return;
	incident_close_expired(occurrence);
	open = incident_find_open(occurrence);
	collector = open == 0 ? alerted_find_collector(occurrence) : 0;
	if (open != 0 && alerted_opened_since(occurrence, open))
		return; /* it came late: the failure is newer */
	if (open != 0 || collector != 0 || occurrence->alert->group_by != NULL ||
		occurrence->alert->closing_condition != NULL)
		alerted_insert(occurrence, open != 0 ? open : collector, true);
	if (open != 0)
		close_incident(occurrence, open);
	else if (collector != 0)
		close_in_collector(occurrence, collector);
}
