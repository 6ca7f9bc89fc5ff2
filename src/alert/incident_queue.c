/*
 * incident_queue.c
 *		Queues the messages of incidents, unless their rule is muted, and holds
 *		them in quiet hours.
 *
 * Held are messages that people would notice: posts and summaries.  An update
 * (chat.update) is held only with the message that it would change.  What a
 * thread holds already is held until it is let go (quiet_end.c), also if quiet
 * hours have ended a moment ago: a digest and its incidents come first.
 *
 * All functions run in the engine's scope.
 */
#include "postgres.h"

#include "engine/statement.h"
#include "outbox/outbox.h"
#include "quiet/quiet.h"
#include "alert/internal.h"

/* ---- mute ---- */

bool
alert_is_muted(const char *name)
{
	static EngineStatement select = {
		"SELECT muted_until > pg_catalog.clock_timestamp()"
		" FROM stripe_sync.alert WHERE name = $1"};

	return statement_bool(false, &select, ARGS(arg_text(name)));
}

/* ---- hold ---- */

/* Do quiet hours hold a message of this thread? */
static bool
thread_is_held(const NewMessage *message)
{
	static EngineStatement select = {
		"SELECT true FROM stripe_sync.message WHERE destination = $1"
		" AND thread = $2 AND state = 'waiting' AND due_at = 'infinity' LIMIT 1"};

	return statement_bool(
		false, &select,
		ARGS(arg_text(message->destination), arg_text(message->thread)));
}

/* Do they hold the message that an update at the second destination would change? */
static bool
repetition_is_held(const NewMessage *message)
{
	static EngineStatement select = {
		"SELECT state = 'waiting' AND due_at = 'infinity' FROM stripe_sync.message"
		" WHERE incident = $1 AND destination = $2 AND thread = $3"
		" AND method = 'post' AND state <> 'cancelled' ORDER BY id LIMIT 1"};

	return statement_bool(false, &select,
						  ARGS(arg_int8(message->incident),
							   arg_text(message->destination),
							   arg_text(message->thread)));
}

/* A summary is noticed when it is due, not now. */
static bool
is_noticed_in_quiet_hours(const NewMessage *message, const Incident *incident)
{
	return quiet_holds(message->destination, incident->severity,
					   Max(message->due_at, GetCurrentTimestamp()));
}

/* ---- the incident's own message ---- */

/*
 * Queue the incident's own message, for an event of that account, and return its
 * id; 0 if its rule is muted.
 */
int64
incident_post(const Incident *incident, const char *account)
{
	NewMessage message = {
		.destination = incident->destination,
		.method = "post",
		.payload = incident_payload(incident, incident->destination, "post"),
		.thread = incident_thread(incident->id),
		.due_at = GetCurrentTimestamp(),
		.event_id = incident->event_id,
		.account = account,
		.alert = incident->alert,
		.incident = incident->id};
	int64 id;

	if (alert_is_muted(incident->alert))
		return 0;
	message.held = is_noticed_in_quiet_hours(&message, incident);
	id = outbox_enqueue(&message);
	if (id != 0)
		incident_set_message(incident->id, id);
	return id;
}

typedef enum OwnMessage
{
	OWN_NONE, /* muted when it was due, or quiet hours have cancelled it */
	OWN_HELD,
	OWN_QUEUED /* or sent, or tried in vain, or pruned since */
} OwnMessage;

static OwnMessage
own_message(int64 id)
{
	static EngineStatement select = {
		"SELECT state = 'waiting' AND due_at = 'infinity',"
		" state = 'cancelled' AND last_code IS NOT DISTINCT FROM 'quiet_hours'"
		" FROM stripe_sync.message WHERE id = $1"};
	OwnMessage own = OWN_QUEUED;
	Rows rows;

	if (id == 0)
		return OWN_NONE;
	rows_open(&rows, &select, ARGS(arg_int8(id)));
	if (rows_next(&rows))
	{
		bool held = rows_bool(&rows, false);
		bool cancelled = rows_bool(&rows, false);

		own = held ? OWN_HELD : cancelled ? OWN_NONE : OWN_QUEUED;
	}
	rows_close(&rows);
	return own;
}

/*
 * There is news of an incident that nobody was told of: post its own message.
 * The row is locked first, since another session may be about to do so.  That it
 * is resolved is no news.
 */
static int64
post_late(int64 id, const char *account)
{
	static EngineStatement lock = {
		"SELECT FROM stripe_sync.incident_record WHERE id = $1"
		" AND closed_by IS NULL FOR NO KEY UPDATE"};
	Incident incident;

	if (statement_exec(&lock, ARGS(arg_int8(id))) == 0 ||
		!incident_read(id, &incident))
		return 0;
	if (own_message(incident.message) != OWN_NONE)
		return 0;
	return incident_post(&incident, account);
}

/* ---- all others ---- */

int64
incident_enqueue(NewMessage *message, const Incident *incident)
{
	bool update = strcmp(message->method, "update") == 0;
	bool in_own_thread = strcmp(message->thread,
								incident_thread(incident->id)) == 0;
	OwnMessage own = in_own_thread ? own_message(incident->message) : OWN_QUEUED;

	if (alert_is_muted(incident->alert) && (!update || own == OWN_NONE))
		return 0;
	if (own == OWN_NONE)
		return post_late(incident->id, message->account);
	if (update)
		message->held = in_own_thread ? own == OWN_HELD
									  : repetition_is_held(message);
	else
		message->held = is_noticed_in_quiet_hours(message, incident) ||
						thread_is_held(message);
	return outbox_enqueue(message);
}
