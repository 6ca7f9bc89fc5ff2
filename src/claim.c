/*
 * claim.c
 *		Messages that may be sent now are claimed, with their attempt counted.
 *
 * A destination's row in destination_pace is locked first, and skipped where
 * another session holds it: only the holder claims messages of that destination, so
 * pace and the order within a thread hold with any number of senders.  The
 * cost is one index probe for each destination with waiting messages, however
 * many those are.
 */
#include "stripe_sync.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/array.h"
#include "utils/backend_status.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "delivery.h"

#define MAX_AHEAD	  16 /* messages of one destination in one claim */
#define LONGEST_BLOCK (25 * USECS_PER_HOUR) /* Retry-After is a day at most */

/* A destination whose first message is due, and how many may be claimed now. */
typedef struct ReadyDestination
{
	char *name;
	int allowed;
	TimestampTz due_at; /* of its first message */
} ReadyDestination;

/* ---- which destinations ---- */

static TimestampTz
column_time(HeapTuple row, TupleDesc desc, int column)
{
	bool isnull;
	Datum value = SPI_getbinval(row, desc, column, &isnull);

	return isnull ? DT_NOBEGIN : DatumGetTimestampTz(value);
}

/*
 * How many messages the pace allows now; 0: none until *next.  Further ahead
 * than by a burst it was noted by a clock, or for a rate, that was changed.
 */
static int
pace_allows(TimestampTz next_at, TimestampTz now, TimestampTz *next)
{
	double interval;
	double credit;

	if (guc_slack_rate <= 0)
		return MAX_AHEAD;
	interval = USECS_PER_SEC / guc_slack_rate;
	if (next_at <= now ||
		next_at >
			now + (TimestampTz) (guc_slack_burst * interval) + USECS_PER_SEC)
		return guc_slack_burst;
	credit = guc_slack_burst - (next_at - now) / interval;
	*next = next_at - (TimestampTz) ((guc_slack_burst - 1) * interval);
	return credit >= 1 ? (int) credit : 0;
}

/*
 * When the first message of a destination may be claimed, and how many may be
 * now; *paced says that only the pace holds them back.  "row" is one of
 * find_ready()'s.
 */
static TimestampTz
ready_at(HeapTuple row, TupleDesc desc, TimestampTz now, int *allowed,
		 bool *paced)
{
	TimestampTz due = column_time(row, desc, 2);
	TimestampTz blocked = column_time(row, desc, 4);
	TimestampTz next = DT_NOBEGIN;

	*allowed = 0;
	*paced = false;
	if (blocked > now + LONGEST_BLOCK)
		blocked = now; /* the clock was set back since */
	if (due > now || blocked > now)
		return Max(due, blocked);
	*allowed = pace_allows(column_time(row, desc, 3), now, &next);
	*paced = *allowed == 0;
	return *paced ? next : now;
}

