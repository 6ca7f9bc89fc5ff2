/*
 * template_path.c
 *		Follows a path through the event, and from the id of another object into
 *		the mirror.
 *
 * "customer.email" of an invoice: the event has the customer's id, and the email
 * is that of the mirror's row.  A path that can't be followed gives a missing
 * value and never an error, whether or not the mirror has the table: an alert
 * must be sent in any case.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/numeric.h"

#include "base/base.h"
#include "base/subtransaction.h"
#include "mirror/mirror.h"
#include "tables/tables.h"
#include "types/object.h"
#include "types/types.h"
#include "message/internal.h"

/* An object that was looked up, found or not */
typedef struct MirrorFinding
{
	const CatalogType *type;
	const char *id;
	const char *account;
	Oid reader;
	Jsonb *data; /* NULL: not found, or not readable */
} MirrorFinding;

/* The position of a path that is being followed */
typedef struct Walk
{
	Render *render;
	TemplateValue *value;
	const char *field; /* the last part that was followed, or NULL */
} Walk;

/* ---- the mirror ---- */

/* In a subtransaction: a table that was altered by its owner may raise. */
static void
read_object_body(void *arg)
{
	MirrorFinding *finding = arg;
	MirrorTable *table = table_cache_find(finding->type, TABLE_READ);
	MirrorState state;

	/* alerts read all tables, a preview those that its caller can select from */
	if (table != NULL && (!OidIsValid(finding->reader) ||
						  table_shows_all(table, finding->reader)))
		(void) mirror_peek(table, finding->id, finding->account, &state,
						   &finding->data);
}

/* An object of the mirror, read once for a message; NULL if not found. */
static Jsonb *
mirror_object(Render *render, const CatalogType *type, const char *id)
{
	MirrorFinding *finding;
	ListCell *cell;
	ErrorData *error;

	foreach(cell, render->rows)
	{
		finding = lfirst(cell);
		if (finding->type == type && strcmp(finding->id, id) == 0)
			return finding->data;
	}
	finding = palloc0(sizeof(MirrorFinding));
	finding->type = type;
	finding->id = id;
	finding->account = object_account(type, render->event->account);
	finding->reader = render->reader;
	if (!subtransaction_run(read_object_body, finding, NULL, &error))
		finding->data = NULL;
	render->rows = lappend(render->rows, finding);
	return finding->data;
}

/* Does the mirror have a table of the type, with "id" as its key? */
static bool
has_rows_by_id(const CatalogType *type)
{
	return type != NULL && type->table != NULL && type->key != NULL &&
		   strcmp(type->key, "id") == 0;
}

/* The length of the longest prefix ("cus_") in the catalog that the id has; 0 */
static size_t
prefix_length(const char *id)
{
	size_t longest = 0;

	for (int i = 0; i < catalog_ntypes; i++)
	{
		const char *prefix = catalog_types[i].id_prefix;
		size_t length = prefix ? strlen(prefix) : 0;

		if (length > longest && strncmp(id, prefix, length) == 0)
			longest = length;
	}
	return longest;
}

/* Several types may share a prefix; the first that has the object counts. */
static Jsonb *
find_by_prefix(Render *render, const char *id)
{
	size_t length = prefix_length(id);
	Jsonb *data = NULL;

	for (int i = 0; length > 0 && data == NULL && i < catalog_ntypes; i++)
	{
		const CatalogType *type = &catalog_types[i];

		if (type->id_prefix != NULL && strlen(type->id_prefix) == length &&
			strncmp(id, type->id_prefix, length) == 0 && has_rows_by_id(type))
			data = mirror_object(render, type, id);
	}
	return data;
}

/*
 * By the name of the field that has the id, and that without its first words:
 * "coupon", "latest_charge", "default_source".
 */
static Jsonb *
find_by_field(Render *render, const char *field, const char *id)
{
	for (; field != NULL; field = strchr(field, '_'))
	{
		const CatalogType *type;

		field += *field == '_';
		type = catalog_find(field, strlen(field));
		if (has_rows_by_id(type))
			return mirror_object(render, type, id);
	}
	return NULL;
}

/*
 * The object with that id, from the mirror; NULL if not found.  "field" is the
 * field that has the id, or NULL: users choose the ids of products and coupons
 * themselves, so the prefix alone is not enough.
 */
JsonbContainer *
template_mirrored(Render *render, const char *field, const char *id)
{
	Jsonb *data = find_by_prefix(render, id);

	if (data == NULL)
		data = find_by_field(render, field, id);
	return data != NULL && JB_ROOT_IS_OBJECT(data) ? &data->root : NULL;
}

/* ---- follow ---- */

