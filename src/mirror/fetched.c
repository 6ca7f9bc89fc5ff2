/*
 * fetched.c
 *		Applies objects fetched from Stripe's API to the mirror: one object, or a
 *		page of a list.
 *
 * A fetched object is taken apart as an event's object is (snapshot.c): its own
 * row, the children that its pages list, whole objects embedded in it.  The
 * rows of all objects of a page are locked and written in one order, (rank of
 * the type, id), as if they belonged to one object: so a page and concurrent
 * events cannot deadlock.  Rows that are found while an own row is written
 * (children to sweep, late children) always have a later rank.
 *
 * Functions that take an event get a fetched object as an event without a type,
 * created at the time that the object is as of.
 *
 * Everything runs in the caller's transaction, in the engine's scope; a page in
 * subtransactions (fetched_apply_page()).
 */
#include "postgres.h"

#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "base/base.h"
#include "base/subtransaction.h"
#include "engine/engine.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "inbox/event.h"
#include "mirror/mirror.h"
#include "tables/tables.h"
#include "types/object.h"
#include "types/types.h"
#include "mirror/internal.h"

/* An object of the page */
typedef struct PageObject
{
	FetchedObject *fetched;
	Event event; /* the fetched object as an event */
	bool gone;
	List *rows;			/* of SnapshotRow */
	bool lists;			/* it is the newest, and its pages are */
	LateChildren *late; /* if it is not */
} PageObject;

/* A row of one of the objects; several objects may contain the same row */
typedef struct PageRow
{
	SnapshotRow *row;
	PageObject *object;
} PageRow;

/* Objects that are applied together; a single object is a page of one */
typedef struct FetchedPage
{
	OpenTables tables;
	List *objects; /* of PageObject */
	List *rows;	   /* of PageRow, in lock order */
	bool grown;	   /* rows of a later rank are at its end */
} FetchedPage;

/* ---- rows, in lock order ---- */

/* In lock order; rows of one key by their account, then by their part. */
static int
compare_page_rows(const ListCell *a, const ListCell *b)
{
	const SnapshotRow *left = ((PageRow *) lfirst(a))->row;
	const SnapshotRow *right = ((PageRow *) lfirst(b))->row;
	int order = snapshot_compare(left, right);

	if (order == 0)
		order = strcmp(left->account, right->account);
	return order != 0 ? order : (int) left->part - (int) right->part;
}

/* Are both for the same row of the mirror? */
static bool
same_row(const SnapshotRow *a, const SnapshotRow *b)
{
	return snapshot_compare(a, b) == 0 && strcmp(a->account, b->account) == 0;
}

/* Append a row; sort_rows() brings it into the lock order. */
static void
add_row(FetchedPage *page, PageObject *object, SnapshotRow *row)
{
	PageRow *entry = palloc(sizeof(PageRow));

	entry->row = row;
	entry->object = object;
	page->rows = lappend(page->rows, entry);
	page->grown = true;
}

/* The own row of an object that does not exist: it contains nothing else. */
static SnapshotRow *
gone_row(const Event *event)
{
	SnapshotRow *row = palloc0(sizeof(SnapshotRow));

	row->type = event->catalog;
	row->id = event->object_id;
	row->account = object_account(event->catalog, event->account);
	row->part = PART_OWN;
	return row;
}

/* Add an object of the page, with all rows that it contains. */
static void
add_page_object(FetchedPage *page, FetchedObject *fetched)
{
	PageObject *object = palloc0(sizeof(PageObject));
	Event *event = &object->event;
	JsonbValue deleted;
	ListCell *cell;

	object->fetched = fetched;
	object->gone = fetched->object == NULL ||
				   (json_get(fetched->object, "deleted", &deleted) &&
					deleted.type == jbvBool && deleted.val.boolean);
	event->id = pstrdup(FILLED_BY_FETCHED);
	event->type = pstrdup("");
	event->account = unconstify(char *, fetched->account);
	event->catalog = fetched->type;
	event->object_id = unconstify(char *, fetched->id);
	event->created = fetched->as_of;
	event->object = fetched->object;
	if (object->gone)
		object->rows = list_make1(gone_row(event));
	else
		object->rows = snapshot_rows(event->catalog, event->object_id,
									 event->account, event->object);
	page->objects = lappend(page->objects, object);
	foreach(cell, object->rows)
		add_row(page, object, lfirst(cell));
}

/* ---- one object of the page ---- */

