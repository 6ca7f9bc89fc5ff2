/*
 * object_row.c
 *		The object's row in the mirror, for callers who may see all rows.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "base/base.h"
#include "history/internal.h"
#include "tables/tables.h"
#include "types/types.h"

/* The type's table, locked for reading; NULL if there is none. */
MirrorTable *
object_row_table(const CatalogType *type, Oid reader)
{
	MirrorTable *table = table_cache_find(type, TABLE_READ);

	if (table != NULL && !table_shows_all(table, reader))
		ereport(
			ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("role \"%s\" may not see all rows of %s.%s",
					GetUserNameFromId(reader, false), MIRROR_SCHEMA, type->table),
			 errhint(
				 "It needs stripe_sync.grant_read(), and BYPASSRLS where row security is on.")));
	return table;
}

/* "table" may be NULL. */
void
object_row_read(MirrorTable *table, const char *id, const char *account,
				RowFound *row)
{
	memset(row, 0, sizeof(RowFound));
	if (table == NULL)
		return;
	table_cache_check(table);
	row->found = mirror_peek(table, id, account, &row->state, &row->data);
}
