/*
 * vanished.c
 *		Objects of the mirror that a complete list did not contain are requested
 *		by their id; those that were deleted get a tombstone.
 *
 * The rows of objects that the list contained have the time of its pages as
 * _as_of, and those that an event has changed since have a later one.  So a row
 * that is older was not in the list.  The mirror is searched in slices, each in a
 * transaction of its own.
 *
 * A list is filtered by the key's mode and permissions, so its lack of an object
 * does not prove a deletion; only Stripe's resource_missing for the id does.
 * Rows of the other mode are not compared.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"

#include "engine/rights.h"
#include "jobs/jobs.h"
#include "jobs/part.h"
#include "mirror/mirror.h"
#include "stripe/stripe.h"
#include "tables/tables.h"
#include "types/object.h"
#include "types/types.h"
#include "sync/internal.h"

#define SLICE		 5000 /* rows that are searched in one transaction */
#define MAX_REFUSALS 10	  /* in succession */

/*
 * The type's mirror table, locked for reading.  Raises 42P01 if it was renamed
 * or dropped since the job was created.
 */
MirrorTable *
mirror_table_to_read(const CatalogType *type)
{
	MirrorTable *table = table_cache_find(type, TABLE_READ);

	if (table == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE),
						errmsg("%s", table_lacking(type)), answer_is_invalid()));
	return table;
}

/*
 * Search the next slice.  The first object that the list did not contain becomes
 * parent_id.  Without one the cursor is moved to the end of the slice, or becomes
 * NULL after the last.
 *
 * The table may be a user's view or have policies, so it is read with the rights
 * of its owner and his search_path: hence the qualified operators.
 */
static void
search_slice(Part *part)
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
		/* rows of several accounts with the same id must be in one slice */
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
vanished_find_next(Part *part)
{
	search_slice(part);
	part->ready = part->parent_id != NULL;
	part->finished = part->parent_id == NULL && part->cursor == NULL;
}

static char *
vanished_path(const Part *part)
{
	const CatalogType *type = part_type(part);

	return api_path_with_id(type->retrieve_path, part->parent_id);
}

/* Note that Stripe refused one object; fail the part after many in succession. */
static void
note_refused_object(Part *part, const ApiCall *call)
{
	if (++part->refusals >= MAX_REFUSALS)
		ereport(ERROR, (errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
						errmsg("%s", call->error), answer_is_invalid()));
	part_note(part, psprintf("%s %s: %s", part->object_type, part->parent_id,
							 call->error));
}

/* Write the object, or its tombstone. */
static void
write_object(Part *part, const ApiCall *call)
{
	FetchedObject fetched = {.type = part_type(part),
							 .id = part->parent_id,
							 .account = part->account,
							 .as_of = call->as_of};

	part->refusals = 0;
	if (!object_of_answer(call, &fetched))
		part->repaired++;
	fetched_apply_page(list_make1(&fetched));
	if (strcmp(fetched.status, "failed") == 0)
		part_note(part, psprintf("%s %s: %s", part->object_type,
								 part->parent_id, fetched.detail));
	object_list_retry_rows(part, list_make1(&fetched));
}

static void
vanished_process(Part *part, const ApiCall *call)
{
	if (call->verdict == API_OK || call->verdict == API_GONE)
		write_object(part, call);
	else
		note_refused_object(part, call);
	part->pages++;
	part->objects++;
	part_set_cursor(part, part->parent_id);
}

const PartKind part_vanished = {
	.name = "vanished",
	.path = vanished_path,
	.process = vanished_process,
	.find_next = vanished_find_next,
	.ended = unread_part_ended,
	.accepts = API_BIT(API_GONE) | API_BIT(API_REFUSED) | API_BIT(API_FORBIDDEN),
};
