/*
 * runner.c
 *		Parts of jobs: claimed, asked for page by page, written, finished.
 *
 * A part has one request in the air at a time.  Its answer is written in a
 * transaction together with the part's cursor, so that a crash reads a page
 * twice at most; no transaction is open while an answer is waited for.
 */
#include "jobs_internal.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include <openssl/crypto.h>

#include "loop.h"
#include "secret.h"

#define AT_ONCE		 6 /* parts that are worked at */
#define LONG_AT_ONCE 4 /* of which these many are whole lists */
#define AFTER_ERROR	 (5 * USECS_PER_SEC)
#define HELD		 (200 * 1000) /* microseconds, by somebody's lock */

static dlist_head parts = DLIST_STATIC_INIT(parts);
static int nparts = 0;
static TimestampTz next_due = DT_NOBEGIN;
static ApiCall *taken = NULL; /* from the caller, and being written */
static dlist_head held = DLIST_STATIC_INIT(held); /* answers, by a lock */
static TimestampTz held_until = 0;
static bool in_turn = false; /* still, when a turn ended in an error */
static bool look = true;	 /* parts may be due that weren't */
static TimestampTz looked_at = 0;
static bool stirred; /* this turn has written what others may wait for */

static void
let_go(Part *part)
{
	dlist_delete(&part->node);
	nparts--;
	look = true; /* there is room, and it may be due again */
	part_free(part);
}

/* ---- claiming ---- */

static Part *
find_in_hand(int64 job, int number)
{
	dlist_iter iter;

	dlist_foreach(iter, &parts)
	{
		Part *part = dlist_container(Part, node, iter.cur);

		if (part->job == job && part->number == number && !part->lost)
			return part;
	}
	return NULL;
}

bool
runner_has(int64 job, int number)
{
	return find_in_hand(job, number) != NULL;
}

/* Of an object only one part is worked at, where its kind is one_at_a_time. */
static char *
exclusions(void)
{
	StringInfoData sql;
	int count;
	const PartKind *const *kinds = part_kinds(&count);

	initStringInfo(&sql);
	for (int i = 0; i < count; i++)
		if (kinds[i]->one_at_a_time)
			appendStringInfo(
				&sql,
				"    AND NOT EXISTS (SELECT FROM stripe_sync.job_part r"
				"     WHERE w.kind = %1$s AND r.kind = %1$s AND r.state = 'running'"
				"      AND r.object_type = w.object_type AND r.object_id = w.object_id"
				"      AND r.account = w.account)",
				quote_literal_cstr(kinds[i]->name));
	return sql.data;
}

/*
 * A job's row is locked before its parts are; what somebody has is left.  An
 * object that is being read is read again only afterwards, for all who ask.
 */
static void
claim_rows(int first, int last, int room)
{
	static EngineStatement claim = {
		NULL, 5, {INT4OID, INT4OID, TIMESTAMPTZOID, INT4OID, INT4OID}};
	static EngineStatement begin = {
		"UPDATE stripe_sync.job_record SET state = 'running',"
		" started_at = COALESCE(started_at, pg_catalog.clock_timestamp())"
		" WHERE id = $1 AND state = 'waiting'",
		1,
		{INT8OID}};
	Datum values[] = {Int32GetDatum(room), Int32GetDatum(MyProcPid),
					  TimestampTzGetDatum(MyStartTimestamp),
					  Int32GetDatum(first), Int32GetDatum(last)};
	SPITupleTable *rows;
	uint64 count;

	if (claim.sql == NULL)
		claim.sql = MemoryContextStrdup(
			TopMemoryContext,
			psprintf(
				"UPDATE stripe_sync.job_part p SET state = 'running',"
				" attempts = p.attempts + 1, lease_pid = $2, lease_backend_start = $3,"
				" lease_server_start = pg_catalog.pg_postmaster_start_time()"
				" FROM (SELECT w.job, w.part FROM stripe_sync.job_record j"
				"   JOIN stripe_sync.job_part w ON w.job = j.id"
				"   WHERE j.state IN ('waiting', 'running')"
				"    AND w.state = 'waiting' AND w.priority BETWEEN $4 AND $5"
				"    AND w.due_at <= pg_catalog.clock_timestamp()"
				"%s"
				"   ORDER BY w.priority, w.due_at, w.part LIMIT $1"
				"   FOR UPDATE SKIP LOCKED) d"
				" WHERE p.job = d.job AND p.part = d.part RETURNING %s",
				exclusions(), part_columns));
	engine_run(&claim, values, NULL, SPI_OK_UPDATE_RETURNING);
	rows = SPI_tuptable;
	count = SPI_processed;
	for (uint64 i = 0; i < count; i++)
	{
		Part *part = part_read(rows->vals[i], rows->tupdesc);
		Part *before = find_in_hand(part->job, part->number);
		Datum job = Int64GetDatum(part->job);

		if (before != NULL) /* called off and taken up again meanwhile */
			before->lost = true;
		dlist_push_tail(&parts, &part->node);
		nparts++;
		engine_run(&begin, &job, NULL, SPI_OK_UPDATE);
	}
}

