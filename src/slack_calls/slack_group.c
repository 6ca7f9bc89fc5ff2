/*
 * slack_group.c
 *		Members of user groups.
 */
#include "postgres.h"

#include "slack_calls/slack_calls.h"


bool
slack_groups_turn(TimestampTz *next)
{
	*next = DT_NOEND;
	return false;
}
