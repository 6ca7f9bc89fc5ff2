/*
 * verdict.c
 *		What is wrong and what to do, in one sentence, with SQL to copy.
 */
#include "postgres.h"

#include "trace/internal.h"

char *
trace_verdict(const TraceSubject *subject, List *lines)
{
	return NULL;
}
