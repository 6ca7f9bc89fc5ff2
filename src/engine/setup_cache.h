/*
 * setup_cache.h
 *		A set-up table in memory: handlers, alerts.
 */
#ifndef STRIPE_SYNC_SETUP_CACHE_H
#define STRIPE_SYNC_SETUP_CACHE_H

#include "nodes/pg_list.h"

#include "base/base.h"
#include "engine/statement.h"

typedef struct SetupCache
{
	const char *table;
	void *(*read)(Rows *row); /* an entry, allocated in the current context */
	int (*compare)(const ListCell *a, const ListCell *b);

	MemoryContext memory;
	List *entries;
	uint64 generation; /* of the set-up that was read, 0: none */
} SetupCache;

/*
 * All entries, sorted.  They are read again when the set-up has changed, so the
 * list is valid only until the next call or the next change is seen.
 */
extern List *setup_cache_entries(SetupCache *cache);

#endif /* STRIPE_SYNC_SETUP_CACHE_H */
