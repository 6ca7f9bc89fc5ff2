/*
 * slack_group_members.c
 *		User groups and their members in the tables.
 *
 * All functions run in the caller's transaction and in the engine's scope.
 */
#include "postgres.h"

#include <openssl/crypto.h>

#include "utils/memutils.h"

#include "engine/array_argument.h"
#include "engine/engine.h"
#include "engine/statement.h"
#include "inbox/secret.h"
#include "slack_in/slack_in.h"
#include "slack_calls/internal.h"

#define MAX_DEPTH 64 /* of an answer's JSON */

/*
 * When a group is due: ten minutes after it was read; after a failure sooner, in
 * 10 seconds, doubled after each further one.
 */
#define DUE_AT                                                                 \
	"CASE WHEN g.tried_at IS NULL THEN '-infinity'::timestamptz"               \
	" WHEN g.failures = 0 THEN g.tried_at + interval '10 minutes'"             \
	" ELSE g.tried_at + LEAST(interval '10 minutes',"                          \
	"  interval '10 seconds' * 2 ^ LEAST(g.failures - 1, 10)) END"

void
group_free(SlackGroup *group)
{
	if (group->token != NULL)
		OPENSSL_cleanse(group->token, strlen(group->token));
	free(group->body);
	MemoryContextDelete(group->memory);
}

/* ---- which groups ---- */

/*
 * Let stripe_sync.slack_group have a row for each user group that
 * set_slack_user() names, and each app.  Members that were read more than an hour
 * ago are deleted, since they may have left.
 */
void
groups_refresh(void)
{
	static EngineStatement insert = {
		"INSERT INTO stripe_sync.slack_group (slack_group, app)"
		" SELECT u.slack_user, a.name FROM stripe_sync.slack_user u"
		"  CROSS JOIN stripe_sync.slack_app a WHERE u.slack_user LIKE 'S%'"
		"   AND NOT EXISTS (SELECT FROM stripe_sync.slack_group g"
		"    WHERE g.slack_group = u.slack_user AND g.app = a.name)"
		" ON CONFLICT DO NOTHING"};
	static EngineStatement drop = {
		"DELETE FROM stripe_sync.slack_group g"
		" WHERE NOT EXISTS (SELECT FROM stripe_sync.slack_user u"
		"   WHERE u.slack_user = g.slack_group)"
		" OR NOT EXISTS (SELECT FROM stripe_sync.slack_app a"
		"   WHERE a.name = g.app)"};
	static EngineStatement expire = {
		"DELETE FROM stripe_sync.slack_group_member m WHERE NOT EXISTS"
		" (SELECT FROM stripe_sync.slack_group g"
		"   WHERE g.slack_group = m.slack_group AND g.app = m.app"
		"    AND g.read_at > pg_catalog.clock_timestamp() - interval '1 hour')"};

	statement_exec(&insert, NO_ARGS);
	statement_exec(&drop, NO_ARGS);
	statement_exec(&expire, NO_ARGS);
}

static SlackGroup *
make_group(Rows *rows)
{
	MemoryContext memory = AllocSetContextCreate(
		TopMemoryContext, "stripe_sync user group", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(memory);
	SlackGroup *group = palloc0(sizeof(SlackGroup));

	group->memory = memory;
	group->group = rows_text(rows);
	group->app = rows_text(rows);
	group->retry_after = -1;
	MemoryContextSwitchTo(old);
	return group;
}

static void
read_token(SlackGroup *group)
{
	char token[MAX_SECRET + 1];
	char *trouble = NULL;

	if (slack_app_token(group->app, token, sizeof(token), &trouble))
		group->token = MemoryContextStrdup(group->memory, token);
	else
		group->trouble = MemoryContextStrdup(group->memory, trouble);
	OPENSSL_cleanse(token, sizeof(token));
}

/*
 * A group that is due, or NULL; noted as tried now, so that it isn't read twice.
 * One without a token is due at once when its app has got one.
 */
SlackGroup *
group_take_due(void)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.slack_group u"
		" SET tried_at = pg_catalog.clock_timestamp()"
		" FROM (SELECT g.slack_group, g.app FROM stripe_sync.slack_group g"
		"   WHERE " DUE_AT " <= pg_catalog.clock_timestamp()"
		"    OR (g.error = 'no_token' AND EXISTS"
		"     (SELECT FROM stripe_sync.slack_app_secret s"
		"       WHERE s.app = g.app AND s.token IS NOT NULL))"
		"   ORDER BY g.tried_at NULLS FIRST, g.slack_group, g.app LIMIT 1"
		"   FOR UPDATE SKIP LOCKED) d"
		" WHERE u.slack_group = d.slack_group AND u.app = d.app"
		" RETURNING u.slack_group, u.app"};
	SlackGroup *group = NULL;
	Rows rows;

	rows_open(&rows, &update, NO_ARGS);
	if (rows_next(&rows))
		group = make_group(&rows);
	rows_close(&rows);
	if (group != NULL)
		read_token(group);
	return group;
}

