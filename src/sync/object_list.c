/*
 * object_list.c
 *		Writes lists of objects into the mirror, page by page.
 *
 * A "list" is a list of an account: /v1/customers.  A "rest" is a list whose
 * beginning an object carries; its path is the "url" of that page.  Lists of
 * another object are in nested_list.c.
 *
 * The cursor is the last id of the last page that was written.  A page is
 * written in a subtransaction of the answer's transaction, together with the
 * cursor.
 */
#include "postgres.h"

#include "base/base.h"
#include "engine/statement.h"
#include "inbox/event.h"
#include "jobs/jobs.h"
#include "jobs/part.h"
#include "mirror/mirror.h"
#include "stripe/stripe.h"
#include "tables/tables.h"
#include "types/object.h"
#include "types/types.h"
#include "sync/internal.h"

#define MAX_NOTED	5	/* rows of a page that could not be written */
#define MAX_URL		512 /* bytes, of the rest of a page */
#define MAX_SECONDS INT64CONST(100000000000) /* a later time is not believed */

/* ---- the request ---- */

/* PartKind.path of lists of objects */
char *
object_list_path(const Part *part)
{
	StringInfoData path;

	initStringInfo(&path);
	appendStringInfoString(
		&path, api_path_with_id(part->list_path,
								part->parent_id ? part->parent_id : ""));
	api_path_append_page(&path, part);
	if (part->since != DT_NOBEGIN && part->kind == &part_list)
		appendStringInfo(&path, "&created[gte]=%lld",
						 (long long) timestamptz_to_time_t(part->since));
	return path.data;
}

/* ---- the page ---- */

/* The id of the object that the list belongs to, "" for a list of the account */
static const char *
list_parent(const Part *part)
{
	const char *id = part->kind == &part_rest ? part->object_id
											  : part->parent_id;

	return id != NULL ? id : "";
}

/*
 * Set the id that an object of a list has in the mirror.  In a list that belongs
 * to a parent it is made as in an embedded page of that parent.
 */
static void
set_element_id(FetchedObject *fetched, ChildKeys *keys)
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

/* Returns NULL, and adds a note, for what the mirror can't hold. */
static FetchedObject *
read_element(Part *part, const PageElement *element, ChildKeys *keys,
			 TimestampTz as_of)
{
	Jsonb *document = json_parse(element->bytes, element->length);
	FetchedObject *fetched = palloc0(sizeof(FetchedObject));

	if (document == NULL || !JB_ROOT_IS_OBJECT(document))
	{
		part_note(part, "an element of a page could not be read as jsonb");
		return NULL;
	}
	fetched->object = &document->root;
	fetched->type = child_type(fetched->object);
	if (fetched->type != NULL && fetched->type->table != NULL)
		set_element_id(fetched, keys);
	if (fetched->id == NULL)
	{
		part_note(
			part,
			"an element of a page is not an object of a known type with an id");
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
 * Add notes about the first rows that could not be written.  Objects without a
 * mirror table are not mentioned unless they are of the list's own type.  If no
 * object of the page could be written, the page is put off as a whole.
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
 * Have the objects that could not be written read again, each by itself, so that
 * the list goes on.  Raises an error, so that the page is read again, if objects
 * of the type can't be retrieved by their id.
 */
void
object_list_retry_rows(const Part *part, List *objects)
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

/* ---- the rest of embedded pages ---- */

/* The url comes from outside: it must be a path of the API and nothing else. */
static bool
is_list_url(const char *url)
{
	return strncmp(url, "/v1/", 4) == 0 && strlen(url) < MAX_URL &&
		   strspn(url, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
					   "0123456789_-/?=&.[]%") == strlen(url);
}

/*
 * Add a part that reads the rest of a page.  For an object that was requested by
 * itself, it takes over the time that the answer must be as of.
 */
static void
add_rest(const Part *part, const FetchedObject *fetched, const char *url)
{
	static EngineStatement insert = {
		"INSERT INTO stripe_sync.job_part"
		" (job, part, kind, priority, object_type, object_id, account, list_path, since)"
		" SELECT $1, pg_catalog.max(part) + 1, 'rest', $2, $3, $4, $5, $6,"
		"  nullif($7, '-infinity')"
		"  FROM stripe_sync.job_part WHERE job = $1"
		" ON CONFLICT (job, account, kind, list_path)"
		"  WHERE list_path IS NOT NULL DO NOTHING"};
	TimestampTz as_of = part->kind->one_object ? part->since : DT_NOBEGIN;

	(void) statement_exec(
		&insert, ARGS(arg_int8(part->job), arg_int4(part->priority),
					  arg_text(fetched->type->object), arg_text(fetched->id),
					  arg_text(part->account), arg_text(url), arg_time(as_of)));
}

/*
 * Add a part to the job for each embedded page of the object that is not
 * complete.  Not done for objects of such a part itself.
 */
void
object_list_add_rests(Part *part, const FetchedObject *fetched)
{
	if (part->kind == &part_rest)
		return;
	for (int i = 0; i < fetched->type->npages; i++)
	{
		const CatalogPage *page = &fetched->type->pages[i];
		bool complete = true;
		JsonbContainer *list;
		char *url;

		if (i > 0 && strcmp(page->field, page[-1].field) == 0)
			continue; /* the same list, for another type of its elements */
		list = object_page(fetched->object, page->field, &complete);
		url = list != NULL && !complete ? json_get_string(list, "url") : NULL;
		if (url != NULL && is_list_url(url))
			add_rest(part, fetched, url);
		else if (!complete)
			part_note(
				part,
				psprintf(
					"%s %s: its %s are incomplete, and the page has no usable url for the rest",
					fetched->type->object, fetched->id, page->field));
	}
}

/* ---- cursor and progress ---- */

/* The id of an element in which it isn't the first field */
static char *
parsed_id(const PageElement *element)
{
	Jsonb *document = json_parse(element->bytes, element->length);

	return document != NULL && JB_ROOT_IS_OBJECT(document)
			   ? json_get_string(&document->root, "id")
			   : NULL;
}

/* Move the cursor to the page's last element, even if that is unreadable. */
static void
move_list_cursor(Part *part, List *elements)
{
	const PageElement *last = elements != NIL ? llast(elements) : NULL;
	char *id = last != NULL ? event_peek_id(last->bytes, last->length) : NULL;

	if (last != NULL && id == NULL)
		id = parsed_id(last);
	if (id == NULL || (part->cursor != NULL && strcmp(part->cursor, id) == 0) ||
		part_cursor_repeats(part, id))
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
			 errmsg(
				 "the list does not end: a page has \"has_more\" true, and nothing but objects already listed"),
			 answer_is_invalid()));
	part_set_cursor(part, id);
}

