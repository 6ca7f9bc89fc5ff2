/*
 * wait_job.c
 *		CALL wait_job(): waits until a job has ended, with a progress bar.
 *
 * The job's status is read every 200 ms, each time in a transaction of its own,
 * so that no snapshot is held meanwhile.
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/wait_event.h"

#include "base/compat.h"
#include "engine/engine.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "server/server.h"
#include "jobs/internal.h"

#define POLL_INTERVAL 200 /* ms */
#define BAR_WIDTH	  30

typedef struct JobStatus
{
	char state[16];
	char kind[64];
	double progress;
	int64 objects;
	char *error;
	double rate;	  /* objects a second */
	double remaining; /* seconds, -1: unknown */
	char *endpoint;	  /* that the job has created, or NULL */
} JobStatus;

/* Raises SY005 if there is no such job. */
static void
read_status(int64 job, JobStatus *status)
{
	static EngineStatement select = {
		"SELECT state, kind, progress::float8, objects, error,"
		" COALESCE(rate, 0)::float8,"
		" COALESCE(EXTRACT(epoch FROM remaining), -1)::float8,"
		" result ->> 'endpoint'"
		" FROM stripe_sync.job WHERE id = $1"};
	RoleScope scope = role_enter_engine();
	Rows rows;

	rows_open(&rows, &select, ARGS(arg_int8(job)));
	if (!rows_next(&rows))
		job_raise_missing(job);
	strlcpy(status->state, rows_text(&rows), sizeof(status->state));
	strlcpy(status->kind, rows_text(&rows), sizeof(status->kind));
	status->progress = rows_float8(&rows, 0);
	status->objects = rows_int8(&rows, 0);
	status->error = rows_text(&rows);
	status->rate = rows_float8(&rows, 0);
	status->remaining = rows_float8(&rows, -1);
	status->endpoint = rows_text(&rows);
	rows_close(&rows);
	role_leave(&scope);
}

/* [#####               ]  25 %, 1200 objects, 240/s, 15 s left */
static void
show_bar(const JobStatus *status)
{
	char bar[BAR_WIDTH + 1];
	int full = (int) (status->progress * BAR_WIDTH + 0.5);
	char *left = status->remaining >= 0
					 ? psprintf(", %.0f s left", status->remaining)
					 : "";

	for (int i = 0; i < BAR_WIDTH; i++)
		bar[i] = i < full ? '#' : ' ';
	bar[BAR_WIDTH] = '\0';
	ereport(NOTICE, (errmsg("[%s] %3.0f %%, %lld objects, %.0f/s%s", bar,
							status->progress * 100, (long long) status->objects,
							status->rate, left)));
}

static bool
job_has_ended(const JobStatus *status)
{
	return strcmp(status->state, "waiting") != 0 &&
		   strcmp(status->state, "running") != 0;
}

static TimestampTz
wait_deadline(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(1))
		return DT_NOEND;
	return engine_time_after(PG_GETARG_INTERVAL_P(1));
}

static void
show_new_endpoint(const char *name)
{
	ereport(
		NOTICE,
		(errmsg("the secret of the new webhook endpoint is stored as endpoint "
				"\"%s\"",
				name),
		 strcmp(name, "default") == 0
			 ? 0
			 : errhint(
				   "Pass its deliveries to stripe_sync.webhook(payload, headers, %s).",
				   quote_literal_cstr(name))));
}

/*
 * Say why the job does not go on: no worker runs, or it is paused.  Said once,
 * and again when the reason changes; "shown" is the reason that was said last.
 */
static void
show_standstill(char *shown, Size size)
{
	Standstill standstill;

	if (!standstill_find("stripe", &standstill))
		standstill.reason = "";
	if (strncmp(shown, standstill.reason, size - 1) == 0)
		return;
	strlcpy(shown, standstill.reason, size);
	if (shown[0] != '\0')
		ereport(NOTICE, (errmsg("%s", standstill.reason),
						 errhint("%s", standstill.hint)));
}

/*
 * Read the job's status and show its progress if that has changed.  Returns true
 * if the job is done; raises an error if it failed or was cancelled.
 */
static bool
poll_job(int64 job, JobStatus *last)
{
	JobStatus now = {0};

	level_check(CATALOG_LEVEL); /* the extension may have been updated */
	read_status(job, &now);
	if (now.progress != last->progress || now.objects != last->objects ||
		job_has_ended(&now))
		show_bar(&now);
	*last = now;
	if (!job_has_ended(&now))
		return false;
	if (strcmp(now.state, "done") != 0)
		ereport(ERROR, (errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
						errmsg("job " INT64_FORMAT " (%s) is %s", job, now.kind,
							   now.state),
						now.error ? errdetail("%s", now.error) : 0));
	if (now.endpoint != NULL)
		show_new_endpoint(now.endpoint);
	return true;
}

static void
check_call(FunctionCallInfo fcinfo)
{
	CallContext *call = (CallContext *) fcinfo->context;

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
}

/*
 * CALL wait_job(id, timeout).  Raises SY005 if there is no such job, 57014 after
 * the timeout, 38000 if the job fails or is cancelled, 2D000 in a transaction
 * block.
 */
ENGINE_FUNCTION(stripe_sync_wait_job)
{
	TimestampTz until = wait_deadline(fcinfo);
	JobStatus last = {.progress = -1};
	char standstill[256] = "";
	int64 job;

	check_call(fcinfo);
	job = PG_GETARG_INT64(0);
	SPI_connect_ext(SPI_OPT_NONATOMIC);
	while (!poll_job(job, &last))
	{
		show_standstill(standstill, sizeof(standstill));
		SPI_commit();
		if (GetCurrentTimestamp() >= until)
			ereport(ERROR, (errcode(ERRCODE_QUERY_CANCELED),
							errmsg("job " INT64_FORMAT " is still %s", job,
								   last.state)));
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 POLL_INTERVAL, compat_wait_event("StripeSyncWaitJob"));
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	SPI_finish();
	PG_RETURN_VOID();
}
