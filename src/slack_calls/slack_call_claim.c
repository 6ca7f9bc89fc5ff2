/*
 * slack_call_claim.c
 *		Claims calls that are due: waiting -> sending, with a lease of this process
 *		and their attempt counted, and reads the secrets that they need.
 *
 * Views come first, as Slack accepts them for 3 seconds.  Responses to one
 * interaction are sent in the order in which they were queued, one at a time.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include <openssl/crypto.h>

#include "base/compat.h"
#include "engine/engine.h"
#include "engine/lease_holder.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "inbox/secret.h"
#include "slack_in/slack_in.h"
#include "slack_calls/internal.h"

#define CLAIM_AGAIN USECS_PER_SEC /* for rows that another session has locked */

/* Columns of stripe_sync.interaction_secret, as src/slack_in/slack_in.sql makes it */
enum InteractionSecretColumn
{
	INTERACTION_SECRET_INTERACTION = 1,
	INTERACTION_SECRET_URL,
	INTERACTION_SECRET_TRIGGER
};

/* An empty call, in a child of the current memory context */
static SlackCall *
call_make(void)
{
	MemoryContext memory = AllocSetContextCreate(
		CurrentMemoryContext, "stripe_sync call to Slack", ALLOCSET_SMALL_SIZES);
	SlackCall *call = MemoryContextAllocZero(memory, sizeof(SlackCall));

	call->memory = memory;
	call->retry_after = -1;
	return call;
}

static void
wipe(char *secret)
{
	if (secret != NULL)
		OPENSSL_cleanse(secret, strlen(secret));
}

void
call_free(SlackCall *call)
{
	wipe(call->secret);
	wipe(call->trigger);
	MemoryContextDelete(call->memory);
}

/* Its result, without a request */
void
call_judge_unsent(SlackCall *call, SlackVerdict verdict, const char *code)
{
	call->unsent = true;
	call->judgement.verdict = verdict;
	strlcpy(call->judgement.code, code, sizeof(call->judgement.code));
}

/* ---- secrets ---- */

/* A column of the row, as a C string in the call's memory; NULL for null */
static char *
copy_secret(SlackCall *call, HeapTuple tuple, TupleDesc desc, AttrNumber column)
{
	bool isnull;
	Datum value = heap_getattr(tuple, column, desc, &isnull);
	const text *stored;
	char *copy;

	if (isnull)
		return NULL;
	stored = DatumGetTextPP(value);
	copy = MemoryContextAlloc(call->memory, VARSIZE_ANY_EXHDR(stored) + 1);
	memcpy(copy, VARDATA_ANY(stored), VARSIZE_ANY_EXHDR(stored));
	copy[VARSIZE_ANY_EXHDR(stored)] = '\0';
	return copy;
}

/* By an index scan: a statement would leave copies of the secrets. */
static void
read_interaction_secret(SlackCall *call)
{
	Relation relation = table_open(engine_relation("interaction_secret"),
								   AccessShareLock);
	TupleDesc desc = RelationGetDescr(relation);
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	SysScanDesc scan;
	HeapTuple tuple;
	ScanKeyData key;

	ScanKeyInit(&key, INTERACTION_SECRET_INTERACTION, BTEqualStrategyNumber,
				F_INT8EQ, Int64GetDatum(call->interaction));
	scan = systable_beginscan(relation,
							  engine_relation("interaction_secret_pkey"), true,
							  snapshot, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple) && call->is_view)
		call->trigger = copy_secret(call, tuple, desc,
									INTERACTION_SECRET_TRIGGER);
	else if (HeapTupleIsValid(tuple))
		call->secret = copy_secret(call, tuple, desc, INTERACTION_SECRET_URL);
	engine_scan_end(scan, relation, snapshot);
}

static void
read_token(SlackCall *call)
{
	char token[MAX_SECRET + 1];
	char *trouble = NULL;

	if (slack_app_token(call->app, token, sizeof(token), &trouble))
		call->secret = MemoryContextStrdup(call->memory, token);
	else
		call->trouble = MemoryContextStrdup(call->memory, trouble);
	OPENSSL_cleanse(token, sizeof(token));
}

/* Complete it, or judge it if it can't be sent. */
static void
complete(SlackCall *call)
{
	bool late = call->expires_at <= GetCurrentTimestamp();

	read_interaction_secret(call);
	if (call->is_view && (late || call->trigger == NULL))
		call_judge_unsent(call, SLACK_MESSAGE_BAD, "trigger_expired");
	else if (call->is_view)
		read_token(call);
	else if (late || call->secret == NULL)
		call_judge_unsent(call, SLACK_MESSAGE_BAD, "expired");
	else if (call->used_up)
		call_judge_unsent(call, SLACK_MESSAGE_BAD, "used_up");
}

/* ---- claiming ---- */

