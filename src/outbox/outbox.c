/*
 * outbox.c
 *		Messages are queued, retried and cancelled, in the caller's transaction.
 *
 * A message commits, or rolls back, with what caused it.  claim.c and sender.c send
 * it later.  See README.md for the states of a message.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "base/base.h"
#include "base/compat.h"
#include "base/error_codes.h"
#include "engine/engine.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "message/message.h"
#include "outbox/outbox.h"
#include "server/counters.h"
#include "server/server.h"

const OutboxHooks *outbox_hooks;

/* The worker looks for messages that are due later than this by itself. */
#define WAKE_WITHIN		(3 * 60 * USECS_PER_SEC)
#define MAX_KEY			255			/* bytes */
#define INCIDENT_PREFIX "incident/" /* of the keys and threads of incidents */

/* Every customer's destination; the keys of such messages begin with it and "/". */
#define ALL_CUSTOMERS "@customers"

/*
 * Queue a message.  Returns its id, or 0 if a unique index prevents it: there is a
 * message with the same key, or a change of the same incident's message is waiting
 * and will show this change as well.  The worker is woken at commit.  Runs in the
 * engine's scope.
 */
int64
outbox_enqueue(const NewMessage *message)
{
	static EngineStatement insert = {
		"INSERT INTO stripe_sync.message"
		" (destination, method, payload, key, thread, due_at, event_id, account,"
		"  alert, incident, blocked_by, held_at)"
		" VALUES ($1, $2, $3, $4, $5, CASE WHEN $12 THEN 'infinity' ELSE $6 END, $7,"
		"  $8, $9, $10, $11, CASE WHEN $12 THEN pg_catalog.clock_timestamp() END)"
		" ON CONFLICT DO NOTHING RETURNING id"};
	int64 id = statement_int8(
		0, &insert,
		ARGS(arg_text(message->destination), arg_text(message->method),
			 arg_jsonb(message->payload), arg_text(message->key),
			 arg_text(message->thread), arg_time(message->due_at),
			 arg_text(message->event_id), arg_text(message->account),
			 arg_text(message->alert),
			 arg_if(message->incident != 0, arg_int8(message->incident)),
			 arg_if(message->after != 0, arg_int8(message->after)),
			 arg_bool(message->held)));

	if (id != 0)
		counter_add(COUNT_MESSAGES, message->destination, "queued");
	if (id != 0 && (message->held ||
					message->due_at < GetCurrentTimestamp() + WAKE_WITHIN))
		worker_wake_at_commit();
	return id;
}

/*
 * The id of the message with this key, which outbox_enqueue() has found.  Under
 * REPEATABLE READ it may be invisible to the transaction: raises 40001.
 */
static int64
find_by_key(const char *key)
{
	static EngineStatement select = {
		"SELECT id FROM stripe_sync.message WHERE key = $1"};
	int64 id = statement_int8(0, &select, ARGS(arg_text(key)));

	if (id == 0)
		ereport(
			ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg(
				 "could not serialize access due to a concurrent message with the same key"),
			 errhint("The transaction might succeed if retried.")));
	return id;
}

/* ---- notify ---- */

/* NULL if it is NULL */
static char *
text_argument(FunctionCallInfo fcinfo, int number)
{
	return PG_ARGISNULL(number) ? NULL
								: text_to_cstring(PG_GETARG_TEXT_PP(number));
}

/* Raises 22004. */
static void
check_notify_argument(const char *value, const char *what, const char *example)
{
	if (value == NULL)
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("%s cannot be NULL", what),
						errhint("For example: %s", example)));
}

/* A key, or the name of a thread; NULL is allowed.  Raises 22023. */
static void
check_key_or_thread(const char *key, const char *what)
{
	if (key != NULL && (key[0] == '\0' || strlen(key) > MAX_KEY))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a message's %s must have 1 to %d bytes", what, MAX_KEY),
				 errhint("Leave it out, or use an id of your own, such as "
						 "'order-17'.")));
	if (key != NULL &&
		(strncmp(key, INCIDENT_PREFIX, strlen(INCIDENT_PREFIX)) == 0 ||
		 strncmp(key, ALL_CUSTOMERS "/", strlen(ALL_CUSTOMERS "/")) == 0))
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("a message's %s cannot begin with \"%.*s\"", what,
					(int) strcspn(key, "/") + 1, key),
			 errhint("Keys and threads with this prefix are reserved. Use an id "
					 "of your own, such as 'order-17'.")));
}

