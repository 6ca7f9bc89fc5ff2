/*
 * children.c
 *		Pages of children: a subscription's items, an invoice's lines.
 *
 * A child's row follows the newest of its parent's snapshots.  Its content is
 * that of the last snapshot that lists it, or of an own event as late or later;
 * it has a tombstone from the first complete page after that which leaves it
 * out.  Where the parent's event is the newest, that is one step: list the
 * children, sweep the others.  Where it isn't (it came late, or shares its
 * second with others), the same is folded over the parent's stored events from
 * that second on.
 */
#include "stripe_sync.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

/* Losing the race for a new row over and over means something else is wrong. */
#define MAX_RACES 10

/* A child, over the parent's events from some second on. */
typedef struct FoldedChild
{
	SnapshotRow *key;
	SnapshotRow *listing; /* in the last version that lists it, or NULL */
	int listed_at;		  /* index of that version, or -1 */
} FoldedChild;

typedef struct Fold
{
	MirrorPass *pass;
	History *history;
	List *versions; /* in their order */
	List *children; /* of FoldedChild */
} Fold;

/*
 * Does a page say of what it leaves out that it is gone?  A customer's page of
 * subscriptions lists the current ones only; a cancelled one isn't deleted.
 */
static bool
page_sweeps(const CatalogPage *page)
{
	return strcmp(page->child, "subscription") != 0;
}

static const CatalogType *
child_type(const CatalogPage *page)
{
	return catalog_find(page->child, strlen(page->child));
}

static SnapshotRow *
child_row(const CatalogType *type, char *id, const char *account, RowPart part)
{
	SnapshotRow *row = palloc0(sizeof(SnapshotRow));

	row->type = type;
	row->id = id;
	row->account = snapshot_account(type, account);
	row->part = part;
	return row;
}

static int
compare_rows(const ListCell *a, const ListCell *b)
{
	return snapshot_compare(lfirst(a), lfirst(b));
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

/* The statement that finds the children of one page, made once a session. */
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
	statement->nargs = 2;
	statement->types[0] = statement->types[1] = TEXTOID;
	statements = lappend(lappend(statements, unconstify(CatalogPage *, page)),
						 statement);
	MemoryContextSwitchTo(old);
	return statement;
}

static List *
children_by_back(const CatalogPage *page, const CatalogType *child,
				 const char *parent_id, const char *account, List *found)
{
	Datum values[] = {CStringGetTextDatum(parent_id),
					  CStringGetTextDatum(snapshot_account(child, account))};
	MemoryContext context = CurrentMemoryContext;

	SPI_connect();
	engine_run(back_statement(page, child), values, NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(context);
		char *id = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);

		if (!has_row(found, child, id))
			found = lappend(found, child_row(child, id, account, PART_SWEEP));
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	return found;
}

/* Children that a former snapshot of the parent lists. */
static List *
children_in_page(const CatalogPage *page, const CatalogType *child,
				 JsonbContainer *parent, const char *account, List *found)
{
	JsonbContainer *former = snapshot_page(parent, page->field, NULL);
	JsonbValue data;

	if (former == NULL || !json_get(former, "data", &data))
		return found;
	for (uint32 i = 0; i < JsonContainerSize(data.val.binary.data); i++)
	{
		JsonbValue *element = getIthJsonbValueFromContainer(
			data.val.binary.data, i);
		char *id;

		if (!json_is_object(element))
			continue;
		id = snapshot_key(child, element->val.binary.data);
		if (id != NULL && !has_row(found, child, id))
			found = lappend(found, child_row(child, id, account, PART_SWEEP));
	}
	return found;
}

/* ---- the parent's event is the newest ---- */

/*
 * Add to the rows of a snapshot the children that it no longer lists.
 * "before" is the parent's former snapshot, for children that don't name their
 * parent.
 */
List *
children_to_sweep(Event *event, List *rows, bool parent_is_new, Jsonb *before)
{
	List *all = list_copy(rows);

	for (int i = 0; i < event->catalog->npages; i++)
	{
		const CatalogPage *page = &event->catalog->pages[i];
		const CatalogType *child = child_type(page);
		bool complete;

		if (!page_sweeps(page) || table_find(child) == NULL ||
			snapshot_page(event->object, page->field, &complete) == NULL ||
			!complete)
			continue;
		if (page->back == NULL)
		{
			if (before != NULL)
				all = children_in_page(page, child, &before->root,
									   event->account, all);
		}
		else if (!parent_is_new || child->nevent_types > 0)
			all = children_by_back(page, child, event->object_id,
								   event->account, all);
	}
	if (list_length(all) > list_length(rows))
		list_sort(all, compare_rows);
	return all;
}

