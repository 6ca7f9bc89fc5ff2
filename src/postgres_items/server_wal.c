/*
 * server_wal.c
 *		Items: WAL on disk, and its archiving.
 *
 * Directories are read here, and no file but one is looked at: pg_ls_waldir()
 * would look at each.  archive_command is never printed, because it may hold a
 * password.
 */
#include "postgres.h"

#include <math.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>

#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "storage/fd.h"
#include "utils/guc.h"

#include "postgres_items/server_looks.h"

#define SURPLUS_TIMES  2 /* of max_wal_size, before WAL is too much */
#define ARCHIVE_LATE   (5 * SECS_PER_MINUTE)
#define ARCHIVE_STATUS XLOGDIR "/archive_status"
#define READY		   ".ready"
#define RECEIVERS	   "'pg_receivewal', 'barman_receive_wal'"

/* ---- directories ---- */

static double
wal_bytes(void)
{
	DIR *dir = AllocateDir(XLOGDIR);
	struct dirent *entry;
	double count = 0;

	while ((entry = ReadDir(dir, XLOGDIR)) != NULL)
		count += IsXLogFileName(entry->d_name);
	FreeDir(dir);
	return count * wal_segment_size;
}

static bool
is_ready(const char *name)
{
	size_t length = strlen(name);

	return length > strlen(READY) &&
		   strcmp(name + length - strlen(READY), READY) == 0;
}

/* Files that wait to be archived; *first is the one that is archived next */
static int64
count_ready(char *first)
{
	DIR *dir = AllocateDir(ARCHIVE_STATUS);
	struct dirent *entry;
	int64 count = 0;

	first[0] = '\0';
	while ((entry = ReadDir(dir, ARCHIVE_STATUS)) != NULL)
	{
		if (!is_ready(entry->d_name))
			continue;
		if (count++ == 0 || strcmp(entry->d_name, first) < 0)
			strlcpy(first, entry->d_name, MAXPGPATH);
	}
	FreeDir(dir);
	return count;
}

/* Seconds for which the first of them has waited */
static double
ready_since(const char *first)
{
	char path[2 * MAXPGPATH];
	struct stat status;

	snprintf(path, sizeof(path), ARCHIVE_STATUS "/%s", first);
	if (first[0] == '\0' || stat(path, &status) != 0)
		return 0;
	return Max(difftime(time(NULL), status.st_mtime), 0);
}

/* ---- WAL on disk ---- */

/* Bytes that the server may write to the disk of pg_wal, or infinity */
static double
disk_free(void)
{
	struct statvfs disk;

	if (statvfs(XLOGDIR, &disk) != 0)
		return INFINITY;
	return (double) disk.f_bavail * disk.f_frsize;
}

static double
megabytes_setting(const char *name)
{
	return atof(GetConfigOption(name, false, false)) * 1024 * 1024;
}

/*
 * What keeps WAL: the slot that keeps most, a temporary one included, or files
 * that wait to be archived.  Otherwise the next checkpoint removes it.
 */
static void
hint_wal(Finding *finding, double most)
{
	static EngineStatement select = {
		"SELECT slot_name::text, active_pid::text FROM pg_replication_slots"
		" WHERE NOT pg_is_in_recovery()"
		"  AND pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) > $1"
		" ORDER BY restart_lsn LIMIT 1"};
	char first[MAXPGPATH];
	char *slot = NULL;
	char *pid = NULL;
	Rows rows;

	rows_open(&rows, &select, ARGS(arg_int8((int64) most)));
	if (rows_next(&rows))
	{
		slot = rows_text(&rows);
		pid = rows_text(&rows);
	}
	rows_close(&rows);
	if (pid != NULL)
		finding_hint(finding,
					 "-- it uses replication slot \"%s\"\n"
					 "SELECT pg_terminate_backend(%s, 5000);\n"
					 "CHECKPOINT;",
					 slot, pid);
	else if (slot != NULL)
		finding_hint(finding,
					 "SELECT pg_drop_replication_slot(%s);\nCHECKPOINT;",
					 hint_literal(slot));
	else if (count_ready(first) * wal_segment_size < most)
		finding_hint(finding, "CHECKPOINT;");
}

/*
 * What "max_wal_size" permits must find room: a server that can't write WAL
 * stops.
 */
