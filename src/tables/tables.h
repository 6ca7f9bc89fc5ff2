/*
 * tables.h
 *		The tables of the mirror, in schema stripe: which relation is an object
 *		type's table, what its columns hold, and how it may be used.
 *
 * See README.md of this folder for locks, and for what is cached.
 */
#ifndef STRIPE_SYNC_TABLES_H
#define STRIPE_SYNC_TABLES_H

#include "utils/array.h"

#include "base/base.h"
#include "engine/rights.h"
#include "types/types.h"

/* ---- in child_key.c: keys of the children of one page ---- */
typedef struct PageChild
{
	const CatalogType *type;
	char *id;				/* the value of its row's key */
	JsonbContainer *object; /* as the page has it */
} PageChild;

/* A page whose elements are taken, one after the other. */
typedef struct ChildKeys
{
	const char *parent_id; /* "": unknown */
	List *taken;		   /* of PageChild */
} ChildKeys;

extern const CatalogType *child_type(JsonbContainer *object);
extern bool child_take(ChildKeys *keys, JsonbContainer *element,
					   PageChild *child);
extern List *child_list(const char *parent_id, JsonbContainer *page);
extern bool child_is_listed(const char *parent_id, JsonbContainer *page,
							const char *type, const char *id);
extern JsonbContainer *child_content(const CatalogType *type,
									 JsonbContainer *line,
									 const char *parent_id);

/* ---- in column_value.c: a column's value, taken from an object ---- */

/* A column whose field has moved between API versions */
typedef struct DerivedColumn
{
	const char *table;
	const char *name;
	FieldKind kind;
	bool (*take)(JsonbContainer *object, JsonbValue *value);
} DerivedColumn;

extern const DerivedColumn *derived_find(const char *table, const char *name);
extern bool column_value_from_json(FieldKind kind, const JsonbValue *json,
								   Datum *value);
extern Oid column_value_type(FieldKind kind);

/* ---- in table_ddl.c: the DDL statements of a table ---- */
extern char *table_ddl_index(const CatalogType *type, const CatalogField *field,
							 const char *option);

/* ---- in table_cache.c: the definition of a mirror table in this database ---- */

/* The columns of the mirror's own state */
typedef enum MetaColumn
{
	META_DATA,
	META_ACCOUNT,
	META_DELETED_AT,
	META_EVENT_ID,
	META_AS_OF,
	META_SYNCED_AT,
	META_KEY,
	NMETA
} MetaColumn;

typedef struct TableColumn
{
	AttrNumber attnum;
	FieldKind kind;
	const char *name;
	const DerivedColumn *derived; /* or NULL: the field of that name */
} TableColumn;

/* Statements on tables that are not plain: mirror_sql.c */
typedef enum MirrorSql
{
	SQL_INSERT,
	SQL_UPDATE,
	SQL_PEEK,
	SQL_LOCK,
	SQL_DELETE, /* set or remove the tombstone */
	NSQL
} MirrorSql;

typedef struct MirrorTable
{
	Oid relid;
	bool valid; /* nothing has invalidated the definition */
	const CatalogType *type;
	Oid owner;
	NotedPath *search_path; /* of the owner's code that runs for the table */
	bool runs_code;			/* the owner's, when a row is written */
	bool plain;				/* rows may be written without the executor */
	bool can_be_scanned;	/* by its key, without running a user's code */
	Oid key_index;
	char data_compression; /* of _data: attcompression */
	int natts;
	int ncolumns;
	int nfields; /* columns[0 .. nfields - 1] are fields, the rest derived */
	TableColumn *columns;
	AttrNumber meta[NMETA]; /* META_KEY: the id; invalid for singletons */
	MemoryContext memory;
	int pins;
	struct _SPI_plan *plans[NSQL];
} MirrorTable;

/* What a step does with a table: the strength of its lock */
typedef enum TableUse
{
	TABLE_READ,
	TABLE_WRITE
} TableUse;

extern MirrorTable *table_cache_find(const CatalogType *type, TableUse use);
extern void table_cache_check(MirrorTable *table);
extern void table_cache_pin(MirrorTable *table);
extern void table_cache_unpin(MirrorTable *table);
extern void table_cache_init(void);

/* ---- in table_bind.c: the columns of a table, and their values ---- */
extern Oid table_meta_type(MetaColumn column);
extern bool table_has_column(const MirrorTable *table, const char *name);
extern void table_values(MirrorTable *table, JsonbContainer *object,
						 Datum *values, bool *nulls);

/* ---- in table_relation.c: the relation that has a mirror table's name ---- */
extern Oid table_lookup(const CatalogType *type);
extern char *table_lacking(const CatalogType *type);

/* ---- in table_policy.c: row security of a mirror table ---- */
extern bool table_shows_all(const MirrorTable *table, Oid role);
extern bool table_has_forced_policy(const MirrorTable *table);
extern char *table_policy_hint(const CatalogType *type, Oid owner);

/* ---- in create_tables.c: tables are created and extended ---- */
extern void tables_create_if_none(void);
extern List *tables_wanted(ArrayType *names);

#endif /* STRIPE_SYNC_TABLES_H */
