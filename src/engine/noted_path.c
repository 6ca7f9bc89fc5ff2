/*
 * noted_path.c
 *		A stored search_path, with the owners of its schemas.
 *
 * A search_path is a list of names.  If one of its schemas is renamed or dropped,
 * any role that may create schemas can create another one of that name, and its
 * objects would be found instead.  So the owners are stored too (by name, for
 * dump and restore), and compared whenever the path is set.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

#include "engine/rights.h"
#include "engine/internal.h"

/* ---- owners ---- */

static bool
is_database_owner(Oid role)
{
	return role == ROLE_PG_DATABASE_OWNER || role == own_database_owner();
}

/*
 * May "role" run a function of this owner, or look up names in a schema of this
 * owner?  Yes, if the owner is the noted one, or has the rights of the role
 * anyway.  "noted" is a role's name or NULL.
 */
bool
owner_is_trusted(Oid owner, const char *noted, Oid role)
{
	Oid before = noted != NULL ? get_role_oid(noted, true) : InvalidOid;

	if (owner == role || owner == before)
		return true;
	if (OidIsValid(before) && is_database_owner(owner) &&
		is_database_owner(before))
		return true;
	return superuser_arg(owner) || has_privs_of_role(owner, role);
}

/* InvalidOid when there is no schema of that name. */
static Oid
owner_of_schema(const char *name)
{
	HeapTuple tuple = SearchSysCache1(NAMESPACENAME, CStringGetDatum(name));
	Oid owner;

	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	owner = ((Form_pg_namespace) GETSTRUCT(tuple))->nspowner;
	ReleaseSysCache(tuple);
	return owner;
}

/* ---- a path ---- */

/* A path of these schemas ("a, b"), without owners */
NotedPath *
path_make(const char *names)
{
	NotedPath *path = palloc0(sizeof(NotedPath));

	path->names = pstrdup(names);
	path->holder = "the session";
	path->renewal = "the function";
	path->sqlstate = ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE;
	return path;
}

/* A path as it is stored: text, and text[] with nulls for unknown owners */
NotedPath *
path_read(Datum names, Datum owners)
{
	NotedPath *path = path_make(TextDatumGetCString(names));
	Datum *elements;
	bool *nulls;
	int count;

	deconstruct_array(DatumGetArrayTypeP(owners), TEXTOID, -1, false,
					  TYPALIGN_INT, &elements, &nulls, &count);
	for (int i = 0; i < count; i++)
		path->owners = lappend(
			path->owners, nulls[i] ? NULL : TextDatumGetCString(elements[i]));
	return path;
}

NotedPath *
path_copy(const NotedPath *path, MemoryContext memory)
{
	MemoryContext old = MemoryContextSwitchTo(memory);
	NotedPath *copy = palloc(sizeof(NotedPath));
	ListCell *cell;

	*copy = *path;
	copy->names = pstrdup(path->names);
	copy->holder = pstrdup(path->holder);
	copy->renewal = pstrdup(path->renewal);
	copy->owners = NIL;
	foreach(cell, path->owners)
		copy->owners = lappend(copy->owners,
							   lfirst(cell) ? pstrdup(lfirst(cell)) : NULL);
	MemoryContextSwitchTo(old);
	return copy;
}

static List *
path_names(const NotedPath *path)
{
	List *names;

	if (!SplitIdentifierString(pstrdup(path->names), ',', &names))
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid search_path \"%s\"", path->names),
			 errhint(
				 "Call stripe_sync.add_handler() or stripe_sync.create_tables() again.")));
	return names;
}

static const char *
noted_owner(const NotedPath *path, int position)
{
	return position < list_length(path->owners)
			   ? list_nth(path->owners, position)
			   : NULL;
}

static bool
is_temporary_name(const char *name)
{
	return strcmp(name, "pg_temp") == 0 || strncmp(name, "pg_temp_", 8) == 0 ||
		   strncmp(name, "pg_toast_temp_", 14) == 0;
}

/* Is the name left out of every path in force? */
static bool
is_left_out(const char *name)
{
	return strcmp(name, "$user") == 0 || is_temporary_name(name);
}

/*
 * The current search_path, to be stored: the schemas that exist and that the
 * current user may use, with their owners.
 */
