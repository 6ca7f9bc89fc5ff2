/*
 * webhook_endpoint.c
 *		A webhook endpoint is made at Stripe, and its secret kept.
 *
 * The one request that changes anything at Stripe.  All that it says, and the
 * key by which Stripe knows it again, are in the job's arguments before the
 * first attempt, so every attempt is the same request: whoever died between
 * Stripe's answer and the commit asks again, and is given the same answer, with
 * the secret.  Stripe forgets such keys after a day; then nothing is asked.
 *
 * The answer shows the secret, once.  It is taken out of the answer's own bytes
 * before anything else reads them, and wiped when it is stored.
 */
#include "sync.h"

#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "common/jsonapi.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include <openssl/crypto.h>
#include <strings.h>

#include "secret.h"

#define KIND	  "create_webhook_endpoint"
#define MAX_TYPES 1000
#define KEPT	  (23 * USECS_PER_HOUR) /* that Stripe surely knows a key */

/* A secret as a text, to be wiped. */
typedef union SecretText
{
	int32 aligned;
	char bytes[VARHDRSZ + MAX_SECRET];
} SecretText;

/* What is asked for. */
typedef struct Request
{
	Datum url;
	Datum types; /* a text[] */
	bool chosen; /* the types are the caller's */
	bool livemode;
} Request;

/* ---- arguments ---- */

static void
check_url(const char *url)
{
	char *refusal = http_refusal(url, HTTP_FROM_OUTSIDE);

	if (refusal == NULL && strncasecmp(url, "https://", 8) != 0)
		refusal = "It does not begin with https://.";
	if (refusal != NULL)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("the URL cannot be that of a webhook endpoint"),
			 errdetail("%s", refusal),
			 errhint(
				 "Where your application hands deliveries to stripe_sync.webhook(), as Stripe reaches it: https://shop.example.com/stripe/webhook.")));
}

static void
check_type(const char *type, int count)
{
	if (strcmp(type, "*") == 0 && count > 1)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("\"*\" is every type: it stands alone"),
						errhint("ARRAY['*'], or the types by their names.")));
	if (strcmp(type, "*") != 0 && !event_type_known(type))
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("Stripe has no events of type \"%s\"", type),
			 errhint(
				 "%sSELECT unnest(event_types) FROM stripe_sync.object_type shows all. A type is given by its whole name, or '*' for every one.",
				 event_type_hint(type))));
}

static void
check_types(ArrayType *types)
{
	Datum *elements;
	bool *nulls;
	int count;

	deconstruct_array(types, TEXTOID, -1, false, TYPALIGN_INT, &elements,
					  &nulls, &count);
	if (count == 0 || count > MAX_TYPES)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("an endpoint is subscribed to 1 to %d types of events",
						MAX_TYPES),
				 errhint("Leave types out for all that the mirror needs.")));
	for (int i = 0; i < count; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("a type of events cannot be NULL"),
					 errhint("Leave types out for all that the mirror needs.")));
		check_type(TextDatumGetCString(elements[i]), count);
	}
}

/* ---- a job is asked for ---- */

/* One that waits or runs is joined, unless it is to be another. */
static int64
find_open(const Request *request)
{
	static EngineStatement select = {
		"SELECT id, NOT $2 OR (arguments -> 'types' @> pg_catalog.to_jsonb($3)"
		"  AND arguments -> 'types' <@ pg_catalog.to_jsonb($3))"
		" FROM stripe_sync.job_record WHERE kind = '" KIND "'"
		" AND state IN ('waiting', 'running')"
		" AND pg_catalog.md5(arguments ->> 'url') = pg_catalog.md5($1)",
		3,
		{TEXTOID, BOOLOID, TEXTARRAYOID}};
	Datum values[] = {request->url, BoolGetDatum(request->chosen),
					  request->types};
	bool isnull;
	int64 job;

	engine_run(&select, values, NULL, SPI_OK_SELECT);
	if (SPI_processed == 0)
		return 0;
	job = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0],
									  SPI_tuptable->tupdesc, 1, &isnull));
	if (!DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0],
									SPI_tuptable->tupdesc, 2, &isnull)))
		ereport(
			ERROR,
			(errcode(ERRCODE_DUPLICATE_OBJECT),
			 errmsg("job " INT64_FORMAT
					" makes a webhook endpoint for that URL, of other types",
					job),
			 errhint(
				 "Wait for it, and change the types in Stripe's dashboard; or SELECT stripe_sync.cancel_job(" INT64_FORMAT
				 ").",
				 job)));
	return job;
}

