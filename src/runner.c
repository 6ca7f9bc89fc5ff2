/*
 * runner.c
 *		Parts of jobs: claimed, asked for page by page, written, finished.
 *
 * A part has one request in the air at a time.  Its answer is written in a
 * transaction together with the part's cursor, so that a crash reads a page
 * twice at most; no transaction is open while an answer is waited for.
 */
#include "stripe_api.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include <openssl/crypto.h>

#include "pass.h"
#include "secret.h"

#define AT_ONCE		 6 /* parts that are worked at */
#define LONG_AT_ONCE 4 /* of which these many are whole lists */
#define MAX_ATTEMPTS 30
#define AGAIN_FIRST	 (15 * USECS_PER_SEC)
#define AFTER_ERROR	 (5 * USECS_PER_SEC)
#define AGAIN_MOST	 (15 * 60 * USECS_PER_SEC)

static dlist_head parts = DLIST_STATIC_INIT(parts);
static int nparts = 0;
static TimestampTz next_due = DT_NOBEGIN;
static ApiCall *taken = NULL; /* from the caller, and being written */
static bool in_turn = false;  /* still, when a turn ended in an error */
static bool look = true;	  /* parts may be due that weren't */
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
				"   WHERE w.state = 'waiting' AND w.priority BETWEEN $4 AND $5"
				"    AND w.due_at <= pg_catalog.clock_timestamp()"
				/* of two answers at a time none could tell which is the later */
				"    AND NOT EXISTS (SELECT FROM stripe_sync.job_part r"
				"     WHERE w.kind = 'object' AND r.kind = 'object' AND r.state = 'running'"
				"      AND r.object_type = w.object_type AND r.object_id = w.object_id"
				"      AND r.account = w.account)"
				"   ORDER BY w.priority, w.due_at, w.part LIMIT $1"
				"   FOR UPDATE SKIP LOCKED) d"
				" WHERE p.job = d.job AND p.part = d.part RETURNING %s",
				part_columns));
	engine_run(&claim, values, NULL, SPI_OK_UPDATE_RETURNING);
	rows = SPI_tuptable;
	count = SPI_processed;
	for (uint64 i = 0; i < count; i++)
	{
		Part *part = part_read(rows->vals[i], rows->tupdesc);
		Datum job = Int64GetDatum(part->job);

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
	static EngineStatement select = {
		"SELECT pg_catalog.min(due_at) FROM stripe_sync.job_part"
		" WHERE state = 'waiting' AND priority <= $1",
		1,
		{INT4OID}};
	Datum last = Int32GetDatum(
		count_long() < LONG_AT_ONCE ? INT_MAX : PRIORITY_BACKFILL - 1);
	bool isnull;
	Datum due;

	engine_run(&select, &last, NULL, SPI_OK_SELECT);
	due = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1,
						&isnull);
	return isnull ? DT_NOEND : DatumGetTimestampTz(due);
}

static void
load_key(Part *part)
{
	char buffer[MAX_SECRET + 1];
	char *trouble = NULL;

	if (api_key_load(part->account, buffer, sizeof(buffer), &trouble))
		part->key = MemoryContextStrdup(part->memory, buffer);
	else
		part->trouble = MemoryContextStrdup(part->memory, trouble);
	OPENSSL_cleanse(buffer, sizeof(buffer));
}

/* ---- asking ---- */

static void
ask(Part *part)
{
	char *path = part->kind->path(part);
	ApiCall *call = call_make("GET", path, part->account, part->key);

	call->owner = part;
	if (part->kind->post != NULL)
	{
		call->method = "POST";
		part->kind->post(part, call);
	}
	call->job = part->job;
	caller_submit(call);
}

/* ---- what becomes of a part ---- */

/* What is said of a part that isn't a matter of its key. */
static char *
say(const Part *part, const char *text)
{
	StringInfoData said;

	initStringInfo(&said);
	if (part->list_path != NULL)
		appendStringInfoString(&said, part->list_path);
	else if (part->object_type != NULL)
		appendStringInfo(&said, "%s %s", part->object_type,
						 part->object_id   ? part->object_id
						 : part->parent_id ? part->parent_id
										   : "");
	else
		appendStringInfoString(&said, part->kind->name);
	if (part->account[0] != '\0')
		appendStringInfo(&said, " of %s", part->account);
	appendStringInfo(&said, ": %s", text);
	return said.data;
}

