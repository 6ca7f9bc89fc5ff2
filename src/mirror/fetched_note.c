/*
 * fetched_note.c
 *		Notes of fetched objects that the mirror has since replaced.
 *
 * A fetch that finds an object alive ends every deletion of it before that
 * time.  This must still be known after a later event, or a deletion, has
 * replaced the fetched object in the row, because an older deletion may arrive
 * after that.  What its complete pages listed must be known too, for the
 * children of events that arrive late.
 *
 * stripe_sync.reading keeps this of the latest such fetch, for types that can
 * be deleted or have pages.  Nothing is known of earlier ones, so that the
 * order of arrival can change since when a child that several fetches left out
 * is deleted.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/json.h"

#include "base/base.h"
#include "engine/engine.h"
#include "engine/statement.h"
#include "inbox/event.h"
#include "mirror/mirror.h"
#include "tables/tables.h"
#include "types/object.h"
#include "types/types.h"
#include "mirror/internal.h"

/* Are notes kept of objects of this type? */
bool
fetched_note_is_kept(const CatalogType *type)
{
	for (int i = 0; i < type->nevent_types; i++)
		if (event_type_deletes(type->event_types[i]))
			return true;
	for (int i = 0; i < type->npages; i++)
		if (catalog_page_sweeps(&type->pages[i]))
			return true;
	return false;
}

static void
append_child(StringInfo out, const CatalogType *child, const char *id)
{
	appendStringInfoString(out, "{\"object\":");
	escape_json(out, child->object);
	appendStringInfoChar(out, ',');
	escape_json(out, child->key);
	appendStringInfoChar(out, ':');
	escape_json(out, id);
	appendStringInfoChar(out, '}');
}

/* A complete page, reduced to the types and ids of its children. */
static void
append_page(StringInfo out, const CatalogPage *page, const char *id,
			JsonbContainer *list)
{
	int begin;
	ListCell *cell;

	if (out->len > 1)
		appendStringInfoChar(out, ',');
	escape_json(out, page->field);
	appendStringInfoString(out, ":{\"object\":\"list\",\"data\":[");
	begin = out->len;
	foreach(cell, child_list(id, list))
	{
		const PageChild *child = lfirst(cell);

		if (out->len > begin)
			appendStringInfoChar(out, ',');
		append_child(out, child->type, child->id);
	}
	appendStringInfoString(out, "]}");
}

/* The complete pages of an object; NULL when there are none. */
static Jsonb *
complete_pages(const CatalogType *type, const char *id, JsonbContainer *object)
{
	StringInfoData out;

	initStringInfo(&out);
	appendStringInfoChar(&out, '{');
	for (int i = 0; object != NULL && i < type->npages; i++)
	{
		const CatalogPage *page = &type->pages[i];
		bool complete;
		JsonbContainer *list;

		if (i > 0 && strcmp(page->field, page[-1].field) == 0)
			continue; /* one list with children of several types */
		list = object_page(object, page->field, &complete);
		if (list != NULL && complete && catalog_page_sweeps(page))
			append_page(&out, page, id, list);
	}
	appendStringInfoChar(&out, '}');
	return out.len > 2 ? json_parse(out.data, out.len) : NULL;
}

/*
 * Note when the object was fetched alive and which complete pages it had.  The
 * latest of each is kept.
 */
void
fetched_note_write(const CatalogType *type, const char *id, const char *account,
				   TimestampTz as_of, JsonbContainer *object)
{
	static EngineStatement note = {
		"INSERT INTO stripe_sync.reading AS r (object_type, object_id, account, as_of, pages, pages_as_of)"
		" VALUES ($1, $2, $3, $4, $5, $6)"
		" ON CONFLICT (object_id, object_type, account) DO UPDATE"
		" SET as_of = GREATEST(r.as_of, excluded.as_of),"
		"   pages = CASE WHEN excluded.pages_as_of >="
		"     COALESCE(r.pages_as_of, excluded.pages_as_of) THEN excluded.pages ELSE r.pages END,"
		"   pages_as_of = GREATEST(r.pages_as_of, excluded.pages_as_of)"};
	Jsonb *pages = complete_pages(type, id, object);

	statement_exec(&note,
				   ARGS(arg_text(type->object), arg_text(id), arg_text(account),
						arg_time(as_of), arg_jsonb(pages),
						arg_if(pages != NULL, arg_time(as_of))));
}

