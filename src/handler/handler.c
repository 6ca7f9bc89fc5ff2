/*
 * handler.c
 *		Handlers, cached from stripe_sync.handler, and which of them an event is
 *		for.
 *
 * Callers get copies: a handler that runs may change the set-up, which makes
 * the session read it again.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "base/error_codes.h"
#include "engine/engine.h"
#include "engine/rights.h"
#include "engine/setup_cache.h"
#include "engine/statement.h"
#include "handler/handler.h"
#include "types/object.h"

/* Columns in the order of the table (handler/handler.sql) */
static void *
read_handler(Rows *row)
{
	Handler *handler = palloc0(sizeof(Handler));
	Datum names;
	Datum owners;
	bool isnull;

	level_check_table(row->desc, 9, "handler");
	handler->name = rows_text(row);
	handler->event_type = rows_text(row);
	handler->function = rows_text(row);
	handler->owner = rows_text(row);
	handler->role = rows_text(row);
	names = rows_datum(row, TEXTOID, &isnull);
	owners = rows_datum(row, TEXTARRAYOID, &isnull);
	handler->search_path = path_read(names, owners);
	handler->search_path->holder = psprintf("handler \"%s\"", handler->name);
	handler->search_path->renewal = psprintf("stripe_sync.add_handler(%s, ...)",
											 quote_literal_cstr(handler->name));
	handler->search_path->sqlstate = ERRCODE_NO_SUCH_NAME;
	handler->deferred = rows_bool(row, false);
	(void) rows_datum(row, TIMESTAMPTZOID, &isnull);
	handler->stopped = !isnull;
	return handler;
}

static int
compare_handlers(const ListCell *a, const ListCell *b)
{
	return strcmp(((Handler *) lfirst(a))->name, ((Handler *) lfirst(b))->name);
}

static SetupCache handlers = {
	.table = "handler", .read = read_handler, .compare = compare_handlers};

static Handler *
copy_handler(const Handler *handler)
{
	Handler *copy = palloc(sizeof(Handler));

	copy->name = pstrdup(handler->name);
	copy->event_type = pstrdup(handler->event_type);
	copy->function = pstrdup(handler->function);
	copy->owner = pstrdup(handler->owner);
	copy->role = pstrdup(handler->role);
	copy->search_path = path_copy(handler->search_path, CurrentMemoryContext);
	copy->deferred = handler->deferred;
	copy->stopped = handler->stopped;
	return copy;
}

/*
 * Copies of the handlers for events of this type, in the order of their names,
 * stopped ones included.
 */
List *
handler_matching(const char *event_type)
{
	List *matching = NIL;
	ListCell *cell;

	foreach(cell, setup_cache_entries(&handlers))
		if (event_type_fits(event_type, ((Handler *) lfirst(cell))->event_type))
			matching = lappend(matching, copy_handler(lfirst(cell)));
	return matching;
}

/* A copy of the handler; NULL if there is none of that name. */
Handler *
handler_find(const char *name)
{
	ListCell *cell;

	foreach(cell, setup_cache_entries(&handlers))
		if (strcmp(((Handler *) lfirst(cell))->name, name) == 0)
			return copy_handler(lfirst(cell));
	return NULL;
}