static Outcome
put_off(const Part *part, const char *error)
{
	int64 delay = Min(AGAIN_MOST, AGAIN_FIRST << Min(part->attempts - 1, 10));
	bool tried_out = part->attempts >= MAX_ATTEMPTS;

	return (Outcome){tried_out ? "failed" : "waiting",
					 GetCurrentTimestamp() + delay, say(part, error)};
}

/* What an answer that isn't good makes of the part. */
static Outcome
judge_failure(Part *part, const ApiCall *call)
{
	bool skips = part->optional && call->verdict != API_TOO_LARGE;

	if (call->verdict == API_AGAIN)
		return put_off(part, call->trouble);
	if (call->verdict == API_TOO_LARGE && part->limit > 1)
	{
		part->limit = Max(1, part->limit / 4);
		return (Outcome){"running", GetCurrentTimestamp(), NULL};
	}
	if (call->verdict == API_KEY_BAD)
	{
		job_fail_account(part, call->trouble);
		return (Outcome){"failed", GetCurrentTimestamp(), call->trouble};
	}
	if (part->list_path != NULL && call->verdict != API_FORBIDDEN)
		part_set_cursor(part, NULL); /* it may be that which is refused */
	return (Outcome){skips ? "skipped" : "failed", GetCurrentTimestamp(),
					 say(part, call->trouble)};
}

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

/* Another try may succeed: what failed wasn't the answer, or it was spoilt. */
static bool
is_passing(const ErrorData *error)
{
	int category = ERRCODE_TO_CATEGORY(error->sqlerrcode);

	return category == ERRCODE_TO_CATEGORY(ERRCODE_T_R_SERIALIZATION_FAILURE) ||
		   category == ERRCODE_TO_CATEGORY(ERRCODE_LOCK_NOT_AVAILABLE) ||
		   category == ERRCODE_TO_CATEGORY(ERRCODE_INSUFFICIENT_RESOURCES) ||
		   category == ERRCODE_TO_CATEGORY(ERRCODE_PROTOCOL_VIOLATION);
}

/* Of what has been undone. */
static Outcome
judge_error(Part *part, ErrorData *error)
{
	if (is_passing(error))
		return put_off(part, error->message);
	return (Outcome){
		"failed", GetCurrentTimestamp(),
		say(part, psprintf("%s: %s", unpack_sql_state(error->sqlerrcode),
						   error->message))};
}

static Outcome
how_it_stands(const Part *part)
{
	return (Outcome){part->finished ? "done" : "running", GetCurrentTimestamp(),
					 NULL};
}

static Outcome
write_answer(Part *part, ApiCall *call)
{
	Taking taking = {part, call};
	PartMark mark = part_mark(part);
	ErrorData *error;

	if (step_guard(take_body, &taking, step_excuse_all, &error))
		return how_it_stands(part);
	part_restore(part, &mark);
	return judge_error(part, error);
}

/* True when the part goes on; within the transaction of the outcome. */
static bool
write_outcome(Part *part, const Outcome *outcome)
{
	if (part_write(part, outcome) && strcmp(outcome->state, "running") == 0)
		return true;
	if (strcmp(outcome->state, "waiting") != 0)
		job_unblock(part, outcome->state);
	job_finish(part->job);
	return false;
}

/* In a transaction of its own: what came, and how the part stands. */
static void
settle(Part *part, ApiCall *call)
{
	bool wants = call->verdict == API_OK ||
				 (part->kind->takes & API_BIT(call->verdict)) != 0;
	Outcome outcome;
	bool goes_on;
	bool quiet;

	pass_begin();
	job_lock(part->job);
	outcome = wants ? write_answer(part, call) : judge_failure(part, call);
	quiet = part->kind->quiet && part->missing == 0;
	caller_write_log();
	goes_on = write_outcome(part, &outcome);
	pass_commit();
	stirred |= !quiet || !goes_on;
	part->asked = false;
	if (!goes_on)
		let_go(part);
}

/*
 * Whatever is in hand is due again after so many microseconds.  After an error
 * nobody knows which part it was, or what had come of it.
 */
static void
let_go_of_all(int64 delay)
{
	caller_drop();
	if (taken != NULL)
		call_free(taken);
	taken = NULL;
	if (nparts == 0)
		return;
	pass_begin();
	caller_write_log();
	while (!dlist_is_empty(&parts))
	{
		Part *part = dlist_head_element(Part, node, &parts);

		part_release(part, GetCurrentTimestamp() + delay);
		let_go(part);
	}
	pass_commit();
}

/* ---- what the pass calls ---- */

