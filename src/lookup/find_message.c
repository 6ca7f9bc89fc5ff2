/*
 * find_message.c
 *		References to messages, incidents and jobs.
 *
 * A message or an incident that is about one object, or about objects of one
 * customer, refers to the object of the event that caused it.  A roll-up, a
 * digest, or an incident that counts events of several customers is nobody's.
 */
#include "postgres.h"

#include "engine/statement.h"
#include "inbox/event.h"
#include "types/types.h"
#include "lookup/internal.h"

#define MOST_COUNTED 50 /* events of an incident that are compared */

static void
add_number(Reference *reference, ReferentKind kind, int64 number, TimestampTz at)
{
	Referent *referent = palloc0(sizeof(Referent));

	referent->kind = kind;
	referent->number = number;
	referent->at = at;
	reference->referents = lappend(reference->referents, referent);
}

/* ---- the event behind an alert ---- */

/* "evt_1_22P02_handler": try each place where the id could end. */
static Referent *
find_failed_event(const char *text, const char *account)
{
	for (const char *end = strchr(text, '_'); end != NULL;
		 end = strchr(end + 1, '_'))
	{
		size_t length = strspn(end + 1, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ");
		Referent *event;

		if (length != 5 || end[6] != '_')
			continue;
		event = find_event_by_id(pnstrdup(text, end - text), account);
		if (event != NULL)
			return event;
	}
	return NULL;
}

/* The event that an alert knows by this id, also as one that failed, or NULL */
static Referent *
find_origin(const char *id, const char *account)
{
	static const char *const prefixes[] = {"sys_failed_", "sys_dead_"};

	for (int i = 0; i < lengthof(prefixes); i++)
		if (strncmp(id, prefixes[i], strlen(prefixes[i])) == 0)
			return find_failed_event(id + strlen(prefixes[i]), account);
	return find_event_by_id(id, account);
}

/* ---- incidents ---- */

static char *
customer_of(const Referent *event)
{
	Event loaded;

	if (!event_load(event->event_id, event->account, &loaded) ||
		loaded.catalog == NULL || loaded.object == NULL)
		return NULL;
	if (strcmp(loaded.catalog->object, "customer") == 0)
		return loaded.object_id;
	return link_get(loaded.catalog, loaded.object, "customer");
}

/* Are both events about one object, or about objects of one customer? */
static bool
is_same_story(const Referent *one, const Referent *other)
{
	char *customer;
	char *others;

	if (strcmp(one->account, other->account) != 0)
		return false;
	if (one->kind == REFERENT_OBJECT && other->kind == REFERENT_OBJECT &&
		strcmp(one->id, other->id) == 0)
		return true;
	customer = customer_of(one);
	others = customer_of(other);
	return customer != NULL && others != NULL && strcmp(customer, others) == 0;
}

/* Do the events that the incident counts belong to one story? */
static bool
is_one_story(int64 incident, const Referent *opening)
{
	static EngineStatement select = {
		"SELECT event_id, account FROM stripe_sync.alerted"
		" WHERE incident = $1 AND NOT closes LIMIT $2"};
	bool one = true;
	uint64 count;
	Rows rows;

	rows_open(&rows, &select, ARGS(arg_int8(incident), arg_int4(MOST_COUNTED)));
	count = rows.count;
	while (one && rows_next(&rows))
	{
		char *id = rows_text(&rows);
		Referent *event = find_origin(id, rows_text(&rows));

		one = event == NULL || is_same_story(opening, event);
	}
	rows_close(&rows);
	return one && count < MOST_COUNTED;
}

/* "message" is the incident's message that was asked for, or 0. */
bool
find_incident(Reference *reference, int64 number, int64 message)
{
	static EngineStatement select = {
		"SELECT kind = 'single', event_id, account, opened_at"
		" FROM stripe_sync.incident_record WHERE id = $1"};
	Referent *event = NULL;
	TimestampTz at = 0;
	Rows rows;
	bool found;

	rows_open(&rows, &select, ARGS(arg_int8(number)));
	found = rows_next(&rows);
	if (found)
	{
		bool single = rows_bool(&rows, false);
		char *id = rows_text(&rows);
		char *account = rows_text(&rows);

		at = rows_time(&rows, 0);
		event = single ? find_origin(id, account) : NULL;
	}
	rows_close(&rows);
	if (event != NULL && is_one_story(number, event))
	{
		event->number = message;
		find_add(reference, event);
	}
	else if (found)
		add_number(reference, REFERENT_INCIDENT, number, at);
	return found;
}

/* ---- messages ---- */

/* Add the message whose row this is: id, incident, event, account, time. */
static void
add_message(Reference *reference, Rows *rows)
{
	int64 number = rows_int8(rows, 0);
	int64 incident = rows_int8(rows, 0);
	char *event_id = rows_text(rows);
	char *account = rows_text(rows);
	TimestampTz at = rows_time(rows, 0);
	Referent *event;

	if (incident != 0 && find_incident(reference, incident, number))
		return;
	event = event_id != NULL ? find_origin(event_id, account) : NULL;
	if (event == NULL)
	{
		add_number(reference, REFERENT_MESSAGE, number, at);
		return;
	}
	event->number = number;
	find_add(reference, event);
}

static bool
add_messages(Reference *reference, EngineStatement *select, StatementArg arg)
{
	Rows rows;

	rows_open(&rows, select, ARGS(arg));
	while (rows_next(&rows))
		add_message(reference, &rows);
	rows_close(&rows);
	return reference->referents != NIL;
}

#define MESSAGE_COLUMNS " id, incident, event_id, account, created_at"

bool
find_message(Reference *reference, int64 number)
{
	static EngineStatement select = {"SELECT" MESSAGE_COLUMNS
									 " FROM stripe_sync.message WHERE id = $1"};

	return add_messages(reference, &select, arg_int8(number));
}

/* Two channels may have messages of one timestamp. */
bool
find_slack_ts(Reference *reference)
{
	static EngineStatement select = {"SELECT" MESSAGE_COLUMNS
									 " FROM stripe_sync.message"
									 " WHERE slack_ts = $1 LIMIT 10"};

	return add_messages(reference, &select, arg_text(reference->ref));
}

/* The key that notify() was given */
bool
find_message_key(Reference *reference)
{
	static EngineStatement select = {
		"SELECT" MESSAGE_COLUMNS " FROM stripe_sync.message WHERE key = $1"};

	return add_messages(reference, &select, arg_text(reference->ref));
}

/* ---- jobs ---- */

bool
find_job(Reference *reference, int64 number)
{
	static EngineStatement select = {
		"SELECT created_at FROM stripe_sync.job_record WHERE id = $1"};
	TimestampTz at = statement_time(0, &select, ARGS(arg_int8(number)));

	if (at != 0)
		add_number(reference, REFERENT_JOB, number, at);
	return at != 0;
}
