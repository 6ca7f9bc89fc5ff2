/*
 * verify_keys.c
 *		The objects that verify_mirror() verifies: those with stored events and
 *		those with a row, a sample of each type.
 *
 * The inbox is read once for all types, with the engine's rights; each table is
 * read with the rights of its owner.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/pg_prng.h"
#include "executor/spi.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "engine/rights.h"
#include "engine/statement.h"
#include "tables/tables.h"
#include "types/types.h"
#include "inspect/internal.h"

static ObjectKey *
read_object_key(Rows *row)
{
	ObjectKey *key = palloc(sizeof(ObjectKey));

	key->id = rows_text(row);
	key->account = rows_text(row);
	return key;
}

/* The names of types, as text[]. */
Datum
verify_type_names(List *types)
{
	Datum *names = palloc(sizeof(Datum) * Max(list_length(types), 1));
	int n = 0;
	ListCell *cell;

	foreach(cell, types)
		names[n++] = CStringGetTextDatum(((CatalogType *) lfirst(cell))->object);
	return PointerGetDatum(
		construct_array(names, n, TEXTOID, -1, false, TYPALIGN_INT));
}

/*
 * Objects that have stored events: a sample of each type, in one scan of the
 * inbox.  "keys" has a list for each type of the catalog.
 */
void
verify_keys_in_inbox(List *types, int sample, List **keys)
{
	static EngineStatement select = {
		"SELECT object_id, account, object_type FROM ("
		" SELECT object_id, account, object_type, pg_catalog.row_number() OVER"
		"   (PARTITION BY object_type ORDER BY pg_catalog.random()) AS n FROM ("
		"  SELECT DISTINCT object_type, object_id,"
		"    CASE WHEN object_type <> 'account' THEN account"
		/* as account_of_accounts() says */
		"     WHEN pg_catalog.starts_with(account, 'acct_') THEN ''"
		"     ELSE pg_catalog.split_part(account, '/', 1) END AS account"
		"    FROM stripe_sync.event WHERE object_type = ANY ($1)"
		"     AND object_id IS NOT NULL AND created IS NOT NULL) o) r"
		" WHERE n <= $2"};
	Rows rows;

	rows_open(&rows, &select,
			  ARGS(arg_datum(TEXTARRAYOID, verify_type_names(types)),
				   arg_int8(sample)));
	while (rows_next(&rows))
	{
		ObjectKey *key = read_object_key(&rows);
		char *object = rows_text(&rows);
		int i = catalog_find(object, strlen(object)) - catalog_types;

		keys[i] = lappend(keys[i], key);
	}
	rows_close(&rows);
}

/*
 * Add a sample of the table's rows to the keys.  Under the owner's search_path
 * there is no operator in the statement to be looked up.
 */
static void
keys_in_table(MirrorTable *table, int sample, List **keys)
{
	bool single = table->type->key[0] == '\0';
	char *sql = psprintf("SELECT %s, _account FROM %s.%s"
						 " ORDER BY pg_catalog.random() LIMIT %d",
						 single ? "''" : quote_identifier(table->type->key),
						 MIRROR_SCHEMA, quote_identifier(table->type->table),
						 sample);
	MemoryContext context = CurrentMemoryContext;
	RoleScope scope = role_enter_reading(table->owner, table->search_path);

	SPI_connect();
	if (SPI_execute(sql, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read %s.%s", MIRROR_SCHEMA, table->type->table);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(context);
		Rows row = rows_of_tuple(SPI_tuptable->vals[i], SPI_tuptable->tupdesc);

		*keys = lappend(*keys, read_object_key(&row));
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	role_leave(&scope);
}

static int
compare_keys(const ListCell *a, const ListCell *b)
{
	const ObjectKey *left = lfirst(a);
	const ObjectKey *right = lfirst(b);
	int order = strcmp(left->id, right->id);

	return order != 0 ? order : strcmp(left->account, right->account);
}

/*
 * Choose this number of keys at random, in their order: each is taken with the
 * probability that is left to it (selection sampling).
 */
static List *
choose_keys(List *keys, int sample)
{
	List *chosen = NIL;
	int rest = list_length(keys);
	ListCell *cell;

	foreach(cell, keys)
	{
		int wanted = sample - list_length(chosen);

		if (pg_prng_double(&pg_global_prng_state) * rest < wanted)
			chosen = lappend(chosen, lfirst(cell));
		rest--;
	}
	return chosen;
}

/*
 * A sample of the objects in "all" (with stored events) and in the table, each
 * once, of ObjectKey in their order.
 */
List *
verify_sample(MirrorTable *table, List *all, int sample)
{
	List *keys = NIL;
	ListCell *cell;

	keys_in_table(table, sample, &all);
	list_sort(all, compare_keys);
	foreach(cell, all)
	{
		ListCell former = {.ptr_value = keys != NIL ? llast(keys) : NULL};

		if (keys == NIL || compare_keys(&former, cell) != 0)
			keys = lappend(keys, lfirst(cell));
	}
	return choose_keys(keys, sample);
}
