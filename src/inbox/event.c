/*
 * event.c
 *		Parses the envelope of an event: the columns of stripe_sync.event beside
 *		the payload.
 *
 * The payload is input from outside, read before or after its signature is
 * verified: sizes are bounded, types are checked, and a payload that is not an
 * event is returned as a Refusal (SY004), never raised.
 *
 * event_peek_id() and event_peek_account() find two fields without parsing the
 * document.  They agree with event_read() or return NULL, so a redelivery can
 * be recognized without the cost of a jsonb value.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/jsonapi.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/datetime.h"

#include "base/base.h"
#include "base/compat.h"
#include "base/error_codes.h"
#include "base/refusal.h"
#include "inbox/event.h"
#include "inbox/inbox.h"
#include "types/object.h"
#include "types/types.h"
#include "inbox/internal.h"

#define MAX_NESTING 256
#define MAX_NAME	512 /* bytes of an id, a type, a request id */

/* 0001-01-01 and 9999-12-31 in seconds since the Unix epoch */
#define FIRST_SECOND INT64CONST(-62135596800)
#define LAST_SECOND	 INT64CONST(253402300799)

static bool
event_type_ends(const char *type, const char *suffix)
{
	size_t length = strlen(type);
	size_t tail = strlen(suffix);

	return length >= tail && strcmp(type + length - tail, suffix) == 0;
}

/*
 * Does the event say that its object is deleted?  Not for
 * customer.subscription.deleted: a cancelled subscription still exists, with
 * status "canceled".
 */
bool
event_type_deletes(const char *type)
{
	return event_type_ends(type, ".deleted") &&
		   strcmp(type, "customer.subscription.deleted") != 0;
}

/* Does the event say that its object was created? */
bool
event_type_creates(const char *type)
{
	return event_type_ends(type, ".created");
}

static bool
not_an_event(Refusal *refusal, const char *detail)
{
	return refuse(
		refusal, FAULT_CLIENT, ERRCODE_NO_EVENT,
		"the payload is not a Stripe event", detail,
		"Pass the request's body unchanged, not parsed and serialized again.");
}

/* Checks that must precede the parser: it assumes UTF-8, and it recurses. */
static bool
readable_bytes(const char *bytes, int length, Refusal *refusal)
{
	if (length == 0)
		return not_an_event(refusal, "It is empty.");
	if (pg_encoding_verifymbstr(PG_UTF8, bytes, length) != length)
		return not_an_event(refusal, "It is not UTF-8.");
	if (json_too_deep(bytes, length, MAX_NESTING))
		return not_an_event(refusal, "It is nested deeper than 256.");
	return true;
}

/* A string of the envelope, or NULL.  One over MAX_NAME bytes sets *too_long. */
static char *
envelope_string(JsonbContainer *object, const char *key, bool *too_long)
{
	char *value = json_get_string(object, key);

	if (value != NULL && strlen(value) > MAX_NAME)
		*too_long = true;
	return value;
}

/* The time of a thin event, as in "2024-09-17T06:20:52.246Z". */
static bool
iso_time(const char *text, TimestampTz *result)
{
	struct pg_tm tm = {0};
	double seconds;
	char zone;
	int read = 0;

	if (sscanf(text, "%4d-%2d-%2dT%2d:%2d:%lf%c%n", &tm.tm_year, &tm.tm_mon,
			   &tm.tm_mday, &tm.tm_hour, &tm.tm_min, &seconds, &zone,
			   &read) != 7 ||
		zone != 'Z' || text[read] != '\0' ||
		ValidateDate(DTK_DATE_M, false, false, false, &tm) != 0 ||
		tm.tm_hour > 23 || tm.tm_min > 59 || !(seconds >= 0 && seconds < 61))
		return false;
	tm.tm_sec = (int) seconds;
	return tm2timestamp(&tm, (fsec_t) ((seconds - tm.tm_sec) * USECS_PER_SEC),
						NULL, result) == 0;
}

/* Seconds of Unix time; thin events have a string. */
static void
read_created(Event *event, JsonbContainer *root)
{
	JsonbValue value;
	int64 seconds;
	char *text;

	if (!json_get(root, "created", &value))
		return;
	if (json_to_int64(&value, &seconds))
	{
		if (seconds < FIRST_SECOND || seconds > LAST_SECOND)
			return;
		event->created = time_t_to_timestamptz((pg_time_t) seconds);
		event->has_created = true;
	}
	else if ((text = json_get_string(root, "created")) != NULL)
		event->has_created = iso_time(text, &event->created);
}

/* Thin events have it in "reason". */
static void
read_request(Event *event, JsonbContainer *root, bool *too_long)
{
	JsonbContainer *request = json_get_object(root, "request");

	if (request == NULL)
		request = json_get_object(json_get_object(root, "reason"), "request");

	if (request != NULL)
	{
		event->request_id = envelope_string(request, "id", too_long);
		event->idempotency_key = envelope_string(request, "idempotency_key",
												 too_long);
	}
	else /* before API version 2017-05-25 it was the id itself */
		event->request_id = envelope_string(root, "request", too_long);
}

