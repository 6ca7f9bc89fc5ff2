/*
 * own.c
 *		Which objects are the extension's own?
 *
 * A name proves nothing: whoever owns a schema, or may rename one, chooses names.
 * The extension's own relations are its members (pg_depend), in the schema that
 * pg_extension names.  Indexes are no members; they belong to the table they are
 * on.
 *
 * The texts of statements, ours and those of functions in SQL, say "stripe_sync".
 * So that schema must be the extension's, and its relations must belong to the
 * extension's owner or to a superuser.  After pg_upgrade, ALTER ... OWNER or
 * REASSIGN OWNED the two may differ.  Otherwise nothing is done.
 *
 * What was found is kept until one of the members, a schema or a role changes.
 */
#include "stripe_sync.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/index.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_database.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_namespace.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

/* A member, or an index of one, by its name */
typedef struct OwnRelation
{
	char name[NAMEDATALEN];
	Oid relid;
} OwnRelation;

static struct
{
	bool known;		/* all below is as it is now */
	uint64 changes; /* that were told of, ever */
	Oid extension;	/* InvalidOid: it isn't installed */
	Oid owner;
	Oid schema;
	Oid stranger; /* a member whose owner may be none, or InvalidOid */
	MemoryContext memory;
	HTAB *relations;
	List *relids; /* those that relations has */
} own = {0};

/* Told of a change to a relation; InvalidOid: to any.  Must not raise. */
void
own_forget(Oid relid)
{
	own.changes++;
	/* what others do to their own tables costs us nothing */
	if (own.known && OidIsValid(relid) && OidIsValid(own.extension) &&
		!list_member_oid(own.relids, relid))
		return;
	own.known = false;
}

static void
add_relation(const char *name, Oid relid)
{
	MemoryContext old = MemoryContextSwitchTo(own.memory);
	OwnRelation *entry;

	own.relids = lappend_oid(own.relids, relid);
	entry = hash_search(own.relations, name, HASH_ENTER, NULL);
	entry->relid = relid;
	MemoryContextSwitchTo(old);
}

/* A member that is a relation; composite types are none of our names. */
static void
add_member(Oid relid)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Form_pg_class class;

	if (!HeapTupleIsValid(tuple))
		return; /* it is being dropped */
	class = (Form_pg_class) GETSTRUCT(tuple);
	if (class->relowner != own.owner && !superuser_arg(class->relowner))
		own.stranger = relid;
	add_relation(NameStr(class->relname), relid);
	ReleaseSysCache(tuple);
}

static void
read_members(void)
{
	Relation depend = table_open(DependRelationId, AccessShareLock);
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple tuple;

	ScanKeyInit(&keys[0], Anum_pg_depend_refclassid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(ExtensionRelationId));
	ScanKeyInit(&keys[1], Anum_pg_depend_refobjid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(own.extension));
	scan = systable_beginscan(depend, DependReferenceIndexId, true, NULL,
							  lengthof(keys), keys);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_depend row = (Form_pg_depend) GETSTRUCT(tuple);

		if (row->classid == RelationRelationId &&
			row->deptype == DEPENDENCY_EXTENSION)
			add_member(row->objid);
	}
	systable_endscan(scan);
	table_close(depend, AccessShareLock);
}

static void
read_extension(void)
{
	Relation extension = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber,
				F_NAMEEQ, CStringGetDatum(ENGINE_EXTENSION));
	scan = systable_beginscan(extension, ExtensionNameIndexId, true, NULL, 1,
							  &key);
	if (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_extension row = (Form_pg_extension) GETSTRUCT(tuple);

		own.extension = row->oid;
		own.owner = row->extowner;
		own.schema = row->extnamespace;
	}
	systable_endscan(scan);
	table_close(extension, AccessShareLock);
}

