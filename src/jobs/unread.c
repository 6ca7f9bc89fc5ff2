/*
 * unread.c
 *		Objects that could not be read or written: stripe_sync.reread and alerts.
 *
 * stripe_sync.reread has the objects that the mirror is known to lack.  An
 * object's row is deleted when the object has been read and written, together
 * with the rest of its pages.  Its state is "waiting" before a part is made for
 * it, "asked" while the part exists, also while that is put off, and "dead" after
 * it has failed.
 *
 * Everything here runs in the transaction of the part's outcome.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "alert/alert.h"
#include "base/backoff.h"
#include "base/base.h"
#include "engine/statement.h"
#include "jobs/jobs.h"
#include "jobs/part.h"
#include "receive/receive.h"
#include "stripe/stripe.h"
#include "types/types.h"

/* Does the part read an object that refetch() could read too? */
static bool
reads_object(const Part *part)
{
	return part->object_id != NULL && part->kind->one_object &&
		   catalog_is_retrievable(part_type(part));
}

/* ---- stripe_sync.reread ---- */

/*
 * Record that the object could not be written.  A row that requires a later
 * answer (after) keeps its state: another part is made for it.
 */
static void
record_failed_write(const Part *part, const Outcome *outcome, bool is_dead)
{
	static EngineStatement upsert = {
		"INSERT INTO stripe_sync.reread AS r"
		" (object_type, object_id, account, reason, due_at, after, error, tries, state)"
		" VALUES ($1, $2, $3, 'it could not be written', pg_catalog.clock_timestamp(),"
		"  $4, $5, $6, $7)"
		" ON CONFLICT (object_type, object_id, account) DO UPDATE"
		" SET error = excluded.error, tries = excluded.tries,"
		"  state = CASE WHEN r.after <= excluded.after THEN excluded.state ELSE r.state END"};

	(void) statement_exec(
		&upsert, ARGS(arg_text(part->object_type), arg_text(part->object_id),
					  arg_text(part->account), arg_time(part->since),
					  arg_text(outcome->error), arg_int4(part->tries),
					  arg_text(is_dead ? "dead" : "asked")));
}

/* Returns true if the mirror had requested the object. */
static bool
mark_dead(const Part *part, const char *error)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.reread SET state = 'dead', error = $5"
		" WHERE object_type = $1 AND object_id = $2 AND account = $3"
		"  AND state = 'asked' AND after <= $4"};

	return statement_exec(
			   &update, ARGS(arg_text(part->object_type),
							 arg_text(part->object_id), arg_text(part->account),
							 arg_time(part->since), arg_text(error))) > 0;
}

/*
 * The key is invalid, which says nothing about the objects: schedule everything
 * that the job was to read with it again, when there may be another key.
 * Returns true if an object has used up its tries.
 */
static bool
reschedule_after_key_error(const Part *part, const char *error)
{
	static EngineStatement put_off = {
		"UPDATE stripe_sync.reread r SET tries = r.tries + 1, error = $3, due_at = $4,"
		"  state = CASE WHEN r.tries + 1 < $5 THEN 'waiting' ELSE 'dead' END"
		" FROM (SELECT DISTINCT object_type, object_id, account FROM stripe_sync.job_part"
		"  WHERE job = $1 AND account = $2 AND kind IN ('object', 'rest')"
		"   AND state = 'failed') p"
		" WHERE r.object_type = p.object_type AND r.object_id = p.object_id"
		"  AND r.account = p.account AND r.state = 'asked'"
		" RETURNING r.state = 'dead'"};
	TimestampTz due = GetCurrentTimestamp() + backoff_delay(part->tries + 1,
															BACKOFF_FIRST,
															BACKOFF_MOST);
	bool any_dead = false;
	Rows rows;

	rows_open(&rows, &put_off,
			  ARGS(arg_int8(part->job), arg_text(part->account),
				   arg_text(error), arg_time(due), arg_int4(guc_max_attempts)));
	while (rows_next(&rows))
		any_dead |= rows_bool(&rows, false);
	rows_close(&rows);
	return any_dead;
}

/* ---- alerts ---- */

/* The statement with which a person requests the same again */
static char *
retry_sql(const Part *part)
{
	if (reads_object(part))
		return psprintf("SELECT stripe_sync.refetch(%s, %s, %s)",
						quote_literal_cstr(part->object_type),
						quote_literal_cstr(part->object_id),
						quote_literal_cstr(part->account));
	if (part->kind->retry_sql != NULL)
		return pstrdup(part->kind->retry_sql);
	if (part->object_type != NULL)
		return psprintf("SELECT stripe_sync.backfill(ARRAY[%s])",
						quote_literal_cstr(part->object_type));
	return psprintf("SELECT * FROM stripe_sync.job WHERE id = " INT64_FORMAT,
					part->job);
}

