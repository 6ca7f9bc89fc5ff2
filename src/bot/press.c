/*
 * press.c
 *		Presses of the buttons of messages.
 */
#include "postgres.h"

#include "bot/internal.h"


bool
press_run(BotCall *call)
{
	return false;
}
