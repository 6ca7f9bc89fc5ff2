/*
 * children.c
 *		Pages of children: a subscription's items, an invoice's lines.
 *
 * A child's row follows the newest of its parent's snapshots.  Its content is
 * that of the last snapshot that lists it, or of an own event that is not older;
 * it has a tombstone from the first complete page after that which leaves it
 * out.  Here the parent's event is the newest: its children are listed, the
 * others are swept.  If it arrives late, or in the same second as others,
 * late_children.c does the same over the parent's stored events.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/memutils.h"

#include "engine/rights.h"
#include "engine/statement.h"
#include "inbox/event.h"
#include "mirror/mirror.h"
#include "tables/tables.h"
#include "types/object.h"
#include "types/types.h"
#include "mirror/internal.h"

static SnapshotRow *
child_row(const CatalogType *type, char *id, const char *account, RowPart part)
{
	SnapshotRow *row = palloc0(sizeof(SnapshotRow));

	row->type = type;
	row->id = id;
	row->account = object_account(type, account);
	row->part = part;
	return row;
}

static bool
has_row(List *rows, const CatalogType *type, const char *id)
{
	ListCell *cell;

	foreach(cell, rows)
	{
		SnapshotRow *row = lfirst(cell);

		if (row->type == type && strcmp(row->id, id) == 0)
			return true;
	}
	return false;
}

/* ---- which rows the mirror has below a parent ---- */

/*
 * The statement that finds the children of one page, kept for the session.  It
 * runs under the search_path of the table's owner: operators are qualified.
 */
static EngineStatement *
back_statement(const CatalogPage *page, const CatalogType *child)
{
	static List *statements = NIL; /* page, statement, page, statement ... */
	MemoryContext old;
	EngineStatement *statement;

	for (int i = 0; i < list_length(statements); i += 2)
		if (list_nth(statements, i) == page)
			return list_nth(statements, i + 1);
	old = MemoryContextSwitchTo(TopMemoryContext);
	statement = palloc0(sizeof(EngineStatement));
	statement->sql = psprintf("SELECT %s FROM %s.%s"
							  " WHERE %s OPERATOR(pg_catalog.=) $1"
							  " AND _account OPERATOR(pg_catalog.=) $2",
							  quote_identifier(child->key), MIRROR_SCHEMA,
							  quote_identifier(child->table),
							  quote_identifier(page->back));
	statements = lappend(lappend(statements, unconstify(CatalogPage *, page)),
						 statement);
	MemoryContextSwitchTo(old);
	return statement;
}

/*
 * The column of the child that names its parent; NULL if there is none, or the
 * user has dropped it.
 */
const char *
children_back(const CatalogPage *page, const MirrorTable *table)
{
	if (page->back == NULL || !table_has_column(table, page->back))
		return NULL;
	return page->back;
}

/*
 * Add the children whose rows name this parent to "found".  Their table is read
 * with its owner's rights, and not locked beyond the lock of the table.
 */
List *
children_by_back(const CatalogPage *page, const CatalogType *child,
				 const char *parent_id, const char *account, List *found)
{
	MirrorTable *table = table_cache_find(child, TABLE_WRITE);
	RoleScope scope;
	Rows rows;

	if (table == NULL)
		return found;
	/* a column may have a type of the owner's, whose code runs in this scope */
	scope = role_enter_reading(table->owner, table->search_path);
	rows_open(
		&rows, back_statement(page, child),
		ARGS(arg_text(parent_id), arg_text(object_account(child, account))));
	while (rows_next(&rows))
	{
		char *id = rows_text(&rows);

		if (!has_row(found, child, id))
			found = lappend(found, child_row(child, id, account, PART_SWEEP));
	}
	rows_close(&rows);
	role_leave(&scope);
	return found;
}

/* Children that a former snapshot of the parent lists. */
static List *
children_in_page(const CatalogPage *page, const CatalogType *child,
				 const char *parent_id, JsonbContainer *parent,
				 const char *account, List *found)
{
	JsonbContainer *former = object_page(parent, page->field, NULL);
	ListCell *cell;

	if (former == NULL)
		return found;
	foreach(cell, child_list(parent_id, former))
	{
		const PageChild *listed = lfirst(cell);

		if (listed->type == child && !has_row(found, child, listed->id))
			found = lappend(found,
							child_row(child, listed->id, account, PART_SWEEP));
	}
	return found;
}

/* ---- the parent's event is the newest ---- */

/*
 * Children that the parent's versions before "since" list, back to the last
 * complete page.  For children that do not name their parent.
 */
List *
children_listed_before(EventHistory *history, const CatalogPage *page,
					   const CatalogType *child, const char *account,
					   TimestampTz since, List *found)
{
	TimestampTz complete_at = PG_INT64_MIN;
	List *snapshots = event_history_snapshots(history);

	for (int i = list_length(snapshots) - 1; i >= 0; i--)
	{
		Version *version = list_nth(snapshots, i);
		JsonbContainer *object;
		bool complete;

		if (version->created >= since)
			continue;
		if (version->created < complete_at)
			break;
		object = version_event(version)->object;
		if (object_page(object, page->field, &complete) == NULL)
			continue;
		found = children_in_page(page, child, history->id, object, account,
								 found);
		if (complete)
			complete_at = version->created; /* all versions of that second are read */
	}
	return found;
}

