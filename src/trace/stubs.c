/*
 * stubs.c
 *		Stand-ins for heading.c, verdict.c and changes.c until they are there.
 */
#include "postgres.h"

#include "trace/internal.h"

char *__attribute__((weak)) trace_heading(const TraceSubject *subject);
char *__attribute__((weak)) trace_verdict(const TraceSubject *subject,
										  List *lines);
char *__attribute__((weak)) trace_change_words(Event *event);

char *
trace_heading(const TraceSubject *subject)
{
	return pstrdup(subject->ref);
}

char *
trace_verdict(const TraceSubject *subject, List *lines)
{
	return NULL;
}

char *
trace_change_words(Event *event)
{
	return pstrdup("");
}
