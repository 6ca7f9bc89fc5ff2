/*
 * noted_path.c
 *		A search_path that is noted, with the owners of its schemas.
 *
 * A path is a list of names.  A schema may be renamed or dropped, and whoever
 * may make schemas in the database then makes another one of that name, whose
 * objects are found first.  So the owners are noted too, by name as a dump and a
 * restore need, and looked at whenever the path comes into force.
 */
#include "stripe_sync.h"

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

/* ---- owners ---- */

static bool
is_database_owner(Oid role)
{
	return role == ROLE_PG_DATABASE_OWNER || role == own_database_owner();
}

/*
 * Is the owner of a function or a schema the one that was noted, or could he do
 * anyway what the role can that runs it, or looks for names in it?
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

/* Of these schemas, without owners. */
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

/* As it is stored: text and text[]. */
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
split(const NotedPath *path)
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

/* Must it never be looked into, whatever the path says? */
static bool
is_left_out(const char *name)
{
	return strcmp(name, "$user") == 0 || is_temporary_name(name);
}

/*
 * The search_path as it resolves now, to be noted: the schemas that exist and
 * may be used, by name, and whose they are.
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

/* The owners to be stored with it: as they are, of a schema that is gone as they were. */
Datum
path_owners(const NotedPath *path)
{
	List *names = split(path);
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

/* The first schema of it that is a stranger's now, or NULL. */
static const char *
find_stranger(const NotedPath *path, Oid role, int *position)
{
	List *names = split(path);
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

/* Are its schemas whose they were, or of those that the role may trust? */
bool
path_holds(const NotedPath *path, Oid role)
{
	int position;

	return find_stranger(path, role, &position) == NULL;
}

static void
refuse_stranger(const NotedPath *path, Oid role, const char *schema,
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
				   "It belonged to \"%s\" when the path was noted, and what is found in it runs with the rights of \"%s\".",
				   before, runs_as)
			 : errdetail(
				   "No owner of it was noted, and what is found in it runs with the rights of \"%s\".",
				   runs_as),
		 errhint(
			 "Run ALTER SCHEMA %s RENAME TO %s, or ALTER SCHEMA %s OWNER TO %s. Or SET search_path to schemas that \"%s\" may trust, and call %s again.",
			 name, quote_identifier(psprintf("%s_other", schema)), name,
			 quote_identifier(before != NULL ? before : runs_as), runs_as,
			 path->renewal)));
}

/* An error where a schema of it is a stranger's now. */
void
path_check(const NotedPath *path, Oid role)
{
	int position;
	const char *schema = find_stranger(path, role, &position);

	if (schema != NULL)
		refuse_stranger(path, role, schema, noted_owner(path, position));
}

/*
 * As a scope of the role may have it: without schemas that are not there, which
 * somebody could make meanwhile.
 */
char *
path_in_force(const NotedPath *path, Oid role)
{
	StringInfoData names;
	ListCell *cell;

	AcceptInvalidationMessages();
	path_check(path, role);
	initStringInfo(&names);
	foreach(cell, split(path))
	{
		const char *name = lfirst(cell);

		if (!is_left_out(name) && OidIsValid(owner_of_schema(name)))
			appendStringInfo(&names, "%s, ", quote_identifier(name));
	}
	appendStringInfoString(&names, "pg_temp");
	return names.data;
}
