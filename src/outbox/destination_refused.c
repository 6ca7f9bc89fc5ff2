/*
 * destination_refused.c
 *		Destinations that Slack rejects: disabled automatically, and reported.
 *
 * A destination is rejected if Slack accepts no messages for its channel or
 * webhook, if its token or URL is invalid, or if that can't be read.  It is
 * disabled, and its messages wait.  This is reported once: in the server's log, by
 * a message to the fallback, in the journal, and by an event for alerts.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "engine/engine.h"
#include "engine/rights.h"
#include "engine/statement.h"
#include "message/message.h"
#include "outbox/outbox.h"
#include "server/server.h"
#include "outbox/internal.h"

/* ---- disabling ---- */

/*
 * Returns false if the destination is disabled already, or was dropped.
 * *fallback is its fallback, or NULL if it has none that is enabled.
 */
static bool
disable(const char *name, const char *reason, char **fallback)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.destination AS d SET enabled = false, refused = true,"
		" disabled_reason = $2, disabled_at = pg_catalog.clock_timestamp()"
		" WHERE name = $1 AND enabled RETURNING"
		" (SELECT f.name FROM stripe_sync.destination f"
		"   WHERE f.name = d.fallback AND f.enabled)"};
	Rows rows;
	bool done;

	rows_open(&rows, &update, ARGS(arg_text(name), arg_text(reason)));
	done = rows_next(&rows);
	if (done)
		*fallback = rows_text(&rows);
	rows_close(&rows);
	return done;
}

/* Number of messages not sent yet.  Each of the three counts has a small index. */
static int64
count_unsent_messages(const char *name)
{
	static EngineStatement select = {
		"SELECT (SELECT pg_catalog.count(*) FROM stripe_sync.message"
		"   WHERE destination = $1 AND state = 'waiting' AND blocked_by IS NULL)"
		" + (SELECT pg_catalog.count(*) FROM stripe_sync.message"
		"   WHERE destination = $1 AND state = 'waiting' AND blocked_by IS NOT NULL)"
		" + (SELECT pg_catalog.count(*) FROM stripe_sync.message"
		"   WHERE destination = $1 AND state = 'sending')"};

	return statement_int8(0, &select, ARGS(arg_text(name)));
}

static void
notify_fallback(const char *fallback, const char *name, const char *reason,
				int64 waiting)
{
	NewMessage message = {.destination = fallback,
						  .method = "post",
						  .due_at = GetCurrentTimestamp()};
	static EngineStatement build = {
		"SELECT pg_catalog.jsonb_build_object('text', $1)"};
	char *text = psprintf(
		"Slack destination *%s* was disabled: %s\n"
		"%lld %s and will be sent when it is enabled again: `SELECT stripe_sync.enable_destination(%s)`",
		mrkdwn_escape(name), mrkdwn_escape(reason), (long long) waiting,
		waiting == 1 ? "message waits for it" : "messages wait for it",
		mrkdwn_escape(quote_literal_cstr(name)));

	message.payload = statement_jsonb(&build, ARGS(arg_text(text)));
	(void) outbox_enqueue(&message);
}

/* Offer alerts an event system.destination_disabled. */
static void
report_to_alerts(const char *name, const char *reason, int64 waiting)
{
	static EngineStatement build = {
		"SELECT pg_catalog.jsonb_build_object('id', $1, 'destination', $1,"
		" 'reason', $2, 'waiting', $3, 'run',"
		" 'SELECT stripe_sync.enable_destination(' || pg_catalog.quote_literal($1) || ')')"};

	outbox_hooks->destination_disabled(statement_jsonb(
		&build, ARGS(arg_text(name), arg_text(reason), arg_int8(waiting))));
}

/*
 * Disable a destination that Slack rejects, in the caller's transaction.  "reason"
 * is Slack's error code, or a sentence.  Only the first call for a destination has
 * an effect.  If a token or URL was rejected, the caller has called
 * secret_rotation_note() before, which locks the row of destination_pace.
 */
void
destination_disable_refused(const char *name, const char *reason)
{
	RoleScope scope = role_enter_engine();
	char *fallback = NULL;

	if (disable(name, reason, &fallback))
	{
		int64 waiting = count_unsent_messages(name);

		ereport(
			WARNING,
			(errmsg("destination \"%s\" was disabled: %s", name, reason),
			 errdetail("Messages that wait for it: %lld.", (long long) waiting),
			 errhint(
				 "After correcting the cause: SELECT stripe_sync.enable_destination(%s).",
				 quote_literal_cstr(name))));
		if (fallback != NULL)
			notify_fallback(fallback, name, reason, waiting);
		journal_note("destination.off", name, reason);
		report_to_alerts(name, reason, waiting);
	}
	role_leave(&scope);
}

/*
 * Number of destinations that are disabled because Slack rejects them, for the
 * worker's reported state.  It is read again when a destination was changed.
 */
int
destination_count_refused(void)
{
	static EngineStatement select = {
		"SELECT pg_catalog.count(*) FROM stripe_sync.destination d"
		" WHERE NOT d.enabled AND d.refused"};
	static uint64 as_of = 0;
	static int count = 0;
	RoleScope scope;

	if (as_of == engine_generation())
		return count;
	as_of = engine_generation();
	scope = role_enter_engine();
	count = (int) statement_int8(0, &select, NO_ARGS);
	role_leave(&scope);
	return count;
}

/* ---- is there a report? ---- */

/*
 * Would the rejection be reported in Slack: to an enabled fallback, or by an alert
 * whose destination is another one?  *other is some other enabled destination, or
 * NULL if there is none.
 */
static bool
is_reported(const char *name, char **other)
{
	static EngineStatement select = {
		"SELECT EXISTS (SELECT FROM stripe_sync.destination d"
		"  JOIN stripe_sync.destination f ON f.name = d.fallback AND f.enabled"
		"  WHERE d.name = $1)"
		" OR EXISTS (SELECT FROM stripe_sync.alert a"
		"  JOIN stripe_sync.destination o ON o.name = a.destination"
		"   AND o.enabled AND o.name <> $1"
		"  WHERE stripe_sync.event_type_fits('system.destination_disabled',"
		"   a.event_type)),"
		" (SELECT pg_catalog.min(name) FROM stripe_sync.destination"
		"  WHERE enabled AND name <> $1)"};
	Rows rows;
	bool reported;

	rows_open(&rows, &select, ARGS(arg_text(name)));
	(void) rows_next(&rows);
	reported = rows_bool(&rows, false);
	*other = rows_text(&rows);
	rows_close(&rows);
	return reported;
}

/*
 * Raise a NOTICE if nothing would report that Slack rejects the destination.
 * Called when the destination is set up, or gets its first alerts.
 */
void
destination_notice_unreported(const char *name)
{
	RoleScope scope = role_enter_engine();
	char *other;

	if (!is_reported(name, &other))
		ereport(
			NOTICE,
			(errhidestmt(true),
			 errmsg(
				 "no fallback or alert reports when Slack rejects destination \"%s\"",
				 name),
			 other != NULL
				 ? errhint("SELECT stripe_sync.set_fallback(%s, %s);",
						   quote_literal_cstr(name), quote_literal_cstr(other))
				 : errhint(
					   "Add a second destination with its own token or webhook, and make it the fallback: SELECT stripe_sync.set_fallback(%s, 'the second');",
					   quote_literal_cstr(name))));
	role_leave(&scope);
}
