/*
 * incident_message.c
 *		Messages of an incident: queued when something happens to it, rendered
 *		when they are sent.
 *
 * With a bot token the incident has one message, which is updated
 * (chat.update), and news for people is posted into its thread.  An incoming
 * webhook can neither update nor thread: there each piece of news is a message
 * of its own, and repetitions are counted in a summary when the window ends.
 *
 * Updates and summaries have no text while they are queued.  The claim calls
 * incident_render(), so that the message shows the state at that time: at most
 * one update of an incident is queued (message_change_idx), however many events
 * it counts.
 *
 * All functions run in the engine's scope, and queue in the transaction of
 * whatever happens to the incident: a rollback leaves no message.
 */
#include "postgres.h"

#include "engine/statement.h"
#include "inbox/event.h"
#include "message/message.h"
#include "outbox/outbox.h"
#include "server/server.h"
#include "alert/internal.h"

/* Between two updates of one message: people can't read faster */
#define UPDATE_EVERY (10 * USECS_PER_SEC)

/* ---- queue ---- */

/* The thread key of the incident's messages. */
char *
incident_thread(int64 id)
{
	return psprintf("incident/" INT64_FORMAT, id);
}

/*
 * The thread of a repetition at the second destination (escalation.c); each is a
 * message of its own in that channel, as an answer in a thread is seen by nobody.
 */
static char *
repetition_thread(int64 id, int number)
{
	char *thread = psprintf("incident/" INT64_FORMAT "/escalated", id);

	return number > 1 ? psprintf("%s/%d", thread, number) : thread;
}

static bool
is_webhook(const char *name)
{
	Destination destination;

	return destination_find(name, &destination) && destination.is_webhook;
}

/*
 * Queue a message in the incident's thread and return its id, or 0 if an
 * update or summary of it is queued already.  What people see as another
 * message in the channel counts against max_alerts_per_hour ("alert" is set);
 * updates and thread answers don't.
 */
static int64
queue_message(const Incident *incident, const char *method, Jsonb *payload,
			  TimestampTz due, const Event *event)
{
	NewMessage message = {.destination = incident->destination,
						  .method = method,
						  .payload = payload,
						  .thread = incident_thread(incident->id),
						  .due_at = due,
						  .event_id = event ? event->id : incident->event_id,
						  .account = event ? event->account : NULL,
						  .incident = incident->id};

	if (strcmp(method, "summary") == 0 ||
		(strcmp(method, "post") == 0 && is_webhook(incident->destination)))
		message.alert = incident->alert;
	return incident_enqueue(&message, incident);
}

/* When the next update may be sent: UPDATE_EVERY after the last one's due_at. */
static TimestampTz
next_update(int64 id)
{
	static EngineStatement select = {
		"SELECT due_at FROM stripe_sync.message"
		" WHERE incident = $1 AND method = 'update' AND due_at < 'infinity'"
		" ORDER BY id DESC LIMIT 1"};
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz last = statement_time(DT_NOBEGIN, &select, ARGS(arg_int8(id)));

	return last == DT_NOBEGIN ? now : Max(now, last + UPDATE_EVERY);
}

/* Queue an answer in the thread; a webhook posts it into the channel. */
static int64
reply(const Incident *incident, const char *text, const Event *event)
{
	return queue_message(
		incident, "post",
		incident_answer(incident, text, is_webhook(incident->destination)),
		GetCurrentTimestamp(), event);
}

/*
 * The payload of an update or summary while it is queued.  incident_render()
 * replaces it; only an incident that is deleted by then sends it.
 */
static Jsonb *
placeholder_payload(const Incident *incident)
{
	MessageParts parts = {.text = incident_first_line(incident)};

	return blocks_message(&parts);
}

/*
 * When a webhook's summary is due: now if the window had ended before this event
 * ("again"), at the end of the window, or in an hour if that has passed by the
 * time that it is sent.
 */
static TimestampTz
summary_due(const Incident *incident, bool again)
{
	TimestampTz now = GetCurrentTimestamp();

	if (again)
		return now;
	return incident->window_until > now ? incident->window_until
										: now + USECS_PER_HOUR;
}

/* ---- render, when it is sent ---- */

/*
 * A transaction that counted an event while this message was queued has not
 * queued another, because of message_change_idx.  If it isn't committed yet,
 * this message doesn't show its event, so another one is queued.
 */
