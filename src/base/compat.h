/*
 * compat.h
 *		Every difference between the server's versions, here and nowhere else.
 */
#ifndef STRIPE_SYNC_COMPAT_H
#define STRIPE_SYNC_COMPAT_H

#include "postgres.h"

/* PostgreSQL's headers no longer include this one, from 19 on. */
#include <limits.h>

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_class.h"
#include "catalog/pg_database.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_tablespace.h"
#include "commands/dbcommands.h" /* get_database_name() before 19 */
#include "common/jsonapi.h"
#include "executor/executor.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/latch.h"
#include "utils/acl.h"
#include "utils/backend_status.h"
#include "utils/guc_tables.h"
#include "parser/parse_expr.h"
#include "parser/parse_relation.h"
#if PG_VERSION_NUM < 190000
#include "parser/parser.h"
#endif
#include "utils/jsonb.h"
#include "utils/lsyscache.h" /* get_database_name() from 19 on */
#include "utils/regproc.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/tuplestore.h"
#include "utils/wait_event.h"

#if PG_VERSION_NUM < 150000
#error "stripe_sync needs PostgreSQL 15 or newer"
#endif

/* 18 added a module's name and version, seen in pg_get_loaded_modules() */
#if PG_VERSION_NUM >= 180000
#define COMPAT_MODULE_MAGIC(module_name, module_version)                       \
	PG_MODULE_MAGIC_EXT(.name = (module_name), .version = (module_version))
#else
#define COMPAT_MODULE_MAGIC(module_name, module_version) PG_MODULE_MAGIC
#endif

/* 18 lets extensions add kinds of cumulative statistics */
#if PG_VERSION_NUM >= 180000
#define COMPAT_STATISTICS_KINDS
#endif

/* 18 says it before the declaration, and in one way only */
#if PG_VERSION_NUM >= 180000
#define compat_noreturn pg_noreturn
#else
#define compat_noreturn pg_attribute_noreturn()
#endif

/* 19 added an argument to signal handlers: who sent the signal */
#if PG_VERSION_NUM >= 190000
#define COMPAT_SIGNAL_ARGS postgres_signal_arg, pg_siginfo
#define COMPAT_SIG_IGN	   PG_SIG_IGN
#else
#define COMPAT_SIGNAL_ARGS postgres_signal_arg
#define COMPAT_SIG_IGN	   SIG_IGN
#endif

/* 16 moved the permissions out of RangeTblEntry, 18 wants the unpruned ones */
static inline void
compat_init_range_table(EState *estate, Relation relation)
{
	RangeTblEntry *rte = makeNode(RangeTblEntry);

	rte->rtekind = RTE_RELATION;
	rte->relid = RelationGetRelid(relation);
	rte->relkind = relation->rd_rel->relkind;
	rte->rellockmode = AccessShareLock;
#if PG_VERSION_NUM >= 180000
	{
		List *perminfos = NIL;

		addRTEPermissionInfo(&perminfos, rte);
		ExecInitRangeTable(estate, list_make1(rte), perminfos,
						   bms_make_singleton(1));
	}
#elif PG_VERSION_NUM >= 160000
	{
		List *perminfos = NIL;

		addRTEPermissionInfo(&perminfos, rte);
		ExecInitRangeTable(estate, list_make1(rte), perminfos);
	}
#else
	ExecInitRangeTable(estate, list_make1(rte));
#endif
}

static inline bool
compat_check_index_constraints(ResultRelInfo *info, TupleTableSlot *slot,
							   EState *estate, ItemPointer conflict,
							   List *arbiters)
{
#if PG_VERSION_NUM >= 180000
	ItemPointerData invalid;

	ItemPointerSetInvalid(&invalid);
	return ExecCheckIndexConstraints(info, slot, estate, conflict, &invalid,
									 arbiters);
#else
	return ExecCheckIndexConstraints(info, slot, estate, conflict, arbiters);
#endif
}

