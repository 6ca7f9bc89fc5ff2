/*
 * cursor.c
 *		Cursors on the extension's own tables, for results that are too large to be
 *		read at once.
 *
 * A cursor is open until it has returned all rows, or its (sub)transaction ends.
 * Scopes that are entered meanwhile leave it open.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "utils/portal.h"

#include "engine/cursor.h"

char *
cursor_open(const char *sql, const StatementArg *args, int nargs)
{
	Oid types[STATEMENT_MAX_ARGS];
	Datum values[STATEMENT_MAX_ARGS];
	char nulls[STATEMENT_MAX_ARGS];
	MemoryContext caller = CurrentMemoryContext;
	char *name;

	for (int i = 0; i < nargs; i++)
	{
		types[i] = args[i].type;
		values[i] = args[i].value;
		nulls[i] = args[i].isnull ? 'n' : ' ';
	}
	SPI_connect();
	name = MemoryContextStrdup(
		caller, SPI_cursor_open_with_args(NULL, sql, nargs, types, values,
										  nulls, false, 0)
					->name);
	SPI_finish();
	return name;
}

bool
cursor_fetch(const char *name, int count, Rows *rows)
{
	MemoryContext caller = CurrentMemoryContext;
	Portal portal;

	SPI_connect();
	portal = SPI_cursor_find(name);
	if (portal == NULL)
		elog(ERROR, "cursor \"%s\" is not open", name);
	SPI_cursor_fetch(portal, true, count);
	*rows = (Rows){.table = SPI_tuptable, .count = SPI_processed};
	if (rows->count == 0)
	{
		SPI_cursor_close(portal);
		SPI_finish();
	}
	MemoryContextSwitchTo(caller);
	return rows->count > 0;
}
