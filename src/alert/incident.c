/*
 * incident.c
 *		An event that a rule matches: opens an incident, or is counted to one.
 *
 * The caller holds the lock of the group (incident_key.c) until the transaction
 * ends, so a group has one open incident, and an opening and a closing event
 * that arrive at the same time see each other.
 *
 * How many incidents and messages there are already is decided under the lock
 * of the destination if that is free.  If another session holds it, the
 * decision is made from committed rows: each such session may open one incident
 * too many, but no event waits for another.
 */
#include "postgres.h"

#include "access/xact.h"

#include "alert/alert.h"
#include "base/base.h"
#include "engine/statement.h"
#include "inbox/event.h"
#include "message/message.h"
#include "alert/internal.h"

/* ---- open ---- */

/* Insert the incident, count its first event and queue its message. */
static void
open_incident(const Occurrence *occurrence, const NewIncident *opening)
{
	int64 id = incident_insert(occurrence, opening);
	Incident incident;

	alerted_insert(occurrence, id, false);
	CommandCounterIncrement(); /* the message counts this event */
	if (!incident_read(id, &incident))
		elog(ERROR, "incident " INT64_FORMAT " is gone", id);
	(void) incident_post(&incident, occurrence->event->account);
}

/* Count the event to a roll-up or digest. */
static void
count_to(const Occurrence *occurrence, int64 id)
{
	Incident incident;

	alerted_insert(occurrence, id, false);
	CommandCounterIncrement();
	if (incident_read(id, &incident))
		incident_queue_repeated(&incident, false, occurrence->event);
}

/* Past coalesce_burst: one roll-up for the rule, destination and class. */
static void
open_rollup(const Occurrence *occurrence)
{
	const Alert *alert = occurrence->alert;
	NewIncident opening = {
		.kind = "rollup",
		.alert = alert->name,
		.group = burst_rollup_group(occurrence),
		.account = "",
		.text = template_render(alert->template, occurrence->event),
		.footer = alert->is_for_customer ? "" : NULL,
		.window = alert->window};

	open_incident(occurrence, &opening);
}

/*
 * An event of the extension itself, which other rules may match.  It is
 * reported while we hold locks of groups, so it must not wait for others.
 */
static void
report_flood(const char *destination)
{
	static EngineStatement build = {
		"SELECT pg_catalog.jsonb_build_object('id', $1, 'destination', $1,"
		" 'per_hour', $2)"};

	if (alert_wanted("system.flood"))
		alert_system_within(
			"system.flood",
			statement_jsonb(&build, ARGS(arg_text(destination),
										 arg_int4(guc_max_alerts_per_hour))));
}

/*
 * Past max_alerts_per_hour: one digest for the whole destination.  It counts
 * by rule; customers don't know the rules, so theirs shows an example instead.
 */
static void
open_digest(const Occurrence *occurrence)
{
	NewIncident opening = {.kind = "digest",
						   .alert = DIGEST_ALERT,
						   .group = occurrence->destination,
						   .account = "",
						   .text = "",
						   .footer = occurrence->alert->is_for_customer ? ""
																		: NULL,
						   .window = USECS_PER_HOUR};

	if (occurrence->alert->is_for_customer)
		opening.text = template_render(occurrence->alert->template,
									   occurrence->event);
	open_incident(occurrence, &opening);
	report_flood(occurrence->destination);
}

/*
 * The link to the event in Stripe's dashboard; "" for customers, NULL for
 * events of the extension itself.
 */
static char *
footer_of(const Alert *alert, Event *event)
{
	if (alert->is_for_customer)
		return "";
	if (strncmp(event->type, "system.", 7) == 0)
		return NULL;
	return template_render("{{event.id | link}}", event);
}

static void
open_single(const Occurrence *occurrence)
{
	const Alert *alert = occurrence->alert;
	Event *event = occurrence->event;
	NewIncident opening = {
		.kind = "single",
		.alert = alert->name,
		.group = occurrence->group,
		.account = event->account,
		.text = template_render(alert->template, event),
		.footer = footer_of(alert, event),
		.blocks = alert->blocks ? template_render_blocks(alert->blocks, event)
								: NULL,
		.window = alert->window};

	open_incident(occurrence, &opening);
}

/*
 * The roll-up of the rule that is open or, past max_alerts_per_hour, the digest
 * of the destination; 0 if there is none.
 */
static int64
find_collector(const Occurrence *occurrence)
{
	const Alert *alert = occurrence->alert;
	int64 id = incident_find_collecting(
		"rollup", alert->name, burst_rollup_group(occurrence), alert->window);

	if (id == 0 && flood_reached(occurrence))
		id = incident_find_collecting("digest", DIGEST_ALERT,
									  occurrence->destination, USECS_PER_HOUR);
	return id;
}

/* The group has no open incident: open one, or a roll-up or digest. */
static void
open_for(const Occurrence *occurrence)
{
	int64 collector = find_collector(occurrence);

	/* the session that held the lock before us may have opened one */
	if (collector == 0 && alert_destination_try_lock(occurrence->destination))
		collector = find_collector(occurrence);
	if (collector != 0)
		count_to(occurrence, collector);
	else if (flood_reached(occurrence))
		open_digest(occurrence);
	else if (burst_reached(occurrence))
		open_rollup(occurrence);
	else
		open_single(occurrence);
}

/* ---- count ---- */

/*
 * Count the event to the group's open incident.  If its window has ended, a new
 * one begins and people are notified again, unless the destination is flooded.
 */
static void
count_again(const Occurrence *occurrence, int64 id)
{
	Incident incident;
	bool again;

	alerted_insert(occurrence, id, false);
	CommandCounterIncrement();
	if (!incident_read(id, &incident))
		return;
	again = incident.window_until <= GetCurrentTimestamp();
	if (again)
	{
		incident_extend_window(id, occurrence->alert->window);
		incident.window_until = GetCurrentTimestamp() +
								occurrence->alert->window;
	}
	again = again && !flood_at(incident.destination, 0);
	incident_queue_repeated(&incident, again, occurrence->event);
}

/*
 * Apply a rule to an event that it matches.  One that is older than the event
 * that closed its group is noted, so that it is not looked at again, and opens
 * nothing.
 */
void
incident_opening(const Occurrence *occurrence)
{
	int64 open;

	if (alerted_before(occurrence))
		return;
	incident_close_expired(occurrence);
	open = incident_find_open(occurrence);
	if (alerted_closed_since(occurrence))
		alerted_insert(occurrence, 0, false);
	else if (open != 0)
		count_again(occurrence, open);
	else
		open_for(occurrence);
}
