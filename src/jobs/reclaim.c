/*
 * reclaim.c
 *		Takes back the leases of parts whose holder no longer runs them.
 *
 * A lease names the holder's pid, the start of that process and the start of the
 * server; a pid alone may have been given to another process.  Called at the
 * worker's start and once a minute.
 */
#include "postgres.h"

#include "engine/lease_holder.h"
#include "engine/statement.h"
#include "engine/worker_transaction.h"
#include "jobs/jobs.h"
#include "jobs/internal.h"

typedef struct PartLease
{
	int64 job;
	int part;
	int pid;
	TimestampTz backend_start;
	bool this_server; /* made since the server's start */
} PartLease;

static PartLease
read_lease(Rows *rows)
{
	PartLease lease = {0};

	lease.job = rows_int8(rows, 0);
	lease.part = rows_int4(rows, 0);
	lease.pid = rows_int4(rows, 0);
	lease.backend_start = rows_time(rows, 0);
	lease.this_server = rows_bool(rows, false);
	return lease;
}

/* This process may hold a lease that it has forgotten, after an error. */
static bool
lease_is_live(const PartLease *lease)
{
	LeaseHolder holder = lease_holder(lease->pid, lease->backend_start,
									  lease->this_server);

	return holder == LEASE_HOLDER_OTHER ||
		   (holder == LEASE_HOLDER_SELF && runner_has(lease->job, lease->part));
}

static void
release_lease(const PartLease *lease)
{
	static EngineStatement release = {
		"UPDATE ONLY stripe_sync.job_part SET state = 'waiting', lease_pid = NULL,"
		" lease_backend_start = NULL, lease_server_start = NULL,"
		" due_at = pg_catalog.clock_timestamp()"
		" WHERE ctid = (SELECT ctid FROM ONLY stripe_sync.job_part"
		"  WHERE job = $1 AND part = $2 AND state = 'running' AND lease_pid = $3"
		"   AND lease_backend_start = $4 FOR UPDATE SKIP LOCKED)"};

	(void) statement_exec(
		&release, ARGS(arg_int8(lease->job), arg_int4(lease->part),
					   arg_int4(lease->pid), arg_time(lease->backend_start)));
}

/*
 * Make the parts of dead holders due at once, in a transaction of its own.  Rows
 * that are locked are left for the next time.
 */
void
runner_reclaim(void)
{
	static EngineStatement select = {
		"SELECT job, part, lease_pid, lease_backend_start,"
		" COALESCE(lease_server_start = pg_catalog.pg_postmaster_start_time(), false)"
		" FROM stripe_sync.job_part WHERE state = 'running'"};
	Rows rows;

	worker_begin();
	rows_open(&rows, &select, NO_ARGS);
	while (rows_next(&rows))
	{
		PartLease lease = read_lease(&rows);

		if (!lease_is_live(&lease))
			release_lease(&lease);
	}
	rows_close(&rows);
	worker_commit();
}
