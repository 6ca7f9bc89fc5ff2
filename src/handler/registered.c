/*
 * registered.c
 *		Functions that users register: noted when they are registered, resolved
 *		and called later, with the rights of the role that registered them and the
 *		search_path of that time.
 *
 * Functions, roles and schemas are stored by name, because dump and restore
 * change OIDs, and resolved at each call.  A different function may have the
 * name by then.  It runs only if its owner is trusted: the owner that was noted,
 * a superuser, or a role that has the rights of the noted role
 * (owner_is_trusted()).  The same holds for the schemas of the search_path.
 *
 * A call is part of its caller's subtransaction, in a writing scope (scope.c):
 * the triggers that it defers fire as the same role before it returns.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "base/error_codes.h"
#include "engine/engine.h"
#include "engine/rights.h"
#include "handler/registered.h"

/* ---- noted ---- */

/*
 * Raise 42P13 if the function cannot be one of the kind, 42501 if the current
 * role can't execute it.
 */
static void
check_function(const RegisteredKind *kind, Oid function, Form_pg_proc form,
			   const char *name)
{
	if (form->prokind != PROKIND_FUNCTION || form->proretset ||
		form->pronargs != 1 || form->proargtypes.values[0] != JSONBOID ||
		form->prorettype != kind->returns)
		ereport(ERROR, (errcode(ERRCODE_INVALID_FUNCTION_DEFINITION),
						errmsg("function %s cannot be %s", name, kind->a_noun),
						errdetail("%s.", kind->contract)));
	if (compat_function_aclcheck(function, GetUserId()) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FUNCTION, name);
}

/*
 * What is stored of a function that the current role registers: its name, its
 * owner, the role, and the search_path.
 */
Registered *
registered_note(const RegisteredKind *kind, const char *name, Oid function)
{
	Registered *registered = palloc0(sizeof(Registered));
	HeapTuple tuple;
	Form_pg_proc form;

	if (!OidIsValid(function))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the function of %s cannot be NULL", kind->a_noun)));
	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function with OID %u does not exist", function)));
	form = (Form_pg_proc) GETSTRUCT(tuple);
	registered->kind = kind;
	registered->name = pstrdup(name);
	registered->function = quote_qualified_identifier(
		get_namespace_name(form->pronamespace), NameStr(form->proname));
	check_function(kind, function, form, registered->function);
	registered->owner = GetUserNameFromId(form->proowner, false);
	ReleaseSysCache(tuple);
	registered->role = GetUserNameFromId(GetUserId(), false);
	registered->search_path = path_resolved();
	return registered;
}

/*
 * As it is stored: the next columns of the row are function, function_owner, role,
 * search_path and path_owners.
 */
void
registered_read(Registered *registered, const RegisteredKind *kind,
				const char *name, Rows *row)
{
	Datum names;
	Datum owners;
	bool isnull;

	registered->kind = kind;
	registered->name = pstrdup(name);
	registered->function = rows_text(row);
	registered->owner = rows_text(row);
	registered->role = rows_text(row);
	names = rows_datum(row, TEXTOID, &isnull);
	owners = rows_datum(row, TEXTARRAYOID, &isnull);
	registered->search_path = path_read(names, owners);
	registered->search_path->holder = psprintf("%s \"%s\"", kind->noun, name);
	registered->search_path->renewal = psprintf(
		"stripe_sync.add_%s(%s, ...)", kind->suffix, quote_literal_cstr(name));
	registered->search_path->sqlstate = ERRCODE_NO_SUCH_NAME;
}

void
registered_copy(Registered *to, const Registered *from)
{
	to->kind = from->kind;
	to->name = pstrdup(from->name);
	to->function = pstrdup(from->function);
	to->owner = pstrdup(from->owner);
	to->role = pstrdup(from->role);
	to->search_path = path_copy(from->search_path, CurrentMemoryContext);
	to->stopped = from->stopped;
}

/* ---- resolved ---- */

/* Raise SY005: its function or role ("what") does not exist. */
static void
part_missing(const Registered *registered, const char *what, const char *name)
{
	const RegisteredKind *kind = registered->kind;

	ereport(
		ERROR,
		(errcode(ERRCODE_NO_SUCH_NAME),
		 errmsg("%s %s of %s \"%s\" does not exist", what, name, kind->noun,
				registered->name),
		 errhint(
			 "Create it again, or drop the %s: SELECT stripe_sync.drop_%s(%s).",
			 kind->noun, kind->suffix, quote_literal_cstr(registered->name))));
}

/*
 * The function that has the name and signature now, or InvalidOid.  No USAGE on
 * its schema is needed: the current role may lack it.
 */
