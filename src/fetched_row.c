/*
 * fetched_row_apply.c
 *		One row of the mirror, and a fetched object of its object from Stripe's API.
 *
 * A fetched object has in it everything that happened until its time.  Events up to
 * then lose to it, later ones win, and of two fetched objects the later wins, in
 * whatever order they all arrive.  So _as_of rises even where nothing else
 * changes.
 *
 * A fetched object that shows an object alive ends whatever deletion came before it.
 * That has to be known after a later event (or a deletion) has taken the row,
 * for a deletion may still arrive that is older than the fetched object; and so has
 * what its complete pages listed, for the children of events that arrive late.
 * stripe_sync.reading keeps it, of the last such fetched object, for types that can be
 * deleted or have pages.  Of fetched objects before that one nothing is known, so the
 * order of arrival can make a difference to since when something is gone that
 * several fetched objects left out.
 */
#include "mirror.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/json.h"

/* Losing the race for a new row over and over means something else is wrong. */
#define MAX_RACES 3

typedef enum RowVerdict
{
	ROW_WRITTEN,
	ROW_STALE,
	ROW_RACE
} RowVerdict;

/* ---- what a row holds ---- */

/* Is the row as a fetched object of the API has left it, and the object alive there? */
bool
mirror_state_is_fetched_alive(const MirrorState *state)
{
	return state->event_id == NULL && !mirror_state_is_fetched_gone(state);
}

/* Did a fetched object say that the object is gone?  A sweep is later than the row. */
bool
mirror_state_is_fetched_gone(const MirrorState *state)
{
	return state->event_id == NULL && state->deleted &&
		   state->deleted_at <= state->as_of;
}

/* Does the locked row hold just this object? */
bool
mirror_row_has_data(const MirrorRow *row, JsonbContainer *object)
{
	Jsonb *data = json_standalone(object);
	bool same = row->data != NULL && VARSIZE(row->data) == VARSIZE(data) &&
				memcmp(row->data, data, VARSIZE(data)) == 0;

	pfree(data);
	return same;
}

/* What is stored already stays where it is: it isn't compressed or moved again. */
void
keep_stored(const MirrorRow *row, Datum *values, const bool *nulls)
{
	for (int i = 0; i < row->table->ncolumns; i++)
	{
		AttrNumber attnum = row->table->columns[i].attnum;
		bool isnull;
		Datum stored = row_get(row->target, attnum, &isnull);

		if (row->table->columns[i].kind >= KIND_EMBEDDED && !isnull &&
			!nulls[attnum - 1] &&
			datum_image_eq(stored, values[attnum - 1], false, -1))
			values[attnum - 1] = stored;
	}
}

/* ---- fetched objects that the mirror has since replaced ---- */

/* Does it matter later when such an object was read? */
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

/* A complete page, with no more of its children than their names. */
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

/* The object's complete pages; NULL when there are none. */
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
			continue; /* of several types, one list */
		list = object_page(object, page->field, &complete);
		if (list != NULL && complete && catalog_page_sweeps(page))
			append_page(&out, page, id, list);
	}
	appendStringInfoChar(&out, '}');
	return out.len > 2 ? json_parse(out.data, out.len) : NULL;
}

