/*
 * record.c
 *		The rows of stripe_sync.finding: what the worker has found, and what it
 *		has told; mutes.
 *
 * Only the worker's run writes findings, one process at a time (watch.c).
 * finding_mute is a table of its own, so that a session that mutes a finding and
 * doesn't commit holds up nobody.
 */
#include "postgres.h"

#include "utils/float.h"

#include "engine/statement.h"
#include "doctor/internal.h"

#define RECORD_COLUMNS                                                         \
	"SELECT COALESCE(f.key, m.key), COALESCE(f.status, 'unknown'), f.detail,"  \
	" f.hint, f.figure, f.unit, f.seen_at, f.progress, f.fails, f.wells,"      \
	" f.told, m.until"                                                         \
	" FROM stripe_sync.finding f FULL JOIN (SELECT key, until"                 \
	"  FROM stripe_sync.finding_mute"                                          \
	"  WHERE until > pg_catalog.clock_timestamp()) m ON m.key = f.key"

static void
read_record(Rows *rows, RecordedFinding *record)
{
	Finding *finding = &record->finding;

	memset(record, 0, sizeof(*record));
	record->key = rows_text(rows);
	finding->status = finding_status_of(rows_text(rows));
	finding->detail = rows_text(rows);
	finding->hint = rows_text(rows);
	finding_figure(finding, rows_float8(rows, get_float8_nan()), NULL);
	finding->unit = rows_text(rows);
	record->seen_at = rows_time(rows, 0);
	record->progress = rows_text(rows);
	record->fails = rows_int4(rows, 0);
	record->wells = rows_int4(rows, 0);
	record->told = rows_text(rows);
	record->muted_until = rows_time(rows, 0);
}

/* Of RecordedFinding */
List *
record_read_all(void)
{
	static EngineStatement select = {RECORD_COLUMNS};
	List *records = NIL;
	Rows rows;

	rows_open(&rows, &select, NO_ARGS);
	while (rows_next(&rows))
	{
		RecordedFinding *record = palloc(sizeof(RecordedFinding));

		read_record(&rows, record);
		records = lappend(records, record);
	}
	rows_close(&rows);
	return records;
}

/* False, and an empty record, if there is neither a finding nor a mute. */
bool
record_read(const char *key, RecordedFinding *record)
{
	static EngineStatement select = {RECORD_COLUMNS
									 " WHERE COALESCE(f.key, m.key) = $1"};
	bool found;
	Rows rows;

	memset(record, 0, sizeof(*record));
	rows_open(&rows, &select, ARGS(arg_text(key)));
	found = rows_next(&rows);
	if (found)
		read_record(&rows, record);
	rows_close(&rows);
	return found;
}

/*
 * An unknown finding leaves the numbers of runs as they are: a look that could
 * not be made neither confirms a failure nor ends it.
 */
void
record_write(const char *key, const Finding *finding, const LookCost *cost)
{
	static EngineStatement upsert = {
		"INSERT INTO stripe_sync.finding AS f (key, status, detail, hint, figure,"
		"  unit, since, seen_at, took_ms, slow_looks, fails, wells)"
		" SELECT $1, $2, $3, $4, $5, $6, c.now, c.now, $7, $8::int,"
		"  ($2 = 'fail')::int, ($2 IN ('ok', 'warn'))::int"
		"  FROM pg_catalog.clock_timestamp() AS c (now)"
		" ON CONFLICT (key) DO UPDATE SET status = excluded.status,"
		"  detail = excluded.detail, hint = excluded.hint,"
		"  figure = excluded.figure, unit = excluded.unit,"
		"  since = CASE WHEN f.status = excluded.status THEN f.since"
		"   ELSE excluded.since END,"
		"  seen_at = excluded.seen_at, took_ms = excluded.took_ms,"
		"  slow_looks = f.slow_looks + excluded.slow_looks, progress = NULL,"
		"  fails = CASE excluded.status WHEN 'fail' THEN f.fails + 1"
		"   WHEN 'unknown' THEN f.fails ELSE 0 END,"
		"  wells = CASE excluded.status WHEN 'fail' THEN 0"
		"   WHEN 'unknown' THEN f.wells ELSE f.wells + 1 END"};

	statement_exec(
		&upsert,
		ARGS(arg_text(key), arg_text(finding_status_name(finding->status)),
			 arg_text(finding->detail), arg_text(finding->hint),
			 arg_if(finding->has_figure, arg_float8(finding->figure)),
			 arg_text(finding->unit), arg_float8(cost->milliseconds),
			 arg_bool(cost->milliseconds > LOOK_LIMIT)));
}

/* A heavy item that isn't finished; what was found before stays. */
void
record_progress(const char *key, const char *progress, const LookCost *cost)
{
	static EngineStatement upsert = {
		"INSERT INTO stripe_sync.finding AS f (key, status, detail, since, seen_at,"
		"  progress, took_ms, slow_looks)"
		" SELECT $1, 'unknown', 'it is being looked at', c.now, '-infinity', $2,"
		"  $3, $4::int FROM pg_catalog.clock_timestamp() AS c (now)"
		" ON CONFLICT (key) DO UPDATE SET progress = excluded.progress,"
		"  took_ms = excluded.took_ms,"
		"  slow_looks = f.slow_looks + excluded.slow_looks"};

	statement_exec(&upsert, ARGS(arg_text(key), arg_text(progress),
								 arg_float8(cost->milliseconds),
								 arg_bool(cost->milliseconds > LOOK_LIMIT)));
}

/* It was cut off; what was found before stays. */
void
record_slow(const char *key, const LookCost *cost)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.finding SET took_ms = $2, slow_looks = slow_looks + 1,"
		" progress = NULL WHERE key = $1"};

	statement_exec(&update, ARGS(arg_text(key), arg_float8(cost->milliseconds)));
}

/* A system event was reported; NULL: its end was. */
void
record_told(const char *key, const char *told)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.finding SET told = $2 WHERE key = $1"};

	statement_exec(&update, ARGS(arg_text(key), arg_text(told)));
}
