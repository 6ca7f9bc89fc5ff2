/*
 * constraints.c
 *		Items: what users have put on the tables of the mirror: foreign keys,
 *		triggers, constraints that are not validated, and who owns them.
 */
#include "postgres.h"

#include "base/visible.h"
#include "postgres_items/internal.h"

#define SLOW_TRIGGER 50 /* milliseconds, on average */

/* ---- foreign keys ---- */

/* Events that fail because of one, and its name and table */
static int64
find_failing_key(char **constraint, char **table)
{
	static EngineStatement select = {
		"SELECT pg_catalog.quote_ident(k.conname), pg_catalog.format('%I.%I', n.nspname, c.relname),"
		"  (SELECT pg_catalog.count(*) FROM stripe_sync.event_error f"
		"    WHERE f.state = 'failing' AND f.step = 'mirror' AND f.sqlstate = '23503')"
		" FROM stripe_sync.event_error e"
		" JOIN pg_catalog.pg_constraint k ON k.contype = 'f'"
		"  AND pg_catalog.strpos(e.message, '\"' || k.conname || '\"') > 0"
		" JOIN pg_catalog.pg_class c ON c.oid = k.conrelid"
		" JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
		" WHERE e.state = 'failing' AND e.step = 'mirror' AND e.sqlstate = '23503'"
		"  AND (k.conrelid IN (SELECT m.relid FROM stripe_sync.mirror_tables() m)"
		"   OR k.confrelid IN (SELECT m.relid FROM stripe_sync.mirror_tables() m))"
		" ORDER BY e.last_at DESC LIMIT 1"};
	int64 events = 0;
	Rows rows;

	rows_open(&rows, &select, NO_ARGS);
	if (rows_next(&rows))
	{
		*constraint = rows_text(&rows);
		*table = rows_text(&rows);
		events = rows_int8(&rows, 0);
	}
	rows_close(&rows);
	return events;
}

/*
 * A foreign key from a table of the mirror: events arrive in any order, so that
 * a row may come before the one that it refers to.
 */
static int64
find_mirror_key(char **constraint, char **table)
{
	static EngineStatement select = {
		"SELECT pg_catalog.quote_ident(k.conname), pg_catalog.format('stripe.%I', m.name),"
		"  pg_catalog.count(*) OVER ()"
		" FROM pg_catalog.pg_constraint k JOIN stripe_sync.mirror_tables() m"
		"  ON m.relid = k.conrelid WHERE k.contype = 'f' AND k.conparentid = 0"
		" ORDER BY 2, 1 LIMIT 1"};
	int64 count = 0;
	Rows rows;

	rows_open(&rows, &select, NO_ARGS);
	if (rows_next(&rows))
	{
		*constraint = rows_text(&rows);
		*table = rows_text(&rows);
		count = rows_int8(&rows, 0);
	}
	rows_close(&rows);
	return count;
}

void
look_at_foreign_keys(Finding *finding)
{
	char *constraint = NULL;
	char *table = NULL;
	int64 events = find_failing_key(&constraint, &table);
	int64 keys = events > 0 ? 0 : find_mirror_key(&constraint, &table);

	if (events > 0)
	{
		finding_figure(finding, (double) events, "events");
		finding_fail(finding,
					 "foreign key %s of %s makes events fail (" INT64_FORMAT
					 " now)",
					 constraint, table, events);
		finding_hint(
			finding,
			"ALTER TABLE %s DROP CONSTRAINT %s; SELECT * FROM stripe_sync.replay('-infinity'::timestamptz);",
			table, constraint);
		return;
	}
	finding_figure(finding, 0, "events");
	if (keys == 0)
	{
		finding_ok(finding, "no table of the mirror has a foreign key");
		return;
	}
	finding_warn(
		finding,
		"foreign key %s of %s will make events fail that arrive before the row that they refer to (" INT64_FORMAT
		" such keys)",
		constraint, table, keys);
	finding_hint(finding, "ALTER TABLE %s DROP CONSTRAINT %s;", table,
				 constraint);
}

/* ---- triggers ---- */

/* Triggers of users that run now, by table of the mirror */
#define USER_TRIGGERS                                                          \
	"(SELECT m.name, g.tgname, g.tgfoid FROM stripe_sync.mirror_tables() m"    \
	"  JOIN pg_catalog.pg_trigger g ON g.tgrelid = m.relid"                    \
	"   AND NOT g.tgisinternal AND g.tgenabled <> 'D') AS g"

