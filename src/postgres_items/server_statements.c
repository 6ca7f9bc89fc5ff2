/*
 * server_statements.c
 *		Item: slow statements on mirror and inbox, by pg_stat_statements.  Where it
 *		is not installed, those that run now.
 *
 * Texts are compared with the names of the two schemas and never printed: a
 * statement may hold a secret.  They are read only where something is slow and
 * the file of texts is small; otherwise all statements of the database count.
 *
 * The view may be in any schema.  It is a function of the extension
 * pg_stat_statements, which only a superuser installs; any other of that name is
 * not called.
 */
#include "postgres.h"

#include <sys/stat.h>

#include "executor/spi.h"
#include "pgstat.h"
#include "utils/builtins.h"

#include "base/base.h"
#include "postgres_items/server_looks.h"

#define SLOW_MEAN  100.0 /* milliseconds */
#define SLOW_CALLS 10
#define MAX_TEXTS  (4 * 1024 * 1024) /* bytes */
#define RUNNING	   5 /* a minute, if idle transactions are reported at 5 */
#define TEXTS	   PG_STAT_TMP_DIR "/pgss_query_texts.stat"

/* A statement whose text has the name of the function's schema in it */
typedef struct SchemaStatement
{
	EngineStatement statement;
	char schema[3 * NAMEDATALEN]; /* quoted */
	char sql[2048];
} SchemaStatement;

/* The schema, quoted; NULL if it isn't installed, or is older than 1.8 */
static char *
find_schema(void)
{
	static EngineStatement select = {
		"SELECT quote_ident(n.nspname) FROM pg_extension x"
		" JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass"
		"  AND d.refobjid = x.oid AND d.deptype = 'e'"
		"  AND d.classid = 'pg_proc'::regclass"
		" JOIN pg_proc p ON p.oid = d.objid"
		" JOIN pg_namespace n ON n.oid = p.pronamespace"
		" JOIN pg_language l ON l.oid = p.prolang"
		" JOIN pg_roles o ON o.oid = p.proowner"
		" WHERE x.extname = 'pg_stat_statements' AND p.proname = 'pg_stat_statements'"
		"  AND l.lanname = 'c' AND o.rolsuper"
		"  AND p.pronargs = 1 AND 'mean_exec_time' = ANY (p.proargnames)"};

	return statement_text(&select, NO_ARGS);
}

static bool
texts_are_small(void)
{
	struct stat status;

	return stat(TEXTS, &status) == 0 && status.st_size <= MAX_TEXTS;
}

/* The statement for this schema; a plan for another one is given up. */
static EngineStatement *
statement_for(SchemaStatement *kept, const char *schema, const char *format)
{
	if (strcmp(kept->schema, schema) == 0)
		return &kept->statement;
	if (kept->statement.plan != NULL)
		SPI_freeplan(kept->statement.plan);
	memset(kept, 0, sizeof(*kept));
	snprintf(kept->sql, sizeof(kept->sql), format, schema);
	strlcpy(kept->schema, schema, sizeof(kept->schema));
	kept->statement.sql = kept->sql;
	return &kept->statement;
}

typedef struct SlowStatement
{
	int64 count;
	char *queryid;
	double mean; /* milliseconds */
	double calls;
} SlowStatement;

/* A table of one of the schemas, and not a call of a function */
#define NAMES_TABLE "'\\mstripe(_sync)?\"?\\s*\\.\\s*\"?\\w+\\M\"?(?!\\s*\\()'"

static SlowStatement
read_slowest(const char *schema, bool texts)
{
	static SchemaStatement kept;
	EngineStatement *select = statement_for(
		&kept, schema,
		"SELECT count(*) OVER (), s.queryid::text, s.mean_exec_time, s.calls::float8"
		" FROM %s.pg_stat_statements($3) s WHERE s.dbid ="
		"  (SELECT oid FROM pg_database WHERE datname = current_database())"
		" AND s.queryid IS NOT NULL AND s.calls >= $2 AND s.mean_exec_time >= $1"
		" AND (NOT $3 OR s.query ~ " NAMES_TABLE ")"
		" ORDER BY s.total_exec_time DESC LIMIT 1");
	SlowStatement slowest = {0};
	Rows rows;

	rows_open(
		&rows, select,
		ARGS(arg_float8(SLOW_MEAN), arg_float8(SLOW_CALLS), arg_bool(texts)));
	if (rows_next(&rows))
	{
		slowest.count = rows_int8(&rows, 0);
		slowest.queryid = rows_text(&rows);
		slowest.mean = rows_float8(&rows, 0);
		slowest.calls = rows_float8(&rows, 0);
	}
	rows_close(&rows);
	return slowest;
}

