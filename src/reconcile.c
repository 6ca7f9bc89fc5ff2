/*
 * reconcile.c
 *		Stripe's own list of events is read, and what never arrived is brought
 *		in.
 *
 * A run reads down from five minutes ago (what is younger may still be in
 * flight) to where the last one ended, less an overlap; the times are in the
 * part, so that a run that was broken off goes on below its cursor.  What the
 * inbox lacks is stored as "pending"; when the bottom is reached all of it
 * falls due in the events' own order, and is applied as any other retry.  So
 * nothing that a webhook has meanwhile brought is touched.
 */
#include "stripe_api.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"

#include "pass.h"

PG_FUNCTION_INFO_V1(stripe_sync_reconcile);

#define TOO_YOUNG (5 * 60 * USECS_PER_SEC)
#define OVERLAP	  (10 * 60 * USECS_PER_SEC)
#define KEPT	  (30 * USECS_PER_DAY) /* that Stripe lists */
#define AT_FIRST  (3 * USECS_PER_DAY)

/* ---- a run is asked for ---- */

/* The accounts whose events there are: one's own, and those heard of. */
static void
add_parts(int64 job, TimestampTz since)
{
	static EngineStatement insert = {
		"INSERT INTO stripe_sync.job_part (job, part, kind, priority, account, since, until)"
		" SELECT $1, pg_catalog.row_number() OVER (ORDER BY a.account), 'events', $4, a.account,"
		"  CASE WHEN $2 = '-infinity' THEN COALESCE(w.at - $5, $3 - $6) ELSE $2 END, $3"
		" FROM (SELECT '' AS account UNION SELECT k.account FROM stripe_sync.api_key k"
		"   UNION SELECT w.account FROM stripe_sync.watermark w) a"
		" LEFT JOIN stripe_sync.watermark w ON w.account = a.account",
		6,
		{INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID, INTERVALOID,
		 INTERVALOID}};
	Interval overlap = {.time = OVERLAP};
	Interval first = {.time = AT_FIRST};
	Datum values[] = {Int64GetDatum(job),
					  TimestampTzGetDatum(since),
					  TimestampTzGetDatum(GetCurrentTimestamp() - TOO_YOUNG),
					  Int32GetDatum(PRIORITY_RECONCILE),
					  IntervalPGetDatum(&overlap),
					  IntervalPGetDatum(&first)};

	engine_run(&insert, values, NULL, SPI_OK_INSERT);
}

/* One that waits or runs, widened so that it begins as early. */
static int64
join_run(TimestampTz since)
{
	static EngineStatement select = {
		"SELECT id FROM stripe_sync.job_record"
		" WHERE kind = 'reconcile' AND state IN ('waiting', 'running')"
		" ORDER BY id DESC LIMIT 1 FOR UPDATE"};
	static EngineStatement widen = {
		"UPDATE stripe_sync.job_part SET since = LEAST(since, $2)"
		" WHERE job = $1 AND state IN ('waiting', 'running')",
		2,
		{INT8OID, TIMESTAMPTZOID}};
	Datum values[] = {0, TimestampTzGetDatum(since)};

	engine_run(&select, NULL, NULL, SPI_OK_SELECT);
	if (SPI_processed == 0)
		return 0;
	values[0] = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1,
							  &(bool){false});
	engine_run(&widen, values, NULL, SPI_OK_UPDATE);
	return DatumGetInt64(values[0]);
}

/* reconcile(since): a job */
Datum
stripe_sync_reconcile(PG_FUNCTION_ARGS)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz since;
	RoleScope scope;
	int64 job;

	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("since cannot be NULL"),
						errhint("For example: '3 days'.")));
	endpoint_check_interval(PG_GETARG_INTERVAL_P(0), "since");
	since = now - Min(endpoint_seconds(PG_GETARG_INTERVAL_P(0)) * USECS_PER_SEC,
					  KEPT);
	scope = role_enter_engine();
	refuse_without_key();
	SPI_connect();
	job = join_run(since);
	if (job == 0)
	{
		job = job_create("reconcile");
		add_parts(job, since);
	}
	SPI_finish();
	guard_note();
	role_leave(&scope);
	PG_RETURN_INT64(job);
}

