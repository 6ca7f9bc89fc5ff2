/*
 * address_index.c
 *		The index of customers' e-mail addresses: does a table lack it?
 *
 * It is the only index on an expression that create_tables() makes.  Tables of an
 * earlier version do not have it.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_opclass.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "tables/stored_index.h"
#include "tables/tables.h"
#include "tables/internal.h"

/* Is it the column that the index is on? */
bool
address_index_is_for(const CatalogType *type, const CatalogField *field)
{
	return strcmp(type->object, "customer") == 0 &&
		   strcmp(field->name, "email") == 0;
}

/* Does the index find rows by lower(column)? */
static bool
index_serves(Oid indexid, AttrNumber column)
{
	bool not_null;
	int predicate = stored_index_partial(indexid, &not_null);

	return get_index_isvalid(indexid) &&
		   get_index_column_opclass(indexid, 1) == TEXT_BTREE_OPS_OID &&
		   stored_index_lower(indexid) == column &&
		   (predicate == 0 || (predicate == column && not_null));
}
/* Does the table have a column "email" of the mirror's, and no index for it? */
bool
address_index_lacks(const CatalogType *type, Oid relid, List *ours)
{
	const CatalogField *email = NULL;
	Relation table;
	ListCell *cell;
	bool lacks;

	foreach(cell, ours)
		if (address_index_is_for(type, lfirst(cell)))
			email = lfirst(cell);
	if (email == NULL)
		return false;
	table = try_table_open(relid, AccessShareLock);
	if (table == NULL)
		return false;
	lacks = table->rd_rel->relkind == RELKIND_RELATION ||
			table->rd_rel->relkind == RELKIND_PARTITIONED_TABLE;
	foreach(cell, RelationGetIndexList(table))
		lacks = lacks &&
				!index_serves(lfirst_oid(cell), get_attnum(relid, email->name));
	table_close(table, AccessShareLock);
	return lacks;
}
