/*
 * inbox_table.c
 *		Is the inbox still a table that may be written straight?
 *
 * inbox.c knows its columns by number and runs nothing of a user's.  A superuser
 * may add columns and indexes to it; what would have to run, or would send rows
 * elsewhere, is refused before a row is written.
 */
#include "stripe_sync.h"

#include "access/table.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/rel.h"

/* The columns of stripe_sync.event, in their order. */
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

static void compat_noreturn
refuse_table(const char *detail, const char *hint)
{
	ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("stripe_sync cannot write to its inbox, %s.event",
						   ENGINE_SCHEMA),
					errdetail("%s", detail), errhint("%s", hint)));
}

static void
check_columns(Relation relation)
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
			refuse_table(psprintf("Its column \"%s\" was dropped or altered.",
								  columns[i].name),
						 "Change it back; columns may only be added.");
	}
}

static const char *
trigger_name(Relation relation)
{
	TriggerDesc *triggers = relation->trigdesc;

	for (int i = 0; i < triggers->numtriggers; i++)
		if (!triggers->triggers[i].tgisinternal)
			return triggers->triggers[i].tgname;
	return triggers->triggers[0].tgname;
}

static void
check_kind(Relation relation)
{
	Form_pg_class form = relation->rd_rel;

	/* relhassubclass stays when the last child is dropped */
	if (form->relkind != RELKIND_RELATION || form->relispartition ||
		(form->relhassubclass &&
		 find_inheritance_children(RelationGetRelid(relation), NoLock) != NIL))
		refuse_table("It is partitioned, or has child tables.",
					 "Make it an ordinary table again.");
	if (form->relam != HEAP_TABLE_AM_OID)
		refuse_table(psprintf("It has the access method \"%s\".",
							  get_am_name(form->relam)),
					 "ALTER TABLE stripe_sync.event SET ACCESS METHOD heap.");
}

/*
 * The inbox, locked until the transaction's end; raises what keeps it from being
 * written straight.
 */
Relation
inbox_table_open(void)
{
	Relation relation;

	PreventCommandIfReadOnly("stripe_sync's writing"); /* before it is locked */
	relation = table_open(engine_relation("event"), RowExclusiveLock);
	check_kind(relation);
	if (row_fires(relation))
		refuse_table(
			psprintf("It has a trigger, \"%s\".", trigger_name(relation)),
			"Drop the trigger, and register its function with stripe_sync.add_handler().");
	if (relation->rd_rules != NULL)
		refuse_table("It has a rule.", "Drop the rule.");
	if (relation->rd_rel->relforcerowsecurity)
		refuse_table(
			"Row security is forced on its owner.",
			"ALTER TABLE stripe_sync.event NO FORCE ROW LEVEL SECURITY.");
	check_columns(relation);
	return relation;
}
