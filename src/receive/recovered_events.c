/*
 * recovered_events.c
 *		system.event_recovered: all events of a group of failures have
 *		succeeded.
 *
 * A group is a step, a SQLSTATE, an event type and an account.  Two transactions
 * in which the last two events of a group succeed do not see each other, so none
 * of them can decide that the group has recovered.  That is done later, in the
 * transaction in which due_events.c finds nothing due: rows of event_error in
 * state "recovered" are settled (SKIP LOCKED), and the event is raised for each
 * of their groups in which no row is "failing".  If another event of the group
 * fails at the same time, incident.c sees it: it checks again under the group's
 * lock.
 *
 * Rows that are "recovered" stay so over a crash.  This transaction holds rows
 * of event_error while it waits for a group's lock; a session that holds that
 * lock and replays one of these events in the same transaction can deadlock with
 * it.  The server aborts one of them, and the worker tries again.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#include "alert/alert.h"
#include "engine/engine.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "inbox/event.h"
#include "inbox/inbox.h"
#include "receive/receive.h"
#include "receive/internal.h"

#define BATCH_ROWS 1000

typedef struct FailureGroup
{
	char *step;
	char *sqlstate; /* or NULL: any */
	char *event_type;
	char *account;
} FailureGroup;

/* Are there any such rows?  One index probe: it runs whenever the worker wakes. */
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

/*
 * Settle recovered rows and return their groups, in an order that is the same in
 * all sessions, as their locks are taken in it.
 */
static List *
settle_recovered(void)
{
	static EngineStatement settle = {
		"WITH due AS (SELECT id FROM stripe_sync.event_error"
		"  WHERE state = 'recovered' ORDER BY recovered_at LIMIT $1"
		"  FOR UPDATE SKIP LOCKED),"
		" done AS (UPDATE stripe_sync.event_error e SET state = 'settled'"
		"  FROM due d WHERE e.id = d.id"
		"  RETURNING e.step, e.sqlstate, e.event_type, e.account)"
		" SELECT step, sqlstate, event_type, account"
		"  FROM done GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4"};
	List *groups = NIL;
	Rows rows;

	rows_open(&rows, &settle, ARGS(arg_int4(BATCH_ROWS)));
	while (rows_next(&rows))
	{
		FailureGroup *group = palloc(sizeof(FailureGroup));

		group->step = rows_text(&rows);
		group->sqlstate = rows_text(&rows);
		group->event_type = rows_text(&rows);
		group->account = rows_text(&rows);
		groups = lappend(groups, group);
	}
	rows_close(&rows);
	return groups;
}

/* Raise the event, of the group's account; waits for the group's lock. */
static void
report_recovered(const FailureGroup *group)
{
	static EngineStatement build = {
		"SELECT pg_catalog.jsonb_build_object('id', $1, 'group', $1, 'step', $2,"
		" 'sqlstate', $3, 'event_type', $4)"};
	Event about = {.account = group->account};
	char *name = failure_group(group->step, group->sqlstate, group->event_type);
	Jsonb *object = statement_jsonb(
		&build, ARGS(arg_text(name), arg_text(group->step),
					 arg_text(group->sqlstate), arg_text(group->event_type)));

	alert_report(EVENT_RECOVERED, NULL, &about, object, true);
}

/*
 * Raise system.event_recovered where it is due.  Runs in the caller's
 * transaction, in the engine's scope.  Returns true if rows were settled: there
 * may be more than a batch.
 */
bool
recoveries_report(void)
{
	List *groups;
	ListCell *cell;
	int nest;

	if (!has_recovered())
		return false;
	nest = plan_for_indexes();
	groups = settle_recovered();
	plan_settings_restore(nest);
	foreach(cell, groups)
	{
		FailureGroup *group = lfirst(cell);

		if (alert_wanted(EVENT_RECOVERED) &&
			!record_is_failing(group->step, group->sqlstate, group->event_type,
							   group->account))
			report_recovered(group);
	}
	return groups != NIL;
}

/*
 * Is an incident open for objects of this type that could not be fetched, and is
 * none of them given up any more?
 */
static bool
reading_has_recovered(const char *group, const char *object_type)
{
	static EngineStatement select = {
		"SELECT true FROM stripe_sync.alert a JOIN stripe_sync.incident_record i"
		" ON i.alert = a.name AND i.group_key = $1 AND i.account = ''"
		" AND i.state = 'open' AND i.kind = 'single'"
		" WHERE a.closed_by IS NOT NULL AND NOT EXISTS ("
		"  SELECT FROM stripe_sync.reread r"
		"   WHERE r.object_type = $2 AND r.state = 'dead') LIMIT 1"};
	int nest = plan_for_indexes();
	bool found = statement_bool(false, &select,
								ARGS(arg_text(group), arg_text(object_type)));

	plan_settings_restore(nest);
	return found;
}

/*
 * Objects of this type were fetched from Stripe.  Raises system.event_recovered
 * if that ends an incident.
 */
void
recovered_reading(const char *object_type)
{
	FailureGroup group = {.step = "reading",
						  .event_type = unconstify(char *, object_type),
						  .account = ""};

	if (alert_wanted(EVENT_RECOVERED) &&
		reading_has_recovered(failure_group("reading", NULL, object_type),
							  object_type))
		report_recovered(&group);
}
