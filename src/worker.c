/*
 * worker.c
 *		The background process of one database: takes turns at what is due,
 *		and sleeps between them.
 *
 * It sleeps on its latch, which a commit sets (slots_wake), until the next
 * thing falls due, 60 seconds at the most.  No transaction is open then.  What
 * fails in a turn is logged and never ends the process.
 */
#include "stripe_sync.h"

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

#include "http.h"
#include "pass.h"
#include "slots.h"

#define NAP			 60000 /* ms: what wakes nobody is found by then */
#define AFTER_ERROR	 1000  /* ms */
#define LEAVE_WITHIN 2000  /* ms that what is in flight has, when asked to go */

extern PGDLLEXPORT void stripe_sync_worker_main(Datum arg);

static Slot *slot = NULL;
static MemoryContext turn_memory = NULL;
static bool installed = false; /* is the extension, as of installed_as_of */
static uint64 installed_as_of = 0;
static bool fits = false;	/* does the library fit its catalog */
static bool is_copy = true; /* or nothing was set up, as far as we know */
static const char *idle_state = "sleeping";
static TimestampTz looked_at = 0; /* at everything */

/* ---- the transactions that the pass asks for ---- */

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

/* ---- what the journal has of it ---- */

/*
 * In a transaction of its own; what is in the way of it is no news.  Not in a
 * copy: a restore may be at work, whose rows have the numbers that ours would get.
 */
