/*
 * refused_write.c
 *		What is counted of refused deliveries is written down: by the worker
 *		once a minute, or, where the library isn't preloaded, by webhook()
 *		itself, once a minute for each endpoint and code.
 *
 * One at a time writes, under an advisory lock that nobody waits for: what is
 * counted meanwhile is written with the next.  A row stands for an endpoint and
 * a code, so there are never more than these.
 *
 * What was taken from memory is given back when an error keeps it from being
 * written.  What the caller's transaction rolls back is lost.
 */
#include "refused.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#define WRITE_EVERY (60 * USECS_PER_SEC)
#define LOG_EVERY	USECS_PER_HOUR

/* Columns of stripe_sync.refusal_record, as src/install/12_refusal.sql makes it */
enum RecordColumn
{
	RECORD_ENDPOINT = 1,
	RECORD_CODE,
	RECORD_EVENTS,
	RECORD_FIRST_AT,
	RECORD_LAST_AT,
	RECORD_LAST_DETAIL,
	RECORD_LOGGED_AT
};

/* ---- rows ---- */

static void
write_count(const char *endpoint, int kind, const RefusalCount *count)
{
	static EngineStatement upsert = {
		"INSERT INTO stripe_sync.refusal_record AS r"
		" (endpoint, code, events, first_at, last_at, last_detail, logged_at)"
		" VALUES ($1, $2, $3, $4, $5, $6, $7)"
		" ON CONFLICT (endpoint, code) DO UPDATE SET"
		" events = r.events + excluded.events,"
		" first_at = LEAST(r.first_at, excluded.first_at),"
		" last_at = GREATEST(r.last_at, excluded.last_at),"
		" last_detail = excluded.last_detail,"
		" logged_at = GREATEST(r.logged_at, excluded.logged_at)",
		7,
		{TEXTOID, TEXTOID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID,
		 TIMESTAMPTZOID}};
	Datum values[] = {CStringGetTextDatum(endpoint),
					  CStringGetTextDatum(refusal_code(kind)),
					  Int64GetDatum(count->events),
					  TimestampTzGetDatum(count->first_at),
					  TimestampTzGetDatum(count->last_at),
					  CStringGetTextDatum(count->detail),
					  TimestampTzGetDatum(count->logged_at)};
	char nulls[] = "       ";

	nulls[6] = count->logged_at == 0 ? 'n' : ' ';
	engine_run(&upsert, values, nulls, SPI_OK_INSERT);
}

static Datum
likely_array(const RefusalTrace *trace)
{
	Datum elements[REFUSAL_LIKELY];
	int n = 0;

	while (n < REFUSAL_LIKELY && trace->likely[n] != 0)
	{
		elements[n] = TimestampTzGetDatum(trace->likely[n]);
		n++;
	}
	return PointerGetDatum(construct_array(elements, n, TIMESTAMPTZOID,
										   sizeof(TimestampTz), FLOAT8PASSBYVAL,
										   TYPALIGN_DOUBLE));
}

/* What alerts go by */
static void
write_watch(const RefusalTrace *trace)
{
	static EngineStatement upsert = {
		"INSERT INTO stripe_sync.refusal_watch AS w"
		" (endpoint, likely, likely_code, live_at, no_secret_at, accepted_at)"
		" VALUES ($1, $2, $3, $4, $5, $6)"
		" ON CONFLICT (endpoint) DO UPDATE SET"
		" likely = ARRAY(SELECT t FROM pg_catalog.unnest(w.likely || excluded.likely) t"
		"  ORDER BY t DESC LIMIT 3),"
		" likely_code = COALESCE(excluded.likely_code, w.likely_code),"
		" live_at = GREATEST(w.live_at, excluded.live_at),"
		" no_secret_at = GREATEST(w.no_secret_at, excluded.no_secret_at),"
		" accepted_at = GREATEST(w.accepted_at, excluded.accepted_at)",
		6,
		{TEXTOID, TIMESTAMPTZARRAYOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID,
		 TIMESTAMPTZOID}};
	const TimestampTz times[] = {trace->live_at, trace->no_secret_at,
								 trace->accepted_at};
	bool likely = trace->likely[0] != 0;
	Datum values[6] = {
		CStringGetTextDatum(trace->endpoint), likely_array(trace),
		likely ? CStringGetTextDatum(refusal_code(trace->likely_kind))
			   : (Datum) 0};
	char nulls[] = {' ', ' ', likely ? ' ' : 'n', ' ', ' ', ' ', '\0'};
	bool any = likely;

	for (int i = 0; i < lengthof(times); i++)
	{
		values[3 + i] = TimestampTzGetDatum(times[i]);
		nulls[3 + i] = times[i] == 0 ? 'n' : ' ';
		any |= times[i] != 0;
	}
	if (any)
		engine_run(&upsert, values, nulls, SPI_OK_INSERT);
}

