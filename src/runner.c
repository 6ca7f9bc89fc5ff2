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

#define AT_ONCE		 4 /* parts that are worked at */
#define MAX_ATTEMPTS 30
#define AGAIN_FIRST	 (15 * USECS_PER_SEC)
#define AGAIN_MOST	 (15 * 60 * USECS_PER_SEC)
#define PAGE_LIMIT	 100

static dlist_head parts = DLIST_STATIC_INIT(parts);
static int nparts = 0;
static TimestampTz next_due = DT_NOBEGIN;

static const PartKind *const kinds[] = {&part_object, &part_events};

/* ---- parts ---- */

static const PartKind *
find_kind(const char *name)
{
	for (int i = 0; i < lengthof(kinds); i++)
		if (strcmp(kinds[i]->name, name) == 0)
			return kinds[i];
	elog(ERROR, "there is no kind of part \"%s\"", name);
}

static void
part_free(Part *part)
{
	dlist_delete(&part->node);
	nparts--;
	if (part->key != NULL)
		OPENSSL_cleanse(part->key, strlen(part->key));
	MemoryContextDelete(part->memory);
}

void
part_set_cursor(Part *part, const char *cursor)
{
	part->cursor = cursor ? MemoryContextStrdup(part->memory, cursor) : NULL;
}

static char *
column_text(HeapTuple row, TupleDesc desc, int column, MemoryContext memory)
{
	char *text = SPI_getvalue(row, desc, column);

	return text ? MemoryContextStrdup(memory, text) : NULL;
}

static TimestampTz
column_time(HeapTuple row, TupleDesc desc, int column)
{
	bool isnull;
	Datum value = SPI_getbinval(row, desc, column, &isnull);

	return isnull ? DT_NOBEGIN : DatumGetTimestampTz(value);
}

static Part *
read_part(HeapTuple row, TupleDesc desc)
{
	MemoryContext memory = AllocSetContextCreate(
		TopMemoryContext, "stripe_sync part", ALLOCSET_SMALL_SIZES);
	Part *part = MemoryContextAllocZero(memory, sizeof(Part));
	bool isnull;

	part->memory = memory;
	part->job = DatumGetInt64(SPI_getbinval(row, desc, 1, &isnull));
	part->number = DatumGetInt32(SPI_getbinval(row, desc, 2, &isnull));
	part->kind = find_kind(SPI_getvalue(row, desc, 3));
	part->object_type = column_text(row, desc, 4, memory);
	part->object_id = column_text(row, desc, 5, memory);
	part->account = column_text(row, desc, 6, memory);
	part->since = column_time(row, desc, 7);
	part->until = column_time(row, desc, 8);
	part->cursor = column_text(row, desc, 9, memory);
	part->attempts = DatumGetInt32(SPI_getbinval(row, desc, 10, &isnull));
	part->progress = DatumGetFloat8(SPI_getbinval(row, desc, 11, &isnull));
	part->arguments = column_text(row, desc, 12, memory);
	part->limit = PAGE_LIMIT;
	dlist_push_tail(&parts, &part->node);
	nparts++;
	return part;
}

/* ---- claiming ---- */

/* Columns are read by read_part(). */
static void
claim_rows(int room)
{
	static EngineStatement claim = {
		"UPDATE stripe_sync.job_part p SET state = 'running',"
		" attempts = p.attempts + 1, lease_pid = $2, lease_backend_start = $3,"
		" lease_server_start = pg_catalog.pg_postmaster_start_time()"
		" FROM (SELECT job, part FROM stripe_sync.job_part"
		"   WHERE state = 'waiting' AND due_at <= pg_catalog.clock_timestamp()"
		"   ORDER BY priority, due_at LIMIT $1 FOR UPDATE SKIP LOCKED) d"
		" WHERE p.job = d.job AND p.part = d.part"
		" RETURNING p.job, p.part, p.kind, p.object_type, p.object_id, p.account,"
		"  p.since, p.until, p.cursor, p.attempts, p.progress,"
		"  (SELECT j.arguments FROM stripe_sync.job_record j WHERE j.id = p.job)",
		3,
		{INT4OID, INT4OID, TIMESTAMPTZOID}};
	static EngineStatement begin = {
		"UPDATE stripe_sync.job_record SET state = 'running',"
		" started_at = COALESCE(started_at, pg_catalog.clock_timestamp())"
		" WHERE id = $1 AND state = 'waiting'",
		1,
		{INT8OID}};
	Datum values[] = {Int32GetDatum(room), Int32GetDatum(MyProcPid),
					  TimestampTzGetDatum(MyStartTimestamp)};
	SPITupleTable *rows;
	uint64 count;

	engine_run(&claim, values, NULL, SPI_OK_UPDATE_RETURNING);
	rows = SPI_tuptable;
	count = SPI_processed;
	for (uint64 i = 0; i < count; i++)
	{
		Part *part = read_part(rows->vals[i], rows->tupdesc);
		Datum job = Int64GetDatum(part->job);

		engine_run(&begin, &job, NULL, SPI_OK_UPDATE);
	}
}

