/*
 * table_relation.c
 *		The relation that has the name of a mirror table, and its lock.
 *
 * The search_path plays no part: names are looked up in schema stripe only.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "engine/rights.h"
#include "tables/tables.h"
#include "types/types.h"
#include "tables/internal.h"

/* What a relation is that is not a table, for a message. */
static const char *
kind_name(char relkind)
{
	switch (relkind)
	{
		case RELKIND_VIEW:
			return "a view";
		case RELKIND_MATVIEW:
			return "a materialized view";
		case RELKIND_FOREIGN_TABLE:
			return "a foreign table";
		case RELKIND_SEQUENCE:
			return "a sequence";
		case RELKIND_COMPOSITE_TYPE:
			return "a composite type";
		default:
			return "an index";
	}
}

/* May a relation of this kind be a mirror table? */
bool
table_kind_fits(char relkind)
{
	return relkind == RELKIND_RELATION || relkind == RELKIND_PARTITIONED_TABLE;
}

/* Report, at this level, that a relation of another kind has a table's name. */
void
table_report_kind(int level, const CatalogType *type, char relkind)
{
	ereport(level,
			(errcode(ERRCODE_WRONG_OBJECT_TYPE),
			 errmsg("%s.%s is %s, the mirror needs a table", MIRROR_SCHEMA,
					type->table, kind_name(relkind)),
			 errhint("Rename it, then call stripe_sync.create_tables(ARRAY[%s]).",
					 quote_literal_cstr(type->object))));
}

/* The relation that has the name of the type's table now, or InvalidOid. */
Oid
table_lookup(const CatalogType *type)
{
	Oid namespace = get_namespace_oid(MIRROR_SCHEMA, true);

	return OidIsValid(namespace) ? get_relname_relid(type->table, namespace)
								 : InvalidOid;
}

/*
 * Lock the type's table, and look its name up again: another relation may have
 * got the name during the wait for the lock.  The lock is held until the
 * transaction ends.  Returns InvalidOid if there is no relation of that name.
 */
Oid
table_lock(const CatalogType *type, LOCKMODE mode)
{
	Oid relid = table_lookup(type);

	while (OidIsValid(relid))
	{
		Oid now;

		LockRelationOid(relid, mode);
		now = table_lookup(type);
		if (now == relid)
			break;
		UnlockRelationOid(relid, mode);
		relid = now;
	}
	return relid;
}

/* The message for a type that has no table in this database. */
char *
table_lacking(const CatalogType *type)
{
	return psprintf(
		"there is no table %s.%s: call stripe_sync.create_tables(ARRAY[%s])",
		MIRROR_SCHEMA, type->table, quote_literal_cstr(type->object));
}
