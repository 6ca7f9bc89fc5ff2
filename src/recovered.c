/*
 * recovered.c
 *		What was told of failing events is over: system.event_recovered.
 *
 * Events that fail alike (in one step, with one SQLSTATE, of one type and
 * account) are told together, and so is that all of them have gone through.
 * Sessions that let events go through at once don't see each other, so this is
 * looked at later, by who looks for due events: rows of event_error that have
 * recovered are taken, and a group of which none is failing any more is told.
 * Should another of the group fail at this moment, incident.c sees it, for it
 * looks again once it has the group's lock.
 */
#include "stripe_sync.h"

#include "access/genam.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#define AT_ONCE 1000

typedef struct Recovered
{
	char *step;
	char *sqlstate;
	char *event_type;
	char *account;
	int64 events;
} Recovered;

/* Is there any?  Looked for whenever the worker is woken, so it costs a probe. */
static bool
has_recovered(void)
{
	Relation relation = table_open(engine_relation("event_error"),
								   AccessShareLock);
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	SysScanDesc scan = systable_beginscan(
		relation, engine_relation("event_error_recovered_idx"), true, snapshot,
		0, NULL);
	bool found = HeapTupleIsValid(systable_getnext(scan));

	engine_scan_end(scan, relation, snapshot);
	return found;
}

/* Groups of what has recovered, in an order that is everybody's. */
static List *
take_recovered(void)
{
	static EngineStatement take = {
		"WITH due AS (SELECT id FROM stripe_sync.event_error"
		"  WHERE state = 'recovered' ORDER BY recovered_at LIMIT $1"
		"  FOR UPDATE SKIP LOCKED),"
		" done AS (UPDATE stripe_sync.event_error e SET state = 'settled'"
		"  FROM due d WHERE e.id = d.id"
		"  RETURNING e.step, e.sqlstate, e.event_type, e.account)"
		" SELECT step, sqlstate, event_type, account, pg_catalog.count(*)"
		"  FROM done GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4",
		1,
		{INT4OID}};
	Datum most = Int32GetDatum(AT_ONCE);
	MemoryContext context = CurrentMemoryContext;
	List *groups = NIL;

	SPI_connect();
	engine_run(&take, &most, NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple row = SPI_tuptable->vals[i];
		TupleDesc desc = SPI_tuptable->tupdesc;
		MemoryContext old = MemoryContextSwitchTo(context);
		Recovered *group = palloc(sizeof(Recovered));

		group->step = SPI_getvalue(row, desc, 1);
		group->sqlstate = SPI_getvalue(row, desc, 2);
		group->event_type = SPI_getvalue(row, desc, 3);
		group->account = SPI_getvalue(row, desc, 4);
		group->events = DatumGetInt64(
			SPI_getbinval(row, desc, 5, &(bool){false}));
		groups = lappend(groups, group);
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	return groups;
}

/* Of the group's account, and whose group is that of the failures. */
static void
tell(const Recovered *group)
{
	static EngineStatement build = {
		"SELECT pg_catalog.jsonb_build_object('id', $1, 'group', $1, 'step', $2,"
		" 'sqlstate', $3, 'event_type', $4)",
		4,
		{TEXTOID, TEXTOID, TEXTOID, TEXTOID}};
	Event about = {.account = group->account};
	Datum values[] = {
		CStringGetTextDatum(
			trouble_group(group->step, group->sqlstate, group->event_type)),
		CStringGetTextDatum(group->step),
		group->sqlstate ? CStringGetTextDatum(group->sqlstate) : (Datum) 0,
		CStringGetTextDatum(group->event_type)};
	char nulls[] = {' ', ' ', group->sqlstate ? ' ' : 'n', ' ', '\0'};

	alert_report(EVENT_RECOVERED, NULL, &about,
				 engine_jsonb(&build, values, nulls), true);
}

/* True when something was told.  Within a transaction, in the engine's scope. */
bool
recovered_tell(void)
{
	List *groups;
	bool told = false;
	ListCell *cell;
	int nest;

	if (!has_recovered())
		return false;
	nest = plan_for_indexes();
	groups = take_recovered();
	plan_settings_restore(nest);
	foreach(cell, groups)
	{
		Recovered *group = lfirst(cell);

		if (!alert_wanted(EVENT_RECOVERED) ||
			record_is_failing(group->step, group->sqlstate, group->event_type,
							  group->account))
			continue;
		tell(group);
		told = true;
	}
	return told || list_length(groups) > 0;
}

/* Is an incident open of objects of this type that could not be read? */
static bool
reading_is_told(const char *group, const char *object_type)
{
	static EngineStatement select = {
		"SELECT FROM stripe_sync.alert a JOIN stripe_sync.incident_record i"
		" ON i.alert = a.name AND i.group_key = $1 AND i.account = ''"
		" AND i.state = 'open' AND i.kind = 'single'"
		" WHERE a.closed_by IS NOT NULL AND NOT EXISTS ("
		"  SELECT FROM stripe_sync.reread r"
		"   WHERE r.object_type = $2 AND r.state = 'dead') LIMIT 1",
		2,
		{TEXTOID, TEXTOID}};
	Datum values[] = {CStringGetTextDatum(group),
					  CStringGetTextDatum(object_type)};
	int nest = plan_for_indexes();
	bool found;

	SPI_connect();
	engine_run(&select, values, NULL, SPI_OK_SELECT);
	found = SPI_processed > 0;
	SPI_finish();
	plan_settings_restore(nest);
	return found;
}

/* Something of this type has been read, and none of it is given up any more. */
void
recovered_reading(const char *object_type)
{
	Recovered group = {.step = "reading",
					   .event_type = unconstify(char *, object_type),
					   .account = ""};

	if (alert_wanted(EVENT_RECOVERED) &&
		reading_is_told(trouble_group("reading", NULL, object_type), object_type))
		tell(&group);
}
