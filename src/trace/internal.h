/*
 * internal.h
 *		What the files of this folder share.
 */
#ifndef STRIPE_SYNC_TRACE_INTERNAL_H
#define STRIPE_SYNC_TRACE_INTERNAL_H

#include "lib/stringinfo.h"
#include "utils/array.h"

#include "base/base.h"
#include "engine/array_argument.h"
#include "inbox/event.h"
#include "lookup/lookup.h"
#include "trace/trace.h"
#include "types/types.h"
#include "wording/wording.h"

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
	TRACE_PERSON,	/* what somebody did in Slack */
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
	char *type_name;		 /* as Stripe names it; NULL: several types */
	char *id;
	char *account; /* as events have it; "" for one's own */
	Jsonb *data;   /* its newest known state, or NULL */
	bool deleted;
	TimestampTz as_of; /* of the mirror's row, 0: there is none, or it is */
	char *from_event;  /* hidden; the event it is from, NULL: fetched */
	bool main;		   /* its whole life is told; else only the story's time */
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

/*
 * ---- how a story is gathered: the objects that belong to what it is about, with
 * their events; then each file adds its lines ----
 */

/* A stored event of the story */
typedef struct TraceEvent
{
	char *id;
	char *account;
	char *type;
	bool main;	  /* its object is */
	bool alerted; /* an alert has counted it */
	struct TraceRecord *received;
	char *endpoint;
	char *object_id;
	char *request_id;
	char *idempotency_key;
	TimestampTz created; /* received_at if Stripe does not say */
	TimestampTz received_at;
	char *source;
	char *status;
	char *mirrored;
	char *todo; /* "mirror, dunning", or NULL */
	int attempts;
	TimestampTz next_attempt_at;
	char *error;
	TimestampTz applied_at;
	Event *event; /* its payload; NULL if it cannot be read */
} TraceEvent;

/* A row of stripe_sync.event_error */
typedef struct TraceError
{
	char *event_id;
	char *account;
	char *event_type;
	char *step;
	int attempts;
	TimestampTz first_at;
	TimestampTz last_at;
	char *sqlstate;
	char *message;
	char *detail;
	char *hint;
	bool failing;
	bool told; /* by its runs */
} TraceError;

/* An incident of the story, and how far it is told */
typedef struct TraceIncident
{
	int64 id;
	char *kind; /* single, rollup, digest */
	char *alert;
	char *group_key;
	char *account;
	char *destination;
	char *state;
	char *event_id; /* that opened it */
	TimestampTz opened_at;
	TimestampTz closed_at;
	char *closed_by;
	int64 message;
	bool ours;	   /* it counts events of this story alone */
	bool has_post; /* a line tells that its message was queued */
} TraceIncident;

/* A row of stripe_sync.message, with its destination's state */
typedef struct TraceMessage
{
	int64 id;
	char *destination;
	char *method;
	char *state;
	int attempts;
	TimestampTz due_at;
	char *last_code;
	char *event_id;
	int64 incident;
	bool is_post; /* the incident's own message */
	TimestampTz created_at;
	TimestampTz settled_at;
	TimestampTz held_at; /* by quiet hours; 0: it was not */
	char *where;		 /* "#billing" */
	char *disabled;		 /* why its destination is disabled, or NULL */
} TraceMessage;

/* One story while it is gathered */
typedef struct TraceGather
{
	TraceSubject subject;
	const Referent *referent;
	const Interval *span; /* or NULL */
	char *customer;		  /* whose story it is; NULL: unknown, or nobody's */
	List *records;		  /* of TraceRecord */
	List *events;		  /* of TraceEvent, of all objects */
	List *histories;	  /* of these objects, as far as they were read */
	List *errors;		  /* of TraceError */
	List *incidents;	  /* of TraceIncident */
	List *messages;		  /* of int64 *: messages to be told in any case */
	List *others;		  /* of TraceObject: another customer's, left out */
	List *queue;		  /* of TraceObject, to be looked at */
	bool too_many;		  /* objects or events: some are left out */
	StringInfo cut;		  /* sentences: what was left out; NULL: nothing */
	TimestampTz from;	  /* events created in this time are told */
	TimestampTz until;
} TraceGather;

#define TRACE_MOST_EVENTS  300 /* of a story */
#define TRACE_MOST_OBJECTS 60
#define TRACE_MOST_RECENT  10 /* objects of each type, for a customer */
#define TRACE_MOST_LINES   2000

/* ---- in record.c: lines and their facts ---- */
extern TraceRecord *record_add(TraceGather *gather, TraceKind kind,
							   TimestampTz at);
extern void record_say(TraceRecord *record, const char *format, ...)
	pg_attribute_printf(2, 3);
extern void record_fact_text(TraceRecord *record, const char *name,
							 const char *value);
extern void record_fact_number(TraceRecord *record, const char *name,
							   int64 value);
extern void record_fact_ms(TraceRecord *record, const char *name, double value);
extern void record_fact_time(TraceRecord *record, const char *name,
							 TimestampTz value);
extern void record_append(TraceRecord *record, const char *format, ...)
	pg_attribute_printf(2, 3);
extern List *record_lines(TraceGather *gather);
extern void record_cut(TraceGather *gather, const char *format, ...)
	pg_attribute_printf(2, 3);

/* ---- in follow.c: references between objects ---- */
extern bool follow_is_type(const TraceObject *object, const char *name);
extern void follow_names(TraceGather *gather, const TraceObject *object,
						 JsonbContainer *state);
extern void follow_referrers(TraceGather *gather, const TraceObject *object);
extern bool follow_payment(TraceGather *gather);
extern bool follow_requests(TraceGather *gather);

/* ---- in belong.c: the objects of a story ---- */
extern void belong_gather(TraceGather *gather);

/* ---- in events.c: the events of objects, and their lines ---- */
extern List *events_of_object(const TraceObject *object, TimestampTz from,
							  TimestampTz until, int most);
extern TraceEvent *events_find(const char *id, const char *account);
extern void events_tell(TraceGather *gather);

/* ---- in steps.c: errors and handlers ---- */
extern void steps_tell(TraceGather *gather);
extern void steps_alert_keys(TraceGather *gather, struct ArgColumns *keys);

/* ---- in alerts.c: alerts and incidents ---- */
extern TraceIncident *incident_find(int64 id);
extern ArrayType *incident_ids(const TraceGather *gather);
extern void alerts_tell(TraceGather *gather);

/* ---- in own_story.c: an incident that is not one object's, and a job ---- */
extern void own_story_tell_incident(TraceGather *gather,
									TraceIncident *incident);
extern bool own_story_tell_job(TraceGather *gather, int64 job);

/* ---- in people.c: what people and the clock did with incidents ---- */
extern void people_tell(TraceGather *gather);

/* ---- in unsaid.c: events that no alert counted ---- */
extern void unsaid_tell(TraceGather *gather);

/* ---- in messages.c: messages and deliveries ---- */
extern TraceRecord *messages_record(TraceGather *gather, TraceKind kind,
									TimestampTz at, const TraceMessage *message);
extern void messages_tell(TraceGather *gather);

/* ---- in journal.c ---- */
extern void journal_tell(TraceGather *gather);

/* ---- in deliveries.c: attempts to send them ---- */
extern void deliveries_tell(TraceGather *gather, List *messages);

/* ---- in fetches.c: what was read from Stripe ---- */
extern void fetches_tell(TraceGather *gather);
/* ---- the verdict while it is made ---- */

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

#endif /* STRIPE_SYNC_TRACE_INTERNAL_H */