static void
follow_up(const Incident *incident, const char *method)
{
	TimestampTz due = strcmp(method, "update") == 0
						  ? next_update(incident->id)
						  : summary_due(incident, false);

	(void) queue_message(incident, method, placeholder_payload(incident), due,
						 NULL);
}

/* Where the message is sent: the incident's destination, or the second one */
static char *
message_destination(int64 message)
{
	static EngineStatement select = {
		"SELECT destination FROM stripe_sync.message WHERE id = $1"};

	return statement_text(&select, ARGS(arg_int8(message)));
}

/*
 * The payload of a message of the incident as things stand now; NULL to send
 * what was queued.  Called by the claim, in its transaction.
 *
 * The claim has set the message's state to "sending" before, which takes it out
 * of message_change_idx: a transaction that counts an event from then on waits
 * for the claim's commit, and queues another message.
 */
Jsonb *
incident_render(int64 id, int64 message, const char *method)
{
	bool is_change = strcmp(method, "post") != 0;
	bool uncommitted = is_change && alerted_is_uncommitted(id);
	Incident incident;

	if (!incident_read(id, &incident))
		return NULL;
	if (!is_change && incident.message != message)
		return NULL; /* a thread answer keeps its text */
	if (uncommitted)
		follow_up(&incident, method);
	return incident_payload(&incident, message_destination(message), method);
}

/* ---- changes that are shown at once ---- */

/*
 * Let the update of that message that waits be sent now.  False if there is
 * none.  One that another transaction has locked is left alone.
 */
static bool
hasten_update(const Incident *incident, const char *destination,
			  const char *thread)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.message SET due_at = pg_catalog.clock_timestamp()"
		" WHERE id = ANY (ARRAY(SELECT m.id FROM stripe_sync.message m"
		"  WHERE m.incident = $1 AND m.destination = $2 AND m.thread = $3"
		"   AND m.method = 'update' AND m.state = 'waiting' AND m.attempts = 0"
		"   AND m.due_at < 'infinity'"
		"  FOR UPDATE SKIP LOCKED))"};

	return statement_exec(&update,
						  ARGS(arg_int8(incident->id), arg_text(destination),
							   arg_text(thread))) > 0;
}

/*
 * Have the first message of the thread updated now.  An update that waits shows
 * this change too: it is locked, so no claim renders it before we commit.
 * Otherwise another is queued, with a key of its own, so that it waits for no
 * transaction that is queueing one (message_change_idx).
 */
static void
show_at(const Incident *incident, const char *destination, const char *thread,
		const char *change, const Event *event)
{
	NewMessage message = {.destination = destination,
						  .method = "update",
						  .payload = placeholder_payload(incident),
						  .key = psprintf("%s/%s", thread, change),
						  .thread = thread,
						  .due_at = GetCurrentTimestamp(),
						  .event_id = event ? event->id : incident->event_id,
						  .account = event ? event->account : NULL,
						  .incident = incident->id};

	if (hasten_update(incident, destination, thread))
		worker_wake_at_commit();
	else
		(void) incident_enqueue(&message, incident);
}

/* A repetition at the second destination */
typedef struct Place
{
	char *destination;
	char *thread;
} Place;

static List *
repetitions(const Incident *incident)
{
	static EngineStatement select = {
		"SELECT DISTINCT m.destination, m.thread FROM stripe_sync.message m"
		" WHERE m.incident = $1 AND m.method = 'post' AND m.thread <> $2"
		" AND (m.state <> 'cancelled' OR m.last_code IS DISTINCT FROM 'quiet_hours')"
		" ORDER BY 2"};
	List *places = NIL;
	Rows rows;

	if (!incident->escalated)
		return NIL;
	rows_open(
		&rows, &select,
		ARGS(arg_int8(incident->id), arg_text(incident_thread(incident->id))));
	while (rows_next(&rows))
	{
		Place *place = palloc(sizeof(Place));

		place->destination = rows_text(&rows);
		place->thread = rows_text(&rows);
		places = lappend(places, place);
	}
	rows_close(&rows);
	return places;
}

/*
 * Have the incident's message updated now, and its repetitions: a person or an
 * event has changed what they say.  "change" names it, among the changes of the
 * incident.  Webhooks can't update.
 */
