/*
 * nested_list.c
 *		Lists that exist once for each object of another type, read one after the
 *		other: /v1/customers/{id}/sources.
 *
 * The parents are the rows of the mirror, in the order of their ids.  The cursor
 * is a position in the list of parent_id; the empty string means that this list
 * is complete.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"

#include "engine/rights.h"
#include "jobs/jobs.h"
#include "jobs/part.h"
#include "stripe/stripe.h"
#include "tables/tables.h"
#include "types/object.h"
#include "types/types.h"
#include "sync/internal.h"

#define MAX_REFUSALS 10 /* lists of parents, in succession */

static const CatalogList *
find_nested_list(const Part *part, const CatalogType *type)
{
	for (int i = 0; i < type->nlists; i++)
		if (strcmp(type->lists[i].path, part->list_path) == 0)
			return &type->lists[i];
	elog(ERROR, "\"%s\" has no list \"%s\"", type->object, part->list_path);
}

/*
 * The mirror table may be a user's view or have policies, so it is read with the
 * rights of its owner and his search_path: hence the qualified operators.
 */
static void
set_next_parent(Part *part)
{
	const CatalogType *type = part_type(part);
	const char *name = find_nested_list(part, type)->parent;
	const CatalogType *parent = catalog_find(name, strlen(name));
	MirrorTable *table = mirror_table_to_read(parent);
	bool by_time = part->since != DT_NOBEGIN &&
				   table_has_column(table, "created");
	Oid types[] = {TEXTOID, TEXTOID, TIMESTAMPTZOID};
	Datum values[] = {
		CStringGetTextDatum(part->parent_id ? part->parent_id : ""),
		CStringGetTextDatum(object_account(parent, part->account)),
		TimestampTzGetDatum(part->since)};
	char *sql = psprintf(
		"SELECT id FROM %s.%s WHERE id OPERATOR(pg_catalog.>) $1"
		" AND _account OPERATOR(pg_catalog.=) $2 AND _deleted_at IS NULL"
		"%s ORDER BY id LIMIT 1",
		MIRROR_SCHEMA, quote_identifier(parent->table),
		by_time ? " AND created OPERATOR(pg_catalog.>=) $3" : "");
	RoleScope scope = role_enter_reading(table->owner, table->search_path);

	SPI_connect();
	if (SPI_execute_with_args(sql, by_time ? 3 : 2, types, values, NULL, true,
							  1) != SPI_OK_SELECT)
		elog(ERROR, "\"%s\" failed", sql);
	part_set_parent(part, SPI_processed == 0
							  ? NULL
							  : SPI_getvalue(SPI_tuptable->vals[0],
											 SPI_tuptable->tupdesc, 1));
	SPI_finish();
	role_leave(&scope);
}

/* Find the parent whose list is next; the part is finished if there is none. */
static void
children_find_next(Part *part)
{
	if (part->parent_id != NULL &&
		(part->cursor == NULL || part->cursor[0] != '\0'))
	{
		part->ready = true; /* in the middle of its list */
		return;
	}
	if (part->object_id == NULL)
		set_next_parent(part);
	else /* the part is for this parent only */
		part_set_parent(part, part->parent_id == NULL ? part->object_id : NULL);
	part_restart(part);
	part->restarted = false;
	part->ready = part->parent_id != NULL;
	part->finished = !part->ready;
}

/*
 * Note that one parent's list can't be read, and go on with the next parent.
 * After many in succession the part fails.
 */
static void
skip_parent(Part *part, const char *error)
{
	if (++part->refusals >= MAX_REFUSALS)
		ereport(ERROR, (errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
						errmsg("%s", error), answer_is_invalid()));
	part_note(part, psprintf("%s: %s", part->parent_id, error));
}

typedef struct PageCall
{
	Part *part;
	const ApiCall *call;
	bool has_more;
} PageCall;

static void
write_page_body(void *arg)
{
	PageCall *page = arg;

	page->has_more = object_list_write_page(page->part, page->call);
}

/*
 * Write a page.  Returns true if the parent's list has more pages.  A page that
 * can't be written is retried like any other; when the tries are used up, only
 * this parent is skipped.
 */
static bool
write_page_of_parent(Part *part, const ApiCall *call)
{
	PageCall page = {part, call, false};
	PartMark mark = part_mark(part);
	ErrorData *error;

	if (outcome_guard(write_page_body, &page, NULL, &error))
	{
		part->refusals = 0;
		return page.has_more;
	}
	part_restore(part, &mark);
	if (!answer_was_invalid() && !part_is_last_try(part))
		ReThrowError(error);
	skip_parent(part, error->message);
	return false;
}

/*
 * A parent that was deleted, or for which Stripe has no such list, or whose list
 * can't be read, is skipped.
 */
static void
children_process(Part *part, const ApiCall *call)
{
	if (object_list_table_changed(part))
	{
		part_set_parent(part, NULL);
		return;
	}
	if (call->verdict == API_OK)
	{
		if (write_page_of_parent(part, call))
			return;
	}
	else if (call->verdict != API_GONE)
		skip_parent(part, call->error);
	part_set_cursor(part, "");
}

const PartKind part_children = {
	.name = "children",
	.path = object_list_path,
	.process = children_process,
	.find_next = children_find_next,
	.skip = unread_skip,
	.skipped = unread_report_skipped,
	.ended = unread_part_ended,
	.restart_on = CURSOR_REFUSED,
	.accepts = API_BIT(API_GONE) | API_BIT(API_REFUSED) | API_BIT(API_FORBIDDEN),
	.shrinks = true,
};
