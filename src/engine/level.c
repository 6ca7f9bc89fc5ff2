/*
 * level.c
 *		Does the library match the extension's catalog in this database?
 *
 * The library is replaced by a package and a restart of the server, the catalog
 * by ALTER EXTENSION UPDATE in each database.  Sessions may continue across
 * either.  So the install script stores a level in stripe_sync.catalog_level,
 * which is incremented by each change of the catalog that the library depends
 * on, and CATALOG_LEVEL is that of the library.  Versions are not compared,
 * because most have the same catalog.
 *
 * receive() and webhook() also work at the previous level, so that no delivery
 * fails between the restart and ALTER EXTENSION UPDATE.  All other functions
 * raise an error unless the levels are equal, before they read an argument, whose
 * position or type may differ.
 *
 * Every library, older or newer, must be able to read the level, so the table's
 * name and its first column never change.  It is a table and not a function or a
 * view: an uncommitted upgrade doesn't block its readers, and its trigger,
 * config_changed(), makes every session read it again after the commit.  Its row
 * is not dumped, so a restored database has the level of its install script.
 *
 * The table is opened by its OID with ACCESS SHARE, which is released at once; no
 * privilege of the caller and no search_path matters.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_class.h"
#include "utils/inval.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/refusal.h"
#include "engine/engine.h"
#include "engine/rights.h"
#include "engine/internal.h"

/* The catalog's level, as of a generation of the set-up */
static int found = 0;
static uint64 found_as_of = 0;

/* Returns 0 if there is no table of levels, as in early development versions. */
static int
read_level(void)
{
	Oid relid = own_find("catalog_level");
	Relation relation;
	Snapshot snapshot;
	SysScanDesc scan;
	HeapTuple tuple;
	bool isnull;
	int level = 0;

	if (!OidIsValid(relid))
	{
		(void) engine_extension(); /* raises where it isn't installed */
		return 0;
	}
	relation = table_open(relid, AccessShareLock);
	if (relation->rd_rel->relkind != RELKIND_RELATION)
		elog(ERROR, "stripe_sync.catalog_level is not a table");
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	scan = systable_beginscan(relation, InvalidOid, false, snapshot, 0, NULL);
	if (HeapTupleIsValid(tuple = systable_getnext(scan)))
		level = DatumGetInt32(
			heap_getattr(tuple, 1, RelationGetDescr(relation), &isnull));
	engine_scan_end(scan, relation, snapshot);
	return level;
}

/*
 * The catalog's level.  Needs a transaction.  It is read again only after a
 * change of the set-up.  Invalidations are otherwise processed when a lock is
 * taken, so they are processed here.
 */
int
level_found(void)
{
	uint64 now;

	AcceptInvalidationMessages();
	now = engine_generation();
	if (found_as_of != now)
	{
		found = read_level();
		found_as_of = now;
	}
	return found;
}

/*
 * Is the catalog's level at least "oldest" and at most the library's, and does
 * own_fits() hold?  If not, *refusal says what to do.
 */
bool
level_fits(int oldest, Refusal *refusal)
{
	int level = level_found();

	if (!own_fits(refusal))
		return false;
	if (level >= oldest && level <= CATALOG_LEVEL)
		return true;
	return refuse(
		refusal, FAULT_OURS, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
		psprintf(
			"extension \"stripe_sync\" has catalog level %d, its library needs level %d",
			level, CATALOG_LEVEL),
		NULL,
		level < CATALOG_LEVEL
			? "Run ALTER EXTENSION stripe_sync UPDATE."
			: "Reconnect. If that does not help, install the newer package of stripe_sync and restart the server: it loads libraries of \"shared_preload_libraries\" when it starts.");
}

/* Raise an error (55000) if not. */
void
level_check(int oldest)
{
	Refusal refusal;

	if (!level_fits(oldest, &refusal))
		refusal_raise(&refusal);
}

/* Raise an error if a table that is read by column number has too few columns. */
void
level_check_table(TupleDesc desc, int columns, const char *table)
{
	if (desc->natts < columns)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("stripe_sync.%s has %d columns, the library needs %d",
						table, desc->natts, columns),
				 errhint("Run ALTER EXTENSION stripe_sync UPDATE.")));
}

/*
 * Raise an error if a function that works at any catalog level is declared with
 * another number of result columns than the library fills.
 */
void
level_check_columns(TupleDesc desc, int columns)
{
	if (desc->natts != columns)
		ereport(
			ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg(
				 "the function is declared with %d columns, its library fills %d",
				 desc->natts, columns)));
}
