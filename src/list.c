/*
 * list.c
 *		Whole lists of objects, page by page, into the mirror.
 *
 * A "list" is one of an account's: /v1/customers.  A "rest" is one of which an
 * object carries the beginning, as the page's own url has it.  The cursor is
 * the last id that is in the mirror.  list_parents.c reads lists, too.
 */
#include "sync.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"

#include "text.h"

#define MAX_NOTED	5	/* rows of a page that could not be written */
#define MAX_URL		512 /* of the rest of a page */
#define MAX_SECONDS INT64CONST(100000000000) /* of a time that is one */

/* ---- the request ---- */

/* A full stop is encoded, too: ".." would be another path. */
static bool
stays_in_path(unsigned char c)
{
	return text_is_unreserved(c) && c != '.' && c != '~';
}

/* What is from outside is one segment of a path, or one value, and no more. */
void
path_append(StringInfo path, const char *text)
{
	text_append_percent_encoded(path, text, stays_in_path);
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

/* Which page of a list: behind the cursor, from its beginning without one. */
void
path_append_page(StringInfo path, const Part *part)
{
	appendStringInfo(path, "%climit=%d",
					 strchr(path->data, '?') != NULL ? '&' : '?', part->limit);
	if (part->cursor != NULL && part->cursor[0] != '\0')
	{
		appendStringInfoString(path, "&starting_after=");
		path_append(path, part->cursor);
	}
}

char *
list_path(const Part *part)
{
	StringInfoData path;

	initStringInfo(&path);
	appendStringInfoString(
		&path,
		path_fill(part->list_path, part->parent_id ? part->parent_id : ""));
	path_append_page(&path, part);
	if (part->since != DT_NOBEGIN && part->kind == &part_list)
		appendStringInfo(&path, "&created[gte]=%lld",
						 (long long) timestamptz_to_time_t(part->since));
	return path.data;
}

/* ---- the page ---- */

/* Whose list is it?  "" where it is nobody's. */
static const char *
list_parent(const Part *part)
{
	const char *id = part->kind == &part_rest ? part->object_id
											  : part->parent_id;

	return id != NULL ? id : "";
}

/*
 * What the mirror calls an object of a list: as in a page of its parent's, where
 * it has one.  A list of an account's has each object once.
 */
static void
name_element(FetchedObject *fetched, ChildKeys *keys)
{
	PageChild child;

	if (keys->parent_id[0] == '\0')
		fetched->id = object_key(fetched->type, fetched->object);
	else if (child_take(keys, fetched->object, &child))
	{
		fetched->id = child.id;
		fetched->object = child_content(child.type, child.object,
										keys->parent_id);
	}
}

/* NULL, and a note, for what isn't an object that the mirror could hold. */
static FetchedObject *
read_element(Part *part, const PageElement *element, ChildKeys *keys,
			 TimestampTz as_of)
{
	Jsonb *document = json_parse(element->bytes, element->length);
	FetchedObject *fetched = palloc0(sizeof(FetchedObject));

	if (document == NULL || !JB_ROOT_IS_OBJECT(document))
	{
		part_note(part, "an element of a page cannot be read as jsonb");
		return NULL;
	}
	fetched->object = &document->root;
	fetched->type = child_type(fetched->object);
	if (fetched->type != NULL && fetched->type->table != NULL)
		name_element(fetched, keys);
	if (fetched->id == NULL)
	{
		part_note(
			part,
			"an element of a page is no object with an id, of a type that the catalog knows");
		return NULL;
	}
	fetched->account = part->account;
	fetched->as_of = as_of;
	return fetched;
}

static List *
read_elements(Part *part, List *elements, TimestampTz as_of)
{
	ChildKeys keys = {list_parent(part), NIL};
	List *objects = NIL;
	ListCell *cell;

	foreach(cell, elements)
	{
		FetchedObject *fetched = read_element(part, lfirst(cell), &keys, as_of);

		if (fetched != NULL)
			objects = lappend(objects, fetched);
	}
	return objects;
}

static bool
is_written(const FetchedObject *fetched)
{
	return strcmp(fetched->status, "failed") != 0 &&
		   strcmp(fetched->status, "ignored") != 0;
}

/*
 * The rows that could not be written, as far as somebody wants to read them.
 * Types that have no table are left out; not so the type that was asked for.
 */
static void
note_failures(Part *part, List *objects)
{
	int failed = 0;
	ListCell *cell;

	foreach(cell, objects)
	{
		const FetchedObject *fetched = lfirst(cell);

		if (is_written(fetched) ||
			(strcmp(fetched->status, "ignored") == 0 &&
			 strcmp(fetched->type->object, part->object_type) != 0))
			continue;
		if (++failed <= MAX_NOTED)
			part_note(part, psprintf("%s %s: %s", fetched->type->object,
									 fetched->id, fetched->detail));
	}
	if (failed > MAX_NOTED)
		part_note(part,
				  psprintf("and %d more of the same page", failed - MAX_NOTED));
	if (failed > 1 && failed == list_length(objects))
		ereport(ERROR, (errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
						errmsg("no object of a page could be written: %s",
							   ((FetchedObject *) linitial(objects))->detail)));
}

/*
 * A row that could not be written is read again by itself, and the list goes
 * on.  Where objects of its type can't be asked for by their id, the page is
 * read again.
 */
void
list_put_off_rows(const Part *part, List *objects)
{
	ListCell *cell;

	foreach(cell, objects)
	{
		const FetchedObject *fetched = lfirst(cell);

		if (strcmp(fetched->status, "failed") != 0)
			continue;
		if (!catalog_is_retrievable(fetched->type))
			ereport(ERROR, (errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
							errmsg("%s %s: %s", fetched->type->object,
								   fetched->id, fetched->detail)));
		refetch_request_retry(fetched->type, fetched->id, part->account,
							  fetched->as_of, fetched->detail);
	}
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

/* Of an object that is asked for: as of when it must be. */
static void
add_rest(const Part *part, const FetchedObject *fetched, const char *url)
{
	TimestampTz wanted = part->kind->one_object ? part->since : DT_NOBEGIN;
	static EngineStatement insert = {
		"INSERT INTO stripe_sync.job_part"
		" (job, part, kind, priority, object_type, object_id, account, list_path, since)"
		" SELECT $1, pg_catalog.max(part) + 1, 'rest', $2, $3, $4, $5, $6,"
		"  nullif($7, '-infinity')"
		"  FROM stripe_sync.job_part WHERE job = $1"
		" ON CONFLICT (job, account, kind, list_path)"
		"  WHERE list_path IS NOT NULL DO NOTHING",
		7,
		{INT8OID, INT4OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID}};
	Datum values[] = {Int64GetDatum(part->job),
					  Int32GetDatum(part->priority),
					  CStringGetTextDatum(fetched->type->object),
					  CStringGetTextDatum(fetched->id),
					  CStringGetTextDatum(part->account),
					  CStringGetTextDatum(url),
					  TimestampTzGetDatum(wanted)};

	engine_run(&insert, values, NULL, SPI_OK_INSERT);
}

/*
 * What an object does not carry whole is read as a part of the same job; what
 * such a part brings is not looked into further.
 */
void
list_add_rests(Part *part, const FetchedObject *fetched)
{
	if (part->kind == &part_rest)
		return;
	SPI_connect();
	for (int i = 0; i < fetched->type->npages; i++)
	{
		const CatalogPage *page = &fetched->type->pages[i];
		bool complete = true;
		JsonbContainer *list;
		char *url;

		if (i > 0 && strcmp(page->field, page[-1].field) == 0)
			continue; /* of several types, one list */
		list = object_page(fetched->object, page->field, &complete);
		url = list != NULL && !complete ? json_get_string(list, "url") : NULL;
		if (url != NULL && is_list_url(url))
			add_rest(part, fetched, url);
		else if (!complete)
			part_note(
				part,
				psprintf(
					"%s %s: its %s are cut short, and it does not say where the rest is",
					fetched->type->object, fetched->id, page->field));
	}
	SPI_finish();
}

/* ---- where it goes on ---- */

/* Of an object whose id isn't its first field. */
static char *
key_of(const PageElement *element)
{
	Jsonb *document = json_parse(element->bytes, element->length);

	return document != NULL && JB_ROOT_IS_OBJECT(document)
			   ? json_get_string(&document->root, "id")
			   : NULL;
}

/* Behind the page that was read, though its last element may be unreadable. */
static void
move_cursor(Part *part, List *elements)
{
	const PageElement *last = elements != NIL ? llast(elements) : NULL;
	char *id = last != NULL ? event_peek_id(last->bytes, last->length) : NULL;

	if (last != NULL && id == NULL)
		id = key_of(last);
	if (id == NULL || (part->cursor != NULL && strcmp(part->cursor, id) == 0) ||
		part_goes_round(part, id))
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
			 errmsg(
				 "the list does not end: Stripe says that there is more, and lists the same again, or nothing"),
			 answer_is_useless()));
	part_set_cursor(part, id);
}

