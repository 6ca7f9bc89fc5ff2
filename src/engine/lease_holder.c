/*
 * lease_holder.c
 *		Leases of rows by processes.
 *
 * A lease names its holder by process id, start of the process and start of
 * the server: a process id is used again.  It has no time limit.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/backend_status.h"

#include "base/compat.h"
#include "engine/lease_holder.h"

/* "this_server": since the lease was taken, the server has not restarted. */
LeaseHolder
lease_holder(int pid, TimestampTz backend_start, bool this_server)
{
	if (!this_server)
		return LEASE_HOLDER_GONE;
	if (pid == MyProcPid && backend_start == MyStartTimestamp)
		return LEASE_HOLDER_SELF;
	return compat_backend_lives(pid, backend_start) ? LEASE_HOLDER_OTHER
													: LEASE_HOLDER_GONE;
}
