/*
 * worker_slots.h
 *		Shared memory of the launcher, the workers and the sessions that need a
 *		database without a worker: a slot for each database.
 *
 * A slot passes through these states:
 *
 *	free		database is InvalidOid
 *	vacant		slot_make(): the database has no worker.  The launcher starts
 *				one unless "holds" is above zero
 *	occupied	slot_attach(): pid and latch are those of its worker.  The
 *				worker's exit callback makes it vacant again
 *
 * slot_free() frees a vacant slot without holds.  So a slot with a worker or a
 * hold stays where it is, and a pointer to it stays valid.
 *
 * Everything in a slot is read and written under the lock, except for "woken"
 * and "leave", which the worker itself reads without it.
 */
#ifndef STRIPE_SYNC_WORKER_SLOTS_H
#define STRIPE_SYNC_WORKER_SLOTS_H

#include "storage/latch.h"
#include "storage/lwlock.h"

#include "base/base.h"

#define SLOTS 1024 /* databases that can have a worker */

/* How the last worker of a database has ended */
typedef enum WorkerEnd
{
	END_NONE,	   /* there was none, or it didn't find the extension */
	END_FOR_OTHER, /* it made room for the worker of another database */
	END_ON_REQUEST,
	END_BY_SIGNAL,
	END_BY_FAILURE
} WorkerEnd;

typedef struct Slot
{
	Oid database; /* InvalidOid: the slot is free */
	pid_t pid;	  /* of the worker, 0: none */
	Latch *latch; /* of the worker, as long as there is one */
	int holds;	  /* transactions that need the database without a worker */

	/* set by sessions */
	bool check;	 /* look for the extension again: it may have been created */
	bool wanted; /* something was committed while there was no worker */

	/* set by others for the worker */
	volatile bool woken; /* something was committed */
	volatile bool leave;
	bool for_other; /* leave to make room for another database */

	/* set by the worker */
	bool present;		  /* it has found the extension */
	bool absent;		  /* it has not */
	bool orderly;		  /* its end is no failure */
	bool logged_inactive; /* the log says that the database is inactive */
	bool logged_unfit;	  /* ... that the library doesn't match the catalog */
	WorkerEnd last_end;
	TimestampTz attached;
	TimestampTz next_due; /* as the worker knew it when it left */

	char state[64]; /* as the view stripe_sync.worker shows it */
	TimestampTz since;
} Slot;

/* Is there shared memory?  False if the library isn't preloaded. */
extern bool slots_ready(void);
extern void slots_lock(LWLockMode mode);
extern void slots_unlock(void);

/* ---- under the lock, exclusive where something is changed ---- */

/* The slot of a database, or NULL; with InvalidOid, a free one */
extern Slot *slot_find(Oid database);
extern Slot *slot_make(Oid database); /* NULL: all are in use */
extern Slot *slot_at(int index);
extern void slot_free(Slot *slot);
extern void slot_set_state(Slot *slot, const char *state);
extern void slot_ask_to_leave(Slot *slot);
extern void launcher_set_latch(void);

/* ---- for the launcher and the workers ---- */
extern void slots_attach_launcher(void);
extern Slot *slot_attach(Oid database); /* NULL: no worker is wanted here */

/* ---- for sessions ---- */

/* Has this database a worker now, that isn't asked to leave? */
extern bool worker_is_present(void);

/* Have the worker, or the launcher, check everything again now. */
extern void worker_wake(Oid database);
extern void launcher_wake(void);

/* Keep workers out of a database; ask the present one to leave. */
extern void slot_hold(Oid database);
extern void slot_release(Oid database);

/* Wait until a database has no worker.  False after so many milliseconds. */
extern bool slot_wait_empty(Oid database, long milliseconds);

#endif /* STRIPE_SYNC_WORKER_SLOTS_H */
