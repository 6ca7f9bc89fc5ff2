/*
 * objects.c
 *		All objects of a type, one after the other: those with a row in the
 *		mirror, in pages by key, then those that have only stored events or kept
 *		changes.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "base/base.h"
#include "engine/cursor.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "history/internal.h"
#include "tables/tables.h"
#include "types/types.h"

#define PAGE 200

/* ---- objects with a row ---- */

/* A row of a page */
typedef struct PageRow
{
	char *id;
	char *account;
	RowFound row;
} PageRow;

/*
 * The statement for the rows after a key.  It runs under the search_path of the
 * table's owner: operators are qualified.
 */
static char *
page_statement(const MirrorTable *table)
{
	bool single = table->type->key[0] == '\0';
	const char *key = single ? "''::pg_catalog.text"
							 : quote_identifier(table->type->key);

	return psprintf(
		"SELECT %s, _account, _as_of, _event_id, _deleted_at, _data FROM %s.%s"
		" WHERE ($1 IS NULL OR ROW(%s, _account) OPERATOR(pg_catalog.>) ROW($1, $2))"
		" AND ($3 IS NULL OR _account OPERATOR(pg_catalog.=) $3)"
		" ORDER BY %s _account LIMIT %d",
		key, MIRROR_SCHEMA, quote_identifier(table->type->table), key,
		single ? "" : psprintf("%s,", key), PAGE);
}

static PageRow *
read_page_row(Rows *rows)
{
	PageRow *page = palloc0(sizeof(PageRow));
	MirrorState *state = &page->row.state;

	page->id = rows_text(rows);
	page->account = rows_text(rows);
	page->row.found = state->found = true;
	state->as_of = rows_time(rows, 0);
	state->event_id = rows_text(rows);
	state->deleted_at = rows_time(rows, DT_NOBEGIN);
	state->deleted = state->deleted_at != DT_NOBEGIN;
	page->row.data = rows_jsonb(rows);
	return page;
}

/* The rows after the last one, of PageRow. */
static List *
read_page(const AsOf *as_of, const char *sql, const PageRow *last)
{
	Oid types[] = {TEXTOID, TEXTOID, TEXTOID};
	StatementArg args[] = {arg_text(last != NULL ? last->id : NULL),
						   arg_text(last != NULL ? last->account : NULL),
						   arg_text(as_of->account)};
	Datum values[] = {args[0].value, args[1].value, args[2].value};
	char nulls[] = {args[0].isnull ? 'n' : ' ', args[1].isnull ? 'n' : ' ',
					args[2].isnull ? 'n' : ' ', '\0'};
	MemoryContext context = CurrentMemoryContext;
	RoleScope scope = role_enter_reading(as_of->table->owner,
										 as_of->table->search_path);
	List *page = NIL;

	SPI_connect();
	if (SPI_execute_with_args(sql, 3, types, values, nulls, false, 0) !=
		SPI_OK_SELECT)
		elog(ERROR, "could not read %s.%s", MIRROR_SCHEMA, as_of->type->table);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(context);
		Rows row = rows_of_tuple(SPI_tuptable->vals[i], SPI_tuptable->tupdesc);

		page = lappend(page, read_page_row(&row));
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	role_leave(&scope);
	return page;
}

static void
add_page(AsOf *as_of, List *page)
{
	ListCell *cell;

	foreach(cell, page)
	{
		const PageRow *row = lfirst(cell);
		MemoryContext old = MemoryContextSwitchTo(as_of->memory);

		as_of_object(
			as_of, row->id, row->account,
			timeline_read(as_of->type, row->id, row->account, &row->row));
		MemoryContextSwitchTo(old);
		MemoryContextReset(as_of->memory);
		CHECK_FOR_INTERRUPTS();
	}
}

/* All objects with a row. */
void
as_of_rows(AsOf *as_of)
{
	/* while it is open, code of its owner that we run cannot alter it */
	Relation relation = table_open(as_of->table->relid, NoLock);
	char *sql = page_statement(as_of->table);
	MemoryContext pages[2];
	PageRow *last = NULL;

	for (int i = 0; i < 2; i++)
		pages[i] = AllocSetContextCreate(
			CurrentMemoryContext, "stripe_sync page", ALLOCSET_DEFAULT_SIZES);
	for (int turn = 0;; turn = 1 - turn)
	{
		MemoryContext old = MemoryContextSwitchTo(pages[turn]);
		List *page = read_page(as_of, sql, last);

		add_page(as_of, page);
		MemoryContextSwitchTo(old);
		MemoryContextReset(pages[1 - turn]);
		if (list_length(page) < PAGE)
			break;
		last = llast(page);
	}
	table_close(relation, NoLock);
}

/* ---- objects without a row ---- */

static void
add_without_row(AsOf *as_of, const char *id, const char *account)
{
	MemoryContext old = MemoryContextSwitchTo(as_of->memory);
	RowFound row;
	Timeline *timeline;

	object_row_read(as_of->table, id, account, &row);
	if (!row.found)
	{
		timeline = timeline_read(as_of->type, id, account, &row);
		if (timeline_has_sources(timeline))
			as_of_object(as_of, id, account, timeline);
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(as_of->memory);
}

/* A cursor over the keys of the objects with stored events or kept changes. */
static char *
open_keys(const AsOf *as_of)
{
	static const char *const sql =
		"SELECT object_id, CASE WHEN object_type <> 'account' THEN account"
		/* as account_of_accounts() says */
		"   WHEN pg_catalog.starts_with(account, 'acct_') THEN ''"
		"   ELSE pg_catalog.split_part(account, '/', 1) END"
		"  FROM stripe_sync.event WHERE object_type = $1"
		"   AND object_id IS NOT NULL AND created IS NOT NULL"
		" UNION SELECT object_id, account FROM stripe_sync.change"
		"  WHERE object_type = $1";

	return cursor_open(sql, ARGS(arg_text(as_of->type->object)));
}

void
as_of_others(AsOf *as_of)
{
	char *cursor = open_keys(as_of);
	MemoryContext memory = AllocSetContextCreate(
		CurrentMemoryContext, "stripe_sync keys", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(memory);
	Rows rows;

	while (cursor_fetch(cursor, PAGE, &rows))
	{
		while (rows_next(&rows))
		{
			char *id = rows_text(&rows);
			char *account = rows_text(&rows);

			if (as_of->account == NULL || strcmp(as_of->account, account) == 0)
				add_without_row(as_of, id, account);
			CHECK_FOR_INTERRUPTS();
		}
		rows_close(&rows);
		MemoryContextReset(memory);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(memory);
}
