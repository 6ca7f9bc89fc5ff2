/*
 * launcher.c
 *		The launcher: keeps a worker running in every database that has the
 *		extension.
 *
 * pg_database lists the databases, but only a process that is connected to one
 * can see whether it has the extension.  So the launcher starts a worker in each
 * new database; the worker exits if the extension isn't there.  It isn't started
 * again until a session sets "check" in the slot (database_ddl.c,
 * worker_wake_at_commit()).
 *
 * max_worker_processes limits the workers.  If not all databases can have one,
 * they take turns: a worker that is idle, or else the one that runs the longest,
 * is asked to leave.  A database whose worker left with nothing to do needs
 * another one only when something becomes due or is committed there.
 *
 * All of this is state of the launcher's memory and the slots; after a crash it
 * is built anew.
 */
#include "postgres.h"

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

#include "base/backoff.h"
#include "base/compat.h"
#include "server/server.h"
#include "server/worker_slots.h"

/* Milliseconds */
#define CHECK_EVERY			60000 /* finds changes that no session has reported */
#define CHECK_EVERY_CROWDED 1000 /* ... worker processes that became free */
#define SHORT_LIFETIME		5000 /* repeated failures within it are backed off */
#define TURN_BUSY			5000 /* a worker runs so long before it makes room */
#define TURN_IDLE			1000 /* ... if it has nothing to do */

#define RESTART_BACKOFF_FIRST (USECS_PER_SEC / 2)
#define RESTART_BACKOFF_MOST  (60 * USECS_PER_SEC)
#define PROBES				  2	 /* new databases that are checked at once */
#define DROPPED_HALFWAY		  -2 /* datconnlimit after an interrupted DROP */

/* What the launcher knows of a database. */
typedef struct KnownDatabase
{
	Oid database; /* the key */
	uint64 round; /* of launcher_round() that has listed it last */
	bool absent;  /* it has no extension stripe_sync */
	bool present; /* it has one */
	bool crowded; /* no worker process was free, or its turn is over */
	BackgroundWorkerHandle *handle; /* of the worker, NULL: none was started */
	TimestampTz started;			/* the last worker */
	TimestampTz served;				/* end of the last worker, 0: never */
	TimestampTz not_before;			/* of the next start: backoff */
	TimestampTz next_due;			/* as the last worker knew it */
	int failures;					/* in a row, each soon after the start */
	bool wanted; /* something was committed while there was no worker */
} KnownDatabase;

/* Does a database need a worker? */
typedef enum WorkerNeed
{
	NEED_MET,	   /* one runs */
	NEED_CHANGING, /* one is starting or leaving */
	NEED_NONE,	   /* no extension, or held by a session */
	NEED_WORKER
} WorkerNeed;

extern PGDLLEXPORT void stripe_sync_launcher_main(Datum arg);

static HTAB *databases = NULL;
static uint64 this_round = 0;
static MemoryContext round_memory = NULL;
static bool crowded_logged = false;
static bool slots_logged = false;

/* ---- which databases there are ---- */

static KnownDatabase *
known_find(Oid database)
{
	bool found;
	KnownDatabase *known = hash_search(databases, &database, HASH_ENTER, &found);

	if (!found)
	{
		memset(known, 0, sizeof(*known));
		known->database = database;
	}
	known->round = this_round;
	return known;
}

/* Note all databases that allow connections. */
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

/*
 * Forget databases that were dropped or don't allow connections any more.  A
 * worker that is still there is asked to leave.
 */
