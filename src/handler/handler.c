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

#include "engine/engine.h"
#include "engine/rights.h"
#include "engine/setup_cache.h"
#include "engine/statement.h"
#include "handler/handler.h"
#include "types/object.h"

const RegisteredKind handler_kind = {
	"handler", "a handler", "handler",
	"A handler takes the event (jsonb) and returns void", VOIDOID};

/* Columns in the order of the table (handler/handler.sql) */
static void *
read_handler(Rows *row)
{
	Handler *handler = palloc0(sizeof(Handler));
	bool isnull;
	char *name;

	level_check_table(row->desc, 9, "handler");
	name = rows_text(row);
	handler->event_type = rows_text(row);
	registered_read(&handler->registered, &handler_kind, name, row);
	handler->deferred = rows_bool(row, false);
	(void) rows_datum(row, TIMESTAMPTZOID, &isnull);
	handler->registered.stopped = !isnull;
	return handler;
}

static const char *
name_of(const ListCell *cell)
{
	return ((Handler *) lfirst(cell))->registered.name;
}

static int
compare_handlers(const ListCell *a, const ListCell *b)
{
	return strcmp(name_of(a), name_of(b));
}

static SetupCache handlers = {
	.table = "handler", .read = read_handler, .compare = compare_handlers};

static Handler *
copy_handler(const Handler *handler)
{
	Handler *copy = palloc(sizeof(Handler));

	registered_copy(&copy->registered, &handler->registered);
	copy->event_type = pstrdup(handler->event_type);
	copy->deferred = handler->deferred;
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
		if (strcmp(name_of(cell), name) == 0)
			return copy_handler(lfirst(cell));
	return NULL;
}
