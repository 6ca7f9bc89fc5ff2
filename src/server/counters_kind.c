/*
 * counters_kind.c
 *		The counters as a kind of the server's cumulative statistics, from
 *		PostgreSQL 18 on.
 *
 * The server allocates the shared memory, writes it into pg_stat/pgstat.stat at a
 * clean shutdown, reads it at the next start, and discards it after a crash.
 *
 * The server can't read its file, and begins all statistics anew, if the size of
 * a kind in it is another one than now: so the size stays the same in all versions
 * of the extension, and a magic number in the data tells their layouts apart.
 *
 * Numbers of kinds are few, and are given out on PostgreSQL's wiki.  If another
 * extension has taken this one, the counters are kept in a file instead
 * (counters_file.c).
 */
#include "postgres.h"

#include "base/compat.h"
#include "server/internal.h"

#ifdef COMPAT_STATISTICS_KINDS

#include "utils/pgstat_internal.h"
#include "utils/timestamp.h"

#define KIND 31

typedef union KindData
{
	CounterData data;
	char bytes[COUNTER_BYTES];
} KindData;

/* Zeros are not valid data, which is found at the first use. */
static void
kind_init_memory(void *memory)
{
	memset(memory, 0, sizeof(KindData));
}

/* After a crash, or if the server's file can't be read */
static void
kind_reset(TimestampTz at)
{
	counters_clear_all(at);
}

/* Before the server writes the data, and for its view of all statistics */
static void
kind_snapshot(void)
{
	counters_copy_all(pgstat_get_custom_snapshot_data(KIND));
}

static const PgStat_KindInfo kind_info = {
	.name = "stripe_sync",
	.fixed_amount = true,
	.write_to_file = true,
	.shared_size = sizeof(KindData),
	.shared_data_off = 0,
	.shared_data_len = sizeof(KindData),
	.init_shmem_cb = kind_init_memory,
	.reset_all_cb = kind_reset,
	.snapshot_cb = kind_snapshot,
};

/* Returns false if another extension has registered this kind. */
bool
counters_kind_register(void)
{
	const PgStat_KindInfo *present = pgstat_get_kind_info(KIND);

	if (present == NULL)
	{
		(void) pgstat_register_kind(KIND, &kind_info);
		return true;
	}
	ereport(
		LOG,
		(errmsg(
			"the counters of stripe_sync are kept in a file: \"%s\" has taken number %u of custom statistics",
			present->name, KIND)));
	return false;
}

CounterData *
counters_kind_data(void)
{
	return pgstat_get_custom_shmem_data(KIND);
}

#else

bool
counters_kind_register(void)
{
	return false;
}

CounterData *
counters_kind_data(void)
{
	return NULL;
}

#endif
