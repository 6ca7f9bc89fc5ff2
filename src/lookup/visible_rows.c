/*
 * visible_rows.c
 *		Tables of the mirror that the caller may see, and rows by their key.
 *
 * Mirror tables belong to users.  A table is used only if the caller may select
 * all of its rows: row security of the caller is respected.  A table that cannot be
 * used is left out; visible_rows_left_out() says which.
 */
#include "postgres.h"

#include "base/subtransaction.h"
#include "engine/rights.h"
#include "mirror/mirror.h"
#include "tables/tables.h"
#include "types/object.h"
#include "types/types.h"
#include "lookup/internal.h"

static bool read_all = false; /* within visible_rows_read_all() */
static List *left_out = NIL;  /* of char *: tables that were not looked at */

/* Tables that were left out since the last call, and why, of char * */
List *
visible_rows_left_out(void)
{
	List *tables = left_out;

	left_out = NIL;
	return tables;
}

void
visible_note_left_out(const CatalogType *type, const char *why)
{
	char *text = psprintf("%s.%s (%s)", MIRROR_SCHEMA, type->table, why);
	ListCell *cell;

	foreach(cell, left_out)
		if (strcmp(lfirst(cell), text) == 0)
			return;
	left_out = lappend(left_out, text);
}

/*
 * Run body(arg), in which tables are read whatever the caller may see, as the
 * messages of alerts read them: for an answer to somebody else than the caller.
 */
void
visible_rows_read_all(void (*body)(void *), void *arg)
{
	bool former = read_all;

	read_all = true;
	PG_TRY();
	{
		body(arg);
	}
	PG_FINALLY();
	{
		read_all = former;
	}
	PG_END_TRY();
}

/* Arguments of find_body() */
typedef struct Lookup
{
	const CatalogType *type;
	MirrorTable *table;
} Lookup;

static void
find_body(void *arg)
{
	Lookup *lookup = arg;

	lookup->table = table_cache_find(lookup->type, TABLE_READ);
}

/* The type's table; NULL if there is none, or it may not or cannot be read. */
MirrorTable *
visible_table(const CatalogType *type)
{
	Lookup lookup = {type, NULL};
	ErrorData *error;

	if (type->table == NULL || !OidIsValid(table_lookup(type)))
		return NULL;
	if (!subtransaction_run(find_body, &lookup, NULL, &error))
		visible_note_left_out(type, error->message);
	else if (lookup.table != NULL && !read_all &&
			 !table_shows_all(lookup.table, role_caller()))
	{
		visible_note_left_out(type, "you may not see all of its rows");
		return NULL;
	}
	return lookup.table;
}

/* Is there a table of the type's that the caller may not see all of? */
bool
visible_hides(const CatalogType *type)
{
	return type->table != NULL && OidIsValid(table_lookup(type)) &&
		   visible_table(type) == NULL;
}

/* ---- by the key ---- */

/* Arguments and result of peek_body() */
typedef struct Peek
{
	MirrorTable *table;
	const char *id;
	const char *account;
	MirrorState state;
	Jsonb *data;
	MemoryContext memory;
} Peek;

static void
peek_body(void *arg)
{
	Peek *peek = arg;
	MemoryContext old = MemoryContextSwitchTo(peek->memory);

	(void) mirror_peek(peek->table, peek->id, peek->account, &peek->state,
					   &peek->data);
	MemoryContextSwitchTo(old);
}

/*
 * Read a row; "account" is as events have it.  Returns false if there is none
 * that the caller may see.
 */
bool
visible_row_read(const CatalogType *type, const char *id, const char *account,
				 VisibleState *state)
{
	Peek peek = {.table = visible_table(type),
				 .id = id,
				 .account = object_account(type, account),
				 .memory = CurrentMemoryContext};
	ErrorData *error;

	if (peek.table == NULL)
		return false;
	if (!subtransaction_run(peek_body, &peek, NULL, &error))
	{
		visible_note_left_out(type, error->message);
		return false;
	}
	if (!peek.state.found)
		return false;
	*state = (VisibleState){.data = peek.data,
							.as_of = peek.state.as_of,
							.event_id = peek.state.event_id,
							.deleted = peek.state.deleted};
	return true;
}
