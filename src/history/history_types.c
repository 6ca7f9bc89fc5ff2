/*
 * history_types.c
 *		stripe_sync.history_types: the types whose changes are kept when their
 *		events are pruned.
 */
#include "postgres.h"

#include "utils/guc.h"
#include "utils/varlena.h"

#include "base/base.h"
#include "history/internal.h"
#include "types/object.h"
#include "types/types.h"

/* A type by its name; raises 22023. */
const CatalogType *
history_type_named(const char *name)
{
	const CatalogType *type = catalog_find(name, strlen(name));

	if (type == NULL || type->table == NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("there are no objects of type \"%s\"", name),
						errhint("%s", object_type_hint(name))));
	return type;
}

/* The check of the setting's value. */
static bool
types_fit(const char *names)
{
	char *copy = pstrdup(names);
	List *parts;
	ListCell *cell;

	if (!SplitIdentifierString(copy, ',', &parts))
	{
		GUC_check_errdetail("The names must be separated by commas.");
		return false;
	}
	foreach(cell, parts)
	{
		const char *name = lfirst(cell);
		const CatalogType *type = catalog_find(name, strlen(name));

		if (type != NULL && type->table != NULL)
			continue;
		GUC_check_errdetail("There are no objects of type \"%s\".", name);
		GUC_check_errhint(
			"SELECT object_type FROM stripe_sync.object_type WHERE table_name IS NOT NULL shows the types.");
		return false;
	}
	return true;
}

/* Called before the settings are defined. */
void
history_init(void)
{
	guc_history_types_fit = types_fit;
}

/* The types of the setting, of CatalogType. */
List *
history_kept_types(void)
{
	List *types = NIL;
	List *parts;
	ListCell *cell;

	if (!SplitIdentifierString(pstrdup(guc_history_types), ',', &parts))
		return NIL;
	foreach(cell, parts)
	{
		const CatalogType *type = catalog_find(lfirst(cell),
											   strlen(lfirst(cell)));

		if (type != NULL)
			types = list_append_unique_ptr(types,
										   unconstify(CatalogType *, type));
	}
	return types;
}

bool
history_type_is_kept(const CatalogType *type)
{
	return list_member_ptr(history_kept_types(), type);
}

/* The types whose events carry objects of kept types, of CatalogType. */
List *
history_carrier_types(void)
{
	List *carriers = NIL;
	ListCell *cell;

	foreach(cell, history_kept_types())
	{
		const CatalogType *type = lfirst(cell);

		if (child_is_only_listed(type))
			carriers = list_concat_unique_ptr(carriers,
											  child_parent_types(type));
		else
			carriers = list_append_unique_ptr(carriers,
											  unconstify(CatalogType *, type));
	}
	return carriers;
}
