/*
 * endpoint_watch.c
 *		Reads the webhook endpoints at Stripe by schedule, so that problems of the
 *		installation's own ones are reported (endpoint_judge.c).
 *
 * Its own endpoints are those that create_webhook_endpoint() has created, while
 * their names are in stripe_sync.endpoint; after one was deleted, another at the
 * same URL; if none was created that way, the only one that there is.  If there
 * are several of which none was created here, it is not known which are its own;
 * a problem is reported only if none of them is suitable.
 *
 * Each reading is a job with a part for each account of an endpoint.  Its pages
 * are written to stripe_sync.watched_endpoint, and with the last page all rows
 * of the account are judged, under a lock of that table.
 */
#include "postgres.h"

#include "lib/stringinfo.h"

#include "base/base.h"
#include "endpoints/endpoints.h"
#include "engine/statement.h"
#include "engine/worker_transaction.h"
#include "jobs/jobs.h"
#include "jobs/part.h"
#include "server/server.h"
#include "stripe/stripe.h"
#include "endpoints/internal.h"

#define KIND				"watch_endpoints"
#define DELAY_AFTER_KEY		60			 /* seconds, after a key was set */
#define DELAY_AFTER_REFUSAL SECS_PER_DAY /* after Stripe refused the list */
#define MAX_ID				63			 /* it may become an endpoint's name */

/* ---- an endpoint in an answer ---- */

static bool
is_endpoint_id(const char *id)
{
	return id != NULL && strncmp(id, "we_", 3) == 0 && strlen(id) <= MAX_ID &&
		   strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
					  "0123456789_") == strlen(id);
}

static bool
are_strings(const JsonbValue *value)
{
	JsonbContainer *array = value->val.binary.data;

	if (value->type != jbvBinary || !JsonContainerIsArray(array))
		return false;
	for (int i = 0; i < JsonContainerSize(array); i++)
		if (getIthJsonbValueFromContainer(array, i)->type != jbvString)
			return false;
	return true;
}

/* Does the document have the fields that are used, of the right types? */
bool
webhook_endpoint_is_valid(Jsonb *document)
{
	JsonbContainer *root = document != NULL ? &document->root : NULL;
	JsonbValue value;

	return root != NULL && JB_ROOT_IS_OBJECT(document) &&
		   is_endpoint_id(json_get_string(root, "id")) &&
		   json_get_string(root, "url") != NULL &&
		   json_get_string(root, "status") != NULL &&
		   json_get(root, "livemode", &value) && value.type == jbvBool &&
		   json_get(root, "enabled_events", &value) && are_strings(&value);
}

/*
 * Write an endpoint to stripe_sync.watched_endpoint.  Returns false if this job
 * has written it before.
 */
bool
webhook_endpoint_note(const Part *part, Jsonb *document)
{
	static EngineStatement upsert = {
		"INSERT INTO stripe_sync.watched_endpoint AS w (id, account, url, livemode,"
		"  status, api_version, enabled_events, seen_at, seen_by)"
		" SELECT $1 ->> 'id', $2, $1 ->> 'url', ($1 ->> 'livemode')::boolean,"
		"  $1 ->> 'status', $1 ->> 'api_version',"
		"  ARRAY(SELECT pg_catalog.jsonb_array_elements_text($1 -> 'enabled_events')),"
		"  pg_catalog.clock_timestamp(), $3"
		" ON CONFLICT (id, account) DO UPDATE SET url = excluded.url,"
		"  livemode = excluded.livemode, status = excluded.status,"
		"  api_version = excluded.api_version,"
		"  enabled_events = excluded.enabled_events,"
		"  seen_at = excluded.seen_at, seen_by = excluded.seen_by"
		"  WHERE w.seen_by IS DISTINCT FROM excluded.seen_by"};

	return statement_exec(&upsert,
						  ARGS(arg_jsonb(document), arg_text(part->account),
							   arg_int8(part->job))) > 0;
}

/*
 * The endpoint's name in stripe_sync.endpoint, or NULL if it has none.  Locks its
 * row.
 */
const char *
webhook_endpoint_name(const char *account, const char *id)
{
	static EngineStatement select = {
		"SELECT endpoint FROM stripe_sync.watched_endpoint"
		" WHERE account = $1 AND id = $2 AND endpoint IS NOT NULL FOR UPDATE"};

	return statement_text(&select, ARGS(arg_text(account), arg_text(id)));
}

/* Note that the part's job created the endpoint, and its name. */
void
webhook_endpoint_set_name(const Part *part, const char *id, const char *name)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.watched_endpoint SET endpoint = $3, job = $4"
		" WHERE account = $1 AND id = $2"};

	(void) statement_exec(&update, ARGS(arg_text(part->account), arg_text(id),
										arg_text(name), arg_int8(part->job)));
}

/* ---- the schedule ---- */

/* Read the endpoints soon: a new key may have other permissions. */
void
endpoint_watch_soon(void)
{
	static EngineStatement upsert = {
		"INSERT INTO stripe_sync.endpoint_watch (next_at)"
		" VALUES (pg_catalog.clock_timestamp() + $1 * interval '1 second')"
		" ON CONFLICT (one) DO UPDATE SET next_at = excluded.next_at"};

	(void) statement_exec(&upsert, ARGS(arg_int4(DELAY_AFTER_KEY)));
}

