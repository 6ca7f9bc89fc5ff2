/*
 * visible_search.c
 *		Rows of the mirror that the caller may see, found by a reference or by an
 *		e-mail address.
 *
 * Rows are read by an index, without the executor, so that no code of a user's
 * runs.  A table that cannot be read so (a partitioned one) is read by SQL, in a
 * security-restricted scope with its owner's rights, and so are e-mail addresses,
 * whose index is on an expression.  A column without an index is not searched.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "catalog/pg_am.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/subtransaction.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "tables/stored_index.h"
#include "tables/tables.h"
#include "types/types.h"
#include "lookup/internal.h"

#define MOST_SCANNED                                                           \
	5000 /* rows of one value: the newest are not known first */

/* ---- by a column ---- */

/* Is it a valid index whose first column this is, of all rows that have it? */
static bool
index_serves(Relation relation, Oid indexid, AttrNumber attnum)
{
	Oid collation =
		TupleDescAttr(RelationGetDescr(relation), attnum - 1)->attcollation;
	Relation index = index_open(indexid, AccessShareLock);
	bool not_null;
	int partial = stored_index_partial(indexid, &not_null);
	bool serves = index->rd_index->indisvalid &&
				  index->rd_rel->relam == BTREE_AM_OID &&
				  index->rd_index->indkey.values[0] == attnum &&
				  stored_index_lower(indexid) == 0 &&
				  index->rd_opfamily[0] < FirstNormalObjectId &&
				  index->rd_opcintype[0] == TEXTOID &&
				  index->rd_indcollation[0] == collation &&
				  (partial == 0 || (partial == attnum && not_null));

	index_close(index, AccessShareLock);
	return serves;
}

static Oid
find_index(Relation relation, AttrNumber attnum)
{
	ListCell *cell;

	foreach(cell, RelationGetIndexList(relation))
		if (index_serves(relation, lfirst_oid(cell), attnum))
			return lfirst_oid(cell);
	return InvalidOid;
}

static AttrNumber
column_number(const MirrorTable *table, const char *name)
{
	if (strcmp(name, table->type->key) == 0)
		return table->meta[META_KEY];
	for (int i = 0; i < table->ncolumns; i++)
		if (strcmp(table->columns[i].name, name) == 0)
			return table->columns[i].attnum;
	return InvalidAttrNumber;
}

static char *
text_of(HeapTuple tuple, AttrNumber attnum, TupleDesc desc)
{
	bool isnull = true;
	Datum value = 0;

	if (attnum != InvalidAttrNumber)
		value = heap_getattr(tuple, attnum, desc, &isnull);
	return isnull ? pstrdup("") : TextDatumGetCString(value);
}

static VisibleRow *
read_hit(const MirrorTable *table, HeapTuple tuple, TupleDesc desc)
{
	VisibleRow *hit = palloc0(sizeof(VisibleRow));
	AttrNumber created = column_number(table, "created");
	bool isnull;
	Datum value;

	hit->id = text_of(tuple, table->meta[META_KEY], desc);
	hit->account = text_of(tuple, table->meta[META_ACCOUNT], desc);
	if (created == InvalidAttrNumber)
		return hit;
	value = heap_getattr(tuple, created, desc, &isnull);
	if (!isnull && TupleDescAttr(desc, created - 1)->atttypid == TIMESTAMPTZOID)
		hit->created = DatumGetTimestampTz(value);
	return hit;
}

static int
compare_hits(const ListCell *a, const ListCell *b)
{
	TimestampTz left = ((VisibleRow *) lfirst(a))->created;
	TimestampTz right = ((VisibleRow *) lfirst(b))->created;

	return left > right ? -1 : left < right;
}

/* Arguments and result of scan_body() */
typedef struct ColumnScan
{
	MirrorTable *table;
	const char *column;
	const char *value;
	List *hits;
	MemoryContext memory;
} ColumnScan;

static void
scan_index(ColumnScan *scan, Relation relation, Oid index, AttrNumber attnum)
{
	TupleDesc desc = RelationGetDescr(relation);
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	SysScanDesc rows;
	ScanKeyData key;
	HeapTuple tuple;

	ScanKeyInit(&key, attnum, BTEqualStrategyNumber, F_TEXTEQ,
				CStringGetTextDatum(scan->value));
	key.sk_collation = TupleDescAttr(desc, attnum - 1)->attcollation;
	rows = systable_beginscan(relation, index, true, snapshot, 1, &key);
	while (list_length(scan->hits) < MOST_SCANNED &&
		   HeapTupleIsValid(tuple = systable_getnext(rows)))
	{
		CHECK_FOR_INTERRUPTS();
		scan->hits = lappend(scan->hits, read_hit(scan->table, tuple, desc));
	}
	systable_endscan(rows);
	UnregisterSnapshot(snapshot);
}

