/*
 * refused_count.c
 *		Refused deliveries, counted in memory of a fixed size.
 *
 * Forged requests come by the million, so none of them writes a row.  Each adds
 * to the trace of its endpoint; whoever writes the traces down (refused_write.c)
 * takes what they hold.  Endpoints that there aren't share one trace, so what
 * a client can send makes no more of them.
 *
 * With the library preloaded the traces are in shared memory, for all databases.
 * A trace that holds nothing new makes room for another, and so does one that
 * nobody has written down for an hour; when there is none, what comes is not
 * counted.  Without the preload each session has a few of
 * its own.
 *
 * All is read and written under the lock, and nothing raises, allocates or waits
 * under it.
 */
#include "refused.h"

#include "common/hashfn.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#define NAME		   "stripe_sync refusals"
#define SHARED_TRACES  256
#define SESSION_TRACES 16

#define LOG_EVERY	 USECS_PER_HOUR
#define ABANDONED	 USECS_PER_HOUR
#define TRY_EVERY	 USECS_PER_SEC
#define ACCEPT_EVERY USECS_PER_SEC
#define DETAIL_GOOD	 (60 * USECS_PER_SEC)

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
traces(void)
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
lock(TraceTable *table, LWLockMode mode)
{
	if (table->lock != NULL)
		LWLockAcquire(table->lock, mode);
}

static void
unlock(TraceTable *table)
{
	if (table->lock != NULL)
		LWLockRelease(table->lock);
}

static uint32
hash_of(const char *endpoint)
{
	uint32 hash = hash_combine(
		hash_bytes((const unsigned char *) endpoint, strlen(endpoint)),
		hash_bytes_uint32(MyDatabaseId));

	return hash == 0 ? 1 : hash;
}

/* None is ever free again: behind the first that is are no more. */
static RefusalTrace *
find(TraceTable *table, const char *endpoint)
{
	uint32 hash = hash_of(endpoint);

	for (int i = 0; i < table->size && table->hashes[i] != 0; i++)
		if (table->hashes[i] == hash &&
			table->traces[i].database == MyDatabaseId &&
			strcmp(table->traces[i].endpoint, endpoint) == 0)
			return &table->traces[i];
	return NULL;
}

/* In a database that is gone, or has no worker, nobody writes it down. */
static bool
is_abandoned(const RefusalTrace *trace, TimestampTz now)
{
	return now - trace->used_at > ABANDONED;
}

/*
 * A place for one more: a free one, or that of one which holds nothing new or is
 * abandoned, the one that was used longest ago.
 */
static int
find_room(const TraceTable *table, TimestampTz now)
{
	int room = -1;

	for (int i = 0; i < table->size; i++)
	{
		const RefusalTrace *trace = &table->traces[i];

		if (table->hashes[i] == 0)
			return i;
		if ((!trace->changed || is_abandoned(trace, now)) &&
			(room < 0 || trace->used_at < table->traces[room].used_at))
			room = i;
	}
	return room;
}

/* NULL: there is no room, or no endpoint has such a name. */
static RefusalTrace *
find_or_make(TraceTable *table, const char *endpoint, TimestampTz now)
{
	RefusalTrace *trace = find(table, endpoint);
	int room;

	if (trace != NULL || strlen(endpoint) >= NAMEDATALEN ||
		(room = find_room(table, now)) < 0)
		return trace;
	trace = &table->traces[room];
	memset(trace, 0, sizeof(*trace));
	trace->database = MyDatabaseId;
	strlcpy(trace->endpoint, endpoint, sizeof(trace->endpoint));
	table->hashes[room] = hash_of(endpoint);
	return trace;
}

/* ---- counting ---- */

static void
push_likely(RefusalTrace *trace, TimestampTz at)
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
count_in(RefusalTrace *trace, const RefusalNote *note, TimestampTz now)
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
		push_likely(trace, now);
		trace->likely_kind = note->kind;
	}
	if (note->live)
		trace->live_at = now;
	if (note->kind == REFUSAL_NO_SECRET)
		trace->no_secret_at = now;
}

