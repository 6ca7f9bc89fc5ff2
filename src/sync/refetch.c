/*
 * refetch.c
 *		Reads single objects again: for refetch(), and for the mirror, which
 *		records in stripe_sync.reread what it needs.
 *
 * At most one part that has not been started exists for an object
 * (job_part_object_idx), so that a burst of requests is one read.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "base/base.h"
#include "engine/engine.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "inbox/inbox.h"
#include "jobs/jobs.h"
#include "jobs/part.h"
#include "mirror/mirror.h"
#include "server/server.h"
#include "stripe/stripe.h"
#include "types/object.h"
#include "types/types.h"
#include "sync/internal.h"

#define MAX_ID			512 /* bytes */
#define MAX_MOVED		100 /* rows of reread in one transaction */
#define RETRY_TOO_EARLY (2 * USECS_PER_SEC)

/* The object that refetch() is called for */
typedef struct ObjectName
{
	char *type;
	char *id;
	char *account;
} ObjectName;

/* ---- refetch ---- */

static const CatalogType *
retrievable_type(const char *name)
{
	const CatalogType *type = catalog_find(name, strlen(name));

	if (type == NULL || !catalog_is_retrievable(type))
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("objects of type \"%s\" cannot be retrieved by id", name),
			 type == NULL
				 ? errhint("%s", object_type_hint(name))
				 : errhint(
					   "SELECT object_type FROM stripe_sync.object_type WHERE retrieve_path IS NOT NULL shows which can.")));
	return type;
}

/* The job with a waiting part for the object, or 0 */
static int64
find_waiting_job(const ObjectName *object)
{
	static EngineStatement select = {
		"SELECT job FROM stripe_sync.job_part WHERE kind = 'object'"
		" AND state = 'waiting' AND object_type = $1 AND object_id = $2"
		" AND account = $3"};

	return statement_int8(0, &select,
						  ARGS(arg_text(object->type), arg_text(object->id),
							   arg_text(object->account)));
}

/*
 * Make a part that was put off due now, and return its job, or 0 if there is
 * none.  Locks the job's row before the part's; rows that the worker has locked
 * are skipped.
 */
static int64
make_due_now(const ObjectName *object)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.job_part p SET due_at = pg_catalog.clock_timestamp()"
		" FROM (SELECT w.job, w.part FROM stripe_sync.job_record j"
		"   JOIN stripe_sync.job_part w ON w.job = j.id"
		"   WHERE w.kind = 'object' AND w.state = 'waiting' AND w.attempts > 0"
		"    AND w.object_type = $1 AND w.object_id = $2 AND w.account = $3"
		"    AND w.due_at > pg_catalog.clock_timestamp()"
		"   LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED) d"
		" WHERE p.job = d.job AND p.part = d.part RETURNING p.job"};
	int64 job = statement_int8(0, &update,
							   ARGS(arg_text(object->type), arg_text(object->id),
									arg_text(object->account)));

	if (job != 0)
		worker_wake_at_commit();
	return job;
}

/* Delete a job without parts: it would never end.  Returns whether it was. */
static bool
delete_if_empty(int64 job)
{
	static EngineStatement drop = {
		"DELETE FROM stripe_sync.job_record j WHERE j.id = $1 AND NOT EXISTS"
		" (SELECT FROM stripe_sync.job_part p WHERE p.job = j.id)"};

	return statement_exec(&drop, ARGS(arg_int8(job))) > 0;
}

/* Create a job; 0 if another session has just requested the same object. */
static int64
create_refetch_job(const ObjectName *object)
{
	static EngineStatement insert = {
		"INSERT INTO stripe_sync.job_part"
		" (job, part, kind, priority, object_type, object_id, account)"
		" VALUES ($4, 1, 'object', $5, $1, $2, $3) ON CONFLICT DO NOTHING"};
	int64 job = job_create("refetch");

	(void) statement_exec(&insert,
						  ARGS(arg_text(object->type), arg_text(object->id),
							   arg_text(object->account), arg_int8(job),
							   arg_int4(PRIORITY_REFETCH)));
	return delete_if_empty(job) ? 0 : job;
}

