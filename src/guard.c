/*
 * guard.c
 *		May this database send and call out?
 *
 * A copy must not: its original does already.  The first set-up call notes the
 * server's system identifier and the database's oid in stripe_sync.identity,
 * which a dump and a template copy carry along; only a database whose one note
 * is its own may send.
 *
 * A whole server that was restored has the original's identifier.  It is told
 * by how it starts: from a backup.  That is kept in a file of the data
 * directory that holds a name for this restore; a note is good when it was
 * made in the same restore (or, without a file, in none).  So activate()
 * speaks for its database alone, the file needs never be removed, and a copy
 * of an activated server, such as its standby, is as active as the server.
 * What was started without the library preloaded has nobody to notice, and a
 * snapshot of the disk can't be told at all: stripe_sync.outbound is for those.
 */
#include "stripe_sync.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "common/file_perm.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define RESTORE_FILE "stripe_sync.inactive"
#define RESTORE_SIZE 16 /* bytes of a restore's name, written in hex */

/* The restore that this server comes from, "" for none */
static char restore[2 * RESTORE_SIZE + 1] = "";
static bool restore_known = false;

/* What the tables said, as of a generation of the set-up */
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

/* A standby has a backup's label too, but its signal beside it. */
static bool
starts_from_backup(void)
{
	return file_exists(RECOVERY_SIGNAL_FILE) ||
		   (file_exists(BACKUP_LABEL_FILE) && !file_exists(STANDBY_SIGNAL_FILE));
}

/* Written so that it is there, whole, after a crash, or not at all. */
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

/* A file that can't be read is a restore of which nothing more is known. */
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

/* In the postmaster, whose children inherit what it finds here. */
void
guard_init(void)
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
				 "It notes that this server starts from a backup, so that its copies of messages aren't sent again."),
			 errhint(
				 "Mend it, or take stripe_sync out of \"shared_preload_libraries\".")));
	ereport(
		LOG,
		(errmsg(
			 "stripe_sync sends nothing from this server: it starts from a backup"),
		 errhint(
			 "Call stripe_sync.activate() in each database that is to send.")));
}

static const char *
current_restore(void)
{
	if (!restore_known) /* not preloaded */
		read_restore();
	return restore;
}

/* ---- the notes ---- */

/* Columns of stripe_sync.identity */
enum
{
	IDENTITY_SYSTEM = 1,
	IDENTITY_DATABASE,
	IDENTITY_RESTORE
};

static bool
note_is_ours(HeapTuple tuple, TupleDesc desc)
{
	bool isnull;

	return (uint64) DatumGetInt64(
			   heap_getattr(tuple, IDENTITY_SYSTEM, desc, &isnull)) ==
			   GetSystemIdentifier() &&
		   DatumGetObjectId(heap_getattr(tuple, IDENTITY_DATABASE, desc,
										 &isnull)) == MyDatabaseId;
}

static bool
note_is_of_restore(HeapTuple tuple, TupleDesc desc)
{
	bool isnull;
	Datum value = heap_getattr(tuple, IDENTITY_RESTORE, desc, &isnull);

	return strcmp(isnull ? "" : TextDatumGetCString(value),
				  current_restore()) == 0;
}

static OutboundState
read_notes(void)
{
	Relation relation = table_open(engine_relation("identity"), AccessShareLock);
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	SysScanDesc scan = systable_beginscan(relation, InvalidOid, false, snapshot,
										  0, NULL);
	OutboundState found = OUTBOUND_UNNOTED;
	HeapTuple tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		if (found != OUTBOUND_UNNOTED ||
			!note_is_ours(tuple, RelationGetDescr(relation)))
			found = OUTBOUND_COPY;
		else if (note_is_of_restore(tuple, RelationGetDescr(relation)))
			found = OUTBOUND_ON;
		else
			found = OUTBOUND_RESTORED;
	engine_scan_end(scan, relation, snapshot);
	return found;
}

/* Needs a transaction; costs nothing while the set-up stays as it was. */
OutboundState
guard_state(void)
{
	uint64 now = engine_generation();

	if (state_as_of != now)
	{
		state = read_notes();
		state_as_of = now;
	}
	return guc_outbound ? state : OUTBOUND_OFF;
}

/* Was this very database set up, whether or not it may send?  As guard_state(). */
bool
guard_is_original(void)
{
	(void) guard_state();
	return state == OUTBOUND_ON || state == OUTBOUND_RESTORED;
}

/* For the log and for people; the sentence goes on from "nothing is sent:" */
const char *
guard_reason(OutboundState what)
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
		" VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
		3,
		{INT8OID, OIDOID, TEXTOID}};
	Datum values[] = {Int64GetDatum((int64) GetSystemIdentifier()),
					  ObjectIdGetDatum(MyDatabaseId),
					  CStringGetTextDatum(current_restore())};

	SPI_connect();
	engine_run(&insert, values, NULL, SPI_OK_INSERT);
	SPI_finish();
}

