/*
 * leave.c
 *		What a session says to launcher and workers: make way, and look again.
 *
 * A worker is a session of its database, and the server refuses to drop, copy,
 * rename or move a database that has sessions.  So before such a statement the
 * worker is asked to leave, and none starts until the transaction is over.
 * Whoever lacks the right to the statement isn't waited for: the rights are
 * those that the server's own code (dbcommands.c) asks for, and the server
 * itself is left to complain.
 *
 * CREATE, ALTER and DROP EXTENSION and new databases are told of when they are
 * committed.  What happens behind this (a schema dropped with the extension in
 * it) the worker finds by itself.
 */
#include "stripe_sync.h"

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

#include "slots.h"

#define LEAVES_WITHIN 4000 /* ms; the server itself gives up after 5 s more */

static ProcessUtility_hook_type previous_utility = NULL;
static object_access_hook_type previous_access = NULL;

static List *held = NIL; /* databases that this transaction holds */
static bool extension_touched = false;
static bool database_changed = false;

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
leave_at_exit(int code, Datum arg)
{
	release_all();
}

static void
make_leave(Oid database)
{
	static bool registered = false;
	MemoryContext old;

	if (!registered)
		before_shmem_exit(leave_at_exit, (Datum) 0);
	registered = true;
	old = MemoryContextSwitchTo(TopMemoryContext);
	held = lappend_oid(held, database);
	MemoryContextSwitchTo(old);
	slot_hold(database);
	/* if it doesn't go the server says that the database is in use */
	(void) slot_wait_empty(database, LEAVES_WITHIN);
}

/* ---- who may have a database for himself ---- */

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

/* May the current user make a database for that owner? */
static bool
may_make_for(List *options)
{
	DefElem *owner = (DefElem *) option(options, "owner");
	Oid role = owner ? get_role_oid(defGetString(owner), true) : GetUserId();

	return may_create_databases() && OidIsValid(role) &&
		   compat_may_give_to(GetUserId(), role);
}

/* CREATE DATABASE: the template that is copied */
static Oid
template_for(CreatedbStmt *stmt)
{
	DefElem *template = (DefElem *) option(stmt->options, "template");
	Oid database = get_database_oid(
		template ? defGetString(template) : "template1", true);

	if (OidIsValid(database) && may_make_for(stmt->options) &&
		(is_template(database) || owns_database(database)))
		return database;
	return InvalidOid;
}

static Oid
for_dropping(DropdbStmt *stmt)
{
	Oid database = get_database_oid(stmt->dbname, true);

	if (OidIsValid(database) && database != MyDatabaseId &&
		owns_database(database) && !is_template(database))
		return database;
	return InvalidOid;
}

static Oid
for_renaming(RenameStmt *stmt)
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
for_moving(AlterDatabaseStmt *stmt)
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
for_changing_extension(void)
{
	Oid extension = get_extension_oid(ENGINE_SCHEMA, true);

	if (OidIsValid(extension) &&
		compat_ownercheck(ExtensionRelationId, extension, GetUserId()))
		return MyDatabaseId;
	return InvalidOid;
}

/* DROP EXTENSION: so that it neither waits for the worker nor it for that. */
static Oid
for_removing(DropStmt *stmt)
{
	ListCell *cell;

	if (stmt->removeType != OBJECT_EXTENSION)
		return InvalidOid;
	foreach(cell, stmt->objects)
		if (strcmp(strVal(lfirst(cell)), ENGINE_SCHEMA) == 0)
			return for_changing_extension();
	return InvalidOid;
}

/*
 * ALTER EXTENSION UPDATE: the same, and what the worker has in the air lands
 * before its library may not fit the catalog any more.
 */
static Oid
for_updating(AlterExtensionStmt *stmt)
{
	if (strcmp(stmt->extname, ENGINE_SCHEMA) == 0)
		return for_changing_extension();
	return InvalidOid;
}

/* The database that a statement can have only without our worker in it. */
static Oid
wanted_empty(Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_CreatedbStmt:
			return template_for((CreatedbStmt *) statement);
		case T_DropdbStmt:
			return for_dropping((DropdbStmt *) statement);
		case T_RenameStmt:
			return for_renaming((RenameStmt *) statement);
		case T_AlterDatabaseStmt:
			return for_moving((AlterDatabaseStmt *) statement);
		case T_DropStmt:
			return for_removing((DropStmt *) statement);
		case T_AlterExtensionStmt:
			return for_updating((AlterExtensionStmt *) statement);
		default:
			return InvalidOid;
	}
}

/* ---- telling that something may have changed ---- */

static void
leave_utility(PlannedStmt *stmt, const char *query, bool read_only_tree,
			  ProcessUtilityContext context, ParamListInfo params,
			  QueryEnvironment *environment, DestReceiver *dest,
			  QueryCompletion *completion)
{
	Node *statement = stmt->utilityStmt;
	bool prepared = IsA(statement, TransactionStmt) &&
					((TransactionStmt *) statement)->kind ==
						TRANS_STMT_COMMIT_PREPARED;
	Oid database = InvalidOid;

	/* an aborted transaction can't look anything up */
	if (slots_ready() && IsTransactionState())
		database = wanted_empty(statement);
	if (OidIsValid(database))
		make_leave(database);
	if (previous_utility)
		previous_utility(stmt, query, read_only_tree, context, params,
						 environment, dest, completion);
	else
		standard_ProcessUtility(stmt, query, read_only_tree, context, params,
								environment, dest, completion);
	/* nobody knows any more what it held */
	extension_touched |= prepared;
}

static void
leave_access(ObjectAccessType access, Oid class, Oid object, int sub, void *arg)
{
	if (previous_access)
		previous_access(access, class, object, sub, arg);
	if (class == ExtensionRelationId &&
		(access == OAT_POST_CREATE || access == OAT_POST_ALTER ||
		 access == OAT_DROP))
		extension_touched = true; /* which one can't be seen yet */
	else if (class == DatabaseRelationId &&
			 (access == OAT_POST_CREATE || access == OAT_POST_ALTER))
		database_changed = true; /* who may connect, for one */
}

/*
 * Before the commit it can still be looked up whether the extension is here; a
 * database without it isn't to be looked into for the sake of others.
 */
static void
before_commit(void)
{
	if (extension_touched && OidIsValid(get_extension_oid(ENGINE_SCHEMA, true)))
		worker_wake_at_commit();
}

static void
leave_transaction_ends(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_PRE_COMMIT && slots_ready())
		before_commit();
	else if (event == XACT_EVENT_PREPARE)
		extension_touched = database_changed = false;
}

/* When all have been told of what was changed, and its locks are gone. */
static void
leave_transaction_over(ResourceReleasePhase phase, bool commit, bool top,
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
	extension_touched = database_changed = false;
}

void
database_ddl_init(void)
{
	previous_utility = ProcessUtility_hook;
	ProcessUtility_hook = leave_utility;
	previous_access = object_access_hook;
	object_access_hook = leave_access;
	RegisterXactCallback(leave_transaction_ends, NULL);
	RegisterResourceReleaseCallback(leave_transaction_over, NULL);
}
