/*
 * fill_columns.c
 *		Columns that are new in a mirror table get their values from _data.
 */
#include "mirror.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"

static char *
fill_sql(const CatalogType *type, List *columns, Oid **types)
{
	StringInfoData sql;
	int n = 0;
	ListCell *cell;

	*types = palloc((list_length(columns) + 1) * sizeof(Oid));
	initStringInfo(&sql);
	appendStringInfo(&sql, "UPDATE %s.%s SET ", MIRROR_SCHEMA,
					 quote_identifier(type->table));
	foreach(cell, columns)
	{
		CatalogField *field = lfirst(cell);

		(*types)[n++] = value_type(field->kind);
		appendStringInfo(&sql, "%s%s = $%d", n > 1 ? ", " : "",
						 quote_identifier(field->name), n);
	}
	(*types)[n++] = TIDOID;
	appendStringInfo(&sql, " WHERE ctid OPERATOR(pg_catalog.=) $%d", n);
	return sql.data;
}

/* One row's values for the new columns, from its _data. */
static void
fill_row(const CatalogType *type, List *columns, SPIPlanPtr update,
		 HeapTuple tuple, TupleDesc desc)
{
	int n = list_length(columns);
	Datum *values = palloc(sizeof(Datum) * (n + 1));
	char *nulls = palloc(n + 2);
	bool isnull;
	Jsonb *data = DatumGetJsonbP(SPI_getbinval(tuple, desc, 2, &isnull));

	for (int i = 0; i < n; i++)
	{
		CatalogField *field = list_nth(columns, i);
		bool found;

		found = value_take(derived_find(type->table, field->name), field->name,
						   field->kind, &data->root, &values[i]);
		nulls[i] = found ? ' ' : 'n';
	}
	values[n] = SPI_getbinval(tuple, desc, 1, &isnull);
	nulls[n] = ' ';
	nulls[n + 1] = '\0';
	if (SPI_execute_plan(update, values, nulls, false, 0) != SPI_OK_UPDATE)
		elog(ERROR, "could not fill new columns of %s.%s", MIRROR_SCHEMA,
			 type->table);
}

/*
 * Fill new columns (CatalogField) from what the rows hold already, some rows at
 * a time.  The caller is connected to SPI, in the scope of the table's owner.
 */
void
columns_fill(const CatalogType *type, List *columns)
{
	Oid *types;
	char *sql = fill_sql(type, columns, &types);
	SPIPlanPtr update = SPI_prepare(sql, list_length(columns) + 1, types);
	SPIPlanPtr select = SPI_prepare(
		psprintf("SELECT ctid, _data FROM %s.%s FOR UPDATE", MIRROR_SCHEMA,
				 quote_identifier(type->table)),
		0, NULL);
	Portal cursor;

	if (update == NULL || select == NULL)
		elog(ERROR, "could not prepare to fill %s.%s: %s", MIRROR_SCHEMA,
			 type->table, SPI_result_code_string(SPI_result));
	cursor = SPI_cursor_open(NULL, select, NULL, NULL, false);
	for (;;)
	{
		SPITupleTable *rows;
		uint64 n;

		SPI_cursor_fetch(cursor, true, 500);
		rows = SPI_tuptable;
		n = SPI_processed;
		if (n == 0)
			break;
		for (uint64 i = 0; i < n; i++)
			fill_row(type, columns, update, rows->vals[i], rows->tupdesc);
		SPI_freetuptable(rows);
	}
	SPI_cursor_close(cursor);
}