/* Add children that the newest snapshot no longer lists; their ranks are later. */
static void
add_swept(FetchedPage *page, PageObject *object, const FetchedRow *own)
{
	ListCell *cell;

	foreach(cell, children_to_sweep(&object->event, object->rows, own->was_new,
									own->before))
		if (((SnapshotRow *) lfirst(cell))->part == PART_SWEEP)
			add_row(page, object, lfirst(cell));
}

/* Add children of a snapshot that is not the newest; their ranks are later. */
static void
add_late(FetchedPage *page, PageObject *object, const FetchedRow *own)
{
	ListCell *cell;

	object->late = late_children_begin(&page->tables, own->history,
									   object->event.account,
									   object->event.created);
	foreach(cell, late_children_rows(object->late, NIL))
		add_row(page, object, lfirst(cell));
}

/* Write the own row of an object; its children are decided by the result. */
static void
apply_fetched_own(FetchedPage *page, PageObject *object)
{
	FetchedObject *fetched = object->fetched;
	FetchedRow own = {
		.tables = &page->tables,
		.type = fetched->type,
		.id = fetched->id,
		.account = fetched->account,
		.gone = object->gone,
		.content = {.object = fetched->object, .as_of = fetched->as_of}};
	bool newest = fetched_row_apply(&own);

	fetched->status = newest ? "applied" : "stale";
	fetched->detail = own.detail;
	if (object->gone)
		return;
	object->lists = newest;
	if (newest)
		add_swept(page, object, &own);
	else
		add_late(page, object, &own);
}

/* Write one row of the page, by what it is for its object. */
static void
apply_page_row(FetchedPage *page, PageObject *object, SnapshotRow *row)
{
	MirrorContent content = {.object = row->object,
							 .as_of = object->event.created};

	if (row->part == PART_OWN)
		apply_fetched_own(page, object);
	else if (row->part == PART_CHILD && object->lists)
		fetched_row_apply_child(&page->tables, row, &content);
	else if (row->part == PART_SWEEP)
		children_sweep(&page->tables, &object->event, row);
	else if (row->part == PART_LATE)
		late_children_write(object->late, row);
	else if (row->part == PART_FILL)
		mirror_fill(&page->tables, &object->event, row);
}

/* ---- a page ---- */

/* The objects that exist, as events, for children_locks_take(). */
static List *
events_of(const FetchedPage *page)
{
	List *events = NIL;
	ListCell *cell;

	foreach(cell, page->objects)
	{
		PageObject *object = lfirst(cell);

		if (!object->gone)
			events = lappend(events, &object->event);
	}
	return events;
}

/* Sort the rows if some have been added.  Rows that are done stay in front. */
static void
sort_rows(FetchedPage *page)
{
	if (page->grown)
		list_sort(page->rows, compare_page_rows);
	page->grown = false;
}

/*
 * Write all rows.  Rows of a later rank may be added meanwhile, so that the rest
 * is sorted again whenever a rank is done.
 */
static void
apply_rows(FetchedPage *page)
{
	SnapshotRow *former = NULL;

	sort_rows(page);
	for (int i = 0; i < list_length(page->rows); i++)
	{
		PageRow *entry = list_nth(page->rows, i);

		if (former != NULL && former->type->rank != entry->row->type->rank)
		{
			sort_rows(page);
			entry = list_nth(page->rows, i);
		}
		/* the same price is embedded in many of them */
		if (former == NULL || entry->row->part != PART_FILL ||
			!same_row(former, entry->row))
			apply_page_row(page, entry->object, entry->row);
		former = entry->row;
		CHECK_FOR_INTERRUPTS();
	}
}

/* Request the rest of pages that are cut short, of objects that are the newest. */
static void
ask_for_rests(const FetchedPage *page)
{
	ListCell *cell;

	foreach(cell, page->rows)
	{
		PageRow *entry = lfirst(cell);
		PageObject *object = entry->object;

		if (entry->row->part == PART_OWN && object->lists &&
			object->fetched->asks_rest)
			mirror_ask_for_rest(&object->event);
	}
}

/* Apply the objects of one page, whose "status" and "detail" are set. */
static void
apply_objects(List *objects)
{
	FetchedPage page = {0};
	ListCell *cell;

	foreach(cell, objects)
	{
		FetchedObject *fetched = lfirst(cell);

		fetched->status = "ignored";
		fetched->detail = NULL;
		if (fetched->type->table == NULL)
			fetched->detail = psprintf("object type \"%s\" is not mirrored",
									   fetched->type->object);
		else if (table_cache_find(fetched->type, TABLE_WRITE) == NULL)
			fetched->detail = table_lacking(fetched->type);
		else
			add_page_object(&page, fetched);
	}
	children_locks_take(events_of(&page));
	apply_rows(&page);
	ask_for_rests(&page);
	mirror_close_tables(&page.tables);
}

