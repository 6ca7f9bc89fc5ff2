/*
 * destination_test.c
 *		test_destination() queues a test message; check_destination() also waits for
 *		Slack's answer, and advises what to do about it.
 *
 * check_destination() is a procedure because the worker sees the message only when
 * it is committed.  It commits after queueing, and then reads the result in one
 * short transaction after the other, without any lock while it waits.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

#include "base/compat.h"
#include "engine/engine.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "message/message.h"
#include "outbox/outbox.h"
#include "server/server.h"

#define POLL_INTERVAL 100 /* ms */

/* The last attempt to send the test that has ended */
typedef struct TestResult
{
	char verdict[32]; /* empty: no attempt has ended */
	char code[256];
	double seconds;
} TestResult;

/* What a user can do about Slack's error codes */
static const struct
{
	const char *codes; /* between spaces */
	const char *advice;
	bool enable; /* the destination has to be enabled afterwards */
} remedies[] = {
	{" invalid_auth not_authed token_revoked token_expired account_inactive "
	 "not_allowed_token_type invalid_token ",
	 "The token or URL is invalid or was revoked: install the app in Slack again, and pass the new one to stripe_sync.add_slack_channel() or add_slack_webhook()."},
	{" missing_scope no_permission ",
	 "The bot lacks a permission: add the scope chat:write to the app (and chat:write.public for channels that it is not a member of), and install it again",
	 true},
	{" channel_not_found ",
	 "The bot cannot see the channel: give its id (C0123456789) instead of its name, and /invite the bot to a private channel."},
	{" not_in_channel ", "In Slack: /invite the bot to the channel", true},
	{" is_archived channel_is_archived ",
	 "Unarchive the channel in Slack, or use another channel."},
	{" no_service no_active_hooks ",
	 "The incoming webhook was removed or disabled: create another in the app's settings, and pass its URL to stripe_sync.add_slack_webhook()."},
	{" team_disabled no_team team_not_found ",
	 "The Slack workspace was deleted or disabled."},
	{" restricted_action posting_to_general_channel_denied action_prohibited "
	 "app_access_restricted access_denied ekm_access_denied ",
	 "An administrator of the Slack workspace must allow it; or use another channel."},
	{" timeout connection tls dns ",
	 "The database server must be able to connect to Slack over HTTPS: check its name servers, its firewall, and stripe_sync.ca_file."},
	{" ratelimited rate_limited ",
	 "Slack limits the rate of messages: the message is sent later automatically."},
};

/* A hint for a code of Slack's, or of ours */
static const char *
advice_for(const char *code, const char *destination)
{
	char *wanted = psprintf(" %s ", code);

	for (int i = 0; i < lengthof(remedies); i++)
		if (strstr(remedies[i].codes, wanted) != NULL)
			return remedies[i].enable
					   ? psprintf(
							 "%s; then SELECT stripe_sync.enable_destination(%s).",
							 remedies[i].advice, quote_literal_cstr(destination))
					   : remedies[i].advice;
	return "SELECT * FROM stripe_sync.delivery shows Slack's answers; https://docs.slack.dev/reference/methods/chat.postMessage explains the codes.";
}

/* ---- queueing ---- */

/* The first argument.  Raises 22004. */
static char *
destination_argument(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("destination cannot be NULL"),
						errhint("For example: SELECT "
								"stripe_sync.test_destination('ops');")));
	return text_to_cstring(PG_GETARG_TEXT_PP(0));
}

/* Returns the message's id.  Raises SY005, or 55000 if the destination is disabled. */
static int64
queue_test(const char *name)
{
	NewMessage message = {
		.destination = name, .method = "test", .due_at = GetCurrentTimestamp()};
	Destination destination;
	RoleScope scope = role_enter_engine();
	int64 id;

	if (!destination_find(name, &destination))
		destination_missing(name);
	if (!destination.enabled)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("destination \"%s\" is disabled: %s", name,
							   destination.disabled_reason),
						errhint("Correct the cause, then SELECT "
								"stripe_sync.enable_destination(%s).",
								quote_literal_cstr(name))));
	message.payload = blocks_plain(
		psprintf("This is a test of the destination \"%s\" by stripe_sync%s%s. "
				 "Nothing needs to be done.",
				 name, guc_instance_name[0] != '\0' ? " of " : "",
				 guc_instance_name),
		NULL);
	id = outbox_enqueue(&message);
	role_leave(&scope);
	return id;
}

/* test_destination(destination): a NOTICE says so if messages are not being sent */
ENGINE_FUNCTION(stripe_sync_test_destination)
{
	int64 id = queue_test(destination_argument(fcinfo));
	Standstill standstill;

	if (standstill_find("slack", &standstill))
		ereport(NOTICE, (errmsg("%s", standstill.reason),
						 errhint("%s", standstill.hint)));
	PG_RETURN_INT64(id);
}

/* ---- waiting ---- */

/* Leaves nothing allocated: the caller may poll for hours. */
static void
copy_text(Rows *rows, char *to, size_t size)
{
	char *value = rows_text(rows);

	strlcpy(to, value, size);
	pfree(value);
}

