/*
 * command.c
 *		The slash command /stripe.
 */
#include "postgres.h"

#include "bot/internal.h"

bool
command_run(BotCall *call)
{
	return false;
}
