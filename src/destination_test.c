/*
 * destination_test.c
 *		A test message is queued; and waited for, with what Slack says to it and
 *		what to do about that.
 */
#include "stripe_sync.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

#include "blocks.h"

#define LOOK_EVERY 100 /* ms, while somebody waits */

/* What became of the message so far. */
typedef struct TestStanding
{
	char state[16];
	char verdict[32]; /* of the last attempt that has ended; empty: none yet */
	char code[256];
	double seconds;
} TestStanding;

/* What Slack's codes mean for who set the destination up. */
static const struct
{
	const char *codes; /* between spaces */
	const char *advice;
	bool enables; /* and then the destination is to be switched on again */
} remedies[] = {
	{" invalid_auth not_authed token_revoked token_expired account_inactive "
	 "not_allowed_token_type invalid_token ",
	 "The token or URL is no good, or no more: install the app in Slack again, and give the new one to stripe_sync.add_slack_channel() or add_slack_webhook()."},
	{" missing_scope no_permission ",
	 "The bot lacks a right: give the app the scope chat:write (and chat:write.public for channels that it is not in), install it again",
	 true},
	{" channel_not_found ",
	 "The bot does not see the channel: give its id (C0123456789) instead of a name, and /invite the bot to a private one."},
	{" not_in_channel ", "In Slack: /invite the bot to the channel", true},
	{" is_archived channel_is_archived ",
	 "Unarchive the channel in Slack, or name another."},
	{" no_service no_active_hooks ",
	 "The incoming webhook was removed or switched off: make another in the app's settings, and give its URL to stripe_sync.add_slack_webhook()."},
	{" team_disabled no_team team_not_found ",
	 "The Slack workspace is gone or switched off."},
	{" restricted_action posting_to_general_channel_denied action_prohibited "
	 "app_access_restricted access_denied ekm_access_denied ",
	 "An administrator of the Slack workspace has to allow it, or name another channel."},
	{" timeout connection tls dns ",
	 "The database's server has to reach Slack over https: look at its name servers, its firewall, and stripe_sync.ca_file."},
	{" ratelimited rate_limited ",
	 "Slack wants less: the message is sent later by itself."},
};

static const char *
advice_for(const char *code, const char *destination)
{
	char *wanted = psprintf(" %s ", code);

	for (int i = 0; i < lengthof(remedies); i++)
		if (strstr(remedies[i].codes, wanted) != NULL)
			return remedies[i].enables
					   ? psprintf(
							 "%s; then SELECT stripe_sync.enable_destination(%s).",
							 remedies[i].advice, quote_literal_cstr(destination))
					   : remedies[i].advice;
	return "SELECT * FROM stripe_sync.delivery shows the answers; https://docs.slack.dev/reference/methods/chat.postMessage explains the codes.";
}

/* ---- queueing ---- */

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
						errmsg("destination \"%s\" is switched off: %s", name,
							   destination.disabled_reason),
						errhint("Mend what was wrong, then SELECT "
								"stripe_sync.enable_destination(%s).",
								quote_literal_cstr(name))));
	message.payload = blocks_plain(
		psprintf("This is a test of the destination \"%s\" by stripe_sync. "
				 "Nothing needs to be done.",
				 name),
		NULL);
	id = outbox_enqueue(&message);
	role_leave(&scope);
	return id;
}

/* test_destination(destination): who waits for it must know that nobody sends it */
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

static void
copy_column(HeapTuple row, TupleDesc desc, int column, char *target, Size size)
{
	char *value = SPI_getvalue(row, desc, column);

	strlcpy(target, value ? value : "", size);
}

