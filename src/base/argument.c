/*
 * argument.c
 *		Checks for arguments that are null.
 *
 * Set-up functions are not STRICT, because a STRICT function silently does nothing
 * for a null argument.
 */
#include "postgres.h"

#include "base/base.h"

/*
 * Raise 22004 if an argument is null.  "number" counts from 0; "what" begins the
 * message, such as "the name".
 */
void
argument_required(FunctionCallInfo fcinfo, int number, const char *what)
{
	if (PG_ARGISNULL(number))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("%s cannot be NULL", what)));
}
