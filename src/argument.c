/*
 * argument.c
 *		Arguments that must be there.
 *
 * Functions of set-up are not STRICT: they would do nothing for a NULL, and say
 * nothing of it.
 */
#include "stripe_sync.h"

/* "what" is what the argument is, as a sentence about it begins. */
void
argument_required(FunctionCallInfo fcinfo, int number, const char *what)
{
	if (PG_ARGISNULL(number))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("%s cannot be NULL", what)));
}
