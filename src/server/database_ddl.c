/*
 * database_ddl.c
 *		Hooks on DDL of databases and of the extension.
 *
 * A worker is a session of its database, and the server refuses to drop, copy,
 * rename or move a database that has sessions.  So before such a statement the
 * worker is asked to leave, and none starts until the transaction has ended.
 * This is done only if the user may execute the statement, by the checks of
 * dbcommands.c; otherwise the server raises its own error.
 *
 * After the commit of CREATE, ALTER or DROP EXTENSION, or of a new database, the
 * worker and the launcher are woken.  What these hooks don't see (DROP SCHEMA
 * CASCADE, for example) the worker finds out by itself.
 *
 * A session that is killed releases its holds in an exit callback; a crash of the
 * server clears the shared memory.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_tablespace.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "commands/tablespace.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "engine/rights.h"
#include "server/counters.h"
#include "server/server.h"
#include "server/worker_slots.h"

#define WAIT_FOR_LEAVE 4000 /* ms; the server then waits 5 s itself */

static ProcessUtility_hook_type previous_utility = NULL;
static object_access_hook_type previous_access = NULL;

/* What the current transaction has done */
static List *held = NIL; /* OIDs of databases whose slots it holds */
static bool extension_touched = false;
static bool database_changed = false;
static Oid uncounted = InvalidOid; /* database whose counters are to be freed */

/* ---- holding a database's slot until the transaction ends ---- */

static void
release_all(void)
{
	ListCell *cell;

	foreach(cell, held)
		slot_release(lfirst_oid(cell));
	list_free(held);
	held = NIL;
}

static void
release_at_exit(int code, Datum arg)
{
	release_all();
}

static void
hold_and_wait(Oid database)
{
	static bool registered = false;
	MemoryContext old;

	if (!registered)
		before_shmem_exit(release_at_exit, (Datum) 0);
	registered = true;
	old = MemoryContextSwitchTo(TopMemoryContext);
	held = lappend_oid(held, database);
	MemoryContextSwitchTo(old);
	slot_hold(database);
	/* if it doesn't leave, the server raises "is being accessed by other users" */
	(void) slot_wait_empty(database, WAIT_FOR_LEAVE);
}

/* ---- may the user execute the statement? ---- */

static bool
may_create_databases(void)
{
	HeapTuple tuple;
	bool may;

	if (superuser())
		return true;
	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(GetUserId()));
	may = HeapTupleIsValid(tuple) &&
		  ((Form_pg_authid) GETSTRUCT(tuple))->rolcreatedb;
	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	return may;
}

static bool
owns_database(Oid database)
{
	return compat_ownercheck(DatabaseRelationId, database, GetUserId());
}

static bool
is_template(Oid database)
{
	HeapTuple tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(database));
	bool is = HeapTupleIsValid(tuple) &&
			  ((Form_pg_database) GETSTRUCT(tuple))->datistemplate;

	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	return is;
}

static Node *
option(List *options, const char *name)
{
	ListCell *cell;

	foreach(cell, options)
	{
		DefElem *element = lfirst_node(DefElem, cell);

		if (strcmp(element->defname, name) == 0)
			return (Node *) (element->arg ? element : NULL);
	}
	return NULL;
}

/* May the current user create a database for the owner in these options? */
static bool
may_create_for_owner(List *options)
{
	DefElem *owner = (DefElem *) option(options, "owner");
	Oid role = owner ? get_role_oid(defGetString(owner), true) : GetUserId();

	return may_create_databases() && OidIsValid(role) &&
		   compat_may_give_to(GetUserId(), role);
}

/* CREATE DATABASE: the template that is copied */
static Oid
template_of_create(CreatedbStmt *stmt)
{
	DefElem *template = (DefElem *) option(stmt->options, "template");
	Oid database = get_database_oid(
		template ? defGetString(template) : "template1", true);

	if (OidIsValid(database) && may_create_for_owner(stmt->options) &&
		(is_template(database) || owns_database(database)))
		return database;
	return InvalidOid;
}