/* Is a reading due?  If so, the next one is scheduled. */
static bool
claim_watch_schedule(void)
{
	static EngineStatement take = {
		"UPDATE stripe_sync.endpoint_watch SET next_at ="
		" pg_catalog.clock_timestamp() + $1 * interval '1 second'"
		" WHERE next_at <= pg_catalog.clock_timestamp() OR next_at >"
		"  pg_catalog.clock_timestamp() + GREATEST($1, $2) * interval '1 second'"};

	return statement_exec(&take, ARGS(arg_int4(guc_reconcile_interval),
									  arg_int4(DELAY_AFTER_REFUSAL))) > 0;
}

static TimestampTz
next_watch(void)
{
	static EngineStatement select = {
		"SELECT pg_catalog.min(next_at) FROM stripe_sync.endpoint_watch"};

	return statement_time(DT_NOEND, &select, NO_ARGS);
}

/*
 * Create a job unless one waits or runs.  Earlier jobs are deleted: their results
 * are in watched_endpoint.
 */
static void
create_watch_job(void)
{
	static EngineStatement open = {
		"SELECT FROM stripe_sync.job_record WHERE kind = '" KIND "'"
		" AND state IN ('waiting', 'running')"};
	static EngineStatement clean = {
		"DELETE FROM stripe_sync.job_record WHERE kind = '" KIND "'"};
	/* connected accounts have no endpoints of their own here */
	static EngineStatement parts = {
		"INSERT INTO stripe_sync.job_part (job, part, kind, priority, account)"
		" SELECT $1, pg_catalog.row_number() OVER (ORDER BY k.account), 'endpoints', $2,"
		"  k.account FROM stripe_sync.api_key k WHERE k.account = ''"
		"   OR k.account IN (SELECT e.account FROM stripe_sync.endpoint e)"};
	int64 job;

	if (statement_exec(&open, NO_ARGS) > 0)
		return;
	(void) statement_exec(&clean, NO_ARGS);
	job = job_create(KIND);
	if (statement_exec(&parts,
					   ARGS(arg_int8(job), arg_int4(PRIORITY_RECONCILE))) == 0)
		(void) statement_exec(&clean, NO_ARGS); /* it would never end */
}

/*
 * Create the scheduled job if it is due, in a transaction of its own: as often as
 * events are reconciled.  Returns false if it isn't due; *next is when to call it
 * again.
 */
bool
watch_schedule(TimestampTz *next)
{
	bool due = false;

	worker_begin();
	*next = DT_NOEND;
	if (guc_reconcile_interval > 0 && outbound_allowed("stripe") &&
		api_key_is_set())
	{
		due = claim_watch_schedule();
		if (due)
			create_watch_job();
		*next = next_watch();
	}
	worker_commit();
	return due;
}

/* ---- parts "endpoints" ---- */

static char *
endpoints_path(const Part *part)
{
	StringInfoData path;

	initStringInfo(&path);
	appendStringInfoString(&path, "/v1/webhook_endpoints");
	api_path_append_page(&path, part);
	return path.data;
}

/*
 * The key has no permission to read endpoints: note it, and try again a day
 * later.  The part is done, because the permission is optional.
 */
static void
note_no_permission(Part *part, const ApiCall *call)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.endpoint_watch SET error = $1,"
		" next_at = pg_catalog.clock_timestamp() + $2 * interval '1 second'"};

	(void) statement_exec(
		&update, ARGS(arg_text(call->error), arg_int4(DELAY_AFTER_REFUSAL)));
	part_note(part, call->error);
	part->finished = true;
}

static void
note_endpoints_read(void)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.endpoint_watch"
		" SET read_at = pg_catalog.clock_timestamp(), error = NULL"};

	(void) statement_exec(&update, NO_ARGS);
}

/* Write a page.  Returns its last id; *any_new is false if all were known. */
static char *
write_endpoints(Part *part, List *elements, bool *any_new)
{
	char *last = NULL;
	ListCell *cell;

	*any_new = false;
	foreach(cell, elements)
	{
		const PageElement *element = lfirst(cell);
		Jsonb *document = json_parse(element->bytes, element->length);

		if (!webhook_endpoint_is_valid(document))
			ereport(ERROR, (errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
							errmsg("invalid webhook endpoint in Stripe's list"),
							answer_is_invalid()));
		last = json_get_string(&document->root, "id");
		if (webhook_endpoint_note(part, document))
			*any_new = true;
		part->objects++;
	}
	return last;
}

/* A page that has no endpoint but known ones ends the part: the list repeats. */
static void
endpoints_process(Part *part, const ApiCall *call)
{
	bool has_more;
	bool any_new;
	List *elements;
	char *last;

	if (call->verdict == API_FORBIDDEN)
	{
		note_no_permission(part, call);
		return;
	}
	elements = list_page_read(call->body, call->length, &has_more);
	last = write_endpoints(part, elements, &any_new);
	part->pages++;
	if (!has_more)
	{
		endpoint_watch_judge(part);
		note_endpoints_read();
		part->finished = true;
	}
	else if (!any_new)
		ereport(ERROR, (errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
						errmsg("Stripe's list of webhook endpoints does not end: "
							   "a page has nothing new"),
						answer_is_invalid()));
	else
		part_set_cursor(part, last);
}

const PartKind part_endpoints = {.name = "endpoints",
								 .path = endpoints_path,
								 .process = endpoints_process,
								 .ended = unread_part_ended,
								 .accepts = API_BIT(API_FORBIDDEN),
								 .shrinks = true};