static bool
row_is_own(const MirrorRow *row, const CatalogType *type)
{
	bool known;

	return row->state.event_id == NULL ||
		   history_event_is_own(row->state.event_id, type, row->id, &known);
}

/* Ended by an event of its own: no page brings it back. */
static bool
row_is_dead(const MirrorRow *row, const CatalogType *type)
{
	return row->state.deleted && row->state.deleted_at == row->state.as_of &&
		   row_is_own(row, type);
}

/* May a listing as of "created" replace what the row holds? */
static bool
listing_wins(const MirrorRow *row, const CatalogType *type, TimestampTz created)
{
	if (row_is_dead(row, type))
		return false;
	return row->state.as_of < created ||
		   (row->state.as_of == created && !row_is_own(row, type));
}

static void
write_listing(MirrorPass *pass, SnapshotRow *child, const MirrorContent *content)
{
	MirrorTable *table = table_find(child->type);

	for (int race = 0; table != NULL && race < MAX_RACES; race++)
	{
		MirrorRow *row = mirror_lock(pass, table, child->id, child->account,
									 false);

		if (row->state.found && !listing_wins(row, child->type, content->as_of))
			return;
		if (mirror_write(row, content))
			return;
	}
}

/* A child that the newest snapshot of its parent lists. */
void
children_list(MirrorPass *pass, Event *event, SnapshotRow *child)
{
	MirrorContent content = {child->object, event->created, event->id, false, 0};

	write_listing(pass, child, &content);
}

/* A child that the newest snapshot of its parent leaves out. */
void
children_sweep(MirrorPass *pass, Event *event, SnapshotRow *child)
{
	MirrorTable *table = table_find(child->type);
	MirrorState state;
	MirrorRow *row;

	if (table == NULL ||
		!mirror_peek(table, child->id, child->account, &state, NULL) ||
		state.deleted)
		return;
	row = mirror_lock(pass, table, child->id, child->account, false);
	if (row->state.found && !row->state.deleted &&
		(row->state.as_of < event->created ||
		 (row->state.as_of == event->created && !row_is_own(row, child->type))))
		mirror_set_deleted(row, true, event->created);
}

/* ---- the parent's event came late ---- */

static FoldedChild *
fold_find(Fold *fold, SnapshotRow *key)
{
	FoldedChild *child;
	ListCell *cell;

	foreach(cell, fold->children)
	{
		child = lfirst(cell);
		if (snapshot_compare(child->key, key) == 0)
			return child;
	}
	child = palloc0(sizeof(FoldedChild));
	child->key = key;
	child->listed_at = -1;
	fold->children = lappend(fold->children, child);
	return child;
}

static void
fold_version(Fold *fold, int i)
{
	Version *version = list_nth(fold->versions, i);
	Event *event = history_event(version);
	ListCell *cell;

	if (event_type_deletes(version->event_type))
		return;
	foreach(cell, snapshot_rows(fold->history->type, fold->history->id,
								fold->history->account, event->object))
	{
		SnapshotRow *row = lfirst(cell);
		FoldedChild *child;

		if (row->part != PART_CHILD)
			continue;
		child = fold_find(fold, row);
		child->listing = row;
		child->listed_at = i;
	}
}

/* Rows that are there already may have to be swept as well. */
static void
fold_present(Fold *fold, TimestampTz since)
{
	History *history = fold->history;
	Version *former = NULL;
	List *present = NIL;
	ListCell *cell;

	foreach(cell, history->versions)
		if (((Version *) lfirst(cell))->created < since)
			former = lfirst(cell);
	for (int i = 0; i < history->type->npages; i++)
	{
		const CatalogPage *page = &history->type->pages[i];
		const CatalogType *child = child_type(page);

		if (!page_sweeps(page) || table_find(child) == NULL)
			continue;
		if (page->back != NULL)
			present = children_by_back(page, child, history->id,
									   history->account, present);
		else if (former != NULL)
			present = children_in_page(page, child,
									   history_event(former)->object,
									   history->account, present);
	}
	foreach(cell, present)
		(void) fold_find(fold, lfirst(cell));
}

/* Does this version's page leave the child out, and mean it? */
static bool
leaves_out(Fold *fold, Version *version, const SnapshotRow *child)
{
	JsonbContainer *parent = history_event(version)->object;
	bool leaves = false;

	if (event_type_deletes(version->event_type))
		return false;
	for (int i = 0; i < fold->history->type->npages; i++)
	{
		const CatalogPage *page = &fold->history->type->pages[i];
		JsonbContainer *list;
		bool complete;

		if (strcmp(page->child, child->type->object) != 0 || !page_sweeps(page) ||
			(list = snapshot_page(parent, page->field, &complete)) == NULL)
			continue;
		if (snapshot_page_lists(list, child->type->object, child->id))
			return false;
		leaves = leaves || complete;
	}
	return leaves;
}