/*
 * Apply objects in a memory context of their own; results are copied out of it.
 */
static void
apply_in_own_memory(void *arg)
{
	List *objects = arg;
	MemoryContext memory = AllocSetContextCreate(CurrentMemoryContext,
												 "stripe_sync fetched objects",
												 ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(memory);
	ListCell *cell;

	apply_objects(objects);
	MemoryContextSwitchTo(old);
	foreach(cell, objects)
	{
		FetchedObject *fetched = lfirst(cell);

		if (fetched->detail != NULL)
			fetched->detail = pstrdup(fetched->detail);
	}
	MemoryContextDelete(memory);
}

/* Apply one fetched object to the mirror; errors are raised. */
void
fetched_apply(FetchedObject *fetched)
{
	apply_in_own_memory(list_make1(fetched));
}

/* Apply one object in a subtransaction; an error becomes its detail. */
static void
apply_alone(FetchedObject *fetched)
{
	ErrorData *error;

	if (subtransaction_run(apply_in_own_memory, list_make1(fetched), NULL,
						   &error))
		return;
	fetched->status = "failed";
	fetched->detail = psprintf("%s: %s", unpack_sql_state(error->sqlerrcode),
							   error->message);
}

/*
 * Apply a page of objects in one subtransaction; if that fails, each in a
 * subtransaction of its own, so that only the rows that cannot be written are
 * missing.  The result for each object is in its "status" and "detail".
 */
void
fetched_apply_page(List *objects)
{
	ErrorData *error;
	ListCell *cell;

	if (objects == NIL ||
		subtransaction_run(apply_in_own_memory, objects, NULL, &error))
		return;
	if (list_length(objects) > 1)
		FreeErrorData(error);
	foreach(cell, objects)
		apply_alone(lfirst(cell));
}

/* ---- SQL ---- */

/* Raises 22023 if the value is not an object of a mirrored type with its key. */
static FetchedObject *
fetched_make(JsonbContainer *object, const char *account, TimestampTz as_of)
{
	FetchedObject *fetched = palloc0(sizeof(FetchedObject));
	char *type = json_get_string(object, "object");

	fetched->type = type != NULL ? catalog_find(type, strlen(type)) : NULL;
	fetched->id = fetched->type != NULL ? object_key(fetched->type, object)
										: NULL;
	if (fetched->id == NULL)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("value is not an object of a known type"),
			 errdetail(
				 "It must have an \"object\" that names a type of stripe_sync.object_type, and the key of that type.")));
	fetched->account = account;
	fetched->object = object;
	fetched->as_of = as_of;
	fetched->asks_rest = true;
	return fetched;
}

/* apply_reading(object, account, as_of) */
ENGINE_FUNCTION(stripe_sync_apply_reading)
{
	Jsonb *object = PG_GETARG_JSONB_P(0);
	FetchedObject *fetched = fetched_make(&object->root,
										  text_to_cstring(PG_GETARG_TEXT_PP(1)),
										  PG_GETARG_TIMESTAMPTZ(2));
	RoleScope scope = role_enter_engine();

	fetched_apply(fetched);
	role_leave(&scope);
	PG_RETURN_TEXT_P(cstring_to_text(fetched->status));
}

/* apply_reading_page(objects, account, as_of): the same for a JSON array */
ENGINE_FUNCTION(stripe_sync_apply_reading_page)
{
	Jsonb *array = PG_GETARG_JSONB_P(0);
	char *account = text_to_cstring(PG_GETARG_TEXT_PP(1));
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	List *objects = NIL;
	RoleScope scope;
	ListCell *cell;

	InitMaterializedSRF(fcinfo, 0);
	for (uint32 i = 0; i < JB_ROOT_COUNT(array); i++)
	{
		JsonbValue *object = getIthJsonbValueFromContainer(&array->root, i);

		objects = lappend(
			objects,
			fetched_make(json_is_object(object) ? object->val.binary.data : NULL,
						 account, PG_GETARG_TIMESTAMPTZ(2)));
	}
	if (objects != NIL)
		deferred_fire_callers(); /* errors in them belong to the caller */
	scope = role_enter_engine();
	fetched_apply_page(objects);
	role_leave(&scope);
	foreach(cell, objects)
	{
		FetchedObject *fetched = lfirst(cell);

		result_add_row(result,
					   ARGS(arg_text(fetched->id), arg_text(fetched->status),
							arg_text(fetched->detail)));
	}
	PG_RETURN_NULL();
}