static void
read_test(int64 id, TestStanding *standing)
{
	static EngineStatement select = {
		"SELECT m.state, d.verdict,"
		" COALESCE(d.code, 'http_' || d.http_status, 'no_answer'),"
		" EXTRACT(epoch FROM d.duration)::float8"
		" FROM stripe_sync.message m LEFT JOIN LATERAL"
		"  (SELECT * FROM stripe_sync.delivery d WHERE d.message_id = m.id"
		"    ORDER BY d.id DESC LIMIT 1) d ON true"
		" WHERE m.id = $1",
		1,
		{INT8OID}};
	Datum value = Int64GetDatum(id);
	RoleScope scope = role_enter_engine();
	HeapTuple row;
	TupleDesc desc;
	bool isnull;

	SPI_connect();
	engine_run(&select, &value, NULL, SPI_OK_SELECT);
	if (SPI_processed > 0)
	{
		row = SPI_tuptable->vals[0];
		desc = SPI_tuptable->tupdesc;
		copy_column(row, desc, 1, standing->state, sizeof(standing->state));
		copy_column(row, desc, 2, standing->verdict, sizeof(standing->verdict));
		copy_column(row, desc, 3, standing->code, sizeof(standing->code));
		standing->seconds = DatumGetFloat8(SPI_getbinval(row, desc, 4, &isnull));
		if (isnull)
			standing->seconds = 0;
	}
	SPI_finish();
	role_leave(&scope);
}

/* Slack may take later what it did not take now. */
static bool
is_answered(const TestStanding *standing)
{
	return standing->verdict[0] != '\0' &&
		   strcmp(standing->verdict, "retry") != 0 &&
		   strcmp(standing->verdict, "lost") != 0;
}

compat_noreturn static void
refuse_unsent(const char *name, int64 id, const TestStanding *standing)
{
	if (standing->verdict[0] == '\0')
		ereport(
			ERROR,
			(errcode(ERRCODE_QUERY_CANCELED),
			 errmsg("the test of destination \"%s\" was not sent in time", name),
			 errhint(
				 "It waits as message " INT64_FORMAT
				 ". SELECT * FROM stripe_sync.worker shows what the worker does.",
				 id)));
	ereport(ERROR,
			(errcode(ERRCODE_QUERY_CANCELED),
			 errmsg("Slack has not taken the test of destination \"%s\" yet: %s",
					name, standing->code),
			 errdetail("Message " INT64_FORMAT " is tried again by itself.", id),
			 errhint("%s", advice_for(standing->code, name))));
}

static void
report_answer(const char *name, int64 id, const TestStanding *standing)
{
	if (strcmp(standing->verdict, "sent") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
				 errmsg("Slack refuses the test of destination \"%s\": %s",
						name, standing->code),
				 errdetail("It is message " INT64_FORMAT ".", id),
				 errhint("%s", advice_for(standing->code, name))));
	ereport(NOTICE,
			(errmsg("destination \"%s\" works: Slack took the test after %.2f s",
					name, standing->seconds)));
}

/* Somebody's work() may send it; what else stands still is not waited for. */
static void
refuse_standstill(int64 id)
{
	Standstill standstill;

	if (!standstill_find("slack", &standstill))
		return;
	ereport(standstill.work_helps ? NOTICE : ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("%s", standstill.reason),
			 errdetail("The test waits as message " INT64_FORMAT ".", id),
			 errhint("%s", standstill.hint)));
}

/* Each look is in a transaction that ends before the next. */
static void
wait_for_test(const char *name, int64 id, TimestampTz until)
{
	TestStanding standing = {0};

	for (;;)
	{
		level_check(CATALOG_LEVEL); /* which may have changed between two */
		read_test(id, &standing);
		if (is_answered(&standing))
			break;
		SPI_commit();
		if (GetCurrentTimestamp() >= until)
			refuse_unsent(name, id, &standing);
		(void) WaitLatch(
			MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
			LOOK_EVERY, compat_wait_event("StripeSyncCheckDestination"));
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	report_answer(name, id, &standing);
}

static void
refuse_in_block(FunctionCallInfo fcinfo)
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

/* CALL check_destination(destination, timeout), outside a transaction block */
ENGINE_FUNCTION(stripe_sync_check_destination)
{
	char *name = destination_argument(fcinfo);
	TimestampTz until;
	int64 id;

	if (PG_ARGISNULL(1))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("timeout cannot be NULL"),
						errhint("For example: '10 seconds'.")));
	refuse_in_block(fcinfo);
	until = engine_time_after(PG_GETARG_INTERVAL_P(1));
	name = MemoryContextStrdup(PortalContext, name);
	SPI_connect_ext(SPI_OPT_NONATOMIC);
	id = queue_test(name);
	SPI_commit();
	refuse_standstill(id);
	wait_for_test(name, id, until);
	SPI_finish();
	PG_RETURN_VOID();
}
