/*
 * array_argument.h
 *		Rows as arguments of a statement: an array for each column.
 */
#ifndef STRIPE_SYNC_ENGINE_ARRAY_ARGUMENT_H
#define STRIPE_SYNC_ENGINE_ARRAY_ARGUMENT_H

#include "engine/statement.h"

/*
 * Rows that a statement reads with unnest():
 *
 *	ArgColumns columns = {0};
 *
 *	columns_add(&columns, ARGS(arg_int8(id), arg_text(code)));	one for each row
 *	statement_exec(&insert, COLUMN_ARGS(&columns));
 */
typedef struct ArgColumns
{
	int ncolumns; /* 0: no row has been added */
	int nrows;
	Oid types[STATEMENT_MAX_ARGS]; /* of the elements */
	struct ArrayBuildState *arrays[STATEMENT_MAX_ARGS];
} ArgColumns;

/* All rows have the same number and types of columns. */
extern void columns_add(ArgColumns *columns, const StatementArg *row,
						int ncolumns);

/* A column, counted from 0, and all of them.  There must be a row. */
extern StatementArg arg_column(const ArgColumns *columns, int number);
extern const StatementArg *columns_args(const ArgColumns *columns);

#define COLUMN_ARGS(columns) columns_args(columns), (columns)->ncolumns

#endif /* STRIPE_SYNC_ENGINE_ARRAY_ARGUMENT_H */
