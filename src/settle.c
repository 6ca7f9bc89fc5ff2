/*
 * settle.c
 *		Writes the results of deliveries: their log, their message's state, and
 *		the consequences for other messages and for the destination.
 *
 * Deliveries that finished together are settled in one transaction.  If one is
 * of a thread, its destination's row in destination_pace is locked first:
 * claim.c decides under that lock which message blocks which.
 */
#include "stripe_sync.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "delivery.h"

#define DELIVERY_BACKOFF_FIRST USECS_PER_SEC
#define DELIVERY_BACKOFF_MOST  (6 * USECS_PER_HOUR)

/* ---- columns of what is settled, as arrays ---- */

typedef struct Column
{
	Oid type;
	Datum *values;
	bool *nulls;
} Column;

static void
column_make(Column *column, Oid type, int n)
{
	column->type = type;
	column->values = palloc0(sizeof(Datum) * n);
	column->nulls = palloc0(sizeof(bool) * n);
}

static void
column_put(Column *column, int i, bool present, Datum value)
{
	column->values[i] = value;
	column->nulls[i] = !present;
}

static void
column_put_text(Column *column, int i, const char *text)
{
	bool present = text != NULL && text[0] != '\0';

	column_put(column, i, present, present ? CStringGetTextDatum(text) : 0);
}

static Datum
column_array(const Column *column, int n)
{
	int lower = 1;
	bool by_value = column->type != TEXTOID;

	return PointerGetDatum(construct_md_array(
		column->values, column->nulls, 1, &n, &lower, column->type,
		column->type == TEXTOID	  ? -1
		: column->type == INT4OID ? 4
								  : 8,
		by_value,
		column->type == INT8OID || column->type == TIMESTAMPTZOID
			? TYPALIGN_DOUBLE
			: TYPALIGN_INT));
}

static void
column_arrays(const Column *columns, int ncolumns, int n, Datum *values)
{
	for (int i = 0; i < ncolumns; i++)
		values[i] = column_array(&columns[i], n);
}

/* ---- the log ---- */

static void
log_attempts(List *deliveries)
{
	static EngineStatement insert = {
		"INSERT INTO stripe_sync.delivery (message_id, attempt, started_at,"
		" finished_at, http_status, code, verdict, request_id, response, duration)"
		" SELECT l.*, l.finished_at - l.started_at FROM unnest($1, $2,"
		" $3, $4, $5, $6, $7, $8, $9) l (message_id, attempt, started_at,"
		" finished_at, http_status, code, verdict, request_id, response)",
		9,
		{INT8ARRAYOID, INT4ARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID,
		 INT4ARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID}};
	static const Oid types[] = {INT8OID,		INT4OID, TIMESTAMPTZOID,
								TIMESTAMPTZOID, INT4OID, TEXTOID,
								TEXTOID,		TEXTOID, TEXTOID};
	int n = list_length(deliveries);
	Column columns[lengthof(types)];
	Datum values[lengthof(types)];
	ListCell *cell;

	for (int i = 0; i < lengthof(types); i++)
		column_make(&columns[i], types[i], n);
	foreach(cell, deliveries)
	{
		Delivery *delivery = lfirst(cell);
		int i = foreach_current_index(cell);

		column_put(&columns[0], i, true, Int64GetDatum(delivery->id));
		column_put(&columns[1], i, true, Int32GetDatum(delivery->attempt));
		column_put(&columns[2], i, true, TimestampTzGetDatum(delivery->started));
		column_put(&columns[3], i, true,
				   TimestampTzGetDatum(delivery->finished));
		column_put(&columns[4], i, delivery->status != 0,
				   Int32GetDatum(delivery->status));
		column_put_text(&columns[5], i, delivery->judgement.code);
		column_put_text(&columns[6], i,
						slack_verdict_name(delivery->judgement.verdict));
		column_put_text(&columns[7], i, delivery->request_id);
		column_put_text(&columns[8], i, delivery->response);
	}
	column_arrays(columns, lengthof(types), n, values);
	engine_run(&insert, values, NULL, SPI_OK_INSERT);
}

