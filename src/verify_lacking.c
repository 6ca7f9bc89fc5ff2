/*
 * verify_lacking.c
 *		What the mirror lacks: rows of children, and what could not be read.
 *
 * Every child that an object's pages list has a row of its own.  Two elements of
 * a page that were merged into one row show as one that is missing.
 */
#include "verify_mirror.h"

#include "funcapi.h"
#include "utils/builtins.h"

/* Is the child's type asked for?  NIL: all are. */
static bool
is_wanted(List *types, const CatalogType *type)
{
	return types == NIL || list_member_ptr(types, type);
}

/*
 * Where row security holds for the table's owner, as whom we look: a row that
 * it hides is there all the same.  Some tables can't be looked into otherwise.
 */
bool
verify_may_be_hidden(MirrorTable *table, const char *id, const char *account)
{
	return table_has_forced_policy(table) &&
		   (!table->can_be_scanned || mirror_hides(table, id, account));
}

/* Without a table, or where the reader isn't shown all rows, nobody can tell. */
static bool
is_lost(const SnapshotRow *child, Oid reader)
{
	MirrorTable *table = table_cache_find(child->type, TABLE_READ);
	MirrorState state;

	return table != NULL && table_shows_all(table, reader) &&
		   !mirror_peek(table, child->id, child->account, &state, NULL) &&
		   !verify_may_be_hidden(table, child->id, child->account);
}

/*
 * Those of a row's object that have none, of SnapshotRow.  An account's row
 * doesn't say whether it is one's own, and so not whose its children are.
 */
List *
verify_lost_children(const CatalogType *type, const ObjectKey *key, Jsonb *data,
					 List *types, Oid reader)
{
	List *lost = NIL;
	ListCell *cell;

	if (strcmp(type->object, "account") == 0)
		return NIL;
	foreach(cell, snapshot_rows(type, key->id, key->account, &data->root))
	{
		SnapshotRow *row = lfirst(cell);

		if (row->part == PART_CHILD && is_wanted(types, row->type) &&
			is_lost(row, reader))
			lost = lappend(lost, row);
	}
	return lost;
}

static bool
lists_wanted(const CatalogType *parent, List *types)
{
	for (int i = 0; i < parent->npages; i++)
		if (list_member_ptr(types,
							unconstify(CatalogType *,
									   catalog_page_type(&parent->pages[i]))))
			return true;
	return false;
}

/* Types that are not asked for, of which a page lists one that is. */
List *
verify_parents(List *types)
{
	List *parents = NIL;

	for (int i = 0; i < catalog_ntypes; i++)
	{
		CatalogType *type = unconstify(CatalogType *, &catalog_types[i]);

		if (type->table != NULL && !list_member_ptr(types, type) &&
			lists_wanted(type, types))
			parents = lappend(parents, type);
	}
	return parents;
}

/* What the worker was to read again, and could not. */
void
verify_incomplete(ReturnSetInfo *result, List *types)
{
	ListCell *cell;

	foreach(cell, refetch_request_failed(verify_type_names(types)))
	{
		RefetchFailure *failure = lfirst(cell);
		Datum values[] = {CStringGetTextDatum(failure->object_type),
						  CStringGetTextDatum(failure->object_id),
						  CStringGetTextDatum(failure->account),
						  CStringGetTextDatum("(incomplete)"),
						  (Datum) 0,
						  JsonbPGetDatum(failure->known)};
		bool nulls[] = {false, false, false, false, true, false};

		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
}