/* A partitioned or distributed table */
static void
scan_sql(ColumnScan *scan)
{
	MirrorTable *table = scan->table;
	Datum value = CStringGetTextDatum(scan->value);
	Oid type = TEXTOID;
	RoleScope scope = role_enter_reading(table->owner, table->search_path);

	SPI_connect();
	if (SPI_execute_with_args(
			psprintf("SELECT %s, _account FROM %s.%s"
					 " WHERE %s OPERATOR(pg_catalog.=) $1",
					 table->type->key[0] ? quote_identifier(table->type->key)
										 : "''",
					 MIRROR_SCHEMA, quote_identifier(table->type->table),
					 quote_identifier(scan->column)),
			1, &type, &value, NULL, true, MOST_SCANNED) != SPI_OK_SELECT)
		elog(ERROR, "could not read %s.%s", MIRROR_SCHEMA, table->type->table);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(scan->memory);
		Rows row = rows_of_tuple(SPI_tuptable->vals[i], SPI_tuptable->tupdesc);
		VisibleRow *hit = palloc0(sizeof(VisibleRow));

		hit->id = rows_text(&row);
		hit->account = rows_text(&row);
		scan->hits = lappend(scan->hits, hit);
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	role_leave(&scope);
}

static void
scan_body(void *arg)
{
	ColumnScan *scan = arg;
	MemoryContext old;
	Relation relation;
	AttrNumber attnum = column_number(scan->table, scan->column);
	Oid index;

	if (attnum == InvalidAttrNumber)
		return;
	if (!scan->table->can_be_scanned)
	{
		scan_sql(scan);
		return;
	}
	old = MemoryContextSwitchTo(scan->memory);
	relation = table_open(scan->table->relid, NoLock);
	index = find_index(relation, attnum);
	if (OidIsValid(index))
		scan_index(scan, relation, index, attnum);
	else
		visible_note_left_out(scan->table->type,
							  psprintf("no index on %s", scan->column));
	table_close(relation, NoLock);
	MemoryContextSwitchTo(old);
}

static List *
first_hits(List *hits, int most)
{
	list_sort(hits, compare_hits);
	return list_truncate(hits, most);
}

/*
 * Rows with this value in a text column, the newest first, of VisibleRow.  One
 * more than "most" is returned if there are more.
 */
List *
visible_rows_find(const CatalogType *type, const char *column,
				  const char *value, int most)
{
	ColumnScan scan = {.table = visible_table(type),
					   .column = column,
					   .value = value,
					   .memory = CurrentMemoryContext};
	ErrorData *error;

	if (scan.table == NULL)
		return NIL;
	if (!subtransaction_run(scan_body, &scan, NULL, &error))
	{
		visible_note_left_out(type, error->message);
		return NIL;
	}
	return first_hits(scan.hits, most + 1);
}

/* ---- by e-mail address ---- */

static void
email_body(void *arg)
{
	ColumnScan *scan = arg;
	MirrorTable *table = scan->table;
	Datum value = CStringGetTextDatum(scan->value);
	Oid type = TEXTOID;
	RoleScope scope = role_enter_reading(table->owner, table->search_path);

	SPI_connect();
	if (SPI_execute_with_args(
			psprintf("SELECT id, _account, _as_of FROM %s.%s"
					 " WHERE pg_catalog.lower(email) OPERATOR(pg_catalog.=)"
					 " pg_catalog.lower($1) AND email IS NOT NULL",
					 MIRROR_SCHEMA, quote_identifier(table->type->table)),
			1, &type, &value, NULL, true, MOST_SCANNED) != SPI_OK_SELECT)
		elog(ERROR, "could not read %s.%s", MIRROR_SCHEMA, table->type->table);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(scan->memory);
		Rows row = rows_of_tuple(SPI_tuptable->vals[i], SPI_tuptable->tupdesc);
		VisibleRow *hit = palloc0(sizeof(VisibleRow));

		hit->id = rows_text(&row);
		hit->account = rows_text(&row);
		hit->created = rows_time(&row, 0);
		scan->hits = lappend(scan->hits, hit);
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	role_leave(&scope);
}

/*
 * Customers with this e-mail address, in any case, those that changed last
 * first, of VisibleRow; one more than "most" if there are more.  *looked is false
 * if there is no table that the caller may see.
 */
List *
visible_rows_of_email(const char *email, int most, bool *looked)
{
	const CatalogType *type = catalog_find("customer", strlen("customer"));
	ColumnScan scan = {.table = visible_table(type),
					   .value = email,
					   .memory = CurrentMemoryContext};
	ErrorData *error;

	*looked = scan.table != NULL && table_has_column(scan.table, "email");
	if (!*looked)
		return NIL;
	if (subtransaction_run(email_body, &scan, NULL, &error))
		return first_hits(scan.hits, most + 1);
	visible_note_left_out(type, error->message);
	*looked = false;
	return NIL;
}