/* Add it to the list, or note in the outlook when it will be ready. */
static void
add_if_ready(HeapTuple row, TupleDesc desc, TimestampTz now, List **ready,
			 ClaimOutlook *outlook)
{
	int allowed;
	bool paced;
	TimestampTz at = ready_at(row, desc, now, &allowed, &paced);
	ReadyDestination *destination;

	if (allowed == 0)
	{
		outlook->next = Min(outlook->next, at);
		outlook->paced |= paced;
		return;
	}
	destination = palloc(sizeof(ReadyDestination));
	destination->name = SPI_getvalue(row, desc, 1);
	destination->allowed = Min(Min(allowed, MAX_AHEAD),
							   sender_room_for(destination->name));
	destination->due_at = column_time(row, desc, 2);
	/* without room: until one of its deliveries ends, which starts a new claim */
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
 * Cancel messages of a destination that was dropped while they were being sent
 * or queued, which drop_destination() couldn't see.
 */
static void
cancel_orphans(List *destinations)
{
	static EngineStatement cancel = {
		"UPDATE stripe_sync.message SET state = 'cancelled', blocked_by = NULL,"
		" last_code = 'destination_dropped',"
		" settled_at = pg_catalog.clock_timestamp()"
		" WHERE destination = $1 AND state = 'waiting' AND NOT EXISTS"
		"  (SELECT FROM stripe_sync.destination d WHERE d.name = $1)",
		1,
		{TEXTOID}};
	ListCell *cell;

	foreach(cell, destinations)
	{
		Datum values[] = {CStringGetTextDatum(lfirst(cell))};

		engine_run(&cancel, values, NULL, SPI_OK_UPDATE);
	}
}

/*
 * Destinations that are switched on and have a message that can be sent now,
 * which takes a probe of message_due_idx for each, from one destination to the next.
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
		" SELECT h.destination, h.due_at, p.next_at, p.blocked_until, d.enabled"
		"  FROM head h LEFT JOIN stripe_sync.destination d ON d.name = h.destination"
		"  LEFT JOIN stripe_sync.destination_pace p ON p.destination = d.name"
		"  WHERE d.enabled IS NOT false"};
	TimestampTz now = GetCurrentTimestamp();
	List *ready = NIL;
	List *orphans = NIL;

	engine_run(&select, NULL, NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple row = SPI_tuptable->vals[i];
		TupleDesc desc = SPI_tuptable->tupdesc;

		if (SPI_getvalue(row, desc, 5) == NULL)
			orphans = lappend(orphans, SPI_getvalue(row, desc, 1));
		else
			add_if_ready(row, desc, now, &ready, outlook);
	}
	cancel_orphans(orphans);
	list_sort(ready, compare_due);
	return ready;
}

/* ---- their messages ---- */

/* Names and limits, those due the longest first, "room" in all. */
static int
share_room(List *ready, int room, Datum *names, Datum *limits)
{
	int each = Max(1, room / Max(1, list_length(ready)));
	int n = 0;
	ListCell *cell;

	foreach(cell, ready)
	{
		ReadyDestination *destination = lfirst(cell);
		int limit = Min(Min(destination->allowed, each), room);

		if (limit == 0)
			break;
		names[n] = CStringGetTextDatum(destination->name);
		limits[n++] = Int32GetDatum(limit);
		room -= limit;
	}
	return n;
}

/*
 * Lock their rows of pace, made where missing.  Returns the destinations that
 * no other session has locked, or 0 if there are none.
 */
static Datum
lock_destinations(Datum names)
{
	static EngineStatement make = {
		"INSERT INTO stripe_sync.destination_pace (destination)"
		" SELECT w.d FROM pg_catalog.unnest($1) w (d) WHERE NOT EXISTS"
		"   (SELECT FROM stripe_sync.destination_pace p WHERE p.destination = w.d)"
		" ON CONFLICT DO NOTHING",
		1,
		{TEXTARRAYOID}};
	static EngineStatement lock = {
		"SELECT pg_catalog.array_agg(l.destination) FROM"
		" (SELECT p.destination FROM stripe_sync.destination_pace p"
		"   WHERE p.destination = ANY ($1) FOR UPDATE SKIP LOCKED) l",
		1,
		{TEXTARRAYOID}};
	bool isnull;
	Datum locked;

	engine_run(&make, &names, NULL, SPI_OK_INSERT);
	engine_run(&lock, &names, NULL, SPI_OK_SELECT);
	locked = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1,
						   &isnull);
	return isnull ? (Datum) 0 : locked;
}

/*
 * Claim messages.  Of a thread only the first that isn't settled becomes
 * "sending"; the others are blocked by it.  Columns are read by read_delivery().
 */
static void
claim_messages(Datum locked, Datum names, Datum limits)
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
		"      ORDER BY e.id DESC LIMIT 1),"
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
		" RETURNING u.id, u.attempts, u.destination, u.method, u.payload::text,"
		"  u.thread, u.incident, u.state, u.key IS NOT NULL",
		5,
		{TEXTARRAYOID, TEXTARRAYOID, INT4ARRAYOID, INT4OID, TIMESTAMPTZOID}};
	Datum values[] = {locked, names, limits, Int32GetDatum(MyProcPid),
					  TimestampTzGetDatum(MyStartTimestamp)};

	engine_run(&claim, values, NULL, SPI_OK_UPDATE_RETURNING);
}

/* ---- what was claimed ---- */

/* A row of claim_messages() */
static Delivery *
read_delivery(HeapTuple row, TupleDesc desc)
{
	Delivery *delivery = delivery_make();
	MemoryContext old = MemoryContextSwitchTo(delivery->memory);
	bool isnull;
	Datum incident = SPI_getbinval(row, desc, 7, &isnull);

	delivery->id = DatumGetInt64(SPI_getbinval(row, desc, 1, &(bool){false}));
	delivery->attempt = DatumGetInt32(
		SPI_getbinval(row, desc, 2, &(bool){false}));
	delivery->destination = SPI_getvalue(row, desc, 3);
	delivery->method = SPI_getvalue(row, desc, 4);
	delivery->payload = SPI_getvalue(row, desc, 5);
	delivery->thread = SPI_getvalue(row, desc, 6);
	delivery->incident = isnull ? 0 : DatumGetInt64(incident);
	delivery->threaded = delivery->thread != NULL ||
						 DatumGetBool(
							 SPI_getbinval(row, desc, 9, &(bool){false}));
	MemoryContextSwitchTo(old);
	return delivery;
}