/* ---- by itself ---- */

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
	bool isnull;
	Datum value;

	engine_run(&select, NULL, NULL, SPI_OK_SELECT);
	value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1,
						  &isnull);
	return isnull ? DT_NOEND : DatumGetTimestampTz(value);
}

/* A gap longer than Stripe's memory is said, and what mends it. */
static void
warn_of_gap(void)
{
	static EngineStatement select = {
		"SELECT account FROM stripe_sync.watermark"
		" WHERE at < pg_catalog.clock_timestamp() - interval '30 days' LIMIT 1"};

	engine_run(&select, NULL, NULL, SPI_OK_SELECT);
	if (SPI_processed > 0)
		ereport(WARNING,
				(errmsg("events of more than 30 days ago cannot be reconciled: "
						"Stripe lists them no more"),
				 errhint("SELECT stripe_sync.backfill() reads the objects "
						 "themselves.")));
}

/* False when none is due; *next is when one will be. */
bool
reconcile_schedule(TimestampTz *next)
{
	bool due = false;

	pass_begin();
	*next = DT_NOEND;
	if (guc_reconcile_interval > 0 && guard_state() == OUTBOUND_ON &&
		!guard_paused("stripe") && api_key_is_set())
	{
		SPI_connect();
		due = take_turn();
		if (due && join_run(DT_NOEND) == 0)
		{
			warn_of_gap();
			add_parts(job_create("reconcile"), DT_NOBEGIN);
		}
		*next = next_turn();
		SPI_finish();
	}
	pass_commit();
	return due;
}

/* ---- pages ---- */

static char *
events_path(const Part *part)
{
	StringInfoData path;

	initStringInfo(&path);
	appendStringInfo(&path,
					 "/v1/events?limit=%d&created[gte]=%lld&created[lte]=%lld",
					 part->limit, (long long) timestamptz_to_time_t(part->since),
					 (long long) timestamptz_to_time_t(part->until));
	if (part->cursor != NULL)
		appendStringInfo(&path, "&starting_after=%s", part->cursor);
	return path.data;
}

/* An endpoint of that mode, when there is just one. */
static char *
endpoint_of(const Event *event)
{
	static EngineStatement select = {
		"SELECT pg_catalog.min(name) FROM stripe_sync.endpoint"
		" WHERE livemode IS NULL OR $1 IS NULL OR livemode = $1"
		" HAVING pg_catalog.count(*) = 1",
		1,
		{BOOLOID}};
	Datum value = BoolGetDatum(event->livemode);
	MemoryContext context = CurrentMemoryContext;
	char *name = NULL;

	SPI_connect();
	engine_run(&select, &value, event->has_livemode ? NULL : "n", SPI_OK_SELECT);
	if (SPI_processed > 0)
	{
		name = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
		name = name ? MemoryContextStrdup(context, name) : NULL;
	}
	SPI_finish();
	return name;
}

/* True when the inbox did not have it. */
static bool
bring_in(const PageElement *element, TimestampTz *created)
{
	Refusal refusal;
	Event event;

	if (!event_read(element->bytes, element->length, &event, &refusal))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
				 errmsg("Stripe lists what is no event: %s", refusal.detail)));
	if (event.has_created)
		*created = event.created;
	return inbox_store_pending(&event, endpoint_of(&event), "reconcile");
}

/* All that this and broken runs have stored, in the events' own order. */
static int64
release_pending(const char *account)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.event e SET next_attempt_at ="
		" pg_catalog.clock_timestamp() + o.n * interval '1 microsecond'"
		" FROM (SELECT id, account, pg_catalog.row_number() OVER"
		"   (ORDER BY created, id COLLATE \"C\") AS n FROM stripe_sync.event"
		"  WHERE status = 'pending' AND next_attempt_at IS NULL"
		"    AND source = 'reconcile' AND account = $1) o"
		" WHERE e.id = o.id AND e.account = o.account",
		1,
		{TEXTOID}};
	Datum value = CStringGetTextDatum(account);
	int64 released;

	SPI_connect();
	engine_run(&update, &value, NULL, SPI_OK_UPDATE);
	released = (int64) SPI_processed;
	SPI_finish();
	slots_wake();
	return released;
}

