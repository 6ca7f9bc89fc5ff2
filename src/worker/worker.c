/*
 * worker.c
 *		The background worker of one database.
 *
 * It runs the tasks of the loop that are due, and then sleeps on its latch, which
 * a commit sets (worker_wake_at_commit()), until the next task is due, 60 seconds
 * at most.  No transaction is open while it sleeps.  An error in a task is logged
 * and doesn't end the process.
 *
 * The worker exits if the extension isn't in the database, if it is asked to leave
 * (database_ddl.c, or for another database's turn), on SIGTERM, and if the catalog
 * no longer matches the library while requests are in progress.  The launcher
 * starts it again.  Leases of an ended worker lapse with its process.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_class.h"
#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/wait_event.h"

#include "base/compat.h"
#include "base/refusal.h"
#include "engine/engine.h"
#include "engine/rights.h"
#include "engine/worker_transaction.h"
#include "http/http.h"
#include "outbox/outbox.h"
#include "server/server.h"
#include "server/worker_slots.h"
#include "worker/internal.h"

/* Milliseconds */
#define MAX_SLEEP	60000 /* finds what no commit has announced */
#define AFTER_ERROR 1000
#define DRAIN		2000 /* for requests in progress, when asked to leave */

extern PGDLLEXPORT void stripe_sync_worker_main(Datum arg);

static Slot *slot = NULL;
static MemoryContext turn_memory = NULL;
static bool installed = false; /* is the extension, as of installed_as_of */
static uint64 installed_as_of = 0;
static bool fits = false;	/* the library matches the catalog */
static bool is_copy = true; /* the database is a copy, or nothing was set up */
static const char *idle_state = "sleeping";
static TimestampTz woken_at = 0; /* last call of loop_woken() */

/* ---- transactions of the loop ---- */

static void
transaction_begin(void)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
}

static void
transaction_commit(void)
{
	CommitTransactionCommand();
	MemoryContextSwitchTo(turn_memory);
	(void) pgstat_report_stat(false);
}

static const TransactionOwner owner = {transaction_begin, transaction_commit,
									   true};

/* ---- journal ---- */

/*
 * Write an entry in a transaction of its own; errors are ignored.  Not in a copy:
 * a restore may be running, whose rows use the next numbers of the sequence.
 */