/* Events whose mirror step fails, on a table that has a trigger */
static int64
find_failing_trigger(char **trigger, char **table, char **sqlstate)
{
	static EngineStatement select = {
		"SELECT pg_catalog.quote_ident(g.tgname), pg_catalog.format('stripe.%I', g.name),"
		"  e.sqlstate, pg_catalog.count(*) OVER ()"
		" FROM stripe_sync.event_error e"
		" JOIN stripe_sync.event v ON v.id = e.event_id AND v.account = e.account"
		" JOIN stripe_sync.object_types() o ON o.object_type = v.object_type"
		" JOIN " USER_TRIGGERS " ON g.name = o.table_name"
		" JOIN pg_catalog.pg_proc p ON p.oid = g.tgfoid"
		" WHERE e.state = 'failing' AND e.step = 'mirror'"
		"  AND pg_catalog.strpos(e.context, p.proname || '(') > 0"
		" ORDER BY e.last_at DESC LIMIT 1"};
	int64 events = 0;
	Rows rows;

	rows_open(&rows, &select, NO_ARGS);
	if (rows_next(&rows))
	{
		*trigger = rows_text(&rows);
		*table = rows_text(&rows);
		*sqlstate = rows_text(&rows);
		events = rows_int8(&rows, 0);
	}
	rows_close(&rows);
	return events;
}

/* The slowest, if the server counts functions' time (track_functions) */
static double
find_slow_trigger(char **trigger, char **table)
{
	static EngineStatement select = {
		"SELECT pg_catalog.quote_ident(g.tgname), pg_catalog.format('stripe.%I', g.name),"
		"  f.time / f.calls"
		" FROM " USER_TRIGGERS ", LATERAL (SELECT"
		"   pg_catalog.pg_stat_get_function_total_time(g.tgfoid) AS time,"
		"   pg_catalog.pg_stat_get_function_calls(g.tgfoid) AS calls) AS f"
		" WHERE f.calls > 0 ORDER BY 3 DESC LIMIT 1"};
	double mean = 0;
	Rows rows;

	rows_open(&rows, &select, NO_ARGS);
	if (rows_next(&rows))
	{
		*trigger = rows_text(&rows);
		*table = rows_text(&rows);
		mean = rows_float8(&rows, 0);
	}
	rows_close(&rows);
	return mean;
}

void
look_at_triggers(Finding *finding)
{
	char *trigger = NULL;
	char *table = NULL;
	char *sqlstate = NULL;
	int64 events = find_failing_trigger(&trigger, &table, &sqlstate);
	double mean;

	if (events > 0)
	{
		finding_figure(finding, (double) events, "events");
		finding_fail(finding,
					 "trigger %s on %s makes events fail with %s (" INT64_FORMAT
					 " now)",
					 trigger, table, sqlstate, events);
		finding_hint(
			finding,
			"ALTER TABLE %s DISABLE TRIGGER %s; SELECT * FROM stripe_sync.replay('-infinity'::timestamptz);",
			table, trigger);
		return;
	}
	mean = find_slow_trigger(&trigger, &table);
	finding_figure(finding, mean, "ms");
	if (mean < SLOW_TRIGGER)
		finding_ok(finding, "no trigger on the mirror fails or is slow");
	else
	{
		finding_warn(
			finding,
			"trigger %s on %s takes %.0f ms on average, in the transaction of each event",
			trigger, table, mean);
		finding_hint(finding, "ALTER TABLE %s DISABLE TRIGGER %s;", table,
					 trigger);
	}
}

/* ---- constraints ---- */

/*
 * May VALIDATE CONSTRAINT call functions of somebody who is no superuser?  It
 * calls them as who runs it.  What the server has itself is not in pg_depend.
 */
#define CALLS_OTHERS                                                            \
	"(NOT o.rolsuper AND (EXISTS (SELECT FROM pg_catalog.pg_depend d"           \
	"   WHERE d.classid = 'pg_catalog.pg_constraint'::regclass"                 \
	"    AND d.objid = k.oid AND d.refclassid IN"                               \
	"     ('pg_catalog.pg_proc'::regclass, 'pg_catalog.pg_operator'::regclass," \
	"      'pg_catalog.pg_type'::regclass))"                                    \
	"  OR EXISTS (SELECT FROM pg_catalog.pg_attribute a"                        \
	"   WHERE a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey)"            \
	"    AND a.atttypid >= 16384)))"

