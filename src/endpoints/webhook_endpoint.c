/*
 * webhook_endpoint.c
 *		create_webhook_endpoint(): creates the job that creates a webhook endpoint
 *		at Stripe.
 *
 * The whole request, with its idempotency key, is stored in the job's arguments,
 * so that every attempt (new_endpoint.c) is the same.  At most one open job
 * exists for a URL (job_record_endpoint_idx).
 *
 * Calling it again for the same URL returns the same job, since set-up scripts
 * are run repeatedly and a second endpoint would have each event sent twice.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include <strings.h>

#include "base/compat.h"
#include "base/refusal.h"
#include "endpoints/endpoints.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "http/http.h"
#include "inbox/inbox.h"
#include "inbox/secret.h"
#include "jobs/jobs.h"
#include "jobs/part.h"
#include "server/server.h"
#include "stripe/stripe.h"
#include "tables/tables.h"
#include "types/object.h"
#include "endpoints/internal.h"

#define KIND	  "create_webhook_endpoint"
#define MAX_TYPES 1000

/* The endpoint that is requested */
typedef struct EndpointRequest
{
	char *url;
	Datum types; /* a text[] */
	bool chosen; /* the types were given by the caller */
	bool livemode;
} EndpointRequest;

/* ---- arguments ---- */

static void
check_endpoint_url(const char *url)
{
	char *refusal = http_refusal(url, HTTP_FROM_OUTSIDE);

	if (refusal == NULL && strncasecmp(url, "https://", 8) != 0)
		refusal = "It does not begin with https://.";
	if (refusal != NULL)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid URL of a webhook endpoint"),
			 errdetail("%s", refusal),
			 errhint(
				 "Give the URL at which Stripe reaches your application's route to stripe_sync.webhook(), for example https://shop.example.com/stripe/webhook.")));
}

static void
check_event_type(const char *type, int count)
{
	if (strcmp(type, "*") == 0 && count > 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"*\" cannot be combined with other types"),
				 errhint("Use ARRAY['*'] for all types, or list names.")));
	if (strcmp(type, "*") != 0 && !event_type_is_known(type))
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("Stripe has no events of type \"%s\"", type),
			 errhint(
				 "%sSELECT unnest(event_types) FROM stripe_sync.object_type shows all. Give the full name of a type, or '*' for all.",
				 event_type_hint(type))));
}

static void
check_event_types(ArrayType *types)
{
	Datum *elements;
	bool *nulls;
	int count;

	deconstruct_array(types, TEXTOID, -1, false, TYPALIGN_INT, &elements,
					  &nulls, &count);
	if (count == 0 || count > MAX_TYPES)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("an endpoint must have 1 to %d types of events",
							   MAX_TYPES),
						errhint("Omit types for all that the mirror needs.")));
	for (int i = 0; i < count; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("a type of events cannot be NULL"),
					 errhint("Omit types for all that the mirror needs.")));
		check_event_type(TextDatumGetCString(elements[i]), count);
	}
}

/* ---- the job ---- */

/*
 * The job for the URL that waits or runs, or 0.  Raises 42710 if it is for other
 * types.
 */
static int64
find_open_endpoint_job(const EndpointRequest *request)
{
	static EngineStatement select = {
		"SELECT id, NOT $2 OR (arguments -> 'types' @> pg_catalog.to_jsonb($3)"
		"  AND arguments -> 'types' <@ pg_catalog.to_jsonb($3))"
		" FROM stripe_sync.job_record WHERE kind = '" KIND "'"
		" AND state IN ('waiting', 'running')"
		" AND pg_catalog.md5(arguments ->> 'url') = pg_catalog.md5($1)"};
	bool same_types = true;
	int64 job = 0;
	Rows rows;

	rows_open(&rows, &select,
			  ARGS(arg_text(request->url), arg_bool(request->chosen),
				   arg_datum(TEXTARRAYOID, request->types)));
	if (rows_next(&rows))
	{
		job = rows_int8(&rows, 0);
		same_types = rows_bool(&rows, false);
	}
	rows_close(&rows);
	if (!same_types)
		ereport(
			ERROR,
			(errcode(ERRCODE_DUPLICATE_OBJECT),
			 errmsg("job " INT64_FORMAT
					" creates a webhook endpoint for that URL with other types",
					job),
			 errhint(
				 "Wait for it, and change the types in Stripe's dashboard; or SELECT stripe_sync.cancel_job(" INT64_FORMAT
				 ").",
				 job)));
	return job;
}

compat_noreturn static void
raise_endpoint_exists(const char *id, const char *name)
{
	ereport(
		ERROR,
		(errcode(ERRCODE_DUPLICATE_OBJECT),
		 errmsg("a webhook endpoint for that URL already exists: %s", id),
		 errhint(
			 "Change its types in Stripe's dashboard. Or delete it there, SELECT stripe_sync.drop_endpoint(%s), and create it again.",
			 quote_literal_cstr(name))));
}

/*
 * The job that has created an endpoint for the URL which is not known to have
 * been deleted, or 0.  Raises 42710 if that has other types or its job is gone.
 */
