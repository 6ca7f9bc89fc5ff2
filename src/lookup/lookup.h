/*
 * lookup.h
 *		What a reference of a user's refers to, and rows of the mirror that the
 *		caller may see.
 */
#ifndef STRIPE_SYNC_LOOKUP_H
#define STRIPE_SYNC_LOOKUP_H

#include "lib/stringinfo.h"
#include "nodes/pg_list.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "types/types.h"

/* ---- in visible_rows.c: rows of the mirror that the caller may see ---- */

/* A row as it was read by its key */
typedef struct VisibleState
{
	Jsonb *data;
	TimestampTz as_of;
	char *event_id; /* NULL: fetched from Stripe's API */
	bool deleted;
} VisibleState;

extern bool visible_row_read(const CatalogType *type, const char *id,
							 const char *account, VisibleState *state);
extern List *visible_rows_left_out(void);
extern void visible_rows_read_all(void (*body)(void *), void *arg);

/* ---- in visible_search.c: rows by a column ---- */

typedef struct VisibleRow
{
	char *id;
	char *account;
	TimestampTz created; /* 0: unknown */
} VisibleRow;

extern List *visible_rows_find(const CatalogType *type, const char *column,
							   const char *value, int most);
extern List *visible_rows_of_email(const char *email, int most, bool *looked);

/* ---- in links.c: the objects that an object names ---- */
extern const char *const link_names[];
extern const int nlink_names;

extern char *link_get(const CatalogType *type, JsonbContainer *object,
					  const char *name);
extern bool link_is_name(const char *name);
extern bool link_is_column(const CatalogType *type, const char *name);
extern bool link_has_any(const CatalogType *type);

/* ---- in referrers.c: rows that refer to an object ---- */

typedef struct Referrer
{
	const CatalogType *type;
	VisibleRow *row;
	Jsonb *data; /* or NULL: not read */
} Referrer;

extern List *referrers_find(const CatalogType *referred, const char *id,
							const char *account, int most);
extern List *referrers_accounts(const CatalogType *referred, const char *id,
								int most);
extern List *referrers_near_invoice_payments(const char *customer,
											 const char *account,
											 JsonbContainer *object);

/* ---- in reference.c: what a reference refers to ---- */

typedef enum ReferentKind
{
	REFERENT_OBJECT,
	REFERENT_EVENT, /* that is about no object */
	REFERENT_MESSAGE,
	REFERENT_INCIDENT,
	REFERENT_JOB
} ReferentKind;

/* One thing that a reference refers to */
typedef struct Referent
{
	ReferentKind kind;
	char *object_type; /* NULL: several types that have the same id */
	char *id;		   /* of the object or event */
	char *account;
	char *event_id; /* the event that was asked for, or NULL */
	int64 number;	/* the message, incident or job; of an object or event, */
	/* the message that led to it, or 0 */
	TimestampTz at; /* when what was asked for happened, or 0 */
} Referent;

typedef struct Reference
{
	const char *ref;
	const char *account; /* NULL: any */
	List *referents;	 /* of Referent */
	StringInfo looked;	 /* what was looked at: "events, objects, ..." */
	bool several;		 /* its referents may be of several accounts */
	char *others;		 /* other meanings of the reference, or NULL */
} Reference;

extern void reference_resolve(Reference *reference);

#endif /* STRIPE_SYNC_LOOKUP_H */
