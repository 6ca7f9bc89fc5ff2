/*
 * destination_setup.c
 *		Destinations are named, switched, routed to and forgotten.
 *
 * All that is said about one destination is said one after the other: its row
 * of destination_pace is locked first, before any other of its rows.  URLs and
 * tokens are secrets: no error here shows the statement.
 */
#include "stripe_sync.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"

#include <openssl/crypto.h>

#include "http.h"
#include "secret.h"

#define MAX_NAME	63
#define MAX_CHANNEL 255

/* What add_slack_webhook and add_slack_channel are given. */
typedef struct Place
{
	text *name;
	const char *kind;
	text *channel; /* NULL for a webhook */
	text *secret;
} Place;

/* ---- arguments ---- */

static text *
optional_text(FunctionCallInfo fcinfo, int number)
{
	return number >= PG_NARGS() || PG_ARGISNULL(number)
			   ? NULL
			   : PG_GETARG_TEXT_PP(number);
}

static text *
required_text(FunctionCallInfo fcinfo, int number, const char *name)
{
	text *value = optional_text(fcinfo, number);

	if (value == NULL)
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errhidestmt(true), errmsg("%s cannot be NULL", name)));
	return value;
}

static bool
has_prefix(const text *value, const char *prefix)
{
	return VARSIZE_ANY_EXHDR(value) >= strlen(prefix) &&
		   pg_strncasecmp(VARDATA_ANY(value), prefix, strlen(prefix)) == 0;
}

/* Arguments in another order, most likely: not to be kept where all may read. */
static bool
looks_secret(const text *value)
{
	return has_prefix(value, "https:") || has_prefix(value, "http:") ||
		   has_prefix(value, "xoxb-") || has_prefix(value, "xoxp-") ||
		   has_prefix(value, "xoxe") || has_prefix(value, "xapp-");
}

/* 1 to "most" bytes, none of them a control character? */
static bool
is_plain_line(const text *value, int most)
{
	const char *bytes = VARDATA_ANY(value);
	int length = VARSIZE_ANY_EXHDR(value);

	for (int i = 0; i < length; i++)
		if ((unsigned char) bytes[i] < ' ' || bytes[i] == 0x7f)
			return false;
	return length > 0 && length <= most;
}

static void
check_name(const text *name)
{
	if (!is_plain_line(name, MAX_NAME) || *VARDATA_ANY(name) == '@')
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errhidestmt(true),
			 errmsg(
				 "a destination must have a name of 1 to %d bytes that does not begin with \"@\"",
				 MAX_NAME),
			 errhint("The name is yours to choose: 'billing', for example.")));
	if (looks_secret(name))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errhidestmt(true),
				 errmsg("a destination cannot be named like a URL or a token"),
				 errhint("The destination's name is the first argument.")));
}

static void
check_channel(const text *channel)
{
	if (!is_plain_line(channel, MAX_CHANNEL))
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errhidestmt(true),
			 errmsg("a channel must have 1 to %d bytes and no control characters",
					MAX_CHANNEL),
			 errhint("Give its id (C0123456789), or its name (#billing).")));
	if (memchr(VARDATA_ANY(channel), ' ', VARSIZE_ANY_EXHDR(channel)) != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errhidestmt(true),
				 errmsg("a channel has no spaces in its name"),
				 errhint("Give its id (C0123456789), or its name (#billing).")));
	if (looks_secret(channel))
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errhidestmt(true),
			 errmsg("a channel cannot be a URL or a token"),
			 errhint(
				 "The order is: add_slack_channel(destination, channel, token).")));
}

static void
check_url(const text *url)
{
	char *address;
	char *refusal = "It is empty, too long, or has spaces in it.";

	if (secret_check_file(url))
		return;
	address = text_to_cstring(url);
	if (secret_is_word(VARDATA_ANY(url), VARSIZE_ANY_EXHDR(url)))
		refusal = http_refusal(address, HTTP_SLACK_WEBHOOK);
	OPENSSL_cleanse(address, strlen(address));
	if (refusal != NULL)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errhidestmt(true),
			 errmsg("the URL cannot be a Slack webhook's"),
			 errdetail_internal("%s", refusal),
			 errhint(
				 "Copy it from Slack (https://hooks.slack.com/services/...), or give file:/absolute/path. Hosts other than Slack's own are allowed by the setting stripe_sync.slack_hosts.")));
}

