/*
 * alerted.c
 *		Rows of stripe_sync.alerted: which rule has counted which event, and to
 *		which incident.
 *
 * There is at most one row for a rule and an event, so a redelivery or a
 * replay counts nothing.  An event is counted by inserting its row, and not by
 * updating a counter in the incident: transactions that count at the same time
 * don't wait for each other's row.
 *
 * All functions run in the engine's scope.  Unless noted otherwise the caller
 * holds the lock of the group (incident_key.c).
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_collation.h"
#include "storage/procarray.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

#include "engine/rights.h"
#include "engine/statement.h"
#include "alert/internal.h"

/* ---- one event ---- */

/* Returns true if the rule has counted the event before. */
bool
alerted_before(const Occurrence *occurrence)
{
	static EngineStatement select = {
		"SELECT true FROM stripe_sync.alerted"
		" WHERE event_id = $1 AND account = $2 AND alert = $3"};

	return statement_bool(false, &select,
						  ARGS(arg_text(occurrence->event->id),
							   arg_text(occurrence->event->account),
							   arg_text(occurrence->alert->name)));
}

/*
 * Note that the rule has seen the event, which opens, repeats or (closes)
 * resolves the incident; 0 is none.
 */
void
alerted_insert(const Occurrence *occurrence, int64 incident, bool closes)
{
	static EngineStatement insert = {
		"INSERT INTO stripe_sync.alerted"
		" (event_id, account, alert, group_key, created, closes, incident)"
		" VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING"};

	statement_exec(&insert, ARGS(arg_text(occurrence->event->id),
								 arg_text(occurrence->event->account),
								 arg_text(occurrence->alert->name),
								 arg_text(occurrence->group),
								 arg_time(occurrence->created), arg_bool(closes),
								 arg_if(incident != 0, arg_int8(incident))));
}

/* ---- order in time: Stripe doesn't deliver events in their order ---- */

/* Has the rule counted a closing event of the group, as late or later? */
static bool
group_is_closed_since(const Occurrence *occurrence)
{
	static EngineStatement select = {
		"SELECT true FROM stripe_sync.alerted"
		" WHERE alert = $1 AND group_key = $2 AND account = $3 AND created >= $4"
		" AND closes LIMIT 1"};

	return statement_bool(false, &select,
						  ARGS(arg_text(occurrence->alert->name),
							   arg_text(occurrence->group),
							   arg_text(occurrence->event->account),
							   arg_time(occurrence->created)));
}

/*
 * Does the inbox hold a closing event of the same object, as late or later?
 * The rule may have been added after that event, and then hasn't counted it.
 */
static bool
object_is_closed_since(const Occurrence *occurrence)
{
	static EngineStatement select = {
		"SELECT true FROM stripe_sync.event"
		" WHERE object_id = $1 AND account = $2 AND created >= $3"
		" AND stripe_sync.event_type_fits(type, $4) LIMIT 1"};

	return statement_bool(false, &select,
						  ARGS(arg_text(occurrence->event->object_id),
							   arg_text(occurrence->event->account),
							   arg_time(occurrence->created),
							   arg_text(occurrence->alert->closed_by)));
}

/*
 * Returns true if a closing event that is as late or later has arrived before
 * this opening one: then there is nothing to open.  Events of the extension
 * itself and of the application are never late; their times have whole seconds,
 * so that a comparison with an event of the same second would be wrong.
 *
 * The inbox is searched only where the type alone decides that an event closes:
 * with closing_condition, all closing events are in stripe_sync.alerted.
 */
bool
alerted_closed_since(const Occurrence *occurrence)
{
	const Alert *alert = occurrence->alert;

	if (alert->closed_by == NULL || alert_event_is_own(occurrence->event))
		return false;
	if (group_is_closed_since(occurrence))
		return true;
	return alert->group_by == NULL && alert->closing_condition == NULL &&
		   occurrence->event->object_id != NULL &&
		   object_is_closed_since(occurrence);
}

/* Returns true if the incident has an opening event later than this one. */
bool
alerted_opened_since(const Occurrence *occurrence, int64 incident)
{
	static EngineStatement select = {
		"SELECT true FROM stripe_sync.alerted"
		" WHERE incident = $1 AND NOT closes AND created > $2 LIMIT 1"};

	return statement_bool(
		false, &select, ARGS(arg_int8(incident), arg_time(occurrence->created)));
}

/*
 * The open roll-up or digest that counts an earlier event of this group; 0 if
 * there is none.
 */
