/*
 * claim.c
 *		Messages that may be sent now are claimed, with their attempt counted.
 *
 * A destination's row in destination_pace is locked first, and skipped where
 * somebody else holds it: who has it alone claims of that destination, so
 * pace and the order within a thread hold with any number of senders.  The
 * cost is that of one index probe for each destination with something
 * waiting, however much waits there.
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

#include <openssl/crypto.h>

#include "flight.h"

#define MAX_AHEAD	  16 /* messages of one destination in one claim */
#define LONGEST_BLOCK (25 * USECS_PER_HOUR) /* Retry-After is a day at most */

/* A destination with something waiting, and how many it may have now. */
typedef struct Gate
{
	char *destination;
	int allowed;
	TimestampTz due_at; /* of its first message */
} Gate;

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

static void
look_at_head(HeapTuple row, TupleDesc desc, TimestampTz now, List **gates,
			 ClaimOutlook *outlook)
{
	TimestampTz due = column_time(row, desc, 2);
	TimestampTz blocked = column_time(row, desc, 4);
	TimestampTz next = DT_NOBEGIN;
	Gate *gate;
	int allowed;

	if (blocked > now + LONGEST_BLOCK)
		blocked = now; /* the clock was set back since */
	if (due > now || blocked > now)
	{
		outlook->next = Min(outlook->next, Max(due, blocked));
		return;
	}
	allowed = pace_allows(column_time(row, desc, 3), now, &next);
	if (allowed == 0)
	{
		outlook->next = Min(outlook->next, next);
		outlook->paced = true;
		return;
	}
	gate = palloc(sizeof(Gate));
	gate->destination = SPI_getvalue(row, desc, 1);
	gate->allowed = Min(Min(allowed, MAX_AHEAD),
						sender_room_for(gate->destination));
	if (gate->allowed == 0)
		return; /* until one of its has landed, which makes us look again */
	gate->due_at = due;
	*gates = lappend(*gates, gate);
}

static int
compare_due(const ListCell *a, const ListCell *b)
{
	TimestampTz left = ((Gate *) lfirst(a))->due_at;
	TimestampTz right = ((Gate *) lfirst(b))->due_at;

	return left < right ? -1 : left > right;
}

/*
 * A destination was dropped while a message of its was being sent or queued,
 * which drop_destination() couldn't see.
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
 * The first message that waits of each destination that is switched on: a
 * probe of message_due_idx for each, from one destination to the next.
 */
static List *
find_gates(ClaimOutlook *outlook)
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
	List *gates = NIL;
	List *orphans = NIL;

	engine_run(&select, NULL, NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple row = SPI_tuptable->vals[i];
		TupleDesc desc = SPI_tuptable->tupdesc;

		if (SPI_getvalue(row, desc, 5) == NULL)
			orphans = lappend(orphans, SPI_getvalue(row, desc, 1));
		else
			look_at_head(row, desc, now, &gates, outlook);
	}
	cancel_orphans(orphans);
	list_sort(gates, compare_due);
	return gates;
}

/* ---- their messages ---- */

/* Destinations and limits, those due the longest first, "room" in all. */
static int
share_room(List *gates, int room, Datum *names, Datum *limits)
{
	int each = Max(1, room / Max(1, list_length(gates)));
	int n = 0;
	ListCell *cell;

	foreach(cell, gates)
	{
		Gate *gate = lfirst(cell);
		int limit = Min(Min(gate->allowed, each), room);

		if (limit == 0)
			break;
		names[n] = CStringGetTextDatum(gate->destination);
		limits[n++] = Int32GetDatum(limit);
		room -= limit;
	}
	return n;
}

/* The destinations whose lock is had; rows of pace are made where missing. */
static Datum
lock_gates(Datum names)
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
 * Claim: of a thread only the first that isn't settled, the others are set
 * aside until it is.  Columns are read by read_flight().
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

/* ---- what a flight needs besides ---- */

