/*
 * vanished.c
 *		Objects that a full list of Stripe's no longer had are asked for by their
 *		id; those that are gone get a tombstone.
 *
 * What the list showed is in the mirror as of the time of its pages, and what
 * an event brought since as of a later one: whatever is older, the list did not
 * have.  The mirror is looked through in slices, a slice at a time.
 */
#include "stripe_api.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"

#define SLICE 5000 /* rows that are looked at in one transaction */

/* The next that the list did not have; *end is where the slice ends. */
static char *
find_older(const Part *part, const CatalogType *type, char **end)
{
	Oid types[] = {TEXTOID, TEXTOID, TIMESTAMPTZOID, INT4OID};
	Datum values[] = {CStringGetTextDatum(part->cursor ? part->cursor : ""),
					  CStringGetTextDatum(snapshot_account(type, part->account)),
					  TimestampTzGetDatum(part->until), Int32GetDatum(SLICE)};
	char *sql = psprintf(
		"SELECT pg_catalog.min(id) FILTER (WHERE _deleted_at IS NULL"
		"   AND _account OPERATOR(pg_catalog.=) $2"
		"   AND _as_of OPERATOR(pg_catalog.<) $3), pg_catalog.max(id)"
		" FROM (SELECT id, _account, _deleted_at, _as_of FROM %s.%s"
		"   WHERE id OPERATOR(pg_catalog.>) $1 ORDER BY id LIMIT $4) s",
		MIRROR_SCHEMA, quote_identifier(type->table));

	if (SPI_execute_with_args(sql, lengthof(values), types, values, NULL, true,
							  1) != SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "\"%s\" failed", sql);
	*end = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2);
	return SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
}

static void
vanished_next(Part *part)
{
	const CatalogType *type = catalog_find(part->object_type,
										   strlen(part->object_type));
	char *older;
	char *end;

	SPI_connect();
	older = find_older(part, type, &end);
	part_set_parent(part, older); /* the one to be asked for */
	if (older == NULL && end != NULL)
		part_set_cursor(part, end);
	SPI_finish();
	part->ready = older != NULL;
	part->finished = older == NULL && end == NULL;
}

static char *
vanished_path(const Part *part)
{
	const CatalogType *type = catalog_find(part->object_type,
										   strlen(part->object_type));

	return path_fill(type->retrieve_path, part->parent_id);
}

static void
vanished_take(Part *part, const ApiCall *call)
{
	Reading reading = {
		.type = catalog_find(part->object_type, strlen(part->object_type)),
		.id = part->parent_id,
		.account = part->account,
		.as_of = call->as_of};

	if (!object_from(call, &reading))
		part->repaired++;
	mirror_read_page(list_make1(&reading));
	if (strcmp(reading.status, "failed") == 0)
		part_note(part, psprintf("%s %s: %s", part->object_type,
								 part->parent_id, reading.detail));
	part->pages++;
	part->objects++;
	part_set_cursor(part, part->parent_id);
}

const PartKind part_vanished = {
	.name = "vanished",
	.path = vanished_path,
	.take = vanished_take,
	.next = vanished_next,
	.takes = API_BIT(API_GONE),
};
