/*
 * release.c
 *		Releases messages that are not being sent any more: sending -> waiting, or
 *		dead; and unblocks messages of their threads.
 *
 * A lease names its holder (lease_holder.c) and has no time limit.  Message and
 * attempt identify a lease: each claim counts an attempt, so a message that has
 * been claimed anew is neither released nor settled by its former holder.
 *
 * All functions run in the caller's transaction and in the engine's scope.
 */
#include "postgres.h"

#include "base/base.h"
#include "engine/engine.h"
#include "engine/array_argument.h"
#include "engine/statement.h"
#include "outbox/outbox.h"
#include "server/counters.h"
#include "server/server.h"
#include "outbox/internal.h"

Lease *
lease_make(int64 id, int attempt)
{
	Lease *lease = palloc(sizeof(Lease));

	*lease = (Lease){id, attempt};
	return lease;
}

/* The leases of these deliveries, as a list of Lease */
List *
delivery_leases(const List *deliveries)
{
	List *leases = NIL;
	ListCell *cell;

	foreach(cell, deliveries)
	{
		const Delivery *delivery = lfirst(cell);

		leases = lappend(leases, lease_make(delivery->id, delivery->attempt));
	}
	return leases;
}

/* Run the statement, and count the deliveries that it logs as lost. */
static void
release_and_count(EngineStatement *release, const StatementArg *args, int nargs)
{
	Rows rows;

	rows_open(&rows, release, args, nargs);
	while (rows_next(&rows))
		counter_add(COUNT_MESSAGES, rows_text(&rows), "lost");
	rows_close(&rows);
}

/*
 * Release messages, which are due at once.
 *
 * "sent" says that Slack may have got the message.  Then the attempt counts, is
 * logged as "lost", and may have been the last one.  Otherwise the attempt is not
 * counted, unless the message is a change of an incident's message: with 0 attempts
 * it would violate message_change_idx if another change is waiting by now.
 */
void
outbox_release(const List *leases, bool sent)
{
	static EngineStatement release = {
		"WITH freed AS"
		" (UPDATE stripe_sync.message m SET due_at = pg_catalog.clock_timestamp(),"
		"   attempts = m.attempts - CASE WHEN $3"
		"     OR m.method IN ('update', 'summary') THEN 0 ELSE 1 END,"
		"   state = CASE WHEN $3 AND m.attempts >= $4 THEN 'dead' ELSE 'waiting' END,"
		"   settled_at = CASE WHEN $3 AND m.attempts >= $4"
		"     THEN pg_catalog.clock_timestamp() END,"
		"   last_code = CASE WHEN $3 THEN 'lost' ELSE m.last_code END,"
		"   lease_pid = NULL, lease_backend_start = NULL,"
		"   lease_server_start = NULL, lease_at = NULL"
		"  FROM (SELECT h.id, h.lease_at FROM unnest($1, $2) l (id, attempt)"
		"    JOIN stripe_sync.message h ON h.id = l.id AND h.attempts = l.attempt"
		"    WHERE h.state = 'sending' FOR UPDATE OF h) o"
		"  WHERE m.id = o.id RETURNING m.id, m.attempts, o.lease_at)"
		" INSERT INTO stripe_sync.delivery (message_id, attempt, started_at, code,"
		"  verdict) SELECT f.id, f.attempts, f.lease_at, 'lost', 'lost' FROM freed f"
		"  WHERE $3 RETURNING (SELECT m.destination FROM stripe_sync.message m"
		"   WHERE m.id = message_id)"};
	ArgColumns columns = {0};
	ListCell *cell;

	if (leases == NIL)
		return;
	foreach(cell, leases)
	{
		const Lease *lease = lfirst(cell);

		columns_add(&columns,
					ARGS(arg_int8(lease->id), arg_int4(lease->attempt)));
	}
	release_and_count(&release,
					  ARGS(arg_column(&columns, 0), arg_column(&columns, 1),
						   arg_bool(sent), arg_int4(guc_message_attempts)));
	outbox_unblock(arg_column(&columns, 0));
	worker_wake_from_session();
}

/* ---- blocked messages ---- */

/*
 * Unblock the messages that these, bigint[], have blocked; the next claim blocks
 * them again if another message of the thread comes first.  Rows that are locked
 * are skipped, and left to outbox_unblock_orphans().
 */
void
outbox_unblock(StatementArg ids)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.message SET blocked_by = NULL WHERE id = ANY (ARRAY("
		" SELECT w.id FROM stripe_sync.message w WHERE w.blocked_by = ANY ($1)"
		"  FOR UPDATE SKIP LOCKED))"};

	statement_exec(&update, ARGS(ids));
}

/*
 * Unblock messages whose predecessor is settled.  Called once a minute, for those
 * that outbox_unblock() skipped, and for those that a claim has blocked while
 * another transaction was cancelling the predecessor.
 */
void
outbox_unblock_orphans(void)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.message SET blocked_by = NULL WHERE id = ANY (ARRAY("
		" SELECT m.id FROM stripe_sync.message m"
		"  WHERE m.blocked_by IS NOT NULL AND NOT EXISTS"
		"   (SELECT FROM stripe_sync.message b WHERE b.id = m.blocked_by"
		"     AND b.state IN ('waiting', 'sending'))"
		"  FOR UPDATE SKIP LOCKED))"};
	int nest = plan_for_indexes_with_lock_timeout();

	statement_exec(&update, NO_ARGS);
	plan_settings_restore(nest);
}