void
look_at_wal(Finding *finding)
{
	double bytes = wal_bytes();
	double most = Max(megabytes_setting("max_wal_size"),
					  megabytes_setting("min_wal_size"));
	double kept = megabytes_setting("wal_keep_size");
	double room = disk_free();
	bool surplus = bytes > SURPLUS_TIMES * most + kept;
	char *words = psprintf(
		"pg_wal has %s, max_wal_size is %s%s", words_bytes(bytes),
		words_bytes(most),
		isinf(room) ? ""
					: psprintf(", %s of its disk are free", words_bytes(room)));

	finding_figure(finding, bytes, "bytes");
	if (room < Max(most - bytes, most / 4) || (surplus && room < bytes))
		finding_fail(finding, "%s: the disk fills up", words);
	else if (surplus)
		finding_warn(finding, "%s: something keeps WAL", words);
	else
	{
		finding_ok(finding, "%s", words);
		return;
	}
	hint_wal(finding, most);
}

/* ---- archiving ---- */

typedef struct Archiver
{
	double archived; /* seconds since, or infinity */
	double failed;
	bool failing;  /* the last attempt failed */
	bool received; /* pg_receivewal or similar does it */
} Archiver;

static Archiver
read_archiver(void)
{
	static EngineStatement select = {
		"SELECT coalesce(EXTRACT(epoch FROM clock_timestamp() - a.last_archived_time), 'infinity')::float8,"
		" coalesce(EXTRACT(epoch FROM clock_timestamp() - a.last_failed_time), 'infinity')::float8,"
		" coalesce(a.last_failed_time > coalesce(a.last_archived_time, '-infinity'), false),"
		" EXISTS (SELECT FROM pg_stat_replication WHERE application_name IN (" RECEIVERS
		"))"
		" FROM pg_stat_archiver a"};
	Archiver archiver = {0};
	Rows rows;

	rows_open(&rows, &select, NO_ARGS);
	if (rows_next(&rows))
	{
		archiver.archived = rows_float8(&rows, 0);
		archiver.failed = rows_float8(&rows, 0);
		archiver.failing = rows_bool(&rows, false);
		archiver.received = rows_bool(&rows, false);
	}
	rows_close(&rows);
	return archiver;
}

static bool
setting_is_empty(const char *name)
{
	const char *value = GetConfigOption(name, true, false);

	return value == NULL || value[0] == '\0';
}

static bool
archive_is_aimless(void)
{
	return setting_is_empty("archive_command") &&
		   setting_is_empty("archive_library");
}

static void
judge_off(Finding *finding, const Archiver *archiver)
{
	if (archiver->received)
	{
		finding_ok(finding, "WAL is received by pg_receivewal or Barman");
		return;
	}
	finding_warn(finding, "archive_mode is off: what was committed since the "
						  "last backup cannot be restored");
	if (!archive_is_aimless())
		finding_hint(finding, "ALTER SYSTEM SET archive_mode = on;\n"
							  "-- then restart the server");
}

static void
judge_archiver(Finding *finding, const Archiver *archiver)
{
	char first[MAXPGPATH];
	int64 count = count_ready(first);
	double waits = ready_since(first);
	char *backlog = psprintf("%s, the first for %s",
							 words_count(count, "file waits", "files wait"),
							 words_age(waits));

	finding_figure(finding, waits, "s");
	if (archive_is_aimless())
		finding_fail(finding,
					 "archive_mode is on, but archive_command is empty; %s",
					 backlog);
	else if (archiver->failing && waits > ARCHIVE_LATE)
		finding_fail(finding, "archiving fails, last %s ago; %s",
					 words_age(archiver->failed), backlog);
	else if (archiver->failing)
		finding_warn(finding, "archiving failed %s ago; %s",
					 words_age(archiver->failed), backlog);
	else if (waits > ARCHIVE_LATE)
		finding_warn(finding, "archiving is late; %s", backlog);
	else if (isinf(archiver->archived))
		finding_ok(finding, "archive_mode is on, nothing had to be archived");
	else
		finding_ok(finding, "the last file was archived %s ago",
				   words_age(archiver->archived));
}

/* By the last failure and success: counters are since the last reset. */
void
look_at_archiving(Finding *finding)
{
	const char *mode = GetConfigOption("archive_mode", false, false);
	Archiver archiver = read_archiver();

	if (strcmp(mode, "off") == 0)
		judge_off(finding, &archiver);
	else
		judge_archiver(finding, &archiver);
}