/*
 * An object without an id, of a type that has a table: a preview, or a discount
 * rendered by an API version before 2020-08-27, when they had no id.  The coupon
 * embedded in that one is mirrored.
 */
static void
read_nameless(Event *event, const CatalogType *type)
{
	if (strcmp(type->object, "discount") != 0)
		event->unmirrored = psprintf(
			"the %s is a preview without a permanent id; read it from stripe_sync.event.payload",
			type->object);
	else
	{
		event->unmirrored =
			"discounts have no id before API version 2020-08-27, so there is no row for it; its coupon is in stripe.coupons";
		if (event->has_created)
			event->holder = type;
	}
}

/* Which object the event carries, and if it is not mirrored, why. */
static void
read_object(Event *event, JsonbContainer *root, bool *too_long)
{
	JsonbContainer *data = json_get_object(root, "data");
	char *kind = json_get_string(root, "object");
	const CatalogType *type;

	event->object = json_get_object(data, "object");
	event->previous = json_get_object(data, "previous_attributes");
	if (event->object == NULL)
	{
		if (kind != NULL && strcmp(kind, "v2.core.event") == 0)
		{
			JsonbContainer *related = json_get_object(root, "related_object");

			event->object_type = envelope_string(related, "type", too_long);
			event->object_id = envelope_string(related, "id", too_long);
			event->unmirrored =
				"a thin event carries no object; have Stripe send snapshot events for objects to be mirrored";
		}
		else
			event->unmirrored = "the event carries no data.object";
		return;
	}
	event->object_type = envelope_string(event->object, "object", too_long);
	if (event->object_type == NULL)
	{
		event->unmirrored =
			"data.object has no type (its field \"object\" is not a string)";
		return;
	}
	/* stored for types without a table too: a later catalog may have one */
	event->object_id = envelope_string(event->object, "id", too_long);
	type = catalog_find(event->object_type, strlen(event->object_type));
	if (type == NULL)
		event->unmirrored = psprintf(
			"object type \"%s\" is not in the catalog of API version %s; if a newer stripe_sync has it, replay the event then",
			event->object_type, catalog_api_version);
	else if (type->table == NULL)
		event->unmirrored = psprintf(
			"object type \"%s\" has no table, as it occurs only in events; read it from stripe_sync.event.payload",
			event->object_type);
	else if ((event->object_id = object_key(type, event->object)) == NULL)
		read_nameless(event, type);
	else if (!event->has_created)
		event->unmirrored =
			"the event has no valid \"created\", so it cannot be ordered";
	else
		event->catalog = type;
	if (event->object_id != NULL && strlen(event->object_id) > MAX_NAME)
		*too_long = true;
}

/*
 * The account that an event names by these fields; "" for the endpoint's own.
 * An event of an organisation has a "context", which is a path if the account
 * is connected to an account of the organisation; "account" is then its last
 * part.  Before API version 2017-05-25 "account" was called "user_id".
 */
static char *
event_account_named(const char *context, const char *account,
					const char *user_id, bool *by_context)
{
	*by_context = context != NULL && account_is_stripes(context) &&
				  (strchr(context, '/') != NULL || account == NULL ||
				   account[0] == '\0');
	if (*by_context)
		return pstrdup(context);
	if (account != NULL && account[0] != '\0')
		return pstrdup(account);
	if (user_id != NULL && account_is_stripes(user_id))
		return pstrdup(user_id);
	return pstrdup("");
}

static void
read_account(Event *event, JsonbContainer *root, bool *too_long)
{
	char *context = envelope_string(root, "context", too_long);
	char *account = envelope_string(root, "account", too_long);
	char *user_id = envelope_string(root, "user_id", too_long);

	event->named = event_account_named(context, account, user_id,
									   &event->by_context);
	event->account = event->named;
}

static bool
read_envelope(Event *event, JsonbContainer *root, Refusal *refusal)
{
	JsonbValue value;
	bool too_long = false;

	/* of duplicate keys the first counts, as in the lookup of duplicates */
	event->id = event_peek_id(event->payload, event->length);
	if (event->id == NULL)
		event->id = envelope_string(root, "id", &too_long);
	event->type = envelope_string(root, "type", &too_long);
	if (event->id == NULL || event->id[0] == '\0')
		return not_an_event(refusal, "It has no \"id\".");
	if (event->type == NULL || event->type[0] == '\0')
		return not_an_event(refusal, "It has no \"type\".");
	read_account(event, root, &too_long);
	event->api_version = envelope_string(root, "api_version", &too_long);
	if (json_get(root, "livemode", &value) && value.type == jbvBool)
	{
		event->has_livemode = true;
		event->livemode = value.val.boolean;
	}
	read_created(event, root);
	read_request(event, root, &too_long);
	read_object(event, root, &too_long);
	if (too_long)
		return not_an_event(refusal,
							"A name or an id in it is longer than 512 bytes.");
	return true;
}

/*
 * Parse an event.  "bytes" must outlive it.  Returns false with the refusal
 * (SY004) if the payload is not an event.  Sets event->account to the account
 * that the payload names; the caller joins it with the endpoint's.
 */
