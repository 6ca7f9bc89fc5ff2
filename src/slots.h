/*
 * slots.h
 *		What launcher, workers and those who need a database for themselves
 *		share in memory: a slot for each database that has the extension.
 *
 * Everything in a slot is read and written under the lock; only the flags
 * that the worker itself looks at are read by it without.  A slot with a worker
 * or a hold stays where it is.
 */
#ifndef STRIPE_SYNC_SLOTS_H
#define STRIPE_SYNC_SLOTS_H

#include "stripe_sync.h"

#include "storage/latch.h"
#include "storage/lwlock.h"

#define SLOTS 1024 /* databases that a server keeps workers for */

typedef enum SlotPast
{
	PAST_NONE,
	PAST_IN_TURN, /* it made room for another database */
	PAST_LEFT,	  /* it was asked to, and has said so */
	PAST_STOPPED, /* a signal told it to end */
	PAST_DIED
} SlotPast;

typedef struct Slot
{
	Oid database; /* InvalidOid: the slot is free */
	pid_t pid;	  /* of its worker, 0: none */
	Latch *latch; /* the worker's, as long as it has one */
	int holds;	  /* transactions that want no worker here */

	/* said by sessions */
	bool look;	 /* the extension is here after all */
	bool wanted; /* something was committed while no worker was here */

	/* said to the worker */
	volatile bool woken; /* something was committed */
	volatile bool leave;
	bool in_turn; /* ... to make room for another database */

	/* said by the worker */
	bool present;	 /* it found the extension */
	bool absent;	 /* it didn't */
	bool dismissed;	 /* a signal told it to end */
	bool told;		 /* the log has it that the database is inactive */
	bool told_unfit; /* ... that the library doesn't fit its catalog */
	SlotPast past;	 /* what became of the worker before this one */
	TimestampTz attached;
	TimestampTz next_due; /* as it was when the worker left */

	char state[64]; /* for people */
	TimestampTz since;
} Slot;

extern bool slots_ready(void); /* false: not in shared_preload_libraries */
extern void slots_lock(LWLockMode mode);
extern void slots_unlock(void);

/* under the lock */
extern Slot *slot_find(Oid database);
extern Slot *slot_make(Oid database); /* NULL: all are in use */
extern Slot *slot_at(int index);
extern void slot_free(Slot *slot);
extern void slot_set_state(Slot *slot, const char *state);
extern void slot_ask_to_leave(Slot *slot);
extern void launcher_set_latch(void);

/* the launcher's, the worker's */
extern void slots_attach_launcher(void);
extern Slot *slot_attach(Oid database); /* NULL: not wanted here */

/* sessions' */
extern void worker_wake(Oid database);
extern void launcher_wake(void);
extern void slot_hold(Oid database);
extern void slot_release(Oid database);
extern bool slot_wait_empty(Oid database, long milliseconds);

#endif /* STRIPE_SYNC_SLOTS_H */
