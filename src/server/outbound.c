/*
 * outbound.c
 *		Whether this database may send messages and call Stripe.
 *
 * A copy of a database must not, because its original does.  The first set-up
 * call inserts the server's system identifier and the database's OID into
 * stripe_sync.identity.  A dump and CREATE DATABASE ... TEMPLATE copy that row,
 * so only a database whose single row names itself may send.
 *
 * A restored server has the same system identifier as the original.  It is
 * recognized when it starts from a backup: then outbound_init() writes a file into
 * the data directory that holds a random name for this restore.  A row is valid
 * if it was inserted during the same restore (or, without a file, during none).
 * So activate() holds for its own database only, the file never has to be
 * removed, and a copy of an activated server, such as its standby, is as active
 * as the server.
 *
 * Not recognized: a server that first starts without the library preloaded, and
 * a snapshot of the disk.  Set stripe_sync.outbound to off on those.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "common/file_perm.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base.h"
#include "engine/engine.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "server/server.h"
#include "server/internal.h"

#define RESTORE_FILE "stripe_sync.inactive"
#define RESTORE_SIZE 16 /* bytes of a restore's name, written in hex */

/* The restore that this server comes from, "" for none */
static char restore[2 * RESTORE_SIZE + 1] = "";
static bool restore_known = false;

/* What the tables contained at this generation of the set-up */
static uint64 state_as_of = 0;
static OutboundState state = OUTBOUND_UNNOTED;
static uint64 paused_as_of = 0;
static bool paused_slack = false;
static bool paused_stripe = false;

/* ---- the restore that this server comes from ---- */

static bool
file_exists(const char *path)
{
	struct stat status;

	return stat(path, &status) == 0;
}

/* A standby has a backup label too, but also its own signal file. */
static bool
starts_from_backup(void)
{
	return file_exists(RECOVERY_SIGNAL_FILE) ||
		   (file_exists(BACKUP_LABEL_FILE) && !file_exists(STANDBY_SIGNAL_FILE));
}

/* After a crash the file is either complete or absent. */
static bool
write_restore(void)
{
	static const char *const new_file = RESTORE_FILE ".new";
	int fd = open(new_file, O_WRONLY | O_CREAT | O_TRUNC | PG_BINARY,
				  pg_file_create_mode);
	bool written;

	if (fd < 0)
		return false;
	written = write(fd, restore, strlen(restore)) == strlen(restore) &&
			  pg_fsync(fd) == 0;
	if (close(fd) != 0 || !written)
		return false;
	return durable_rename(new_file, RESTORE_FILE, LOG) == 0;
}

static void
name_restore(void)
{
	uint8 bytes[RESTORE_SIZE];

	if (!pg_strong_random(bytes, sizeof(bytes)))
		ereport(FATAL, (errcode(ERRCODE_INTERNAL_ERROR),
						errmsg("could not generate random values")));
	for (int i = 0; i < RESTORE_SIZE; i++)
		sprintf(restore + 2 * i, "%02x", bytes[i]);
}

/* A file that can't be read counts as a restore with an unknown name. */
static void
read_restore(void)
{
	int fd = open(RESTORE_FILE, O_RDONLY | PG_BINARY, 0);
	ssize_t length = 0;

	restore_known = true;
	if (fd < 0 && errno == ENOENT)
		return;
	if (fd >= 0)
	{
		length = read(fd, restore, sizeof(restore) - 1);
		close(fd);
	}
	if (length <= 0)
		strlcpy(restore, "unknown", sizeof(restore));
	else
		restore[length] = '\0';
}

/* Runs in the postmaster; its children inherit the result. */
void
outbound_init(void)
{
	if (!starts_from_backup())
	{
		read_restore();
		return;
	}
	restore_known = true;
	name_restore();
	if (!write_restore())
		ereport(
			FATAL,
			(errcode_for_file_access(),
			 errmsg("could not write file \"%s\": %m", RESTORE_FILE),
			 errdetail(
				 "The file records that this server starts from a backup, so that copies of messages aren't sent."),
			 errhint(
				 "Make the data directory writable, or remove stripe_sync from \"shared_preload_libraries\".")));
	ereport(
		LOG,
		(errmsg(
			 "stripe_sync sends nothing from this server: it starts from a backup"),
		 errhint(
			 "Call stripe_sync.activate() in each database that should send.")));
}

