/*
 * scope_guard.c
 *		Refuses statements in a scope whose effects would outlast it.
 *
 * A temporary object, a prepared statement or a cursor would still exist when
 * other roles' code runs in the session.  The object access hook sees each new
 * object and refuses those in a temporary schema, however they were created.  The
 * utility hook refuses statements that leave something else behind, or remove
 * what belongs to the caller.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "tcop/utility.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "engine/scope.h"

static ProcessUtility_hook_type previous_utility = NULL;
static object_access_hook_type previous_access = NULL;

compat_noreturn static void
refuse_in_scope(const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("a handler or a trigger on a mirror table cannot %s", what),
			 errdetail("Its effects would outlast the execution as this role."),
			 errhint("Use ordinary tables. Cursors of PL/pgSQL are allowed.")));
}

/* ---- objects ---- */

/*
 * The schema of an object that was just created, and is visible to SnapshotSelf
 * only.  InvalidOid if objects of its class are in no schema.
 */
static Oid
schema_of_new(Oid class, Oid object)
{
	AttrNumber column;
	ScanKeyData key;
	Relation catalog;
	SysScanDesc scan;
	HeapTuple tuple;
	Oid schema = InvalidOid;
	bool isnull;

	if (!is_objectclass_supported(class) ||
		(column = get_object_attnum_namespace(class)) == InvalidAttrNumber)
		return InvalidOid;
	catalog = table_open(class, AccessShareLock);
	ScanKeyInit(&key, get_object_attnum_oid(class), BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(object));
	scan = systable_beginscan(catalog, get_object_oid_index(class), true,
							  SnapshotSelf, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		schema = DatumGetObjectId(
			heap_getattr(tuple, column, RelationGetDescr(catalog), &isnull));
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return schema;
}

static void
scope_access(ObjectAccessType access, Oid class, Oid object, int column,
			 void *arg)
{
	if (previous_access)
		previous_access(access, class, object, column, arg);
	if (access == OAT_FUNCTION_EXECUTE)
		leftover_on_function(object);
	else if (access == OAT_POST_CREATE && scope_user_frame() != NULL &&
			 isAnyTempNamespace(schema_of_new(class, object)))
		refuse_in_scope("create a temporary object");
}

/* ---- statements ---- */

static bool
is_temporary(const RangeVar *relation)
{
	return relation != NULL && (relation->relpersistence == RELPERSISTENCE_TEMP ||
								(relation->schemaname != NULL &&
								 strcmp(relation->schemaname, "pg_temp") == 0));
}

/*
 * Does the statement leave something in the session that is used after the scope
 * has ended?  Or does it remove what belongs to the caller?
 */
static bool
outlives_scope(Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_DeclareCursorStmt:
		case T_ClosePortalStmt:
		case T_PrepareStmt:
		case T_DeallocateStmt:
		case T_DiscardStmt:
		case T_ListenStmt:
		case T_UnlistenStmt:
			return true;
		case T_CreateStmt:
			return is_temporary(((CreateStmt *) statement)->relation);
		case T_CreateTableAsStmt:
			return is_temporary(((CreateTableAsStmt *) statement)->into->rel);
		case T_CreateSeqStmt:
			return is_temporary(((CreateSeqStmt *) statement)->sequence);
		case T_ViewStmt:
			return is_temporary(((ViewStmt *) statement)->view);
		case T_CompositeTypeStmt:
			return is_temporary(((CompositeTypeStmt *) statement)->typevar);
		default:
			return false;
	}
}

/* Does a deferred trigger that is being fired defer others, which no one fires? */
static bool
defers_again(Node *statement)
{
	return IsA(statement, ConstraintsSetStmt) &&
		   ((ConstraintsSetStmt *) statement)->deferred && scope_is_firing();
}

static void
scope_utility(PlannedStmt *stmt, const char *query, bool read_only_tree,
			  ProcessUtilityContext context, ParamListInfo params,
			  QueryEnvironment *environment, DestReceiver *dest,
			  QueryCompletion *completion)
{
	Node *statement = stmt->utilityStmt;

	if (defers_again(statement))
		ereport(
			ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg(
				 "a deferred trigger cannot defer again while stripe_sync applies an event"),
			 errhint("Leave SET CONSTRAINTS out of the trigger's function.")));
	if (scope_user_frame() != NULL && outlives_scope(statement))
		refuse_in_scope(psprintf(
			"execute %s", GetCommandTagName(CreateCommandTag(statement))));
	if (previous_utility)
		previous_utility(stmt, query, read_only_tree, context, params,
						 environment, dest, completion);
	else
		standard_ProcessUtility(stmt, query, read_only_tree, context, params,
								environment, dest, completion);
}

void
scope_guard_init(void)
{
	previous_utility = ProcessUtility_hook;
	ProcessUtility_hook = scope_utility;
	previous_access = object_access_hook;
	object_access_hook = scope_access;
}