/* Count these messages, one destination each, for the pace of theirs. */
static void
count_for_pace(Datum names)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.destination_pace p"
		" SET next_at = c.n * $2 * interval '1 second'"
		"   + CASE WHEN p.next_at BETWEEN pg_catalog.clock_timestamp()"
		"     AND pg_catalog.clock_timestamp() + ($3 * $2 + 1) * interval '1 second'"
		"     THEN p.next_at ELSE pg_catalog.clock_timestamp() END"
		" FROM (SELECT w.d, pg_catalog.count(*) AS n"
		"   FROM pg_catalog.unnest($1) w (d) GROUP BY w.d) c"
		" WHERE p.destination = c.d",
		3,
		{TEXTARRAYOID, FLOAT8OID, INT4OID}};
	Datum values[] = {names, Float8GetDatum(1.0 / guc_slack_rate),
					  Int32GetDatum(guc_slack_burst)};

	engine_run(&update, values, NULL, SPI_OK_UPDATE);
}

static Datum
text_array(Datum *values, int n)
{
	return PointerGetDatum(
		construct_array(values, n, TEXTOID, -1, false, TYPALIGN_INT));
}

/* Messages that were set aside, behind another of their thread, are left out. */
static List *
read_deliveries(void)
{
	SPITupleTable *table = SPI_tuptable;
	uint64 count = SPI_processed;
	Datum *names = palloc(sizeof(Datum) * Max(count, 1));
	List *deliveries = NIL;
	int n = 0;

	for (uint64 i = 0; i < count; i++)
	{
		char *state = SPI_getvalue(table->vals[i], table->tupdesc, 8);
		Delivery *delivery;

		if (strcmp(state, "sending") != 0)
			continue;
		delivery = read_delivery(table->vals[i], table->tupdesc);
		deliveries = lappend(deliveries, delivery);
		names[n++] = CStringGetTextDatum(delivery->destination);
	}
	if (n > 0 && guc_slack_rate > 0)
		count_for_pace(text_array(names, n));
	return deliveries;
}

/* They outlive the transaction, which the caller commits. */
static List *
keep_deliveries(List *deliveries, MemoryContext context)
{
	MemoryContext old = MemoryContextSwitchTo(context);
	List *kept = list_copy(deliveries);
	ListCell *cell;

	foreach(cell, kept)
		MemoryContextSetParent(((Delivery *) lfirst(cell))->memory,
							   TopMemoryContext);
	MemoryContextSwitchTo(old);
	return kept;
}

static List *
claim_at(List *ready, int room, ClaimOutlook *outlook)
{
	Datum *names = palloc(sizeof(Datum) * list_length(ready));
	Datum *limits = palloc(sizeof(Datum) * list_length(ready));
	int n = share_room(ready, room, names, limits);
	Datum wanted = text_array(names, n);
	Datum locked = lock_destinations(wanted);
	List *deliveries;

	/* other sessions hold every lock: try again in a second */
	outlook->next = Min(outlook->next, GetCurrentTimestamp() + USECS_PER_SEC);
	if (locked == (Datum) 0)
		return NIL;
	claim_messages(locked, wanted,
				   PointerGetDatum(construct_array(limits, n, INT4OID, 4, true,
												   TYPALIGN_INT)));
	if (SPI_processed > 0)
		outlook->next = GetCurrentTimestamp(); /* there may be more */
	deliveries = read_deliveries();
	outbox_prepare(deliveries);
	return deliveries;
}

/*
 * Claim up to "room" messages, in a transaction of the caller's that it
 * commits before it sends any.  Runs in the engine's scope.
 */
List *
outbox_claim(int room, ClaimOutlook *outlook)
{
	MemoryContext context = CurrentMemoryContext;
	List *deliveries = NIL;
	List *ready;

	int nest = plan_for_indexes_with_lock_timeout();

	SPI_connect();
	ready = find_ready(outlook);
	if (ready != NIL && room > 0)
		deliveries = keep_deliveries(claim_at(ready, room, outlook), context);
	SPI_finish();
	plan_settings_restore(nest);
	return deliveries;
}
