/*
 * part.c
 *		A part of a job: one list, or one object, as the worker has it in hand
 *		and as it stands in stripe_sync.job_part.
 *
 * A part is its holder's from when it is claimed; what the holder has in hand
 * is written with every answer, in the answer's transaction.
 */
#include "jobs_internal.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include <openssl/crypto.h>

#include "secret.h"

#define MAX_NOTE 2000 /* bytes of notes about one answer */

/* ---- in hand ---- */

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

/* A part lives as long as a list is long: nothing may be left behind. */
void
part_set_string(Part *part, char **place, const char *value)
{
	char *copy = value ? MemoryContextStrdup(part->memory, value) : NULL;

	if (*place != NULL)
		pfree(*place);
	*place = copy;
}

/* The key may be another by now, or none: see trouble then. */
void
part_load_key(Part *part)
{
	char buffer[MAX_SECRET + 1] = {0};
	char *trouble = NULL;
	bool found = api_key_load(part->account, buffer, sizeof(buffer),
							  &part->target, &trouble);

	if (part->key != NULL)
		OPENSSL_cleanse(part->key, strlen(part->key));
	part_set_string(part, &part->key, found ? buffer : NULL);
	part_set_string(part, &part->trouble, found ? NULL : trouble);
	OPENSSL_cleanse(buffer, sizeof(buffer));
}

void
part_set_parent(Part *part, const char *id)
{
	part_set_string(part, &part->parent_id, id);
}

/* It never goes back. */
void
part_set_progress(Part *part, double progress)
{
	part->progress = Max(part->progress, Min(1.0, progress));
}

/* What went wrong without holding the part up. */
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

/* ---- as it stands ---- */

/* What part_read() wants, of job_part p. */
const char *const part_columns =
	"p.job, p.part, p.kind, p.priority, p.object_type, p.object_id, p.account,"
	" p.list_path, p.parent_id, p.since, p.until, p.oldest, p.cursor,"
	" p.mirror_table, p.optional, p.attempts, p.tries, p.progress,"
	" (SELECT j.arguments FROM stripe_sync.job_record j WHERE j.id = p.job)";

typedef struct RowReader
{
	HeapTuple row;
	TupleDesc desc;
	MemoryContext memory;
	int column;
} RowReader;

static char *
next_text(RowReader *reader)
{
	char *text = SPI_getvalue(reader->row, reader->desc, ++reader->column);

	return text ? MemoryContextStrdup(reader->memory, text) : NULL;
}

static Datum
next_datum(RowReader *reader, Datum otherwise)
{
	bool isnull;
	Datum value = SPI_getbinval(reader->row, reader->desc, ++reader->column,
								&isnull);

	return isnull ? otherwise : value;
}

static TimestampTz
next_time(RowReader *reader)
{
	return DatumGetTimestampTz(
		next_datum(reader, TimestampTzGetDatum(DT_NOBEGIN)));
}

Part *
part_read(HeapTuple row, TupleDesc desc)
{
	MemoryContext memory = AllocSetContextCreate(
		TopMemoryContext, "stripe_sync part", ALLOCSET_SMALL_SIZES);
	Part *part = MemoryContextAllocZero(memory, sizeof(Part));
	RowReader reader = {row, desc, memory, 0};

	part->memory = memory;
	part->job = DatumGetInt64(next_datum(&reader, 0));
	part->number = DatumGetInt32(next_datum(&reader, 0));
	part->kind = part_kind_find(next_text(&reader));
	part->priority = DatumGetInt32(next_datum(&reader, 0));
	part->object_type = next_text(&reader);
	part->object_id = next_text(&reader);
	part->account = next_text(&reader);
	part->list_path = next_text(&reader);
	part->parent_id = next_text(&reader);
	part->since = next_time(&reader);
	part->until = next_time(&reader);
	part->oldest = next_time(&reader);
	part->cursor = next_text(&reader);
	part->mirror_table = DatumGetObjectId(
		next_datum(&reader, ObjectIdGetDatum(InvalidOid)));
	part->optional = DatumGetBool(next_datum(&reader, BoolGetDatum(false)));
	part->attempts = DatumGetInt32(next_datum(&reader, 0));
	part->tries = DatumGetInt32(next_datum(&reader, 0));
	part->progress = DatumGetFloat8(next_datum(&reader, Float8GetDatum(0)));
	part->arguments = next_text(&reader);
	part->limit = PAGE_LIMIT;
	return part;
}