/* ---- the messages ---- */

static TimestampTz
next_try(int attempt)
{
	return GetCurrentTimestamp() +
		   backoff_delay(attempt, DELIVERY_BACKOFF_FIRST, DELIVERY_BACKOFF_MOST);
}

static const char *
next_state(const Delivery *delivery)
{
	if (delivery->cancelled)
		return "cancelled";
	switch (delivery->judgement.verdict)
	{
		case SLACK_SENT:
			return "sent";
		case SLACK_MESSAGE_BAD:
			return "dead";
		case SLACK_RETRY:
			return delivery->attempt >= guc_message_attempts ? "dead"
															 : "waiting";
		case SLACK_DESTINATION_DEAD:
		case SLACK_CREDENTIAL_DEAD:
			break;
	}
	return "waiting"; /* until the destination is switched on again */
}

/* Slack's Retry-After as a time; one second where it gives none. */
static TimestampTz
asked_until(const Delivery *delivery)
{
	long seconds = delivery->retry_after >= 0 ? delivery->retry_after : 1;

	return GetCurrentTimestamp() + seconds * USECS_PER_SEC;
}

/*
 * When a message is due again.  Never earlier than by its backoff: Slack may
 * answer "Retry-After: 1" for hours, which would use up all attempts.
 */
static TimestampTz
next_due(const Delivery *delivery)
{
	if (delivery->judgement.verdict != SLACK_RETRY)
		return GetCurrentTimestamp();
	if (delivery->retry_after < 0)
		return next_try(delivery->attempt);
	return Max(next_try(delivery->attempt), asked_until(delivery));
}

static void
write_states(List *deliveries)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.message m SET state = s.state, last_code = s.code,"
		" due_at = CASE WHEN s.state = 'waiting' THEN s.due_at ELSE m.due_at END,"
		" slack_ts = COALESCE(s.ts, m.slack_ts),"
		" slack_channel = COALESCE(s.channel, m.slack_channel),"
		" settled_at = CASE WHEN s.state = 'waiting' THEN NULL"
		"   ELSE pg_catalog.clock_timestamp() END,"
		" lease_pid = NULL, lease_backend_start = NULL,"
		" lease_server_start = NULL, lease_at = NULL"
		" FROM unnest($1, $2, $3, $4, $5, $6, $7)"
		"   s (id, state, code, due_at, ts, channel, attempt)"
		" WHERE m.id = s.id AND m.attempts = s.attempt AND m.state = 'sending'",
		7,
		{INT8ARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID,
		 TEXTARRAYOID, TEXTARRAYOID, INT4ARRAYOID}};
	static const Oid types[] = {INT8OID, TEXTOID, TEXTOID, TIMESTAMPTZOID,
								TEXTOID, TEXTOID, INT4OID};
	int n = list_length(deliveries);
	Column columns[lengthof(types)];
	Datum values[lengthof(types)];
	ListCell *cell;

	for (int i = 0; i < lengthof(types); i++)
		column_make(&columns[i], types[i], n);
	foreach(cell, deliveries)
	{
		Delivery *delivery = lfirst(cell);
		int i = foreach_current_index(cell);

		column_put(&columns[0], i, true, Int64GetDatum(delivery->id));
		column_put_text(&columns[1], i, next_state(delivery));
		column_put_text(&columns[2], i, delivery->judgement.code);
		column_put(&columns[3], i, true,
				   TimestampTzGetDatum(next_due(delivery)));
		column_put_text(&columns[4], i, delivery->judgement.ts);
		column_put_text(&columns[5], i, delivery->judgement.channel);
		column_put(&columns[6], i, true, Int32GetDatum(delivery->attempt));
	}
	column_arrays(columns, lengthof(types), n, values);
	engine_run(&update, values, NULL, SPI_OK_UPDATE);
}

/* ---- other messages, and the destination ---- */