/*
 * An object of which an account has only one has no id.  For other types an empty
 * id would request a list.
 */
static void
check_object_id(const CatalogType *type, const char *id)
{
	bool needs_id = strchr(type->retrieve_path, '{') != NULL &&
					strcmp(type->object, "account") != 0;

	if (needs_id && id[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the id of an object of type \"%s\" cannot be empty",
						type->object),
				 errhint("For example: refetch('customer', 'cus_1').")));
	if (strchr(type->retrieve_path, '{') == NULL && id[0] != '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("object type \"%s\" has a single object without an id",
						type->object),
				 errhint("Use refetch('%s', '').", type->object)));
	if (strlen(id) > MAX_ID)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("an id cannot be longer than %d bytes", MAX_ID)));
}

static ObjectName
refetch_argument(FunctionCallInfo fcinfo)
{
	for (int i = 0; i < 3; i++)
		if (PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("type, id and account of an object cannot be NULL"),
					 errhint("For example: refetch('customer', 'cus_1').")));
	return (ObjectName){text_to_cstring(PG_GETARG_TEXT_PP(0)),
						text_to_cstring(PG_GETARG_TEXT_PP(1)),
						text_to_cstring(PG_GETARG_TEXT_PP(2))};
}

/*
 * A part that another session has created may have ended before it is found, so
 * the search is repeated until one is found or created.
 */
static int64
find_or_create_job(const ObjectName *object)
{
	int64 job;

	while ((job = make_due_now(object)) == 0 &&
		   (job = find_waiting_job(object)) == 0 &&
		   (job = create_refetch_job(object)) == 0)
		CHECK_FOR_INTERRUPTS();
	return job;
}

/*
 * refetch(object_type, object_id, account): returns the job.  Raises 22023 for a
 * type that can't be retrieved by id, or a wrong id; 55000 without a key.
 */
ENGINE_FUNCTION(stripe_sync_refetch)
{
	ObjectName object = refetch_argument(fcinfo);
	RoleScope scope;
	int64 job;

	check_object_id(retrievable_type(object.type), object.id);
	scope = role_enter_engine();
	account_check(object.account);
	api_key_require();
	api_key_require_for(object.account);
	job = find_or_create_job(&object);
	outbound_note_identity();
	role_leave(&scope);
	standstill_note("stripe");
	PG_RETURN_INT64(job);
}

/* ---- requests of the mirror ---- */

/*
 * Create parts for the rows of stripe_sync.reread that are due.  A part of the
 * object that was put off, or has not been started, is reused: it then requires
 * the later of both times.
 */
static void
add_parts_for_reread(void)
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
		"   tries = GREATEST(p.tries, excluded.tries)"};
	int64 job = job_create("refetch");

	(void) statement_exec(&move, ARGS(arg_int8(job), arg_int4(MAX_MOVED),
									  arg_int4(PRIORITY_REFETCH)));
	(void) delete_if_empty(job);
}

/*
 * PartKind.poll.  Returns when the next row of stripe_sync.reread is due; a tenth
 * of a second after some were, because there may be more, or locked ones.
 */
static TimestampTz
poll_reread(void)
{
	static EngineStatement select = {
		"SELECT due_at FROM stripe_sync.reread WHERE state = 'waiting'"
		" ORDER BY due_at LIMIT 1"};
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz due;

	if (!api_key_is_set())
		return DT_NOEND;
	due = statement_time(DT_NOEND, &select, NO_ARGS);
	if (due > now)
		return due;
	add_parts_for_reread();
	return now + USECS_PER_SEC / 10;
}

/* ---- parts that read one object ---- */

