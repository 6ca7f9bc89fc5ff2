/*
 * vanished.c
 *		Objects that a full list of Stripe's no longer had are asked for by their
 *		id; those that are gone get a tombstone.
 *
 * What the list showed is in the mirror as of the time of its pages, and what
 * an event brought since as of a later one: whatever is older, the list did not
 * have.  The mirror is looked through in slices, a slice at a time.
 */
#include "sync.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"

#define SLICE		 5000 /* rows that are looked at in one transaction */
#define MAX_REFUSALS 10	  /* one after the other */

/* It may have been renamed, or dropped, since the job was made. */
MirrorTable *
mirror_table_to_read(const CatalogType *type)
{
	MirrorTable *table = table_cache_find(type, TABLE_READ);

	if (table == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE),
						errmsg("%s", table_lacking(type)), answer_is_useless()));
	return table;
}

/*
 * The next that the list did not have becomes parent_id; without one in this
 * slice the cursor is at its end, and NULL behind the last.  With the rights of
 * the table's owner; of the other mode the key shows nothing.
 */
static void
look_at_slice(Part *part)
{
	const CatalogType *type = part_type(part);
	MirrorTable *table = mirror_table_to_read(type);
	Oid types[] = {TEXTOID, TEXTOID, TIMESTAMPTZOID, INT4OID, TEXTOID};
	Datum values[] = {
		CStringGetTextDatum(part->cursor ? part->cursor : ""),
		CStringGetTextDatum(object_account(type, part->account)),
		TimestampTzGetDatum(part->until), Int32GetDatum(SLICE),
		CStringGetTextDatum(api_key_opens_live(part->key) ? "true" : "false")};
	bool has_mode = table_has_column(table, "livemode");
	char *sql = psprintf(
		"SELECT pg_catalog.min(id) FILTER (WHERE _deleted_at IS NULL"
		"   AND _account OPERATOR(pg_catalog.=) $2"
		"   AND _as_of OPERATOR(pg_catalog.<) $3%s), pg_catalog.max(id)"
		" FROM (SELECT id, _account, _deleted_at, _as_of%s FROM %s.%s"
		/* of several accounts an id's rows are looked at together */
		"   WHERE id OPERATOR(pg_catalog.>) $1 ORDER BY id"
		"   FETCH FIRST ($4) ROWS WITH TIES) s",
		has_mode ? " AND coalesce(livemode::text OPERATOR(pg_catalog.=) $5, true)"
				 : "",
		has_mode ? ", livemode" : "", MIRROR_SCHEMA,
		quote_identifier(type->table));
	RoleScope scope = role_enter_reading(table->owner, table->search_path);
	HeapTuple row;

	SPI_connect();
	if (SPI_execute_with_args(sql, has_mode ? 5 : 4, types, values, NULL, true,
							  1) != SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "\"%s\" failed", sql);
	row = SPI_tuptable->vals[0];
	part_set_parent(part, SPI_getvalue(row, SPI_tuptable->tupdesc, 1));
	if (part->parent_id == NULL)
		part_set_cursor(part, SPI_getvalue(row, SPI_tuptable->tupdesc, 2));
	SPI_finish();
	role_leave(&scope);
}

static void
vanished_next(Part *part)
{
	look_at_slice(part);
	part->ready = part->parent_id != NULL;
	part->finished = part->parent_id == NULL && part->cursor == NULL;
}

static char *
vanished_path(const Part *part)
{
	const CatalogType *type = part_type(part);

	return path_fill(type->retrieve_path, part->parent_id);
}

/* What Stripe won't say of one object is noted; of many, it is given up. */
static void
note_refusal(Part *part, const ApiCall *call)
{
	if (++part->refusals >= MAX_REFUSALS)
		ereport(ERROR, (errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
						errmsg("%s", call->trouble), answer_is_useless()));
	part_note(part, psprintf("%s %s: %s", part->object_type, part->parent_id,
							 call->trouble));
}

static void
look_at_answer(Part *part, const ApiCall *call)
{
	FetchedObject fetched = {.type = part_type(part),
							 .id = part->parent_id,
							 .account = part->account,
							 .as_of = call->as_of};

	part->refusals = 0;
	if (!object_from(call, &fetched))
		part->repaired++;
	fetched_apply_page(list_make1(&fetched));
	if (strcmp(fetched.status, "failed") == 0)
		part_note(part, psprintf("%s %s: %s", part->object_type,
								 part->parent_id, fetched.detail));
	list_put_off_rows(part, list_make1(&fetched));
}

static void
vanished_take(Part *part, const ApiCall *call)
{
	if (call->verdict == API_OK || call->verdict == API_GONE)
		look_at_answer(part, call);
	else
		note_refusal(part, call);
	part->pages++;
	part->objects++;
	part_set_cursor(part, part->parent_id);
}

const PartKind part_vanished = {
	.name = "vanished",
	.path = vanished_path,
	.take = vanished_take,
	.next = vanished_next,
	.ended = unread_over,
	.takes = API_BIT(API_GONE) | API_BIT(API_REFUSED) | API_BIT(API_FORBIDDEN),
};