/* When the message is due: not before now.  Raises 22023. */
static TimestampTz
due_argument(FunctionCallInfo fcinfo, int number)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz due = PG_ARGISNULL(number) ? now : PG_GETARG_TIMESTAMPTZ(number);

	if (TIMESTAMP_IS_NOEND(due))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("send_after cannot be infinity"),
				 errhint("Give a time, such as now() + interval '1 hour'.")));
	return Max(due, now);
}

/* Queue the message, or find the one with its key; returns its id. */
static int64
enqueue_or_find(const NewMessage *message)
{
	int64 id = outbox_enqueue(message);

	return id != 0 ? id : find_by_key(message->key);
}

typedef struct CustomersPlace
{
	char *destination;
	char *key;	  /* or NULL, like the next one */
	char *thread; /* a key that thread names is found by the place's own */
} CustomersPlace;

/*
 * The places to which customers are routed, each once.  Two destinations are one
 * place if they post to the same channel: an id names a channel of one workspace,
 * a name one of the token's.  If one of them has had the message with this key,
 * or the one that begins the thread, that one stands for the place.
 */
static List *
find_customers_places(const char *key, const char *thread)
{
	static EngineStatement select = {
		"SELECT DISTINCT ON (p.channel, p.secret) p.name, p.prefix || $1,"
		" p.prefix || $2 FROM (SELECT d.name, d.channel,"
		"  CASE WHEN d.channel ~ '^[CG][A-Z0-9]+$' THEN '' ELSE s.secret END AS secret,"
		"  '@customers/' || pg_catalog.replace(pg_catalog.replace(d.name,"
		"   '%', '%25'), '/', '%2F') || '/' AS prefix"
		" FROM stripe_sync.destination d"
		" JOIN stripe_sync.destination_secret s ON s.destination = d.name"
		" WHERE EXISTS (SELECT FROM stripe_sync.customer_route r"
		"  WHERE r.destination = d.name)) p"
		" LEFT JOIN stripe_sync.message m ON m.key = p.prefix || $1"
		" LEFT JOIN stripe_sync.message above ON above.key = p.prefix || $2"
		" ORDER BY p.channel, p.secret, m.id NULLS LAST, above.id NULLS LAST, p.name"};
	List *places = NIL;
	Rows rows;

	rows_open(&rows, &select, ARGS(arg_text(key), arg_text(thread)));
	while (rows_next(&rows))
	{
		CustomersPlace *place = palloc(sizeof(CustomersPlace));

		place->destination = rows_text(&rows);
		place->key = rows_text(&rows);
		place->thread = rows_text(&rows);
		places = lappend(places, place);
	}
	rows_close(&rows);
	return places;
}

/* One message to every place; returns the first one's id, 0 if there is none. */
static int64
notify_customers(NewMessage *message)
{
	int64 first = 0;
	ListCell *cell;

	foreach(cell, find_customers_places(message->key, message->thread))
	{
		CustomersPlace *place = lfirst(cell);
		int64 id;

		message->destination = place->destination;
		message->key = place->key;
		message->thread = place->thread;
		id = enqueue_or_find(message);
		if (first == 0)
			first = id;
	}
	if (first == 0)
		ereport(NOTICE,
				(errmsg("no message was queued: no customer has a route"),
				 errhint("SELECT stripe_sync.route_customer('cus_...', "
						 "'destination') makes one.")));
	return first;
}

static int64
notify_one(NewMessage *message)
{
	Destination destination;

	if (!destination_find(message->destination, &destination))
		destination_missing(message->destination);
	return enqueue_or_find(message);
}

/*
 * notify(destination, text, blocks, key, thread, send_after)
 *
 * The payload is escaped and cut to Slack's limits here, so that its author gets
 * the error, not the worker.
 */
