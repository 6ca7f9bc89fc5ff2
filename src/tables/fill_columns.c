/*
 * fill_columns.c
 *		Columns that are new in a mirror table get their values from _data.
 *
 * The table is locked ACCESS EXCLUSIVE, and the scope of its owner is entered:
 * triggers of the table run, with the owner's rights.  Rows are addressed by
 * their key, because in a partitioned table a ctid is not unique.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/portal.h"

#include "engine/rights.h"
#include "engine/statement.h"
#include "tables/tables.h"
#include "types/types.h"
#include "tables/internal.h"

#define ROWS_AT_ONCE 500

/* The key of a type's rows; a singleton's is its account alone. */
static const char *
key_column(const CatalogType *type)
{
	return quote_identifier(type->key[0] != '\0' ? type->key : "_account");
}

/*
 * The UPDATE of one row; its parameters are the new columns' values, then the
 * key and the account.  Operators are qualified: the owner's search_path rules.
 */
static char *
fill_sql(const CatalogType *type, List *columns, Oid **types)
{
	StringInfoData sql;
	int n = 0;
	ListCell *cell;

	*types = palloc((list_length(columns) + 2) * sizeof(Oid));
	initStringInfo(&sql);
	appendStringInfo(&sql, "UPDATE %s.%s SET ", MIRROR_SCHEMA,
					 quote_identifier(type->table));
	foreach(cell, columns)
	{
		CatalogField *field = lfirst(cell);

		(*types)[n++] = column_value_type(field->kind);
		appendStringInfo(&sql, "%s%s = $%d", n > 1 ? ", " : "",
						 quote_identifier(field->name), n);
	}
	(*types)[n++] = TEXTOID;
	(*types)[n++] = TEXTOID;
	appendStringInfo(&sql,
					 " WHERE %s OPERATOR(pg_catalog.=) $%d"
					 " AND _account OPERATOR(pg_catalog.=) $%d",
					 key_column(type), n - 1, n);
	return sql.data;
}

/* Set the new columns of one row, given as its key, account and _data. */
static void
fill_row(const CatalogType *type, List *columns, SPIPlanPtr update,
		 HeapTuple tuple, TupleDesc desc)
{
	int n = list_length(columns);
	Datum *values = palloc(sizeof(Datum) * (n + 2));
	char *nulls = palloc0(n + 3);
	bool isnull;
	Rows row = rows_of_tuple(tuple, desc);
	Datum key = rows_datum(&row, TEXTOID, &isnull);
	Datum account = rows_datum(&row, TEXTOID, &isnull);
	Jsonb *data = DatumGetJsonbP(rows_datum(&row, JSONBOID, &isnull));

	for (int i = 0; i < n; i++)
	{
		CatalogField *field = list_nth(columns, i);
		bool found;

		found = column_value_take(derived_find(type->table, field->name),
								  field->name, field->kind, &data->root,
								  &values[i]);
		nulls[i] = found ? ' ' : 'n';
	}
	values[n] = key;
	values[n + 1] = account;
	nulls[n] = nulls[n + 1] = ' ';
	if (SPI_execute_plan(update, values, nulls, false, 0) != SPI_OK_UPDATE)
		elog(ERROR, "could not fill new columns of %s.%s", MIRROR_SCHEMA,
			 type->table);
}

/*
 * Fill new columns (CatalogField) of the type's table from the rows' _data,
 * ROWS_AT_ONCE rows at a time.  The caller has entered the scope of the table's
 * owner.  The cursor's snapshot is that of its start, so it does not return rows
 * again that have been updated.
 */
void
columns_fill(const CatalogType *type, List *columns)
{
	Oid *types;
	char *sql = fill_sql(type, columns, &types);
	SPIPlanPtr update;
	SPIPlanPtr select;
	Portal cursor;

	SPI_connect();
	update = SPI_prepare(sql, list_length(columns) + 2, types);
	select = SPI_prepare(
		psprintf("SELECT %s, _account, _data FROM %s.%s WHERE _data IS NOT NULL",
				 key_column(type), MIRROR_SCHEMA, quote_identifier(type->table)),
		0, NULL);
	if (update == NULL || select == NULL)
		elog(ERROR, "could not prepare to fill %s.%s: %s", MIRROR_SCHEMA,
			 type->table, SPI_result_code_string(SPI_result));
	cursor = SPI_cursor_open(NULL, select, NULL, NULL, false);
	PinPortal(cursor); /* no trigger may close it */
	for (;;)
	{
		SPITupleTable *rows;
		uint64 n;

		SPI_cursor_fetch(cursor, true, ROWS_AT_ONCE);
		rows = SPI_tuptable;
		n = SPI_processed;
		if (n == 0)
			break;
		for (uint64 i = 0; i < n; i++)
			fill_row(type, columns, update, rows->vals[i], rows->tupdesc);
		SPI_freetuptable(rows);
	}
	UnpinPortal(cursor);
	SPI_cursor_close(cursor);
	SPI_finish();
}
