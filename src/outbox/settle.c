/*
 * settle.c
 *		Settles deliveries: writes their results to the log and to the messages,
 *		and applies the consequences to other messages and to the destination.
 *
 * Deliveries that finished together are settled in one transaction of the caller's,
 * which runs no user's code but alerts' rules (destination_refused.c).
 *
 * Locks: if a delivery is of a thread, the row of its destination in
 * destination_pace first, as claim.c decides under that lock which message blocks
 * which; then the messages.  A message whose lease was taken over since, which its
 * number of attempts shows, is left as it is.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "base/backoff.h"
#include "base/base.h"
#include "engine/engine.h"
#include "engine/array_argument.h"
#include "engine/statement.h"
#include "outbox/slack.h"
#include "server/counters.h"
#include "server/server.h"
#include "outbox/internal.h"

#define DELIVERY_BACKOFF_FIRST USECS_PER_SEC
#define DELIVERY_BACKOFF_MOST  (6 * USECS_PER_HOUR)

/* Texts that a delivery doesn't have are empty, and stored as null. */
static StatementArg
arg_text_or_null(const char *text)
{
	return arg_text(text[0] != '\0' ? text : NULL);
}

/* ---- the log ---- */

/* A row of stripe_sync.delivery for each */
static void
log_attempts(const List *deliveries)
{
	static EngineStatement insert = {
		"INSERT INTO stripe_sync.delivery (message_id, attempt, started_at,"
		" finished_at, http_status, code, verdict, request_id, response, duration)"
		" SELECT l.*, l.finished_at - l.started_at FROM unnest($1, $2,"
		" $3, $4, $5, $6, $7, $8, $9) l (message_id, attempt, started_at,"
		" finished_at, http_status, code, verdict, request_id, response)"};
	ArgColumns rows = {0};
	ListCell *cell;

	foreach(cell, deliveries)
	{
		const Delivery *delivery = lfirst(cell);
		const SlackJudgement *judgement = &delivery->judgement;

		counter_add(COUNT_MESSAGES, delivery->destination,
					slack_verdict_name(judgement->verdict));
		columns_add(
			&rows,
			ARGS(arg_int8(delivery->id), arg_int4(delivery->attempt),
				 arg_time(delivery->started), arg_time(delivery->finished),
				 arg_if(delivery->status != 0, arg_int4(delivery->status)),
				 arg_text_or_null(judgement->code),
				 arg_text(slack_verdict_name(judgement->verdict)),
				 arg_text_or_null(delivery->request_id),
				 arg_text_or_null(delivery->response)));
	}
	statement_exec(&insert, COLUMN_ARGS(&rows));
}

/* ---- the messages ---- */

/*
 * Is it to be sent again with plain forms of its newer blocks?  Once: then it has
 * none.
 */
static bool
goes_plain(const Delivery *delivery)
{
	return delivery->newer_blocks &&
		   delivery->judgement.verdict == SLACK_MESSAGE_BAD &&
		   strcmp(delivery->judgement.code, SLACK_INVALID_BLOCKS) == 0;
}

/*
 * The message's state after this delivery.  If Slack rejects the destination, the
 * message waits until that is enabled again.
 */
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
			return goes_plain(delivery) ? "waiting" : "dead";
		case SLACK_RETRY:
			return delivery->attempt >= guc_message_attempts ? "dead"
															 : "waiting";
		case SLACK_DESTINATION_DEAD:
		case SLACK_CREDENTIAL_DEAD:
			break;
	}
	return "waiting";
}

/* Slack's Retry-After as a time; one second if it gives none. */
static TimestampTz
retry_after(const Delivery *delivery)
{
	long seconds = delivery->retry_after >= 0 ? delivery->retry_after : 1;

	return GetCurrentTimestamp() + seconds * USECS_PER_SEC;
}

/*
 * When a waiting message is due again.  Never earlier than by its backoff: Slack
 * may answer "Retry-After: 1" for hours, which would use up all attempts.
 */
static TimestampTz
next_due(const Delivery *delivery)
{
	TimestampTz backoff;

	if (delivery->judgement.verdict != SLACK_RETRY)
		return GetCurrentTimestamp();
	backoff = GetCurrentTimestamp() + backoff_delay(delivery->attempt,
													DELIVERY_BACKOFF_FIRST,
													DELIVERY_BACKOFF_MOST);
	return delivery->retry_after < 0 ? backoff
									 : Max(backoff, retry_after(delivery));
}