/* When the first one is due, or its members expire */
TimestampTz
groups_next(void)
{
	static EngineStatement select = {
		"SELECT LEAST(pg_catalog.min(" DUE_AT "), pg_catalog.min(g.read_at)"
		"  FILTER (WHERE EXISTS (SELECT FROM stripe_sync.slack_group_member m"
		"   WHERE m.slack_group = g.slack_group AND m.app = g.app))"
		"  + interval '1 hour') FROM stripe_sync.slack_group g"};

	return statement_time(DT_NOEND, &select, NO_ARGS);
}

/* ---- what was read ---- */

static bool
is_user_id(const JsonbValue *value)
{
	const char *id = value->val.string.val;
	int length = value->val.string.len;

	if (value->type != jbvString || length < 2 || length > 63 ||
		(id[0] != 'U' && id[0] != 'W'))
		return false;
	for (int i = 0; i < length; i++)
		if (!(id[i] >= 'A' && id[i] <= 'Z') && !(id[i] >= '0' && id[i] <= '9'))
			return false;
	return true;
}

/* The members in the answer, as a column; false if it can't be read. */
static bool
read_members(const SlackGroup *group, ArgColumns *members)
{
	Jsonb *answer = NULL;
	JsonbContainer *users;
	JsonbIterator *it;
	JsonbValue value;
	JsonbIteratorToken token;

	if (group->body != NULL && memchr(group->body, '\0', group->length) == NULL &&
		pg_verify_mbstr(PG_UTF8, group->body, group->length, true) &&
		!json_too_deep(group->body, group->length, MAX_DEPTH))
		answer = json_parse(group->body, group->length);
	if (answer == NULL || !JB_ROOT_IS_OBJECT(answer) ||
		!json_get(&answer->root, "users", &value) || value.type != jbvBinary)
		return false;
	users = value.val.binary.data;
	if (!JsonContainerIsArray(users))
		return false;
	it = JsonbIteratorInit(users);
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
		if (token == WJB_ELEM && is_user_id(&value))
			columns_add(members, ARGS(arg_text(pnstrdup(value.val.string.val,
														value.val.string.len))));
	return true;
}

/* They are all replaced. */
static void
store_members(const SlackGroup *group, const ArgColumns *members)
{
	static EngineStatement delete = {"DELETE FROM stripe_sync.slack_group_member"
									 " WHERE slack_group = $1 AND app = $2"};
	static EngineStatement insert = {
		"INSERT INTO stripe_sync.slack_group_member (slack_group, app, slack_user)"
		" SELECT $1, $2, u FROM unnest($3) u ON CONFLICT DO NOTHING"};
	static EngineStatement update = {
		"UPDATE stripe_sync.slack_group SET error = NULL, failures = 0,"
		" read_at = pg_catalog.clock_timestamp()"
		" WHERE slack_group = $1 AND app = $2"};
	StatementArg name = arg_text(group->group);
	StatementArg app = arg_text(group->app);

	/* if it has been dropped meanwhile, there is nothing to store */
	if (statement_exec(&update, ARGS(name, app)) == 0)
		return;
	statement_exec(&delete, ARGS(name, app));
	if (members->nrows > 0)
		statement_exec(&insert, ARGS(name, app, arg_column(members, 0)));
}

static const char *
remedy(const char *code)
{
	if (strcmp(code, "missing_scope") == 0)
		return "Add the scope usergroups:read to the app at api.slack.com/apps and install it again.";
	if (strcmp(code, "plan_upgrade_required") == 0 ||
		strcmp(code, "paid_teams_only") == 0)
		return "User groups need a paid plan of Slack; set_slack_user() can name people instead.";
	if (strcmp(code, "no_such_subteam") == 0)
		return "Is it the id of a user group of the app's workspace?";
	if (strcmp(code, "no_token") == 0)
		return "Call stripe_sync.add_slack_app() with the app's bot token.";
	return "Members count for an hour after they were last read.";
}

/* Those that were read before stay.  The log gets each new reason once. */
static void
store_error(const SlackGroup *group, const char *code)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.slack_group u"
		" SET failures = u.failures + 1, error = $3"
		" FROM (SELECT g.slack_group, g.app, g.error FROM stripe_sync.slack_group g"
		"   WHERE g.slack_group = $1 AND g.app = $2 FOR UPDATE) o"
		" WHERE u.slack_group = o.slack_group AND u.app = o.app"
		" RETURNING o.error IS DISTINCT FROM $3"};

	if (statement_bool(
			false, &update,
			ARGS(arg_text(group->group), arg_text(group->app), arg_text(code))))
		ereport(
			WARNING,
			(errmsg("members of user group %s could not be read by app \"%s\": %s",
					group->group, group->app, code),
			 group->trouble != NULL ? errdetail("%s", group->trouble) : 0,
			 errhint("%s", remedy(code))));
}

void
group_settle(SlackGroup *group)
{
	ArgColumns members = {0};

	if (group->judgement.verdict != SLACK_SENT)
		store_error(group, group->judgement.code);
	else if (!read_members(group, &members))
		store_error(group, "malformed_answer");
	else
		store_members(group, &members);
}