static void
lock_paces(List *deliveries)
{
	static EngineStatement lock = {
		"SELECT 1 FROM stripe_sync.destination_pace WHERE destination = ANY ($1)"
		" ORDER BY destination FOR UPDATE",
		1,
		{TEXTARRAYOID}};
	Datum *names = palloc(sizeof(Datum) * list_length(deliveries));
	Datum value;
	int n = 0;
	ListCell *cell;

	foreach(cell, deliveries)
	{
		Delivery *delivery = lfirst(cell);

		if (delivery->threaded)
			names[n++] = CStringGetTextDatum(delivery->destination);
	}
	if (n == 0)
		return;
	value = PointerGetDatum(
		construct_array(names, n, TEXTOID, -1, false, TYPALIGN_INT));
	engine_run(&lock, &value, NULL, SPI_OK_SELECT);
}

/*
 * Unblock the messages that these have blocked; claim.c blocks them again if
 * need be.  Rows that are locked are left to outbox_unblock_orphans().
 */
void
outbox_unblock(Datum ids)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.message SET blocked_by = NULL WHERE id = ANY (ARRAY("
		" SELECT w.id FROM stripe_sync.message w WHERE w.blocked_by = ANY ($1)"
		"  FOR UPDATE SKIP LOCKED))",
		1,
		{INT8ARRAYOID}};

	engine_run(&update, &ids, NULL, SPI_OK_UPDATE);
}

static void
unblock_threads(List *deliveries)
{
	Datum *ids = palloc(sizeof(Datum) * list_length(deliveries));
	int n = 0;
	ListCell *cell;

	foreach(cell, deliveries)
	{
		Delivery *delivery = lfirst(cell);

		if (delivery->threaded && strcmp(next_state(delivery), "waiting") != 0)
			ids[n++] = Int64GetDatum(delivery->id);
	}
	if (n > 0)
		outbox_unblock(PointerGetDatum(
			construct_array(ids, n, INT8OID, 8, true, TYPALIGN_DOUBLE)));
}

/* Retry-After is for all messages of the destination. */
static void
block_destination(const Delivery *delivery)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.destination_pace SET blocked_reason = $2,"
		" blocked_until = GREATEST(blocked_until, $3) WHERE destination = $1",
		3,
		{TEXTOID, TEXTOID, TIMESTAMPTZOID}};
	Datum values[] = {CStringGetTextDatum(delivery->destination),
					  CStringGetTextDatum(delivery->judgement.code),
					  TimestampTzGetDatum(asked_until(delivery))};

	engine_run(&update, values, NULL, SPI_OK_UPDATE);
}

static void
apply_to_destination(const Delivery *delivery)
{
	bool is_dead = delivery->judgement.verdict == SLACK_DESTINATION_DEAD ||
				   delivery->judgement.verdict == SLACK_CREDENTIAL_DEAD;

	if (delivery->judgement.verdict == SLACK_CREDENTIAL_DEAD)
		rotated_note(delivery->destination, delivery->secret);
	if (is_dead)
		destination_switch_off(delivery->destination,
							   delivery->trouble ? delivery->trouble
												 : delivery->judgement.code);
	else if (delivery->judgement.verdict == SLACK_RETRY &&
			 (delivery->retry_after >= 0 || delivery->status == 429))
		block_destination(delivery);
}

/*
 * Settle deliveries, in the caller's transaction.  May switch destinations off.
 * Runs in the engine's scope.
 */
void
outbox_settle(List *deliveries)
{
	int nest = plan_for_indexes_with_lock_timeout();
	ListCell *cell;

	SPI_connect();
	lock_paces(deliveries);
	log_attempts(deliveries);
	write_states(deliveries);
	unblock_threads(deliveries);
	foreach(cell, deliveries)
		apply_to_destination(lfirst(cell));
	SPI_finish();
	worker_wake_from_session(); /* for messages due again, and unblocked ones */
	plan_settings_restore(nest);
}
