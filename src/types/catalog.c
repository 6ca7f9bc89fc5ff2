/*
 * catalog.c
 *		Looks things up in the compiled-in object types of Stripe.
 *
 * src/types/generate.pl makes the data, src/generated/catalog_data.c, and
 * checks it: catalog_types is sorted by object in byte order, and objects,
 * tables and the fields of a type are unique.  The data is constant; these
 * functions don't allocate, and also run outside the server (fuzzing).
 */
#include <string.h>

#include "types/types.h"

static int name_compare(const char *name, size_t length, const char *with);

/*
 * The type of that name, or NULL.  "object" need not be terminated: it may point
 * into an event's payload.
 */
const CatalogType *
catalog_find(const char *object, size_t length)
{
	int low = 0;
	int high = catalog_ntypes;

	while (low < high)
	{
		int middle = low + (high - low) / 2;
		int order = name_compare(object, length, catalog_types[middle].object);

		if (order == 0)
			return &catalog_types[middle];
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}

const CatalogType *
catalog_find_table(const char *table)
{
	for (int i = 0; i < catalog_ntypes; i++)
	{
		const CatalogType *type = &catalog_types[i];

		if (type->table != NULL && strcmp(type->table, table) == 0)
			return type;
	}
	return NULL;
}

const CatalogField *
catalog_field(const CatalogType *type, const char *name)
{
	for (int i = 0; i < type->nfields; i++)
	{
		if (strcmp(type->fields[i].name, name) == 0)
			return &type->fields[i];
	}
	return NULL;
}

/* Can an object of the type be requested by its id, and be stored? */
bool
catalog_is_retrievable(const CatalogType *type)
{
	return type->table != NULL && type->retrieve_path != NULL &&
		   strcmp(type->api, "v1") == 0;
}

/* The type that a page lists. */
const CatalogType *
catalog_page_type(const CatalogPage *page)
{
	return catalog_find(page->child, strlen(page->child));
}

/*
 * Is a child that a complete page leaves out deleted?  A customer's page of
 * subscriptions lists only the current ones: a canceled one is not deleted.
 */
bool
catalog_page_sweeps(const CatalogPage *page)
{
	return strcmp(page->child, "subscription") != 0;
}

/* The kind's name in object_types.json */
const char *
catalog_kind_name(FieldKind kind)
{
	switch (kind)
	{
		case KIND_STRING:
			return "string";
		case KIND_INTEGER:
			return "integer";
		case KIND_NUMBER:
			return "number";
		case KIND_DECIMAL:
			return "decimal";
		case KIND_BOOLEAN:
			return "boolean";
		case KIND_TIMESTAMP:
			return "timestamp";
		case KIND_REFERENCE:
			return "reference";
		case KIND_EMBEDDED:
			return "embedded";
		case KIND_OBJECT:
			return "object";
		case KIND_ARRAY:
			return "array";
		case KIND_LIST:
			return "list";
		case KIND_METADATA:
			return "metadata";
	}
	return NULL;
}

/* Spelled as by format_type(), so that the two can be compared. */
const char *
catalog_kind_sqltype(FieldKind kind)
{
	switch (kind)
	{
		case KIND_STRING:
		case KIND_REFERENCE:
			return "pg_catalog.text";
		case KIND_INTEGER:
			return "bigint";
		case KIND_NUMBER:
		case KIND_DECIMAL:
			return "numeric";
		case KIND_BOOLEAN:
			return "boolean";
		case KIND_TIMESTAMP:
			return "timestamp with time zone";
		case KIND_EMBEDDED:
		case KIND_OBJECT:
		case KIND_ARRAY:
		case KIND_LIST:
		case KIND_METADATA:
			return "pg_catalog.jsonb";
	}
	return NULL;
}

/* The order of memcmp(); a prefix of a name comes before it */
static int
name_compare(const char *name, size_t length, const char *with)
{
	size_t with_length = strlen(with);
	size_t common = length < with_length ? length : with_length;
	int order = memcmp(name, with, common);

	if (order != 0)
		return order;
	return (length > with_length) - (length < with_length);
}
