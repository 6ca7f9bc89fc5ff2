/*
 * slots.c
 *		What launcher and workers share in memory, and the view of it.
 *
 * The memory is there when the library was preloaded.  A latch is set under the
 * lock only, and its owner takes it out of its slot, under the lock, before the
 * process gives its latch away: so no pointer to a latch is stale.
 */
#include "stripe_sync.h"

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

#include "slots.h"

PG_FUNCTION_INFO_V1(stripe_sync_workers);
PG_FUNCTION_INFO_V1(stripe_sync_worker_missing);

#define NAME "stripe_sync"

typedef struct SlotTable
{
	LWLock *lock;
	ConditionVariable left; /* a worker has */
	pid_t launcher;			/* 0: none runs */
	Latch *launcher_latch;
	TimestampTz launcher_since;
	Slot slots[SLOTS];
} SlotTable;

static SlotTable *table = NULL;
static shmem_request_hook_type previous_request = NULL;
static shmem_startup_hook_type previous_startup = NULL;

static bool wake_at_commit = false;
static Slot *worker_slot = NULL;  /* in a worker: its own */
static Slot *session_slot = NULL; /* where this database's was found last */

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

/* Let its worker look at everything anew. */
static void
slot_wake(Slot *slot)
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
 * Runs after the process has left its database (see slot_attach): who waits for
 * that finds it gone.
 */
static void
slot_detach(int code, Datum arg)
{
	slots_lock(LW_EXCLUSIVE);
	worker_slot->pid = 0;
	worker_slot->latch = NULL;
	worker_slot->wanted |= worker_slot->woken; /* too late for us */
	slot_set_state(worker_slot, "waiting");
	launcher_set_latch();
	slots_unlock();
	ConditionVariableBroadcast(&table->left);
}

static SlotPast
past_of(const Slot *slot)
{
	if (slot->attached == 0 || slot->absent)
		return PAST_NONE;
	if (slot->in_turn)
		return PAST_IN_TURN;
	if (slot->leave)
		return PAST_LEFT;
	return slot->dismissed ? PAST_STOPPED : PAST_DIED;
}

/*
 * Take the database's slot for this process, which hasn't connected yet.  What
 * is registered with on_shmem_exit before connecting runs after what connecting
 * registers there.
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
		slot->past = past_of(slot);
		slot->look = slot->wanted = false;
		slot->leave = slot->in_turn = false;
		slot->absent = slot->dismissed = false;
		slot->next_due = 0;
		slot->attached = GetCurrentTimestamp();
		slot_set_state(slot, "starting");
		worker_slot = slot;
	}
	slots_unlock();
	if (worker_slot != NULL)
		on_shmem_exit(slot_detach, (Datum) 0);
	return worker_slot;
}

/* What the worker does, for the view; nothing in other processes. */
void
worker_report_state(const char *state)
{
	/* nobody else writes it while we are here */
	if (worker_slot == NULL || strcmp(worker_slot->state, state) == 0)
		return;
	slots_lock(LW_EXCLUSIVE);
	slot_set_state(worker_slot, state);
	slots_unlock();
}

bool
process_is_worker(void)
{
	return worker_slot != NULL;
}

/* ---- sessions ---- */

/* When this transaction commits, its database's worker has something to do. */
void
worker_wake_at_commit(void)
{
	wake_at_commit = table != NULL;
}

/* The same for what the worker does as well, and then knows of. */
void
worker_wake_from_session(void)
{
	if (worker_slot == NULL)
		worker_wake_at_commit();
}

/* The extension is in a database that has no worker: see to it. */
static void
look_again(Oid database)
{
	Slot *slot;

	slots_lock(LW_EXCLUSIVE);
	slot = slot_make(database);
	if (slot != NULL)
	{
		slot_wake(slot);
		slot->look = slot->wanted = true;
	}
	launcher_set_latch();
	slots_unlock();
}

/*
 * Wake the worker.  Where there is none the launcher is told, once: it costs
 * nothing more however many transactions follow.
 */
static void
wake_worker(void)
{
	bool known;

	slots_lock(LW_SHARED);
	if (session_slot == NULL || session_slot->database != MyDatabaseId)
		session_slot = slot_find(MyDatabaseId);
	known = session_slot != NULL &&
			(session_slot->pid != 0 || session_slot->wanted);
	if (known)
		slot_wake(session_slot);
	slots_unlock();
	if (!known)
		look_again(MyDatabaseId);
}

static void
slots_prepared(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_PREPARE)
		wake_at_commit = false;
}

/*
 * Not as early as XACT_EVENT_COMMIT: by now all have been told, and let go, of
 * what the transaction changed.
 */
static void
slots_transaction_over(ResourceReleasePhase phase, bool commit, bool top,
					   void *arg)
{
	if (!wake_at_commit || phase != RESOURCE_RELEASE_AFTER_LOCKS || !top)
		return;
	wake_at_commit = false;
	if (commit)
		wake_worker();
}

/* Its extension may have gone: let the worker look around, if there is one. */
void
worker_wake(Oid database)
{
	Slot *slot;

	slots_lock(LW_SHARED);
	slot = slot_find(database);
	if (slot != NULL)
		slot_wake(slot);
	slots_unlock();
}

/* There may be a database more, or less. */
void
launcher_wake(void)
{
	slots_lock(LW_SHARED);
	launcher_set_latch();
	slots_unlock();
}

/* Let no worker start in a database, and ask the one that is there to leave. */
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

/* Wait until a database has no worker, for so long at most. */
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
 * workers(): pid, database (NULL: the launcher), state, since.  At any level of
 * the catalog, as it is what shows that a worker's library doesn't fit.
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

		/* not where the extension is only being looked for */
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
 * worker_missing(): why no worker is here, or will be soon.  At any level of the
 * catalog, as workers().
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
