/*
 * stored_index.h
 *		What an index is on.  No code of its table's owner runs.
 */
#ifndef STRIPE_SYNC_STORED_INDEX_H
#define STRIPE_SYNC_STORED_INDEX_H

#include "nodes/pg_list.h"

/* ---- in stored_index.c: what an index is on, as it is stored ---- */
extern int stored_index_lower(Oid indexid);
extern int stored_index_partial(Oid indexid, bool *not_null);

#endif /* STRIPE_SYNC_STORED_INDEX_H */