static void
write_trace(const RefusalTrace *trace)
{
	SPI_connect();
	for (int kind = 0; kind < REFUSAL_KINDS; kind++)
		if (trace->counts[kind].events > 0)
			write_count(trace->endpoint, kind, &trace->counts[kind]);
	write_watch(trace);
	SPI_finish();
}

/* ---- all that is counted ---- */

static List *
take_all(void)
{
	RefusalTrace *copy = palloc(sizeof(RefusalTrace));
	List *taken = NIL;
	int place = 0;

	while (refusal_take(&place, copy))
	{
		taken = lappend(taken, copy);
		copy = palloc(sizeof(RefusalTrace));
	}
	pfree(copy);
	return taken;
}

static void
write_traces(List *taken)
{
	ListCell *cell;

	foreach(cell, taken)
		write_trace(lfirst(cell));
}

static void
give_back(List *taken)
{
	ListCell *cell;

	foreach(cell, taken)
		refusal_give_back(lfirst(cell));
}

static void
write_all(void)
{
	List *volatile taken = take_all();

	PG_TRY();
	{
		write_traces(taken);
	}
	PG_CATCH();
	{
		give_back(taken);
		PG_RE_THROW();
	}
	PG_END_TRY();
	list_free_deep(taken);
}

/* Once a minute, in a transaction of its own. */
void
refusals_write(void)
{
	/* in a copy it would be in the way of the restore of what was dumped */
	if (outbound_is_original() && advisory_try_lock(ADVISORY_REFUSALS, 0))
		write_all();
}

/* ---- without the preload ---- */

/* When a row of the note's was written last, and logged last; 0: never. */
static void
look(const RefusalNote *note, TimestampTz *last_at, TimestampTz *logged_at)
{
	Relation relation;
	Snapshot snapshot;
	SysScanDesc scan = engine_scan("refusal_record", "refusal_record_pkey", 1,
								   note->endpoint, &relation, &snapshot);
	TupleDesc desc = RelationGetDescr(relation);
	HeapTuple tuple;
	bool isnull;

	*last_at = *logged_at = 0;
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Datum value = heap_getattr(tuple, RECORD_CODE, desc, &isnull);

		if (strcmp(TextDatumGetCString(value), refusal_code(note->kind)) != 0)
			continue;
		*last_at = DatumGetTimestampTz(
			heap_getattr(tuple, RECORD_LAST_AT, desc, &isnull));
		value = heap_getattr(tuple, RECORD_LOGGED_AT, desc, &isnull);
		*logged_at = isnull ? 0 : DatumGetTimestampTz(value);
	}
	engine_scan_end(scan, relation, snapshot);
}

static bool
is_recent(TimestampTz at, TimestampTz now, int64 span)
{
	return at != 0 && at <= now && now - at < span;
}

static void
write_body(void *arg)
{
	write_all();
}

/*
 * Write what this session has counted, unless somebody has written of the same
 * endpoint and code within a minute, or is at it.  False when the refusal need
 * not be logged: somebody has.
 */
bool
refusal_write_now(const RefusalNote *note)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz last_at;
	TimestampTz logged_at;
	ErrorData *error;

	if (XactReadOnly || RecoveryInProgress() || !outbound_is_original())
		return true;
	look(note, &last_at, &logged_at);
	if (is_recent(last_at, now, WRITE_EVERY) ||
		!advisory_try_lock(ADVISORY_REFUSALS, 0))
		return false;
	look(note, &last_at, &logged_at); /* who had the lock has written */
	if (is_recent(last_at, now, WRITE_EVERY))
		return false;
	if (is_recent(logged_at, now, LOG_EVERY))
		refusal_set_logged(note, logged_at);
	(void) subtransaction_run(write_body, NULL, subtransaction_excuse_all,
							  &error);
	return !is_recent(logged_at, now, LOG_EVERY);
}
