/*
 * gather.h
 *		What trace_collect() gathers, file by file.
 */
#ifndef STRIPE_SYNC_TRACE_GATHER_H
#define STRIPE_SYNC_TRACE_GATHER_H

#include "lib/stringinfo.h"

#include "trace/internal.h"

/* One story while it is gathered */
typedef struct TraceGather
{
	TraceSubject subject;
	List *records;	   /* of TraceRecord */
	StringInfo cut;	   /* sentences: what was left out */
	TimestampTz from;  /* what is told: events created from here ... */
	TimestampTz until; /* ... until here */
	List *events;	   /* of TraceEvent */
} TraceGather;

/* A stored event of the story */
typedef struct TraceEvent
{
	char *id;
	char *account;
	char *type;
	Event *event; /* its payload; NULL if it cannot be read */
} TraceEvent;

/* ---- in record.c ---- */
extern TraceRecord *record_add(TraceGather *gather, TraceKind kind,
							   TimestampTz at);
extern void record_say(TraceRecord *record, const char *text);
extern void record_fact_text(TraceRecord *record, const char *name,
							 const char *value);
extern void record_fact_number(TraceRecord *record, const char *name,
							   int64 value);
extern void record_fact_ms(TraceRecord *record, const char *name, double value);
extern List *record_lines(TraceGather *gather);

#endif /* STRIPE_SYNC_TRACE_GATHER_H */