/* Once an hour for each endpoint and reason.  A clock may have been set back. */
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

/* Count a refusal; true when it is to be logged.  "detail" fits, as it is. */
bool
refusal_count(const RefusalNote *note)
{
	TraceTable *table = traces();
	TimestampTz now = GetCurrentTimestamp();
	RefusalTrace *trace;
	bool log = false;

	lock(table, LW_EXCLUSIVE);
	trace = find_or_make(table, note->endpoint, now);
	if (trace != NULL)
	{
		count_in(trace, note, now);
		log = may_log(&trace->counts[note->kind], note, now);
	}
	unlock(table);
	return log;
}

/* When it was logged, by whomever. */
void
refusal_set_logged(const RefusalNote *note, TimestampTz at)
{
	TraceTable *table = traces();
	RefusalTrace *trace;

	lock(table, LW_EXCLUSIVE);
	trace = find(table, note->endpoint);
	if (trace != NULL)
		trace->counts[note->kind].logged_at = at;
	unlock(table);
}

/*
 * A delivery was accepted: news where some were refused.  Costs no more than a
 * look where none were, nor where that is known already.
 */
void
refusal_note_accepted(const char *endpoint)
{
	const RefusalTrace *known;
	RefusalTrace *trace;
	TimestampTz known_at;
	TimestampTz now;

	if (shared == NULL)
		return; /* the inbox tells */
	lock(shared, LW_SHARED);
	known = find(shared, endpoint);
	known_at = known ? known->accepted_at : 0;
	unlock(shared);
	if (known == NULL)
		return;
	now = GetCurrentTimestamp();
	if (known_at <= now && now - known_at < ACCEPT_EVERY)
		return;
	lock(shared, LW_EXCLUSIVE);
	trace = find(shared, endpoint);
	if (trace != NULL)
	{
		trace->accepted_at = now;
		trace->changed = true;
	}
	unlock(shared);
}

/* May others' secrets be tried?  Once a second in a database. */
bool
refusal_may_try(void)
{
	TraceTable *table = traces();
	TimestampTz now = GetCurrentTimestamp();
	RefusalTrace *trace;
	bool may = false;

	lock(table, LW_EXCLUSIVE);
	trace = find_or_make(table, "", now);
	if (trace != NULL &&
		(now - trace->tried_at >= TRY_EVERY || trace->tried_at > now))
	{
		trace->tried_at = trace->used_at = now;
		may = true;
	}
	unlock(table);
	return may;
}

/* ---- writing down ---- */

/* What there is to be written is taken; when it was logged last stays. */
static void
reset(RefusalTrace *trace)
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
	TraceTable *table = traces();
	bool found = false;

	lock(table, take ? LW_EXCLUSIVE : LW_SHARED);
	while (!found && *place < table->size)
	{
		RefusalTrace *trace = &table->traces[(*place)++];

		found = trace->changed && trace->database == MyDatabaseId;
		if (found)
			memcpy(copy, trace, sizeof(*copy));
		if (found && take)
			reset(trace);
	}
	unlock(table);
	return found;
}

/* Take the next trace of this database that holds something new, from *place. */
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

/* What was taken could not be written. */
void
refusal_give_back(const RefusalTrace *copy)
{
	TraceTable *table = traces();
	TimestampTz now = GetCurrentTimestamp();
	RefusalTrace *trace;

	lock(table, LW_EXCLUSIVE);
	trace = find_or_make(table, copy->endpoint, now);
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
	unlock(table);
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

/* refusals(): what is counted and not written down yet, for the view */
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
request(void)
{
	if (previous_request)
		previous_request();
	RequestAddinShmemSpace(table_size(SHARED_TRACES));
	RequestNamedLWLockTranche(NAME, 1);
}

static void
startup(void)
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
	shmem_request_hook = request;
	previous_startup = shmem_startup_hook;
	shmem_startup_hook = startup;
}
