/*
 * server_settings.c
 *		Items: settings of the server that the extension's promises depend on.
 */
#include "postgres.h"

#include "commands/dbcommands.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "base/compat.h"
#include "postgres_items/server_looks.h"

static bool
setting_is(const char *name, const char *value)
{
	const char *found = GetConfigOption(name, true, false);

	return found != NULL && strcmp(found, value) == 0;
}

/* ---- pending restart ---- */

void
look_at_pending_restart(Finding *finding)
{
	static EngineStatement select = {
		"SELECT count(*), string_agg(name, ', ' ORDER BY name)"
		" FROM pg_settings WHERE pending_restart"};
	int64 count = 0;
	char *names = NULL;
	Rows rows;

	rows_open(&rows, &select, NO_ARGS);
	if (rows_next(&rows))
	{
		count = rows_int8(&rows, 0);
		names = rows_text(&rows);
	}
	rows_close(&rows);
	finding_figure(finding, count, "settings");
	if (count == 0)
	{
		finding_ok(finding, "no setting waits for a restart");
		return;
	}
	finding_warn(finding, "%s for a restart: %s",
				 words_count(count, "setting waits", "settings wait"), names);
	finding_hint(finding, "-- restart the server");
}

/* ---- time-outs ---- */

/*
 * Set means: in the server's files or on its command line, for the database, or
 * for each role that may log in and is no superuser.  transaction_timeout, since
 * 17, includes what the statement and the idle session may take.
 */
#define IS_SET                                                                      \
	"SELECT t.name, t.value FROM (VALUES ('statement_timeout', '5min', true),"      \
	"  ('lock_timeout', '30s', false),"                                             \
	"  ('idle_in_transaction_session_timeout', '5min', true))"                      \
	" AS t (name, value, whole) WHERE NOT EXISTS (SELECT FROM s"                    \
	"   WHERE s.name IN (t.name, CASE WHEN t.whole THEN 'transaction_timeout' END)" \
	"     AND s.setting !~ '^0+ *[a-z]*$')"                                         \
	" AND NOT coalesce((SELECT bool_and(EXISTS (SELECT FROM pg_db_role_setting d,"  \
	"   unnest(d.setconfig) AS c WHERE d.setrole = r.oid"                           \
	"     AND starts_with(c, t.name || '=') AND c !~ '=0+ *[a-z]*$'))"              \
	"   FROM pg_roles r WHERE r.rolcanlogin AND NOT r.rolsuper), false)"

void
look_at_timeouts(Finding *finding)
{
	static EngineStatement select = {
		"WITH s (name, setting) AS ("
		" SELECT name, setting FROM pg_file_settings WHERE applied"
		" UNION ALL SELECT name, reset_val FROM pg_settings"
		"  WHERE source IN ('command line', 'environment variable')"
		" UNION ALL SELECT split_part(c, '=', 1), substr(c, strpos(c, '=') + 1)"
		"  FROM pg_db_role_setting d, unnest(d.setconfig) AS c"
		"  WHERE d.setrole = 0 AND d.setdatabase IN (0, (SELECT oid"
		"   FROM pg_database WHERE datname = current_database()))) " IS_SET};
	const char *database = quote_identifier(get_database_name(MyDatabaseId));
	StringInfoData names;
	StringInfoData hint;
	Rows rows;

	initStringInfo(&names);
	initStringInfo(&hint);
	rows_open(&rows, &select, NO_ARGS);
	while (rows_next(&rows))
	{
		char *name = rows_text(&rows);
		char *value = rows_text(&rows);

		appendStringInfo(&names, "%s%s", names.len > 0 ? ", " : "", name);
		appendStringInfo(&hint, "%sALTER DATABASE %s SET %s = '%s';",
						 hint.len > 0 ? "\n" : "", database, name, value);
	}
	rows_close(&rows);
	finding_figure(finding, rows.count, "settings");
	if (names.len == 0)
	{
		finding_ok(finding,
				   "statements, locks and idle transactions have time-outs");
		return;
	}
	finding_warn(finding, "not set: %s", names.data);
	finding_hint(finding, "%s", hint.data);
}

/* ---- durability ---- */

/* As new sessions have it, unless their role has its own */
static bool
commits_are_lazy(void)
{
	static EngineStatement select = {"SELECT reset_val = 'off' FROM pg_settings"
									 " WHERE name = 'synchronous_commit'"};

	return statement_bool(false, &select, NO_ARGS);
}

void
look_at_durability(Finding *finding)
{
	static const char *const needed[] = {"fsync", "full_page_writes"};

	for (int i = 0; i < lengthof(needed); i++)
		if (setting_is(needed[i], "off"))
		{
			finding_fail(
				finding,
				"%s is off: a crash of the machine may damage the database",
				needed[i]);
			finding_hint(finding, "%s", server_setting_hint(needed[i], "on"));
			return;
		}
	if (commits_are_lazy())
	{
		finding_warn(finding, "synchronous_commit is off: a crash may lose events"
							  " that Stripe was told are stored");
		finding_hint(finding, "%s",
					 server_setting_hint("synchronous_commit", "on"));
		return;
	}
	finding_ok(finding, "fsync, full_page_writes and synchronous_commit are on");
}

/* ---- checksums ---- */

void
look_at_checksums(Finding *finding)
{
	static EngineStatement select = {
		"SELECT coalesce(sum(checksum_failures), 0)::bigint,"
		" EXTRACT(epoch FROM clock_timestamp() - max(checksum_last_failure))::float8"
		" FROM pg_stat_database WHERE checksum_failures > 0"};
	const char *mode = GetConfigOption("data_checksums", false, false);
	int64 failures = 0;
	double ago = 0;
	Rows rows;

	rows_open(&rows, &select, NO_ARGS);
	if (rows_next(&rows))
	{
		failures = rows_int8(&rows, 0);
		ago = rows_float8(&rows, 0);
	}
	rows_close(&rows);
	finding_figure(finding, failures, "failures");
	if (failures > 0)
		finding_fail(finding, "%s not what was written, last seen %s ago",
					 words_count(failures, "page was", "pages were"),
					 words_age(ago));
	else if (strcmp(mode, "on") == 0)
		finding_ok(finding, "data checksums are on, and none was wrong");
	else
		finding_ok(finding,
				   "data checksums are %s: a damaged page may not be"
				   " noticed (pg_checksums --enable, while the server"
				   " is stopped)",
				   mode);
}

/* ---- autovacuum ---- */

void
look_at_autovacuum(Finding *finding)
{
	static const char *const needed[] = {"autovacuum", "track_counts"};

	for (int i = 0; i < lengthof(needed); i++)
		if (setting_is(needed[i], "off"))
		{
			finding_fail(finding, "%s is off: no table is vacuumed or analyzed",
						 needed[i]);
			finding_hint(finding, "%s", server_setting_hint(needed[i], "on"));
			return;
		}
	finding_ok(finding, "autovacuum is on");
}