static void
journal_worker(const char *what, const char *ref, const char *detail)
{
	if (is_copy)
		return;
	PG_TRY();
	{
		worker_begin();
		journal_count(what, ref, detail);
		worker_commit();
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		MemoryContextSwitchTo(turn_memory);
		EmitErrorReport();
		FlushErrorState();
		AbortOutOfAnyTransaction();
		MemoryContextSwitchTo(turn_memory);
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
}

/*
 * Write the start once in a process, and how the last worker has ended.  Workers
 * that take turns are not recorded.
 */
static void
journal_start(void)
{
	static bool noted = false;

	if (noted || is_copy)
		return;
	noted = true;
	if (slot->last_end == END_BY_FAILURE)
		journal_worker("worker.failed", NULL,
					   "its process ended: see the server's log");
	if (slot->last_end == END_BY_SIGNAL)
		journal_worker("worker.left", NULL, "it was terminated by a signal");
	if (slot->last_end != END_FOR_OTHER)
		journal_worker("worker.started", NULL, NULL);
}

/* ---- the state of the database ---- */

/*
 * Needs a transaction.  DROP EXTENSION drops tables and so changes the
 * generation.
 */
static bool
extension_is_here(void)
{
	if (installed_as_of != engine_generation())
	{
		installed_as_of = engine_generation();
		installed = OidIsValid(get_extension_oid(ENGINE_SCHEMA, true));
	}
	return installed;
}

/* Log it once for a database, also if the worker is started again. */
static void
log_inactive(OutboundState state)
{
	bool logged;

	slots_lock(LW_EXCLUSIVE);
	logged = slot->logged_inactive;
	slot->logged_inactive = state == OUTBOUND_COPY || state == OUTBOUND_RESTORED;
	slots_unlock();
	if (slot->logged_inactive && !logged)
		ereport(
			LOG,
			(errmsg("stripe_sync sends nothing from database \"%s\": %s",
					get_database_name(MyDatabaseId), outbound_reason(state)),
			 errhint("If it should send, call stripe_sync.activate() in it.")));
}

/* Log it once until they match again, also if the worker is started again. */
static void
log_mismatch(const Refusal *refusal)
{
	bool logged;

	slots_lock(LW_EXCLUSIVE);
	logged = slot->logged_unfit;
	slot->logged_unfit = !fits;
	slots_unlock();
	if (!fits && !logged)
		ereport(LOG, (errmsg("stripe_sync does nothing in database \"%s\": %s",
							 get_database_name(MyDatabaseId), refusal->message),
					  errhint("%s", refusal->hint)));
}

/*
 * Check that the library matches the catalog, and that the extension's relations
 * are its own (own.c).  If not, nothing can be claimed, sent or settled.
 */
static void
check_level(void)
{
	static char unfit_state[sizeof(slot->state)];
	Refusal refusal = {0};

	fits = level_fits(CATALOG_LEVEL, &refusal);
	log_mismatch(&refusal);
	if (fits)
		return;
	if (own_fits(&refusal))
		snprintf(unfit_state, sizeof(unfit_state),
				 "idle: catalog level %d, library level %d", level_found(),
				 CATALOG_LEVEL);
	else
		strlcpy(unfit_state, "idle: not the extension's own, see the log",
				sizeof(unfit_state));
	idle_state = unfit_state;
}

/* The idle state, with the number of destinations that Slack has refused. */
static const char *
refused_state(void)
{
	static char state[sizeof(slot->state)];
	int refused;

	PushActiveSnapshot(GetTransactionSnapshot());
	refused = destination_count_refused();
	PopActiveSnapshot();
	if (refused == 0)
		return "sleeping";
	snprintf(state, sizeof(state), "sleeping: Slack refuses %d destination%s",
			 refused, refused == 1 ? "" : "s");
	return state;
}

/* The state that the view shows of an idle worker */
static const char *
state_of(OutboundState state)
{
	bool slack = outbound_paused("slack");
	bool stripe = outbound_paused("stripe");

	switch (state)
	{
		case OUTBOUND_OFF:
			return "off: stripe_sync.outbound";
		case OUTBOUND_COPY:
			return "inactive: a copy";
		case OUTBOUND_RESTORED:
			return "inactive: restored from a backup";
		case OUTBOUND_UNNOTED:
		case OUTBOUND_ON:
			break;
	}
	if (slack && stripe)
		return "paused";
	if (slack || stripe)
		return slack ? "paused: slack" : "paused: stripe";
	return refused_state();
}

/*
 * Check the extension, its catalog level, and whether messages may be sent.
 * Returns false if the extension isn't in the database.
 */
static bool
check_database(void)
{
	bool here;

	transaction_begin();
	here = extension_is_here();
	if (here)
		check_level();
	if (here && fits)
	{
		OutboundState state = outbound_state();

		is_copy = !outbound_is_original();
		idle_state = state_of(state);
		log_inactive(state);
	}
	transaction_commit();
	return here;
}

/* ---- leaving ---- */

/*
 * SIGTERM: exit at once.  Claimed messages need not be released: leases of an
 * ended process have lapsed.
 */
static void
exit_if_terminated(void)
{
	if (ProcDiePending)
		proc_exit(0);
}

static void
check_interrupts(void)
{
	exit_if_terminated();
	CHECK_FOR_INTERRUPTS();
}

/*
 * Wait for requests in progress, for a short time, and exit.  An error, such as
 * that of a catalog that no longer matches, ends the process, too; "orderly" is
 * set first, so that the launcher doesn't count it as a failure.
 */
static void
leave_on_request(TimestampTz next)
{
	worker_report_state("leaving");
	slot->orderly = true;
	if (fits && !slot->for_other)
		journal_worker("worker.left", NULL, "it was asked to leave");
	if (fits)
		loop_drain(DRAIN, check_interrupts);
	slot->next_due = next;
	(void) pgstat_report_stat(true);
	ereport(DEBUG1,
			(errmsg("stripe_sync worker of database %u leaves", MyDatabaseId)));
	proc_exit(0);
}

/*
 * The catalog was changed without ALTER EXTENSION, before which the worker is
 * asked to leave.  Requests in progress can't be settled, so their leases end
 * with the process.  The next worker waits for a matching catalog.
 */
static void
exit_on_mismatch(void)
{
	slot->orderly = true;
	proc_exit(0);
}

/* The extension isn't in the database, or was dropped. */
static void
exit_as_absent(void)
{
	slots_lock(LW_EXCLUSIVE);
	slot->absent = true;
	slot->present = false;
	slots_unlock();
	proc_exit(0);
}

/* ---- running tasks ---- */

static void
reload_config(void)
{
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
		slot->woken = true;
		loop_settings_changed();
	}
}

/* After a commit or a reload, and every MAX_SLEEP, all tasks may be due. */
static void
notice_wakeup(void)
{
	TimestampTz now = GetCurrentTimestamp();

	if (!slot->woken && woken_at <= now &&
		!TimestampDifferenceExceeds(woken_at, now, MAX_SLEEP))
		return;
	slot->woken = false; /* before the check: a later commit wakes it again */
	woken_at = now;
	loop_woken();
}

/* Run all tasks that are due.  Returns the time when the next one will be. */
static TimestampTz
run_tasks(void)
{
	TimestampTz next = DT_NOEND;
	bool more = true;

	check_interrupts();
	reload_config();
	if (!check_database())
		exit_as_absent();
	if (!fits && !loop_is_idle())
		exit_on_mismatch();
	if (fits)
		journal_start();
	more = fits;
	while (more && !slot->leave)
	{
		notice_wakeup();
		worker_report_state("working");
		pgstat_report_activity(STATE_RUNNING, "stripe_sync: working");
		next = DT_NOEND;
		more = loop_run_once(&next);
		MemoryContextSwitchTo(turn_memory);
		MemoryContextReset(turn_memory);
		check_interrupts();
		reload_config();
	}
	return more ? 0 : next;
}

