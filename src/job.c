/*
 * job.c
 *		Jobs: made, over with their last part, called off, waited for.
 *
 * How their parts are worked at is runner.c's.
 */
#include "jobs_internal.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

#define LOOK_EVERY 200 /* ms, while somebody waits */
#define BAR_WIDTH  30

static void
note_job(const char *what, int64 job, const char *detail)
{
	journal_note(what, psprintf(INT64_FORMAT, job), detail);
}

/* By somebody; the worker makes some by the clock. */
void
job_note_made(int64 job, const char *kind)
{
	if (!process_is_worker())
		note_job("job.made", job, kind);
}

/* Within an SPI connection of the caller's. */
int64
job_create(const char *kind)
{
	static EngineStatement insert = {
		"INSERT INTO stripe_sync.job_record (kind) VALUES ($1) RETURNING id",
		1,
		{TEXTOID}};
	Datum value = CStringGetTextDatum(kind);
	int64 job;

	engine_run(&insert, &value, NULL, SPI_OK_INSERT_RETURNING);
	worker_wake_at_commit();
	job = DatumGetInt64(engine_value());
	job_note_made(job, kind);
	return job;
}

/* ---- while it is worked at, within transactions of the runner's ---- */

/*
 * Before any of its parts: who calls it off, or joins it, does so too.  False
 * when somebody has it, whose transaction may take as long as he likes.
 */
bool
job_lock(int64 job)
{
	static EngineStatement select = {
		"SELECT FROM stripe_sync.job_record WHERE id = $1"
		" FOR NO KEY UPDATE SKIP LOCKED",
		1,
		{INT8OID}};
	Datum value = Int64GetDatum(job);
	bool locked;

	SPI_connect();
	engine_run(&select, &value, NULL, SPI_OK_SELECT);
	locked = SPI_processed > 0;
	SPI_finish();
	return locked;
}

/* With a key that is no good nothing else of the job need be asked for. */
void
job_fail_account(const Part *part, const char *error)
{
	static EngineStatement fail = {
		"UPDATE stripe_sync.job_part SET state = 'failed', error = $3"
		" WHERE job = $1 AND account = $2 AND state IN ('waiting', 'blocked')",
		3,
		{INT8OID, TEXTOID, TEXTOID}};
	Datum values[] = {Int64GetDatum(part->job),
					  CStringGetTextDatum(part->account),
					  CStringGetTextDatum(error)};

	SPI_connect();
	engine_run(&fail, values, NULL, SPI_OK_UPDATE);
	SPI_finish();
}

/* What has failed, and what somebody has asked for; not what comes by the clock. */
static void
note_finished(int64 job, HeapTuple row, TupleDesc desc)
{
	char *state = SPI_getvalue(row, desc, 1);
	bool isnull;

	if (strcmp(state, "failed") == 0)
		note_job("job.failed", job, SPI_getvalue(row, desc, 2));
	else if (DatumGetBool(SPI_getbinval(row, desc, 3, &isnull)))
		note_job("job.done", job, SPI_getvalue(row, desc, 2));
}

/* A job is over when its last part is. */
void
job_finish(int64 job)
{
	static EngineStatement finish = {
		"UPDATE stripe_sync.job_record j SET finished_at = pg_catalog.clock_timestamp(),"
		" state = CASE WHEN EXISTS (SELECT FROM stripe_sync.job_part p"
		"   WHERE p.job = j.id AND p.state = 'failed') THEN 'failed' ELSE 'done' END"
		" WHERE j.id = $1 AND j.state = 'running' AND NOT EXISTS"
		"  (SELECT FROM stripe_sync.job_part p"
		"    WHERE p.job = j.id AND p.state IN ('blocked', 'waiting', 'running'))"
		" RETURNING state, kind, kind IN ('backfill', 'create_webhook_endpoint')",
		1,
		{INT8OID}};
	Datum value = Int64GetDatum(job);

	SPI_connect();
	engine_run(&finish, &value, NULL, SPI_OK_UPDATE_RETURNING);
	if (SPI_processed > 0)
		note_finished(job, SPI_tuptable->vals[0], SPI_tuptable->tupdesc);
	SPI_finish();
}

/* ---- cancel_job ---- */