static bool
is_loaded(void)
{
	static EngineStatement select = {
		"SELECT current_setting('pg_stat_statements.max', true) IS NOT NULL"};

	return statement_bool(false, &select, NO_ARGS);
}

static void
judge_slowest(Finding *finding, const SlowStatement *slowest,
			  const char *schema, bool texts)
{
	finding_figure(finding, slowest->count, "statements");
	if (slowest->count == 0)
	{
		finding_ok(finding, "no statement that is run often takes %.0f ms%s",
				   SLOW_MEAN, texts ? " on mirror or inbox" : "");
		return;
	}
	finding_warn(finding,
				 "%s%s slow; the one that took longest in all has queryid %s,"
				 " %.0f calls of %.0f ms",
				 words_count(slowest->count, "statement", "statements"),
				 slowest->count == 1 ? " is" : " are", slowest->queryid,
				 slowest->calls, slowest->mean);
	finding_hint(finding,
				 "SELECT calls, mean_exec_time, query FROM %s.pg_stat_statements"
				 " WHERE queryid = %s;",
				 schema, slowest->queryid);
}

/* ---- without pg_stat_statements ---- */

/* Dumps, VACUUM and CREATE INDEX take long, and waits for locks are another item */
static bool
find_running(Finding *finding, double limit)
{
	static EngineStatement select = {
		"SELECT a.pid::text, a.usename::text,"
		" EXTRACT(epoch FROM clock_timestamp() - a.query_start)::float8,"
		" count(*) OVER () FROM pg_stat_activity a"
		" WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()"
		"  AND a.backend_type = 'client backend' AND a.state = 'active'"
		"  AND a.wait_event_type IS DISTINCT FROM 'Lock'"
		"  AND a.query_start <= clock_timestamp() - make_interval(secs => $1)"
		"  AND a.query ~* '^\\s*(select|with|insert|update|delete|merge)\\M'"
		"  AND a.query ~ " NAMES_TABLE " ORDER BY 3 DESC LIMIT 1"};
	Rows rows;
	bool found;

	rows_open(&rows, &select, ARGS(arg_float8(limit)));
	found = rows_next(&rows);
	if (found)
	{
		char *pid = rows_text(&rows);
		char *role = rows_text(&rows);
		char *age = words_age(rows_float8(&rows, 0));
		int64 count = rows_int8(&rows, 0);

		finding_figure(finding, count, "statements");
		finding_warn(finding,
					 "%s on mirror or inbox %s slow; the one of process %s"
					 " (role %s) has run for %s",
					 words_count(count, "statement", "statements"),
					 count == 1 ? "is" : "are", pid, server_name(role), age);
		finding_hint(finding, "SELECT pg_cancel_backend(%s);", pid);
	}
	rows_close(&rows);
	return found;
}

static void
judge_running(Finding *finding)
{
	double limit = guc_doctor_transaction_age / 1000.0 / RUNNING;

	if (find_running(finding, limit))
		return;
	finding_figure(finding, 0, "statements");
	finding_ok(finding,
			   "no statement on mirror or inbox has run for %s; those that have"
			   " ended are not recorded, because pg_stat_statements is not"
			   " installed",
			   words_age(limit));
}

void
look_at_slow_queries(Finding *finding)
{
	char *schema = find_schema();
	SlowStatement slowest;
	bool texts;

	if (schema == NULL || !is_loaded())
	{
		judge_running(finding);
		return;
	}
	slowest = read_slowest(schema, false);
	texts = slowest.count == 0 || texts_are_small();
	if (slowest.count > 0 && texts)
		slowest = read_slowest(schema, true);
	judge_slowest(finding, &slowest, schema, texts);
}