compat_noreturn static void
refuse_second(HeapTuple row, TupleDesc desc)
{
	ereport(
		ERROR,
		(errcode(ERRCODE_DUPLICATE_OBJECT),
		 errmsg("there is a webhook endpoint for that URL already: %s",
				SPI_getvalue(row, desc, 2)),
		 errhint(
			 "Change its types in Stripe's dashboard. Or delete it there, SELECT stripe_sync.drop_endpoint(%s), and make it anew.",
			 quote_literal_cstr(SPI_getvalue(row, desc, 3)))));
}

/*
 * The job that has made one for that URL, if it is still there as far as is
 * known: set-up scripts are run again, and a second one would have each event
 * sent twice.  0 when there is none.
 */
static int64
find_made(const Request *request)
{
	static EngineStatement select = {
		"SELECT j.id, w.id, w.endpoint,"
		" NOT $3 OR (w.enabled_events @> $4 AND w.enabled_events <@ $4)"
		" FROM stripe_sync.watched_endpoint w"
		" JOIN stripe_sync.endpoint e ON e.name = w.endpoint"
		" LEFT JOIN stripe_sync.job_record j ON j.id = w.job"
		" WHERE w.account = '' AND w.url = $1 AND w.livemode = $2"
		" AND NOT 'gone' = ANY (w.trouble) ORDER BY 4 DESC, j.id LIMIT 1",
		4,
		{TEXTOID, BOOLOID, BOOLOID, TEXTARRAYOID}};
	Datum values[] = {request->url, BoolGetDatum(request->livemode),
					  BoolGetDatum(request->chosen), request->types};
	bool isnull;
	HeapTuple row;
	TupleDesc desc;
	Datum job;

	engine_run(&select, values, NULL, SPI_OK_SELECT);
	if (SPI_processed == 0)
		return 0;
	row = SPI_tuptable->vals[0];
	desc = SPI_tuptable->tupdesc;
	job = SPI_getbinval(row, desc, 1, &isnull);
	if (isnull || !DatumGetBool(SPI_getbinval(row, desc, 4, &(bool){false})))
		refuse_second(row, desc);
	ereport(
		NOTICE,
		(errmsg(
			"there is a webhook endpoint for that URL already: %s, kept as endpoint \"%s\"",
			SPI_getvalue(row, desc, 2), SPI_getvalue(row, desc, 3))));
	return DatumGetInt64(job);
}

/* 0 when somebody else has just asked for the same. */
static int64
add_job(const Request *request)
{
	static EngineStatement insert = {
		"INSERT INTO stripe_sync.job_record (kind, arguments)"
		" VALUES ('" KIND "', pg_catalog.jsonb_build_object('url', $1,"
		"  'types', pg_catalog.to_jsonb($2), 'api_version', $3,"
		"  'description', $4, 'idempotency_key',"
		"  'stripe_sync-' || pg_catalog.gen_random_uuid()))"
		" ON CONFLICT DO NOTHING RETURNING id",
		4,
		{TEXTOID, TEXTARRAYOID, TEXTOID, TEXTOID}};
	static EngineStatement part = {
		"INSERT INTO stripe_sync.job_part (job, part, kind, priority)"
		" VALUES ($1, 1, 'new_endpoint', $2)",
		2,
		{INT8OID, INT4OID}};
	char *version = api_version_name();
	char *description = psprintf("stripe_sync, database %s",
								 get_database_name(MyDatabaseId));
	Datum values[] = {request->url, request->types, CStringGetTextDatum(version),
					  CStringGetTextDatum(description)};
	Datum of_part[] = {0, Int32GetDatum(PRIORITY_REFETCH)};

	engine_run(&insert, values, NULL, SPI_OK_INSERT_RETURNING);
	if (SPI_processed == 0)
		return 0;
	of_part[0] = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1,
							   &(bool){false});
	engine_run(&part, of_part, NULL, SPI_OK_INSERT);
	job_note_made(DatumGetInt64(of_part[0]), KIND);
	worker_wake_at_commit();
	return DatumGetInt64(of_part[0]);
}

/* As endpoint_keep() will; whether there is a secret is not looked at here. */
static void
say_name(int64 job)
{
	Endpoint endpoint;
	Refusal refusal;

	if (!endpoint_find("default", &endpoint, &refusal))
		ereport(NOTICE,
				(errmsg("the secret will be kept as endpoint \"default\"")));
	else
		ereport(
			NOTICE,
			(errmsg(
				 "the secret will be kept as an endpoint named by its id (we_...), if \"default\" has one already"),
			 errhint("CALL stripe_sync.wait_job(" INT64_FORMAT
					 ") tells the name; give it to stripe_sync.webhook().",
					 job)));
}

static int64
find_or_add(const Request *request)
{
	int64 job = 0;

	SPI_connect();
	while (job == 0)
	{
		job = find_open(request);
		if (job == 0)
			job = find_made(request);
		if (job == 0 && (job = add_job(request)) != 0)
			say_name(job);
	}
	SPI_finish();
	return job;
}