static SlackCall *
read_claimed(Rows *rows)
{
	SlackCall *call = call_make();
	MemoryContext old = MemoryContextSwitchTo(call->memory);

	call->id = rows_int8(rows, 0);
	call->interaction = rows_int8(rows, 0);
	call->attempt = rows_int4(rows, 0);
	call->is_view = rows_bool(rows, false);
	call->payload = rows_text(rows);
	call->expires_at = rows_time(rows, DT_NOBEGIN);
	call->app = rows_text(rows);
	call->used_up = rows_int8(rows, 0) >= CALL_MOST_USES;
	MemoryContextSwitchTo(old);
	return call;
}

/*
 * The number of earlier uses of a response_url is what the statement's snapshot
 * shows: without the attempt that it counts itself.
 */
static List *
claim_due(int room)
{
	static EngineStatement claim = {
		"WITH picked AS MATERIALIZED"
		" (SELECT c.id FROM stripe_sync.slack_call c"
		"   WHERE c.state = 'waiting'"
		"     AND c.due_at <= pg_catalog.clock_timestamp()"
		"     AND NOT EXISTS (SELECT FROM stripe_sync.slack_call e"
		"       WHERE e.interaction = c.interaction AND e.kind = c.kind"
		"         AND e.id < c.id AND e.state IN ('waiting', 'sending'))"
		"   ORDER BY c.kind = 'view' DESC, c.due_at, c.id LIMIT $1"
		"   FOR UPDATE OF c SKIP LOCKED)"
		" UPDATE stripe_sync.slack_call u SET state = 'sending',"
		" attempts = u.attempts + 1, lease_pid = $2, lease_backend_start = $3,"
		" lease_server_start = pg_catalog.pg_postmaster_start_time()"
		" FROM picked p WHERE u.id = p.id"
		" RETURNING u.id, u.interaction, u.attempts, u.kind = 'view',"
		"  u.payload::text, u.expires_at,"
		"  (SELECT i.app FROM stripe_sync.interaction i WHERE i.id = u.interaction),"
		"  (SELECT pg_catalog.sum(o.attempts) FROM stripe_sync.slack_call o"
		"    WHERE o.interaction = u.interaction AND o.kind = 'response')"};
	List *calls = NIL;
	Rows rows;

	rows_open(
		&rows, &claim,
		ARGS(arg_int4(room), arg_int4(MyProcPid), arg_time(MyStartTimestamp)));
	while (rows_next(&rows))
		calls = lappend(calls, read_claimed(&rows));
	rows_close(&rows);
	return calls;
}

static TimestampTz
first_due(void)
{
	static EngineStatement select = {
		"SELECT due_at FROM stripe_sync.slack_call WHERE state = 'waiting'"
		" ORDER BY due_at LIMIT 1"};

	return statement_time(DT_NOEND, &select, NO_ARGS);
}

/*
 * Claim up to "room" calls, in a transaction that the caller commits before it
 * sends any of them.  Returns a list of SlackCall, some of which are judged
 * already.  Sets *next to the time when more may be due.  Runs in the engine's
 * scope.
 *
 * If the transaction is rolled back, the calls wait as before.
 */
List *
calls_claim(int room, TimestampTz *next)
{
	int nest = plan_for_indexes_with_lock_timeout();
	List *calls = NIL;
	ListCell *cell;

	*next = first_due();
	if (*next <= GetCurrentTimestamp())
	{
		calls = claim_due(room);
		*next = calls != NIL ? DT_NOBEGIN : GetCurrentTimestamp() + CLAIM_AGAIN;
	}
	foreach(cell, calls)
		complete(lfirst(cell));
	plan_settings_restore(nest);
	return calls;
}

/* ---- leases of ended processes ---- */

/* Judged as lost: Slack may have got the call. */
static SlackCall *
lost_call(int64 id, Rows *rows)
{
	SlackCall *call = call_make();

	call->id = id;
	call->interaction = rows_int8(rows, 0);
	call->attempt = rows_int4(rows, 0);
	call->is_view = rows_bool(rows, false);
	call->expires_at = rows_time(rows, DT_NOBEGIN);
	call->judgement.verdict = SLACK_RETRY;
	strlcpy(call->judgement.code, "lost", sizeof(call->judgement.code));
	return call;
}

/*
 * Calls in state sending whose sender is gone, to be settled.  is_mine() says
 * whether this process still sends a call of which it has the lease.
 */
List *
calls_of_dead_senders(bool (*is_mine)(int64 id))
{
	static EngineStatement select = {
		"SELECT id, lease_pid, lease_backend_start,"
		" COALESCE(lease_server_start = pg_catalog.pg_postmaster_start_time(), false),"
		" interaction, attempts, kind = 'view', expires_at"
		" FROM stripe_sync.slack_call WHERE state = 'sending'"};
	List *calls = NIL;
	Rows rows;

	rows_open(&rows, &select, NO_ARGS);
	while (rows_next(&rows))
	{
		int64 id = rows_int8(&rows, 0);
		int pid = rows_int4(&rows, 0);
		TimestampTz start = rows_time(&rows, 0);
		LeaseHolder holder = lease_holder(pid, start, rows_bool(&rows, false));

		if (holder == LEASE_HOLDER_GONE ||
			(holder == LEASE_HOLDER_SELF && !is_mine(id)))
			calls = lappend(calls, lost_call(id, &rows));
	}
	rows_close(&rows);
	return calls;
}