static const char *
current_restore(void)
{
	if (!restore_known) /* not preloaded */
		read_restore();
	return restore;
}

/* ---- stripe_sync.identity ---- */

/* What one row of stripe_sync.identity says of this database */
static OutboundState
judge_identity(HeapTuple tuple, TupleDesc desc)
{
	Rows row = rows_of_tuple(tuple, desc);
	uint64 system = (uint64) rows_int8(&row, 0);
	Oid database = rows_oid(&row);
	char *of_restore = rows_text(&row);

	if (system != GetSystemIdentifier() || database != MyDatabaseId)
		return OUTBOUND_COPY;
	if (strcmp(of_restore ? of_restore : "", current_restore()) != 0)
		return OUTBOUND_RESTORED;
	return OUTBOUND_ON;
}

/* Several rows are those of several databases: this one is a copy. */
static OutboundState
read_identity(void)
{
	Relation relation = table_open(engine_relation("identity"), AccessShareLock);
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	SysScanDesc scan = systable_beginscan(relation, InvalidOid, false, snapshot,
										  0, NULL);
	OutboundState found = OUTBOUND_UNNOTED;
	HeapTuple tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		found = found != OUTBOUND_UNNOTED
					? OUTBOUND_COPY
					: judge_identity(tuple, RelationGetDescr(relation));
	engine_scan_end(scan, relation, snapshot);
	return found;
}

/* Needs a transaction.  The state is cached until the set-up changes. */
OutboundState
outbound_state(void)
{
	uint64 now = engine_generation();

	if (state_as_of != now)
	{
		state = read_identity();
		state_as_of = now;
	}
	return guc_outbound ? state : OUTBOUND_OFF;
}

/* Is this the database that was set up, and not a copy of it? */
bool
outbound_is_original(void)
{
	(void) outbound_state();
	return state == OUTBOUND_ON || state == OUTBOUND_RESTORED;
}

/* The reason that follows "nothing is sent from this database:" */
const char *
outbound_reason(OutboundState what)
{
	switch (what)
	{
		case OUTBOUND_ON:
			break;
		case OUTBOUND_OFF:
			return "stripe_sync.outbound is off";
		case OUTBOUND_COPY:
			return "it is a copy of the database that was set up";
		case OUTBOUND_RESTORED:
			return "its server was restored from a backup";
		case OUTBOUND_UNNOTED:
			return "nothing has been set up in it";
	}
	return "it may send";
}

static void
insert_note(void)
{
	static EngineStatement insert = {
		"INSERT INTO stripe_sync.identity (system_identifier, database, restore)"
		" VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"};

	(void) statement_exec(&insert, ARGS(arg_int8((int64) GetSystemIdentifier()),
										arg_oid(MyDatabaseId),
										arg_text(current_restore())));
}

const char *
outbound_remedy(OutboundState what)
{
	return what == OUTBOUND_OFF
			   ? "Set stripe_sync.outbound to on."
			   : "If this database should send in place of the original, call stripe_sync.activate().";
}

/* Warn a caller whose messages will not be sent. */
void
outbound_warn(OutboundState what)
{
	if (what == OUTBOUND_ON || what == OUTBOUND_UNNOTED)
		return;
	ereport(WARNING, (errmsg("nothing is sent from this database: %s",
							 outbound_reason(what)),
					  errhint("%s", outbound_remedy(what))));
}

/*
 * Called by every set-up function, in the engine's scope.  The first call
 * records the identity of this database.
 */
void
outbound_note_identity(void)
{
	OutboundState found = read_identity();

	if (found == OUTBOUND_UNNOTED)
		insert_note();
	else
		outbound_warn(found);
}

