/*
 * template_path.c
 *		What a path leads to: in the event, and on into the mirror where the
 *		event holds an object's id only.
 *
 * A path that leads nowhere is missing and never an error: an alert must go
 * out whatever Stripe sends, and whether or not the mirror has its tables.
 */
#include "template.h"

#include "utils/builtins.h"
#include "utils/numeric.h"

#include "mirror.h"

typedef struct MirrorFinding
{
	const CatalogType *type;
	const char *id;
	const char *account;
	Oid reader;
	Jsonb *data; /* NULL: it isn't there */
} MirrorFinding;

/* Where a walk is. */
typedef struct Walk
{
	Render *render;
	TemplateValue *value;
	const char *field; /* the last part that was taken, or NULL */
} Walk;

/* ---- the mirror ---- */

static void
peek_body(void *arg)
{
	MirrorFinding *finding = arg;
	MirrorTable *table = table_cache_find(finding->type, TABLE_READ);
	MirrorState state;

	/* an alert may read all; who tries a template what he could select */
	if (table != NULL && (!OidIsValid(finding->reader) ||
						  table_shows_all(table, finding->reader)))
		(void) mirror_peek(table, finding->id, finding->account, &state,
						   &finding->data);
}

/* The row of an object, or NULL; a table that can't be used has no rows. */
static Jsonb *
peek(Render *render, const CatalogType *type, const char *id)
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
	if (!subtransaction_run(peek_body, finding, NULL, &error))
		finding->data = NULL;
	render->rows = lappend(render->rows, finding);
	return finding->data;
}

static bool
has_rows_by_id(const CatalogType *type)
{
	return type != NULL && type->table != NULL && type->key != NULL &&
		   strcmp(type->key, "id") == 0;
}

/* The length of the longest prefix in the catalog that the id has. */
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
			data = peek(render, type, id);
	}
	return data;
}

/* By the name of its field: "coupon", "latest_charge", "default_source". */
static Jsonb *
find_by_field(Render *render, const char *field, const char *id)
{
	for (; field != NULL; field = strchr(field, '_'))
	{
		const CatalogType *type;

		field += *field == '_';
		type = catalog_find(field, strlen(field));
		if (has_rows_by_id(type))
			return peek(render, type, id);
	}
	return NULL;
}

/*
 * The object that an id names, from the mirror, or NULL.  Users choose the ids
 * of products and coupons themselves, so the field's name counts as well.
 */
JsonbContainer *
template_mirrored(Render *render, const char *field, const char *id)
{
	Jsonb *data = find_by_prefix(render, id);

	if (data == NULL)
		data = find_by_field(render, field, id);
	return data != NULL && JB_ROOT_IS_OBJECT(data) ? &data->root : NULL;
}

/* ---- the walk ---- */

/* A field that Stripe has moved between its API versions. */
static bool
take_moved(JsonbContainer *object, const char *name, JsonbValue *json)
{
	char *kind = json_get_string(object, "object");
	const CatalogType *type = kind ? catalog_find(kind, strlen(kind)) : NULL;
	const DerivedColumn *derived;

	if (type == NULL || type->table == NULL)
		return false;
	derived = derived_find(type->table, name);
	return derived != NULL && derived->take(object, json);
}

static bool
take_field(Walk *walk, JsonbContainer *object, const char *name)
{
	TemplateValue *value = walk->value;
	char *currency = json_get_string(object, "currency");
	JsonbValue json;

	if ((!json_get(object, name, &json) || json.type == jbvNull) &&
		!take_moved(object, name, &json))
		return false;
	value->json = json;
	value->holder = object;
	if (currency != NULL)
		value->currency = currency;
	return true;
}

static bool
take_element(TemplateValue *value, JsonbContainer *array, const char *part)
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

/* Take one part of a path from where the walk is. */
static bool
take(Walk *walk, const char *part)
{
	TemplateValue *value = walk->value;
	JsonbContainer *container = NULL;

	if (value->json.type == jbvString)
	{
		char *id = template_text(&value->json);

		container = template_mirrored(walk->render, walk->field, id);
		value->currency = NULL; /* it has one of its own, or none */
	}
	else if (value->json.type == jbvBinary)
		container = value->json.val.binary.data;
	if (container == NULL)
		return false;
	if (JsonContainerIsArray(container))
		return take_element(value, container, part);
	return take_field(walk, container, part);
}

static bool
is_missing(const JsonbValue *json)
{
	return json->type == jbvNull ||
		   (json->type == jbvString && json->val.string.len == 0);
}

/* Follow a path; missing where it leads nowhere, to null or to ''. */
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
		if (!take(&walk, list_nth(path, i)))
			return;
		walk.field = list_nth(path, i);
	}
	if (!is_missing(&value->json))
		value->kind = VALUE_JSON;
}

/* ---- a value as text ---- */

static char *
container_text(JsonbContainer *container)
{
	char *text;

	/* an object that came whole instead of as its id */
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

/* Strings as they are, the rest as JSON; objects with an id as that. */
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
