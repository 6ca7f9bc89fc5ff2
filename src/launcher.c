/*
 * launcher.c
 *		Keeps a worker in every database that has the extension.
 *
 * Which databases there are, pg_database says; whether one has the extension,
 * only a process in it can tell.  So a database that isn't known yet gets its
 * worker, which leaves again where there is nothing for it, and is left alone
 * from then on until somebody says "look" (leave.c, worker_wake_at_commit).
 *
 * Background workers are few (max_worker_processes).  When not all databases
 * can have one they are served in turn: the worker that idles, else the one
 * that has worked the longest, is asked to make room.  A database from which
 * the worker went with nothing left to do doesn't press for another before
 * something is due or committed there.
 */
#include "stripe_sync.h"

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

#include "slots.h"

#define NAP					  60000 /* ms: what nobody tells of is found by then */
#define CROWDED_NAP			  1000 /* ms: nobody tells of a worker process that is free */
#define SHORT_LIFE			  5000 /* ms: dying sooner, again and again, is backed off */
#define TURN_BUSY			  5000 /* ms that a worker has before it must make room */
#define TURN_IDLE			  1000 /* ms, when it has nothing to do */
#define RESTART_BACKOFF_FIRST (USECS_PER_SEC / 2)
#define RESTART_BACKOFF_MOST  (60 * USECS_PER_SEC)
#define PROBES				  2 /* databases that are looked into at once */
#define DROPPED_HALFWAY		  -2 /* datconnlimit of what an interrupted DROP left */

/* What the launcher knows of a database. */
typedef struct Known
{
	Oid database; /* the key */
	uint64 round; /* in which it was seen last */
	bool absent;  /* the extension isn't there */
	bool present; /* it is */
	bool crowded; /* no worker process was free, or its turn is over */
	BackgroundWorkerHandle *handle; /* of its worker, NULL: none of ours */
	TimestampTz started;
	TimestampTz served; /* until when, 0: never */
	TimestampTz not_before;
	TimestampTz next_due;
	int deaths; /* in a row, each soon after its start */
	bool wanted;
} Known;

typedef enum Standing
{
	STANDING_RUNS,
	STANDING_CHANGES, /* is being started, or ends */
	STANDING_NONE,	  /* and shall have none */
	STANDING_WANTS	  /* a worker */
} Standing;

extern PGDLLEXPORT void stripe_sync_launcher_main(Datum arg);

static HTAB *databases = NULL;
static uint64 this_round = 0;
static MemoryContext round_memory = NULL;
static bool crowd_said = false;
static bool slots_said = false;

/* ---- which databases there are ---- */

static Known *
known_find(Oid database)
{
	bool found;
	Known *known = hash_search(databases, &database, HASH_ENTER, &found);

	if (!found)
	{
		memset(known, 0, sizeof(*known));
		known->database = database;
	}
	known->round = this_round;
	return known;
}

/* All databases that one can connect to. */
static void
list_databases(void)
{
	Relation relation;
	TableScanDesc scan;
	HeapTuple tuple;

	this_round++;
	StartTransactionCommand();
	relation = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(relation, 0, NULL);
	while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection)))
	{
		Form_pg_database database = (Form_pg_database) GETSTRUCT(tuple);

		if (database->datallowconn && database->datconnlimit != DROPPED_HALFWAY)
			(void) known_find(database->oid);
	}
	table_endscan(scan);
	table_close(relation, AccessShareLock);
	CommitTransactionCommand();
	MemoryContextSwitchTo(round_memory);
}

/* Forget what is gone; where one can't connect any more the worker leaves. */
static void
forget_databases(void)
{
	HASH_SEQ_STATUS sequence;
	Known *known;

	slots_lock(LW_EXCLUSIVE);
	for (int i = 0; i < SLOTS; i++)
	{
		Slot *slot = slot_at(i);

		if (!OidIsValid(slot->database))
			continue;
		known = hash_search(databases, &slot->database, HASH_FIND, NULL);
		if (known != NULL && known->round == this_round)
			continue;
		slot_ask_to_leave(slot);
		slot_free(slot);
	}
	slots_unlock();

	hash_seq_init(&sequence, databases);
	while ((known = hash_seq_search(&sequence)) != NULL)
		if (known->round != this_round)
		{
			if (known->handle != NULL)
				pfree(known->handle);
			hash_search(databases, &known->database, HASH_REMOVE, NULL);
		}
}

/* ---- how each of them stands ---- */

static long
lived(const Known *known, TimestampTz now)
{
	return TimestampDifferenceMilliseconds(known->started, now);
}

/*
 * The worker that we started has ended.  One that fell by itself, and soon, is
 * started at once the first time and ever later from then on.
 */
