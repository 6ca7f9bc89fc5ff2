/*
 * interaction.c
 *		Rows of stripe_sync.interaction.
 */
#include "postgres.h"

#include "slack_in/slack_in.h"


int64
interaction_store(const SlackRequest *request, SlackReply *reply)
{
	elog(ERROR, "not yet");
}

void
interaction_finish(int64 id, const char *status, const char *error,
				   int64 incident, const SlackReply *reply)
{
}
