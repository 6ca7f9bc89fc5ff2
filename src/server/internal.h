/*
 * internal.h
 *		What the files of this folder share.
 */
#ifndef STRIPE_SYNC_SERVER_INTERNAL_H
#define STRIPE_SYNC_SERVER_INTERNAL_H

#include "port/atomics.h"

#include "base/base.h"
#include "server/counters.h"
#include "server/server.h"

/* ---- outbound.c ---- */

extern const char *outbound_remedy(OutboundState state);

/* ---- counters.c ---- */

#define COUNTER_ENTRIES 1024
#define COUNTER_BYTES	(256 * 1024) /* of CounterData, in every version */

typedef struct CounterEntry
{
	Oid database;	 /* InvalidOid: free */
	uint32 hash;	 /* of kind, name and database */
	uint64 prepared; /* of a prepared transaction: hash of its name; else 0 */
	int32 kind;
	int32 unused;
	char name[NAMEDATALEN];
	pg_atomic_uint64 counts[COUNTER_SLOTS];
} CounterEntry;

/* What outlives a clean restart */
typedef struct CounterData
{
	uint32 magic;
	int32 used; /* no entry from here on is in use */
	TimestampTz since;
	pg_atomic_uint64 lost; /* counts for which there was no room */
	CounterEntry entries[COUNTER_ENTRIES];
} CounterData;

StaticAssertDecl(sizeof(CounterData) <= COUNTER_BYTES,
				 "the size of counters never changes, see counters_kind.c");

extern bool counters_repair(CounterData *data);
extern void counters_copy_all(CounterData *copy);
extern void counters_clear_all(TimestampTz since);
extern void counters_apply(CounterKind kind, const char *name, uint64 prepared,
						   const uint64 *counts);
extern void counters_prepared_apply(uint64 prepared, bool commit);
extern int counter_slot(CounterKind kind, const char *what);

/* ---- counters_pending.c ---- */

extern void counters_pending_init(void);

/* ---- counters_file.c ---- */

extern void counters_file_load(CounterData *data);
extern void counters_file_save(void);

/* ---- counters_kind.c ---- */

extern bool counters_kind_register(void);
extern CounterData *counters_kind_data(void);

#endif /* STRIPE_SYNC_SERVER_INTERNAL_H */