const char *
guard_remedy(OutboundState what)
{
	return what == OUTBOUND_OFF
			   ? "Set stripe_sync.outbound to on."
			   : "If it is to send in the original's place, call stripe_sync.activate().";
}

/* Somebody sets up, or calls, what will not be sent. */
void
guard_warn(OutboundState what)
{
	if (what == OUTBOUND_ON || what == OUTBOUND_UNNOTED)
		return;
	ereport(WARNING, (errmsg("nothing is sent from this database: %s",
							 guard_reason(what)),
					  errhint("%s", guard_remedy(what))));
}

/*
 * Every set-up call, in the engine's scope: the first one says which database
 * this is.
 */
void
guard_note(void)
{
	OutboundState found = read_notes();

	if (found == OUTBOUND_UNNOTED)
		insert_note();
	else
		guard_warn(found);
}

/* How many messages will go out now, as far as one cares to count */
static int64
count_waiting(void)
{
	static EngineStatement select = {
		"SELECT pg_catalog.count(*) FROM (SELECT FROM stripe_sync.message"
		" WHERE state OPERATOR(pg_catalog.=) 'waiting' LIMIT 10000) AS m"};
	bool isnull;
	int64 count;

	SPI_connect();
	engine_run(&select, NULL, NULL, SPI_OK_SELECT);
	count = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0],
										SPI_tuptable->tupdesc, 1, &isnull));
	SPI_finish();
	return count;
}

/* activate(): this database may send, whatever it was copied from. */
ENGINE_FUNCTION(stripe_sync_activate)
{
	static EngineStatement forget = {"DELETE FROM stripe_sync.identity"};
	RoleScope scope = role_enter_engine();
	int64 waiting;

	SPI_connect();
	engine_run(&forget, NULL, NULL, SPI_OK_DELETE);
	SPI_finish();
	insert_note();
	journal_note("activate", NULL, NULL);
	waiting = count_waiting();
	role_leave(&scope);
	slots_wake();
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
			(errmsg("this database may send and call out, its server may not"),
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
		bool isnull;
		char *what = TextDatumGetCString(
			heap_getattr(tuple, 1, RelationGetDescr(relation), &isnull));

		paused_slack |= strcmp(what, "slack") == 0;
		paused_stripe |= strcmp(what, "stripe") == 0;
		pfree(what);
	}
	engine_scan_end(scan, relation, snapshot);
}

/* Is "slack", or "stripe", paused?  Needs a transaction. */
bool
guard_paused(const char *what)
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
guard_lets(const char *what)
{
	return guard_state() == OUTBOUND_ON && !guard_paused(what);
}

/* Runs a statement on what pause() or resume() was told. */
static void
set_pause(FunctionCallInfo fcinfo, EngineStatement *statement, int expected,
		  const char *word)
{
	char *what = PG_ARGISNULL(0) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(0));
	RoleScope scope;
	Datum values[1];

	if (what == NULL ||
		(strcmp(what, "slack") != 0 && strcmp(what, "stripe") != 0 &&
		 strcmp(what, "all") != 0))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						what ? errmsg("\"%s\" cannot be paused", what)
							 : errmsg("what is paused cannot be NULL"),
						errhint("Give 'slack', 'stripe' or 'all'.")));
	values[0] = CStringGetTextDatum(what);
	scope = role_enter_engine();
	SPI_connect();
	engine_run(statement, values, NULL, expected);
	if (SPI_processed > 0)
		journal_note(word, what, NULL);
	SPI_finish();
	role_leave(&scope);
	slots_wake();
}

/* pause(what) */
ENGINE_FUNCTION(stripe_sync_pause)
{
	static EngineStatement insert = {
		"INSERT INTO stripe_sync.pause (what)"
		" SELECT w FROM (VALUES ('slack'), ('stripe')) AS v (w)"
		"  WHERE $1 OPERATOR(pg_catalog.=) w OR $1 OPERATOR(pg_catalog.=) 'all'"
		" ON CONFLICT DO NOTHING",
		1,
		{TEXTOID}};

	set_pause(fcinfo, &insert, SPI_OK_INSERT, "pause");
	PG_RETURN_VOID();
}

/* resume(what) */
ENGINE_FUNCTION(stripe_sync_resume)
{
	static EngineStatement drop = {
		"DELETE FROM stripe_sync.pause"
		" WHERE what OPERATOR(pg_catalog.=) $1 OR $1 OPERATOR(pg_catalog.=) 'all'",
		1,
		{TEXTOID}};

	set_pause(fcinfo, &drop, SPI_OK_DELETE, "resume");
	PG_RETURN_VOID();
}