int64
alerted_find_collector(const Occurrence *occurrence)
{
	static EngineStatement select = {
		"SELECT i.id FROM stripe_sync.alerted a"
		" JOIN stripe_sync.incident_record i ON i.id = a.incident"
		" WHERE a.alert = $1 AND a.group_key = $2 AND a.account = $3"
		" AND NOT a.closes AND a.created <= $4 AND i.kind <> 'single'"
		" AND i.state = 'open' LIMIT 1"};

	return statement_int8(0, &select,
						  ARGS(arg_text(occurrence->alert->name),
							   arg_text(occurrence->group),
							   arg_text(occurrence->event->account),
							   arg_time(occurrence->created)));
}

/* ---- all events of an incident; these need no lock ---- */

IncidentCounts
alerted_count(int64 incident)
{
	static EngineStatement select = {
		"SELECT pg_catalog.count(*) FILTER (WHERE NOT closes),"
		" pg_catalog.count(*) FILTER (WHERE closes),"
		" pg_catalog.max(created) FILTER (WHERE NOT closes)"
		" FROM stripe_sync.alerted WHERE incident = $1"};
	IncidentCounts counts = {0, 0, DT_NOBEGIN};
	Rows rows;

	rows_open(&rows, &select, ARGS(arg_int8(incident)));
	if (rows_next(&rows))
	{
		counts.opening = rows_int8(&rows, 0);
		counts.closing = rows_int8(&rows, 0);
		counts.last_at = rows_time(&rows, DT_NOBEGIN);
	}
	rows_close(&rows);
	return counts;
}

/* "invoice_failed 12, dispute_opened 3": the rules that count most, 20 of them */
char *
alerted_count_by_rule(int64 incident)
{
	static EngineStatement select = {
		"SELECT pg_catalog.string_agg(c.alert || ' ' || c.n, ', ' ORDER BY c.n DESC)"
		" FROM (SELECT alert, pg_catalog.count(*) AS n FROM stripe_sync.alerted"
		"  WHERE incident = $1 AND NOT closes GROUP BY alert"
		"  ORDER BY 2 DESC LIMIT 20) c"};
	char *text = statement_text(&select, ARGS(arg_int8(incident)));

	return text ? text : "";
}

/* ---- what other transactions do ---- */

static void
key_init(ScanKey key, Relation relation, const char *column, RegProcedure equal,
		 Datum value)
{
	ScanKeyInit(key, get_attnum(RelationGetRelid(relation), column),
				BTEqualStrategyNumber, equal, value);
	if (equal == F_TEXTEQ)
		key->sk_collation = DEFAULT_COLLATION_OID;
}

/*
 * Returns true if a transaction that has not committed yet counts an event to
 * the incident.  A dirty snapshot shows its row.  Waits for no lock.
 */
bool
alerted_is_uncommitted(int64 incident)
{
	Relation relation = table_open(engine_relation("alerted"), AccessShareLock);
	SnapshotData dirty;
	SysScanDesc scan;
	ScanKeyData key;
	bool found = false;

	InitDirtySnapshot(dirty);
	key_init(&key, relation, "incident", F_INT8EQ, Int64GetDatum(incident));
	scan = systable_beginscan(relation, engine_relation("alerted_incident_idx"),
							  true, &dirty, 1, &key);
	while (!found && HeapTupleIsValid(systable_getnext(scan)))
		found = TransactionIdIsValid(dirty.xmin);
	systable_endscan(scan);
	table_close(relation, AccessShareLock);
	return found;
}

/*
 * Returns true if a committed transaction has counted an event of the group
 * and the snapshot of ours, which is REPEATABLE READ or SERIALIZABLE, doesn't
 * show it.  Our statements would then decide from an old state of the group
 * although we hold its lock.
 */
bool
alerted_after_snapshot(const char *alert, const char *group, const char *account)
{
	Relation relation = table_open(engine_relation("alerted"), AccessShareLock);
	Snapshot latest = RegisterSnapshot(GetLatestSnapshot());
	Snapshot ours = GetTransactionSnapshot();
	ScanKeyData keys[3];
	SysScanDesc scan;
	HeapTuple tuple;
	bool newer = false;

	/* in the order of the index */
	key_init(&keys[0], relation, "alert", F_TEXTEQ, CStringGetTextDatum(alert));
	key_init(&keys[1], relation, "group_key", F_TEXTEQ,
			 CStringGetTextDatum(group));
	key_init(&keys[2], relation, "account", F_TEXTEQ,
			 CStringGetTextDatum(account));
	scan = systable_beginscan(relation, engine_relation("alerted_group_idx"),
							  true, latest, lengthof(keys), keys);
	while (!newer && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		TransactionId xmin = HeapTupleHeaderGetXmin(tuple->t_data);

		newer = !TransactionIdIsCurrentTransactionId(xmin) &&
				XidInMVCCSnapshot(xmin, ours);
	}
	systable_endscan(scan);
	UnregisterSnapshot(latest);
	table_close(relation, AccessShareLock);
	return newer;
}
