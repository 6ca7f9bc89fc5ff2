/*
 * refused_count.c
 *		Counts refused deliveries, in memory of a fixed size.
 *
 * Anybody can send millions of forged requests, so a refusal writes no row.  It is
 * counted in the trace of its endpoint, and refused_write.c takes the counts from
 * there and writes them to a table.  All endpoints that don't exist share one
 * trace, so a client can't add any.
 *
 * If the library is preloaded, the traces are in shared memory, for all
 * databases.  A trace without new counts, or one whose counts have not been
 * written for an hour, is replaced when another one is needed; if there is no
 * such trace, the refusal isn't counted.  If the library isn't preloaded, each
 * session has traces of its own.
 *
 * The table is read and written under its lightweight lock, under which nothing
 * raises an error, allocates or waits.  Counts of the last minute are lost when
 * the server crashes; a rolled back transaction's are kept.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "engine/engine.h"
#include "engine/statement.h"
#include "server/server.h"

#define NAME		   "stripe_sync refusals"
#define SHARED_TRACES  256
#define SESSION_TRACES 16

#define LOG_EVERY	 USECS_PER_HOUR
#define ABANDONED	 USECS_PER_HOUR		  /* counts not written for so long */
#define TRY_EVERY	 USECS_PER_SEC		  /* other endpoints' secrets */
#define ACCEPT_EVERY USECS_PER_SEC		  /* how often accepted_at is updated */
#define DETAIL_GOOD	 (60 * USECS_PER_SEC) /* no vague detail replaces it */

typedef struct TraceTable
{
	LWLock *lock; /* NULL: the session's own */
	int size;
	uint32 hashes[SHARED_TRACES]; /* of the traces' names; 0: free */
	RefusalTrace traces[FLEXIBLE_ARRAY_MEMBER];
} TraceTable;

static const char *const codes[] = {
	[REFUSAL_UNREADABLE] = "SY001", [REFUSAL_MISFIT] = "SY002",
	[REFUSAL_TOO_OLD] = "SY003",	[REFUSAL_NO_EVENT] = "SY004",
	[REFUSAL_NO_NAME] = "SY005",	[REFUSAL_MODE] = "SY006",
	[REFUSAL_NO_SECRET] = "SY007",	[REFUSAL_STATE] = "55000"};

static TraceTable *shared = NULL;
static TraceTable *own = NULL;
static shmem_request_hook_type previous_request = NULL;
static shmem_startup_hook_type previous_startup = NULL;

const char *
refusal_code(int kind)
{
	return codes[kind];
}

bool
refusals_shared(void)
{
	return shared != NULL;
}

/* ---- the table ---- */

static Size
table_size(int traces)
{
	return offsetof(TraceTable, traces) + traces * sizeof(RefusalTrace);
}

static TraceTable *
trace_table(void)
{
	if (shared != NULL)
		return shared;
	if (own == NULL)
	{
		own = MemoryContextAllocZero(TopMemoryContext,
									 table_size(SESSION_TRACES));
		own->size = SESSION_TRACES;
	}
	return own;
}

static void
table_lock(TraceTable *table, LWLockMode mode)
{
	if (table->lock != NULL)
		LWLockAcquire(table->lock, mode);
}

static void
table_unlock(TraceTable *table)
{
	if (table->lock != NULL)
		LWLockRelease(table->lock);
}

static uint32
trace_hash(const char *endpoint)
{
	uint32 hash = hash_combine(
		hash_bytes((const unsigned char *) endpoint, strlen(endpoint)),
		hash_bytes_uint32(MyDatabaseId));

	return hash == 0 ? 1 : hash;
}

/* Traces are replaced but never freed, so the first free one ends the search. */
static RefusalTrace *
trace_find(TraceTable *table, const char *endpoint)
{
	uint32 hash = trace_hash(endpoint);

	for (int i = 0; i < table->size && table->hashes[i] != 0; i++)
		if (table->hashes[i] == hash &&
			table->traces[i].database == MyDatabaseId &&
			strcmp(table->traces[i].endpoint, endpoint) == 0)
			return &table->traces[i];
	return NULL;
}

/* The counts of a database that was dropped, or has no worker, are not written. */
static bool
trace_is_abandoned(const RefusalTrace *trace, TimestampTz now)
{
	return now - trace->used_at > ABANDONED;
}

/*
 * The index of a trace that can be used for another endpoint: a free one, or the
 * least recently used of those that hold no new counts or are abandoned.  -1 if
 * there is none.
 */
static int
trace_find_room(const TraceTable *table, TimestampTz now)
{
	int room = -1;

	for (int i = 0; i < table->size; i++)
	{
		const RefusalTrace *trace = &table->traces[i];

		if (table->hashes[i] == 0)
			return i;
		if ((!trace->changed || trace_is_abandoned(trace, now)) &&
			(room < 0 || trace->used_at < table->traces[room].used_at))
			room = i;
	}
	return room;
}

