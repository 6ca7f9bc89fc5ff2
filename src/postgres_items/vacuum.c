/*
 * vacuum.c
 *		Items: dead rows and vacuum of inbox, outbox and mirror; sequences.
 *
 * All of it is read from the cumulative statistics and the catalogs, never from
 * the tables.
 */
#include "postgres.h"

#include <math.h>

#include "base/visible.h"
#include "postgres_items/internal.h"

/* The extension's own tables and those of the mirror, with their names */
#define TABLES                                                                 \
	"(SELECT c.oid, pg_catalog.format('%I.%I', n.nspname, c.relname) AS name," \
	"   c.reltuples, x.extname IS NOT NULL AS own"                             \
	"  FROM pg_catalog.pg_class c"                                             \
	"  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"               \
	"  LEFT JOIN pg_catalog.pg_extension x ON x.extname = 'stripe_sync'"       \
	"   AND x.extnamespace = n.oid"                                            \
	" WHERE c.relkind = 'r' AND (x.extname IS NOT NULL"                        \
	"  OR c.oid IN (SELECT m.relid FROM stripe_sync.mirror_tables() m))) AS t"

#define MANY_DEAD  10000
#define MUCH_DEAD  20	 /* percent of all rows */
#define MANY_NEW   20000 /* rows inserted since the last vacuum, at least */
#define LATE_TIMES 2	 /* what autovacuum waits for, so many times over */

void
look_at_bloat(Finding *finding)
{
	static EngineStatement select = {
		"SELECT name, dead, dead * 100.0::float8 / (dead + live), pg_catalog.count(*) OVER ()"
		" FROM (SELECT t.name, pg_catalog.pg_stat_get_dead_tuples(t.oid) AS dead,"
		"   greatest(pg_catalog.pg_stat_get_live_tuples(t.oid), 0) AS live FROM " TABLES
		" ) AS s WHERE dead >= $1 AND dead * 100 >= $2 * (dead + live)"
		" ORDER BY dead DESC LIMIT 1"};
	Rows rows;

	rows_open(&rows, &select, ARGS(arg_int8(MANY_DEAD), arg_int8(MUCH_DEAD)));
	if (rows_next(&rows))
	{
		const char *name = rows_text(&rows);
		int64 dead = rows_int8(&rows, 0);
		double percent = rows_float8(&rows, 0);
		int64 count = rows_int8(&rows, 0);

		finding_figure(finding, percent, "%");
		finding_warn(finding,
					 "%s has " INT64_FORMAT
					 " dead rows, %.0f %% of all (" INT64_FORMAT " such tables)",
					 name, dead, percent, count);
		finding_hint(finding, "VACUUM (ANALYZE) %s;", name);
	}
	else
	{
		finding_figure(finding, 0, "%");
		finding_ok(finding, "no table has more than %d dead rows and %d %%",
				   MANY_DEAD, MUCH_DEAD);
	}
	rows_close(&rows);
}

/*
 * Autovacuum is due after a base number and a part of a table's rows were
 * inserted.  It is late after that many times over.
 */
void
look_at_vacuum(Finding *finding)
{
	static EngineStatement select = {
		"SELECT name, fresh, pg_catalog.count(*) OVER (),"
		"  EXTRACT(epoch FROM pg_catalog.clock_timestamp() - vacuumed_at)::float8"
		" FROM (SELECT t.name, pg_catalog.pg_stat_get_ins_since_vacuum(t.oid) AS fresh,"
		"   greatest(pg_catalog.pg_stat_get_last_vacuum_time(t.oid),"
		"    pg_catalog.pg_stat_get_last_autovacuum_time(t.oid)) AS vacuumed_at,"
		"   greatest(t.reltuples, 0) AS rows FROM " TABLES " ) AS s"
		" WHERE fresh >= greatest($1, $2 * ("
		"  pg_catalog.current_setting('autovacuum_vacuum_insert_threshold')::float8"
		"  + pg_catalog.current_setting('autovacuum_vacuum_insert_scale_factor')::float8 * rows))"
		" ORDER BY fresh DESC LIMIT 1"};
	Rows rows;

	rows_open(&rows, &select,
			  ARGS(arg_float8(MANY_NEW), arg_float8(LATE_TIMES)));
	if (rows_next(&rows))
	{
		const char *name = rows_text(&rows);
		int64 fresh = rows_int8(&rows, 0);
		int64 count = rows_int8(&rows, 0);
		double age = rows_float8(&rows, -1);

		finding_figure(finding, (double) fresh, "rows");
		finding_warn(finding,
					 "%s has " INT64_FORMAT
					 " rows inserted since its last vacuum, %s (" INT64_FORMAT
					 " such tables)",
					 name, fresh,
					 age < 0 ? "of which nothing is known"
							 : psprintf("%s ago", words_age(age)),
					 count);
		finding_hint(finding, "VACUUM (ANALYZE) %s;", name);
	}
	else
	{
		finding_figure(finding, 0, "rows");
		finding_ok(finding, "inbox, outbox and mirror are vacuumed in time");
	}
	rows_close(&rows);
}

