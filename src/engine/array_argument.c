/*
 * array_argument.c
 *		Many rows as the arguments of one statement: an array for each column.
 *
 * One statement that unnests its arguments takes one round trip through SPI and
 * one snapshot, however many rows there are.
 */
#include "postgres.h"

#include "utils/array.h"
#include "utils/lsyscache.h"

#include "engine/array_argument.h"
#include "engine/statement.h"

/* The first row determines the number and the types of the columns. */
static void
begin_columns(ArgColumns *columns, const StatementArg *row, int ncolumns)
{
	Assert(ncolumns <= STATEMENT_MAX_ARGS);
	columns->ncolumns = ncolumns;
	for (int i = 0; i < ncolumns; i++)
	{
		columns->types[i] = row[i].type;
		columns->arrays[i] = initArrayResult(row[i].type, CurrentMemoryContext,
											 false);
	}
}

/*
 * Add a row.  Values are copied into the memory context that was current when
 * the first row was added.
 */
void
columns_add(ArgColumns *columns, const StatementArg *row, int ncolumns)
{
	if (columns->nrows == 0)
		begin_columns(columns, row, ncolumns);
	Assert(ncolumns == columns->ncolumns);
	for (int i = 0; i < ncolumns; i++)
	{
		Assert(row[i].type == columns->types[i]);
		(void) accumArrayResult(columns->arrays[i], row[i].value, row[i].isnull,
								row[i].type, CurrentMemoryContext);
	}
	columns->nrows++;
}

/* Column "number" of all rows, as an array of one dimension */
StatementArg
arg_column(const ArgColumns *columns, int number)
{
	/* without a row the type is unknown */
	if (number >= columns->ncolumns)
		elog(ERROR, "rows of arguments have no column %d", number);
	return arg_datum(
		get_array_type(columns->types[number]),
		makeArrayResult(columns->arrays[number], CurrentMemoryContext));
}

/* All columns, in their order */
const StatementArg *
columns_args(const ArgColumns *columns)
{
	StatementArg *args = palloc(sizeof(StatementArg) * columns->ncolumns);

	for (int i = 0; i < columns->ncolumns; i++)
		args[i] = arg_column(columns, i);
	return args;
}
