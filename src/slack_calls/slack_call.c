/*
 * slack_call.c
 *		Calls to Slack that an interaction owes: queued.
 */
#include "postgres.h"

#include "slack_calls/slack_calls.h"


bool
slack_call_respond(int64 interaction, Jsonb *message)
{
	return false;
}

bool
slack_call_open_view(int64 interaction, Jsonb *view)
{
	return false;
}
