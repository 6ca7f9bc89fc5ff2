/*
 * gap.c
 *		The end of a run through a list of events: what was missing falls due,
 *		is counted and told of.
 */
#include "sync.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"

/* What was missing, of types that the endpoint should have sent. */
typedef struct Gap
{
	int64 all; /* others as well */
	int64 missing;
	char *first; /* ids, or NULL */
	char *last;
	TimestampTz first_at;
	TimestampTz last_at;
} Gap;

/* ---- what falls due ---- */

/*
 * All that this and broken runs have stored of an account, in the events' own
 * order.  Of types: how many, and the first and the last as "seconds id".
 */
static const char *const release_sql =
	"WITH o AS (SELECT e.id, e.account, pg_catalog.row_number() OVER"
	"   (ORDER BY e.created, e.id COLLATE \"C\") AS n FROM stripe_sync.event e"
	"  WHERE e.status = 'pending' AND e.next_attempt_at IS NULL"
	"    AND e.source = 'reconcile' AND e.account = $1),"
	" released AS (UPDATE stripe_sync.event e SET"
	"   status = CASE WHEN e.todo = '{}' THEN 'ignored' ELSE e.status END,"
	"   next_attempt_at = CASE WHEN e.todo <> '{}'"
	"    THEN $2 + o.n * interval '1 microsecond' END"
	"  FROM o WHERE e.id = o.id AND e.account = o.account"
	"  RETURNING e.type, e.id, EXTRACT(epoch FROM e.created)::bigint AS second)"
	" SELECT pg_catalog.sum(t.n)::bigint, COALESCE(pg_catalog.sum(t.n) FILTER (WHERE t.due), 0)::bigint,"
	"  pg_catalog.min(t.first) FILTER (WHERE t.due), pg_catalog.max(t.last) FILTER (WHERE t.due)"
	" FROM (SELECT r.type, pg_catalog.count(*) AS n, stripe_sync.comes_by_webhook(r.type) AS due,"
	"   pg_catalog.min(pg_catalog.lpad(r.second::text, 12, '0') || r.id COLLATE \"C\") AS first,"
	"   pg_catalog.max(pg_catalog.lpad(r.second::text, 12, '0') || r.id COLLATE \"C\") AS last"
	"  FROM released r GROUP BY r.type) t";

#define SECOND_DIGITS 12

static char *
read_bound(int column, MemoryContext context, TimestampTz *at)
{
	char *bound = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc,
							   column);

	*at = DT_NOBEGIN;
	if (bound == NULL || strlen(bound) <= SECOND_DIGITS)
		return NULL;
	*at = time_t_to_timestamptz(
		(pg_time_t) strtoll(pnstrdup(bound, SECOND_DIGITS), NULL, 10));
	return MemoryContextStrdup(context, bound + SECOND_DIGITS);
}

static Gap
release_pending(const char *account)
{
	static EngineStatement release = {NULL, 2, {TEXTOID, TIMESTAMPTZOID}};
	Datum values[] = {CStringGetTextDatum(account),
					  TimestampTzGetDatum(GetCurrentTimestamp())};
	MemoryContext context = CurrentMemoryContext;
	Gap gap = {0};
	bool isnull;

	release.sql = release_sql;
	SPI_connect();
	engine_run(&release, values, NULL, SPI_OK_SELECT);
	gap.all = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0],
										  SPI_tuptable->tupdesc, 1, &isnull));
	if (isnull)
		gap.all = 0;
	gap.missing = DatumGetInt64(
		SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
	gap.first = read_bound(3, context, &gap.first_at);
	gap.last = read_bound(4, context, &gap.last_at);
	SPI_finish();
	worker_wake_at_commit();
	return gap;
}

/* ---- what comes by webhook ---- */

/*
 * Before the first run that finds something missing nothing has been learned
 * from the list: a part of the inbox says what has come.
 */
static void
learn_types(void)
{
	static EngineStatement insert = {
		"INSERT INTO stripe_sync.webhook_type (type)"
		" SELECT DISTINCT e.type FROM stripe_sync.event e TABLESAMPLE SYSTEM"
		"  ((SELECT LEAST(100, 1000000 / GREATEST(c.relpages, 1))"
		"     FROM pg_catalog.pg_class c WHERE c.oid = 'stripe_sync.event'::regclass))"
		"  WHERE e.source = 'webhook'"
		"   AND NOT EXISTS (SELECT FROM stripe_sync.webhook_type)"
		" ON CONFLICT DO NOTHING"};

	SPI_connect();
	engine_run(&insert, NULL, NULL, SPI_OK_INSERT);
	SPI_finish();
}

