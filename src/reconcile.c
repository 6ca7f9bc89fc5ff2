/*
 * reconcile.c
 *		Runs that compare Stripe's list of events with the inbox: asked for, or
 *		by themselves.  How the list is read: event_list.c.
 *
 * A run has a part for each account.  How far down it goes is in the job, as
 * seconds back from the time at which it begins by Stripe's clock, and in its
 * parts, as the time up to which the inbox is known to be complete: the farther
 * counts, and it is looked up with every page, so that a run that is under way
 * can be widened.
 *
 * A run that has failed is not over: when the next is due it goes on, where it
 * was.  The watermark stands still until then.
 */
#include "sync.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"

#include "loop.h"

#define LOOK_EVERY (60 * USECS_PER_SEC)

/* ---- a run is made ---- */

/* Stripe may refuse an account that is connected no more. */
static void
add_part(int64 job, int number, const char *account, bool from_watermark)
{
	static EngineStatement insert = {
		"INSERT INTO stripe_sync.job_part (job, part, kind, priority, account, since, optional)"
		" SELECT $1, $2, 'events', $4, $3,"
		"  (SELECT w.at - $5 * interval '1 second' FROM stripe_sync.watermark w"
		"    WHERE w.account = $3 AND $6), $7",
		7,
		{INT8OID, INT4OID, TEXTOID, INT4OID, INT4OID, BOOLOID, BOOLOID}};
	Datum values[] = {Int64GetDatum(job),
					  Int32GetDatum(number),
					  CStringGetTextDatum(account),
					  Int32GetDatum(PRIORITY_RECONCILE),
					  Int32GetDatum(RECONCILE_OVERLAP / USECS_PER_SEC),
					  BoolGetDatum(from_watermark),
					  BoolGetDatum(!api_key_is_own(account))};

	engine_run(&insert, values, NULL, SPI_OK_INSERT);
}

/*
 * Seconds back; 0: from where the last run ended.  Answers 0 when there is one
 * already.
 */
static int64
create_run(int64 seconds)
{
	static EngineStatement insert = {
		"INSERT INTO stripe_sync.job_record (kind, arguments)"
		" SELECT 'reconcile', CASE WHEN $1 > 0"
		"  THEN pg_catalog.jsonb_build_object('seconds', $1) END"
		" ON CONFLICT DO NOTHING RETURNING id",
		1,
		{INT8OID}};
	Datum value = Int64GetDatum(seconds);
	List *accounts = api_accounts();
	int number = 0;
	ListCell *cell;
	int64 job;

	engine_run(&insert, &value, NULL, SPI_OK_INSERT_RETURNING);
	if (SPI_processed == 0)
		return 0;
	job = DatumGetInt64(engine_value());
	foreach(cell, accounts)
		add_part(job, ++number, lfirst(cell), seconds == 0);
	job_note_made(job, "reconcile");
	worker_wake_at_commit();
	return job;
}

/* What has been read of it already goes on below. */
static void
widen_run(int64 job, int64 seconds)
{
	static EngineStatement widen = {
		"UPDATE stripe_sync.job_record SET arguments ="
		" pg_catalog.jsonb_build_object('seconds', $2)"
		" WHERE id = $1 AND COALESCE((arguments->>'seconds')::bigint, 0) < $2",
		2,
		{INT8OID, INT8OID}};
	static EngineStatement reopen = {
		"UPDATE stripe_sync.job_part SET state = 'waiting', attempts = 0, tries = 0,"
		" due_at = pg_catalog.clock_timestamp()"
		" WHERE job = $1 AND state IN ('done', 'failed', 'skipped')",
		1,
		{INT8OID}};
	Datum values[] = {Int64GetDatum(job), Int64GetDatum(seconds)};

	engine_run(&widen, values, NULL, SPI_OK_UPDATE);
	if (SPI_processed > 0)
		engine_run(&reopen, values, NULL, SPI_OK_UPDATE);
	worker_wake_at_commit();
}

/* One that waits or runs, or 0. */
static int64
find_run(void)
{
	static EngineStatement select = {
		"SELECT id FROM stripe_sync.job_record"
		" WHERE kind = 'reconcile' AND state IN ('waiting', 'running')"
		" FOR UPDATE"};

	engine_run(&select, NULL, NULL, SPI_OK_SELECT);
	return SPI_processed > 0 ? DatumGetInt64(engine_value()) : 0;
}

/* ---- asked for ---- */

static int64
ask_for_run(int64 seconds)
{
	int64 job;

	do
	{
		CHECK_FOR_INTERRUPTS();
		job = find_run();
		if (job != 0)
			widen_run(job, seconds);
		else
			job = create_run(seconds);
	} while (job == 0); /* somebody else's may be over again by now */
	return job;
}