static void
forget_all(void)
{
	HASHCTL control = {.keysize = NAMEDATALEN, .entrysize = sizeof(OwnRelation)};

	own.extension = own.owner = own.schema = own.stranger = InvalidOid;
	own.relids = NIL;
	if (own.memory == NULL)
		own.memory = AllocSetContextCreate(TopMemoryContext, "stripe_sync own",
										   ALLOCSET_SMALL_SIZES);
	MemoryContextReset(own.memory);
	control.hcxt = own.memory;
	own.relations = hash_create("stripe_sync own", 128, &control,
								HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
}

static void
look(void)
{
	uint64 changes = own.changes;

	if (own.known)
		return;
	forget_all();
	read_extension();
	if (OidIsValid(own.extension))
		read_members();
	own.known = own.changes == changes;
}

/* ---- are they as they must be? ---- */

Oid
own_table_owner(Oid relid)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", relid);
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

Oid
own_schema_owner(Oid schema)
{
	HeapTuple tuple = SearchSysCache1(NAMESPACEOID, ObjectIdGetDatum(schema));
	Oid owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for schema %u", schema);
	owner = ((Form_pg_namespace) GETSTRUCT(tuple))->nspowner;
	ReleaseSysCache(tuple);
	return owner;
}

Oid
own_database_owner(void)
{
	HeapTuple tuple = SearchSysCache1(DATABASEOID,
									  ObjectIdGetDatum(MyDatabaseId));
	Oid owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for database %u", MyDatabaseId);
	owner = ((Form_pg_database) GETSTRUCT(tuple))->datdba;
	ReleaseSysCache(tuple);
	return owner;
}

static bool
refuse_schema(Refusal *refusal)
{
	const char *schema = quote_identifier(get_namespace_name(own.schema));
	Oid other = get_namespace_oid(ENGINE_SCHEMA, true);
	const char *rename = psprintf("ALTER SCHEMA %s RENAME TO %s;", schema,
								  ENGINE_SCHEMA);

	if (!OidIsValid(other))
		return refuse(
			refusal, FAULT_OURS, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
			psprintf("the schema of extension \"%s\" was renamed to %s",
					 ENGINE_EXTENSION, schema),
			NULL, psprintf("Run %s", rename));
	return refuse(
		refusal, FAULT_OURS, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
		psprintf("schema \"%s\" is not that of extension \"%s\"", ENGINE_SCHEMA,
				 ENGINE_EXTENSION),
		psprintf("The extension's schema is %s. \"%s\" belongs to role \"%s\".",
				 schema, ENGINE_SCHEMA,
				 GetUserNameFromId(own_schema_owner(other), false)),
		psprintf("Run ALTER SCHEMA %s RENAME TO %s_other; %s", ENGINE_SCHEMA,
				 ENGINE_SCHEMA, rename));
}

static bool
refuse_stranger(Refusal *refusal)
{
	const char *owner = GetUserNameFromId(own_table_owner(own.stranger), false);

	return refuse(
		refusal, FAULT_OURS, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
		psprintf("%s.%s belongs to role \"%s\"", ENGINE_SCHEMA,
				 get_rel_name(own.stranger), owner),
		"What is the extension's own must belong to the extension's owner or to a superuser.",
		psprintf(
			"Run, as a superuser, ALTER TABLE %s.%s OWNER TO %s, and the same for what else of the extension belongs to \"%s\".",
			ENGINE_SCHEMA, quote_identifier(get_rel_name(own.stranger)),
			quote_identifier(GetUserNameFromId(own.owner, false)), owner));
}

/* Is the extension here, and all of its own its own? */
bool
own_fits(Refusal *refusal)
{
	look();
	if (!OidIsValid(own.extension))
		return refuse(
			refusal, FAULT_OURS, ERRCODE_UNDEFINED_TABLE,
			"extension \"stripe_sync\" is not installed in this database", NULL,
			"Run CREATE EXTENSION stripe_sync.");
	if (get_namespace_oid(ENGINE_SCHEMA, true) != own.schema)
		return refuse_schema(refusal);
	if (OidIsValid(own.stranger))
		return refuse_stranger(refusal);
	return true;
}

static void
check(void)
{
	Refusal refusal;

	if (!own_fits(&refusal))
		refusal_raise(&refusal);
}

/* ---- by name ---- */

/* An index of a member, of that name. */
static Oid
find_index(const char *name)
{
	Oid relid = get_relname_relid(name, own.schema);
	Oid table = InvalidOid;

	if (OidIsValid(relid) && get_rel_relkind(relid) == RELKIND_INDEX)
		table = IndexGetRelation(relid, true);
	if (!OidIsValid(table) || !list_member_oid(own.relids, table))
		return InvalidOid;
	add_relation(name, relid);
	return relid;
}

static Oid
find(const char *name)
{
	OwnRelation *entry;

	look();
	entry = hash_search(own.relations, name, HASH_FIND, NULL);
	return entry != NULL ? entry->relid : find_index(name);
}

/*
 * A member, or an index of one; InvalidOid when there is none.  Nothing tells of
 * a table that an upgrade has made since we looked.
 */
Oid
own_find(const char *name)
{
	Oid relid = find(name);

	if (OidIsValid(relid))
		return relid;
	own.known = false;
	return find(name);
}

Oid
engine_relation(const char *name)
{
	Oid relid;

	check();
	relid = own_find(name);
	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("extension \"%s\" has no table or index \"%s\"",
						ENGINE_EXTENSION, name),
				 errhint("Run ALTER EXTENSION %s UPDATE.", ENGINE_EXTENSION)));
	return relid;
}

Oid
engine_extension(void)
{
	check();
	return own.extension;
}

Oid
engine_owner(void)
{
	check();
	return own.owner;
}

Oid
engine_schema(void)
{
	check();
	return own.schema;
}