/* ---- what is kept and told ---- */

static void
note_gap(const Part *part, const Gap *gap)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.job_part SET"
		" gap_first = CASE WHEN gap_first_at <= $4 THEN gap_first ELSE $3 END,"
		" gap_first_at = LEAST(gap_first_at, $4),"
		" gap_last = CASE WHEN gap_last_at >= $6 THEN gap_last ELSE $5 END,"
		" gap_last_at = GREATEST(gap_last_at, $6)"
		" WHERE job = $1 AND part = $2",
		6,
		{INT8OID, INT4OID, TEXTOID, TIMESTAMPTZOID, TEXTOID, TIMESTAMPTZOID}};
	Datum values[] = {
		Int64GetDatum(part->job),		 Int32GetDatum(part->number),
		CStringGetTextDatum(gap->first), TimestampTzGetDatum(gap->first_at),
		CStringGetTextDatum(gap->last),	 TimestampTzGetDatum(gap->last_at)};

	SPI_connect();
	engine_run(&update, values, NULL, SPI_OK_UPDATE);
	SPI_finish();
}

static void
report_gap(const Part *part, const Gap *gap)
{
	static EngineStatement build = {
		"SELECT pg_catalog.jsonb_build_object('id', $1, 'job', $1, 'missing', $2,"
		" 'account', $3, 'first', $4, 'last', $5,"
		" 'first_at', EXTRACT(epoch FROM $6)::bigint,"
		" 'last_at', EXTRACT(epoch FROM $7)::bigint)",
		7,
		{INT8OID, INT8OID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID,
		 TIMESTAMPTZOID}};
	Datum values[] = {
		Int64GetDatum(part->job),			Int64GetDatum(gap->missing),
		CStringGetTextDatum(part->account), CStringGetTextDatum(gap->first),
		CStringGetTextDatum(gap->last),		TimestampTzGetDatum(gap->first_at),
		TimestampTzGetDatum(gap->last_at)};

	alert_system("system.reconcile_missing", engine_jsonb(&build, values, NULL));
}

/*
 * Only as far as there is no hole below: to where the last run ended, to where
 * Stripe's list does, or as far as a first run goes.
 */
static void
raise_watermark(const Part *part)
{
	static EngineStatement upsert = {
		"INSERT INTO stripe_sync.watermark AS w (account, at)"
		" SELECT $1, $2 WHERE $3 <= GREATEST($4, COALESCE("
		"  (SELECT o.at FROM stripe_sync.watermark o WHERE o.account = $1), $5))"
		" ON CONFLICT (account) DO UPDATE SET at = GREATEST(w.at, excluded.at)",
		5,
		{TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID,
		 TIMESTAMPTZOID}};
	TimestampTz start = part->until + RECONCILE_YOUNG;
	Datum values[] = {CStringGetTextDatum(part->account),
					  TimestampTzGetDatum(part->until),
					  TimestampTzGetDatum(part->since),
					  TimestampTzGetDatum(start - STRIPE_KEEPS),
					  TimestampTzGetDatum(start - RECONCILE_AT_FIRST)};

	SPI_connect();
	engine_run(&upsert, values, NULL, SPI_OK_INSERT);
	SPI_finish();
}

/* The bottom of an account's list has been reached; "now" is by Stripe's clock. */
void
gap_close(Part *part, TimestampTz now)
{
	Gap gap;

	learn_types();
	gap = release_pending(part->account);
	part->repaired += gap.all;
	raise_watermark(part);
	if (gap.first != NULL && gap.last != NULL)
	{
		note_gap(part, &gap);
		report_gap(part, &gap);
	}
	if (now - RECONCILE_YOUNG - part->until >
		guc_reconcile_interval * USECS_PER_SEC)
		reconcile_hurry();
	part->finished = true;
}

/* What a run has stored, and will not come to release: it was called off. */
void
gap_release(int64 job)
{
	static EngineStatement select = {
		"SELECT DISTINCT account FROM stripe_sync.job_part"
		" WHERE job = $1 AND kind = 'events'",
		1,
		{INT8OID}};
	Datum value = Int64GetDatum(job);
	SPITupleTable *rows;
	uint64 count;

	SPI_connect();
	engine_run(&select, &value, NULL, SPI_OK_SELECT);
	rows = SPI_tuptable;
	count = SPI_processed;
	for (uint64 i = 0; i < count; i++)
		(void) release_pending(SPI_getvalue(rows->vals[i], rows->tupdesc, 1));
	SPI_finish();
}