static void
check_token(const text *token)
{
	if (!secret_check_file(token) &&
		!secret_is_word(VARDATA_ANY(token), VARSIZE_ANY_EXHDR(token)))
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errhidestmt(true),
			 errmsg(
				 "a token must have 1 to %d bytes, all of them printable ASCII and no spaces",
				 MAX_SECRET),
			 errhint(
				 "Copy the bot's \"xoxb-...\" from Slack, or give file:/absolute/path.")));
	slack_token_check(token);
}

/* ---- statements ---- */

/* Does a statement with these values touch, or find, any row? */
static bool
run_on_rows(EngineStatement *statement, Datum *values, const char *nulls,
			int expected)
{
	engine_run(statement, values, nulls, expected);
	return SPI_processed > 0;
}

static void
pace_make(text *name)
{
	static EngineStatement insert = {
		"INSERT INTO stripe_sync.destination_pace (destination) VALUES ($1)"
		" ON CONFLICT (destination) DO NOTHING",
		1,
		{TEXTOID}};
	Datum values[] = {PointerGetDatum(name)};

	engine_run(&insert, values, NULL, SPI_OK_INSERT);
}

static void
pace_lock(text *name)
{
	static EngineStatement lock = {
		"SELECT 1 FROM stripe_sync.destination_pace"
		" WHERE destination OPERATOR(pg_catalog.=) $1 FOR UPDATE",
		1,
		{TEXTOID}};
	Datum values[] = {PointerGetDatum(name)};

	engine_run(&lock, values, NULL, SPI_OK_SELECT);
}

/* What Slack has asked for was asked of another URL, token or channel. */
static void
pace_unblock(text *name)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.destination_pace"
		" SET blocked_until = NULL, blocked_reason = NULL"
		" WHERE destination OPERATOR(pg_catalog.=) $1 AND blocked_until IS NOT NULL",
		1,
		{TEXTOID}};
	Datum values[] = {PointerGetDatum(name)};

	engine_run(&update, values, NULL, SPI_OK_UPDATE);
}

/*
 * Keep it from being dropped until this transaction ends, or, who drops it,
 * wait for all who do.  Raises SY005.
 */
static void
destination_hold(text *name, bool to_drop)
{
	static EngineStatement hold = {
		"SELECT 1 FROM stripe_sync.destination"
		" WHERE name OPERATOR(pg_catalog.=) $1 FOR KEY SHARE",
		1,
		{TEXTOID}};
	static EngineStatement lock = {
		"SELECT 1 FROM stripe_sync.destination"
		" WHERE name OPERATOR(pg_catalog.=) $1 FOR UPDATE",
		1,
		{TEXTOID}};
	Datum values[] = {PointerGetDatum(name)};

	if (!run_on_rows(to_drop ? &lock : &hold, values, NULL, SPI_OK_SELECT))
		destination_missing(text_to_cstring(name));
}

/* Is it known, with the same channel and the same secret? */
static bool
is_unchanged(const Place *place)
{
	static EngineStatement select = {
		"SELECT s.secret FROM stripe_sync.destination d"
		"  JOIN stripe_sync.destination_secret s ON s.destination OPERATOR(pg_catalog.=) d.name"
		" WHERE d.name OPERATOR(pg_catalog.=) $1 AND d.kind OPERATOR(pg_catalog.=) $2"
		"   AND d.channel IS NOT DISTINCT FROM $3",
		3,
		{TEXTOID, TEXTOID, TEXTOID}};
	Datum values[] = {PointerGetDatum(place->name),
					  CStringGetTextDatum(place->kind),
					  PointerGetDatum(place->channel)};
	bool isnull;

	return run_on_rows(&select, values, place->channel ? NULL : "  n",
					   SPI_OK_SELECT) &&
		   secret_same(
			   DatumGetTextPP(SPI_getbinval(SPI_tuptable->vals[0],
											SPI_tuptable->tupdesc, 1, &isnull)),
			   place->secret);
}

