/*
 * advisory.c
 *		The locks that are on no row: all of them are taken here.
 *
 * They are advisory locks whose tag no SQL function can make: the fourth field
 * is 1 for pg_advisory_lock(bigint), 2 for pg_advisory_lock(int, int), and 4
 * and more for Citus.  So nobody who may merely log in can take one and hold up
 * an event.  pg_locks shows ours with objsubid 3, and the extension's OID as
 * classid.
 */
#include "stripe_sync.h"

#include "miscadmin.h"
#include "storage/lock.h"

#define OURS	 3	/* the fourth field */
#define KEY_BITS 28 /* of the third; above them is the kind */

/* Exclusive, to the end of the transaction. */
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
 * Several of a kind are taken in ascending order of their keys, of which the
 * low 28 bits count.
 */
void
advisory_lock(AdvisoryKind kind, uint32 key)
{
	(void) acquire(kind, key, true);
}

/* False when somebody else has it. */
bool
advisory_try_lock(AdvisoryKind kind, uint32 key)
{
	return acquire(kind, key, false);
}
