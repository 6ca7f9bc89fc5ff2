/*
 * own_event.c
 *		Events that are not Stripe's, which rules may match: of the extension
 *		itself (system.*), and of the application (app.*), by emit().
 *
 * They are not stored in the inbox.  One that no rule matches is dropped; the
 * application's are kept in stripe_sync.emitted, where emit() finds a key again.
 * Reporting an event never raises an error of its rules: that is a WARNING, and
 * the transaction that reports it goes on.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "alert/alert.h"
#include "base/error_codes.h"
#include "base/refusal.h"
#include "engine/engine.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "inbox/event.h"
#include "alert/internal.h"

/* ---- reporting ---- */

/*
 * The JSON of an event of that type, with "object" as data.object.  A NULL id
 * gets a new one.  Mode and account are those of the event "about", if any.
 */
static char *
build_event(const char *type, const char *id, const Event *about, Jsonb *object)
{
	static EngineStatement select = {
		"SELECT (pg_catalog.jsonb_build_object("
		" 'id', COALESCE($2, 'sys_' || pg_catalog.replace("
		"   pg_catalog.gen_random_uuid()::text, '-', '')),"
		" 'object', 'event', 'type', $1, 'created',"
		" pg_catalog.floor(EXTRACT(epoch FROM pg_catalog.clock_timestamp())),"
		" 'data', pg_catalog.jsonb_build_object('object',"
		"   pg_catalog.jsonb_build_object('object',"
		"     pg_catalog.split_part($1, '.', 1)) || $3))"
		" || pg_catalog.jsonb_strip_nulls("
		" pg_catalog.jsonb_build_object('livemode', $4, 'account', $5)))::text"};
	bool has_mode = about != NULL && about->has_livemode;
	bool has_account = about != NULL && about->account[0] != '\0';

	return statement_text(
		&select, ARGS(arg_text(type), arg_text(id), arg_jsonb(object),
					  arg_if(has_mode, arg_bool(has_mode && about->livemode)),
					  arg_text(has_account ? about->account : NULL)));
}

/* Apply all rules that match the event. */
static void
apply_rules(Event *event, bool wait)
{
	ErrorData *error;

	if (!alert_attempt(event, wait, &error))
		ereport(WARNING, (errmsg("stripe_sync could not report %s: %s",
								 event->type, error->message)));
}

/*
 * Apply all rules that match to an event of that type, see build_event().  The
 * same id is reported once for each rule.  With "wait" false, rules whose group
 * another session has locked are left out.
 */
void
alert_report(const char *type, const char *id, const Event *about,
			 Jsonb *object, bool wait)
{
	RoleScope scope = role_enter_engine();
	char *payload = build_event(type, id, about, object);
	Refusal refusal;
	Event event;

	if (!event_read(payload, strlen(payload), &event, &refusal))
		refusal_raise(&refusal);
	apply_rules(&event, wait);
	role_leave(&scope);
}

/* Called while locks of groups are held: waiting for others could deadlock. */
void
alert_system_within(const char *type, Jsonb *object)
{
	if (alert_wanted(type))
		alert_report(type, NULL, NULL, object, false);
}

/* Report an event if any rule matches it. */
void
alert_system(const char *type, Jsonb *object)
{
	if (alert_wanted(type))
		alert_report(type, NULL, NULL, object, true);
}

/* ---- emit ---- */

#define EMIT_EXAMPLE                                                           \
	"For example: SELECT stripe_sync.emit('app.checkout_down', '{\"id\": "     \
	"\"eu\", \"region\": \"Europe\"}');"

#define MAX_TYPE   100 /* bytes, like the next two */
#define MAX_KEY	   255
#define MAX_OBJECT (1024 * 1024) /* as jsonb */

/* app. and names of lower-case letters, digits and _, joined by dots */
static bool
is_app_type(const char *type)
{
	const char *at = type;

	if (strncmp(type, "app.", 4) != 0 || strlen(type) > MAX_TYPE)
		return false;
	for (;;)
	{
		size_t length = strspn(at, "abcdefghijklmnopqrstuvwxyz0123456789_");

		if (length == 0)
			return false;
		at += length;
		if (*at == '\0')
			return true;
		if (*at++ != '.')
			return false;
	}
}

