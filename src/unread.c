/*
 * unread.c
 *		What became of a part, for those who don't look at its job: the mirror,
 *		which keeps in stripe_sync.reread what it is known to lack, and alerts.
 *
 * An object's row there goes when the object has been read and written, with
 * the rest of its pages.  What could not be written is "asked" as long as its
 * part is put off, and "dead" when that is given up.
 */
#include "sync.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"

/* Does the part read one object, which refetch() could read as well? */
static bool
reads_object(const Part *part)
{
	return part->object_id != NULL && part->kind->one_object &&
		   catalog_is_retrievable(part_type(part));
}

/* ---- what is kept ---- */

/* What was asked for of a later time has a part of its own. */
static void
keep(const Part *part, const Outcome *outcome, bool is_dead)
{
	static EngineStatement keep = {
		"INSERT INTO stripe_sync.reread AS r"
		" (object_type, object_id, account, reason, due_at, after, error, tries, state)"
		" VALUES ($1, $2, $3, 'it could not be written', pg_catalog.clock_timestamp(),"
		"  $4, $5, $6, $7)"
		" ON CONFLICT (object_type, object_id, account) DO UPDATE"
		" SET error = excluded.error, tries = excluded.tries,"
		"  state = CASE WHEN r.after <= excluded.after THEN excluded.state ELSE r.state END",
		7,
		{TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, TEXTOID, INT4OID, TEXTOID}};
	Datum values[] = {CStringGetTextDatum(part->object_type),
					  CStringGetTextDatum(part->object_id),
					  CStringGetTextDatum(part->account),
					  TimestampTzGetDatum(part->since),
					  CStringGetTextDatum(outcome->error),
					  Int32GetDatum(part->tries),
					  CStringGetTextDatum(is_dead ? "dead" : "asked")};

	SPI_connect();
	engine_run(&keep, values, NULL, SPI_OK_INSERT);
	SPI_finish();
}

/* True when the mirror had asked for it. */
static bool
give_up(const Part *part, const char *error)
{
	static EngineStatement give_up = {
		"UPDATE stripe_sync.reread SET state = 'dead', error = $5"
		" WHERE object_type = $1 AND object_id = $2 AND account = $3"
		"  AND state = 'asked' AND after <= $4",
		5,
		{TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, TEXTOID}};
	Datum values[] = {CStringGetTextDatum(part->object_type),
					  CStringGetTextDatum(part->object_id),
					  CStringGetTextDatum(part->account),
					  TimestampTzGetDatum(part->since),
					  CStringGetTextDatum(error)};
	bool was_asked;

	SPI_connect();
	engine_run(&give_up, values, NULL, SPI_OK_UPDATE);
	was_asked = SPI_processed > 0;
	SPI_finish();
	return was_asked;
}

/*
 * A key that is no good says nothing of the objects: all that the job was to
 * read with it is asked for again, with the key that there is then.  True when
 * something has been given up.
 */
static bool
ask_later(const Part *part, const char *error)
{
	static EngineStatement put_off = {
		"UPDATE stripe_sync.reread r SET tries = r.tries + 1, error = $3, due_at = $4,"
		"  state = CASE WHEN r.tries + 1 < $5 THEN 'waiting' ELSE 'dead' END"
		" FROM (SELECT DISTINCT object_type, object_id, account FROM stripe_sync.job_part"
		"  WHERE job = $1 AND account = $2 AND kind IN ('object', 'rest')"
		"   AND state = 'failed') p"
		" WHERE r.object_type = p.object_type AND r.object_id = p.object_id"
		"  AND r.account = p.account AND r.state = 'asked'"
		" RETURNING r.state",
		5,
		{INT8OID, TEXTOID, TEXTOID, TIMESTAMPTZOID, INT4OID}};
	TimestampTz due = GetCurrentTimestamp() + backoff_delay(part->tries + 1,
															BACKOFF_FIRST,
															BACKOFF_MOST);
	Datum values[] = {Int64GetDatum(part->job),
					  CStringGetTextDatum(part->account),
					  CStringGetTextDatum(error), TimestampTzGetDatum(due),
					  Int32GetDatum(guc_max_attempts)};
	bool any_dead = false;

	SPI_connect();
	engine_run(&put_off, values, NULL, SPI_OK_UPDATE_RETURNING);
	for (uint64 i = 0; i < SPI_processed; i++)
		any_dead |= strcmp(SPI_getvalue(SPI_tuptable->vals[i],
										SPI_tuptable->tupdesc, 1),
						   "dead") == 0;
	SPI_finish();
	return any_dead;
}