/*
 * Log the error of a task, unless the extension was dropped or its catalog no
 * longer matches.  Returns false if the worker need not sleep before it goes on.
 * The level is checked only after an error of level_check(), which has just read
 * it, so no lock is waited for here.
 */
static bool
recover(void)
{
	ErrorData *error;
	bool unfit = false;

	HOLD_INTERRUPTS();
	MemoryContextSwitchTo(turn_memory);
	error = CopyErrorData();
	FlushErrorState();
	AbortOutOfAnyTransaction();
	MemoryContextSwitchTo(turn_memory);
	RESUME_INTERRUPTS();

	transaction_begin();
	if (!extension_is_here())
		exit_as_absent();
	if (error->sqlerrcode == ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
	{
		check_level();
		unfit = !fits;
	}
	transaction_commit();
	if (!unfit && fits)
		journal_worker("worker.failed", unpack_sql_state(error->sqlerrcode),
					   error->message);
	error->elevel = WARNING; /* ERROR would end the process */
	if (!unfit)
		ThrowErrorData(error);
	MemoryContextReset(turn_memory);
	return !unfit;
}

/* As run_tasks(), but an error is logged, and *failed is set. */
static TimestampTz
run_tasks_guarded(bool *failed)
{
	volatile TimestampTz next = 0;

	*failed = false;
	PG_TRY();
	{
		next = run_tasks();
	}
	PG_CATCH();
	{
		*failed = recover();
	}
	PG_END_TRY();
	return next;
}

static void
report_idle(const char *state)
{
	worker_report_state(state);
	pgstat_report_activity(STATE_IDLE, NULL);
	(void) pgstat_report_stat(true);
}

/* Sleep until the latch is set, a request has ended, or the time is reached. */
static void
sleep_until(TimestampTz next)
{
	TimestampTz now = GetCurrentTimestamp();
	long nap = MAX_SLEEP;

	if (next < TimestampTzPlusMilliseconds(now, MAX_SLEEP))
		nap = TimestampDifferenceMilliseconds(now, next);
	report_idle(idle_state);
	(void) http_wait(nap, compat_wait_event("StripeSyncWorker"));
}

/* After an error, sleep a second even if woken, unless asked to leave. */
static void
sleep_after_error(void)
{
	TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
													AFTER_ERROR);
	long left;

	report_idle("failing"); /* until the next run_tasks() */
	while ((left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(),
												   until)) > 0 &&
		   !slot->leave && !ProcDiePending)
	{
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, left,
						 compat_wait_event("StripeSyncWorker"));
		ResetLatch(MyLatch);
	}
}

/* ---- start-up ---- */

/* Settings of the database, or of the role, must not affect the worker. */
static void
set_config(void)
{
	static const char *const settings[][2] = {
		{"application_name", "stripe_sync worker"},
		{"search_path", "pg_catalog, pg_temp"},
		{"statement_timeout", "0"},
		/* a lock of a user's transaction must not stop the worker */
		{"lock_timeout", "2s"},
		{"idle_in_transaction_session_timeout", "0"},
		{"idle_session_timeout", "0"},
		{"transaction_timeout", "0"},
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_read_only", "off"},
		{"default_transaction_deferrable", "off"},
		{"session_replication_role", "origin"},
		{"row_security", "on"},
	};

	for (int i = 0; i < lengthof(settings); i++)
		/* not every version has every one */
		if (GetConfigOption(settings[i][0], true, false) != NULL)
			SetConfigOption(settings[i][0], settings[i][1], PGC_SUSET,
							PGC_S_OVERRIDE);
}

/* SIGTERM: the launcher must not count it as a failure. */
static void
worker_die(SIGNAL_ARGS)
{
	if (slot != NULL)
		slot->orderly = true;
	die(COMPAT_SIGNAL_ARGS);
}

static void
worker_setup(Oid database)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, worker_die);
	slot = slot_attach(database);
	if (slot == NULL)
		proc_exit(0);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	set_config();
	turn_memory = AllocSetContextCreate(TopMemoryContext, "stripe_sync turn",
										ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(turn_memory);
}

void
stripe_sync_worker_main(Datum arg)
{
	worker_setup(DatumGetObjectId(arg));
	if (!check_database())
		exit_as_absent();
	slots_lock(LW_EXCLUSIVE);
	slot->present = true;
	launcher_set_latch();
	slots_unlock();
	ereport(DEBUG1,
			(errmsg("stripe_sync worker of database %u starts", MyDatabaseId)));
	loop_setup(&owner);
	for (;;)
	{
		bool failed;
		TimestampTz next = run_tasks_guarded(&failed);

		if (slot->leave)
			leave_on_request(next);
		else if (failed)
			sleep_after_error();
		else
			sleep_until(next);
	}
}