/* Whole lists leave room for what somebody waits for. */
static int
count_long(void)
{
	dlist_iter iter;
	int count = 0;

	dlist_foreach(iter, &parts)
		count += dlist_container(Part, node, iter.cur)->priority >=
				 PRIORITY_BACKFILL;
	return count;
}

static void
claim_parts(void)
{
	int room;

	claim_rows(0, PRIORITY_BACKFILL - 1, AT_ONCE - nparts);
	room = Min(AT_ONCE - nparts, LONG_AT_ONCE - count_long());
	if (room > 0)
		claim_rows(PRIORITY_BACKFILL, INT_MAX, room);
}

/* When the first falls due of those that there is room for. */
static TimestampTz
find_next(void)
{
	static EngineStatement others = {
		"SELECT pg_catalog.min(due_at) FROM stripe_sync.job_part"
		" WHERE state = 'waiting' AND priority < 10"};
	static EngineStatement lists = {
		"SELECT pg_catalog.min(due_at) FROM stripe_sync.job_part"
		" WHERE state = 'waiting' AND priority >= 10"};
	TimestampTz next = engine_first_time(&others);

	StaticAssertStmt(PRIORITY_BACKFILL == 10, "as in the statements above");
	return count_long() < LONG_AT_ONCE ? Min(next, engine_first_time(&lists))
									   : next;
}

/* ---- asking ---- */

static void
ask(Part *part)
{
	char *path = part->kind->path(part);
	ApiCall *call = call_make("GET", path, part->account, part->key);

	call->owner = part;
	call->target = part->target;
	if (part->kind->post != NULL)
	{
		call->method = "POST";
		part->kind->post(part, call);
	}
	call->job = part->job;
	call->page_tries = page_tries(part);
	caller_submit(call);
}

/* ---- what becomes of a part ---- */

typedef struct Taking
{
	Part *part;
	ApiCall *call;
} Taking;

static void
take_body(void *arg)
{
	Taking *taking = arg;

	taking->part->kind->take(taking->part, taking->call);
}

static Outcome
how_it_stands(const Part *part)
{
	return (Outcome){part->finished ? "done" : "running", GetCurrentTimestamp(),
					 NULL};
}

static Outcome
take_answer(Part *part, ApiCall *call)
{
	Taking taking = {part, call};
	PartMark mark = part_mark(part);
	ErrorData *error;

	if (outcome_guard(take_body, &taking, subtransaction_excuse_all, &error))
	{
		if (call->verdict == API_OK)
			page_came(part);
		return how_it_stands(part);
	}
	part_restore(part, &mark);
	return outcome_of_error(part, error);
}

static bool
wants(const Part *part, const ApiCall *call)
{
	return call->verdict == API_OK ||
		   (part->kind->takes & API_BIT(call->verdict)) != 0;
}

static Outcome
write_answer(Part *part, ApiCall *call)
{
	if (outcome_is_restart(part, call))
		return how_it_stands(part);
	return wants(part, call) ? take_answer(part, call)
							 : outcome_of_failure(part, call);
}

