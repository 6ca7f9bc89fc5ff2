/*
 * links.c
 *		The objects that an object names: its customer, subscription, invoice,
 *		payment intent and charge.
 *
 * These names are those of the object types that they refer to.  The mirror has
 * indexes on columns of these names, so that they are followed both ways.
 */
#include "postgres.h"

#include "base/base.h"
#include "tables/tables.h"
#include "types/types.h"
#include "lookup/lookup.h"

/* In the order in which they are followed */
const char *const link_names[] = {"invoice", "payment_intent", "charge",
								  "subscription", "customer"};
const int nlink_names = lengthof(link_names);

/* Is it the name of such a type? */
bool
link_is_name(const char *name)
{
	for (int i = 0; i < nlink_names; i++)
		if (strcmp(link_names[i], name) == 0)
			return true;
	return false;
}

/* An id, or that of an expanded object; NULL if it is neither. */
static char *
id_of(const JsonbValue *value)
{
	if (value->type == jbvString && value->val.string.len > 0)
		return pnstrdup(value->val.string.val, value->val.string.len);
	return json_is_object(value) ? json_get_string(value->val.binary.data, "id")
								 : NULL;
}

static const DerivedColumn *
find_derived(const CatalogType *type, const char *name)
{
	return type->table != NULL ? derived_find(type->table, name) : NULL;
}

/* Newer API versions name a payment's intent or charge in "payment". */
static char *
get_from_payment(JsonbContainer *object, const char *name)
{
	JsonbContainer *payment = json_get_object(object, "payment");
	JsonbValue value;

	return payment != NULL && json_get(payment, name, &value) ? id_of(&value)
															  : NULL;
}

/* The id that an object gives by this name, or NULL. */
char *
link_get(const CatalogType *type, JsonbContainer *object, const char *name)
{
	const DerivedColumn *derived = find_derived(type, name);
	JsonbValue value;
	char *id = NULL;

	if (!JsonContainerIsObject(object))
		return NULL;
	if (json_get(object, name, &value))
		id = id_of(&value);
	if (id == NULL && derived != NULL && derived->take(object, &value))
		id = id_of(&value);
	if (id == NULL && strcmp(type->object, "invoice_payment") == 0)
		id = get_from_payment(object, name);
	return id;
}

/* Can the type's table be searched by this name? */
bool
link_is_column(const CatalogType *type, const char *name)
{
	const CatalogField *field = catalog_field(type, name);

	return type->table != NULL && type->nevent_types > 0 &&
		   ((field != NULL && field->kind == KIND_REFERENCE) ||
			find_derived(type, name) != NULL);
}

/* Does an object of this type belong to a customer or a payment? */
bool
link_has_any(const CatalogType *type)
{
	if (type == NULL || strcmp(type->object, "customer") == 0)
		return true;
	for (int i = 0; i < nlink_names; i++)
		if (strcmp(type->object, link_names[i]) == 0 ||
			catalog_field(type, link_names[i]) != NULL ||
			find_derived(type, link_names[i]) != NULL)
			return true;
	return false;
}
