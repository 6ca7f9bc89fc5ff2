/*
 * inbox_table.c
 *		Checks that stripe_sync.event can be written without SQL.
 *
 * event_store.c knows the table's columns by number and runs no triggers, rules
 * or policies.  A superuser may add columns and indexes to the table; anything
 * that an INSERT would have to run, or that would store rows elsewhere, is
 * refused (55000) before a row is written.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xlog.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#include "base/refusal.h"
#include "engine/engine.h"
#include "engine/rights.h"
#include "inbox/event.h"
#include "inbox/internal.h"

/* The columns of stripe_sync.event in order, as in src/inbox/event.sql */
static const struct
{
	const char *name;
	Oid type;
} columns[EVENT_NATTS] = {
	[EVENT_ID - 1] = {"id", TEXTOID},
	[EVENT_ACCOUNT - 1] = {"account", TEXTOID},
	[EVENT_TYPE - 1] = {"type", TEXTOID},
	[EVENT_ENDPOINT - 1] = {"endpoint", TEXTOID},
	[EVENT_LIVEMODE - 1] = {"livemode", BOOLOID},
	[EVENT_API_VERSION - 1] = {"api_version", TEXTOID},
	[EVENT_OBJECT_TYPE - 1] = {"object_type", TEXTOID},
	[EVENT_OBJECT_ID - 1] = {"object_id", TEXTOID},
	[EVENT_REQUEST_ID - 1] = {"request_id", TEXTOID},
	[EVENT_IDEMPOTENCY_KEY - 1] = {"idempotency_key", TEXTOID},
	[EVENT_CREATED - 1] = {"created", TIMESTAMPTZOID},
	[EVENT_RECEIVED_AT - 1] = {"received_at", TIMESTAMPTZOID},
	[EVENT_SOURCE - 1] = {"source", TEXTOID},
	[EVENT_STATUS - 1] = {"status", TEXTOID},
	[EVENT_MIRRORED - 1] = {"mirrored", TEXTOID},
	[EVENT_TODO - 1] = {"todo", TEXTARRAYOID},
	[EVENT_TRIES - 1] = {"tries", JSONBOID},
	[EVENT_ATTEMPTS - 1] = {"attempts", INT4OID},
	[EVENT_NEXT_ATTEMPT_AT - 1] = {"next_attempt_at", TIMESTAMPTZOID},
	[EVENT_ERROR - 1] = {"error", TEXTOID},
	[EVENT_APPLIED_AT - 1] = {"applied_at", TIMESTAMPTZOID},
	[EVENT_PAYLOAD - 1] = {"payload", JSONOID},
};

static bool
refuse_table(Refusal *refusal, const char *detail, const char *hint)
{
	return refuse(refusal, FAULT_OURS, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
				  "stripe_sync cannot write to its inbox, stripe_sync.event",
				  detail, hint);
}

static bool
columns_fit(Relation relation, Refusal *refusal)
{
	TupleDesc desc = RelationGetDescr(relation);

	if (desc->natts < EVENT_NATTS)
		level_check(CATALOG_LEVEL - 1);
	for (int i = 0; i < EVENT_NATTS; i++)
	{
		Form_pg_attribute attribute = i < desc->natts ? TupleDescAttr(desc, i)
													  : NULL;

		if (attribute == NULL || attribute->attisdropped ||
			attribute->atttypid != columns[i].type ||
			strcmp(NameStr(attribute->attname), columns[i].name) != 0)
			return refuse_table(
				refusal,
				psprintf("Its column \"%s\" was dropped or altered.",
						 columns[i].name),
				"Restore it. Columns may be added, but not dropped or altered.");
	}
	return true;
}

static bool
kind_fits(Relation relation, Refusal *refusal)
{
	Form_pg_class form = relation->rd_rel;

	/* relhassubclass stays true when the last child is dropped */
	if (form->relkind != RELKIND_RELATION || form->relispartition ||
		(form->relhassubclass &&
		 find_inheritance_children(RelationGetRelid(relation), NoLock) != NIL))
		return refuse_table(refusal, "It is partitioned, or has child tables.",
							"Replace it by an ordinary table without children.");
	if (form->relam != HEAP_TABLE_AM_OID)
		return refuse_table(
			refusal,
			psprintf("It has the access method \"%s\".",
					 get_am_name(form->relam)),
			"Run ALTER TABLE stripe_sync.event SET ACCESS METHOD heap.");
	return true;
}

/* A trigger to name in the message: the user's, if there is one. */
static const char *
trigger_name(Relation relation)
{
	TriggerDesc *triggers = relation->trigdesc;

	for (int i = 0; i < triggers->numtriggers; i++)
		if (!triggers->triggers[i].tgisinternal)
			return triggers->triggers[i].tgname;
	return triggers->triggers[0].tgname;
}

/* Is there anything that an INSERT would run and row_insert() would not? */
static bool
runs_nothing(Relation relation, Refusal *refusal)
{
	if (row_fires(relation))
		return refuse_table(
			refusal,
			psprintf("It has a trigger, \"%s\".", trigger_name(relation)),
			"Drop the trigger, and register a handler with stripe_sync.add_handler() instead.");
	if (relation->rd_rules != NULL)
		return refuse_table(refusal, "It has a rule.", "Drop the rule.");
	if (relation->rd_rel->relforcerowsecurity)
		return refuse_table(
			refusal, "Row security is forced on its owner.",
			"Run ALTER TABLE stripe_sync.event NO FORCE ROW LEVEL SECURITY.");
	return true;
}

/*
 * Open the inbox and lock it until the transaction's end, as strongly as storing
 * an event needs, also for a lookup: a lock that is upgraded later can deadlock
 * with DDL.  A standby can't store, and allows no stronger lock.
 */
Relation
inbox_table_open(void)
{
	return table_open(engine_relation("event"),
					  RecoveryInProgress() ? AccessShareLock : RowExclusiveLock);
}

/*
 * Can it be written without SQL?  Returns false with the refusal (55000) if not.
 * Checked under the table's lock: a change may have been committed while this
 * transaction waited for it, and none can be before the transaction's end.
 */
bool
inbox_table_fits(Refusal *refusal)
{
	Relation relation = inbox_table_open();
	bool fits = kind_fits(relation, refusal) &&
				runs_nothing(relation, refusal) &&
				columns_fit(relation, refusal);

	table_close(relation, NoLock);
	return fits;
}