/* When an object was made, by itself; DT_NOBEGIN where it doesn't say. */
TimestampTz
list_created(JsonbContainer *object)
{
	JsonbValue created;
	int64 seconds;

	if (!json_get(object, "created", &created) ||
		!json_to_int64(&created, &seconds) || seconds < 0 ||
		seconds > MAX_SECONDS)
		return DT_NOBEGIN;
	return time_t_to_timestamptz((pg_time_t) seconds);
}

/* Newest first: how far down to the oldest there can be? */
static void
show_progress(Part *part, List *objects)
{
	TimestampTz bottom = part->since != DT_NOBEGIN ? part->since : part->oldest;
	TimestampTz created = objects != NIL
							  ? list_created(
									((FetchedObject *) llast(objects))->object)
							  : DT_NOBEGIN;

	if (bottom != DT_NOBEGIN && bottom < part->until && created != DT_NOBEGIN)
		part_set_progress(part, (double) (part->until - created) /
									(double) (part->until - bottom));
}

/* Writes a page; true when the list goes on behind it. */
bool
list_take_page(Part *part, const ApiCall *call)
{
	bool has_more;
	List *elements = page_read(call->body, call->length, &has_more);
	List *objects = read_elements(part, elements, call->as_of);
	ListCell *cell;

	fetched_apply_page(objects);
	note_failures(part, objects);
	list_put_off_rows(part, objects);
	foreach(cell, objects)
		list_add_rests(part, lfirst(cell));
	part->pages++;
	part->objects += list_length(objects);
	if (part->until == DT_NOBEGIN || call->as_of < part->until)
		part->until = call->as_of;
	if (has_more)
		move_cursor(part, elements);
	show_progress(part, objects);
	return has_more;
}

