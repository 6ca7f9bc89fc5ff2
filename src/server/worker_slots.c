/*
 * worker_slots.c
 *		Shared memory of the launcher and the workers, and the functions that
 *		show it.
 *
 * The memory exists if the library was preloaded.  One lightweight lock protects
 * it.  It is held for a few instructions: nothing raises an error, allocates or
 * waits under it.
 *
 * A latch is set only under the lock, and a process removes its latch from its
 * slot, under the lock, before it disowns it.  So no pointer to a latch is stale.
 *
 * A session that commits something sets the worker's latch after its locks are
 * released, so that the worker sees what was committed.  The worker resets
 * "woken" before it checks what is due, so a later commit wakes it again.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/condition_variable.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/resowner.h"
#include "utils/wait_event.h"

#include "base/compat.h"
#include "engine/engine.h"
#include "engine/statement.h"
#include "server/server.h"
#include "server/worker_slots.h"

PG_FUNCTION_INFO_V1(stripe_sync_workers);
PG_FUNCTION_INFO_V1(stripe_sync_worker_missing);

#define NAME "stripe_sync"

typedef struct SlotTable
{
	LWLock *lock;
	ConditionVariable left; /* broadcast when a worker has left its slot */
	pid_t launcher;			/* 0: none runs */
	Latch *launcher_latch;
	TimestampTz launcher_since;
	Slot slots[SLOTS];
} SlotTable;

static SlotTable *table = NULL;
static shmem_request_hook_type previous_request = NULL;
static shmem_startup_hook_type previous_startup = NULL;

/* What this process knows of its transaction and its database */
static struct
{
	bool wake_at_commit; /* the transaction has something for the worker to do */
	Slot *own;			 /* in a worker: its slot */
	Slot *database;		 /* in a session: the slot of MyDatabaseId when last
						  * looked up, or NULL */
} process = {0};

bool
slots_ready(void)
{
	return table != NULL;
}

void
slots_lock(LWLockMode mode)
{
	LWLockAcquire(table->lock, mode);
}

void
slots_unlock(void)
{
	LWLockRelease(table->lock);
}

Slot *
slot_at(int index)
{
	return &table->slots[index];
}

Slot *
slot_find(Oid database)
{
	for (int i = 0; i < SLOTS; i++)
		if (table->slots[i].database == database)
			return &table->slots[i];
	return NULL;
}

Slot *
slot_make(Oid database)
{
	Slot *slot = slot_find(database);

	if (slot == NULL && (slot = slot_find(InvalidOid)) != NULL)
	{
		memset(slot, 0, sizeof(*slot));
		slot->database = database;
		slot_set_state(slot, "starting");
	}
	return slot;
}

void
slot_free(Slot *slot)
{
	if (slot->pid == 0 && slot->holds == 0)
		slot->database = InvalidOid;
}

void
slot_set_state(Slot *slot, const char *state)
{
	if (strcmp(slot->state, state) == 0)
		return;
	strlcpy(slot->state, state, sizeof(slot->state));
	slot->since = GetCurrentTimestamp();
}

void
slot_ask_to_leave(Slot *slot)
{
	if (slot->pid == 0)
		return;
	slot->leave = true;
	SetLatch(slot->latch);
}

/* Have the worker check everything again. */
static void
slot_wake_worker(Slot *slot)
{
	if (slot->pid == 0)
		return;
	slot->woken = true;
	SetLatch(slot->latch);
}

void
launcher_set_latch(void)
{
	if (table->launcher_latch != NULL)
		SetLatch(table->launcher_latch);
}

/* ---- the launcher and the workers ---- */

static void
launcher_detach(int code, Datum arg)
{
	slots_lock(LW_EXCLUSIVE);
	table->launcher = 0;
	table->launcher_latch = NULL;
	slots_unlock();
}

void
slots_attach_launcher(void)
{
	slots_lock(LW_EXCLUSIVE);
	table->launcher = MyProcPid;
	table->launcher_latch = MyLatch;
	table->launcher_since = GetCurrentTimestamp();
	slots_unlock();
	on_shmem_exit(launcher_detach, (Datum) 0);
}

/*
 * Runs after the process has left its database (see slot_attach), so that a
 * session that waits for an empty slot finds the database without the worker.
 */
static void
slot_detach(int code, Datum arg)
{
	slots_lock(LW_EXCLUSIVE);
	process.own->pid = 0;
	process.own->latch = NULL;
	process.own->wanted |= process.own->woken; /* not seen by this worker */
	slot_set_state(process.own, "waiting");
	launcher_set_latch();
	slots_unlock();
	ConditionVariableBroadcast(&table->left);
}

