/*
 * level.c
 *		Does the library fit the catalog of the extension in this database?
 *
 * Library and catalog are replaced at different moments: the library by a
 * package and the server's restart, the catalog by ALTER EXTENSION UPDATE in
 * each database.  Sessions live through either.  So the install script writes a
 * level into stripe_sync.catalog_level, which every change to the catalog that
 * the library must know of raises by one, and the library knows its own.
 * Versions are not compared: most have the same catalog.
 *
 * Deliveries are received at the level before, too: between the restart and
 * ALTER EXTENSION UPDATE none may fail.  All else is refused unless the levels
 * are equal, before an argument is read, whose place or type may be another by
 * now.
 *
 * Every library, older or newer, must be able to read the level, so the
 * table's name and its first column never change.  It is a table, not a function
 * or a view: an upgrade that isn't committed yet blocks nobody who reads it, and
 * its trigger, config_changed, makes the change a new generation in every
 * session, at commit.  Its row is not dumped: a restore has that of the script
 * that it runs.
 */
#include "stripe_sync.h"

#include "access/table.h"
#include "catalog/pg_class.h"
#include "utils/inval.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/* What the catalog has, as of a generation of the set-up */
static int found = 0;
static uint64 found_as_of = 0;

/* 0 before there were levels: in a development build's catalog. */
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
		elog(ERROR, "stripe_sync.catalog_level is no table");
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	scan = systable_beginscan(relation, InvalidOid, false, snapshot, 0, NULL);
	if (HeapTupleIsValid(tuple = systable_getnext(scan)))
		level = DatumGetInt32(
			heap_getattr(tuple, 1, RelationGetDescr(relation), &isnull));
	engine_scan_end(scan, relation, snapshot);
	return level;
}

/*
 * The catalog's level.  Needs a transaction; costs nothing while the set-up
 * stays as it was.  A session learns of what others have changed when it takes a
 * lock; it may have taken none since, so that is asked for here.
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
 * Is the catalog of level "oldest" at least, and not beyond the library?  And is
 * what it names the extension's own?
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

void
level_check(int oldest)
{
	Refusal refusal;

	if (!level_fits(oldest, &refusal))
		refusal_raise(&refusal);
}

/* For tables that are read by column number: has it all that are known? */
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
 * For functions that answer rows at any level of the catalog: are they declared
 * with as many columns as the library fills?
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