/* create_webhook_endpoint(url, types): a job; a URL may hold a password */
SECRET_FUNCTION(stripe_sync_create_webhook_endpoint)
{
	Request request = {.chosen = !PG_ARGISNULL(1)};
	RoleScope scope;
	int64 job;

	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("the URL cannot be NULL")));
	request.url = PG_GETARG_DATUM(0);
	check_url(TextDatumGetCString(request.url));
	if (request.chosen)
		check_types(PG_GETARG_ARRAYTYPE_P(1));
	scope = role_enter_engine();
	refuse_without_key();
	role_leave(&scope);
	tables_create_if_none(); /* they are the caller's */
	scope = role_enter_engine();
	request.livemode = api_key_is_live();
	request.types = request.chosen
						? PG_GETARG_DATUM(1)
						: event_types_array(event_types_to_subscribe());
	job = find_or_add(&request);
	outbound_note_identity();
	role_leave(&scope);
	standstill_note("stripe");
	PG_RETURN_INT64(job);
}

/* ---- the request ---- */

/* Neither asked for in vain nor twice: Stripe no longer knows the key. */
static void
refuse_late(const Part *part)
{
	static EngineStatement select = {
		"SELECT FROM stripe_sync.job_record"
		" WHERE id = $1 AND started_at < pg_catalog.clock_timestamp() - $2",
		2,
		{INT8OID, INTERVALOID}};
	Interval kept = {.time = KEPT};
	Datum values[] = {Int64GetDatum(part->job), IntervalPGetDatum(&kept)};
	bool late;

	SPI_connect();
	engine_run(&select, values, NULL, SPI_OK_SELECT);
	late = SPI_processed > 0;
	SPI_finish();
	if (late)
		ereport(
			ERROR,
			(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
			 errmsg(
				 "it is not known whether Stripe made the endpoint: it was asked more than 23 hours ago, and would take the same request for a new one. Look in Stripe's dashboard, and delete what is there before you call create_webhook_endpoint() again"),
			 answer_is_useless()));
}

static void
new_endpoint_next(Part *part)
{
	refuse_late(part);
	part->ready = true;
}

static char *
new_endpoint_path(const Part *part)
{
	return pstrdup("/v1/webhook_endpoints");
}

/* As application/x-www-form-urlencoded wants it. */
static void
append_field(StringInfo form, const char *name, const char *value)
{
	if (form->len > 0)
		appendStringInfoChar(form, '&');
	appendStringInfo(form, "%s=", name);
	path_append(form, value);
}

static void
append_types(StringInfo form, JsonbContainer *types)
{
	int count = JsonContainerSize(types);

	for (int i = 0; i < count; i++)
	{
		JsonbValue *type = getIthJsonbValueFromContainer(types, i);

		append_field(form, "enabled_events[]",
					 pnstrdup(type->val.string.val, type->val.string.len));
	}
}

/* From the arguments alone: every attempt is the same request. */
static void
new_endpoint_post(const Part *part, ApiCall *call)
{
	Jsonb *arguments = json_parse(part->arguments,
								  (int) strlen(part->arguments));
	JsonbContainer *root = &arguments->root;
	StringInfoData form;
	JsonbValue types;

	initStringInfo(&form);
	append_field(&form, "url", json_get_string(root, "url"));
	if (json_get(root, "types", &types) && types.type == jbvBinary)
		append_types(&form, types.val.binary.data);
	append_field(&form, "api_version", json_get_string(root, "api_version"));
	append_field(&form, "description", json_get_string(root, "description"));
	call->form = MemoryContextStrdup(call->memory, form.data);
	call->idempotency_key = MemoryContextStrdup(
		call->memory, json_get_string(root, "idempotency_key"));
}

/* ---- the answer ---- */

/* The same is asked for again: Stripe repeats its answer. */
compat_noreturn static void
malformed(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_PROTOCOL_VIOLATION),
			 errmsg("Stripe's answer is no webhook endpoint with its secret")));
}

static bool
lex_next(JsonLexContext *lex, int *depth)
{
	if (json_lex(lex) != JSON_SUCCESS)
		malformed();
	if (lex->token_type == JSON_TOKEN_OBJECT_START ||
		lex->token_type == JSON_TOKEN_ARRAY_START)
		(*depth)++;
	if (lex->token_type == JSON_TOKEN_OBJECT_END ||
		lex->token_type == JSON_TOKEN_ARRAY_END)
		(*depth)--;
	return lex->token_type != JSON_TOKEN_END;
}

static bool
is_name_of_secret(const JsonLexContext *lex, int depth)
{
	static const char name[] = "\"secret\"";
	size_t length = lex->token_terminator - lex->token_start;

	return depth == 1 && lex->token_type == JSON_TOKEN_STRING &&
		   length == strlen(name) && memcmp(lex->token_start, name, length) == 0;
}

