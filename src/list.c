/*
 * list.c
 *		Whole lists of objects, page by page, into the mirror.
 *
 * Kinds of parts:
 *
 *	age			none: the account, which says how far back its lists can go
 *	list		a list of the account's: /v1/customers
 *	children	a list for each object of another type in the mirror, one after
 *				the other: /v1/customers/{id}/sources
 *	rest		one such list, of which an object carries the beginning
 *
 * The cursor is the last id that is in the mirror; of "children" it is within
 * the list of parent_id, and empty when that one is done.
 */
#include "stripe_api.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/numeric.h"

#define MAX_NOTED	 5	  /* rows of a page that could not be written */
#define MAX_REFUSALS 10	  /* lists of parents, one after the other */
#define MAX_URL		 512  /* of the rest of a page */
#define MAX_SECONDS	 1e11 /* of a time that is one */

/* ---- the request ---- */

/* What is from outside is one segment of a path, or one value, and no more. */
void
path_append(StringInfo path, const char *text)
{
	for (; *text != '\0'; text++)
		if (strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				   "0123456789_-",
				   *text) != NULL)
			appendStringInfoChar(path, *text);
		else
			appendStringInfo(path, "%%%02X", (unsigned char) *text);
}

/* A path of the catalog's, with an object's id in its {id}. */
char *
path_fill(const char *pattern, const char *id)
{
	const char *hole = strchr(pattern, '{');
	StringInfoData path;

	initStringInfo(&path);
	if (hole == NULL)
	{
		appendStringInfoString(&path, pattern);
		return path.data;
	}
	appendBinaryStringInfo(&path, pattern, (int) (hole - pattern));
	path_append(&path, id);
	appendStringInfoString(&path, strchr(hole, '}') + 1);
	return path.data;
}

static char *
list_path(const Part *part)
{
	const char *parent = part->parent_id ? part->parent_id : "";
	char *bare = path_fill(part->list_path, parent);
	StringInfoData path;

	initStringInfo(&path);
	appendStringInfo(&path, "%s%climit=%d", bare,
					 strchr(bare, '?') != NULL ? '&' : '?', part->limit);
	if (part->since != DT_NOBEGIN)
		appendStringInfo(&path, "&created[gte]=%lld",
						 (long long) timestamptz_to_time_t(part->since));
	if (part->cursor != NULL && part->cursor[0] != '\0')
	{
		appendStringInfoString(&path, "&starting_after=");
		path_append(&path, part->cursor);
	}
	return path.data;
}

/* ---- the page ---- */

/* NULL, and a note, for what isn't an object that the mirror could hold. */
static Reading *
read_element(Part *part, const PageElement *element, TimestampTz as_of)
{
	Jsonb *document = json_parse(element->bytes, element->length);
	Reading *reading = palloc0(sizeof(Reading));
	char *type;

	if (document == NULL || !JB_ROOT_IS_OBJECT(document))
	{
		part_note(part, "an element of a page cannot be read as jsonb");
		return NULL;
	}
	reading->object = &document->root;
	type = json_get_string(reading->object, "object");
	reading->type = type != NULL ? catalog_find(type, strlen(type)) : NULL;
	if (reading->type != NULL && reading->type->table != NULL)
		reading->id = snapshot_key(reading->type, reading->object);
	if (reading->id == NULL)
	{
		part_note(
			part,
			"an element of a page is no object with an id, of a type that the catalog knows");
		return NULL;
	}
	reading->account = part->account;
	reading->as_of = as_of;
	return reading;
}

static List *
read_elements(Part *part, List *elements, TimestampTz as_of)
{
	List *readings = NIL;
	ListCell *cell;

	foreach(cell, elements)
	{
		Reading *reading = read_element(part, lfirst(cell), as_of);

		if (reading != NULL)
			readings = lappend(readings, reading);
	}
	return readings;
}

/* The rows that could not be written, as far as somebody wants to read them. */
static void
note_failures(Part *part, List *readings)
{
	int failed = 0;
	ListCell *cell;

	foreach(cell, readings)
	{
		const Reading *reading = lfirst(cell);

		if (strcmp(reading->status, "failed") == 0 && ++failed <= MAX_NOTED)
			part_note(part, psprintf("%s %s: %s", reading->type->object,
									 reading->id, reading->detail));
	}
	if (failed > MAX_NOTED)
		part_note(part,
				  psprintf("and %d more of the same page", failed - MAX_NOTED));
}

/* ---- pages that objects carry the beginning of ---- */

/* From outside: a path of the API's, and nothing else. */
static bool
is_list_url(const char *url)
{
	return strncmp(url, "/v1/", 4) == 0 && strlen(url) < MAX_URL &&
		   strspn(url, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
					   "0123456789_-/?=&.[]%") == strlen(url);
}

