/*
 * slack_json.c
 *		JSON that Slack sends: the payload of an interaction, and the body of the
 *		Events API.
 *
 * The JSON comes from outside, though it is signed: types are checked, and what
 * can't be read is returned as a Refusal (SY004), never raised.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "base/error_codes.h"
#include "slack_in/internal.h"

#define MAX_NESTING	 256
#define MAX_EVENT_ID 255 /* bytes */

/* What is kept apart, or is not kept; it lets its holder act as the app */
static const char *const credentials[] = {
	"token",		 "trigger_id",		 "response_url",
	"response_urls", "bot_access_token", "interactivity"};

/* ---- pieces ---- */

bool
slack_unreadable(Refusal *refusal, const char *detail)
{
	return refuse(refusal, FAULT_CLIENT, ERRCODE_NO_EVENT,
				  "the body is not a request of Slack's", detail,
				  "Pass the request's body unchanged.");
}

bool
slack_is_utf8(const char *bytes, int length)
{
	return pg_encoding_verifymbstr(PG_UTF8, bytes, length) == length;
}

/* A string, or NULL */
static char *
string(JsonbContainer *object, const char *key)
{
	return json_get_string(object, key);
}

/* A string, or the "id" of an object */
static char *
string_or_id(JsonbContainer *object, const char *key)
{
	char *value = string(object, key);

	return value != NULL ? value : string(json_get_object(object, key), "id");
}

static char *
first_of(char *a, char *b)
{
	return a != NULL ? a : b;
}

/* The first element of an array of objects, or NULL */
static JsonbContainer *
first_object(JsonbContainer *object, const char *key)
{
	JsonbValue value;
	JsonbValue *first;

	if (!json_get(object, key, &value) || value.type != jbvBinary ||
		!JsonContainerIsArray(value.val.binary.data))
		return NULL;
	first = getIthJsonbValueFromContainer(value.val.binary.data, 0);
	return first != NULL && json_is_object(first) ? first->val.binary.data
												  : NULL;
}

static Datum
text_array(Datum *elements, int count)
{
	return PointerGetDatum(
		construct_array(elements, count, TEXTOID, -1, false, TYPALIGN_INT));
}

/*
 * A document without members of an object in it.  jsonb_delete_path() would raise
 * an error for an array.
 */
static Datum
without_members(Datum document, const char *object, const Datum *keys, int count)
{
	if (json_get_object(&DatumGetJsonbP(document)->root, object) == NULL)
		return document;
	for (int i = 0; i < count; i++)
	{
		Datum path[] = {CStringGetTextDatum(object), keys[i]};

		document = DirectFunctionCall2(jsonb_delete_path, document,
									   text_array(path, lengthof(path)));
	}
	return document;
}

/*
 * An event that runs a function of a workflow has credentials in those of the
 * function's inputs, of any name, that are an interactivity.
 */
