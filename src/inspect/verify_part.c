/*
 * verify_part.c
 *		Compares a few objects of one part of the inbox with the mirror.
 *
 * The inbox is divided into parts of equal size; the objects are those of the
 * events in a few blocks at a random place in the part.  So the cost does not
 * depend on the size of the inbox, and all parts together are a sample of it.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_type.h"
#include "common/pg_prng.h"
#include "executor/tuptable.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/itemptr.h"
#include "utils/rel.h"
#include "utils/tuplestore.h"

#include "base/compat.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "types/types.h"
#include "inspect/inspect.h"
#include "inspect/internal.h"

#define MOST_BLOCKS 4

/* The objects of one type */
typedef struct TypeObjects
{
	char *name;
	List *keys; /* of ObjectKey */
} TypeObjects;

/* ---- the objects ---- */

static BlockNumber
count_blocks(void)
{
	Relation relation = table_open(engine_relation("event"), AccessShareLock);
	BlockNumber count = RelationGetNumberOfBlocks(relation);

	table_close(relation, AccessShareLock);
	return count;
}

/* Choose blocks of the part.  Returns false if it has none. */
static bool
choose_blocks(int part, int parts, ItemPointer from, ItemPointer until)
{
	uint64 blocks = count_blocks();
	uint64 first = blocks * part / parts;
	uint64 end = blocks * (part + 1) / parts;
	uint64 chosen = first;

	if (first >= end)
		return false;
	if (end - first > MOST_BLOCKS)
		chosen = pg_prng_uint64_range(&pg_global_prng_state, first,
									  end - MOST_BLOCKS);
	ItemPointerSet(from, chosen, FirstOffsetNumber);
	ItemPointerSet(until, Min(end, chosen + MOST_BLOCKS), FirstOffsetNumber);
	return true;
}

/* Lists of TypeObjects; the account of an object "account" as in verify_keys.c */
static List *
read_objects(ItemPointer from, ItemPointer until, int most)
{
	static EngineStatement select = {
		"SELECT object_type, object_id, account FROM ("
		" SELECT DISTINCT object_type, object_id,"
		"  CASE WHEN object_type <> 'account' THEN account"
		"   WHEN pg_catalog.starts_with(account, 'acct_') THEN ''"
		"   ELSE pg_catalog.split_part(account, '/', 1) END AS account"
		"  FROM stripe_sync.event WHERE ctid >= $1 AND ctid < $2"
		"   AND object_id IS NOT NULL AND created IS NOT NULL) o"
		" ORDER BY pg_catalog.random() LIMIT $3"};
	List *types = NIL;
	Rows rows;

	rows_open(&rows, &select,
			  ARGS(arg_datum(TIDOID, PointerGetDatum(from)),
				   arg_datum(TIDOID, PointerGetDatum(until)), arg_int8(most)));
	while (rows_next(&rows))
	{
		char *name = rows_text(&rows);
		ObjectKey *key = palloc(sizeof(ObjectKey));
		TypeObjects *objects = NULL;
		ListCell *cell;

		key->id = rows_text(&rows);
		key->account = rows_text(&rows);
		foreach(cell, types)
			if (strcmp(((TypeObjects *) lfirst(cell))->name, name) == 0)
				objects = lfirst(cell);
		if (objects == NULL)
		{
			objects = palloc0(sizeof(TypeObjects));
			objects->name = name;
			types = lappend(types, objects);
		}
		objects->keys = lappend(objects->keys, key);
	}
	rows_close(&rows);
	return types;
}

/* ---- what differs ---- */

/* A place for the rows of verify_report() */
static ReturnSetInfo
make_result(void)
{
	static const char *const names[] = {"object_type", "object_id", "account",
										"field",	   "mirror",	"expected"};
	ReturnSetInfo result = {.type = T_ReturnSetInfo};

	result.setDesc = CreateTemplateTupleDesc(lengthof(names));
	for (int i = 0; i < lengthof(names); i++)
		TupleDescInitEntry(result.setDesc, i + 1, names[i],
						   i < 4 ? TEXTOID : JSONBOID, -1, 0);
	compat_finalize_desc(result.setDesc);
	result.setResult = tuplestore_begin_heap(false, false, work_mem);
	return result;
}

static MirrorDifference *
read_difference(HeapTuple tuple, TupleDesc desc)
{
	MirrorDifference *difference = palloc(sizeof(MirrorDifference));
	Rows row = rows_of_tuple(tuple, desc);

	difference->object_type = rows_text(&row);
	difference->object_id = rows_text(&row);
	difference->account = rows_text(&row);
	difference->field = rows_text(&row);
	return difference;
}

static bool
is_same_object(const MirrorDifference *a, const MirrorDifference *b)
{
	return strcmp(a->object_type, b->object_type) == 0 &&
		   strcmp(a->object_id, b->object_id) == 0 &&
		   strcmp(a->account, b->account) == 0;
}

/* One for each object; its fields follow each other. */
static List *
read_differences(ReturnSetInfo *result)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(result->setDesc,
													&TTSOpsMinimalTuple);
	List *differences = NIL;

	while (tuplestore_gettupleslot(result->setResult, true, false, slot))
	{
		bool copied;
		HeapTuple tuple = ExecFetchSlotHeapTuple(slot, false, &copied);
		MirrorDifference *difference = read_difference(tuple, result->setDesc);

		if (differences == NIL ||
			!is_same_object(difference, llast(differences)))
			differences = lappend(differences, difference);
		if (copied)
			heap_freetuple(tuple);
	}
	ExecDropSingleTupleTableSlot(slot);
	tuplestore_end(result->setResult);
	return differences;
}

/*
 * Compare at most "most" objects of the part (from 0 on) of the inbox.  Returns
 * their number, and those that differ, of MirrorDifference.  Objects whose
 * table is missing, or can't be used, aren't counted.  In the engine's scope.
 */
int
verify_part(int part, int parts, int most, List **differences)
{
	ItemPointerData from;
	ItemPointerData until;
	ReturnSetInfo result;
	int compared = 0;
	ListCell *cell;

	*differences = NIL;
	if (!choose_blocks(part, parts, &from, &until))
		return 0;
	result = make_result();
	foreach(cell, read_objects(&from, &until, most))
	{
		TypeObjects *objects = lfirst(cell);
		const CatalogType *type = catalog_find(objects->name,
											   strlen(objects->name));

		if (type != NULL && type->table != NULL &&
			verify_objects(type, objects->keys, &result))
			compared += list_length(objects->keys);
	}
	*differences = read_differences(&result);
	return compared;
}