static void
hint_validate(Finding *finding, const char *table, const char *constraint,
			  const char *owner)
{
	const char *validate = psprintf("ALTER TABLE %s VALIDATE CONSTRAINT %s;",
									table, constraint);

	if (owner == NULL)
		finding_hint(finding, "%s", validate);
	else
		finding_hint(finding, NOT_AS_SUPERUSER "-- %s", text_visible(owner),
					 text_visible(validate));
}

void
look_at_not_valid(Finding *finding)
{
	static EngineStatement select = {
		"SELECT pg_catalog.quote_ident(k.conname), pg_catalog.format('stripe.%I', m.name),"
		"  pg_catalog.count(*) OVER (), CASE WHEN " CALLS_OTHERS
		" THEN o.rolname END"
		" FROM pg_catalog.pg_constraint k JOIN stripe_sync.mirror_tables() m"
		"  ON m.relid = k.conrelid JOIN pg_catalog.pg_class c ON c.oid = k.conrelid"
		" JOIN pg_catalog.pg_roles o ON o.oid = c.relowner"
		" WHERE NOT k.convalidated ORDER BY 2, 1 LIMIT 1"};
	Rows rows;

	rows_open(&rows, &select, NO_ARGS);
	if (rows_next(&rows))
	{
		const char *constraint = rows_text(&rows);
		const char *table = rows_text(&rows);
		int64 count = rows_int8(&rows, 0);

		finding_figure(finding, (double) count, "constraints");
		finding_warn(
			finding,
			"constraint %s of %s is NOT VALID: older rows may violate it (" INT64_FORMAT
			" such)",
			constraint, table, count);
		hint_validate(finding, table, constraint, rows_text(&rows));
	}
	else
	{
		finding_figure(finding, 0, "constraints");
		finding_ok(finding, "all constraints of the mirror are valid");
	}
	rows_close(&rows);
}

/* ---- owners ---- */

/* Gives all tables of the mirror that a superuser owns to the role. */
static char *
new_owner(const char *role)
{
	char *body = psprintf(
		"DECLARE t text; BEGIN\n"
		"  FOR t IN SELECT format('stripe.%%I', m.name)\n"
		"    FROM stripe_sync.mirror_tables() m JOIN pg_class c ON c.oid = m.relid\n"
		"    JOIN pg_roles r ON r.oid = c.relowner WHERE r.rolsuper\n"
		"  LOOP EXECUTE format('ALTER TABLE %%s OWNER TO %%I', t, %s); END LOOP;\nEND",
		hint_literal(role));
	char *tag = pstrdup("$$");

	for (int i = 1; strstr(body, tag) != NULL; i++)
		tag = psprintf("$_%d$", i);
	return psprintf("DO %s %s %s;", tag, body, tag);
}

/*
 * Triggers, checks and policies of a table run as its owner.  Suggested is the
 * database's owner, if that is no superuser; create_tables() gives new tables to
 * it as well.
 */
void
look_at_mirror_owner(Finding *finding)
{
	static EngineStatement select = {
		"SELECT pg_catalog.format('stripe.%I', m.name), r.rolname, pg_catalog.count(*) OVER (),"
		"  (SELECT o.rolname FROM pg_catalog.pg_database d"
		"    JOIN pg_catalog.pg_roles o ON o.oid = d.datdba"
		"   WHERE d.datname = pg_catalog.current_database() AND NOT o.rolsuper)"
		" FROM stripe_sync.mirror_tables() m"
		" JOIN pg_catalog.pg_class c ON c.oid = m.relid"
		" JOIN pg_catalog.pg_roles r ON r.oid = c.relowner AND r.rolsuper"
		" ORDER BY 1 LIMIT 1"};
	Rows rows;

	rows_open(&rows, &select, NO_ARGS);
	if (rows_next(&rows))
	{
		const char *table = rows_text(&rows);
		const char *owner = rows_text(&rows);
		int64 count = rows_int8(&rows, 0);
		const char *other = rows_text(&rows);

		finding_figure(finding, (double) count, "tables");
		finding_warn(
			finding,
			"%s belongs to the superuser %s, so that a trigger on it runs with all rights (" INT64_FORMAT
			" such tables)",
			table, owner, count);
		if (other != NULL)
			finding_hint(finding, "%s", new_owner(other));
		else
			finding_hint(
				finding,
				"CREATE ROLE stripe_mirror;\nGRANT USAGE ON SCHEMA stripe TO stripe_mirror;\n%s",
				new_owner("stripe_mirror"));
	}
	else
	{
		finding_figure(finding, 0, "tables");
		finding_ok(finding, "no table of the mirror belongs to a superuser");
	}
	rows_close(&rows);
}
