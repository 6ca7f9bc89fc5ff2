/*
 * list_parents.c
 *		Lists that there are for each object of another type, one after the
 *		other: /v1/customers/{id}/sources.
 *
 * Parents are those that the mirror has, in the order of their ids.  The cursor
 * is within the list of parent_id, and empty when that one is done.
 */
#include "sync.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"

#define MAX_REFUSALS 10 /* lists of parents, one after the other */

static const CatalogList *
find_list(const Part *part, const CatalogType *type)
{
	for (int i = 0; i < type->nlists; i++)
		if (strcmp(type->lists[i].path, part->list_path) == 0)
			return &type->lists[i];
	elog(ERROR, "\"%s\" is no list of \"%s\"", part->list_path, type->object);
}

/* With the rights of the table's owner: what is selected from may be his. */
static void
set_next_parent(Part *part)
{
	const CatalogType *type = part_type(part);
	const char *name = find_list(part, type)->parent;
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

/* The parent whose list is next; the part is finished when there is none. */
static void
children_next(Part *part)
{
	if (part->parent_id != NULL &&
		(part->cursor == NULL || part->cursor[0] != '\0'))
	{
		part->ready = true; /* in the middle of its list */
		return;
	}
	if (part->object_id == NULL)
		set_next_parent(part);
	else /* of this one alone */
		part_set_parent(part, part->parent_id == NULL ? part->object_id : NULL);
	part_restart(part);
	part->restarted = false;
	part->ready = part->parent_id != NULL;
	part->finished = !part->ready;
}

/* One parent's list; a list that no parent has is given up. */
static void
refuse_list(Part *part, const char *trouble)
{
	if (++part->refusals >= MAX_REFUSALS)
		ereport(ERROR, (errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
						errmsg("%s", trouble), answer_is_useless()));
	part_note(part, psprintf("%s: %s", part->parent_id, trouble));
}

typedef struct PageTaking
{
	Part *part;
	const ApiCall *call;
	bool goes_on;
} PageTaking;

static void
take_page(void *arg)
{
	PageTaking *taking = arg;

	taking->goes_on = list_take_page(taking->part, taking->call);
}

/*
 * True when the parent's list goes on.  What could not be written is tried
 * again, as often as may be, and then costs that parent's list alone.
 */
static bool
take_answer(Part *part, const ApiCall *call)
{
	PageTaking taking = {part, call, false};
	PartMark mark = part_mark(part);
	ErrorData *error;

	if (outcome_guard(take_page, &taking, NULL, &error))
	{
		part->refusals = 0;
		return taking.goes_on;
	}
	part_restore(part, &mark);
	if (!answer_was_useless() && !part_is_tried_out(part))
		ReThrowError(error);
	refuse_list(part, error->message);
	return false;
}

/*
 * A parent that is gone, or that Stripe keeps no such list for, or whose list
 * can't be read, costs itself alone.
 */
static void
children_take(Part *part, const ApiCall *call)
{
	if (list_has_new_table(part))
	{
		part_set_parent(part, NULL);
		return;
	}
	if (call->verdict == API_OK)
	{
		if (take_answer(part, call))
			return;
	}
	else if (call->verdict != API_GONE)
		refuse_list(part, call->trouble);
	part_set_cursor(part, "");
}

const PartKind part_children = {
	.name = "children",
	.path = list_path,
	.take = children_take,
	.next = children_next,
	.pass_over = unread_pass_over,
	.passed_over = unread_passed_over,
	.ended = unread_over,
	.cursor_may_go = CURSOR_REFUSED,
	.takes = API_BIT(API_GONE) | API_BIT(API_REFUSED) | API_BIT(API_FORBIDDEN),
	.shrinks = true,
};