static void
store_place(const Place *place)
{
	static EngineStatement upsert = {
		"INSERT INTO stripe_sync.destination (name, kind, channel) VALUES ($1, $2, $3)"
		" ON CONFLICT (name) DO UPDATE SET kind = excluded.kind, channel = excluded.channel,"
		" enabled = true, refused = false, disabled_reason = NULL, disabled_at = NULL",
		3,
		{TEXTOID, TEXTOID, TEXTOID}};
	Datum values[] = {PointerGetDatum(place->name),
					  CStringGetTextDatum(place->kind),
					  PointerGetDatum(place->channel)};
	Datum secrets[] = {PointerGetDatum(place->name),
					   PointerGetDatum(place->secret)};
	bool nulls[] = {false, false};

	engine_run(&upsert, values, place->channel ? NULL : "  n", SPI_OK_INSERT);
	secret_delete("destination_secret", place->name);
	secret_insert("destination_secret", lengthof(secrets), secrets, nulls);
	pace_unblock(place->name);
	rotated_forget(place->name);
	outbox_hooks->destination_enabled(place->name);
	journal_note_text("destination.added", place->name, place->kind);
}

/* ---- what people call ---- */

/* Set-up is done: the worker looks at what it is now. */
static void
setup_end(const RoleScope *scope)
{
	SPI_finish();
	outbound_note_identity();
	worker_wake_at_commit();
	role_leave(scope);
}

/* A known name is replaced, so that set-up scripts can be run again. */
static void
place_add(const Place *place)
{
	RoleScope scope = role_enter_engine();
	bool changed;

	SPI_connect();
	pace_make(place->name);
	pace_lock(place->name);
	changed = !is_unchanged(place);
	if (changed)
	{
		if (place->channel != NULL)
			slack_token_remark(place->secret);
		store_place(place);
	}
	setup_end(&scope);
	if (changed)
		untold_remark(text_to_cstring(place->name));
	secret_warn_file(place->secret);
}

/* add_slack_webhook(destination, url) */
SECRET_FUNCTION(stripe_sync_add_slack_webhook)
{
	Place place = {.name = required_text(fcinfo, 0, "destination"),
				   .kind = "webhook",
				   .secret = required_text(fcinfo, 1, "url")};

	check_name(place.name);
	check_url(place.secret);
	place_add(&place);
	PG_RETURN_VOID();
}

/* add_slack_channel(destination, channel, token) */
SECRET_FUNCTION(stripe_sync_add_slack_channel)
{
	Place place = {.name = required_text(fcinfo, 0, "destination"),
				   .kind = "channel",
				   .channel = required_text(fcinfo, 1, "channel"),
				   .secret = required_text(fcinfo, 2, "token")};

	check_name(place.name);
	check_channel(place.channel);
	check_token(place.secret);
	place_add(&place);
	PG_RETURN_VOID();
}

#define NOT_SWITCHED NULL

static const char SWITCHED_ON[] = "destination.on";
static const char SWITCHED_OFF[] = "destination.off";

/* Run one statement on a destination that must be there. */
static void
change_destination(EngineStatement *update, Datum *values, const char *nulls,
				   const char *switched)
{
	text *name = DatumGetTextPP(values[0]);
	RoleScope scope = role_enter_engine();

	SPI_connect();
	pace_lock(name);
	if (!run_on_rows(update, values, nulls, SPI_OK_UPDATE))
		destination_missing(text_to_cstring(name));
	if (switched == SWITCHED_ON)
		pace_unblock(name);
	if (switched != NOT_SWITCHED)
	{
		rotated_forget(name);
		journal_note_text(switched, name,
						  switched == SWITCHED_ON
							  ? NULL
							  : text_to_cstring(DatumGetTextPP(values[1])));
	}
	setup_end(&scope);
}

/* enable_destination(name) */
ENGINE_FUNCTION(stripe_sync_enable_destination)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.destination"
		" SET enabled = true, refused = false, disabled_reason = NULL, disabled_at = NULL"
		" WHERE name OPERATOR(pg_catalog.=) $1",
		1,
		{TEXTOID}};
	Datum values[] = {PointerGetDatum(required_text(fcinfo, 0, "name"))};

	change_destination(&update, values, NULL, SWITCHED_ON);
	outbox_hooks->destination_enabled(DatumGetTextPP(values[0]));
	PG_RETURN_VOID();
}