static Oid
database_of_drop(DropdbStmt *stmt)
{
	Oid database = get_database_oid(stmt->dbname, true);

	if (OidIsValid(database) && database != MyDatabaseId &&
		owns_database(database) && !is_template(database))
		return database;
	return InvalidOid;
}

static Oid
database_of_rename(RenameStmt *stmt)
{
	Oid database = InvalidOid;

	if (stmt->renameType == OBJECT_DATABASE)
		database = get_database_oid(stmt->subname, true);
	if (OidIsValid(database) && database != MyDatabaseId &&
		owns_database(database) && may_create_databases())
		return database;
	return InvalidOid;
}

static Oid
database_of_move(AlterDatabaseStmt *stmt)
{
	DefElem *tablespace = (DefElem *) option(stmt->options, "tablespace");
	Oid database = get_database_oid(stmt->dbname, true);
	Oid target;

	if (tablespace == NULL || !OidIsValid(database) ||
		database == MyDatabaseId || !owns_database(database))
		return InvalidOid;
	target = get_tablespace_oid(defGetString(tablespace), true);
	if (OidIsValid(target) &&
		compat_tablespace_aclcheck(target, GetUserId()) == ACLCHECK_OK)
		return database;
	return InvalidOid;
}

/* This database, if the current user may drop or update the extension in it */
static Oid
database_if_extension_owner(void)
{
	Oid extension = get_extension_oid(ENGINE_SCHEMA, true);

	if (OidIsValid(extension) &&
		compat_ownercheck(ExtensionRelationId, extension, GetUserId()))
		return MyDatabaseId;
	return InvalidOid;
}

/* DROP EXTENSION: it would wait for the worker's locks, and the worker for its. */
static Oid
database_of_drop_extension(DropStmt *stmt)
{
	ListCell *cell;

	if (stmt->removeType != OBJECT_EXTENSION)
		return InvalidOid;
	foreach(cell, stmt->objects)
		if (strcmp(strVal(lfirst(cell)), ENGINE_SCHEMA) == 0)
			return database_if_extension_owner();
	return InvalidOid;
}

/*
 * ALTER EXTENSION UPDATE: requests in progress are completed and settled before
 * the library may no longer match the catalog.
 */
static Oid
database_of_update_extension(AlterExtensionStmt *stmt)
{
	if (strcmp(stmt->extname, ENGINE_SCHEMA) == 0)
		return database_if_extension_owner();
	return InvalidOid;
}

/*
 * The database that must have no worker while the statement runs, or InvalidOid
 * if there is none or the user may not execute the statement.
 */
static Oid
database_to_empty(Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_CreatedbStmt:
			return template_of_create((CreatedbStmt *) statement);
		case T_DropdbStmt:
			return database_of_drop((DropdbStmt *) statement);
		case T_RenameStmt:
			return database_of_rename((RenameStmt *) statement);
		case T_AlterDatabaseStmt:
			return database_of_move((AlterDatabaseStmt *) statement);
		case T_DropStmt:
			return database_of_drop_extension((DropStmt *) statement);
		case T_AlterExtensionStmt:
			return database_of_update_extension((AlterExtensionStmt *) statement);
		default:
			return InvalidOid;
	}
}

/* ---- prepared transactions ---- */

/* Is the statement of this kind about a prepared transaction?  Then its name. */
static const char *
prepared_name(Node *statement, TransactionStmtKind kind)
{
	TransactionStmt *stmt = (TransactionStmt *) statement;

	return IsA(statement, TransactionStmt) && stmt->kind == kind ? stmt->gid
																 : NULL;
}

static void
before_prepare(Node *statement)
{
	const char *gid = prepared_name(statement, TRANS_STMT_PREPARE);

	if (gid != NULL)
		counters_preparing(gid);
}

