/*
 * own.c
 *		Finds the extension's own relations.
 *
 * A name is not enough, because the owner of a schema can rename it.  The
 * extension's relations are its members in pg_depend, in the schema that
 * pg_extension names, and the indexes of these members.
 *
 * Statements, and functions written in SQL, use the schema name "stripe_sync".
 * So this schema must be the extension's, and its relations must belong to the
 * extension's owner or to a superuser; pg_upgrade, ALTER ... OWNER and REASSIGN
 * OWNED can change that.  Otherwise every function of the extension raises an
 * error.
 *
 * The result is cached until a member, a schema or a role changes.
 */
#include "postgres.h"

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

#include "base/refusal.h"
#include "engine/rights.h"
#include "engine/internal.h"

/* A member, or an index of one, by its name */
typedef struct OwnRelation
{
	char name[NAMEDATALEN];
	Oid relid;
} OwnRelation;

static struct
{
	bool known;		/* the cache is valid */
	uint64 changes; /* number of invalidations */
	Oid extension;	/* InvalidOid: it isn't installed */
	Oid owner;
	Oid schema;
	Oid foreign; /* a member of another owner, or InvalidOid */
	MemoryContext memory;
	HTAB *relations;
	List *relids; /* OIDs of all relations in the hash table */
} own = {0};

/*
 * Invalidation callback: a relation has changed; InvalidOid: any may have.  Must
 * not raise an error or read a catalog.
 */
void
own_forget(Oid relid)
{
	own.changes++;
	/* changes of users' tables don't reset the cache */
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

/* Add a member that is a relation. */
static void
add_member(Oid relid)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Form_pg_class class;

	if (!HeapTupleIsValid(tuple))
		return; /* it is being dropped */
	class = (Form_pg_class) GETSTRUCT(tuple);
	if (class->relowner != own.owner && !superuser_arg(class->relowner))
		own.foreign = relid;
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
reset_cache(void)
{
	HASHCTL control = {.keysize = NAMEDATALEN, .entrysize = sizeof(OwnRelation)};

	own.extension = own.owner = own.schema = own.foreign = InvalidOid;
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
ensure_known(void)
{
	uint64 changes = own.changes;

	if (own.known)
		return;
	reset_cache();
	read_extension();
	if (OidIsValid(own.extension))
		read_members();
	own.known = own.changes == changes;
}

/* ---- owners ---- */

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
refuse_renamed_schema(Refusal *refusal)
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
refuse_foreign_member(Refusal *refusal)
{
	const char *owner = GetUserNameFromId(own_table_owner(own.foreign), false);

	return refuse(
		refusal, FAULT_OURS, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
		psprintf("%s.%s belongs to role \"%s\"", ENGINE_SCHEMA,
				 get_rel_name(own.foreign), owner),
		"All objects of the extension must belong to the extension's owner or to a superuser.",
		psprintf(
			"Run, as a superuser, ALTER TABLE %s.%s OWNER TO %s, and the same for other objects of the extension that belong to \"%s\".",
			ENGINE_SCHEMA, quote_identifier(get_rel_name(own.foreign)),
			quote_identifier(GetUserNameFromId(own.owner, false)), owner));
}

/*
 * Is the extension installed, its schema named "stripe_sync", and do all its
 * relations have a permitted owner?  If not, *refusal says what to do.
 */
bool
own_fits(Refusal *refusal)
{
	ensure_known();
	if (!OidIsValid(own.extension))
		return refuse(
			refusal, FAULT_OURS, ERRCODE_UNDEFINED_TABLE,
			"extension \"stripe_sync\" is not installed in this database", NULL,
			"Run CREATE EXTENSION stripe_sync.");
	if (get_namespace_oid(ENGINE_SCHEMA, true) != own.schema)
		return refuse_renamed_schema(refusal);
	if (OidIsValid(own.foreign))
		return refuse_foreign_member(refusal);
	return true;
}

static void
check_own(void)
{
	Refusal refusal;

	if (!own_fits(&refusal))
		refusal_raise(&refusal);
}

/* ---- by name ---- */

/* An index of a member, by its name; InvalidOid if there is none. */
static Oid
own_find_index(const char *name)
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
own_find_cached(const char *name)
{
	OwnRelation *entry;

	ensure_known();
	entry = hash_search(own.relations, name, HASH_FIND, NULL);
	return entry != NULL ? entry->relid : own_find_index(name);
}

/*
 * A member, or an index of one, by its name; InvalidOid if there is none.  Before
 * that is returned the members are read again: a new member causes no
 * invalidation.
 */
Oid
own_find(const char *name)
{
	Oid relid = own_find_cached(name);

	if (OidIsValid(relid))
		return relid;
	own.known = false;
	return own_find_cached(name);
}

/*
 * The same, for a relation that must exist: raises an error if it doesn't, or if
 * own_fits() fails.
 */
Oid
engine_relation(const char *name)
{
	Oid relid;

	check_own();
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
	check_own();
	return own.extension;
}

Oid
engine_owner(void)
{
	check_own();
	return own.owner;
}

Oid
engine_schema(void)
{
	check_own();
	return own.schema;
}
