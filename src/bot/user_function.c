/*
 * user_function.c
 *		The user's own actions and commands.
 */
#include "postgres.h"

#include "bot/internal.h"

bool
user_function_run(BotCall *call)
{
	return false;
}