compat_noreturn static void
refuse_missing(int64 id)
{
	ereport(ERROR, (errcode(ERRCODE_NO_SUCH_NAME),
					errmsg("there is no job " INT64_FORMAT, id),
					errhint("SELECT id, kind, state FROM stripe_sync.job shows "
							"all.")));
}

compat_noreturn static void
refuse_cancel(int64 id)
{
	static EngineStatement select = {
		"SELECT state FROM stripe_sync.job_record WHERE id = $1", 1, {INT8OID}};
	Datum value = Int64GetDatum(id);

	engine_run(&select, &value, NULL, SPI_OK_SELECT);
	if (SPI_processed == 0)
		refuse_missing(id);
	ereport(
		ERROR,
		(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
		 errmsg("job " INT64_FORMAT " is %s, it cannot be called off", id,
				SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1))));
}

/* cancel_job(id): who is at a part of it finds out when he writes */
ENGINE_FUNCTION(stripe_sync_cancel_job)
{
	static EngineStatement cancel = {
		"UPDATE stripe_sync.job_record SET state = 'cancelled',"
		" finished_at = pg_catalog.clock_timestamp()"
		" WHERE id = $1 AND state IN ('waiting', 'running')",
		1,
		{INT8OID}};
	static EngineStatement parts = {
		"UPDATE stripe_sync.job_part SET state = 'cancelled', lease_pid = NULL,"
		" lease_backend_start = NULL, lease_server_start = NULL"
		" WHERE job = $1 AND state IN ('blocked', 'waiting', 'running')",
		1,
		{INT8OID}};
	Datum value = PG_GETARG_DATUM(0);
	RoleScope scope;

	argument_required(fcinfo, 0, "a job's id");
	scope = role_enter_engine();
	SPI_connect();
	engine_run(&cancel, &value, NULL, SPI_OK_UPDATE);
	if (SPI_processed == 0)
		refuse_cancel(PG_GETARG_INT64(0));
	engine_run(&parts, &value, NULL, SPI_OK_UPDATE);
	note_job("job.cancelled", PG_GETARG_INT64(0), NULL);
	SPI_finish();
	part_kinds_cancelled(PG_GETARG_INT64(0));
	worker_wake_at_commit();
	role_leave(&scope);
	PG_RETURN_VOID();
}

/* ---- wait_job ---- */

/* How a job stands. */
typedef struct Standing
{
	char state[16];
	char kind[64];
	double progress;
	int64 objects;
	char *error;
	double rate;	  /* objects a second */
	double remaining; /* seconds, -1: nobody knows */
	char *endpoint;	  /* that it has made, or NULL */
} Standing;

static void
read_standing(int64 id, Standing *standing)
{
	static EngineStatement select = {
		"SELECT state, kind, progress::float8, objects, error,"
		" COALESCE(rate, 0)::float8,"
		" COALESCE(EXTRACT(epoch FROM remaining), -1)::float8,"
		" result ->> 'endpoint'"
		" FROM stripe_sync.job WHERE id = $1",
		1,
		{INT8OID}};
	Datum value = Int64GetDatum(id);
	MemoryContext context = CurrentMemoryContext;
	RoleScope scope = role_enter_engine();
	HeapTuple row;
	TupleDesc desc;
	char *error;
	char *endpoint;
	bool isnull;

	SPI_connect();
	engine_run(&select, &value, NULL, SPI_OK_SELECT);
	if (SPI_processed == 0)
		refuse_missing(id);
	row = SPI_tuptable->vals[0];
	desc = SPI_tuptable->tupdesc;
	strlcpy(standing->state, SPI_getvalue(row, desc, 1),
			sizeof(standing->state));
	strlcpy(standing->kind, SPI_getvalue(row, desc, 2), sizeof(standing->kind));
	standing->progress = DatumGetFloat8(SPI_getbinval(row, desc, 3, &isnull));
	standing->objects = DatumGetInt64(SPI_getbinval(row, desc, 4, &isnull));
	error = SPI_getvalue(row, desc, 5);
	standing->error = error ? MemoryContextStrdup(context, error) : NULL;
	endpoint = SPI_getvalue(row, desc, 8);
	standing->endpoint = endpoint ? MemoryContextStrdup(context, endpoint)
								  : NULL;
	standing->rate = DatumGetFloat8(SPI_getbinval(row, desc, 6, &isnull));
	standing->remaining = DatumGetFloat8(SPI_getbinval(row, desc, 7, &isnull));
	SPI_finish();
	role_leave(&scope);
}

