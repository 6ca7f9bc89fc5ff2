/*
 * destination_setup.c
 *		Destinations are added, enabled, disabled and dropped, in the caller's
 *		transaction.
 *
 * Changes of one destination are made one after the other: each function locks its
 * row of destination_pace first (destination_pace.c), then the row of destination,
 * then messages.  One that adds a destination takes ADVISORY_SLACK_APP before, as it
 * decides which app posts there.  URLs and tokens are secrets: no error here shows the statement.
 * Each function ends by waking the worker at commit.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "engine/engine.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "inbox/secret.h"
#include "outbox/outbox.h"
#include "server/server.h"
#include "outbox/internal.h"

/* The arguments of add_slack_webhook() and add_slack_channel() */
typedef struct NewDestination
{
	text *name;
	const char *kind;
	text *channel; /* NULL for a webhook */
	text *secret;
} NewDestination;

/* ---- shared with destination_link.c ---- */

/* Set-up is done: let the worker read it at commit.  Leaves the engine's scope. */
void
destination_setup_end(const RoleScope *scope)
{
	outbound_note_identity();
	worker_wake_at_commit();
	role_leave(scope);
}

/*
 * Keep a destination that another row is to refer to from being dropped until this
 * transaction ends.  Raises SY005 if it doesn't exist.
 */
void
destination_hold(text *name)
{
	static EngineStatement hold = {
		"SELECT FROM stripe_sync.destination WHERE name = $1 FOR KEY SHARE"};

	if (statement_exec(&hold, ARGS(arg_varlena(TEXTOID, name))) == 0)
		destination_missing(text_to_cstring(name));
}

/*
 * Run an UPDATE of one destination, under its lock.  Raises SY005 if it doesn't
 * exist.  Runs in the engine's scope.
 */
void
destination_change(text *name, EngineStatement *update,
				   const StatementArg *args, int nargs)
{
	pace_lock(name);
	if (statement_exec(update, args, nargs) == 0)
		destination_missing(text_to_cstring(name));
}

/* ---- add ---- */

/* Is there a destination of this name, with the same channel and secret? */
static bool
is_unchanged(const NewDestination *new)
{
	static EngineStatement select = {
		"SELECT s.secret FROM stripe_sync.destination d"
		"  JOIN stripe_sync.destination_secret s ON s.destination = d.name"
		" WHERE d.name = $1 AND d.kind = $2 AND d.channel IS NOT DISTINCT FROM $3"};
	Rows rows;
	bool same;
	bool isnull;

	rows_open(&rows, &select,
			  ARGS(arg_varlena(TEXTOID, new->name), arg_text(new->kind),
				   arg_varlena(TEXTOID, new->channel)));
	/* not by rows_text(), which would leave a copy of the secret */
	same = rows_next(&rows) &&
		   secret_same(DatumGetTextPP(rows_datum(&rows, TEXTOID, &isnull)),
					   new->secret);
	rows_close(&rows);
	return same;
}

/* The secret's row is written without a statement: see secret_row.c. */
static void
store_secret(const NewDestination *new)
{
	Datum values[] = {PointerGetDatum(new->name), PointerGetDatum(new->secret)};
	bool isnull[] = {false, false};

	secret_delete("destination_secret", new->name);
	secret_insert("destination_secret", lengthof(values), values, isnull);
}

/*
 * Add or replace it, and enable it.  A Retry-After and a rejected secret that were
 * noted belong to the former URL, token or channel.
 */
static void
store_destination(const NewDestination *new)
{
	static EngineStatement upsert = {
		"INSERT INTO stripe_sync.destination (name, kind, channel) VALUES ($1, $2, $3)"
		" ON CONFLICT (name) DO UPDATE SET kind = excluded.kind, channel = excluded.channel,"
		" enabled = true, refused = false, disabled_reason = NULL, disabled_at = NULL,"
		" plain_blocks_at = NULL"};

	statement_exec(&upsert,
				   ARGS(arg_varlena(TEXTOID, new->name), arg_text(new->kind),
						arg_varlena(TEXTOID, new->channel)));
	store_secret(new);
	destination_assign_app(new->name);
	pace_unblock(new->name);
	secret_rotation_forget(new->name);
	outbox_hooks->destination_enabled(new->name);
	journal_note_text("destination.added", new->name, new->kind);
}

/*
 * Set-up scripts can be run again: an existing destination is replaced, and one
 * that is the same already stays as it is, also if it is disabled.
 */
static void
add_destination(const NewDestination *new)
{
	RoleScope scope = role_enter_engine();
	bool changed;

	advisory_lock(ADVISORY_SLACK_APP, 0);
	pace_make(new->name);
	pace_lock(new->name);
	changed = !is_unchanged(new);
	if (changed)
	{
		if (new->channel != NULL)
			slack_token_remark(new->secret);
		store_destination(new);
	}
	destination_setup_end(&scope);
	if (changed)
		destination_notice_unreported(text_to_cstring(new->name));
	secret_warn_file(new->secret);
}

/* add_slack_webhook(destination, url) */
SECRET_FUNCTION(stripe_sync_add_slack_webhook)
{
	NewDestination new = {
		.name = destination_required_text(fcinfo, 0, "destination"),
		.kind = "webhook",
		.secret = destination_required_text(fcinfo, 1, "url")};

	destination_check_name(new.name);
	destination_check_url(new.secret);
	add_destination(&new);
	PG_RETURN_VOID();
}

/* add_slack_channel(destination, channel, token) */
SECRET_FUNCTION(stripe_sync_add_slack_channel)
{
	NewDestination new = {
		.name = destination_required_text(fcinfo, 0, "destination"),
		.kind = "channel",
		.channel = destination_required_text(fcinfo, 1, "channel"),
		.secret = destination_required_text(fcinfo, 2, "token")};

	destination_check_name(new.name);
	destination_check_channel(new.channel);
	destination_check_token(new.secret);
	add_destination(&new);
	PG_RETURN_VOID();
}