/* Does "object" have a complete page that "other" does not have? */
bool
fetched_note_knows_more(const CatalogType *type, JsonbContainer *object,
						JsonbContainer *other)
{
	for (int i = 0; i < type->npages; i++)
	{
		const CatalogPage *page = &type->pages[i];
		bool here;
		bool there;

		if (catalog_page_sweeps(page) &&
			object_page(object, page->field, &here) != NULL && here &&
			(object_page(other, page->field, &there) == NULL || !there))
			return true;
	}
	return false;
}

static void
load_data(MirrorRow *row)
{
	MirrorState ignored;
	bool isnull;
	Datum value;

	if (row->data != NULL)
		return;
	if (row->target == NULL)
	{
		(void) mirror_peek(row->table, row->id, row->account, &ignored,
						   &row->data);
		return;
	}
	value = row_get(row->target, row->table->meta[META_DATA], &isnull);
	row->data = isnull ? NULL : DatumGetJsonbPCopy(value);
}

/* Keep what a fetch has found, for history() and as_of(). */
static void
keep_former_reading(MirrorRow *row, const MirrorContent *content)
{
	const MirrorState *state = &row->state;
	const CatalogType *type = row->table->type;
	bool again;

	if (!state->found || state->event_id != NULL)
		return;
	if (mirror_state_is_fetched_gone(state))
	{
		former_reading_note(type, row->id, row->account, state->deleted_at,
							NULL, false);
		return;
	}
	load_data(row);
	if (row->data == NULL)
		return;
	again = content->event_id == NULL && !content->deleted &&
			json_same(&row->data->root, content->object);
	former_reading_note(type, row->id, row->account, state->as_of,
						&row->data->root, again);
}

/*
 * Note the fetched object that a row holds, before the row is written with
 * other content.  There is nothing to note when the new content is a later
 * fetched object that has all complete pages of the former one.
 *
 * Writers that may replace a fetched object call this before mirror_write().
 */
void
fetched_note_replaced(MirrorRow *row, const MirrorContent *content)
{
	const CatalogType *type = row->table->type;
	bool is_fetched = content->event_id == NULL &&
					  !(content->deleted &&
						content->deleted_at <= content->as_of);
	JsonbContainer *object;

	keep_former_reading(row, content);
	if (!row->state.found || !mirror_state_is_fetched_alive(&row->state) ||
		!fetched_note_is_kept(type) || (is_fetched && type->npages == 0))
		return;
	load_data(row);
	object = row->data != NULL ? &row->data->root : NULL;
	if (!is_fetched || fetched_note_knows_more(type, object, content->object))
		fetched_note_write(type, row->id, row->account, row->state.as_of,
						   object);
}

/* Add to a history what is noted of its object. */
static void
add_noted(EventHistory *history)
{
	static EngineStatement select = {
		"SELECT as_of, pages_as_of, pages FROM stripe_sync.reading"
		" WHERE object_id = $1 AND object_type = $2 AND account = $3"};
	Rows rows;

	if (!fetched_note_is_kept(history->type))
		return;
	rows_open(&rows, &select,
			  ARGS(arg_text(history->id), arg_text(history->type->object),
				   arg_text(history->account)));
	if (rows_next(&rows))
	{
		TimestampTz as_of = rows_time(&rows, 0);
		TimestampTz pages_as_of = rows_time(&rows, 0);
		Jsonb *pages = rows_jsonb(&rows);

		event_history_add_fetched(history, as_of, NULL);
		if (pages != NULL)
			event_history_add_fetched(history, pages_as_of, &pages->root);
	}
	rows_close(&rows);
}

/* The stored events of an object, and what is noted of its fetched versions. */
EventHistory *
fetched_note_read_history(const CatalogType *type, const char *id,
						  const char *account)
{
	EventHistory *history = event_history_read(type, id, account);

	add_noted(history);
	return history;
}