static char *
object_path(const Part *part)
{
	const CatalogType *type = retrievable_type(part->object_type);

	if (part->object_id[0] == '\0' && strcmp(type->object, "account") == 0)
		return pstrdup(OWN_ACCOUNT);
	return api_path_with_id(type->retrieve_path, part->object_id);
}

/*
 * Read an object from an answer.  Returns false if it was deleted, which a 404 or
 * "deleted" in the answer says.  Raises an error, marked as an invalid answer, if
 * the answer is not a JSON object.
 */
bool
object_of_answer(const ApiCall *call, FetchedObject *fetched)
{
	Jsonb *document;
	JsonbValue deleted;

	fetched->object = NULL;
	if (call->verdict == API_GONE)
		return false;
	document = json_parse(call->body, (int) call->length);
	if (document == NULL || !JB_ROOT_IS_OBJECT(document))
		ereport(ERROR, (errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
						errmsg("Stripe's answer is not a JSON object"),
						answer_is_invalid()));
	fetched->object = &document->root;
	return !json_get(fetched->object, "deleted", &deleted) ||
		   deleted.type != jbvBool || !deleted.val.boolean;
}

/* Another object than the requested one must not be written in its place. */
static void
check_is_requested(const Part *part, const FetchedObject *fetched)
{
	char *type = json_get_string(fetched->object, "object");
	char *id = object_key(fetched->type, fetched->object);

	if (type == NULL || strcmp(type, fetched->type->object) != 0 || id == NULL ||
		(part->object_id[0] != '\0' && strcmp(id, part->object_id) != 0))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
				 errmsg("Stripe's answer is another object, not %s \"%s\"",
						part->object_type, part->object_id),
				 answer_is_invalid()));
}

/*
 * If the answer is as of an earlier time than was required, it can't decide
 * between the events because of which it was requested: request it again.
 */
static void
request_again_if_too_early(const Part *part, const CatalogType *type,
						   TimestampTz as_of)
{
	TimestampTz due = GetCurrentTimestamp() + RETRY_TOO_EARLY;

	if (as_of < part->since)
		refetch_request_add(type, part->object_id, part->account,
							"the answer was too early to tell", part->since,
							due);
	unread_answer_too_early(part, as_of, due);
}

static void
object_process(Part *part, const ApiCall *call)
{
	FetchedObject fetched = {.type = retrievable_type(part->object_type),
							 .id = part->object_id,
							 .account = part->account,
							 .as_of = call->as_of};
	bool alive = object_of_answer(call, &fetched);

	if (!alive && part->object_id[0] == '\0')
		ereport(ERROR, (errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
						errmsg("%s", call->error), answer_is_invalid()));
	if (alive && part->object_id[0] == '\0')
		fetched.id = object_key(fetched.type, fetched.object);
	if (fetched.id == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
				 errmsg("Stripe's answer has no id"), answer_is_invalid()));
	if (alive)
		check_is_requested(part, &fetched);
	fetched_apply(&fetched);
	request_again_if_too_early(part, fetched.type, call->as_of);
	if (alive)
		object_list_add_rests(part, &fetched);
	unread_object_read(part, call->as_of);
	part->pages = part->objects = 1;
	part->finished = true;
}

const PartKind part_object = {
	.name = "object",
	.path = object_path,
	.process = object_process,
	.ended = unread_part_ended,
	.cancelled = unread_job_cancelled, /* for parts "rest" of the job too */
	.poll = poll_reread,
	.accepts = API_BIT(API_GONE),
	.one_object = true,
	/* it could not be told which of two concurrent answers is the later one */
	.one_at_a_time = true,
};

/* For a backfill: what an account has one of, and the account itself */
static char *
single_path(const Part *part)
{
	return pstrdup(part->list_path);
}

const PartKind part_single = {
	.name = "single",
	.path = single_path,
	.process = object_process,
	.ended = unread_part_ended,
	.one_object = true,
};
