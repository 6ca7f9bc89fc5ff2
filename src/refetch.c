/*
 * refetch.c
 *		One object is read again: because somebody asks, or the mirror does.
 */
#include "sync.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"

#include "account.h"

#define MAX_ID		512
#define AT_ONCE		100
#define AGAIN_AFTER (2 * USECS_PER_SEC)

/* ---- asked for ---- */

static const CatalogType *
retrievable_type(const char *name)
{
	const CatalogType *type = catalog_find(name, strlen(name));

	if (type == NULL || !catalog_is_retrievable(type))
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("objects of type \"%s\" cannot be read by their id", name),
			 type == NULL
				 ? errhint("%s", object_type_hint(name))
				 : errhint(
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
	return SPI_processed == 0 ? 0 : DatumGetInt64(engine_value());
}

/*
 * Who asks for what was put off wants it now.  The job's row first, as
 * everywhere; what the worker has in hand at the moment is left.
 */
static int64
hurry(Datum *values)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.job_part p SET due_at = pg_catalog.clock_timestamp()"
		" FROM (SELECT w.job, w.part FROM stripe_sync.job_record j"
		"   JOIN stripe_sync.job_part w ON w.job = j.id"
		"   WHERE w.kind = 'object' AND w.state = 'waiting' AND w.attempts > 0"
		"    AND w.object_type = $1 AND w.object_id = $2 AND w.account = $3"
		"    AND w.due_at > pg_catalog.clock_timestamp()"
		"   LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED) d"
		" WHERE p.job = d.job AND p.part = d.part RETURNING p.job",
		3,
		{TEXTOID, TEXTOID, TEXTOID}};

	engine_run(&update, values, NULL, SPI_OK_UPDATE_RETURNING);
	if (SPI_processed == 0)
		return 0;
	worker_wake_at_commit();
	return DatumGetInt64(engine_value());
}

/* A job without parts would never be over. */
static bool
drop_if_empty(int64 job)
{
	static EngineStatement drop = {
		"DELETE FROM stripe_sync.job_record j WHERE j.id = $1 AND NOT EXISTS"
		" (SELECT FROM stripe_sync.job_part p WHERE p.job = j.id)",
		1,
		{INT8OID}};
	Datum value = Int64GetDatum(job);

	engine_run(&drop, &value, NULL, SPI_OK_DELETE);
	return SPI_processed > 0;
}

/* 0 when another session has asked for the same meanwhile. */
static int64
add_object(Datum *object)
{
	static EngineStatement insert = {
		"INSERT INTO stripe_sync.job_part"
		" (job, part, kind, priority, object_type, object_id, account)"
		" VALUES ($4, 1, 'object', $5, $1, $2, $3) ON CONFLICT DO NOTHING",
		5,
		{TEXTOID, TEXTOID, TEXTOID, INT8OID, INT4OID}};
	int64 job = job_create("refetch");
	Datum values[] = {object[0], object[1], object[2], Int64GetDatum(job),
					  Int32GetDatum(PRIORITY_REFETCH)};

	engine_run(&insert, values, NULL, SPI_OK_INSERT);
	return drop_if_empty(job) ? 0 : job;
}

/*
 * An object that is the only one of its kind has no id of its own; of others an
 * empty one would be a list.
 */
static void
check_object(const CatalogType *type, const char *id)
{
	bool wants = strchr(type->retrieve_path, '{') != NULL &&
				 strcmp(type->object, "account") != 0;

	if (wants && id[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("an object of type \"%s\" has an id", type->object),
				 errhint("For example: refetch('customer', 'cus_1').")));
	if (strchr(type->retrieve_path, '{') == NULL && id[0] != '\0')
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("an account has just one \"%s\", without an id",
							   type->object),
						errhint("refetch('%s', '')", type->object)));
	if (strlen(id) > MAX_ID)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("an id has %d bytes at most", MAX_ID)));
}

/* refetch(object_type, object_id, account): a job */
ENGINE_FUNCTION(stripe_sync_refetch)
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
	check_object(retrievable_type(TextDatumGetCString(values[0])),
				 TextDatumGetCString(values[1]));
	scope = role_enter_engine();
	account_check(TextDatumGetCString(values[2]));
	refuse_without_key();
	refuse_account_without_key(TextDatumGetCString(values[2]));
	SPI_connect();
	while ((job = hurry(values)) == 0 && (job = find_waiting(values)) == 0 &&
		   (job = add_object(values)) == 0)
		CHECK_FOR_INTERRUPTS(); /* that one may be gone again by now */
	SPI_finish();
	outbound_note_identity();
	role_leave(&scope);
	standstill_note("stripe");
	PG_RETURN_INT64(job);
}

/* ---- the mirror asks ---- */

/*
 * A part that was put off goes on when it is due, and answers what is asked for
 * meanwhile, too.
 */
