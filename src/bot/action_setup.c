/*
 * action_setup.c
 *		add_slack_action(), add_slack_command().
 */
#include "postgres.h"

#include "engine/engine.h"
#include "bot/internal.h"


ENGINE_FUNCTION(stripe_sync_add_slack_action)
{
	elog(ERROR, "not yet");
	PG_RETURN_VOID();
}

ENGINE_FUNCTION(stripe_sync_drop_slack_action)
{
	elog(ERROR, "not yet");
	PG_RETURN_VOID();
}

ENGINE_FUNCTION(stripe_sync_add_slack_command)
{
	elog(ERROR, "not yet");
	PG_RETURN_VOID();
}

ENGINE_FUNCTION(stripe_sync_drop_slack_command)
{
	elog(ERROR, "not yet");
	PG_RETURN_VOID();
}