/* A table that was dropped and made anew has nothing of the pages before. */
bool
list_has_new_table(Part *part)
{
	MirrorTable *table = table_cache_find(part_type(part), TABLE_WRITE);
	Oid former = part->mirror_table;

	if (table == NULL)
		return false;
	part->mirror_table = table->relid;
	return OidIsValid(former) && former != table->relid;
}

static void
list_take(Part *part, const ApiCall *call)
{
	if (list_has_new_table(part) && part->cursor != NULL)
		part_restart(part);
	else if (!list_take_page(part, call))
		part->finished = true;
}

/* Whose object is gone meanwhile, or whose page had a wrong url: that's that. */
static void
rest_take(Part *part, const ApiCall *call)
{
	part->finished = call->verdict != API_OK || !list_take_page(part, call);
	if (call->verdict == API_REFUSED)
	{
		char *said = psprintf("%s: %s", part->list_path, call->trouble);

		part_note(part, psprintf("%s %s: %s", part->object_type,
								 part->object_id, said));
		unread_refused(part, said);
	}
	else if (part->finished)
		unread_done(part, part->until != DT_NOBEGIN ? part->until : call->as_of);
}

/* An object that can be read by its id is, later. */
static void
list_pass_over(Part *part, const char *id, const ApiCall *call)
{
	const CatalogType *type = part_type(part);

	unread_pass_over(part, id, call);
	if (catalog_is_retrievable(type))
		refetch_request_retry(type, id, part->account,
							  call->as_of != 0 ? call->as_of : DT_NOBEGIN,
							  call->trouble);
}

static void
list_passed_over(const Part *part, char *id)
{
	if (!catalog_is_retrievable(part_type(part)))
		unread_passed_over(part, id);
}

static void
rest_pass_over(Part *part, const char *id, const ApiCall *call)
{
	unread_note(part, part->list_path, id, call);
}

const PartKind part_list = {
	.name = "list",
	.path = list_path,
	.take = list_take,
	.pass_over = list_pass_over,
	.passed_over = list_passed_over,
	.ended = backfill_part_ended,
	.cursor_may_go = CURSOR_REFUSED,
	.shrinks = true,
};
const PartKind part_rest = {
	.name = "rest",
	.path = list_path,
	.take = rest_take,
	.pass_over = rest_pass_over,
	.passed_over = unread_passed_over_rest,
	.ended = unread_over,
	.cursor_may_go = CURSOR_REFUSED,
	.takes = API_BIT(API_GONE) | API_BIT(API_REFUSED),
	.shrinks = true,
	.one_object = true,
};