/* True when the part goes on; within the transaction of the outcome. */
static bool
write_outcome(Part *part, const Outcome *outcome)
{
	bool goes_on = strcmp(outcome->state, "running") == 0;

	if (goes_on)
		part->tries = 0;
	if (!part_write(part, outcome))
		return false;
	if (goes_on)
	{
		part_load_key(part); /* it may be another by now */
		return true;
	}
	if (part->kind->ended != NULL)
		part->kind->ended(part, outcome);
	job_finish(part->job);
	return false;
}

/*
 * With the job's row locked: is the part still ours?  A job that was called off,
 * and may have been taken up again, is not.  HELD_UP: somebody's transaction
 * has the row, and may keep it for long.
 */
typedef enum Grip
{
	OURS,
	LOST,
	HELD_UP
} Grip;

static Grip
take_grip(const Part *part)
{
	bool locked = job_lock(part->job);

	if (part->lost || !part_is_ours(part))
		return LOST;
	return locked ? OURS : HELD_UP;
}

/* In a transaction of its own: what came, and how the part stands. */
static bool
settle(Part *part, ApiCall *call)
{
	bool goes_on = false;
	bool quiet = false;
	Grip grip;

	worker_begin();
	grip = take_grip(part);
	if (grip == OURS)
	{
		Outcome outcome = write_answer(part, call);

		quiet = part->kind->quiet && part->missing == 0;
		goes_on = write_outcome(part, &outcome);
	}
	else if (grip == LOST && part->kind->post != NULL && wants(part, call))
		(void) take_answer(part, call); /* Stripe has made it all the same */
	caller_write_log();
	if (quiet && goes_on)
		worker_commit_unflushed();
	else
		worker_commit();
	if (grip == HELD_UP)
		return false;
	stirred |= !quiet || !goes_on;
	part->asked = false;
	if (!goes_on)
		let_go(part);
	return true;
}

static void
free_calls(void)
{
	caller_drop();
	while (!dlist_is_empty(&held))
		call_free(dlist_container(ApiCall, node, dlist_pop_head_node(&held)));
	if (taken != NULL)
		call_free(taken);
	taken = NULL;
}

/*
 * Whatever is in hand is due again after so many microseconds.  After an error
 * nobody knows which part it was, or what had come of it.
 */
static void
let_go_of_all(int64 delay)
{
	free_calls();
	if (nparts == 0)
		return;
	worker_begin();
	caller_write_log();
	part_release_all(GetCurrentTimestamp() + delay);
	worker_commit();
	while (!dlist_is_empty(&parts))
		let_go(dlist_head_element(Part, node, &parts));
}

/* ---- what the pass calls ---- */

/* Those that were held up, too, when it is time. */
static ApiCall *
next_answer(TimestampTz now)
{
	ApiCall *call = caller_take();

	if (call == NULL && !dlist_is_empty(&held) && now >= held_until)
		call = dlist_container(ApiCall, node, dlist_pop_head_node(&held));
	return call;
}

static bool
settle_answers(void)
{
	TimestampTz now = GetCurrentTimestamp();
	ApiCall *call;
	bool any = false;

	while ((call = taken = next_answer(now)) != NULL)
	{
		bool settled = settle(call->owner, call);

		taken = NULL;
		if (settled)
			call_free(call);
		else
		{
			dlist_push_tail(&held, &call->node);
			held_until = now + HELD;
		}
		any |= settled;
	}
	return any;
}

static void
next_body(void *arg)
{
	Part *part = arg;

	part->ready = false;
	part->kind->next(part);
}

static Outcome
find_request(Part *part)
{
	PartMark mark = part_mark(part);
	ErrorData *error;

	if (part->key == NULL)
		return outcome_without_key(part);
	if (outcome_guard(next_body, part, subtransaction_excuse_all, &error))
		return how_it_stands(part);
	part_restore(part, &mark);
	return outcome_of_error(part, error);
}

