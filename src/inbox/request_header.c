/*
 * request_header.c
 *		Headers of an HTTP request, as an HTTP front passes them.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "inbox/inbox.h"

/* The value of a header: a string, or the first of an array of strings. */
static text *
header_text(const JsonbValue *value)
{
	JsonbValue *first;

	if (value->type == jbvString)
		return cstring_to_text_with_len(value->val.string.val,
										value->val.string.len);
	if (value->type != jbvBinary ||
		!JsonContainerIsArray(value->val.binary.data))
		return NULL;
	first = getIthJsonbValueFromContainer(value->val.binary.data, 0);
	if (first == NULL || first->type != jbvString)
		return NULL;
	return cstring_to_text_with_len(first->val.string.val,
									first->val.string.len);
}

/*
 * The value of the header "name", or NULL.  Names of headers are
 * case-insensitive.
 */
text *
request_header(Jsonb *headers, const char *name)
{
	JsonbIterator *iterator;
	JsonbValue key;
	JsonbValue value;

	if (headers == NULL || !JB_ROOT_IS_OBJECT(headers))
		return NULL;
	iterator = JsonbIteratorInit(&headers->root);
	(void) JsonbIteratorNext(&iterator, &key, true);
	while (JsonbIteratorNext(&iterator, &key, true) == WJB_KEY)
	{
		(void) JsonbIteratorNext(&iterator, &value, true);
		if (key.val.string.len == strlen(name) &&
			pg_strncasecmp(key.val.string.val, name, key.val.string.len) == 0)
			return header_text(&value);
	}
	return NULL;
}
