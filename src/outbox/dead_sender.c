/*
 * dead_sender.c
 *		Messages whose sender was killed: outbox_release() makes them due again,
 *		or dead after the last attempt (release.c).
 *
 * A message stays "sending" in the table when its sender ends without settling it:
 * the process was killed, the server crashed, or a session that called work() was
 * closed.  The lease names the process by its ID, its start time and the start time
 * of the server, so it is known at once that the holder is gone, and a process ID
 * that was reused doesn't count as the holder.
 *
 * Slack may have got such a message.  Its attempt is logged as "lost", and it is
 * sent again: a message can be repeated, but not lost.
 *
 * The worker does this once a minute and when it starts.
 */
#include "postgres.h"

#include "engine/engine.h"
#include "engine/lease_holder.h"
#include "engine/statement.h"
#include "outbox/internal.h"

static bool
is_mine(const List *mine, int64 id)
{
	ListCell *cell;

	foreach(cell, mine)
		if (((Delivery *) lfirst(cell))->id == id)
			return true;
	return false;
}

/*
 * Is the message still being sent?  This process knows which messages it sends: it
 * may hold a lease without sending the message, after an error.
 */
static bool
is_being_sent(int64 id, LeaseHolder holder, const List *mine)
{
	return holder == LEASE_HOLDER_OTHER ||
		   (holder == LEASE_HOLDER_SELF && is_mine(mine, id));
}

/*
 * Release the leases of holders that are gone, in the caller's transaction; "mine"
 * are all deliveries of this process.  Runs in the engine's scope.
 */
void
outbox_reclaim(const List *mine)
{
	static EngineStatement select = {
		"SELECT id, attempts, lease_pid, lease_backend_start,"
		" COALESCE(lease_server_start = pg_catalog.pg_postmaster_start_time(), false)"
		" FROM stripe_sync.message WHERE state = 'sending'"};
	List *leases = NIL;
	int nest = plan_for_indexes_with_lock_timeout();
	Rows rows;

	rows_open(&rows, &select, NO_ARGS);
	while (rows_next(&rows))
	{
		int64 id = rows_int8(&rows, 0);
		int attempt = rows_int4(&rows, 0);
		int pid = rows_int4(&rows, 0);
		TimestampTz start = rows_time(&rows, 0);
		bool this_server = rows_bool(&rows, false);

		if (!is_being_sent(id, lease_holder(pid, start, this_server), mine))
			leases = lappend(leases, lease_make(id, attempt));
	}
	rows_close(&rows);
	outbox_release(leases, true);
	plan_settings_restore(nest);
}