/* 16 added "onlySummarizing", 19 made flags of the booleans */
static inline List *
compat_insert_index_tuples(ResultRelInfo *info, TupleTableSlot *slot,
						   EState *estate, bool *conflict, List *arbiters)
{
#if PG_VERSION_NUM >= 190000
	return ExecInsertIndexTuples(info, estate, EIIT_NO_DUPE_ERROR, slot,
								 arbiters, conflict);
#elif PG_VERSION_NUM >= 160000
	return ExecInsertIndexTuples(info, slot, estate, false, true, conflict,
								 arbiters, false);
#else
	return ExecInsertIndexTuples(info, slot, estate, false, true, conflict,
								 arbiters);
#endif
}

/* The same for a row whose keys are new, or it raises */
static inline void
compat_insert_index_entries(ResultRelInfo *info, TupleTableSlot *slot,
							EState *estate)
{
#if PG_VERSION_NUM >= 190000
	(void) ExecInsertIndexTuples(info, estate, 0, slot, NIL, NULL);
#elif PG_VERSION_NUM >= 160000
	(void) ExecInsertIndexTuples(info, slot, estate, false, false, NULL, NIL,
								 false);
#else
	(void) ExecInsertIndexTuples(info, slot, estate, false, false, NULL, NIL);
#endif
}

static inline void
compat_epq_init(EPQState *epq, EState *estate)
{
#if PG_VERSION_NUM >= 160000
	EvalPlanQualInit(epq, estate, NULL, NIL, -1, NIL);
#else
	EvalPlanQualInit(epq, estate, NULL, NIL, -1);
#endif
}

/* 18 added instrumentation, 19 flags for the scan of the table */
static inline IndexScanDesc
compat_index_beginscan(Relation table, Relation index, Snapshot snapshot,
					   int nkeys)
{
#if PG_VERSION_NUM >= 190000
	return index_beginscan(table, index, snapshot, NULL, nkeys, 0, SO_NONE);
#elif PG_VERSION_NUM >= 180000
	return index_beginscan(table, index, snapshot, NULL, nkeys, 0);
#else
	return index_beginscan(table, index, snapshot, nkeys, 0);
#endif
}

static inline AclResult
compat_function_aclcheck(Oid function, Oid role)
{
#if PG_VERSION_NUM >= 160000
	return object_aclcheck(ProcedureRelationId, function, role, ACL_EXECUTE);
#else
	return pg_proc_aclcheck(function, role, ACL_EXECUTE);
#endif
}

static inline Oid
compat_primary_key(Relation relation)
{
#if PG_VERSION_NUM >= 180000
	return RelationGetPrimaryKeyIndex(relation, false);
#else
	return RelationGetPrimaryKeyIndex(relation);
#endif
}

static inline JsonLexContext *
compat_json_lexer(const char *bytes, int length)
{
#if PG_VERSION_NUM >= 170000
	return makeJsonLexContextCstringLen(NULL, bytes, length, PG_UTF8, false);
#else
	return makeJsonLexContextCstringLen(unconstify(char *, bytes), length,
										PG_UTF8, false);
#endif
}

/*
 * A jsonb value under construction.  19 made this struct public, and
 * pushJsonbValue() leaves the result in it when the outermost value is complete
 * instead of returning it.
 */
#if PG_VERSION_NUM < 190000
typedef struct JsonbInState
{
	JsonbValue *result;
	JsonbParseState *parseState;
} JsonbInState;
#endif

static inline void
compat_push_jsonb(JsonbInState *state, JsonbIteratorToken token,
				  JsonbValue *value)
{
#if PG_VERSION_NUM >= 190000
	pushJsonbValue(state, token, value);
#else
	state->result = pushJsonbValue(&state->parseState, token, value);
#endif
}

static inline List *
compat_string_to_names(const char *name)
{
#if PG_VERSION_NUM >= 160000
	return stringToQualifiedNameList(name, NULL);
#else
	return stringToQualifiedNameList(name);
#endif
}

