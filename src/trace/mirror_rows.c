/*
 * mirror_rows.c
 *		Rows of the mirror that the caller may see, found by their key, by a
 *		reference, or by an e-mail address.
 *
 * Mirror tables belong to users.  A table is used only if the caller may select
 * all of its rows: row security of the caller is respected.  Rows are read by an
 * index, without the executor, so that no code of a user's runs; a table that
 * cannot be read so is read by SQL in a security-restricted scope with its
 * owner's rights.  A table that cannot be used, or has no index for a column, is
 * left out; mirror_rows_unseen() says which.
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
#include "mirror/mirror.h"
#include "tables/tables.h"
#include "types/object.h"
#include "types/types.h"
#include "trace/gather.h"

#define MOST_SCANNED 5000 /* rows of one reference: the newest are not known first */

static List *unseen = NIL; /* of char *: tables that were not looked at */

/* Tables that were left out since the last call, and why, of char * */
List *
mirror_rows_unseen(void)
{
	List *tables = unseen;

	unseen = NIL;
	return tables;
}

static void
note_unseen(const CatalogType *type, const char *why)
{
	char *text = psprintf("%s.%s (%s)", MIRROR_SCHEMA, type->table, why);
	ListCell *cell;

	foreach(cell, unseen)
		if (strcmp(lfirst(cell), text) == 0)
			return;
	unseen = lappend(unseen, text);
}

/* Arguments of find_body() */
typedef struct Lookup
{
	const CatalogType *type;
	MirrorTable *table;
} Lookup;

static void
find_body(void *arg)
{
	Lookup *lookup = arg;

	lookup->table = table_cache_find(lookup->type, TABLE_READ);
}

/* The type's table; NULL if there is none, or it may not or cannot be read. */
static MirrorTable *
find_table(const CatalogType *type)
{
	Lookup lookup = {type, NULL};
	ErrorData *error;

	if (type->table == NULL || !OidIsValid(table_lookup(type)))
		return NULL;
	if (!subtransaction_run(find_body, &lookup, NULL, &error))
		note_unseen(type, error->message);
	else if (lookup.table != NULL &&
			 !table_shows_all(lookup.table, role_caller()))
	{
		note_unseen(type, "you may not see all of its rows");
		return NULL;
	}
	return lookup.table;
}

/* ---- by the key ---- */

/* Arguments and result of peek_body() */
typedef struct Peek
{
	MirrorTable *table;
	const char *id;
	const char *account;
	MirrorState state;
	Jsonb *data;
	MemoryContext memory;
} Peek;

static void
peek_body(void *arg)
{
	Peek *peek = arg;
	MemoryContext old = MemoryContextSwitchTo(peek->memory);

	(void) mirror_peek(peek->table, peek->id, peek->account, &peek->state,
					   &peek->data);
	MemoryContextSwitchTo(old);
}

/*
 * Read a row; "account" is as events have it.  Returns false if there is none
 * that the caller may see.
 */
bool
mirror_rows_read(const CatalogType *type, const char *id, const char *account,
				 Jsonb **data, TimestampTz *as_of, char **event_id,
				 bool *deleted)
{
	Peek peek = {.table = find_table(type),
				 .id = id,
				 .account = object_account(type, account),
				 .memory = CurrentMemoryContext};
	ErrorData *error;

	if (peek.table == NULL)
		return false;
	if (!subtransaction_run(peek_body, &peek, NULL, &error))
	{
		note_unseen(type, error->message);
		return false;
	}
	if (!peek.state.found)
		return false;
	*data = peek.data;
	*as_of = peek.state.as_of;
	*event_id = peek.state.event_id;
	*deleted = peek.state.deleted;
	return true;
}

/* ---- by a column ---- */

/* Is it a valid index whose first column this is, of all rows that have it? */
static bool
index_serves(Relation relation, Oid indexid, AttrNumber attnum)
{
	Oid collation = TupleDescAttr(RelationGetDescr(relation), attnum - 1)
						->attcollation;
	Relation index = index_open(indexid, AccessShareLock);
	List *predicate = RelationGetIndexPredicate(index);
	NullTest *test = predicate != NIL ? linitial(predicate) : NULL;
	bool serves = index->rd_index->indisvalid &&
				  index->rd_rel->relam == BTREE_AM_OID &&
				  index->rd_index->indkey.values[0] == attnum &&
				  RelationGetIndexExpressions(index) == NIL &&
				  index->rd_opfamily[0] < FirstNormalObjectId &&
				  index->rd_opcintype[0] == TEXTOID &&
				  index->rd_indcollation[0] == collation;

	if (serves && test != NULL)
		serves = list_length(predicate) == 1 && IsA(test, NullTest) &&
				 test->nulltesttype == IS_NOT_NULL && IsA(test->arg, Var) &&
				 ((Var *) test->arg)->varattno == attnum;
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

static MirrorHit *
read_hit(const MirrorTable *table, HeapTuple tuple, TupleDesc desc)
{
	MirrorHit *hit = palloc0(sizeof(MirrorHit));
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
	TimestampTz left = ((MirrorHit *) lfirst(a))->created;
	TimestampTz right = ((MirrorHit *) lfirst(b))->created;

	return left > right ? -1 : left < right;
}

/* Arguments and result of scan_body() */
typedef struct Scan
{
	MirrorTable *table;
	const char *column;
	const char *value;
	List *hits;
	MemoryContext memory;
} Scan;

static void
scan_index(Scan *scan, Relation relation, Oid index, AttrNumber attnum)
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
scan_sql(Scan *scan)
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
		MirrorHit *hit = palloc0(sizeof(MirrorHit));

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
	Scan *scan = arg;
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
		note_unseen(scan->table->type,
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
 * Rows with this value in a text column, the newest first, of MirrorHit.  One
 * more than "most" is returned if there are more.
 */
List *
mirror_rows_find(const CatalogType *type, const char *column, const char *value,
				 int most)
{
	Scan scan = {.table = find_table(type),
				 .column = column,
				 .value = value,
				 .memory = CurrentMemoryContext};
	ErrorData *error;

	if (scan.table == NULL)
		return NIL;
	if (!subtransaction_run(scan_body, &scan, NULL, &error))
	{
		note_unseen(type, error->message);
		return NIL;
	}
	return first_hits(scan.hits, most + 1);
}

/* ---- by e-mail address ---- */

static void
email_body(void *arg)
{
	Scan *scan = arg;
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
		MirrorHit *hit = palloc0(sizeof(MirrorHit));

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
 * first, of MirrorHit; one more than "most" if there are more.  *looked is false
 * if there is no table that the caller may see.
 */
List *
mirror_rows_of_email(const char *email, int most, bool *looked)
{
	const CatalogType *type = catalog_find("customer", strlen("customer"));
	Scan scan = {.table = find_table(type),
				 .value = email,
				 .memory = CurrentMemoryContext};
	ErrorData *error;

	*looked = scan.table != NULL && table_has_column(scan.table, "email");
	if (!*looked)
		return NIL;
	if (subtransaction_run(email_body, &scan, NULL, &error))
		return first_hits(scan.hits, most + 1);
	note_unseen(type, error->message);
	*looked = false;
	return NIL;
}