static void
check_type(const char *type)
{
	if (!is_app_type(type))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("an event of the application cannot have the type "
						"\"%s\"",
						type),
				 errdetail("It begins with \"app.\", has lower-case letters, "
						   "digits, _ and dots, and is %d bytes at most.",
						   MAX_TYPE),
				 errhint("%s", EMIT_EXAMPLE)));
}

static void
check_object(Jsonb *object)
{
	if (!JB_ROOT_IS_OBJECT(object))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the object of an event must be a JSON object"),
						errhint("%s", EMIT_EXAMPLE)));
	if (VARSIZE(object) > MAX_OBJECT)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the object of an event is larger than 1 MB"),
				 errhint("A template needs a few fields: leave out the rest.")));
}

static void
check_key(const char *key)
{
	if (key[0] == '\0' || strlen(key) > MAX_KEY)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("an event's key must have 1 to %d bytes", MAX_KEY),
				 errhint("Leave it out, or use an id of your own, such as "
						 "'deploy-42'.")));
}

/*
 * Insert the row and return its id; 0 if the key is known.  A transaction that
 * has inserted the same key and is not committed is waited for.
 */
static int64
insert_emitted(const char *type, Jsonb *object, const char *key, const char *by)
{
	static EngineStatement insert = {
		"INSERT INTO stripe_sync.emitted (event_type, object, key, by)"
		" VALUES ($1, $2, $3, $4) ON CONFLICT (key) WHERE key IS NOT NULL"
		" DO NOTHING RETURNING id"};

	return statement_int8(
		0, &insert,
		ARGS(arg_text(type), arg_jsonb(object), arg_text(key), arg_text(by)));
}

/* Under REPEATABLE READ the row may be invisible: raises 40001. */
static int64
find_emitted(const char *key)
{
	static EngineStatement select = {
		"SELECT id FROM stripe_sync.emitted WHERE key = $1"};
	int64 id = statement_int8(0, &select, ARGS(arg_text(key)));

	if (id == 0)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access due to a concurrent event "
						"with the same key"),
				 errhint("The transaction might succeed if retried.")));
	return id;
}

/* The object with a number in "id" as text: the group of an event is text. */
static Jsonb *
with_text_id(Jsonb *object)
{
	static EngineStatement set = {
		"SELECT pg_catalog.jsonb_set($1, '{id}', pg_catalog.to_jsonb($1 ->> 'id'))"};
	JsonbValue id;

	if (!json_get(&object->root, "id", &id) || id.type != jbvNumeric)
		return object;
	return statement_jsonb(&set, ARGS(arg_jsonb(object)));
}

/* Raises 22023 if the object can't be one of an event: nested too deep. */
static void
report_emitted(const char *type, int64 id, Jsonb *object)
{
	char *payload = build_event(type, psprintf("app_" INT64_FORMAT, id), NULL,
								with_text_id(object));
	Refusal refusal;
	Event event;

	if (!event_read(payload, strlen(payload), &event, &refusal))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the object of an event cannot be used"),
				 errdetail("%s", refusal.detail), errhint("%s", EMIT_EXAMPLE)));
	apply_rules(&event, true);
}

/* emit(event_type, object, key) */
ENGINE_FUNCTION(stripe_sync_emit)
{
	char *by = GetUserNameFromId(GetUserId(), false);
	char *key = PG_ARGISNULL(2) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(2));
	RoleScope scope;
	Jsonb *object;
	char *type;
	int64 id;

	argument_required(fcinfo, 0, "the type of an event");
	argument_required(fcinfo, 1, "the object of an event");
	type = text_to_cstring(PG_GETARG_TEXT_PP(0));
	object = PG_GETARG_JSONB_P(1);
	check_type(type);
	check_object(object);
	if (key != NULL)
		check_key(key);
	scope = role_enter_engine();
	id = insert_emitted(type, object, key, by);
	if (id == 0)
		id = find_emitted(key);
	else
		report_emitted(type, id, object);
	role_leave(&scope);
	PG_RETURN_INT64(id);
}