/* Read the result of the last attempt; no change if none has ended. */
static void
read_result(int64 id, TestResult *result)
{
	static EngineStatement select = {
		"SELECT COALESCE(d.verdict, ''),"
		" COALESCE(d.code, 'http_' || d.http_status, 'no_answer'),"
		" EXTRACT(epoch FROM d.duration)::float8"
		" FROM stripe_sync.message m LEFT JOIN LATERAL"
		"  (SELECT * FROM stripe_sync.delivery d WHERE d.message_id = m.id"
		"    ORDER BY d.id DESC LIMIT 1) d ON true"
		" WHERE m.id = $1"};
	RoleScope scope = role_enter_engine();
	Rows rows;

	rows_open(&rows, &select, ARGS(arg_int8(id)));
	if (rows_next(&rows))
	{
		copy_text(&rows, result->verdict, sizeof(result->verdict));
		copy_text(&rows, result->code, sizeof(result->code));
		result->seconds = rows_float8(&rows, 0);
	}
	rows_close(&rows);
	role_leave(&scope);
}

/* Is the answer final?  Slack may accept later what it did not accept now. */
static bool
is_answered(const TestResult *result)
{
	return result->verdict[0] != '\0' && strcmp(result->verdict, "retry") != 0 &&
		   strcmp(result->verdict, "lost") != 0;
}

/* The time is over.  Raises 57014; the message stays queued. */
compat_noreturn static void
raise_timeout(const char *name, int64 id, const TestResult *result)
{
	if (result->verdict[0] == '\0')
		ereport(
			ERROR,
			(errcode(ERRCODE_QUERY_CANCELED),
			 errmsg("the test of destination \"%s\" was not sent in time", name),
			 errhint(
				 "It is message " INT64_FORMAT
				 ", which stays queued. SELECT * FROM stripe_sync.worker shows what the worker does.",
				 id)));
	ereport(
		ERROR,
		(errcode(ERRCODE_QUERY_CANCELED),
		 errmsg("Slack has not accepted the test of destination \"%s\" yet: %s",
				name, result->code),
		 errdetail("Message " INT64_FORMAT " is sent again automatically.", id),
		 errhint("%s", advice_for(result->code, name))));
}

/* Raises a NOTICE if Slack has accepted the test, else 38000. */
static void
report_answer(const char *name, int64 id, const TestResult *result)
{
	if (strcmp(result->verdict, "sent") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
				 errmsg("Slack rejected the test of destination \"%s\": %s",
						name, result->code),
				 errdetail("It is message " INT64_FORMAT ".", id),
				 errhint("%s", advice_for(result->code, name))));
	ereport(
		NOTICE,
		(errmsg("destination \"%s\" works: Slack accepted the test after %.2f s",
				name, result->seconds)));
}

/*
 * Raise 55000 if nothing sends messages.  Where CALL work() would send them, a
 * NOTICE only: another session may call it.
 */
static void
check_sending(int64 id)
{
	Standstill standstill;

	if (!standstill_find("slack", &standstill))
		return;
	ereport(
		standstill.work_helps ? NOTICE : ERROR,
		(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
		 errmsg("%s", standstill.reason),
		 errdetail("The test is message " INT64_FORMAT ", which stays queued.",
				   id),
		 errhint("%s", standstill.hint)));
}

/* Each poll is in a transaction of its own. */
static void
wait_for_test(const char *name, int64 id, TimestampTz until)
{
	TestResult result = {0};

	for (;;)
	{
		level_check(CATALOG_LEVEL); /* it may change between transactions */
		read_result(id, &result);
		if (is_answered(&result))
			break;
		SPI_commit();
		if (GetCurrentTimestamp() >= until)
			raise_timeout(name, id, &result);
		(void) WaitLatch(
			MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
			POLL_INTERVAL, compat_wait_event("StripeSyncCheckDestination"));
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	report_answer(name, id, &result);
}

/* Raises 2D000 inside a transaction block or a function. */
static void
check_not_in_block(FunctionCallInfo fcinfo)
{
	CallContext *call = (CallContext *) fcinfo->context;

	if (call == NULL || !IsA(call, CallContext) || call->atomic)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
			 errmsg(
				 "stripe_sync.check_destination() cannot run inside a transaction block"),
			 errhint(
				 "CALL it by itself: the test is sent when it is committed. stripe_sync.test_destination() only queues it.")));
}

/*
 * CALL check_destination(destination, timeout)
 *
 * In a nonatomic SPI connection, as only that may commit.  The name is copied to
 * memory that outlives the transactions.
 */
ENGINE_FUNCTION(stripe_sync_check_destination)
{
	char *name = destination_argument(fcinfo);
	TimestampTz until;
	int64 id;

	if (PG_ARGISNULL(1))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("timeout cannot be NULL"),
						errhint("For example: '10 seconds'.")));
	check_not_in_block(fcinfo);
	until = engine_time_after(PG_GETARG_INTERVAL_P(1));
	name = MemoryContextStrdup(PortalContext, name);
	SPI_connect_ext(SPI_OPT_NONATOMIC);
	id = queue_test(name);
	SPI_commit();
	check_sending(id);
	wait_for_test(name, id, until);
	SPI_finish();
	PG_RETURN_VOID();
}
