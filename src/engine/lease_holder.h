/*
 * lease_holder.h
 *		Leases of rows by processes.
 */
#ifndef STRIPE_SYNC_LEASE_HOLDER_H
#define STRIPE_SYNC_LEASE_HOLDER_H

#include "datatype/timestamp.h"

#include "base/base.h"

typedef enum LeaseHolder
{
	LEASE_HOLDER_GONE,
	LEASE_HOLDER_SELF, /* it must check itself whether it still uses the lease */
	LEASE_HOLDER_OTHER
} LeaseHolder;

extern LeaseHolder lease_holder(int pid, TimestampTz backend_start,
								bool this_server);

#endif /* STRIPE_SYNC_LEASE_HOLDER_H */
