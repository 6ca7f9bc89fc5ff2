/*
 * part.c
 *		A claimed part of a job, in memory and in stripe_sync.job_part.
 *
 * A claimed part is "running", and its lease names the process that holds it.
 * Only the holder changes such a row, but for cancel_job(), which takes the
 * lease away.  The state in memory is written with every answer, in the
 * transaction of the answer; whatever has not been written is lost in a crash
 * and requested again.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include <openssl/crypto.h>

#include "engine/statement.h"
#include "inbox/secret.h"
#include "jobs/jobs.h"
#include "jobs/part.h"
#include "stripe/stripe.h"
#include "types/types.h"
#include "jobs/internal.h"

#define MAX_NOTE 2000 /* bytes of notes about one answer */

/* ---- in memory ---- */

void
part_free(Part *part)
{
	if (part->key != NULL)
		OPENSSL_cleanse(part->key, strlen(part->key));
	MemoryContextDelete(part->memory);
}

const CatalogType *
part_type(const Part *part)
{
	return catalog_find(part->object_type, strlen(part->object_type));
}

/*
 * Replace a string of the part.  The old one is freed: a part lives as long as
 * it takes to read a list, which can have millions of objects.
 */
void
part_set_string(Part *part, char **place, const char *value)
{
	char *copy = value ? MemoryContextStrdup(part->memory, value) : NULL;

	if (*place != NULL)
		pfree(*place);
	*place = copy;
}

/*
 * Read the account's API key again: it may have been replaced or removed.
 * Without a key, part->key is NULL and part->key_error says why.
 */
void
part_load_key(Part *part)
{
	char buffer[MAX_SECRET + 1] = {0};
	char *error = NULL;
	bool found = api_key_load(part->account, buffer, sizeof(buffer),
							  &part->target, &error);

	if (part->key != NULL)
		OPENSSL_cleanse(part->key, strlen(part->key));
	part_set_string(part, &part->key, found ? buffer : NULL);
	part_set_string(part, &part->key_error, found ? NULL : error);
	OPENSSL_cleanse(buffer, sizeof(buffer));
}

void
part_set_parent(Part *part, const char *id)
{
	part_set_string(part, &part->parent_id, id);
}

/* The progress of a part, 0 to 1.  It never decreases. */
void
part_set_progress(Part *part, double progress)
{
	part->progress = Max(part->progress, Min(1.0, progress));
}

/* Add a note about an error that does not stop the part. */
void
part_note(Part *part, const char *note)
{
	char *both;

	if (part->note != NULL && strlen(part->note) > MAX_NOTE)
		return;
	both = part->note != NULL ? psprintf("%s\n%s", part->note, note)
							  : pstrdup(note);
	part_set_string(part, &part->note, both);
	pfree(both);
}

/* Reset the results of the last answer, after it was written or rolled back. */
void
part_reset_results(Part *part)
{
	part->pages = part->objects = part->missing = part->repaired = 0;
	part->finished = part->no_progress = false;
	part_set_string(part, &part->note, NULL);
}

/* ---- in stripe_sync.job_part ---- */

/* The columns of job_part p that part_read() reads, in that order */
const char *const part_columns =
	"p.job, p.part, p.kind, p.priority, p.object_type, p.object_id, p.account,"
	" p.list_path, p.parent_id, p.since, p.until, p.oldest, p.cursor,"
	" p.mirror_table, p.optional, p.attempts, p.tries, p.progress,"
	" (SELECT j.arguments FROM stripe_sync.job_record j WHERE j.id = p.job)";

