/*
 * internal.h
 *		What the files of this folder share.
 */
#ifndef STRIPE_SYNC_TRACE_INTERNAL_H
#define STRIPE_SYNC_TRACE_INTERNAL_H

#include "lib/stringinfo.h"

#include "base/base.h"
#include "inbox/event.h"
#include "trace/trace.h"
#include "types/types.h"
#include "wording/wording.h"

#define trace_change_words(event) event_change_words(event)

/* ---- in record.c: the lines of a story, with their facts ---- */

/* Also the order of lines of the same time: causes before effects */
typedef enum TraceKind
{
	TRACE_HAPPENED, /* at Stripe */
	TRACE_RECEIVED, /* also applied, if that was done at once */
	TRACE_APPLIED,	/* later than it was received; also stale and ignored */
	TRACE_ERROR,	/* a step of the event failed */
	TRACE_HANDLER,	/* a handler ran */
	TRACE_FETCHED,	/* an object was fetched from Stripe, or is to be */
	TRACE_INCIDENT, /* opened, counted, closed */
	TRACE_UNSAID,	/* nothing was said to Slack, and why */
	TRACE_QUEUED,	/* a message */
	TRACE_DELIVERY, /* an attempt to send it */
	TRACE_SETTLED,	/* a message was given up or cancelled */
	TRACE_JOB,		/* made, done, failed */
	TRACE_JOURNAL
} TraceKind;

/*
 * A line and the facts that verdict.c and others judge.  trace_collect()
 * returns pointers to the first field.  Strings that don't apply are NULL,
 * numbers 0.
 */
typedef struct TraceRecord
{
	TraceLine line; /* must be first */
	TraceKind kind;
	bool failed;	/* an error, or an attempt that Slack did not accept */
	bool over;		/* what failed has succeeded since */
	bool main;		/* it is about the subject, not what belongs to it */
	char *event_id; /* the event that it is about, and the next three */
	char *account;
	char *event_type;
	char *object_id;
	char *status;	  /* of the event, message, incident or job, as it is now */
	char *step;		  /* mirror, alerts, or a handler's name */
	char *sqlstate;	  /* TRACE_ERROR, and TRACE_HANDLER if it failed */
	char *message;	  /* of the error; what Slack answered */
	int attempts;	  /* of that error; the number of a delivery */
	int64 message_id; /* of stripe_sync.message */
	char *message_state; /* of that message, as it is now */
	int64 incident;
	int64 job;
	char *alert;
	char *destination;
	int http_status;	/* TRACE_DELIVERY */
	char *code;			/* likewise: Slack's error code, or timeout, ... */
	char *verdict;		/* likewise: sent, retry, message_bad, ... */
	TimestampTz due_at; /* the next attempt of the event or message */
	/* used while the record is made */
	StringInfo facts;
	int number;
} TraceRecord;

#define trace_record_of(line) ((TraceRecord *) (line))

/*
 * The text as part of a line: control characters, line breaks and those that
 * change the direction of writing are spaces, and what is longer is cut.
 */
extern char *trace_plain(const char *text, int most);

/* "213 ms", "4.2 s", "14 min", "2 h 5 min", "3 days" */
extern char *trace_duration(int64 microseconds);

/* ---- in subject.c: what a story is about ---- */

typedef enum TraceSubjectKind
{
	TRACE_OF_OBJECT,   /* also of an event about an object */
	TRACE_OF_EVENT,	   /* of an event that is about no object */
	TRACE_OF_MESSAGE,  /* of a message, incident or job that is not about */
	TRACE_OF_INCIDENT, /* one object; else the story is the object's */
	TRACE_OF_JOB
} TraceSubjectKind;

/* An object of the story */
typedef struct TraceObject
{
	const CatalogType *type; /* NULL: unknown type */
	char *type_name;		 /* as Stripe names it */
	char *id;
	char *account; /* as events have it; "" for one's own */
	Jsonb *data;   /* its newest known state, or NULL */
	bool deleted;
	TimestampTz as_of;	 /* of the mirror's row, 0: there is none, or it is */
	char *from_event;	 /* hidden; the event it is from, NULL: fetched */
	bool main; /* its whole life is told; else only the story's time */
} TraceObject;

/* What a story is about.  Fields that don't apply are NULL or 0. */
typedef struct TraceSubject
{
	TraceSubjectKind kind;
	const char *ref;	 /* as it was asked for */
	TraceObject *object; /* TRACE_OF_OBJECT */
	List *objects;		 /* of TraceObject: it and all that belongs to it */
	Event *event;		 /* the event that was asked for, or NULL */
	Event *first;  /* the object's first and newest stored events in the */
	Event *newest; /* story, or NULL */
	int64 number;  /* of the message, incident or job */
	char *name;	   /* the message's destination, incident's alert, job's kind */
	char *state;   /* of the message, incident or job */
	char *text;	   /* of the incident, error of the job, one line */
} TraceSubject;

/* ---- in heading.c: "invoice in_1  EUR 29.00  open -> paid  customer ..." ---- */
#define HEADING_SPACE "   " /* between its parts */

extern char *trace_heading(const TraceSubject *subject);

/* ---- in verdict.c: what is wrong, and what to do; NULL: nothing ---- */
extern char *trace_verdict(const TraceSubject *subject, List *lines);

/* ---- in text.c ---- */
extern List *trace_collect_call(FunctionCallInfo fcinfo);
extern char *trace_time_cell(TimestampTz at, TimestampTz *base);

#endif /* STRIPE_SYNC_TRACE_INTERNAL_H */