static TimestampTz
find_next(void)
{
	static EngineStatement select = {
		"SELECT pg_catalog.min(due_at) FROM stripe_sync.job_part"
		" WHERE state = 'waiting'"};

	engine_run(&select, NULL, NULL, SPI_OK_SELECT);
	return column_time(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
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
	call->job = part->job;
	caller_submit(call);
}

/* ---- what becomes of a part ---- */

typedef struct Outcome
{
	const char *state;
	TimestampTz due;
	const char *error; /* or NULL: none, or no more */
} Outcome;

/* False when it isn't ours any more: it was called off. */
static bool
write_part(Part *part, const Outcome *outcome)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.job_part SET state = $3, due_at = $4, error = $5,"
		" cursor = $6, pages = pages + $7, objects = objects + $8,"
		" missing = missing + $9, repaired = repaired + $10,"
		" progress = CASE WHEN $3 = 'done' THEN 1 ELSE $11 END,"
		" attempts = CASE WHEN $3 = 'running' THEN 1 ELSE attempts END,"
		" lease_pid = CASE WHEN $3 = 'running' THEN lease_pid END,"
		" lease_backend_start = CASE WHEN $3 = 'running' THEN lease_backend_start END,"
		" lease_server_start = CASE WHEN $3 = 'running' THEN lease_server_start END"
		" WHERE job = $1 AND part = $2 AND state = 'running' AND lease_pid = $12"
		" AND lease_backend_start = $13",
		13,
		{INT8OID, INT4OID, TEXTOID, TIMESTAMPTZOID, TEXTOID, TEXTOID, INT8OID,
		 INT8OID, INT8OID, INT8OID, FLOAT8OID, INT4OID, TIMESTAMPTZOID}};
	Datum values[] = {Int64GetDatum(part->job),
					  Int32GetDatum(part->number),
					  CStringGetTextDatum(outcome->state),
					  TimestampTzGetDatum(outcome->due),
					  outcome->error ? CStringGetTextDatum(outcome->error) : 0,
					  part->cursor ? CStringGetTextDatum(part->cursor) : 0,
					  Int64GetDatum(part->pages),
					  Int64GetDatum(part->objects),
					  Int64GetDatum(part->missing),
					  Int64GetDatum(part->repaired),
					  Float8GetDatum(part->progress),
					  Int32GetDatum(MyProcPid),
					  TimestampTzGetDatum(MyStartTimestamp)};
	char nulls[] = {' ',
					' ',
					' ',
					' ',
					outcome->error ? ' ' : 'n',
					part->cursor ? ' ' : 'n',
					' ',
					' ',
					' ',
					' ',
					' ',
					' ',
					' ',
					'\0'};
	bool ours;

	SPI_connect();
	engine_run(&update, values, nulls, SPI_OK_UPDATE);
	ours = SPI_processed > 0;
	SPI_finish();
	part->pages = part->objects = part->missing = part->repaired = 0;
	return ours;
}

/* A job is over when its last part is. */
static void
finish_job(int64 job)
{
	static EngineStatement finish = {
		"UPDATE stripe_sync.job_record j SET finished_at = pg_catalog.clock_timestamp(),"
		" state = CASE WHEN EXISTS (SELECT FROM stripe_sync.job_part p"
		"   WHERE p.job = j.id AND p.state = 'failed') THEN 'failed' ELSE 'done' END"
		" WHERE j.id = $1 AND j.state = 'running' AND NOT EXISTS"
		"  (SELECT FROM stripe_sync.job_part p"
		"    WHERE p.job = j.id AND p.state IN ('waiting', 'running'))",
		1,
		{INT8OID}};
	Datum value = Int64GetDatum(job);

	SPI_connect();
	engine_run(&finish, &value, NULL, SPI_OK_UPDATE);
	SPI_finish();
}

static Outcome
put_off(const Part *part, const char *error)
{
	int64 delay = Min(AGAIN_MOST, AGAIN_FIRST << Min(part->attempts - 1, 10));
	bool tried_out = part->attempts >= MAX_ATTEMPTS;

	return (Outcome){tried_out ? "failed" : "waiting",
					 GetCurrentTimestamp() + delay, error};
}