ENGINE_FUNCTION(stripe_sync_notify)
{
	static const char example[] =
		"SELECT stripe_sync.notify('ops', 'Order 17 was refunded');";
	char *text = text_argument(fcinfo, 1);
	NewMessage message = {.destination = text_argument(fcinfo, 0),
						  .method = "post",
						  .key = text_argument(fcinfo, 3),
						  .thread = text_argument(fcinfo, 4),
						  .due_at = due_argument(fcinfo, 5)};
	RoleScope scope;
	int64 id;

	check_notify_argument(message.destination, "destination", example);
	check_notify_argument(text, "text", example);
	if (mrkdwn_is_blank(text)) /* Slack would answer no_text */
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a message's text cannot be empty"),
				 errhint("Slack's notifications show it, also for a message "
						 "with blocks.")));
	check_key_or_thread(message.key, "key");
	check_key_or_thread(message.thread, "thread");
	scope = role_enter_engine();
	message.payload = blocks_plain(
		text, PG_ARGISNULL(2) ? NULL : PG_GETARG_JSONB_P(2));
	id = strcmp(message.destination, ALL_CUSTOMERS) == 0
			 ? notify_customers(&message)
			 : notify_one(&message);
	role_leave(&scope);
	if (id == 0)
		PG_RETURN_NULL();
	PG_RETURN_INT64(id);
}

/* ---- retry, cancel ---- */

/* Raise SY005 if there is no such message, else 55000; "verb" is a participle. */
compat_noreturn static void
refuse_change(int64 id, const char *verb)
{
	static EngineStatement select = {
		"SELECT state FROM stripe_sync.message WHERE id = $1"};
	char *state = statement_text(&select, ARGS(arg_int8(id)));

	if (state == NULL)
		ereport(ERROR, (errcode(ERRCODE_NO_SUCH_NAME),
						errmsg("there is no message " INT64_FORMAT, id),
						errhint("SELECT id, destination, state FROM "
								"stripe_sync.message shows all.")));
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("message " INT64_FORMAT " is %s, it cannot be %s", id,
					state, verb),
			 errhint("stripe_sync.delivery shows Slack's answers to it; notify() "
					 "queues another message.")));
}

/*
 * Run "update" on the message, and unblock those that it has blocked: the next
 * claim blocks them again if it still comes first.
 */
static void
change_message(int64 id, EngineStatement *update, const char *verb)
{
	static EngineStatement unblock = {
		"UPDATE stripe_sync.message SET blocked_by = NULL WHERE blocked_by = $1"};
	RoleScope scope = role_enter_engine();

	if (statement_exec(update, ARGS(arg_int8(id))) == 0)
		refuse_change(id, verb);
	statement_exec(&unblock, ARGS(arg_int8(id)));
	worker_wake_at_commit();
	role_leave(&scope);
}

/*
 * Send a dead or cancelled message again, or a waiting one now.  A change of an
 * incident's message gets 1 attempt instead of 0: with 0 it could violate
 * message_change_idx.
 */
void
message_retry(int64 id)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.message SET state = 'waiting', settled_at = NULL,"
		" due_at = pg_catalog.clock_timestamp(),"
		" attempts = CASE WHEN state = 'waiting' THEN attempts"
		"  WHEN method IN ('update', 'summary') THEN 1 ELSE 0 END"
		" WHERE id = $1 AND state IN ('waiting', 'dead', 'cancelled')"};

	change_message(id, &update, "retried");
}

/* retry_message(id) */
ENGINE_FUNCTION(stripe_sync_retry_message)
{
	argument_required(fcinfo, 0, "a message's id");
	message_retry(PG_GETARG_INT64(0));
	PG_RETURN_VOID();
}

/* cancel_message(id): only a waiting message can be cancelled */
ENGINE_FUNCTION(stripe_sync_cancel_message)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.message SET state = 'cancelled', blocked_by = NULL,"
		" settled_at = pg_catalog.clock_timestamp()"
		" WHERE id = $1 AND state = 'waiting'"};

	argument_required(fcinfo, 0, "a message's id");
	change_message(PG_GETARG_INT64(0), &update, "cancelled");
	PG_RETURN_VOID();
}