static WorkerEnd
end_of_last_worker(const Slot *slot)
{
	if (slot->attached == 0 || slot->absent)
		return END_NONE;
	if (slot->for_other)
		return END_FOR_OTHER;
	if (slot->leave)
		return END_ON_REQUEST;
	return slot->orderly ? END_BY_SIGNAL : END_BY_FAILURE;
}

/*
 * Occupy the slot of a database with this process, which must not have connected
 * yet: on_shmem_exit() callbacks run in reverse order, so that slot_detach() runs
 * after those that connecting registers.
 *
 * Returns NULL if the database has another worker or is held by a session.
 */
Slot *
slot_attach(Oid database)
{
	Slot *slot;

	slots_lock(LW_EXCLUSIVE);
	slot = slot_find(database);
	if (slot != NULL && slot->pid == 0 && slot->holds == 0)
	{
		slot->pid = MyProcPid;
		slot->latch = MyLatch;
		slot->last_end = end_of_last_worker(slot);
		slot->check = slot->wanted = false;
		slot->leave = slot->for_other = false;
		slot->absent = slot->orderly = false;
		slot->next_due = 0;
		slot->attached = GetCurrentTimestamp();
		slot_set_state(slot, "starting");
		process.own = slot;
	}
	slots_unlock();
	if (process.own != NULL)
		on_shmem_exit(slot_detach, (Datum) 0);
	return process.own;
}

/* Show in the view what the worker does.  Does nothing in other processes. */
void
worker_report_state(const char *state)
{
	/* only the worker itself writes the state of an occupied slot */
	if (process.own == NULL || strcmp(process.own->state, state) == 0)
		return;
	slots_lock(LW_EXCLUSIVE);
	slot_set_state(process.own, state);
	slots_unlock();
}

bool
process_is_worker(void)
{
	return process.own != NULL;
}

/* ---- sessions ---- */

/*
 * Wake the worker of this database when the transaction commits.  Does nothing
 * if the library isn't preloaded, and nothing more when called again.
 */
void
worker_wake_at_commit(void)
{
	process.wake_at_commit = table != NULL;
}

/* The same, unless this process is the worker, which knows of its own work. */
void
worker_wake_from_session(void)
{
	if (process.own == NULL)
		worker_wake_at_commit();
}

/*
 * Have the launcher start a worker in a database that has none: it may have the
 * extension although the last worker found none.
 */
static void
request_worker(Oid database)
{
	Slot *slot;

	slots_lock(LW_EXCLUSIVE);
	slot = slot_make(database);
	if (slot != NULL)
	{
		slot_wake_worker(slot);
		slot->check = slot->wanted = true;
	}
	launcher_set_latch();
	slots_unlock();
}

/*
 * Wake the worker of this database, or have one started.  Once a worker is
 * requested, further transactions cost a shared lock only.
 */
static void
wake_or_request_worker(void)
{
	Slot *slot;
	bool requested;

	slots_lock(LW_SHARED);
	if (process.database == NULL || process.database->database != MyDatabaseId)
		process.database = slot_find(MyDatabaseId);
	slot = process.database;
	requested = slot != NULL && (slot->pid != 0 || slot->wanted);
	if (requested)
		slot_wake_worker(slot);
	slots_unlock();
	if (!requested)
		request_worker(MyDatabaseId);
}

/* COMMIT PREPARED wakes the worker: see database_ddl_utility() */
static void
slots_prepared(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_PREPARE)
		process.wake_at_commit = false;
}

/*
 * At XACT_EVENT_COMMIT it would be too early: only now have invalidations been
 * sent and the locks been released.
 */
static void
slots_transaction_over(ResourceReleasePhase phase, bool commit, bool top,
					   void *arg)
{
	if (!process.wake_at_commit || phase != RESOURCE_RELEASE_AFTER_LOCKS || !top)
		return;
	process.wake_at_commit = false;
	if (commit)
		wake_or_request_worker();
}

bool
worker_is_present(void)
{
	const Slot *slot;
	bool present;

	slots_lock(LW_SHARED);
	slot = slot_find(MyDatabaseId);
	present = slot != NULL && slot->pid != 0 && slot->present && !slot->leave;
	slots_unlock();
	return present;
}

/* Wake the worker of a database, if it has one, whose extension may be dropped. */
void
worker_wake(Oid database)
{
	Slot *slot;

	slots_lock(LW_SHARED);
	slot = slot_find(database);
	if (slot != NULL)
		slot_wake_worker(slot);
	slots_unlock();
}

/* Wake the launcher: the set of databases may have changed. */
void
launcher_wake(void)
{
	slots_lock(LW_SHARED);
	launcher_set_latch();
	slots_unlock();
}

/*
 * Keep workers out of a database until slot_release(), and ask the present one
 * to leave.  Each call must be followed by one of slot_release(), also when the
 * session exits.
 */
