/*
 * receive_slack.c
 *		receive_slack(): stores an interaction and does what it asks.
 */
#include "postgres.h"

#include "bot/internal.h"


PG_FUNCTION_INFO_V1(stripe_sync_receive_slack);

Datum
stripe_sync_receive_slack(PG_FUNCTION_ARGS)
{
	elog(ERROR, "not yet");
	PG_RETURN_VOID();
}

char *
bot_person(const BotCall *call)
{
	return psprintf("slack:%s", call->request->user);
}

void
bot_tell(BotCall *call, const char *text, Jsonb *blocks)
{
}

void
bot_refuse(BotCall *call, SlackMay needed)
{
}