/* disable_destination(name, reason): one that is off gets another reason */
ENGINE_FUNCTION(stripe_sync_disable_destination)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.destination SET enabled = false, refused = false, disabled_reason = $2,"
		" disabled_at = CASE WHEN enabled THEN pg_catalog.clock_timestamp() ELSE disabled_at END"
		" WHERE name OPERATOR(pg_catalog.=) $1",
		2,
		{TEXTOID, TEXTOID}};
	text *reason = optional_text(fcinfo, 1);
	Datum values[] = {PointerGetDatum(required_text(fcinfo, 0, "name")),
					  PointerGetDatum(reason)};

	if (reason == NULL || VARSIZE_ANY_EXHDR(reason) == 0)
		values[1] = CStringGetTextDatum("switched off by hand");
	change_destination(&update, values, NULL, SWITCHED_OFF);
	PG_RETURN_VOID();
}

/* Point one destination at another, or at none. */
static void
set_other(FunctionCallInfo fcinfo, EngineStatement *update, const char *what,
		  const char *hint)
{
	text *name = required_text(fcinfo, 0, "name");
	text *other = optional_text(fcinfo, 1);
	Datum values[] = {PointerGetDatum(name), PointerGetDatum(other)};
	RoleScope scope;

	if (other && strcmp(text_to_cstring(name), text_to_cstring(other)) == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("a destination cannot be its own %s", what),
						errhint("%s NULL is none.", hint)));
	scope = role_enter_engine();
	SPI_connect();
	if (other != NULL)
		destination_hold(other, false);
	SPI_finish();
	change_destination(update, values, other ? NULL : " n", NOT_SWITCHED);
	role_leave(&scope);
}

/* set_fallback(name, fallback) */
ENGINE_FUNCTION(stripe_sync_set_fallback)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.destination SET fallback = $2"
		" WHERE name OPERATOR(pg_catalog.=) $1",
		2,
		{TEXTOID, TEXTOID}};

	set_other(fcinfo, &update, "fallback",
			  "The fallback is told when the destination takes nothing more.");
	PG_RETURN_VOID();
}

/* set_escalation(name, second) */
ENGINE_FUNCTION(stripe_sync_set_escalation)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.destination SET escalation = $2"
		" WHERE name OPERATOR(pg_catalog.=) $1",
		2,
		{TEXTOID, TEXTOID}};

	set_other(fcinfo, &update, "escalation",
			  "The second destination is told what nobody has taken care of.");
	PG_RETURN_VOID();
}

/* Alerts would have nowhere to go. */
static void
refuse_while_alerted(text *name)
{
	static EngineStatement select = {
		"SELECT pg_catalog.string_agg(pg_catalog.quote_literal(name), ', ' ORDER BY name), pg_catalog.min(name)"
		"  FROM stripe_sync.alert WHERE destination OPERATOR(pg_catalog.=) $1",
		1,
		{TEXTOID}};
	Datum values[] = {PointerGetDatum(name)};
	char *alerts;

	engine_run(&select, values, NULL, SPI_OK_SELECT);
	alerts = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	if (alerts != NULL)
		ereport(
			ERROR,
			(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
			 errmsg("cannot drop destination \"%s\" because alerts name it",
					text_to_cstring(name)),
			 errdetail("These do: %s.", alerts),
			 errhint(
				 "Drop them first (SELECT stripe_sync.drop_alert(%s)), or add them again with another destination. disable_destination() keeps both.",
				 quote_literal_cstr(SPI_getvalue(SPI_tuptable->vals[0],
												 SPI_tuptable->tupdesc, 2)))));
}

static void
cancel_waiting(text *name)
{
	static EngineStatement cancel = {
		"UPDATE stripe_sync.message SET state = 'cancelled', blocked_by = NULL,"
		" last_code = 'destination_dropped', settled_at = pg_catalog.clock_timestamp()"
		" WHERE destination OPERATOR(pg_catalog.=) $1 AND state OPERATOR(pg_catalog.=) 'waiting'",
		1,
		{TEXTOID}};
	Datum values[] = {PointerGetDatum(name)};

	if (run_on_rows(&cancel, values, NULL, SPI_OK_UPDATE))
		ereport(
			NOTICE,
			(errmsg_plural(
				"%llu message that waited for destination \"%s\" was cancelled",
				"%llu messages that waited for destination \"%s\" were cancelled",
				(unsigned long) SPI_processed,
				(unsigned long long) SPI_processed, text_to_cstring(name))));
}

