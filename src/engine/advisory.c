/*
 * advisory.c
 *		Advisory locks.
 *
 * Their lock tags have 3 in the fourth field, which no SQL function uses (it is 1
 * for pg_advisory_lock(bigint), 2 for pg_advisory_lock(int, int), 4 and higher
 * for Citus), and the extension's OID.  So a role that may only log in can't take
 * one and block an event.  pg_locks shows them with objsubid 3.
 *
 * All are exclusive and are held until the transaction ends.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/lock.h"

#include "engine/engine.h"
#include "engine/internal.h"

#define OURS	 3	/* in the fourth field of the tag */
#define KEY_BITS 28 /* of the third field; the kind is above them */

static bool
acquire(AdvisoryKind kind, uint32 key, bool wait)
{
	LOCKTAG tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, engine_extension(),
						 (uint32) kind << KEY_BITS |
							 (key & (((uint32) 1 << KEY_BITS) - 1)),
						 OURS);
	return LockAcquire(&tag, ExclusiveLock, false, !wait) !=
		   LOCKACQUIRE_NOT_AVAIL;
}

/*
 * Take a lock, waiting for it.  Only the low 28 bits of the key count.  Several
 * locks of a kind must be taken in ascending order of these.
 */
void
advisory_lock(AdvisoryKind kind, uint32 key)
{
	(void) acquire(kind, key, true);
}

/* Take a lock without waiting.  False if another transaction holds it. */
bool
advisory_try_lock(AdvisoryKind kind, uint32 key)
{
	return acquire(kind, key, false);
}