/* What the committed transaction did is not known here: wake the worker. */
static void
after_prepared(const char *committed, const char *rolled_back)
{
	if (committed != NULL)
	{
		counters_prepared_over(committed, true);
		extension_touched = true;
	}
	if (rolled_back != NULL)
		counters_prepared_over(rolled_back, false);
}

/* ---- hooks ---- */

static void
database_ddl_utility(PlannedStmt *stmt, const char *query, bool read_only_tree,
					 ProcessUtilityContext context, ParamListInfo params,
					 QueryEnvironment *environment, DestReceiver *dest,
					 QueryCompletion *completion)
{
	Node *statement = stmt->utilityStmt;
	const char *committed = prepared_name(statement, TRANS_STMT_COMMIT_PREPARED);
	const char *rolled_back = prepared_name(statement,
											TRANS_STMT_ROLLBACK_PREPARED);
	Oid database = InvalidOid;

	/* an aborted transaction can't read catalogs */
	if (slots_ready() && IsTransactionState())
		database = database_to_empty(statement);
	if (OidIsValid(database))
		hold_and_wait(database);
	before_prepare(statement);
	if (previous_utility)
		previous_utility(stmt, query, read_only_tree, context, params,
						 environment, dest, completion);
	else
		standard_ProcessUtility(stmt, query, read_only_tree, context, params,
								environment, dest, completion);
	after_prepared(committed, rolled_back);
}

/* A new extension's row isn't visible yet; a dropped one's still is. */
static void
note_extension(ObjectAccessType access, Oid extension)
{
	extension_touched = true;
	if (access == OAT_DROP && extension == get_extension_oid(ENGINE_SCHEMA, true))
		uncounted = MyDatabaseId;
}

static void
database_ddl_access(ObjectAccessType access, Oid class, Oid object, int sub,
					void *arg)
{
	if (previous_access)
		previous_access(access, class, object, sub, arg);
	if (class == ExtensionRelationId &&
		(access == OAT_POST_CREATE || access == OAT_POST_ALTER ||
		 access == OAT_DROP))
		note_extension(access, object);
	else if (class == DatabaseRelationId &&
			 (access == OAT_POST_CREATE || access == OAT_POST_ALTER))
		database_changed = true; /* ALTER may allow connections */
	else if (class == DatabaseRelationId && access == OAT_DROP)
		uncounted = object;
}

/*
 * Another extension may have been created or dropped.  Whether stripe_sync is in
 * this database can be looked up only before the commit.
 */
static void
before_commit(void)
{
	if (extension_touched && OidIsValid(get_extension_oid(ENGINE_SCHEMA, true)))
		worker_wake_at_commit();
}

static void
database_ddl_transaction_end(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_PRE_COMMIT && slots_ready())
		before_commit();
	else if (event == XACT_EVENT_PREPARE)
	{
		extension_touched = database_changed = false;
		uncounted = InvalidOid;
	}
}

/* After invalidations were sent and locks released, so that the change is seen. */
static void
database_ddl_locks_released(ResourceReleasePhase phase, bool commit, bool top,
							void *arg)
{
	if (phase != RESOURCE_RELEASE_AFTER_LOCKS || !top || !slots_ready())
		return;
	if (held != NIL)
		release_all();
	if (commit && extension_touched)
		worker_wake(MyDatabaseId);
	if (commit && database_changed)
		launcher_wake();
	if (commit && OidIsValid(uncounted))
		counters_forget(uncounted);
	uncounted = InvalidOid;
	extension_touched = database_changed = false;
}

void
database_ddl_init(void)
{
	previous_utility = ProcessUtility_hook;
	ProcessUtility_hook = database_ddl_utility;
	previous_access = object_access_hook;
	object_access_hook = database_ddl_access;
	RegisterXactCallback(database_ddl_transaction_end, NULL);
	RegisterResourceReleaseCallback(database_ddl_locks_released, NULL);
}