/* [#####               ]  25 %, 1200 objects, 240/s, 15 s left */
static void
show_bar(const Standing *standing)
{
	char bar[BAR_WIDTH + 1];
	int full = (int) (standing->progress * BAR_WIDTH + 0.5);
	char *left = standing->remaining >= 0
					 ? psprintf(", %.0f s left", standing->remaining)
					 : "";

	for (int i = 0; i < BAR_WIDTH; i++)
		bar[i] = i < full ? '#' : ' ';
	bar[BAR_WIDTH] = '\0';
	ereport(NOTICE,
			(errmsg("[%s] %3.0f %%, %lld objects, %.0f/s%s", bar,
					standing->progress * 100, (long long) standing->objects,
					standing->rate, left)));
}

static bool
is_over(const Standing *standing)
{
	return strcmp(standing->state, "waiting") != 0 &&
		   strcmp(standing->state, "running") != 0;
}

static TimestampTz
give_up_at(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(1))
		return DT_NOEND;
	return engine_time_after(PG_GETARG_INTERVAL_P(1));
}

/* Under which name a new endpoint is kept here. */
static void
show_endpoint(const char *name)
{
	ereport(
		NOTICE,
		(errmsg(
			 "the secret of the new webhook endpoint is kept as endpoint \"%s\"",
			 name),
		 strcmp(name, "default") == 0
			 ? 0
			 : errhint(
				   "Hand its deliveries in as stripe_sync.webhook(payload, headers, %s).",
				   quote_literal_cstr(name))));
}

/* What keeps the job from going on is said once, and again when it changes. */
static void
show_standstill(char *said, Size size)
{
	Standstill standstill;

	if (!standstill_find("stripe", &standstill))
		standstill.reason = "";
	if (strncmp(said, standstill.reason, size - 1) == 0)
		return;
	strlcpy(said, standstill.reason, size);
	if (said[0] != '\0')
		ereport(NOTICE, (errmsg("%s", standstill.reason),
						 errhint("%s", standstill.hint)));
}

/* One look, in a transaction that ends before the next. */
static bool
look(int64 id, Standing *last)
{
	Standing now = {0};

	level_check(CATALOG_LEVEL); /* which may have changed between two */
	read_standing(id, &now);
	if (now.progress != last->progress || now.objects != last->objects ||
		is_over(&now))
		show_bar(&now);
	*last = now;
	if (!is_over(&now))
		return false;
	if (strcmp(now.state, "done") != 0)
		ereport(ERROR, (errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
						errmsg("job " INT64_FORMAT " (%s) is %s", id, now.kind,
							   now.state),
						now.error ? errdetail("%s", now.error) : 0));
	if (now.endpoint != NULL)
		show_endpoint(now.endpoint);
	return true;
}

/* CALL wait_job(id, timeout), outside a transaction block */
ENGINE_FUNCTION(stripe_sync_wait_job)
{
	CallContext *call = (CallContext *) fcinfo->context;
	TimestampTz until = give_up_at(fcinfo);
	Standing last = {.progress = -1};
	char standstill[256] = "";
	int64 id;

	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("a job's id cannot be NULL")));
	if (call == NULL || !IsA(call, CallContext) || call->atomic)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
			 errmsg(
				 "stripe_sync.wait_job() cannot run inside a transaction block"),
			 errhint("CALL it by itself: it would hold the transaction open.")));
	id = PG_GETARG_INT64(0);
	SPI_connect_ext(SPI_OPT_NONATOMIC);
	while (!look(id, &last))
	{
		show_standstill(standstill, sizeof(standstill));
		SPI_commit();
		if (GetCurrentTimestamp() >= until)
			ereport(ERROR, (errcode(ERRCODE_QUERY_CANCELED),
							errmsg("job " INT64_FORMAT " is still %s", id,
								   last.state)));
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 LOOK_EVERY, compat_wait_event("StripeSyncWaitJob"));
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	SPI_finish();
	PG_RETURN_VOID();
}
