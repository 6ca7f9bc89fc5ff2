/*
 * cursor.h
 *		Many rows of the extension's own tables, some at a time.
 *
 *	name = cursor_open("SELECT ...", ARGS(arg_text(type)));
 *	while (cursor_fetch(name, 200, &rows))
 *	{
 *		while (rows_next(&rows))
 *			...
 *		rows_close(&rows);
 *	}
 */
#ifndef STRIPE_SYNC_ENGINE_CURSOR_H
#define STRIPE_SYNC_ENGINE_CURSOR_H

#include "engine/statement.h"

/* The cursor's name.  It is planned for these arguments. */
extern char *cursor_open(const char *sql, const StatementArg *args, int nargs);

/* The next rows.  False: there are none, and the cursor is closed. */
extern bool cursor_fetch(const char *name, int count, Rows *rows);

#endif /* STRIPE_SYNC_ENGINE_CURSOR_H */