/* Where in Slack the thread is: its first message that has a name there. */
static void
find_thread(Flight *flight, const char *thread)
{
	static EngineStatement select = {
		"SELECT t.slack_ts, t.slack_channel FROM"
		" ((SELECT id, slack_ts, slack_channel FROM stripe_sync.message"
		"   WHERE key = $2 AND destination = $1 AND slack_ts IS NOT NULL"
		"     AND id <> $3)"
		"  UNION ALL"
		"  (SELECT id, slack_ts, slack_channel FROM stripe_sync.message"
		"    WHERE destination = $1 AND thread = $2 AND method = 'post'"
		"      AND slack_ts IS NOT NULL AND id <> $3 ORDER BY id LIMIT 1)) t"
		" ORDER BY t.id LIMIT 1",
		3,
		{TEXTOID, TEXTOID, INT8OID}};
	Datum values[] = {CStringGetTextDatum(flight->destination),
					  CStringGetTextDatum(thread), Int64GetDatum(flight->id)};

	engine_run(&select, values, NULL, SPI_OK_SELECT);
	if (SPI_processed == 0)
		return;
	flight->thread_ts = MemoryContextStrdup(
		flight->memory,
		SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1));
	if (strcmp(flight->method, "update") == 0)
	{
		char *channel = SPI_getvalue(SPI_tuptable->vals[0],
									 SPI_tuptable->tupdesc, 2);

		flight->update_ts = flight->thread_ts;
		flight->thread_ts = NULL;
		if (channel != NULL)
			flight->channel = MemoryContextStrdup(flight->memory, channel);
	}
}

/* An incident's own message says how it stands when it is sent, not before. */
static void
render_payload(Flight *flight, int64 incident)
{
	static EngineStatement keep = {
		"UPDATE stripe_sync.message SET payload = $2 WHERE id = $1",
		2,
		{INT8OID, JSONBOID}};
	Jsonb *payload = outbox_hooks->render(incident, flight->id, flight->method);
	Datum values[] = {Int64GetDatum(flight->id), (Datum) 0};

	if (payload == NULL)
		return;
	values[1] = JsonbPGetDatum(payload);
	engine_run(&keep, values, NULL, SPI_OK_UPDATE);
	flight->payload = MemoryContextStrdup(
		flight->memory, JsonbToCString(NULL, &payload->root, VARSIZE(payload)));
}

typedef struct Claimed
{
	Flight *flight;
	char *thread;
	int64 incident;
} Claimed;

static Claimed *
read_claimed(HeapTuple row, TupleDesc desc)
{
	Claimed *claimed = palloc0(sizeof(Claimed));
	Flight *flight = flight_make();
	MemoryContext old = MemoryContextSwitchTo(flight->memory);
	bool isnull;
	Datum incident = SPI_getbinval(row, desc, 7, &isnull);

	flight->id = DatumGetInt64(SPI_getbinval(row, desc, 1, &(bool){false}));
	flight->attempt = DatumGetInt32(SPI_getbinval(row, desc, 2, &(bool){false}));
	flight->destination = SPI_getvalue(row, desc, 3);
	flight->method = SPI_getvalue(row, desc, 4);
	flight->payload = SPI_getvalue(row, desc, 5);
	MemoryContextSwitchTo(old);
	claimed->flight = flight;
	claimed->thread = SPI_getvalue(row, desc, 6);
	claimed->incident = isnull ? 0 : DatumGetInt64(incident);
	flight->threaded = claimed->thread != NULL ||
					   DatumGetBool(SPI_getbinval(row, desc, 9, &(bool){false}));
	return claimed;
}

static void
render_body(void *arg)
{
	Claimed *claimed = arg;

	render_payload(claimed->flight, claimed->incident);
}

/* One that can't be rendered must not hold up all that are claimed with it. */
static void
render_guarded(Claimed *claimed)
{
	ErrorData *error;

	if (!subtransaction_run(render_body, claimed, subtransaction_excuse_all,
							&error))
		ereport(WARNING,
				(errmsg("message " INT64_FORMAT " is sent as it was queued: %s",
						claimed->flight->id, error->message)));
}

static void
complete_flight(Claimed *claimed, const Destination *destination,
				const char *secret, const char *trouble)
{
	Flight *flight = claimed->flight;

	if (secret[0] != '\0')
		flight->secret = MemoryContextStrdup(flight->memory, secret);
	else
		flight->trouble = MemoryContextStrdup(flight->memory, trouble);
	flight->is_webhook = destination->is_webhook;
	if (destination->channel != NULL)
		flight->channel = MemoryContextStrdup(flight->memory,
											  destination->channel);
	if (claimed->thread != NULL && !flight->is_webhook)
		find_thread(flight, claimed->thread);
	if (claimed->incident != 0)
		render_guarded(claimed);
}

