/*
 * new_endpoint.c
 *		Parts "new_endpoint": create a webhook endpoint at Stripe and store its
 *		secret.
 *
 * This is the only request that changes anything at Stripe.  It is made from the
 * job's arguments alone, idempotency key included, so every attempt is the same
 * request.  After a crash between Stripe's answer and the commit, the request is
 * repeated and Stripe repeats its answer, with the secret.  Stripe keeps
 * idempotency keys for a day; after that no attempt is made, since it could
 * create a second endpoint.
 *
 * Only this answer has the secret.  It is cut out of the answer's bytes before
 * anything else reads them, and wiped after it was stored.
 */
#include "postgres.h"

#include "common/jsonapi.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"

#include <openssl/crypto.h>

#include "base/base.h"
#include "base/compat.h"
#include "endpoints/endpoints.h"
#include "engine/statement.h"
#include "inbox/secret.h"
#include "jobs/jobs.h"
#include "jobs/part.h"
#include "receive/receive.h"
#include "stripe/stripe.h"
#include "endpoints/internal.h"

#define KEPT (23 * USECS_PER_HOUR) /* Stripe keeps idempotency keys for a day */

/* A secret as a text datum, on the stack so that it can be wiped */
typedef union SecretText
{
	int32 aligned;
	char bytes[VARHDRSZ + MAX_SECRET];
} SecretText;

/* ---- the request ---- */

/* Raise an error if Stripe may have forgotten the idempotency key. */
static void
check_not_too_late(const Part *part)
{
	static EngineStatement select = {
		"SELECT FROM stripe_sync.job_record"
		" WHERE id = $1 AND started_at < pg_catalog.clock_timestamp() - $2"};
	Interval kept = {.time = KEPT};

	if (statement_exec(&select,
					   ARGS(arg_int8(part->job), arg_interval(&kept))) > 0)
		ereport(
			ERROR,
			(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
			 errmsg(
				 "it is not known whether Stripe created the endpoint: the first request was more than 23 hours ago, and Stripe would treat the same request as a new one. Look in Stripe's dashboard, and delete the endpoint if it exists before you call create_webhook_endpoint() again"),
			 answer_is_invalid()));
}

static void
new_endpoint_find_next(Part *part)
{
	check_not_too_late(part);
	part->ready = true;
}

static char *
new_endpoint_path(const Part *part)
{
	return pstrdup("/v1/webhook_endpoints");
}

/* Append a field of application/x-www-form-urlencoded. */
static void
append_field(StringInfo form, const char *name, const char *value)
{
	if (form->len > 0)
		appendStringInfoChar(form, '&');
	appendStringInfo(form, "%s=", name);
	api_path_append(form, value);
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

/* PartKind.post: uses the job's arguments only, see above. */
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

/* The request is repeated after this error, and Stripe repeats its answer. */
compat_noreturn static void
raise_malformed_endpoint(void)
{
	ereport(ERROR, (errcode(ERRCODE_PROTOCOL_VIOLATION),
					errmsg("Stripe's answer is not a webhook endpoint with its "
						   "secret")));
}

static bool
lex_next(JsonLexContext *lex, int *depth)
{
	if (json_lex(lex) != JSON_SUCCESS)
		raise_malformed_endpoint();
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

/*
 * Find the value of the top-level field "secret", without its quotes.  Raises an
 * error unless there is exactly one, and it is one word without escapes.
 */
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
			raise_malformed_endpoint();
		found = call->body + (lex->token_start - call->body) + 1;
		*length = (int) (lex->token_terminator - lex->token_start) - 2;
	}
	if (found == NULL || !secret_is_word(found, *length) ||
		memchr(found, '\\', *length) != NULL)
		raise_malformed_endpoint();
	return found;
}

/* Copy the secret, and overwrite it in the answer. */
static void
cut_out_secret(const ApiCall *call, SecretText *secret)
{
	int length;
	char *found = find_secret(call, &length);

	memcpy(VARDATA(secret), found, length);
	SET_VARSIZE(secret, VARHDRSZ + length);
	memset(found, 'x', length);
}

/* Set the job's result, which wait_job() shows. */
static void
write_job_result(const Part *part, const char *name, Jsonb *document)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.job_record SET result ="
		" pg_catalog.jsonb_build_object('endpoint', $2, 'id', $3 -> 'id',"
		"  'url', $3 -> 'url', 'livemode', $3 -> 'livemode')"
		" WHERE id = $1"};

	(void) statement_exec(&update, ARGS(arg_int8(part->job), arg_text(name),
										arg_jsonb(document)));
}

/*
 * Store the endpoint and its secret.  If another worker has stored the same
 * answer before, the name of that is used.
 */
static void
store_endpoint(Part *part, Jsonb *document, SecretText *secret)
{
	char *id = json_get_string(&document->root, "id");
	const char *name = webhook_endpoint_name(part->account, id);
	JsonbValue livemode;

	if (name == NULL)
	{
		(void) json_get(&document->root, "livemode", &livemode);
		name = endpoint_keep(id, livemode.val.boolean, (text *) secret);
		ereport(
			LOG,
			(errmsg(
				"webhook endpoint %s was created at Stripe, its secret is stored as endpoint \"%s\"",
				id, name)));
	}
	(void) webhook_endpoint_note(part, document);
	webhook_endpoint_set_name(part, id, name);
	write_job_result(part, name, document);
}

static pg_noinline void
process_endpoint(Part *part, const ApiCall *call, SecretText *secret)
{
	Jsonb *document;

	cut_out_secret(call, secret);
	document = json_parse(call->body, (int) call->length);
	if (!webhook_endpoint_is_valid(document))
		raise_malformed_endpoint();
	store_endpoint(part, document, secret);
	part->objects = 1;
	part->finished = true;
}

compat_noreturn static void
raise_refusal(const ApiCall *call)
{
	char *error = pstrdup(call->error);

	while (error[0] != '\0' && error[strlen(error) - 1] == '.')
		error[strlen(error) - 1] = '\0';
	if (call->verdict == API_FORBIDDEN)
		ereport(
			ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg(
				 "%s. The key must have permission to write webhook endpoints: set such a key with set_api_key(), or create the endpoint in Stripe's dashboard and add its secret with add_endpoint()",
				 error),
			 answer_is_invalid()));
	if (call->status >= 500)
		ereport(
			ERROR,
			(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
			 errmsg(
				 "%s. Stripe repeats this answer to every attempt. Look in Stripe's dashboard, and delete the endpoint if it exists before you call create_webhook_endpoint() again",
				 error),
			 answer_is_invalid()));
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("%s", error), answer_is_invalid()));
}

/*
 * PartKind.process.  It is called even if the job was cancelled meanwhile, since
 * the endpoint exists at Stripe.
 */
static void
new_endpoint_process(Part *part, const ApiCall *call)
{
	SecretText secret = {0};

	if (call->verdict != API_OK)
		raise_refusal(call);
	PG_TRY();
	{
		process_endpoint(part, call, &secret);
	}
	PG_FINALLY();
	{
		OPENSSL_cleanse(&secret, sizeof(secret));
	}
	PG_END_TRY();
}

const PartKind part_new_endpoint = {.name = "new_endpoint",
									.find_next = new_endpoint_find_next,
									.path = new_endpoint_path,
									.post = new_endpoint_post,
									.process = new_endpoint_process,
									.ended = unread_part_ended,
									.accepts = API_BIT(API_FORBIDDEN) |
											   API_BIT(API_REFUSED)};
