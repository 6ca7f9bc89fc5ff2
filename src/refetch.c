/*
 * refetch.c
 *		One object is read again: because somebody asks, or the mirror does.
 */
#include "stripe_api.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(stripe_sync_refetch);

#define MAX_ID	512
#define AT_ONCE 100

/* ---- asked for ---- */

static const CatalogType *
retrievable_type(const char *name)
{
	const CatalogType *type = catalog_find(name, strlen(name));

	if (type == NULL || type->table == NULL || type->retrieve_path == NULL ||
		strcmp(type->api, "v1") != 0)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("objects of type \"%s\" cannot be read by their id", name),
			 errhint(
				 "SELECT object_type FROM stripe_sync.object_type WHERE retrieve_path IS NOT NULL shows which can.")));
	return type;
}

/* One that waits is joined: a burst of requests is one. */
static int64
find_waiting(Datum *values)
{
	static EngineStatement select = {
		"SELECT job FROM stripe_sync.job_part WHERE kind = 'object'"
		" AND state = 'waiting' AND object_type = $1 AND object_id = $2"
		" AND account = $3",
		3,
		{TEXTOID, TEXTOID, TEXTOID}};

	engine_run(&select, values, NULL, SPI_OK_SELECT);
	return SPI_processed == 0
			   ? 0
			   : DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0],
											 SPI_tuptable->tupdesc, 1,
											 &(bool){false}));
}

static int64
add_object(Datum *object)
{
	static EngineStatement insert = {
		"INSERT INTO stripe_sync.job_part"
		" (job, part, kind, priority, object_type, object_id, account)"
		" VALUES ($4, 1, 'object', $5, $1, $2, $3)",
		5,
		{TEXTOID, TEXTOID, TEXTOID, INT8OID, INT4OID}};
	int64 job = job_create("refetch");
	Datum values[] = {object[0], object[1], object[2], Int64GetDatum(job),
					  Int32GetDatum(PRIORITY_REFETCH)};

	engine_run(&insert, values, NULL, SPI_OK_INSERT);
	return job;
}

/* refetch(object_type, object_id, account): a job */
Datum
stripe_sync_refetch(PG_FUNCTION_ARGS)
{
	Datum values[3];
	RoleScope scope;
	int64 job;

	for (int i = 0; i < lengthof(values); i++)
	{
		if (PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("type, id and account of an object cannot be NULL"),
					 errhint("For example: refetch('customer', 'cus_1').")));
		values[i] = PG_GETARG_DATUM(i);
	}
	(void) retrievable_type(TextDatumGetCString(values[0]));
	if (strlen(TextDatumGetCString(values[1])) > MAX_ID)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("an id has %d bytes at most", MAX_ID)));
	scope = role_enter_engine();
	refuse_without_key();
	SPI_connect();
	job = find_waiting(values);
	if (job == 0)
		job = add_object(values);
	SPI_finish();
	guard_note();
	role_leave(&scope);
	PG_RETURN_INT64(job);
}

/* ---- the mirror asks ---- */

/*
 * What the mirror wants read again becomes parts of a job.  Within an SPI
 * connection of the caller's.
 */
void
reread_to_parts(void)
{
	static EngineStatement due = {
		"SELECT 1 FROM stripe_sync.reread"
		" WHERE due_at <= pg_catalog.clock_timestamp() LIMIT 1"};
	static EngineStatement move = {
		"WITH gone AS (DELETE FROM stripe_sync.reread WHERE ctid = ANY (ARRAY("
		"  SELECT r.ctid FROM stripe_sync.reread r"
		"   WHERE r.due_at <= pg_catalog.clock_timestamp()"
		"   LIMIT $2 FOR UPDATE SKIP LOCKED))"
		"  RETURNING object_type, object_id, account)"
		" INSERT INTO stripe_sync.job_part"
		"  (job, part, kind, priority, object_type, object_id, account)"
		" SELECT $1, pg_catalog.row_number() OVER (), 'object', $3, object_type,"
		"  object_id, account FROM gone ON CONFLICT DO NOTHING",
		3,
		{INT8OID, INT4OID, INT4OID}};
	Datum values[] = {0, Int32GetDatum(AT_ONCE),
					  Int32GetDatum(PRIORITY_REFETCH)};

	if (!api_key_is_set())
		return;
	engine_run(&due, NULL, NULL, SPI_OK_SELECT);
	if (SPI_processed == 0)
		return;
	values[0] = Int64GetDatum(job_create("refetch"));
	engine_run(&move, values, NULL, SPI_OK_INSERT);
}

/* ---- reading ---- */

static char *
object_path(const Part *part)
{
	const CatalogType *type = retrievable_type(part->object_type);

	if (part->object_id[0] == '\0' && strcmp(type->object, "account") == 0)
		return pstrdup(OWN_ACCOUNT);
	return path_fill(type->retrieve_path, part->object_id);
}

/*
 * What Stripe has of an object: false when it has it no more, which 404 says,
 * or the answer.
 */
bool
object_from(const ApiCall *call, Reading *reading)
{
	Jsonb *document;
	JsonbValue deleted;

	reading->object = NULL;
	if (call->verdict == API_GONE)
		return false;
	document = json_parse(call->body, (int) call->length);
	if (document == NULL || !JB_ROOT_IS_OBJECT(document))
		ereport(ERROR, (errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
						errmsg("Stripe's answer is no object")));
	reading->object = &document->root;
	return !json_get(reading->object, "deleted", &deleted) ||
		   deleted.type != jbvBool || !deleted.val.boolean;
}

static void
object_take(Part *part, const ApiCall *call)
{
	Reading reading = {.type = retrievable_type(part->object_type),
					   .id = part->object_id,
					   .account = part->account,
					   .as_of = call->as_of};
	bool alive = object_from(call, &reading);

	if (alive && part->object_id[0] == '\0')
		reading.id = snapshot_key(reading.type, reading.object);
	if (reading.id == NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
						errmsg("Stripe's answer has no id")));
	mirror_read(&reading);
	if (alive)
		list_add_rests(part, &reading);
	part->pages = part->objects = 1;
	part->finished = true;
}

const PartKind part_object = {
	.name = "object",
	.path = object_path,
	.take = object_take,
	.takes = API_BIT(API_GONE),
};
