/*
 * verify_slack.c
 *		verify_slack_signature().
 */
#include "postgres.h"

#include "inbox/secret.h"
#include "slack_in/slack_in.h"


SECRET_FUNCTION_ANY_LEVEL(stripe_sync_verify_slack_signature)
{
	elog(ERROR, "not yet");
	PG_RETURN_VOID();
}