/* NULL if there is no room, or the name is too long for an endpoint's. */
static RefusalTrace *
trace_find_or_make(TraceTable *table, const char *endpoint, TimestampTz now)
{
	RefusalTrace *trace = trace_find(table, endpoint);
	int room;

	if (trace != NULL || strlen(endpoint) >= NAMEDATALEN ||
		(room = trace_find_room(table, now)) < 0)
		return trace;
	trace = &table->traces[room];
	memset(trace, 0, sizeof(*trace));
	trace->database = MyDatabaseId;
	strlcpy(trace->endpoint, endpoint, sizeof(trace->endpoint));
	table->hashes[room] = trace_hash(endpoint);
	return trace;
}

/* ---- counting ---- */

static void
note_likely(RefusalTrace *trace, TimestampTz at)
{
	memmove(&trace->likely[1], &trace->likely[0],
			(REFUSAL_LIKELY - 1) * sizeof(TimestampTz));
	trace->likely[0] = at;
}

static void
note_detail(RefusalCount *count, const RefusalNote *note, TimestampTz now)
{
	if (note->vague && count->detail_at != 0 && count->detail_at <= now &&
		now - count->detail_at < DETAIL_GOOD)
		return;
	strlcpy(count->detail, note->detail, sizeof(count->detail));
	count->detail_at = note->vague ? 0 : now;
}

static void
add_refusal(RefusalTrace *trace, const RefusalNote *note, TimestampTz now)
{
	RefusalCount *count = &trace->counts[note->kind];

	trace->changed = true;
	trace->used_at = now;
	if (count->events++ == 0)
		count->first_at = now;
	count->last_at = now;
	note_detail(count, note, now);
	if (note->likely)
	{
		note_likely(trace, now);
		trace->likely_kind = note->kind;
	}
	if (note->live)
		trace->live_at = now;
	if (note->kind == REFUSAL_NO_SECRET)
		trace->no_secret_at = now;
}

/* Once an hour for each endpoint and reason, also after a clock was set back. */
static bool
may_log(RefusalCount *count, const RefusalNote *note, TimestampTz now)
{
	if (count->logged_at != 0 && count->reason == note->reason &&
		now - count->logged_at < LOG_EVERY && count->logged_at <= now)
		return false;
	count->logged_at = now;
	count->reason = note->reason;
	return true;
}

/*
 * Count a refusal.  Returns true if it should be logged.  note->detail is short
 * enough to be kept.
 */
bool
refusal_count(const RefusalNote *note)
{
	TraceTable *table = trace_table();
	TimestampTz now = GetCurrentTimestamp();
	RefusalTrace *trace;
	bool log = false;

	table_lock(table, LW_EXCLUSIVE);
	trace = trace_find_or_make(table, note->endpoint, now);
	if (trace != NULL)
	{
		add_refusal(trace, note, now);
		log = may_log(&trace->counts[note->kind], note, now);
	}
	table_unlock(table);
	return log;
}

/* Note when a refusal of this kind was logged last. */
void
refusal_set_logged(const RefusalNote *note, TimestampTz at)
{
	TraceTable *table = trace_table();
	RefusalTrace *trace;

	table_lock(table, LW_EXCLUSIVE);
	trace = trace_find(table, note->endpoint);
	if (trace != NULL)
		trace->counts[note->kind].logged_at = at;
	table_unlock(table);
}

/*
 * Note that a delivery was accepted, if others of the endpoint were refused.
 * Called for each delivery: without refusals it costs a shared lock only.
 */
void
refusal_note_accepted(const char *endpoint)
{
	const RefusalTrace *known;
	RefusalTrace *trace;
	TimestampTz known_at;
	TimestampTz now;

	if (shared == NULL)
		return; /* refused_watch.c reads it from the inbox */
	table_lock(shared, LW_SHARED);
	known = trace_find(shared, endpoint);
	known_at = known ? known->accepted_at : 0;
	table_unlock(shared);
	if (known == NULL)
		return;
	now = GetCurrentTimestamp();
	if (known_at <= now && now - known_at < ACCEPT_EVERY)
		return;
	table_lock(shared, LW_EXCLUSIVE);
	trace = trace_find(shared, endpoint);
	if (trace != NULL)
	{
		trace->accepted_at = now;
		trace->changed = true;
	}
	table_unlock(shared);
}

/* May the secrets of other endpoints be tried?  Once a second in a database. */
bool
refusal_may_try(void)
{
	TraceTable *table = trace_table();
	TimestampTz now = GetCurrentTimestamp();
	RefusalTrace *trace;
	bool may = false;

	table_lock(table, LW_EXCLUSIVE);
	trace = trace_find_or_make(table, "", now);
	if (trace != NULL &&
		(now - trace->tried_at >= TRY_EVERY || trace->tried_at > now))
	{
		trace->tried_at = trace->used_at = now;
		may = true;
	}
	table_unlock(table);
	return may;
}

