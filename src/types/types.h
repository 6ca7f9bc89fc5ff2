/*
 * catalog.h
 *		Stripe's object types: tables, fields and their kinds, compiled in.
 *
 * src/generated/catalog_data.c is made from src/types/object_types.json by
 * src/types/generate.pl; catalog.c looks things up in it.
 */
#ifndef STRIPE_SYNC_CATALOG_H
#define STRIPE_SYNC_CATALOG_H

#include <stdbool.h>
#include <stddef.h>

typedef enum FieldKind
{
	KIND_STRING,	/* text */
	KIND_INTEGER,	/* bigint */
	KIND_NUMBER,	/* numeric */
	KIND_DECIMAL,	/* numeric; Stripe sends a string */
	KIND_BOOLEAN,	/* boolean */
	KIND_TIMESTAMP, /* timestamptz; Stripe sends seconds */
	KIND_REFERENCE, /* text: the id, also of an expanded object */
	KIND_EMBEDDED,	/* jsonb: a whole object, always */
	KIND_OBJECT,	/* jsonb */
	KIND_ARRAY,		/* jsonb */
	KIND_LIST,		/* jsonb: a page of children */
	KIND_METADATA	/* jsonb: a map of strings */
} FieldKind;

typedef struct CatalogField
{
	const char *name;
	FieldKind kind;
	bool nullable;
} CatalogField;

/* Fields of a child that name its parent differ from page to page. */
typedef struct CatalogPage
{
	const char *field; /* the parent's field of KIND_LIST */
	const char *child; /* the object type that the page lists */
	const char *back;  /* the child's field naming its parent, or NULL */
} CatalogPage;

/* A list of the API that holds objects of a type. */
typedef struct CatalogList
{
	const char *path;	/* with its query; {id} is a parent's */
	const char *parent; /* the object type that it is listed for, or NULL */
	bool created;		/* it can be asked for what is younger than a time */
} CatalogList;

typedef struct CatalogType
{
	const char *object; /* Stripe's own name: "billing_portal.configuration" */
	const char *table;	/* NULL: carried by events only, nothing to keep */
	const char *key;	/* "id", "customer", "" (one an account), NULL */
	const char *api;	/* "v1" or "v2" */
	const char *list_path;	   /* or NULL */
	const char *retrieve_path; /* or NULL */
	const char *id_prefix;	   /* or NULL */
	bool deletable;
	int rank; /* lock order: a page's parent before its children */
	const CatalogField *fields;
	int nfields;
	const CatalogPage *pages;
	int npages;
	const CatalogList *lists; /* that together hold all of them */
	int nlists;
	const char *const *event_types; /* events that carry it */
	int nevent_types;
} CatalogType;

/* Sorted by object, in byte order. */
extern const CatalogType catalog_types[];
extern const int catalog_ntypes;
extern const char *const catalog_api_version;

extern const CatalogType *catalog_find(const char *object, size_t length);
extern const CatalogType *catalog_find_table(const char *table);
extern bool catalog_is_retrievable(const CatalogType *type);
extern const char *catalog_kind_name(FieldKind kind);
/* Says pg_catalog where a search_path could find another type of that name. */
extern const char *catalog_kind_sqltype(FieldKind kind);
extern const CatalogField *catalog_field(const CatalogType *type,
										 const char *name);
extern const CatalogType *catalog_page_type(const CatalogPage *page);
extern bool catalog_page_sweeps(const CatalogPage *page);

/* ---- grant.c ---- */

extern void mirror_grant_tables(void);

#endif /* STRIPE_SYNC_CATALOG_H */