/* Where its value is, between the quotes; what isn't one word is none. */
static char *
find_secret(const ApiCall *call, int *length)
{
	JsonLexContext *lex = compat_json_lexer(call->body, (int) call->length);
	char *found = NULL;
	int depth = 0;

	while (lex_next(lex, &depth))
	{
		if (!is_name_of_secret(lex, depth))
			continue;
		if (!lex_next(lex, &depth) || lex->token_type != JSON_TOKEN_COLON)
			continue; /* a value */
		if (!lex_next(lex, &depth) || lex->token_type != JSON_TOKEN_STRING ||
			found != NULL)
			malformed();
		found = call->body + (lex->token_start - call->body) + 1;
		*length = (int) (lex->token_terminator - lex->token_start) - 2;
	}
	if (found == NULL || !secret_is_word(found, *length) ||
		memchr(found, '\\', *length) != NULL)
		malformed();
	return found;
}

/* Out of the answer, whose bytes then hold it no more. */
static void
take_secret(const ApiCall *call, SecretText *secret)
{
	int length;
	char *found = find_secret(call, &length);

	memcpy(VARDATA(secret), found, length);
	SET_VARSIZE(secret, VARHDRSZ + length);
	memset(found, 'x', length);
}

/* What has come of the job, for who asked. */
static void
write_result(const Part *part, const char *name, Jsonb *document)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.job_record SET result ="
		" pg_catalog.jsonb_build_object('endpoint', $2, 'id', $3 -> 'id',"
		"  'url', $3 -> 'url', 'livemode', $3 -> 'livemode')"
		" WHERE id = $1",
		3,
		{INT8OID, TEXTOID, JSONBOID}};
	Datum values[] = {Int64GetDatum(part->job), CStringGetTextDatum(name),
					  JsonbPGetDatum(document)};

	SPI_connect();
	engine_run(&update, values, NULL, SPI_OK_UPDATE);
	SPI_finish();
}

/* Once, should two workers come with the same answer. */
static void
keep(Part *part, Jsonb *document, SecretText *secret)
{
	char *id = json_get_string(&document->root, "id");
	const char *name = endpoint_known_as(part->account, id);
	JsonbValue livemode;

	if (name == NULL)
	{
		(void) json_get(&document->root, "livemode", &livemode);
		name = endpoint_keep(id, livemode.val.boolean, (text *) secret);
		ereport(
			LOG,
			(errmsg(
				"webhook endpoint %s was made at Stripe, its secret is kept as endpoint \"%s\"",
				id, name)));
	}
	endpoint_note(part, document);
	endpoint_is_ours(part, id, name);
	write_result(part, name, document);
}

static pg_noinline void
take_endpoint(Part *part, const ApiCall *call, SecretText *secret)
{
	Jsonb *document;

	take_secret(call, secret);
	document = json_parse(call->body, (int) call->length);
	if (!endpoint_is_sound(document))
		malformed();
	keep(part, document, secret);
	part->objects = 1;
	part->finished = true;
}

compat_noreturn static void
refuse_answer(const ApiCall *call)
{
	char *said = pstrdup(call->trouble);

	while (said[0] != '\0' && said[strlen(said) - 1] == '.')
		said[strlen(said) - 1] = '\0';
	if (call->verdict == API_FORBIDDEN)
		ereport(
			ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg(
				 "%s. The key must be allowed to write webhook endpoints: set_api_key() one that is, or make the endpoint in Stripe's dashboard and add_endpoint() its secret",
				 said),
			 answer_is_useless()));
	if (call->status >= 500)
		ereport(
			ERROR,
			(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
			 errmsg(
				 "%s. Stripe gives this answer to every repetition. Look in its dashboard whether there is an endpoint, and delete it before you call create_webhook_endpoint() again",
				 said),
			 answer_is_useless()));
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("%s", said), answer_is_useless()));
}

/* Called off in the meantime, it is kept all the same: it is there at Stripe. */
static void
new_endpoint_take(Part *part, const ApiCall *call)
{
	SecretText secret = {0};

	if (call->verdict != API_OK)
		refuse_answer(call);
	PG_TRY();
	{
		take_endpoint(part, call, &secret);
	}
	PG_FINALLY();
	{
		OPENSSL_cleanse(&secret, sizeof(secret));
	}
	PG_END_TRY();
}

const PartKind part_new_endpoint = {.name = "new_endpoint",
									.next = new_endpoint_next,
									.path = new_endpoint_path,
									.post = new_endpoint_post,
									.take = new_endpoint_take,
									.ended = unread_over,
									.takes = API_BIT(API_FORBIDDEN) |
											 API_BIT(API_REFUSED)};
