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

/* A live event is counted: the incident is not of test mode alone any more. */
static void
note_mode(const Occurrence *occurrence, Incident *incident)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.incident_record SET livemode = true WHERE id = $1"};

	if (!incident->is_test || !occurrence->event->livemode)
		return;
	statement_exec(&update, ARGS(arg_int8(incident->id)));
	incident->is_test = false;
}

/* Count the event to a roll-up or digest. */
static void
count_to(const Occurrence *occurrence, int64 id)
{
	Incident incident;

	alerted_insert(occurrence, id, false);
	CommandCounterIncrement();
	if (!incident_read(id, &incident))
		return;
	note_mode(occurrence, &incident);
	incident_queue_repeated(&incident, false, occurrence->event);
}

/* Past coalesce_burst: one roll-up for the rule, destination and class. */
static void
open_rollup(const Occurrence *occurrence)
{
	const Alert *alert = occurrence->alert;
	NewIncident opening = {.kind = "rollup",
						   .alert = alert->name,
						   .group = burst_rollup_group(occurrence),
						   .account = "",
						   .text = template_render(alert->template,
												   occurrence->event,
												   alert->is_for_customer),
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
									   occurrence->event, true);
	open_incident(occurrence, &opening);
	report_flood(occurrence->destination);
}

/*
 * The link to the event in Stripe's dashboard; "" for customers, NULL for
 * events that are not Stripe's.
 */
static char *
footer_of(const Alert *alert, Event *event)
{
	if (alert->is_for_customer)
		return "";
	if (alert_event_is_own(event))
		return NULL;
	return template_render("{{event.id | link}}", event, false);
}

/* ---- what the buttons are about ---- */

/* See NewIncident.refs; NULL and 0 are left out. */
typedef struct Refs
{
	char *about; /* an object or event, to be opened and traced */
	char *account;
	char *event; /* that fails */
	char *destination;
	char *finding;
	int64 message;
	bool reconcile;
} Refs;

/* The message that the doctor's finding about dead messages names; 0: none */
static int64
message_of_finding(JsonbContainer *object)
{
	static const char word[] = "message ";
	char *key = json_get_string(object, "key");
	char *detail = json_get_string(object, "detail");

	if (key == NULL || detail == NULL || strcmp(key, "slack.dead_messages") != 0)
		return 0;
	while ((detail = strstr(detail, word)) != NULL)
	{
		detail += strlen(word);
		if (*detail >= '1' && *detail <= '9')
			return strtoll(detail, NULL, 10);
	}
	return 0;
}

/* Does it help to read Stripe's list of events? */
static bool
helps_to_reconcile(const Event *event)
{
	static const char *const types[] = {"system.silence",
										"system.deliveries_refused",
										"system.endpoint_changed"};
	char *hint = json_get_string(event->object, "hint");

	for (int i = 0; i < lengthof(types); i++)
		if (strcmp(event->type, types[i]) == 0)
			return true;
	return hint != NULL && strstr(hint, "stripe_sync.reconcile(") != NULL;
}

/* Of an event of the extension itself: fields of its object say what it is about */
static Refs
refs_of_system(const Event *event)
{
	JsonbContainer *object = event->object;
	Refs refs = {.event = json_get_string(object, "event"),
				 .account = json_get_string(object, "account"),
				 .message = message_of_finding(object),
				 .reconcile = helps_to_reconcile(event)};

	refs.about = refs.event ? refs.event : json_get_string(object, "object_id");
	if (strcmp(event->type, "system.destination_disabled") == 0)
		refs.destination = json_get_string(object, "destination");
	if (strcmp(event->type, "system.doctor") == 0)
		refs.finding = json_get_string(object, "key");
	return refs;
}

static Refs
find_refs(const Event *event)
{
	if (strncmp(event->type, "system.", 7) == 0)
		return refs_of_system(event);
	if (event->object_id == NULL || alert_event_is_own(event))
		return (Refs){.about = event->id};
	return (Refs){.about = event->object_id};
}

/* For incident_record.refs; the application's events have no page at Stripe. */
static Jsonb *
refs_of(Event *event)
{
	static EngineStatement build = {
		"SELECT pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object("
		" 'url', $1, 'trace', $2, 'account', $3, 'event', $4, 'destination', $5,"
		" 'finding', $6, 'message', $7, 'reconcile', $8))"};
	Refs refs = find_refs(event);
	bool has_page = refs.about != NULL && strncmp(event->type, "app.", 4) != 0;

	if (refs.account == NULL || event->account[0] != '\0')
		refs.account = event->account;
	return statement_jsonb(
		&build,
		ARGS(arg_text(has_page ? dashboard_link(event, refs.about) : NULL),
			 arg_text(refs.about), arg_text(refs.account), arg_text(refs.event),
			 arg_text(refs.destination), arg_text(refs.finding),
			 arg_if(refs.message != 0, arg_int8(refs.message)),
			 arg_if(refs.reconcile, arg_bool(true))));
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
		.text = template_render(alert->template, event, alert->is_for_customer),
		.footer = footer_of(alert, event),
		.blocks = alert->blocks ? template_render_blocks(alert->blocks, event,
														 alert->is_for_customer)
								: NULL,
		.refs = refs_of(event),
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
	note_mode(occurrence, &incident);
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
