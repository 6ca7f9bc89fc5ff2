/*
 * server_replication.c
 *		Items: replicas and how far they are behind, and replication slots that
 *		keep WAL.
 *
 * Limits in bytes are a quarter of "max_wal_size" and four times that (256 MB and
 * 4 GB by default): who writes more has set it higher.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "utils/builtins.h"

#include "postgres_items/server_looks.h"

#define WARN_BYTES	 (0.25 * most_wal())
#define FAIL_BYTES	 (4 * most_wal())
#define WARN_SECONDS (5 * SECS_PER_MINUTE)
#define FAIL_SECONDS SECS_PER_HOUR

/* Where WAL ends: as written here, or as received by a standby */
#define END_OF_WAL                                                             \
	"CASE WHEN pg_is_in_recovery()"                                            \
	" THEN coalesce(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())"      \
	" ELSE pg_current_wal_lsn() END"

static double
most_wal(void)
{
	return max_wal_size_mb * 1024.0 * 1024.0;
}

/* ---- replicas, seen from their primary ---- */

typedef struct Replica
{
	int64 count;
	char *name;
	char *state;
	double bytes;	/* from the end of WAL to what it has replayed */
	double seconds; /* how long the last commit took to be replayed */
	double unsent;	/* bytes that it has not written yet */
} Replica;

static Replica
read_last_replica(void)
{
	static EngineStatement select = {
		"SELECT count(*) OVER (), r.application_name, r.state,"
		" pg_wal_lsn_diff(e.lsn, coalesce(r.replay_lsn, r.flush_lsn, r.sent_lsn))::float8,"
		" coalesce(EXTRACT(epoch FROM r.replay_lag), 0)::float8,"
		" pg_wal_lsn_diff(e.lsn, coalesce(r.flush_lsn, r.sent_lsn))::float8"
		" FROM pg_stat_replication r, (SELECT " END_OF_WAL ") AS e (lsn)"
		" WHERE r.state <> 'backup' ORDER BY 4 DESC NULLS LAST LIMIT 1"};
	Replica last = {0};
	Rows rows;

	rows_open(&rows, &select, NO_ARGS);
	if (rows_next(&rows))
	{
		last.count = rows_int8(&rows, 0);
		last.name = rows_text(&rows);
		last.state = rows_text(&rows);
		last.bytes = rows_float8(&rows, 0);
		last.seconds = rows_float8(&rows, 0);
		last.unsent = rows_float8(&rows, 0);
	}
	rows_close(&rows);
	return last;
}

static void
judge_lag(Finding *finding, double bytes, double seconds, const char *words)
{
	finding_figure(finding, bytes, "bytes");
	if (bytes > FAIL_BYTES || seconds > FAIL_SECONDS)
		finding_fail(finding, "%s", words);
	else if (bytes > WARN_BYTES || seconds > WARN_SECONDS)
		finding_warn(finding, "%s", words);
	else
		finding_ok(finding, "%s", words);
}

/* One that has received what it has not replayed is paused, or busy. */
static void
judge_replicas(Finding *finding)
{
	Replica last = read_last_replica();

	if (last.count == 0)
	{
		finding_figure(finding, 0, "bytes");
		finding_ok(finding, "no replica is connected");
		return;
	}
	judge_lag(finding, last.bytes, last.seconds,
			  psprintf("%s; the last, \"%s\" (%s), is %s and %s behind",
					   words_count(last.count, "replica", "replicas"),
					   server_name(last.name), last.state,
					   words_bytes(last.bytes), words_age(last.seconds)));
	if (finding->status != FINDING_OK && last.unsent < last.bytes / 2)
		finding_hint(finding,
					 "-- on the standby \"%s\"\n"
					 "SELECT pg_wal_replay_resume();",
					 server_name(last.name));
}

/* ---- this server is a replica ---- */