/* The children that the page listed when it was last complete. */
static List *
children_of_former(Event *event, const CatalogPage *page,
				   const CatalogType *child, Jsonb *before, List *found)
{
	const char *account = object_account(event->catalog, event->account);
	bool complete;

	if (before == NULL)
		return found;
	found = children_in_page(page, child, event->object_id, &before->root,
							 event->account, found);
	if (object_page(&before->root, page->field, &complete) != NULL && complete)
		return found;
	return children_listed_before(
		fetched_note_read_history(event->catalog, event->object_id, account),
		page, child, event->account, event->created, found);
}

/*
 * Add the children that a snapshot no longer lists to its rows.  "before" is
 * the parent's former snapshot, for children that do not name their parent.
 */
List *
children_to_sweep(Event *event, List *rows, bool parent_is_new, Jsonb *before)
{
	List *all = list_copy(rows);

	for (int i = 0; i < event->catalog->npages; i++)
	{
		const CatalogPage *page = &event->catalog->pages[i];
		const CatalogType *child = catalog_page_type(page);
		MirrorTable *table;
		bool complete;

		if (!catalog_page_sweeps(page) ||
			object_page(event->object, page->field, &complete) == NULL ||
			!complete || (table = table_cache_find(child, TABLE_WRITE)) == NULL)
			continue;
		if (children_back(page, table) == NULL)
			all = children_of_former(event, page, child, before, all);
		else if (!parent_is_new || child->nevent_types > 0)
			all = children_by_back(page, child, event->object_id,
								   event->account, all);
	}
	if (list_length(all) > list_length(rows))
		snapshot_sort(all);
	return all;
}

/* Was the row written by an own event of the object, or by a fetch of it? */
bool
children_row_is_own(const MirrorRow *row, const CatalogType *type)
{
	bool known;

	return row->state.event_id == NULL ||
		   event_history_is_own(row->state.event_id, row->account, type,
								row->id, &known);
}

/*
 * Was the child deleted by its own event?  Then a page in an event does not bring
 * it back; only a fetch that finds it does.
 */
bool
children_row_is_dead(const MirrorRow *row, const CatalogType *type)
{
	return row->state.deleted && row->state.event_id != NULL &&
		   row->state.deleted_at == row->state.as_of &&
		   children_row_is_own(row, type);
}

/* May a page as of "created" replace the row's content? */
static bool
children_listing_wins(const MirrorRow *row, const CatalogType *type,
					  TimestampTz created)
{
	if (children_row_is_dead(row, type))
		return false;
	if (row->state.as_of < created)
		return true;
	if (children_row_is_own(row, type))
		return false;
	/* a row filled from another object's event is replaced by any page */
	return row->state.as_of == created ||
		   !precedence_listed_by(row->state.event_id, row->account, type,
								 row->id);
}

/* Write a child that an event's page lists, unless the row holds a newer state. */
void
children_write(OpenTables *tables, SnapshotRow *child,
			   const MirrorContent *content)
{
	MirrorTable *table = table_cache_find(child->type, TABLE_WRITE);
	int tries = 0;

	while (table != NULL && retry_race(&tries))
	{
		MirrorRow *row = mirror_lock(tables, table, child->id, child->account,
									 false);

		if (row->state.found &&
			!children_listing_wins(row, child->type, content->as_of))
			return;
		fetched_note_replaced(row, content);
		if (mirror_write(row, content))
			return;
	}
}

/* Write a child that the newest snapshot of its parent lists. */
void
children_list(OpenTables *tables, Event *event, SnapshotRow *child,
			  bool parent_is_new)
{
	MirrorContent content = {child->object, event->created, event->id, false, 0};

	/* a child without events of its own is new if its parent is new */
	if (parent_is_new && child->type->nevent_types == 0)
	{
		MirrorTable *table = table_cache_find(child->type, TABLE_WRITE);

		if (table == NULL ||
			mirror_write(mirror_missing(tables, table, child->id, child->account),
						 &content))
			return;
	}
	children_write(tables, child, &content);
}

/*
 * Set the tombstone of a child that the newest snapshot of its parent leaves
 * out.
 */
void
children_sweep(OpenTables *tables, Event *event, SnapshotRow *child)
{
	MirrorTable *table = table_cache_find(child->type, TABLE_WRITE);
	MirrorState state;
	MirrorRow *row;

	if (table == NULL ||
		!mirror_peek(table, child->id, child->account, &state, NULL) ||
		state.deleted)
		return;
	row = mirror_lock(tables, table, child->id, child->account, false);
	if (row->state.found && !row->state.deleted &&
		(row->state.as_of < event->created ||
		 (row->state.as_of == event->created &&
		  !children_row_is_own(row, child->type))))
		mirror_set_deleted(row, true, event->created);
}
