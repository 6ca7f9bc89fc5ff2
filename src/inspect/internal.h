/*
 * internal.h
 *		verify_mirror(): the objects that it verifies, their rows as they are and
 *		as they must be, and rows that are missing.
 */
#ifndef STRIPE_SYNC_VERIFY_MIRROR_H
#define STRIPE_SYNC_VERIFY_MIRROR_H

#include "nodes/execnodes.h"

#include "base/base.h"
#include "engine/statement.h"
#include "mirror/mirror.h"
#include "tables/tables.h"
#include "types/types.h"

/* ---- in verify_keys.c: the objects that are verified ---- */
typedef struct ObjectKey
{
	char *id;
	char *account;
} ObjectKey;

/* ---- in verify_report.c: rows of the result ---- */
extern void verify_report(struct ReturnSetInfo *result, const char *object_type,
						  const ObjectKey *key, const char *field,
						  const Jsonb *stored, const Jsonb *expected);

/* ---- in verify_keys.c ---- */
extern Datum verify_type_names(List *types);
extern void verify_keys_in_inbox(List *types, int sample, List **keys);
extern List *verify_sample(MirrorTable *table, List *all, int sample);

/* ---- in verify_mirror.c ---- */
extern bool verify_objects(const CatalogType *type, List *keys,
						   ReturnSetInfo *result);

/* ---- in verify_lacking.c: rows that are missing ---- */
extern bool verify_may_be_hidden(MirrorTable *table, const char *id,
								 const char *account);
extern List *verify_lost_children(const CatalogType *type, const ObjectKey *key,
								  Jsonb *data, List *types, Oid reader);
extern List *verify_parents(List *types);
extern void verify_incomplete(ReturnSetInfo *result, List *types);

/* ---- in verify_row.c: a row as it is, and as it must be ---- */

/* One table that is verified. */
typedef struct Inspection
{
	ReturnSetInfo *result;
	MirrorTable *table;
	TupleDesc desc;
	struct _SPI_plan *fetch;
	struct _SPI_plan *differences;
	List *children; /* verify only missing children of these types; NIL: all */
	Oid reader;		/* the caller */
	int hidden;		/* objects whose row the table's policies may hide */
} Inspection;

/* How much of a row's expected content is known */
typedef enum Knowledge
{
	KNOWS_OBJECT, /* or nothing */
	KNOWS_TOMBSTONE,
	KNOWS_ALL
} Knowledge;

/* A row as it is, and as it must be, by attribute. */
typedef struct RowValues
{
	Datum *values;
	bool *nulls;
} RowValues;

extern struct _SPI_plan *verify_row_prepare(const char *sql, int nargs,
											Oid *types);
extern struct _SPI_plan *verify_row_prepare_fetch(const MirrorTable *table);
extern bool verify_row_fetch(Inspection *in, const ObjectKey *key,
							 RowValues *row);
extern MirrorState verify_row_state(const Inspection *in, const RowValues *row);
extern Jsonb *verify_row_data(const Inspection *in, const RowValues *row);
extern Knowledge verify_row_expect_content(const Inspection *in,
										   const ObjectKey *key,
										   const MirrorState *state,
										   Jsonb *data, MirrorContent *content);
extern RowValues verify_row_expect(const Inspection *in, const RowValues *row,
								   Jsonb *data, const MirrorContent *content,
								   Knowledge knowledge);
extern bool verify_row_same(const Inspection *in, const RowValues *a,
							const RowValues *b);
extern Datum verify_row_datum(const Inspection *in, const RowValues *row);

#endif /* STRIPE_SYNC_VERIFY_MIRROR_H */
