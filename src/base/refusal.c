/*
 * refusal.c
 *		Why something is refused, described without raising an error.
 *
 * webhook() returns it as a response; receive() raises it as an error.
 */
#include "postgres.h"

#include "base/refusal.h"

bool
refuse(Refusal *refusal, Fault fault, int sqlstate, const char *message,
	   const char *detail, const char *hint)
{
	refusal->fault = fault;
	refusal->sqlstate = sqlstate;
	refusal->message = message;
	refusal->detail = detail;
	refusal->hint = hint;
	refusal->live = false;
	return false;
}

void
refusal_raise(const Refusal *refusal)
{
	/* the statement contains a payload and may contain a secret */
	ereport(ERROR, (errcode(refusal->sqlstate), errhidestmt(true),
					errmsg("%s", refusal->message),
					refusal->detail ? errdetail("%s", refusal->detail) : 0,
					refusal->hint ? errhint("%s", refusal->hint) : 0));
	pg_unreachable();
}
