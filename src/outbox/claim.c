/*
 * claim.c
 *		Claims messages that may be sent now: waiting -> sending, with a lease of
 *		this process, and their attempt counted.
 *
 * The attempt is counted, and committed, before the message is sent: a crash can
 * repeat a message, but never lose one, nor try it more often than allowed.
 *
 * Locks: first the row of destination_pace, which is skipped if another session
 * holds it (only the holder claims messages of that destination), then the
 * messages, which are skipped as well.  So a claim waits for no other session.
 *
 * The cost is an index probe for each destination with waiting messages, however
 * many those are.  Statements are planned for the indexes, and lock_timeout is
 * short: see plan_for_indexes_with_lock_timeout().
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"

#include "engine/engine.h"
#include "engine/array_argument.h"
#include "engine/statement.h"
#include "outbox/outbox.h"
#include "outbox/internal.h"

#define MAX_AHEAD 16 /* messages of one destination in one claim */

/* A destination whose first message is due, and how many may be claimed now */
typedef struct ReadyDestination
{
	char *name;
	int allowed;
	TimestampTz due_at; /* of its first message */
} ReadyDestination;

/* ---- which destinations ---- */

/* Add it to the list, or note in *outlook when it will be ready. */
static void
add_if_ready(char *name, TimestampTz due, TimestampTz next_at,
			 TimestampTz blocked_until, List **ready, ClaimOutlook *outlook)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz blocked = pace_blocked(blocked_until, now);
	TimestampTz next = Max(due, blocked);
	int allowed = 0;
	ReadyDestination *destination;

	if (next <= now)
	{
		allowed = pace_allows(next_at, now, MAX_AHEAD, &next);
		outlook->paced |= allowed == 0;
	}
	if (allowed == 0)
	{
		outlook->next = Min(outlook->next, next);
		return;
	}
	destination = palloc(sizeof(ReadyDestination));
	*destination = (ReadyDestination){
		.name = name,
		.allowed = Min(allowed, sender_room_for(name)),
		.due_at = due};
	/* without room: the end of one of its deliveries starts a new claim */
	if (destination->allowed > 0)
		*ready = lappend(*ready, destination);
}

static int
compare_due(const ListCell *a, const ListCell *b)
{
	TimestampTz left = ((ReadyDestination *) lfirst(a))->due_at;
	TimestampTz right = ((ReadyDestination *) lfirst(b))->due_at;

	return left < right ? -1 : left > right;
}

/*
 * Cancel messages of destinations that were dropped while the messages were being
 * sent or queued, which drop_destination() couldn't see.
 */
static void
cancel_without_destination(const List *destinations)
{
	static EngineStatement cancel = {
		"UPDATE stripe_sync.message SET state = 'cancelled', blocked_by = NULL,"
		" last_code = 'destination_dropped',"
		" settled_at = pg_catalog.clock_timestamp()"
		" WHERE destination = $1 AND state = 'waiting' AND NOT EXISTS"
		"  (SELECT FROM stripe_sync.destination d WHERE d.name = $1)"};
	ListCell *cell;

	foreach(cell, destinations)
		statement_exec(&cancel, ARGS(arg_text(lfirst(cell))));
}

/*
 * Destinations that are enabled and have a message that can be sent now, those
 * whose message is due the longest first.  The recursion goes from the first
 * message of one destination to that of the next, each by a probe of
 * message_due_idx.  Messages of a disabled destination are never read.
 */