/* reconcile(since): a job */
ENGINE_FUNCTION(stripe_sync_reconcile)
{
	RoleScope scope;
	int64 seconds;
	int64 job;

	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("since cannot be NULL"),
						errhint("For example: '3 days'.")));
	endpoint_check_interval(PG_GETARG_INTERVAL_P(0), "since");
	seconds = endpoint_seconds(PG_GETARG_INTERVAL_P(0));
	if (seconds > STRIPE_KEEPS / USECS_PER_SEC)
		ereport(NOTICE,
				(errmsg("Stripe lists the events of 30 days, no more"),
				 errhint("SELECT stripe_sync.backfill() reads the objects "
						 "themselves.")));
	seconds = Max(1, Min(seconds, STRIPE_KEEPS / USECS_PER_SEC));
	scope = role_enter_engine();
	refuse_without_key();
	SPI_connect();
	job = ask_for_run(seconds);
	SPI_finish();
	outbound_note_identity();
	role_leave(&scope);
	standstill_note("stripe");
	PG_RETURN_INT64(job);
}

/* ---- by itself ---- */

/* The first run of reconcile comes one interval after the key. */
void
reconcile_begin(void)
{
	static EngineStatement schedule = {
		"INSERT INTO stripe_sync.reconcile_schedule (next_at)"
		" VALUES (pg_catalog.clock_timestamp() + $1 * interval '1 second')"
		" ON CONFLICT (one) DO NOTHING",
		1,
		{INT4OID}};
	Datum interval = Int32GetDatum(guc_reconcile_interval);

	SPI_connect();
	engine_run(&schedule, &interval, NULL, SPI_OK_INSERT);
	SPI_finish();
}

/* When it is due: from the last run on, so that nothing is left out. */
static bool
take_turn(void)
{
	static EngineStatement take = {
		"UPDATE stripe_sync.reconcile_schedule SET next_at ="
		" pg_catalog.clock_timestamp() + $1 * interval '1 second'"
		" WHERE next_at <= pg_catalog.clock_timestamp()"
		"  OR next_at > pg_catalog.clock_timestamp() + $1 * interval '1 second'",
		1,
		{INT4OID}};
	Datum value = Int32GetDatum(guc_reconcile_interval);

	engine_run(&take, &value, NULL, SPI_OK_UPDATE);
	return SPI_processed > 0;
}

static TimestampTz
next_turn(void)
{
	static EngineStatement select = {
		"SELECT pg_catalog.min(next_at) FROM stripe_sync.reconcile_schedule"};

	return engine_first_time(&select);
}

/* The last run, if it has failed, goes on where it was. */
static bool
resume_failed(void)
{
	static EngineStatement reopen_job = {
		"UPDATE stripe_sync.job_record SET state = 'waiting', finished_at = NULL,"
		" idle = idle + (pg_catalog.clock_timestamp() - finished_at)"
		" WHERE id = (SELECT j.id FROM stripe_sync.job_record j"
		"   WHERE j.kind = 'reconcile' ORDER BY j.id DESC LIMIT 1)"
		" AND state = 'failed' RETURNING id"};
	static EngineStatement reopen_parts = {
		"UPDATE stripe_sync.job_part SET state = 'waiting', attempts = 0, tries = 0,"
		" due_at = pg_catalog.clock_timestamp() WHERE job = $1 AND state = 'failed'",
		1,
		{INT8OID}};
	Datum job;

	engine_run(&reopen_job, NULL, NULL, SPI_OK_UPDATE_RETURNING);
	if (SPI_processed == 0)
		return false;
	job = engine_value();
	engine_run(&reopen_parts, &job, NULL, SPI_OK_UPDATE);
	return true;
}

/* What a run began too long ago to know is read at once. */
void
reconcile_hurry(void)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.reconcile_schedule SET next_at = pg_catalog.clock_timestamp()"};

	SPI_connect();
	engine_run(&update, NULL, NULL, SPI_OK_UPDATE);
	SPI_finish();
	worker_wake_at_commit();
}

/* False when none is due; *next is when one will be. */
bool
reconcile_schedule(TimestampTz *next)
{
	bool due = false;

	worker_begin();
	/* a key, an end of a pause: nobody tells us of those */
	*next = GetCurrentTimestamp() + LOOK_EVERY;
	if (guc_reconcile_interval > 0 && outbound_allowed("stripe") &&
		api_key_is_set())
	{
		SPI_connect();
		due = take_turn();
		if (due && find_run() == 0 && !resume_failed())
			(void) create_run(0);
		*next = Min(*next, next_turn());
		SPI_finish();
	}
	worker_commit();
	return due;
}