void
incident_show(const Incident *incident, const char *change, const Event *event)
{
	ListCell *cell;

	if (incident->message != 0 && !is_webhook(incident->destination))
		show_at(incident, incident->destination, incident_thread(incident->id),
				change, event);
	foreach(cell, repetitions(incident))
	{
		Place *place = lfirst(cell);

		if (!is_webhook(place->destination))
			show_at(incident, place->destination, place->thread, change, event);
	}
}

/* ---- what happens to the incident ---- */

/* A webhook's summary; none while people don't want to hear of it. */
static void
queue_summary(const Incident *incident, bool again, const Event *event)
{
	if (incident->snoozed_until == 0)
		(void) queue_message(incident, "summary", placeholder_payload(incident),
							 summary_due(incident, again), event);
}

/*
 * It counts one more event.  Within the window only the count is updated; with
 * "again", after the window, people are notified too, unless it is snoozed.  If it
 * has no message, as its rule was muted, it gets it now (incident_queue.c).
 */
void
incident_queue_repeated(const Incident *incident, bool again, const Event *event)
{
	int64 count;

	if (is_webhook(incident->destination))
	{
		queue_summary(incident, again, event);
		return;
	}
	(void) queue_message(incident, "update", placeholder_payload(incident),
						 next_update(incident->id), event);
	if (!again || incident->snoozed_until != 0)
		return;
	count = alerted_count(incident->id).opening;
	(void) reply(incident,
				 psprintf(":repeat: Again, %lld times now: %s",
						  (long long) count, incident_first_line(incident)),
				 event);
}

/* A webhook gets a message that the incident is resolved, and no summary. */
static void
cancel_summary(const Incident *incident)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.message SET state = 'cancelled', blocked_by = NULL,"
		" settled_at = pg_catalog.clock_timestamp()"
		" WHERE incident = $1 AND method = 'summary' AND state = 'waiting'"};

	statement_exec(&update, ARGS(arg_int8(incident->id)));
}

/* Post at the place of a repetition. */
static int64
post_at(const Incident *incident, const Place *place, Jsonb *payload,
		const Event *event)
{
	NewMessage message = {.method = "post",
						  .destination = place->destination,
						  .payload = payload,
						  .thread = place->thread,
						  .due_at = GetCurrentTimestamp(),
						  .event_id = event ? event->id : incident->event_id,
						  .account = event ? event->account : NULL,
						  .incident = incident->id};

	return incident_enqueue(&message, incident);
}

/* Say it in the thread, and where the incident was repeated first. */
void
incident_post_answer(const Incident *incident, const char *text,
					 const Event *event)
{
	List *places = repetitions(incident);

	if (incident->message != 0)
		(void) reply(incident, text, event);
	if (places != NIL)
	{
		Place *place = linitial(places);
		bool in_channel = is_webhook(place->destination);

		(void) post_at(incident, place,
					   incident_answer(incident, text, in_channel), event);
	}
}

/*
 * Repeat a critical incident at the second destination of set_escalation(), or
 * in its own thread if there is none.  False: its rule is muted, or its
 * destination is gone.
 */
bool
incident_post_repetition(const Incident *incident, const char *text)
{
	Destination destination;
	Place place;

	if (!destination_find(incident->destination, &destination))
		return false;
	if (destination.escalation != NULL)
	{
		place.destination = destination.escalation;
		place.thread = repetition_thread(incident->id,
										 incident->escalations + 1);
		return post_at(incident, &place,
					   incident_repetition(incident, place.destination, text),
					   NULL) != 0;
	}
	if (incident->message == 0)
		return incident_post(incident, incident->account) != 0;
	return reply(incident, psprintf(":rotating_light: %s", text), NULL) != 0;
}

/*
 * It is resolved, by an event or by a person (NULL): update its messages now and
 * say so in its thread.  To a webhook that is one more message in the channel,
 * which a flood suppresses.
 */
void
incident_queue_closed(const Incident *incident, Event *event)
{
	bool webhook = is_webhook(incident->destination);
	Incident told = *incident;

	if (webhook)
		cancel_summary(incident);
	incident_show(incident, "closed", event);
	if (webhook && flood_at(incident->destination, 0))
		told.message = 0; /* only where it was repeated */
	incident_post_answer(&told, incident_end_text(incident, event), event);
}