static List *
find_ready(ClaimOutlook *outlook)
{
	static EngineStatement select = {
		"WITH RECURSIVE head AS ("
		" (SELECT destination, due_at FROM stripe_sync.message"
		"   WHERE state = 'waiting' AND blocked_by IS NULL"
		"   ORDER BY destination, due_at LIMIT 1)"
		" UNION ALL"
		" SELECT m.destination, m.due_at FROM head h CROSS JOIN LATERAL"
		"  (SELECT destination, due_at FROM stripe_sync.message"
		"    WHERE state = 'waiting' AND blocked_by IS NULL"
		"      AND destination > h.destination"
		"    ORDER BY destination, due_at LIMIT 1) m)"
		" SELECT h.destination, d.name IS NOT NULL, h.due_at, p.next_at, p.blocked_until"
		"  FROM head h LEFT JOIN stripe_sync.destination d ON d.name = h.destination"
		"  LEFT JOIN stripe_sync.destination_pace p ON p.destination = d.name"
		"  WHERE d.enabled IS NOT false"};
	List *ready = NIL;
	List *dropped = NIL;
	Rows rows;

	rows_open(&rows, &select, NO_ARGS);
	while (rows_next(&rows))
	{
		char *name = rows_text(&rows);
		bool exists = rows_bool(&rows, false);
		TimestampTz due = rows_time(&rows, DT_NOBEGIN);
		TimestampTz next_at = rows_time(&rows, DT_NOBEGIN);
		TimestampTz blocked_until = rows_time(&rows, DT_NOBEGIN);

		if (exists)
			add_if_ready(name, due, next_at, blocked_until, &ready, outlook);
		else
			dropped = lappend(dropped, name);
	}
	rows_close(&rows);
	cancel_without_destination(dropped);
	list_sort(ready, compare_due);
	return ready;
}

/* ---- their messages ---- */

/*
 * How many messages to claim of each: "room" in all, in equal shares.  Columns are
 * names and limits; without rows if there is no room.
 */
static ArgColumns
share_room(const List *ready, int room)
{
	int each = Max(1, room / Max(1, list_length(ready)));
	ArgColumns shares = {0};
	ListCell *cell;

	foreach(cell, ready)
	{
		const ReadyDestination *destination = lfirst(cell);
		int limit = Min(Min(destination->allowed, each), room);

		if (limit == 0)
			break;
		columns_add(&shares, ARGS(arg_text(destination->name), arg_int4(limit)));
		room -= limit;
	}
	return shares;
}

/*
 * A message as it was claimed: a row of claim_messages(), all but its first column.
 * Its memory is a child of the current context until keep_deliveries().
 */
static Delivery *
read_delivery(Rows *row)
{
	Delivery *delivery = delivery_make();
	MemoryContext old = MemoryContextSwitchTo(delivery->memory);
	bool has_key;

	delivery->id = rows_int8(row, 0);
	delivery->attempt = rows_int4(row, 0);
	delivery->destination = rows_text(row);
	delivery->method = rows_text(row);
	delivery->payload = rows_text(row);
	delivery->thread = rows_text(row);
	delivery->incident = rows_int8(row, 0);
	has_key = rows_bool(row, false);
	delivery->threaded = delivery->thread != NULL || has_key;
	MemoryContextSwitchTo(old);
	return delivery;
}

/*
 * Claim messages of "locked" destinations, as "shares" allow.  Of a thread only the
 * first that isn't settled becomes "sending"; others get blocked_by, which the
 * settlement of the first clears, and are not returned.  Those that quiet hours
 * hold don't count: what isn't held doesn't wait for them.  *changed says whether
 * there was any message.
 */