bool
event_read(const char *bytes, int length, Event *event, Refusal *refusal)
{
	memset(event, 0, sizeof(*event));
	event->payload = bytes;
	event->length = length;
	if (!readable_bytes(bytes, length, refusal))
		return false;
	event->document = json_parse(bytes, length);
	if (event->document == NULL)
		return not_an_event(refusal, "It is not JSON.");
	if (!JB_ROOT_IS_OBJECT(event->document))
		return not_an_event(refusal, "It is not a JSON object.");
	return read_envelope(event, &event->document->root, refusal);
}

/* A string token without its quotes; NULL if it is not one or has escapes. */
static char *
plain_token(const JsonLexContext *lex)
{
	int length = (int) (lex->token_terminator - lex->token_start) - 2;

	if (lex->token_type != JSON_TOKEN_STRING || length < 0 ||
		length > MAX_NAME || memchr(lex->token_start, '\\', length + 2) != NULL)
		return NULL;
	return pnstrdup(lex->token_start + 1, length);
}

/*
 * Skip a value of the outermost object and the comma after it.  Returns false at
 * the object's end or on an error.  json_skip() is several times faster than
 * the server's lexer, and most of a payload is one nested value.
 */
static bool
skip_value(JsonLexContext *lex)
{
	const char *end;

	switch (lex->token_type)
	{
		case JSON_TOKEN_OBJECT_START:
		case JSON_TOKEN_ARRAY_START:
			end = json_skip(lex->token_start, lex->input + lex->input_length);
			if (end == NULL)
				return false;
			lex->token_terminator = unconstify(char *, end);
			break;
		case JSON_TOKEN_STRING:
		case JSON_TOKEN_NUMBER:
		case JSON_TOKEN_TRUE:
		case JSON_TOKEN_FALSE:
		case JSON_TOKEN_NULL:
			break;
		default:
			return false;
	}
	return json_lex(lex) == JSON_SUCCESS && lex->token_type == JSON_TOKEN_COMMA;
}

/*
 * Find an event's id without parsing the payload.  Returns NULL unless it is
 * the first field, where Stripe puts it, and has no escapes.
 */
char *
event_peek_id(const char *bytes, int length)
{
	JsonLexContext *lex = compat_json_lexer(bytes, length);
	char *key;

	if (json_lex(lex) != JSON_SUCCESS ||
		lex->token_type != JSON_TOKEN_OBJECT_START ||
		json_lex(lex) != JSON_SUCCESS || (key = plain_token(lex)) == NULL ||
		strcmp(key, "id") != 0 || json_lex(lex) != JSON_SUCCESS ||
		lex->token_type != JSON_TOKEN_COLON || json_lex(lex) != JSON_SUCCESS)
		return NULL;
	return plain_token(lex);
}

/*
 * Can the payload contain one of these fields?  A search for bytes, cheaper than
 * the lexer.  A backslash may hide a name.
 */
static bool
may_name_account(const char *bytes, int length)
{
	static const char *const fields[] = {"\"account\"", "\"context\"",
										 "\"user_id\""};

	if (memchr(bytes, '\\', length) != NULL)
		return true;
	for (int i = 0; i < lengthof(fields); i++)
		if (memmem(bytes, length, fields[i], strlen(fields[i])) != NULL)
			return true;
	return false;
}

/* A field's value: NULL for null.  Returns false if only a parser can tell. */
static bool
peek_value(const JsonLexContext *lex, char **value)
{
	*value = NULL;
	if (lex->token_type == JSON_TOKEN_NULL)
		return true;
	return (*value = plain_token(lex)) != NULL;
}

/*
 * Find the account that an event names without parsing the payload: "" if it
 * names none, NULL if only event_read() can tell.
 */
char *
event_peek_account(const char *bytes, int length)
{
	JsonLexContext *lex;
	char *context = NULL;
	char *account = NULL;
	char *user_id = NULL;
	bool ignored;
	bool more;

	if (!may_name_account(bytes, length))
		return pstrdup("");
	lex = compat_json_lexer(bytes, length);
	more = json_lex(lex) == JSON_SUCCESS &&
		   lex->token_type == JSON_TOKEN_OBJECT_START &&
		   json_lex(lex) == JSON_SUCCESS;
	while (more)
	{
		char *key = plain_token(lex);
		char **value;

		if (key == NULL || json_lex(lex) != JSON_SUCCESS ||
			lex->token_type != JSON_TOKEN_COLON || json_lex(lex) != JSON_SUCCESS)
			return NULL;
		value = strcmp(key, "context") == 0	  ? &context
				: strcmp(key, "account") == 0 ? &account
				: strcmp(key, "user_id") == 0 ? &user_id
											  : NULL;
		if (value != NULL && !peek_value(lex, value))
			return NULL;
		more = skip_value(lex) && json_lex(lex) == JSON_SUCCESS;
	}
	return lex->token_type == JSON_TOKEN_OBJECT_END
			   ? event_account_named(context, account, user_id, &ignored)
			   : NULL;
}