/* In a transaction of its own; false when the part is let go of, or held up. */
static bool
find_out(Part *part)
{
	bool goes_on = false;
	Grip grip;

	worker_begin();
	grip = take_grip(part);
	if (grip == OURS)
	{
		Outcome outcome = find_request(part);

		goes_on = write_outcome(part, &outcome);
	}
	worker_commit();
	stirred = true;
	part->held_up = grip == HELD_UP;
	if (part->held_up)
		held_until = GetCurrentTimestamp() + HELD;
	else if (!goes_on)
		let_go(part);
	return goes_on;
}

/*
 * Find out what is to be asked for, and ask.  A part without a key fails at
 * once, and says so.
 */
static void
go_on(Part *part)
{
	if ((part->key == NULL || part->kind->next != NULL) && !find_out(part))
		return;
	if (part->kind->next != NULL && !part->ready)
		return; /* in the next turn */
	ask(part);
	part->asked = true;
}

static bool
go_on_with_all(void)
{
	TimestampTz now = GetCurrentTimestamp();
	dlist_mutable_iter iter;
	bool any = false;

	dlist_foreach_modify(iter, &parts)
	{
		Part *part = dlist_container(Part, node, iter.cur);

		if (part->asked || (part->held_up && now < held_until))
			continue;
		go_on(part);
		any = true;
	}
	return any;
}

static void
load_keys(void)
{
	dlist_iter iter;

	dlist_foreach(iter, &parts)
	{
		Part *part = dlist_container(Part, node, iter.cur);

		if (part->key == NULL && part->trouble == NULL)
			part_load_key(part);
	}
}

/* False when nothing may be asked for: paused, or another server's copy. */
static bool
claim(void)
{
	TimestampTz now = GetCurrentTimestamp();
	bool may;

	worker_begin();
	next_due = DT_NOEND;
	may = outbound_allowed("stripe");
	if (may && nparts < AT_ONCE)
	{
		int nest = plan_for_indexes_with_lock_timeout();
		TimestampTz poll_due = part_kinds_poll();

		SPI_connect();
		next_due = find_next();
		if (next_due <= now)
		{
			claim_parts();
			/* what is still due somebody else has, and may let go of */
			next_due = Max(find_next(), now + USECS_PER_SEC);
		}
		next_due = Min(next_due, poll_due);
		SPI_finish();
		plan_settings_restore(nest);
		load_keys();
	}
	worker_commit();
	look = false;
	looked_at = now;
	return may;
}

/* Something was committed that may have made parts due. */
void
runner_look(void)
{
	look = true;
}

/* Now and then even when nothing is due: somebody may have paused us. */
static bool
is_to_look(void)
{
	TimestampTz now = GetCurrentTimestamp();

	return look || (nparts < AT_ONCE && next_due <= now) ||
		   (nparts > 0 && now - looked_at > USECS_PER_SEC);
}

/*
 * *stirs: what was written may have queued messages, or made other parts due.
 * Most pages of a list of events don't, so nothing need be looked for then.
 */
bool
runner_turn(TimestampTz *next, bool *stirs)
{
	TimestampTz paced;
	bool busy;

	if (in_turn)
		let_go_of_all(AFTER_ERROR);
	in_turn = true;
	stirred = false;
	busy = settle_answers();
	look |= stirred;
	if (is_to_look() && !claim())
		let_go_of_all(0);
	busy |= go_on_with_all();
	busy |= caller_turn(&paced);
	*next = paced;
	if (nparts < AT_ONCE)
		*next = Min(*next, next_due);
	if (!dlist_is_empty(&held) || held_until > GetCurrentTimestamp())
		*next = Min(*next, held_until);
	*stirs = stirred;
	in_turn = false;
	return busy;
}

/* Has something come that is to be written? */
bool
runner_is_called(void)
{
	return caller_has_news();
}

bool
runner_idle(void)
{
	return nparts == 0;
}

/* What was written stays, what wasn't is asked again. */
void
runner_drop(void)
{
	let_go_of_all(0);
}
