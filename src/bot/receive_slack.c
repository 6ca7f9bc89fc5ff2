/*
 * receive_slack.c
 *		receive_slack(): stores a request from Slack and does what it asks.
 *
 * Everything happens in the caller's transaction.  What the request asks for runs
 * in a subtransaction, so that its failure leaves the stored interaction, with the
 * error.  It raises no error for anything a client sent.  Errors that say nothing
 * about the request (a serialization failure, a full disk) do reach the HTTP
 * front: then nothing is stored, and a redelivery is done anew.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "funcapi.h"
#include "utils/builtins.h"

#include "base/error_codes.h"
#include "base/subtransaction.h"
#include "base/text.h"
#include "engine/engine.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "inbox/secret.h"
#include "bot/internal.h"

#define LOG_EVERY USECS_PER_MINUTE /* refused requests, in a session */

/* ---- answers to HTTP ---- */

/*
 * 401: not from Slack, or too old; 400 or 413: from Slack, perhaps, but not
 * readable; 500: faults of this side.
 */
static int
http_status(const Refusal *refusal)
{
	if (refusal->fault == FAULT_OURS)
		return 500;
	if (refusal->fault == FAULT_TOO_LARGE)
		return 413;
	return refusal->sqlstate == ERRCODE_NO_EVENT ? 400 : 401;
}

/* Details of a fault on this side are in the log, not in an answer to a client. */
static SlackReply
refused(const Refusal *refusal)
{
	static EngineStatement build = {
		"SELECT pg_catalog.jsonb_build_object('code', $1, 'error', $2)"};
	int status = http_status(refusal);

	return (SlackReply){
		status, statement_jsonb(
					&build, ARGS(arg_text(unpack_sql_state(refusal->sqlstate)),
								 arg_text(status == 500 ? "the app is not set up"
														: refusal->message)))};
}

/*
 * Log a refused request; "app" may be NULL.  Anybody can send some, so at most one
 * a minute, and those in between are left out.
 */
static void
log_refused(const Refusal *refusal, const char *app)
{
	static TimestampTz logged_at = 0;
	TimestampTz now = GetCurrentTimestamp();

	if (now - logged_at >= 0 && now - logged_at < LOG_EVERY)
		return;
	logged_at = now;
	ereport(LOG, (errmsg("stripe_sync refused a request of Slack's%s: %s",
						 app != NULL ? psprintf(" for app \"%s\"",
												text_clip(app, NAMEDATALEN))
									 : "",
						 refusal->message),
				  refusal->detail ? errdetail_log("%s", refusal->detail) : 0,
				  refusal->hint ? errhint("%s", refusal->hint) : 0));
}

static SlackReply
challenge(const SlackRequest *request)
{
	static EngineStatement build = {
		"SELECT pg_catalog.jsonb_build_object('challenge', $1)"};

	return (SlackReply){
		200, statement_jsonb(&build, ARGS(arg_text(request->challenge)))};
}

/* ---- what the request asks for ---- */

/* False if nobody handles it. */
static bool
handle(BotCall *call)
{
	switch (call->request->kind)
	{
		case SLACK_PRESS:
			return press_run(call) || user_function_run(call);
		case SLACK_COMMAND:
			return command_run(call) || user_function_run(call);
		case SLACK_VIEW_SUBMISSION:
		case SLACK_VIEW_CLOSED:
		case SLACK_SHORTCUT:
		case SLACK_EVENT:
			return user_function_run(call);
		case SLACK_SSL_CHECK:
		case SLACK_URL_VERIFICATION:
		case SLACK_OTHER:
			break;
	}
	return false;
}

static void
tell_unknown_command(BotCall *call)
{
	const char *name = call->request->name ? call->request->name : "";

	bot_tell(
		call,
		psprintf(
			"No function answers %s. An administrator of the database can register one: %s",
			command_code(name),
			command_code(psprintf(
				"SELECT stripe_sync.add_slack_command(%s, 'schema.function');",
				quote_literal_cstr(name)))),
		NULL);
}

static void
handle_body(void *arg)
{
	BotCall *call = arg;

	if (handle(call))
		return;
	call->status = "ignored";
	if (call->request->kind == SLACK_COMMAND)
		tell_unknown_command(call);
}