/* ---- what is told ---- */

/* What a person may run once the trouble is mended. */
static char *
what_to_run(const Part *part)
{
	if (reads_object(part))
		return psprintf("SELECT stripe_sync.refetch(%s, %s, %s)",
						quote_literal_cstr(part->object_type),
						quote_literal_cstr(part->object_id),
						quote_literal_cstr(part->account));
	if (part->kind->again != NULL)
		return pstrdup(part->kind->again);
	if (part->object_type != NULL)
		return psprintf("SELECT stripe_sync.backfill(ARRAY[%s])",
						quote_literal_cstr(part->object_type));
	return psprintf("SELECT * FROM stripe_sync.job WHERE id = " INT64_FORMAT,
					part->job);
}

static void
tell(const Part *part, const char *error)
{
	static EngineStatement build = {
		"SELECT pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object("
		" 'id', COALESCE(nullif($2, ''), $1), 'object_type', $1, 'object_id', $2,"
		" 'account', $3, 'step', 'reading', 'job', $4, 'event_type', 'the reading of ' || $1,"
		" 'error', $5, 'run', $6, 'remedy', $7, 'group', $8,"
		" 'object', pg_catalog.concat_ws(' ', $1, $2), 'look',"
		" 'SELECT * FROM stripe_sync.job WHERE id = ' || $4))",
		8,
		{TEXTOID, TEXTOID, TEXTOID, INT8OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID}};
	const char *what = part->object_type ? part->object_type : part->kind->name;
	char *run = what_to_run(part);
	Datum values[] = {
		CStringGetTextDatum(what),
		part->object_id ? CStringGetTextDatum(part->object_id) : (Datum) 0,
		CStringGetTextDatum(part->account),
		Int64GetDatum(part->job),
		CStringGetTextDatum(error),
		CStringGetTextDatum(run),
		CStringGetTextDatum(psprintf(
			"It is given up until somebody mends it and runs `%s`.", run)),
		CStringGetTextDatum(failure_group("reading", NULL, what))};
	char nulls[] = {
		' ', part->object_id ? ' ' : 'n', ' ', ' ', ' ', ' ', ' ', ' ', '\0'};

	alert_system("system.event_failed", engine_jsonb(&build, values, nulls));
}

/* ---- objects that do not come whole even alone ---- */

void
unread_note(Part *part, const char *what, const char *id, const ApiCall *call)
{
	part_note(part, psprintf("%s %s could not be read, not even alone: %s",
							 what, id, call->trouble));
}

/* A PartKind's pass_over */
void
unread_pass_over(Part *part, const char *id, const ApiCall *call)
{
	unread_note(part, part->object_type ? part->object_type : "event", id, call);
}

static const char *const not_even_alone = "it could not be read, not even alone";

/* A PartKind's passed_over: it isn't asked for again by itself. */
void
unread_passed_over(const Part *part, char *id)
{
	Part told = *part;

	told.object_id = id;
	if (told.object_type == NULL)
		told.object_type = pstrdup("event");
	tell(&told, not_even_alone);
}

/* The same, of a list that is a part of the object object_id. */
void
unread_passed_over_rest(const Part *part, char *id)
{
	tell(part, not_even_alone);
}

/* ---- what the runner says ---- */