/* The object's "created", DT_NOBEGIN if it has none */
TimestampTz
object_created(JsonbContainer *object)
{
	JsonbValue created;
	int64 seconds;

	if (!json_get(object, "created", &created) ||
		!json_to_int64(&created, &seconds) || seconds < 0 ||
		seconds > MAX_SECONDS)
		return DT_NOBEGIN;
	return time_t_to_timestamptz((pg_time_t) seconds);
}

/*
 * Lists are newest first, so the progress is how far back the page's last object
 * is, of the time to the oldest object that there can be.
 */
static void
update_list_progress(Part *part, List *objects)
{
	TimestampTz bottom = part->since != DT_NOBEGIN ? part->since : part->oldest;
	TimestampTz created = objects != NIL
							  ? object_created(
									((FetchedObject *) llast(objects))->object)
							  : DT_NOBEGIN;

	if (bottom != DT_NOBEGIN && bottom < part->until && created != DT_NOBEGIN)
		part_set_progress(part, (double) (part->until - created) /
									(double) (part->until - bottom));
}

/*
 * Write a page into the mirror.  Returns true if the list has more pages; the
 * cursor is then moved.  Runs in the engine's scope.
 */
bool
object_list_write_page(Part *part, const ApiCall *call)
{
	bool has_more;
	List *elements = list_page_read(call->body, call->length, &has_more);
	List *objects = read_elements(part, elements, call->as_of);
	ListCell *cell;

	fetched_apply_page(objects);
	note_failures(part, objects);
	object_list_retry_rows(part, objects);
	foreach(cell, objects)
		object_list_add_rests(part, lfirst(cell));
	part->pages++;
	part->objects += list_length(objects);
	if (part->until == DT_NOBEGIN || call->as_of < part->until)
		part->until = call->as_of;
	if (has_more)
		move_list_cursor(part, elements);
	update_list_progress(part, objects);
	return has_more;
}

/*
 * Was the mirror table dropped and created anew since the last page?  Then it has
 * nothing of the pages before, and the list must be read from the top.  Notes the
 * present table.
 */
bool
object_list_table_changed(Part *part)
{
	MirrorTable *table = table_cache_find(part_type(part), TABLE_WRITE);
	Oid former = part->mirror_table;

	if (table == NULL)
		return false;
	part->mirror_table = table->relid;
	return OidIsValid(former) && former != table->relid;
}

static void
list_process(Part *part, const ApiCall *call)
{
	if (object_list_table_changed(part) && part->cursor != NULL)
		part_restart(part);
	else if (!object_list_write_page(part, call))
		part->finished = true;
}

/*
 * If the object was deleted since, or the page's url is wrong, the part is done
 * all the same.
 */
static void
rest_process(Part *part, const ApiCall *call)
{
	part->finished = call->verdict != API_OK ||
					 !object_list_write_page(part, call);
	if (call->verdict == API_REFUSED)
	{
		char *error = psprintf("%s: %s", part->list_path, call->error);

		part_note(part, psprintf("%s %s: %s", part->object_type,
								 part->object_id, error));
		unread_rest_refused(part, error);
	}
	else if (part->finished)
		unread_object_read(part, part->until != DT_NOBEGIN ? part->until
														   : call->as_of);
}

/* An object that can be retrieved by its id is requested again, later. */
static void
list_skip(Part *part, const char *id, const ApiCall *call)
{
	const CatalogType *type = part_type(part);

	unread_skip(part, id, call);
	if (catalog_is_retrievable(type))
		refetch_request_retry(type, id, part->account,
							  call->as_of != 0 ? call->as_of : DT_NOBEGIN,
							  call->error);
}

static void
list_report_skipped(const Part *part, char *id)
{
	if (!catalog_is_retrievable(part_type(part)))
		unread_report_skipped(part, id);
}

static void
rest_skip(Part *part, const char *id, const ApiCall *call)
{
	unread_note_object(part, part->list_path, id, call);
}

const PartKind part_list = {
	.name = "list",
	.path = object_list_path,
	.process = list_process,
	.skip = list_skip,
	.skipped = list_report_skipped,
	.ended = backfill_part_ended,
	.restart_on = CURSOR_REFUSED,
	.shrinks = true,
};
const PartKind part_rest = {
	.name = "rest",
	.path = object_list_path,
	.process = rest_process,
	.skip = rest_skip,
	.skipped = unread_report_skipped_rest,
	.ended = unread_part_ended,
	.restart_on = CURSOR_REFUSED,
	.accepts = API_BIT(API_GONE) | API_BIT(API_REFUSED),
	.shrinks = true,
	.one_object = true,
};
