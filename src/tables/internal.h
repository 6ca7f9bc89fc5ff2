/*
 * internal.h
 *		What only the files that create and bind mirror tables use.
 */
#ifndef STRIPE_SYNC_TABLES_INTERNAL_H
#define STRIPE_SYNC_TABLES_INTERNAL_H

#include "base/base.h"
#include "engine/rights.h"
#include "tables/tables.h"
#include "types/types.h"

/* ---- in column_value.c ---- */
extern const DerivedColumn derived_columns[];
extern const int nderived_columns;
extern bool column_value_take(const DerivedColumn *derived, const char *name,
							  FieldKind kind, JsonbContainer *object,
							  Datum *value);

/* ---- in table_note.c: what create_tables() has noted of a mirror table ---- */
typedef struct TableNote
{
	NotedPath *search_path; /* NULL: there is no note */
	Oid relid;				/* the table that had the name then */
	char *owner;			/* the name of its owner then, or NULL */
	bool lists_columns; /* false: all that are named like a field are ours */
	List *columns;		/* of char *: the mirror's */
	List *given_up;		/* of char *: the mirror's, until their type changed */
} TableNote;

extern bool table_note_read(const char *table, TableNote *note);
extern bool table_note_has(const TableNote *note, const char *column);
extern bool table_note_gave_up(const TableNote *note, const char *column);
extern void table_note_write(const CatalogType *type,
							 const NotedPath *search_path, List *columns,
							 List *given_up);
extern bool table_note_is(Oid relid);

/* ---- in table_relation.c ---- */
extern Oid table_lock(const CatalogType *type, LOCKMODE mode);
extern bool table_kind_fits(char relkind);
extern void table_report_kind(int level, const CatalogType *type, char relkind);

/* ---- in table_bind.c ---- */
extern const char *table_meta_name(MetaColumn column);
extern MirrorTable *table_bind(const CatalogType *type, Oid relid);

/* ---- in mirror_columns.c: columns by the catalog, and in the table ---- */

/* Lists of CatalogField */
typedef struct ColumnSet
{
	List *ours;
	List *missing;
	List *conflicts; /* a user's columns that have a field's name */
	List *given_up;	 /* of those, the ones that were the mirror's */
	List *returned;	 /* given up before; they have their type again */
	bool lost;		 /* one is given up now */
} ColumnSet;

extern List *columns_of_type(const CatalogType *type);
extern bool columns_look_ours(const CatalogType *type, Oid relid);
extern ColumnSet columns_compare(const CatalogType *type, Oid relid,
								 const TableNote *note);
extern void columns_report_conflicts(const CatalogType *type, List *conflicts);

/* ---- in fill_columns.c: new columns are filled from _data ---- */
extern void columns_fill(const CatalogType *type, List *columns);

/* ---- in address_index.c: the index of customers' e-mail addresses ---- */
extern bool address_index_is_for(const CatalogType *type,
								 const CatalogField *field);
extern bool address_index_lacks(const CatalogType *type, Oid relid, List *ours);

/* ---- in table_ddl.c: the DDL statements of a table ---- */
extern void table_ddl_index_addresses(const CatalogType *type);
extern void table_ddl_create(const CatalogType *type, List *columns, bool lz4);
extern void table_ddl_add_columns(const CatalogType *type, List *missing,
								  bool lz4);

/* ---- in mirror_schema.c: schema stripe and its owner ---- */
extern void mirror_schema_make(Oid role);
extern bool mirror_note_is_old(const TableNote *note, Oid relid);
extern void mirror_schema_check(const CatalogType *type, Oid relid,
								const TableNote *note);
extern void mirror_schema_check_create(Oid role);

#endif /* STRIPE_SYNC_TABLES_INTERNAL_H */
