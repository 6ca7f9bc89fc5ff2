/*
 * slack_request.c
 *		Requests from Slack: verified and read.
 */
#include "postgres.h"

#include "slack_in/slack_in.h"


const char *
slack_kind_name(SlackKind kind)
{
	return "other";
}

bool
slack_request_read(const char *body, int length, Jsonb *headers,
				   const char *app, SlackRequest *request, Refusal *refusal)
{
	elog(ERROR, "not yet");
}
