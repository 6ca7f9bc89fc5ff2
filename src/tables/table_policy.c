/*
 * table_policy.c
 *		Row security of a mirror table.
 *
 * The mirror is written with the rights of the table's owner, to whom row
 * security applies only if it is forced.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/rls.h"

#include "engine/rights.h"
#include "tables/tables.h"
#include "types/types.h"

/* May the role select every row of the table? */
bool
table_shows_all(const MirrorTable *table, Oid role)
{
	return pg_class_aclcheck(table->relid, role, ACL_SELECT) == ACLCHECK_OK &&
		   check_enable_rls(table->relid, role, true) != RLS_ENABLED;
}

/*
 * Does row security apply to the table's owner, with whose rights the mirror
 * reads and writes it?
 */
bool
table_has_forced_policy(const MirrorTable *table)
{
	return check_enable_rls(table->relid, table->owner, true) == RLS_ENABLED;
}

/* A hint: how to let the mirror write a table on which row security is forced. */
char *
table_policy_hint(const CatalogType *type, Oid owner_id)
{
	const char *name = quote_identifier(type->table);
	const char *owner = quote_identifier(GetUserNameFromId(owner_id, false));

	return psprintf(
		"The mirror is written with the rights of the table's owner, to whom row security applies because it is forced. Run ALTER TABLE %s.%s NO FORCE ROW LEVEL SECURITY; or CREATE POLICY mirror ON %s.%s TO %s USING (true) WITH CHECK (true); or ALTER ROLE %s BYPASSRLS;",
		MIRROR_SCHEMA, name, MIRROR_SCHEMA, name, owner, owner);
}