static Datum
text_or_null(const char *text, char *isnull)
{
	*isnull = text != NULL ? ' ' : 'n';
	return text != NULL ? CStringGetTextDatum(text) : (Datum) 0;
}

/*
 * Write what is in hand, and what becomes of the part.  False when it isn't
 * ours any more: it was called off.
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
		" AND lease_backend_start = $17",
		19,
		{INT8OID, INT4OID, TEXTOID, TIMESTAMPTZOID, TEXTOID, TEXTOID, TEXTOID,
		 TIMESTAMPTZOID, TEXTOID, INT8OID, INT8OID, INT8OID, INT8OID, FLOAT8OID,
		 OIDOID, INT4OID, TIMESTAMPTZOID, INT4OID, BOOLOID}};
	char nulls[20];
	Datum values[19];
	bool ours;

	memset(nulls, ' ', sizeof(nulls) - 1);
	nulls[sizeof(nulls) - 1] = '\0';
	values[0] = Int64GetDatum(part->job);
	values[1] = Int32GetDatum(part->number);
	values[2] = CStringGetTextDatum(outcome->state);
	values[3] = TimestampTzGetDatum(outcome->due);
	values[4] = text_or_null(outcome->error, &nulls[4]);
	values[5] = text_or_null(part->cursor, &nulls[5]);
	values[6] = text_or_null(part->parent_id, &nulls[6]);
	values[7] = TimestampTzGetDatum(part->until);
	values[8] = text_or_null(part->note, &nulls[8]);
	values[9] = Int64GetDatum(part->pages);
	values[10] = Int64GetDatum(part->objects);
	values[11] = Int64GetDatum(part->missing);
	values[12] = Int64GetDatum(part->repaired);
	values[13] = Float8GetDatum(part->progress);
	values[14] = ObjectIdGetDatum(part->mirror_table);
	nulls[14] = OidIsValid(part->mirror_table) ? ' ' : 'n';
	values[15] = Int32GetDatum(MyProcPid);
	values[16] = TimestampTzGetDatum(MyStartTimestamp);
	values[17] = Int32GetDatum(part->tries);
	values[18] = BoolGetDatum(part->stays);
	SPI_connect();
	engine_run(&update, values, nulls, SPI_OK_UPDATE);
	ours = SPI_processed > 0;
	SPI_finish();
	part_forget(part);
	return ours;
}

/* Is it still?  With the job's row locked that stays as it is. */
bool
part_is_ours(const Part *part)
{
	static EngineStatement select = {
		"SELECT FROM stripe_sync.job_part WHERE job = $1 AND part = $2"
		" AND state = 'running' AND lease_pid = $3 AND lease_backend_start = $4",
		4,
		{INT8OID, INT4OID, INT4OID, TIMESTAMPTZOID}};
	Datum values[] = {Int64GetDatum(part->job), Int32GetDatum(part->number),
					  Int32GetDatum(MyProcPid),
					  TimestampTzGetDatum(MyStartTimestamp)};
	bool ours;

	SPI_connect();
	engine_run(&select, values, NULL, SPI_OK_SELECT);
	ours = SPI_processed > 0;
	SPI_finish();
	return ours;
}

/*
 * All that this process has in hand is due again, from where it was written
 * last; what somebody has locked when it is looked for next (runner_reclaim).
 */
void
part_release_all(TimestampTz due)
{
	static EngineStatement release = {
		"UPDATE ONLY stripe_sync.job_part SET state = 'waiting', due_at = $1,"
		" lease_pid = NULL, lease_backend_start = NULL, lease_server_start = NULL"
		" WHERE ctid = ANY (ARRAY(SELECT ctid FROM ONLY stripe_sync.job_part"
		"  WHERE state = 'running' AND lease_pid = $2"
		"   AND lease_backend_start = $3 FOR UPDATE SKIP LOCKED))",
		3,
		{TIMESTAMPTZOID, INT4OID, TIMESTAMPTZOID}};
	Datum values[] = {TimestampTzGetDatum(due), Int32GetDatum(MyProcPid),
					  TimestampTzGetDatum(MyStartTimestamp)};

	SPI_connect();
	engine_run(&release, values, NULL, SPI_OK_UPDATE);
	SPI_finish();
}

/* What the last answer came to: it was written, or undone. */
void
part_forget(Part *part)
{
	part->pages = part->objects = part->missing = part->repaired = 0;
	part->finished = part->stays = false;
	part_set_string(part, &part->note, NULL);
}
