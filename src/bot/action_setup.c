/*
 * action_setup.c
 *		add_slack_action(), add_slack_command(), and their counterparts: functions
 *		are registered and dropped, in the caller's transaction.
 *
 * handler/registered.c says what is stored of a function.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "base/error_codes.h"
#include "engine/engine.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "handler/registered.h"
#include "message/message.h"
#include "server/server.h"
#include "bot/internal.h"

#define MOST_ACTION_ID 255 /* characters: Slack's limit */
#define MOST_COMMAND   32  /* likewise, with the slash */

const RegisteredKind action_kind = {
	"action", "an action", "slack_action",
	"An action takes the interaction (jsonb) and returns the answer (jsonb)",
	JSONBOID};

const RegisteredKind command_kind = {
	"command", "a command", "slack_command",
	"A command takes the interaction (jsonb) and returns the answer (jsonb)",
	JSONBOID};

/* ---- arguments ---- */

static char *
required_name(FunctionCallInfo fcinfo, const char *what)
{
	argument_required(fcinfo, 0, what);
	return text_to_cstring(PG_GETARG_TEXT_PP(0));
}

/* Raise 22023 for an action_id that Slack can't send, or one of our own. */
static void
check_action_id(const char *id)
{
	if (mrkdwn_is_blank(id) || pg_mbstrlen(id) > MOST_ACTION_ID)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("an action_id must have 1 to %d characters",
							   MOST_ACTION_ID)));
	if (strncmp(id, OWN_ACTION, strlen(OWN_ACTION)) == 0)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("action_id \"%s\" is reserved", id),
			 errdetail(
				 "Those that begin with \"%s\" are of the buttons that alerts have.",
				 OWN_ACTION),
			 errhint("Give the button another action_id.")));
}

/* Raise 22023 for a command that Slack can't send, or our own. */
static void
check_command(const char *command)
{
	size_t length = strlen(command);

	if (command[0] != '/' || length < 2 || length > MOST_COMMAND ||
		strspn(command + 1, "abcdefghijklmnopqrstuvwxyz0123456789_-") !=
			length - 1)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("\"%s\" cannot be a slash command", command),
			 errdetail(
				 "A slash command is a slash and 1 to %d lower-case letters, digits, hyphens and underscores.",
				 MOST_COMMAND - 1),
			 errhint("For example '/orders'.")));
	if (strcmp(command, OWN_COMMAND) == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("command \"%s\" is reserved", command),
						errdetail("stripe_sync answers it."),
						errhint("Give the command another name.")));
}

static Oid
function_argument(FunctionCallInfo fcinfo)
{
	return PG_ARGISNULL(1) ? InvalidOid : PG_GETARG_OID(1);
}

/* ---- actions ---- */

/* add_slack_action(action_id, handler): a known one is replaced */
ENGINE_FUNCTION(stripe_sync_add_slack_action)
{
	static EngineStatement upsert = {
		"INSERT INTO stripe_sync.slack_action (action_id, " REGISTERED_COLUMNS
		") VALUES ($1, $2, $3, $4, $5, $6)"
		" ON CONFLICT (action_id) DO UPDATE SET " REGISTERED_REPLACE};
	char *id = required_name(fcinfo, "the action_id");
	Registered *action;
	RoleScope scope;

	check_action_id(id);
	action = registered_note(&action_kind, id, function_argument(fcinfo));
	scope = role_enter_engine();
	statement_exec(&upsert, ARGS(arg_text(id), REGISTERED_ARGS(action)));
	outbound_note_identity();
	role_leave(&scope);
	PG_RETURN_VOID();
}

/* drop_slack_action(action_id).  Raises SY005. */
ENGINE_FUNCTION(stripe_sync_drop_slack_action)
{
	static EngineStatement delete = {
		"DELETE FROM stripe_sync.slack_action WHERE action_id = $1"};
	char *id = required_name(fcinfo, "the action_id");
	RoleScope scope = role_enter_engine();

	if (statement_exec(&delete, ARGS(arg_text(id))) == 0)
		ereport(
			ERROR,
			(errcode(ERRCODE_NO_SUCH_NAME),
			 errmsg("there is no action \"%s\"", id),
			 errhint(
				 "SELECT action_id FROM stripe_sync.slack_action shows all.")));
	outbound_note_identity();
	role_leave(&scope);
	PG_RETURN_VOID();
}

/* ---- commands ---- */

/* add_slack_command(command, handler): a known one is replaced */
ENGINE_FUNCTION(stripe_sync_add_slack_command)
{
	static EngineStatement upsert = {
		"INSERT INTO stripe_sync.slack_command (command, " REGISTERED_COLUMNS
		") VALUES ($1, $2, $3, $4, $5, $6)"
		" ON CONFLICT (command) DO UPDATE SET " REGISTERED_REPLACE};
	char *name = required_name(fcinfo, "the command");
	Registered *command;
	RoleScope scope;

	check_command(name);
	command = registered_note(&command_kind, name, function_argument(fcinfo));
	scope = role_enter_engine();
	statement_exec(&upsert, ARGS(arg_text(name), REGISTERED_ARGS(command)));
	outbound_note_identity();
	role_leave(&scope);
	PG_RETURN_VOID();
}

/* drop_slack_command(command).  Raises SY005. */
ENGINE_FUNCTION(stripe_sync_drop_slack_command)
{
	static EngineStatement delete = {
		"DELETE FROM stripe_sync.slack_command WHERE command = $1"};
	char *name = required_name(fcinfo, "the command");
	RoleScope scope = role_enter_engine();

	if (statement_exec(&delete, ARGS(arg_text(name))) == 0)
		ereport(
			ERROR,
			(errcode(ERRCODE_NO_SUCH_NAME),
			 errmsg("there is no command \"%s\"", name),
			 errhint(
				 "SELECT command FROM stripe_sync.slack_command shows all.")));
	outbound_note_identity();
	role_leave(&scope);
	PG_RETURN_VOID();
}