static Datum
without_interactivity(Datum document)
{
	JsonbContainer *event = json_get_object(&DatumGetJsonbP(document)->root,
											"event");
	JsonbContainer *inputs = event != NULL ? json_get_object(event, "inputs")
										   : NULL;
	JsonbIterator *it = inputs != NULL ? JsonbIteratorInit(inputs) : NULL;
	JsonbIteratorToken token;
	JsonbValue value;
	JsonbValue pointer;
	Datum path[] = {CStringGetTextDatum("event"), CStringGetTextDatum("inputs"),
					(Datum) 0};

	while (it != NULL &&
		   (token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			path[2] = PointerGetDatum(cstring_to_text_with_len(
				value.val.string.val, value.val.string.len));
		else if (token == WJB_VALUE && json_is_object(&value) &&
				 json_get(value.val.binary.data, "interactivity_pointer",
						  &pointer))
			document = DirectFunctionCall2(jsonb_delete_path, document,
										   text_array(path, lengthof(path)));
	}
	return document;
}

/* The document without credentials, which Slack puts at these places */
Jsonb *
slack_without_credentials(Jsonb *document)
{
	Datum keys[lengthof(credentials)];
	Datum result;

	for (int i = 0; i < lengthof(credentials); i++)
		keys[i] = CStringGetTextDatum(credentials[i]);
	result = DirectFunctionCall2(jsonb_delete_array, JsonbPGetDatum(document),
								 text_array(keys, lengthof(keys)));
	result = without_members(result, "event", keys, lengthof(keys));
	result = without_members(result, "workflow_step", keys, lengthof(keys));
	result = without_interactivity(result);
	return DatumGetJsonbP(result);
}

/* ---- JSON ---- */

/* Returns NULL with the refusal if it is no JSON object. */
static Jsonb *
parse_object(const char *bytes, int length, Refusal *refusal)
{
	Jsonb *document;

	if (!slack_is_utf8(bytes, length))
		(void) slack_unreadable(refusal, "It is not UTF-8.");
	else if (json_too_deep(bytes, length, MAX_NESTING))
		(void) slack_unreadable(refusal, "It is nested deeper than 256.");
	else if ((document = json_parse(bytes, length)) == NULL)
		(void) slack_unreadable(refusal, "It is not JSON.");
	else if (!JB_ROOT_IS_OBJECT(document))
		(void) slack_unreadable(refusal, "It is not a JSON object.");
	else
		return document;
	return NULL;
}

/* The value of what was pressed or selected, or NULL */
static char *
action_value(JsonbContainer *action)
{
	static const char *const keys[] = {"value",
									   "selected_user",
									   "selected_conversation",
									   "selected_channel",
									   "selected_date",
									   "selected_time"};
	char *value = string(json_get_object(action, "selected_option"), "value");

	for (int i = 0; i < lengthof(keys) && value == NULL; i++)
		value = string(action, keys[i]);
	return value;
}

static SlackKind
interaction_kind(const char *type)
{
	if (strcmp(type, "block_actions") == 0)
		return SLACK_PRESS;
	if (strcmp(type, "view_submission") == 0)
		return SLACK_VIEW_SUBMISSION;
	if (strcmp(type, "view_closed") == 0)
		return SLACK_VIEW_CLOSED;
	if (strcmp(type, "message_action") == 0 || strcmp(type, "shortcut") == 0)
		return SLACK_SHORTCUT;
	return SLACK_OTHER;
}

/* Who, where; of all payloads */
static void
read_place(JsonbContainer *root, SlackRequest *request)
{
	JsonbContainer *user = json_get_object(root, "user");
	JsonbContainer *container = json_get_object(root, "container");

	request->user = string(user, "id");
	request->user_name = first_of(string(user, "username"),
								  string(user, "name"));
	request->team = first_of(string(user, "team_id"),
							 string(json_get_object(root, "team"), "id"));
	request->channel = first_of(string_or_id(root, "channel"),
								string(container, "channel_id"));
	request->message_ts = first_of(
		string(container, "message_ts"),
		first_of(string(root, "message_ts"),
				 string(json_get_object(root, "message"), "ts")));
}

/* The field "payload" of a form */
bool
slack_json_interaction(const char *payload, SlackRequest *request,
					   Refusal *refusal)
{
	Jsonb *document = parse_object(payload, strlen(payload), refusal);
	JsonbContainer *root;
	JsonbContainer *action;
	char *type;

	if (document == NULL)
		return false;
	root = &document->root;
	type = string(root, "type");
	if (type == NULL)
		return slack_unreadable(refusal, "Its payload has no \"type\".");
	action = first_object(root, "actions");
	request->kind = interaction_kind(type);
	if (request->kind == SLACK_PRESS)
	{
		request->name = string(action, "action_id");
		request->value = action_value(action);
		if (request->name == NULL)
			return slack_unreadable(refusal, "Its payload has no action.");
	}
	else
	{
		request->name = first_of(
			string(root, "callback_id"),
			first_of(string(json_get_object(root, "view"), "callback_id"),
					 string(root, "action_id")));
		request->value = string(root, "value");
	}
	read_place(root, request);
	request->trigger_id = string(root, "trigger_id");
	request->response_url = first_of(
		string(root, "response_url"),
		string(first_object(root, "response_urls"), "response_url"));
	request->body = slack_without_credentials(document);
	return true;
}

/* An event of the Events API: of the callback, what is in its "event" */
static void
read_event(JsonbContainer *root, SlackRequest *request)
{
	JsonbContainer *event = json_get_object(root, "event");
	JsonbContainer *item = json_get_object(event, "item");

	request->kind = SLACK_EVENT;
	request->name = string(event, "type");
	request->user = string_or_id(event, "user");
	request->team = first_of(
		string(event, "user_team"),
		first_of(string(event, "team"), string(root, "team_id")));
	request->channel = first_of(string_or_id(event, "channel"),
								string(item, "channel"));
	request->message_ts = first_of(string(item, "ts"), string(event, "ts"));
}

bool
slack_json_read(const char *body, int length, SlackRequest *request,
				Refusal *refusal)
{
	Jsonb *document = parse_object(body, length, refusal);
	char *type = document != NULL ? string(&document->root, "type") : NULL;
	char *id;

	if (document == NULL)
		return false;
	if (type == NULL)
		return slack_unreadable(refusal, "It has no \"type\".");
	if (strcmp(type, "url_verification") == 0)
	{
		request->kind = SLACK_URL_VERIFICATION;
		request->challenge = string(&document->root, "challenge");
		return request->challenge != NULL ||
			   slack_unreadable(refusal, "It has no \"challenge\".");
	}
	request->kind = SLACK_OTHER;
	request->name = type;
	if (strcmp(type, "event_callback") == 0)
	{
		read_event(&document->root, request);
		id = string(&document->root, "event_id");
		if (id != NULL && strlen(id) <= MAX_EVENT_ID)
			request->key = psprintf("event:%s", id);
	}
	request->body = slack_without_credentials(document);
	return true;
}