/* End the leases. */
static void
write_states(const List *deliveries)
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
		" WHERE m.id = s.id AND m.attempts = s.attempt AND m.state = 'sending'"};
	ArgColumns rows = {0};
	ListCell *cell;

	foreach(cell, deliveries)
	{
		const Delivery *delivery = lfirst(cell);
		const SlackJudgement *judgement = &delivery->judgement;

		columns_add(&rows,
					ARGS(arg_int8(delivery->id), arg_text(next_state(delivery)),
						 arg_text_or_null(judgement->code),
						 arg_time(next_due(delivery)),
						 arg_text_or_null(judgement->ts),
						 arg_text_or_null(judgement->channel),
						 arg_int4(delivery->attempt)));
	}
	statement_exec(&update, COLUMN_ARGS(&rows));
}

/* ---- other messages ---- */

static void
lock_threads(const List *deliveries)
{
	ArgColumns names = {0};
	ListCell *cell;

	foreach(cell, deliveries)
	{
		const Delivery *delivery = lfirst(cell);

		if (delivery->threaded)
			columns_add(&names, ARGS(arg_text(delivery->destination)));
	}
	if (names.nrows > 0)
		pace_lock_all(arg_column(&names, 0));
}

/* Let the next messages of threads be claimed. */
static void
unblock_threads(const List *deliveries)
{
	ArgColumns ids = {0};
	ListCell *cell;

	foreach(cell, deliveries)
	{
		const Delivery *delivery = lfirst(cell);

		if (delivery->threaded && strcmp(next_state(delivery), "waiting") != 0)
			columns_add(&ids, ARGS(arg_int8(delivery->id)));
	}
	if (ids.nrows > 0)
		outbox_unblock(arg_column(&ids, 0));
}

/* ---- the destination ---- */

/*
 * Send plain forms of newer blocks to the destination from now on: Slack has
 * accepted a message with those, and rejected the same with the others.
 */
static void
remember_plain_blocks(const char *destination)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.destination"
		" SET plain_blocks_at = pg_catalog.clock_timestamp()"
		" WHERE name = $1 AND plain_blocks_at IS NULL"};

	if (statement_exec(&update, ARGS(arg_text(destination))) > 0)
		ereport(
			LOG,
			(errmsg(
				 "Slack rejects newer kinds of blocks at destination \"%s\", which are sent as sections from now on",
				 destination),
			 errhint(
				 "To try them again: SELECT stripe_sync.enable_destination(%s).",
				 quote_literal_cstr(destination))));
}

/*
 * Disable a destination that Slack rejects, or send it nothing until Retry-After
 * has passed.  A 429 without that header blocks it for a second.
 */
static void
apply_to_destination(const Delivery *delivery)
{
	SlackVerdict verdict = delivery->judgement.verdict;
	const char *code = delivery->judgement.code;

	if (verdict == SLACK_SENT && delivery->plain_retry)
		remember_plain_blocks(delivery->destination);
	if (verdict == SLACK_CREDENTIAL_DEAD)
		secret_rotation_note(delivery->destination, delivery->secret);
	if (verdict == SLACK_CREDENTIAL_DEAD || verdict == SLACK_DESTINATION_DEAD)
		destination_disable_refused(
			delivery->destination, delivery->trouble ? delivery->trouble : code);
	else if (verdict == SLACK_RETRY &&
			 (delivery->retry_after >= 0 || delivery->status == 429))
		pace_block(delivery->destination, code, retry_after(delivery));
}

/*
 * Settle the deliveries, a list of one or more, in the caller's transaction.  May
 * disable destinations.  Runs in the engine's scope.  An error leaves nothing
 * settled: the caller keeps the deliveries and tries again.
 */
void
outbox_settle(const List *deliveries)
{
	int nest = plan_for_indexes_with_lock_timeout();
	ListCell *cell;

	lock_threads(deliveries);
	log_attempts(deliveries);
	write_states(deliveries);
	unblock_threads(deliveries);
	foreach(cell, deliveries)
		apply_to_destination(lfirst(cell));
	worker_wake_from_session(); /* for messages due again, and unblocked ones */
	plan_settings_restore(nest);
}
