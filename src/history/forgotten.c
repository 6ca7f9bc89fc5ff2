/*
 * forgotten.c
 *		stripe_sync.forgotten: up to when events of a type were pruned without
 *		their changes being kept.
 *
 * Of the events of that time some may be left, which came late.  Between two of
 * them others may have been, so that what lasted is not known.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "history/internal.h"
#include "types/types.h"

typedef struct Pairs
{
	ArrayBuildState *carriers;
	ArrayBuildState *types;
} Pairs;

static void
add_pair(Pairs *pairs, const CatalogType *carrier, const CatalogType *type)
{
	if (history_type_is_kept(type))
		return;
	pairs->carriers = accumArrayResult(pairs->carriers,
									   CStringGetTextDatum(carrier->object),
									   false, TEXTOID, CurrentMemoryContext);
	pairs->types = accumArrayResult(pairs->types,
									CStringGetTextDatum(type->object), false,
									TEXTOID, CurrentMemoryContext);
}

/*
 * The types that are forgotten with the events of others, as two text[]: the type
 * of the event's object, and that type or one that its pages list.
 */
void
history_forgotten_types(Datum *carriers, Datum *types)
{
	Pairs pairs = {initArrayResult(TEXTOID, CurrentMemoryContext, false),
				   initArrayResult(TEXTOID, CurrentMemoryContext, false)};

	for (int i = 0; i < catalog_ntypes; i++)
	{
		const CatalogType *type = &catalog_types[i];

		add_pair(&pairs, type, type);
		for (int j = 0; j < type->npages; j++)
			if (child_is_only_listed(catalog_page_type(&type->pages[j])))
				add_pair(&pairs, type, catalog_page_type(&type->pages[j]));
	}
	*carriers = makeArrayResult(pairs.carriers, CurrentMemoryContext);
	*types = makeArrayResult(pairs.types, CurrentMemoryContext);
}

/* Up to when the type's past is not complete; DT_NOBEGIN: it is. */
TimestampTz
forgotten_until(const CatalogType *type)
{
	static EngineStatement select = {
		"SELECT until FROM stripe_sync.forgotten WHERE object_type = $1"};

	return statement_time(DT_NOBEGIN, &select, ARGS(arg_text(type->object)));
}