static void
move_due(void)
{
	static EngineStatement move = {
		"WITH asked AS (UPDATE ONLY stripe_sync.reread SET state = 'asked'"
		"  WHERE ctid = ANY (ARRAY(SELECT r.ctid FROM ONLY stripe_sync.reread r"
		"   WHERE r.state = 'waiting' AND r.due_at <= pg_catalog.clock_timestamp()"
		"   ORDER BY r.due_at LIMIT $2 FOR UPDATE SKIP LOCKED))"
		"  RETURNING object_type, object_id, account, after, tries),"
		" put_off AS (SELECT p.job, p.part, a.object_type, a.object_id, a.account, a.after"
		"  FROM stripe_sync.job_part p JOIN asked a ON p.object_type = a.object_type"
		"   AND p.object_id = a.object_id AND p.account = a.account"
		"  WHERE p.kind = 'object' AND p.state = 'waiting' AND p.attempts > 0"
		"  FOR UPDATE OF p SKIP LOCKED),"
		" joined AS (UPDATE stripe_sync.job_part p SET since = GREATEST(p.since, o.after)"
		"  FROM put_off o WHERE p.job = o.job AND p.part = o.part)"
		" INSERT INTO stripe_sync.job_part AS p"
		"  (job, part, kind, priority, object_type, object_id, account, since, tries)"
		" SELECT $1, pg_catalog.row_number() OVER (), 'object', $3, a.object_type,"
		"  a.object_id, a.account, a.after, a.tries FROM asked a"
		"  WHERE NOT EXISTS (SELECT FROM put_off o WHERE o.object_type = a.object_type"
		"   AND o.object_id = a.object_id AND o.account = a.account)"
		" ON CONFLICT (object_type, object_id, account)"
		"  WHERE kind = 'object' AND state = 'waiting' AND attempts = 0"
		"  DO UPDATE SET since = GREATEST(p.since, excluded.since),"
		"   tries = GREATEST(p.tries, excluded.tries)",
		3,
		{INT8OID, INT4OID, INT4OID}};
	int64 job = job_create("refetch");
	Datum values[] = {Int64GetDatum(job), Int32GetDatum(AT_ONCE),
					  Int32GetDatum(PRIORITY_REFETCH)};

	engine_run(&move, values, NULL, SPI_OK_INSERT);
	(void) drop_if_empty(job);
}

/*
 * What the mirror wants read again becomes parts of a job; when the next is
 * due.  Within an SPI connection of the caller's.
 */
static TimestampTz
reread_to_parts(void)
{
	static EngineStatement select = {
		"SELECT due_at FROM stripe_sync.reread WHERE state = 'waiting'"
		" ORDER BY due_at LIMIT 1"};
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz due;

	if (!api_key_is_set())
		return DT_NOEND;
	engine_run(&select, NULL, NULL, SPI_OK_SELECT);
	if (SPI_processed == 0)
		return DT_NOEND;
	due = DatumGetTimestampTz(engine_value());
	if (due > now)
		return due;
	move_due();
	/* some may be left, or somebody else's at the moment */
	return now + USECS_PER_SEC / 10;
}

/* ---- fetched object ---- */

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
object_from(const ApiCall *call, FetchedObject *fetched)
{
	Jsonb *document;
	JsonbValue deleted;

	fetched->object = NULL;
	if (call->verdict == API_GONE)
		return false;
	document = json_parse(call->body, (int) call->length);
	if (document == NULL || !JB_ROOT_IS_OBJECT(document))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
				 errmsg("Stripe's answer is no object"), answer_is_useless()));
	fetched->object = &document->root;
	return !json_get(fetched->object, "deleted", &deleted) ||
		   deleted.type != jbvBool || !deleted.val.boolean;
}

/* What was not asked for must not be written over what was. */
static void
check_answer(const Part *part, const FetchedObject *fetched)
{
	char *type = json_get_string(fetched->object, "object");
	char *id = object_key(fetched->type, fetched->object);

	if (type == NULL || strcmp(type, fetched->type->object) != 0 || id == NULL ||
		(part->object_id[0] != '\0' && strcmp(id, part->object_id) != 0))
		ereport(ERROR, (errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
						errmsg("Stripe's answer is another object than %s "
							   "\"%s\"",
							   part->object_type, part->object_id),
						answer_is_useless()));
}

/* Too early to decide between the events that it was asked for. */
static void
ask_once_more(const Part *part, const CatalogType *type, TimestampTz as_of)
{
	TimestampTz due = GetCurrentTimestamp() + AGAIN_AFTER;

	if (as_of < part->since)
		refetch_request_add(type, part->object_id, part->account,
							"the answer was too early to tell", part->since,
							due);
	unread_too_early(part, as_of, due);
}

static void
object_take(Part *part, const ApiCall *call)
{
	FetchedObject fetched = {.type = retrievable_type(part->object_type),
							 .id = part->object_id,
							 .account = part->account,
							 .as_of = call->as_of};
	bool alive = object_from(call, &fetched);

	if (!alive && part->object_id[0] == '\0')
		ereport(ERROR, (errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
						errmsg("%s", call->trouble), answer_is_useless()));
	if (alive && part->object_id[0] == '\0')
		fetched.id = object_key(fetched.type, fetched.object);
	if (fetched.id == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
				 errmsg("Stripe's answer has no id"), answer_is_useless()));
	if (alive)
		check_answer(part, &fetched);
	fetched_apply(&fetched);
	ask_once_more(part, fetched.type, call->as_of);
	if (alive)
		list_add_rests(part, &fetched);
	unread_done(part, call->as_of);
	part->pages = part->objects = 1;
	part->finished = true;
}

const PartKind part_object = {
	.name = "object",
	.path = object_path,
	.take = object_take,
	.ended = unread_over,
	.cancelled = unread_cancelled, /* parts "rest" of the job, too */
	.poll = reread_to_parts,
	.takes = API_BIT(API_GONE),
	.one_object = true,
	/* of two answers at a time none could tell which is the later */
	.one_at_a_time = true,
};

/* What a backfill reads of an account beside lists. */
static char *
single_path(const Part *part)
{
	return pstrdup(part->list_path);
}

const PartKind part_single = {
	.name = "single",
	.path = single_path,
	.take = object_take,
	.ended = unread_over,
	.one_object = true,
};
