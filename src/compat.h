/*
 * compat.h
 *		Every difference between the server's versions, here and nowhere else.
 */
#ifndef STRIPE_SYNC_COMPAT_H
#define STRIPE_SYNC_COMPAT_H

#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_proc.h"
#include "common/jsonapi.h"
#include "executor/executor.h"
#include "mb/pg_wchar.h"
#include "nodes/parsenodes.h"
#include "utils/acl.h"
#include "parser/parse_relation.h"
#include "utils/regproc.h"
#include "utils/rel.h"

#if PG_VERSION_NUM < 150000
#error "stripe_sync needs PostgreSQL 15 or newer"
#endif

/* 18 says it before the declaration, and in one way only */
#if PG_VERSION_NUM >= 180000
#define compat_noreturn pg_noreturn
#else
#define compat_noreturn pg_attribute_noreturn()
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

static inline List *
compat_insert_index_tuples(ResultRelInfo *info, TupleTableSlot *slot,
						   EState *estate, bool *conflict, List *arbiters)
{
#if PG_VERSION_NUM >= 160000
	return ExecInsertIndexTuples(info, slot, estate, false, true, conflict,
								 arbiters, false);
#else
	return ExecInsertIndexTuples(info, slot, estate, false, true, conflict,
								 arbiters);
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

static inline List *
compat_string_to_names(const char *name)
{
#if PG_VERSION_NUM >= 160000
	return stringToQualifiedNameList(name, NULL);
#else
	return stringToQualifiedNameList(name);
#endif
}

#endif /* STRIPE_SYNC_COMPAT_H */
