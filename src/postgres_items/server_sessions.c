/*
 * server_sessions.c
 *		Items: connections against their limit, and a pooler in front.
 */
#include "postgres.h"

#include <math.h>

#include "utils/builtins.h"

#include "postgres_items/server_looks.h"

#define WARN_PERCENT 80
#define FAIL_PERCENT 95
#define GOAL_PERCENT 70 /* to which the hint brings them down */
#define POOL_SIZE                                                              \
	10 /* sessions of one role and address that look like a pool */

/* ---- connections ---- */

typedef struct Connections
{
	int64 limit; /* for roles that are not superusers */
	int64 used;
	int64 active;
	int64 idle;
	int64 in_transaction;
} Connections;

static Connections
read_connections(void)
{
	static EngineStatement select = {
		"SELECT current_setting('max_connections')::bigint"
		"  - current_setting('superuser_reserved_connections')::bigint"
		"  - coalesce(current_setting('reserved_connections', true)::bigint, 0),"
		" count(*), count(*) FILTER (WHERE state = 'active'),"
		" count(*) FILTER (WHERE state = 'idle'),"
		" count(*) FILTER (WHERE state LIKE 'idle in transaction%')"
		" FROM pg_stat_activity WHERE backend_type = 'client backend'"};
	Connections c = {0};
	Rows rows;

	rows_open(&rows, &select, NO_ARGS);
	if (rows_next(&rows))
	{
		c.limit = rows_int8(&rows, 1);
		c.used = rows_int8(&rows, 0);
		c.active = rows_int8(&rows, 0);
		c.idle = rows_int8(&rows, 0);
		c.in_transaction = rows_int8(&rows, 0);
	}
	rows_close(&rows);
	return c;
}

/* End the sessions that have been idle for longest, if there are enough. */
static void
hint_connections(Finding *finding, const Connections *c)
{
	int64 surplus = c->used - c->limit * GOAL_PERCENT / 100;

	if (surplus <= c->idle)
		finding_hint(
			finding,
			"SELECT pg_terminate_backend(pid) FROM"
			" (SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'"
			" AND state = 'idle' AND pid <> pg_backend_pid()"
			" ORDER BY state_change LIMIT " INT64_FORMAT ") AS idle;",
			surplus);
	else
		finding_hint(finding,
					 "ALTER SYSTEM SET max_connections = " INT64_FORMAT ";\n"
					 "-- then restart the server",
					 c->used * 2);
}

void
look_at_connections(Finding *finding)
{
	Connections c = read_connections();
	double percent = floor(100.0 * c.used / Max(c.limit, 1));
	char *words = psprintf(
		INT64_FORMAT " of " INT64_FORMAT " connections are used: " INT64_FORMAT
					 " active, " INT64_FORMAT " idle, " INT64_FORMAT
					 " idle in a transaction",
		c.used, c.limit, c.active, c.idle, c.in_transaction);

	finding_figure(finding, percent, "%");
	if (percent < WARN_PERCENT)
	{
		finding_ok(finding, "%s", words);
		return;
	}
	if (percent < FAIL_PERCENT)
		finding_warn(finding, "%s", words);
	else
		finding_fail(finding, "%s", words);
	hint_connections(finding, &c);
}

/* ---- pooler ---- */

/* A session whose own name, or whose role's, is a pooler's */
static char *
pooler_by_name(int64 *sessions)
{
	static EngineStatement select = {
		"SELECT coalesce(nullif(application_name, ''), usename), count(*)"
		" FROM pg_stat_activity WHERE backend_type = 'client backend'"
		"  AND concat_ws(' ', application_name, usename) ~*"
		"   '(pgbouncer|pgpool|odyssey|pgcat|pgdog|supavisor|rds ?proxy)'"
		" GROUP BY 1 ORDER BY 2 DESC LIMIT 1"};
	char *name = NULL;
	Rows rows;

	rows_open(&rows, &select, NO_ARGS);
	if (rows_next(&rows))
	{
		name = rows_text(&rows);
		*sessions = rows_int8(&rows, 0);
	}
	rows_close(&rows);
	return name;
}

/* Poolers pass on the name that their client has given. */
static void
judge_pool(Finding *finding)
{
	static EngineStatement select = {
		"SELECT usename, coalesce(host(client_addr), 'the server itself'), count(*)"
		" FROM pg_stat_activity WHERE backend_type = 'client backend'"
		" GROUP BY 1, 2 ORDER BY 3 DESC LIMIT 1"};
	int64 sessions = 0;
	char *role = NULL;
	char *host = NULL;
	Rows rows;

	rows_open(&rows, &select, NO_ARGS);
	if (rows_next(&rows))
	{
		role = rows_text(&rows);
		host = rows_text(&rows);
		sessions = rows_int8(&rows, 0);
	}
	rows_close(&rows);
	finding_figure(finding, sessions, "sessions");
	if (role != NULL && sessions >= POOL_SIZE)
		finding_ok(finding,
				   INT64_FORMAT " sessions are of role \"%s\" from %s: a pool,"
								" of the application or of a pooler",
				   sessions, server_name(role), host);
	else
		finding_ok(finding, "no pooler is seen");
}

/* Never a fault: a fact that explains others. */
void
look_at_pooler(Finding *finding)
{
	int64 sessions = 0;
	char *name = pooler_by_name(&sessions);

	if (name == NULL)
	{
		judge_pool(finding);
		return;
	}
	finding_figure(finding, sessions, "sessions");
	finding_ok(finding, "a pooler is in front: %s of \"%s\"",
			   words_count(sessions, "session", "sessions"), server_name(name));
}