/* Is there a process with this pid that began then? */
static inline bool
compat_backend_lives(int pid, TimestampTz start)
{
	int count = pgstat_fetch_stat_numbackends();

	for (int i = 1; i <= count; i++)
	{
#if PG_VERSION_NUM >= 160000
		LocalPgBackendStatus *local = pgstat_get_local_beentry_by_index(i);
#else
		LocalPgBackendStatus *local = pgstat_fetch_stat_local_beentry(i);
#endif

		if (local != NULL && local->backendStatus.st_procpid == pid &&
			local->backendStatus.st_proc_start_timestamp == start)
			return true;
	}
	return false;
}

/* 17 gives it to a resource owner, or to none: for the life of the process */
static inline WaitEventSet *
compat_create_wait_event_set(int nevents)
{
#if PG_VERSION_NUM >= 170000
	return CreateWaitEventSet(NULL, nevents);
#else
	return CreateWaitEventSet(TopMemoryContext, nevents);
#endif
}

/* Of a database, an extension or a relation */
static inline bool
compat_ownercheck(Oid class, Oid object, Oid role)
{
#if PG_VERSION_NUM >= 160000
	return object_ownercheck(class, object, role);
#else
	if (class == RelationRelationId)
		return pg_class_ownercheck(object, role);
	return class == DatabaseRelationId ? pg_database_ownercheck(object, role)
									   : pg_extension_ownercheck(object, role);
#endif
}

/* May a role make schemas in this database, do something in a schema? */
static inline bool
compat_may_create_in_database(Oid role)
{
#if PG_VERSION_NUM >= 160000
	return object_aclcheck(DatabaseRelationId, MyDatabaseId, role,
						   ACL_CREATE) == ACLCHECK_OK;
#else
	return pg_database_aclcheck(MyDatabaseId, role, ACL_CREATE) == ACLCHECK_OK;
#endif
}

static inline bool
compat_may_in_schema(Oid schema, Oid role, AclMode right)
{
#if PG_VERSION_NUM >= 160000
	return object_aclcheck(NamespaceRelationId, schema, role, right) ==
		   ACLCHECK_OK;
#else
	return pg_namespace_aclcheck(schema, role, right) == ACLCHECK_OK;
#endif
}

static inline AclResult
compat_tablespace_aclcheck(Oid tablespace, Oid role)
{
#if PG_VERSION_NUM >= 160000
	return object_aclcheck(TableSpaceRelationId, tablespace, role, ACL_CREATE);
#else
	return pg_tablespace_aclcheck(tablespace, role, ACL_CREATE);
#endif
}

/* May a role make things that another owns? */
static inline bool
compat_may_give_to(Oid role, Oid owner)
{
#if PG_VERSION_NUM >= 160000
	return member_can_set_role(role, owner);
#else
	return is_member_of_role(role, owner);
#endif
}

/* Names of one's own for waits came with 17 */
static inline uint32
compat_wait_event(const char *name)
{
#if PG_VERSION_NUM >= 170000
	return WaitEventExtensionNew(name);
#else
	return PG_WAIT_EXTENSION;
#endif
}

/* 16 exported find_option() */
static inline GucStack *
compat_setting_stack(const char *name)
{
	struct config_generic *setting = NULL;
#if PG_VERSION_NUM >= 160000
	setting = find_option(name, false, false, ERROR);
#else
	struct config_generic **settings = get_guc_variables();
	int n = GetNumConfigOptions();

	for (int i = 0; i < n && setting == NULL; i++)
		if (strcmp(settings[i]->name, name) == 0)
			setting = settings[i];
#endif
	return setting->stack;
}

/* From 19 on a descriptor that is filled in by hand has to be finished */
static inline void
compat_finalize_desc(TupleDesc desc)
{
#if PG_VERSION_NUM >= 190000
	TupleDescFinalize(desc);
#endif
}

/* A string literal is as standard SQL has it; always, from 19 on. */
static inline bool
compat_strings_conform(void)
{
#if PG_VERSION_NUM >= 190000
	return true;
#else
	return standard_conforming_strings;
#endif
}

#endif /* STRIPE_SYNC_COMPAT_H */
