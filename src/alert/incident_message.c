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

/* The thread of the repetition at the second destination (escalation.c) */
char *
incident_escalation_thread(int64 id)
{
	return psprintf("incident/" INT64_FORMAT "/escalated", id);
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

/*
 * Queue the incident's own message, for an event of that account, and return
 * its id.
 */
int64
incident_post(const Incident *incident, const char *account)
{
	NewMessage message = {.destination = incident->destination,
						  .method = "post",
						  .payload = incident_payload(incident, "post"),
						  .thread = incident_thread(incident->id),
						  .due_at = GetCurrentTimestamp(),
						  .event_id = incident->event_id,
						  .account = account,
						  .alert = incident->alert,
						  .incident = incident->id};
	int64 id = incident_enqueue(&message, incident);

	incident_set_message(incident->id, id);
	return id;
}

/* When the next update may be sent: UPDATE_EVERY after the last one's due_at. */
static TimestampTz
next_update(int64 id)
{
	static EngineStatement select = {
		"SELECT due_at FROM stripe_sync.message"
		" WHERE incident = $1 AND method = 'update' ORDER BY id DESC LIMIT 1"};
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz last = statement_time(DT_NOBEGIN, &select, ARGS(arg_int8(id)));

	return last == DT_NOBEGIN ? now : Max(now, last + UPDATE_EVERY);
}

/* Queue an answer in the thread; a webhook posts it into the channel. */
static void
reply(const Incident *incident, const char *text, const Event *event)
{
	MessageParts parts = {.text = text};

	(void) queue_message(incident, "post", blocks_message(&parts),
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
	return incident_payload(&incident, method);
}

/* ---- what happens to the incident ---- */

/*
 * It counts one more event.  Within the window only the count is updated; with
 * "again", after the window, people are notified too.
 */
void
incident_queue_repeated(const Incident *incident, bool again, const Event *event)
{
	int64 count;

	if (is_webhook(incident->destination))
	{
		(void) queue_message(incident, "summary", placeholder_payload(incident),
							 summary_due(incident, again), event);
		return;
	}
	(void) queue_message(incident, "update", placeholder_payload(incident),
						 next_update(incident->id), event);
	if (!again)
		return;
	count = alerted_count(incident->id).opening;
	reply(incident,
		  psprintf(":repeat: Again, %lld times now: %s", (long long) count,
				   incident_first_line(incident)),
		  event);
}

/* The update that is queued shows the end: send it now. */
static void
hasten_update(const Incident *incident)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.message SET due_at = pg_catalog.clock_timestamp()"
		" WHERE incident = $1 AND method = 'update' AND state = 'waiting'"
		" AND attempts = 0"};

	statement_exec(&update, ARGS(arg_int8(incident->id)));
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

/* The second destination, where the incident was repeated; NULL: nowhere */
static char *
escalated_to(const Incident *incident, const char *thread)
{
	static EngineStatement select = {
		"SELECT destination FROM stripe_sync.message WHERE incident = $1"
		" AND destination <> $2 AND thread = $3 LIMIT 1"};

	return statement_text(&select, ARGS(arg_int8(incident->id),
										arg_text(incident->destination),
										arg_text(thread)));
}

/* Post that it is resolved at the second destination too. */
static void
reply_where_escalated(const Incident *incident, const char *text,
					  const Event *event)
{
	char *thread = incident_escalation_thread(incident->id);
	MessageParts parts = {.text = text};
	NewMessage message = {.method = "post",
						  .destination = escalated_to(incident, thread),
						  .payload = blocks_message(&parts),
						  .thread = thread,
						  .due_at = GetCurrentTimestamp(),
						  .event_id = event->id,
						  .account = event->account,
						  .incident = incident->id};

	if (message.destination != NULL)
		(void) incident_enqueue(&message, incident);
}

/*
 * The event has closed it: update its message now and say so in its thread.  To
 * a webhook that is one more message in the channel, which a flood suppresses.
 */
void
incident_queue_closed(const Incident *incident, const Event *event)
{
	char *text;
	bool webhook = is_webhook(incident->destination);
	int64 count = alerted_count(incident->id).opening;
	char *times = count > 1 ? psprintf(" after %lld times", (long long) count)
							: "";

	if (webhook)
		cancel_summary(incident);
	else
	{
		hasten_update(incident);
		(void) queue_message(incident, "update", placeholder_payload(incident),
							 GetCurrentTimestamp(), event);
	}
	text = psprintf(":white_check_mark: Resolved by `%s`%s: %s",
					mrkdwn_escape(event->type), times,
					incident_first_line(incident));
	if (!webhook || !flood_at(incident->destination, 0))
		reply(incident, text, event);
	if (incident->escalated)
		reply_where_escalated(incident, text, event);
}