/* drop_destination(name): with its secret, its routes and what refers to it */
ENGINE_FUNCTION(stripe_sync_drop_destination)
{
	static EngineStatement others = {
		"UPDATE stripe_sync.destination SET"
		" fallback = nullif(fallback, $1), escalation = nullif(escalation, $1)"
		" WHERE fallback OPERATOR(pg_catalog.=) $1 OR escalation OPERATOR(pg_catalog.=) $1",
		1,
		{TEXTOID}};
	static EngineStatement drops[] = {
		{"DELETE FROM stripe_sync.customer_route WHERE destination OPERATOR(pg_catalog.=) $1",
		 1,
		 {TEXTOID}},
		{"DELETE FROM stripe_sync.destination_pace WHERE destination OPERATOR(pg_catalog.=) $1",
		 1,
		 {TEXTOID}},
		{"DELETE FROM stripe_sync.destination WHERE name OPERATOR(pg_catalog.=) $1",
		 1,
		 {TEXTOID}}};
	text *name = required_text(fcinfo, 0, "name");
	Datum values[] = {PointerGetDatum(name)};
	RoleScope scope = role_enter_engine();

	SPI_connect();
	pace_lock(name);
	destination_hold(name, true);
	refuse_while_alerted(name);
	cancel_waiting(name);
	outbox_hooks->destination_dropped(name);
	engine_run(&others, values, NULL, SPI_OK_UPDATE);
	secret_delete("destination_secret", name);
	for (int i = 0; i < lengthof(drops); i++)
		engine_run(&drops[i], values, NULL, SPI_OK_DELETE);
	journal_note_text("destination.dropped", name, NULL);
	setup_end(&scope);
	PG_RETURN_VOID();
}

static text *
required_customer(FunctionCallInfo fcinfo)
{
	text *customer = required_text(fcinfo, 0, "customer");

	if (!is_plain_line(customer, MAX_CHANNEL))
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("a customer must have 1 to %d bytes and no control characters",
					MAX_CHANNEL),
			 errhint("Give the customer's id at Stripe (cus_...).")));
	return customer;
}

/* Who is new here, and named otherwise than Stripe does. */
static void
remark_customer(const text *customer)
{
	if (!has_prefix(customer, "cus_"))
		ereport(
			NOTICE,
			(errmsg("customer ids of Stripe's begin with \"cus_\""),
			 errhint(
				 "The route is used for events whose customer has just this id.")));
}

/* route_customer(customer, destination) */
ENGINE_FUNCTION(stripe_sync_route_customer)
{
	static EngineStatement upsert = {
		"INSERT INTO stripe_sync.customer_route (customer, destination) VALUES ($1, $2)"
		" ON CONFLICT (customer) DO UPDATE SET destination = excluded.destination"
		" WHERE customer_route.destination <> excluded.destination",
		2,
		{TEXTOID, TEXTOID}};
	text *customer = required_customer(fcinfo);
	text *destination = required_text(fcinfo, 1, "destination");
	Datum values[] = {PointerGetDatum(customer), PointerGetDatum(destination)};
	RoleScope scope = role_enter_engine();

	SPI_connect();
	destination_hold(destination, false);
	if (run_on_rows(&upsert, values, NULL, SPI_OK_INSERT))
		remark_customer(customer);
	setup_end(&scope);
	PG_RETURN_VOID();
}

/* unroute_customer(customer): one without a route is as wanted already */
ENGINE_FUNCTION(stripe_sync_unroute_customer)
{
	static EngineStatement drop = {
		"DELETE FROM stripe_sync.customer_route WHERE customer OPERATOR(pg_catalog.=) $1",
		1,
		{TEXTOID}};
	Datum values[] = {PointerGetDatum(required_customer(fcinfo))};
	RoleScope scope = role_enter_engine();

	SPI_connect();
	engine_run(&drop, values, NULL, SPI_OK_DELETE);
	setup_end(&scope);
	PG_RETURN_VOID();
}
