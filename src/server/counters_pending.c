/*
 * counters_pending.c
 *		Counts of the current transaction, which are added to the counters when
 *		it commits.
 *
 * A count belongs to the subtransaction that made it: it is dropped with it, and
 * passes to the parent when it commits.  At PREPARE TRANSACTION the counts go to
 * shared memory under the transaction's name, and COMMIT or ROLLBACK PREPARED in
 * whichever session settles them.
 *
 * receive() that ends in an error is counted at once, when its transaction or
 * savepoint is rolled back.
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "utils/memutils.h"

#include "server/counters.h"
#include "server/internal.h"

#define FIRST_ROOM 16
#define MOST_CALLS 8 /* of receive() within each other */

/* Counts of one kind and name, made at one nesting level */
typedef struct PendingCount
{
	int level;
	CounterKind kind;
	char name[NAMEDATALEN];
	uint64 counts[COUNTER_SLOTS];
} PendingCount;

/* By ascending level: those of deeper levels have ended before */
static PendingCount first_room[FIRST_ROOM];
static PendingCount *pending = first_room;
static int npending = 0;
static int room = FIRST_ROOM;

/* A call of receive() that has not ended */
typedef struct ReceiveCall
{
	int level;
	char endpoint[NAMEDATALEN];
	instr_time began;
} ReceiveCall;

static ReceiveCall calls[MOST_CALLS];
static int ncalls = 0;

static uint64 preparing = 0; /* the transaction to be prepared, 0: none */

/* ---- counts that wait for the commit ---- */

/* Room for one more; false if there is no memory. */
static bool
make_room(void)
{
	PendingCount *larger;

	if (npending < room)
		return true;
	larger = MemoryContextAllocExtended(
		TopMemoryContext, 2 * room * sizeof(PendingCount), MCXT_ALLOC_NO_OOM);
	if (larger == NULL)
		return false;
	memcpy(larger, pending, npending * sizeof(PendingCount));
	if (pending != first_room)
		pfree(pending);
	pending = larger;
	room *= 2;
	return true;
}

static PendingCount *
pending_find(int level, CounterKind kind, const char *name)
{
	for (int i = npending - 1; i >= 0 && pending[i].level == level; i--)
		if (pending[i].kind == kind && strcmp(pending[i].name, name) == 0)
			return &pending[i];
	return NULL;
}

/* NULL if there is no memory */
static PendingCount *
pending_for(CounterKind kind, const char *name)
{
	int level = GetCurrentTransactionNestLevel();
	PendingCount *count = pending_find(level, kind, name);

	if (count != NULL || !make_room())
		return count;
	count = &pending[npending++];
	memset(count, 0, sizeof(*count));
	count->level = level;
	count->kind = kind;
	strlcpy(count->name, name, sizeof(count->name));
	return count;
}

void
counter_add(CounterKind kind, const char *name, const char *what)
{
	int slot = counter_slot(kind, what);
	PendingCount *count;

	if (!counters_shared() || slot < 0)
		return;
	count = pending_for(kind, name);
	if (count != NULL)
		count->counts[slot]++;
}

void
counter_add_now(CounterKind kind, const char *name, const char *what)
{
	uint64 counts[COUNTER_SLOTS] = {0};
	int slot = counter_slot(kind, what);

	if (!counters_shared() || slot < 0)
		return;
	counts[slot] = 1;
	counters_apply(kind, name, 0, counts);
}

void
counters_reset_at_commit(void)
{
	counter_add(COUNT_RESET, "", "reset");
}

/* ---- calls of receive() ---- */

void
receive_count_begin(void)
{
	ReceiveCall *call = &calls[ncalls];

	if (!counters_shared() || ++ncalls > MOST_CALLS)
		return;
	call->level = GetCurrentTransactionNestLevel();
	call->endpoint[0] = '\0';
	INSTR_TIME_SET_CURRENT(call->began);
}

/* The endpoint exists: only such names are counted. */
void
receive_count_endpoint(const char *endpoint)
{
	if (ncalls > 0 && ncalls <= MOST_CALLS)
		strlcpy(calls[ncalls - 1].endpoint, endpoint, NAMEDATALEN);
}

