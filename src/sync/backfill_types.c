/*
 * backfill_types.c
 *		The types of objects that a backfill reads.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "tables/tables.h"
#include "types/object.h"
#include "types/types.h"
#include "sync/internal.h"

/* Is it a type of which an account has a single object, without an id? */
bool
backfill_type_is_single(const CatalogType *type)
{
	return type->retrieve_path != NULL && type->key != NULL &&
		   type->key[0] == '\0';
}

/* Can objects of the type be listed, by themselves or in what carries them? */
static bool
is_readable(const CatalogType *type)
{
	if (type->table == NULL || strcmp(type->api, "v1") != 0)
		return false;
	if (type->nlists > 0 || backfill_type_is_single(type))
		return true;
	for (int i = 0; i < catalog_ntypes; i++)
		for (int j = 0; j < catalog_types[i].npages; j++)
			if (strcmp(catalog_types[i].pages[j].child, type->object) == 0 &&
				catalog_types[i].nlists > 0)
				return true;
	return false;
}

/* The type's place in the catalog; raises an error if it can't be read. */
static int
type_place(const char *object)
{
	const CatalogType *type = catalog_find(object, strlen(object));

	if (type == NULL || !is_readable(type))
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("Stripe has no list of objects of type \"%s\"", object),
			 errhint(
				 "Types are named as in Stripe's \"object\" field: 'customer', 'checkout.session'. %s",
				 object_type_hint(object))));
	if (!OidIsValid(table_lookup(type)))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("there is no table for objects of type \"%s\"", object),
				 errhint("SELECT stripe_sync.create_tables(ARRAY[%s])",
						 quote_literal_cstr(object))));
	return (int) (type - catalog_types);
}

/*
 * All types with a table, but not events: they are read by reconcile, and are in
 * the inbox.
 */
static void
want_all(bool *wanted)
{
	for (int i = 0; i < catalog_ntypes; i++)
		wanted[i] = is_readable(&catalog_types[i]) &&
					strcmp(catalog_types[i].object, "event") != 0 &&
					OidIsValid(table_lookup(&catalog_types[i]));
}

/* Returns true if the type was added. */
static bool
want(bool *wanted, const CatalogType *type)
{
	int place = (int) (type - catalog_types);

	if (wanted[place] || !is_readable(type) || !OidIsValid(table_lookup(type)))
		return false;
	wanted[place] = true;
	return true;
}

/*
 * A type whose objects have the list of a wanted type, or carry it, must be read
 * too.  Returns true if a type was added.
 */
static bool
want_parents(bool *wanted, const CatalogType *type)
{
	bool more = false;

	for (int i = 0; i < type->nlists; i++)
	{
		const char *parent = type->lists[i].parent;

		if (parent != NULL)
			more |= want(wanted, catalog_find(parent, strlen(parent)));
	}
	if (type->nlists > 0)
		return more;
	for (int i = 0; i < catalog_ntypes; i++)
		for (int j = 0; j < catalog_types[i].npages; j++)
			if (strcmp(catalog_types[i].pages[j].child, type->object) == 0)
				more |= want(wanted, &catalog_types[i]);
	return more;
}

static void
want_named(bool *wanted, ArrayType *names)
{
	Datum *values;
	bool *nulls;
	int count;

	deconstruct_array(names, TEXTOID, -1, false, TYPALIGN_INT, &values, &nulls,
					  &count);
	if (count == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the list of object types is empty"),
						errhint("Use NULL for all types.")));
	for (int i = 0; i < count; i++)
	{
		if (nulls[i])
			ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
							errmsg("an object type cannot be NULL")));
		wanted[type_place(TextDatumGetCString(values[i]))] = true;
	}
}

static void
want_all_parents(bool *wanted)
{
	bool more = true;

	while (more)
	{
		more = false;
		for (int i = 0; i < catalog_ntypes; i++)
			if (wanted[i])
				more |= want_parents(wanted, &catalog_types[i]);
	}
}

static void
check_not_empty(const bool *wanted)
{
	for (int i = 0; i < catalog_ntypes; i++)
		if (wanted[i])
			return;
	ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("there are no tables to read into"),
					errhint("SELECT * FROM stripe_sync.create_tables()")));
}

/*
 * Which types to read: an array by the type's place in the catalog.  "names" is
 * a text[], or NULL for all types that have a table.  Raises 22023 for a type
 * that isn't listed, 55000 if a table is missing.
 */
bool *
backfill_types_wanted(ArrayType *names)
{
	bool *wanted = palloc0(sizeof(bool) * catalog_ntypes);

	if (names == NULL)
		want_all(wanted);
	else
	{
		want_named(wanted, names);
		want_all_parents(wanted);
	}
	check_not_empty(wanted);
	return wanted;
}