/*
 * Keep that the object was read alive then, and what complete pages it had: of
 * both the latest counts.
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
		"   pages = CASE WHEN excluded.pages_as_of OPERATOR(pg_catalog.>=)"
		"     COALESCE(r.pages_as_of, excluded.pages_as_of) THEN excluded.pages ELSE r.pages END,"
		"   pages_as_of = GREATEST(r.pages_as_of, excluded.pages_as_of)",
		6,
		{TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, JSONBOID, TIMESTAMPTZOID}};
	Jsonb *pages = complete_pages(type, id, object);
	Datum values[] = {CStringGetTextDatum(type->object),
					  CStringGetTextDatum(id),
					  CStringGetTextDatum(account),
					  TimestampTzGetDatum(as_of),
					  JsonbPGetDatum(pages),
					  TimestampTzGetDatum(as_of)};

	SPI_connect();
	engine_run(&note, values, pages != NULL ? "      " : "    nn",
			   SPI_OK_INSERT);
	SPI_finish();
}

/* Has the one a complete page that the other hasn't? */
static bool
knows_more(const CatalogType *type, JsonbContainer *object,
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
read_data(MirrorRow *row)
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

/*
 * A row is about to be written.  A fetched object that is replaced is noted, unless it
 * is by another one that tells as much.
 */
void
fetched_note_replaced(MirrorRow *row, const MirrorContent *content)
{
	const CatalogType *type = row->table->type;
	bool by_reading = content->event_id == NULL &&
					  !(content->deleted &&
						content->deleted_at <= content->as_of);
	JsonbContainer *object;

	if (!row->state.found || !mirror_state_is_fetched_alive(&row->state) ||
		!fetched_note_is_kept(type) || (by_reading && type->npages == 0))
		return;
	read_data(row);
	object = row->data != NULL ? &row->data->root : NULL;
	if (!by_reading || knows_more(type, object, content->object))
		fetched_note_write(type, row->id, row->account, row->state.as_of,
						   object);
}

/* Add to a history the fetched objects that are noted of its object. */
void
fetched_note_recall(EventHistory *history)
{
	static EngineStatement recall = {
		"SELECT as_of, pages_as_of, pages FROM stripe_sync.reading"
		" WHERE object_id OPERATOR(pg_catalog.=) $1"
		"   AND object_type OPERATOR(pg_catalog.=) $2"
		"   AND account OPERATOR(pg_catalog.=) $3",
		3,
		{TEXTOID, TEXTOID, TEXTOID}};
	Datum values[] = {CStringGetTextDatum(history->id),
					  CStringGetTextDatum(history->type->object),
					  CStringGetTextDatum(history->account)};
	MemoryContext context = CurrentMemoryContext;

	if (!fetched_note_is_kept(history->type))
		return;
	SPI_connect();
	engine_run(&recall, values, NULL, SPI_OK_SELECT);
	if (SPI_processed > 0)
	{
		HeapTuple tuple = SPI_tuptable->vals[0];
		TupleDesc desc = SPI_tuptable->tupdesc;
		MemoryContext old = MemoryContextSwitchTo(context);
		bool isnull;
		Datum as_of = SPI_getbinval(tuple, desc, 1, &isnull);
		Datum pages_as_of = SPI_getbinval(tuple, desc, 2, &isnull);
		Datum pages = SPI_getbinval(tuple, desc, 3, &isnull);

		event_history_add_fetched(history, DatumGetTimestampTz(as_of), NULL);
		if (!isnull)
			event_history_add_fetched(history, DatumGetTimestampTz(pages_as_of),
									  &DatumGetJsonbPCopy(pages)->root);
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
}

/* ---- an object that is gone ---- */

/* What is kept of an object that the mirror has never seen. */
static JsonbContainer *
gone_object(const CatalogType *type, const char *id)
{
	StringInfoData out;

	initStringInfo(&out);
	appendStringInfoString(&out, "{\"object\":");
	escape_json(&out, type->object);
	appendStringInfoString(&out, ",\"deleted\":true");
	if (type->key[0] != '\0')
	{
		appendStringInfoChar(&out, ',');
		escape_json(&out, type->key);
		appendStringInfoChar(&out, ':');
		escape_json(&out, id);
	}
	appendStringInfoChar(&out, '}');
	return &json_parse(out.data, out.len)->root;
}

/*
 * The row of an object that a fetched object as of "gone_at" didn't find: what it held
 * last, and a tombstone.  It has been gone since its deletion, or since the
 * first fetched object that didn't find it ("missed_at" is one), if it wasn't alive
 * after that.  "shown" is what the last fetched object that found it showed, when that
 * isn't in the row.
 */
static MirrorContent
gone_content(const MirrorRow *row, const EventHistory *history, Version *newest,
			 JsonbContainer *shown, TimestampTz gone_at, TimestampTz missed_at)
{
	const MirrorState *state = &row->state;
	MirrorContent content = {.as_of = gone_at, .deleted = true};
	TimestampTz alive_at = event_history_alive_at(history);
	TimestampTz deleted_at = gone_at;

	if (newest != NULL && newest->created <= alive_at)
		newest = NULL;
	if (newest != NULL)
		content.object = version_event(newest)->object;
	else if (shown != NULL)
		content.object = shown;
	else
		content.object = row->data != NULL
							 ? &row->data->root
							 : gone_object(history->type, history->id);
	if (newest != NULL)
		alive_at = newest->created;
	if (state->found && state->deleted && state->deleted_at > alive_at)
		deleted_at = Min(deleted_at, state->deleted_at);
	if (missed_at > alive_at)
		deleted_at = Min(deleted_at, missed_at);
	if (newest != NULL && event_type_deletes(newest->event_type))
		deleted_at = newest->created;
	content.deleted_at = deleted_at;
	return content;
}

/*
 * An event, or a fetched object, came late to an object that a later fetched object didn't
 * find: the tombstone stays, but what it held last may be known better now.
 */
static void
settle_gone(MirrorRow *row, const EventHistory *history, Version *newest,
			JsonbContainer *shown, TimestampTz missed_at)
{
	MirrorContent content;

	if (!mirror_state_is_fetched_gone(&row->state))
		return;
	content = gone_content(row, history, newest, shown, row->state.as_of,
						   missed_at);
	if (content.deleted_at != row->state.deleted_at ||
		!mirror_row_has_data(row, content.object))
		(void) mirror_write(row, &content);
}

void
fetched_gone_settle(MirrorRow *row, EventHistory *history, Version *newest)
{
	MirrorState ignored;

	if (!mirror_state_is_fetched_gone(&row->state))
		return;
	if (row->data == NULL)
		(void) mirror_peek(row->table, row->id, row->account, &ignored,
						   &row->data);
	settle_gone(row, history, newest, NULL, DT_NOEND);
}

/* ---- one row ---- */

/* Does what the row holds give way, when no event of the object is later? */
static bool
gives_way(const FetchedRow *fetched, const MirrorRow *row)
{
	const MirrorState *state = &row->state;
	bool known;

	if (!state->found || state->as_of <= fetched->content.as_of)
		return true;
	if (state->event_id == NULL)
		return false;
	/* what was embedded somewhere gives way to any fetched object, a page doesn't */
	if (strcmp(state->event_id, FILLED_BY_FETCHED) == 0)
		return true;
	return !event_history_is_own(state->event_id, row->account, fetched->type,
								 row->id, &known) &&
		   known &&
		   !mirror_listed_by(state->event_id, row->account, fetched->type,
							 row->id);
}

/* Nothing that is stored is later than the fetched object. */
static RowVerdict
write_reading(FetchedRow *fetched, MirrorRow *row, Version *newest)
{
	const MirrorState *state = &row->state;
	MirrorContent content = fetched->content;

	if (fetched->gone)
		content = gone_content(row, fetched->history, newest, NULL,
							   content.as_of, DT_NOEND);
	else
	{
		EventHistory empty = {fetched->type, row->id, row->account, NIL, NIL};

		mirror_find_tombstone(
			state, fetched->history != NULL ? fetched->history : &empty,
			fetched->account, TABLE_WRITE, &content);
		/* an object that is met more than once in one answer */
		if (state->found && state->event_id == NULL &&
			state->as_of == content.as_of && state->deleted == content.deleted &&
			(!content.deleted || state->deleted_at == content.deleted_at) &&
			mirror_row_has_data(row, content.object))
			return ROW_WRITTEN;
	}
	return mirror_write(row, &content) ? ROW_WRITTEN : ROW_RACE;
}

/* An event is later: the row becomes what the events say, if it isn't yet. */
static RowVerdict
write_newest(FetchedRow *fetched, MirrorRow *row, Version *newest)
{
	const MirrorState *state = &row->state;
	MirrorContent content;

	fetched->detail = psprintf("%s is newer than the reading", newest->event_id);
	if (state->found && (mirror_state_is_newer(state, fetched->history, newest) ||
						 (state->event_id != NULL &&
						  strcmp(state->event_id, newest->event_id) == 0)))
		return ROW_STALE;
	content = mirror_content(version_event(newest));
	mirror_find_tombstone(state, fetched->history, fetched->account,
						  TABLE_WRITE, &content);
	return mirror_write(row, &content) ? ROW_STALE : ROW_RACE;
}

/* What was read is older than what another fetched object has left in the row. */
static RowVerdict
lose_to_reading(FetchedRow *fetched, MirrorRow *row, Version *newest)
{
	TimestampTz as_of = fetched->content.as_of;
	bool last = !fetched->gone &&
				as_of == event_history_alive_at(fetched->history);

	fetched->detail = pstrdup("a later reading is in the mirror");
	settle_gone(row, fetched->history, newest,
				last ? fetched->content.object : NULL,
				fetched->gone ? as_of : DT_NOEND);
	return ROW_STALE;
}

static void
read_history(FetchedRow *fetched, MirrorRow *row)
{
	EventHistory *history = event_history_read(fetched->type, row->id,
											   row->account);

	if (row->state.found && mirror_state_is_fetched_alive(&row->state))
		event_history_add_fetched(history, row->state.as_of,
								  row->data != NULL ? &row->data->root : NULL);
	if (!fetched->gone)
		event_history_add_fetched(history, fetched->content.as_of,
								  fetched->content.object);
	fetched->history = history;
}

/*
 * A fetched object for which the row has no room is noted, unless the row has a later
 * one that tells as much.
 */
static void
note_stale(const FetchedRow *fetched, const MirrorRow *row)
{
	JsonbContainer *object = fetched->content.object;

	if (fetched->gone || !fetched_note_is_kept(fetched->type))
		return;
	if (row->state.found && mirror_state_is_fetched_alive(&row->state) &&
		!knows_more(fetched->type, object,
					row->data != NULL ? &row->data->root : NULL))
		return;
	fetched_note_write(fetched->type, row->id, row->account,
					   fetched->content.as_of, object);
}

/* The row alone doesn't tell: ask the events and fetched objects that are known. */
static RowVerdict
settle_reading(FetchedRow *fetched, MirrorRow *row)
{
	TimestampTz as_of = fetched->content.as_of;
	bool late = row->state.found && row->state.event_id == NULL &&
				row->state.as_of > as_of;
	Version *newest = NULL;
	RowVerdict verdict;

	read_history(fetched, row);
	if (fetched->history->versions != NIL)
		newest = newest_find(fetched->history).newest;
	if (newest != NULL && newest->created > (late ? row->state.as_of : as_of))
		verdict = write_newest(fetched, row, newest);
	else if (late)
		verdict = lose_to_reading(fetched, row, newest);
	else if (gives_way(fetched, row))
		return write_reading(fetched, row, newest);
	else
	{
		fetched->detail = pstrdup("the mirror holds a newer state");
		verdict = ROW_STALE;
	}
	if (verdict == ROW_STALE)
		note_stale(fetched, row);
	return verdict;
}

static RowVerdict
try_row(FetchedRow *fetched, MirrorTable *table)
{
	const CatalogType *type = fetched->type;
	const char *account = object_account(type, fetched->account);
	TimestampTz as_of = fetched->content.as_of;
	MirrorRow *row = mirror_lock(fetched->pass, table, fetched->id, account,
								 true);

	/* after the lock: who stores an event from now on finds this fetched object */
	fetched->was_new = !row->state.found;
	fetched->before = row->data;
	if (!fetched->gone && gives_way(fetched, row) &&
		(type->nevent_types == 0 ||
		 !event_history_has_later(type, fetched->id, account, as_of)))
		return write_reading(fetched, row, NULL);
	return settle_reading(fetched, row);
}

/*
 * Bring one row to what was read.  False when it is stale: the mirror holds
 * something newer, or does so now.
 */
bool
fetched_row_apply(FetchedRow *fetched)
{
	MirrorTable *table = table_cache_find(fetched->type, TABLE_WRITE);
	RowVerdict verdict = ROW_RACE;

	for (int race = 0; verdict == ROW_RACE && race < MAX_RACES; race++)
		verdict = try_row(fetched, table);
	/* a user's trigger that keeps the row out looks like an endless race */
	return verdict != ROW_STALE;
}

/* A child that a page lists which was read. */
void
fetched_row_apply_child(MirrorPass *pass, SnapshotRow *child,
						const MirrorContent *content)
{
	FetchedRow fetched = {.pass = pass,
						  .type = child->type,
						  .id = child->id,
						  .account = child->account,
						  .content = *content};

	if (table_cache_find(child->type, TABLE_WRITE) != NULL)
		(void) fetched_row_apply(&fetched);
}