static void
note_end(Known *known, const Slot *slot, TimestampTz now)
{
	pfree(known->handle);
	known->handle = NULL;
	known->served = now;
	known->crowded = slot != NULL && slot->for_other;
	known->next_due = slot != NULL ? slot->next_due : 0;
	known->not_before = 0;
	if ((slot != NULL && (slot->leave || slot->absent || slot->orderly)) ||
		lived(known, now) >= SHORT_LIFE)
		known->deaths = 0;
	else if (++known->deaths > 1)
		known->not_before = now + backoff_delay(known->deaths,
												RESTART_BACKOFF_FIRST,
												RESTART_BACKOFF_MOST);
}

/* What the slot says to us, of a database without a worker; under the lock. */
static void
read_slot(Known *known, Slot *slot)
{
	if (slot->absent)
	{
		known->absent = true;
		slot->present = slot->absent = false;
	}
	known->present = slot->present;
	known->wanted = slot->wanted;
	if (slot->check)
	{
		slot->check = false;
		known->absent = false;
	}
}

static Standing
stand(Known *known, TimestampTz now)
{
	Standing standing = STANDING_WANTS;
	Slot *slot;
	pid_t pid;
	bool started = known->handle != NULL;
	bool ended = started &&
				 GetBackgroundWorkerPid(known->handle, &pid) == BGWH_STOPPED;

	slots_lock(LW_EXCLUSIVE);
	slot = slot_find(known->database);
	if (slot != NULL && slot->pid != 0)
	{
		known->present = slot->present;
		standing = slot->leave || !slot->present ? STANDING_CHANGES
												 : STANDING_RUNS;
	}
	else if (started && !ended)
		standing = STANDING_CHANGES;
	else
	{
		if (ended)
			note_end(known, slot, now);
		if (slot != NULL)
			read_slot(known, slot);
		if (known->absent || (slot != NULL && slot->holds > 0))
			standing = STANDING_NONE;
		if (slot != NULL && known->absent)
			slot_free(slot);
	}
	slots_unlock();
	return standing;
}

/* ---- starting workers, and making room for them ---- */

static bool
start_worker(Known *known, TimestampTz now)
{
	BackgroundWorker worker = {0};
	MemoryContext old;
	bool registered;

	snprintf(worker.bgw_name, BGW_MAXLEN, "stripe_sync worker");
	snprintf(worker.bgw_type, BGW_MAXLEN, "stripe_sync worker");
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS |
					   BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	snprintf(worker.bgw_library_name, sizeof(worker.bgw_library_name),
			 "stripe_sync");
	snprintf(worker.bgw_function_name, sizeof(worker.bgw_function_name),
			 "stripe_sync_worker_main");
	worker.bgw_main_arg = ObjectIdGetDatum(known->database);
	worker.bgw_notify_pid = MyProcPid;

	old = MemoryContextSwitchTo(TopMemoryContext);
	registered = RegisterDynamicBackgroundWorker(&worker, &known->handle);
	MemoryContextSwitchTo(old);
	if (!registered)
		known->handle = NULL;
	known->crowded = !registered;
	known->started = now;
	return registered;
}

/* A worker can't start without a slot. */
static bool
give_slot(const Known *known)
{
	Slot *slot;

	slots_lock(LW_EXCLUSIVE);
	slot = slot_make(known->database);
	slots_unlock();
	if (slot == NULL && !slots_said)
	{
		slots_said = true;
		ereport(
			LOG,
			(errmsg("stripe_sync keeps workers for %d databases at most", SLOTS),
			 errhint(
				 "Call stripe_sync.work() in the others, from a job scheduler.")));
	}
	return slot != NULL;
}

static void
say_crowded(void)
{
	if (!crowd_said)
		ereport(
			LOG,
			(errmsg(
				 "fewer background workers are free than databases have stripe_sync: they are served in turn"),
			 errhint(
				 "Raise \"max_worker_processes\"; see the view stripe_sync.worker.")));
	crowd_said = true;
}

static bool
is_idle(const Slot *slot)
{
	return strcmp(slot->state, "working") != 0;
}

/* Is a better than b at making room? */
static bool
better_victim(const Slot *a, const Slot *b)
{
	if (b == NULL || is_idle(a) != is_idle(b))
		return b == NULL || is_idle(a);
	return a->attached < b->attached;
}

/* Ask a worker that has had its turn to leave. */
static void
make_room(TimestampTz now)
{
	Slot *victim = NULL;

	slots_lock(LW_EXCLUSIVE);
	for (int i = 0; i < SLOTS; i++)
	{
		Slot *slot = slot_at(i);

		if (OidIsValid(slot->database) && slot->pid != 0 &&
			TimestampDifferenceExceeds(slot->attached, now,
									   is_idle(slot) ? TURN_IDLE : TURN_BUSY) &&
			better_victim(slot, victim))
			victim = slot;
	}
	if (victim != NULL)
	{
		victim->for_other = true;
		slot_ask_to_leave(victim);
	}
	slots_unlock();
}

/* Does a database without a worker need one now, or merely like one? */
static bool
is_pressing(const Known *known, TimestampTz now)
{
	return !known->crowded || known->served == 0 || known->wanted ||
		   known->next_due <= now ||
		   TimestampDifferenceExceeds(known->served, now, NAP);
}