/* ---- enable, disable ---- */

/* Also forgets a Retry-After, and rejected blocks. */
void
destination_enable(text *name)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.destination"
		" SET enabled = true, refused = false, disabled_reason = NULL, disabled_at = NULL,"
		" plain_blocks_at = NULL"
		" WHERE name = $1"};
	RoleScope scope = role_enter_engine();

	destination_change(name, &update, ARGS(arg_varlena(TEXTOID, name)));
	pace_unblock(name);
	secret_rotation_forget(name);
	journal_note_text("destination.on", name, NULL);
	destination_setup_end(&scope);
	outbox_hooks->destination_enabled(name);
}

/* enable_destination(name) */
ENGINE_FUNCTION(stripe_sync_enable_destination)
{
	destination_enable(destination_required_text(fcinfo, 0, "name"));
	PG_RETURN_VOID();
}

/*
 * disable_destination(name, reason)
 *
 * If it is disabled already only the reason changes, and "refused", so that a
 * changed secret doesn't enable it again.
 */
ENGINE_FUNCTION(stripe_sync_disable_destination)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.destination SET enabled = false, refused = false, disabled_reason = $2,"
		" disabled_at = CASE WHEN enabled THEN pg_catalog.clock_timestamp() ELSE disabled_at END"
		" WHERE name = $1"};
	text *name = destination_required_text(fcinfo, 0, "name");
	text *reason = destination_optional_text(fcinfo, 1);
	RoleScope scope;

	if (reason == NULL || VARSIZE_ANY_EXHDR(reason) == 0)
		reason = cstring_to_text("switched off by hand");
	scope = role_enter_engine();
	destination_change(
		name, &update,
		ARGS(arg_varlena(TEXTOID, name), arg_varlena(TEXTOID, reason)));
	secret_rotation_forget(name);
	journal_note_text("destination.off", name, text_to_cstring(reason));
	destination_setup_end(&scope);
	PG_RETURN_VOID();
}

/* ---- drop ---- */

/* Lock the row against destination_hold() of others.  Raises SY005. */
static void
lock_to_drop(text *name)
{
	static EngineStatement lock = {
		"SELECT FROM stripe_sync.destination WHERE name = $1 FOR UPDATE"};

	if (statement_exec(&lock, ARGS(arg_varlena(TEXTOID, name))) == 0)
		destination_missing(text_to_cstring(name));
}

/* Raises 2BP01 if an alert sends its messages there. */
static void
check_no_alerts(text *name)
{
	static EngineStatement select = {
		"SELECT pg_catalog.string_agg(pg_catalog.quote_literal(name), ', ' ORDER BY name), pg_catalog.min(name)"
		"  FROM stripe_sync.alert WHERE destination = $1"};
	Rows rows;
	char *alerts;
	char *first;

	rows_open(&rows, &select, ARGS(arg_varlena(TEXTOID, name)));
	(void) rows_next(&rows);
	alerts = rows_text(&rows);
	first = rows_text(&rows);
	rows_close(&rows);
	if (alerts != NULL)
		ereport(
			ERROR,
			(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
			 errmsg("cannot drop destination \"%s\" because alerts use it",
					text_to_cstring(name)),
			 errdetail("Alerts that use it: %s.", alerts),
			 errhint(
				 "Drop them first (SELECT stripe_sync.drop_alert(%s)), or add them again with another destination. disable_destination() keeps both.",
				 quote_literal_cstr(first))));
}

/* Messages being sent now are cancelled by claim.c if they fail. */
static void
cancel_waiting(text *name)
{
	static EngineStatement cancel = {
		"UPDATE stripe_sync.message SET state = 'cancelled', blocked_by = NULL,"
		" last_code = 'destination_dropped', settled_at = pg_catalog.clock_timestamp()"
		" WHERE destination = $1 AND state = 'waiting'"};
	uint64 count = statement_exec(&cancel, ARGS(arg_varlena(TEXTOID, name)));

	if (count > 0)
		ereport(
			NOTICE,
			(errmsg_plural(
				"%llu message that waited for destination \"%s\" was cancelled",
				"%llu messages that waited for destination \"%s\" were cancelled",
				(unsigned long) count, (unsigned long long) count,
				text_to_cstring(name))));
}

/* drop_destination(name): with its secret, its routes and references to it */
ENGINE_FUNCTION(stripe_sync_drop_destination)
{
	static EngineStatement unlink = {
		"UPDATE stripe_sync.destination SET"
		" fallback = nullif(fallback, $1), escalation = nullif(escalation, $1)"
		" WHERE fallback = $1 OR escalation = $1"};
	static EngineStatement delete_routes = {
		"DELETE FROM stripe_sync.customer_route WHERE destination = $1"};
	static EngineStatement delete = {
		"DELETE FROM stripe_sync.destination WHERE name = $1"};
	text *name = destination_required_text(fcinfo, 0, "name");
	RoleScope scope = role_enter_engine();

	pace_lock(name);
	lock_to_drop(name);
	check_no_alerts(name);
	cancel_waiting(name);
	outbox_hooks->destination_dropped(name);
	statement_exec(&unlink, ARGS(arg_varlena(TEXTOID, name)));
	secret_delete("destination_secret", name);
	statement_exec(&delete_routes, ARGS(arg_varlena(TEXTOID, name)));
	pace_delete(name);
	statement_exec(&delete, ARGS(arg_varlena(TEXTOID, name)));
	journal_note_text("destination.dropped", name, NULL);
	destination_setup_end(&scope);
	PG_RETURN_VOID();
}
