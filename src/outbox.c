/*
 * outbox.c
 *		What is owed to Slack: stored in the transaction that owes it, asked
 *		for again, or called off.
 *
 * A message commits with what caused it.  Sending is claim.c's and sender.c's.
 */
#include "stripe_sync.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"

#include "blocks.h"

const OutboxHooks *outbox_hooks;

#define FOUND_BY_THEN (3 * 60 * USECS_PER_SEC) /* more than the worker's nap */
#define MAX_KEY		  255					   /* bytes */
#define OURS		  "incident/" /* what keys and threads of incidents begin with */

static Datum
text_or_null(const char *text, char *null)
{
	*null = text == NULL ? 'n' : ' ';
	return text == NULL ? (Datum) 0 : CStringGetTextDatum(text);
}

/* Runs in the engine's scope. */
int64
outbox_enqueue(const NewMessage *message)
{
	static EngineStatement insert = {
		"INSERT INTO stripe_sync.message"
		" (destination, method, payload, key, thread, due_at, event_id, account,"
		"  alert, incident)"
		" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
		" ON CONFLICT DO NOTHING RETURNING id",
		10,
		{TEXTOID, TEXTOID, JSONBOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, TEXTOID,
		 TEXTOID, TEXTOID, INT8OID}};
	char nulls[11] = "          ";
	Datum values[] = {CStringGetTextDatum(message->destination),
					  CStringGetTextDatum(message->method),
					  JsonbPGetDatum(message->payload),
					  text_or_null(message->key, &nulls[3]),
					  text_or_null(message->thread, &nulls[4]),
					  TimestampTzGetDatum(message->due_at),
					  text_or_null(message->event_id, &nulls[6]),
					  text_or_null(message->account, &nulls[7]),
					  text_or_null(message->alert, &nulls[8]),
					  Int64GetDatum(message->incident)};
	int64 id = 0;

	if (message->incident == 0)
		nulls[9] = 'n';
	SPI_connect();
	engine_run(&insert, values, nulls, SPI_OK_INSERT_RETURNING);
	if (SPI_processed > 0)
	{
		id = DatumGetInt64(SPI_getbinval(
			SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &(bool){false}));
		/* what is due later the worker finds by itself */
		if (message->due_at < GetCurrentTimestamp() + FOUND_BY_THEN)
			worker_wake_at_commit();
	}
	SPI_finish();
	return id;
}

/* The message of a key that is there already. */
static int64
find_by_key(const char *key)
{
	static EngineStatement select = {
		"SELECT id FROM stripe_sync.message WHERE key = $1", 1, {TEXTOID}};
	Datum values[] = {CStringGetTextDatum(key)};
	int64 id = 0;

	SPI_connect();
	engine_run(&select, values, NULL, SPI_OK_SELECT);
	if (SPI_processed > 0)
		id = DatumGetInt64(SPI_getbinval(
			SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &(bool){false}));
	SPI_finish();
	if (id == 0)
		ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
						errmsg("could not see the message with this key"),
						errhint("The transaction might succeed if retried.")));
	return id;
}

/* ---- notify ---- */

static char *
argument(FunctionCallInfo fcinfo, int number)
{
	return PG_ARGISNULL(number) ? NULL
								: text_to_cstring(PG_GETARG_TEXT_PP(number));
}

static void
check_present(const char *value, const char *what, const char *example)
{
	if (value == NULL)
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("%s cannot be NULL", what),
						errhint("For example: %s", example)));
}

static void
check_key(const char *key, const char *what)
{
	if (key != NULL && (key[0] == '\0' || strlen(key) > MAX_KEY))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a message's %s must have 1 to %d bytes", what, MAX_KEY),
				 errhint("Leave it out, or use an id of your own, such as "
						 "'order-17'.")));
	if (key != NULL && strncmp(key, OURS, strlen(OURS)) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a message's %s cannot begin with \"" OURS "\"", what),
				 errhint("Threads of incidents are the alerts' own. Use an id of "
						 "your own, such as 'order-17'.")));
}

static TimestampTz
check_due(FunctionCallInfo fcinfo, int number)
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

