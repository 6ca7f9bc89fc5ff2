/*
 * refused_write.c
 *		Writes the counts of refused deliveries to their tables: in the worker
 *		once a minute, or, if the library is not preloaded, in webhook() at most
 *		once a minute for each endpoint and code.
 *
 * One session writes at a time, under ADVISORY_REFUSALS, which is tried and
 * never waited for: the counts of a session that does not get it are written
 * later.  There is one row for each endpoint and code, so the size of the table
 * does not depend on what is sent.
 *
 * Counts taken from memory are put back if an error prevents writing them.  They
 * are lost if the caller's transaction is rolled back later, or by a crash.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#include "base/subtransaction.h"
#include "engine/engine.h"
#include "engine/statement.h"
#include "receive/receive.h"
#include "server/server.h"
#include "receive/internal.h"

#define WRITE_EVERY (60 * USECS_PER_SEC)
#define LOG_EVERY	USECS_PER_HOUR

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
		" logged_at = GREATEST(r.logged_at, excluded.logged_at)"};

	statement_exec(
		&upsert,
		ARGS(arg_text(endpoint), arg_text(refusal_code(kind)),
			 arg_int8(count->events), arg_time(count->first_at),
			 arg_time(count->last_at), arg_text(count->detail),
			 arg_if(count->logged_at != 0, arg_time(count->logged_at))));
}

static ArrayType *
likely_array(const RefusalTrace *trace)
{
	Datum elements[REFUSAL_LIKELY];
	int n = 0;

	while (n < REFUSAL_LIKELY && trace->likely[n] != 0)
	{
		elements[n] = TimestampTzGetDatum(trace->likely[n]);
		n++;
	}
	return construct_array(elements, n, TIMESTAMPTZOID, sizeof(TimestampTz),
						   FLOAT8PASSBYVAL, TYPALIGN_DOUBLE);
}

/* A time in memory, where 0 is never */
static StatementArg
arg_time_if_set(TimestampTz at)
{
	return arg_if(at != 0, arg_time(at));
}

/* The times that refused_watch.c decides by; no row if there are none. */
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
		" accepted_at = GREATEST(w.accepted_at, excluded.accepted_at)"};
	bool likely = trace->likely[0] != 0;

	if (!likely && trace->live_at == 0 && trace->no_secret_at == 0 &&
		trace->accepted_at == 0)
		return;
	statement_exec(
		&upsert, ARGS(arg_text(trace->endpoint),
					  arg_varlena(TIMESTAMPTZARRAYOID, likely_array(trace)),
					  arg_text(likely ? refusal_code(trace->likely_kind) : NULL),
					  arg_time_if_set(trace->live_at),
					  arg_time_if_set(trace->no_secret_at),
					  arg_time_if_set(trace->accepted_at)));
}

static void
write_trace(const RefusalTrace *trace)
{
	for (int kind = 0; kind < REFUSAL_KINDS; kind++)
		if (trace->counts[kind].events > 0)
			write_count(trace->endpoint, kind, &trace->counts[kind]);
	write_watch(trace);
}

/* ---- all counts ---- */

/* Take all counts of this database out of memory. */
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

/* The worker calls it once a minute, in a transaction of its own. */
void
refusals_write(void)
{
	/* in a database that is being restored, rows would collide with the dump's */
	if (outbound_is_original() && advisory_try_lock(ADVISORY_REFUSALS, 0))
		write_all();
}

/* ---- without the preload ---- */

/* The last_at and logged_at of the note's endpoint and code; 0: never. */
static void
read_times(const RefusalNote *note, TimestampTz *last_at, TimestampTz *logged_at)
{
	Relation relation;
	Snapshot snapshot;
	SysScanDesc scan = engine_scan("refusal_record", "refusal_record_pkey", 1,
								   note->endpoint, &relation, &snapshot);
	TupleDesc desc = RelationGetDescr(relation);
	HeapTuple tuple;

	*last_at = *logged_at = 0;
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Rows row = rows_of_tuple(tuple, desc);

		rows_skip(&row); /* endpoint */
		if (strcmp(rows_text(&row), refusal_code(note->kind)) != 0)
			continue;
		rows_skip(&row); /* events */
		rows_skip(&row); /* first_at */
		*last_at = rows_time(&row, 0);
		rows_skip(&row); /* last_detail */
		*logged_at = rows_time(&row, 0);
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
 * Write what this session has counted, unless a row of this endpoint and code
 * was written within a minute or another session is writing.  Returns false if
 * the refusal was logged within the hour or another session may be logging it.
 * An error while writing is ignored: a refused delivery must be answered.
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
	read_times(note, &last_at, &logged_at);
	if (is_recent(last_at, now, WRITE_EVERY) ||
		!advisory_try_lock(ADVISORY_REFUSALS, 0))
		return false;
	/* the session that held the lock may have written it meanwhile */
	read_times(note, &last_at, &logged_at);
	if (is_recent(last_at, now, WRITE_EVERY))
		return false;
	if (is_recent(logged_at, now, LOG_EVERY))
		refusal_set_logged(note, logged_at);
	(void) subtransaction_run(write_body, NULL, subtransaction_excuse_all,
							  &error);
	return !is_recent(logged_at, now, LOG_EVERY);
}