static Oid
find_function(const Registered *registered)
{
	oidvector *arguments = buildoidvector((Oid[]){JSONBOID}, 1);
	char *schema;
	char *name;
	Oid function;

	DeconstructQualifiedName(compat_string_to_names(registered->function),
							 &schema, &name);
	if (schema == NULL)
		return InvalidOid;
	function = GetSysCacheOid3(
		PROCNAMEARGSNSP, Anum_pg_proc_oid, CStringGetDatum(name),
		PointerGetDatum(arguments),
		ObjectIdGetDatum(get_namespace_oid(schema, true)));
	if (!OidIsValid(function) ||
		get_func_rettype(function) != registered->kind->returns)
		return InvalidOid;
	return function;
}

/* Is the function's owner one that the noted role may trust? */
static bool
function_is_trusted(const Registered *registered, Oid function, Oid role)
{
	HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Oid owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for function %u", function);
	owner = ((Form_pg_proc) GETSTRUCT(tuple))->proowner;
	ReleaseSysCache(tuple);
	return owner_is_trusted(owner, registered->owner, role);
}

/*
 * Does its function, or a schema of its search_path, belong to a role that isn't
 * trusted?  False if the function or the role doesn't exist.
 */
bool
registered_is_anothers(const Registered *registered)
{
	Oid role = get_role_oid(registered->role, true);
	Oid function = OidIsValid(role) ? find_function(registered) : InvalidOid;

	return OidIsValid(function) &&
		   (!function_is_trusted(registered, function, role) ||
			!path_holds(registered->search_path, role));
}

/* Raise SY005 if revoke_all() has stopped it. */
static void
check_stopped(const Registered *registered)
{
	if (registered->stopped)
		ereport(
			ERROR,
			(errcode(ERRCODE_NO_SUCH_NAME),
			 errmsg("%s \"%s\" is stopped", registered->kind->noun,
					registered->name),
			 errdetail("stripe_sync.revoke_all() was called for its role, %s.",
					   quote_identifier(registered->role)),
			 errhint("Register it again with stripe_sync.add_%s(), or drop it.",
					 registered->kind->suffix)));
}

/* The function to call.  Raises SY005, or 42501 without EXECUTE on it. */
static Oid
resolve_function(const Registered *registered, Oid role)
{
	const RegisteredKind *kind = registered->kind;
	Oid function = find_function(registered);

	if (!OidIsValid(function))
		part_missing(registered, "function", registered->function);
	if (!function_is_trusted(registered, function, role))
		ereport(
			ERROR,
			(errcode(ERRCODE_NO_SUCH_NAME),
			 errmsg(
				 "function %s of %s \"%s\" belongs to another role now: register it again",
				 registered->function, kind->noun, registered->name),
			 errdetail("It belonged to %s, and %ss run as %s.",
					   quote_identifier(registered->owner), kind->noun,
					   quote_identifier(registered->role)),
			 errhint(
				 "Review the function; then call stripe_sync.add_%s(%s, ...) again.",
				 kind->suffix, quote_literal_cstr(registered->name))));
	if (compat_function_aclcheck(function, role) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FUNCTION, registered->function);
	return function;
}

/* ---- called ---- */

/* What a function of kind->returns jsonb returned; else NULL */
static Jsonb *
call_function(const RegisteredKind *kind, Oid function, Jsonb *document)
{
	FmgrInfo info;
	LOCAL_FCINFO(fcinfo, 1);
	Datum result;

	fmgr_info(function, &info);
	InitFunctionCallInfoData(*fcinfo, &info, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = JsonbPGetDatum(document);
	fcinfo->args[0].isnull = false;
	result = FunctionCallInvoke(fcinfo);
	if (kind->returns != JSONBOID || fcinfo->isnull)
		return NULL;
	return DatumGetJsonbPCopy(result); /* out of a table that the scope hides */
}

/*
 * Call it.  Returns what it returned, or NULL for null.  Raises SY005 if it is
 * stopped, or its function or role is gone or another's.  To be called within
 * timed_run().
 */
Jsonb *
registered_call(const Registered *registered, Jsonb *document)
{
	Oid role = get_role_oid(registered->role, true);
	Oid function;
	RoleScope scope;
	Jsonb *result;

	check_stopped(registered);
	if (!OidIsValid(role))
		part_missing(registered, "role", registered->role);
	function = resolve_function(registered, role);
	scope = role_enter_writing(role, registered->search_path);
	result = call_function(registered->kind, function, document);
	role_leave(&scope);
	timed_check();
	return result;
}