static bool
settle_answers(void)
{
	ApiCall *call;
	bool any = false;

	while ((call = taken = caller_take()) != NULL)
	{
		settle(call->owner, call);
		taken = NULL;
		call_free(call);
		any = true;
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
		return (Outcome){"failed", GetCurrentTimestamp(), part->trouble};
	if (step_guard(next_body, part, step_excuse_all, &error))
		return how_it_stands(part);
	part_restore(part, &mark);
	return judge_error(part, error);
}

/*
 * Find out what is to be asked for, in a transaction of its own, and ask.  A
 * part without a key fails at once, and says so.
 */
static void
go_on(Part *part)
{
	Outcome outcome;
	bool goes_on;

	if (part->key == NULL || part->kind->next != NULL)
	{
		pass_begin();
		job_lock(part->job);
		outcome = find_request(part);
		goes_on = write_outcome(part, &outcome);
		pass_commit();
		stirred = true;
		if (!goes_on)
		{
			let_go(part);
			return;
		}
		if (!part->ready)
			return; /* in the next turn */
	}
	ask(part);
	part->asked = true;
}

static bool
go_on_with_all(void)
{
	dlist_mutable_iter iter;
	bool any = false;

	dlist_foreach_modify(iter, &parts)
	{
		Part *part = dlist_container(Part, node, iter.cur);

		if (part->asked)
			continue;
		go_on(part);
		any = true;
	}
	return any;
}

static bool
may_call(void)
{
	return guard_state() == OUTBOUND_ON && !guard_paused("stripe");
}

static void
load_keys(void)
{
	dlist_iter iter;

	dlist_foreach(iter, &parts)
	{
		Part *part = dlist_container(Part, node, iter.cur);

		if (part->key == NULL && part->trouble == NULL)
			load_key(part);
	}
}

/* False when nothing may be asked for: paused, or another server's copy. */
static bool
claim(void)
{
	TimestampTz now = GetCurrentTimestamp();
	bool may;

	pass_begin();
	next_due = DT_NOEND;
	may = may_call();
	if (may && nparts < AT_ONCE)
	{
		int nest = engine_plan_in_haste();
		TimestampTz reread_due;

		SPI_connect();
		reread_due = reread_to_parts();
		next_due = find_next();
		if (next_due <= now)
		{
			claim_parts();
			/* what is still due somebody else has, and may let go of */
			next_due = Max(find_next(), now + USECS_PER_SEC);
		}
		next_due = Min(next_due, reread_due);
		SPI_finish();
		engine_plan_as_before(nest);
		load_keys();
	}
	pass_commit();
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

/* Parts of holders that are dead are due at once. */
void
runner_reclaim(void)
{
	static EngineStatement select = {
		"SELECT job, part, lease_pid, lease_backend_start,"
		" COALESCE(lease_server_start = pg_catalog.pg_postmaster_start_time(), false)"
		" FROM stripe_sync.job_part WHERE state = 'running'"};
	static EngineStatement release = {
		"UPDATE stripe_sync.job_part SET state = 'waiting', lease_pid = NULL,"
		" lease_backend_start = NULL, lease_server_start = NULL,"
		" due_at = pg_catalog.clock_timestamp()"
		" WHERE job = $1 AND part = $2 AND state = 'running'"
		" AND lease_pid = $3 AND lease_backend_start = $4",
		4,
		{INT8OID, INT4OID, INT4OID, TIMESTAMPTZOID}};
	SPITupleTable *rows;
	uint64 count;

	pass_begin();
	SPI_connect();
	engine_run(&select, NULL, NULL, SPI_OK_SELECT);
	rows = SPI_tuptable;
	count = SPI_processed;
	for (uint64 i = 0; i < count; i++)
	{
		Datum values[4];
		bool isnull;

		for (int j = 0; j < 4; j++)
			values[j] = SPI_getbinval(rows->vals[i], rows->tupdesc, j + 1,
									  &isnull);
		if (DatumGetBool(
				SPI_getbinval(rows->vals[i], rows->tupdesc, 5, &isnull)) &&
			(DatumGetInt32(values[2]) == MyProcPid ||
			 compat_backend_lives(DatumGetInt32(values[2]),
								  DatumGetTimestampTz(values[3]))))
			continue;
		engine_run(&release, values, NULL, SPI_OK_UPDATE);
	}
	SPI_finish();
	pass_commit();
}

/* What was written stays, what wasn't is asked again. */
void
runner_drop(void)
{
	let_go_of_all(0);
}
