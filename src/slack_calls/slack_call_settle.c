/*
 * slack_call_settle.c
 *		Settles calls: writes their results, and deletes secrets that are used up.
 *
 * A response that failed is sent again until its response_url has been used 5
 * times or is 30 minutes old, which is what Slack allows.  A view is sent once.
 */
#include "postgres.h"

#include "base/backoff.h"
#include "engine/engine.h"
#include "engine/statement.h"
#include "utils/builtins.h"
#include "slack_calls/internal.h"

#define CALL_BACKOFF_FIRST (2 * USECS_PER_SEC)
#define CALL_BACKOFF_MOST  (5 * USECS_PER_MINUTE)

/* ---- the call's row ---- */

/*
 * When to send it again: after 2, 8, 32, 128 seconds, so that the few attempts
 * outlast a short disturbance; not before Slack's Retry-After.
 */
static TimestampTz
next_due(const SlackCall *call)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz due = now + backoff_delay(2 * call->attempt - 1,
										  CALL_BACKOFF_FIRST, CALL_BACKOFF_MOST);

	if (strcmp(call->judgement.code, "lost") == 0)
		return now;
	if (call->retry_after >= 0)
		due = Max(due, now + call->retry_after * USECS_PER_SEC);
	return due;
}

static const char *
next_state(const SlackCall *call)
{
	if (call->judgement.verdict == SLACK_SENT)
		return "sent";
	if (call->judgement.verdict != SLACK_RETRY || call->is_view ||
		call->attempt >= CALL_MOST_USES || next_due(call) >= call->expires_at)
		return "dead";
	return "waiting";
}

/*
 * End its lease.  Returns false if it has been claimed anew since, which the
 * number of attempts shows.
 */
static bool
write_state(const SlackCall *call, const char *state)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.slack_call SET state = $3, code = $4,"
		" http_status = COALESCE($5, http_status), due_at = $6,"
		" attempts = attempts - $7,"
		" settled_at = CASE WHEN $3 = 'waiting' THEN NULL"
		"   ELSE pg_catalog.clock_timestamp() END,"
		" lease_pid = NULL, lease_backend_start = NULL, lease_server_start = NULL"
		" WHERE id = $1 AND attempts = $2 AND state = 'sending'"};

	return statement_exec(
			   &update, ARGS(arg_int8(call->id), arg_int4(call->attempt),
							 arg_text(state), arg_text(call->judgement.code),
							 arg_if(call->status != 0, arg_int4(call->status)),
							 arg_time(next_due(call)),
							 arg_int4(call->unsent ? 1 : 0))) > 0;
}

/* ---- secrets that are used up ---- */

/*
 * A row has both, and is deleted when neither can be used.  It is not updated:
 * logical decoding would show the new row.
 */
static void
delete_used_secret(int64 interaction)
{
	static EngineStatement delete = {
		"DELETE FROM stripe_sync.interaction_secret s WHERE s.interaction = $1"
		" AND NOT EXISTS (SELECT FROM stripe_sync.slack_call c"
		"   WHERE c.interaction = $1 AND c.state IN ('waiting', 'sending'))"
		" AND (s.response_url IS NULL OR"
		"  (SELECT pg_catalog.sum(c.attempts) FROM stripe_sync.slack_call c"
		"    WHERE c.interaction = $1 AND c.kind = 'response') >= $2)"};

	statement_exec(&delete,
				   ARGS(arg_int8(interaction), arg_int4(CALL_MOST_USES)));
}

/*
 * Delete those that have expired.  Slack's clock may be ahead of ours by the
 * tolerance of signatures.  Runs in the engine's scope.
 */
void
call_secrets_expire(void)
{
	static EngineStatement delete = {
		"DELETE FROM stripe_sync.interaction_secret WHERE interaction = ANY (ARRAY("
		" SELECT s.interaction FROM stripe_sync.interaction_secret s"
		"  LEFT JOIN stripe_sync.interaction i ON i.id = s.interaction"
		"  WHERE i.id IS NULL OR GREATEST(i.sent_at, i.received_at)"
		"   < pg_catalog.clock_timestamp() - interval '31 minutes'"
		"  FOR UPDATE OF s SKIP LOCKED))"};
	int nest = plan_for_indexes_with_lock_timeout();

	statement_exec(&delete, NO_ARGS);
	plan_settings_restore(nest);
}

/* ---- what was given up ---- */

static bool
came_too_late(const char *code)
{
	static const char *const codes[] = {"trigger_expired", "expired_trigger_id",
										"exchanged_trigger_id", "lost"};

	for (int i = 0; i < lengthof(codes); i++)
		if (strcmp(code, codes[i]) == 0)
			return true;
	return false;
}

/* Tell the person that nothing opens, if there is a way. */
static void
tell_no_view(const SlackCall *call)
{
	const char *code = call->judgement.code;
	const char *text =
		came_too_late(code)
			? "That took too long: Slack opens a form only within 3 seconds. Please try again."
			: psprintf("The form could not be opened (%s).", code);
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfo(&json, "{\"response_type\":\"ephemeral\",\"text\":\"%s\"}",
					 text);
	(void) slack_call_respond(call->interaction,
							  json_parse(json.data, json.len));
}

static void
give_up(const SlackCall *call)
{
	if (call->is_view)
		tell_no_view(call);
	ereport(
		WARNING,
		(errmsg("%s for interaction " INT64_FORMAT
				" was not accepted by Slack: %s",
				call->is_view ? "a view" : "an answer", call->interaction,
				call->judgement.code),
		 call->trouble != NULL ? errdetail("%s", call->trouble) : 0,
		 errhint("SELECT * FROM stripe_sync.slack_call WHERE id = " INT64_FORMAT
				 ";",
				 call->id)));
}

/* Settle one, in the caller's transaction.  Runs in the engine's scope. */
void
call_settle(SlackCall *call)
{
	int nest = plan_for_indexes_with_lock_timeout();
	const char *state = next_state(call);

	if (write_state(call, state))
	{
		delete_used_secret(call->interaction);
		if (strcmp(state, "dead") == 0)
			give_up(call);
	}
	plan_settings_restore(nest);
}