/* The sequence that has used most of its numbers */
typedef struct Sequence
{
	double used; /* percent */
	char *name;	 /* NULL: there is none */
	char *table;
	char *column;
	bool own;	  /* of the extension */
	char *others; /* whose code ALTER TABLE may run, as who runs it */
} Sequence;

/* A check, or a generated column, that ALTER TABLE computes again */
#define CALLS_OTHERS                                                                \
	"(NOT r.rolsuper AND (a.atttypid >= 16384 OR EXISTS"                            \
	"  (SELECT FROM pg_catalog.pg_depend e WHERE e.refclassid IN"                   \
	"    ('pg_catalog.pg_proc'::regclass, 'pg_catalog.pg_operator'::regclass,"      \
	"     'pg_catalog.pg_type'::regclass)"                                          \
	"   AND ((e.classid = 'pg_catalog.pg_constraint'::regclass AND e.objid IN"      \
	"     (SELECT k.oid FROM pg_catalog.pg_constraint k WHERE k.conrelid = t.oid))" \
	"    OR (e.classid = 'pg_catalog.pg_attrdef'::regclass AND e.objid IN"          \
	"     (SELECT f.oid FROM pg_catalog.pg_attrdef f WHERE f.adrelid = t.oid))))))"

static EngineStatement most_used = {
	"SELECT pg_catalog.pg_sequence_last_value(s.seqrelid)::float8 * 100"
	"   / s.seqmax::float8, pg_catalog.format('%I.%I', n.nspname, c.relname),"
	"  t.name, pg_catalog.quote_ident(a.attname), t.own,"
	"  CASE WHEN " CALLS_OTHERS " THEN r.rolname END"
	" FROM pg_catalog.pg_sequence s"
	" JOIN pg_catalog.pg_class c ON c.oid = s.seqrelid"
	" JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
	" JOIN pg_catalog.pg_roles r ON r.oid = c.relowner"
	" JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_class'::regclass"
	"  AND d.objid = s.seqrelid AND d.objsubid = 0"
	"  AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjsubid > 0"
	" JOIN " TABLES " ON t.oid = d.refobjid"
	" JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid"
	" WHERE s.seqincrement > 0 AND NOT s.seqcycle"
	" ORDER BY 1 DESC NULLS LAST LIMIT 1"};

static Sequence
find_sequence(void)
{
	Sequence found = {0};
	Rows rows;

	rows_open(&rows, &most_used, NO_ARGS);
	if (rows_next(&rows))
	{
		found.used = rows_float8(&rows, 0);
		found.name = rows_text(&rows);
		found.table = rows_text(&rows);
		found.column = rows_text(&rows);
		found.own = rows_bool(&rows, false);
		found.others = rows_text(&rows);
	}
	rows_close(&rows);
	return found;
}

/*
 * The numbers of the extension's own tables are bigint: they don't end, but may
 * have been set by hand.
 */
static void
hint_sequence(Finding *finding, const Sequence *sequence)
{
	const char *widen = psprintf(
		"ALTER SEQUENCE %s AS bigint; ALTER TABLE %s ALTER %s TYPE bigint;",
		sequence->name, sequence->table, sequence->column);

	if (sequence->own)
		finding_hint(
			finding, "SELECT setval(%s, (SELECT coalesce(max(%s), 1) FROM %s));",
			hint_literal(sequence->name), sequence->column, sequence->table);
	else if (sequence->others == NULL)
		finding_hint(finding, "%s", widen);
	else
		finding_hint(finding, NOT_AS_SUPERUSER "-- %s",
					 text_visible(sequence->others), text_visible(widen));
}

void
look_at_sequences(Finding *finding)
{
	Sequence sequence = find_sequence();

	finding_figure(finding, floor(sequence.used), "%");
	if (sequence.name == NULL || sequence.used < 70)
	{
		finding_ok(finding, "no sequence has used 70 %% of its numbers");
		return;
	}
	if (sequence.used < 90)
		finding_warn(finding, "sequence %s has used %.0f %% of its numbers",
					 sequence.name, sequence.used);
	else
		finding_fail(
			finding,
			"sequence %s has used %.0f %% of its numbers: inserts into %s will fail",
			sequence.name, sequence.used, sequence.table);
	hint_sequence(finding, &sequence);
}
