/*
 * slack_call.c
 *		Calls to Slack that an interaction owes: queued, in the transaction of the
 *		interaction.
 *
 * What Slack has given for them, a response_url and a trigger_id, is in
 * stripe_sync.interaction_secret, and is read only when a call is sent.
 */
#include "postgres.h"

#include "engine/engine.h"
#include "engine/statement.h"
#include "server/server.h"
#include "server/worker_slots.h"
#include "slack_calls/internal.h"

#define RESPONSE_LIFE (30 * SECS_PER_MINUTE * USECS_PER_SEC)
#define TRIGGER_LIFE  (3 * USECS_PER_SEC)
#define TRIGGER_SPARE (USECS_PER_SEC / 2) /* to send it in */

/* What an interaction lets the app do */
typedef struct Permit
{
	bool is_command;
	bool has_url;
	bool has_trigger;
	int64 responses; /* that were queued before */
	int64 views;
	TimestampTz sent_at; /* when Slack sent it */
} Permit;

/* Returns false if there is no such interaction, or nothing is left of it. */
static bool
read_permit(int64 interaction, Permit *permit)
{
	static EngineStatement select = {
		"SELECT i.kind = 'command', s.response_url IS NOT NULL,"
		" s.trigger_id IS NOT NULL, i.sent_at,"
		" (SELECT pg_catalog.count(*) FROM stripe_sync.slack_call c"
		"   WHERE c.interaction = i.id AND c.kind = 'response'),"
		" (SELECT pg_catalog.count(*) FROM stripe_sync.slack_call c"
		"   WHERE c.interaction = i.id AND c.kind = 'view')"
		" FROM stripe_sync.interaction i"
		" JOIN stripe_sync.interaction_secret s ON s.interaction = i.id"
		" WHERE i.id = $1"};
	bool found;
	Rows rows;

	rows_open(&rows, &select, ARGS(arg_int8(interaction)));
	found = rows_next(&rows);
	if (found)
	{
		permit->is_command = rows_bool(&rows, false);
		permit->has_url = rows_bool(&rows, false);
		permit->has_trigger = rows_bool(&rows, false);
		permit->sent_at = rows_time(&rows, DT_NOBEGIN);
		permit->responses = rows_int8(&rows, 0);
		permit->views = rows_int8(&rows, 0);
	}
	rows_close(&rows);
	return found;
}

static void
queue_call(int64 interaction, const char *kind, const Jsonb *payload,
		   TimestampTz expires_at)
{
	static EngineStatement insert = {
		"INSERT INTO stripe_sync.slack_call (interaction, kind, payload, expires_at)"
		" VALUES ($1, $2, $3, $4)"};

	statement_exec(&insert, ARGS(arg_int8(interaction), arg_text(kind),
								 arg_jsonb(payload), arg_time(expires_at)));
	worker_wake_at_commit();
}

/*
 * The answer to a press must not replace the message that has the button, unless
 * it says so: what Slack does without replace_original depends on the message.
 */
static Jsonb *
keep_original(const Jsonb *message)
{
	static EngineStatement select = {
		"SELECT CASE WHEN $1 ?| ARRAY['replace_original', 'delete_original'] THEN $1"
		" ELSE $1 || '{\"replace_original\": false}' END"};

	return statement_jsonb(&select, ARGS(arg_jsonb(message)));
}

bool
slack_call_respond(int64 interaction, Jsonb *message)
{
	Permit permit;

	if (!read_permit(interaction, &permit) || !permit.has_url ||
		permit.responses >= CALL_MOST_USES ||
		permit.sent_at + RESPONSE_LIFE <= GetCurrentTimestamp())
		return false;
	if (!permit.is_command)
		message = keep_original(message);
	queue_call(interaction, "response", message, permit.sent_at + RESPONSE_LIFE);
	return true;
}

/* CALL work() would come too late for a view. */
static void
need_worker(void)
{
	Standstill standstill;

	if (!slots_ready() || !worker_is_present())
		ereport(
			ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("no view can be opened: this database has no worker"),
			 errdetail("Slack opens a view only within 3 seconds of the press."),
			 errhint(
				 "Add stripe_sync to \"shared_preload_libraries\" and restart the server; SELECT * FROM stripe_sync.worker shows the worker, or why there is none.")));
	if (standstill_find("slack", &standstill))
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("no view can be opened: %s", standstill.reason),
						errhint("%s", standstill.hint)));
}

bool
slack_call_open_view(int64 interaction, Jsonb *view)
{
	Permit permit;
	TimestampTz expires_at;

	need_worker();
	if (!read_permit(interaction, &permit) || !permit.has_trigger ||
		permit.views > 0)
		return false;
	expires_at = permit.sent_at + TRIGGER_LIFE;
	if (expires_at - TRIGGER_SPARE <= GetCurrentTimestamp())
		return false;
	queue_call(interaction, "view", view, expires_at);
	return true;
}