static void
add_rest(const Part *part, const Reading *reading, const char *url)
{
	static EngineStatement insert = {
		"INSERT INTO stripe_sync.job_part"
		" (job, part, kind, priority, object_type, object_id, account, list_path)"
		" SELECT $1, pg_catalog.max(part) + 1, 'rest', $2, $3, $4, $5, $6"
		"  FROM stripe_sync.job_part WHERE job = $1",
		6,
		{INT8OID, INT4OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID}};
	Datum values[] = {Int64GetDatum(part->job),
					  Int32GetDatum(part->priority),
					  CStringGetTextDatum(reading->type->object),
					  CStringGetTextDatum(reading->id),
					  CStringGetTextDatum(part->account),
					  CStringGetTextDatum(url)};

	engine_run(&insert, values, NULL, SPI_OK_INSERT);
}

/* What an object does not carry whole is read as a part of the same job. */
void
list_add_rests(const Part *part, const Reading *reading)
{
	SPI_connect();
	for (int i = 0; i < reading->type->npages; i++)
	{
		const CatalogPage *page = &reading->type->pages[i];
		bool complete = true;
		JsonbContainer *list;
		char *url;

		if (i > 0 && strcmp(page->field, page[-1].field) == 0)
			continue; /* of several types, one list */
		list = snapshot_page(reading->object, page->field, &complete);
		url = list != NULL && !complete ? json_get_string(list, "url") : NULL;
		if (url != NULL && is_list_url(url))
			add_rest(part, reading, url);
	}
	SPI_finish();
}

/* ---- where it goes on ---- */

static void
begin_lap(Part *part)
{
	part->tortoise = NULL;
	part->steps = 0;
	part->lap = 1;
}

/*
 * Does the list go round in a circle?  Brent's way of finding out: a cursor is
 * kept and compared with those that follow, for twice as many each time.
 */
bool
list_goes_round(Part *part, const char *last)
{
	if (part->lap == 0)
		begin_lap(part);
	if (part->tortoise != NULL && strcmp(part->tortoise, last) == 0)
		return true;
	if (++part->steps >= part->lap)
	{
		if (part->tortoise != NULL)
			pfree(part->tortoise);
		part->tortoise = MemoryContextStrdup(part->memory, last);
		part->steps = 0;
		part->lap *= 2;
	}
	return false;
}

/* Behind the page that was read. */
static void
move_cursor(Part *part, List *readings)
{
	const Reading *last = readings != NIL ? llast(readings) : NULL;

	if (last == NULL ||
		(part->cursor != NULL && strcmp(part->cursor, last->id) == 0) ||
		list_goes_round(part, last->id))
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
			 errmsg(
				 "the list does not end: Stripe says that there is more, and lists the same again, or nothing")));
	part_set_cursor(part, last->id);
}

/* When an object was made, by itself; DT_NOBEGIN where it doesn't say. */
static TimestampTz
created_of(JsonbContainer *object)
{
	JsonbValue created;
	double seconds;

	if (!json_get(object, "created", &created) || created.type != jbvNumeric)
		return DT_NOBEGIN;
	seconds = DatumGetFloat8(DirectFunctionCall1(
		numeric_float8, NumericGetDatum(created.val.numeric)));
	if (!(seconds >= 0 && seconds < MAX_SECONDS))
		return DT_NOBEGIN;
	return time_t_to_timestamptz((pg_time_t) seconds);
}

/* Newest first: how far down to the oldest there can be? */
static void
show_progress(Part *part, List *readings)
{
	TimestampTz bottom = part->since != DT_NOBEGIN ? part->since : part->oldest;
	TimestampTz created = readings != NIL
							  ? created_of(((Reading *) llast(readings))->object)
							  : DT_NOBEGIN;

	if (bottom != DT_NOBEGIN && bottom < part->until && created != DT_NOBEGIN)
		part_set_progress(part, (double) (part->until - created) /
									(double) (part->until - bottom));
}

/* Writes a page; true when the list goes on behind it. */
static bool
take_page(Part *part, const ApiCall *call)
{
	bool has_more;
	List *elements = page_read(call->body, call->length, &has_more);
	List *readings = read_elements(part, elements, call->as_of);
	ListCell *cell;

	mirror_read_page(readings);
	note_failures(part, readings);
	foreach(cell, readings)
		list_add_rests(part, lfirst(cell));
	part->pages++;
	part->objects += list_length(readings);
	if (part->until == DT_NOBEGIN || call->as_of < part->until)
		part->until = call->as_of;
	if (has_more)
		move_cursor(part, readings);
	show_progress(part, readings);
	return has_more;
}