/* A field that another API version has elsewhere in the object */
static bool
follow_moved_field(JsonbContainer *object, const char *name, JsonbValue *json)
{
	char *kind = json_get_string(object, "object");
	const CatalogType *type = kind ? catalog_find(kind, strlen(kind)) : NULL;
	const DerivedColumn *derived;

	if (type == NULL || type->table == NULL)
		return false;
	derived = derived_find(type->table, name);
	return derived != NULL && derived->take(object, json);
}

/* A field of an object; remembers the currency of the object. */
static bool
follow_field(Walk *walk, JsonbContainer *object, const char *name)
{
	TemplateValue *value = walk->value;
	char *currency = json_get_string(object, "currency");
	JsonbValue json;

	if ((!json_get(object, name, &json) || json.type == jbvNull) &&
		!follow_moved_field(object, name, &json))
		return false;
	value->json = json;
	value->holder = object;
	if (currency != NULL)
		value->currency = currency;
	return true;
}

/* An element of an array, by its number from 0 */
static bool
follow_element(TemplateValue *value, JsonbContainer *array, const char *part)
{
	JsonbValue *element;

	if (strspn(part, "0123456789") != strlen(part) || strlen(part) > 9)
		return false;
	element = getIthJsonbValueFromContainer(array, (uint32) atoi(part));
	if (element == NULL)
		return false;
	value->json = *element;
	value->holder = NULL;
	return true;
}

/* Follow one part of the path.  A string is taken for the id of an object. */
static bool
follow_part(Walk *walk, const char *part)
{
	TemplateValue *value = walk->value;
	JsonbContainer *container = NULL;

	if (value->json.type == jbvString)
	{
		char *id = template_text(&value->json);

		container = template_mirrored(walk->render, walk->field, id);
		value->currency = NULL; /* the object has its own, or none */
	}
	else if (value->json.type == jbvBinary)
		container = value->json.val.binary.data;
	if (container == NULL)
		return false;
	if (JsonContainerIsArray(container))
		return follow_element(value, container, part);
	return follow_field(walk, container, part);
}

static bool
is_missing(const JsonbValue *json)
{
	return json->type == jbvNull ||
		   (json->type == jbvString && json->val.string.len == 0);
}

/* Follow a path.  The value is missing if there is none, or null or ''. */
void
template_find(Render *render, List *path, TemplateValue *value)
{
	Walk walk = {render, value, NULL};
	JsonbContainer *start = render->event->object;
	int first = 0;

	memset(value, 0, sizeof(*value));
	if (strcmp(linitial(path), "event") == 0)
	{
		start = &render->event->document->root;
		first = 1;
	}
	if (start == NULL)
		return;
	value->json.type = jbvBinary;
	value->json.val.binary.data = start;
	for (int i = first; i < list_length(path); i++)
	{
		if (!follow_part(&walk, list_nth(path, i)))
			return;
		walk.field = list_nth(path, i);
	}
	if (!is_missing(&value->json))
		value->kind = VALUE_JSON;
}

/* ---- a value as text ---- */

/* An array or object: the id of one of Stripe's, else JSON, cut */
static char *
container_text(JsonbContainer *container)
{
	char *text;

	/* expanded: Stripe sent the object instead of its id */
	if (json_get_string(container, "object") != NULL &&
		(text = json_get_string(container, "id")) != NULL)
		return text;
	text = JsonbToCString(NULL, container, 0);
	if (pg_mbstrlen(text) > TEMPLATE_JSON_CHARS)
	{
		text[pg_mbcharcliplen(text, strlen(text), TEMPLATE_JSON_CHARS - 1)] = '\0';
		text = psprintf("%s…", text);
	}
	return text;
}

/* Strings as they are, objects of Stripe's as their id, the rest as JSON */
char *
template_text(const JsonbValue *json)
{
	switch (json->type)
	{
		case jbvString:
			return pnstrdup(json->val.string.val, json->val.string.len);
		case jbvNumeric:
			return DatumGetCString(DirectFunctionCall1(
				numeric_out, NumericGetDatum(json->val.numeric)));
		case jbvBool:
			return pstrdup(json->val.boolean ? "true" : "false");
		case jbvBinary:
			return container_text(json->val.binary.data);
		default:
			return pstrdup("null");
	}
}

/* Make it text, which is escaped where it is put. */
void
template_value_set(TemplateValue *value, char *text)
{
	value->kind = VALUE_TEXT;
	value->text = text;
}

/* The value as text; NULL if it is missing, or markup already. */
char *
template_value_text(TemplateValue *value)
{
	if (value->kind == VALUE_JSON)
		return template_text(&value->json);
	return value->kind == VALUE_TEXT ? value->text : NULL;
}