void
slot_hold(Oid database)
{
	Slot *slot;

	slots_lock(LW_EXCLUSIVE);
	slot = slot_make(database);
	if (slot != NULL)
	{
		slot->holds++;
		slot_ask_to_leave(slot);
	}
	slots_unlock();
}

void
slot_release(Oid database)
{
	Slot *slot;

	slots_lock(LW_EXCLUSIVE);
	slot = slot_find(database);
	if (slot != NULL && slot->holds > 0)
		slot->holds--;
	launcher_set_latch();
	slots_unlock();
}

static bool
slot_is_empty(Oid database)
{
	Slot *slot;
	bool empty;

	slots_lock(LW_SHARED);
	slot = slot_find(database);
	empty = slot == NULL || slot->pid == 0;
	slots_unlock();
	return empty;
}

/* Must be called without the lock.  Interrupts are processed while it waits. */
bool
slot_wait_empty(Oid database, long milliseconds)
{
	TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
													milliseconds);
	bool empty;

	ConditionVariablePrepareToSleep(&table->left);
	while (!(empty = slot_is_empty(database)))
	{
		long left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(),
													until);

		if (left <= 0)
			break;
		(void) ConditionVariableTimedSleep(
			&table->left, left, compat_wait_event("StripeSyncLeave"));
	}
	ConditionVariableCancelSleep();
	return empty;
}

/* ---- the view ---- */

static void
put_row(ReturnSetInfo *result, pid_t pid, Oid database, const char *state,
		TimestampTz since)
{
	Datum values[] = {Int32GetDatum(pid), ObjectIdGetDatum(database),
					  CStringGetTextDatum(state), TimestampTzGetDatum(since)};
	bool nulls[] = {pid == 0, !OidIsValid(database), false, since == 0};

	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/*
 * workers(): pid, database (NULL: the launcher), state, since.  Works at any
 * catalog level, because it shows that a worker's library doesn't match it.
 */
Datum
stripe_sync_workers(PG_FUNCTION_ARGS)
{
	SlotTable *copy;

	InitMaterializedSRF(fcinfo, 0);
	level_check_columns(((ReturnSetInfo *) fcinfo->resultinfo)->setDesc, 4);
	if (table == NULL)
		return (Datum) 0;
	copy = palloc(sizeof(SlotTable));
	slots_lock(LW_SHARED);
	memcpy(copy, table, sizeof(SlotTable));
	slots_unlock();
	if (copy->launcher != 0)
		put_row((ReturnSetInfo *) fcinfo->resultinfo, copy->launcher,
				InvalidOid, "launching", copy->launcher_since);
	for (int i = 0; i < SLOTS; i++)
	{
		const Slot *slot = &copy->slots[i];

		/* a worker that only looks for the extension is not shown */
		if (OidIsValid(slot->database) && slot->present)
			put_row((ReturnSetInfo *) fcinfo->resultinfo, slot->pid,
					slot->database, slot->state, slot->since);
	}
	pfree(copy);
	return (Datum) 0;
}

static bool
launcher_runs(void)
{
	bool runs;

	slots_lock(LW_SHARED);
	runs = table->launcher != 0;
	slots_unlock();
	return runs;
}

/*
 * worker_missing(): why this database has no worker, NULL if it has one or one
 * will be started.  Works at any catalog level, as workers() does.
 */
Datum
stripe_sync_worker_missing(PG_FUNCTION_ARGS)
{
	if (table == NULL)
		PG_RETURN_TEXT_P(cstring_to_text(
			"stripe_sync is not in \"shared_preload_libraries\""));
	if (RecoveryInProgress())
		PG_RETURN_TEXT_P(cstring_to_text("this server is a standby"));
	if (!launcher_runs())
		PG_RETURN_TEXT_P(cstring_to_text(
			"the launcher is not running (see the server's log)"));
	PG_RETURN_NULL();
}

/* ---- start-up ---- */

static void
slots_request(void)
{
	if (previous_request)
		previous_request();
	RequestAddinShmemSpace(sizeof(SlotTable));
	RequestNamedLWLockTranche(NAME, 1);
}

static void
slots_startup(void)
{
	bool found;

	if (previous_startup)
		previous_startup();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	table = ShmemInitStruct(NAME, sizeof(SlotTable), &found);
	if (!found)
	{
		memset(table, 0, sizeof(*table));
		table->lock = &GetNamedLWLockTranche(NAME)->lock;
		ConditionVariableInit(&table->left);
	}
	LWLockRelease(AddinShmemInitLock);
}

void
slots_init(void)
{
	previous_request = shmem_request_hook;
	shmem_request_hook = slots_request;
	previous_startup = shmem_startup_hook;
	shmem_startup_hook = slots_startup;
	RegisterXactCallback(slots_prepared, NULL);
	RegisterResourceReleaseCallback(slots_transaction_over, NULL);
}