NotedPath *
path_resolved(void)
{
	NotedPath *path = path_make("");
	StringInfoData names;
	ListCell *cell;

	initStringInfo(&names);
	foreach(cell, fetch_search_path(false))
	{
		char *name = get_namespace_name(lfirst_oid(cell));

		if (name == NULL || is_temporary_name(name))
			continue;
		appendStringInfo(&names, "%s, ", quote_identifier(name));
		path->owners = lappend(
			path->owners,
			GetUserNameFromId(own_schema_owner(lfirst_oid(cell)), true));
	}
	appendStringInfoString(&names, "pg_temp");
	path->names = names.data;
	return path;
}

/* The owners to be stored (text[]): the current ones, or the noted ones of schemas that don't exist. */
Datum
path_owners(const NotedPath *path)
{
	List *names = path_names(path);
	Datum *owners = palloc0((list_length(names) + 1) * sizeof(Datum));
	bool *nulls = palloc0((list_length(names) + 1) * sizeof(bool));
	int dims[] = {0};
	int lbs[] = {1};
	ListCell *cell;

	foreach(cell, names)
	{
		int i = dims[0]++;
		Oid owner = is_left_out(lfirst(cell)) ? InvalidOid
											  : owner_of_schema(lfirst(cell));
		const char *name = OidIsValid(owner) ? GetUserNameFromId(owner, true)
											 : noted_owner(path, i);

		nulls[i] = name == NULL;
		if (name != NULL)
			owners[i] = CStringGetTextDatum(name);
	}
	return PointerGetDatum(construct_md_array(
		owners, nulls, 1, dims, lbs, TEXTOID, -1, false, TYPALIGN_INT));
}

/* ---- in force ---- */

/* The first schema whose owner the role doesn't trust, or NULL. */
static const char *
find_untrusted_schema(const NotedPath *path, Oid role, int *position)
{
	List *names = path_names(path);
	ListCell *cell;

	*position = 0;
	foreach(cell, names)
	{
		const char *name = lfirst(cell);
		Oid owner = is_left_out(name) ? InvalidOid : owner_of_schema(name);

		if (OidIsValid(owner) &&
			!owner_is_trusted(owner, noted_owner(path, *position), role))
			return name;
		(*position)++;
	}
	return NULL;
}

/* Does the role trust the owners of all schemas? */
bool
path_holds(const NotedPath *path, Oid role)
{
	int position;

	return find_untrusted_schema(path, role, &position) == NULL;
}

static void
raise_untrusted_schema(const NotedPath *path, Oid role, const char *schema,
					   const char *before)
{
	const char *name = quote_identifier(schema);
	const char *runs_as = GetUserNameFromId(role, false);

	ereport(
		ERROR,
		(errcode(path->sqlstate),
		 errmsg(
			 "schema \"%s\" in the search_path of %s belongs to role \"%s\" now",
			 schema, path->holder,
			 GetUserNameFromId(owner_of_schema(schema), true)),
		 before != NULL
			 ? errdetail(
				   "It belonged to \"%s\" when the search_path was stored. Objects in it would be used with the rights of \"%s\".",
				   before, runs_as)
			 : errdetail(
				   "No owner was stored with the search_path. Objects in it would be used with the rights of \"%s\".",
				   runs_as),
		 errhint(
			 "Run ALTER SCHEMA %s RENAME TO %s, or ALTER SCHEMA %s OWNER TO %s. Or set search_path to schemas that \"%s\" can trust, and call %s again.",
			 name, quote_identifier(psprintf("%s_other", schema)), name,
			 quote_identifier(before != NULL ? before : runs_as), runs_as,
			 path->renewal)));
}

/* Raise path->sqlstate if the role doesn't trust the owner of a schema. */
static void
path_check(const NotedPath *path, Oid role)
{
	int position;
	const char *schema = find_untrusted_schema(path, role, &position);

	if (schema != NULL)
		raise_untrusted_schema(path, role, schema, noted_owner(path, position));
}

/*
 * The value of search_path for a scope of the role.  Schemas that don't exist are
 * left out, because one could be created while the scope is active.  Raises
 * path->sqlstate if an owner isn't trusted.
 */
char *
path_in_force(const NotedPath *path, Oid role)
{
	StringInfoData names;
	ListCell *cell;

	AcceptInvalidationMessages();
	path_check(path, role);
	initStringInfo(&names);
	foreach(cell, path_names(path))
	{
		const char *name = lfirst(cell);

		if (!is_left_out(name) && OidIsValid(owner_of_schema(name)))
			appendStringInfo(&names, "%s, ", quote_identifier(name));
	}
	appendStringInfoString(&names, "pg_temp");
	return names.data;
}