/* A lock that is held for longer than Slack waits: the person can try again. */
static bool
is_busy(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE;
}

/*
 * The error is for the log and the interaction's row: its text may show what the
 * person may not see.
 */
void
bot_failed(BotCall *call, const ErrorData *error)
{
	ereport(
		WARNING,
		(errmsg("stripe_sync could not do what interaction " INT64_FORMAT
				" asks: %s",
				call->interaction, error->message),
		 errdetail_log("SQLSTATE %s.%s%s", unpack_sql_state(error->sqlerrcode),
					   error->context ? "\n" : "",
					   error->context ? error->context : "")));
	call->status = "failed";
	call->error = psprintf("%s: %s", unpack_sql_state(error->sqlerrcode),
						   error->message);
	call->reply = (SlackReply){200, NULL};
	bot_tell(
		call,
		is_busy(error)
			? pstrdup(
				  "That is being changed by another transaction at the moment. Please try again.")
			: psprintf("That did not work. Interaction " INT64_FORMAT
					   " of `stripe_sync.interaction` has the error.",
					   call->interaction),
		NULL);
}

/*
 * Triggers that the caller has deferred are fired first, as they would be before
 * a user's function: their errors are the caller's.
 */
static SlackReply
answer_new(const SlackRequest *request, int64 interaction)
{
	BotCall call = {.request = request,
					.interaction = interaction,
					.status = "done",
					.reply = {200, NULL}};
	ErrorData *error;

	if (deferred_possible())
		deferred_fire_callers();
	call.may = permission_of(request);
	if (!subtransaction_run(handle_body, &call, is_busy, &error))
		bot_failed(&call, error);
	interaction_finish(interaction, call.status, call.error, call.incident,
					   &call.reply);
	return call.reply;
}

static SlackReply
answer(const SlackRequest *request)
{
	SlackReply reply = {200, NULL};
	int64 interaction;

	if (request->kind == SLACK_SSL_CHECK)
		return reply;
	if (request->kind == SLACK_URL_VERIFICATION)
		return challenge(request);
	interaction = interaction_store(request, &reply);
	return interaction != 0 ? answer_new(request, interaction) : reply;
}

/* ---- SQL ---- */

static Datum
reply_row(FunctionCallInfo fcinfo, const SlackReply *reply)
{
	TupleDesc desc;
	Datum values[] = {Int32GetDatum(reply->http_status),
					  JsonbPGetDatum(reply->body)};
	bool nulls[] = {false, reply->body == NULL};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	level_check_columns(desc, lengthof(values));
	return HeapTupleGetDatum(
		heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

/* NULLs are an empty body, no headers, and the app "default". */
static SlackReply
receive_request(FunctionCallInfo fcinfo)
{
	struct varlena *body = PG_ARGISNULL(0) ? NULL : PG_GETARG_VARLENA_PP(0);
	Jsonb *headers = PG_ARGISNULL(1) ? NULL : PG_GETARG_JSONB_P(1);
	const char *app = PG_ARGISNULL(2) ? "default"
									  : text_to_cstring(PG_GETARG_TEXT_PP(2));
	SlackRequest request = {0};
	Refusal refusal = {0};
	RoleScope scope = role_enter_engine();
	SlackReply reply;

	if (slack_request_read(body ? VARDATA_ANY(body) : "",
						   body ? VARSIZE_ANY_EXHDR(body) : 0, headers, app,
						   &request, &refusal))
		reply = answer(&request);
	else
	{
		log_refused(&refusal, app);
		reply = refused(&refusal);
	}
	role_leave(&scope);
	return reply;
}

/*
 * receive_slack(body, headers, app), body being bytea or text.  If the library
 * doesn't fit the catalog the arguments are not read and the answer is a 500.
 * The body has a response_url, so no message in the log shows the statement.
 */
SECRET_FUNCTION_ANY_LEVEL(stripe_sync_receive_slack)
{
	Refusal refusal = {0};
	SlackReply reply;

	if (level_fits(CATALOG_LEVEL, &refusal))
		reply = receive_request(fcinfo);
	else
	{
		log_refused(&refusal, NULL);
		reply = (SlackReply){500, NULL};
	}
	return reply_row(fcinfo, &reply);
}
