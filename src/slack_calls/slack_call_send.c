/*
 * slack_call_send.c
 *		Claims and sends them.
 */
#include "postgres.h"

#include "slack_calls/slack_calls.h"


void
slack_calls_setup(void)
{
}

bool
slack_calls_turn(TimestampTz *next)
{
	*next = DT_NOEND;
	return false;
}

bool
slack_calls_settle(void)
{
	return false;
}

bool
slack_calls_idle(void)
{
	return true;
}

void
slack_calls_release_all(void)
{
}

void
slack_calls_reclaim(void)
{
}