/* What an answer that isn't good makes of the part. */
static Outcome
judge_failure(Part *part, const ApiCall *call)
{
	switch (call->verdict)
	{
		case API_AGAIN:
			return put_off(part, call->trouble);
		case API_TOO_LARGE:
			if (part->limit > 1)
			{
				part->limit = Max(1, part->limit / 4);
				return (Outcome){"running", GetCurrentTimestamp(), NULL};
			}
			break;
		default:
			break;
	}
	return (Outcome){"failed", GetCurrentTimestamp(), call->trouble};
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

/* Another try may succeed: what failed was not the answer. */
static bool
is_passing(const ErrorData *error)
{
	int category = ERRCODE_TO_CATEGORY(error->sqlerrcode);

	return category == ERRCODE_TO_CATEGORY(ERRCODE_T_R_SERIALIZATION_FAILURE) ||
		   category == ERRCODE_TO_CATEGORY(ERRCODE_LOCK_NOT_AVAILABLE) ||
		   category == ERRCODE_TO_CATEGORY(ERRCODE_INSUFFICIENT_RESOURCES);
}

static Outcome
write_answer(Part *part, ApiCall *call)
{
	Taking taking = {part, call};
	ErrorData *error;

	if (step_guard(take_body, &taking, step_excuse_all, &error))
		return (Outcome){part->finished ? "done" : "running",
						 GetCurrentTimestamp(), NULL};
	part->pages = part->objects = part->missing = part->repaired = 0;
	if (is_passing(error))
		return put_off(part, error->message);
	return (Outcome){"failed", GetCurrentTimestamp(),
					 psprintf("%s: %s", unpack_sql_state(error->sqlerrcode),
							  error->message)};
}

/* In a transaction of its own: what came, and how the part stands. */
static void
settle(Part *part, ApiCall *call)
{
	bool wants = call->verdict == API_OK ||
				 (call->verdict == API_GONE && part->object_id != NULL);
	Outcome outcome;
	bool goes_on;

	pass_begin();
	outcome = wants ? write_answer(part, call) : judge_failure(part, call);
	caller_write_log();
	goes_on = write_part(part, &outcome) &&
			  strcmp(outcome.state, "running") == 0;
	if (!goes_on)
		finish_job(part->job);
	pass_commit();
	if (goes_on)
		ask(part);
	else
		part_free(part);
}

/* ---- what the pass calls ---- */

static bool
settle_answers(void)
{
	ApiCall *call;
	bool any = false;

	while ((call = caller_take()) != NULL)
	{
		settle(call->owner, call);
		call_free(call);
		any = true;
	}
	return any;
}

/* Without a key a part fails at once, and says so. */
static void
begin_part(Part *part)
{
	Outcome outcome = {"failed", GetCurrentTimestamp(), part->trouble};

	if (part->key != NULL)
	{
		ask(part);
		return;
	}
	pass_begin();
	(void) write_part(part, &outcome);
	finish_job(part->job);
	pass_commit();
	part_free(part);
}

static bool
may_call(void)
{
	return guard_state() == OUTBOUND_ON && !guard_paused("stripe");
}

static List *
claim(void)
{
	List *claimed = NIL;
	dlist_iter iter;
	int nest;

	pass_begin();
	if (may_call())
	{
		nest = engine_plan_in_haste();
		SPI_connect();
		reread_to_parts();
		claim_rows(AT_ONCE - nparts);
		next_due = find_next();
		SPI_finish();
		engine_plan_as_before(nest);
	}
	else
		next_due = DT_NOEND;
	dlist_foreach(iter, &parts)
	{
		Part *part = dlist_container(Part, node, iter.cur);

		if (part->key != NULL || part->trouble != NULL)
			continue;
		load_key(part);
		claimed = lappend(claimed, part);
	}
	pass_commit();
	return claimed;
}

bool
runner_turn(TimestampTz *next)
{
	bool busy = settle_answers();
	TimestampTz paced;
	ListCell *cell;

	if (nparts < AT_ONCE)
	{
		List *claimed = claim();

		foreach(cell, claimed)
			begin_part(lfirst(cell));
		busy |= claimed != NIL;
	}
	busy |= caller_turn(&paced);
	*next = paced;
	if (nparts < AT_ONCE && next_due != DT_NOBEGIN)
		*next = Min(*next, next_due);
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

/* Let go of everything: what was written stays, what wasn't is asked again. */
void
runner_drop(void)
{
	Outcome outcome = {"waiting", GetCurrentTimestamp(), NULL};

	if (nparts == 0)
		return;
	caller_drop();
	pass_begin();
	caller_write_log();
	while (!dlist_is_empty(&parts))
	{
		Part *part = dlist_head_element(Part, node, &parts);

		(void) write_part(part, &outcome);
		part_free(part);
	}
	pass_commit();
}