static void
list_take(Part *part, const ApiCall *call)
{
	if (!take_page(part, call))
		part->finished = true;
}

/* ---- how far back lists can go ---- */

static char *
age_path(const Part *part)
{
	return pstrdup(OWN_ACCOUNT);
}

/* An account is older than all that it has; a key that may not see it is fine. */
static void
age_take(Part *part, const ApiCall *call)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.job_part SET oldest = $3"
		" WHERE job = $1 AND account = $2 AND kind = 'list'",
		3,
		{INT8OID, TEXTOID, TIMESTAMPTZOID}};
	Datum values[] = {Int64GetDatum(part->job),
					  CStringGetTextDatum(part->account), 0};
	Reading account = {0};
	TimestampTz created;

	part->finished = true;
	if (call->verdict != API_OK || !object_from(call, &account))
		return;
	created = created_of(account.object);
	if (created == DT_NOBEGIN)
		return;
	values[2] = TimestampTzGetDatum(created);
	SPI_connect();
	engine_run(&update, values, NULL, SPI_OK_UPDATE);
	SPI_finish();
}

/* ---- a list for each parent ---- */

static const CatalogList *
find_list(const Part *part, const CatalogType *type)
{
	for (int i = 0; i < type->nlists; i++)
		if (strcmp(type->lists[i].path, part->list_path) == 0)
			return &type->lists[i];
	elog(ERROR, "\"%s\" is no list of \"%s\"", part->list_path, type->object);
}

static char *
next_parent(const Part *part)
{
	const CatalogType *type = catalog_find(part->object_type,
										   strlen(part->object_type));
	const char *name = find_list(part, type)->parent;
	const CatalogType *parent = catalog_find(name, strlen(name));
	Oid types[] = {TEXTOID, TEXTOID, TIMESTAMPTZOID};
	Datum values[] = {
		CStringGetTextDatum(part->parent_id ? part->parent_id : ""),
		CStringGetTextDatum(snapshot_account(parent, part->account)),
		TimestampTzGetDatum(part->since)};
	bool by_time = part->since != DT_NOBEGIN &&
				   catalog_field(parent, "created") != NULL;
	char *sql = psprintf(
		"SELECT id FROM %s.%s WHERE id OPERATOR(pg_catalog.>) $1"
		" AND _account OPERATOR(pg_catalog.=) $2 AND _deleted_at IS NULL"
		"%s ORDER BY id LIMIT 1",
		MIRROR_SCHEMA, quote_identifier(parent->table),
		by_time ? " AND created OPERATOR(pg_catalog.>=) $3" : "");

	if (SPI_execute_with_args(sql, by_time ? 3 : 2, types, values, NULL, true,
							  1) != SPI_OK_SELECT)
		elog(ERROR, "\"%s\" failed", sql);
	return SPI_processed == 0
			   ? NULL
			   : SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
}

/* The parent whose list is next; the part is finished when there is none. */
static void
children_next(Part *part)
{
	if (part->parent_id != NULL &&
		(part->cursor == NULL || part->cursor[0] != '\0'))
	{
		part->ready = true; /* in the middle of its list */
		return;
	}
	SPI_connect();
	if (part->object_id == NULL)
		part_set_parent(part, next_parent(part));
	else /* of this one alone */
		part_set_parent(part, part->parent_id == NULL ? part->object_id : NULL);
	SPI_finish();
	part_set_cursor(part, NULL);
	begin_lap(part);
	part->ready = part->parent_id != NULL;
	part->finished = !part->ready;
}

/*
 * A parent that is gone, or that Stripe keeps no such list for, costs itself
 * alone; a list that no parent has is given up.
 */
static void
children_take(Part *part, const ApiCall *call)
{
	if (call->verdict == API_OK)
	{
		part->refusals = 0;
		if (take_page(part, call))
			return;
	}
	else if (call->verdict == API_REFUSED)
	{
		if (++part->refusals >= MAX_REFUSALS)
			ereport(ERROR, (errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
							errmsg("%s", call->trouble)));
		part_note(part, psprintf("%s: %s", part->parent_id, call->trouble));
	}
	part_set_cursor(part, "");
}

const PartKind part_age = {.name = "age",
						   .path = age_path,
						   .take = age_take,
						   .takes = API_BIT(API_REFUSED) | API_BIT(API_GONE) |
									API_BIT(API_FORBIDDEN)};
const PartKind part_list = {.name = "list", .path = list_path, .take = list_take};
const PartKind part_rest = {.name = "rest", .path = list_path, .take = list_take};
const PartKind part_children = {
	.name = "children",
	.path = list_path,
	.take = children_take,
	.next = children_next,
	.takes = API_BIT(API_GONE) | API_BIT(API_REFUSED),
};