/* What each destination's messages were, counted against its pace. */
static void
note_pace(Datum names)
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

/* Rows of the claim to flights; those that were set aside are left out. */
static List *
take_claimed(void)
{
	SPITupleTable *table = SPI_tuptable;
	uint64 count = SPI_processed;
	Datum *names = palloc(sizeof(Datum) * Max(count, 1));
	List *claimed = NIL;
	int n = 0;

	for (uint64 i = 0; i < count; i++)
	{
		char *state = SPI_getvalue(table->vals[i], table->tupdesc, 8);

		if (strcmp(state, "sending") != 0)
			continue;
		claimed = lappend(claimed, read_claimed(table->vals[i], table->tupdesc));
		names[n++] = CStringGetTextDatum(
			((Claimed *) llast(claimed))->flight->destination);
	}
	if (n > 0 && guc_slack_rate > 0)
		note_pace(text_array(names, n));
	return claimed;
}

static int
compare_destinations(const ListCell *a, const ListCell *b)
{
	const Flight *left = ((Claimed *) lfirst(a))->flight;
	const Flight *right = ((Claimed *) lfirst(b))->flight;
	int order = strcmp(left->destination, right->destination);

	if (order != 0)
		return order;
	return left->id < right->id ? -1 : left->id > right->id;
}

/* Destinations are looked up, and their secrets read, once for all of theirs. */
static List *
complete_flights(List *claimed)
{
	Destination destination = {0};
	char secret[FLIGHT_SECRET_SIZE] = "";
	char *trouble = NULL;
	List *flights = NIL;
	ListCell *cell;

	list_sort(claimed, compare_destinations);
	foreach(cell, claimed)
	{
		Claimed *one = lfirst(cell);
		const char *name = one->flight->destination;

		if (destination.name == NULL || strcmp(destination.name, name) != 0)
		{
			if (!destination_find(name, &destination))
				elog(ERROR, "destination \"%s\" is gone", name);
			if (!destination_secret(name, secret, sizeof(secret), &trouble))
				secret[0] = '\0';
		}
		complete_flight(one, &destination, secret, trouble);
		flights = lappend(flights, one->flight);
	}
	OPENSSL_cleanse(secret, sizeof(secret));
	return flights;
}

/* The caller commits: only then they are its own, whatever becomes of it. */
static List *
keep_flights(List *flights, MemoryContext context)
{
	MemoryContext old = MemoryContextSwitchTo(context);
	List *kept = list_copy(flights);
	ListCell *cell;

	foreach(cell, kept)
		MemoryContextSetParent(((Flight *) lfirst(cell))->memory,
							   TopMemoryContext);
	MemoryContextSwitchTo(old);
	return kept;
}

static List *
claim_at(List *gates, int room, ClaimOutlook *outlook)
{
	Datum *names = palloc(sizeof(Datum) * list_length(gates));
	Datum *limits = palloc(sizeof(Datum) * list_length(gates));
	int n = share_room(gates, room, names, limits);
	Datum wanted = text_array(names, n);
	Datum locked = lock_gates(wanted);

	/* somebody else is at all of them: look again in a while */
	outlook->next = Min(outlook->next, GetCurrentTimestamp() + USECS_PER_SEC);
	if (locked == (Datum) 0)
		return NIL;
	claim_messages(locked, wanted,
				   PointerGetDatum(construct_array(limits, n, INT4OID, 4, true,
												   TYPALIGN_INT)));
	if (SPI_processed > 0)
		outlook->next = GetCurrentTimestamp(); /* there may be more */
	return complete_flights(take_claimed());
}

/*
 * Claim up to "room" messages, in a transaction of the caller's that it
 * commits before it sends any.  Runs in the engine's scope.
 */
List *
outbox_claim(int room, ClaimOutlook *outlook)
{
	MemoryContext context = CurrentMemoryContext;
	List *flights = NIL;
	List *gates;

	int nest = plan_for_indexes_with_lock_timeout();

	SPI_connect();
	gates = find_gates(outlook);
	if (gates != NIL && room > 0)
		flights = keep_flights(claim_at(gates, room, outlook), context);
	SPI_finish();
	plan_settings_restore(nest);
	return flights;
}
