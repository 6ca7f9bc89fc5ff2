/*
 * counters_file.c
 *		The counters in a file, from one clean shutdown to the next start.
 *
 * Used where the server's own statistics can't hold them (counters_kind.c).  The
 * postmaster writes the file when it exits, and reads and removes it when it
 * starts.  It is used only if the server was shut down cleanly since, which the
 * control file tells, so the counters begin at zero after a crash.  A file that
 * is damaged, or of another version, is ignored.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/pg_control.h"
#include "common/controldata_utils.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "port/pg_crc32c.h"
#include "storage/fd.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include <unistd.h>

#include "server/internal.h"

#define FILE_NAME  PGSTAT_STAT_PERMANENT_DIRECTORY "/stripe_sync_counters.stat"
#define FILE_MAGIC 0x53535943

typedef struct FileHeader
{
	uint32 magic;
	uint32 size;
	pg_crc32c crc; /* of the data */
} FileHeader;

static pg_crc32c
crc_of(const CounterData *data)
{
	pg_crc32c crc;

	INIT_CRC32C(crc);
	COMP_CRC32C(crc, data, sizeof(*data));
	FIN_CRC32C(crc);
	return crc;
}

static bool
was_shut_down_cleanly(void)
{
	bool crc_ok;
	ControlFileData *control = get_controlfile(DataDir, &crc_ok);
	DBState state = control->state;

	pfree(control);
	return crc_ok &&
		   (state == DB_SHUTDOWNED || state == DB_SHUTDOWNED_IN_RECOVERY);
}

/* Returns false if the file is not as counters_file_save() writes it. */
static bool
read_file(FILE *file, CounterData *data)
{
	FileHeader header;

	return fread(&header, sizeof(header), 1, file) == 1 &&
		   header.magic == FILE_MAGIC && header.size == sizeof(*data) &&
		   fread(data, sizeof(*data), 1, file) == 1 && fgetc(file) == EOF &&
		   EQ_CRC32C(header.crc, crc_of(data)) && counters_repair(data);
}

/* Fill in the data from the file, or with zeros, and remove the file. */
void
counters_file_load(CounterData *data)
{
	FILE *file = AllocateFile(FILE_NAME, PG_BINARY_R);
	bool loaded = false;

	if (file == NULL && errno != ENOENT)
		ereport(LOG, (errcode_for_file_access(),
					  errmsg("could not open file \"%s\": %m", FILE_NAME)));
	if (file != NULL)
	{
		if (was_shut_down_cleanly() && !(loaded = read_file(file, data)))
			ereport(
				LOG,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg(
					 "ignoring file \"%s\": it is damaged or of another version",
					 FILE_NAME),
				 errdetail("The counters of stripe_sync begin at zero.")));
		FreeFile(file);
		(void) unlink(FILE_NAME);
	}
	if (!loaded)
		counters_clear_all(GetCurrentTimestamp());
}

static bool
write_file(const char *name, const CounterData *data)
{
	FileHeader header = {FILE_MAGIC, sizeof(*data), crc_of(data)};
	FILE *file = AllocateFile(name, PG_BINARY_W);
	bool written;

	if (file == NULL)
		return false;
	written = fwrite(&header, sizeof(header), 1, file) == 1 &&
			  fwrite(data, sizeof(*data), 1, file) == 1;
	return FreeFile(file) == 0 && written;
}

/* No process that counts is left. */
void
counters_file_save(void)
{
	CounterData *data = MemoryContextAlloc(TopMemoryContext,
										   sizeof(CounterData));

	counters_copy_all(data);
	if (!write_file(FILE_NAME ".tmp", data))
	{
		ereport(LOG,
				(errcode_for_file_access(),
				 errmsg("could not write file \"%s\": %m", FILE_NAME ".tmp")));
		(void) unlink(FILE_NAME ".tmp");
	}
	else
		(void) durable_rename(FILE_NAME ".tmp", FILE_NAME, LOG);
	pfree(data);
}
