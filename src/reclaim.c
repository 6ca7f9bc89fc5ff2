/*
 * reclaim.c
 *		Parts of jobs whose holder is dead, or has forgotten them, are due again.
 */
#include "jobs_internal.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"

#include "lease_holder.h"
#include "loop.h"

/* Of a part: its job and number, its lease's pid and start of the process. */
static bool
holder_has_it(const Datum *lease, bool since_start)
{
	int pid = DatumGetInt32(lease[2]);
	TimestampTz start = DatumGetTimestampTz(lease[3]);
	LeaseHolder holder = lease_holder(pid, start, since_start);

	return holder == LEASE_HOLDER_OTHER ||
		   (holder == LEASE_HOLDER_SELF &&
			runner_has(DatumGetInt64(lease[0]), DatumGetInt32(lease[1])));
}

/*
 * Parts of holders that are dead are due at once, and those of ours that we
 * don't know of.
 */
void
runner_reclaim(void)
{
	static EngineStatement select = {
		"SELECT job, part, lease_pid, lease_backend_start,"
		" COALESCE(lease_server_start = pg_catalog.pg_postmaster_start_time(), false)"
		" FROM stripe_sync.job_part WHERE state = 'running'"};
	static EngineStatement release = {
		"UPDATE ONLY stripe_sync.job_part SET state = 'waiting', lease_pid = NULL,"
		" lease_backend_start = NULL, lease_server_start = NULL,"
		" due_at = pg_catalog.clock_timestamp()"
		" WHERE ctid = (SELECT ctid FROM ONLY stripe_sync.job_part"
		"  WHERE job = $1 AND part = $2 AND state = 'running' AND lease_pid = $3"
		"   AND lease_backend_start = $4 FOR UPDATE SKIP LOCKED)",
		4,
		{INT8OID, INT4OID, INT4OID, TIMESTAMPTZOID}};
	SPITupleTable *rows;
	uint64 count;

	worker_begin();
	SPI_connect();
	engine_run(&select, NULL, NULL, SPI_OK_SELECT);
	rows = SPI_tuptable;
	count = SPI_processed;
	for (uint64 i = 0; i < count; i++)
	{
		Datum values[4];
		bool isnull;

		for (int j = 0; j < 4; j++)
			values[j] = SPI_getbinval(rows->vals[i], rows->tupdesc, j + 1,
									  &isnull);
		if (!holder_has_it(
				values, DatumGetBool(SPI_getbinval(rows->vals[i], rows->tupdesc,
												   5, &isnull))))
			engine_run(&release, values, NULL, SPI_OK_UPDATE);
	}
	SPI_finish();
	worker_commit();
}
