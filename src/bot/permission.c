/*
 * permission.c
 *		Who may do what from Slack: set_slack_user(), and what is looked up at each
 *		request.
 *
 * That a request is signed says that it comes from Slack, not that the person may
 * do what it asks.  A person of the app's own workspace is named by U... alone;
 * one of another workspace, who is in a shared channel, only together with it, as
 * T.../U....  A person's own row takes precedence over those of user groups.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"

#include "engine/engine.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "server/server.h"
#include "bot/internal.h"

#define MOST_ID 32 /* bytes of an id of Slack's, which have about 11 */

/* ---- ids ---- */

/* Is it an id of that length, whose first character is one of "kinds"? */
static bool
is_id(const char *id, int length, const char *kinds)
{
	if (length < 2 || length > MOST_ID || strchr(kinds, id[0]) == NULL)
		return false;
	for (int i = 1; i < length; i++)
		if (!((id[i] >= 'A' && id[i] <= 'Z') || (id[i] >= '0' && id[i] <= '9')))
			return false;
	return true;
}

#define PERSON	  "UW"
#define WORKSPACE "TE"
#define GROUP	  "S"

static bool
is_slack_user(const char *id)
{
	const char *slash = strchr(id, '/');

	if (slash != NULL)
		return is_id(id, slash - id, WORKSPACE) &&
			   is_id(slash + 1, strlen(slash + 1), PERSON);
	return is_id(id, strlen(id), PERSON GROUP);
}

/* ---- at a request ---- */

/*
 * The workspace where the app is installed.  Of a view that somebody of another
 * workspace has submitted, "team" is theirs: the view says where the app is.
 */
static char *
own_workspace(const SlackRequest *request)
{
	JsonbContainer *view;
	JsonbContainer *team;
	JsonbValue installed;

	if (request->body == NULL || !JB_ROOT_IS_OBJECT(request->body))
		return NULL;
	view = json_get_object(&request->body->root, "view");
	if (view != NULL && json_get(view, "app_installed_team_id", &installed) &&
		installed.type != jbvNull)
		return json_get_string(view, "app_installed_team_id");
	team = json_get_object(&request->body->root, "team");
	return team != NULL ? json_get_string(team, "id")
						: json_get_string(&request->body->root, "team_id");
}

static bool
is_of_own_workspace(const SlackRequest *request)
{
	char *own = own_workspace(request);

	return own != NULL && request->team != NULL &&
		   strcmp(own, request->team) == 0;
}

/* "T.../U...", or NULL if one of them is no such id */
static char *
full_key(const SlackRequest *request)
{
	if (request->team == NULL || request->user == NULL ||
		!is_id(request->team, strlen(request->team), WORKSPACE) ||
		!is_id(request->user, strlen(request->user), PERSON))
		return NULL;
	return psprintf("%s/%s", request->team, request->user);
}

/*
 * How the person is named in slack_user: U..., of another workspace T.../U....
 * NULL if the request doesn't say who it is.
 */
char *
permission_key(const SlackRequest *request)
{
	char *key = full_key(request);

	return key != NULL && is_of_own_workspace(request) ? request->user : key;
}

static SlackMay
may_of(const char *name)
{
	if (strcmp(name, "see") == 0)
		return MAY_SEE;
	if (strcmp(name, "act") == 0)
		return MAY_ACT;
	return strcmp(name, "administer") == 0 ? MAY_ADMINISTER : MAY_NOTHING;
}

/* A row of the person's own.  False if there is none. */
static bool
find_own(const char *key, SlackMay *may)
{
	static EngineStatement select = {
		"SELECT may FROM stripe_sync.slack_user WHERE slack_user = $1"};
	char *name = statement_text(&select, ARGS(arg_text(key)));

	if (name != NULL)
		*may = may_of(name);
	return name != NULL;
}

/* The most that one of the person's user groups may */
static SlackMay
find_by_groups(const SlackRequest *request)
{
	static EngineStatement select = {
		"SELECT u.may FROM stripe_sync.slack_group_member m"
		"  JOIN stripe_sync.slack_user u ON u.slack_user = m.slack_group"
		"  JOIN stripe_sync.slack_group g USING (slack_group, app)"
		" WHERE m.slack_user = $1 AND m.app = $2"
		"  AND g.read_at > pg_catalog.clock_timestamp() - interval '1 hour'"};
	SlackMay most = MAY_NOTHING;
	Rows rows;

	rows_open(&rows, &select,
			  ARGS(arg_text(request->user), arg_text(request->app)));
	while (rows_next(&rows))
	{
		SlackMay may = may_of(rows_text(&rows));

		most = Max(most, may);
	}
	rows_close(&rows);
	return most;
}

SlackMay
permission_of(const SlackRequest *request)
{
	SlackMay may = MAY_NOTHING;
	char *key = full_key(request);

	if (key == NULL || find_own(key, &may) || !is_of_own_workspace(request) ||
		find_own(request->user, &may))
		return may;
	return find_by_groups(request);
}

/* ---- set_slack_user ---- */

/* Raises 22023. */
static void
check_arguments(const char *id, const char *may)
{
	if (!is_slack_user(id))
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("\"%s\" is not the id of a person or user group in Slack",
					id),
			 errhint(
				 "The id of a person begins with U or W; \"Copy member ID\" in the person's profile copies it. Of a person of another workspace, give T.../U...; of a user group, S....")));
	if (may_of(may) == MAY_NOTHING && strcmp(may, "nothing") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%s\" is not what a person may do in Slack", may),
				 errhint("It is one of see, act, administer, or nothing.")));
}

/* The members of a user group are read with an app's bot token. */
static void
note_unreadable(const char *id)
{
	static EngineStatement select = {
		"SELECT EXISTS (SELECT FROM stripe_sync.slack_app_secret"
		" WHERE token IS NOT NULL)"};

	if (id[0] == 'S' && !statement_bool(false, &select, NO_ARGS))
		ereport(
			NOTICE,
			(errmsg("the members of user group \"%s\" cannot be read", id),
			 errdetail("No Slack app has a bot token."),
			 errhint(
				 "Call add_slack_app() with the app's bot token, which needs the scope usergroups:read.")));
}

/*
 * set_slack_user(slack_user, may): "nothing" is a row, too, which takes precedence
 * over what the person's groups may do.
 */
ENGINE_FUNCTION(stripe_sync_set_slack_user)
{
	static EngineStatement upsert = {
		"INSERT INTO stripe_sync.slack_user (slack_user, may, set_by) VALUES ($1, $2, $3)"
		" ON CONFLICT (slack_user) DO UPDATE SET may = excluded.may, set_by = excluded.set_by"};
	char *id;
	char *may;
	char *by = GetUserNameFromId(role_caller(), false);
	RoleScope scope;

	argument_required(fcinfo, 0, "slack_user");
	argument_required(fcinfo, 1, "may");
	id = text_to_cstring(PG_GETARG_TEXT_PP(0));
	may = text_to_cstring(PG_GETARG_TEXT_PP(1));
	check_arguments(id, may);
	scope = role_enter_engine();
	(void) statement_exec(&upsert,
						  ARGS(arg_text(id), arg_text(may), arg_text(by)));
	note_unreadable(id);
	journal_note("slack_user.set", id, may);
	worker_wake_at_commit();
	role_leave(&scope);
	PG_RETURN_VOID();
}