static void
raise_watermark(const Part *part)
{
	static EngineStatement upsert = {
		"INSERT INTO stripe_sync.watermark AS w (account, at) VALUES ($1, $2)"
		" ON CONFLICT (account) DO UPDATE SET at = GREATEST(w.at, excluded.at)",
		2,
		{TEXTOID, TIMESTAMPTZOID}};
	Datum values[] = {CStringGetTextDatum(part->account),
					  TimestampTzGetDatum(part->until)};

	SPI_connect();
	engine_run(&upsert, values, NULL, SPI_OK_INSERT);
	SPI_finish();
}

/* How many of the job's were missing, this page's included. */
static int64
count_missing(const Part *part)
{
	static EngineStatement select = {
		"SELECT missing FROM stripe_sync.job_part WHERE job = $1 AND part = $2",
		2,
		{INT8OID, INT4OID}};
	Datum values[] = {Int64GetDatum(part->job), Int32GetDatum(part->number)};
	int64 missing;

	SPI_connect();
	engine_run(&select, values, NULL, SPI_OK_SELECT);
	missing = DatumGetInt64(SPI_getbinval(
		SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &(bool){false}));
	SPI_finish();
	return missing + part->missing;
}

static void
report_missing(const Part *part, int64 missing)
{
	static EngineStatement build = {
		"SELECT pg_catalog.jsonb_build_object('id', $1, 'missing', $2,"
		" 'account', $3, 'job', $1)",
		3,
		{INT8OID, INT8OID, TEXTOID}};
	Datum values[] = {Int64GetDatum(part->job), Int64GetDatum(missing),
					  CStringGetTextDatum(part->account)};
	MemoryContext context = CurrentMemoryContext;
	MemoryContext old;
	Jsonb *object;

	SPI_connect();
	engine_run(&build, values, NULL, SPI_OK_SELECT);
	old = MemoryContextSwitchTo(context);
	object = DatumGetJsonbPCopy(SPI_getbinval(
		SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &(bool){false}));
	MemoryContextSwitchTo(old);
	SPI_finish();
	alert_system("system.reconcile_missing", object);
}

static void
finish_run(Part *part)
{
	int64 missing = count_missing(part);

	part->repaired = release_pending(part->account);
	raise_watermark(part);
	if (missing > 0)
		report_missing(part, missing);
	part->finished = true;
}

/* Newest first: how far down are we? */
static double
progress_of(const Part *part, TimestampTz created)
{
	double whole = (double) (part->until - part->since);
	double done = (double) (part->until - created);

	return whole <= 0 ? 1 : Max(0.0, Min(1.0, done / whole));
}

static void
events_take(Part *part, const ApiCall *call)
{
	bool has_more;
	List *elements = page_read(call->body, call->length, &has_more);
	InboxLook *look = inbox_look();
	char *last = NULL;
	ListCell *cell;

	foreach(cell, elements)
	{
		const PageElement *element = lfirst(cell);
		TimestampTz created = part->until;

		last = event_peek_id(element->bytes, element->length);
		part->objects++;
		if (!inbox_knows(look, last, element->bytes, element->length, NULL) &&
			bring_in(element, &created))
			part->missing++;
		if (created < part->until)
			part->progress = progress_of(part, created);
	}
	inbox_look_end(look);
	part->pages++;
	if (!has_more)
		finish_run(part);
	else if (last == NULL ||
			 (part->cursor != NULL && strcmp(last, part->cursor) == 0))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
				 errmsg("Stripe's list of events does not go on: its pages end "
						"with the same event")));
	else
		part_set_cursor(part, last);
}

const PartKind part_events = {
	.name = "events", .path = events_path, .take = events_take, .quiet = true};