/* notify(destination, text, blocks, key, thread, send_after) */
ENGINE_FUNCTION(stripe_sync_notify)
{
	static const char example[] =
		"SELECT stripe_sync.notify('ops', 'Order 17 was refunded');";
	char *text = argument(fcinfo, 1);
	NewMessage message = {.destination = argument(fcinfo, 0),
						  .method = "post",
						  .key = argument(fcinfo, 3),
						  .thread = argument(fcinfo, 4),
						  .due_at = check_due(fcinfo, 5)};
	Destination destination;
	RoleScope scope;
	int64 id;

	check_present(message.destination, "destination", example);
	check_present(text, "text", example);
	if (mrkdwn_is_blank(text)) /* Slack says no_text */
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("a message's text cannot be empty"),
						errhint("It is what notifications show, beside blocks "
								"as well.")));
	check_key(message.key, "key");
	check_key(message.thread, "thread");
	scope = role_enter_engine();
	if (!destination_find(message.destination, &destination))
		destination_missing(message.destination);
	message.payload = blocks_plain(
		text, PG_ARGISNULL(2) ? NULL : PG_GETARG_JSONB_P(2));
	id = outbox_enqueue(&message);
	if (id == 0)
		id = find_by_key(message.key);
	role_leave(&scope);
	PG_RETURN_INT64(id);
}

/* ---- retry, cancel ---- */

compat_noreturn static void
refuse_change(int64 id, const char *verb)
{
	static EngineStatement select = {
		"SELECT state FROM stripe_sync.message WHERE id = $1", 1, {INT8OID}};
	Datum values[] = {Int64GetDatum(id)};

	engine_run(&select, values, NULL, SPI_OK_SELECT);
	if (SPI_processed == 0)
		ereport(ERROR, (errcode(ERRCODE_NO_SUCH_NAME),
						errmsg("there is no message " INT64_FORMAT, id),
						errhint("SELECT id, destination, state FROM "
								"stripe_sync.message shows all.")));
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("message " INT64_FORMAT " is %s, it cannot be %s", id,
					SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1),
					verb),
			 errhint("stripe_sync.delivery shows what Slack said to it; "
					 "notify() sends another.")));
}

static void
change_message(FunctionCallInfo fcinfo, EngineStatement *update,
			   const char *verb)
{
	static EngineStatement unblock = {
		"UPDATE stripe_sync.message SET blocked_by = NULL WHERE blocked_by = $1",
		1,
		{INT8OID}};
	Datum values[] = {PG_GETARG_DATUM(0)};
	RoleScope scope;

	argument_required(fcinfo, 0, "a message's id");
	scope = role_enter_engine();
	SPI_connect();
	engine_run(update, values, NULL, SPI_OK_UPDATE);
	if (SPI_processed == 0)
		refuse_change(PG_GETARG_INT64(0), verb);
	engine_run(&unblock, values, NULL, SPI_OK_UPDATE);
	SPI_finish();
	worker_wake_at_commit();
	role_leave(&scope);
}

/*
 * retry_message(id): a dead or cancelled one anew, a waiting one at once.  A
 * change of an incident's message stays out of message_change_idx.
 */
ENGINE_FUNCTION(stripe_sync_retry_message)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.message SET state = 'waiting', settled_at = NULL,"
		" due_at = pg_catalog.clock_timestamp(),"
		" attempts = CASE WHEN state = 'waiting' THEN attempts"
		"  WHEN method IN ('update', 'summary') THEN 1 ELSE 0 END"
		" WHERE id = $1 AND state IN ('waiting', 'dead', 'cancelled')",
		1,
		{INT8OID}};

	change_message(fcinfo, &update, "retried");
	PG_RETURN_VOID();
}

/* cancel_message(id): one that waits */
ENGINE_FUNCTION(stripe_sync_cancel_message)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.message SET state = 'cancelled', blocked_by = NULL,"
		" settled_at = pg_catalog.clock_timestamp()"
		" WHERE id = $1 AND state = 'waiting'",
		1,
		{INT8OID}};

	change_message(fcinfo, &update, "cancelled");
	PG_RETURN_VOID();
}