/*
 * When was the child left out for the first time, after what the row holds?
 * "after" is the index of the version that the content comes from, -1 when it
 * comes from elsewhere and is as of "as_of".
 */
static bool
first_left_out(Fold *fold, const SnapshotRow *child, int after,
			   TimestampTz as_of, bool own, TimestampTz *when)
{
	for (int i = after + 1; i < list_length(fold->versions); i++)
	{
		Version *version = list_nth(fold->versions, i);

		if (after < 0 &&
			(version->created < as_of || (version->created == as_of && own)))
			continue;
		if (leaves_out(fold, version, child))
		{
			*when = version->created;
			return true;
		}
	}
	return false;
}

static MirrorContent
folded_content(Fold *fold, FoldedChild *child)
{
	Version *version = list_nth(fold->versions, child->listed_at);
	MirrorContent content = {child->listing->object, version->created,
							 version->event_id, false, 0};

	content.deleted = first_left_out(fold, child->key, child->listed_at, 0,
									 false, &content.deleted_at);
	return content;
}

static void
fold_child(Fold *fold, FoldedChild *child)
{
	MirrorTable *table = table_find(child->key->type);
	MirrorRow *row;
	TimestampTz when;

	if (table == NULL)
		return;
	if (child->listing != NULL)
	{
		MirrorContent content = folded_content(fold, child);

		write_listing(fold->pass, child->key, &content);
	}
	row = mirror_lock(fold->pass, table, child->key->id, child->key->account,
					  false);
	if (!row->state.found || row_is_dead(row, child->key->type))
		return;
	if (child->listing != NULL && row->state.event_id != NULL &&
		strcmp(
			row->state.event_id,
			((Version *) list_nth(fold->versions, child->listed_at))->event_id) ==
			0)
		return; /* just written, tombstone and all */
	if (first_left_out(fold, child->key, -1, row->state.as_of,
					   row_is_own(row, child->key->type), &when) &&
		(!row->state.deleted || when < row->state.deleted_at))
		mirror_set_deleted(row, true, when);
}

static int
compare_folded(const ListCell *a, const ListCell *b)
{
	return snapshot_compare(((FoldedChild *) lfirst(a))->key,
							((FoldedChild *) lfirst(b))->key);
}

/* Fold the pages of all stored events from a second on into the children. */
void
children_fold(MirrorPass *pass, History *history, TimestampTz since)
{
	Fold fold = {pass, history, NIL, NIL};
	ListCell *cell;

	if (history->type->npages == 0)
		return;
	fold.versions = order_since(history, since);
	for (int i = 0; i < list_length(fold.versions); i++)
		fold_version(&fold, i);
	fold_present(&fold, since);
	list_sort(fold.children, compare_folded);
	foreach(cell, fold.children)
		fold_child(&fold, lfirst(cell));
}

/* ---- an own event of a child, while the parent is further on ---- */

static bool
swept_by(const CatalogType *parent, const CatalogPage *page,
		 const SnapshotRow *child, JsonbContainer *object, TimestampTz created,
		 TimestampTz *swept_at)
{
	MirrorTable *table = table_find(parent);
	Fold fold = {0};
	MirrorState state;
	JsonbValue json;
	Datum value;
	char *parent_id;
	const char *account = snapshot_account(parent, child->account);

	if (table == NULL || !json_get(object, page->back, &json) ||
		!value_from_json(KIND_REFERENCE, &json, &value))
		return false;
	parent_id = TextDatumGetCString(value);
	if (!mirror_peek(table, parent_id, account, &state, NULL) ||
		state.as_of <= created)
		return false;
	fold.history = history_read(parent, parent_id, account);
	fold.versions = order_since(fold.history, created + 1);
	return first_left_out(&fold, child, -1, created, true, swept_at);
}

/*
 * An own event brings a child that the mirror hasn't got: has a later page of
 * its parent left it out already?
 */
bool
children_swept(const CatalogType *type, const char *id, const char *account,
			   JsonbContainer *object, TimestampTz created,
			   TimestampTz *swept_at)
{
	SnapshotRow *child = child_row(type, pstrdup(id), account, PART_OWN);

	for (int i = 0; i < catalog_ntypes; i++)
	{
		const CatalogType *parent = &catalog_types[i];

		for (int j = 0; j < parent->npages; j++)
			if (parent->pages[j].back != NULL && page_sweeps(&parent->pages[j]) &&
				strcmp(parent->pages[j].child, type->object) == 0 &&
				swept_by(parent, &parent->pages[j], child, object, created,
						 swept_at))
				return true;
	}
	return false;
}