/* Messages that will be sent now, counted up to 10000 */
static int64
count_waiting(void)
{
	static EngineStatement select = {
		"SELECT pg_catalog.count(*) FROM (SELECT FROM stripe_sync.message"
		" WHERE state = 'waiting' AND due_at < 'infinity' LIMIT 10000) AS m"};

	return statement_int8(0, &select, NO_ARGS);
}

/* activate(): this database may send, whatever it was copied from. */
ENGINE_FUNCTION(stripe_sync_activate)
{
	static EngineStatement forget = {"DELETE FROM stripe_sync.identity"};
	RoleScope scope = role_enter_engine();
	int64 waiting;

	(void) statement_exec(&forget, NO_ARGS);
	insert_note();
	journal_note("activate", NULL, NULL);
	waiting = count_waiting();
	role_leave(&scope);
	worker_wake_at_commit();
	if (guc_outbound)
		ereport(NOTICE, (errmsg("this database may send and call out"),
						 errdetail_plural("%s%lld message waits.",
										  "%s%lld messages wait.",
										  (unsigned long) waiting,
										  waiting == 10000 ? "At least " : "",
										  (long long) waiting)));
	else
		ereport(
			NOTICE,
			(errmsg(
				 "this database may send and call Stripe, but stripe_sync.outbound is off"),
			 errhint("Set stripe_sync.outbound to on.")));
	PG_RETURN_VOID();
}

/* ---- pausing ---- */

static void
read_pauses(void)
{
	Relation relation = table_open(engine_relation("pause"), AccessShareLock);
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	SysScanDesc scan = systable_beginscan(relation, InvalidOid, false, snapshot,
										  0, NULL);
	HeapTuple tuple;

	paused_slack = paused_stripe = false;
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Rows row = rows_of_tuple(tuple, RelationGetDescr(relation));
		char *what = rows_text(&row);

		paused_slack |= strcmp(what, "slack") == 0;
		paused_stripe |= strcmp(what, "stripe") == 0;
		pfree(what);
	}
	engine_scan_end(scan, relation, snapshot);
}

/* Is "slack", or "stripe", paused?  Needs a transaction. */
bool
outbound_paused(const char *what)
{
	uint64 now = engine_generation();

	if (paused_as_of != now)
	{
		read_pauses();
		paused_as_of = now;
	}
	return strcmp(what, "slack") == 0 ? paused_slack : paused_stripe;
}

/* May this database call out to "slack", or "stripe", now? */
bool
outbound_allowed(const char *what)
{
	return outbound_state() == OUTBOUND_ON && !outbound_paused(what);
}

/* Run a statement with the argument of pause() or resume(). */
static void
set_pause(FunctionCallInfo fcinfo, EngineStatement *statement, const char *word)
{
	char *what = PG_ARGISNULL(0) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(0));
	RoleScope scope;

	if (what == NULL ||
		(strcmp(what, "slack") != 0 && strcmp(what, "stripe") != 0 &&
		 strcmp(what, "all") != 0))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						what ? errmsg("\"%s\" cannot be paused", what)
							 : errmsg("what cannot be NULL"),
						errhint("Give 'slack', 'stripe' or 'all'.")));
	scope = role_enter_engine();
	if (statement_exec(statement, ARGS(arg_text(what))) > 0)
		journal_note(word, what, NULL);
	role_leave(&scope);
	worker_wake_at_commit();
}

/* pause(what) */
ENGINE_FUNCTION(stripe_sync_pause)
{
	static EngineStatement insert = {
		"INSERT INTO stripe_sync.pause (what)"
		" SELECT w FROM (VALUES ('slack'), ('stripe')) AS v (w)"
		"  WHERE $1 = w OR $1 = 'all' ON CONFLICT DO NOTHING"};

	set_pause(fcinfo, &insert, "pause");
	PG_RETURN_VOID();
}

/* resume(what) */
ENGINE_FUNCTION(stripe_sync_resume)
{
	static EngineStatement drop = {
		"DELETE FROM stripe_sync.pause WHERE what = $1 OR $1 = 'all'"};

	set_pause(fcinfo, &drop, "resume");
	PG_RETURN_VOID();
}