/* Whose turn is it? */
static int
compare_wants(const void *a, const void *b, void *arg)
{
	const Known *one = *(const Known *const *) a;
	const Known *other = *(const Known *const *) b;
	TimestampTz now = *(TimestampTz *) arg;
	int pressing = is_pressing(other, now) - is_pressing(one, now);

	if (pressing != 0)
		return pressing;
	return (one->served > other->served) - (one->served < other->served);
}

static void
tell_waiting(const Known *known)
{
	Slot *slot;

	slots_lock(LW_EXCLUSIVE);
	slot = slot_find(known->database);
	if (slot != NULL && slot->pid == 0)
		slot_set_state(slot, "waiting");
	slots_unlock();
}

/*
 * Start workers where they are wanted, as far as there are processes.  Returns
 * whether somebody is left who presses for one.
 */
static bool
start_workers(Known **wants, int count, int changing, TimestampTz now)
{
	bool room = true;
	bool pressed = false;
	int probing = changing;

	qsort_arg(wants, count, sizeof(Known *), compare_wants, &now);
	for (int i = 0; i < count; i++)
	{
		Known *known = wants[i];
		bool pressing = is_pressing(known, now); /* starting changes it */

		if (room && !known->present && probing >= PROBES)
		{
			pressed = true; /* the end of another probe tells us */
			continue;
		}
		if (!give_slot(known))
			continue;
		if (room && start_worker(known, now))
		{
			probing += !known->present;
			changing++;
			continue;
		}
		room = false;
		known->crowded = true;
		pressed |= pressing;
		tell_waiting(known);
	}
	/* what is changing may free a process by itself */
	if (!room && pressed && changing == 0)
	{
		say_crowded();
		make_room(now);
	}
	return pressed;
}

/* ---- the loop ---- */

/* See to all databases; how long, in ms, until that must be done again? */
static long
launcher_round(void)
{
	TimestampTz now = GetCurrentTimestamp();
	HASH_SEQ_STATUS sequence;
	Known *known;
	Known **wants;
	int count = 0;
	int changing = 0;
	long nap = NAP;

	list_databases();
	forget_databases();
	wants = palloc(sizeof(Known *) * (hash_get_num_entries(databases) + 1));
	hash_seq_init(&sequence, databases);
	while ((known = hash_seq_search(&sequence)) != NULL)
	{
		Standing standing = stand(known, now);

		changing += standing == STANDING_CHANGES;
		if (standing != STANDING_WANTS)
			continue;
		if (known->not_before > now)
			nap = Min(nap,
					  TimestampDifferenceMilliseconds(now, known->not_before));
		else
			wants[count++] = known;
	}
	if (start_workers(wants, count, changing, now))
		nap = Min(nap, CROWDED_NAP);
	for (int i = 0; i < count; i++)
		if (wants[i]->handle == NULL && wants[i]->next_due > now)
			nap = Min(nap,
					  TimestampDifferenceMilliseconds(now, wants[i]->next_due) +
						  1);
	return nap;
}

static void
launcher_setup(void)
{
	HASHCTL control = {.keysize = sizeof(Oid),
					   .entrysize = sizeof(Known),
					   .hcxt = TopMemoryContext};

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	pqsignal(SIGINT, COMPAT_SIG_IGN); /* there is no statement to cancel */
	BackgroundWorkerUnblockSignals();
	/* no database, but a backend all the same: it must answer barriers */
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	SetConfigOption("application_name", "stripe_sync launcher", PGC_USERSET,
					PGC_S_OVERRIDE);
	slots_attach_launcher();
	round_memory = AllocSetContextCreate(
		TopMemoryContext, "stripe_sync launcher", ALLOCSET_SMALL_SIZES);
	databases = hash_create("stripe_sync databases", 64, &control,
							HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

void
stripe_sync_launcher_main(Datum arg)
{
	launcher_setup();
	for (;;)
	{
		long nap;

		ResetLatch(MyLatch);
		/* not 0, which would unregister us for good; and without a word */
		if (ProcDiePending)
			proc_exit(1);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		MemoryContextSwitchTo(round_memory);
		nap = launcher_round();
		MemoryContextReset(round_memory);
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, nap,
						 compat_wait_event("StripeSyncLauncher"));
	}
}

void
launcher_init(void)
{
	BackgroundWorker worker = {0};

	snprintf(worker.bgw_name, BGW_MAXLEN, "stripe_sync launcher");
	snprintf(worker.bgw_type, BGW_MAXLEN, "stripe_sync launcher");
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS |
					   BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = 1;
	snprintf(worker.bgw_library_name, sizeof(worker.bgw_library_name),
			 "stripe_sync");
	snprintf(worker.bgw_function_name, sizeof(worker.bgw_function_name),
			 "stripe_sync_launcher_main");
	RegisterBackgroundWorker(&worker);
}