/* Replayed less than received; seconds only where something is to be replayed */
static void
judge_standby(Finding *finding)
{
	static EngineStatement select = {
		"SELECT coalesce(pg_wal_lsn_diff(pg_last_wal_receive_lsn(),"
		"   pg_last_wal_replay_lsn()), 0)::float8,"
		" coalesce(EXTRACT(epoch FROM clock_timestamp()"
		"   - pg_last_xact_replay_timestamp()), 0)::float8,"
		" EXISTS (SELECT FROM pg_stat_wal_receiver)"};
	double bytes = 0;
	double seconds = 0;
	bool receives = false;
	Rows rows;

	rows_open(&rows, &select, NO_ARGS);
	if (rows_next(&rows))
	{
		bytes = rows_float8(&rows, 0);
		seconds = rows_float8(&rows, 0);
		receives = rows_bool(&rows, false);
	}
	rows_close(&rows);
	judge_lag(
		finding, bytes, bytes > 0 ? seconds : 0,
		psprintf("this server is a standby and has %s to replay%s",
				 words_bytes(bytes),
				 receives ? "" : "; it does not receive from a primary now"));
	if (GetRecoveryPauseState() != RECOVERY_NOT_PAUSED)
		finding_warn(finding, "this server is a standby, and replay is paused");
	else if (!receives && finding->status == FINDING_OK)
		finding_warn(finding, "%s", finding->detail);
	if (GetRecoveryPauseState() != RECOVERY_NOT_PAUSED)
		finding_hint(finding, "SELECT pg_wal_replay_resume();");
}

void
look_at_replicas(Finding *finding)
{
	if (RecoveryInProgress())
		judge_standby(finding);
	else
		judge_replicas(finding);
}

/* ---- slots ---- */

typedef struct SlotRow
{
	int64 count;
	char *name;
	bool active;
	char *wal_status;
	char *reason;
	double bytes;
} SlotRow;

/* Those that have lost WAL first, then by what they keep.  Temporary slots end
 * with their session. */
static SlotRow
read_worst_slot(void)
{
	static EngineStatement select = {
		"SELECT count(*) OVER (), s.slot_name::text, s.active,"
		" coalesce(s.wal_status, 'reserved'), to_jsonb(s) ->> 'invalidation_reason',"
		" coalesce(pg_wal_lsn_diff(e.lsn, s.restart_lsn), 0)::float8"
		" FROM pg_replication_slots s, (SELECT " END_OF_WAL ") AS e (lsn)"
		" WHERE NOT s.temporary"
		" ORDER BY s.wal_status = 'lost' DESC NULLS LAST,"
		"  to_jsonb(s) ->> 'invalidation_reason' IS NOT NULL DESC, 6 DESC LIMIT 1"};
	SlotRow worst = {0};
	Rows rows;

	rows_open(&rows, &select, NO_ARGS);
	if (rows_next(&rows))
	{
		worst.count = rows_int8(&rows, 0);
		worst.name = rows_text(&rows);
		worst.active = rows_bool(&rows, false);
		worst.wal_status = rows_text(&rows);
		worst.reason = rows_text(&rows);
		worst.bytes = rows_float8(&rows, 0);
	}
	rows_close(&rows);
	return worst;
}

static bool
slot_is_lost(const SlotRow *slot)
{
	return slot->reason != NULL || strcmp(slot->wal_status, "lost") == 0;
}

static void
judge_slot(Finding *finding, const SlotRow *slot)
{
	char *words = psprintf("slot \"%s\" (%s, %s) keeps %s of WAL", slot->name,
						   slot->active ? "in use" : "not in use",
						   slot->wal_status, words_bytes(slot->bytes));

	finding_figure(finding, slot->bytes, "bytes");
	if (slot_is_lost(slot))
		finding_fail(finding,
					 "slot \"%s\" has lost WAL that its consumer needs%s%s",
					 slot->name, slot->reason ? ": " : "",
					 slot->reason ? slot->reason : "");
	else if (strcmp(slot->wal_status, "unreserved") == 0 ||
			 (!slot->active && slot->bytes > FAIL_BYTES))
		finding_fail(finding, "%s", words);
	else if (strcmp(slot->wal_status, "extended") == 0 ||
			 slot->bytes > (slot->active ? FAIL_BYTES : WARN_BYTES))
		finding_warn(finding, "%s", words);
	else
		finding_ok(finding, "%s; %s", words_count(slot->count, "slot", "slots"),
				   words);
	if (finding->status != FINDING_OK && !slot->active)
		finding_hint(finding, "SELECT pg_drop_replication_slot(%s);",
					 hint_literal(slot->name));
}

void
look_at_slots(Finding *finding)
{
	SlotRow worst = read_worst_slot();

	if (worst.count > 0)
	{
		judge_slot(finding, &worst);
		return;
	}
	finding_figure(finding, 0, "bytes");
	finding_ok(finding, "there are no replication slots");
}