/* The part in the current row, in a memory context of its own */
Part *
part_read(Rows *rows)
{
	MemoryContext memory = AllocSetContextCreate(
		TopMemoryContext, "stripe_sync part", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(memory);
	Part *part = palloc0(sizeof(Part));

	part->memory = memory;
	part->job = rows_int8(rows, 0);
	part->number = rows_int4(rows, 0);
	part->kind = part_kind_find(rows_text(rows));
	part->priority = rows_int4(rows, 0);
	part->object_type = rows_text(rows);
	part->object_id = rows_text(rows);
	part->account = rows_text(rows);
	part->list_path = rows_text(rows);
	part->parent_id = rows_text(rows);
	part->since = rows_time(rows, DT_NOBEGIN);
	part->until = rows_time(rows, DT_NOBEGIN);
	part->oldest = rows_time(rows, DT_NOBEGIN);
	part->cursor = rows_text(rows);
	part->mirror_table = rows_oid(rows);
	part->optional = rows_bool(rows, false);
	part->attempts = rows_int4(rows, 0);
	part->tries = rows_int4(rows, 0);
	part->progress = rows_float8(rows, 0);
	part->arguments = rows_text(rows);
	part->limit = PAGE_LIMIT;
	MemoryContextSwitchTo(old);
	return part;
}

/*
 * Write the part's state and its outcome, in the caller's transaction.  Returns
 * false if the part no longer belongs to this process, because its job was
 * cancelled; nothing is written then.
 */
bool
part_write(Part *part, const Outcome *outcome)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.job_part SET state = $3, due_at = $4, error = $5,"
		" cursor = $6, parent_id = $7, until = nullif($8, '-infinity'),"
		" note = CASE WHEN $9 IS NULL OR pg_catalog.length(note) > 8000 THEN note"
		"  ELSE pg_catalog.concat_ws(E'\\n', note, $9) END,"
		" pages = pages + $10, objects = objects + $11,"
		" missing = missing + $12, repaired = repaired + $13,"
		" progress = CASE WHEN $3 = 'done' THEN 1 ELSE $14 END,"
		" attempts = CASE WHEN $3 = 'running' AND NOT $19 THEN 1 ELSE attempts END,"
		" lease_pid = CASE WHEN $3 = 'running' THEN lease_pid END,"
		" lease_backend_start = CASE WHEN $3 = 'running' THEN lease_backend_start END,"
		" lease_server_start = CASE WHEN $3 = 'running' THEN lease_server_start END,"
		" mirror_table = $15, tries = $18"
		" WHERE job = $1 AND part = $2 AND state = 'running' AND lease_pid = $16"
		" AND lease_backend_start = $17"};
	bool is_ours = statement_exec(
					   &update,
					   ARGS(arg_int8(part->job), arg_int4(part->number),
							arg_text(outcome->state), arg_time(outcome->due),
							arg_text(outcome->error), arg_text(part->cursor),
							arg_text(part->parent_id), arg_time(part->until),
							arg_text(part->note), arg_int8(part->pages),
							arg_int8(part->objects), arg_int8(part->missing),
							arg_int8(part->repaired), arg_float8(part->progress),
							arg_oid(part->mirror_table), arg_int4(MyProcPid),
							arg_time(MyStartTimestamp), arg_int4(part->tries),
							arg_bool(part->no_progress))) > 0;

	part_reset_results(part);
	return is_ours;
}

/*
 * Is the part still leased to this process?  With the job's row locked the
 * answer holds until the end of the transaction.
 */
bool
part_is_ours(const Part *part)
{
	static EngineStatement select = {
		"SELECT FROM stripe_sync.job_part WHERE job = $1 AND part = $2"
		" AND state = 'running' AND lease_pid = $3 AND lease_backend_start = $4"};

	return statement_exec(&select,
						  ARGS(arg_int8(part->job), arg_int4(part->number),
							   arg_int4(MyProcPid),
							   arg_time(MyStartTimestamp))) > 0;
}

/*
 * Make all parts that are leased to this process due at "due", with the state
 * that was written last.  Rows that another session has locked are left; they
 * are found by runner_reclaim().
 */
void
part_release_all(TimestampTz due)
{
	static EngineStatement release = {
		"UPDATE ONLY stripe_sync.job_part SET state = 'waiting', due_at = $1,"
		" lease_pid = NULL, lease_backend_start = NULL, lease_server_start = NULL"
		" WHERE ctid = ANY (ARRAY(SELECT ctid FROM ONLY stripe_sync.job_part"
		"  WHERE state = 'running' AND lease_pid = $2"
		"   AND lease_backend_start = $3 FOR UPDATE SKIP LOCKED))"};

	(void) statement_exec(&release, ARGS(arg_time(due), arg_int4(MyProcPid),
										 arg_time(MyStartTimestamp)));
}
