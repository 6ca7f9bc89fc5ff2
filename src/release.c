/*
 * release.c
 *		Releases the leases of messages that their holder doesn't send any more.
 *
 * A lease names its holder (lease_holder.c) and has no time limit.  Message and
 * attempt identify a lease: each claim counts an attempt, so a message that has
 * been claimed anew is neither released nor settled by its former holder.
 */
#include "stripe_sync.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "delivery.h"
#include "lease_holder.h"

static Lease *
lease_make(int64 id, int attempt)
{
	Lease *lease = palloc(sizeof(Lease));

	*lease = (Lease){id, attempt};
	return lease;
}

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

/*
 * Messages that were claimed and not sent are due at once; "sent" says that
 * an attempt may have been made.  A change of an incident's message keeps its
 * attempt all the same: another may wait by now (message_change_idx).
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
		"  WHERE $3",
		4,
		{INT8ARRAYOID, INT4ARRAYOID, BOOLOID, INT4OID}};
	int n = list_length(leases);
	Datum *ids = palloc(sizeof(Datum) * n);
	Datum *attempts = palloc(sizeof(Datum) * n);
	Datum values[] = {0, 0, BoolGetDatum(sent),
					  Int32GetDatum(guc_message_attempts)};
	ListCell *cell;

	if (n == 0)
		return;
	foreach(cell, leases)
	{
		const Lease *lease = lfirst(cell);

		ids[foreach_current_index(cell)] = Int64GetDatum(lease->id);
		attempts[foreach_current_index(cell)] = Int32GetDatum(lease->attempt);
	}
	values[0] = PointerGetDatum(
		construct_array(ids, n, INT8OID, 8, true, TYPALIGN_DOUBLE));
	values[1] = PointerGetDatum(
		construct_array(attempts, n, INT4OID, 4, true, TYPALIGN_INT));
	SPI_connect();
	engine_run(&release, values, NULL, SPI_OK_INSERT);
	outbox_unblock(values[0]);
	SPI_finish();
	worker_wake_from_session();
}

/* ---- leases of dead holders ---- */

static bool
is_mine(const List *mine, int64 id)
{
	ListCell *cell;

	foreach(cell, mine)
		if (((Delivery *) lfirst(cell))->id == id)
			return true;
	return false;
}

/* Does the holder of this lease live, and still send the message? */
static bool
is_held(HeapTuple row, TupleDesc desc, int64 id, const List *mine)
{
	bool isnull;
	int pid = DatumGetInt32(SPI_getbinval(row, desc, 3, &isnull));
	TimestampTz start = DatumGetTimestampTz(SPI_getbinval(row, desc, 4, &isnull));
	bool this_server = DatumGetBool(SPI_getbinval(row, desc, 5, &isnull));
	LeaseHolder holder = lease_holder(pid, start, this_server);

	return holder == LEASE_HOLDER_OTHER ||
		   (holder == LEASE_HOLDER_SELF && is_mine(mine, id));
}

/*
 * Release the leases of holders that are gone; "mine" are the deliveries of this
 * process.
 */
void
outbox_reclaim(const List *mine)
{
	static EngineStatement select = {
		"SELECT id, attempts, lease_pid, lease_backend_start,"
		" COALESCE(lease_server_start = pg_catalog.pg_postmaster_start_time(), false)"
		" FROM stripe_sync.message WHERE state = 'sending'"};
	List *lapsed = NIL;
	int nest = plan_for_indexes_with_lock_timeout();

	SPI_connect();
	engine_run(&select, NULL, NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple row = SPI_tuptable->vals[i];
		TupleDesc desc = SPI_tuptable->tupdesc;
		bool isnull;
		int64 id = DatumGetInt64(SPI_getbinval(row, desc, 1, &isnull));
		int attempt = DatumGetInt32(SPI_getbinval(row, desc, 2, &isnull));

		if (!is_held(row, desc, id, mine))
			lapsed = lappend(lapsed, lease_make(id, attempt));
	}
	outbox_release(lapsed, true);
	SPI_finish();
	plan_settings_restore(nest);
}

/* ---- blocked messages that nothing unblocks ---- */

/* A message may have been cancelled while another was blocked by it. */
void
outbox_unblock_orphans(void)
{
	static EngineStatement unblock = {
		"UPDATE stripe_sync.message SET blocked_by = NULL WHERE id = ANY (ARRAY("
		" SELECT m.id FROM stripe_sync.message m"
		"  WHERE m.blocked_by IS NOT NULL AND NOT EXISTS"
		"   (SELECT FROM stripe_sync.message b WHERE b.id = m.blocked_by"
		"     AND b.state IN ('waiting', 'sending'))"
		"  FOR UPDATE SKIP LOCKED))"};
	int nest = plan_for_indexes_with_lock_timeout();

	SPI_connect();
	engine_run(&unblock, NULL, NULL, SPI_OK_UPDATE);
	SPI_finish();
	plan_settings_restore(nest);
}