static void
count_duration(const ReceiveCall *call)
{
	PendingCount *count = pending_for(COUNT_RECEIVE, "");
	instr_time took;
	int bucket = 0;

	INSTR_TIME_SET_CURRENT(took);
	INSTR_TIME_SUBTRACT(took, call->began);
	while (bucket < RECEIVE_BUCKETS &&
		   INSTR_TIME_GET_DOUBLE(took) > receive_bounds[bucket])
		bucket++;
	if (count == NULL)
		return;
	count->counts[bucket]++;
	count->counts[RECEIVE_SUM] += INSTR_TIME_GET_MICROSEC(took);
}

void
receive_count_end(const char *status)
{
	if (ncalls == 0 || ncalls-- > MOST_CALLS || status == NULL)
		return;
	counter_add(COUNT_EVENTS, calls[ncalls].endpoint, status);
	count_duration(&calls[ncalls]);
}

/* An error has ended the calls that began at this level or below. */
static void
count_broken_calls(int level)
{
	for (; ncalls > 0; ncalls--)
	{
		if (ncalls > MOST_CALLS)
			continue;
		if (calls[ncalls - 1].level < level)
			break;
		counter_add_now(COUNT_EVENTS, calls[ncalls - 1].endpoint, "error");
	}
}

/* ---- the end of transactions ---- */

static void
apply_all(uint64 prepared)
{
	for (int i = 0; i < npending; i++)
		counters_apply(pending[i].kind, pending[i].name, prepared,
					   pending[i].counts);
}

static void
pending_transaction_over(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT)
		apply_all(0);
	else if (event == XACT_EVENT_PREPARE && npending > 0 && preparing != 0)
	{
		counters_prepared_apply(preparing, false); /* what a crash has left */
		apply_all(preparing);
	}
	else if (event == XACT_EVENT_ABORT)
		count_broken_calls(0);
	else if (event != XACT_EVENT_PREPARE)
		return;
	npending = ncalls = 0;
	preparing = 0;
}

/* Let the counts of the level pass to the one above it. */
static void
pass_to_parent(int level)
{
	int first = npending;
	int n = npending;

	while (first > 0 && pending[first - 1].level >= level)
		first--;
	npending = first;
	for (int i = first; i < n; i++)
	{
		PendingCount *into = pending_find(level - 1, pending[i].kind,
										  pending[i].name);

		if (into == NULL)
		{
			pending[npending] = pending[i];
			pending[npending++].level = level - 1;
			continue;
		}
		for (int j = 0; j < COUNTER_SLOTS; j++)
			into->counts[j] += pending[i].counts[j];
	}
}

static void
pending_subtransaction_over(SubXactEvent event, SubTransactionId id,
							SubTransactionId parent, void *arg)
{
	int level;

	if (npending == 0 && ncalls == 0)
		return;
	level = GetCurrentTransactionNestLevel();
	if (event == SUBXACT_EVENT_ABORT_SUB)
	{
		while (npending > 0 && pending[npending - 1].level >= level)
			npending--;
		count_broken_calls(level);
	}
	else if (event == SUBXACT_EVENT_COMMIT_SUB && npending > 0 &&
			 pending[npending - 1].level >= level)
		pass_to_parent(level);
}

/* ---- prepared transactions ---- */

static uint64
hash_of_prepared(const char *gid)
{
	uint64 hash = hash_bytes_extended((const unsigned char *) gid, strlen(gid),
									  MyDatabaseId);

	return hash != 0 ? hash : 1;
}

void
counters_preparing(const char *gid)
{
	preparing = hash_of_prepared(gid);
}

void
counters_prepared_over(const char *gid, bool commit)
{
	if (counters_shared())
		counters_prepared_apply(hash_of_prepared(gid), commit);
}

void
counters_pending_init(void)
{
	RegisterXactCallback(pending_transaction_over, NULL);
	RegisterSubXactCallback(pending_subtransaction_over, NULL);
}
