/*
 * object_page.c
 *		Pages embedded in an object: {"object": "list", "data": [...]}.
 */
#include "postgres.h"

#include "base/base.h"
#include "types/object.h"

/* The page that a value is, or NULL when it is not a page. */
JsonbContainer *
object_page_of(const JsonbValue *value)
{
	JsonbContainer *page;
	JsonbValue kind;
	JsonbValue data;

	if (!json_is_object(value))
		return NULL;
	page = value->val.binary.data;
	if (!json_get(page, "object", &kind) || kind.type != jbvString ||
		kind.val.string.len != 4 || memcmp(kind.val.string.val, "list", 4) != 0 ||
		!json_get(page, "data", &data) || data.type != jbvBinary ||
		!JsonContainerIsArray(data.val.binary.data))
		return NULL;
	return page;
}

/*
 * The page in a field of an object, or NULL.  It is complete unless it
 * says that there is more.
 */
JsonbContainer *
object_page(JsonbContainer *object, const char *field, bool *complete)
{
	JsonbContainer *page;
	JsonbValue value;

	if (!json_get(object, field, &value) ||
		(page = object_page_of(&value)) == NULL)
		return NULL;
	if (complete != NULL)
		*complete = !json_get(page, "has_more", &value) ||
					(value.type == jbvBool && !value.val.boolean);
	return page;
}