static int64
find_created(const EndpointRequest *request)
{
	static EngineStatement select = {
		"SELECT j.id, w.id, w.endpoint,"
		" NOT $3 OR (w.enabled_events @> $4 AND w.enabled_events <@ $4)"
		" FROM stripe_sync.watched_endpoint w"
		" JOIN stripe_sync.endpoint e ON e.name = w.endpoint"
		" LEFT JOIN stripe_sync.job_record j ON j.id = w.job"
		" WHERE w.account = '' AND w.url = $1 AND w.livemode = $2"
		" AND NOT 'gone' = ANY (w.trouble) ORDER BY 4 DESC, j.id LIMIT 1"};
	char *id = NULL;
	char *name = NULL;
	int64 job = 0;
	Rows rows;

	rows_open(&rows, &select,
			  ARGS(arg_text(request->url), arg_bool(request->livemode),
				   arg_bool(request->chosen),
				   arg_datum(TEXTARRAYOID, request->types)));
	if (rows_next(&rows))
	{
		job = rows_int8(&rows, 0);
		id = rows_text(&rows);
		name = rows_text(&rows);
		if (job == 0 || !rows_bool(&rows, false))
			raise_endpoint_exists(id, name);
	}
	rows_close(&rows);
	if (job != 0)
		ereport(
			NOTICE,
			(errmsg(
				"a webhook endpoint for that URL already exists: %s, stored as endpoint \"%s\"",
				id, name)));
	return job;
}

/* Returns 0 if another session has just created a job for the URL. */
static int64
create_endpoint_job(const EndpointRequest *request)
{
	static EngineStatement insert = {
		"INSERT INTO stripe_sync.job_record (kind, arguments)"
		" VALUES ('" KIND "', pg_catalog.jsonb_build_object('url', $1,"
		"  'types', pg_catalog.to_jsonb($2), 'api_version', $3,"
		"  'description', $4, 'idempotency_key',"
		"  'stripe_sync-' || pg_catalog.gen_random_uuid()))"
		" ON CONFLICT DO NOTHING RETURNING id"};
	static EngineStatement part = {
		"INSERT INTO stripe_sync.job_part (job, part, kind, priority)"
		" VALUES ($1, 1, 'new_endpoint', $2)"};
	char *description = psprintf("stripe_sync, database %s",
								 get_database_name(MyDatabaseId));
	int64 job = statement_int8(
		0, &insert,
		ARGS(arg_text(request->url), arg_datum(TEXTARRAYOID, request->types),
			 arg_text(api_version_name()), arg_text(description)));

	if (job == 0)
		return 0;
	(void) statement_exec(&part,
						  ARGS(arg_int8(job), arg_int4(PRIORITY_REFETCH)));
	job_note_created(job, KIND);
	worker_wake_at_commit();
	return job;
}

/*
 * Tell under which name endpoint_keep() will store the secret.  Only the
 * existence of endpoint "default" is checked here, not whether it has a secret.
 */
static void
show_future_name(int64 job)
{
	Endpoint endpoint;
	Refusal refusal;

	if (!endpoint_find("default", &endpoint, &refusal))
		ereport(NOTICE,
				(errmsg("the secret will be stored as endpoint \"default\"")));
	else
		ereport(
			NOTICE,
			(errmsg(
				 "the secret will be stored as an endpoint named by its id (we_...) if \"default\" already has one"),
			 errhint("CALL stripe_sync.wait_job(" INT64_FORMAT
					 ") shows the name; pass it to stripe_sync.webhook().",
					 job)));
}

static int64
find_or_create_endpoint_job(const EndpointRequest *request)
{
	int64 job = 0;

	while (job == 0)
	{
		job = find_open_endpoint_job(request);
		if (job == 0)
			job = find_created(request);
		if (job == 0 && (job = create_endpoint_job(request)) != 0)
			show_future_name(job);
	}
	return job;
}

/*
 * create_webhook_endpoint(url, types): returns the job.  A SECRET_FUNCTION because
 * a URL can contain a password.  Creates the mirror's tables, which belong to the
 * caller, if there are none.  Raises 22023 for an invalid URL or type, 42710 if
 * an endpoint with other types exists for the URL, 55000 without a key.
 */
SECRET_FUNCTION(stripe_sync_create_webhook_endpoint)
{
	EndpointRequest request = {.chosen = !PG_ARGISNULL(1)};
	RoleScope scope;
	int64 job;

	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("the URL cannot be NULL")));
	request.url = text_to_cstring(PG_GETARG_TEXT_PP(0));
	check_endpoint_url(request.url);
	if (request.chosen)
		check_event_types(PG_GETARG_ARRAYTYPE_P(1));
	scope = role_enter_engine();
	api_key_require();
	role_leave(&scope);
	tables_create_if_none();
	scope = role_enter_engine();
	request.livemode = api_key_is_live();
	request.types = request.chosen
						? PG_GETARG_DATUM(1)
						: event_types_array(event_types_to_subscribe());
	job = find_or_create_endpoint_job(&request);
	outbound_note_identity();
	role_leave(&scope);
	standstill_note("stripe");
	PG_RETURN_INT64(job);
}
