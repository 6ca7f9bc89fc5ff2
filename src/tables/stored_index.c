/*
 * stored_index.c
 *		What an index is on, as it is stored in pg_index.
 *
 * RelationGetIndexExpressions() and RelationGetIndexPredicate() compute constant
 * parts of the expressions.  These may call functions of the table's owner, which
 * would run with the present rights.  Here nothing is computed.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_index.h"
#include "nodes/primnodes.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/syscache.h"

#include "tables/stored_index.h"

/* NULL if there is none */
static Node *
stored_expression(Oid indexid, AttrNumber attribute)
{
	HeapTuple row = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(indexid));
	Node *node = NULL;
	Datum value;
	bool isnull;

	if (!HeapTupleIsValid(row))
		return NULL;
	value = SysCacheGetAttr(INDEXRELID, row, attribute, &isnull);
	if (!isnull)
		node = stringToNode(TextDatumGetCString(value));
	ReleaseSysCache(row);
	return node;
}

/*
 * The column of an index on lower(column); 0 if it has no expressions, -1 if it
 * has others.
 */
int
stored_index_lower(Oid indexid)
{
	List *list = (List *) stored_expression(indexid, Anum_pg_index_indexprs);
	FuncExpr *call;

	if (list == NIL)
		return 0;
	call = linitial(list);
	if (list_length(list) != 1 || !IsA(call, FuncExpr) ||
		call->funcid != F_LOWER_TEXT || list_length(call->args) != 1 ||
		!IsA(linitial(call->args), Var))
		return -1;
	return ((Var *) linitial(call->args))->varattno;
}

/*
 * The column of a partial index of rows where it is, or is not, null; 0 if the
 * index is not partial, -1 if it is by anything else.
 */
int
stored_index_partial(Oid indexid, bool *not_null)
{
	NullTest *test = (NullTest *) stored_expression(indexid,
													Anum_pg_index_indpred);

	*not_null = true;
	if (test == NULL)
		return 0;
	if (!IsA(test, NullTest) || !IsA(test->arg, Var))
		return -1;
	*not_null = test->nulltesttype == IS_NOT_NULL;
	return ((Var *) test->arg)->varattno;
}