static List *
claim_messages(const ArrayType *locked, const ArgColumns *shares, bool *changed)
{
	static EngineStatement claim = {
		"WITH picked AS MATERIALIZED"
		" (SELECT t.id, t.destination, t.thread"
		"   FROM unnest($2, $3) w (destination, n) CROSS JOIN LATERAL"
		"    (SELECT m.id, m.destination, m.thread FROM stripe_sync.message m"
		"      WHERE w.destination = ANY ($1) AND m.destination = w.destination"
		"        AND m.state = 'waiting' AND m.blocked_by IS NULL"
		"        AND m.due_at <= pg_catalog.clock_timestamp()"
		"      ORDER BY m.due_at, m.id LIMIT w.n FOR UPDATE SKIP LOCKED) t),"
		" judged AS MATERIALIZED"
		" (SELECT p.id, CASE WHEN p.thread IS NOT NULL THEN GREATEST("
		"    (SELECT e.id FROM stripe_sync.message e"
		"      WHERE e.destination = p.destination AND e.thread = p.thread"
		"        AND e.id < p.id AND e.state IN ('waiting', 'sending')"
		"        AND e.due_at < 'infinity' ORDER BY e.id DESC LIMIT 1),"
		"    (SELECT e.id FROM stripe_sync.message e"
		"      WHERE e.key = p.thread AND e.destination = p.destination"
		"        AND e.id < p.id AND e.state IN ('waiting', 'sending')))"
		"   END AS prior FROM picked p)"
		" UPDATE stripe_sync.message u SET blocked_by = j.prior,"
		" state = CASE WHEN j.prior IS NULL THEN 'sending' ELSE 'waiting' END,"
		" attempts = u.attempts + CASE WHEN j.prior IS NULL THEN 1 ELSE 0 END,"
		" lease_pid = $4, lease_backend_start = $5,"
		" lease_server_start = pg_catalog.pg_postmaster_start_time(),"
		" lease_at = pg_catalog.clock_timestamp()"
		" FROM judged j WHERE u.id = j.id"
		" RETURNING j.prior IS NULL, u.id, u.attempts, u.destination, u.method,"
		"  u.payload::text, u.thread, u.incident, u.key IS NOT NULL"};
	List *deliveries = NIL;
	Rows rows;

	rows_open(&rows, &claim,
			  ARGS(arg_varlena(TEXTARRAYOID, locked), arg_column(shares, 0),
				   arg_column(shares, 1), arg_int4(MyProcPid),
				   arg_time(MyStartTimestamp)));
	*changed = rows.count > 0;
	while (rows_next(&rows))
		if (rows_bool(&rows, false))
			deliveries = lappend(deliveries, read_delivery(&rows));
	rows_close(&rows);
	return deliveries;
}

static void
count_for_pace(const List *deliveries)
{
	ArgColumns names = {0};
	ListCell *cell;

	foreach(cell, deliveries)
		columns_add(&names,
					ARGS(arg_text(((Delivery *) lfirst(cell))->destination)));
	if (names.nrows > 0)
		pace_count(arg_column(&names, 0));
}

/* Let them outlive the transaction, which the caller commits. */
static void
keep_deliveries(const List *deliveries)
{
	ListCell *cell;

	foreach(cell, deliveries)
		MemoryContextSetParent(((Delivery *) lfirst(cell))->memory,
							   TopMemoryContext);
}

static List *
claim_of_destinations(const List *ready, int room, ClaimOutlook *outlook)
{
	ArgColumns shares = share_room(ready, room);
	ArrayType *locked = pace_lock_available(arg_column(&shares, 0));
	List *deliveries;
	bool changed;

	/* other sessions hold every lock: try again in a second */
	outlook->next = Min(outlook->next, GetCurrentTimestamp() + USECS_PER_SEC);
	if (locked == NULL)
		return NIL;
	deliveries = claim_messages(locked, &shares, &changed);
	if (changed)
		outlook->next = GetCurrentTimestamp(); /* there may be more */
	count_for_pace(deliveries);
	outbox_prepare(deliveries);
	keep_deliveries(deliveries);
	return deliveries;
}

/*
 * Claim up to "room" messages, in a transaction that the caller commits before it
 * sends any of them.  Returns a list of Delivery.  Sets *outlook, which the caller
 * has initialized with DT_NOEND.  Runs in the engine's scope.
 *
 * If the transaction is rolled back, the messages wait as before, and the caller
 * frees the deliveries.
 */
List *
outbox_claim(int room, ClaimOutlook *outlook)
{
	List *deliveries = NIL;
	int nest = plan_for_indexes_with_lock_timeout();
	List *ready = find_ready(outlook);

	if (ready != NIL && room > 0)
		deliveries = claim_of_destinations(ready, room, outlook);
	plan_settings_restore(nest);
	return deliveries;
}