/* A part that is put off, or has failed. */
static void
failed(const Part *part, const Outcome *outcome)
{
	bool is_dead = strcmp(outcome->state, "failed") == 0;
	bool told = is_dead && outcome->trouble == TROUBLE_WRITING;

	if (outcome->trouble == TROUBLE_KEY)
		told = ask_later(part, outcome->error);
	else if (outcome->trouble == TROUBLE_WRITING && reads_object(part))
		keep(part, outcome, is_dead);
	else if (is_dead && reads_object(part))
		told |= give_up(part, outcome->error);
	if (told)
		tell(part, outcome->error);
}

/* The rest of a page that Stripe won't show. */
void
unread_refused(const Part *part, const char *error)
{
	if (reads_object(part) && give_up(part, error))
		tell(part, error);
}

/*
 * A part that goes on no more, for now; within the outcome's transaction.  When
 * nothing was wrong, nothing of its type may be given up any more.
 */
void
unread_over(const Part *part, const Outcome *outcome)
{
	failed(part, outcome);
	if (strcmp(outcome->state, "done") == 0)
		recovered_reading(part->object_type ? part->object_type
											: part->kind->name);
}

/* It has been read as of then, unless there are rests of its pages to come. */
void
unread_done(const Part *part, TimestampTz as_of)
{
	static EngineStatement done = {
		"DELETE FROM stripe_sync.reread"
		" WHERE object_type = $1 AND object_id = $2 AND account = $3 AND after <= $4"
		"  AND NOT EXISTS (SELECT FROM stripe_sync.job_part p"
		"   WHERE p.job = $5 AND p.part <> $6 AND p.kind = 'rest' AND p.account = $3"
		"    AND p.object_type = $1 AND p.object_id = $2"
		"    AND p.state IN ('waiting', 'running'))",
		6,
		{TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, INT8OID, INT4OID}};
	Datum values[] = {CStringGetTextDatum(part->object_type),
					  CStringGetTextDatum(part->object_id),
					  CStringGetTextDatum(part->account),
					  TimestampTzGetDatum(as_of),
					  Int64GetDatum(part->job),
					  Int32GetDatum(part->number)};

	SPI_connect();
	engine_run(&done, values, NULL, SPI_OK_DELETE);
	SPI_finish();
}

/*
 * What was given up and wants a later answer than this one: it is asked for once
 * more, in a moment, and from the beginning.
 */
void
unread_too_early(const Part *part, TimestampTz as_of, TimestampTz due)
{
	static EngineStatement revive = {
		"UPDATE stripe_sync.reread SET state = 'waiting', tries = 0, due_at = $5"
		" WHERE object_type = $1 AND object_id = $2 AND account = $3"
		"  AND state = 'dead' AND after > $4",
		5,
		{TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID}};
	Datum values[] = {CStringGetTextDatum(part->object_type),
					  CStringGetTextDatum(part->object_id),
					  CStringGetTextDatum(part->account),
					  TimestampTzGetDatum(as_of), TimestampTzGetDatum(due)};

	SPI_connect();
	engine_run(&revive, values, NULL, SPI_OK_UPDATE);
	SPI_finish();
}

/* Somebody has called the job off: what the mirror wanted of it stays unread. */
void
unread_cancelled(int64 job)
{
	static EngineStatement give_up = {
		"UPDATE stripe_sync.reread r SET state = 'dead',"
		"  error = pg_catalog.format('job %s was called off', $1)"
		" FROM stripe_sync.job_part p"
		" WHERE p.job = $1 AND p.state = 'cancelled' AND p.kind IN ('object', 'rest')"
		"  AND r.object_type = p.object_type AND r.object_id = p.object_id"
		"  AND r.account = p.account AND r.state = 'asked'",
		1,
		{INT8OID}};
	Datum value = Int64GetDatum(job);

	SPI_connect();
	engine_run(&give_up, &value, NULL, SPI_OK_UPDATE);
	SPI_finish();
}