/* Raise the system event that reading the part's object has failed for good. */
static void
report_unread(const Part *part, const char *error)
{
	static EngineStatement build = {
		"SELECT pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object("
		" 'id', COALESCE(nullif($2, ''), $1), 'object_type', $1, 'object_id', $2,"
		" 'account', $3, 'step', 'reading', 'job', $4, 'event_type', 'the reading of ' || $1,"
		" 'error', $5, 'run', $6, 'remedy', $7, 'group', $8,"
		" 'object', pg_catalog.concat_ws(' ', $1, $2), 'look',"
		" 'SELECT * FROM stripe_sync.job WHERE id = ' || $4))"};
	const char *what = part->object_type ? part->object_type : part->kind->name;
	char *run = retry_sql(part);
	char *remedy = psprintf(
		"It is not tried again until somebody corrects the cause and runs `%s`.",
		run);

	alert_system(
		"system.event_failed",
		statement_jsonb(&build,
						ARGS(arg_text(what), arg_text(part->object_id),
							 arg_text(part->account), arg_int8(part->job),
							 arg_text(error), arg_text(run), arg_text(remedy),
							 arg_text(failure_group("reading", NULL, what)))));
}

/* ---- objects that can't be read even by themselves ---- */

void
unread_note_object(Part *part, const char *what, const char *id,
				   const ApiCall *call)
{
	part_note(part, psprintf("%s %s could not be read, even by itself: %s",
							 what, id, call->error));
}

/* PartKind.skip */
void
unread_skip(Part *part, const char *id, const ApiCall *call)
{
	unread_note_object(part, part->object_type ? part->object_type : "event",
					   id, call);
}

static const char *const unreadable = "it could not be read, even by itself";

/* PartKind.skipped, for objects that are not requested again */
void
unread_report_skipped(const Part *part, char *id)
{
	Part copy = *part;

	copy.object_id = id;
	if (copy.object_type == NULL)
		copy.object_type = pstrdup("event");
	report_unread(&copy, unreadable);
}

/* The same for the rest of a page: the object that is reported carries it. */
void
unread_report_skipped_rest(const Part *part, char *id)
{
	report_unread(part, unreadable);
}

/* ---- outcomes ---- */

/* Record a part that is put off or has failed, and report it if it is final. */
static void
record_part_failure(const Part *part, const Outcome *outcome)
{
	bool is_dead = strcmp(outcome->state, "failed") == 0;
	bool is_reported = is_dead && outcome->cause == CAUSE_DATABASE;

	if (outcome->cause == CAUSE_KEY)
		is_reported = reschedule_after_key_error(part, outcome->error);
	else if (outcome->cause == CAUSE_DATABASE && reads_object(part))
		record_failed_write(part, outcome, is_dead);
	else if (is_dead && reads_object(part))
		is_reported |= mark_dead(part, outcome->error);
	if (is_reported)
		report_unread(part, outcome->error);
}

/* Stripe refused the rest of a page. */
void
unread_rest_refused(const Part *part, const char *error)
{
	if (reads_object(part) && mark_dead(part, error))
		report_unread(part, error);
}

/*
 * PartKind.ended.  A part that is done closes the incident of its type if no
 * object of that type is dead any more.
 */
void
unread_part_ended(const Part *part, const Outcome *outcome)
{
	record_part_failure(part, outcome);
	if (strcmp(outcome->state, "done") == 0)
		recovered_reading(part->object_type ? part->object_type
											: part->kind->name);
}

/*
 * The object has been read as of "as_of": delete its row, unless the rest of one
 * of its pages is still to be read.
 */
void
unread_object_read(const Part *part, TimestampTz as_of)
{
	static EngineStatement done = {
		"DELETE FROM stripe_sync.reread"
		" WHERE object_type = $1 AND object_id = $2 AND account = $3 AND after <= $4"
		"  AND NOT EXISTS (SELECT FROM stripe_sync.job_part p"
		"   WHERE p.job = $5 AND p.part <> $6 AND p.kind = 'rest' AND p.account = $3"
		"    AND p.object_type = $1 AND p.object_id = $2"
		"    AND p.state IN ('waiting', 'running'))"};

	(void) statement_exec(
		&done, ARGS(arg_text(part->object_type), arg_text(part->object_id),
					arg_text(part->account), arg_time(as_of),
					arg_int8(part->job), arg_int4(part->number)));
}

/*
 * A dead row that requires a later answer than this one: the object can be read
 * again, so it is requested once more at "due", with all its tries.
 */
void
unread_answer_too_early(const Part *part, TimestampTz as_of, TimestampTz due)
{
	static EngineStatement revive = {
		"UPDATE stripe_sync.reread SET state = 'waiting', tries = 0, due_at = $5"
		" WHERE object_type = $1 AND object_id = $2 AND account = $3"
		"  AND state = 'dead' AND after > $4"};

	(void) statement_exec(
		&revive, ARGS(arg_text(part->object_type), arg_text(part->object_id),
					  arg_text(part->account), arg_time(as_of), arg_time(due)));
}

/*
 * PartKind.cancelled: the objects that the mirror had requested of the job stay
 * unread.  Runs in the transaction of cancel_job().
 */
void
unread_job_cancelled(int64 job)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.reread r SET state = 'dead',"
		"  error = pg_catalog.format('job %s was cancelled', $1)"
		" FROM stripe_sync.job_part p"
		" WHERE p.job = $1 AND p.state = 'cancelled' AND p.kind IN ('object', 'rest')"
		"  AND r.object_type = p.object_type AND r.object_id = p.object_id"
		"  AND r.account = p.account AND r.state = 'asked'"};

	(void) statement_exec(&update, ARGS(arg_int8(job)));
}
