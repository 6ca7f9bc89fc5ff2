/*
 * endpoint_secret.c
 *		The secrets of an endpoint: one that is current, and those that it has
 *		replaced, until they lapse.
 *
 * Who changes them has locked the endpoint's row.
 */
#include "stripe_sync.h"

#include "access/htup_details.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#include <openssl/crypto.h>

#include "secret.h"

#define TABLE "endpoint_secret"

/* A row */
typedef struct EndpointSecret
{
	int number;
	text *secret;
	bool lapses; /* it isn't the current one */
	TimestampTz lapses_at;
} EndpointSecret;

static EndpointSecret *
read_row(HeapTuple tuple, TupleDesc desc)
{
	EndpointSecret *row = palloc(sizeof(EndpointSecret));
	bool isnull;
	Datum value = heap_getattr(tuple, SECRET_LAPSES_AT, desc, &isnull);

	row->lapses = !isnull;
	row->lapses_at = isnull ? 0 : DatumGetTimestampTz(value);
	row->number = DatumGetInt32(
		heap_getattr(tuple, SECRET_NUMBER, desc, &isnull));
	row->secret = DatumGetTextPCopy(
		heap_getattr(tuple, SECRET_SECRET, desc, &isnull));
	return row;
}

/* Those of an endpoint, the newest last. */
static List *
read_rows(const char *name)
{
	Relation relation;
	Snapshot snapshot;
	SysScanDesc scan = engine_scan(TABLE, TABLE "_pkey", 1, name, &relation,
								   &snapshot);
	List *rows = NIL;
	HeapTuple tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		rows = lappend(rows, read_row(tuple, RelationGetDescr(relation)));
	engine_scan_end(scan, relation, snapshot);
	return rows;
}

static void
wipe(List *rows)
{
	ListCell *cell;

	foreach(cell, rows)
	{
		EndpointSecret *row = lfirst(cell);

		OPENSSL_cleanse(VARDATA_ANY(row->secret),
						VARSIZE_ANY_EXHDR(row->secret));
	}
	list_free_deep(rows);
}

static void
insert(text *name, const EndpointSecret *row)
{
	Datum values[] = {PointerGetDatum(name), Int32GetDatum(row->number),
					  PointerGetDatum(row->secret),
					  TimestampTzGetDatum(row->lapses_at)};
	bool nulls[] = {false, false, false, !row->lapses};

	secret_insert(TABLE, lengthof(values), values, nulls);
}

static int
next_number(List *rows)
{
	return rows == NIL ? 1 : ((EndpointSecret *) llast(rows))->number + 1;
}

/* Does the endpoint have a current secret, and is it this one? */
bool
endpoint_secret_known(text *name, text *secret, bool *same)
{
	List *rows = read_rows(text_to_cstring(name));
	bool known = false;
	ListCell *cell;

	*same = false;
	foreach(cell, rows)
	{
		EndpointSecret *row = lfirst(cell);

		if (row->lapses)
			continue;
		known = true;
		*same = secret_same(row->secret, secret);
	}
	wipe(rows);
	return known;
}

/* The first, or a new one beside those that are good yet. */
void
endpoint_secret_add(text *name, text *secret)
{
	List *rows = read_rows(text_to_cstring(name));
	EndpointSecret new = {next_number(rows), secret, false, 0};

	wipe(rows);
	insert(name, &new);
}

/* A new one; the current one is good until then yet. */
void
endpoint_secret_rotate(text *name, text *secret, TimestampTz until)
{
	List *rows = read_rows(text_to_cstring(name));
	EndpointSecret new = {next_number(rows), secret, false, 0};
	TimestampTz now = GetCurrentTimestamp();
	ListCell *cell;

	secret_delete(TABLE, name);
	foreach(cell, rows)
	{
		EndpointSecret *row = lfirst(cell);

		if (!row->lapses)
			row->lapses_at = until;
		row->lapses = true;
		if (row->lapses_at > now)
			insert(name, row);
	}
	insert(name, &new);
	wipe(rows);
}

void
endpoint_secret_drop(text *name)
{
	secret_delete(TABLE, name);
}
