/*
 * verdict.h
 *		The verdict of a story while it is made.
 */
#ifndef STRIPE_SYNC_TRACE_VERDICT_H
#define STRIPE_SYNC_TRACE_VERDICT_H

#include "trace/internal.h"

typedef struct TraceVerdict
{
	const TraceSubject *subject;
	List *lines;	/* of TraceLine */
	List *troubles; /* of char *: parts of the sentence */
} TraceVerdict;

/* ---- in verdict.c ---- */
extern void verdict_add(TraceVerdict *verdict, char *trouble);
extern char *verdict_time(const TraceVerdict *verdict, TimestampTz at);

/* ---- in verdict_event.c ---- */
extern void verdict_failed_steps(TraceVerdict *verdict);
extern void verdict_held(TraceVerdict *verdict);

/* ---- in verdict_message.c: messages that were not sent ---- */
extern void verdict_messages(TraceVerdict *verdict);

#endif /* STRIPE_SYNC_TRACE_VERDICT_H */