static void
forget_databases(void)
{
	HASH_SEQ_STATUS sequence;
	KnownDatabase *known;

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

/* ---- which of them need a worker ---- */

static long
lifetime(const KnownDatabase *known, TimestampTz now)
{
	return TimestampDifferenceMilliseconds(known->started, now);
}

/*
 * The worker that was started here has ended; slot may be NULL.  After a failure
 * soon after its start it is started again at once the first time, then with
 * exponential backoff.
 */
static void
note_end(KnownDatabase *known, const Slot *slot, TimestampTz now)
{
	pfree(known->handle);
	known->handle = NULL;
	known->served = now;
	known->crowded = slot != NULL && slot->for_other;
	known->next_due = slot != NULL ? slot->next_due : 0;
	known->not_before = 0;
	if ((slot != NULL && (slot->leave || slot->absent || slot->orderly)) ||
		lifetime(known, now) >= SHORT_LIFETIME)
		known->failures = 0;
	else if (++known->failures > 1)
		known->not_before = now + backoff_delay(known->failures,
												RESTART_BACKOFF_FIRST,
												RESTART_BACKOFF_MOST);
}

/* Take over what a vacant slot says.  Under the lock. */
static void
read_slot(KnownDatabase *known, Slot *slot)
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

/* Has the worker that was started here, if any, ended? */
static bool
has_ended(const KnownDatabase *known)
{
	pid_t pid;

	return known->handle != NULL &&
		   GetBackgroundWorkerPid(known->handle, &pid) == BGWH_STOPPED;
}

/*
 * Bring what is known of a database without a worker up to date.  Under the
 * lock; slot may be NULL, and is freed if the database has no extension.
 */
static void
update_known(KnownDatabase *known, Slot *slot, bool ended, TimestampTz now)
{
	if (ended)
		note_end(known, slot, now);
	if (slot != NULL)
	{
		read_slot(known, slot);
		if (known->absent)
			slot_free(slot);
	}
}

/* Under the lock, of a database whose worker occupies its slot. */
static WorkerNeed
need_with_worker(KnownDatabase *known, const Slot *slot)
{
	known->present = slot->present;
	return slot->leave || !slot->present ? NEED_CHANGING : NEED_MET;
}

/* Bring what is known of a database up to date.  Does it need a worker? */
static WorkerNeed
update_and_judge(KnownDatabase *known, TimestampTz now)
{
	WorkerNeed need = NEED_WORKER;
	bool ended = has_ended(known);
	Slot *slot;

	slots_lock(LW_EXCLUSIVE);
	slot = slot_find(known->database);
	if (slot != NULL && slot->pid != 0)
		need = need_with_worker(known, slot);
	else if (known->handle != NULL && !ended)
		need = NEED_CHANGING;
	else
	{
		update_known(known, slot, ended, now);
		if (known->absent || (slot != NULL && slot->holds > 0))
			need = NEED_NONE;
	}
	slots_unlock();
	return need;
}

/* ---- starting workers, and making room for them ---- */

static bool
start_worker(KnownDatabase *known, TimestampTz now)
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

/* Make a slot, without which a worker can't start.  False: all are in use. */
static bool
ensure_slot(const KnownDatabase *known)
{
	Slot *slot;

	slots_lock(LW_EXCLUSIVE);
	slot = slot_make(known->database);
	slots_unlock();
	if (slot == NULL && !slots_logged)
	{
		slots_logged = true;
		ereport(
			LOG,
			(errmsg("stripe_sync runs workers in at most %d databases", SLOTS),
			 errhint(
				 "Call stripe_sync.work() in the others, from a job scheduler.")));
	}
	return slot != NULL;
}

static void
log_crowded(void)
{
	if (!crowded_logged)
		ereport(
			LOG,
			(errmsg(
				 "not enough background workers are available for all databases that have stripe_sync: they take turns"),
			 errhint(
				 "Increase max_worker_processes. The view stripe_sync.worker shows the workers.")));
	crowded_logged = true;
}

static bool
is_idle(const Slot *slot)
{
	return strcmp(slot->state, "working") != 0;
}

/* Should a make room rather than b, which may be NULL? */
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

/* Does a database that needs a worker have something to do now? */
static bool
is_urgent(const KnownDatabase *known, TimestampTz now)
{
	return !known->crowded || known->served == 0 || known->wanted ||
		   known->next_due <= now ||
		   TimestampDifferenceExceeds(known->served, now, CHECK_EVERY);
}

/* Urgent ones first, then those whose last worker ended the longest ago. */
static int
compare_urgency(const void *a, const void *b, void *arg)
{
	const KnownDatabase *one = *(const KnownDatabase *const *) a;
	const KnownDatabase *other = *(const KnownDatabase *const *) b;
	TimestampTz now = *(TimestampTz *) arg;
	int urgent = is_urgent(other, now) - is_urgent(one, now);

	if (urgent != 0)
		return urgent;
	return (one->served > other->served) - (one->served < other->served);
}

static void
show_waiting(const KnownDatabase *known)
{
	Slot *slot;

	slots_lock(LW_EXCLUSIVE);
	slot = slot_find(known->database);
	if (slot != NULL && slot->pid == 0)
		slot_set_state(slot, "waiting");
	slots_unlock();
}

/*
 * Start workers in these databases, as far as worker processes are available;
 * "changing" is the number of workers that are starting or leaving.  Returns
 * whether an urgent one is left.
 */
static bool
start_workers(KnownDatabase **wants, int count, int changing, TimestampTz now)
{
	bool room = true;
	bool urgent_left = false;
	int probing = changing;

	qsort_arg(wants, count, sizeof(KnownDatabase *), compare_urgency, &now);
	for (int i = 0; i < count; i++)
	{
		KnownDatabase *known = wants[i];
		bool urgent = is_urgent(known, now); /* start_worker() changes it */

		if (room && !known->present && probing >= PROBES)
		{
			urgent_left = true; /* the end of a probe wakes the launcher */
			continue;
		}
		if (!ensure_slot(known))
			continue;
		if (room && start_worker(known, now))
		{
			probing += !known->present;
			changing++;
			continue;
		}
		room = false;
		known->crowded = true;
		urgent_left |= urgent;
		show_waiting(known);
	}
	/* a worker that is leaving frees a process anyway */
	if (!room && urgent_left && changing == 0)
	{
		log_crowded();
		make_room(now);
	}
	return urgent_left;
}

/* ---- the loop ---- */

/* Check all databases.  Returns milliseconds until that must be done again. */
static long
launcher_round(void)
{
	TimestampTz now = GetCurrentTimestamp();
	HASH_SEQ_STATUS sequence;
	KnownDatabase *known;
	KnownDatabase **wants;
	int count = 0;
	int changing = 0;
	long timeout = CHECK_EVERY;

	list_databases();
	forget_databases();
	wants = palloc(sizeof(KnownDatabase *) *
				   (hash_get_num_entries(databases) + 1));
	hash_seq_init(&sequence, databases);
	while ((known = hash_seq_search(&sequence)) != NULL)
	{
		WorkerNeed need = update_and_judge(known, now);

		changing += need == NEED_CHANGING;
		if (need != NEED_WORKER)
			continue;
		if (known->not_before > now)
			timeout = Min(timeout, TimestampDifferenceMilliseconds(
									   now, known->not_before));
		else
			wants[count++] = known;
	}
	if (start_workers(wants, count, changing, now))
		timeout = Min(timeout, CHECK_EVERY_CROWDED);
	for (int i = 0; i < count; i++)
		if (wants[i]->handle == NULL && wants[i]->next_due > now)
			timeout = Min(
				timeout,
				TimestampDifferenceMilliseconds(now, wants[i]->next_due) + 1);
	return timeout;
}

static void
launcher_setup(void)
{
	HASHCTL control = {.keysize = sizeof(Oid),
					   .entrysize = sizeof(KnownDatabase),
					   .hcxt = TopMemoryContext};

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	pqsignal(SIGINT, COMPAT_SIG_IGN); /* there is no statement to cancel */
	BackgroundWorkerUnblockSignals();
	/* without a database, but as a backend, which answers barriers */
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
		long timeout;

		ResetLatch(MyLatch);
		/* exit code 0 would unregister the launcher; a FATAL would be logged */
		if (ProcDiePending)
			proc_exit(1);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		MemoryContextSwitchTo(round_memory);
		timeout = launcher_round();
		MemoryContextReset(round_memory);
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 timeout, compat_wait_event("StripeSyncLauncher"));
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
