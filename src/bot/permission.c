/*
 * permission.c
 *		Who may do what.
 */
#include "postgres.h"

#include "engine/engine.h"
#include "bot/internal.h"


ENGINE_FUNCTION(stripe_sync_set_slack_user)
{
	elog(ERROR, "not yet");
	PG_RETURN_VOID();
}

SlackMay
permission_of(const SlackRequest *request)
{
	return MAY_NOTHING;
}
