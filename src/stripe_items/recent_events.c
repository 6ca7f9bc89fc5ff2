/*
 * recent_events.c
 *		The newest events of the inbox, at a cost that doesn't depend on its size.
 *
 * The inbox has no B-tree index by time.  In a table that grows the newest rows
 * are at its end, and so many blocks are read there.  Once pruning has freed
 * space within the table, new rows are written there instead; then the newest
 * ones are found by the BRIN index on received_at.  Which of both it is, the
 * last event in stripe_sync.pulse tells.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_type.h"
#include "storage/bufmgr.h"
#include "utils/guc.h"
#include "utils/rel.h"

#include "engine/engine.h"
#include "engine/rights.h"
#include "stripe_items/internal.h"

#define END_BLOCKS	 500 /* a row takes about 3 kB */
#define PROBE_BLOCKS 20

/* pulse is written once a minute, a little before the rows that it counts */
#define PULSE_LAG (2 * USECS_PER_MINUTE)

static BlockNumber
count_blocks(void)
{
	Relation relation = table_open(engine_relation("event"), AccessShareLock);
	BlockNumber count = RelationGetNumberOfBlocks(relation);

	table_close(relation, AccessShareLock);
	return count;
}

static void
set_block(ItemPointer from, BlockNumber block)
{
	ItemPointerSet(from, block, FirstOffsetNumber);
}

/* Is the newest event elsewhere than in the last blocks of the table? */
static bool
newest_is_elsewhere(BlockNumber blocks)
{
	static EngineStatement select = {
		"SELECT (SELECT pg_catalog.max(last_at) FROM stripe_sync.pulse) >"
		" (SELECT pg_catalog.max(received_at) + $2 * interval '1 microsecond'"
		"   FROM stripe_sync.event WHERE ctid >= $1)"};
	ItemPointerData from;

	set_block(&from, blocks - PROBE_BLOCKS);
	return statement_bool(
		false, &select,
		ARGS(arg_datum(TIDOID, PointerGetDatum(&from)), arg_int8(PULSE_LAG)));
}

/*
 * Where the newest events are.  Until recent_end() statements are planned
 * without sequential scans: a plan that is kept doesn't know the time.
 */
RecentEvents
recent_begin(void)
{
	RecentEvents recent = {.since = GetCurrentTimestamp() - USECS_PER_DAY};
	BlockNumber blocks = count_blocks();

	recent.nest = NewGUCNestLevel();
	(void) set_config_option("enable_seqscan", "off", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	recent.by_time = blocks > END_BLOCKS && newest_is_elsewhere(blocks);
	if (recent.by_time)
		set_block(&recent.from, MaxBlockNumber);
	else
		set_block(&recent.from, blocks > END_BLOCKS ? blocks - END_BLOCKS : 0);
	return recent;
}

void
recent_end(const RecentEvents *recent)
{
	plan_settings_restore(recent->nest);
}