/* ---- taking counts, to write them ---- */

/* Clear the counts.  When a refusal was logged last is kept. */
static void
trace_reset(RefusalTrace *trace)
{
	trace->changed = false;
	memset(trace->likely, 0, sizeof(trace->likely));
	trace->live_at = trace->no_secret_at = trace->accepted_at = 0;
	for (int i = 0; i < REFUSAL_KINDS; i++)
		trace->counts[i].events = 0;
}

static bool
copy_next(int *place, RefusalTrace *copy, bool take)
{
	TraceTable *table = trace_table();
	bool found = false;

	table_lock(table, take ? LW_EXCLUSIVE : LW_SHARED);
	while (!found && *place < table->size)
	{
		RefusalTrace *trace = &table->traces[(*place)++];

		found = trace->changed && trace->database == MyDatabaseId;
		if (found)
			memcpy(copy, trace, sizeof(*copy));
		if (found && take)
			trace_reset(trace);
	}
	table_unlock(table);
	return found;
}

/*
 * Take the counts of the next trace of this database that has new ones, starting
 * at *place, which is advanced.  Returns false if there is none.
 */
bool
refusal_take(int *place, RefusalTrace *copy)
{
	return copy_next(place, copy, true);
}

static void
give_back_count(RefusalCount *count, const RefusalCount *copy)
{
	if (copy->events == 0)
		return;
	if (count->events == 0)
	{
		count->last_at = copy->last_at;
		memcpy(count->detail, copy->detail, sizeof(count->detail));
	}
	count->events += copy->events;
	count->first_at = copy->first_at;
}

/* Add counts again that were taken and could not be written. */
void
refusal_give_back(const RefusalTrace *copy)
{
	TraceTable *table = trace_table();
	TimestampTz now = GetCurrentTimestamp();
	RefusalTrace *trace;

	table_lock(table, LW_EXCLUSIVE);
	trace = trace_find_or_make(table, copy->endpoint, now);
	if (trace != NULL)
	{
		trace->used_at = now;
		trace->changed = true;
		for (int i = 0; i < REFUSAL_KINDS; i++)
			give_back_count(&trace->counts[i], &copy->counts[i]);
		for (int i = 0, n = 0; i < REFUSAL_LIKELY; i++)
			if (trace->likely[i] == 0)
				trace->likely[i] = copy->likely[n++];
		trace->likely_kind = copy->likely_kind;
		trace->live_at = Max(trace->live_at, copy->live_at);
		trace->no_secret_at = Max(trace->no_secret_at, copy->no_secret_at);
		trace->accepted_at = Max(trace->accepted_at, copy->accepted_at);
	}
	table_unlock(table);
}

/* ---- SQL ---- */

static void
put_count(ReturnSetInfo *result, const RefusalTrace *trace, int kind)
{
	const RefusalCount *count = &trace->counts[kind];
	Datum values[] = {CStringGetTextDatum(trace->endpoint),
					  CStringGetTextDatum(codes[kind]),
					  Int64GetDatum(count->events),
					  TimestampTzGetDatum(count->first_at),
					  TimestampTzGetDatum(count->last_at),
					  CStringGetTextDatum(count->detail)};
	bool nulls[lengthof(values)] = {false};

	if (count->events > 0)
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* refusals(): what is counted and not written yet, for the view */
ENGINE_FUNCTION(stripe_sync_refusals)
{
	RefusalTrace *copy = palloc(sizeof(RefusalTrace));
	int place = 0;

	InitMaterializedSRF(fcinfo, 0);
	while (copy_next(&place, copy, false))
		for (int i = 0; i < REFUSAL_KINDS; i++)
			put_count((ReturnSetInfo *) fcinfo->resultinfo, copy, i);
	pfree(copy);
	return (Datum) 0;
}

/* ---- start-up ---- */

static void
refusals_request(void)
{
	if (previous_request)
		previous_request();
	RequestAddinShmemSpace(table_size(SHARED_TRACES));
	RequestNamedLWLockTranche(NAME, 1);
}

static void
refusals_startup(void)
{
	bool found;

	if (previous_startup)
		previous_startup();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct(NAME, table_size(SHARED_TRACES), &found);
	if (!found)
	{
		memset(shared, 0, table_size(SHARED_TRACES));
		shared->lock = &GetNamedLWLockTranche(NAME)->lock;
		shared->size = SHARED_TRACES;
	}
	LWLockRelease(AddinShmemInitLock);
}

void
refusals_init(void)
{
	previous_request = shmem_request_hook;
	shmem_request_hook = refusals_request;
	previous_startup = shmem_startup_hook;
	shmem_startup_hook = refusals_startup;
}
