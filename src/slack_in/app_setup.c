/*
 * app_setup.c
 *		Slack apps are added and dropped, in the caller's transaction.
 *
 * ADVISORY_SLACK_APP, until the transaction's end, keeps one change after the
 * other; add_slack_channel() takes it too, before its other locks, as each decides
 * which app posts to a channel.  Signing secrets and tokens are secrets: no error
 * here shows the statement.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "engine/engine.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "outbox/outbox.h"
#include "server/server.h"
#include "slack_in/internal.h"

#define MAX_APP_NAME 63 /* bytes, as of other names */

typedef struct NewApp
{
	text *name;
	text *signing_secret;
	text *token; /* or NULL */
} NewApp;

/*
 * Raises 22023.  A secret may stand here, if the arguments were mistaken, and more
 * roles can read the name.
 */
static void
check_name(const text *name)
{
	static const char hint[] = "The name is yours to choose: 'default' is what "
							   "receive_slack() takes if none is given.";

	if (!destination_is_plain_line(name, MAX_APP_NAME))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errhidestmt(true),
				 errmsg("an app must have a name of 1 to %d bytes", MAX_APP_NAME),
				 errhint("%s", hint)));
	if (destination_could_be_secret(name) || slack_signing_secret_form(name))
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errhidestmt(true),
			 errmsg("an app's name cannot be a secret, a token or a URL"),
			 errhint(
				 "The order is: add_slack_app(name, signing_secret, token).")));
}

/* Is there an app of this name, with the same secrets? */
static bool
is_unchanged(const NewApp *new)
{
	static EngineStatement select = {
		"SELECT s.signing_secret, s.token FROM stripe_sync.slack_app a"
		"  JOIN stripe_sync.slack_app_secret s ON s.app = a.name"
		" WHERE a.name = $1"};
	Rows rows;
	bool same = false;
	bool isnull;
	Datum token;

	rows_open(&rows, &select, ARGS(arg_varlena(TEXTOID, new->name)));
	/* not by rows_text(), which would leave a copy of the secret */
	if (rows_next(&rows))
	{
		same = secret_same(DatumGetTextPP(rows_datum(&rows, TEXTOID, &isnull)),
						   new->signing_secret);
		token = rows_datum(&rows, TEXTOID, &isnull);
		if (isnull || new->token == NULL)
			same = same && isnull && new->token == NULL;
		else
			same = same && secret_same(DatumGetTextPP(token), new->token);
	}
	rows_close(&rows);
	return same;
}

/* The secrets' row is written without a statement: see secret_row.c. */
static void
store(const NewApp *new)
{
	static EngineStatement insert = {
		"INSERT INTO stripe_sync.slack_app (name) VALUES ($1)"
		" ON CONFLICT (name) DO NOTHING"};
	Datum values[] = {PointerGetDatum(new->name),
					  PointerGetDatum(new->signing_secret),
					  PointerGetDatum(new->token)};
	bool isnull[] = {false, false, new->token == NULL};

	statement_exec(&insert, ARGS(arg_varlena(TEXTOID, new->name)));
	secret_delete("slack_app_secret", new->name);
	secret_insert("slack_app_secret", lengthof(values), values, isnull);
	destination_assign_app(NULL);
	journal_note_text("app.added", new->name, NULL);
}

/* Set-up is done: let the worker read it at commit.  Leaves the engine's scope. */
static void
setup_end(const RoleScope *scope)
{
	outbound_note_identity();
	worker_wake_at_commit();
	role_leave(scope);
}

/*
 * add_slack_app(name, signing_secret, token): set-up scripts can be run again, so
 * an app that is the same already stays as it is.
 */
SECRET_FUNCTION(stripe_sync_add_slack_app)
{
	NewApp new = {0};
	RoleScope scope;

	argument_required(fcinfo, 0, "the name");
	argument_required(fcinfo, 1, "the signing secret");
	new.name = PG_GETARG_TEXT_PP(0);
	new.signing_secret = PG_GETARG_TEXT_PP(1);
	if (!PG_ARGISNULL(2))
		new.token = PG_GETARG_TEXT_PP(2);
	check_name(new.name);
	slack_signing_secret_check(new.signing_secret);
	if (new.token != NULL)
		destination_check_token(new.token);

	scope = role_enter_engine();
	advisory_lock(ADVISORY_SLACK_APP, 0);
	if (!is_unchanged(&new))
	{
		slack_signing_secret_remark(new.signing_secret);
		if (new.token != NULL)
			slack_token_remark(new.token);
		store(&new);
	}
	setup_end(&scope);
	secret_warn_file(new.signing_secret);
	if (new.token != NULL)
		secret_warn_file(new.token);
	PG_RETURN_VOID();
}

/* drop_slack_app(name): with what its token has read */
ENGINE_FUNCTION(stripe_sync_drop_slack_app)
{
	static EngineStatement delete = {
		"DELETE FROM stripe_sync.slack_app WHERE name = $1"};
	static EngineStatement delete_groups = {
		"DELETE FROM stripe_sync.slack_group WHERE app = $1"};
	static EngineStatement delete_members = {
		"DELETE FROM stripe_sync.slack_group_member WHERE app = $1"};
	StatementArg app;
	text *name;
	RoleScope scope;

	argument_required(fcinfo, 0, "the name");
	name = PG_GETARG_TEXT_PP(0);
	app = arg_varlena(TEXTOID, name);
	scope = role_enter_engine();
	advisory_lock(ADVISORY_SLACK_APP, 0);
	if (statement_exec(&delete, ARGS(app)) == 0)
		slack_app_missing(text_to_cstring(name));
	secret_delete("slack_app_secret", name);
	statement_exec(&delete_groups, ARGS(app));
	statement_exec(&delete_members, ARGS(app));
	destination_assign_app(NULL);
	journal_note_text("app.dropped", name, NULL);
	setup_end(&scope);
	PG_RETURN_VOID();
}
