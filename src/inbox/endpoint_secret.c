/*
 * endpoint_secret.c
 *		The secrets of an endpoint: the current one, and those that it has
 *		replaced, until they lapse.
 *
 * Callers that change them hold ADVISORY_ENDPOINT or a lock on the endpoint's
 * row.  Rows are replaced, never updated; see secret_row.c.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#include <openssl/crypto.h>

#include "engine/engine.h"
#include "engine/statement.h"
#include "inbox/secret.h"

#define TABLE "endpoint_secret"

/* A row of stripe_sync.endpoint_secret */
typedef struct EndpointSecret
{
	int number;
	text *secret;
	bool lapses; /* false: the current one */
	TimestampTz lapses_at;
} EndpointSecret;

static EndpointSecret *
read_secret_row(HeapTuple tuple, TupleDesc desc)
{
	EndpointSecret *secret = palloc(sizeof(EndpointSecret));
	Rows row = rows_of_tuple(tuple, desc);
	bool isnull;
	Datum lapses_at;

	rows_skip(&row); /* endpoint */
	secret->number = rows_int4(&row, 0);
	secret->secret = rows_varlena(&row, TEXTOID);
	lapses_at = rows_datum(&row, TIMESTAMPTZOID, &isnull);
	secret->lapses = !isnull;
	secret->lapses_at = isnull ? 0 : DatumGetTimestampTz(lapses_at);
	return secret;
}

/* All secrets of an endpoint, the newest last.  The caller calls wipe_rows(). */
static List *
read_secret_rows(const char *name)
{
	Relation relation;
	Snapshot snapshot;
	SysScanDesc scan = engine_scan(TABLE, TABLE "_pkey", 1, name, &relation,
								   &snapshot);
	List *rows = NIL;
	HeapTuple tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		rows = lappend(rows, read_secret_row(tuple, RelationGetDescr(relation)));
	engine_scan_end(scan, relation, snapshot);
	return rows;
}

/* Overwrite and free them. */
static void
wipe_rows(List *rows)
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
insert_secret(text *name, const EndpointSecret *row)
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

/*
 * Does the endpoint have a current secret?  Sets *same if it is this one;
 * compared in constant time.
 */
bool
endpoint_secret_known(text *name, text *secret, bool *same)
{
	List *rows = read_secret_rows(text_to_cstring(name));
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
	wipe_rows(rows);
	return known;
}

/* Add the current secret.  The endpoint has none: it is new, or was restored. */
void
endpoint_secret_add(text *name, text *secret)
{
	List *rows = read_secret_rows(text_to_cstring(name));
	EndpointSecret new = {next_number(rows), secret, false, 0};

	wipe_rows(rows);
	insert_secret(name, &new);
}

/*
 * Replace the current secret, which stays valid until "until".  Secrets that
 * have lapsed are deleted.
 */
void
endpoint_secret_rotate(text *name, text *secret, TimestampTz until)
{
	List *rows = read_secret_rows(text_to_cstring(name));
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
			insert_secret(name, row);
	}
	insert_secret(name, &new);
	wipe_rows(rows);
}

/* Delete all secrets of an endpoint. */
void
endpoint_secret_drop(text *name)
{
	secret_delete(TABLE, name);
}
