/*
 * interaction.c
 *		Rows of stripe_sync.interaction: stored once, and answered once.
 *
 * The unique index on (app, key) makes a redelivery wait for the transaction that
 * stores the first one: if that commits, the redelivery is answered from its row;
 * if it rolls back, the redelivery is stored and run.  A row is inserted and
 * finished in one transaction, so every row that another one sees has its answer.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "engine/statement.h"
#include "inbox/secret.h"
#include "slack_in/internal.h"

/*
 * Written without a statement, and hidden from logical decoding: see
 * secret_row.c.
 */
static void
store_secrets(int64 id, const SlackRequest *request)
{
	Datum values[] = {Int64GetDatum(id), (Datum) 0, (Datum) 0};
	bool isnull[] = {false, true, true};

	if (request->response_url != NULL)
	{
		values[1] = CStringGetTextDatum(request->response_url);
		isnull[1] = false;
	}
	if (request->trigger_id != NULL)
	{
		values[2] = CStringGetTextDatum(request->trigger_id);
		isnull[2] = false;
	}
	if (!isnull[1] || !isnull[2])
		secret_insert("interaction_secret", lengthof(values), values, isnull);
}

/*
 * The reply to the request that was stored first.  Under REPEATABLE READ its row
 * may be invisible to the transaction: raises 40001.
 */
static void
read_reply(const SlackRequest *request, SlackReply *reply)
{
	static EngineStatement select = {
		"SELECT http_status, answer FROM stripe_sync.interaction"
		" WHERE app = $1 AND key = $2"};
	Rows rows;
	bool found;

	rows_open(&rows, &select,
			  ARGS(arg_text(request->app), arg_text(request->key)));
	found = rows_next(&rows);
	if (found)
	{
		reply->http_status = rows_int4(&rows, 200);
		reply->body = rows_jsonb(&rows);
	}
	rows_close(&rows);
	if (!found)
		ereport(
			ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg(
				 "could not serialize access due to a concurrent delivery of the same request"),
			 errhint("The transaction might succeed if retried.")));
}

/* See slack_in.h. */
int64
interaction_store(const SlackRequest *request, SlackReply *reply)
{
	static EngineStatement insert = {
		"INSERT INTO stripe_sync.interaction (app, key, kind, name, value, team,"
		"  slack_user, user_name, channel, message_ts, sent_at, body)"
		" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"
		" ON CONFLICT (app, key) DO NOTHING RETURNING id"};
	int64 id = statement_int8(
		0, &insert,
		ARGS(arg_text(request->app), arg_text(request->key),
			 arg_text(slack_kind_name(request->kind)), arg_text(request->name),
			 arg_text(request->value), arg_text(request->team),
			 arg_text(request->user), arg_text(request->user_name),
			 arg_text(request->channel), arg_text(request->message_ts),
			 arg_time(request->sent_at), arg_jsonb(request->body)));

	if (id == 0)
		read_reply(request, reply);
	else
		store_secrets(id, request);
	return id;
}

/* See slack_in.h. */
void
interaction_finish(int64 id, const char *status, const char *error,
				   int64 incident, const SlackReply *reply)
{
	static EngineStatement update = {
		"UPDATE stripe_sync.interaction SET status = $2, error = $3, incident = $4,"
		"  http_status = $5, answer = $6, finished_at = pg_catalog.clock_timestamp()"
		" WHERE id = $1"};

	(void) statement_exec(
		&update, ARGS(arg_int8(id), arg_text(status), arg_text(error),
					  arg_if(incident != 0, arg_int8(incident)),
					  arg_int4(reply->http_status), arg_jsonb(reply->body)));
}
