/*
 * indexes.c
 *		Item: indexes that the mirror lacks.
 *
 * create_tables() makes the indexes of the references that are often joined by;
 * a user may have dropped one.  Other references have none until somebody joins
 * by them, which shows as many sequential scans of a table with many rows.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "postgres_items/internal.h"
#include "engine/array_argument.h"
#include "engine/rights.h"
#include "tables/tables.h"

#define MANY_SCANS 1000	 /* sequential, since the statistics were reset */
#define MANY_ROWS  10000 /* that one reads */

/* Every reference and every column that create_tables() gives an index */
static const ArgColumns *
wanted_columns(void)
{
	ArgColumns *columns = palloc0(sizeof(ArgColumns));

	for (int i = 0; i < catalog_ntypes; i++)
	{
		const CatalogType *type = &catalog_types[i];

		if (type->table == NULL || type->key == NULL)
			continue;
		for (int j = 0; j < type->nfields; j++)
		{
			const char *ddl = table_ddl_index(type, &type->fields[j],
											  "CONCURRENTLY ");

			if (ddl != NULL || type->fields[j].kind == KIND_REFERENCE)
				columns_add(columns, ARGS(arg_text(type->table),
										  arg_text(type->fields[j].name),
										  arg_text(ddl)));
		}
	}
	return columns;
}

/*
 * Columns without an index, those that should have one first.  "scans" is 0 for
 * these.
 */
static EngineStatement missing = {
	"SELECT m.name, w.col, w.ddl, CASE WHEN w.ddl IS NULL THEN"
	"   pg_catalog.pg_stat_get_numscans(m.relid) ELSE 0 END,"
	"  pg_catalog.count(*) OVER ()"
	" FROM unnest($1, $2, $3) AS w (tab, col, ddl)"
	" JOIN stripe_sync.mirror_tables() m ON m.name = w.tab"
	" JOIN pg_catalog.pg_attribute a ON a.attrelid = m.relid"
	"  AND a.attname = w.col AND NOT a.attisdropped"
	" WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_index i"
	"   WHERE i.indrelid = m.relid AND i.indisvalid AND i.indkey[0] = a.attnum)"
	"  AND (w.ddl IS NOT NULL OR (pg_catalog.pg_stat_get_numscans(m.relid) >= $4"
	"   AND pg_catalog.pg_stat_get_tuples_returned(m.relid)"
	"     / greatest(pg_catalog.pg_stat_get_numscans(m.relid), 1) >= $5))"
	" ORDER BY w.ddl IS NULL, 4 DESC, m.name, w.col LIMIT 1"};

void
look_at_missing_indexes(Finding *finding)
{
	const ArgColumns *wanted = wanted_columns();
	Rows rows;

	rows_open(&rows, &missing,
			  ARGS(arg_column(wanted, 0), arg_column(wanted, 1),
				   arg_column(wanted, 2), arg_int8(MANY_SCANS),
				   arg_int8(MANY_ROWS)));
	if (rows_next(&rows))
	{
		const char *table = quote_identifier(rows_text(&rows));
		const char *column = quote_identifier(rows_text(&rows));
		const char *ddl = rows_text(&rows);
		int64 scans = rows_int8(&rows, 0);

		finding_figure(finding, (double) rows_int8(&rows, 0), "columns");
		if (ddl != NULL)
		{
			finding_warn(finding,
						 "%s.%s has no index on %s, by which it is often joined",
						 MIRROR_SCHEMA, table, column);
			finding_hint(finding, "%s;", ddl);
		}
		else
		{
			finding_warn(
				finding,
				"%s.%s was read from end to end " INT64_FORMAT
				" times, and has references without an index, such as %s",
				MIRROR_SCHEMA, table, scans, column);
			finding_hint(
				finding,
				"CREATE INDEX CONCURRENTLY ON %s.%s (%s) WHERE %s IS NOT NULL; SELECT pg_stat_reset_single_table_counters('%s.%s'::regclass);",
				MIRROR_SCHEMA, table, column, column, MIRROR_SCHEMA, table);
		}
	}
	else
	{
		finding_figure(finding, 0, "columns");
		finding_ok(finding, "the references that are joined by have an index");
	}
	rows_close(&rows);
}
