/*
 * verify_lacking.c
 *		Rows of children that are missing, and objects that could not be fetched.
 *
 * Every child that an object's pages list has a row of its own.  If two elements
 * of a page were merged into one row, one is reported as missing.
 */
#include "postgres.h"

#include "engine/statement.h"
#include "mirror/mirror.h"
#include "tables/tables.h"
#include "types/types.h"
#include "inspect/internal.h"

/* Is the child's type requested? NIL: all are. */
static bool
is_wanted(List *types, const CatalogType *type)
{
	return types == NIL || list_member_ptr(types, type);
}

/*
 * May row security hide the row from the table's owner, with whose rights we
 * read?  Some tables cannot be read otherwise.
 */
bool
verify_may_be_hidden(MirrorTable *table, const char *id, const char *account)
{
	return table_has_forced_policy(table) &&
		   (!table->can_be_scanned || mirror_hides(table, id, account));
}

/*
 * Unknown, and so false, without a table or if the caller may not read all
 * rows.
 */
static bool
child_is_missing(const SnapshotRow *child, Oid reader)
{
	MirrorTable *table = table_cache_find(child->type, TABLE_READ);
	MirrorState state;

	return table != NULL && table_shows_all(table, reader) &&
		   !mirror_peek(table, child->id, child->account, &state, NULL) &&
		   !verify_may_be_hidden(table, child->id, child->account);
}

/*
 * Children of a row's object that have no row, of SnapshotRow.  The row of an
 * account does not say which account its children belong to.
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
			child_is_missing(row, reader))
			lost = lappend(lost, row);
	}
	return lost;
}

/* Does a page of this type list children of one of these types? */
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

/* Types that are not requested and have a page that lists one that is. */
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

/* Report objects of these types that the worker could not fetch again. */
void
verify_incomplete(ReturnSetInfo *result, List *types)
{
	ListCell *cell;

	foreach(cell, refetch_request_failed(verify_type_names(types)))
	{
		RefetchFailure *failure = lfirst(cell);
		ObjectKey key = {failure->object_id, failure->account};

		verify_report(result, failure->object_type, &key, "(incomplete)", NULL,
					  failure->known);
	}
}