static void
note_of_worker(const char *what, const char *ref, const char *detail)
{
	if (is_copy)
		return;
	PG_TRY();
	{
		transaction_begin();
		journal_count(what, ref, detail);
		transaction_commit();
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		MemoryContextSwitchTo(turn_memory);
		FlushErrorState();
		AbortOutOfAnyTransaction();
		MemoryContextSwitchTo(turn_memory);
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
}

/*
 * Once in a process, when something is set up.  Workers that take turns come and
 * go all the time.
 */
static void
note_start(void)
{
	static bool noted = false;

	if (noted || is_copy)
		return;
	noted = true;
	if (slot->past == PAST_DIED)
		note_of_worker("worker.failed", NULL,
					   "its process ended: see the server's log");
	if (slot->past == PAST_STOPPED)
		note_of_worker("worker.left", NULL, "a signal told it to end");
	if (slot->past != PAST_IN_TURN)
		note_of_worker("worker.started", NULL, NULL);
}

/* ---- what it may do ---- */

/* In a transaction.  DROP EXTENSION drops tables, which the generation tells. */
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

/* Said once for a database, however often its worker starts. */
static void
say_inactive(OutboundState state)
{
	bool told;

	slots_lock(LW_EXCLUSIVE);
	told = slot->told;
	slot->told = state == OUTBOUND_COPY || state == OUTBOUND_RESTORED;
	slots_unlock();
	if (slot->told && !told)
		ereport(
			LOG,
			(errmsg("stripe_sync sends nothing from database \"%s\": %s",
					get_database_name(MyDatabaseId), guard_reason(state)),
			 errhint("If it should send, call stripe_sync.activate() in it.")));
}

/* Said once until it fits again, however often its worker starts. */
static void
say_unfit(const Refusal *refusal)
{
	bool told;

	slots_lock(LW_EXCLUSIVE);
	told = slot->told_unfit;
	slot->told_unfit = !fits;
	slots_unlock();
	if (!fits && !told)
		ereport(LOG, (errmsg("stripe_sync does nothing in database \"%s\": %s",
							 get_database_name(MyDatabaseId), refusal->message),
					  errhint("%s", refusal->hint)));
}

/*
 * Look whether the library fits the catalog, and that what the catalog names is
 * the extension's own.  Where it doesn't, nothing can be claimed, sent or
 * settled.
 */
static void
look_at_level(void)
{
	static char unfit_state[sizeof(slot->state)];
	Refusal refusal = {0};

	fits = level_fits(CATALOG_LEVEL, &refusal);
	say_unfit(&refusal);
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

/* Nothing is to do, or nothing can be done where Slack refuses us. */
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

/* What the view says of a worker that has nothing to do. */
static const char *
state_of(OutboundState state)
{
	bool slack = guard_paused("slack");
	bool stripe = guard_paused("stripe");

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

/* Is there anything to be here for?  And does the library fit it? */
static bool
look_around(void)
{
	bool here;

	transaction_begin();
	here = extension_is_here();
	if (here)
		look_at_level();
	if (here && fits)
	{
		OutboundState state = guard_state();

		is_copy = !guard_is_original();
		idle_state = state_of(state);
		say_inactive(state);
	}
	transaction_commit();
	return here;
}

/* ---- leaving ---- */

/*
 * Told to end by a signal: at once.  What is in flight is let go by dying: a
 * dead holder's leases have lapsed.
 */
static void
leave_if_dismissed(void)
{
	if (ProcDiePending)
		proc_exit(0);
}

static void
mind_interrupts(void)
{
	leave_if_dismissed();
	CHECK_FOR_INTERRUPTS();
}

/*
 * Let what is in flight end, for a while, and go.  Should that raise, as it does
 * when the catalog no longer fits, the process ends by it: the launcher is not to
 * hold that against the worker.
 */
static void
leave_in_peace(TimestampTz next)
{
	slots_report("leaving");
	slot->dismissed = true;
	if (fits && !slot->in_turn)
		note_of_worker("worker.left", NULL, "it was asked to make way");
	if (fits)
		pass_land(LEAVE_WITHIN, mind_interrupts);
	slot->next_due = next;
	(void) pgstat_report_stat(true);
	ereport(DEBUG1,
			(errmsg("stripe_sync worker of database %u leaves", MyDatabaseId)));
	proc_exit(0);
}

/*
 * The catalog has become another, and not by ALTER EXTENSION, before which we
 * leave in peace.  What is in the air can't be settled: it is let go of by
 * dying.  Another worker waits for a catalog that fits.
 */
static void
leave_as_unfit(void)
{
	slot->dismissed = true;
	proc_exit(0);
}

/* The extension isn't here, or no longer. */
static void
leave_as_absent(void)
{
	slots_lock(LW_EXCLUSIVE);
	slot->absent = true;
	slot->present = false;
	slots_unlock();
	proc_exit(0);
}

/* ---- taking turns ---- */

static void
reload_config(void)
{
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
		slot->woken = true;
		pass_reloaded();
	}
}

/*
 * A commit tells, and so does a new setting; and in case that nobody told,
 * everything is looked at now and then.
 */
static void
look_if_woken(void)
{
	TimestampTz now = GetCurrentTimestamp();

	if (!slot->woken && looked_at <= now &&
		!TimestampDifferenceExceeds(looked_at, now, NAP))
		return;
	slot->woken = false; /* before looking: who commits later wakes again */
	looked_at = now;
	pass_woken();
}

/* Do all that is due; the time of what is due next. */
static TimestampTz
take_turns(void)
{
	TimestampTz next = DT_NOEND;
	bool more = true;

	mind_interrupts();
	reload_config();
	if (!look_around())
		leave_as_absent();
	if (!fits && !pass_idle())
		leave_as_unfit();
	if (fits)
		note_start();
	more = fits;
	while (more && !slot->leave)
	{
		look_if_woken();
		slots_report("working");
		pgstat_report_activity(STATE_RUNNING, "stripe_sync: working");
		next = DT_NOEND;
		more = pass_turn(&next);
		MemoryContextSwitchTo(turn_memory);
		MemoryContextReset(turn_memory);
		mind_interrupts();
		reload_config();
	}
	return more ? 0 : next;
}

/*
 * Report what a turn raised, unless it was DROP EXTENSION that it met, or a
 * catalog that doesn't fit.  False when there is nothing to be slept off.  The
 * level is looked at only after the error that level_check() raises, which has
 * just read it: nothing here may wait for a lock.
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
		leave_as_absent();
	if (error->sqlerrcode == ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
	{
		look_at_level();
		unfit = !fits;
	}
	transaction_commit();
	if (!unfit && fits)
		note_of_worker("worker.failed", unpack_sql_state(error->sqlerrcode),
					   error->message);
	error->elevel = WARNING; /* our own level: this doesn't end the process */
	if (!unfit)
		ThrowErrorData(error);
	MemoryContextReset(turn_memory);
	return !unfit;
}

/* As take_turns(), but whatever is raised is over after a second. */
static TimestampTz
take_guarded_turns(bool *failed)
{
	volatile TimestampTz next = 0;

	*failed = false;
	PG_TRY();
	{
		next = take_turns();
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
	slots_report(state);
	pgstat_report_activity(STATE_IDLE, NULL);
	(void) pgstat_report_stat(true);
}

/* Sleep until the latch is set, a request has ended, or so long. */
static void
sleep_until(TimestampTz next)
{
	TimestampTz now = GetCurrentTimestamp();
	long nap = NAP;

	if (next < TimestampTzPlusMilliseconds(now, NAP))
		nap = TimestampDifferenceMilliseconds(now, next);
	report_idle(idle_state);
	(void) http_wait(nap, compat_wait_event("StripeSyncWorker"));
}

/* After an error: a second, whatever wakes us, but for leaving. */
static void
sleep_it_off(void)
{
	TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
													AFTER_ERROR);
	long left;

	report_idle("failing"); /* until it looks around again */
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

/* A database's or a role's settings are meant for people, not for us. */
static void
settle_config(void)
{
	static const char *const settings[][2] = {
		{"application_name", "stripe_sync worker"},
		{"search_path", "pg_catalog, pg_temp"},
		{"statement_timeout", "0"},
		/* who waits for a user's transaction sends nothing meanwhile */
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

/* The launcher doesn't hold it against the worker that it was told to end. */
static void
worker_die(SIGNAL_ARGS)
{
	if (slot != NULL)
		slot->dismissed = true;
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
	settle_config();
	turn_memory = AllocSetContextCreate(TopMemoryContext, "stripe_sync turn",
										ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(turn_memory);
}

void
stripe_sync_worker_main(Datum arg)
{
	worker_setup(DatumGetObjectId(arg));
	if (!look_around())
		leave_as_absent();
	slots_lock(LW_EXCLUSIVE);
	slot->present = true;
	slots_wake_launcher();
	slots_unlock();
	ereport(DEBUG1,
			(errmsg("stripe_sync worker of database %u starts", MyDatabaseId)));
	pass_setup(&owner);
	for (;;)
	{
		bool failed;
		TimestampTz next = take_guarded_turns(&failed);

		if (slot->leave)
			leave_in_peace(next);
		else if (failed)
			sleep_it_off();
		else
			sleep_until(next);
	}
}
