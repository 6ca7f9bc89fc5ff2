/*
 * user_function.c
 *		Calls the user's own function for an interaction.
 *
 * It is registered by add_slack_action() or add_slack_command(), and runs as the
 * role that registered it (handler/registered.c), within
 * stripe_sync.handler_timeout and the time that Slack waits, in a subtransaction of
 * receive_slack()'s transaction.  An answer that cannot be given is an error of the function's: what
 * it wrote is rolled back with it.  The interaction is stored, with the error.
 *
 * Whether the person may do this is the function's to decide: the interaction
 * says what set_slack_user() permits them.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"

#include "engine/engine.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "bot/internal.h"

#define MOST_TIME 2500 /* milliseconds: Slack waits for 3 seconds */

/* ---- the function ---- */

static Registered *
find_in(EngineStatement *select, const RegisteredKind *kind, const char *name)
{
	Registered *registered = NULL;
	Rows rows;

	rows_open(&rows, select, ARGS(arg_text(name)));
	if (rows_next(&rows))
	{
		registered = palloc0(sizeof(Registered));
		registered->stopped = rows_bool(&rows, false);
		registered_read(registered, kind, name, &rows);
	}
	rows_close(&rows);
	return registered;
}

/* NULL if none is registered. */
static Registered *
find_registered(const SlackRequest *request)
{
	static EngineStatement select_action = {
		"SELECT stopped_at IS NOT NULL, " REGISTERED_COLUMNS
		" FROM stripe_sync.slack_action WHERE action_id = $1"};
	static EngineStatement select_command = {
		"SELECT stopped_at IS NOT NULL, " REGISTERED_COLUMNS
		" FROM stripe_sync.slack_command WHERE command = $1"};

	if (request->name == NULL)
		return NULL;
	if (request->kind == SLACK_COMMAND)
		return find_in(&select_command, &command_kind, request->name);
	return find_in(&select_action, &action_kind, request->name);
}

/* ---- its argument ---- */

static Jsonb *
describe(const BotCall *call)
{
	static EngineStatement build = {
		"SELECT pg_catalog.jsonb_build_object('id', $1, 'app', $2, 'kind', $3,"
		" 'name', $4, 'value', $5, 'team', $6, 'user', $7, 'user_name', $8,"
		" 'channel', $9, 'message_ts', $10, 'may', $11, 'body', $12)"};
	const SlackRequest *request = call->request;

	return statement_jsonb(
		&build,
		ARGS(arg_int8(call->interaction), arg_text(request->app),
			 arg_text(slack_kind_name(request->kind)), arg_text(request->name),
			 arg_text(request->value), arg_text(request->team),
			 arg_text(request->user), arg_text(request->user_name),
			 arg_text(request->channel), arg_text(request->message_ts),
			 arg_text(bot_may_name(call->may)), arg_jsonb(request->body)));
}

/* ---- the call ---- */

typedef struct UserCall
{
	BotCall *call;
	const Registered *registered;
	Jsonb *document;
	bool too_late; /* for a view: Slack no longer takes it */
} UserCall;

static void
call_body(void *arg)
{
	UserCall *user = arg;
	Jsonb *answer = registered_call(user->registered, user->document);

	if (answer != NULL)
		user_answer(user->call, answer, &user->too_late);
}

/*
 * Returns false if no function is registered.  An error of the function is
 * answered politely, and undoes nothing else; errors that say nothing about it
 * (subtransaction.c) are raised.
 */
bool
user_function_run(BotCall *call)
{
	UserCall user = {.call = call, .registered = find_registered(call->request)};
	ErrorData *error;

	if (user.registered == NULL)
		return false;
	user.document = describe(call);
	if (deferred_possible())
		deferred_fire_callers(); /* an error of these is not the function's */
	CommandCounterIncrement();	 /* it sees the interaction */
	if (timed_run_at_most(
			MOST_TIME, call_body, &user, "the function",
			"Slack waits for 3 seconds. Let it do less, for example by leaving the work to a job of your own.",
			&error))
		return true;
	call->reply = (SlackReply){200, NULL};
	if (user.too_late)
	{
		call->status = "failed";
		call->error = "the view came too late";
		bot_tell(call, "That took too long. Press again, please.", NULL);
	}
	else
		bot_failed(call, error);
	return true;
}
